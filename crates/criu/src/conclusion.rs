//! From the end of an exchange to its result.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::exchange::Exchange;
use crate::failure::Witness;
use crate::link::{After, Link};
use crate::outcome::{PageServerChild, StartedPageServer};
use crate::rpc::CriuResp;
use crate::worker::{Worker, WorkerExit};

/// The time a request may take, and when that is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Instant>,
}

impl Limit {
    /// Starts the clock.
    pub(crate) fn from_now(timeout: Option<Duration>) -> Self {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Self { timeout, deadline }
    }

    /// Tells whether the time is over.
    #[cfg(feature = "tokio")]
    pub(crate) fn has_passed(self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// How an exchange with CRIU came to its end.
#[derive(Debug)]
pub(crate) enum Ending {
    Answered(Box<CriuResp>),
    Closed,
    TimedOut,
    Nonsense(String),
    Failed(&'static str, std::io::Error),
}

pub(crate) fn send_ending(error: std::io::Error) -> Ending {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, TimedOut};
    match error.kind() {
        TimedOut => Ending::TimedOut,
        BrokenPipe | ConnectionReset | NotConnected => Ending::Closed,
        _ => Ending::Failed("send a request to CRIU", error),
    }
}

pub(crate) fn receive_ending(error: std::io::Error) -> Ending {
    match error.kind() {
        std::io::ErrorKind::InvalidData => Ending::Nonsense(error.to_string()),
        _ => Ending::Failed("receive CRIU's answer", error),
    }
}

/// Turns the end of an exchange into its result, and ends the worker where it is no longer needed.
pub(crate) fn conclude(
    ending: Ending,
    mut exchange: Exchange,
    witness: &Witness,
    link: &mut Link,
    after: After,
    limit: Limit,
) -> Result<Box<CriuResp>> {
    let refusal = exchange.take_refusal();
    if let Ending::Answered(answer) = ending {
        link.answered();
        if answer.success {
            if after == After::Ends {
                finish(link, limit);
            }
            return match refusal {
                None => Ok(answer),
                Some((hook, source)) => Err(Error::Hook {
                    hook,
                    source,
                    failure: None,
                    restored: answer.restore.as_ref().map(|restore| restore.pid),
                }),
            };
        }
        let exit = finish(link, limit);
        let mut failure = witness.failure(exchange.last_hook(), exit, take_stderr(link));
        failure.add_answer(&answer);
        let failure = Box::new(failure);
        return Err(match refusal {
            Some((hook, source)) => Error::Hook {
                hook,
                source,
                failure: Some(failure),
                restored: None,
            },
            None => Error::Refused(failure),
        });
    }

    let exit = match &ending {
        Ending::Closed => finish(link, limit),
        _ => link.worker.as_mut().and_then(Worker::kill),
    };
    let failure = Box::new(witness.failure(exchange.last_hook(), exit, take_stderr(link)));
    Err(match (refusal, ending) {
        (Some((hook, source)), _) => Error::Hook {
            hook,
            source,
            failure: Some(failure),
            restored: None,
        },
        (None, Ending::TimedOut) => Error::TimedOut {
            after: limit.timeout.unwrap_or_default(),
            failure,
        },
        (None, Ending::Nonsense(problem)) => Error::Protocol { problem, failure },
        (None, Ending::Failed(doing, source)) => Error::Io { doing, source },
        (None, Ending::Closed | Ending::Answered(_)) => Error::Lost(failure),
    })
}

fn finish(link: &mut Link, limit: Limit) -> Option<WorkerExit> {
    link.worker.as_mut()?.finish(limit.deadline)
}

fn take_stderr(link: &mut Link) -> Option<File> {
    link.worker.as_mut()?.take_stderr()
}

/// Reads the answer about a page server that runs by itself.
pub(crate) fn started(answer: &CriuResp) -> StartedPageServer {
    let (pid, port) = page_server(answer);
    StartedPageServer {
        pid: (pid > 0).then_some(pid),
        port,
    }
}

/// Reads the answer about a page server that is a child of the worker.
pub(crate) fn started_child(answer: &CriuResp) -> PageServerChild {
    let (pid, port) = page_server(answer);
    PageServerChild { pid, port }
}

fn page_server(answer: &CriuResp) -> (i32, u16) {
    let server = answer.ps.as_ref();
    let pid = server.and_then(|server| server.pid).unwrap_or(0);
    // CRIU keeps the port in a signed 16-bit number; the low half is the port either way.
    let port = server
        .and_then(|server| server.port)
        .unwrap_or(0)
        .to_le_bytes();
    (pid, u16::from_le_bytes([port[0], port[1]]))
}
