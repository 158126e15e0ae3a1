//! Makes one checkpoint of a chain of incremental ones.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use criu_image::memory::{
    Content, Memory, MemoryOptions, PE_LAZY, PE_PARENT, PE_PRESENT, PageSize, Span,
};
use criu_image::message::PagemapEntry;
use criu_image::{Checkpoint, Entry, ImageWriter};

use super::decompress::{Expander, make_plain};
use super::pagemap::{self, INVENTORY, PARENT, PagemapFile, Pagemaps};
use super::transaction::sync_directory;
use super::{
    Backups, Error, IMAGES_V1_1, Outcome, Result, RewrittenPagemap, StagedFile, Transaction,
};
use crate::{Monitor, SparseWriter};

/// How to flatten.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct FlattenOptions {
    /// Whether the incremental images are kept.
    pub backups: Backups,
    /// The page size of the machine that was dumped; if not given it is worked out.
    pub page_size: Option<PageSize>,
}

/// Takes all pages that the checkpoint in a directory has in its parents into it, and its link to
/// them away. Its pages are then uncompressed. The parents stay as they are.
///
/// # Errors
///
/// Fails when images, also of a parent, are damaged or contradict each other, pages are in no
/// parent, files cannot be written, or the monitor stops it. Then the directory is as it was.
pub fn flatten(
    directory: &Path,
    options: FlattenOptions,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    let (checkpoint, transaction) = pagemap::open(directory)?;
    let mut target = InPlace(transaction);
    let outcome = rewrite(&checkpoint, &mut target, options, monitor)?;
    let InPlace(mut transaction) = target;
    if outcome == Outcome::Unneeded {
        return Ok(outcome);
    }
    if has_parent_link(&checkpoint) {
        transaction.remove(PARENT);
    }
    transaction.commit(options.backups, monitor)?;
    Ok(outcome)
}

/// Does the same in a new directory, and leaves the checkpoint as it is. All its files are copied
/// but backups and what is not a file.
///
/// The new directory takes its name when it is complete.
///
/// # Errors
///
/// Fails as [`flatten`] does, or when the new directory exists and is not empty. Then there is no
/// new directory.
pub fn flatten_into(
    directory: &Path,
    new: &Path,
    options: FlattenOptions,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    let (checkpoint, _) = pagemap::open(directory)?;
    let beside = match new.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let name = new.file_name().unwrap_or(OsStr::new("flat"));
    let prefix = format!(".{}.crit-", name.to_string_lossy());
    let staging = tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(beside)
        .map_err(Error::io("create a directory beside", new))?;
    let mut target = NewDirectory {
        from: checkpoint.source().location().to_owned(),
        to: staging.path().to_owned(),
        new: new.to_owned(),
        written: Vec::new(),
    };
    let outcome = rewrite(&checkpoint, &mut target, options, monitor)?;
    for name in checkpoint.source().names()? {
        if monitor.is_stopped() {
            return Err(Error::Interrupted);
        }
        if name == PARENT || name.ends_with(BACKUP) || target.written.contains(&name) {
            continue;
        }
        let from = target.from.join(&name);
        let failed = || Error::io("copy", &from);
        // What is a link to an image here shall be an image there.
        if fs::metadata(&from).map_err(failed())?.is_file() {
            fs::copy(&from, target.to.join(&name)).map_err(failed())?;
        }
    }
    let mode = fs::metadata(&target.from).map_err(Error::io("open", &target.from))?;
    fs::set_permissions(&target.to, mode.permissions())
        .map_err(Error::io("set mode", &target.to))?;
    sync_directory(&target.to)?;
    if monitor.is_stopped() {
        return Err(Error::Interrupted);
    }
    // Takes the place of an empty directory, and of nothing else.
    fs::rename(&target.to, new).map_err(Error::io("create", new))?;
    // What it was called is gone.
    let _ = staging.keep();
    sync_directory(beside)?;
    Ok(outcome)
}

