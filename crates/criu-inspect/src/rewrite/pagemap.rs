//! The pagemaps of a checkpoint, checked against their pages files before anything is written.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use criu_image::memory::block::BLOCK_LIMIT;
use criu_image::memory::{PE_PARENT, PE_PAYLOAD_ALIGNED, PE_PRESENT, PageSize};
use criu_image::message::{InventoryEntry, PagemapEntry, PagemapHead};
use criu_image::{Checkpoint, Entry, ImageKind, ImageReader, ImageWriter};

use super::{Error, FALLBACK_PAGE_SIZE, IMAGES_V1_1, IMAGES_V1_2, Result, StagedFile, Transaction};

/// A pagemap with its pages file.
#[derive(Clone, Debug)]
pub(super) struct PagemapFile {
    pub(super) kind: ImageKind,
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) pages_name: String,
    pub(super) pages_path: PathBuf,
    pub(super) has_parent_entries: bool,
    /// Bytes of the pages file.
    pub(super) pages_len: u64,
    survey: Survey,
}

/// A pagemap being read.
pub(super) type PagemapReader = ImageReader<Box<dyn Read + Send>>;

/// What is needed to tell the page size.
#[derive(Clone, Copy, Debug, Default)]
struct Survey {
    present_pages: u64,
    is_plain: bool,
    pages_per_block: Option<u32>,
}

/// The pagemaps of a checkpoint, and its page size.
#[derive(Debug)]
pub(super) struct Pagemaps {
    pub(super) files: Vec<PagemapFile>,
    pub(super) page_size: PageSize,
}

/// What an entry of a pagemap says, once it is checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) flags: u32,
    pub(super) pages: u64,
    /// Bytes of the pages themselves.
    pub(super) byte_len: u64,
    /// Bytes of the pages as stored, 0 if they are not in the pages file.
    pub(super) stored_len: u64,
}

impl Pagemaps {
    /// Finds the pagemaps, ordered by name.
    pub(super) fn find(
        checkpoint: &Checkpoint,
        inventory: &InventoryEntry,
        page_size: Option<PageSize>,
    ) -> Result<Self> {
        let mut files: Vec<PagemapFile> = Vec::new();
        for image in checkpoint.images()? {
            let (ImageKind::Pagemap | ImageKind::ShmemPagemap, Some(id)) = (image.kind, image.id)
            else {
                continue;
            };
            let Some(file) = PagemapFile::survey(checkpoint, image.kind, id, image.name)? else {
                continue;
            };
            if files
                .iter()
                .any(|other| other.pages_name == file.pages_name)
            {
                let detail = format!("reuses {}, as another pagemap does", file.pages_name);
                return Err(Error::unsuitable(file.path, detail));
            }
            files.push(file);
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        let page_size = page_size.unwrap_or_else(|| tell_page_size(&files, inventory));
        Ok(Self { files, page_size })
    }

    /// Checks every entry, and that each pages file is exactly as long as its pagemap says.
    pub(super) fn check(
        &self,
        checkpoint: &Checkpoint,
        accept: impl Fn(&Extent, &PagemapEntry) -> std::result::Result<(), String>,
    ) -> Result<()> {
        for file in &self.files {
            let page = self.page_size.bytes();
            let mut expected = 0u64;
            let mut reader = file.open(checkpoint)?;
            while let Some((index, entry)) = next(&mut reader)? {
                let failed = |detail| file.entry_error(index, detail);
                let extent = extent(&entry, self.page_size).map_err(failed)?;
                accept(&extent, &entry).map_err(failed)?;
                let aligned = match extent.flags & PE_PAYLOAD_ALIGNED {
                    0 => Some(expected),
                    _ => expected.checked_next_multiple_of(page),
                };
                expected = aligned
                    .and_then(|aligned| aligned.checked_add(extent.stored_len))
                    .ok_or_else(|| failed("payload of more than 2^64 bytes".to_owned()))?;
            }
            if expected != file.pages_len {
                let detail = format!(
                    "describes {expected} bytes of pages of {page} bytes, but {} has {}",
                    file.pages_name, file.pages_len
                );
                return Err(Error::unsuitable(&file.path, detail));
            }
        }
        Ok(())
    }

    /// Returns whether a parent checkpoint has some of the pages, or there is a link to one.
    pub(super) fn refer_to_parent(&self, checkpoint: &Checkpoint) -> bool {
        let link = checkpoint.source().location().join(PARENT);
        fs::symlink_metadata(link).is_ok() || self.files.iter().any(|file| file.has_parent_entries)
    }
}

impl PagemapFile {
    fn survey(
        checkpoint: &Checkpoint,
        kind: ImageKind,
        id: u64,
        name: String,
    ) -> Result<Option<Self>> {
        let location = checkpoint.source().location();
        let mut reader = checkpoint.image(kind, id)?;
        let Some(head) = reader.next_entry()? else {
            return Ok(None);
        };
        let head: PagemapHead = head.decode()?;
        let path = location.join(&name);
        let pages_name = ImageKind::Pages.file(head.pages_id.into());
        let pages_path = location.join(&pages_name);
        let pages_len = match fs::metadata(&pages_path) {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return Err(Error::unsuitable(pages_path, "not a regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::unsuitable(path, format!("{pages_name} is missing")));
            }
            Err(error) => return Err(Error::io("open", pages_path)(error)),
        };
        let mut file = Self {
            kind,
            id,
            name,
            path,
            pages_name,
            pages_path,
            has_parent_entries: false,
            pages_len,
            survey: Survey {
                is_plain: true,
                ..Survey::default()
            },
        };
        while let Some((index, entry)) = next(&mut reader)? {
            let flags = entry.effective_flags();
            file.has_parent_entries |= flags & PE_PARENT != 0;
            if flags & PE_PRESENT == 0 {
                continue;
            }
            let survey = &mut file.survey;
            survey.is_plain &= entry.blocks.is_none() && flags & PE_PAYLOAD_ALIGNED == 0;
            let pages = entry.effective_pages();
            survey.present_pages = survey
                .present_pages
                .checked_add(pages)
                .ok_or_else(|| file_error(&file.path, index, "page count overflows"))?;
            if survey.pages_per_block.is_none() {
                survey.pages_per_block = entry.blocks.as_ref().map(|blocks| blocks.pages_per_block);
            }
        }
        Ok(Some(file))
    }

    /// Opens the pagemap, past its head.
    pub(super) fn open(&self, checkpoint: &Checkpoint) -> Result<PagemapReader> {
        let mut reader = checkpoint.image(self.kind, self.id)?;
        reader.next_entry()?;
        Ok(reader)
    }

    /// Opens the pagemap and begins its successor, head included.
    pub(super) fn open_anew<'a>(
        &self,
        checkpoint: &Checkpoint,
        staged: &'a StagedFile,
    ) -> Result<(PagemapReader, ImageWriter<&'a File>)> {
        let mut reader = checkpoint.image(self.kind, self.id)?;
        let (header, order) = (reader.header(), reader.byte_order());
        let mut writer = ImageWriter::new(staged.file(), header, order)
            .map_err(|error| error.in_file(staged.path()))?;
        if let Some(head) = reader.next_entry()? {
            writer
                .entry(head.bytes)
                .map_err(|error| error.in_file(staged.path()))?;
        }
        Ok((reader, writer))
    }

