//! One line of the log, taken apart.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use bstr::{BStr, BString, ByteSlice};

/// How serious a line is.
///
/// CRIU marks errors and warnings only; messages, information and debug lines look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// `Error (file:line): …`, or a wrapper's own error level.
    Error,
    /// `Warn  (file:line): …`, or a wrapper's own warning level.
    Warn,
    /// Anything else: CRIU's messages, information and debug lines, and output of tools it ran.
    Untagged,
}

/// A place in CRIU's source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    /// The path as CRIU printed it; its root depends on the version and on the build.
    pub file: String,
    /// The line number; it moves between versions.
    pub line: u32,
}

impl Location {
    /// The last component of the path, the same in all versions: `files-reg.c`.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.file.rsplit('/').next().unwrap_or(&self.file)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of the line in the source, from 1.
    pub line_number: u64,
    /// Time since CRIU opened its log; zero for what it had to say before.
    pub time: Option<Duration>,
    /// The process that wrote the line, as its number in the restored tree.
    pub pid: Option<i32>,
    /// How serious CRIU thinks it is.
    pub level: Level,
    /// Where in CRIU's source it was written.
    pub location: Option<Location>,
    /// The line as it stands in the source, without its line end; cut at [`super::Limits::line_bytes`].
    pub(super) raw: BString,
    /// `raw` as clean text: invalid UTF-8 replaced, NUL bytes and terminal colours removed.
    pub(super) text: String,
    /// The module in `text`.
    pub(super) module: Option<Range<usize>>,
    /// Where level and location end in `text`; the module, if any, starts here.
    pub(super) body: usize,
    /// Where the message starts in `text`.
    pub(super) message: usize,
    /// Where the message ends in `text`: wrappers close a quote behind it.
    pub(super) end: usize,
}

impl Entry {
    /// The line as it stands in the source, without its line end.
    #[must_use]
    pub fn raw(&self) -> &BStr {
        self.raw.as_bstr()
    }

    /// The whole line as clean text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The part of CRIU that wrote it (`mnt`, `tty`, `cg`, `net`, `sk unix`, …), if it says so.
    #[must_use]
    pub fn module(&self) -> Option<&str> {
        self.text.get(self.module.clone()?)
    }

    /// What it says, without time, pid, level, location and module.
    #[must_use]
    pub fn message(&self) -> &str {
        self.text.get(self.message..self.end).unwrap_or_default()
    }

    /// Module and message together.
    #[must_use]
    pub fn body(&self) -> &str {
        self.text.get(self.body..self.end).unwrap_or_default()
    }

    /// Whether CRIU marked it as an error or a warning.
    #[must_use]
    pub fn is_tagged(&self) -> bool {
        self.level != Level::Untagged
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text.trim_end())
    }
}
