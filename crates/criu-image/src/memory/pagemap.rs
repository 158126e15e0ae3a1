//! One pagemap: which addresses it speaks of, and where the bytes are in its pages file.
//!
//! ```text
//! pagemap   : pagemap_head { pages_id }, pagemap_entry*
//! position  : sum of the entries before with PE_PRESENT, in the order of the file
//! ```
//!
//! CRIU up to 0.4 wrote no pagemap; its pages file, named for the task or object, has it all:
//!
//! ```text
//! pages     : u32 magic of a pagemap, { u64 address, bytes of one page }*
//! ```

use std::path::PathBuf;
use std::sync::Arc;

use super::block::BLOCK_LIMIT;
use super::segments::Segments;
use super::store::{Place, Segment};
use super::{PageRange, PageSize};
use crate::byte_order::ByteOrder;
use crate::checkpoint::{Checkpoint, RandomAccess};
use crate::error::{Error, ErrorKind, Result};
use crate::kind::ImageKind;
use crate::message::{PagemapBlocks, PagemapEntry, PagemapHead};

/// The bytes are in the parent checkpoint (`PE_PARENT`).
pub const PE_PARENT: u32 = 1;
/// The bytes may come later, from a page server (`PE_LAZY`).
pub const PE_LAZY: u32 = 2;
/// The bytes are in the pages file (`PE_PRESENT`).
pub const PE_PRESENT: u32 = 4;
/// The bytes begin at the next page boundary of the pages file (`PE_PAYLOAD_ALIGNED`, CRIU 4.3).
pub const PE_PAYLOAD_ALIGNED: u32 = 8;

impl PagemapEntry {
    /// The flags, also of images from before there were flags.
    #[must_use]
    pub fn effective_flags(&self) -> u32 {
        match (self.in_parent, self.flags) {
            (Some(true), flags) => flags.unwrap_or(0) | PE_PARENT,
            (_, Some(flags)) => flags,
            (_, None) => PE_PRESENT,
        }
    }

    /// How many pages the entry speaks of, also in images from before the field was widened.
    #[must_use]
    pub fn effective_pages(&self) -> u64 {
        self.nr_pages.unwrap_or_else(|| self.compat_nr_pages.into())
    }
}

/// A pagemap that was gone over once, to find out how large a page is. It is gone over again to
/// [place](Self::place) its entries, which are then kept in one form only.
#[derive(Debug)]
pub(super) struct RawPagemap {
    path: PathBuf,
    entries: Entries,
    /// How many entries there are.
    entry_count: usize,
    /// Pages in the pages file, if their size can be told by that.
    pages_in_file: Option<u64>,
    /// Of the first entry with compressed blocks.
    pages_per_block: Option<u32>,
    needs_parent: bool,
    is_32_bit: bool,
    pages: Option<Arc<dyn RandomAccess>>,
    pages_path: PathBuf,
    /// What the pages file holds beside pages.
    gaps: Gaps,
}

/// Where the entries of a pagemap are.
#[derive(Debug)]
enum Entries {
    Image {
        checkpoint: Checkpoint,
        kind: ImageKind,
        id: u64,
    },
    /// In front of each page.
    Pages(ByteOrder),
}

/// Bytes of a pages file that are no pages.
#[derive(Clone, Copy, Debug, Default)]
struct Gaps {
    /// In front of everything.
    first: u64,
    /// In front of every entry's pages.
    each: u64,
}

/// A pagemap with positions in its pages file.
#[derive(Debug)]
pub(super) struct Level {
    /// Its own place in the chain of parents.
    depth: u32,
    /// The addresses that the pagemap speaks of. What is in the parent is [`Place::Missing`].
    pub(super) segments: Segments,
    pub(super) runs: Vec<BlockRun>,
    block_sizes: Vec<u32>,
    /// Positions in the pages file of every [`MARK_STEP`]th block.
    marks: Vec<u64>,
    pub(super) pages: Option<Arc<dyn RandomAccess>>,
    pub(super) pages_path: PathBuf,
    /// Bytes that the pages file should have.
    pub(super) payload_len: u64,
}

/// The blocks of one entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockRun {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) block_len: u64,
    /// Position of the first block in the pages file.
    position: u64,
    /// Index of the first block among all of the pagemap.
    first: u32,
}

/// A block in the pages file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoredBlock {
    /// First address.
    pub(super) start: u64,
    /// Bytes of the block.
    pub(super) len: u64,
    /// Position of what is stored.
    pub(super) position: u64,
    /// Bytes stored.
    pub(super) stored_len: u32,
}

