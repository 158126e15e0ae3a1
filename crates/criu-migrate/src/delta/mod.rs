//! Pages told by what changed in them since a round before.
//!
//! A page that was written to is mostly the same as before: a counter, a pointer, a few records. The source keeps,
//! of every page it sent in a round, a hash of each [`PIECE_BYTES`] ([`sent`]); of the page sent next it sends the
//! pieces whose hashes differ. The destination takes the others from the images of the rounds before
//! ([`bases`]): neither side keeps a second copy of the memory.
//!
//! The hashes are keyed with a secret of this migration, so that nobody can make pieces that only look alike, and a
//! page that was put together wrongly is noticed: its [`check`] comes along.

pub(crate) mod bases;
pub(crate) mod sent;
#[cfg(test)]
mod tests;

use crate::page_stream::PAGE_BYTES;

/// What a page is told in.
pub(crate) const PIECE_BYTES: usize = 256;
/// Pieces of a page.
pub(crate) const PIECES: usize = PAGE_BYTES / PIECE_BYTES;

/// The pieces of a page that changed, the first in the lowest bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pieces(pub(crate) u16);

const _: () = assert!(PIECES == u16::BITS as usize);

impl Pieces {
    /// Bytes of those that changed.
    pub(crate) const fn len_bytes(self) -> usize {
        self.0.count_ones() as usize * PIECE_BYTES
    }

    /// For each piece, whether it changed.
    pub(crate) fn each(self) -> impl Iterator<Item = bool> {
        (0..u16::BITS).map(move |bit| self.0 >> bit & 1 == 1)
    }
}

/// What tells whether a page is what it was on the source.
pub(crate) fn check(page: &[u8]) -> u32 {
    let hash = twox_hash::XxHash3_64::oneshot(page);
    // Its lower half, all of which is as good.
    (hash & u64::from(u32::MAX)).try_into().unwrap_or_default()
}
