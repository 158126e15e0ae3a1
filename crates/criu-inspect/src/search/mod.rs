//! Finds bytes in memory.
//!
//! A [`Pattern`] is searched in an [`AddressSpace`] by all cores, in bounded memory whatever the
//! space. What lies side by side in memory is searched as one, wherever its bytes come from: a
//! match may cross the borders of pages, of areas, of pagemap entries and of checkpoints.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use criu_image::memory::{Memory, MemoryOptions};
//! use criu_image::Checkpoint;
//! use criu_inspect::search::{Pattern, Search};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let checkpoint = Checkpoint::open("/var/lib/checkpoint")?;
//! let memory = Memory::open(&checkpoint, MemoryOptions::default())?;
//! let pattern = Pattern::literal(b"password")?;
//! let space = memory.task(4711)?;
//! Search::new(&pattern).run(&space, &(), |found| {
//!     println!("{:#x}", found.address);
//!     ControlFlow::Continue(())
//! })?;
//! # Ok(())
//! # }
//! ```

mod cursor;
mod pattern;
mod scan;
mod window;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use criu_image::memory::AddressSpace;

use self::cursor::Cursor;
pub use self::cursor::Tally;
pub use self::pattern::{LONGEST_MATCH, LONGEST_PATTERN, Pattern, PatternError};
use self::scan::Scanner;
use crate::Monitor;

/// How to search.
#[derive(Clone, Debug)]
pub struct Search<'a> {
    pattern: &'a Pattern,
    /// The addresses that matches may begin at.
    pub addresses: Range<u64>,
    /// How many threads search; all cores unless set.
    pub threads: NonZeroUsize,
}

/// A place where the pattern matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Match {
    /// Address of the first byte.
    pub address: u64,
    /// Bytes that match.
    pub byte_len: u64,
}

/// Why a search was given up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// An image is damaged or cannot be read.
    #[error(transparent)]
    Image(#[from] criu_image::Error),
    /// The monitor stopped it.
    #[error("interrupted")]
    Interrupted,
}

impl<'a> Search<'a> {
    /// Searches everywhere, on all cores.
    #[must_use]
    pub fn new(pattern: &'a Pattern) -> Self {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            pattern,
            addresses: 0..u64::MAX,
            threads: threads.min(MOST_THREADS),
        }
    }

    /// Searches a space and tells what is found by ascending address, until told to stop.
    ///
    /// Matches do not overlap: the search goes on behind each. Memory that was never written to is
    /// zero; it counts next to pages that are in the images, but is not searched for itself.
    ///
    /// # Errors
    ///
    /// Fails when a pages file is damaged or cannot be read, or the monitor stops it.
    pub fn run(
        &self,
        space: &AddressSpace,
        monitor: &dyn Monitor,
        mut found: impl FnMut(Match) -> ControlFlow<()>,
    ) -> Result<Tally, SearchError> {
        let shared = Shared {
            state: Mutex::new(State {
                cursor: Cursor::new(space, self.addresses.clone()),
                next: 0,
                told: 0,
                done: BTreeMap::new(),
                is_over: false,
            }),
            changed: Condvar::new(),
            most_ahead: 2 * self.threads.get() as u64,
        };
        let mut teller = Teller {
            scanner: Scanner::new(space, self.pattern, &self.addresses),
            floor: self.addresses.start,
            monitor,
        };
        if self.threads.get() == 1 || shared.lock().cursor.is_small() {
            loop {
                let Some(piece) = shared.lock().cursor.next() else {
                    break;
                };
                let matches = teller.scanner.scan(&piece.addresses, teller.floor);
                if teller.tell(&piece, matches, &mut found)?.is_break() {
                    break;
                }
            }
            return Ok(shared.lock().cursor.tally());
        }
        std::thread::scope(|scope| {
            for _ in 0..self.threads.get() {
                let scanner = Scanner::new(space, self.pattern, &self.addresses);
                scope.spawn(|| shared.work(scanner));
            }
            // Also when telling fails or panics, the workers must not wait for ever.
            let _over = Over(&shared);
            while let Some((piece, matches)) = shared.take() {
                if teller.tell(&piece, matches, &mut found)?.is_break() {
                    break;
                }
            }
            Ok(shared.lock().cursor.tally())
        })
    }
}

/// A piece of the space, with the addresses that matches in it begin at.
#[derive(Clone, Debug)]
struct Piece {
    addresses: Range<u64>,
    /// Bytes of it that are in the images.
    byte_len: u64,
}

type Scanned = Result<Vec<Match>, criu_image::Error>;

/// What the threads share.
struct Shared<'a> {
    state: Mutex<State<'a>>,
    changed: Condvar,
    /// How many pieces may be searched before the first of them was told.
    most_ahead: u64,
}

struct State<'a> {
    cursor: Cursor<'a>,
    /// Number of the next piece to search, and of the next to tell.
    next: u64,
    told: u64,
    done: BTreeMap<u64, (Piece, Scanned)>,
    is_over: bool,
}

impl<'a> Shared<'a> {
    fn lock(&self) -> MutexGuard<'_, State<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'g>(&self, state: MutexGuard<'g, State<'a>>) -> MutexGuard<'g, State<'a>> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Searches pieces until there are no more.
    fn work(&self, mut scanner: Scanner<'_>) {
        let mut state = self.lock();
        loop {
            while !state.is_over && state.next - state.told >= self.most_ahead {
                state = self.wait(state);
            }
            let piece = match state.is_over {
                true => None,
                false => state.cursor.next(),
            };
            let Some(piece) = piece else {
                state.is_over = true;
                self.changed.notify_all();
                return;
            };
            let number = state.next;
            state.next += 1;
            drop(state);
            let scanned = scanner.scan(&piece.addresses, 0);
            state = self.lock();
            state.done.insert(number, (piece, scanned));
            if number == state.told {
                self.changed.notify_all();
            }
        }
    }

    /// Waits for the next piece in turn.
    fn take(&self) -> Option<(Piece, Scanned)> {
        let mut state = self.lock();
        loop {
            let number = state.told;
            if let Some(done) = state.done.remove(&number) {
                state.told += 1;
                self.changed.notify_all();
                return Some(done);
            }
            if state.is_over && state.told == state.next {
                return None;
            }
            state = self.wait(state);
        }
    }
}

/// Ends the work of all threads.
struct Over<'a, 'b>(&'a Shared<'b>);

impl Drop for Over<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_all();
    }
}

/// Tells matches in turn.
struct Teller<'a> {
    scanner: Scanner<'a>,
    /// End of the match told last.
    floor: u64,
    monitor: &'a dyn Monitor,
}

impl Teller<'_> {
    fn tell(
        &mut self,
        piece: &Piece,
        matches: Scanned,
        found: &mut impl FnMut(Match) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, SearchError> {
        let mut matches = matches?;
        if matches
            .first()
            .is_some_and(|first| first.address < self.floor)
        {
            // The last match of the piece before goes on in this one, which was searched without
            // knowing that.
            matches = self.scanner.scan(&piece.addresses, self.floor)?;
        }
        for found_here in matches {
            self.floor = found_here.address + found_here.byte_len;
            if found(found_here).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.monitor.advance(piece.byte_len);
        if self.monitor.is_stopped() {
            return Err(SearchError::Interrupted);
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// More threads than this would need more than a few megabytes, and memory is not that fast.
const MOST_THREADS: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");

#[cfg(test)]
mod tests;
