//! What can go wrong, by who is at fault.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::Failure;
use crate::notify::HookError;
use crate::operation::Operation;
use crate::version::Version;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no `criu` program.
    #[error(
        "no criu program found (looked at {}); install the package `criu` or name the program in $CRIU",
        display_paths(.searched)
    )]
    BinaryNotFound {
        /// The files looked for.
        searched: Vec<PathBuf>,
    },

    /// There is a `criu` program, but it cannot be run.
    #[error("{} cannot be run; check that it is a program and that this user may execute it", .path.display())]
    BinaryNotExecutable {
        /// The program.
        path: PathBuf,
        /// Why it cannot be run.
        source: io::Error,
    },

    /// The caller lacks the rights CRIU needs.
    #[error(
        "{operation} needs root; run it as root, or give the criu program the capability \
         CAP_CHECKPOINT_RESTORE and ask for the unprivileged mode (`--unprivileged`)"
    )]
    NotPrivileged {
        /// What was to be done.
        operation: Operation,
    },

    /// CRIU is older than what the request needs.
    #[error(
        "{feature} needs CRIU {needed} or later, and this is {}; upgrade CRIU or do without it",
        describe_release(.found.as_deref())
    )]
    TooOld {
        /// The option or request that is too new.
        feature: String,
        /// The first release that has it.
        needed: Box<Version>,
        /// The release at hand; `None` if it is too old to tell.
        found: Option<Box<Version>>,
    },

    /// The worker process could not be started.
    #[error("cannot start {}", .binary.display())]
    Spawn {
        /// The `criu` program.
        binary: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// No service could be reached.
    #[error("cannot connect to the CRIU service at {}; start one with `criu service --address PATH`", .path.display())]
    Connect {
        /// Path of its socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// A directory of the request cannot be used.
    #[error("cannot open the directory {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// A system call of our own failed.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },

    /// CRIU tried and failed.
    #[error("{0}")]
    Refused(Box<Failure>),

    /// CRIU ended, or closed the connection, without an answer.
    #[error("{0}")]
    Lost(Box<Failure>),

    /// CRIU did not answer in time and was ended.
    #[error("no answer within {after:?}: {failure}")]
    TimedOut {
        /// The time it had.
        after: Duration,
        /// What is known of the operation.
        failure: Box<Failure>,
    },

    /// CRIU answered what makes no sense.
    #[error("unintelligible answer ({problem}): {failure}")]
    Protocol {
        /// What is wrong with it.
        problem: String,
        /// What is known of the operation.
        failure: Box<Failure>,
    },

    /// A hook of the caller's refused to go on.
    #[error("the hook for `{hook}` failed{}", describe_after_hook(.failure.as_deref(), *.restored))]
    Hook {
        /// The notification it was called for.
        hook: String,
        /// Its own error.
        source: HookError,
        /// What CRIU made of it; `None` when CRIU finished all the same.
        failure: Option<Box<Failure>>,
        /// The root task of a restore that CRIU finished all the same.
        restored: Option<i32>,
    },

    /// The call makes no sense; the calling code is to be changed.
    #[error("misuse: {problem}")]
    Misuse {
        /// What makes no sense.
        problem: &'static str,
    },

    /// The request has something that only a worker of the client's own can take.
    #[error(
        "{option} cannot be sent to a CRIU service; reach CRIU as a worker process (`Criu::find`)"
    )]
    NeedsWorker {
        /// The option.
        option: &'static str,
    },
}

impl Error {
    /// Returns what is known of the failed operation, if CRIU had begun it.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Refused(failure)
            | Self::Lost(failure)
            | Self::TimedOut { failure, .. }
            | Self::Protocol { failure, .. } => Some(failure),
            Self::Hook { failure, .. } => failure.as_deref(),
            _ => None,
        }
    }
}

fn describe_release(found: Option<&Version>) -> String {
    found.map_or_else(
        || "one too old to tell its version".to_owned(),
        |version| format!("CRIU {version}"),
    )
}

fn display_paths(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn describe_after_hook(failure: Option<&Failure>, restored: Option<i32>) -> String {
    match (failure, restored) {
        (Some(failure), _) => format!("; {failure}"),
        (None, Some(pid)) => format!("; CRIU went on and restored process {pid}"),
        (None, None) => "; CRIU went on all the same".to_owned(),
    }
}
