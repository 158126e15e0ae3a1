//! What the fuzzers do with bytes: everything that a user can do with images from anywhere.
//!
//! Each function takes any bytes and must come back: no panic, no hang, no memory beyond what the
//! bytes account for. The fuzz targets only call these; so do the tests, with damaged images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, OpenImage, RandomAccess, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{AddressSpace, Memory, MemoryOptions};
use crate::message;
use crate::reader::{ImageReader, ReadOptions};
use crate::wire::{Fields, Message};
use crate::writer::ImageWriter;

/// Reads bytes as an image and writes it again.
///
/// # Panics
///
/// Panics when an image that can be read does not come back byte for byte.
pub fn image_round_trip(bytes: &[u8]) {
    for len in [None, Some(bytes.len() as u64)] {
        let options = ReadOptions {
            len,
            ..ReadOptions::default()
        };
        let Ok(mut reader) = options.read(bytes) else {
            continue;
        };
        let Ok(mut writer) = ImageWriter::new(Vec::new(), reader.header(), reader.byte_order())
        else {
            continue;
        };
        if reader.copy_to(&mut writer).is_ok()
            && let Ok(written) = writer.finish()
        {
            assert!(
                written == bytes,
                "an image that can be read comes back as it was"
            );
        }
    }
    if let Ok(mut reader) = ImageReader::new(bytes) {
        while let Ok(Some(entry)) = reader.next_entry() {
            walk(Fields::new(entry.bytes), 0);
        }
    }
}

/// Decodes bytes as one of the messages that are made of others, and encodes it again.
///
/// The first byte picks the message.
///
/// # Panics
///
/// Panics when what was encoded does not decode to the same message.
pub fn message_round_trip(bytes: &[u8]) {
    if let Some((&pick, bytes)) = bytes.split_first() {
        (MESSAGES[usize::from(pick) % MESSAGES.len()].1)(bytes);
    }
}

/// The first byte that has [`message_round_trip`] take the message of this name.
#[must_use]
pub fn pick_of(name: &str) -> Option<u8> {
    let index = MESSAGES.iter().position(|(known, _)| *known == name)?;
    u8::try_from(index).ok()
}

fn recode<T: Message>(bytes: &[u8]) {
    if let Ok(message) = T::decode(bytes) {
        let encoded = message.encode();
        assert!(
            T::decode(&encoded).as_ref() == Ok(&message),
            "what was encoded decodes to the same"
        );
    }
}

/// Takes bytes for the files of a checkpoint ([`CHECKPOINT`]), and looks at all of it.
///
/// The bytes are files one behind the other, each with its length in two bytes, little endian.
///
/// # Panics
///
/// Panics when a task is lost in the tree.
pub fn checkpoint(bytes: &[u8]) {
    let checkpoint = Checkpoint::new(Arc::new(Files::split(CHECKPOINT, bytes)));
    for image in checkpoint.images().unwrap_or_default() {
        let Ok(mut reader) = checkpoint.image_named(image.kind, &image.name) else {
            continue;
        };
        while let Ok(Some(_)) = reader.next_entry() {}
    }
    if let Ok(tasks) = checkpoint.tasks() {
        assert_eq!(tasks.walk().len(), tasks.len(), "every task is met once");
    }
    drop((
        checkpoint.inventory(),
        checkpoint.core(1),
        checkpoint.creds(1),
        checkpoint.ids(1),
    ));
    drop((
        checkpoint.files(),
        checkpoint.fs(1),
        checkpoint.fdinfo(1),
        checkpoint.dump_stats(),
    ));
}

/// Takes bytes for the files that memory is in ([`MEMORY`]), as [`checkpoint`] does, and looks
/// into every area.
///
/// # Panics
///
/// Panics when spans overlap, leave a gap within an area, or say other than what reading gives.
pub fn address_space(bytes: &[u8]) {
    let checkpoint = Checkpoint::new(Arc::new(Files::split(MEMORY, bytes)));
    if let Ok(memory) = Memory::open(&checkpoint, MemoryOptions::default()) {
        if let Ok(space) = memory.task(1) {
            look_through(&space);
        }
        if let Ok(space) = memory.shared(1) {
            look_through(&space);
        }
    }
}

/// Looks at the first spans of an address space, and at some bytes of each.
fn look_through(space: &AddressSpace) {
    let mut reader = space.reader();
    let mut out = [0; 5000];
    let mut last_end = 0;
    for span in space.all_spans().take(SPAN_LIMIT) {
        assert!(span.end > span.start, "no span is empty");
        assert_eq!(
            span.start,
            space.areas()[span.area].start().max(last_end),
            "spans ascend without a gap"
        );
        last_end = span.end;
        if let Ok(count) = reader.read_at(span.start, &mut out) {
            assert_eq!(count > 0, span.content.is_known(), "known bytes are read");
        }
        assert_eq!(
            space.span_at(span.start).map(|same| same.content),
            Some(span.content)
        );
        drop(reader.read_at(span.end - 1, &mut out));
    }
}

