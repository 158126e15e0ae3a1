//! The page stream between a CRIU and the connection.
//!
//! CRIU (the dumping one, the page server, or `criu lazy-pages`) has one end of a socket pair; two threads carry
//! bytes between the other end and the pages channel. A migration has one tunnel after the other, each with
//! the channel's queue for as long as it lasts. Each direction ends with an end frame, so that the next begins
//! where the last has ended.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::arrival::Chunk;
use crate::connection::Outgoing;
use crate::error::{Error, Result};
use crate::frame::{Channel, Frame};
use crate::page_stream::{self, COMMAND_BYTES, Command, Pagemaps, STATUS_GOOD, StreamKind};
use crate::transport::Wait;
use crate::watch::{Happening, Watch};

/// How often a thread looks whether it is still wanted.
const CHECK: Duration = Duration::from_millis(50);
/// How long CRIU may be kept from learning that nothing more comes: it is not to wait for ever for what it may need
/// before anyone can end what it works for.
const HELD_OPEN_FOR: Duration = Duration::from_secs(10);
/// How often progress is told.
const TELL: Duration = Duration::from_millis(250);

/// What is done with the bytes that come from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inbound {
    /// They are for CRIU, as many as this.
    Bytes(u64),
    /// They are requests of `criu lazy-pages`. Only those for pages reach CRIU: told that the other side is
    /// done, it would let go of the tree, and that is not the peer's to say.
    PageRequests,
}

/// What a tunnel does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) inbound: Inbound,
    /// Keep account of the pages CRIU sends.
    pub(crate) note_pages: bool,
    /// How long CRIU may take none of what is for it; for ever if unset.
    pub(crate) patience: Option<Duration>,
}

/// Carries pages until dropped.
#[derive(Debug)]
pub(crate) struct Tunnel {
    ends: Arc<Ends>,
    out: Option<JoinHandle<Option<page_stream::Reader>>>,
    back: Option<JoinHandle<Option<Receiver<Chunk>>>>,
}

/// What is left of a tunnel whose both directions have ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The channel's queue, for the next one.
    pub(crate) pages: Receiver<Chunk>,
    /// The pages CRIU sent, if account was kept.
    pub(crate) pagemaps: Option<Pagemaps>,
}

/// A hand on a tunnel from another thread.
#[derive(Debug, Clone)]
pub(crate) struct Handle(Arc<Ends>);

#[derive(Debug)]
struct Ends {
    socket: UnixStream,
    closing: AtomicBool,
    /// Bytes CRIU sent, and how many of them went over the connection.
    stream_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// Bytes CRIU was sent.
    received_bytes: AtomicU64,
    over_budget: AtomicBool,
    held_open: AtomicBool,
    patience: Option<Duration>,
}

impl Tunnel {
    /// Starts carrying; returns the end for CRIU.
    pub(crate) fn start(
        outgoing: &Outgoing,
        pages: Receiver<Chunk>,
        watch: &Watch,
        plan: Plan,
    ) -> Result<(Self, OwnedFd)> {
        let setting_up = |source| Error::Io {
            doing: "connect CRIU with the page channel".to_owned(),
            source,
        };
        let (ours, theirs) = UnixStream::pair().map_err(setting_up)?;
        ours.set_nonblocking(true).map_err(setting_up)?;
        let ends = Arc::new(Ends {
            socket: ours,
            closing: AtomicBool::new(false),
            stream_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            over_budget: AtomicBool::new(false),
            held_open: AtomicBool::new(false),
            patience: plan.patience,
        });
        let mut tunnel = Self {
            ends: Arc::clone(&ends),
            out: None,
            back: None,
        };
        let (from_criu, to_criu) = (Arc::clone(&ends), ends);
        let (out, back) = (outgoing.clone(), outgoing.clone());
        let builder = || std::thread::Builder::new().name("migrate-pages".to_owned());
        let watch = watch.clone();
        let thread = builder().spawn(move || {
            let page_size_bytes = rustix::param::page_size() as u64;
            let mut reader = plan
                .note_pages
                .then(|| page_stream::Reader::new(page_size_bytes));
            let cancellable = plan.inbound != Inbound::PageRequests;
            out.begin_pages(match plan.inbound {
                Inbound::Bytes(_) => StreamKind::Dump,
                Inbound::PageRequests => StreamKind::Answers,
            });
            let carried = from_criu.carry_out(&out, &watch, cancellable, reader.as_mut());
            match carried {
                // The other direction may still have an answer for it.
                Ok(()) => {
                    let _ = out.send_frame(&Frame::End(Channel::Pages));
                }
                // CRIU learns of it by the end of its connection.
                Err(_) => from_criu.give_up(),
            }
            reader
        });
        tunnel.out = Some(thread.map_err(setting_up)?);
        let thread = builder().spawn(move || {
            let carried = match plan.inbound {
                Inbound::Bytes(budget_bytes) => to_criu.carry_in(&back, &pages, budget_bytes),
                Inbound::PageRequests => to_criu.pass_requests(&back, &pages),
            };
            // What CRIU was sent it still reads. One that serves pages is held until it is let go.
            if carried.is_err() || plan.inbound != Inbound::PageRequests {
                to_criu.give_up();
            }
            // Pages nobody takes any more must not keep messages behind them from being heard: without the
            // queue's end they are dropped.
            carried.ok().map(|()| pages)
        });
        tunnel.back = Some(thread.map_err(setting_up)?);
        Ok((tunnel, theirs.into()))
    }

