//! Which memory of a checkpoint a verb is about.

use std::path::PathBuf;

use criu_image::Checkpoint;
use criu_image::memory::{AddressSpace, Memory, MemoryOptions, PageSize};
use criu_inspect::memory::{TaskMemory, tasks};

use super::problem::Problem;

/// Which memory to look at.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The checkpoint
    #[arg(value_name = "DIR")]
    pub(super) directory: PathBuf,
    /// This task only
    #[arg(long, value_name = "PID", conflicts_with = "shared")]
    pub(super) pid: Option<u32>,
    /// This shared memory object only; addresses are positions in it
    #[arg(long, value_name = "ID")]
    pub(super) shared: Option<u64>,
    /// Bytes in a page of the machine that was dumped, if they are not to be worked out
    #[arg(long, value_name = "BYTES", value_parser = page_size)]
    pub(super) page_size: Option<PageSize>,
}

/// Memory of one task or shared memory object.
#[derive(Debug)]
pub(super) enum Subject<'a> {
    Task(TaskMemory<'a>),
    Shared { id: u64, space: AddressSpace },
}

impl Place {
    pub(super) fn open(&self) -> Result<Memory, Problem> {
        let checkpoint = Checkpoint::open(&self.directory)?;
        let mut options = MemoryOptions::default();
        options.page_size = self.page_size;
        Ok(Memory::open(&checkpoint, options)?)
    }

    /// The one subject that is asked for, or that there is.
    pub(super) fn only<'a>(&self, memory: &'a Memory) -> Result<Subject<'a>, Problem> {
        if let Some(id) = self.shared {
            let space = memory.shared(id)?;
            return Ok(Subject::Shared { id, space });
        }
        self.refuse_unknown(memory)?;
        let pid = match (self.pid, &tasks(memory.checkpoint())?[..]) {
            (Some(pid), _) | (None, &[pid]) => pid,
            (None, pids) => {
                let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
                return Err(Problem::Refused(format!(
                    "say which task by --pid: {}",
                    pids.join(", ")
                )));
            }
        };
        Ok(Subject::Task(TaskMemory::open(memory, pid)?))
    }

    /// Refuses a task that is not in the checkpoint, if that can be told. A pre-dump does not tell its tasks.
    fn refuse_unknown(&self, memory: &Memory) -> Result<(), Problem> {
        let Some(pid) = self.pid else { return Ok(()) };
        let Ok(known) = memory.checkpoint().tasks() else {
            return Ok(());
        };
        if known.find(pid).is_some() {
            return Ok(());
        }
        let directory = self.directory.display();
        let problem = format!("{directory} holds no process with the id {pid}");
        Err(Problem::Refused(problem))
    }

    /// The tasks that are asked for; none if it is a shared memory object.
    pub(super) fn pids(&self, memory: &Memory) -> Result<Vec<u32>, Problem> {
        self.refuse_unknown(memory)?;
        match (self.pid, self.shared) {
            (Some(pid), _) => Ok(vec![pid]),
            (None, Some(_)) => Ok(Vec::new()),
            (None, None) => Ok(tasks(memory.checkpoint())?),
        }
    }
}

impl Subject<'_> {
    pub(super) fn space(&self) -> &AddressSpace {
        match self {
            Self::Task(task) => task.space(),
            Self::Shared { space, .. } => space,
        }
    }
}

/// Reads an address: hexadecimal, with or without `0x`.
pub(super) fn address(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match u64::from_str_radix(digits, 16) {
        Ok(address) if !digits.starts_with('+') => Ok(address),
        _ => Err("not a hexadecimal address".to_owned()),
    }
}

/// Reads a number of bytes: decimal, hexadecimal with `0x`, or with a unit such as `K` or `MiB`.
pub(super) fn byte_len(text: &str) -> Result<u64, String> {
    let refuse = || "not a number of bytes such as 256, 0x100 or 4K".to_owned();
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).map_err(|_| refuse());
    }
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match text[digits.len()..].trim_end_matches("iB") {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1u64 << 40,
        _ => return Err(refuse()),
    };
    let number: u64 = digits.parse().map_err(|_| refuse())?;
    number.checked_mul(unit).ok_or_else(refuse)
}

/// Reads a range of addresses: `FROM-TO` or `FROM+LEN`, either end left out.
pub(super) fn range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let or = |text: &str, otherwise| match text {
        "" => Ok(otherwise),
        text => address(text),
    };
    let range = match text.split_once('+') {
        Some((start, len)) => {
            let start = address(start)?;
            let end = start.checked_add(byte_len(len)?);
            start..end.ok_or("beyond the end of the address space")?
        }
        None => match text.split_once('-') {
            Some((start, end)) => or(start, 0)?..or(end, u64::MAX)?,
            None => return Err("not a range such as 7f0000000000-7f0000001000".to_owned()),
        },
    };
    match range.start < range.end {
        true => Ok(range),
        false => Err("the range is empty".to_owned()),
    }
}

fn page_size(text: &str) -> Result<PageSize, String> {
    PageSize::new(byte_len(text)?)
        .ok_or_else(|| "not a page size: a power of two from 4K to 64K".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lengths_and_ranges_are_read() {
        assert_eq!(address("0x7f00"), Ok(0x7f00));
        assert_eq!(address("7f00"), Ok(0x7f00));
        assert!(address("+7f").is_err() && address("x").is_err() && address("").is_err());
        assert_eq!(byte_len("256"), Ok(256));
        assert_eq!(byte_len("0x10"), Ok(16));
        assert_eq!(byte_len("4K"), Ok(4096));
        assert_eq!(byte_len("2MiB"), Ok(2 << 20));
        assert!(byte_len("4X").is_err() && byte_len("99999999T").is_err());
        assert_eq!(range("1000-2000"), Ok(0x1000..0x2000));
        assert_eq!(range("0x1000+4K"), Ok(0x1000..0x2000));
        assert_eq!(range("1000-"), Ok(0x1000..u64::MAX));
        assert!(range("2000-1000").is_err() && range("2000").is_err());
    }
}
