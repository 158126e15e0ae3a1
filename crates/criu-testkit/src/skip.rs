//! Tests that cannot run here say so, where nobody can overlook it.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;

/// Whether CI could have made the test run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Skip {
    /// Something is missing that `cargo xtask test` provides: it counts as a failure there.
    Avoidable,
    /// The kernel or the machine cannot do it.
    Unavailable,
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Skip::Avoidable => "avoidable",
            Skip::Unavailable => "unavailable",
        })
    }
}

/// Ends the test here, counted and printed as skipped: `skip!(Unavailable, "kernel has no {}", what)`.
///
/// The line goes to standard error and to the file named by `$CRIU_TEST_SKIP_LOG`, from which `cargo xtask test`
/// counts. Returns from the function it stands in.
#[macro_export]
macro_rules! skip {
    ($kind:ident, $($reason:tt)+) => {{
        $crate::record_skip($crate::Skip::$kind, &::std::format!($($reason)+));
        return;
    }};
}

/// Records that the running test, or part of it, is skipped; [`skip!`] is the usual way to say so.
pub fn record_skip(kind: Skip, reason: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("unnamed test");
    let reason = reason.replace('\n', " ");
    // Straight to the descriptor: the test harness would swallow what a passing test prints.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason} ({kind})");
    let Some(log) = std::env::var_os("CRIU_TEST_SKIP_LOG") else {
        return;
    };
    // One write in append mode is one line, also when many tests write at once.
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .and_then(|mut file| file.write_all(format!("{kind}\t{test}\t{reason}\n").as_bytes()));
    if let Err(error) = written {
        panic!("cannot write the skip to {}: {error}", log.display());
    }
}