/// Where the new images go.
trait Target {
    fn stage(&self, name: &str) -> Result<StagedFile>;
    fn accept(&mut self, name: &str, staged: StagedFile) -> Result<()>;
    /// Whether there is nothing to do if the checkpoint is flat already.
    fn is_in_place(&self) -> bool;
}

struct InPlace(Transaction);

impl Target for InPlace {
    fn stage(&self, name: &str) -> Result<StagedFile> {
        self.0.stage(name)
    }

    fn accept(&mut self, _name: &str, staged: StagedFile) -> Result<()> {
        self.0.replace(staged)
    }

    fn is_in_place(&self) -> bool {
        true
    }
}

struct NewDirectory {
    from: PathBuf,
    /// What it is called until it is complete.
    to: PathBuf,
    new: PathBuf,
    written: Vec<String>,
}

impl Target for NewDirectory {
    fn stage(&self, name: &str) -> Result<StagedFile> {
        StagedFile::create(&self.to, self.new.join(name), self.from.join(name))
    }

    fn accept(&mut self, name: &str, staged: StagedFile) -> Result<()> {
        let (path, file) = staged.seal()?;
        file.persist(self.to.join(name))
            .map_err(|error| Error::io("create", &path)(error.error))?;
        self.written.push(name.to_owned());
        Ok(())
    }

    fn is_in_place(&self) -> bool {
        false
    }
}

fn rewrite(
    checkpoint: &Checkpoint,
    target: &mut impl Target,
    options: FlattenOptions,
    monitor: &dyn Monitor,
) -> Result<Outcome> {
    let mut inventory = pagemap::inventory(checkpoint)?;
    let pagemaps = Pagemaps::find(checkpoint, &inventory, options.page_size)?;
    if target.is_in_place() && !pagemaps.refer_to_parent(checkpoint) {
        return Ok(Outcome::Unneeded);
    }
    pagemaps.check(checkpoint, |_, _| Ok(()))?;
    let mut memory_options = MemoryOptions::default();
    memory_options.page_size = Some(pagemaps.page_size);
    let memory = Memory::open(checkpoint, memory_options)?;
    monitor.expect(pagemaps.files.iter().map(|file| file.pages_len).sum());
    let mut rewritten = Vec::with_capacity(pagemaps.files.len());
    for file in &pagemaps.files {
        let pages = target.stage(&file.pages_name)?;
        let map = target.stage(&file.name)?;
        let flat = Flattener {
            checkpoint,
            memory: &memory,
            page_size: pagemaps.page_size,
            file,
            monitor,
        };
        rewritten.push(flat.run(&map, &pages)?);
        target.accept(&file.pages_name, pages)?;
        target.accept(&file.name, map)?;
    }
    if inventory.img_version != IMAGES_V1_1 {
        let edited = inventory.edit();
        edited.compress = None;
        edited.compress_block_size = None;
        edited.img_version = IMAGES_V1_1;
        let staged = target.stage(INVENTORY)?;
        let staged = pagemap::stage_inventory(checkpoint, &inventory, staged)?;
        target.accept(INVENTORY, staged)?;
    }
    Ok(match rewritten.is_empty() {
        true => Outcome::NoPagemaps,
        false => Outcome::Rewritten(rewritten),
    })
}

/// Flattens one pagemap.
struct Flattener<'a> {
    checkpoint: &'a Checkpoint,
    memory: &'a Memory,
    page_size: PageSize,
    file: &'a PagemapFile,
    monitor: &'a dyn Monitor,
}

