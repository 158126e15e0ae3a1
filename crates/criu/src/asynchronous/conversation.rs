//! Packets over the socket, as futures.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::Hooks;
use crate::conclusion::{Ending, receive_ending, send_ending};
use crate::exchange::{Exchange, Step};
use crate::link::Link;
use crate::notify::HookResult;
use crate::transport::{Connection, Incoming, wait};
use crate::worker::Worker;

/// How long CRIU may clean up after a hook that was given up.
const CLEANUP_TIME: Duration = Duration::from_secs(1);

/// Waits for the worker to end by itself, as long as it is given.
pub(super) async fn worker_end(link: &Link, grace: Duration) {
    let Some(worker) = &link.worker else { return };
    if let Ok(end) = watch(worker.pidfd(), Interest::READABLE) {
        let _ = timeout(grace, end.readable()).await;
    }
}

/// Sends a request and goes through the notifications up to its answer.
pub(super) async fn converse<H: Hooks>(
    link: &Link,
    request: &[u8],
    exchange: &mut Exchange,
    mut hooks: Option<&mut H>,
) -> io::Result<Ending> {
    let connection = &link.connection;
    let socket = watch(connection.as_fd(), Interest::READABLE | Interest::WRITABLE)?;
    let peer = link.worker.as_ref().map(Worker::pidfd);
    let peer = peer
        .map(|peer| watch(peer, Interest::READABLE))
        .transpose()?;

    let mut outgoing = request.to_vec();
    loop {
        if let Err(error) = send(connection, &socket, &outgoing).await {
            return Ok(send_ending(error));
        }
        let packet = match receive(connection, &socket, peer.as_ref()).await {
            Ok(Incoming::Packet(packet)) => packet,
            Ok(Incoming::TimedOut) => return Ok(Ending::TimedOut),
            Ok(Incoming::Closed | Incoming::PeerExited) => return Ok(Ending::Closed),
            Err(error) => return Ok(receive_ending(error)),
        };
        match exchange.step(packet) {
            Step::Answer(answer) => return Ok(Ending::Answered(answer)),
            Step::Nonsense(problem) => return Ok(Ending::Nonsense(problem)),
            Step::Notify(mut notification) => {
                let mut external = Vec::new();
                let event = notification.event(&mut external);
                let result = match &mut hooks {
                    Some(hooks) if !exchange.has_panicked() => {
                        let unanswered = Unanswered(Some(link));
                        let outcome = caught(hooks.on(event)).await;
                        unanswered.defuse();
                        exchange.settle(outcome)
                    }
                    _ => Ok(()),
                };
                outgoing = exchange.reply(notification, result, &external);
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "the successor is unsafe; a borrow keeps the descriptor open as it asks"
)]
pub(super) fn watch(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    AsyncFd::with_interest(fd, interest)
}

/// A notification that CRIU waits to have answered.
///
/// Dropped with the future of its hook, it hangs up: to CRIU that is a refusal, and it gets a moment
/// to thaw the tree and unlock its network before it is killed.
struct Unanswered<'a>(Option<&'a Link>);

impl Unanswered<'_> {
    fn defuse(mut self) {
        self.0 = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let Some(link) = self.0 else { return };
        link.connection.hang_up();
        if let Some(worker) = &link.worker {
            let deadline = Instant::now().checked_add(CLEANUP_TIME);
            let _ = wait(&[(worker.pidfd(), PollFlags::IN)], deadline);
        }
    }
}

/// Awaits a hook's future, whose panic becomes its outcome.
async fn caught<F: Future<Output = HookResult>>(hook: F) -> std::thread::Result<HookResult> {
    let mut hook = pin!(hook);
    poll_fn(
        |context| match catch_unwind(AssertUnwindSafe(|| hook.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}

async fn send(
    connection: &Connection,
    socket: &AsyncFd<BorrowedFd<'_>>,
    bytes: &[u8],
) -> io::Result<()> {
    loop {
        let mut ready = socket.writable().await?;
        match connection.try_send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            done => return done,
        }
    }
}

async fn receive(
    connection: &Connection,
    socket: &AsyncFd<BorrowedFd<'_>>,
    peer: Option<&AsyncFd<BorrowedFd<'_>>>,
) -> io::Result<Incoming> {
    loop {
        let ready = poll_fn(|context| {
            if let Poll::Ready(ready) = socket.poll_read_ready(context) {
                return Poll::Ready(ready.map(Some));
            }
            match peer.map(|peer| peer.poll_read_ready(context)) {
                Some(Poll::Ready(ended)) => Poll::Ready(ended.map(|_| None)),
                _ => Poll::Pending,
            }
        });
        let ready = ready.await?;
        if let Some(incoming) = connection.try_receive()? {
            return Ok(incoming);
        }
        match ready {
            Some(mut ready) => ready.clear_ready(),
            None => return Ok(Incoming::PeerExited),
        }
    }
}
