//! The areas of a task's memory, without a struct for each of them.

use std::io::Read;

use crate::error::Result;
use crate::message::{MmEntry, VmaEntry};
use crate::reader::ImageReader;
use crate::wire::{self, DecodeError, Message, WireType, write_tag, write_varint};

/// What `mm_entry` says of a task's memory, with the areas as bytes that are decoded one by one.
///
/// A large process has many thousands of areas, and [`VmaEntry`] takes three times as much memory
/// as an area does in the image.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    mm: MmEntry,
    /// Fields of an `mm_entry`, the areas among them.
    bytes: Vec<u8>,
}

impl MemoryMap {
    /// Takes an encoded `mm_entry`.
    ///
    /// # Errors
    ///
    /// Fails when the bytes are no such message. Areas are not looked into: what is wrong with
    /// one, [`areas`](Self::areas) tells.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        Ok(Self {
            mm: wire::decode_without(&bytes, VMAS)?,
            bytes,
        })
    }

    /// The message without its areas.
    #[must_use]
    pub fn mm(&self) -> &MmEntry {
        &self.mm
    }

    /// The message without its areas, which are let go.
    #[must_use]
    pub fn into_mm(self) -> MmEntry {
        self.mm
    }

    /// The areas, in the order of the image. Malformed ones do not keep those behind them back.
    pub fn areas(&self) -> impl Iterator<Item = Result<VmaEntry, DecodeError>> {
        wire::decode_each(&self.bytes, MmEntry::DESCRIPTOR, VMAS)
    }

    /// How many areas there are.
    #[must_use]
    pub fn area_count(&self) -> usize {
        wire::count_each(&self.bytes, VMAS)
    }

    /// Takes the areas of the image that older CRIU wrote for them, if there are none here.
    ///
    /// # Errors
    ///
    /// Fails when that image is damaged; the areas up to there are taken.
    pub fn take_legacy_areas<R: Read>(&mut self, image: &mut ImageReader<R>) -> Result<()> {
        if self.area_count() > 0 {
            return Ok(());
        }
        self.bytes.clear();
        while let Some(entry) = image.next_entry()? {
            write_tag(VMAS, WireType::Bytes, &mut self.bytes);
            write_varint(entry.bytes.len() as u64, &mut self.bytes);
            self.bytes.extend_from_slice(entry.bytes);
        }
        Ok(())
    }
}

/// The number of the areas' field in `mm_entry`.
const VMAS: u32 = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_come_one_by_one_and_the_rest_as_ever() {
        let mm = MmEntry {
            exe_file_id: 7,
            mm_saved_auxv: vec![1, 2, 3],
            vmas: (0..5)
                .map(|start| VmaEntry {
                    start,
                    fd: -1,
                    ..VmaEntry::default()
                })
                .collect(),
            ..MmEntry::default()
        };
        let map = MemoryMap::decode(mm.encode()).expect("a map");
        let areas: Vec<_> = map.areas().map(|area| area.expect("an area")).collect();
        assert_eq!(areas, mm.vmas);
        let rest = MmEntry {
            vmas: Vec::new(),
            ..mm
        };
        assert_eq!(*map.mm(), rest);
    }

    #[test]
    fn a_malformed_area_is_told_as_when_all_are_decoded() {
        // The second area's `start` is a string.
        let mut bytes = MmEntry {
            vmas: vec![VmaEntry::default()],
            ..MmEntry::default()
        }
        .encode();
        bytes.extend(b"\x72\x03\x0a\x01x");
        bytes.extend(b"\x72\x00");
        let whole = MmEntry::decode(&bytes).expect_err("malformed");
        let map = MemoryMap::decode(bytes).expect("the rest is sound");
        let areas: Vec<_> = map.areas().collect();
        assert_eq!(areas.len(), 3);
        areas[0].as_ref().expect("sound");
        let error = areas[1].as_ref().expect_err("malformed");
        assert_eq!(error, &whole);
        assert_eq!(error.path(), "mm_entry.vmas.start");
        areas[2].as_ref().expect_err("nothing in it");
    }
}
