//! Over images made by hand.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicI64, Ordering};

use criu_image::Checkpoint;
use criu_image::ImageKind;
use criu_image::message::PagemapEntry;
use criu_inspect::Monitor;
use criu_inspect::rewrite::{
    Backups, CompressOptions, DecompressOptions, Error, FlattenOptions, Outcome, compress,
    decompress, flatten, flatten_into,
};
use criu_testkit::TempDir;
use criu_testkit::synthetic::{Pagemap, Proto};

use crate::set::{
    ALIGNED, LAZY, PAGE, PARENT, PRESENT, files, names, noise, text, write_inventory, write_mm,
    write_pagemap, write_varied,
};

/// Stops after so many looks.
struct StopAfter(AtomicI64);

impl Monitor for StopAfter {
    fn is_stopped(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) <= 0
    }
}

fn in_place<T: Default>(set: impl FnOnce(&mut T)) -> T {
    let mut options = T::default();
    set(&mut options);
    options
}

fn entries(dir: &TempDir, name_id: u64) -> Vec<PagemapEntry> {
    let checkpoint = Checkpoint::open(dir.path()).expect("opens");
    let (_, entries) = checkpoint
        .pagemap(ImageKind::Pagemap, name_id)
        .expect("reads");
    entries
        .into_iter()
        .map(|entry| entry.into_value())
        .collect()
}

#[test]
fn compressed_and_decompressed_images_are_what_they_were() {
    let dir = TempDir::new();
    write_varied(dir.path());
    let original = files(dir.path());
    let done = compress(dir.path(), CompressOptions::default(), &()).expect("compresses");
    let Outcome::Rewritten(maps) = done else {
        panic!("{done:?}")
    };
    assert_eq!(
        maps.iter()
            .map(|map| (map.name.as_str(), map.pages))
            .collect::<Vec<_>>(),
        [("pagemap-7.img", 13), ("pagemap-shmem-99.img", 1)]
    );
    let compressed = files(dir.path());
    assert!(compressed["pages-1.img"].len() < original["pages-1.img"].len());
    for name in [
        "pages-1.img",
        "pages-2.img",
        "pagemap-7.img",
        "inventory.img",
    ] {
        assert_eq!(compressed[&format!("{name}.bak")], original[name], "{name}");
    }
    assert!(!compressed.contains_key("mm-7.img.bak"));

    let maps = entries(&dir, 7);
    let sizes = |index: usize| {
        let blocks = maps[index].blocks.as_ref()?;
        assert_eq!(blocks.pages_per_block, 1);
        Some(blocks.block_sizes.clone())
    };
    let page = u32::try_from(PAGE).expect("small");
    let first = sizes(0).expect("compressed");
    assert!(
        first[0] > 0 && first[0] < 200 && first[1] == 0 && first[2] == page,
        "{first:?}"
    );
    assert_eq!(maps[0].flags, Some(PRESENT));
    assert_eq!((maps[1].flags, sizes(1)), (Some(LAZY), None));
    // The first page stored is raw, so it is aligned.
    assert_eq!(maps[2].flags, Some(PRESENT | LAZY | ALIGNED));
    assert_eq!(sizes(2).expect("compressed")[..2], [0, page]);
    assert_eq!((maps[3].flags, sizes(3)), (Some(PRESENT | ALIGNED), None));
    assert_eq!(sizes(4), Some(vec![0, 0]));
    // Huge pages are never LZ4.
    assert_eq!(sizes(5), Some(vec![page, 0]));

    let again = compress(dir.path(), CompressOptions::default(), &()).expect("looks");
    assert_eq!(again, Outcome::Unneeded);
    let error = decompress(dir.path(), DecompressOptions::default(), &()).expect_err("backups");
    assert!(matches!(error, Error::BackupExists { .. }), "{error}");
    assert!(files(dir.path()) == compressed);

    let options = in_place(|options: &mut DecompressOptions| options.backups = Backups::Discard);
    decompress(dir.path(), options, &()).expect("decompresses");
    let mut back = files(dir.path());
    back.retain(|name, _| !name.ends_with(".bak"));
    assert!(back == original);
    let again = decompress(dir.path(), options, &()).expect("looks");
    assert_eq!(again, Outcome::Unneeded);
}

