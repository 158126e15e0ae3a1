//! The build id of a program or library: the note that tells two builds of equal length apart.
//!
//! CRIU compares it on restore. What is read is bounded: the file header, at most [`SEGMENTS_MAX`]
//! program headers, and at most [`NOTES_BYTES_MAX`] bytes of notes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const SEGMENTS_MAX: usize = 512;
const NOTES_BYTES_MAX: usize = 64 << 10;
/// Longest build id taken; linkers make 8 to 20 bytes.
const ID_BYTES_MAX: usize = 64;

/// `PT_NOTE` of elf.h.
const PT_NOTE: u64 = 4;
/// `NT_GNU_BUILD_ID` of elf.h.
const NT_GNU_BUILD_ID: u64 = 3;

/// Finds the build id of an ELF file, as hexadecimal digits; `None` for every other file.
///
/// # Errors
///
/// When the file cannot be read.
pub(super) fn build_id(file: &File) -> io::Result<Option<String>> {
    let mut header = [0; 64];
    let len = read_up_to(file, &mut header, 0)?;
    let Some(elf) = header.get(..len).and_then(Layout::of) else {
        return Ok(None);
    };
    let mut table = vec![0; elf.entry_bytes * elf.entries];
    let len = read_up_to(file, &mut table, elf.table_at)?;
    for entry in table
        .get(..len)
        .unwrap_or_default()
        .chunks_exact(elf.entry_bytes)
    {
        let Some((offset, bytes, align)) = elf.note_segment(entry) else {
            continue;
        };
        let mut notes = vec![0; bytes.min(NOTES_BYTES_MAX)];
        let len = read_up_to(file, &mut notes, offset)?;
        if let Some(id) = elf.id_in(notes.get(..len).unwrap_or_default(), align) {
            return Ok(Some(hexadecimal(id)));
        }
    }
    Ok(None)
}

/// Bytes as hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // An offset beyond what a file can have.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// How an ELF file is laid out.
struct Layout {
    wide: bool,
    big: bool,
    table_at: u64,
    entry_bytes: usize,
    entries: usize,
}

impl Layout {
    fn of(header: &[u8]) -> Option<Self> {
        let [0x7f, b'E', b'L', b'F', class @ (1 | 2), order @ (1 | 2), ..] = *header else {
            return None;
        };
        let mut elf = Self {
            wide: class == 2,
            big: order == 2,
            table_at: 0,
            entry_bytes: 0,
            entries: 0,
        };
        let (at, sizes_at, least) = if elf.wide {
            (0x20, 0x36, 56)
        } else {
            (0x1c, 0x2a, 32)
        };
        elf.table_at = elf.word(header, at)?;
        elf.entry_bytes = usize::try_from(elf.number(header, sizes_at, 2)?).ok()?;
        elf.entries = usize::try_from(elf.number(header, sizes_at + 2, 2)?).ok()?;
        let sound = (least..=256).contains(&elf.entry_bytes) && elf.entries <= SEGMENTS_MAX;
        sound.then_some(elf)
    }

    /// Offset, length and alignment of a segment of notes.
    fn note_segment(&self, entry: &[u8]) -> Option<(u64, usize, usize)> {
        if self.number(entry, 0, 4)? != PT_NOTE {
            return None;
        }
        let (offset, len, align) = if self.wide { (8, 32, 48) } else { (4, 16, 28) };
        let align = if self.word(entry, align)? == 8 { 8 } else { 4 };
        let len = usize::try_from(self.word(entry, len)?).unwrap_or(NOTES_BYTES_MAX);
        Some((self.word(entry, offset)?, len, align))
    }

