//! Whether pagemaps and pages files fit each other.

use std::io::Read;
use std::sync::Arc;

use criu_image::checkpoint::{ImageName, RandomAccess, present};
use criu_image::memory::{
    AddressSpace, Content, Memory, MemoryOptions, PE_LAZY, PE_PARENT, PE_PAYLOAD_ALIGNED,
    PE_PRESENT, PageSize, block,
};
use criu_image::message::{PagemapEntry, PagemapHead};
use criu_image::{ImageKind, ImageReader};

use super::Check;

impl Check<'_> {
    pub(super) fn pages(&mut self, images: &[ImageName]) {
        let usual = self.usual_page_size(images);
        for image in images {
            if self.monitor.is_stopped() {
                return;
            }
            if let (ImageKind::Pagemap | ImageKind::ShmemPagemap, Some(id)) = (image.kind, image.id)
            {
                // What cannot be read has been said.
                drop(self.pagemap(&image.name, (image.kind, id), usual));
            }
        }
        self.parents(images);
    }

    /// The page size that the checkpoint's machine usually has.
    fn usual_page_size(&self, images: &[ImageName]) -> PageSize {
        let cores = images.iter().filter(|image| image.kind == ImageKind::Core);
        let mut tids = cores.filter_map(|image| u32::try_from(image.id?).ok());
        let core = tids.find_map(|tid| self.checkpoint.core(tid).ok());
        core.map_or(PageSize::DEFAULT, |core| PageSize::usual_on(core.mtype))
    }

    fn pagemap(
        &mut self,
        name: &str,
        (kind, id): (ImageKind, u64),
        usual: PageSize,
    ) -> criu_image::Result<()> {
        let sum = Sum::read(&mut self.checkpoint.image(kind, id)?)?;
        let pages_name = ImageKind::Pages.file(sum.pages_id.into());
        let pages = match present(self.checkpoint.source().open_pages(&pages_name)) {
            Ok(pages) => pages,
            Err(error) => {
                self.failed(&error);
                return Ok(());
            }
        };
        let Some(pages) = pages else {
            if sum.has_pages {
                let problem = format!("the pages file {pages_name} is missing");
                self.fault(Some(name), Some(0), problem);
            }
            return Ok(());
        };
        let mut map = Map {
            name,
            pages_name: &pages_name,
            page_size: self.page_size(&sum, pages.byte_len(), usual),
            pages: &pages,
            position: 0,
            end: 0,
        };
        let mut image = self.checkpoint.image(kind, id)?;
        image.next_entry()?;
        while let Some(entry) = image.next_entry()? {
            if self.monitor.is_stopped() {
                return Ok(());
            }
            let index = entry.index;
            let entry: PagemapEntry = entry.decode()?;
            if let Err(problem) = map.entry(&entry, self, index) {
                self.fault(Some(name), Some(index), problem);
                // Where the payload of the next one begins is anyone's guess.
                if entry.effective_flags() & PE_PRESENT != 0 {
                    return Ok(());
                }
            }
        }
        let len = pages.byte_len();
        if len != map.position {
            let problem = format!("{len} bytes, but {name} speaks of {}", map.position);
            self.fault(Some(&pages_name), None, problem);
        }
        Ok(())
    }

    /// The page size of a pagemap: the usual one, unless only another fits the pages file.
    fn page_size(&self, sum: &Sum, len: u64, usual: PageSize) -> PageSize {
        if let Some(per_block) = sum.pages_per_block {
            let inventory = self.checkpoint.inventory().ok();
            let block = inventory.and_then(|inventory| inventory.compress_block_size);
            let size = block.and_then(|block| u64::from(block).checked_div(per_block));
            return size.and_then(PageSize::new).unwrap_or(usual);
        }
        let pages = sum.pages;
        if pages.checked_mul(usual.bytes()) == Some(len) {
            return usual;
        }
        let measured = (pages > 0 && len.is_multiple_of(pages)).then(|| PageSize::new(len / pages));
        measured.flatten().unwrap_or(usual)
    }

    /// Whether the pages that are left to the parent are there.
    fn parents(&mut self, images: &[ImageName]) {
        let memory = match Memory::open(self.checkpoint, MemoryOptions::default()) {
            Ok(memory) => memory,
            Err(error) => return self.failed(&error),
        };
        for image in images {
            let Some(id) = image.id else { continue };
            let space = match image.kind {
                ImageKind::Mm => match u32::try_from(id) {
                    Ok(pid) => memory.task(pid),
                    Err(_) => continue,
                },
                ImageKind::ShmemPagemap => memory.shared(id),
                _ => continue,
            };
            match space {
                Ok(space) => self.gaps(&image.name, &space),
                Err(error) => self.failed(&error),
            }
        }
    }

    fn gaps(&mut self, name: &str, space: &AddressSpace) {
        let mut missing = space
            .all_spans()
            .filter(|span| span.content == Content::Missing);
        if let Some(first) = missing.next() {
            let rest: u64 = missing.map(|span| span.byte_len()).sum();
            let bytes = first.byte_len() + rest;
            let problem = format!(
                "memory that no image has: {bytes} bytes from {:#x} on",
                first.start
            );
            self.fault(Some(name), None, problem);
        }
    }
}

/// What a pagemap comes to.
struct Sum {
    pages_id: u32,
    /// Whether some of the pages are in the pages file.
    has_pages: bool,
    /// Pages in the pages file.
    pages: u64,
    /// Of the first entry with compressed blocks.
    pages_per_block: Option<u64>,
}