    /// Opens the pages file for reading front to back.
    pub(super) fn open_pages(&self) -> Result<PagesInput<'_>> {
        let file = File::open(&self.pages_path).map_err(Error::io("open", &self.pages_path))?;
        Ok(PagesInput {
            of: self,
            file,
            position: 0,
        })
    }

    pub(super) fn entry_error(&self, entry: u64, detail: String) -> Error {
        Error::Entry {
            path: self.path.clone(),
            entry,
            detail,
        }
    }
}

/// A pages file being read front to back.
#[derive(Debug)]
pub(super) struct PagesInput<'a> {
    of: &'a PagemapFile,
    file: File,
    pub(super) position: u64,
}

impl PagesInput<'_> {
    /// Fills `out` with the next bytes.
    pub(super) fn take(&mut self, out: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(out, self.position)
            .map_err(Error::io("read", &self.of.pages_path))?;
        self.position += out.len() as u64;
        Ok(())
    }

    /// Passes over the padding in front of an aligned entry.
    pub(super) fn align(&mut self, page_size: PageSize) {
        self.position = self.position.next_multiple_of(page_size.bytes());
    }
}

/// Reads the next entry of a pagemap, with its index.
pub(super) fn next<R: Read>(
    reader: &mut ImageReader<R>,
) -> Result<Option<(u64, Entry<PagemapEntry>)>> {
    let Some(entry) = reader.next_entry()? else {
        return Ok(None);
    };
    Ok(Some((entry.index, entry.to_entry()?)))
}