    fn id_in<'a>(&self, mut notes: &'a [u8], align: usize) -> Option<&'a [u8]> {
        loop {
            let name_len = usize::try_from(self.number(notes, 0, 4)?).ok()?;
            let id_len = usize::try_from(self.number(notes, 4, 4)?).ok()?;
            let kind = self.number(notes, 8, 4)?;
            let id_at = 12_usize
                .checked_add(name_len)?
                .checked_next_multiple_of(align)?;
            let end = id_at.checked_add(id_len)?;
            let name = notes.get(12..12 + name_len)?;
            let id = notes.get(id_at..end)?;
            if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
                return (1..=ID_BYTES_MAX).contains(&id_len).then_some(id);
            }
            notes = notes.get(end.checked_next_multiple_of(align)?..)?;
        }
    }

    fn word(&self, bytes: &[u8], at: usize) -> Option<u64> {
        self.number(bytes, at, if self.wide { 8 } else { 4 })
    }

    fn number(&self, bytes: &[u8], at: usize, len: usize) -> Option<u64> {
        let bytes = bytes.get(at..at.checked_add(len)?)?;
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(match self.big {
            true => bytes.iter().fold(0, fold),
            false => bytes.iter().rev().fold(0, fold),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use criu_testkit::TempDir;

    /// An ELF file with nothing but notes; the other note comes first.
    fn elf(wide: bool, big: bool, id: &[u8]) -> Vec<u8> {
        let number = |value: u64, len: usize| -> Vec<u8> {
            let bytes = value.to_le_bytes();
            let mut bytes = bytes[..len].to_vec();
            if big {
                bytes.reverse();
            }
            bytes
        };
        let word = if wide { 8 } else { 4 };
        let note = |kind: u64, name: &[u8], id: &[u8]| {
            let mut note = [
                number(name.len() as u64, 4),
                number(id.len() as u64, 4),
                number(kind, 4),
                name.to_vec(),
            ]
            .concat();
            note.resize(note.len().next_multiple_of(4), 0);
            note.extend_from_slice(id);
            note.resize(note.len().next_multiple_of(4), 0);
            note
        };
        let notes = [note(1, b"stapsdt\0", b"abcde"), note(3, b"GNU\0", id)].concat();
        let mut file = vec![
            0x7f,
            b'E',
            b'L',
            b'F',
            1 + u8::from(wide),
            1 + u8::from(big),
        ];
        let (sizes_at, entry) = if wide { (0x36, 56) } else { (0x2a, 32) };
        file.resize(if wide { 0x20 } else { 0x1c }, 0);
        file.extend(number(64, word));
        file.resize(sizes_at, 0);
        file.extend(number(entry, 2));
        file.extend(number(1, 2));
        file.resize(64, 0);
        let at = 64 + entry;
        let len = notes.len() as u64;
        let fields: Vec<Vec<u8>> = if wide {
            vec![number(4, 4), number(0, 4), number(at, 8)]
        } else {
            vec![number(4, 4), number(at, 4)]
        };
        file.extend(fields.concat());
        file.resize(file.len() + 2 * word, 0);
        file.extend(number(len, word));
        file.resize(usize::try_from(at).unwrap(), 0);
        file.extend(notes);
        file
    }

    fn id_of(bytes: &[u8]) -> Option<String> {
        let directory = TempDir::new();
        let path = directory.join("file");
        std::fs::write(&path, bytes).unwrap();
        build_id(&File::open(path).unwrap()).unwrap()
    }

    #[test]
    fn the_note_is_found_in_both_classes_and_both_byte_orders() {
        for (wide, big) in [(true, false), (true, true), (false, false), (false, true)] {
            let file = elf(wide, big, b"\x01\xab\xcd");
            assert_eq!(id_of(&file).as_deref(), Some("01abcd"), "{wide} {big}");
        }
        // The linker gave this very program one.
        let own = build_id(&File::open("/proc/self/exe").unwrap()).unwrap();
        assert!(own.is_none_or(|id| id.len() >= 16));
    }

    #[test]
    fn what_is_no_sound_program_has_none_and_does_no_harm() {
        for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &[0x7f; 64]] {
            assert_eq!(id_of(bytes), None);
        }
        assert_eq!(id_of(&elf(true, false, &[7; 65])), None);
        let sound = elf(true, false, b"\x01\xab\xcd");
        for at in 0..sound.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = sound.clone();
                damaged[at] = value;
                id_of(&damaged);
            }
            id_of(&sound[..at]);
        }
    }
}
