//! What comes back from an operation that succeeded.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use criu_image::stats::{DumpStats, RestoreStats};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use crate::error::{Error, Result};
use crate::request::Restore;
use crate::rpc::CriuResp;
use crate::statistics;
use crate::worker::Worker;

/// What a dump came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpOutcome {
    /// Whether this is a restored copy of the caller that asked to be dumped
    /// ([`crate::Target::Caller`]).
    pub restored: bool,
    /// What CRIU counted, if it could be read.
    pub statistics: Option<DumpStats>,
}

/// What a pre-dump came to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreDumpOutcome {
    /// What CRIU counted, if it could be read.
    pub statistics: Option<DumpStats>,
}

/// What a restore came to.
#[derive(Debug)]
#[non_exhaustive]
pub struct RestoreOutcome {
    /// The root task, as CRIU sees it.
    pub pid: i32,
    /// What CRIU counted, if it could be read.
    pub statistics: Option<RestoreStats>,
    /// The root task as a child of ours, if asked for ([`crate::Restore::as_child`]).
    pub child: Option<RestoredChild>,
    /// The command the worker has become, if asked for ([`crate::Restore::then_exec`]).
    pub command: Option<Child>,
}

/// A page server that runs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartedPageServer {
    /// Its process, as CRIU sees it; `None` where CRIU does not tell (4.2 and 4.3 answer 0).
    pub pid: Option<i32>,
    /// The TCP port it listens on; 0 if it serves a connection that existed.
    pub port: u16,
}

/// A page server that is a child of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageServerChild {
    /// Its process, as CRIU sees it, for [`crate::Session::wait_pid`].
    pub pid: i32,
    /// The TCP port it listens on; 0 if it serves a connection that existed.
    pub port: u16,
}

/// Reads what a successful dump left behind.
pub(crate) fn of_dump(answer: &CriuResp, work_dir: Option<&OwnedFd>) -> DumpOutcome {
    let restored = answer
        .dump
        .as_ref()
        .is_some_and(|dump| dump.restored == Some(true));
    // In a restored copy the statistics are those of another time and perhaps another host.
    let statistics = if restored {
        None
    } else {
        statistics::of_dump(work_dir)
    };
    DumpOutcome {
        restored,
        statistics,
    }
}

/// Reads what a successful pre-dump left behind.
pub(crate) fn of_pre_dump(work_dir: Option<&OwnedFd>) -> PreDumpOutcome {
    PreDumpOutcome {
        statistics: statistics::of_dump(work_dir),
    }
}

/// Reads what a successful restore left behind.
pub(crate) fn of_restore(
    answer: &CriuResp,
    restore: &Restore,
    work_dir: Option<&OwnedFd>,
    worker: Option<Worker>,
) -> Result<RestoreOutcome> {
    let pid = answer.restore.as_ref().map_or(-1, |restore| restore.pid);
    let statistics = statistics::of_restore(work_dir);
    let command = worker
        .filter(|_| !restore.then_exec.is_empty())
        .and_then(Worker::into_child);
    let child = restore
        .as_child
        .then(|| RestoredChild::open(pid))
        .transpose();
    let child = child.map_err(|source| Error::Io {
        doing: "open the restored process",
        source,
    })?;
    Ok(RestoreOutcome {
        pid,
        statistics,
        child,
        command,
    })
}

/// A restored process that is a child of the calling one.
///
/// Dropping it neither ends nor reaps the process.
#[derive(Debug)]
pub struct RestoredChild {
    pid: i32,
    pidfd: OwnedFd,
}

impl RestoredChild {
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        let handle = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self {
            pid,
            pidfd: pidfd_open(handle, PidfdFlags::empty())?,
        })
    }

    /// Returns its process id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for the process to end and reaps it.
    ///
    /// # Errors
    ///
    /// When it was reaped already.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        self.reap(WaitIdOptions::EXITED)?
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Reaps the process if it has ended; `None` while it runs.
    ///
    /// # Errors
    ///
    /// When it was reaped already.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.reap(WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
    }

    /// Kills the process; [`RestoredChild::wait`] then reaps it.
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn kill(&self) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, Signal::KILL)?)
    }

    fn reap(&self, options: WaitIdOptions) -> io::Result<Option<ExitStatus>> {
        let ended =
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options))?;
        Ok(ended.map(|status| {
            // The form `wait` has: the exit code in the second byte, or the signal in the first.
            let raw = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => (code & 0xff) << 8,
                (None, signal) => signal.unwrap_or(0) & 0x7f,
            };
            ExitStatus::from_raw(raw)
        }))
    }
}

impl AsFd for RestoredChild {
    /// A pidfd: readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