impl Flattener<'_> {
    fn run(&self, map: &StagedFile, pages: &StagedFile) -> Result<RewrittenPagemap> {
        let (mut reader, mut writer) = self.file.open_anew(self.checkpoint, map)?;
        let mut expander = Expander::new(
            self.page_size,
            self.file.open_pages()?,
            pages.path(),
            self.monitor,
        );
        let mut output = SparseWriter::new(pages.file());
        let space = if self.file.has_parent_entries {
            Some(self.memory.pagemap(self.file.kind, self.file.id)?)
        } else {
            None
        };
        let mut memory = space.as_ref().map(|space| space.reader());
        let mut rewritten = RewrittenPagemap {
            name: self.file.name.clone(),
            pages: 0,
            bytes_read: 0,
            bytes_written: 0,
        };
        while let Some((index, mut entry)) = pagemap::next(&mut reader)? {
            let failed = |detail| self.file.entry_error(index, detail);
            let extent = pagemap::extent(&entry, self.page_size).map_err(failed)?;
            if extent.flags & PE_PRESENT != 0 {
                expander.entry(self.file, &entry, &extent, &mut output)?;
                make_plain(&mut entry, &extent);
                rewritten.pages += extent.pages;
            }
            let Some(memory) = memory.as_mut().filter(|_| extent.flags & PE_PARENT != 0) else {
                put(&mut writer, &entry, map)?;
                continue;
            };
            let range = entry.vaddr..entry.vaddr.saturating_add(extent.byte_len);
            let mut next = range.start;
            for span in memory.space().spans(range.clone()) {
                if span.start != next {
                    return Err(failed(in_no_parent(next)));
                }
                next = span.end;
                let flags = match span.content {
                    Content::Stored { .. } | Content::Compressed { .. } => {
                        self.copy(memory, span, &mut output, pages.path())?;
                        rewritten.pages += span.byte_len() / self.page_size.bytes();
                        rewritten.bytes_read += span.byte_len();
                        PE_PRESENT | (extent.flags & PE_LAZY)
                    }
                    Content::Lazy => PE_LAZY,
                    _ => return Err(failed(in_no_parent(span.start))),
                };
                let piece = PagemapEntry {
                    vaddr: span.start,
                    nr_pages: Some(span.byte_len() / self.page_size.bytes()),
                    flags: Some(flags),
                    unknown: entry.unknown.clone(),
                    ..PagemapEntry::default()
                };
                put(&mut writer, &piece.into(), map)?;
            }
            if next != range.end {
                return Err(failed(in_no_parent(next)));
            }
        }
        writer.finish().map_err(|error| error.in_file(map.path()))?;
        rewritten.bytes_read += expander.input.position;
        rewritten.bytes_written = output.position();
        output.finish().map_err(Error::io("write", pages.path()))?;
        Ok(rewritten)
    }

    /// Copies the bytes of a span.
    fn copy(
        &self,
        memory: &mut criu_image::memory::MemoryReader<'_>,
        span: Span,
        output: &mut SparseWriter<'_>,
        to: &Path,
    ) -> Result<()> {
        self.monitor.expect(span.byte_len());
        let mut buffer = vec![0; COPY_LEN];
        let mut at = span.start;
        while at < span.end {
            if self.monitor.is_stopped() {
                return Err(Error::Interrupted);
            }
            let len = usize::try_from(span.end - at).map_or(COPY_LEN, |left| left.min(COPY_LEN));
            let count = memory.read_at(at, &mut buffer[..len])?;
            if count == 0 {
                return Err(Error::unsuitable(&self.file.path, in_no_parent(at)));
            }
            output
                .write(&buffer[..count])
                .map_err(Error::io("write", to))?;
            self.monitor.advance(count as u64);
            at += count as u64;
        }
        Ok(())
    }
}

fn put(
    writer: &mut ImageWriter<&fs::File>,
    entry: &Entry<PagemapEntry>,
    map: &StagedFile,
) -> Result<()> {
    Ok(writer
        .entry(&entry.bytes())
        .map_err(|error| error.in_file(map.path()))?)
}

fn in_no_parent(address: u64) -> String {
    format!("the page at {address:#x} is in no parent")
}

fn has_parent_link(checkpoint: &Checkpoint) -> bool {
    fs::symlink_metadata(checkpoint.source().location().join(PARENT)).is_ok()
}

/// Bytes copied at once.
const COPY_LEN: usize = 256 * 1024;

/// How the names of backups end.
const BACKUP: &str = ".bak";
