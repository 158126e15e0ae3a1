//! What the crate costs over running the `criu` program for the same: a version, and a small dump.
//!
//! `cargo bench -p criu --bench overhead [PAIRS]`, as root. Runs come in pairs, in turns first one and
//! first the other, so that what else the machine does weighs on both; the ratio is the median of the
//! pairs' ratios. Processor time, ours and the children's, is printed beside wall time: it stays the same
//! on a busy machine. Printed with it: allocations of our process per call, and its open descriptors before,
//! at the most, and after.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it measures")]
#![expect(clippy::unwrap_used, reason = "a benchmark stops at what goes wrong")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criu::{Criu, Dump, Event, FinalState};
use criu_testkit::{CriuUnderTest, Scene, TempDir, TestProcess};

const PAIRS: usize = 60;

/// Counts what is allocated on its way to the system's allocator.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static ALLOCATED_BYTES: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "there is no other way to see every allocation")]
// SAFETY: both calls go to the system's allocator as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        ALLOCATED_BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of this very method.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let pairs = arguments
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(PAIRS);
    for under_test in CriuUnderTest::all() {
        let (major, minor) = under_test.series();
        println!("CRIU {major}.{minor}, {pairs} pairs");
        version(&under_test, pairs);
        dump(&under_test, pairs);
    }
}

fn version(under_test: &CriuUnderTest, pairs: usize) {
    let direct = || {
        let output = under_test.command().arg("--version").output().unwrap();
        assert!(output.status.success());
    };
    let through = || {
        // A value remembers the version: each asks anew.
        Criu::with_binary(under_test.path())
            .unwrap()
            .version()
            .unwrap();
    };
    compare("version", pairs, direct, through);
    resources(through, || {
        Criu::with_binary(under_test.path())
            .unwrap()
            .version()
            .unwrap();
        0
    });
}

fn dump(under_test: &CriuUnderTest, pairs: usize) {
    let process = Scene::new().start();
    let images = TempDir::new();
    let pid = process.pid().to_string();
    let direct = || {
        let status = under_test
            .command()
            .args(["dump", "-R", "-v4", "-o", "criu.log", "-t", &pid, "-D"])
            .arg(images.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    };
    let criu = Criu::with_binary(under_test.path()).unwrap();
    let request = || request(&process, images.path());
    let through = || {
        criu.dump(&request()).unwrap();
    };
    compare("dump", pairs, direct, through);
    resources(through, || {
        let mut most = 0;
        let mut hooks = |_: Event<'_>| {
            most = most.max(open_descriptors());
            Ok(())
        };
        criu.dump_with(&request(), &mut hooks).unwrap();
        most
    });
}

fn request(process: &TestProcess, images: &Path) -> Dump {
    let mut dump = Dump::new(i32::try_from(process.pid()).unwrap(), images);
    dump.then = FinalState::Running;
    dump
}

/// Prints the medians of both ways, and the median of the pairs' ratios.
fn compare(name: &str, pairs: usize, direct: impl Fn(), through: impl Fn()) {
    let (mut directly, mut by_crate, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut direct_ticks, mut crate_ticks) = (0, 0);
    direct();
    through();
    for pair in 0..pairs {
        let mut one = Duration::ZERO;
        let mut other = Duration::ZERO;
        for turn in [pair % 2, (pair + 1) % 2] {
            let before = processor_ticks();
            if turn == 0 {
                one = time(&direct);
                direct_ticks += processor_ticks() - before;
            } else {
                other = time(&through);
                crate_ticks += processor_ticks() - before;
            }
        }
        directly.push(one.as_secs_f64() * 1e3);
        by_crate.push(other.as_secs_f64() * 1e3);
        ratios.push(other.as_secs_f64() / one.as_secs_f64());
    }
    println!(
        "  {name:8} program {:7.2} ms, crate {:7.2} ms, ratio {:.3}",
        median(&mut directly),
        median(&mut by_crate),
        median(&mut ratios)
    );
    println!(
        "           processor time, all runs: program {direct_ticks} ticks, crate {crate_ticks} ticks, ratio {:.3}",
        crate_ticks as f64 / direct_ticks as f64
    );
}

/// Processor time of this process and of the children it has waited for, in clock ticks
/// (proc_pid_stat(5), fields 14 to 17).
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|field| field.parse::<u64>().unwrap())
        .sum()
}

/// Prints what one call allocates and how many descriptors it has open; `watched` tells the most.
fn resources(call: impl Fn(), watched: impl FnOnce() -> usize) {
    let before = open_descriptors();
    let count = ALLOCATIONS.load(Ordering::Relaxed);
    let bytes = ALLOCATED_BYTES.load(Ordering::Relaxed);
    call();
    let count = ALLOCATIONS.load(Ordering::Relaxed) - count;
    let bytes = ALLOCATED_BYTES.load(Ordering::Relaxed) - bytes;
    let most = watched();
    let most = if most == 0 {
        String::new()
    } else {
        format!(", {most} at the most")
    };
    println!(
        "           {count} allocations ({bytes} bytes); descriptors: {before} before{most}, {} after",
        open_descriptors()
    );
}

fn open_descriptors() -> usize {
    // The listing itself is one of them.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

fn time(call: impl Fn()) -> Duration {
    let start = Instant::now();
    call();
    start.elapsed()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
