//! From CRIU's log to the root of a failure, its cause and what to do.
//!
//! The knowledge is data: one table of [`Rule`]s per area under `rules/`, each with the messages it
//! knows, what they mean, and example lines that its test runs on. The engine puts every line of a log
//! into one of four roles ([`Role`]) and picks the first that explains the failure; where no rule fits
//! it falls back on the first meaningful error and says what the part of CRIU that wrote it does.
//!
//! ```
//! use criu::diagnose::{Verdict, diagnose};
//! use criu::log::Log;
//!
//! let log = Log::parse(b"Error (criu/cr-restore.c:1490): Can't fork for 12: File exists\n\
//!                        Error (criu/cr-restore.c:2572): Restoring FAILED.\n");
//! let Verdict::Failure(diagnosis) = diagnose(&log) else { panic!() };
//! assert_eq!(diagnosis.rule.unwrap().id(), "pid-in-use");
//! assert!(diagnosis.root.raw().ends_with(b"Can't fork for 12: File exists"));
//! ```

mod engine;
mod fallback;
mod names;
mod pattern;
mod rule;
mod rules;

use std::fmt;

pub use engine::diagnose;
pub use rule::{Group, Role, Rule};

use crate::log::Entry;
use crate::operation::Operation;

/// All rules, in no particular order.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    rules::ALL.iter().flat_map(|table| table.iter())
}

/// What a log says about its run.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// There is nothing in the log: CRIU was not started, or it wrote elsewhere.
    Empty,
    /// Nothing in the log says that the run failed.
    NoFailure(NoFailure),
    /// The run failed.
    Failure(Box<Diagnosis>),
}

/// Why a log counts as that of a success.
#[derive(Clone, Debug, Default)]
pub struct NoFailure {
    /// The operation that CRIU reports as finished, if it does.
    pub finished: Option<Operation>,
    /// Lines that look like trouble but are harmless, with what they mean, if known.
    pub harmless: Vec<(Entry, Option<&'static Rule>)>,
}

/// The root of a failure.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// The rule that knows the root line; none where the fallback had to do.
    pub rule: Option<&'static Rule>,
    /// What CRIU was asked to do, as far as the log tells.
    pub operation: Option<Operation>,
    /// The line that names the first cause.
    pub root: Entry,
    /// What it means.
    pub cause: String,
    /// What to do.
    pub remedy: String,
    /// The lines around the root, the root included.
    pub context: Vec<Entry>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str(
                "the log is empty: CRIU was not started, stopped before it opened its log, or wrote it \
                 elsewhere (see --log-file, --work-dir and --images-dir; -v4 makes it say more)",
            ),
            Self::NoFailure(good) => good.fmt(f),
            Self::Failure(diagnosis) => diagnosis.fmt(f),
        }
    }
}

impl fmt::Display for NoFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.finished {
            Some(operation) => write!(
                f,
                "no failure found: CRIU reports success of the {operation}"
            )?,
            None => f.write_str("no failure found: nothing in this log made the operation fail")?,
        }
        if !self.harmless.is_empty() {
            f.write_str("\nharmless (benign), although it looks like trouble:")?;
        }
        for (entry, rule) in &self.harmless {
            write!(f, "\n  {}", visible(entry))?;
            if let Some(rule) = rule {
                write!(f, "\n    {}", rule.cause)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = self
            .operation
            .map(|operation| format!(" of the {operation}"))
            .unwrap_or_default();
        writeln!(
            f,
            "root{operation} (line {}):\n  {}",
            self.root.line_number,
            visible(&self.root)
        )?;
        writeln!(f, "cause:\n  {}", self.cause)?;
        write!(f, "remedy:\n  {}", self.remedy)?;
        if self.context.len() > 1 {
            f.write_str("\ncontext:")?;
            for entry in &self.context {
                let mark = if entry.line_number == self.root.line_number {
                    '>'
                } else {
                    ' '
                };
                write!(f, "\n{mark} {}", visible(entry))?;
            }
        }
        Ok(())
    }
}

/// A log line fit for a terminal: a log can hold anything, escape sequences included.
fn visible(entry: &Entry) -> String {
    entry
        .text()
        .trim()
        .chars()
        .map(|c| {
            if c.is_control() && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}
