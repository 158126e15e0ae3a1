//! The program rsync, and its conversation carried over the files channel.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::process::{Pid, Signal, kill_process_group};

use super::SyncProblem;
use crate::arrival::{Arrival, Chunk};
use crate::connection::{Connection, Outgoing};
use crate::conversation::{OutOfTurn, Stage};
use crate::error::{Error, ImageProblem, Result};
use crate::frame::{Channel, DATA_BYTES_MAX, Frame};
use crate::message::Message;
use crate::transport::Wait;
use crate::watch::Watch;

/// How often somebody looks whether the other things still go on.
const CHECK: Duration = Duration::from_millis(50);
/// The same where a frozen tree waits for it.
const TICK: Duration = Duration::from_millis(3);
/// What a daemon writes down of every connection.
const ROUTINE: [&str; 2] = ["] connect from ", "] rsync allowed access "];
/// Bytes of what rsync writes that are kept: its last lines.
const SAID_BYTES_MAX: usize = 2048;

/// What the rsync here can do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abilities {
    pub(super) acls: bool,
    pub(super) xattrs: bool,
}

impl Abilities {
    /// Asks the rsync on PATH.
    pub(super) fn ask() -> Result<Self, SyncProblem> {
        let output = command().arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(|source| SyncProblem::Missing { source })?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() || !text.starts_with("rsync") {
            let source = io::Error::other("it is not the rsync it should be");
            return Err(SyncProblem::Missing { source });
        }
        Ok(Self {
            acls: text.contains("ACLs") && !text.contains("no ACLs"),
            xattrs: text.contains("xattrs") && !text.contains("no xattrs"),
        })
    }
}

/// An rsync whose behaviour nothing in our environment changes.
pub(super) fn command() -> Command {
    let mut command = Command::new("rsync");
    command.env_clear().env("LC_ALL", "C");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// An rsync at work. It and its children are killed with the value.
#[derive(Debug)]
pub(super) struct Rsync {
    child: Child,
    stderr: Option<ChildStderr>,
    status: Option<ExitStatus>,
}

impl Rsync {
    pub(super) fn spawn(mut command: Command) -> Result<Self, SyncProblem> {
        command.stderr(Stdio::piped()).process_group(0);
        let child = command.spawn();
        let mut child = child.map_err(|source| SyncProblem::Missing { source })?;
        let stderr = child.stderr.take();
        Ok(Self {
            child,
            stderr,
            status: None,
        })
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, SyncProblem> {
        if self.status.is_none() {
            let status = self.child.try_wait();
            self.status = status.map_err(|source| SyncProblem::Talk { source })?;
        }
        Ok(self.status)
    }

    /// Ends it and gives the last lines it wrote.
    pub(super) fn end(mut self) -> String {
        let stderr = self.stderr.take();
        drop(self);
        stderr.map_or_else(String::new, last_lines)
    }
}

impl Drop for Rsync {
    fn drop(&mut self) {
        // The daemon's second process and the remote shell, too; none is left after a good end.
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Reads to the end and keeps the last lines: much of it is what the peer has to say.
pub(super) fn last_lines(mut stderr: impl Read) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer) {
        kept.extend_from_slice(buffer.get(..count).unwrap_or_default());
        let surplus = kept.len().saturating_sub(SAID_BYTES_MAX);
        kept.drain(..surplus);
    }
    let text = String::from_utf8_lossy(&kept);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !ROUTINE.iter().any(|known| line.contains(known)))
        .collect();
    lines.join("; ")
}

/// Where an rsync is talked to: what it writes, and what it reads. One socket, or two.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) from: OwnedFd,
    pub(super) to: OwnedFd,
}

/// Which end of a conversation this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Waits for the destination's word that it is done.
    Client,
    /// Only waits for its own rsync.
    Daemon,
}

/// How a conversation came out.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: ExitStatus,
    pub(super) said: String,
    pub(super) sent_bytes: u64,
}

