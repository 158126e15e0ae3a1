//! A connection in use: frames in and out on threads of their own, messages in their turn.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::arrival::{Arrival, Chunk};
use crate::compression::Compression;
use crate::conversation::{OutOfTurn, Party, Stage};
use crate::delta::bases::Bases;
use crate::encoder::{Encoder, Traffic};
use crate::error::{Error, ImageProblem, Result};
use crate::frame::{Abilities, Channel, Frame, PREAMBLE_BYTES, decode_preamble, encode_preamble};
use crate::listener::Listener;
use crate::message::Message;
use crate::page_stream::StreamKind;
use crate::timing::Timing;
use crate::transport::{Bell, Receive, Transmit, Transport, Wait};
use crate::watch::Watch;

/// Frames that may wait to be used, per queue; at most 256 KiB each but for control messages.
const QUEUE_FRAMES: usize = 8;
/// How often a wait looks whether it was called off.
const CANCEL_CHECK: Duration = Duration::from_millis(50);

/// How long to listen after having stood still.
const SECOND_THOUGHT: Duration = Duration::from_millis(500);

/// The way out, shared by the threads that send.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    sender: Mutex<Box<dyn Transmit>>,
    bell: Bell,
    /// A frame was left incomplete: nothing after it would be understood.
    torn: AtomicBool,
    sent_bytes: AtomicU64,
    /// Held until what was encoded is sent: the peer has to expand it in the same order.
    encoder: Mutex<Encoder>,
}

impl Outgoing {
    pub(crate) fn bell(&self) -> &Bell {
        &self.0.bell
    }

