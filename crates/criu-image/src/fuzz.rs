//! What the fuzzers do with bytes: everything that a user can do with images from anywhere.
//!
//! Each function takes any bytes and must come back: no panic, no hang, no memory beyond what the
//! bytes account for. The fuzz targets only call these; so do the tests, with damaged images.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, MemoryMap, OpenImage, RandomAccess, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::kind::ImageKind;
use crate::memory::{AddressSpace, Memory, MemoryOptions, PageRange};
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
/// Panics when what was encoded does not decode to the same message, or a view of it says other than
/// the message does.
pub fn message_round_trip(bytes: &[u8]) {
    if let Some((&pick, bytes)) = bytes.split_first() {
        (MESSAGES[usize::from(pick) % MESSAGES.len()].1)(bytes);
        views(bytes);
    }
}

/// What is read without the struct is what the struct has.
fn views(bytes: &[u8]) {
    if let Ok(entry) = message::PagemapEntry::decode(bytes) {
        assert_eq!(PageRange::decode(bytes), Ok(PageRange::from(&entry)));
    }
    let map = MemoryMap::decode(bytes.to_vec());
    if let Ok(mm) = message::MmEntry::decode(bytes) {
        let map = map.expect("the rest of a sound message is sound");
        assert_eq!(map.area_count(), mm.vmas.len());
        assert_eq!(map.areas().collect::<Result<Vec<_>, _>>(), Ok(mm.vmas));
    } else if let Ok(map) = map {
        assert!(
            map.areas().any(|area| area.is_err()),
            "an area is the cause"
        );
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

/// Takes bytes for the files of a checkpoint, and looks at all of it.
///
/// The bytes are files one behind the other: one byte for the length of the name, the name, two
/// bytes, little endian, for the length of the file, the file. Names of a parent checkpoint's files
/// begin with `parent/`.
///
/// # Panics
///
/// Panics when a task is lost in the tree.
pub fn checkpoint(bytes: &[u8]) {
    let checkpoint = checkpoint_of(bytes);
    for image in checkpoint.images().unwrap_or_default() {
        let Ok(mut reader) = checkpoint.image_named(image.kind, &image.name) else {
            continue;
        };
        while let Ok(Some(_)) = reader.next_entry() {}
    }
    drop((
        checkpoint.inventory(),
        checkpoint.files(),
        checkpoint.dump_stats(),
        checkpoint.chain(),
    ));
    let Ok(tasks) = checkpoint.tasks() else {
        return;
    };
    assert_eq!(tasks.walk().len(), tasks.len(), "every task is met once");
    for task in tasks.iter().take(ID_LIMIT) {
        let id = checkpoint.ids(task.pid).map_or(1, |ids| ids.files_id);
        drop((
            checkpoint.core(task.pid),
            checkpoint.creds(task.pid),
            checkpoint.fs(task.pid),
            checkpoint.fdinfo(id),
        ));
    }
}

/// Takes bytes for the files of a checkpoint, as [`checkpoint`] does, and looks into every area of
/// its memory.
///
/// # Panics
///
/// Panics when spans overlap, leave a gap within an area, or say other than what reading gives.
pub fn address_space(bytes: &[u8]) {
    let checkpoint = checkpoint_of(bytes);
    let Ok(memory) = Memory::open(&checkpoint, MemoryOptions::default()) else {
        return;
    };
    for id in ids(&checkpoint, ImageKind::Mm) {
        if let Ok(pid) = u32::try_from(id)
            && let Ok(space) = memory.task(pid)
        {
            look_through(&space);
        }
    }
    for id in ids(&checkpoint, ImageKind::ShmemPagemap) {
        if let Ok(space) = memory.shared(id) {
            look_through(&space);
        }
    }
}

/// The checkpoint that bytes stand for, as [`checkpoint`] takes them.
#[must_use]
pub fn checkpoint_of(bytes: &[u8]) -> Checkpoint {
    Checkpoint::new(Arc::new(Files::split(bytes)))
}

/// The first ids of a kind of image.
fn ids(checkpoint: &Checkpoint, kind: ImageKind) -> impl Iterator<Item = u64> + use<> {
    let ids = checkpoint.ids_of(kind).unwrap_or_default();
    ids.into_iter().take(ID_LIMIT)
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
    files: Vec<(String, Vec<u8>)>,
}

impl Files {
    fn split(mut bytes: &[u8]) -> Self {
        let mut files = Vec::new();
        while files.len() < FILE_LIMIT
            && let Some((&name_len, rest)) = bytes.split_first()
            && let Some((name, rest)) = rest.split_at_checked(name_len.into())
            && let Some((len, rest)) = rest.split_first_chunk()
        {
            let len = usize::from(u16::from_le_bytes(*len));
            let (file, rest) = rest.split_at(len.min(rest.len()));
            if let Ok(name) = String::from_utf8(name.to_vec()) {
                files.push((name, file.to_vec()));
            }
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
            .filter_map(|(name, bytes)| {
                Some((name.strip_prefix(PARENT)?.to_owned(), bytes.clone()))
            })
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

/// Puts files together as [`checkpoint`] takes them apart, to begin a corpus with; of each at most
/// `len_limit` bytes.
#[must_use]
pub fn join<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>, len_limit: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, file) in files {
        let Ok(name_len) = u8::try_from(name.len()) else {
            continue;
        };
        let len = u16::try_from(file.len()).map_or(len_limit, |len| len.min(len_limit));
        bytes.push(name_len);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend_from_slice(&file[..len.into()]);
    }
    bytes
}

/// Puts the images of a directory and its parents together, those of the kinds that are wanted.
///
/// # Errors
///
/// Fails when the directory cannot be read.
pub fn join_directory(
    directory: &Path,
    wanted: fn(ImageKind) -> bool,
    len_limit: u16,
) -> std::io::Result<Vec<u8>> {
    let mut files = Vec::new();
    let mut prefix = String::new();
    while prefix.len() < 3 * PARENT.len() && directory.join(&prefix).is_dir() {
        for entry in std::fs::read_dir(directory.join(&prefix))? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string()
                && ImageKind::from_file_name(&name).is_some_and(|(kind, _)| wanted(kind))
            {
                files.push((format!("{prefix}{name}"), std::fs::read(entry.path())?));
            }
        }
        prefix.push_str(PARENT);
    }
    files.sort();
    let files = files.iter().map(|(name, file)| (&name[..], &file[..]));
    Ok(join(files, len_limit))
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

const PARENT: &str = "parent/";

/// Spans looked at; a hostile pagemap can have as many as it has bytes.
const SPAN_LIMIT: usize = 2000;

/// Tasks and shared memory objects looked at.
const ID_LIMIT: usize = 4;

/// Files taken; hostile input could name very many empty ones.
const FILE_LIMIT: usize = 256;