/// Checks an entry, and works out how much it stands for. The sums cannot overflow, and there are
/// as many blocks as the pages need.
pub(super) fn extent(
    entry: &PagemapEntry,
    page_size: PageSize,
) -> std::result::Result<Extent, String> {
    let page = page_size.bytes();
    let flags = entry.effective_flags();
    let pages = entry.effective_pages();
    let byte_len = match pages.checked_mul(page) {
        Some(0) => return Err("no pages".to_owned()),
        None => return Err(format!("page count {pages} overflows")),
        Some(byte_len) => byte_len,
    };
    let address = entry.vaddr;
    if !address.is_multiple_of(page) {
        return Err(format!("address {address:#x} is not page-aligned"));
    }
    // The last page of the address space ends at 2^64.
    if address.checked_add(byte_len - 1).is_none() {
        return Err("address range overflows".to_owned());
    }
    let is_present = flags & PE_PRESENT != 0;
    if is_present && flags & PE_PARENT != 0 {
        return Err("pages are both here and in the parent".to_owned());
    }
    if !is_present && flags & PE_PAYLOAD_ALIGNED != 0 {
        return Err("aligned payload of pages that are not here".to_owned());
    }
    let mut stored_len = if is_present { byte_len } else { 0 };
    if let Some(blocks) = &entry.blocks {
        if !is_present {
            return Err("compressed blocks of pages that are not here".to_owned());
        }
        let block_len = u64::from(blocks.pages_per_block) * page;
        if block_len == 0 || block_len > BLOCK_LIMIT {
            return Err(format!(
                "blocks of {block_len} bytes; they have 1 to {BLOCK_LIMIT}"
            ));
        }
        let (count, expected) = (
            blocks.block_sizes.len() as u64,
            byte_len.div_ceil(block_len),
        );
        if count != expected {
            return Err(format!("{count} compressed blocks, expected {expected}"));
        }
        let mut left = byte_len;
        stored_len = 0;
        for (index, &size) in blocks.block_sizes.iter().enumerate() {
            let len = left.min(block_len);
            if u64::from(size) > len {
                return Err(format!("block {index}: {size} bytes stored for {len}"));
            }
            left -= len;
            stored_len += u64::from(size);
        }
        let announced = blocks.total_payload_size;
        if announced != stored_len {
            return Err(format!(
                "blocks of {stored_len} bytes in all, {announced} announced"
            ));
        }
    }
    Ok(Extent {
        flags,
        pages,
        byte_len,
        stored_len,
    })
}

/// Works the page size out of the length of a plain pages file, else of the size of blocks.
fn tell_page_size(files: &[PagemapFile], inventory: &InventoryEntry) -> PageSize {
    let plain = files.iter().find_map(|file| {
        let pages = file.survey.present_pages;
        let fits = file.survey.is_plain && pages > 0 && file.pages_len.is_multiple_of(pages);
        fits.then(|| PageSize::new(file.pages_len / pages))?
    });
    let of_blocks = || {
        let block_len = u64::from(inventory.compress_block_size?);
        let per_block = files.iter().find_map(|file| file.survey.pages_per_block)?;
        PageSize::new(block_len.checked_div(per_block.into())?)
    };
    plain.or_else(of_blocks).unwrap_or(FALLBACK_PAGE_SIZE)
}

/// The inventory, as long as it is one we know.
pub(super) fn inventory(checkpoint: &Checkpoint) -> Result<Entry<InventoryEntry>> {
    let inventory = checkpoint.inventory()?;
    let path = || checkpoint.source().location().join(INVENTORY);
    let version = inventory.img_version;
    if version != IMAGES_V1_1 && version != IMAGES_V1_2 {
        let detail = format!("unsupported image version {version}");
        return Err(Error::unsuitable(path(), detail));
    }
    match inventory.compress {
        Some(mode) if mode > 1 => {
            let detail = format!("unknown compression mode {mode}");
            Err(Error::unsuitable(path(), detail))
        }
        Some(1) if version != IMAGES_V1_2 => {
            let detail = format!("image version {version} cannot have compressed pages");
            Err(Error::unsuitable(path(), detail))
        }
        _ => Ok(inventory),
    }
}

/// Stages an inventory.
pub(super) fn stage_inventory(
    checkpoint: &Checkpoint,
    inventory: &Entry<InventoryEntry>,
    staged: StagedFile,
) -> Result<StagedFile> {
    let reader = checkpoint.image(ImageKind::Inventory, 0)?;
    let mut writer = ImageWriter::new(staged.file(), reader.header(), reader.byte_order())?;
    writer
        .entry(&inventory.bytes())
        .and_then(|()| writer.finish())
        .map_err(|error| error.in_file(staged.path()))?;
    Ok(staged)
}

/// Opens a checkpoint in a directory, and the changes to it.
pub(super) fn open(directory: &std::path::Path) -> Result<(Checkpoint, Transaction)> {
    let checkpoint = Checkpoint::open(directory)?;
    let transaction = Transaction::new(checkpoint.source().location());
    Ok((checkpoint, transaction))
}

fn file_error(path: &std::path::Path, entry: u64, detail: &str) -> Error {
    Error::Entry {
        path: path.to_owned(),
        entry,
        detail: detail.to_owned(),
    }
}

/// The inventory's file.
pub(super) const INVENTORY: &str = "inventory.img";
/// The link to the checkpoint that an incremental one continues.
pub(super) const PARENT: &str = "parent";
