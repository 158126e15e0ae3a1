//! Memory seen as address spaces, over images made by hand.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use criu_image::memory::{Content, Memory, MemoryOptions, PageSize, block};
use criu_image::{Checkpoint, ErrorKind};
use criu_testkit::TempDir;
use criu_testkit::synthetic::{Fill, Image, Pagemap, Proto, filled};

const PAGE: u64 = 4096;
const MM: u32 = 0x5749_2820;
const PARENT: u32 = 1;
const LAZY: u32 = 2;
const PRESENT: u32 = 4;
const ALIGNED: u32 = 8;

const REGULAR: u64 = 1;
const VDSO: u64 = 1 << 3;
const FILE_PRIVATE: u64 = 1 << 6;
const FILE_SHARED: u64 = 1 << 7;
const ANON_SHARED: u64 = 1 << 8;
const ANON_PRIVATE: u64 = 1 << 9;
const MEMFD: u64 = 1 << 14;

/// An area: addresses, position in the file or object, id of the file or object, status.
type Vma = (u64, u64, u64, u64, u64);

fn write_mm(dir: &Path, pid: u32, vmas: &[Vma]) {
    let mut mm = filled("mm_entry", Fill::Required);
    for &(start, end, pgoff, id, status) in vmas {
        let vma = Proto::new()
            .varint(1, start)
            .varint(2, end)
            .varint(3, pgoff)
            .varint(4, id)
            .varint(5, 3)
            .varint(6, 2)
            .varint(7, REGULAR | status)
            .zigzag(8, -1);
        mm = mm.message(14, &vma);
    }
    write(
        dir,
        &format!("mm-{pid}.img"),
        &Image::common(MM).entry(&mm).into_bytes(),
    );
}

fn write_pagemap(dir: &Path, name: &str, pages_id: u32, pagemap: Pagemap) {
    let (map, pages) = pagemap.into_images();
    write(dir, name, &map);
    write(dir, &format!("pages-{pages_id}.img"), &pages);
}

fn write(dir: &Path, name: &str, bytes: &[u8]) {
    fs::write(dir.join(name), bytes).expect("writes");
}

fn open(dir: &Path) -> Memory {
    let checkpoint = Checkpoint::open(dir).expect("opens");
    Memory::open(&checkpoint, MemoryOptions::default()).expect("opens")
}

/// A page full of a byte.
fn page(byte: u8) -> Vec<u8> {
    vec![byte; 4096]
}

#[test]
fn addresses_lead_to_bytes_or_to_the_reason_why_there_are_none() {
    let dir = TempDir::new();
    let dir = dir.path();
    write_mm(
        dir,
        1,
        &[
            (0x10000, 0x14000, 0, 0, ANON_PRIVATE),
            (0x20000, 0x23000, 0x5000, 9, FILE_PRIVATE),
            (0x23000, 0x24000, 0, 9, FILE_SHARED),
            (0x30000, 0x31000, 0, 0, ANON_PRIVATE | VDSO),
        ],
    );
    let map = Pagemap::new(1)
        .entry(0x11000, 1, PRESENT)
        .bytes(page(0xa1))
        .entry(0x12000, 1, LAZY)
        .entry(0x21000, 1, PRESENT | LAZY)
        .bytes(page(0xb2));
    write_pagemap(dir, "pagemap-1.img", 1, map);
    let memory = open(dir);
    let space = memory.task(1).expect("opens");
    let spans: Vec<_> = space
        .all_spans()
        .map(|span| (span.start, span.end, span.content))
        .collect();
    let kinds: Vec<_> = spans
        .iter()
        .map(|&(start, end, content)| {
            let kind = match content {
                Content::Stored { offset, pages } => {
                    assert_eq!(space.pages(pages).expect("a file").depth, 0);
                    format!("stored {offset:#x}")
                }
                Content::File { id, offset } => format!("file {id} {offset:#x}"),
                other => format!("{other:?}"),
            };
            (start, end, kind)
        })
        .collect();
    let expected = [
        (0x10000, 0x11000, "Zero"),
        (0x11000, 0x12000, "stored 0x0"),
        (0x12000, 0x13000, "Lazy"),
        (0x13000, 0x14000, "Zero"),
        (0x20000, 0x21000, "file 9 0x5000"),
        (0x21000, 0x22000, "stored 0x1000"),
        (0x22000, 0x23000, "file 9 0x7000"),
        (0x23000, 0x24000, "file 9 0x0"),
        (0x30000, 0x31000, "Kernel"),
    ];
    assert_eq!(
        kinds,
        expected.map(|(start, end, kind)| (start, end, kind.to_owned()))
    );

    // Across the border of two spans, and up to where bytes are not known.
    let mut out = vec![0xff; 0x3000];
    assert_eq!(space.read_at(0x10ffe, &mut out).expect("reads"), 0x1002);
    assert_eq!(out[..3], [0, 0, 0xa1]);
    assert_eq!(out[0x1001], 0xa1);
    assert_eq!(
        space.span_at(0x12000).expect("mapped").content,
        Content::Lazy
    );
    assert_eq!(space.read_at(0x12000, &mut out).expect("reads"), 0);
    assert_eq!(space.read_at(0x50000, &mut out).expect("reads"), 0);
    assert!(space.span_at(0x50000).is_none());
    assert_eq!(space.area_at(0x22fff).expect("mapped").file_id(), Some(9));
    assert!(space.area_at(0x24000).is_none());

    let some: Vec<_> = space
        .spans(0x11800..0x13800)
        .map(|span| (span.start, span.end))
        .collect();
    assert_eq!(
        some,
        [(0x11800, 0x12000), (0x12000, 0x13000), (0x13000, 0x13800)]
    );
    assert_eq!(
        space.span_at(0x11800).expect("mapped").content,
        match space.span_at(0x11000).expect("mapped").content {
            Content::Stored { pages, .. } => Content::Stored {
                pages,
                offset: 0x800
            },
            other => other,
        }
    );
}

