//! Restores compressed pages to what CRIU before 4.3 reads.

use std::path::Path;

use criu_image::memory::{PE_PAYLOAD_ALIGNED, PE_PRESENT, PageSize, block};
use criu_image::message::PagemapEntry;

use super::pagemap::{self, Extent, INVENTORY, PagemapFile, Pagemaps, PagesInput};
use super::{Backups, Error, IMAGES_V1_1, IMAGES_V1_2, Outcome, Result, RewrittenPagemap};
use crate::{Monitor, SparseWriter};

/// How to decompress.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct DecompressOptions {
    /// Whether the compressed images are kept.
    pub backups: Backups,
    /// The page size of the machine that was dumped; if not given it is worked out from the size
    /// of blocks.
    pub page_size: Option<PageSize>,
}

/// Decompresses the pages of the checkpoint in a directory.
///
/// # Errors
///
/// Fails when the images are damaged or contradict each other, cannot be written, or the monitor
/// stops it. Then the directory is as it was.
pub fn decompress(
    directory: &Path,
    options: DecompressOptions,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    let (checkpoint, mut transaction) = pagemap::open(directory)?;
    let mut inventory = pagemap::inventory(&checkpoint)?;
    if inventory.compress.unwrap_or(0) == 0 {
        return Ok(Outcome::Unneeded);
    }
    let pagemaps = Pagemaps::find(&checkpoint, &inventory, options.page_size)?;
    if pagemaps.files.is_empty() {
        return Ok(Outcome::NoPagemaps);
    }
    pagemaps.check(&checkpoint, |_, _| Ok(()))?;
    let page_size = pagemaps.page_size;
    monitor.expect(pagemaps.files.iter().map(|file| file.pages_len).sum());
    let mut rewritten = Vec::with_capacity(pagemaps.files.len());
    for file in &pagemaps.files {
        let pages = transaction.stage(&file.pages_name)?;
        let map = transaction.stage(&file.name)?;
        let (mut reader, mut writer) = file.open_anew(&checkpoint, &map)?;
        let mut expander = Expander::new(page_size, file.open_pages()?, pages.path(), monitor);
        let mut output = SparseWriter::new(pages.file());
        let mut page_count = 0;
        while let Some((index, mut entry)) = pagemap::next(&mut reader)? {
            let extent = pagemap::extent(&entry, page_size)
                .map_err(|detail| file.entry_error(index, detail))?;
            if extent.flags & PE_PRESENT != 0 {
                expander.entry(file, &entry, &extent, &mut output)?;
                make_plain(&mut entry, &extent);
                page_count += extent.pages;
            }
            writer
                .entry(&entry.bytes())
                .map_err(|error| error.in_file(map.path()))?;
        }
        writer.finish().map_err(|error| error.in_file(map.path()))?;
        let (bytes_read, bytes_written) = (expander.input.position, output.position());
        output.finish().map_err(Error::io("write", pages.path()))?;
        transaction.replace(pages)?;
        transaction.replace(map)?;
        rewritten.push(RewrittenPagemap {
            name: file.name.clone(),
            pages: page_count,
            bytes_read,
            bytes_written,
        });
    }
    let refers_to_parent = pagemaps.refer_to_parent(&checkpoint);
    let edited = inventory.edit();
    edited.compress = None;
    edited.compress_block_size = None;
    // The parent may have compressed pages.
    if !refers_to_parent && edited.img_version == IMAGES_V1_2 {
        edited.img_version = IMAGES_V1_1;
    }
    let staged = transaction.stage(INVENTORY)?;
    transaction.replace(pagemap::stage_inventory(&checkpoint, &inventory, staged)?)?;
    transaction.commit(options.backups, monitor)?;
    Ok(Outcome::Rewritten(rewritten))
}

/// Takes out of an entry what speaks of compression.
pub(super) fn make_plain(entry: &mut criu_image::Entry<PagemapEntry>, extent: &Extent) {
    if entry.blocks.is_some() {
        entry.edit().blocks = None;
    }
    if extent.flags & PE_PAYLOAD_ALIGNED != 0 {
        entry.edit().flags = Some(extent.flags & !PE_PAYLOAD_ALIGNED);
    }
}

/// Expands the pages of one pagemap, entry by entry.
pub(super) struct Expander<'a> {
    page_size: PageSize,
    pub(super) input: PagesInput<'a>,
    stored: Vec<u8>,
    plain: Vec<u8>,
    /// The file that is written.
    to: &'a Path,
    monitor: &'a dyn Monitor,
}

impl<'a> Expander<'a> {
    pub(super) fn new(
        page_size: PageSize,
        input: PagesInput<'a>,
        to: &'a Path,
        monitor: &'a dyn Monitor,
    ) -> Self {
        Self {
            page_size,
            input,
            stored: Vec::new(),
            plain: Vec::new(),
            to,
            monitor,
        }
    }

    /// Writes the pages of a present entry, which are the next in the pages file.
    pub(super) fn entry(
        &mut self,
        file: &PagemapFile,
        entry: &PagemapEntry,
        extent: &Extent,
        output: &mut SparseWriter<'_>,
    ) -> Result<()> {
        if extent.flags & PE_PAYLOAD_ALIGNED != 0 {
            self.input.align(self.page_size);
        }
        let failed = || Error::io("write", self.to);
        let (block_len, sizes) = match &entry.blocks {
            Some(blocks) => (
                u64::from(blocks.pages_per_block) * self.page_size.bytes(),
                Some(&blocks.block_sizes),
            ),
            None => (COPY_LEN, None),
        };
        let (mut left, mut index) = (extent.byte_len, 0);
        while left > 0 {
            if self.monitor.is_stopped() {
                return Err(Error::Interrupted);
            }
            let len = left.min(block_len);
            left -= len;
            // Neither is longer than the limit of a block, which was checked.
            let plain_len = usize::try_from(len).unwrap_or_default();
            let stored_len = sizes.map_or(plain_len, |sizes| sizes[index] as usize);
            index += 1;
            self.monitor.advance(stored_len as u64);
            if stored_len == 0 {
                output.zeros(len).map_err(failed())?;
                continue;
            }
            self.stored.resize(stored_len, 0);
            let at = self.input.position;
            self.input.take(&mut self.stored)?;
            if stored_len == plain_len {
                output.write(&self.stored).map_err(failed())?;
                continue;
            }
            self.plain.resize(plain_len, 0);
            block::decode(&self.stored, &mut self.plain)
                .map_err(|error| error.in_file(&file.pages_path).at_byte(at))?;
            output.write(&self.plain).map_err(failed())?;
        }
        Ok(())
    }
}

/// Bytes of plain pages copied at once.
const COPY_LEN: u64 = 256 * 1024;
