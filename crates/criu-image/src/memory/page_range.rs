//! The addresses that an entry of a pagemap speaks of.

use crate::message::PagemapEntry;
use crate::wire::{DecodeError, Message};

/// What a `pagemap_entry` says of addresses: all but the sizes of its blocks.
///
/// Read straight from the bytes, at a fraction of what a [`PagemapEntry`] costs; a pagemap may have
/// hundreds of thousands of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PageRange {
    /// First address.
    pub address: u64,
    /// How many pages.
    pub page_count: u64,
    /// `PE_*` flags.
    pub flags: u32,
    /// Whether the pages are stored as compressed blocks.
    pub has_blocks: bool,
}

impl PageRange {
    /// Reads an encoded `pagemap_entry`.
    ///
    /// # Errors
    ///
    /// Fails when the bytes are no such message. Blocks are not looked into.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match Self::decode_usual(bytes) {
            Some(range) => Ok(range),
            None => PagemapEntry::decode(bytes).map(|entry| Self::from(&entry)),
        }
    }

    /// Reads an entry in which nothing is out of the ordinary; `None` for all others, of which
    /// the struct tells what they say or what is wrong.
    fn decode_usual(mut bytes: &[u8]) -> Option<Self> {
        let mut entry = PagemapEntry::default();
        let (mut address, mut has_compat_count, mut has_blocks) = (None, false, false);
        while let Some((&tag, rest)) = bytes.split_first() {
            bytes = rest;
            let value = take_varint(&mut bytes)?;
            // Field number and wire type, as every entry of CRIU's has them.
            match (tag >> 3, tag & 7) {
                (1, 0) => address = Some(value),
                (2, 0) => {
                    entry.compat_nr_pages = u32::try_from(value).ok()?;
                    has_compat_count = true;
                }
                (3, 0) => entry.in_parent = Some(value != 0),
                (4, 0) => entry.flags = Some(u32::try_from(value).ok()?),
                (5, 0) => entry.nr_pages = Some(value),
                (6, 2) => {
                    bytes = bytes.get(usize::try_from(value).ok()?..)?;
                    has_blocks = true;
                }
                _ => return None,
            }
        }
        has_compat_count.then_some(Self {
            address: address?,
            has_blocks,
            ..Self::from(&entry)
        })
    }
}

/// Takes a varint of usual length off the front.
#[inline]
fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Some(value);
        }
    }
    None
}

impl From<&PagemapEntry> for PageRange {
    fn from(entry: &PagemapEntry) -> Self {
        Self {
            address: entry.vaddr,
            page_count: entry.effective_pages(),
            flags: entry.effective_flags(),
            has_blocks: entry.blocks.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_encodings_say_the_same() {
        // In order, in another order, with a long number, with a field that the schema has not,
        // with a foreign wire type, cut off, without a required field, with blocks.
        let encoded: [&[u8]; 8] = [
            b"\x08\x80\x20\x10\x00\x20\x04\x28\x03",
            b"\x28\x03\x20\x04\x10\x00\x08\x80\x20",
            b"\x08\x80\xa0\x80\x80\x80\x80\x80\x80\x80\x00\x10\x05",
            b"\x08\x01\x10\x02\xf8\x07\x01",
            b"\x08\x01\x10\x02\x22\x01\x04",
            b"\x08\x01\x10\x80",
            b"\x08\x01",
            b"\x08\x01\x10\x02\x32\x05\x0a\x00\x10\x00\x18\x01",
        ];
        for bytes in encoded {
            let whole = PagemapEntry::decode(bytes).map(|entry| PageRange::from(&entry));
            assert_eq!(PageRange::decode(bytes), whole, "{bytes:x?}");
        }
    }
}
