//! The way in: frames, expanded and handed to whom they are for.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use crate::arrival::{Arrival, Chunk};
use crate::conversation::Party;
use crate::delta::bases::Bases;
use crate::error::{Error, Result};
use crate::frame::{Block, Channel, Frame, FrameError, HEADER_BYTES, Header, Operation};
use crate::message::Message;
use crate::timing::Timing;
use crate::transport::{Bell, Receive, Wait};
use crate::window::{Expander, SharedBytes};

/// How much is read ahead of small frames. No more: of large ones that much has to be copied.
const SMALL_FRAMES_BYTES: usize = 8 << 10;

/// Reads frames and hands them to whom they are for.
#[derive(Debug)]
pub(crate) struct Listener {
    receiver: Box<dyn Receive>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    bell: Bell,
    peer: Party,
    timing: Timing,
    /// What the next stream of pages may be made of.
    bases: Receiver<Bases>,
    expander: Expander,
}

/// Zero runs of images from this length on become holes again.
const HOLE_BYTES_MIN: usize = 4096;

impl Listener {
    pub(crate) fn new(
        receiver: Box<dyn Receive>,
        bell: Bell,
        peer: Party,
        timing: Timing,
        bases: Receiver<Bases>,
    ) -> Self {
        Self {
            receiver,
            buffer: vec![0; SMALL_FRAMES_BYTES],
            start: 0,
            end: 0,
            bell,
            peer,
            timing,
            bases,
            expander: Expander::default(),
        }
    }

