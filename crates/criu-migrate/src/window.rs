//! The window: what was sent last, kept alike on both sides, so that it need not be sent twice.
//!
//! Both sides keep the literals of the last [`WINDOW_BYTES`]. A reference names a place there, and is only made
//! where the bytes were compared: unlike a hash it cannot be wrong about memory. Memory is bounded on both
//! sides, and a reference beyond the window is an error. What it cannot find are duplicates further apart than
//! the window: only a hash of every page ever sent could, and the destination would have to read them back.
//!
//! Places are counted from the beginning of the connection. Each block begins [`GAP_BYTES`] after the one before
//! and wholly within one turn of the ring that the sender keeps its literals in: it reads a stream to where it
//! stays, and writes what stands before the literals in front of them, so that nothing is copied. Literals
//! shorter than a page do not enter: no reference to them would be shorter than they are.

use std::collections::VecDeque;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::block::{BLOCK_BYTES_MAX, Block, BlockProblem, Codec, LEAD_BYTES_MAX, Operation};
use crate::compression::Unpacker;
use crate::delta::bases::Bases;
use crate::frame::{Channel, HEADER_BYTES};

/// How far back a reference can reach, at most.
pub(crate) const WINDOW_BYTES: usize = 16 << 20;
/// What is left free before the literals of a block.
pub(crate) const GAP_BYTES: usize = 4096;
/// Literals fewer than this do not enter the window.
pub(crate) const ENTERS_BYTES_MIN: usize = 4096;

const _: () = assert!(GAP_BYTES >= HEADER_BYTES + LEAD_BYTES_MAX);
const _: () = assert!(WINDOW_BYTES <= i32::MAX as usize);

/// Counts places, in the same way on both sides.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    next: u64,
}

impl Cursor {
    /// Where the first literal of the present block is.
    pub(crate) fn start(self) -> u64 {
        let room = (GAP_BYTES + BLOCK_BYTES_MAX) as u64;
        let within = self.next % WINDOW_BYTES as u64;
        let block = match within + room <= WINDOW_BYTES as u64 {
            true => self.next,
            // It would not fit into this turn.
            false => self.next - within + WINDOW_BYTES as u64,
        };
        block + GAP_BYTES as u64
    }

    /// The first place that is not overwritten by the present block, however long it becomes.
    pub(crate) fn oldest(self) -> u64 {
        (self.start() + BLOCK_BYTES_MAX as u64).saturating_sub(WINDOW_BYTES as u64)
    }

    /// Ends the present block.
    pub(crate) fn advance(&mut self, literal_bytes: usize) {
        if literal_bytes >= ENTERS_BYTES_MIN {
            self.next = self.start() + literal_bytes as u64;
        }
    }
}

/// Where a place lies in the ring.
pub(crate) fn ring_index(place: u64) -> usize {
    // Less than the window, which fits.
    usize::try_from(place % WINDOW_BYTES as u64).unwrap_or(0)
}