#[test]
fn a_stop_at_any_time_leaves_everything_as_it_was() {
    for backups in [Backups::Keep, Backups::Discard] {
        let dir = TempDir::new();
        write_varied(dir.path());
        let original = files(dir.path());
        let options = in_place(|options: &mut CompressOptions| options.backups = backups);
        let mut looks = 0;
        loop {
            match compress(dir.path(), options, &StopAfter(AtomicI64::new(looks))) {
                Err(Error::Interrupted) => assert!(files(dir.path()) == original),
                Err(error) => panic!("{error}"),
                Ok(_) => break,
            }
            looks += 1;
        }
        assert!(looks > 5, "stopped only {looks} times");
    }
}

#[test]
fn pagemaps_that_do_not_fit_their_pages_are_refused() {
    let head = || Pagemap::new(1);
    let huge = u64::MAX / 4096;
    let cases: [(&str, Pagemap); 8] = [
        ("page count", head().entry(0, huge + 2, PRESENT)),
        ("no pages", head().entry(0, 0, PRESENT)),
        (
            "not page-aligned",
            head().entry(0x1001, 1, PRESENT).bytes(noise(1)),
        ),
        (
            "overflows",
            head()
                .entry(!0xfff, 2, PRESENT)
                .bytes(noise(1))
                .bytes(noise(1)),
        ),
        (
            "describes",
            head().entry(0, 1 << 40, PRESENT).bytes(noise(1)),
        ),
        (
            "both here and in the parent",
            head().entry(0, 1, PRESENT | PARENT).bytes(noise(1)),
        ),
        ("aligned payload", head().entry(0, 1, LAZY | ALIGNED)),
        (
            "compressed blocks",
            head().blocks(0, 1, PRESENT, 1, &[b"abc"]),
        ),
    ];
    for (expected, pagemap) in cases {
        let dir = TempDir::new();
        write_inventory(dir.path(), 2, &Proto::new());
        write_mm(dir.path(), 1, &[]);
        write_pagemap(dir.path(), "pagemap-1.img", 1, pagemap);
        let original = files(dir.path());
        let error = compress(dir.path(), CompressOptions::default(), &()).expect_err(expected);
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(files(dir.path()) == original);
    }
}

#[test]
fn hostile_blocks_are_refused() {
    let head = || Pagemap::new(1);
    let page = noise(1);
    let entry = |sizes: &[u64], total: u64, per_block: u64, pages: u64| {
        let blocks = Proto::new()
            .packed(1, sizes)
            .varint(2, total)
            .varint(3, per_block);
        Proto::new()
            .varint(1, 0)
            .varint(2, 0)
            .varint(4, PRESENT.into())
            .varint(5, pages)
            .message(6, &blocks)
    };
    let cases = [
        (
            "expected 1",
            head().raw_entry(&entry(&[1, 1], 2, 1, 1)).bytes([0; 2]),
        ),
        (
            "expected 2",
            head().raw_entry(&entry(&[1], 1, 1, 2)).bytes([0; 1]),
        ),
        (
            "announced",
            head().raw_entry(&entry(&[1], 9, 1, 1)).bytes([0; 9]),
        ),
        (
            "bytes stored for",
            head()
                .raw_entry(&entry(&[4097], 4097, 1, 1))
                .bytes([0; 4097]),
        ),
        (
            "blocks of 0 bytes",
            head().raw_entry(&entry(&[1], 1, 0, 1)).bytes([0; 1]),
        ),
        (
            "blocks of 17592186040320",
            head()
                .raw_entry(&entry(&[1], 1, 0xffff_ffff, 1))
                .bytes([0; 1]),
        ),
        ("no LZ4", head().blocks(0, 1, PRESENT, 1, &[&page[..100]])),
        (
            "describes",
            head().blocks(0, 1, PRESENT, 1, &[b"abc"]).bytes(b"more"),
        ),
    ];
    for (expected, pagemap) in cases {
        let dir = TempDir::new();
        write_inventory(dir.path(), 3, &Proto::new().varint(15, 1).varint(16, 4096));
        write_pagemap(dir.path(), "pagemap-1.img", 1, pagemap);
        let original = files(dir.path());
        let error = decompress(dir.path(), DecompressOptions::default(), &()).expect_err(expected);
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text += &format!(": {error}");
            source = error.source();
        }
        assert!(text.contains(expected), "{expected}: {text}");
        assert!(files(dir.path()) == original);
    }
}

