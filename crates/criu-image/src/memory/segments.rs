//! Segments in half of the memory that they take as structs: large tasks have very many.

use super::PageSize;
use super::store::{Place, Segment};

/// Segments by ascending address.
#[derive(Debug)]
pub(super) struct Segments {
    page: u64,
    packed: Vec<Packed>,
    /// Those that cannot be packed.
    odd: Vec<Segment>,
}

/// A segment of whole pages that are at whole pages, as nearly all are.
#[derive(Clone, Copy, Debug)]
struct Packed {
    /// First address; the bits that are zero in addresses of pages have the tag and the level.
    start: u64,
    page_count: u32,
    /// The first page in the pages file, the run of blocks, or the place among the odd ones.
    at: u32,
}

impl Segments {
    /// No segments yet, with room for some.
    pub(super) fn with_capacity(page_size: PageSize, capacity: usize) -> Self {
        Self {
            page: page_size.bytes(),
            packed: Vec::with_capacity(capacity),
            odd: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.packed.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    pub(super) fn last(&self) -> Option<Segment> {
        self.packed.last().map(|&packed| self.unpack(packed))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Segment> {
        self.packed.iter().map(|&packed| self.unpack(packed))
    }

    /// The segment that holds an address, or else where the next one begins.
    pub(super) fn find(&self, address: u64) -> Result<Segment, Option<u64>> {
        let behind = self
            .packed
            .partition_point(|&packed| self.start(packed) <= address);
        if let Some(before) = behind.checked_sub(1) {
            let segment = self.unpack(self.packed[before]);
            if address < segment.end {
                return Ok(segment);
            }
        }
        Err(self.packed.get(behind).map(|&next| self.start(next)))
    }

    /// Adds a segment, or lengthens the last one if it goes on there.
    pub(super) fn push(&mut self, mut segment: Segment) {
        if let Some(last) = self.last()
            && last.end == segment.start
            && last.from(segment.start).place == segment.place
        {
            let end = segment.end;
            segment = Segment { end, ..last };
            if self.packed.pop().is_some_and(|packed| packed.is_odd()) {
                self.odd.pop();
            }
        }
        let packed = self.pack(segment).unwrap_or_else(|| {
            // More than 2^32 would not fit into memory.
            let at = u32::try_from(self.odd.len()).unwrap_or(u32::MAX);
            self.odd.push(segment);
            Packed {
                start: segment.start & !TAG_BITS | ODD,
                page_count: 0,
                at,
            }
        });
        self.packed.push(packed);
    }

    /// Puts segments in order that were added in another.
    pub(super) fn sort(&mut self) {
        if self.packed.is_sorted_by_key(|&packed| self.start(packed)) {
            return;
        }
        let mut segments: Vec<Segment> = self.iter().collect();
        segments.sort_by_key(|segment| segment.start);
        self.packed.clear();
        self.odd.clear();
        for segment in segments {
            self.push(segment);
        }
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.packed.shrink_to_fit();
        self.odd.shrink_to_fit();
    }

    fn start(&self, packed: Packed) -> u64 {
        match packed.is_odd() {
            true => self.odd[packed.at as usize].start,
            false => packed.start & !TAG_BITS,
        }
    }

    fn pack(&self, segment: Segment) -> Option<Packed> {
        let Segment { start, end, place } = segment;
        let pages = |bytes: u64| {
            let is_whole = bytes.is_multiple_of(self.page);
            is_whole.then(|| u32::try_from(bytes / self.page).ok())?
        };
        let (tag, level, at) = match place {
            Place::Stored { level, position } => (STORED, level, pages(position)?),
            Place::Blocks { level, run } => (BLOCKS, level, run),
            Place::Lazy => (LAZY, 0, 0),
            Place::Missing => (MISSING, 0, 0),
        };
        let is_usual = start.is_multiple_of(self.page) && level < LEVEL_LIMIT;
        is_usual.then_some(Packed {
            start: start | u64::from(level) << LEVEL_SHIFT | tag,
            page_count: pages(end - start)?,
            at,
        })
    }

    fn unpack(&self, packed: Packed) -> Segment {
        let Packed {
            start,
            page_count,
            at,
        } = packed;
        // Fits, as it comes from the twelve lowest bits.
        let level = u32::try_from((start & TAG_BITS) >> LEVEL_SHIFT).unwrap_or_default();
        let place = match start & TAG {
            STORED => Place::Stored {
                level,
                position: u64::from(at) * self.page,
            },
            BLOCKS => Place::Blocks { level, run: at },
            LAZY => Place::Lazy,
            MISSING => Place::Missing,
            _ => return self.odd[at as usize],
        };
        let start = start & !TAG_BITS;
        Segment {
            start,
            end: start + u64::from(page_count) * self.page,
            place,
        }
    }
}

impl Packed {
    fn is_odd(self) -> bool {
        self.start & TAG == ODD
    }
}

/// Bits of an address that are zero where a page begins, whatever the size of pages.
const TAG_BITS: u64 = 0xfff;

/// Of those, the ones that tell what the place is; the others have the level.
const TAG: u64 = 0b111;
const LEVEL_SHIFT: u32 = TAG.count_ones();
const LEVEL_LIMIT: u32 = 1 << (TAG_BITS.count_ones() - LEVEL_SHIFT);

const STORED: u64 = 0;
const BLOCKS: u64 = 1;
const LAZY: u64 = 2;
const MISSING: u64 = 3;
const ODD: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(list: &[Segment]) -> Segments {
        let mut segments = Segments::with_capacity(PageSize::DEFAULT, 0);
        for &segment in list {
            segments.push(segment);
        }
        segments.sort();
        segments
    }

    #[test]
    fn a_packed_segment_takes_sixteen_bytes() {
        assert_eq!(size_of::<Packed>(), 16);
    }

    #[test]
    fn segments_come_back_however_odd_they_are() {
        let stored = |level, position| Place::Stored { level, position };
        let places = [
            stored(0, 0),
            stored(3, 0x7000),
            stored(511, 0x1000),
            stored(512, 0x1000),
            stored(0, 12),
            stored(0, 1 << 45),
            Place::Blocks { level: 1, run: 7 },
            Place::Blocks {
                level: 9999,
                run: 7,
            },
            Place::Lazy,
            Place::Missing,
        ];
        let mut list = Vec::new();
        for (index, place) in (0u64..).zip(places) {
            let base = index << 48;
            for (start, end) in [
                (0, 0x1000),
                (0x2000, 0x2001),
                (0x2801, 0x3000),
                (0x4000, 1 << 45),
            ] {
                let (start, end) = (base + start, base + end);
                list.push(Segment { start, end, place });
            }
        }
        let ascending = segments(&list);
        assert_eq!(ascending.iter().collect::<Vec<_>>(), list);
        for (segment, next) in list.iter().zip(list.iter().skip(1)) {
            for address in [segment.start, segment.end - 1] {
                assert_eq!(ascending.find(address), Ok(*segment));
            }
            assert_eq!(ascending.find(segment.end), Err(Some(next.start)));
        }
        assert_eq!(ascending.find(u64::MAX), Err(None));
        list.reverse();
        let sorted = segments(&list);
        list.reverse();
        assert_eq!(sorted.iter().collect::<Vec<_>>(), list);
    }

    #[test]
    fn what_goes_on_is_one_segment_odd_or_not() {
        for first in [0, 12] {
            let part = |start, end| Segment {
                start,
                end,
                place: Place::Stored {
                    level: 0,
                    position: first + start,
                },
            };
            let parts = [part(0x3000, 0x4000), part(0, 0x1000), part(0x1000, 0x3000)];
            let joined = segments(&parts);
            assert_eq!(joined.iter().collect::<Vec<_>>(), [part(0, 0x4000)]);
            assert_eq!(joined.odd.len(), usize::from(first != 0));
        }
    }
}
