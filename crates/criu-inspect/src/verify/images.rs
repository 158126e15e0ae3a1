//! Whether every image can be read, and comes back byte for byte.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::thread;

use criu_image::checkpoint::ImageName;
use criu_image::kind::Entries;
use criu_image::schema::MessageDescriptor;
use criu_image::{ImageKind, ImageReader, ImageWriter};

use super::{Check, Fault};
use crate::json::{
    DecodeError, EncodeError, EncodeOptions, Style, decode_message, encode_message,
    encode_message_from,
};

impl Check<'_> {
    pub(super) fn images(&mut self, images: &[ImageName]) {
        let mut named = HashSet::new();
        for image in images {
            if self.monitor.is_stopped() {
                return;
            }
            // Two names can stand for the same image.
            if !named.insert(&image.name) {
                continue;
            }
            self.verified.images += 1;
            // Pages are looked at together with what maps them.
            if image.kind == ImageKind::Pages {
                let len = self.checkpoint.source().open(&image.name);
                self.verified.bytes += len.ok().and_then(|file| file.len).unwrap_or(0);
                continue;
            }
            if let Err(error) = self.image(image) {
                self.failed(&error);
            }
        }
    }

    fn image(&mut self, image: &ImageName) -> criu_image::Result<()> {
        let (kind, name) = (image.kind, &image.name);
        let mut reader = self.checkpoint.image_named(kind, name)?;
        let mut entries = 0;
        let mut again = Again::default();
        while let Some(entry) = reader.next_entry()? {
            entries += 1;
            let (index, offset) = (entry.index, entry.offset);
            let problem = again.problem(entry.descriptor, entry.bytes);
            if let Some(problem) = problem {
                self.push(Fault {
                    file: Some(name.clone()),
                    entry: Some(index),
                    offset: Some(offset),
                    problem,
                });
            }
        }
        match kind.entries() {
            Entries::One(_) if entries != 1 => {
                self.fault(
                    Some(name),
                    None,
                    format!("{entries} entries instead of one"),
                );
            }
            Entries::Headed { .. } if entries == 0 => {
                self.fault(Some(name), None, "the first entry is missing");
            }
            _ => {}
        }
        drop(reader);
        self.copy(image)
    }

    /// Writes an image anew, payloads and all, and compares.
    fn copy(&mut self, image: &ImageName) -> criu_image::Result<()> {
        let mut reader = self.checkpoint.image_named(image.kind, &image.name)?;
        let original = self.checkpoint.source().open(&image.name)?.bytes;
        let same = Comparison {
            original,
            compared: 0,
            piece: Vec::new(),
        };
        let (header, order) = (reader.header(), reader.byte_order());
        let mut writer = ImageWriter::new(same, header, order)?;
        copy(&mut reader, &mut writer)?;
        let mut same = writer.finish()?;
        self.verified.bytes += same.compared;
        let mut rest = [0];
        if same.original.read(&mut rest).is_ok_and(|count| count > 0) {
            let problem = format!(
                "bytes behind the last entry, from byte {} on",
                same.compared
            );
            self.fault(Some(&image.name), None, problem);
        }
        Ok(())
    }
}

/// Turns entries into JSON and back, in memory that it keeps from one to the next.
#[derive(Default)]
struct Again {
    json: Vec<u8>,
    bytes: Vec<u8>,
}

impl Again {
    /// Why an entry does not come back the same.
    fn problem(&mut self, descriptor: &'static MessageDescriptor, entry: &[u8]) -> Option<String> {
        self.json.clear();
        self.bytes.clear();
        // The text of an entry takes several times as much memory as the entry.
        let gone_through = match entry.len() > LARGE_ENTRY {
            true => self.by_pipe(descriptor, entry),
            false => self.in_memory(descriptor, entry),
        };
        match gone_through {
            Err(problem) => Some(problem),
            Ok(()) if self.bytes != entry => {
                Some("it does not come back the same from JSON".to_owned())
            }
            Ok(()) => None,
        }
    }

    fn in_memory(
        &mut self,
        descriptor: &'static MessageDescriptor,
        entry: &[u8],
    ) -> Result<(), String> {
        decode_message(descriptor, entry, Style::Compact, &mut self.json)
            .map_err(|error| super::with_causes(&error))?;
        encode_message(
            descriptor,
            &self.json,
            EncodeOptions::default(),
            &mut self.bytes,
        )
        .map_err(unreadable)
    }

    fn by_pipe(
        &mut self,
        descriptor: &'static MessageDescriptor,
        entry: &[u8],
    ) -> Result<(), String> {
        let (from, to) = io::pipe().map_err(|error| format!("no pipe for its JSON: {error}"))?;
        let (decoded, encoded) = thread::scope(|scope| {
            let decoding = scope.spawn(|| decode_message(descriptor, entry, Style::Compact, to));
            let options = EncodeOptions::default();
            let encoded = encode_message_from(descriptor, from, options, &mut self.bytes);
            (decoding.join(), encoded)
        });
        match decoded {
            Err(panic) => std::panic::resume_unwind(panic),
            // Without its reader the text cannot be written.
            Ok(Ok(()) | Err(DecodeError::Write(_))) => encoded.map_err(unreadable),
            Ok(Err(error)) => Err(super::with_causes(&error)),
        }
    }
}

fn unreadable(error: EncodeError) -> String {
    format!("its JSON cannot be encoded: {error}")
}

fn copy<R: Read, W: Write>(
    reader: &mut ImageReader<R>,
    writer: &mut ImageWriter<W>,
) -> criu_image::Result<()> {
    reader.copy_to(writer)
}

/// Takes only what an original has too.
struct Comparison {
    original: Box<dyn Read + Send>,
    compared: u64,
    piece: Vec<u8>,
}

impl Write for Comparison {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE);
        self.piece.resize(count, 0);
        self.original.read_exact(&mut self.piece)?;
        if self.piece != bytes[..count] {
            let place = format!("written anew it differs behind byte {}", self.compared);
            return Err(io::Error::new(io::ErrorKind::InvalidData, place));
        }
        self.compared += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Longest entry whose text is made in memory, in bytes. A thread and a pipe for each of many
/// entries would take longer than the entries do.
const LARGE_ENTRY: usize = 64 << 10;

/// Bytes compared at a time.
const PIECE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use criu_image::message::{MmEntry, VmaEntry};
    use criu_image::wire::Message;

    use super::*;

    #[test]
    fn large_entries_are_judged_as_small_ones_are() {
        let vma = VmaEntry {
            start: 0x7f00_0000_0000,
            ..VmaEntry::default()
        };
        let mut entry = MmEntry {
            vmas: vec![vma; 20_000],
            ..MmEntry::default()
        }
        .encode();
        for is_whole in [true, false] {
            let (mut large, mut small) = (Again::default(), Again::default());
            let judgement = large.by_pipe(MmEntry::DESCRIPTOR, &entry);
            assert_eq!(judgement, small.in_memory(MmEntry::DESCRIPTOR, &entry));
            assert_eq!(judgement.is_ok(), is_whole, "{judgement:?}");
            assert_eq!(large.bytes == entry, is_whole);
            assert_eq!(large.problem(MmEntry::DESCRIPTOR, &entry), judgement.err());
            entry.pop();
        }
    }
}