#[test]
fn sets_that_cannot_be_are_refused() {
    let dir = TempDir::new();
    write_inventory(dir.path(), 2, &Proto::new());
    let done = compress(dir.path(), CompressOptions::default(), &()).expect("looks");
    assert_eq!(done, Outcome::NoPagemaps);

    write_inventory(dir.path(), 2, &Proto::new().varint(15, 1));
    compress(dir.path(), CompressOptions::default(), &()).expect_err("too old for compression");
    write_inventory(dir.path(), 3, &Proto::new().varint(15, 2));
    compress(dir.path(), CompressOptions::default(), &()).expect_err("an unknown mode");
    write_inventory(dir.path(), 9, &Proto::new());
    compress(dir.path(), CompressOptions::default(), &()).expect_err("an unknown version");

    write_inventory(dir.path(), 2, &Proto::new());
    for name in ["pagemap-1.img", "pagemap-2.img"] {
        let map = Pagemap::new(1).entry(0, 1, PRESENT).bytes(noise(1));
        write_pagemap(dir.path(), name, 1, map);
    }
    let error = compress(dir.path(), CompressOptions::default(), &()).expect_err("shared pages");
    assert!(error.to_string().contains("reuses pages-1.img"), "{error}");
    fs::remove_file(dir.join("pagemap-2.img")).expect("removed");
    fs::remove_file(dir.join("pages-1.img")).expect("removed");
    let error = compress(dir.path(), CompressOptions::default(), &()).expect_err("no pages");
    assert!(
        error.to_string().contains("pages-1.img is missing"),
        "{error}"
    );
}

#[test]
fn decompressing_keeps_the_version_while_there_is_a_parent() {
    let dir = TempDir::new();
    write_inventory(dir.path(), 3, &Proto::new().varint(15, 1).varint(16, 4096));
    let map = Pagemap::new(1).entry(0, 1, PARENT);
    write_pagemap(dir.path(), "pagemap-1.img", 1, map);
    decompress(dir.path(), DecompressOptions::default(), &()).expect("decompresses");
    let checkpoint = Checkpoint::open(dir.path()).expect("opens");
    let inventory = checkpoint.inventory().expect("reads");
    assert_eq!((inventory.img_version, inventory.compress), (3, None));
}

/// Three checkpoints, each in a directory of its own with a link to the one before.
fn write_chain(dir: &TempDir) {
    for (name, parent) in [("1", None), ("2", Some("../1")), ("3", Some("../2"))] {
        let made = dir.make_dir(name);
        if let Some(parent) = parent {
            symlink(parent, made.join("parent")).expect("linked");
        }
    }
    write_pagemap(
        &dir.join("1"),
        "pagemap-7.img",
        1,
        Pagemap::new(1)
            .entry(0x10000, 4, PRESENT)
            .bytes([text("a"), text("b"), text("c"), text("d")].concat()),
    );
    write_pagemap(
        &dir.join("1"),
        "pagemap-shmem-5.img",
        2,
        Pagemap::new(2).entry(0x2000, 1, PRESENT).bytes(text("s")),
    );
    // Compressed, in blocks of two pages, and a different id.
    let block = [text("B"), text("C")].concat();
    let criu_image::memory::block::Block::Lz4(stored) =
        criu_image::memory::block::encode(&block).expect("compresses")
    else {
        panic!("it compresses well");
    };
    write_pagemap(
        &dir.join("2"),
        "pagemap-7.img",
        9,
        Pagemap::new(9)
            .entry(0x10000, 1, PARENT)
            .blocks(0x11000, 2, PRESENT, 2, &[&stored])
            .entry(0x13000, 1, PARENT),
    );
    write_pagemap(
        &dir.join("2"),
        "pagemap-shmem-5.img",
        8,
        Pagemap::new(8).entry(0x2000, 1, PARENT),
    );
    let last = dir.join("3");
    write_inventory(&last, 3, &Proto::new().varint(15, 1).varint(16, 8192));
    write_pagemap(
        &last,
        "pagemap-7.img",
        1,
        Pagemap::new(1)
            .entry(0x10000, 3, PARENT)
            .entry(0x13000, 1, PRESENT)
            .bytes(text("D"))
            .entry(0x20000, 1, LAZY),
    );
    write_pagemap(
        &last,
        "pagemap-shmem-5.img",
        2,
        Pagemap::new(2).entry(0x2000, 1, PARENT),
    );
    fs::write(last.join("core-7.img"), "not looked at").expect("written");
    fs::write(last.join("old.img.bak"), "not copied").expect("written");
}

