//! Whether every image can be read, and comes back byte for byte.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use criu_image::checkpoint::ImageName;
use criu_image::kind::Entries;
use criu_image::{ImageKind, ImageReader, ImageWriter};

use super::{Check, Fault};
use crate::json::{EncodeOptions, Style, decode_message, encode_message};

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
        let mut json = Vec::new();
        let mut again = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            entries += 1;
            json.clear();
            again.clear();
            let (index, offset) = (entry.index, entry.offset);
            let decoded = decode_message(entry.descriptor, entry.bytes, Style::Compact, &mut json);
            let problem = match decoded {
                Err(error) => Some(super::with_causes(&error)),
                Ok(()) => {
                    let options = EncodeOptions::default();
                    match encode_message(entry.descriptor, &json, options, &mut again) {
                        Err(error) => Some(format!("its JSON cannot be encoded: {error}")),
                        Ok(()) if again != entry.bytes => {
                            Some("it does not come back the same from JSON".to_owned())
                        }
                        Ok(()) => None,
                    }
                }
            };
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

/// Bytes compared at a time.
const PIECE: usize = 64 << 10;
