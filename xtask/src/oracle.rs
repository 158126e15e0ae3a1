//! The oracle: Python CRIT 4.3, with which our `crit` is compared byte for byte.
//!
//! ```text
//! target/oracle/crit        runs Python CRIT
//! target/oracle/packages/   its Debian package, unpacked
//! target/oracle/python/     the protobuf runtime and lz4, from Python's package index
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::criu::{Lock, find_package, home, target_directory};
use crate::failure::{Doing, Failure, Outcome};
use crate::packages::{self, Needed};
use crate::tool;

/// The series whose JSON is the contract.
const SERIES: &str = "4.3";

const PYTHON: Needed = Needed {
    program: "python3",
    package: "python3",
    purpose: "runs Python CRIT, the oracle",
};

/// `cargo xtask oracle`.
pub(crate) fn task(arguments: &[String]) -> Outcome<()> {
    if !arguments.is_empty() {
        return Err(Failure::new("usage: cargo xtask oracle"));
    }
    let crit = obtain()?;
    println!("{}\n{}", crit.display(), version(&crit)?);
    Ok(())
}

/// Finds or makes `target/oracle/crit`.
pub(crate) fn obtain() -> Outcome<PathBuf> {
    let place = target_directory().join("oracle");
    let crit = place.join("crit");
    if version(&crit).is_ok() {
        return Ok(crit);
    }
    let _lock = Lock::take(&home())?;
    if version(&crit).is_ok() {
        return Ok(crit);
    }
    packages::ensure(&[PYTHON])?;
    let python = tool::find("python3").ok_or_else(|| Failure::new("python3 is missing"))?;
    // The interpreter itself, not a launcher that picks one by the directory it is called from.
    let python =
        tool::output(Command::new(python).args(["-c", "import sys; print(sys.executable)"]))?;
    let python = PathBuf::from(python.trim());

    let draft = target_directory().join(format!(".oracle.{}", std::process::id()));
    let _ = fs::remove_dir_all(&draft);
    fs::create_dir_all(&draft).doing(format_args!("cannot create {}", draft.display()))?;
    let result = make(&python, &draft, &place);
    let _ = fs::remove_dir_all(&draft);
    result?;
    version(&crit)?;
    Ok(crit)
}

fn make(python: &Path, draft: &Path, place: &Path) -> Outcome<()> {
    let (apt, offer) = find_package("python3-pycriu", SERIES)?;
    println!(
        "unpacking Python CRIT {} into {}",
        offer.upstream(),
        place.display()
    );
    apt.unpack_alone(
        &format!("python3-pycriu={}", offer.version),
        &draft.join("packages"),
    )?;
    provide_runtime(python, &draft.join("python"))?;
    let crit = draft.join("crit");
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let text = format!(
        "#!/bin/sh\nPYTHONPATH={}:{} exec {} -m crit \"$@\"\n",
        quoted(&place.join("packages/usr/lib/python3/dist-packages")),
        quoted(&place.join("python")),
        quoted(python),
    );
    fs::write(&crit, text).doing(format_args!("cannot write {}", crit.display()))?;
    fs::set_permissions(&crit, fs::Permissions::from_mode(0o755))
        .doing(format_args!("cannot make {} executable", crit.display()))?;
    let _ = fs::remove_dir_all(place);
    fs::rename(draft, place).doing(format_args!(
        "cannot move {} to {}",
        draft.display(),
        place.display()
    ))
}

/// Python's protobuf and lz4: by pip into our own directory, else the machine's packages.
fn provide_runtime(python: &Path, into: &Path) -> Outcome<()> {
    fs::create_dir_all(into).doing(format_args!("cannot create {}", into.display()))?;
    let pip = tool::output(
        Command::new(python)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-input",
                "--disable-pip-version-check",
                "--target",
            ])
            .arg(into)
            .args(["protobuf", "lz4"]),
    );
    let Err(failure) = pip else { return Ok(()) };
    let imports =
        || tool::output(Command::new(python).args(["-c", "import google.protobuf, lz4.block"]));
    if imports().is_ok() {
        return Ok(());
    }
    eprintln!(
        "pip cannot provide protobuf and lz4, so the distribution's packages have to do: {failure}"
    );
    if !rustix::process::geteuid().is_root() || tool::find("apt-get").is_none() {
        return Err(Failure::new("Python's protobuf and lz4 are missing")
            .with_remedy("apt-get install python3-protobuf python3-lz4, or python3-pip"));
    }
    println!("installing packages python3-protobuf and python3-lz4 (the oracle needs them)");
    let install = || {
        tool::output(
            Command::new("apt-get")
                .args([
                    "install",
                    "-y",
                    "-qq",
                    "--no-install-recommends",
                    "python3-protobuf",
                    "python3-lz4",
                ])
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    install().or_else(|_| {
        tool::output(Command::new("apt-get").args(["update", "-qq"]))?;
        install()
    })?;
    imports().map(drop)
}

fn version(crit: &Path) -> Outcome<String> {
    if !tool::is_executable(crit) {
        return Err(Failure::new(format!("{} does not exist", crit.display())));
    }
    let said = tool::output(Command::new(crit).arg("--version"))?;
    Ok(said.trim().to_owned())
}