/// Bytes with several owners.
#[derive(Debug, Clone)]
pub(crate) struct SharedBytes {
    buffer: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl SharedBytes {
    fn new(buffer: Vec<u8>, start: usize) -> Self {
        let range = start..buffer.len();
        Self {
            buffer: Arc::new(buffer),
            range,
        }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

impl SharedBytes {
    /// Part of them.
    pub(crate) fn part(&self, part: Range<usize>) -> Self {
        let at = |offset: usize| (self.range.start + offset).min(self.range.end);
        Self {
            buffer: Arc::clone(&self.buffer),
            range: at(part.start)..at(part.end),
        }
    }
}

impl PartialEq for SharedBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedBytes {}

/// Makes a stream again of what arrives.
#[derive(Debug, Default)]
pub(crate) struct Expander {
    cursor: Cursor,
    /// What may be referred to, and its first place, in order.
    window: VecDeque<(u64, SharedBytes)>,
    unpacker: Unpacker,
    /// What pages may be made of, for as long as they come.
    bases: Option<Bases>,
    /// Buffers nobody uses any more.
    spare: VecDeque<Vec<u8>>,
    /// Streams that were put together last: who they went to is done with the first of them by now.
    streams: VecDeque<Arc<Vec<u8>>>,
}

/// How many buffers are kept for the next frames: more than leave the window at once.
const SPARE_BUFFERS: usize = 16;
/// Buffers have lengths that are multiples of this, so that one fits in the place of another.
const BUFFER_STEP_BYTES: usize = 32 << 10;
/// How many streams are remembered: a few more than a queue holds.
const STREAMS: usize = 12;

impl Expander {
    /// A buffer of that length with anything in it, for the body of a frame.
    pub(crate) fn buffer(&mut self, len_bytes: usize) -> Vec<u8> {
        // A fresh page costs more than what is written to it. A small frame must not hold on to a large buffer.
        let (capacity, most) = match len_bytes < BUFFER_STEP_BYTES {
            true => (len_bytes, len_bytes * 2),
            false => [len_bytes.next_multiple_of(BUFFER_STEP_BYTES); 2].into(),
        };
        let fits = |buffer: &Vec<u8>| (len_bytes..=most).contains(&buffer.capacity());
        let mut buffer = match self.spare.iter().rposition(fits) {
            Some(at) => self.spare.remove(at).unwrap_or_default(),
            None => Vec::with_capacity(capacity),
        };
        buffer.resize(len_bytes, 0);
        buffer
    }

    /// What pages may refer to from now on, up to the end of their stream.
    pub(crate) fn build_upon(&mut self, bases: Option<Bases>) {
        self.bases = bases;
    }

    /// Takes zero bytes of a channel.
    pub(crate) fn zeros(&mut self, channel: Channel, mut len_bytes: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while let Some(bases) = self.bases.as_mut().filter(|_| channel == Channel::Pages)
            && len_bytes > 0
        {
            let now = usize::try_from(len_bytes).map_or(ZEROS.len(), |len| len.min(ZEROS.len()));
            bases.pass(&ZEROS[..now]);
            len_bytes -= now as u64;
        }
    }

    /// Takes the body of a channel's data frame.
    pub(crate) fn data(&mut self, channel: Channel, bytes: Vec<u8>) -> SharedBytes {
        let literals = SharedBytes::new(bytes, 0);
        if let Some(bases) = self.bases.as_mut().filter(|_| channel == Channel::Pages) {
            bases.pass(&literals);
        }
        self.enter(&literals);
        literals
    }

    /// Expands a block to the bytes of the stream, and gives what they are made of; nothing if of literals only.
    pub(crate) fn block(
        &mut self,
        channel: Channel,
        mut block: Block,
    ) -> Result<(SharedBytes, Vec<Operation>), BlockProblem> {
        let operations = block.take_operations();
        let literals = match block.codec() {
            Codec::Stored => {
                let (body, payload_at) = block.into_body();
                SharedBytes::new(body, payload_at)
            }
            Codec::Zstd => {
                let mut literals = self.buffer(block.literal_bytes());
                self.unpacker.unpack(block.payload(), &mut literals)?;
                self.keep_spare(block.into_body().0);
                SharedBytes::new(literals, 0)
            }
        };
        let mut bases = match channel {
            Channel::Pages => self.bases.take(),
            Channel::Image | Channel::Files => None,
        };
        let stream = match operations.as_slice() {
            [] | [Operation::Literal(_)] => {
                if let Some(bases) = &mut bases {
                    bases.pass(&literals);
                }
                literals.clone()
            }
            operations => {
                let mut stream = self.stream_buffer();
                self.follow(operations, &literals, bases.as_mut(), &mut stream)?;
                let stream = SharedBytes::new(stream, 0);
                self.streams.push_back(Arc::clone(&stream.buffer));
                stream
            }
        };
        if bases.is_some() {
            self.bases = bases;
        }
        self.enter(&literals);
        Ok((stream, operations))
    }

    /// An empty buffer for a stream: one that whoever had it is done with, if there is one.
    fn stream_buffer(&mut self) -> Vec<u8> {
        if self.streams.len() < STREAMS {
            return Vec::new();
        }
        let oldest = self.streams.pop_front().map(Arc::try_unwrap);
        let mut buffer = oldest.and_then(Result::ok).unwrap_or_default();
        buffer.clear();
        buffer
    }

    fn follow(
        &self,
        operations: &[Operation],
        literals: &[u8],
        mut bases: Option<&mut Bases>,
        stream: &mut Vec<u8>,
    ) -> Result<(), BlockProblem> {
        // At most what a block may stand for: it was checked when it was read.
        let len_bytes = operations
            .iter()
            .map(|operation| operation.len_bytes() as usize);
        stream.reserve_exact(len_bytes.sum());
        let mut rest = literals;
        let mut passed = 0;
        for operation in operations {
            let (now, later) = rest.split_at(rest.len().min(operation.literal_bytes()));
            rest = later;
            match *operation {
                Operation::Literal(_) => stream.extend_from_slice(now),
                Operation::Zeros(len_bytes) => {
                    stream.resize(stream.len() + len_bytes as usize, 0);
                }
                Operation::Copy { len_bytes, from } => {
                    let bytes = self.look_up(len_bytes as usize, from, literals);
                    let problem = BlockProblem::Reference { len_bytes, from };
                    stream.extend_from_slice(bytes.ok_or(problem)?);
                }
                Operation::Patch { changed, check } => {
                    let problem = BlockProblem::Base("nothing was sent before");
                    let bases = bases.as_mut().ok_or(problem)?;
                    bases.pass(&stream[passed..]);
                    passed = stream.len();
                    stream.extend_from_slice(&bases.patch(changed, now, check)?);
                }
            }
        }
        if let Some(bases) = bases {
            bases.pass(&stream[passed..]);
        }
        Ok(())
    }

    fn look_up<'a>(&'a self, len_bytes: usize, from: i32, literals: &'a [u8]) -> Option<&'a [u8]> {
        if let Ok(from) = usize::try_from(from) {
            return literals.get(from..)?.get(..len_bytes);
        }
        let place = self.cursor.start().checked_add_signed(from.into())?;
        if place < self.cursor.oldest() {
            return None;
        }
        let after = self.window.partition_point(|(start, _)| *start <= place);
        let (start, bytes) = self.window.get(after.checked_sub(1)?)?;
        let from = usize::try_from(place - start).ok()?;
        bytes.get(from..)?.get(..len_bytes)
    }

    fn enter(&mut self, literals: &SharedBytes) {
        if literals.len() < ENTERS_BYTES_MIN {
            return;
        }
        self.window
            .push_back((self.cursor.start(), literals.clone()));
        self.cursor.advance(literals.len());
        while let Some((start, bytes)) = self.window.front()
            && start + (bytes.len() as u64) <= self.cursor.oldest()
        {
            let Some((_, bytes)) = self.window.pop_front() else {
                break;
            };
            // Unless somebody is still busy with it.
            if let Ok(buffer) = Arc::try_unwrap(bytes.buffer) {
                self.keep_spare(buffer);
            }
        }
    }

    fn keep_spare(&mut self, buffer: Vec<u8>) {
        // The oldest goes: its length is not asked for any more.
        if self.spare.len() == SPARE_BUFFERS {
            self.spare.pop_front();
        }
        self.spare.push_back(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::encode_lead;

    fn block(operations: &[Operation], literals: &[u8]) -> Block {
        let mut lead = vec![0; LEAD_BYTES_MAX];
        let at = encode_lead(operations, literals.len(), Codec::Stored, &mut lead);
        Block::decode([&lead[at..], literals].concat()).unwrap()
    }

    fn copy(len_bytes: usize, from: i64) -> Operation {
        Operation::Copy {
            len_bytes: u32::try_from(len_bytes).unwrap(),
            from: i32::try_from(from).unwrap(),
        }
    }

    #[test]
    fn references_reach_earlier_blocks_and_their_own_and_nothing_else() {
        let mut expander = Expander::default();
        expander.data(Channel::Image, vec![1; 5000]);
        // Too short to be referred to.
        expander.data(Channel::Image, vec![2; ENTERS_BYTES_MIN - 1]);
        let back = -i64::try_from(5000 + GAP_BYTES).unwrap();
        let refused = |expander: &mut Expander, len_bytes, from| {
            let operations = [copy(len_bytes, from), Operation::Literal(5)];
            expander
                .block(Channel::Image, block(&operations, b"abcde"))
                .is_err()
        };
        for (len_bytes, from) in [
            // Around the block before: its ends, and the gap.
            (1, back - 1),
            (5001, back),
            (1, back + 5000),
            (1, -1),
            // Around its own literals.
            (6, 0),
            (2, 4),
            (1, 5),
            (1, i64::from(i32::MAX)),
            (1, i64::from(i32::MIN)),
        ] {
            assert!(
                refused(&mut expander, len_bytes, from),
                "{len_bytes} at {from}"
            );
        }
        let operations = [
            copy(2, 3),
            Operation::Literal(4),
            Operation::Zeros(1),
            copy(2, back + 4998),
            Operation::Literal(1),
        ];
        let (stream, _) = expander
            .block(Channel::Image, block(&operations, b"abcde"))
            .unwrap();
        assert_eq!(&*stream, b"deabcd\0\x01\x01e");
    }

    #[test]
    fn a_stream_somebody_still_has_is_not_overwritten() {
        let mut expander = Expander::default();
        let mut held = Vec::new();
        for number in 0..60_u8 {
            let operations = [Operation::Literal(2), Operation::Zeros(1)];
            let (stream, _) = expander
                .block(Channel::Image, block(&operations, &[number; 2]))
                .unwrap();
            if number % 3 == 0 {
                held.push((number, stream));
            }
        }
        for (number, stream) in held {
            assert_eq!(&*stream, [number, number, 0]);
        }
    }

    #[test]
    fn a_buffer_is_used_again_for_what_is_about_as_long_and_for_nothing_much_shorter() {
        let mut expander = Expander::default();
        for (before, after, again) in [
            (200_000, 210_000, true),
            (210_000, 200_000, true),
            (200_000, 100_000, false),
            (5000, 4100, true),
            (9000, 4100, false),
        ] {
            expander.spare.clear();
            let buffer = expander.buffer(before);
            expander.keep_spare(buffer);
            let buffer = expander.buffer(after);
            assert_eq!(buffer.len(), after);
            assert_eq!(expander.spare.is_empty(), again, "{before} {after}");
        }
    }

    #[test]
    fn the_window_ends_where_the_sender_overwrites_it_and_holds_no_more() {
        let mut expander = Expander::default();
        let mut cursor = Cursor::default();
        for number in 0..500_usize {
            // Lengths of all kinds, so that turns end anywhere.
            let len_bytes = [BLOCK_BYTES_MAX, 4096, 100_000, 4095][number % 4];
            expander.data(
                Channel::Image,
                vec![u8::try_from(number % 251).unwrap(); len_bytes],
            );
            cursor.advance(len_bytes);
            let held: usize = expander.window.iter().map(|(_, bytes)| bytes.len()).sum();
            assert!(held <= WINDOW_BYTES, "{held}");
        }
        assert_eq!(expander.cursor.start(), cursor.start());
        let back = |place: u64| -i64::try_from(cursor.start() - place).unwrap();
        let find = |place: u64| {
            let from = i32::try_from(back(place)).unwrap();
            expander.look_up(1, from, &[]).map(<[u8]>::to_vec)
        };
        let (first, bytes) = expander.window.front().unwrap();
        let inside = (*first).max(cursor.oldest());
        assert_eq!(find(inside), Some(vec![bytes[0]]));
        assert_eq!(find(cursor.oldest() - 1), None);
        let (last, bytes) = expander.window.back().unwrap();
        assert_eq!(find(*last), Some(vec![bytes[0]]));
        // Every block lies within one turn, with its gap.
        for (start, bytes) in &expander.window {
            let turn = WINDOW_BYTES as u64;
            assert!(start % turn >= GAP_BYTES as u64);
            assert!(start % turn + bytes.len() as u64 <= turn);
        }
    }
}
