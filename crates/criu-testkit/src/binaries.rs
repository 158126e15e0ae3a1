//! The helper programs of this crate, found or built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The program that [`crate::Scene`] runs.
#[must_use]
#[track_caller]
pub fn target_binary() -> PathBuf {
    directory().join("criu-testkit-target")
}

/// The program behind [`crate::FakeCriu`].
#[must_use]
#[track_caller]
pub fn fake_criu_binary() -> PathBuf {
    directory().join("criu-testkit-fake-criu")
}

/// The program that makes the fixtures, which tests have dump, rewrite and restore every process of theirs.
#[must_use]
#[track_caller]
pub fn fixtures_binary() -> PathBuf {
    directory().join("criu-testkit-fixtures")
}

/// `target/debug` or what stands for it: the place of the running test is `target/debug/deps/`.
pub(crate) fn profile_directory() -> PathBuf {
    let exe = std::env::current_exe()
        .unwrap_or_else(|error| panic!("cannot tell which program runs: {error}"));
    let directory = exe.parent().unwrap_or(Path::new("/"));
    match directory.file_name() {
        Some(name) if name == "deps" || name == "examples" => {
            directory.parent().unwrap_or(directory).to_path_buf()
        }
        _ => directory.to_path_buf(),
    }
}

/// The directory of the helper programs. `$CRIU_TEST_BINARIES` names it where they are built already; otherwise
/// cargo is asked once per test program, as it does not build another package's programs for a test by itself.
#[track_caller]
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| match std::env::var_os("CRIU_TEST_BINARIES") {
        Some(directory) => PathBuf::from(directory),
        None => build(),
    })
}

fn build() -> PathBuf {
    let profile_directory = profile_directory();
    let target = profile_directory.parent().unwrap_or(Path::new("/"));
    let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--quiet",
            "--package",
            "criu-testkit",
            "--bins",
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run cargo to build the test programs: {error}"));
    assert!(
        output.status.success(),
        "cannot build the test programs:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    profile_directory
}