fn check_flat(dir: &TempDir, flat: &str) {
    let flat = dir.join(flat);
    let files = files(&flat);
    let expected = [text("a"), text("B"), text("C"), text("D")].concat();
    assert!(files["pages-1.img"] == expected);
    assert!(files["pages-2.img"] == text("s"));
    let checkpoint = Checkpoint::open(&flat).expect("opens");
    assert!(checkpoint.parent().expect("looks").is_none());
    let inventory = checkpoint.inventory().expect("reads");
    let fields = (
        inventory.img_version,
        inventory.compress,
        inventory.compress_block_size,
    );
    assert_eq!(fields, (2, None, None));
    let (_, entries) = checkpoint.pagemap(ImageKind::Pagemap, 7).expect("reads");
    let entries: Vec<_> = entries
        .iter()
        .map(|entry| (entry.vaddr, entry.nr_pages, entry.flags))
        .collect();
    assert_eq!(
        entries,
        [
            (0x10000, Some(1), Some(PRESENT)),
            (0x11000, Some(2), Some(PRESENT)),
            (0x13000, Some(1), Some(PRESENT)),
            (0x20000, Some(1), Some(LAZY)),
        ]
    );
}

#[test]
fn a_chain_becomes_one_checkpoint_in_its_place() {
    let dir = TempDir::new();
    write_chain(&dir);
    let parents = [files(&dir.join("1")), files(&dir.join("2"))];
    flatten(&dir.join("3"), FlattenOptions::default(), &()).expect("flattens");
    check_flat(&dir, "3");
    assert!([files(&dir.join("1")), files(&dir.join("2"))] == parents);
    assert_eq!(
        fs::read_link(dir.join("3/parent.bak")).expect("kept"),
        std::path::Path::new("../2")
    );
    let again = flatten(&dir.join("3"), FlattenOptions::default(), &()).expect("looks");
    assert_eq!(again, Outcome::Unneeded);
}

#[test]
fn a_chain_becomes_a_checkpoint_elsewhere() {
    let dir = TempDir::new();
    write_chain(&dir);
    let original = files(&dir.join("3"));
    let options = FlattenOptions::default();
    flatten_into(&dir.join("3"), &dir.join("flat"), options, &()).expect("flattens");
    check_flat(&dir, "flat");
    assert!(files(&dir.join("3")) == original);
    let made = names(&dir.join("flat"));
    assert!(made.contains(&"core-7.img".to_owned()), "{made:?}");
    assert_eq!(made.len(), 6, "{made:?}");
    assert_eq!(names(dir.path()), ["1", "2", "3", "flat"]);
    flatten_into(&dir.join("3"), &dir.join("1"), options, &()).expect_err("in the way");
    assert_eq!(names(dir.path()), ["1", "2", "3", "flat"]);
    for looks in 0.. {
        let monitor = StopAfter(AtomicI64::new(looks));
        let done = flatten_into(&dir.join("3"), &dir.join("late"), options, &monitor);
        if done.is_ok() {
            assert!(looks > 3);
            break;
        }
        assert_eq!(names(dir.path()), ["1", "2", "3", "flat"]);
    }
}

#[test]
fn chains_that_are_not_whole_are_refused() {
    // A page that no parent has.
    let dir = TempDir::new();
    write_chain(&dir);
    let short = Pagemap::new(1)
        .entry(0x11000, 3, PRESENT)
        .bytes(vec![1; 3 * PAGE]);
    write_pagemap(&dir.join("1"), "pagemap-7.img", 1, short);
    let original = files(&dir.join("3"));
    let error = flatten(&dir.join("3"), FlattenOptions::default(), &()).expect_err("not whole");
    assert!(
        error.to_string().contains("0x10000 is in no parent"),
        "{error}"
    );
    assert!(files(&dir.join("3")) == original);

    // A chain that comes back to itself.
    let dir = TempDir::new();
    write_chain(&dir);
    symlink("../3", dir.join("1/parent")).expect("linked");
    write_pagemap(
        &dir.join("1"),
        "pagemap-7.img",
        1,
        Pagemap::new(1).entry(0x10000, 4, PARENT),
    );
    let error = flatten(&dir.join("3"), FlattenOptions::default(), &()).expect_err("a circle");
    assert!(error.to_string().contains("comes back"), "{error}");

    // No parent at all.
    let dir = TempDir::new();
    write_chain(&dir);
    fs::remove_file(dir.join("2/parent")).expect("removed");
    flatten(&dir.join("3"), FlattenOptions::default(), &()).expect_err("no parent");
}
