//! CRIU's log as entries.
//!
//! A line of CRIU's log is built like this (every part but the text may be missing):
//!
//! ```text
//! (00.068123)      1: Error (criu/files.c:1216): mnt: Unable to open fd=38 id=0x47
//! |          |        |     |                    |    `- message
//! |          |        |     |                    `- module
//! |          |        |     `- place in CRIU's source
//! |          |        `- level: CRIU marks errors and warnings only
//! |          `- process that wrote the line (restore only)
//! `- time since the log was opened (from -v3 on)
//! ```
//!
//! Logs reach us in many wrappings: whole files, a few lines from a bug report, `time="…"
//! level=error msg="…"` of a container runtime, Python byte strings, lines glued together because
//! somebody else wrote to the same file. [`Log::parse`] and [`Log::read`] take them all, never fail on
//! content, and keep a bounded number of entries whatever the size of the input ([`Limits`]).
//!
//! Source of the format: CRIU's `criu/log.c`, `include/log.h` and `compel/include/log.h`.

mod entry;
mod line;
mod reader;

pub use entry::{Entry, Level, Location};
pub use reader::Limits;
#[cfg(test)]
pub(crate) use reader::is_suspicious;

use std::io;

use crate::operation::Operation;

/// How a run ended, as CRIU's last line says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// `Dumping finished successfully` and its like.
    Finished,
    /// `Dumping FAILED.` and its like.
    Failed,
}

/// The entries of one log.
///
/// ```
/// use criu::log::{Level, Log};
///
/// let log = Log::parse(b"(00.003) x\n(00.019615) Error (criu/cr-dump.c:1709): Dumping FAILED.\n");
/// let error = log.errors().next().unwrap();
/// assert_eq!(error.level, Level::Error);
/// assert_eq!(error.message(), "Dumping FAILED.");
/// assert_eq!(error.location.as_ref().unwrap().line, 1709);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Log {
    entries: Vec<Entry>,
    omitted: u64,
    lines: u64,
}

impl Log {
    /// Parses a log held in memory, under the default [`Limits`].
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut reader = reader::Reader::new(Limits::default());
        reader.feed(bytes);
        reader.finish()
    }

    /// Reads a log from a stream to its end.
    ///
    /// Memory stays within `limits` whatever the length of the stream: beyond them lines that tell
    /// little are left out of the middle, and [`Log::omitted`] counts them.
    ///
    /// # Errors
    ///
    /// Only those of the source itself; any content is accepted.
    pub fn read(mut source: impl io::Read, limits: Limits) -> io::Result<Self> {
        let mut reader = reader::Reader::new(limits);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match source.read(&mut buffer) {
                Ok(0) => return Ok(reader.finish()),
                Ok(length) => reader.feed(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// All entries kept, in the order of the log.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many lines were left out to stay within the limits.
    #[must_use]
    pub fn omitted(&self) -> u64 {
        self.omitted
    }

    /// How many lines the source had.
    #[must_use]
    pub fn line_count(&self) -> u64 {
        self.lines
    }

    /// Whether there is nothing but white space in the log.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries
            .iter()
            .all(|entry| entry.text().trim().is_empty())
    }

    /// The entries CRIU marked as errors.
    pub fn errors(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.level == Level::Error)
    }

    /// The entries CRIU marked as warnings.
    pub fn warnings(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(|entry| entry.level == Level::Warn)
    }

    /// The last `count` entries.
    #[must_use]
    pub fn tail(&self, count: usize) -> &[Entry] {
        let start = self.entries.len().saturating_sub(count);
        self.entries.get(start..).unwrap_or_default()
    }

    /// The CRIU version of the line `Version: 4.2 (gitid 0)`, as it stands there (`4.2`).
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.after("Version: ")
            .and_then(|rest| rest.split_whitespace().next())
    }

    /// The host and kernel of the line `Running on host Linux 6.8.0 …`, without the first two words.
    #[must_use]
    pub fn kernel(&self) -> Option<&str> {
        self.after("Running on ").map(str::trim_end)
    }

    /// What CRIU was doing, guessed from what the log has in it.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        let mut guess = None;
        for entry in &self.entries {
            if let Some((operation, _)) = outcome_of(entry) {
                return Some(operation);
            }
            guess = guess.or_else(|| operation_of(entry));
        }
        guess
    }

    /// What CRIU's own closing line says, with the operation it names; the last one counts.
    #[must_use]
    pub fn outcome(&self) -> Option<(Operation, Outcome)> {
        self.entries.iter().rev().find_map(outcome_of)
    }

    fn after(&self, start: &str) -> Option<&str> {
        self.entries
            .iter()
            .find_map(|entry| entry.message().strip_prefix(start))
    }
}

/// The closing lines of CRIU's operations.
const CLOSINGS: &[(&str, Operation, Outcome)] = &[
    (
        "Pre-dumping finished successfully",
        Operation::PreDump,
        Outcome::Finished,
    ),
    (
        "Dumping finished successfully",
        Operation::Dump,
        Outcome::Finished,
    ),
    (
        "Restore finished successfully",
        Operation::Restore,
        Outcome::Finished,
    ),
    (
        "Lazy pages transfer finished successfully",
        Operation::Dump,
        Outcome::Finished,
    ),
    ("Looks good", Operation::Check, Outcome::Finished),
    ("Pre-dumping FAILED", Operation::PreDump, Outcome::Failed),
    ("Dumping FAILED", Operation::Dump, Outcome::Failed),
    ("Restoring FAILED", Operation::Restore, Outcome::Failed),
    (
        "Lazy pages transfer FAILED",
        Operation::Dump,
        Outcome::Failed,
    ),
];

/// Reads a closing line.
pub(crate) fn outcome_of(entry: &Entry) -> Option<(Operation, Outcome)> {
    let message = entry.message();
    CLOSINGS
        .iter()
        .find(|(text, ..)| message.starts_with(text))
        .map(|&(_, operation, outcome)| (operation, outcome))
}

pub(crate) fn operation_of(entry: &Entry) -> Option<Operation> {
    const SIGNS: &[(&str, Operation)] = &[
        ("Pre-dumping processes", Operation::PreDump),
        ("Pre-dumping tasks", Operation::PreDump),
        ("Dumping processes", Operation::Dump),
        ("Collecting tasks", Operation::Dump),
        ("Obtaining task", Operation::Dump),
        ("Reading image tree", Operation::Restore),
        ("Forking task with", Operation::Restore),
        ("Restoring namespaces", Operation::Restore),
    ];
    let file = entry.location.as_ref().map(Location::file_name);
    match file {
        Some("cr-dump.c" | "seize.c") => return Some(Operation::Dump),
        Some("cr-restore.c" | "restorer.c" | "rst-malloc.c") => return Some(Operation::Restore),
        Some("cr-check.c") => return Some(Operation::Check),
        _ => {}
    }
    // The code CRIU runs inside a dumped process names its pid too.
    if entry.pid.is_some() && !entry.text().contains("pie: ") {
        return Some(Operation::Restore);
    }
    let message = entry.message();
    SIGNS
        .iter()
        .find(|(text, _)| message.starts_with(text))
        .map(|&(_, operation)| operation)
}

#[cfg(test)]
mod tests;
