//! The pages of one task or shared memory object, over the whole chain of parents.

use std::path::Path;
use std::sync::Arc;

use super::PageSize;
use super::block;
use super::pagemap::{Level, RawPagemap, StoredBlock};
use super::segments::Segments;
use crate::checkpoint::{Checkpoint, RandomAccess};
use crate::error::{Error, ErrorKind, Result};
use crate::kind::ImageKind;

/// Where the bytes of every dumped address are.
#[derive(Debug)]
pub(super) struct PageStore {
    /// This checkpoint's pagemap, its parent's, and so on.
    levels: Vec<Level>,
    /// Without overlap.
    segments: Segments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Stored {
        level: u32,
        position: u64,
    },
    Blocks {
        level: u32,
        run: u32,
    },
    Lazy,
    /// In the parent; of a whole store, said to be there, where it is not.
    Missing,
}

/// What a lookup finds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found {
    /// The rest of a segment, from the address asked for.
    Segment(Segment),
    /// Nothing up to this address.
    GapTo(u64),
}

/// A block that was decoded last.
#[derive(Debug, Default)]
pub(super) struct BlockCache {
    key: Option<(usize, u32, StoredBlock)>,
    stored: Vec<u8>,
    decoded: Vec<u8>,
}

impl PageStore {
    /// Reads a pagemap with all that it needs of the parents; `None` if there is no such pagemap.
    pub(super) fn load(
        checkpoint: &Checkpoint,
        kind: ImageKind,
        id: u64,
        is_32_bit: bool,
        page_size: impl FnOnce(&RawPagemap) -> PageSize,
    ) -> Result<Option<(Self, PageSize)>> {
        let Some(first) = RawPagemap::read(checkpoint, kind, id, is_32_bit)? else {
            let Some(old) = RawPagemap::open_old(checkpoint, kind, id, is_32_bit)? else {
                return Ok(None);
            };
            let page_size = page_size(&old);
            return Ok(Some((
                Self::of(vec![old.place(page_size, 0)?], page_size),
                page_size,
            )));
        };
        let page_size = page_size(&first);
        let mut needs_parent = first.needs_parent();
        let mut levels = vec![first.place(page_size, 0)?];
        let mut depth = 0;
        let mut here = checkpoint.clone();
        while needs_parent {
            let Some(parent) = here.parent()? else { break };
            let Some(map) = RawPagemap::read(&parent, kind, id, is_32_bit)? else {
                break;
            };
            needs_parent = map.needs_parent();
            depth += 1;
            levels.push(map.place(page_size, depth)?);
            here = parent;
        }
        Ok(Some((Self::of(levels, page_size), page_size)))
    }

    /// Puts levels over each other, the newest first.
    fn of(mut levels: Vec<Level>, page_size: PageSize) -> Self {
        let mut segments = Segments::with_capacity(page_size, 0);
        for level in levels.iter_mut().rev() {
            let none = Segments::with_capacity(page_size, 0);
            let above = std::mem::replace(&mut level.segments, none);
            segments = match segments.is_empty() {
                true => above,
                false => resolve(&above, &segments, page_size),
            };
        }
        segments.shrink_to_fit();
        Self { levels, segments }
    }

    /// A store without pages.
    pub(super) fn empty() -> Self {
        Self {
            levels: Vec::new(),
            segments: Segments::with_capacity(PageSize::DEFAULT, 0),
        }
    }

