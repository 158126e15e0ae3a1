//! The `criu swrk` process that serves one connection.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::event::PollFlags;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::descendants::kill_below;
use crate::error::{Error, Result};
use crate::transport::{Connection, wait};

/// The number of the RPC socket in the worker; descriptors the request hands over follow it.
const SOCKET_NUMBER: RawFd = 3;

/// How long a worker that has answered may take to exit before it is killed.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// What it is given even when the deadline of the request has passed.
const EXIT_GRACE_MIN: Duration = Duration::from_millis(100);

/// How a worker process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerExit {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl std::fmt::Display for WorkerExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(signal) => {
                write!(f, "was killed by signal {signal}{}", signal_name(*signal))
            }
        }
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        14 => " (SIGALRM)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

impl From<ExitStatus> for WorkerExit {
    fn from(status: ExitStatus) -> Self {
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::Code(-1),
        }
    }
}

/// Where the worker's standard streams lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Streams {
    /// Input and output to `/dev/null`; standard error is kept for error reports.
    Quiet,
    /// The caller's own: a restored shell job takes its terminal from them.
    Inherited,
}

/// A running worker, child of the calling process. Dropping it ends and reaps it.
#[derive(Debug)]
pub(crate) struct Worker {
    /// `None` once the process was handed to the caller.
    child: Option<Child>,
    pidfd: OwnedFd,
    stderr: Option<File>,
    /// A restore is under way: the processes below the worker are no good without it.
    restoring: bool,
}

impl Worker {
    /// Starts `binary swrk`, with `descriptors` as its descriptors 4, 5, …
    pub(crate) fn spawn(
        binary: &Path,
        descriptors: &[BorrowedFd<'_>],
        streams: Streams,
    ) -> Result<(Self, Connection)> {
        let failed = |source| Error::Spawn {
            binary: binary.to_owned(),
            source,
        };
        let (connection, theirs) = Connection::pair().map_err(failed)?;

        let mut command = Command::new(binary);
        command.arg("swrk").arg(SOCKET_NUMBER.to_string());
        let mut stderr = None;
        if streams == Streams::Quiet {
            let file = memfd_create("criu-stderr", MemfdFlags::CLOEXEC).map_err(io::Error::from);
            let file = File::from(file.map_err(failed)?);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(file.try_clone().map_err(failed)?);
            // A Ctrl-C at the terminal is for the caller to act on, not for CRIU to die of.
            command.process_group(0);
            stderr = Some(file);
        }
        map_descriptors(&mut command, theirs, descriptors).map_err(failed)?;

        let mut child = command.spawn().map_err(failed)?;
        match pidfd_of(&child) {
            Ok(pidfd) => Ok((
                Self {
                    child: Some(child),
                    pidfd,
                    stderr,
                    restoring: false,
                },
                connection,
            )),
            Err(source) => {
                reap(&mut child);
                Err(failed(source))
            }
        }
    }

    /// Returns a descriptor that is readable once the worker has ended.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for the worker to end by itself, then reaps it; kills it after a grace period that the
    /// request's deadline shortens.
    pub(crate) fn finish(&mut self, deadline: Option<Instant>) -> Option<WorkerExit> {
        let until = Instant::now().checked_add(exit_grace(deadline));
        if matches!(
            wait(&[(self.pidfd.as_fd(), PollFlags::IN)], until),
            Ok(true)
        ) {
            self.child.as_mut()?.wait().ok().map(WorkerExit::from)
        } else {
            self.kill()
        }
    }

    /// Tells that a restore begins or has come to its end.
    pub(crate) fn set_restoring(&mut self, restoring: bool) {
        self.restoring = restoring;
    }

    /// Ends the worker now and reaps it, with what it has half restored.
    pub(crate) fn kill(&mut self) -> Option<WorkerExit> {
        let child = self.child.as_mut()?;
        if self.restoring && pidfd_send_signal(&self.pidfd, Signal::STOP).is_ok() {
            kill_below(child.id());
        }
        reap(child)
    }

    /// Returns what the worker printed to standard error, from its beginning.
    pub(crate) fn take_stderr(&mut self) -> Option<File> {
        let mut file = self.stderr.take()?;
        file.rewind().ok().map(|()| file)
    }

    /// Hands the process over: after a restore with a command to run, the worker has become it.
    pub(crate) fn into_child(mut self) -> Option<Child> {
        self.child.take()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A child that was waited for already keeps its status; this is then a no-op.
        let _ = self.kill();
    }
}

/// How long a worker may still take to exit, in a request with this deadline.
pub(crate) fn exit_grace(deadline: Option<Instant>) -> Duration {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    left.map_or(EXIT_GRACE, |left| left.clamp(EXIT_GRACE_MIN, EXIT_GRACE))
}

/// Starts a worker that is *not* a descendant of the calling process, for a process that dumps
/// itself: CRIU cannot be part of the tree it freezes.
///
/// There is nothing to reap (it is an orphan at once) and no handle to it, since a handle would be one
/// more thing in this process that CRIU has to dump. It ends when the connection does. It leaves our
/// session too: as its member it would, until somebody reaps it, keep in use the session's id, which is
/// that of a process to be restored.
pub(crate) fn spawn_detached(binary: &Path) -> Result<Connection> {
    let failed = |source| Error::Spawn {
        binary: binary.to_owned(),
        source,
    };
    let (connection, theirs) = Connection::pair().map_err(failed)?;
    let mut shell = Command::new("/bin/sh");
    shell
        .arg("-c")
        .arg(format!(
            r#"(command -v setsid && exec setsid "$0" swrk {SOCKET_NUMBER}; exec "$0" swrk {SOCKET_NUMBER}) &"#
        ))
        .arg(binary);
    shell
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    map_descriptors(&mut shell, theirs, &[]).map_err(failed)?;
    shell.status().map_err(failed)?;
    Ok(connection)
}

/// Returns the number in the worker of the descriptor at `index` of those handed over.
pub(crate) fn descriptor_number(index: usize) -> Option<RawFd> {
    RawFd::try_from(index).ok()?.checked_add(SOCKET_NUMBER + 1)
}

fn map_descriptors(
    command: &mut Command,
    socket: OwnedFd,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut mappings = vec![FdMapping {
        parent_fd: socket,
        child_fd: SOCKET_NUMBER,
    }];
    for (index, descriptor) in descriptors.iter().enumerate() {
        let child_fd = descriptor_number(index)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"))?;
        mappings.push(FdMapping {
            parent_fd: descriptor.try_clone_to_owned()?,
            child_fd,
        });
    }
    command
        .fd_mappings(mappings)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    Ok(())
}

pub(crate) fn pidfd_of(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::INVAL)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

pub(crate) fn reap(child: &mut Child) -> Option<WorkerExit> {
    let _ = child.kill();
    child.wait().ok().map(WorkerExit::from)
}
