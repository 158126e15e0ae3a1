//! Where pages begin in what a CRIU sends to another.
//!
//! The stream is heads of 32 bytes, each followed by so many pages as it says, or none: pages begin anywhere.
//! What is found here says where to look for pages that were sent before, and nothing else: a stream that is
//! not understood is carried like any other.

use rustix::param::page_size;

use crate::page_stream::{COMMAND_BYTES, Command};

/// What duplicates are looked for in; any page is a multiple of it.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Follows one direction of a page stream.
#[derive(Debug, Clone)]
pub(crate) struct PageStream {
    kind: StreamKind,
    state: State,
    page_bytes: u64,
}

/// Which way pages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// From a dump to a page server.
    Dump,
    /// What `criu lazy-pages` asked for: heads name the task alone, all memory is a task's own.
    Answers,
}

/// Where a page belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PagePlace {
    /// A task's memory or a shared one: `id << 8 | type`, as a dump numbers them.
    pub(crate) owner: u64,
    pub(crate) address: u64,
}

#[derive(Debug, Clone)]
enum State {
    /// So much of a head was seen.
    Head {
        bytes: [u8; COMMAND_BYTES],
        seen: usize,
    },
    /// So many bytes of pages are left, and the next is this one's.
    Pages { left_bytes: u64, next: PagePlace },
    /// This is no page stream as it is known here.
    Lost,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// So many bytes that are no whole page.
    Other(usize),
    /// So many bytes of whole pages.
    Pages(usize),
}

impl PageStream {
    /// Begins a stream.
    pub(crate) fn new(kind: StreamKind) -> Self {
        Self {
            kind,
            state: State::BEGIN,
            page_bytes: page_size() as u64,
        }
    }

    /// Where the bytes that come next belong, if a page is begun or the next.
    pub(crate) fn place(&self) -> Option<PagePlace> {
        match self.state {
            State::Pages { next, .. } => Some(next),
            State::Head { .. } | State::Lost => None,
        }
    }

    /// Where the page belongs that comes next, if one does.
    pub(crate) fn page_begins(&self) -> Option<PagePlace> {
        match self.state {
            State::Pages { left_bytes, next } => (begun(left_bytes) == 0).then_some(next),
            State::Head { .. } | State::Lost => None,
        }
    }

    /// Whether this is no page stream as it is known here.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.state, State::Lost)
    }

    /// Takes bytes of the stream, whatever they are.
    pub(crate) fn skip(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (Part::Other(count) | Part::Pages(count)) = self.next(bytes);
            bytes = bytes.get(count..).unwrap_or_default();
        }
    }

    /// How many bytes are missing to the page that `bytes` of the stream end within.
    pub(crate) fn missing_after(&self, bytes: &[u8]) -> usize {
        let mut ahead = self.clone();
        ahead.skip(bytes);
        match ahead.state {
            State::Pages { left_bytes, .. } => begun(left_bytes),
            State::Head { .. } | State::Lost => 0,
        }
    }

    /// Takes the next part of the stream off `bytes`, which are not empty.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Part {
        match &mut self.state {
            State::Head { bytes: head, seen } => {
                let count = bytes.len().min(COMMAND_BYTES - *seen);
                head[*seen..*seen + count].copy_from_slice(&bytes[..count]);
                *seen += count;
                if *seen == COMMAND_BYTES {
                    self.state = after(head, self.kind, self.page_bytes);
                }
                Part::Other(count)
            }
            State::Pages { left_bytes, next } => {
                let within =
                    usize::try_from(*left_bytes).map_or(bytes.len(), |n| n.min(bytes.len()));
                let part = match (begun(*left_bytes), within / PAGE_BYTES * PAGE_BYTES) {
                    (0, 0) => Part::Other(within),
                    (0, whole) => Part::Pages(whole),
                    (begun, _) => Part::Other(begun.min(within)),
                };
                let (Part::Other(count) | Part::Pages(count)) = part;
                *left_bytes -= count as u64;
                match (part, begun(*left_bytes)) {
                    (Part::Pages(_), _) => {
                        next.address = next.address.wrapping_add(count as u64);
                    }
                    (Part::Other(_), 0) => {
                        next.address = next.address.wrapping_add(PAGE_BYTES as u64);
                    }
                    (Part::Other(_), _) => {}
                }
                if *left_bytes == 0 {
                    self.state = State::BEGIN;
                }
                part
            }
            State::Lost => Part::Other(bytes.len()),
        }
    }
}