#[test]
fn pages_come_from_however_deep_a_parent() {
    let root = TempDir::new();
    let at = |depth: u32| root.path().join(format!("{depth}"));
    let depth = 40;
    for level in 0..=depth {
        fs::create_dir(at(level)).expect("creates");
        // Each level has one page of its own, the next ones are in its parent.
        let mut map = Pagemap::new(1).entry(u64::from(level) * PAGE, 1, PRESENT);
        map = map.bytes(page(u8::try_from(level).expect("small")));
        if level < depth {
            map = map.entry(
                u64::from(level + 1) * PAGE,
                u64::from(depth - level),
                PARENT,
            );
            let link = if level % 2 == 0 {
                Path::new("..").join(format!("{}", level + 1))
            } else {
                at(level + 1)
            };
            symlink(link, at(level).join("parent")).expect("links");
        }
        write_pagemap(&at(level), "pagemap-1.img", 1, map);
    }
    write_mm(
        &at(0),
        1,
        &[(0, u64::from(depth + 1) * PAGE, 0, 0, ANON_PRIVATE)],
    );
    let space = open(&at(0)).task(1).expect("opens");
    let mut reader = space.reader();
    for level in 0..=depth {
        let mut byte = [0xff];
        reader
            .read_at(u64::from(level) * PAGE + 7, &mut byte)
            .expect("reads");
        assert_eq!(u32::from(byte[0]), level);
        let span = space.span_at(u64::from(level) * PAGE).expect("mapped");
        let Content::Stored { pages, offset: 0 } = span.content else {
            panic!("{span:?}");
        };
        assert_eq!(space.pages(pages).expect("a file").depth, level);
    }
    let chain = Checkpoint::open(at(0))
        .expect("opens")
        .chain()
        .expect("a chain");
    assert_eq!(chain.len(), 41);
}

