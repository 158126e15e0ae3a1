//! The oracle our JSON is compared with.

use std::path::PathBuf;

use crate::binaries::profile_directory;
use crate::skip::{Skip, record_skip};

/// A program that runs Python CRIT 4.3; recorded as a skip of the running test when it is missing.
///
/// `cargo xtask test` names it in `$CRIU_TEST_ORACLE`; under plain `cargo test` the one that `cargo xtask oracle` left
/// in the target directory is used.
#[must_use]
pub fn python_crit() -> Option<PathBuf> {
    let path = match std::env::var_os("CRIU_TEST_ORACLE") {
        Some(path) => Some(PathBuf::from(path)),
        None => profile_directory()
            .parent()
            .map(|target| target.join("oracle/crit")),
    };
    let found = path.filter(|path| path.exists());
    if found.is_none() {
        record_skip(
            Skip::Avoidable,
            "no Python CRIT: run `cargo xtask oracle` first, or `cargo xtask test`",
        );
    }
    found
}
