//! The open files of a checkpoint, found by id and decoded when asked for.

use std::collections::HashMap;
use std::ops::Range;

use bstr::BString;
use criu_image::checkpoint::Files;
use criu_image::message::{FdTypes, FileEntry};
use criu_image::wire::slot::OpenEnum;
use criu_image::wire::{Fields, Message, Value};
use criu_image::{Checkpoint, ImageKind};

use super::Warning;
use super::files::type_name;
use crate::json::quoted_printable;

/// The files of `files.img` as bytes, since most are never asked for.
#[derive(Debug, Default)]
pub(super) struct FileTable {
    bytes: Vec<u8>,
    index: HashMap<(FdTypes, u32), Range<usize>>,
    /// Those of the images that older CRIU wrote for each type.
    legacy: Files,
}

impl FileTable {
    pub(super) fn read(checkpoint: &Checkpoint, warnings: &mut Vec<Warning>) -> Self {
        let mut table = Self::default();
        match checkpoint.image(ImageKind::Files, 0) {
            Ok(mut image) => loop {
                match image.next_entry() {
                    Ok(Some(entry)) => match key(entry.bytes) {
                        Some(key) => table.insert(key, entry.bytes),
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
        if table.index.is_empty() {
            match checkpoint.files() {
                Ok(legacy) => table.legacy = legacy,
                // What ails files.img has been said.
                Err(error) if error.place().kind == Some(ImageKind::Files) => {}
                Err(error) => warnings.push(error.into()),
            }
        }
        table
    }

    fn insert(&mut self, key: (FdTypes, u32), bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.index.entry(key).or_insert(start..self.bytes.len());
    }

    /// Looks a file up; `None` also if its entry is malformed.
    pub(super) fn find(&self, kind: FdTypes, id: u32) -> Option<FileEntry> {
        match self.index.get(&(kind, id)) {
            Some(range) => FileEntry::decode(&self.bytes[range.clone()]).ok(),
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
                let found = self.index.contains_key(&(kind, id))
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
