//! Sets of images to work on.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use criu_testkit::synthetic::{Fill, Image, Order, Pagemap, Proto, filled};

pub(crate) const PAGE: usize = 4096;
pub(crate) const PARENT: u32 = 1;
pub(crate) const LAZY: u32 = 2;
pub(crate) const PRESENT: u32 = 4;
pub(crate) const ALIGNED: u32 = 8;

/// The files of a directory with their bytes.
pub(crate) fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_file() && !path.is_symlink() {
            let name = path.file_name().expect("a name").to_string_lossy();
            files.insert(name.into_owned(), fs::read(&path).expect("read"));
        }
    }
    files
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("a name"))
        .collect();
    names.sort();
    names
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).expect("written");
    }
}

/// A page that does not compress.
pub(crate) fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..PAGE / 8)
        .flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .collect()
}

/// A page that compresses well.
pub(crate) fn text(word: &str) -> Vec<u8> {
    word.bytes().cycle().take(PAGE).collect()
}

pub(crate) fn write_inventory(dir: &Path, version: u64, extra: &Proto) {
    let inventory = Proto::new().varint(1, version).varint(2, 1).then(extra);
    let image = Image::new(Order::Little)
        .word(0x5831_3116)
        .entry(&inventory);
    fs::write(dir.join("inventory.img"), image.into_bytes()).expect("written");
}

/// An area: addresses, flags, status.
pub(crate) fn write_mm(dir: &Path, pid: u32, vmas: &[(u64, u64, u64, u64)]) {
    let mut mm = filled("mm_entry", Fill::Required);
    for &(start, end, flags, status) in vmas {
        let vma = Proto::new()
            .varint(1, start)
            .varint(2, end)
            .varint(3, 0)
            .varint(4, 0)
            .varint(5, 3)
            .varint(6, flags)
            .varint(7, status)
            .zigzag(8, -1);
        mm = mm.message(14, &vma);
    }
    let image = Image::common(0x5749_2820).entry(&mm);
    fs::write(dir.join(format!("mm-{pid}.img")), image.into_bytes()).expect("written");
}

pub(crate) fn write_pagemap(dir: &Path, name: &str, pages_id: u32, pagemap: Pagemap) {
    let (map, pages) = pagemap.into_images();
    fs::write(dir.join(name), map).expect("written");
    fs::write(dir.join(format!("pages-{pages_id}.img")), pages).expect("written");
}

/// A set with every sort of page: a task's, with huge pages and lazy ones, and a shared object's.
pub(crate) fn write_varied(dir: &Path) {
    const MAP_PRIVATE: u64 = 2;
    const MAP_HUGETLB: u64 = 0x40000;
    const ANON_PRIVATE: u64 = 1 << 9;
    write_inventory(dir, 2, &Proto::new());
    write_mm(
        dir,
        7,
        &[
            (0x10000, 0x20000, MAP_PRIVATE, 1 | ANON_PRIVATE),
            (
                0x40000,
                0x42000,
                MAP_PRIVATE | MAP_HUGETLB,
                1 | ANON_PRIVATE,
            ),
        ],
    );
    let task = Pagemap::new(1)
        .entry(0x10000, 4, PRESENT)
        .bytes(text("task "))
        .bytes(vec![0; PAGE])
        .bytes(noise(1))
        .bytes(text("again "))
        .entry(0x14000, 1, LAZY)
        .entry(0x15000, 3, PRESENT | LAZY)
        .bytes(vec![0; PAGE])
        .bytes(noise(2))
        .bytes(text("x"))
        .entry(0x1a000, 2, PRESENT)
        .bytes(noise(3))
        .bytes(noise(4))
        .entry(0x1c000, 2, PRESENT)
        .bytes(vec![0; 2 * PAGE])
        .entry(0x40000, 2, PRESENT)
        .bytes(text("huge "))
        .bytes(vec![0; PAGE]);
    write_pagemap(dir, "pagemap-7.img", 1, task);
    let shared = Pagemap::new(2).entry(0, 1, PRESENT).bytes(text("shared "));
    write_pagemap(dir, "pagemap-shmem-99.img", 2, shared);
}