#[test]
fn what_a_parent_should_have_and_has_not_is_missing() {
    let root = TempDir::new();
    let (child, parent) = (root.path().join("child"), root.path().join("parent"));
    fs::create_dir(&child).expect("creates");
    fs::create_dir(&parent).expect("creates");
    symlink("../parent", child.join("parent")).expect("links");
    write_mm(&child, 1, &[(0, 0x6000, 0, 0, ANON_PRIVATE)]);
    write_pagemap(
        &child,
        "pagemap-1.img",
        1,
        Pagemap::new(1).entry(0, 6, PARENT),
    );
    let map = Pagemap::new(1)
        .entry(0x1000, 2, PRESENT)
        .bytes(page(1))
        .bytes(page(2))
        .entry(0x4000, 1, LAZY);
    write_pagemap(&parent, "pagemap-1.img", 1, map);
    let space = open(&child).task(1).expect("opens");
    let found: Vec<_> = space
        .all_spans()
        .map(|span| (span.start, span.content.is_known()))
        .collect();
    assert_eq!(
        found,
        [
            (0, false),
            (0x1000, true),
            (0x3000, false),
            (0x4000, false),
            (0x5000, false)
        ]
    );
    assert_eq!(space.span_at(0).expect("mapped").content, Content::Missing);
    assert_eq!(
        space.span_at(0x4000).expect("mapped").content,
        Content::Lazy
    );
}

#[test]
fn chains_that_come_back_are_refused() {
    let root = TempDir::new();
    for (name, parent) in [("a", "../b"), ("b", "../c"), ("c", "../a"), ("self", ".")] {
        fs::create_dir(root.path().join(name)).expect("creates");
        symlink(parent, root.path().join(name).join("parent")).expect("links");
        let map = Pagemap::new(1).entry(0, 1, PARENT);
        write_pagemap(&root.path().join(name), "pagemap-1.img", 1, map);
        write_mm(
            &root.path().join(name),
            1,
            &[(0, 0x1000, 0, 0, ANON_PRIVATE)],
        );
    }
    for name in ["a", "self"] {
        let dir = root.path().join(name);
        let error = open(&dir).task(1).expect_err("a cycle");
        assert!(
            matches!(error.reason(), ErrorKind::Inconsistent { .. }),
            "{error}"
        );
        assert!(error.to_string().contains("comes back"), "{error}");
        Checkpoint::open(&dir)
            .expect("opens")
            .chain()
            .expect_err("a cycle");
    }
    symlink("nowhere", root.path().join("a/dangling")).expect("links");
    fs::rename(root.path().join("a/dangling"), root.path().join("a/parent")).expect("renames");
    let error = Checkpoint::open(root.path().join("a"))
        .expect("opens")
        .chain();
    assert!(!error.expect_err("a dangling link").is_missing());
}

#[test]
#[cfg_attr(not(feature = "lz4"), ignore = "expands compressed pages")]
fn compressed_blocks_expand_wherever_a_read_begins() {
    let dir = TempDir::new();
    let dir = dir.path();
    let text: Vec<u8> = (0..4 * PAGE).map(|n| (n / 64).to_le_bytes()[0]).collect();
    let block::Block::Lz4(packed) = block::encode(&text).expect("compresses") else {
        panic!("compresses");
    };
    let short = vec![0x77; 4096];
    let raw: Vec<u8> = (0..4 * PAGE)
        .map(|n| (n * 7 + n / 256).to_le_bytes()[0])
        .collect();
    // Two blocks of four pages, of zeros and of text; a short last block; a raw page in between.
    let map = Pagemap::new(1)
        .blocks(0x10000, 9, PRESENT, 4, &[&[], &packed, &short])
        .align(4096)
        .blocks(0x20000, 4, PRESENT | ALIGNED, 4, &[&raw])
        .entry(0x24000, 1, PRESENT)
        .bytes(page(0x55));
    write_pagemap(dir, "pagemap-1.img", 1, map);
    write_mm(
        dir,
        1,
        &[
            (0x10000, 0x19000, 0, 0, ANON_PRIVATE),
            (0x20000, 0x25000, 0, 0, ANON_PRIVATE),
        ],
    );
    let space = open(dir).task(1).expect("opens");
    let mut expected = vec![0; 0x4000];
    expected.extend(&text);
    expected.extend(&short);
    let mut reader = space.reader();
    let mut out = vec![0xee; 0x9000];
    assert_eq!(reader.read_at(0x10000, &mut out).expect("reads"), 0x9000);
    assert!(out == expected);
    for start in [0u64, 1, 0x3fff, 0x4000, 0x5001, 0x7fff, 0x8001, 0x8fff] {
        let start_index = usize::try_from(start).expect("small");
        let len = 300.min(0x9000 - start_index);
        let mut out = vec![0xee; len];
        assert_eq!(
            reader.read_at(0x10000 + start, &mut out).expect("reads"),
            len
        );
        assert!(
            out == expected[start_index..start_index + len],
            "at {start:#x}"
        );
    }
    let mut out = vec![0; 0x5000];
    assert_eq!(reader.read_at(0x20000, &mut out).expect("reads"), 0x5000);
    assert!(out[..0x4000] == raw && out[0x4000..] == page(0x55));
    for (pages, _, len) in space.pages_lengths() {
        assert_eq!(pages.byte_len(), len);
    }
}