    /// The address behind the last one that was dumped.
    pub(super) fn end(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.end)
    }

    /// Looks an address up.
    pub(super) fn find(&self, address: u64) -> Found {
        match self.segments.find(address) {
            Ok(segment) => Found::Segment(segment.from(address)),
            Err(next) => Found::GapTo(next.unwrap_or(u64::MAX)),
        }
    }

    /// The pages file of a level, with its path.
    pub(super) fn pages(&self, level: u32) -> Option<(&Arc<dyn RandomAccess>, &Path)> {
        let level = self.levels.get(level as usize)?;
        Some((level.pages.as_ref()?, &level.pages_path))
    }

    /// For each level, its pages file and the length that it should have, in bytes.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (&Arc<dyn RandomAccess>, &Path, u64)> {
        self.levels.iter().filter_map(|level| {
            Some((
                level.pages.as_ref()?,
                level.pages_path.as_path(),
                level.payload_len,
            ))
        })
    }

    /// Fills `out` from the start of a segment, which is at least as long.
    pub(super) fn fetch(
        &self,
        segment: Segment,
        out: &mut [u8],
        cache: &mut BlockCache,
    ) -> Result<()> {
        match segment.place {
            Place::Stored { level, position } => self.fetch_stored(level, position, out),
            Place::Blocks { level, run } => {
                let mut address = segment.start;
                let mut out = out;
                while !out.is_empty() {
                    let block = self.load_block(level, run, address, cache)?;
                    let skip = usize::try_from(address - block.start).unwrap_or(usize::MAX);
                    let bytes = cache.decoded.get(skip..).unwrap_or_default();
                    let count = bytes.len().min(out.len());
                    if count == 0 {
                        let detail = format!("no block holds {address:#x}");
                        return Err(ErrorKind::Inconsistent { detail }.into());
                    }
                    let (now, later) = out.split_at_mut(count);
                    now.copy_from_slice(&bytes[..count]);
                    address += count as u64;
                    out = later;
                }
                Ok(())
            }
            Place::Lazy | Place::Missing => {
                let detail = format!("no bytes at {:#x}", segment.start);
                Err(ErrorKind::Inconsistent { detail }.into())
            }
        }
    }

    fn load_block(
        &self,
        level: u32,
        run: u32,
        address: u64,
        cache: &mut BlockCache,
    ) -> Result<StoredBlock> {
        let here = &self.levels[level as usize];
        let block = here.block_at(&here.runs[run as usize], address);
        // The level's address tells stores apart that share a cache.
        let key = (std::ptr::from_ref(here).addr(), level, block);
        if cache.key == Some(key) {
            return Ok(block);
        }
        cache.key = None;
        // Both sizes were checked against the limit of a block.
        cache.stored.resize(block.stored_len as usize, 0);
        cache
            .decoded
            .resize(usize::try_from(block.len).unwrap_or(0), 0);
        self.fetch_stored(level, block.position, &mut cache.stored)?;
        block::decode(&cache.stored, &mut cache.decoded)
            .map_err(|error| error.in_file(&here.pages_path).at_byte(block.position))?;
        cache.key = Some(key);
        Ok(block)
    }

    fn fetch_stored(&self, level: u32, position: u64, out: &mut [u8]) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let here = &self.levels[level as usize];
        let Some(pages) = &here.pages else {
            return Err(Error::from(ErrorKind::Missing).in_file(&here.pages_path));
        };
        pages.read_exact_at(out, position).map_err(|source| {
            let expected = out.len() as u64;
            let found = pages.byte_len().saturating_sub(position).min(expected);
            match source.kind() {
                std::io::ErrorKind::UnexpectedEof => ErrorKind::Truncated {
                    what: "pages",
                    expected,
                    found,
                }
                .into(),
                _ => Error::io("read", source),
            }
            .in_file(&here.pages_path)
        })
    }
}

impl Segment {
    /// The part from an address on.
    pub(super) fn from(self, address: u64) -> Self {
        let place = match self.place {
            Place::Stored { level, position } => Place::Stored {
                level,
                position: position + (address - self.start),
            },
            other => other,
        };
        Self {
            start: address,
            end: self.end,
            place,
        }
    }
}

/// Puts a level's segments over those of the levels below.
fn resolve(above: &Segments, below: &Segments, page_size: PageSize) -> Segments {
    let mut segments = Segments::with_capacity(page_size, above.len());
    let mut below = below.iter().peekable();
    for segment in above.iter() {
        if segment.place != Place::Missing {
            segments.push(segment);
            continue;
        }
        let place = Place::Missing;
        let Segment {
            start: mut at, end, ..
        } = segment;
        while at < end {
            match below.peek().copied() {
                Some(segment) if segment.end <= at => {
                    below.next();
                }
                Some(segment) if segment.start < end => {
                    if segment.start > at {
                        let (start, end) = (at, segment.start);
                        segments.push(Segment { start, end, place });
                        at = segment.start;
                    }
                    let part = segment.from(at);
                    let end = part.end.min(end);
                    segments.push(Segment { end, ..part });
                    at = end;
                }
                _ => {
                    let start = at;
                    segments.push(Segment { start, end, place });
                    at = end;
                }
            }
        }
    }
    segments
}