/// Carries the conversation of an rsync with the peer's until both have ended.
pub(super) fn converse(
    connection: &mut Connection,
    mut rsync: Rsync,
    ends: &Ends,
    role: Role,
    within: Duration,
    watch: &Watch,
) -> Result<Outcome, Failure> {
    for end in [&ends.from, &ends.to] {
        use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
        let flags = fcntl_getfl(end).and_then(|flags| fcntl_setfl(end, flags | OFlags::NONBLOCK));
        flags.map_err(|errno| SyncProblem::Talk {
            source: errno.into(),
        })?;
    }
    let files = connection.take_files()?;
    let outgoing = connection.outgoing().clone();
    let carrier = Carrier {
        outgoing: &outgoing,
        ends,
        stopped: AtomicBool::new(false),
        sent_bytes: AtomicU64::new(0),
    };
    let stderr = rsync.stderr.take();
    let (outcome, said) = std::thread::scope(|scope| {
        let said = scope.spawn(|| stderr.map_or_else(String::new, last_lines));
        let out = scope.spawn(|| carrier.carry_out());
        let inward = scope.spawn(|| carrier.carry_in(files));
        let is_carried = || out.is_finished() && inward.is_finished();
        let outcome = wait(connection, &mut rsync, role, within, watch, &is_carried);
        let good = outcome.as_ref().is_ok_and(|status| is_complete(*status));
        carrier.stopped.store(!good, Ordering::Relaxed);
        drop(rsync);
        // Whatever they met, rsync met it too and says it better.
        let _ = out.join();
        if let Ok(Ok(files)) = inward.join() {
            connection.return_files(files);
        }
        (outcome, said.join().unwrap_or_default())
    });
    let sent_bytes = carrier.sent_bytes.load(Ordering::Relaxed);
    match outcome {
        Ok(status) => Ok(Outcome {
            status,
            said,
            sent_bytes,
        }),
        Err(failure) => Err(failure),
    }
}

/// A failure of rsync, or of the migration around it.
#[derive(Debug)]
pub(super) enum Failure {
    Rsync(SyncProblem),
    Migration(Error),
}

impl From<SyncProblem> for Failure {
    fn from(problem: SyncProblem) -> Self {
        Self::Rsync(problem)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Migration(error)
    }
}

impl Failure {
    pub(super) fn of(self, path: &str) -> Error {
        match self {
            Self::Rsync(problem) => Error::Sync {
                path: path.to_owned(),
                problem,
            },
            Self::Migration(error) => error,
        }
    }
}

/// Whether an rsync went through all there was, whatever became of single files: 23 and 24 say that some
/// could not be copied, or vanished.
fn is_complete(status: ExitStatus) -> bool {
    matches!(status.code(), Some(0 | 23 | 24))
}

