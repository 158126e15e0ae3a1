//! Reads a stream of any length into a bounded number of entries.

use std::collections::VecDeque;

use super::{Entry, Level, Log, line};

/// How much of a log is kept in memory.
///
/// The defaults keep every log of up to some 20 000 lines whole, and never more than about 64 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes kept of a single line; the rest of a longer one is dropped.
    pub line_bytes: usize,
    /// Entries kept from the start whatever they say, and again as many that look like trouble.
    pub entries: usize,
    /// Bytes of all lines kept from the start, and again as many for those that look like trouble.
    pub bytes: usize,
    /// Entries always kept from the end.
    pub tail: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes: 8 * 1024,
            entries: 20_000,
            bytes: 8 * 1024 * 1024,
            tail: 1_000,
        }
    }
}

/// Neighbours of a suspicious line that stay with it.
const NEIGHBOURS: usize = 4;

pub(super) struct Reader {
    limits: Limits,
    line: Vec<u8>,
    cut: bool,
    lines: u64,
    omitted: u64,
    plain: Budget,
    trouble: Budget,
    kept: Vec<Entry>,
    /// The newest entries, each with whether it is suspicious.
    recent: VecDeque<(Entry, bool)>,
    /// Entries since the last suspicious one.
    calm: usize,
}

impl Reader {
    pub(super) fn new(limits: Limits) -> Self {
        let budget = Budget {
            entries: limits.entries,
            bytes: limits.bytes,
        };
        Self {
            limits,
            line: Vec::new(),
            cut: false,
            lines: 0,
            omitted: 0,
            plain: budget,
            trouble: budget,
            kept: Vec::new(),
            recent: VecDeque::new(),
            calm: usize::MAX,
        }
    }

    /// Takes the next bytes of the stream; they may end anywhere.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) {
        while let Some(at) = bytes.iter().position(|&byte| byte == b'\n') {
            let (head, tail) = bytes.split_at(at);
            self.append(head);
            self.end_line();
            bytes = tail.get(1..).unwrap_or_default();
        }
        self.append(bytes);
    }

    pub(super) fn finish(mut self) -> Log {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.kept
            .extend(self.recent.drain(..).map(|(entry, _)| entry));
        Log {
            entries: self.kept,
            omitted: self.omitted,
            lines: self.lines,
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = self.limits.line_bytes.saturating_sub(self.line.len());
        self.cut |= bytes.len() > room;
        self.line
            .extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
    }

    fn end_line(&mut self) {
        self.lines += 1;
        let line = std::mem::take(&mut self.line);
        let mut entries = Vec::new();
        line::parse(&line, self.lines, &mut |entry| entries.push(entry));
        for entry in entries {
            self.push(entry);
        }
        self.line = line;
        self.line.clear();
        self.cut = false;
    }

    fn push(&mut self, entry: Entry) {
        let suspicious = is_suspicious(&entry);
        self.recent.push_back((entry, suspicious));
        if self.recent.len() <= self.limits.tail.max(NEIGHBOURS) {
            return;
        }
        let Some((oldest, suspicious)) = self.recent.pop_front() else {
            return;
        };
        if self.wanted(&oldest, suspicious) {
            self.kept.push(oldest);
        } else {
            self.omitted += 1;
        }
    }

    fn wanted(&mut self, entry: &Entry, suspicious: bool) -> bool {
        self.calm = if suspicious {
            0
        } else {
            self.calm.saturating_add(1)
        };
        let size = entry.raw.len();
        self.plain.take(size)
            || (suspicious
                || self.calm <= NEIGHBOURS
                || self
                    .recent
                    .iter()
                    .take(NEIGHBOURS)
                    .any(|(_, suspicious)| *suspicious))
                && self.trouble.take(size)
    }
}

#[derive(Clone, Copy)]
struct Budget {
    entries: usize,
    bytes: usize,
}

impl Budget {
    fn take(&mut self, size: usize) -> bool {
        if self.entries == 0 || self.bytes < size {
            // Once spent it stays spent: no gaps in what is kept from the start.
            self.entries = 0;
            return false;
        }
        self.entries -= 1;
        self.bytes -= size;
        true
    }
}

/// Words that untagged lines of interest have in them; compared in lower case.
const SUSPECTS: &[&str] = &[
    "fail",
    "error",
    "can't",
    "cannot",
    "couldn't",
    "could not",
    "unable",
    "unsupported",
    "not support",
    "no such",
    "denied",
    "not permitted",
    "invalid",
    "unrecognized",
    "unknown",
    "not found",
    "missing",
    "no match",
    ": -",
    "finished successfully",
    "version: ",
    "running on",
    "image",
    "don't have",
    "too ",
    "killed",
    "refused",
    "busy",
    "unlock network",
    "unfreezing",
    "consider",
    "sync",
    "not ",
    "bug",
    "exited",
    "unlocked",
    "requires",
    "unreachable",
    "answers",
    "bad ",
    "without",
];

/// Whether a line is worth keeping when most cannot be.
pub(crate) fn is_suspicious(entry: &Entry) -> bool {
    if entry.level != Level::Untagged {
        return true;
    }
    let text = entry.text().to_ascii_lowercase();
    SUSPECTS.iter().any(|word| text.contains(word))
}