#[test]
fn many_blocks_are_found_without_adding_up_all_of_them() {
    let dir = TempDir::new();
    let dir = dir.path();
    let mut map = Pagemap::new(1);
    let mut expected = Vec::new();
    for entry in 0..3u64 {
        let blocks: Vec<Vec<u8>> = (0..150u64)
            .map(|n| {
                if n % 3 == 0 {
                    Vec::new()
                } else {
                    page((n + entry * 50).to_le_bytes()[0])
                }
            })
            .collect();
        let refs: Vec<&[u8]> = blocks.iter().map(Vec::as_slice).collect();
        for block in &blocks {
            expected.extend(if block.is_empty() {
                page(0)
            } else {
                block.clone()
            });
        }
        map = map.blocks(entry * 150 * PAGE, 150, PRESENT, 1, &refs);
    }
    write_pagemap(dir, "pagemap-1.img", 1, map);
    write_mm(dir, 1, &[(0, 450 * PAGE, 0, 0, ANON_PRIVATE)]);
    let space = open(dir).task(1).expect("opens");
    for index in (0..450usize).rev() {
        let mut out = [0xee; 2];
        space
            .read_at(index as u64 * PAGE + 100, &mut out)
            .expect("reads");
        assert_eq!(out, [expected[index * 4096]; 2], "page {index}");
    }
}

#[test]
#[cfg_attr(not(feature = "lz4"), ignore = "expands compressed pages")]
fn damaged_blocks_are_named() {
    let dir = TempDir::new();
    let dir = dir.path();
    write_mm(dir, 1, &[(0, 0x4000, 0, 0, ANON_PRIVATE)]);
    let refuse = |map: Pagemap, why: &str| {
        write_pagemap(dir, "pagemap-1.img", 1, map);
        let error = open(dir).task(1).expect_err(why);
        assert!(
            matches!(error.reason(), ErrorKind::Inconsistent { .. }),
            "{why}: {error}"
        );
        assert!(error.place().path.is_some(), "{why}: {error}");
    };
    let entry = |pages: u64, flags: u64| {
        Proto::new()
            .varint(1, 0)
            .varint(2, 0)
            .varint(4, flags)
            .varint(5, pages)
    };
    let blocks = |sizes: &[u64], total: u64, per: u64| {
        Proto::new()
            .packed(1, sizes)
            .varint(2, total)
            .varint(3, per)
    };
    let with = |entry: Proto, blocks: Proto| Pagemap::new(1).raw_entry(&entry.message(6, &blocks));
    refuse(
        with(entry(1, 4), blocks(&[5000], 5000, 1)),
        "larger than a page",
    );
    refuse(with(entry(1, 4), blocks(&[10], 11, 1)), "another total");
    refuse(with(entry(2, 4), blocks(&[10], 10, 1)), "a block short");
    refuse(
        with(entry(1, 4), blocks(&[10], 10, 0)),
        "no pages in a block",
    );
    refuse(
        with(entry(1, 4), blocks(&[10], 10, 1025)),
        "more than 4 MiB",
    );
    refuse(with(entry(1, 1), blocks(&[10], 10, 1)), "in the parent");
    refuse(
        Pagemap::new(1).entry(0, 1, PRESENT | PARENT),
        "both here and there",
    );
    refuse(
        Pagemap::new(1).entry(0, u64::MAX, PRESENT),
        "more pages than addresses",
    );
    refuse(
        Pagemap::new(1).entry(0xffff << 48, 1 << 36, PRESENT),
        "past the end",
    );
    refuse(
        Pagemap::new(1)
            .entry(0, 2, PRESENT)
            .entry(0x1000, 1, LAZY)
            .bytes([0; 0x2000]),
        "twice",
    );
    // Bytes that are no LZ4 are found when they are read.
    write_pagemap(
        dir,
        "pagemap-1.img",
        1,
        Pagemap::new(1).blocks(0, 1, PRESENT, 1, &[&[0xff; 9]]),
    );
    let error = open(dir)
        .task(1)
        .expect("opens")
        .read_at(0, &mut [0])
        .expect_err("no LZ4");
    assert!(error.to_string().contains("pages-1.img"), "{error}");
    // As is a pages file that is too short.
    write_pagemap(
        dir,
        "pagemap-1.img",
        1,
        Pagemap::new(1).entry(0, 2, PRESENT).bytes([1; 5000]),
    );
    let space = open(dir).task(1).expect("opens");
    let error = space
        .read_at(0x1000, &mut [0; 4096])
        .expect_err("truncated");
    assert!(
        matches!(error.reason(), ErrorKind::Truncated { found: 904, .. }),
        "{error}"
    );
}