/// Waits until rsync has ended and all is carried; as a client, also until the daemon's end says so.
fn wait(
    connection: &mut Connection,
    rsync: &mut Rsync,
    role: Role,
    within: Duration,
    watch: &Watch,
    is_carried: &dyn Fn() -> bool,
) -> Result<ExitStatus, Failure> {
    let deadline = Instant::now().checked_add(within);
    let mut answered = role == Role::Daemon;
    loop {
        if let Some(status) = rsync.ended()?
            && (!is_complete(status) || (answered && is_carried()))
        {
            return Ok(status);
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            return Err(Failure::Migration(Error::TooSlow {
                peer: connection.party().peer(),
                what: "copying files",
                after: within,
            }));
        }
        match connection.next("copying files", TICK, watch) {
            Err(Error::TooSlow { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(Arrival::Message(Message::Synced)) if !answered => answered = true,
            Ok(Arrival::Message(message)) => {
                // The state machine takes no such message here; this is for the compiler.
                return Err(Failure::Migration(Error::from(OutOfTurn {
                    stage: Stage::Syncing,
                    speaker: connection.party().peer(),
                    message: message.name(),
                })));
            }
            Ok(Arrival::Image(_)) => {
                return Err(Failure::Migration(Error::Image {
                    peer: connection.party().peer(),
                    problem: ImageProblem::OutOfPlace,
                }));
            }
        }
    }
}

/// Carries bytes between an rsync and the files channel.
#[derive(Debug)]
struct Carrier<'a> {
    outgoing: &'a Outgoing,
    ends: &'a Ends,
    stopped: AtomicBool,
    sent_bytes: AtomicU64,
}

impl Carrier<'_> {
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn wait_for(&self, fd: &OwnedFd, flags: PollFlags) -> io::Result<()> {
        loop {
            let wait = Wait::new(Instant::now().checked_add(CHECK), self.outgoing.bell());
            match wait.for_flags(fd.as_fd(), flags) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut && !self.is_stopped() => {}
                waited => return waited,
            }
        }
    }

    fn carry_out(&self) -> io::Result<()> {
        let mut buffer = vec![0; DATA_BYTES_MAX];
        loop {
            self.wait_for(&self.ends.from, PollFlags::IN)?;
            match rustix::io::read(&self.ends.from, &mut buffer) {
                Ok(0) | Err(rustix::io::Errno::CONNRESET) => break,
                Ok(count) => {
                    let bytes = buffer.get(..count).unwrap_or_default();
                    let sent = self.outgoing.send_stream(Channel::Files, bytes)?;
                    self.sent_bytes.fetch_add(sent as u64, Ordering::Relaxed);
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        self.outgoing.send_frame(&Frame::End(Channel::Files))
    }

    /// Takes everything up to the end and gives the queue back, also when rsync no longer wants it: the next conversation begins
    /// behind it.
    fn carry_in(&self, files: Receiver<Chunk>) -> io::Result<Receiver<Chunk>> {
        let zeros = vec![0; 64 << 10];
        let mut wanted = true;
        loop {
            match files.recv_timeout(CHECK) {
                Ok(Chunk::Data(bytes)) => wanted = wanted && self.pass_on(&bytes).is_ok(),
                Ok(Chunk::Zeros(mut count)) => {
                    while count > 0 && wanted {
                        let piece =
                            usize::try_from(count).map_or(zeros.len(), |n| n.min(zeros.len()));
                        wanted = self.pass_on(&zeros[..piece]).is_ok();
                        count -= piece as u64;
                    }
                }
                Ok(Chunk::End) => {
                    let _ = rustix::net::shutdown(&self.ends.to, rustix::net::Shutdown::Write);
                    return Ok(files);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(RecvTimeoutError::Timeout) if self.is_stopped() => {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn pass_on(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.wait_for(&self.ends.to, PollFlags::OUT)?;
            let flags = rustix::net::SendFlags::NOSIGNAL;
            match rustix::net::send(&self.ends.to, bytes, flags) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

/// A directory as a path that its owner's children can use: no word of a name in it.
pub(super) fn path_of(directory: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/{}/fd/{}", std::process::id(), directory.as_raw_fd())
}

/// A file without a name that holds these bytes.
pub(super) fn nameless(bytes: &[u8]) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::io::{Seek, Write};
    let mut file = File::from(memfd_create("criu-migrate", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_much_the_last_lines_are_kept() {
        let text: String = (0..10_000).map(|line| format!("line {line}\n\n")).collect();
        let kept = last_lines(text.as_bytes());
        assert!(kept.ends_with("line 9998; line 9999"), "{kept}");
        assert!(kept.len() <= SAID_BYTES_MAX);
        assert_eq!(last_lines(&b""[..]), "");
    }

    #[test]
    fn an_rsync_is_killed_with_its_children_when_dropped() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo last word >&2; sleep 1000 & sleep 1000"]);
        let mut rsync = Rsync::spawn(command).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(rsync.ended().unwrap().is_none());
        // Comes back at once only when the second `sleep` is gone, too, and its end of the pipe with it.
        let began = Instant::now();
        assert_eq!(rsync.end(), "last word");
        assert!(began.elapsed() < Duration::from_secs(10));
    }
}
