//! From the bytes of a stream to frames: zeros as numbers, duplicates as references, the rest packed if that is
//! faster.
//!
//! One block at a time, complete with what there is: nothing waits for more bytes. A stream is read to where its
//! bytes stay for as long as they are in the [window](crate::window); zero pages and duplicates are closed up,
//! and what stands before the literals is written in front of them. Bytes that are neither are never copied
//! here.

mod apart;

use std::path::Path;
use std::time::{Duration, Instant};

use self::apart::{Apart, SeenPages, Spared};
use crate::block::{BLOCK_BYTES_MAX, Codec, LEAD_BYTES_MAX, Operation, encode_lead};
use crate::compression::{BlockSent, Choice, Compression, Controller, Packer, SAMPLE_BYTES};
use crate::delta::sent::SentPages;
use crate::frame::{Abilities, Channel, HEADER_BYTES, block_header, data_header, encode_zeros};
use crate::page_stream::{PAGE_BYTES, PageStream, Part, StreamKind};
use crate::window::{Cursor, GAP_BYTES, WINDOW_BYTES, ring_index};

/// What was sent, by what it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Traffic {
    /// Bytes of pages and images.
    pub stream_bytes: u64,
    /// Zero bytes among them.
    pub zero_bytes: u64,
    /// Bytes among them that were sent before, and referred to.
    pub duplicate_bytes: u64,
    /// Bytes among them that the destination had from a round before.
    pub unchanged_bytes: u64,
    /// Bytes among them that were compressed.
    pub packed_bytes: u64,
    /// What those became.
    pub packed_to_bytes: u64,
    /// Bytes on the connection for all of that.
    pub wire_bytes: u64,
}

/// Makes frames of the streams of one direction.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// Where literals stay, and so does what is read; made when first used.
    ring: Vec<u8>,
    cursor: Cursor,
    seen: SeenPages,
    pages: PageStream,
    /// The pages sent in rounds, if there are any.
    sent_pages: Option<SentPages>,
    operations: Vec<Operation>,
    /// Zeros that stand for a whole block.
    zeros: Vec<u8>,
    packed: Vec<u8>,
    packer: Packer,
    controller: Controller,
    peer: Abilities,
    traffic: Traffic,
    last: Option<Instant>,
}

/// A block as frames, and how long it took to make them.
#[derive(Debug)]
pub(crate) struct Encoded<'a> {
    pub(crate) frames: &'a [u8],
    stream_bytes: usize,
    literal_bytes: usize,
    began: Instant,
    handling: Duration,
}

/// Nothing to send for so long is a pause.
const PAUSE: Duration = Duration::from_millis(20);
/// Fewer literals than this are not packed.
const PACKED_BYTES_MIN: usize = 512;
/// What is read of a page stream at first; there has to be room for the rest of a page.
const READ_BYTES: usize = BLOCK_BYTES_MAX - PAGE_BYTES;

impl Encoder {
    pub(crate) fn new(peer: Abilities) -> Self {
        Self {
            ring: Vec::new(),
            cursor: Cursor::default(),
            seen: SeenPages::default(),
            pages: PageStream::new(StreamKind::Dump),
            sent_pages: None,
            operations: Vec::new(),
            zeros: Vec::new(),
            packed: Vec::new(),
            packer: Packer::default(),
            controller: Controller::new(Compression::Off),
            peer,
            traffic: Traffic::default(),
            last: None,
        }
    }

