//! Files that come along: rsync over the connection of the migration.
//!
//! ```text
//!  source                                                        destination
//!  rsync client ◀─▶ pumps ◀═══ frames of the files channel ═══▶ pumps ◀─▶ rsync daemon, on its stdin
//! ```
//!
//! Every path is copied twice: in the first pass while the tree runs, which may take as long as it takes;
//! in the last pass while it is frozen, which copies what has changed since, and deletes what has gone.
//! Names are those the tree sees: read below its root, written below the root of the restore.
//!
//! - The destination starts an rsync of its own, with a configuration of its own, for the path the
//!   message names; no word of the peer gets onto a command line or into a configuration. The path has to
//!   be one that the receiving user allows, it is opened without leaving what is allowed, also not by
//!   symbolic links, and that directory is the root (`chroot`) of the rsync that writes there.
//! - What the tree has open for writing or mapped is compared by content in the last pass: a write through
//!   a mapping need not change the time of a file.
//! - When the tree does not come, paths that did not exist before are removed. One that did exist stays as
//!   the source had it, which [`Happening::SyncRemains`](crate::Happening::SyncRemains) tells.

mod departure;
mod landing;
mod rsync;
mod written;

use std::fmt;
use std::io;
use std::process::ExitStatus;

use serde::{Deserialize, Serialize};

pub(crate) use departure::Departure;
pub(crate) use landing::Landing;
pub(crate) use written::files_of as written_by;

/// Which of the two times that files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Pass {
    /// While the tree runs.
    First,
    /// While it is frozen.
    Last,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "first",
            Self::Last => "last",
        })
    }
}

/// A path that comes along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SyncPath {
    /// Its absolute name, as the tree sees it.
    pub path: String,
    /// What it is.
    pub kind: SyncKind,
}

/// What a path that comes along is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SyncKind {
    /// A directory, with all that is below it in the same file system.
    Directory,
    /// Anything else.
    File,
}

/// Why files cannot be brought along.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncProblem {
    /// The path is not one that can be used.
    #[error("it has to be an absolute path without `.`, `..` and line breaks, in UTF-8")]
    Path,
    /// The path was not part of the offer.
    #[error("the source did not offer it")]
    NotOffered,
    /// The path leads elsewhere.
    #[error("it leads out of {allowed}, which is all that --allow-sync allows")]
    Escape {
        /// What it should have stayed in.
        allowed: String,
    },
    /// The path cannot be opened or made.
    #[error("cannot open it: {source}")]
    Open {
        /// Why not.
        source: io::Error,
    },
    /// There is no rsync.
    #[error("rsync cannot be started ({source}); install the package rsync")]
    Missing {
        /// Why not.
        source: io::Error,
    },
    /// rsync failed.
    #[error("rsync ended with {status} in the {pass} pass{}{said}", if .said.is_empty() { "" } else { ": " })]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// When.
        pass: Pass,
        /// The last lines it wrote.
        said: String,
    },
    /// rsync cannot be talked to.
    #[error("cannot talk to rsync: {source}")]
    Talk {
        /// Why not.
        source: io::Error,
    },
}

/// Longest path, in bytes, as the kernel has it.
const PATH_BYTES_MAX: usize = 4096;
/// Most paths of an offer.
const PATHS_MAX: usize = 256;

/// The components of a path; `None` for what is no path to use.
fn components(path: &str) -> Option<Vec<&str>> {
    let rest = path.strip_prefix('/')?;
    if path.len() >= PATH_BYTES_MAX || path.contains(['\0', '\n', '\r']) {
        return None;
    }
    if rest.is_empty() {
        return Some(Vec::new());
    }
    let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
    let plain = |part: &&str| !matches!(*part, "" | "." | "..");
    parts.iter().all(plain).then_some(parts)
}

/// Whether this is an absolute path without tricks.
pub(crate) fn is_plain(path: &str) -> bool {
    components(path).is_some_and(|parts| !parts.is_empty())
}

/// Whether `path` is `place` or lies below it, by name.
fn is_within(path: &str, place: &str) -> bool {
    match (components(path), components(place)) {
        (Some(path), Some(place)) => path.starts_with(&place),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_play_tricks_are_none() {
        assert_eq!(components("/srv/a b/"), Some(vec!["srv", "a b"]));
        assert_eq!(components("/"), Some(Vec::new()));
        for trick in [
            "",
            "srv",
            "./srv",
            "/srv/../etc",
            "/..",
            "/srv/.",
            "/srv//a",
            "/a\nb",
            "/a\0b",
        ] {
            assert_eq!(components(trick), None, "{trick:?}");
        }
        assert_eq!(components(&format!("/{}", "a".repeat(5000))), None);
        assert!(is_within("/srv/a", "/srv") && is_within("/srv", "/srv") && is_within("/a", "/"));
        assert!(!is_within("/srv2", "/srv") && !is_within("/", "/srv"));
        assert!(!is_within("/srv/../etc", "/srv"));
    }
}
