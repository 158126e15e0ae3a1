//! What the bytes of a block are made of.

use crate::block::{OPERATIONS_MAX, Operation};
use crate::delta::{self, PIECE_BYTES, Pieces};
use crate::page_stream::PAGE_BYTES;
use crate::sparse::{is_zero, next_zero_run};
use crate::window::{Cursor, WINDOW_BYTES, ring_index};

/// Takes the bytes of one block apart.
pub(super) struct Apart<'a> {
    pub(super) ring: &'a mut [u8],
    pub(super) seen: &'a mut SeenPages,
    pub(super) operations: &'a mut Vec<Operation>,
    pub(super) cursor: Cursor,
    /// Where the block begins in the ring.
    pub(super) start: usize,
    /// How much of it was looked at.
    pub(super) at: usize,
    /// How many literals there are so far, closed up.
    pub(super) literal_bytes: usize,
    pub(super) spared: Spared,
}

/// Bytes that need not be sent, by why.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spared {
    pub(super) zero_bytes: usize,
    pub(super) duplicate_bytes: usize,
    pub(super) unchanged_bytes: usize,
}

/// Where pages were last, by their fingerprints; made when first used.
#[derive(Debug, Default)]
pub(super) struct SeenPages(Vec<[Seen; SEEN_WAYS]>);

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    fingerprint: u64,
    place: u64,
}

/// As many sets as there are pages in the window, of so many places each: pages hardly ever crowd each other out.
const SEEN_SETS: usize = WINDOW_BYTES / PAGE_BYTES;
const SEEN_WAYS: usize = 4;
/// Of a page in which more changed all is sent, which packs better.
const PATCH_BYTES_MAX: usize = PAGE_BYTES / 4 * 3;

/// Operations are kept below this, so that the last can always be literals.
const OPERATIONS_KEPT: usize = OPERATIONS_MAX - 2;

impl SeenPages {
    fn set(&mut self, fingerprint: u64) -> &mut [Seen; SEEN_WAYS] {
        if self.0.is_empty() {
            self.0 = vec![[Seen::default(); SEEN_WAYS]; SEEN_SETS];
        }
        let set = usize::try_from(fingerprint >> 32).unwrap_or(0) % SEEN_SETS;
        &mut self.0[set]
    }
}

impl Apart<'_> {
    /// Takes bytes that are no whole page.
    pub(super) fn other(&mut self, len_bytes: usize) {
        let end = self.at + len_bytes;
        while self.at < end {
            let rest = &self.ring[self.start + self.at..self.start + end];
            match next_zero_run(rest, 0) {
                Some(run) if self.operations.len() < OPERATIONS_KEPT => {
                    self.literals(run.start);
                    self.zeros(run.len());
                }
                _ => self.literals(end - self.at),
            }
        }
    }

    /// Takes a page, and what changed in it since a round before.
    pub(super) fn page(&mut self, changed: Option<Pieces>) {
        let here = self.start + self.at;
        let page = &self.ring[here..here + PAGE_BYTES];
        if self.operations.len() >= OPERATIONS_KEPT {
            return self.literals(PAGE_BYTES);
        }
        if is_zero(page) {
            return self.zeros(PAGE_BYTES);
        }
        if let Some(changed) = changed
            && changed.len_bytes() <= PATCH_BYTES_MAX
        {
            return self.patch(changed);
        }
        let fingerprint = fingerprint(page);
        let seen = self.seen.set(fingerprint);
        let (block, oldest) = (self.cursor.start(), self.cursor.oldest().max(1));
        for seen in seen.iter() {
            if seen.fingerprint != fingerprint || seen.place < oldest {
                continue;
            }
            let there = ring_index(seen.place);
            let same = self.ring[there..there + PAGE_BYTES] == *page;
            // Both are less than the window apart, which fits.
            let from = i64::try_from(seen.place)
                .ok()
                .zip(i64::try_from(block).ok());
            let from = from.and_then(|(place, block)| i32::try_from(place - block).ok());
            if let Some(from) = from.filter(|_| same) {
                return self.copy(from);
            }
        }
        if let Some(last) = seen.iter_mut().min_by_key(|seen| seen.place) {
            *last = Seen {
                fingerprint,
                place: block + self.literal_bytes as u64,
            };
        }
        self.literals(PAGE_BYTES);
    }

    fn literals(&mut self, len_bytes: usize) {
        if len_bytes == 0 {
            return;
        }
        if self.at != self.literal_bytes {
            let from = self.start + self.at;
            let to = self.start + self.literal_bytes;
            self.ring.copy_within(from..from + len_bytes, to);
        }
        self.at += len_bytes;
        self.literal_bytes += len_bytes;
        match self.operations.last_mut() {
            Some(Operation::Literal(last)) => *last += length(len_bytes),
            _ => self.operations.push(Operation::Literal(length(len_bytes))),
        }
    }

    /// Keeps what changed of a page, side by side.
    fn patch(&mut self, changed: Pieces) {
        let page = self.start + self.at;
        let check = delta::check(&self.ring[page..page + PAGE_BYTES]);
        for (piece, _) in changed.each().enumerate().filter(|(_, changed)| *changed) {
            let from = page + piece * PIECE_BYTES;
            let to = self.start + self.literal_bytes;
            self.ring.copy_within(from..from + PIECE_BYTES, to);
            self.literal_bytes += PIECE_BYTES;
        }
        self.at += PAGE_BYTES;
        self.spared.unchanged_bytes += PAGE_BYTES - changed.len_bytes();
        self.operations.push(Operation::Patch { changed, check });
    }

    fn zeros(&mut self, len_bytes: usize) {
        self.at += len_bytes;
        self.spared.zero_bytes += len_bytes;
        match self.operations.last_mut() {
            Some(Operation::Zeros(last)) => *last += length(len_bytes),
            _ => self.operations.push(Operation::Zeros(length(len_bytes))),
        }
    }

    fn copy(&mut self, from: i32) {
        self.at += PAGE_BYTES;
        self.spared.duplicate_bytes += PAGE_BYTES;
        let added = length(PAGE_BYTES);
        match self.operations.last_mut() {
            // Blocks are apart: what lies side by side was sent in one.
            Some(Operation::Copy {
                len_bytes,
                from: last,
            }) if i64::from(*last) + i64::from(*len_bytes) == i64::from(from) => {
                *len_bytes += added;
            }
            _ => self.operations.push(Operation::Copy {
                len_bytes: added,
                from,
            }),
        }
    }
}

/// A length within a block, which fits.
fn length(len_bytes: usize) -> u32 {
    u32::try_from(len_bytes).unwrap_or(u32::MAX)
}

/// A number that equal pages share, and other pages rarely.
///
/// Only every 17th word is looked at: pages are compared before they are taken to be equal. Of a page that is
/// mostly empty all are: the 17th tell nothing there.
fn fingerprint(page: &[u8]) -> u64 {
    let (words, _) = page.as_chunks::<8>();
    let (mut hash, mut empty) = (0_u64, 0);
    for word in words.iter().step_by(17) {
        let word = u64::from_le_bytes(*word);
        empty += u32::from(word == 0);
        hash = mix(hash, word);
    }
    if empty <= 15 {
        return hash;
    }
    // Four at a time: each waits for the one before only.
    let mut hashes = [hash, 1, 2, 3];
    let (fours, _) = words.as_chunks::<4>();
    for four in fours {
        for (hash, word) in hashes.iter_mut().zip(four) {
            *hash = mix(*hash, u64::from_le_bytes(*word));
        }
    }
    hashes.into_iter().fold(hash, mix)
}

fn mix(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
