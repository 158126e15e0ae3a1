//! What reading images costs beside moving the same bytes about.
//!
//! `cargo bench -p criu-image --bench images [ROUNDS]`. Each of ours is run in turn with its peer, which
//! does the least that could be done with the same bytes: pass over them, copy them, or read them where it
//! is known that they are. The ratio is the median of the rounds' ratios, so that what else the machine does weighs on
//! both. Where the peer does next to nothing, the time per entry says more.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measures")]
#![expect(clippy::unwrap_used, reason = "a benchmark stops at what goes wrong")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Cursor, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use criu_image::checkpoint::Checkpoint;
use criu_image::memory::{AddressSpace, Memory, MemoryOptions};
use criu_image::message::{PagemapEntry, PagemapHead};
use criu_image::{ImageKind, ImageReader, ImageWriter, ReadOptions};
use criu_testkit::TempDir;
use criu_testkit::synthetic::{Fill, Image, Pagemap, Proto, filled};

const ROUNDS: usize = 15;

/// Entries of the pagemap, each of one page; every second page is left out.
const ENTRIES: u64 = 200_000;

/// Content of the ghost file, in bytes.
const GHOST_LEN: u64 = 1 << 30;

/// Places read at random in an address space.
const PLACES: u64 = 200_000;

const PAGE: u64 = 4096;
const BASE: u64 = 0x7000_0000_0000;

fn main() {
    let rounds = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(ROUNDS);
    println!("{:<36} {:>12} {:>12} {:>9}", "", "ours", "peer", "ratio");
    pagemap(rounds);
    ghost(rounds.div_ceil(3));
    memory(rounds);
}

/// A pagemap, read in three ways. The first one's peer goes from size to size in memory and looks at
/// nothing; that of the others is the first.
fn pagemap(rounds: usize) {
    let (image, _) = big_pagemap();
    let walk = || {
        let mut rest = &black_box(&image)[8..];
        let mut count = 0;
        while let Some((size, behind)) = rest.split_first_chunk() {
            let (entry, behind) = behind.split_at(u32::from_le_bytes(*size) as usize);
            count += u64::from(!black_box(entry).is_empty());
            rest = behind;
        }
        assert_eq!(count, ENTRIES + 1);
    };
    let per = ("entry", ENTRIES);
    let raw = || {
        let mut reader = ImageReader::new(&image[..]).unwrap();
        let mut count = 0;
        while let Some(entry) = reader.next_entry().unwrap() {
            count += u64::from(!black_box(entry.bytes).is_empty());
        }
        assert_eq!(count, ENTRIES + 1);
    };
    compare("pagemap, entries as bytes", rounds, per, walk, raw);
    compare("pagemap, entries decoded", rounds, per, raw, || {
        let mut reader = ImageReader::new(&image[..]).unwrap();
        let head = reader.next_entry().unwrap().unwrap();
        black_box(head.decode::<PagemapHead>().unwrap());
        let mut pages = 0;
        while let Some(entry) = reader.next_entry().unwrap() {
            pages += entry.decode::<PagemapEntry>().unwrap().effective_pages();
        }
        assert_eq!(pages, ENTRIES);
    });
    compare("pagemap, read and written", rounds, per, raw, || {
        let mut reader = ImageReader::new(&image[..]).unwrap();
        let sink = Vec::with_capacity(image.len());
        let mut writer = ImageWriter::new(sink, reader.header(), reader.byte_order()).unwrap();
        reader.copy_to(&mut writer).unwrap();
        assert_eq!(writer.finish().unwrap().len(), image.len());
    });
}

/// A file's content that streams by; the peer copies it as it comes.
fn ghost(rounds: usize) {
    let magic = ImageKind::GhostFile.magic().unwrap();
    let head = filled("ghost_file_entry", Fill::Required);
    let head = Image::common(magic).entry(&head).into_bytes();
    let source = || Cursor::new(&head[..]).chain(io::repeat(0x5a).take(GHOST_LEN));
    let per = ("MiB", GHOST_LEN >> 20);
    let peer = || {
        let mut source = io::BufReader::with_capacity(256 << 10, source());
        let copied = io::copy(&mut source, &mut Counted(0)).unwrap();
        assert_eq!(copied, GHOST_LEN + head.len() as u64);
    };
    compare("ghost file of 1 GiB, streamed", rounds, per, peer, || {
        let mut reader = ImageReader::new(source()).unwrap();
        let mut entry = reader.next_entry().unwrap().unwrap();
        let mut sink = Counted(0);
        while let Some(mut part) = entry.payload.next_part().unwrap() {
            while let Some(chunk) = part.next_chunk().unwrap() {
                sink.write_all(chunk).unwrap();
            }
        }
        assert_eq!(sink.0, GHOST_LEN);
    });
}

