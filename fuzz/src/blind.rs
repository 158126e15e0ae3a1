//! Fuzzing without an engine: inputs of the corpus, mutated without knowing what that leads to.
//!
//! It understands the arguments of libFuzzer that `cargo xtask fuzz` uses, and does the same with
//! them. Runs with the same seed and corpus try the same inputs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::memory;

/// Fuzzes `body` as the command line says: `-max_total_time=SECONDS -seed=N -timeout=SECONDS
/// -max_len=BYTES -artifact_prefix=DIR/ CORPUS...`, where files in place of a corpus are run once.
///
/// The input at hand always stands in the file `current` of the artifacts, so that it is there
/// whatever becomes of the process.
pub fn main(body: fn(&[u8])) -> ExitCode {
    match run(body) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run(body: fn(&[u8])) -> io::Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let current = PathBuf::from(format!("{}current", options.artifact_prefix));
    let mut seeds = Vec::new();
    let mut is_replay = false;
    for path in &options.paths {
        if path.is_dir() {
            seeds.extend(read_corpus(path)?);
        } else {
            is_replay = true;
            seeds.push(fs::read(path)?);
        }
    }
    if seeds.is_empty() {
        seeds.push(Vec::new());
    }
    guard_time(options.timeout);
    let run = |bytes: &[u8]| -> io::Result<()> {
        fs::write(&current, bytes)?;
        RUNS.fetch_add(1, Relaxed);
        memory::watch(body, bytes);
        Ok(())
    };
    let start = Instant::now();
    for seed in &seeds {
        run(seed)?;
    }
    let mut numbers = Numbers(options.seed | 1);
    while !is_replay && start.elapsed() < options.total_time {
        let mut bytes = numbers.pick(&seeds).clone();
        for _ in 0..=numbers.below(6) {
            numbers.mutate(&mut bytes, &seeds);
        }
        bytes.truncate(options.max_len);
        run(&bytes)?;
    }
    fs::remove_file(&current)?;
    println!(
        "Done {} runs in {} second(s)",
        RUNS.load(Relaxed),
        start.elapsed().as_secs()
    );
    Ok(())
}

/// How many inputs were tried, the one at hand included.
static RUNS: AtomicU64 = AtomicU64::new(0);

/// Ends the process when one input takes longer than `timeout`.
fn guard_time(timeout: Duration) {
    std::thread::spawn(move || {
        loop {
            let before = RUNS.load(Relaxed);
            std::thread::sleep(timeout);
            if before != 0 && RUNS.load(Relaxed) == before {
                eprintln!("input {before} took longer than {timeout:?}");
                std::process::abort();
            }
        }
    });
}

fn read_corpus(directory: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        paths.push(entry?.path());
    }
    paths.sort();
    paths.iter().map(fs::read).collect()
}

#[derive(Debug)]
struct Options {
    total_time: Duration,
    timeout: Duration,
    seed: u64,
    max_len: usize,
    artifact_prefix: String,
    paths: Vec<PathBuf>,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut options = Self {
            total_time: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            seed: 1,
            max_len: 1 << 20,
            artifact_prefix: "./".to_owned(),
            paths: Vec::new(),
        };
        for argument in arguments {
            let Some((name, value)) = argument
                .strip_prefix('-')
                .and_then(|flag| flag.split_once('='))
            else {
                options.paths.push(argument.into());
                continue;
            };
            let number = || {
                value
                    .parse::<u64>()
                    .map_err(|_| bad(format!("{name} wants a number, not `{value}`")))
            };
            match name {
                "max_total_time" => options.total_time = Duration::from_secs(number()?),
                "timeout" => options.timeout = Duration::from_secs(number()?),
                "seed" => options.seed = number()?,
                "max_len" => options.max_len = usize::try_from(number()?).unwrap_or(usize::MAX),
                "artifact_prefix" => options.artifact_prefix = value.to_owned(),
                _ => return Err(bad(format!("there is no flag {name}"))),
            }
        }
        Ok(options)
    }
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Numbers that look random and follow from the first (xorshift).
#[derive(Debug)]
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number under `limit`, or 0.
    fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % limit).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A place to begin at in `len` bytes, and one to end at, mostly soon after.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len);
        let longest = if self.below(4) == 0 { len } else { 16 };
        let end = start + 1 + self.below(longest);
        start..end.min(len)
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        if bytes.is_empty() {
            bytes.extend_from_slice(&self.next().to_le_bytes());
            return;
        }
        let at = self.below(bytes.len());
        match self.below(10) {
            0 => bytes[at] ^= 1 << self.below(8),
            1 => bytes[at] = bytes[at].wrapping_add(1),
            2 => bytes[at] = *self.pick(BYTES),
            3 => overwrite(bytes, at, &self.pick(WORDS).to_le_bytes()),
            4 => {
                let small = u32::try_from(self.below(bytes.len() + 8)).unwrap_or(u32::MAX);
                overwrite(bytes, at, &small.to_le_bytes());
            }
            5 => bytes.insert(at, *self.pick(BYTES)),
            6 => drop(bytes.drain(self.range(bytes.len()))),
            7 => {
                let copy = bytes[self.range(bytes.len())].to_vec();
                bytes.splice(at..at, copy);
            }
            8 => {
                let other = self.pick(seeds);
                let part = other[self.range(other.len())].to_vec();
                let end = (at + self.below(2) * part.len()).min(bytes.len());
                bytes.splice(at..end, part);
            }
            _ => bytes.truncate(at),
        }
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (byte, new) in bytes[at..].iter_mut().zip(with) {
        *byte = *new;
    }
}

/// Bytes that mean something in varints, tags and counts.
const BYTES: &[u8] = &[0, 1, 2, 4, 8, 0x0a, 0x10, 0x7f, 0x80, 0x81, 0xfe, 0xff];

/// Sizes that overflow something.
const WORDS: &[u32] = &[
    0,
    1,
    0x7f,
    0x80,
    0xffff,
    0x1_0000,
    0x0100_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
];