    /// Bytes CRIU sent, and how many of them went over the connection.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.ends.stream_bytes.load(Ordering::Relaxed),
            self.ends.sent_bytes.load(Ordering::Relaxed),
        )
    }

    /// Bytes CRIU was sent.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.ends.received_bytes.load(Ordering::Relaxed)
    }

    /// Whether the peer sent more than CRIU may be given.
    pub(crate) fn is_over_budget(&self) -> bool {
        self.ends.over_budget.load(Ordering::Relaxed)
    }

    /// From now on CRIU does not learn that the connection is lost, or that the peer's CRIU has ended, before the
    /// tunnel is dropped, or before long.
    pub(crate) fn hold_open(&self) {
        self.ends.held_open.store(true, Ordering::Relaxed);
    }

    /// Another descriptor of our end: while one is open, CRIU's connection has not ended.
    pub(crate) fn our_end(&self) -> io::Result<OwnedFd> {
        self.ends.socket.try_clone().map(Into::into)
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.ends))
    }

    /// Waits until CRIU has ended its side and the peer its own.
    pub(crate) fn finish(mut self, within: Duration) -> io::Result<Finished> {
        let deadline = Instant::now().checked_add(within);
        let is_over = |tunnel: &Self| {
            tunnel.out.as_ref().is_none_or(JoinHandle::is_finished)
                && tunnel.back.as_ref().is_none_or(JoinHandle::is_finished)
        };
        while !is_over(&self) {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let reader = self.out.take().and_then(|thread| thread.join().ok());
        let pages = self.back.take().and_then(|thread| thread.join().ok());
        Ok(Finished {
            pages: pages.flatten().ok_or(io::ErrorKind::BrokenPipe)?,
            pagemaps: reader.flatten().map(page_stream::Reader::finish),
        })
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.ends.close();
        if let Some(thread) = self.out.take() {
            let _ = thread.join();
        }
        if let Some(thread) = self.back.take() {
            let _ = thread.join();
        }
    }
}

impl Handle {
    /// Ends CRIU's connection.
    pub(crate) fn close(&self) {
        self.0.close();
    }

    /// Bytes CRIU sent so far.
    pub(crate) fn stream_bytes(&self) -> u64 {
        self.0.stream_bytes.load(Ordering::Relaxed)
    }
}

impl Ends {
    fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        // Fails when it is closed already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Closes what nothing more comes from.
    fn give_up(&self) {
        let deadline = Instant::now() + HELD_OPEN_FOR;
        while self.held_open.load(Ordering::Relaxed)
            && !self.closing.load(Ordering::Relaxed)
            && Instant::now() < deadline
        {
            std::thread::sleep(CHECK);
        }
        self.close();
    }

