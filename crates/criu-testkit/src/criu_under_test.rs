//! The real CRIUs that tests run against.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::binaries::profile_directory;
use crate::skip::{Skip, record_skip};

/// The series `cargo xtask test` provides, with the variable by which it hands each to the tests.
const SERIES: [(&str, &str, (u32, u32)); 2] = [
    ("4.2", "CRIU_TEST_4_2", (4, 2)),
    ("4.3", "CRIU_TEST_4_3", (4, 3)),
];

/// A real CRIU that works on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CriuUnderTest {
    path: PathBuf,
    series: (u32, u32),
}

impl CriuUnderTest {
    /// All CRIUs there are, oldest first; each one that is missing is recorded as a skip of the running test.
    ///
    /// `cargo xtask test` names them in `$CRIU_TEST_4_2` and `$CRIU_TEST_4_3`; under plain `cargo test` those that
    /// `cargo xtask criu` left in the target directory are used.
    #[must_use]
    pub fn all() -> Vec<CriuUnderTest> {
        SERIES
            .iter()
            .filter_map(|(series, ..)| CriuUnderTest::of_series(series))
            .collect()
    }

    /// The CRIU of one series, such as `"4.3"`; recorded as a skip when it is missing.
    #[must_use]
    pub fn of_series(series: &str) -> Option<CriuUnderTest> {
        if !rustix::process::geteuid().is_root() {
            record_skip(Skip::Avoidable, "checkpoint and restore need root");
            return None;
        }
        let found = SERIES.iter().find(|(name, ..)| *name == series).and_then(
            |(name, variable, number)| {
                let path = match std::env::var_os(variable) {
                    Some(path) => PathBuf::from(path),
                    None => profile_directory()
                        .parent()?
                        .join("criu")
                        .join(name)
                        .join("criu"),
                };
                path.exists().then_some(CriuUnderTest {
                    path,
                    series: *number,
                })
            },
        );
        if found.is_none() {
            record_skip(
                Skip::Avoidable,
                &format!(
                    "no CRIU {series}: run `cargo xtask criu --version {series}` first, or `cargo xtask test`"
                ),
            );
        }
        found
    }

    /// The newest CRIU there is.
    #[must_use]
    pub fn newest() -> Option<CriuUnderTest> {
        CriuUnderTest::all().pop()
    }

    /// Its executable.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Major and minor version.
    #[must_use]
    pub fn series(&self) -> (u32, u32) {
        self.series
    }

    /// A command that runs it, without standard input.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.stdin(Stdio::null());
        command
    }

    /// Dumps the tree below `pid` by the program itself, without any crate of ours.
    ///
    /// # Panics
    ///
    /// When the dump fails, with the end of CRIU's log.
    #[track_caller]
    pub fn dump(&self, pid: u32, images: &Path, options: &[&str]) {
        let pid = pid.to_string();
        self.run("dump", images, &[&["-t", &pid], options].concat());
    }

    /// Dumps the memory that changed, as a first round or after the one in `earlier`, which is a path as seen from
    /// `images`. Takes a kernel that tracks memory changes.
    ///
    /// # Panics
    ///
    /// When that fails, with the end of CRIU's log.
    #[track_caller]
    pub fn pre_dump(&self, pid: u32, images: &Path, earlier: Option<&str>, options: &[&str]) {
        let pid = pid.to_string();
        let options = [&["-t", &pid, "--track-mem"], options].concat();
        match earlier {
            Some(earlier) => {
                let options = [&options[..], &["--prev-images-dir", earlier]].concat();
                self.run("pre-dump", images, &options);
            }
            None => self.run("pre-dump", images, &options),
        }
    }

    /// Restores detached by the program itself; gives the id of the restored root.
    ///
    /// # Panics
    ///
    /// When the restore fails, with the end of CRIU's log.
    #[track_caller]
    pub fn restore(&self, images: &Path, options: &[&str]) -> u32 {
        // A pid file of an earlier restore makes CRIU fail.
        let _ = std::fs::remove_file(images.join("restored.pid"));
        self.run(
            "restore",
            images,
            &[&["-d", "--pidfile", "restored.pid"], options].concat(),
        );
        let file = images.join("restored.pid");
        let text = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()));
        text.trim()
            .parse()
            .unwrap_or_else(|_| panic!("{} holds {text:?}", file.display()))
    }

    #[track_caller]
    fn run(&self, verb: &str, images: &Path, options: &[&str]) {
        crate::Subreaper::enable();
        let log = format!("{verb}.log");
        let status = self
            .command()
            .arg(verb)
            .arg("-D")
            .arg(images)
            .args(["-o", &log, "-v4"])
            .args(options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", self.path.display()));
        if !status.success() {
            let text = std::fs::read(images.join(&log)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            panic!("criu {verb} ended with {status}; the end of its log:\n{tail}");
        }
    }
}
