//! Search against a search of plain bytes.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use criu_image::Checkpoint;
use criu_image::memory::{AddressSpace, Memory, MemoryOptions, block};
use criu_testkit::TempDir;
use criu_testkit::synthetic::{Fill, Image, Pagemap, Proto, filled};

use super::*;

const PAGE: u64 = 4096;
const PARENT: u32 = 1;
const PRESENT: u32 = 4;

/// Memory made up page by page, and what it holds.
struct Made {
    _dir: TempDir,
    space: AddressSpace,
    /// Runs of known bytes: the first address, the bytes, and for each page whether it is stored.
    runs: Vec<(u64, Vec<u8>, Vec<bool>)>,
}

/// What a page is, in the string that describes a space.
///
/// `s` stored, `p` in the parent, `c` compressed, `z` never written, `l` lazy, ` ` not mapped.
fn make(pages: &str, mut fill: impl FnMut(usize, &mut [u8])) -> Made {
    let dir = TempDir::new();
    let (here, parent) = (dir.make_dir("2"), dir.make_dir("1"));
    std::os::unix::fs::symlink("../1", here.join("parent")).expect("linked");
    let (mut map, mut parent_map) = (Pagemap::new(1), Pagemap::new(1));
    let mut runs: Vec<(u64, Vec<u8>, Vec<bool>)> = Vec::new();
    let mut vmas: Vec<(u64, u64)> = Vec::new();
    for (index, what) in pages.chars().enumerate() {
        let address = 0x10000 + index as u64 * PAGE;
        let mut bytes = vec![0; 4096];
        if "spc".contains(what) {
            fill(index, &mut bytes);
        }
        match what {
            's' => map = map.entry(address, 1, PRESENT).bytes(&bytes),
            'p' => {
                map = map.entry(address, 1, PARENT);
                parent_map = parent_map.entry(address, 1, PRESENT).bytes(&bytes);
            }
            'c' => {
                let stored = match block::encode(&bytes).expect("compresses") {
                    block::Block::Zero => Vec::new(),
                    block::Block::Raw => bytes.clone(),
                    block::Block::Lz4(stored) => stored,
                };
                map = map.blocks(address, 1, PRESENT, 1, &[&stored]);
            }
            'l' => map = map.entry(address, 1, 2),
            _ => {}
        }
        if what != ' ' {
            // An area of its own for every third page.
            match vmas.last_mut() {
                Some(last) if last.1 == address && index % 3 != 0 => last.1 += PAGE,
                _ => vmas.push((address, address + PAGE)),
            }
        }
        if what == ' ' || what == 'l' {
            continue;
        }
        match runs.last_mut() {
            Some((start, known, stored)) if *start + known.len() as u64 == address => {
                known.extend(bytes);
                stored.push(what != 'z');
            }
            _ => runs.push((address, bytes, vec![what != 'z'])),
        }
    }
    let mut mm = filled("mm_entry", Fill::Required);
    for (start, end) in vmas {
        let vma = Proto::new()
            .varint(1, start)
            .varint(2, end)
            .varint(3, 0)
            .varint(4, 0)
            .varint(5, 3)
            .varint(6, 2)
            .varint(7, 1 | 1 << 9)
            .zigzag(8, -1);
        mm = mm.message(14, &vma);
    }
    let write = |dir: &Path, name: &str, bytes: Vec<u8>| {
        fs::write(dir.join(name), bytes).expect("written");
    };
    write(
        &here,
        "mm-1.img",
        Image::common(0x5749_2820).entry(&mm).into_bytes(),
    );
    for (dir, map) in [(&here, map), (&parent, parent_map)] {
        let (map, pages) = map.into_images();
        write(dir, "pagemap-1.img", map);
        write(dir, "pages-1.img", pages);
    }
    let checkpoint = Checkpoint::open(&here).expect("opens");
    let mut options = MemoryOptions::default();
    options.page_size = criu_image::memory::PageSize::new(PAGE);
    let memory = Memory::open(&checkpoint, options).expect("opens");
    let space = memory.task(1).expect("opens");
    Made {
        _dir: dir,
        space,
        runs,
    }
}

impl Made {
    /// The matches by a search of each run as one text.
    fn expected(&self, pattern: &Pattern) -> Vec<(u64, u64)> {
        let mut matches = Vec::new();
        for (start, bytes, stored) in &self.runs {
            let mut at = 0;
            while let Some((found, len)) = pattern.find(bytes, at, bytes.len()) {
                let pages = found / 4096..=(found + len - 1) / 4096;
                if pages.into_iter().any(|page| stored[page]) {
                    matches.push((start + found as u64, len as u64));
                    at = found + len;
                } else {
                    at = found + 1;
                }
            }
        }
        matches
    }

    fn found(&self, pattern: &Pattern, threads: usize) -> Vec<(u64, u64)> {
        let mut search = Search::new(pattern);
        search.threads = NonZeroUsize::new(threads).expect("some");
        let mut matches = Vec::new();
        search
            .run(&self.space, &(), |found| {
                matches.push((found.address, found.byte_len));
                ControlFlow::Continue(())
            })
            .expect("searches");
        matches
    }

    fn check(&self, pattern: &Pattern) -> usize {
        let expected = self.expected(pattern);
        for threads in [1, 3] {
            let found = self.found(pattern, threads);
            let differs = found
                .iter()
                .zip(&expected)
                .find(|(one, other)| one != other);
            assert!(
                found == expected,
                "{} found, {} expected; {differs:x?}; {pattern:?}",
                found.len(),
                expected.len(),
            );
        }
        expected.len()
    }
}

