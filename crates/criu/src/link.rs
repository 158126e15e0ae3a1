//! The connection to a worker, and the worker behind it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::operation::Operation;
use crate::request::{Prepared, Restore};
use crate::transport::Connection;
use crate::worker::{Streams, Worker, spawn_detached};

/// The connection, and the worker behind it if it is ours.
#[derive(Debug)]
pub(crate) struct Link {
    /// Before the connection, as fields are dropped in order: at the end of the connection CRIU would
    /// begin to clean up, and be killed in the middle of it.
    pub(crate) worker: Option<Worker>,
    pub(crate) connection: Connection,
    /// What the worker was started with; `None` when it is not ours.
    pub(crate) readiness: Option<Readiness>,
    ended: bool,
}

/// What a worker has to be started with to serve a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Readiness {
    descriptors: usize,
    streams: Streams,
    outside_tree: bool,
}

impl Readiness {
    pub(crate) fn of(prepared: &Prepared<'_>) -> Self {
        Self {
            descriptors: prepared.handed_over.len(),
            streams: prepared.streams,
            outside_tree: prepared.dumps_caller,
        }
    }
}

impl Link {
    /// Starts a worker for several requests.
    pub(crate) fn spawn(binary: &Path) -> Result<Self> {
        let readiness = Readiness {
            descriptors: 0,
            streams: Streams::Quiet,
            outside_tree: false,
        };
        Self::spawn_ready(binary, &[], readiness)
    }

    /// Starts a worker for one request.
    pub(crate) fn spawn_for(binary: &Path, prepared: &Prepared<'_>) -> Result<Self> {
        Self::spawn_ready(binary, &prepared.handed_over, Readiness::of(prepared))
    }

    fn spawn_ready(
        binary: &Path,
        descriptors: &[BorrowedFd<'_>],
        readiness: Readiness,
    ) -> Result<Self> {
        crate::binary::verify(binary)?;
        let (worker, connection) = if readiness.outside_tree {
            (None, spawn_detached(binary)?)
        } else {
            let (worker, connection) = Worker::spawn(binary, descriptors, readiness.streams)?;
            (Some(worker), connection)
        };
        Ok(Self {
            connection,
            worker,
            readiness: Some(readiness),
            ended: false,
        })
    }

    /// Takes up a request. The link counts as ended until [`Link::keep`]: an error, or a panic in a
    /// hook, leaves it so.
    pub(crate) fn begin(&mut self, operation: Operation) -> Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Err(Error::Misuse {
                problem: "the session has ended",
            });
        }
        if let Some(worker) = &mut self.worker {
            worker.set_restoring(operation == Operation::Restore);
        }
        Ok(())
    }

    /// Notes that CRIU has answered: what it leaves is meant to stay.
    pub(crate) fn answered(&mut self) {
        if let Some(worker) = &mut self.worker {
            worker.set_restoring(false);
        }
    }

    /// Goes on after a request that succeeded.
    pub(crate) fn keep(&mut self, after: After) {
        self.ended = after != After::Continues;
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.ended
    }

    /// Connects to a service, which may take until `deadline` to accept.
    pub(crate) fn connect(path: &Path, deadline: Option<Instant>) -> Result<Self> {
        let connection = Connection::connect(path, deadline).map_err(|source| Error::Connect {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            connection,
            worker: None,
            readiness: None,
            ended: false,
        })
    }

    pub(crate) fn from_socket(socket: OwnedFd) -> Result<Self> {
        let connection = Connection::from_socket(socket).map_err(|source| Error::Io {
            doing: "use the socket handed in",
            source,
        })?;
        Ok(Self {
            connection,
            worker: None,
            readiness: None,
            ended: false,
        })
    }
}

/// What becomes of connection and worker after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// CRIU ends the connection.
    Ends,
    /// CRIU waits for the next request, if this one succeeds.
    Continues,
    /// CRIU ends the connection and becomes the command of [`crate::Restore::then_exec`].
    BecomesCommand,
}

impl After {
    /// What follows a restore.
    pub(crate) fn restore(restore: &Restore) -> Self {
        if restore.then_exec.is_empty() {
            Self::Ends
        } else {
            Self::BecomesCommand
        }
    }
}
