//! Damaged images, many of them: what the fuzzers would find, found in every test run.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use criu_image::{ImageKind, fuzz};
use criu_testkit::synthetic::{Order, Pagemap, samples};

/// Numbers that look random and are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).expect("less than the limit")
    }

    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes[at] = bytes[at].wrapping_add(1),
                1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes[at] = 0xff,
                3 => bytes.truncate(at),
                4 => bytes.insert(at, 0x80),
                _ => drop(bytes.remove(at)),
            }
        }
    }
}

/// Damages the seeds over and over for a while.
fn batter(seeds: &[Vec<u8>], body: fn(&[u8])) {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let until = Instant::now() + Duration::from_secs(2);
    for seed in seeds {
        body(seed);
    }
    let mut runs = 0;
    while Instant::now() < until {
        let mut bytes = seeds[numbers.below(seeds.len())].clone();
        numbers.damage(&mut bytes);
        body(&bytes);
        runs += 1;
    }
    assert!(runs > 100, "only {runs} runs");
}

#[test]
fn damaged_images_never_break_a_reader() {
    let seeds: Vec<_> = [Order::Little, Order::Big]
        .into_iter()
        .flat_map(samples)
        .map(|sample| sample.bytes)
        .collect();
    batter(&seeds, fuzz::image_round_trip);
}

/// Image sets in the form in which a fuzz target takes them.
fn sets(wanted: fn(ImageKind) -> bool) -> Vec<Vec<u8>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/4.3");
    ["plain", "plain-compressed", "descriptors"]
        .iter()
        .map(|set| fuzz::join_directory(&fixtures.join(set), wanted, 8192).expect("reads"))
        .collect()
}

#[test]
fn damaged_checkpoints_never_break_a_look_at_them() {
    batter(&sets(|kind| kind != ImageKind::Pages), fuzz::checkpoint);
}

#[test]
fn damaged_pagemaps_never_break_a_look_at_memory() {
    use ImageKind::{Mm, Pagemap as Map, Pages, ShmemPagemap};
    let mut seeds = sets(|kind| matches!(kind, Mm | Map | Pages | ShmemPagemap));
    let (map, pages) = Pagemap::new(1)
        .blocks(0, 3, 4, 2, &[&[], &[1; 4096]])
        .entry(0x9000, 1, 4)
        .bytes([5; 4096])
        .entry(0xa000, 9, 1)
        .into_images();
    let set = [
        ("pagemap-shmem-1.img", &map[..]),
        ("pages-1.img", &pages),
        ("parent/pagemap-shmem-1.img", &map),
        ("parent/pages-1.img", &pages),
    ];
    seeds.push(fuzz::join(set, u16::MAX));
    batter(&seeds, fuzz::address_space);
}

#[test]
fn what_fuzzing_found_stays_mended() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fuzz");
    let image_round_trip: fn(&[u8]) = fuzz::image_round_trip;
    let targets = [
        ("image_round_trip", image_round_trip),
        ("message_round_trip", fuzz::message_round_trip),
        ("checkpoint", fuzz::checkpoint),
        ("address_space", fuzz::address_space),
    ];
    for (target, body) in targets {
        for input in fs::read_dir(found.join(target)).into_iter().flatten() {
            body(&fs::read(input.expect("reads").path()).expect("reads"));
        }
    }
}
