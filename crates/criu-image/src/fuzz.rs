//! What the fuzzers do with bytes: everything that a user can do with images from anywhere.
//!
//! Each function takes any bytes and must come back: no panic, no hang, no memory beyond what the
//! bytes account for. The fuzz targets only call these; so do the tests, with damaged images.

use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::{Checkpoint, OpenImage, RandomAccess, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::memory::{AddressSpace, Memory, MemoryOptions};
use crate::reader::{ImageReader, ReadOptions};
use crate::wire::Fields;
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

/// Takes bytes for the files of a checkpoint, and looks at all of it.
///
/// The bytes are files one behind the other, each with its length in two bytes, little endian; the
/// names come in turn from a list.
pub fn checkpoint(bytes: &[u8]) {
    let checkpoint = Checkpoint::new(Arc::new(Files::split(bytes)));
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
        assert!(
            span.start >= last_end && span.end > span.start,
            "spans ascend"
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

/// Files in memory.
#[derive(Debug)]
struct Files(Vec<(&'static str, Vec<u8>)>);

impl Files {
    fn split(mut bytes: &[u8]) -> Self {
        let mut files = Vec::new();
        for name in NAMES {
            let Some((len, rest)) = bytes.split_first_chunk() else {
                break;
            };
            let (file, rest) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
            files.push((*name, file.to_vec()));
            bytes = rest;
        }
        Self(files)
    }

    fn find(&self, name: &str) -> Result<Vec<u8>> {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, bytes)| bytes.clone())
            .ok_or_else(|| Error::from(ErrorKind::Missing))
    }
}

impl Source for Files {
    fn names(&self) -> Result<Vec<String>> {
        Ok(self.0.iter().map(|(name, _)| (*name).to_owned()).collect())
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
        Ok(None)
    }

    fn location(&self) -> &Path {
        Path::new("fuzz")
    }
}

/// Puts files together as [`checkpoint`] takes them apart, to begin a corpus with.
#[must_use]
pub fn join(file: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in NAMES {
        let mut file = file(name).unwrap_or_default();
        file.truncate(usize::from(u16::MAX));
        bytes.extend(u16::try_from(file.len()).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend(file);
    }
    bytes
}

const NAMES: &[&str] = &[
    "mm-1.img",
    "pagemap-1.img",
    "pages-1.img",
    "pagemap-shmem-1.img",
    "pages-2.img",
    "files.img",
    "memfd.img",
    "pstree.img",
    "core-1.img",
    "inventory.img",
    "ids-1.img",
    "fs-1.img",
    "fdinfo-1.img",
    "stats-dump",
    "reg-files.img",
];

/// Spans looked at; a hostile pagemap can have as many as it has bytes.
const SPAN_LIMIT: usize = 2000;