    fn carry_out(
        &self,
        outgoing: &Outgoing,
        watch: &Watch,
        cancellable: bool,
        mut reader: Option<&mut page_stream::Reader>,
    ) -> io::Result<()> {
        let mut told = Instant::now();
        loop {
            if cancellable && watch.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if outgoing.bell().has_rung() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            // The socket does not block. It is read first, and waited for when there is nothing.
            let read = |buffer: &mut [u8]| {
                let count = rustix::io::read(&self.socket, &mut *buffer)?;
                if let Some(reader) = &mut reader {
                    reader.read(buffer.get(..count).unwrap_or_default());
                }
                Ok(count)
            };
            // The way may be blocked for as long as the peer is busy, or worse. What was encoded then and not sent is no
            // loss: nothing is encoded after a migration is called off.
            let is_off = || cancellable && watch.is_cancelled();
            let (count, sent) = match outgoing.send_from_unless(Channel::Pages, read, is_off) {
                Ok((0, _)) => return Ok(()),
                Ok((count, sent)) => (count as u64, sent as u64),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        let wait = Wait::new(Instant::now().checked_add(CHECK), outgoing.bell());
                        match wait.for_flags(self.socket.as_fd(), PollFlags::IN) {
                            Err(error) if error.kind() != io::ErrorKind::TimedOut => {
                                return Err(error);
                            }
                            _ => continue,
                        }
                    }
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::ConnectionReset => return Ok(()),
                    _ => return Err(error),
                },
            };
            let sent_bytes = self.sent_bytes.fetch_add(sent, Ordering::Relaxed) + sent;
            let stream_bytes = self.stream_bytes.fetch_add(count, Ordering::Relaxed) + count;
            if told.elapsed() >= TELL {
                told = Instant::now();
                watch.tell(Happening::PagesMoving {
                    stream_bytes,
                    sent_bytes,
                });
            }
        }
    }

    /// Passes on what is for CRIU until the peer ends it.
    fn carry_in(
        &self,
        outgoing: &Outgoing,
        pages: &Receiver<Chunk>,
        budget_bytes: u64,
    ) -> io::Result<()> {
        let zeros = vec![0; 64 << 10];
        let mut left_bytes = budget_bytes;
        let mut spend = |count: u64| match left_bytes.checked_sub(count) {
            Some(left) => {
                left_bytes = left;
                Ok(())
            }
            None => {
                self.over_budget.store(true, Ordering::Relaxed);
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
        };
        while let Some(chunk) = self.next_chunk(pages) {
            match chunk {
                Chunk::Data(bytes) => {
                    spend(bytes.len() as u64)?;
                    self.pass_on(outgoing, &bytes)?;
                }
                Chunk::Zeros(mut count) => {
                    spend(count)?;
                    while count > 0 {
                        let piece =
                            usize::try_from(count).map_or(zeros.len(), |n| n.min(zeros.len()));
                        self.pass_on(outgoing, &zeros[..piece])?;
                        count -= piece as u64;
                    }
                }
                Chunk::End => return Ok(()),
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Passes requests for pages on until the peer ends them.
    fn pass_requests(&self, outgoing: &Outgoing, pages: &Receiver<Chunk>) -> io::Result<()> {
        let mut begun = Vec::with_capacity(COMMAND_BYTES);
        let mut take = |byte: u8| -> io::Result<()> {
            begun.push(byte);
            let Ok(bytes) = <&[u8; COMMAND_BYTES]>::try_from(begun.as_slice()) else {
                return Ok(());
            };
            let command = Command::decode(bytes);
            if command.asks_for_pages() {
                self.pass_on(outgoing, bytes)?;
            } else if command.closes() {
                outgoing.send_stream(Channel::Pages, &STATUS_GOOD)?;
            } else {
                return Err(io::ErrorKind::InvalidData.into());
            }
            begun.clear();
            Ok(())
        };
        while let Some(chunk) = self.next_chunk(pages) {
            match chunk {
                Chunk::Data(bytes) => bytes.iter().copied().try_for_each(&mut take)?,
                // Requests are short: no run of zeros is longer than one.
                Chunk::Zeros(count) => (0..count).try_for_each(|_| take(0))?,
                Chunk::End => return Ok(()),
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Waits for a piece of the channel; `None` when there will be none, or none is wanted.
    fn next_chunk(&self, pages: &Receiver<Chunk>) -> Option<Chunk> {
        loop {
            match pages.recv_timeout(CHECK) {
                Ok(chunk) => return Some(chunk),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if self.closing.load(Ordering::Relaxed) => {
                    return None;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn pass_on(&self, outgoing: &Outgoing, mut bytes: &[u8]) -> io::Result<()> {
        self.received_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut taken = Instant::now();
        while !bytes.is_empty() {
            if outgoing.bell().has_rung() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let flags = rustix::net::SendFlags::NOSIGNAL;
            match rustix::net::send(&self.socket, bytes, flags) {
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    taken = Instant::now();
                    continue;
                }
                Err(rustix::io::Errno::AGAIN) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let wait = Wait::new(Instant::now().checked_add(CHECK), outgoing.bell());
            match wait.for_flags(self.socket.as_fd(), PollFlags::OUT) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    // What is queued here keeps the peer's last words from being heard.
                    if outgoing.is_broken() {
                        return Err(io::ErrorKind::BrokenPipe.into());
                    }
                    if self
                        .patience
                        .is_some_and(|patience| taken.elapsed() > patience)
                    {
                        return Err(error);
                    }
                }
                waited => waited?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::connection::Connection;
    use crate::conversation::{Party, one_of_each};
    use crate::message::Message;
    use crate::timing::Timing;
    use crate::transport::Stream;

    /// Source and destination, connected with each other.
    fn ends() -> (Connection, Connection) {
        let (near, far) = Stream::pair().unwrap();
        let open = |stream, party| Connection::open(Box::new(stream), party, &Timing::default());
        std::thread::scope(|scope| {
            let far = scope.spawn(|| open(far, Party::Destination).unwrap());
            (open(near, Party::Source).unwrap(), far.join().unwrap())
        })
    }

    const PLAN: Plan = Plan {
        inbound: Inbound::Bytes(u64::MAX),
        note_pages: false,
        patience: Some(Duration::from_millis(500)),
    };

    /// More than fits into what is on the way.
    static MUCH: [u8; 64 << 10] = [7; 64 << 10];

    #[test]
    fn pages_for_a_criu_that_has_ended_do_not_keep_messages_from_being_heard() {
        let (mut source, mut destination) = ends();
        let watch = Watch::default();
        let pages = destination.take_pages().unwrap();
        let (tunnel, theirs) = Tunnel::start(destination.outgoing(), pages, &watch, PLAN).unwrap();
        // The page server dies.
        drop(theirs);
        for _ in 0..40 {
            source
                .outgoing()
                .send_stream(Channel::Pages, &MUCH)
                .unwrap();
        }
        let offer = one_of_each().swap_remove(0);
        source.say(&offer).unwrap();
        let heard = destination.hear("a word", Duration::from_secs(5), &watch);
        assert!(matches!(heard, Ok(Message::Offer(_))), "{heard:?}");
        assert!(tunnel.finish(Duration::from_secs(5)).is_err());
    }

    #[test]
    fn pages_for_a_criu_that_takes_none_do_not_keep_messages_from_being_heard_for_ever() {
        let (mut source, mut destination) = ends();
        let watch = Watch::default();
        let pages = destination.take_pages().unwrap();
        let (_tunnel, _theirs) =
            Tunnel::start(destination.outgoing(), pages, &watch, PLAN).unwrap();
        for _ in 0..80 {
            source
                .outgoing()
                .send_stream(Channel::Pages, &MUCH)
                .unwrap();
        }
        let offer = one_of_each().swap_remove(0);
        source.say(&offer).unwrap();
        let heard = destination.hear("a word", Duration::from_secs(5), &watch);
        assert!(matches!(heard, Ok(Message::Offer(_))), "{heard:?}");
    }

    #[test]
    fn a_criu_that_is_held_does_not_learn_of_a_lost_connection_before_the_tunnel_goes() {
        for is_held in [true, false] {
            let (source, mut destination) = ends();
            let watch = Watch::default();
            let pages = destination.take_pages().unwrap();
            let (tunnel, theirs) =
                Tunnel::start(destination.outgoing(), pages, &watch, PLAN).unwrap();
            if is_held {
                tunnel.hold_open();
            }
            drop(source);
            let mut criu = UnixStream::from(theirs);
            criu.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            let read = criu.read(&mut [0]).map_err(|error| error.kind());
            let expected = match is_held {
                true => Err(io::ErrorKind::WouldBlock),
                false => Ok(0),
            };
            assert_eq!(read, expected);
            drop(tunnel);
            assert_eq!(criu.read(&mut [0]).unwrap(), 0);
        }
    }

    #[test]
    fn a_stream_whose_way_is_blocked_can_be_called_off() {
        // Nobody takes pages there.
        let (mut source, _destination) = ends();
        let watch = Watch::default();
        let pages = source.take_pages().unwrap();
        let (tunnel, theirs) = Tunnel::start(source.outgoing(), pages, &watch, PLAN).unwrap();
        let mut criu = UnixStream::from(theirs);
        criu.set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let blocked = loop {
            if let Err(error) = criu.write_all(&MUCH) {
                break error;
            }
        };
        assert_eq!(blocked.kind(), io::ErrorKind::WouldBlock);
        watch.cancel();
        criu.set_write_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let ended = criu.write_all(&MUCH).unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::BrokenPipe);
        drop(tunnel);
    }
}