#[test]
fn shared_memory_is_found_through_whoever_maps_it() {
    let dir = TempDir::new();
    let dir = dir.path();
    // The same object from its second page, a memory file, and an object that is not there.
    write_mm(
        dir,
        1,
        &[
            (0x10000, 0x12000, 0x1000, 77, ANON_SHARED),
            (0x20000, 0x22000, 0, 5, MEMFD | FILE_SHARED),
            (0x30000, 0x32000, 0, 5, MEMFD | FILE_PRIVATE),
            (0x40000, 0x41000, 0, 78, ANON_SHARED),
        ],
    );
    let own = Pagemap::new(3).entry(0x30000, 1, PRESENT).bytes(page(0xcc));
    write_pagemap(dir, "pagemap-1.img", 3, own);
    let object = Pagemap::new(1).entry(0x1000, 1, PRESENT).bytes(page(0xaa));
    write_pagemap(dir, "pagemap-shmem-77.img", 1, object);
    let memfd = Pagemap::new(2)
        .entry(0, 2, PRESENT)
        .bytes(page(0xb0))
        .bytes(page(0xb1));
    write_pagemap(dir, "pagemap-shmem-88.img", 2, memfd);
    let fown = filled("fown_entry", Fill::Required);
    let memfd_file = Proto::new()
        .varint(1, 5)
        .varint(2, 2)
        .varint(3, 0)
        .message(4, &fown)
        .varint(5, 6);
    let file = Proto::new()
        .varint(1, 18)
        .varint(2, 5)
        .message(20, &memfd_file);
    write(
        dir,
        "files.img",
        &Image::common(0x5630_3138).entry(&file).into_bytes(),
    );
    let inode = Proto::new()
        .bytes(1, "name")
        .varint(2, 0)
        .varint(3, 0)
        .varint(4, 0x2000)
        .varint(5, 88)
        .varint(6, 0)
        .varint(7, 6);
    write(
        dir,
        "memfd.img",
        &Image::common(0x4845_3499).entry(&inode).into_bytes(),
    );
    let memory = open(dir);
    let space = memory.task(1).expect("opens");
    let byte = |address: u64| {
        let mut out = [0xee];
        let count = space.read_at(address, &mut out).expect("reads");
        (count == 1).then_some(out[0])
    };
    assert_eq!([byte(0x10000), byte(0x11000)], [Some(0xaa), Some(0)]);
    assert_eq!([byte(0x20000), byte(0x21000)], [Some(0xb0), Some(0xb1)]);
    assert_eq!([byte(0x30000), byte(0x31000)], [Some(0xcc), Some(0xb1)]);
    assert_eq!(byte(0x40000), None);
    assert_eq!(
        space.span_at(0x40000).expect("mapped").content,
        Content::Missing
    );
    assert_eq!(memory.shared_ids().expect("lists"), [77, 88]);
    let object = memory.shared(77).expect("opens");
    let mut out = [0xee; 2];
    assert_eq!(object.read_at(0xfff, &mut out).expect("reads"), 2);
    assert_eq!(out, [0, 0xaa]);
    assert!(memory.shared(99).expect_err("no such object").is_missing());
    assert!(memory.task(2).expect_err("no such task").is_missing());
}