/// Reads at random in an address space; the peer reads the pages file where it knows the bytes to be.
fn memory(rounds: usize) {
    let dir = TempDir::new();
    write_set(dir.path());
    let open = || {
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let memory = Memory::open(&checkpoint, MemoryOptions::default()).unwrap();
        memory.task(1).unwrap()
    };
    let (image, _) = big_pagemap();
    let per = ("entry", ENTRIES);
    let read = || {
        let options = ReadOptions::default();
        let mut reader = options.read(&image[..]).unwrap();
        black_box(reader.next_entry().unwrap().unwrap().bytes.len());
        while let Some(entry) = reader.next_entry().unwrap() {
            black_box(entry.decode::<PagemapEntry>().unwrap());
        }
    };
    compare("address space, opened", rounds, per, read, || {
        black_box(open().areas().len());
    });

    let space: AddressSpace = open();
    let pages = File::open(dir.path().join("pages-1.img")).unwrap();
    let per = ("place", PLACES);
    let peer = || {
        let mut out = [0; 64];
        for page in places() {
            pages.read_exact_at(&mut out, page * PAGE).unwrap();
            assert_eq!(out[..8], page.to_le_bytes());
        }
    };
    compare(
        "address space, 64 bytes at random",
        rounds,
        per,
        peer,
        || {
            let mut reader = space.reader();
            let mut out = [0; 64];
            for page in places() {
                let count = reader.read_at(BASE + 2 * page * PAGE, &mut out).unwrap();
                assert_eq!((count, &out[..8]), (64, &page.to_le_bytes()[..]));
            }
        },
    );
}

/// Pages that look picked at random, and are the same in every run.
fn places() -> impl Iterator<Item = u64> {
    (0..PLACES).map(|place| place.wrapping_mul(0x9e37_79b9_7f4a_7c15) % ENTRIES)
}

fn big_pagemap() -> (Vec<u8>, Vec<u8>) {
    const PRESENT: u32 = 4;
    let mut map = Pagemap::new(1);
    for page in 0..ENTRIES {
        map = map.entry(BASE + 2 * page * PAGE, 1, PRESENT);
    }
    map.into_images()
}

/// A task with one area, and a sparse pages file in which each page begins with its number.
fn write_set(dir: &Path) {
    let vma = Proto::new()
        .varint(1, BASE)
        .varint(2, BASE + 2 * ENTRIES * PAGE)
        .varint(3, 0)
        .varint(4, 0)
        .varint(5, 3)
        .varint(6, 2)
        .varint(7, 1 | 1 << 9)
        .zigzag(8, -1);
    let mm = filled("mm_entry", Fill::Required).message(14, &vma);
    let mm = Image::common(ImageKind::Mm.magic().unwrap()).entry(&mm);
    fs::write(dir.join("mm-1.img"), mm.into_bytes()).unwrap();
    fs::write(dir.join("pagemap-1.img"), big_pagemap().0).unwrap();
    let pages = File::create(dir.join("pages-1.img")).unwrap();
    pages.set_len(ENTRIES * PAGE).unwrap();
    for page in 0..ENTRIES {
        pages
            .write_all_at(&page.to_le_bytes(), page * PAGE)
            .unwrap();
    }
}

/// Runs both in turns and prints the medians.
fn compare(
    what: &str,
    rounds: usize,
    (unit, count): (&str, u64),
    mut peer: impl FnMut(),
    mut ours: impl FnMut(),
) {
    let mut times = Vec::new();
    // The first round fills caches.
    for round in 0..=rounds {
        let (our, peers) = if round % 2 == 0 {
            let our = time(&mut ours);
            (our, time(&mut peer))
        } else {
            let peers = time(&mut peer);
            (time(&mut ours), peers)
        };
        if round > 0 {
            times.push((our, peers, our / peers));
        }
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let our = median(times.iter().map(|(our, ..)| *our).collect());
    let peers = median(times.iter().map(|(_, peers, _)| *peers).collect());
    let ratio = median(times.iter().map(|(.., ratio)| *ratio).collect());
    let each = Duration::from_secs_f64(our / f64::from(u32::try_from(count).unwrap()));
    println!(
        "{what:<36} {:>9.2} ms {:>9.2} ms {ratio:>8.2}x   {each:.1?} per {unit}",
        our * 1e3,
        peers * 1e3,
    );
}

fn time(run: &mut impl FnMut()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// Counts bytes after having touched them.
struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += black_box(bytes).len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
