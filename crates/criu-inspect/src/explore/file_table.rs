//! The open files of a checkpoint, as CRIT names them.

use bstr::BString;
use criu_image::Checkpoint;
use criu_image::checkpoint::FileIndex;
use criu_image::message::{FdTypes, FileEntry};

use super::Warning;
use super::files::type_name;
use crate::json::quoted_printable;

/// What CRIT calls files.
#[derive(Debug, Default)]
pub(super) struct FileTable {
    files: FileIndex,
}

impl FileTable {
    pub(super) fn read(checkpoint: &Checkpoint, warnings: &mut Vec<Warning>) -> Self {
        let (files, errors) = checkpoint.partial_file_index();
        warnings.extend(errors.into_iter().map(Into::into));
        Self { files }
    }

    /// Looks a file up; `None` also if its entry is malformed.
    pub(super) fn find(&self, kind: FdTypes, id: u32) -> Option<FileEntry> {
        self.files.find(kind, id)
    }

    /// The path of a regular file.
    pub(super) fn path(&self, id: u32) -> Option<BString> {
        self.files.path(id).filter(|path| !path.is_empty())
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
                let found = self.files.contains(kind, id) || kind == FdTypes::Und;
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
