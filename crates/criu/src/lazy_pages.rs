//! The `criu lazy-pages` process that fills the memory of a restored tree when it is first touched.

use std::fs::File;
use std::io::{self, PipeReader, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use rustix::event::PollFlags;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::error::{Error, Result};
use crate::failure::Witness;
use crate::operation::Operation;
use crate::request::{Directory, LogLevel, LogPlace};
use crate::transport::wait;
use crate::worker::{WorkerExit, pidfd_of, reap};

/// Serves memory to a restore that asks for it with [`crate::Restore::lazy_pages`] (`criu lazy-pages`).
///
/// There is no RPC request for it: the program itself is started.
#[derive(Debug)]
#[non_exhaustive]
pub struct LazyPages {
    /// The images.
    pub images: Directory,
    /// Where its socket and its log are; that of the restore has to be the same.
    pub work_dir: Directory,
    /// A connection to the dump that holds the pages ([`crate::request::Pages::LazySocket`]); without it they are
    /// in the images.
    pub socket: Option<OwnedFd>,
    /// How much it logs.
    pub log_level: LogLevel,
    /// How long it may take to be ready.
    pub start_within: Duration,
}

/// The name of its log in the working directory.
const LOG_FILE: &str = "lazy-pages.log";
/// The numbers its descriptors have; the standard ones come before them.
const DESCRIPTORS: [RawFd; 4] = [3, 4, 5, 6];

impl LazyPages {
    /// Serves what is in `images`, with socket and log in `work_dir`.
    pub fn new(images: impl Into<Directory>, work_dir: impl Into<Directory>) -> Self {
        Self {
            images: images.into(),
            work_dir: work_dir.into(),
            socket: None,
            log_level: LogLevel::default(),
            start_within: Duration::from_secs(10),
        }
    }

    /// Starts the program and waits until a restore may connect to it.
    pub(crate) fn start(&self, binary: &Path) -> Result<LazyPagesServer> {
        let failed = |source| Error::Spawn {
            binary: binary.to_owned(),
            source,
        };
        let opened = |directory: &Directory| {
            directory.open()?.ok_or(Error::NeedsWorker {
                option: "a directory that only CRIU sees",
            })
        };
        let (images, work_dir) = (opened(&self.images)?, opened(&self.work_dir)?);
        let log_dir = work_dir.try_clone().map_err(failed)?;
        let log = LogPlace::File {
            directory: Some(log_dir),
            path: self.work_dir.path().map(|path| path.join(LOG_FILE)),
            name: LOG_FILE.into(),
        };
        let witness = Witness::new(Operation::LazyPages, log, None);
        let (ready, readies) = io::pipe().map_err(failed)?;
        let stderr = memfd_create("criu-stderr", MemfdFlags::CLOEXEC).map_err(io::Error::from);
        let stderr = File::from(stderr.map_err(failed)?);

        let [images_number, work_number, ready_number, socket_number] = DESCRIPTORS;
        let mut command = Command::new(binary);
        command
            .arg("lazy-pages")
            .arg(format!("--images-dir=/proc/self/fd/{images_number}"))
            .arg(format!("--work-dir=/proc/self/fd/{work_number}"))
            .arg(format!("--status-fd={ready_number}"))
            .arg(format!("--log-file={LOG_FILE}"))
            .arg(format!("-v{}", self.log_level.number()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr.try_clone().map_err(failed)?)
            // A Ctrl-C at the terminal is for the caller to act on.
            .process_group(0);
        let mut given = vec![
            (images, images_number),
            (work_dir, work_number),
            (readies.into(), ready_number),
        ];
        if let Some(socket) = &self.socket {
            command
                .arg("--page-server")
                .arg(format!("--ps-socket={socket_number}"));
            given.push((socket.try_clone().map_err(failed)?, socket_number));
        }
        let mappings = given.into_iter().map(|(parent_fd, child_fd)| FdMapping {
            parent_fd,
            child_fd,
        });
        command
            .fd_mappings(mappings.collect())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let mut child = command.spawn().map_err(failed)?;
        // It holds our ends of what it was given.
        drop(command);
        let pidfd = match pidfd_of(&child) {
            Ok(pidfd) => pidfd,
            Err(source) => {
                reap(&mut child);
                return Err(failed(source));
            }
        };
        let mut server = LazyPagesServer {
            child,
            pidfd,
            witness,
            stderr: Some(stderr),
            ended: None,
        };
        match is_ready(ready, Instant::now().checked_add(self.start_within)) {
            Ok(true) => Ok(server),
            Ok(false) => {
                let exit = server.end();
                Err(Error::Lost(Box::new(server.failure(exit))))
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let exit = server.end();
                Err(Error::TimedOut {
                    after: self.start_within,
                    failure: Box::new(server.failure(exit)),
                })
            }
            Err(source) => Err(failed(source)),
        }
    }
}

/// Waits for the byte that says so; `false` when the program ended instead.
fn is_ready(mut ready: PipeReader, deadline: Option<Instant>) -> io::Result<bool> {
    if !wait(&[(ready.as_fd(), PollFlags::IN)], deadline)? {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(ready.read(&mut [0])? == 1)
}

/// A running `criu lazy-pages`, child of the calling process. Dropping it ends and reaps it.
///
/// While it is there, a task that touches memory which has not arrived waits. Once it has ended, such a
/// task finds zeros: end the tree first when the memory cannot come any more.
#[derive(Debug)]
pub struct LazyPagesServer {
    child: Child,
    pidfd: OwnedFd,
    witness: Witness,
    stderr: Option<File>,
    ended: Option<WorkerExit>,
}

impl LazyPagesServer {
    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns a descriptor that is readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits until all memory has arrived and it has ended by itself, for `within` at most; `false` when it goes
    /// on.
    ///
    /// # Errors
    ///
    /// [`Error::Lost`] when it ended before all memory had arrived.
    pub fn wait(&mut self, within: Duration) -> Result<bool> {
        let waiting = |source| Error::Io {
            doing: "wait for criu lazy-pages",
            source,
        };
        if self.ended.is_none() {
            let deadline = Instant::now().checked_add(within);
            if !wait(&[(self.pidfd.as_fd(), PollFlags::IN)], deadline).map_err(waiting)? {
                return Ok(false);
            }
            self.ended = Some(self.child.wait().map_err(waiting)?.into());
        }
        match self.ended {
            Some(WorkerExit::Code(0)) => Ok(true),
            exit => Err(Error::Lost(Box::new(self.failure(exit)))),
        }
    }

    fn end(&mut self) -> Option<WorkerExit> {
        self.ended = self.ended.or_else(|| reap(&mut self.child));
        self.ended
    }

    fn failure(&mut self, exit: Option<WorkerExit>) -> crate::failure::Failure {
        let stderr = self.stderr.take().and_then(|mut file| {
            file.rewind().ok()?;
            Some(file)
        });
        self.witness.failure(None, exit, stderr)
    }
}

impl Drop for LazyPagesServer {
    fn drop(&mut self) {
        self.end();
    }
}
