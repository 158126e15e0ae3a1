//! Which pages were in a page stream.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use criu_image::message::{PagemapEntry, PagemapHead};
use criu_image::{ByteOrder, Header, ImageKind, ImageWriter};

use crate::images_dir::ImagesDir;
use crate::page_stream::{COMMAND_BYTES, Command, SHARED_MEMORY, TASK_MEMORY};

const NATIVE: ByteOrder = if cfg!(target_endian = "big") {
    ByteOrder::Big
} else {
    ByteOrder::Little
};

/// Which pages went where: what a destination's images say of them, without the pages.
#[derive(Debug, Default)]
pub(crate) struct Pagemaps(BTreeMap<u64, Vec<PagemapEntry>>);

impl Pagemaps {
    /// Writes them as images whose pages are elsewhere.
    ///
    /// A dump that builds upon them needs to know which pages are there, not what is in them.
    pub(crate) fn write_to(&self, images: &ImagesDir) -> io::Result<()> {
        for ((target, entries), pages_id) in self.0.iter().zip(1..) {
            let kind = match target & 0xff {
                TASK_MEMORY => ImageKind::Pagemap,
                SHARED_MEMORY => ImageKind::ShmemPagemap,
                _ => continue,
            };
            let file = images.create_file(&kind.file(target >> 8))?;
            write(file, kind, pages_id, entries).map_err(io::Error::other)?;
            images.create_file(&ImageKind::Pages.file(pages_id.into()))?;
        }
        Ok(())
    }
}

fn write(
    file: File,
    kind: ImageKind,
    pages_id: u32,
    entries: &[PagemapEntry],
) -> criu_image::Result<()> {
    let mut writer = ImageWriter::new(file, Header::new(kind), NATIVE)?;
    writer.message(&PagemapHead {
        pages_id,
        ..PagemapHead::default()
    })?;
    for entry in entries {
        writer.message(entry)?;
    }
    writer.finish()?;
    Ok(())
}

/// Reads along with a page stream, for which pages are in it.
#[derive(Debug)]
pub(crate) struct Reader {
    page_size_bytes: u64,
    pagemaps: Pagemaps,
    /// The part of a command that has come so far.
    begun: Vec<u8>,
    /// Bytes of pages before the next command.
    pages_left_bytes: u64,
}

impl Reader {
    pub(crate) fn new(page_size_bytes: u64) -> Self {
        Self {
            page_size_bytes,
            pagemaps: Pagemaps::default(),
            begun: Vec::with_capacity(COMMAND_BYTES),
            pages_left_bytes: 0,
        }
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let pages = usize::try_from(self.pages_left_bytes).unwrap_or(usize::MAX);
            let skipped = pages.min(bytes.len());
            self.pages_left_bytes -= skipped as u64;
            bytes = &bytes[skipped..];
            let wanted = COMMAND_BYTES - self.begun.len();
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            self.begun.extend_from_slice(now);
            bytes = later;
            if let Ok(command) = <&[u8; COMMAND_BYTES]>::try_from(self.begun.as_slice()) {
                let command = Command::decode(command);
                self.begun.clear();
                self.note(&command);
            }
        }
    }

    fn note(&mut self, command: &Command) {
        if command.opens() {
            self.pagemaps.0.insert(command.id, Vec::new());
        }
        let Some(flags) = command.flags_of_pages() else {
            return;
        };
        self.pages_left_bytes = command.pages_behind().saturating_mul(self.page_size_bytes);
        let entry = PagemapEntry {
            vaddr: command.address,
            compat_nr_pages: u32::try_from(command.pages).unwrap_or(u32::MAX),
            nr_pages: Some(command.pages),
            flags: Some(flags),
            ..PagemapEntry::default()
        };
        self.pagemaps.0.entry(command.id).or_default().push(entry);
    }

    /// What was in it.
    pub(crate) fn finish(self) -> Pagemaps {
        self.pagemaps
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::page_stream::{ADD, ADD_WITH_FLAGS, FORCE_CLOSE, IN_PARENT, OPEN_AND_TELL, PRESENT};

    pub(crate) fn command(number: u32, flags: u32, pages: u64, address: u64, id: u64) -> Vec<u8> {
        let mut bytes = (flags << 16 | number).to_ne_bytes().to_vec();
        bytes.extend([0xaa; 4]); // what stands in padding means nothing
        for word in [pages, address, id] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn the_pages_of_a_stream_are_known_however_it_is_cut() {
        let mut stream = command(OPEN_AND_TELL, 0, 0, 0, 7 << 8 | 1);
        stream.extend(command(ADD_WITH_FLAGS, PRESENT | 2, 2, 0x1000, 7 << 8 | 1));
        stream.extend([6; 8192]); // pages that look like commands
        stream.extend(command(ADD_WITH_FLAGS, IN_PARENT, 9, 0x8000, 7 << 8 | 1));
        stream.extend(command(5, 0, 0, 0, 9 << 8 | 2));
        stream.extend(command(OPEN_AND_TELL, 0, 0, 0, 9 << 8 | 2));
        stream.extend(command(ADD, 0, 1, 0, 9 << 8 | 2));
        stream.extend([1; 4096]);
        stream.extend(command(FORCE_CLOSE, 0, 0, 0, 0));
        for step in [1, 31, 33, 4096, 100_000] {
            let mut reader = Reader::new(4096);
            stream.chunks(step).for_each(|bytes| reader.read(bytes));
            let pagemaps = reader.finish();
            let entries = |id| -> Vec<(u64, Option<u64>, Option<u32>)> {
                let entries = pagemaps.0[&id].iter();
                entries
                    .map(|entry| (entry.vaddr, entry.nr_pages, entry.flags))
                    .collect()
            };
            assert_eq!(
                entries(7 << 8 | 1),
                [(0x1000, Some(2), Some(6)), (0x8000, Some(9), Some(1))]
            );
            assert_eq!(entries(9 << 8 | 2), [(0, Some(1), Some(4))]);
            assert_eq!(pagemaps.0.len(), 2);
        }
    }
}
