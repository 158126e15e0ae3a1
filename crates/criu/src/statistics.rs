//! The statistics CRIU leaves in its working directory.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use criu_image::message::{DumpStatsEntry, RestoreStatsEntry, StatsEntry};
use criu_image::wire::Message;

use crate::failure::open_in;

/// Larger than any statistics file: it holds some twenty numbers.
const SIZE_LIMIT_BYTES: u64 = 64 << 10;

/// First words of the file: a service image, of statistics.
const MAGIC: [u32; 2] = [0x5510_5940, 0x5709_3306];

pub(crate) fn of_dump(work_dir: Option<&OwnedFd>) -> Option<DumpStatsEntry> {
    read(work_dir?, "stats-dump")?.dump.map(|dump| *dump)
}

pub(crate) fn of_restore(work_dir: Option<&OwnedFd>) -> Option<RestoreStatsEntry> {
    read(work_dir?, "stats-restore")?
        .restore
        .map(|restore| *restore)
}

fn read(work_dir: &OwnedFd, name: &str) -> Option<StatsEntry> {
    let mut bytes = Vec::new();
    let file = open_in(work_dir, Path::new(name)).ok()?;
    file.take(SIZE_LIMIT_BYTES).read_to_end(&mut bytes).ok()?;
    parse(&bytes)
}

fn parse(mut bytes: &[u8]) -> Option<StatsEntry> {
    let mut word = || {
        let (word, rest) = bytes.split_first_chunk::<4>()?;
        bytes = rest;
        Some(u32::from_ne_bytes(*word))
    };
    if [word()?, word()?] != MAGIC {
        return None;
    }
    let size = usize::try_from(word()?).ok()?;
    StatsEntry::decode(bytes.get(..size)?).ok()
}
