//! How far long work has come, and the user's wish to stop it.
//!
//! A bar of our own rather than a crate for it: one line on a terminal is all that is needed.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use criu_inspect::Monitor;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::problem::Problem;
use super::size::ByteSize;

/// Shows work on standard error if that is a terminal, and stops it when a signal says so.
#[derive(Debug)]
pub(super) struct Progress {
    expected: AtomicU64,
    done: AtomicU64,
    interrupted: Arc<AtomicBool>,
    /// When the bar was drawn last; `None` before that.
    drawn: Option<Mutex<Option<Instant>>>,
}

impl Progress {
    /// From now on, signals that ask to end only set a mark that the work looks at.
    pub(super) fn watch() -> Result<Self, Problem> {
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted)).map_err(|source| {
                Problem::Io {
                    doing: "watch for signals".to_owned(),
                    source,
                }
            })?;
        }
        Ok(Self {
            expected: AtomicU64::new(0),
            done: AtomicU64::new(0),
            interrupted,
            drawn: std::io::stderr().is_terminal().then(|| Mutex::new(None)),
        })
    }

    fn draw(&self, drawn: &Mutex<Option<Instant>>) {
        // Who finds another at it has nothing to add.
        let Ok(mut last) = drawn.try_lock() else {
            return;
        };
        let now = Instant::now();
        if last.is_some_and(|last| now - last < DRAW_EVERY) {
            return;
        }
        *last = Some(now);
        let done = self.done.load(Ordering::Relaxed);
        let expected = self.expected.load(Ordering::Relaxed).max(done).max(1);
        let filled = u128::from(done) * u128::from(BAR_LEN) / u128::from(expected);
        let filled = usize::try_from(filled).unwrap_or_default();
        let (bar, rest) = ("#".repeat(filled), " ".repeat(BAR_LEN as usize - filled));
        let _ = write!(
            std::io::stderr(),
            "\r[{bar}{rest}] {} of {}\x1b[K",
            ByteSize(done),
            ByteSize(expected)
        );
    }
}

impl Monitor for Progress {
    fn expect(&self, bytes: u64) {
        self.expected.fetch_add(bytes, Ordering::Relaxed);
    }

    fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        if let Some(drawn) = &self.drawn {
            self.draw(drawn);
        }
    }

    fn is_stopped(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let drawn = self.drawn.as_ref().and_then(|drawn| drawn.lock().ok());
        if drawn.is_some_and(|drawn| drawn.is_some()) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// How often the bar is drawn at most.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// Characters of the bar.
const BAR_LEN: u32 = 40;