impl Sum {
    fn read<R: Read>(image: &mut ImageReader<R>) -> criu_image::Result<Self> {
        let head: PagemapHead = match image.next_entry()? {
            Some(entry) => entry.decode()?,
            // Said where images are looked at.
            None => PagemapHead::default(),
        };
        let mut sum = Self {
            pages_id: head.pages_id,
            has_pages: false,
            pages: 0,
            pages_per_block: None,
        };
        while let Some(entry) = image.next_entry()? {
            let range = entry.page_range()?;
            if range.has_blocks && sum.pages_per_block.is_none() {
                let entry: PagemapEntry = entry.decode()?;
                let per_block = entry.blocks.map(|blocks| blocks.pages_per_block.into());
                sum.pages_per_block = per_block;
            }
            if range.flags & PE_PRESENT != 0 {
                sum.has_pages = true;
                sum.pages = sum.pages.saturating_add(range.page_count);
            }
        }
        Ok(sum)
    }
}

/// A pagemap beside its pages file.
struct Map<'a> {
    name: &'a str,
    pages_name: &'a str,
    pages: &'a Arc<dyn RandomAccess>,
    page_size: PageSize,
    /// Where the next payload begins, in bytes.
    position: u64,
    /// Address behind the last entry.
    end: u64,
}

impl Map<'_> {
    fn entry(
        &mut self,
        entry: &PagemapEntry,
        check: &mut Check<'_>,
        index: u64,
    ) -> Result<(), String> {
        let page = self.page_size.bytes();
        let (flags, count) = (entry.effective_flags(), entry.effective_pages());
        let far = || "pages beyond the end of the address space".to_owned();
        let len = count.checked_mul(page).ok_or_else(far)?;
        if !entry.vaddr.is_multiple_of(page) {
            return Err(format!("{:#x} is not where a page begins", entry.vaddr));
        }
        if entry.vaddr < self.end {
            let problem = format!("{:#x} is within or before the entry before", entry.vaddr);
            check.fault(Some(self.name), Some(index), problem);
        }
        self.end = entry.vaddr.checked_add(len).ok_or_else(far)?;
        match (flags & PE_PRESENT, flags & PE_PARENT) {
            (0, 0) if flags & PE_LAZY == 0 && entry.blocks.is_none() => return Ok(()),
            (0, _) if entry.blocks.is_some() => {
                return Err("blocks of pages that are not here".to_owned());
            }
            (0, _) => return Ok(()),
            (_, 0) => {}
            _ => return Err("pages that are both here and in the parent".to_owned()),
        }
        if flags & PE_PAYLOAD_ALIGNED != 0 {
            let aligned = self
                .position
                .checked_next_multiple_of(page)
                .ok_or_else(far)?;
            self.padding(aligned, check, index)?;
        }
        let Some(blocks) = &entry.blocks else {
            self.position = self.position.checked_add(len).ok_or_else(far)?;
            return match self.position > self.pages.byte_len() {
                true => Err(format!(
                    "pages up to byte {} of {}, which has {}",
                    self.position,
                    self.pages_name,
                    self.pages.byte_len()
                )),
                false => Ok(()),
            };
        };
        let per_block = u64::from(blocks.pages_per_block);
        let block_len = per_block * page;
        if per_block == 0 || block_len > BLOCK_LIMIT {
            return Err(format!("blocks of {per_block} pages"));
        }
        if count.div_ceil(per_block) != blocks.block_sizes.len() as u64 {
            return Err(format!(
                "{} blocks of {per_block} pages for {count} pages",
                blocks.block_sizes.len()
            ));
        }
        let total: u64 = blocks.block_sizes.iter().map(|&size| u64::from(size)).sum();
        if total != blocks.total_payload_size {
            let announced = blocks.total_payload_size;
            return Err(format!(
                "blocks of {total} bytes in all, {announced} announced"
            ));
        }
        let mut left = len;
        let (mut stored, mut decoded) = (Vec::new(), Vec::new());
        for (number, &size) in blocks.block_sizes.iter().enumerate() {
            let decoded_len = left.min(block_len);
            left -= decoded_len;
            let failed = |problem| format!("block {number} of {size} bytes: {problem}");
            if u64::from(size) > decoded_len {
                return Err(failed(format!("more than the {decoded_len} it stands for")));
            }
            stored.resize(size as usize, 0);
            let at = self.position;
            self.pages
                .read_exact_at(&mut stored, at)
                .map_err(|error| failed(format!("at byte {at} of {}: {error}", self.pages_name)))?;
            self.position = at.checked_add(size.into()).ok_or_else(far)?;
            // At most the limit of a block.
            decoded.resize(usize::try_from(decoded_len).unwrap_or(0), 0);
            block::decode(&stored, &mut decoded)
                .map_err(|error| failed(super::with_causes(error.reason())))?;
        }
        Ok(())
    }

    /// Passes over the zeros in front of an aligned payload.
    fn padding(&mut self, to: u64, check: &mut Check<'_>, index: u64) -> Result<(), String> {
        // Less than a page.
        let mut bytes = vec![0; usize::try_from(to - self.position).unwrap_or(0)];
        let at = self.position;
        self.pages
            .read_exact_at(&mut bytes, at)
            .map_err(|error| format!("padding at byte {at} of {}: {error}", self.pages_name))?;
        if bytes.iter().any(|&byte| byte != 0) {
            let problem = format!("padding at byte {at} of {} is not zero", self.pages_name);
            check.fault(Some(self.name), Some(index), problem);
        }
        self.position = to;
        Ok(())
    }
}

/// Largest block of pages, in bytes, from CRIU 4.3.
const BLOCK_LIMIT: u64 = 4 << 20;