fn literal(bytes: &[u8]) -> Pattern {
    Pattern::literal(bytes).expect("a pattern")
}

#[test]
fn matches_cross_the_borders_of_everything() {
    // Every page ends in the first half of a word and begins with the second.
    let made = make("sspccsp szs l zsz cpz", |_, page| {
        page[..3].copy_from_slice(b"dle");
        page[4093..].copy_from_slice(b"nee");
    });
    let found = made.check(&literal(b"needle"));
    assert_eq!(found, 7, "between known pages side by side");
    // Into and out of memory that was never written.
    assert_eq!(made.check(&literal(b"nee\0\0")), 3);
    assert_eq!(made.check(&literal(b"\0dle")), 2);
    // Zeros as such are not told, but those next to pages are.
    made.check(&literal(b"\0\0\0"));
    made.check(&literal(b"e\0"));
}

#[test]
fn random_memory_gives_what_a_plain_search_gives() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let patterns = [
        literal(b"a"),
        literal(b"ab"),
        literal(b"aa"),
        literal(b"\0a"),
        literal(b"ba\0"),
        literal(b"\0\0"),
        Pattern::regex("a[ab]+").expect("a pattern"),
        Pattern::regex(r"(?-u)\x00a|b\x00").expect("a pattern"),
        Pattern::regex(r"\bab+\b").expect("a pattern"),
        Pattern::regex(r"(?s-u)^a.").expect("a pattern"),
        Pattern::hex("61 ?? 62").expect("a pattern"),
    ];
    let mut found = 0;
    for _ in 0..6 {
        // Single pages of zeros, so that a regular expression sees all of them.
        let mut last = ' ';
        let pages: String = (0..60)
            .map(|_| {
                let kinds = if last == 'z' { "sspcc l" } else { "sspcz l" };
                last = char::from(kinds.as_bytes()[(random() % 7) as usize]);
                last
            })
            .collect();
        let made = make(&pages, |_, page| {
            // Few letters, and those near the borders.
            for byte in page.iter_mut() {
                *byte = b"ab\0 ...."[(random() % 8) as usize];
            }
            page[100..4000].fill(b'.');
        });
        for pattern in &patterns {
            found += made.check(pattern);
        }
    }
    assert!(found > 1000, "{found}");
}

#[test]
fn matches_over_the_borders_of_pieces_are_found_once() {
    // Large enough for several pieces and steps, all of it the pattern's own bytes.
    let pages = "s".repeat(300);
    let made = make(&pages, |_, page| page.fill(b'a'));
    for len in [2, 3, 4097, 60_000] {
        made.check(&literal(&vec![b'a'; len]));
    }
    for regex in ["a{3}", "a+"] {
        let pattern = Pattern::regex(regex).expect("a pattern");
        assert!(made.check(&pattern) > 0);
    }
}

#[test]
fn a_search_keeps_to_its_addresses_and_stops_when_told() {
    let made = make("ss", |_, page| {
        page.fill(b'.');
        page[10..14].copy_from_slice(b"here");
    });
    let pattern = literal(b"here");
    let mut search = Search::new(&pattern);
    let count = |search: &Search<'_>| {
        let mut count = 0;
        search
            .run(&made.space, &(), |_| {
                count += 1;
                ControlFlow::Continue(())
            })
            .expect("searches");
        count
    };
    assert_eq!(count(&search), 2);
    search.addresses = 0x1000a..0x1000b;
    assert_eq!(count(&search), 1);
    search.addresses = 0x1000b..0x1100a;
    assert_eq!(count(&search), 0);
    let mut calls = 0;
    Search::new(&pattern)
        .run(&made.space, &(), |_| {
            calls += 1;
            ControlFlow::Break(())
        })
        .expect("stops");
    assert_eq!(calls, 1);

    struct Stopped;
    impl Monitor for Stopped {
        fn is_stopped(&self) -> bool {
            true
        }
    }
    let stopped = Search::new(&pattern).run(&made.space, &Stopped, |_| ControlFlow::Continue(()));
    assert!(matches!(stopped, Err(SearchError::Interrupted)));
}

#[test]
fn what_cannot_be_searched_is_counted() {
    let made = make("szzl s", |_, page| page.fill(1));
    let tally = Search::new(&literal(b"x"))
        .run(&made.space, &(), |_| ControlFlow::Continue(()))
        .expect("searches");
    assert_eq!(
        (tally.searched, tally.zero, tally.lazy, tally.missing),
        (2 * PAGE, 2 * PAGE, PAGE, 0)
    );
}

#[test]
fn a_pages_file_that_ends_early_is_an_error() {
    let made = make(&"s".repeat(300), |_, page| page.fill(1));
    let path = made._dir.join("2/pages-1.img");
    for threads in [1, 2] {
        let file = fs::File::options().write(true).open(&path).expect("opens");
        file.set_len(200 * PAGE).expect("cut");
        let pattern = literal(b"x");
        let mut search = Search::new(&pattern);
        search.threads = NonZeroUsize::new(threads).expect("some");
        let error = search
            .run(&made.space, &(), |_| ControlFlow::Continue(()))
            .expect_err("too short");
        assert!(error.to_string().contains("pages-1.img"), "{error}");
    }
}
