//! An allocator that counts, and ends the process when an input takes more than it accounts for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

/// What an input may take above its own size, in bytes.
pub const ALLOWANCE: usize = 64 << 20;

/// Runs `body` on `bytes`; aborts if it ever holds [`ALLOWANCE`] bytes more than there are.
pub fn watch(body: fn(&[u8]), bytes: &[u8]) {
    let ceiling = HELD.load(Relaxed) + bytes.len() + ALLOWANCE;
    CEILING.store(ceiling, Relaxed);
    body(bytes);
    CEILING.store(usize::MAX, Relaxed);
}

/// Bytes that are allocated.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Bytes that may be.
static CEILING: AtomicUsize = AtomicUsize::new(usize::MAX);

fn take(size: usize) {
    let held = HELD.fetch_add(size, Relaxed).saturating_add(size);
    let ceiling = CEILING.load(Relaxed);
    if held > ceiling {
        // Telling allocates as well.
        CEILING.store(usize::MAX, Relaxed);
        eprintln!(
            "an allocation of {size} bytes exceeds what the input accounts for by {} bytes\n{}",
            held - ceiling,
            Backtrace::force_capture()
        );
        std::process::abort();
    }
}

fn give_back(size: usize) {
    HELD.fetch_sub(size, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it is; counting does not touch memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        take(new_size);
        give_back(layout.size());
        // SAFETY: the caller keeps to the same contract.
        unsafe { System.realloc(place, layout, new_size) }
    }
}