    /// Bytes sent so far, everything counted.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.0.sent_bytes.load(Ordering::Relaxed)
    }

    /// Compresses from now on, as far as the peer expands it.
    pub(crate) fn set_compression(&self, compression: Compression) {
        self.encoder().set_compression(compression);
    }

    /// What was sent so far of pages and images.
    pub(crate) fn traffic(&self) -> Traffic {
        self.encoder().traffic()
    }

    /// What is sent of pages from now on is another stream.
    pub(crate) fn begin_pages(&self, kind: StreamKind) {
        self.encoder().begin_pages(kind);
    }

    /// Of pages sent again only what changed is sent; what that takes is kept in `directory`.
    pub(crate) fn remember_pages(&self, directory: &Path) {
        self.encoder().remember_pages(directory);
    }

    /// Sends bytes of a channel as `read` reads them: one block of at most 256 KiB.
    ///
    /// `read` must not wait, and is called again when a page is not complete yet. Returns the bytes read (none:
    /// nothing was sent) and the bytes that went over the connection for them.
    pub(crate) fn send_from(
        &self,
        channel: Channel,
        read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<(usize, usize)> {
        self.send_from_unless(channel, read, || false)
    }

    /// As [`Outgoing::send_from`], but looks now and then whether it is called off.
    pub(crate) fn send_from_unless(
        &self,
        channel: Channel,
        read: impl FnMut(&mut [u8]) -> io::Result<usize>,
        is_off: impl Fn() -> bool,
    ) -> io::Result<(usize, usize)> {
        let mut encoder = self.encoder();
        let Some(encoded) = encoder.encode(channel, read)? else {
            return Ok((0, 0));
        };
        let began = Instant::now();
        self.send_bytes(encoded.frames, is_off)?;
        let times = encoded.times();
        encoder.sent(times, began.elapsed());
        Ok((times.stream_bytes, times.wire_bytes))
    }

    /// Sends bytes of a channel; returns how many went over the connection for them.
    pub(crate) fn send_stream(&self, channel: Channel, mut bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        while !bytes.is_empty() {
            let (_, wire_bytes) =
                self.send_from(channel, |buffer| io::Read::read(&mut bytes, buffer))?;
            sent += wire_bytes;
        }
        Ok(sent)
    }

    /// Whether something could not be sent: the peer is gone, also when what it said before is not read yet.
    pub(crate) fn is_broken(&self) -> bool {
        self.0.torn.load(Ordering::Relaxed)
    }

    /// Sends a run of zero bytes of a channel.
    pub(crate) fn send_zeros(&self, channel: Channel, len_bytes: u64) -> io::Result<()> {
        let mut encoder = self.encoder();
        self.send_bytes(encoder.encode_zeros(channel, len_bytes), || false)
    }

    fn encoder(&self) -> MutexGuard<'_, Encoder> {
        let encoder = self.0.encoder.lock();
        encoder.unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn send_frame(&self, frame: &Frame) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.send_bytes(&bytes, || false)
    }

    /// Sends whole frames, or breaks the connection; called off before the first byte it does neither.
    fn send_bytes(&self, bytes: &[u8], is_off: impl Fn() -> bool) -> io::Result<()> {
        let mut sender = self.0.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.torn.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut left = bytes;
        while !left.is_empty() {
            // Without end: a peer that lives may be busy; one that does not is noticed by its silence,
            // and then the bell rings.
            let wait = Wait::new(Instant::now().checked_add(CANCEL_CHECK), &self.0.bell);
            match sender.transmit(left, &wait) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut && !is_off() => {}
                Err(error)
                    if error.kind() == io::ErrorKind::TimedOut && left.len() == bytes.len() =>
                {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                Ok(written) => {
                    left = left.get(written..).unwrap_or_default();
                    self.0
                        .sent_bytes
                        .fetch_add(written as u64, Ordering::Relaxed);
                }
                Err(error) => {
                    self.0.torn.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

/// A connection whose two ends have greeted each other.
#[derive(Debug)]
pub(crate) struct Connection {
    party: Party,
    peer_name: String,
    stage: Stage,
    reached: Stage,
    outgoing: Outgoing,
    /// Taken on drop, before the threads are waited for.
    arrivals: Option<Receiver<Result<Arrival>>>,
    pages: Option<Receiver<Chunk>>,
    files: Option<Receiver<Chunk>>,
    bases: Sender<Bases>,
    beating: Option<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    silence: Duration,
    /// This process has stood still for so long that the peer must have given it up.
    overslept: bool,
}

impl Connection {
    /// Exchanges preambles and starts listening.
    pub(crate) fn open(
        transport: Box<dyn Transport>,
        party: Party,
        timing: &Timing,
    ) -> Result<Self> {
        let failed = |doing| move |source| Error::Connection { doing, source };
        let peer_name = transport.peer();
        let halves = transport.split().map_err(failed("setting it up"))?;
        let bell = Bell::new().map_err(failed("setting it up"))?;
        let (mut receiver, mut sender) = (halves.receiver, halves.sender);
        let deadline = Instant::now().checked_add(timing.greeting);
        let abilities = greet(
            &mut *receiver,
            &mut *sender,
            &Wait::new(deadline, &bell),
            party,
            timing,
        )?;

        let outgoing = Outgoing(Arc::new(Shared {
            sender: Mutex::new(sender),
            bell,
            torn: AtomicBool::new(false),
            sent_bytes: AtomicU64::new(PREAMBLE_BYTES as u64),
            encoder: Mutex::new(Encoder::new(abilities)),
        }));
        let (arrivals_in, arrivals) = sync_channel(QUEUE_FRAMES);
        let (pages_in, pages) = sync_channel(QUEUE_FRAMES);
        let (files_in, files) = sync_channel(QUEUE_FRAMES);
        let (bases, bases_out) = channel();
        let (beating, stop_beating) = channel::<()>();
        let mut connection = Self {
            party,
            peer_name,
            stage: Stage::Opening,
            reached: Stage::Opening,
            outgoing: outgoing.clone(),
            arrivals: Some(arrivals),
            pages: Some(pages),
            files: Some(files),
            bases,
            beating: Some(beating),
            threads: Vec::new(),
            silence: timing.silence,
            overslept: false,
        };
        let listener = Listener::new(
            receiver,
            outgoing.bell().clone(),
            party.peer(),
            *timing,
            bases_out,
        );
        let beat = timing.beat;
        let beater = outgoing.clone();
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new()
                .name(format!("migrate-{name}"))
                .spawn(work)
                .map_err(Error::io("start a thread"))
        };
        let listen = Box::new(move || listener.listen(&arrivals_in, &pages_in, &files_in));
        connection.threads.push(spawn("listen", listen)?);
        let keep_beating = Box::new(move || {
            while stop_beating.recv_timeout(beat) == Err(RecvTimeoutError::Timeout) {
                if beater.send_frame(&Frame::Beat).is_err() {
                    return;
                }
            }
        });
        connection.threads.push(spawn("beat", keep_beating)?);
        Ok(connection)
    }

    pub(crate) fn party(&self) -> Party {
        self.party
    }

    /// Who is at the other end.
    pub(crate) fn peer_name(&self) -> &str {
        &self.peer_name
    }

    /// How far the conversation got before it was over.
    pub(crate) fn reached(&self) -> Stage {
        self.reached
    }

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
        if stage != Stage::Over {
            self.reached = stage;
        }
    }

    pub(crate) fn outgoing(&self) -> &Outgoing {
        &self.outgoing
    }

    /// Takes the queue of the pages channel; there is only one.
    pub(crate) fn take_pages(&mut self) -> Result<Receiver<Chunk>> {
        self.pages.take().ok_or(Error::Misuse {
            problem: "the pages channel is in use",
        })
    }

    /// Gives it back.
    pub(crate) fn return_pages(&mut self, pages: Receiver<Chunk>) {
        self.pages = Some(pages);
    }

    /// What the pages of the next stream may be made of. To be said before the peer is told to send them.
    pub(crate) fn build_pages_upon(&self, bases: Bases) {
        // Fails only when nothing is heard any more.
        let _ = self.bases.send(bases);
    }

    /// Takes the queue of the files channel, to be put back when a conversation on it is over.
    pub(crate) fn take_files(&mut self) -> Result<Receiver<Chunk>> {
        self.files.take().ok_or(Error::Misuse {
            problem: "the files channel is in use",
        })
    }

    pub(crate) fn return_files(&mut self, files: Receiver<Chunk>) {
        self.files = Some(files);
    }

    /// Says a message, if it is its turn.
    pub(crate) fn say(&mut self, message: &Message) -> Result<()> {
        let next = self.stage.after(self.party, message)?;
        // Before it is sent: half a `commit` may have arrived, too.
        self.enter(next);
        self.outgoing
            .send_frame(&Frame::Control(message.encode()))
            .map_err(|source| Error::Connection {
                doing: "sending a message",
                source,
            })
    }

    /// Says that everything goes back to how it was, if that can be said, and sees that it arrives.
    pub(crate) fn abort(&mut self, reason: &str) {
        self.give_up(reason, false);
    }

    /// As [`Connection::abort`]; says whether the tree may have run on the destination before it was ended there.
    pub(crate) fn give_up(&mut self, reason: &str, may_have_run: bool) {
        let message = Message::Abort {
            reason: reason.to_owned(),
            may_have_run,
        };
        if self.say(&message).is_ok() {
            self.linger(Duration::from_secs(1));
        }
    }

    /// The error for a message that the conversation allows here, but not what goes on.
    pub(crate) fn unexpected(&self, message: &Message) -> Error {
        OutOfTurn {
            stage: self.reached,
            speaker: self.party.peer(),
            message: message.name(),
        }
        .into()
    }

    /// Waits for a message. `Abort` becomes an error here.
    pub(crate) fn hear(
        &mut self,
        what: &'static str,
        within: Duration,
        watch: &Watch,
    ) -> Result<Message> {
        match self.next(what, within, watch)? {
            Arrival::Message(message) => Ok(message),
            Arrival::Image(_) => Err(Error::Image {
                peer: self.party.peer(),
                problem: ImageProblem::OutOfPlace,
            }),
        }
    }

    /// Waits for a message or a piece of an image.
    pub(crate) fn next(
        &mut self,
        what: &'static str,
        within: Duration,
        watch: &Watch,
    ) -> Result<Arrival> {
        let peer = self.party.peer();
        let deadline = Instant::now().checked_add(within);
        loop {
            // Once the tree is given away there is nothing to call off.
            if watch.is_cancelled() && !self.stage.is_given_away() {
                return Err(Error::Cancelled);
            }
            let left = deadline.map_or(CANCEL_CHECK, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            let Some(arrivals) = &self.arrivals else {
                return Err(Error::Closed(peer));
            };
            let turn = Instant::now();
            let arrival = arrivals.recv_timeout(left.min(CANCEL_CHECK));
            self.overslept |= turn.elapsed() >= self.silence.max(CANCEL_CHECK * 2);
            let arrival = match arrival {
                Ok(arrival) => arrival?,
                Err(RecvTimeoutError::Timeout) if left > CANCEL_CHECK => continue,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Error::TooSlow {
                        peer,
                        what,
                        after: within,
                    });
                }
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Closed(peer)),
            };
            if let Arrival::Message(message) = &arrival {
                let next = self.stage.after(peer, message)?;
                self.enter(next);
                if let Message::Abort {
                    reason,
                    may_have_run,
                } = message
                {
                    return Err(Error::Aborted {
                        by: peer,
                        reason: reason.clone(),
                        may_have_run: *may_have_run,
                    });
                }
            }
            return Ok(arrival);
        }
    }

    /// Looks whether the peer is still there and has not given up.
    pub(crate) fn check(&mut self, watch: &Watch) -> Result<()> {
        // What the peer did about a process that had been stopped is heard a moment later.
        let within = match std::mem::take(&mut self.overslept) {
            true => SECOND_THOUGHT,
            false => Duration::ZERO,
        };
        match self.next("nothing", within, watch) {
            Err(Error::TooSlow { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(Arrival::Message(_)) => Ok(()),
            Ok(Arrival::Image(_)) => Err(Error::Image {
                peer: self.party.peer(),
                problem: ImageProblem::OutOfPlace,
            }),
        }
    }

    /// Closes without a word: what is here is in doubt, and nothing may be said about it.
    pub(crate) fn break_off(&mut self) {
        self.stage = Stage::Over;
        self.outgoing.bell().ring();
    }

    /// Waits a while for the peer to close: closing first could destroy what it has not read yet.
    pub(crate) fn linger(&mut self, within: Duration) {
        let Some(deadline) = Instant::now().checked_add(within) else {
            return;
        };
        while let Some(arrivals) = &self.arrivals {
            let left = deadline.saturating_duration_since(Instant::now());
            match arrivals.recv_timeout(left) {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.arrivals = None;
        self.pages = None;
        self.files = None;
        self.beating = None;
        self.outgoing.bell().ring();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn greet(
    receiver: &mut dyn Receive,
    sender: &mut dyn Transmit,
    wait: &Wait<'_>,
    party: Party,
    timing: &Timing,
) -> Result<Abilities> {
    let peer = party.peer();
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::TimedOut => Error::TooSlow {
            peer,
            what: "greeting",
            after: timing.greeting,
        },
        _ => Error::Connection {
            doing: "greeting",
            source,
        },
    };
    let ours = encode_preamble();
    let mut left = ours.as_slice();
    while !left.is_empty() {
        let written = sender.transmit(left, wait).map_err(failed)?;
        left = left.get(written..).unwrap_or_default();
    }
    let mut theirs = [0; PREAMBLE_BYTES];
    let mut filled = 0;
    while filled < theirs.len() {
        match receiver
            .receive(&mut theirs[filled..], wait)
            .map_err(failed)?
        {
            0 => return Err(Error::Closed(peer)),
            count => filled += count,
        }
    }
    let greeting = decode_preamble(&theirs).map_err(|problem| Error::Frame { peer, problem })?;
    Ok(greeting.abilities)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Stream;

    #[test]
    fn silence_in_the_middle_of_a_frame_counts_as_death() {
        let (near, far) = Stream::pair().unwrap();
        let timing = Timing {
            silence: Duration::from_millis(300),
            ..Timing::default()
        };
        let mut halves = Box::new(far).split().unwrap();
        let bell = Bell::new().unwrap();
        let wait = Wait::new(None, &bell);
        let mut bytes = encode_preamble().to_vec();
        Frame::Data(Channel::Pages, vec![7; 100_000]).encode(&mut bytes);
        // The cable is pulled before the rest.
        bytes.truncate(50_000);
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            let sent = halves.sender.transmit(left, &wait).unwrap();
            left = &left[sent..];
        }
        let mut connection = Connection::open(Box::new(near), Party::Destination, &timing).unwrap();
        let heard = connection.hear("a word", Duration::from_secs(10), &Watch::default());
        assert!(matches!(heard, Err(Error::Silent { .. })), "{heard:?}");
    }
}
