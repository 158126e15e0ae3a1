//! What two CRIUs say to each other over the pages channel: the protocol of CRIU's page server.
//!
//! ```text
//! command  0: u32 command, flags << 16 │ 8: u64 pages │ 16: u64 address │ 24: u64 id << 8 | type
//! ```
//!
//! A command that adds present pages is followed by them. Integers are those of the machine, aligned: all
//! machines CRIU runs on with 64 bits agree on the layout. Source: `page-xfer.c` of CRIU.

mod cursor;
mod pagemaps;

#[cfg(test)]
pub(crate) use cursor::tests;
pub(crate) use cursor::{PAGE_BYTES, PagePlace, PageStream, Part, StreamKind};
#[cfg(test)]
pub(crate) use pagemaps::tests::command;
pub(crate) use pagemaps::{Pagemaps, Reader};

/// Bytes of a command.
pub(crate) const COMMAND_BYTES: usize = 32;

const OPEN: u32 = 3;
const OPEN_AND_TELL: u32 = 4;
const ADD: u32 = 1;
const HOLE: u32 = 2;
const ADD_WITH_FLAGS: u32 = 6;
const GET: u32 = 7;
const CLOSE: u32 = 0x1023;
const FORCE_CLOSE: u32 = 0x1024;

/// The type of a task's memory and of a shared one, in what a dump calls them.
pub(crate) const TASK_MEMORY: u64 = 1;
pub(crate) const SHARED_MEMORY: u64 = 2;

/// `PE_PARENT`: the pages are in the images before these.
const IN_PARENT: u32 = 1;
/// `PE_PRESENT`: the pages follow.
const PRESENT: u32 = 4;

/// One command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Command {
    number: u32,
    flags: u32,
    pages: u64,
    address: u64,
    id: u64,
}

impl Command {
    pub(crate) fn decode(bytes: &[u8; COMMAND_BYTES]) -> Self {
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_ne_bytes(word)
        };
        let mut first = [0; 4];
        first.copy_from_slice(&bytes[..4]);
        let first = u32::from_ne_bytes(first);
        Self {
            number: first & 0xffff,
            flags: first >> 16,
            pages: word(8),
            address: word(16),
            id: word(24),
        }
    }

    /// Whether CRIU has such a command, as far as it is known here.
    pub(crate) fn is_known(&self) -> bool {
        (ADD..=GET).contains(&self.number) || self.closes()
    }

    /// Whether pages of another task or shared memory come from here.
    pub(crate) fn opens(&self) -> bool {
        matches!(self.number, OPEN | OPEN_AND_TELL)
    }

    /// What is said of pages, if anything: the flags of a pagemap entry.
    pub(crate) fn flags_of_pages(&self) -> Option<u32> {
        match self.number {
            ADD => Some(PRESENT),
            HOLE => Some(IN_PARENT),
            ADD_WITH_FLAGS => Some(self.flags),
            _ => None,
        }
    }

    /// How many pages follow it.
    pub(crate) fn pages_behind(&self) -> u64 {
        match self.flags_of_pages() {
            Some(flags) if flags & PRESENT != 0 => self.pages,
            _ => 0,
        }
    }

    /// Where the first of its pages belongs.
    fn place(&self, kind: StreamKind) -> PagePlace {
        PagePlace {
            owner: match kind {
                StreamKind::Dump => self.id,
                StreamKind::Answers => self.id << 8 | TASK_MEMORY,
            },
            address: self.address,
        }
    }

    /// Whether `criu lazy-pages` asks for pages with it.
    pub(crate) fn asks_for_pages(&self) -> bool {
        self.number == GET
    }

    /// Whether it ends the conversation, and waits for a status.
    pub(crate) fn closes(&self) -> bool {
        matches!(self.number, CLOSE | FORCE_CLOSE)
    }
}

/// What answers a command that closes: all is well.
pub(crate) const STATUS_GOOD: [u8; 4] = [0; 4];
