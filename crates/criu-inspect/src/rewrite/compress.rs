//! Compresses pages, in the form of CRIU 4.3 and as its CRIT does: one page per block.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use criu_image::memory::block::{self, Block};
use criu_image::memory::{PE_PAYLOAD_ALIGNED, PE_PRESENT, PageSize, VMA_EXT_PLUGIN};
use criu_image::memory::{VMA_ANON_SHARED, VMA_AREA_SYSVIPC, VMA_FILE_SHARED};
use criu_image::message::{PagemapBlocks, VmaEntry};
use criu_image::{Checkpoint, ImageKind};

use super::pagemap::{self, Extent, INVENTORY, PagemapFile, Pagemaps, PagesInput};
use super::{Backups, Error, IMAGES_V1_2, Outcome, Result, RewrittenPagemap};
use crate::{Monitor, SparseWriter};

/// How to compress.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct CompressOptions {
    /// Whether the plain images are kept.
    pub backups: Backups,
    /// The page size of the machine that was dumped; if not given it is worked out from the
    /// length of a pages file.
    pub page_size: Option<PageSize>,
}

/// Compresses the pages of the checkpoint in a directory.
///
/// Pages of huge pages and of mappings that a plugin restores stay as they are, since CRIU needs
/// them so.
///
/// # Errors
///
/// Fails when the images are damaged or contradict each other, cannot be written, or the monitor
/// stops it. Then the directory is as it was.
pub fn compress(
    directory: &Path,
    options: CompressOptions,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    let (checkpoint, mut transaction) = pagemap::open(directory)?;
    let mut inventory = pagemap::inventory(&checkpoint)?;
    if inventory.compress.unwrap_or(0) != 0 {
        return Ok(Outcome::Unneeded);
    }
    let pagemaps = Pagemaps::find(&checkpoint, &inventory, options.page_size)?;
    if pagemaps.files.is_empty() {
        return Ok(Outcome::NoPagemaps);
    }
    pagemaps.check(&checkpoint, |extent, entry| {
        match (extent.flags & PE_PAYLOAD_ALIGNED, &entry.blocks) {
            (0, None) => Ok(()),
            (0, Some(_)) => Err("compressed blocks in an uncompressed checkpoint".to_owned()),
            _ => Err("aligned payload in an uncompressed checkpoint".to_owned()),
        }
    })?;
    let page_size = pagemaps.page_size;
    let mut raw_ranges = raw_ranges(&checkpoint, page_size)?;
    monitor.expect(pagemaps.files.iter().map(|file| file.pages_len).sum());
    let mut rewritten = Vec::with_capacity(pagemaps.files.len());
    for file in &pagemaps.files {
        let pages = transaction.stage(&file.pages_name)?;
        let map = transaction.stage(&file.name)?;
        let (mut reader, mut writer) = file.open_anew(&checkpoint, &map)?;
        let mut compressor = Compressor {
            page_size,
            raw_ranges: raw_ranges.remove(&(file.kind, file.id)).unwrap_or_default(),
            input: file.open_pages()?,
            output: SparseWriter::new(pages.file()),
            page: vec![0; usize::try_from(page_size.bytes()).unwrap_or_default()],
            monitor,
        };
        let mut page_count = 0;
        while let Some((index, mut entry)) = pagemap::next(&mut reader)? {
            let extent = pagemap::extent(&entry, page_size)
                .map_err(|detail| file.entry_error(index, detail))?;
            if extent.flags & PE_PRESENT != 0 {
                let (flags, blocks) = compressor.entry(file, entry.vaddr, &extent)?;
                if flags != extent.flags {
                    entry.edit().flags = Some(flags);
                }
                if blocks.is_some() {
                    entry.edit().blocks = blocks;
                }
                page_count += extent.pages;
            }
            writer
                .entry(&entry.bytes())
                .map_err(|error| error.in_file(map.path()))?;
        }
        writer.finish().map_err(|error| error.in_file(map.path()))?;
        let (bytes_read, bytes_written) = (compressor.input.position, compressor.output.position());
        compressor
            .output
            .finish()
            .map_err(Error::io("write", pages.path()))?;
        transaction.replace(pages)?;
        transaction.replace(map)?;
        rewritten.push(RewrittenPagemap {
            name: file.name.clone(),
            pages: page_count,
            bytes_read,
            bytes_written,
        });
    }
    let edited = inventory.edit();
    edited.compress = Some(1);
    edited.compress_block_size = u32::try_from(page_size.bytes()).ok();
    edited.img_version = IMAGES_V1_2;
    let staged = transaction.stage(INVENTORY)?;
    transaction.replace(pagemap::stage_inventory(&checkpoint, &inventory, staged)?)?;
    transaction.commit(options.backups, monitor)?;
    Ok(Outcome::Rewritten(rewritten))
}

/// A pagemap, by its kind and id.
type PagemapId = (ImageKind, u64);

/// Compresses the pages of one pagemap.
struct Compressor<'a> {
    page_size: PageSize,
    /// Addresses whose pages stay raw, ascending and apart from each other.
    raw_ranges: Vec<Range<u64>>,
    input: PagesInput<'a>,
    output: SparseWriter<'a>,
    page: Vec<u8>,
    monitor: &'a dyn Monitor,
}