/// How many bytes are missing to the page that so many are left of.
fn begun(left_bytes: u64) -> usize {
    usize::try_from(left_bytes % PAGE_BYTES as u64).unwrap_or(0)
}

impl State {
    const BEGIN: Self = Self::Head {
        bytes: [0; COMMAND_BYTES],
        seen: 0,
    };
}

fn after(head: &[u8; COMMAND_BYTES], kind: StreamKind, page_bytes: u64) -> State {
    // CRIU is on this machine, and writes its numbers as this machine does.
    let command = Command::decode(head);
    if !command.is_known() {
        return State::Lost;
    }
    match command.pages_behind().checked_mul(page_bytes) {
        None => State::Lost,
        Some(0) => State::BEGIN,
        Some(left_bytes) => State::Pages {
            left_bytes,
            next: command.place(kind),
        },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::page_stream::{ADD as COMMAND_ADD, ADD_WITH_FLAGS, PRESENT};

    /// A head as CRIU writes it.
    pub(crate) fn head(command: u32, pages: u64) -> [u8; COMMAND_BYTES] {
        let mut head = [0x5a; COMMAND_BYTES];
        head[..4].copy_from_slice(&command.to_ne_bytes());
        head[8..16].copy_from_slice(&pages.to_ne_bytes());
        head
    }

    const ADD: u32 = PRESENT << 16 | ADD_WITH_FLAGS;

    /// The head that announces so many pages of [`PAGE_BYTES`].
    pub(crate) fn add(pages: usize) -> [u8; COMMAND_BYTES] {
        let pages = pages * PAGE_BYTES / page_size();
        head(ADD, u64::try_from(pages).unwrap())
    }

    fn parts(stream: &mut PageStream, mut bytes: &[u8]) -> Vec<Part> {
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let part = stream.next(bytes);
            let (Part::Other(count) | Part::Pages(count)) = part;
            bytes = &bytes[count..];
            parts.push(part);
        }
        parts
    }

    #[test]
    fn pages_are_found_behind_their_heads_however_the_stream_is_cut() {
        let page = page_size();
        let many = u64::try_from(page).unwrap();
        let mut bytes = head(4, 0).to_vec();
        bytes.extend(head(ADD, 3));
        bytes.resize(bytes.len() + 3 * page, 7);
        bytes.extend(head(PAGE_PARENT, many));
        bytes.extend(head(COMMAND_ADD, 1));
        bytes.resize(bytes.len() + page, 7);
        bytes.extend(head(0x1023, 0));
        let whole = parts(&mut PageStream::new(StreamKind::Dump), &bytes);
        assert_eq!(
            whole,
            [
                Part::Other(32),
                Part::Other(32),
                Part::Pages(3 * page),
                Part::Other(32),
                Part::Other(32),
                Part::Pages(page),
                Part::Other(32)
            ]
        );
        for cut in [1, 31, 33, 64, 65, 64 + page, 65 + page, 63 + 3 * page] {
            let mut stream = PageStream::new(StreamKind::Dump);
            let (first, second) = bytes.split_at(cut);
            let missing = stream.missing_after(first);
            let first = parts(&mut stream, first);
            let second = parts(&mut stream, second);
            let whole_bytes: usize = first
                .iter()
                .chain(&second)
                .map(|part| match part {
                    Part::Pages(count) => *count,
                    Part::Other(_) => 0,
                })
                .sum();
            let expected = 4 * page - if missing > 0 { PAGE_BYTES } else { 0 };
            assert_eq!(whole_bytes, expected, "{cut}");
        }
    }

    /// Pages that are in the parent: none follow.
    const PAGE_PARENT: u32 = 1 << 16 | ADD_WITH_FLAGS;

    #[test]
    fn what_is_no_page_stream_is_not_taken_for_one() {
        for bytes in [vec![b'x'; 9000], head(ADD, u64::MAX).to_vec()] {
            let mut stream = PageStream::new(StreamKind::Dump);
            parts(&mut stream, &bytes);
            assert_eq!(stream.next(&[0; 8192]), Part::Other(8192));
            assert_eq!(stream.missing_after(&[0; 5000]), 0);
        }
    }
}