    /// Compresses from now on as far as the peer expands it.
    pub(crate) fn set_compression(&mut self, compression: Compression) {
        self.controller = Controller::new(match self.peer.zstd && cfg!(feature = "zstd") {
            true => compression,
            false => Compression::Off,
        });
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Remembers what pages are sent from now on, in `directory`, if the peer can build upon them.
    pub(crate) fn remember_pages(&mut self, directory: &Path) {
        // Where it cannot be remembered more is sent.
        self.sent_pages = self
            .peer
            .deltas
            .then(|| SentPages::create(directory).ok())
            .flatten();
    }

    /// What follows on the pages channel is another stream.
    pub(crate) fn begin_pages(&mut self, kind: StreamKind) {
        self.pages = PageStream::new(kind);
        match (&mut self.sent_pages, kind) {
            (Some(pages), StreamKind::Dump) => pages.begin_round(),
            (Some(pages), StreamKind::Answers) => pages.end_rounds(),
            (None, _) => {}
        }
        self.controller.answers(kind == StreamKind::Answers);
        self.last = None;
    }

    /// Reads bytes of a channel with `read` and makes frames of them; none if it reads none.
    ///
    /// `read` may be asked for the rest of a page, too, and then has no more if it fails.
    pub(crate) fn encode<E>(
        &mut self,
        channel: Channel,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Option<Encoded<'_>>, E> {
        let began = Instant::now();
        if self.ring.is_empty() {
            self.ring = vec![0; WINDOW_BYTES];
        }
        let start = ring_index(self.cursor.start());
        let buffer = &mut self.ring[start..start + BLOCK_BYTES_MAX];
        let mut count = match channel {
            Channel::Pages => read(&mut buffer[..READ_BYTES])?,
            Channel::Image | Channel::Files => read(buffer)?,
        };
        if count == 0 {
            return Ok(None);
        }
        if channel == Channel::Pages {
            let missing = self.pages.missing_after(&buffer[..count]);
            if missing > 0 {
                count += read(&mut buffer[count..count + missing]).unwrap_or(0);
            }
        }
        self.traffic.stream_bytes += count as u64;
        let literal_bytes = self.take_apart(channel, start, count);
        let mut packing = Duration::ZERO;
        let packed_bytes = self.pack(start, literal_bytes, &mut packing);
        let frames = self.frames(channel, start, literal_bytes, packed_bytes);
        let frames = match frames {
            Frames::Ring(at) => &self.ring[at..start + literal_bytes],
            Frames::Packed(at, end) => &self.packed[at..end],
            Frames::Zeros => &self.zeros,
        };
        self.cursor.advance(literal_bytes);
        self.traffic.wire_bytes += frames.len() as u64;
        Ok(Some(Encoded {
            frames,
            stream_bytes: count,
            literal_bytes,
            began,
            handling: began.elapsed().saturating_sub(packing),
        }))
    }

    /// Makes frames of zero bytes of a channel.
    pub(crate) fn encode_zeros(&mut self, channel: Channel, len_bytes: u64) -> &[u8] {
        self.traffic.stream_bytes += len_bytes;
        self.traffic.zero_bytes += len_bytes;
        self.zeros.clear();
        encode_zeros(channel, len_bytes, &mut self.zeros);
        self.traffic.wire_bytes += self.zeros.len() as u64;
        &self.zeros
    }

    /// Takes how long sending a block took.
    pub(crate) fn sent(&mut self, block: BlockTimes, sending: Duration) {
        let now = Instant::now();
        let last = self.last.replace(now);
        let is_pause = |last: &Instant| block.began.saturating_duration_since(*last) >= PAUSE;
        let Some(last) = last.filter(|last| self.controller.counts_pauses() || !is_pause(last))
        else {
            return self.controller.paused();
        };
        self.controller.sent(BlockSent {
            stream_bytes: block.stream_bytes,
            literal_bytes: block.literal_bytes,
            wire_bytes: block.wire_bytes,
            elapsed: now - last,
            handling: block.handling,
            sending,
        });
    }

    /// Finds what the bytes read are made of, and closes up the literals among them; returns how many.
    fn take_apart(&mut self, channel: Channel, start: usize, count: usize) -> usize {
        let mut apart = Apart {
            ring: &mut self.ring,
            seen: &mut self.seen,
            operations: &mut self.operations,
            cursor: self.cursor,
            start,
            at: 0,
            literal_bytes: 0,
            spared: Spared::default(),
        };
        apart.operations.clear();
        while apart.at < count {
            let rest = &apart.ring[start + apart.at..start + count];
            let place = self.pages.place();
            let part = match channel {
                Channel::Pages => self.pages.next(rest),
                // rsync leaves out what is there already.
                Channel::Files => Part::Other(rest.len()),
                // Pages of images lie where pages of the file do.
                Channel::Image => match rest.len() / PAGE_BYTES * PAGE_BYTES {
                    0 => Part::Other(rest.len()),
                    whole => Part::Pages(whole),
                },
            };
            let place = place.filter(|_| channel == Channel::Pages);
            let sent_before = self.sent_pages.as_mut().zip(place);
            match part {
                Part::Other(len_bytes) => {
                    if let Some((sent_pages, place)) = sent_before {
                        sent_pages.forget(place);
                    }
                    apart.other(len_bytes);
                }
                Part::Pages(len_bytes) => {
                    let changes = sent_before.map_or(&[][..], |(sent_pages, place)| {
                        sent_pages.changes(place, &rest[..len_bytes])
                    });
                    for page in 0..len_bytes / PAGE_BYTES {
                        apart.page(changes.get(page).copied().flatten());
                    }
                }
            }
        }
        let (literal_bytes, spared) = (apart.literal_bytes, apart.spared);
        self.traffic.zero_bytes += spared.zero_bytes as u64;
        self.traffic.duplicate_bytes += spared.duplicate_bytes as u64;
        self.traffic.unchanged_bytes += spared.unchanged_bytes as u64;
        // Pages may come from now on that are not seen.
        if self.pages.is_lost() {
            self.sent_pages = None;
        }
        literal_bytes
    }

    /// Packs the literals if that is worth it; returns what they became.
    fn pack(&mut self, start: usize, literal_bytes: usize, time: &mut Duration) -> Option<usize> {
        let pack = self.controller.choice() == Choice::Pack;
        let sample = self.controller.wants_sample();
        if literal_bytes < PACKED_BYTES_MIN || !pack && !sample {
            return None;
        }
        let began = Instant::now();
        self.packed.resize(GAP_BYTES + BLOCK_BYTES_MAX, 0);
        let literals = &self.ring[start..start + literal_bytes];
        let literals = match pack {
            true => literals,
            false => &literals[..literal_bytes.min(SAMPLE_BYTES)],
        };
        // What is left of it has to be worth unpacking.
        let output = &mut self.packed[GAP_BYTES..GAP_BYTES + literals.len() / 16 * 15];
        let packed_bytes = self.packer.pack(literals, output);
        *time = began.elapsed();
        let left = packed_bytes.unwrap_or(literals.len());
        self.controller.packed(literals.len(), left, *time);
        packed_bytes.filter(|_| pack)
    }

    /// Writes what stands before the literals.
    fn frames(
        &mut self,
        channel: Channel,
        start: usize,
        literal_bytes: usize,
        packed_bytes: Option<usize>,
    ) -> Frames {
        let operations = match self.operations.as_slice() {
            [Operation::Zeros(len_bytes)] => {
                self.zeros.clear();
                encode_zeros(channel, u64::from(*len_bytes), &mut self.zeros);
                return Frames::Zeros;
            }
            [Operation::Literal(_)] => &[],
            operations => operations,
        };
        if let Some(packed_bytes) = packed_bytes {
            self.traffic.packed_bytes += literal_bytes as u64;
            self.traffic.packed_to_bytes += packed_bytes as u64;
            let codec = Codec::Zstd;
            let before = &mut self.packed[..GAP_BYTES];
            let at = write_before(
                channel,
                operations,
                literal_bytes,
                codec,
                packed_bytes,
                before,
            );
            return Frames::Packed(at, GAP_BYTES + packed_bytes);
        }
        let before = &mut self.ring[start - GAP_BYTES..start];
        let at = if operations.is_empty() {
            let at = GAP_BYTES - HEADER_BYTES;
            before[at..].copy_from_slice(&data_header(channel, literal_bytes));
            at
        } else {
            let codec = Codec::Stored;
            write_before(
                channel,
                operations,
                literal_bytes,
                codec,
                literal_bytes,
                before,
            )
        };
        Frames::Ring(start - GAP_BYTES + at)
    }
}

/// What was measured of a block before it was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockTimes {
    pub(crate) stream_bytes: usize,
    literal_bytes: usize,
    pub(crate) wire_bytes: usize,
    began: Instant,
    handling: Duration,
}

impl Encoded<'_> {
    pub(crate) fn times(&self) -> BlockTimes {
        BlockTimes {
            stream_bytes: self.stream_bytes,
            literal_bytes: self.literal_bytes,
            wire_bytes: self.frames.len(),
            began: self.began,
            handling: self.handling,
        }
    }
}

enum Frames {
    /// In the ring, from here to the end of the literals.
    Ring(usize),
    /// In the buffer for what is packed, from here to there.
    Packed(usize, usize),
    Zeros,
}

/// Writes the header of a block's frame and what stands before the literals to the end of `before`; returns
/// where it begins.
fn write_before(
    channel: Channel,
    operations: &[Operation],
    literal_bytes: usize,
    codec: Codec,
    payload_bytes: usize,
    before: &mut [u8],
) -> usize {
    let lead_at = before.len() - LEAD_BYTES_MAX;
    let at = lead_at + encode_lead(operations, literal_bytes, codec, &mut before[lead_at..]);
    let header = block_header(channel, before.len() - at + payload_bytes);
    before[at - HEADER_BYTES..at].copy_from_slice(&header);
    at - HEADER_BYTES
}

#[cfg(test)]
mod tests;