impl Compressor<'_> {
    /// Compresses the pages of an entry; gives its flags and blocks.
    fn entry(
        &mut self,
        file: &PagemapFile,
        address: u64,
        extent: &Extent,
    ) -> Result<(u32, Option<Box<PagemapBlocks>>)> {
        let page = self.page_size.bytes();
        let mut flags = extent.flags;
        // As many as the pages file has pages, which was checked.
        let mut sizes = Vec::with_capacity(usize::try_from(extent.pages).unwrap_or_default());
        let mut total = 0u64;
        let failed = || Error::io("write", &file.pages_path);
        for index in 0..extent.pages {
            if index % STOP_STEP == 0 && self.monitor.is_stopped() {
                return Err(Error::Interrupted);
            }
            self.input.take(&mut self.page)?;
            self.monitor.advance(page);
            let block = match block::encode(&self.page)? {
                Block::Lz4(_) if self.stays_raw(address + index * page) => Block::Raw,
                block => block,
            };
            let stored: &[u8] = match &block {
                Block::Zero => &[],
                Block::Raw => &self.page,
                Block::Lz4(stored) => stored,
            };
            if total == 0 && block == Block::Raw {
                let position = self.output.position();
                let padding = position.next_multiple_of(page) - position;
                self.output
                    .write(&vec![0; usize::try_from(padding).unwrap_or_default()])
                    .map_err(failed())?;
                flags |= PE_PAYLOAD_ALIGNED;
            }
            self.output.write(stored).map_err(failed())?;
            total += stored.len() as u64;
            // At most a page.
            sizes.push(u32::try_from(stored.len()).unwrap_or(u32::MAX));
        }
        let is_raw = total == extent.byte_len;
        let blocks = (!is_raw).then(|| {
            Box::new(PagemapBlocks {
                block_sizes: sizes,
                total_payload_size: total,
                pages_per_block: 1,
                ..PagemapBlocks::default()
            })
        });
        Ok((flags, blocks))
    }

    fn stays_raw(&self, address: u64) -> bool {
        let holds = |address: u64| {
            let index = self
                .raw_ranges
                .partition_point(|range| range.end <= address);
            self.raw_ranges
                .get(index)
                .is_some_and(|range| range.start <= address)
        };
        // 32-bit machines gave addresses to CRIU with the sign extended, but not those of areas.
        let is_extended = address >> 32 == 0xffff_ffff;
        holds(address) || (is_extended && holds(address & 0xffff_ffff))
    }
}

/// The addresses, by pagemap, whose pages CRIU wants raw.
fn raw_ranges(
    checkpoint: &Checkpoint,
    page_size: PageSize,
) -> Result<HashMap<PagemapId, Vec<Range<u64>>>> {
    let mut ranges: HashMap<_, Vec<Range<u64>>> = HashMap::new();
    for pid in checkpoint.ids_of(ImageKind::Mm)? {
        let Ok(task) = u32::try_from(pid) else {
            continue;
        };
        for vma in checkpoint.vmas(task)? {
            let failed = |detail: &str| {
                let path = checkpoint.source().location().join(ImageKind::Mm.file(pid));
                Error::unsuitable(path, format!("area at {:#x}: {detail}", vma.start))
            };
            if let Some((map, range)) = raw_range(&vma, pid, page_size).map_err(failed)? {
                ranges.entry(map).or_default().push(range);
            }
        }
    }
    for ranges in ranges.values_mut() {
        ranges.sort_by_key(|range| range.start);
        ranges.dedup_by(|next, last| {
            let touches = next.start <= last.end;
            if touches {
                last.end = last.end.max(next.end);
            }
            touches
        });
    }
    Ok(ranges)
}

/// The range of an area whose pages stay raw, in the addresses of its pagemap.
fn raw_range(
    vma: &VmaEntry,
    pid: u64,
    page_size: PageSize,
) -> std::result::Result<Option<(PagemapId, Range<u64>)>, &'static str> {
    if vma.flags & MAP_HUGETLB == 0 && vma.status & VMA_EXT_PLUGIN == 0 {
        return Ok(None);
    }
    let page = page_size.bytes();
    let len = match vma.end.checked_sub(vma.start) {
        Some(len) if len > 0 && len.is_multiple_of(page) && vma.start.is_multiple_of(page) => len,
        _ => return Err("not a range of whole pages"),
    };
    let shared = VMA_FILE_SHARED | VMA_ANON_SHARED | VMA_AREA_SYSVIPC;
    if vma.flags & MAP_SHARED == 0 && vma.status & shared == 0 {
        return Ok(Some(((ImageKind::Pagemap, pid), vma.start..vma.end)));
    }
    match vma.pgoff.checked_add(len) {
        Some(end) if vma.pgoff.is_multiple_of(page) => {
            Ok(Some(((ImageKind::ShmemPagemap, vma.shmid), vma.pgoff..end)))
        }
        _ => Err("not a range of whole pages of its object"),
    }
}

/// How many pages are compressed between looks at the monitor.
const STOP_STEP: u64 = 256;

/// The mapping is shared (`MAP_SHARED`).
const MAP_SHARED: u32 = 1;
/// The mapping is of huge pages (`MAP_HUGETLB`).
const MAP_HUGETLB: u32 = 0x40000;
