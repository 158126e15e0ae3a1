//! Cuts a space into pieces to search.

use std::ops::Range;

use criu_image::memory::{AddressSpace, Content, Spans};

use super::Piece;

/// How much of a space was searched, and how much could not be, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// In the images.
    pub searched: u64,
    /// Never written to.
    pub zero: u64,
    /// Unchanged in mapped files.
    pub in_files: u64,
    /// Left in the source task by a lazy dump.
    pub lazy: u64,
    /// Should be in the images, and is not.
    pub missing: u64,
    /// The kernel's, a device's, or a plugin's.
    pub other: u64,
}

/// Goes over a space from piece to piece.
pub(super) struct Cursor<'a> {
    spans: Spans<'a>,
    /// What is left of a span that was cut.
    rest: Range<u64>,
    tally: Tally,
    is_small: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(space: &'a AddressSpace, addresses: Range<u64>) -> Self {
        let spans = space.spans(addresses);
        let mut len = 0u64;
        let is_small = !spans.clone().any(|span| {
            if is_stored(span.content) {
                len = len.saturating_add(span.byte_len());
            }
            len > PIECE_LEN
        });
        Self {
            spans,
            rest: 0..0,
            tally: Tally::default(),
            is_small,
        }
    }

    /// Returns whether there is just one piece.
    pub(super) fn is_small(&self) -> bool {
        self.is_small
    }

    /// What was gone over so far.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }
}

impl Iterator for Cursor<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let mut addresses: Option<Range<u64>> = None;
        let mut byte_len = 0;
        while byte_len < PIECE_LEN {
            let stored = if self.rest.is_empty() {
                let Some(span) = self.spans.next() else { break };
                let count = match span.content {
                    content if is_stored(content) => &mut self.tally.searched,
                    Content::Zero => &mut self.tally.zero,
                    Content::File { .. } => &mut self.tally.in_files,
                    Content::Lazy => &mut self.tally.lazy,
                    Content::Missing => &mut self.tally.missing,
                    _ => &mut self.tally.other,
                };
                // Areas do not overlap, so the sum is within the address space.
                *count += span.byte_len();
                if !is_stored(span.content) {
                    continue;
                }
                span.start..span.end
            } else {
                self.rest.clone()
            };
            let len = (stored.end - stored.start).min(PIECE_LEN - byte_len);
            let end = stored.start + len;
            byte_len += len;
            self.rest = end..stored.end;
            addresses.get_or_insert(stored.start..end).end = end;
        }
        Some(Piece {
            addresses: addresses?,
            byte_len,
        })
    }
}

/// Returns whether bytes are in a pages file.
pub(super) fn is_stored(content: Content) -> bool {
    matches!(content, Content::Stored { .. } | Content::Compressed { .. })
}

/// Bytes of a piece: enough that handing it out costs next to nothing.
const PIECE_LEN: u64 = 512 * 1024;
