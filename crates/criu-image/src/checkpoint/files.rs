//! The open files of a checkpoint.

use std::collections::HashMap;

use super::Checkpoint;
use crate::error::{Error, Result};
use crate::kind::ImageKind;
use crate::message::{FdTypes, FileEntry};
use crate::wire::Message;

/// Every open file, by type and id.
#[derive(Clone, Debug, Default)]
pub struct Files {
    entries: Vec<FileEntry>,
    by_id: HashMap<(FdTypes, u32), usize>,
}

impl Files {
    /// Makes the table of the given files. Of several with the same type and id the first counts.
    #[must_use]
    pub fn new(entries: Vec<FileEntry>) -> Self {
        let mut by_id = HashMap::with_capacity(entries.len());
        for (index, file) in entries.iter().enumerate() {
            by_id.entry((file.r#type, file.id)).or_insert(index);
        }
        Self { entries, by_id }
    }

    /// The files in the order of the images.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &FileEntry> {
        self.entries.iter()
    }

    /// The file with the given type and id.
    #[must_use]
    pub fn find(&self, kind: FdTypes, id: u32) -> Option<&FileEntry> {
        self.by_id
            .get(&(kind, id))
            .map(|&index| &self.entries[index])
    }

    /// The path of the regular file with the given id, as bytes.
    #[must_use]
    pub fn path(&self, id: u32) -> Option<&bstr::BStr> {
        let file = self.find(FdTypes::Reg, id)?.reg.as_deref()?;
        Some(file.name.as_ref())
    }
}

/// Reads `files.img`, and where a type has none there, the image of its own that older CRIU wrote.
pub(super) fn read(checkpoint: &Checkpoint) -> Result<Files> {
    let mut files: Vec<FileEntry> = Vec::new();
    match checkpoint.image(ImageKind::Files, 0) {
        Ok(mut image) => {
            while let Some(entry) = image.next_entry()? {
                files.push(entry.decode()?);
            }
        }
        Err(error) if error.is_missing() => {}
        Err(error) => return Err(error),
    }
    if files.is_empty() {
        for legacy in LEGACY {
            (legacy.read)(checkpoint, legacy, &mut files)?;
        }
    }
    Ok(Files::new(files))
}

/// An image with the files of one type.
struct Legacy {
    image: ImageKind,
    kind: FdTypes,
    read: fn(&Checkpoint, &Self, &mut Vec<FileEntry>) -> Result<()>,
}

fn read_legacy<T: Message>(
    checkpoint: &Checkpoint,
    legacy: &Legacy,
    files: &mut Vec<FileEntry>,
    place: fn(T) -> (u32, FileEntry),
) -> Result<()> {
    let mut image = match checkpoint.image(legacy.image, 0) {
        Ok(image) => image,
        Err(error) if error.is_missing() => return Ok(()),
        Err(error) => return Err(error),
    };
    while let Some(entry) = image.next_entry()? {
        let (id, file) = place(entry.decode()?);
        files.push(FileEntry {
            r#type: legacy.kind,
            id,
            ..file
        });
    }
    Ok::<_, Error>(())
}

macro_rules! legacy {
    ($($image:ident, $kind:ident, $field:ident;)*) => {
        &[$(Legacy {
            image: ImageKind::$image,
            kind: FdTypes::$kind,
            read: |checkpoint, legacy, files| read_legacy(checkpoint, legacy, files, |file| {
                let file = Some(Box::new(file));
                let entry = FileEntry { $field: file, ..FileEntry::default() };
                (entry.$field.as_deref().map_or(0, |file| file.id), entry)
            }),
        }),*]
    };
}

/// The images that `files.img` has taken the place of.
const LEGACY: &[Legacy] = legacy! {
    RegFiles, Reg, reg;
    Inetsk, Inetsk, isk;
    NsFiles, Ns, nsf;
    Packetsk, Packetsk, psk;
    NetlinkSk, Netlinksk, nlsk;
    EventfdFile, Eventfd, efd;
    EventpollFile, Eventpoll, epfd;
    Signalfd, Signalfd, sgfd;
    Tunfile, Tunf, tunf;
    Timerfd, Timerfd, tfd;
    InotifyFile, Inotify, ify;
    FanotifyFile, Fanotify, ffy;
    ExtFiles, Ext, ext;
    Unixsk, Unixsk, usk;
    Fifo, Fifo, fifo;
    Pipes, Pipe, pipe;
    TtyFiles, Tty, tty;
    BpfmapFile, Bpfmap, bpf;
    Pidfd, Pidfd, pidfd;
};
