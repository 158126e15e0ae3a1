//! Where each open file is described, for those who ask about few of many.

use std::sync::Arc;

use bstr::BString;

use super::{Checkpoint, Files, RandomAccess};
use crate::error::{Error, Result};
use crate::kind::ImageKind;
use crate::message::{FdTypes, FileEntry};
use crate::wire::slot::OpenEnum;
use crate::wire::{Fields, Message, Value};

/// Every open file by type and id, as the place of its entry: a fraction of the memory that
/// [`Files`] takes. An entry is read and decoded when it is asked for.
#[derive(Debug, Default)]
pub struct FileIndex {
    /// The image, if there is one.
    image: Option<Arc<dyn RandomAccess>>,
    /// By ascending type and id.
    places: Vec<FilePlace>,
    /// Those of the images that older CRIU wrote for each type.
    legacy: Files,
}

/// Where a file's entry is.
#[derive(Debug)]
struct FilePlace {
    kind: FdTypes,
    id: u32,
    /// Position of the encoded entry in the image, in bytes.
    offset: u64,
    /// Bytes of the encoded entry.
    len: u32,
}

impl FileIndex {
    /// Reads as much as can be read, and tells what cannot.
    pub(super) fn read(checkpoint: &Checkpoint) -> (Self, Vec<Error>) {
        let mut index = Self::default();
        let mut errors = Vec::new();
        match checkpoint.image(ImageKind::Files, 0) {
            Ok(mut image) => loop {
                match image.next_entry() {
                    Ok(Some(entry)) => match key(entry.bytes) {
                        Some((kind, id)) => index.places.push(FilePlace {
                            kind,
                            id,
                            // Behind the size word.
                            offset: entry.offset + 4,
                            // Sizes in images have 32 bits.
                            len: u32::try_from(entry.bytes.len()).unwrap_or(u32::MAX),
                        }),
                        None => errors.extend(entry.decode::<FileEntry>().err()),
                    },
                    Ok(None) => break,
                    Err(error) => {
                        errors.push(error);
                        break;
                    }
                }
            },
            Err(error) if error.is_missing() => {}
            Err(error) => errors.push(error),
        }
        // Of several with the same type and id the first counts: it stays in front.
        index.places.sort_by_key(FilePlace::key);
        index.places.dedup_by_key(|place| place.key());
        if index.places.is_empty() {
            match checkpoint.files() {
                Ok(legacy) => index.legacy = legacy,
                // What ails files.img has been said.
                Err(error) if error.place().kind == Some(ImageKind::Files) => {}
                Err(error) => errors.push(error),
            }
        } else {
            let name = ImageKind::Files.file(0);
            match checkpoint.source().open_pages(&name) {
                Ok(image) => index.image = Some(image),
                Err(error) => errors.push(error),
            }
        }
        (index, errors)
    }

    fn place(&self, kind: FdTypes, id: u32) -> Option<&FilePlace> {
        let key = (kind.number(), id);
        let index = self.places.binary_search_by_key(&key, FilePlace::key);
        self.places.get(index.ok()?)
    }

    /// Returns whether there is such a file.
    #[must_use]
    pub fn contains(&self, kind: FdTypes, id: u32) -> bool {
        self.place(kind, id).is_some() || self.legacy.find(kind, id).is_some()
    }

    /// The file with the given type and id; `None` also if its entry is malformed.
    #[must_use]
    pub fn find(&self, kind: FdTypes, id: u32) -> Option<FileEntry> {
        let Some(place) = self.place(kind, id) else {
            return self.legacy.find(kind, id).cloned();
        };
        // As long as the entry was when it was met.
        let mut bytes = vec![0; usize::try_from(place.len).ok()?];
        let image = self.image.as_ref()?;
        image.read_exact_at(&mut bytes, place.offset).ok()?;
        FileEntry::decode(&bytes).ok()
    }

    /// The path of the regular file with the given id, as bytes.
    #[must_use]
    pub fn path(&self, id: u32) -> Option<BString> {
        Some(self.find(FdTypes::Reg, id)?.reg?.name)
    }
}

impl FilePlace {
    fn key(&self) -> (i32, u32) {
        (self.kind.number(), self.id)
    }
}

/// Type and id of an encoded `file_entry`, without looking at the rest.
fn key(bytes: &[u8]) -> Option<(FdTypes, u32)> {
    let (mut kind, mut id) = (None, None);
    for field in Fields::new(bytes) {
        let field = field.ok()?;
        if let Value::Varint(value) = field.value() {
            match field.number() {
                1 => kind = i32::try_from(value).ok(),
                2 => id = u32::try_from(value).ok(),
                _ => {}
            }
        }
    }
    Some((FdTypes::from_number(kind?), id?))
}

impl Checkpoint {
    /// Finds every open file; also in the images that older CRIU wrote for each type. None is no
    /// error.
    ///
    /// # Errors
    ///
    /// Fails when an image is damaged in such a way that files cannot be told from each other.
    pub fn file_index(&self) -> Result<FileIndex> {
        match FileIndex::read(self) {
            (index, errors) if errors.is_empty() => Ok(index),
            (_, mut errors) => Err(errors.swap_remove(0)),
        }
    }

    /// Finds the open files that can be found, and tells what is damaged.
    #[must_use]
    pub fn partial_file_index(&self) -> (FileIndex, Vec<Error>) {
        FileIndex::read(self)
    }
}