impl RawPagemap {
    /// Looks through a pagemap and opens its pages file; `None` if there is no such pagemap.
    pub(super) fn read(
        checkpoint: &Checkpoint,
        kind: ImageKind,
        id: u64,
        is_32_bit: bool,
    ) -> Result<Option<Self>> {
        let source = checkpoint.source();
        let path = source.location().join(kind.file(id));
        let mut image = match checkpoint.image(kind, id) {
            Ok(image) => image,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(head) = image.next_entry()? else {
            let reason = ErrorKind::EntryCount {
                expected: "1 or more",
                found: 0,
            };
            return Err(Error::from(reason).in_file(path).in_kind(kind));
        };
        let head: PagemapHead = head.decode()?;
        let pages_name = ImageKind::Pages.file(head.pages_id.into());
        let mut map = Self {
            pages_path: source.location().join(&pages_name),
            path,
            entries: Entries::Image {
                checkpoint: checkpoint.clone(),
                kind,
                id,
            },
            entry_count: 0,
            pages_in_file: Some(0),
            pages_per_block: None,
            needs_parent: false,
            is_32_bit,
            pages: None,
            gaps: Gaps::default(),
        };
        let mut has_pages = false;
        while let Some(entry) = image.next_entry()? {
            let range = entry.page_range()?;
            map.entry_count += 1;
            map.needs_parent |= range.flags & PE_PARENT != 0;
            if range.has_blocks && map.pages_per_block.is_none() {
                let blocks = entry.decode::<PagemapEntry>()?.blocks;
                map.pages_per_block = blocks.map(|blocks| blocks.pages_per_block);
            }
            if range.flags & PE_PRESENT != 0 {
                has_pages = true;
                let is_plain = !range.has_blocks && range.flags & PE_PAYLOAD_ALIGNED == 0;
                let pages = map.pages_in_file.filter(|_| is_plain);
                map.pages_in_file = pages.and_then(|sum| sum.checked_add(range.page_count));
            }
        }
        if has_pages {
            map.pages = Some(source.open_pages(&pages_name).map_err(|error| {
                if !error.is_missing() {
                    return error;
                }
                let detail = format!("the pages file {pages_name} is missing");
                Error::from(ErrorKind::Inconsistent { detail }).in_file(&map.path)
            })?);
        }
        Ok(Some(map))
    }

    /// Opens a pages file of CRIU 0.4; `None` if there is none.
    pub(super) fn open_old(
        checkpoint: &Checkpoint,
        kind: ImageKind,
        id: u64,
        is_32_bit: bool,
    ) -> Result<Option<Self>> {
        let kind = match kind {
            ImageKind::ShmemPagemap => ImageKind::ShmPagesOld,
            _ => ImageKind::PagesOld,
        };
        let name = kind.file(id);
        let path = checkpoint.source().location().join(&name);
        let pages = match checkpoint.source().open_pages(&name) {
            Ok(pages) => pages,
            Err(error) if error.is_missing() => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut magic = [0; 4];
        let has_magic = pages.byte_len() >= OLD_GAPS.first;
        if has_magic {
            pages
                .read_exact_at(&mut magic, 0)
                .map_err(|error| Error::io("read", error).in_file(&path))?;
        }
        // Pages of today may have the same name, and begin with anything.
        let order = [ByteOrder::Little, ByteOrder::Big]
            .into_iter()
            .find(|order| has_magic && Some(order.u32(magic)) == kind.magic());
        Ok(order.map(|order| Self {
            path: path.clone(),
            entries: Entries::Pages(order),
            entry_count: 0,
            pages_in_file: None,
            pages_per_block: None,
            needs_parent: false,
            is_32_bit,
            pages: Some(pages),
            pages_path: path,
            gaps: OLD_GAPS,
        }))
    }

    /// The page size that fits the length of the pages file, if one does.
    pub(super) fn measured_page_size(&self) -> Option<PageSize> {
        let pages = self.pages_in_file?;
        let len = self.pages.as_ref()?.byte_len();
        (pages > 0 && len % pages == 0).then(|| PageSize::new(len / pages))?
    }

    /// Pages in the blocks of the first entry that has any.
    pub(super) fn pages_per_block(&self) -> Option<u64> {
        self.pages_per_block.map(Into::into)
    }

    /// Returns whether some of the pages are in the parent checkpoint.
    pub(super) fn needs_parent(&self) -> bool {
        self.needs_parent
    }

    /// Works out addresses and positions, for a pagemap that so many links to a parent lead to.
    pub(super) fn place(self, page_size: PageSize, depth: u32) -> Result<Level> {
        let mut level = Level {
            depth,
            segments: Segments::with_capacity(page_size, self.entry_count),
            runs: Vec::new(),
            block_sizes: Vec::new(),
            marks: Vec::new(),
            pages: self.pages,
            pages_path: self.pages_path,
            payload_len: self.gaps.first,
        };
        let places = (page_size.bytes(), self.gaps.each);
        match self.entries {
            Entries::Image {
                checkpoint,
                kind,
                id,
            } => {
                let mut image = checkpoint.image(kind, id)?;
                image.next_entry()?;
                while let Some(entry) = image.next_entry()? {
                    let index = entry.index;
                    let mut range = entry.page_range()?;
                    // Only sizes of blocks take a list of their own.
                    let blocks = match range.has_blocks {
                        true => entry.decode::<PagemapEntry>()?.blocks,
                        false => None,
                    };
                    range.address = unsigned_extended(range.address, self.is_32_bit);
                    level
                        .place(&range, blocks.as_deref(), places)
                        .map_err(|error| error.in_file(&self.path).in_kind(kind).in_entry(index))?;
                }
            }
            Entries::Pages(order) => level
                .place_old(order, self.is_32_bit, places)
                .map_err(|error| error.in_file(&self.path))?,
        }
        level.segments.sort();
        let (segments, behind) = (level.segments.iter(), level.segments.iter().skip(1));
        if let Some((_, next)) = segments.zip(behind).find(|(it, next)| it.end > next.start) {
            let detail = format!("two entries speak of address {:#x}", next.start);
            return Err(Error::from(ErrorKind::Inconsistent { detail }).in_file(&self.path));
        }
        Ok(level)
    }
}

impl Level {
    /// Places the pages of an entry behind those before.
    fn place(
        &mut self,
        entry: &PageRange,
        blocks: Option<&PagemapBlocks>,
        (page, gap): (u64, u64),
    ) -> Result<()> {
        let too_far = || inconsistent("pages beyond the end of the address space");
        let flags = entry.flags;
        if flags & PE_PARENT != 0 && flags & PE_PRESENT != 0 {
            return Err(inconsistent("pages are both here and in the parent"));
        }
        if blocks.is_some() && flags & PE_PRESENT == 0 {
            return Err(inconsistent("blocks of pages that are not here"));
        }
        let len = entry.page_count.checked_mul(page).ok_or_else(too_far)?;
        let (start, end) = (
            entry.address,
            entry.address.checked_add(len).ok_or_else(too_far)?,
        );
        if flags & PE_PRESENT == 0 {
            let place = match flags {
                flags if flags & PE_PARENT != 0 => Place::Missing,
                flags if flags & PE_LAZY != 0 => Place::Lazy,
                _ => return Ok(()),
            };
            self.push(start..end, place);
            return Ok(());
        }
        if flags & PE_PAYLOAD_ALIGNED != 0 {
            self.payload_len = self
                .payload_len
                .checked_next_multiple_of(page)
                .ok_or_else(too_far)?;
        }
        let position = self.payload_len.checked_add(gap).ok_or_else(too_far)?;
        let Some(blocks) = blocks else {
            self.payload_len = position.checked_add(len).ok_or_else(too_far)?;
            let level = self.depth;
            self.push(start..end, Place::Stored { level, position });
            return Ok(());
        };
        self.place_blocks(start..end, blocks, page, position)
    }

    /// Places compressed blocks from a position on.
    fn place_blocks(
        &mut self,
        addresses: std::ops::Range<u64>,
        blocks: &PagemapBlocks,
        page: u64,
        position: u64,
    ) -> Result<()> {
        let too_far = || inconsistent("pages beyond the end of the address space");
        let len = addresses.end - addresses.start;
        check_blocks(blocks, len / page)?;
        let block_len = u64::from(blocks.pages_per_block) * page;
        if block_len > BLOCK_LIMIT {
            let detail = format!("blocks of {block_len} bytes exceed the limit of {BLOCK_LIMIT}");
            return Err(ErrorKind::Inconsistent { detail }.into());
        }
        let too_many = |_| inconsistent("more than 2^32 blocks");
        let first = u32::try_from(self.block_sizes.len()).map_err(too_many)?;
        self.block_sizes.extend_from_slice(&blocks.block_sizes);
        let behind = u32::try_from(self.block_sizes.len()).map_err(too_many)?;
        let mut at = position;
        let mut left = len;
        for index in first..behind {
            if index % MARK_STEP == 0 {
                self.marks.push(at);
            }
            let size = self.block_sizes[index as usize];
            let decoded = left.min(block_len);
            if u64::from(size) > decoded {
                let detail = format!("{size} bytes stored for a block of {decoded}");
                return Err(ErrorKind::Inconsistent { detail }.into());
            }
            left -= decoded;
            at = at.checked_add(size.into()).ok_or_else(too_far)?;
        }
        self.payload_len = at;
        let run = u32::try_from(self.runs.len()).map_err(|_| too_far())?;
        self.runs.push(BlockRun {
            start: addresses.start,
            end: addresses.end,
            block_len,
            position,
            first,
        });
        let level = self.depth;
        self.push(addresses, Place::Blocks { level, run });
        Ok(())
    }

    /// Places the pages of a pages file of CRIU 0.4, each behind its address.
    fn place_old(
        &mut self,
        order: ByteOrder,
        is_32_bit: bool,
        (page, gap): (u64, u64),
    ) -> Result<()> {
        let Some(pages) = self.pages.clone() else {
            return Ok(());
        };
        let (len, step) = (pages.byte_len(), gap + page);
        while self.payload_len < len {
            let at = self.payload_len;
            let found = len - at;
            if found < step {
                let (what, expected) = ("page", step);
                return Err(ErrorKind::Truncated {
                    what,
                    expected,
                    found,
                }
                .into());
            }
            let mut address = [0; 8];
            pages
                .read_exact_at(&mut address, at)
                .map_err(|error| Error::io("read", error))?;
            let range = PageRange {
                address: unsigned_extended(order.u64(address), is_32_bit),
                page_count: 1,
                flags: PE_PRESENT,
                has_blocks: false,
            };
            self.place(&range, None, (page, gap))?;
        }
        Ok(())
    }

    fn push(&mut self, addresses: std::ops::Range<u64>, place: Place) {
        let std::ops::Range { start, end } = addresses;
        if start < end {
            self.segments.push(Segment { start, end, place });
        }
    }

    /// The block of a run that holds an address of it.
    pub(super) fn block_at(&self, run: &BlockRun, address: u64) -> StoredBlock {
        let within = (address - run.start) / run.block_len;
        // Within the run's count of blocks, which is a u32.
        let index = run.first + u32::try_from(within).unwrap_or(u32::MAX - run.first);
        let mark = index - index % MARK_STEP;
        let (from, mut position) = match mark {
            mark if mark > run.first => (mark, self.marks[(mark / MARK_STEP) as usize]),
            _ => (run.first, run.position),
        };
        for before in from..index {
            position += u64::from(self.block_sizes[before as usize]);
        }
        let start = run.start + within * run.block_len;
        StoredBlock {
            start,
            len: run.block_len.min(run.end - start),
            position,
            stored_len: self.block_sizes[index as usize],
        }
    }
}

/// Takes back that 64-bit CRIU was given addresses of 32-bit tasks with the sign extended.
fn unsigned_extended(address: u64, is_32_bit: bool) -> u64 {
    match address {
        wide if is_32_bit && wide >= SIGN_EXTENDED => wide & 0xffff_ffff,
        address => address,
    }
}

/// Whether an entry's blocks are what `page_count` pages call for.
fn check_blocks(blocks: &PagemapBlocks, page_count: u64) -> Result<()> {
    let per_block = u64::from(blocks.pages_per_block);
    if per_block == 0 || blocks.block_sizes.is_empty() {
        return Err(inconsistent("blocks without pages"));
    }
    let count = blocks.block_sizes.len() as u64;
    if page_count.div_ceil(per_block) != count {
        let detail = format!("{count} blocks of {per_block} pages for {page_count} pages");
        return Err(ErrorKind::Inconsistent { detail }.into());
    }
    let total: u64 = blocks.block_sizes.iter().map(|&size| u64::from(size)).sum();
    let announced = blocks.total_payload_size;
    if total != announced {
        let detail = format!("blocks of {total} bytes in all, {announced} announced");
        return Err(ErrorKind::Inconsistent { detail }.into());
    }
    Ok(())
}

fn inconsistent(detail: &str) -> Error {
    ErrorKind::Inconsistent {
        detail: detail.to_owned(),
    }
    .into()
}

/// The magic, and the address of each page.
const OLD_GAPS: Gaps = Gaps { first: 4, each: 8 };

/// Least address that is one of the upper half of a 32-bit address space, sign-extended.
const SIGN_EXTENDED: u64 = 0xffff_ffff_8000_0000;

/// How many blocks apart positions are remembered: the price of finding a block is adding up at
/// most this many sizes.
const MARK_STEP: u32 = 64;