#[test]
fn old_pagemaps_have_the_count_and_the_parent_in_other_fields() {
    let root = TempDir::new();
    let (child, parent) = (root.path().join("child"), root.path().join("base"));
    fs::create_dir(&child).expect("creates");
    fs::create_dir(&parent).expect("creates");
    symlink("../base", child.join("parent")).expect("links");
    write_mm(&child, 1, &[(0, 0x4000, 0, 0, ANON_PRIVATE)]);
    let map = Pagemap::new(1)
        .raw_entry(&Proto::new().varint(1, 0).varint(2, 2).varint(3, 1))
        .raw_entry(&Proto::new().varint(1, 0x2000).varint(2, 2))
        .bytes(page(3))
        .bytes(page(4));
    write_pagemap(&child, "pagemap-1.img", 1, map);
    let map = Pagemap::new(1).raw_entry(&Proto::new().varint(1, 0).varint(2, 2));
    write_pagemap(
        &parent,
        "pagemap-1.img",
        1,
        map.bytes(page(1)).bytes(page(2)),
    );
    let space = open(&child).task(1).expect("opens");
    let mut out = vec![0; 0x4000];
    assert_eq!(space.read_at(0, &mut out).expect("reads"), 0x4000);
    assert_eq!(
        [out[0], out[0x1000], out[0x2000], out[0x3fff]],
        [1, 2, 3, 4]
    );
}

#[test]
fn addresses_of_32_bit_tasks_may_be_sign_extended() {
    let dir = TempDir::new();
    let dir = dir.path();
    write_mm(dir, 1, &[(0xf000_0000, 0xf000_1000, 0, 0, ANON_PRIVATE)]);
    let map = Pagemap::new(1)
        .entry(0xffff_ffff_f000_0000, 1, PRESENT)
        .bytes(page(9));
    write_pagemap(dir, "pagemap-1.img", 1, map);
    let mut out = [0];
    open(dir)
        .task(1)
        .expect("opens")
        .read_at(0xf000_0800, &mut out)
        .expect("reads");
    assert_eq!(out, [9]);
}

#[test]
fn the_page_size_is_given_measured_or_guessed() {
    let dir = TempDir::new();
    let dir = dir.path();
    write_mm(dir, 1, &[(0, 0x40000, 0, 0, ANON_PRIVATE)]);
    let map = || {
        Pagemap::new(1)
            .entry(0, 1, PRESENT)
            .entry(0x20000, 1, PRESENT)
    };
    write_pagemap(
        dir,
        "pagemap-1.img",
        1,
        map().bytes(vec![1; 0x10000]).bytes(vec![2; 0x10000]),
    );
    let space = open(dir).task(1).expect("opens");
    assert_eq!(space.page_size().bytes(), 0x10000);
    let mut out = [0];
    space.read_at(0x2ffff, &mut out).expect("reads");
    assert_eq!(out, [2]);
    let mut options = MemoryOptions::default();
    options.page_size = PageSize::new(4096);
    let checkpoint = Checkpoint::open(dir).expect("opens");
    let space = Memory::open(&checkpoint, options)
        .expect("opens")
        .task(1)
        .expect("opens");
    assert_eq!(space.page_size(), PageSize::DEFAULT);
    write_pagemap(dir, "pagemap-1.img", 1, map().bytes([1; 100]));
    assert_eq!(
        open(dir).task(1).expect("opens").page_size(),
        PageSize::DEFAULT
    );
    for bytes in [0, 1, 2048, 4097, 1 << 40] {
        assert_eq!(PageSize::new(bytes), None);
    }
}

#[test]
fn areas_that_cannot_be_are_refused() {
    let dir = TempDir::new();
    let dir = dir.path();
    let cases: [&[Vma]; 4] = [
        &[(0x2000, 0x1000, 0, 0, ANON_PRIVATE)],
        &[(0x1000, 0x1000, 0, 0, ANON_PRIVATE)],
        &[
            (0x1000, 0x3000, 0, 0, ANON_PRIVATE),
            (0x2000, 0x4000, 0, 0, ANON_PRIVATE),
        ],
        &[(0x1000, 0x3000, u64::MAX, 1, FILE_PRIVATE)],
    ];
    for vmas in cases {
        write_mm(dir, 1, vmas);
        let error = open(dir).task(1).expect_err("cannot be");
        assert!(
            matches!(error.reason(), ErrorKind::Inconsistent { .. }),
            "{error}"
        );
    }
}
