//! Memory as CRIU 0.4 and older stored it: pages and their addresses in one file.

use std::fs;
use std::path::Path;

use criu_image::memory::{Content, Memory, MemoryOptions};
use criu_image::{Checkpoint, ErrorKind};
use criu_testkit::TempDir;
use criu_testkit::synthetic::{Fill, Image, Proto, filled};

const MM: u32 = 0x5749_2820;
const PAGEMAP: u32 = 0x5608_4025;
const ANON_PRIVATE: u64 = 1 << 9;
const PAGE_LEN: usize = 4096;

fn write_mm(dir: &Path) {
    let vma = Proto::new()
        .varint(1, 0x10000)
        .varint(2, 0x14000)
        .varint(3, 0)
        .varint(4, 0)
        .varint(5, 3)
        .varint(6, 2)
        .varint(7, 1 | ANON_PRIVATE)
        .zigzag(8, -1);
    let mm = filled("mm_entry", Fill::Required).message(14, &vma);
    let image = Image::common(MM).entry(&mm).into_bytes();
    fs::write(dir.join("mm-7.img"), image).expect("writes");
}

fn old_pages(pages: &[(u64, u8)]) -> Vec<u8> {
    let mut bytes = PAGEMAP.to_le_bytes().to_vec();
    for &(address, fill) in pages {
        bytes.extend(address.to_le_bytes());
        bytes.extend([fill; PAGE_LEN]);
    }
    bytes
}

fn open(dir: &Path) -> Memory {
    let checkpoint = Checkpoint::open(dir).expect("opens");
    Memory::open(&checkpoint, MemoryOptions::default()).expect("opens")
}

#[test]
fn pages_with_their_addresses_are_found() {
    let dir = TempDir::new();
    let dir = dir.path();
    write_mm(dir);
    let pages = old_pages(&[(0x12000, 0xb2), (0x11000, 0xa1)]);
    fs::write(dir.join("pages-7.img"), &pages).expect("writes");
    fs::write(dir.join("pages-shmem-9.img"), old_pages(&[(0, 0xc3)])).expect("writes");

    let memory = open(dir);
    let space = memory.task(7).expect("opens");
    let mut bytes = vec![0xff; 3 * PAGE_LEN];
    let count = space.read_at(0x11000, &mut bytes).expect("reads");
    let wanted = [[0xa1; PAGE_LEN], [0xb2; PAGE_LEN], [0; PAGE_LEN]].concat();
    assert!(count == bytes.len() && bytes == wanted);
    let (_, path, len) = space.pages_lengths().next().expect("a pages file");
    assert_eq!(len, pages.len() as u64, "of {}", path.display());

    assert_eq!(memory.shared_ids().expect("lists"), [9]);
    let shared = memory.shared(9).expect("opens");
    shared.read_at(0, &mut bytes[..PAGE_LEN]).expect("reads");
    assert_eq!(bytes[..PAGE_LEN], [0xc3; PAGE_LEN]);
}

#[test]
fn a_page_cut_short_is_an_error_that_says_where() {
    let dir = TempDir::new();
    let dir = dir.path();
    write_mm(dir);
    let mut pages = old_pages(&[(0x11000, 0xa1), (0x12000, 0xb2)]);
    pages.pop();
    fs::write(dir.join("pages-7.img"), &pages).expect("writes");
    let error = open(dir).task(7).expect_err("truncated");
    let cut = matches!(
        error.reason(),
        ErrorKind::Truncated {
            what: "page",
            expected: 4104,
            found: 4103
        }
    );
    assert!(cut, "{error}");
    assert!(error.to_string().contains("pages-7.img"), "{error}");
}

#[test]
fn a_pages_file_of_today_is_not_taken_for_an_old_one() {
    let dir = TempDir::new();
    let dir = dir.path();
    write_mm(dir);
    fs::write(dir.join("pages-7.img"), [1; PAGE_LEN]).expect("writes");
    let space = open(dir).task(7).expect("opens");
    let contents: Vec<_> = space.all_spans().map(|span| span.content).collect();
    assert_eq!(contents, [Content::Zero]);
}
