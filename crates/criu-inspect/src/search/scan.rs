//! Searches a piece of a space.

use std::ops::Range;

use criu_image::Error;
use criu_image::memory::{AddressSpace, Content, Span};

use super::cursor::is_stored;
use super::window::Window;
use super::{Match, Pattern};

/// Searches pieces one by one.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    space: &'a AddressSpace,
    pattern: &'a Pattern,
    /// First address that a match may begin at.
    lowest: u64,
    window: Window<'a>,
    text: Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(
        space: &'a AddressSpace,
        pattern: &'a Pattern,
        addresses: &Range<u64>,
    ) -> Self {
        Self {
            space,
            pattern,
            lowest: addresses.start,
            window: Window::new(space, pattern.reach()),
            text: Vec::new(),
        }
    }

    /// The matches that begin in a piece, or in the zeros in front of it, at `floor` or behind.
    ///
    /// A piece begins and ends where bytes are in the images.
    pub(super) fn scan(&mut self, piece: &Range<u64>, floor: u64) -> Result<Vec<Match>, Error> {
        let mut matches = Vec::new();
        let mut from = floor.max(self.lowest);
        let mut spans = self.space.spans(piece.clone()).peekable();
        while let Some(span) = spans.next() {
            if !is_stored(span.content) {
                continue;
            }
            let mut run = span.start..span.end;
            while let Some(next) =
                spans.next_if(|next| next.start == run.end && is_stored(next.content))
            {
                run.end = next.end;
            }
            let mut lead = self.zeros_before(run.start);
            while !run.is_empty() {
                let end = run.end.min(run.start.saturating_add(self.step()));
                self.scan_run(run.start..end, lead, &mut from, &mut matches)?;
                run.start = end;
                lead = 0;
            }
        }
        Ok(matches)
    }

    /// Searches bytes side by side that are in the images, and `lead` zeros in front of them.
    fn scan_run(
        &mut self,
        run: Range<u64>,
        lead: u64,
        from: &mut u64,
        matches: &mut Vec<Match>,
    ) -> Result<(), Error> {
        let first = run.start - lead;
        let start = first - self.known_before(first, self.pattern.behind());
        let end = self.known_up_to(run.end);
        self.load(start..end)?;
        // Offsets fit: the text is in memory.
        let offset = |address: u64| usize::try_from(address - start).unwrap_or(usize::MAX);
        let starts = offset(run.end);
        let mut at = offset(first.max(*from).min(run.end));
        while let Some((found, len)) = self.pattern.find(&self.text, at, starts) {
            let address = start + found as u64;
            let byte_len = len as u64;
            if address + byte_len <= run.start {
                // Zeros only, which are in no image.
                at = found + 1;
                continue;
            }
            matches.push(Match { address, byte_len });
            at = found + len;
            *from = address + byte_len;
            if at >= starts {
                break;
            }
        }
        Ok(())
    }

    /// Reads addresses whose bytes are all known.
    fn load(&mut self, addresses: Range<u64>) -> Result<(), Error> {
        let len = usize::try_from(addresses.end - addresses.start).unwrap_or_default();
        // Most texts are as long as the last, so next to nothing is cleared.
        self.text.resize(len, 0);
        let mut at = 0;
        for span in self.space.spans(addresses) {
            let len = usize::try_from(span.byte_len()).unwrap_or_default();
            self.window.read(span, &mut self.text[at..at + len])?;
            at += len;
        }
        Ok(())
    }

    /// How many bytes of never written memory lie right before an address, as far as they count.
    fn zeros_before(&self, address: u64) -> u64 {
        let margin = self.pattern.margin();
        self.side_by_side_before(address, margin, |span| span.content == Content::Zero)
    }

    /// How many known bytes lie right before an address, up to a limit.
    fn known_before(&self, address: u64, limit: u64) -> u64 {
        self.side_by_side_before(address, limit, |span| span.content.is_known())
    }

    fn side_by_side_before(
        &self,
        address: u64,
        limit: u64,
        is_wanted: impl Fn(&Span) -> bool,
    ) -> u64 {
        if limit == 0 {
            return 0;
        }
        // Where the last stretch of wanted spans begins, and where it ends.
        let mut last = address..address;
        let mut is_unbroken = false;
        for span in self.space.spans(address.saturating_sub(limit)..address) {
            if !is_wanted(&span) {
                is_unbroken = false;
                continue;
            }
            if !is_unbroken || last.end != span.start {
                last.start = span.start;
            }
            last.end = span.end;
            is_unbroken = true;
        }
        match is_unbroken && last.end == address {
            true => address - last.start,
            false => 0,
        }
    }

    /// Up to which address behind a run bytes are known and count.
    fn known_up_to(&self, address: u64) -> u64 {
        let limit = address.saturating_add(self.pattern.reach());
        let mut end = address;
        for span in self.space.spans(address..limit) {
            if span.start != end || !span.content.is_known() {
                break;
            }
            end = span.end;
            let margin = self.pattern.margin();
            if span.content == Content::Zero && span.byte_len() > margin {
                return span.start + margin;
            }
        }
        end
    }

    /// Bytes searched at once: few enough to stay in the cache that they were read into, and many
    /// against those read twice.
    fn step(&self) -> u64 {
        match self.pattern.reach() {
            short if short < 16 * 1024 => 256 * 1024,
            _ => 512 * 1024,
        }
    }
}
