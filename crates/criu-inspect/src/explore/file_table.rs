//! The open files of a checkpoint, found by id and decoded when asked for.

use std::sync::Arc;

use bstr::BString;
use criu_image::checkpoint::{Files, RandomAccess};
use criu_image::message::{FdTypes, FileEntry};
use criu_image::wire::slot::OpenEnum;
use criu_image::wire::{Fields, Message, Value};
use criu_image::{Checkpoint, ImageKind};

use super::Warning;
use super::files::type_name;
use crate::json::quoted_printable;

/// Where in `files.img` each file is, since most are never asked for.
#[derive(Debug, Default)]
pub(super) struct FileTable {
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

impl FileTable {
    pub(super) fn read(checkpoint: &Checkpoint, warnings: &mut Vec<Warning>) -> Self {
        let mut table = Self::default();
        match checkpoint.image(ImageKind::Files, 0) {
            Ok(mut image) => loop {
                match image.next_entry() {
                    Ok(Some(entry)) => match key(entry.bytes) {
                        Some((kind, id)) => table.places.push(FilePlace {
                            kind,
                            id,
                            // Behind the size word.
                            offset: entry.offset + 4,
                            // Sizes in images have 32 bits.
                            len: u32::try_from(entry.bytes.len()).unwrap_or(u32::MAX),
                        }),
                        None => warnings.extend(entry.decode::<FileEntry>().err().map(Into::into)),
                    },
                    Ok(None) => break,
                    Err(error) => {
                        warnings.push(error.into());
                        break;
                    }
                }
            },
            Err(error) if error.is_missing() => {}
            Err(error) => warnings.push(error.into()),
        }
        // Of several with the same type and id the first counts: it stays in front.
        table.places.sort_by_key(FilePlace::key);
        table.places.dedup_by_key(|place| place.key());
        if table.places.is_empty() {
            match checkpoint.files() {
                Ok(legacy) => table.legacy = legacy,
                // What ails files.img has been said.
                Err(error) if error.place().kind == Some(ImageKind::Files) => {}
                Err(error) => warnings.push(error.into()),
            }
        } else {
            let name = ImageKind::Files.file(0);
            match checkpoint.source().open_pages(&name) {
                Ok(image) => table.image = Some(image),
                Err(error) => warnings.push(error.into()),
            }
        }
        table
    }

    fn place(&self, kind: FdTypes, id: u32) -> Option<&FilePlace> {
        let key = (kind.number(), id);
        let index = self.places.binary_search_by_key(&key, FilePlace::key);
        self.places.get(index.ok()?)
    }

    /// Looks a file up; `None` also if its entry is malformed.
    pub(super) fn find(&self, kind: FdTypes, id: u32) -> Option<FileEntry> {
        match self.place(kind, id) {
            Some(place) => {
                // As long as the entry was when it was read.
                let mut bytes = vec![0; usize::try_from(place.len).ok()?];
                let image = self.image.as_ref()?;
                image.read_exact_at(&mut bytes, place.offset).ok()?;
                FileEntry::decode(&bytes).ok()
            }
            None => self.legacy.find(kind, id).cloned(),
        }
    }

    /// The path of a regular file.
    pub(super) fn path(&self, id: u32) -> Option<BString> {
        let file = self.find(FdTypes::Reg, id)?.reg?;
        (!file.name.is_empty()).then_some(file.name)
    }

    /// What CRIT calls a file; whether it was found.
    pub(super) fn describe(&self, kind: FdTypes, id: u32) -> (BString, bool) {
        let known = match kind {
            FdTypes::Reg => self.path(id),
            FdTypes::Pipe => self
                .find(kind, id)
                .and_then(|file| file.pipe)
                .map(|pipe| format!("pipe[{}]", pipe.pipe_id).into()),
            FdTypes::Unixsk => self.find(kind, id).and_then(|file| file.usk).map(|socket| {
                let mut text = format!("unix[{} ({})", socket.ino, socket.peer).into_bytes();
                if !socket.name.is_empty() {
                    text.push(b' ');
                    quoted_printable::encode(&socket.name, &mut text);
                }
                text.push(b']');
                text.into()
            }),
            _ => {
                let found = self.place(kind, id).is_some()
                    || self.legacy.find(kind, id).is_some()
                    || kind == FdTypes::Und;
                return (format!("{}.{id}", type_name(kind)).into(), found);
            }
        };
        match (known, kind) {
            (Some(text), _) => (text, true),
            (None, FdTypes::Pipe) => ("pipe[?]".into(), false),
            (None, FdTypes::Unixsk) => ("unix[?]".into(), false),
            (None, _) => ("unknown path".into(), false),
        }
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