    pub(crate) fn listen(
        mut self,
        arrivals: &SyncSender<Result<Arrival>>,
        pages: &SyncSender<Chunk>,
        files: &SyncSender<Chunk>,
    ) {
        loop {
            let outcome = self
                .frame()
                .and_then(|frame| self.hand_on(frame, arrivals, pages, files));
            match outcome {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    // Whoever waits to send to this peer waits in vain.
                    self.bell.ring();
                    let _ = arrivals.send(Err(error));
                    return;
                }
            }
        }
    }

    /// Gives a frame to whom it is for; returns whether anybody still listens.
    fn hand_on(
        &mut self,
        frame: Frame,
        arrivals: &SyncSender<Result<Arrival>>,
        pages: &SyncSender<Chunk>,
        files: &SyncSender<Chunk>,
    ) -> Result<bool> {
        let image = |chunk| arrivals.send(Ok(Arrival::Image(chunk))).is_ok();
        // Nobody may be listening to pages any more; that does not concern the messages.
        let page = |chunk| {
            let _ = pages.send(chunk);
            true
        };
        let file = |chunk| {
            let _ = files.send(chunk);
            true
        };
        // The last: those of a stream in which no page came were not taken.
        if let Frame::Data(Channel::Pages, _)
        | Frame::Block(Channel::Pages, _)
        | Frame::Zeros(Channel::Pages, _) = frame
            && let Some(bases) = self.bases.try_iter().last()
        {
            self.expander.build_upon(Some(bases));
        }
        Ok(match frame {
            Frame::Control(bytes) => {
                let message = Message::decode(&bytes).map_err(|source| Error::Message {
                    peer: self.peer,
                    source,
                })?;
                arrivals.send(Ok(Arrival::Message(message))).is_ok()
            }
            Frame::Beat => true,
            Frame::Data(channel @ Channel::Image, bytes) => {
                image(Chunk::Data(self.expander.data(channel, bytes)))
            }
            Frame::Zeros(Channel::Image, count) => image(Chunk::Zeros(count)),
            Frame::End(Channel::Image) => image(Chunk::End),
            Frame::Block(channel @ Channel::Image, block) => {
                let (bytes, operations) = self.expand(channel, block)?;
                image_chunks(&bytes, &operations).into_iter().all(image)
            }
            Frame::Data(channel @ Channel::Pages, bytes) => {
                page(Chunk::Data(self.expander.data(channel, bytes)))
            }
            Frame::Zeros(channel @ Channel::Pages, count) => {
                self.expander.zeros(channel, count);
                page(Chunk::Zeros(count))
            }
            Frame::End(Channel::Pages) => {
                self.expander.build_upon(None);
                page(Chunk::End)
            }
            Frame::Block(channel @ Channel::Pages, block) => {
                page(Chunk::Data(self.expand(channel, block)?.0))
            }
            Frame::Data(channel @ Channel::Files, bytes) => {
                file(Chunk::Data(self.expander.data(channel, bytes)))
            }
            Frame::Zeros(Channel::Files, count) => file(Chunk::Zeros(count)),
            Frame::End(Channel::Files) => file(Chunk::End),
            Frame::Block(channel @ Channel::Files, block) => {
                file(Chunk::Data(self.expand(channel, block)?.0))
            }
        })
    }

    fn expand(&mut self, channel: Channel, block: Block) -> Result<(SharedBytes, Vec<Operation>)> {
        let expanded = self.expander.block(channel, block);
        expanded.map_err(|problem| Error::Frame {
            peer: self.peer,
            problem: FrameError::Block(problem),
        })
    }

    fn frame(&mut self) -> Result<Frame> {
        let silence = self.timing.silence;
        if self.start == self.end {
            let deadline = Instant::now().checked_add(silence);
            self.fill(deadline).map_err(|error| match error {
                Error::TooSlow { peer, .. } => Error::Silent {
                    peer,
                    after: silence,
                },
                error => error,
            })?;
        }
        let deadline = Instant::now().checked_add(self.timing.frame);
        let mut header = [0; HEADER_BYTES];
        self.read_exact(&mut header, deadline)?;
        let peer = self.peer;
        let malformed = |problem| Error::Frame { peer, problem };
        let header = Header::decode(&header).map_err(malformed)?;
        let mut body = self.expander.buffer(header.body_bytes);
        self.read_exact(&mut body, deadline)?;
        header.with_body(body).map_err(malformed)
    }

    fn read_exact(&mut self, mut output: &mut [u8], deadline: Option<Instant>) -> Result<()> {
        while !output.is_empty() {
            if self.start == self.end {
                // What is large goes where it is wanted at once.
                if output.len() >= self.buffer.len() {
                    let wait = Wait::new(self.until(deadline), &self.bell);
                    let read = self.receiver.receive(output, &wait);
                    let count = self.check_read(read, deadline)?;
                    output = &mut output[count..];
                    continue;
                }
                self.fill(deadline)?;
            }
            let count = output.len().min(self.end - self.start);
            let (now, later) = output.split_at_mut(count);
            now.copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
            output = later;
        }
        Ok(())
    }

    fn fill(&mut self, deadline: Option<Instant>) -> Result<()> {
        let wait = Wait::new(self.until(deadline), &self.bell);
        let read = self.receiver.receive(&mut self.buffer, &wait);
        let count = self.check_read(read, deadline)?;
        (self.start, self.end) = (0, count);
        Ok(())
    }

    /// The deadline for some bytes of a frame: in the middle of one, too, nothing at all counts as silence.
    fn until(&self, deadline: Option<Instant>) -> Option<Instant> {
        let silent = Instant::now().checked_add(self.timing.silence);
        [deadline, silent].into_iter().flatten().min()
    }

    fn check_read(&self, read: io::Result<usize>, deadline: Option<Instant>) -> Result<usize> {
        let is_early = deadline.is_none_or(|deadline| Instant::now() < deadline);
        match read {
            Ok(0) => Err(Error::Closed(self.peer)),
            Ok(count) => Ok(count),
            Err(error) if error.kind() == io::ErrorKind::TimedOut && is_early => {
                Err(Error::Silent {
                    peer: self.peer,
                    after: self.timing.silence,
                })
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(Error::TooSlow {
                peer: self.peer,
                what: "a frame it began",
                after: self.timing.frame,
            }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                Err(Error::Closed(self.peer))
            }
            Err(source) => Err(Error::Connection {
                doing: "receiving",
                source,
            }),
        }
    }
}

/// Cuts the bytes of an image where there are holes.
fn image_chunks(bytes: &SharedBytes, operations: &[Operation]) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let (mut data, mut at) = (0, 0);
    for operation in operations {
        let len_bytes = operation.len_bytes() as usize;
        if matches!(operation, Operation::Zeros(_)) && len_bytes >= HOLE_BYTES_MIN {
            if data < at {
                chunks.push(Chunk::Data(bytes.part(data..at)));
            }
            chunks.push(Chunk::Zeros(len_bytes as u64));
            data = at + len_bytes;
        }
        at += len_bytes;
    }
    if data < bytes.len() {
        chunks.push(Chunk::Data(bytes.part(data..bytes.len())));
    }
    chunks
}