/// Walks fields, and whatever within them looks like fields.
fn walk(fields: Fields<'_>, depth: u32) {
    for field in fields {
        let Ok(field) = field else { break };
        // Bytes that are no message fail; how deep they lead is limited by the walk itself.
        if depth < 8
            && let Ok(inner) = field.message()
        {
            walk(inner, depth + 1);
        }
    }
}

/// Files in memory: those of a checkpoint, and of its parents under `parent/`.
#[derive(Debug)]
struct Files {
    location: PathBuf,
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Files {
    fn split(names: &[&'static str], mut bytes: &[u8]) -> Self {
        let mut files = Vec::new();
        for name in names {
            let Some((len, rest)) = bytes.split_first_chunk() else {
                break;
            };
            let (file, rest) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
            files.push((*name, file.to_vec()));
            bytes = rest;
        }
        Self {
            location: PathBuf::from("fuzz"),
            files,
        }
    }

    fn find(&self, name: &str) -> Result<Vec<u8>> {
        let found = self.files.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, bytes)| bytes.clone())
            .ok_or_else(|| Error::from(ErrorKind::Missing))
    }
}

impl Source for Files {
    fn names(&self) -> Result<Vec<String>> {
        Ok(self
            .files
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect())
    }

    fn open(&self, name: &str) -> Result<OpenImage> {
        let bytes = self.find(name)?;
        let len = Some(bytes.len() as u64);
        Ok(OpenImage {
            bytes: Box::new(std::io::Cursor::new(bytes)),
            len,
        })
    }

    fn open_pages(&self, name: &str) -> Result<Arc<dyn RandomAccess>> {
        Ok(Arc::new(self.find(name)?))
    }

    fn parent(&self) -> Result<Option<Arc<dyn Source>>> {
        let files: Vec<_> = self
            .files
            .iter()
            .filter_map(|(name, bytes)| Some((name.strip_prefix(PARENT)?, bytes.clone())))
            .collect();
        if files.is_empty() {
            return Ok(None);
        }
        let location = self.location.join(PARENT);
        Ok(Some(Arc::new(Self { location, files })))
    }

    fn location(&self) -> &Path {
        &self.location
    }
}

/// Puts files together as [`checkpoint`] and [`address_space`] take them apart, to begin a corpus
/// with.
#[must_use]
pub fn join(names: &[&str], file: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in names {
        let mut file = file(name).unwrap_or_default();
        file.truncate(usize::from(u16::MAX));
        bytes.extend(u16::try_from(file.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend(file);
    }
    bytes
}

/// Puts files of a directory together, the first of each kind under the id that the fuzzers know.
///
/// # Errors
///
/// Fails when the directory cannot be read.
pub fn join_directory(names: &[&str], directory: &Path) -> std::io::Result<Vec<u8>> {
    let mut there = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        there.extend(entry?.file_name().into_string().ok());
    }
    there.sort();
    Ok(join(names, |wanted| {
        let (prefix, suffix) = wanted.split_once("1.").unwrap_or((wanted, ""));
        let found = there.iter().find(|name| {
            let id = name
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_suffix(suffix)?.strip_suffix('.'));
            *name == wanted
                || id.is_some_and(|id| !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()))
        });
        std::fs::read(directory.join(found?)).ok()
    }))
}

/// What to do with the bytes of a message of that name.
type Named = (&'static str, fn(&[u8]));

const fn named<T: Message>() -> Named {
    (T::DESCRIPTOR.name, recode::<T>)
}

/// Messages that are made of others.
const MESSAGES: &[Named] = &[
    named::<message::CoreEntry>(),
    named::<message::MmEntry>(),
    named::<message::FileEntry>(),
    named::<message::PagemapEntry>(),
    named::<message::CgroupEntry>(),
    named::<message::InventoryEntry>(),
    named::<message::NetDeviceEntry>(),
    named::<message::NetnsEntry>(),
    named::<message::MntEntry>(),
    named::<message::TtyInfoEntry>(),
    named::<message::CpuinfoEntry>(),
    named::<message::UsernsEntry>(),
    named::<message::CredsEntry>(),
    named::<message::StatsEntry>(),
    named::<message::IpcMsgEntry>(),
    named::<message::SeccompEntry>(),
];

/// The files that [`checkpoint`] is made of.
pub const CHECKPOINT: &[&str] = &[
    "files.img",
    "pstree.img",
    "core-1.img",
    "inventory.img",
    "ids-1.img",
    "fs-1.img",
    "fdinfo-1.img",
    "creds-1.img",
    "stats-dump",
    "reg-files.img",
];

/// The files that [`address_space`] is made of.
pub const MEMORY: &[&str] = &[
    "mm-1.img",
    "pagemap-1.img",
    "pages-1.img",
    "parent/pagemap-1.img",
    "parent/pages-1.img",
    "parent/parent/pagemap-1.img",
    "pagemap-shmem-1.img",
    "pages-2.img",
    "files.img",
    "memfd.img",
    "inventory.img",
];

const PARENT: &str = "parent/";

/// Spans looked at; a hostile pagemap can have as many as it has bytes.
const SPAN_LIMIT: usize = 2000;
