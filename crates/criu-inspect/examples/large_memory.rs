//! Makes a checkpoint with much memory, to measure searches with: `large_memory DIRECTORY 16 4`.
//!
//! The arguments are the directory to make, mebibytes of pages, and how many areas they lie in. The pages hold
//! pseudo-random words; near the end of the last stands `needle-in-a-haystack`.

use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use criu_image::message::{
    InventoryEntry, MmEntry, PagemapEntry, PagemapHead, PstreeEntry, VmaEntry,
};
use criu_image::wire::Message;
use criu_image::{ByteOrder, Header, ImageKind, ImageWriter};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: large_memory DIRECTORY MEBIBYTES AREAS";
    let directory = PathBuf::from(arguments.next().ok_or(usage)?);
    let len: u64 = arguments.next().ok_or(usage)?.parse::<u64>()? << 20;
    let areas: u64 = arguments.next().ok_or(usage)?.parse()?;
    fs::create_dir_all(&directory)?;
    let image = |kind: ImageKind| {
        let file = File::create(directory.join(kind.file(1)))?;
        ImageWriter::new(file, Header::new(kind), ByteOrder::Little).map_err(std::io::Error::from)
    };

    let (mut map, mut mm) = (image(ImageKind::Pagemap)?, MmEntry::default());
    map.message(&PagemapHead {
        pages_id: 1,
        ..PagemapHead::default()
    })?;
    let pages_per_area = len / PAGE / areas;
    for area in 0..areas {
        // A page between them, so that nothing lies side by side.
        let start = 0x10_0000_0000 + area * (pages_per_area + 1) * PAGE;
        mm.vmas.push(VmaEntry {
            start,
            end: start + pages_per_area * PAGE,
            prot: 3,
            flags: 2,
            status: 1 | 1 << 9,
            fd: -1,
            ..VmaEntry::default()
        });
        map.message(&PagemapEntry {
            vaddr: start,
            nr_pages: Some(pages_per_area),
            flags: Some(4),
            ..PagemapEntry::default()
        })?;
    }
    map.finish()?;
    write_one(image(ImageKind::Mm)?, &mm)?;
    let inventory = InventoryEntry {
        img_version: 2,
        fdinfo_per_id: Some(true),
        ..InventoryEntry::default()
    };
    write_one(image(ImageKind::Inventory)?, &inventory)?;
    let task = PstreeEntry {
        pid: 1,
        threads: vec![1],
        ..PstreeEntry::default()
    };
    write_one(image(ImageKind::Pstree)?, &task)?;

    let mut pages = BufWriter::new(File::create(directory.join("pages-1.img"))?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut left = pages_per_area * areas * PAGE;
    let mut page = Vec::new();
    while left > 0 {
        page.clear();
        while (page.len() as u64) < PAGE {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            page.extend(state.to_le_bytes());
        }
        if left == PAGE {
            page[2000..2020].copy_from_slice(b"needle-in-a-haystack");
        }
        pages.write_all(&page)?;
        left -= PAGE;
    }
    pages.flush()?;
    Ok(())
}

fn write_one<T: Message>(
    mut image: ImageWriter<File>,
    message: &T,
) -> Result<(), criu_image::Error> {
    image.message(message)?;
    image.finish()?;
    Ok(())
}

const PAGE: u64 = 4096;
