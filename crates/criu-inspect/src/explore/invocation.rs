//! How tasks were started: arguments and environment, out of their memory.

use bstr::{BStr, BString, ByteSlice};
use criu_image::Checkpoint;
use criu_image::memory::{Content, Memory, MemoryOptions};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::{Explorer, Partial, Warning};

/// Strings that a task was started with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskStrings {
    /// The task.
    pub pid: u32,
    /// The strings, with a zero byte between them and none at the end.
    pub bytes: BString,
}

#[derive(Clone, Copy)]
enum Which {
    Arguments,
    Environment,
}

impl Explorer {
    /// The arguments of each task that was not dead.
    pub fn arguments(&mut self) -> Partial<Vec<TaskStrings>> {
        self.strings(Which::Arguments)
    }

    /// The environment that each task that was not dead was started with. What a program has
    /// changed since is elsewhere in its memory.
    pub fn environment(&mut self) -> Partial<Vec<TaskStrings>> {
        self.strings(Which::Environment)
    }

    fn strings(&mut self, which: Which) -> Partial<Vec<TaskStrings>> {
        let memory = Memory::open(&self.checkpoint, MemoryOptions::default());
        let mut tasks = Vec::new();
        let mut budget = BUDGET;
        if let Some(memory) = self.wanted(memory) {
            for pid in self.living() {
                if let Some(strings) = self.strings_of(&memory, pid, which, budget) {
                    budget -= strings.bytes.len() as u64;
                    tasks.push(strings);
                }
            }
        }
        self.answer(tasks)
    }

    /// Reads the strings of a task, `budget` bytes at most.
    fn strings_of(
        &mut self,
        memory: &Memory,
        pid: u32,
        which: Which,
        budget: u64,
    ) -> Option<TaskStrings> {
        let mm = self.wanted(self.checkpoint.mm(pid))?;
        let (start, end) = match which {
            Which::Arguments => (mm.mm_arg_start, mm.mm_arg_end),
            Which::Environment => (mm.mm_env_start, mm.mm_env_end),
        };
        let wanted = end.saturating_sub(start);
        let mut bytes = vec![0; usize::try_from(wanted.min(STRINGS_LIMIT).min(budget)).ok()?];
        let space = self.wanted(memory.task(pid))?;
        let read = self.wanted(space.read_at(start, &mut bytes))?;
        if (read as u64) < wanted {
            let address = start.saturating_add(read as u64);
            let content = space.span_at(address).map(|span| span.content);
            let reason = match read == bytes.len() {
                true => "more of it than the kernel takes",
                false => absence(content),
            };
            self.warn(Warning::Memory {
                pid,
                address,
                reason,
            });
        }
        bytes.truncate(read);
        // A program that names itself anew there fills up with zeros.
        let len = bytes.iter().rposition(|&byte| byte != 0);
        bytes.truncate(len.map_or(0, |last| last + 1));
        bytes.shrink_to_fit();
        Some(TaskStrings {
            pid,
            bytes: bytes.into(),
        })
    }
}

impl TaskStrings {
    /// Arguments, the program's name first; or variables, as `NAME=value`.
    pub fn iter(&self) -> impl Iterator<Item = &BStr> {
        let is_any = !self.bytes.is_empty();
        let strings = self.bytes.split(|&byte| byte == 0).map(BStr::new);
        strings.filter(move |_| is_any)
    }
}

impl Serialize for TaskStrings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Strings<'a>(&'a TaskStrings);
        impl Serialize for Strings<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq(self.0.iter().map(|string| string.to_str_lossy()))
            }
        }
        let mut form = serializer.serialize_struct("TaskStrings", 2)?;
        form.serialize_field("pid", &self.pid)?;
        form.serialize_field("strings", &Strings(self))?;
        form.end()
    }
}

/// Why bytes are not in the images, in a few words.
fn absence(content: Option<Content>) -> &'static str {
    match content {
        None => "not mapped",
        Some(Content::Lazy) => "left in the source by a lazy dump",
        Some(Content::File { .. }) => "in the mapped file",
        Some(Content::Missing) => "said to be in the parent, which does not have it",
        Some(_) => "provided anew when restored",
    }
}

/// The arguments of a task, without looking at the others. The counterpart of go-criu's
/// `GetPsArgs`.
///
/// # Errors
///
/// Fails when the task has no memory, or an image is damaged.
pub fn arguments_of(checkpoint: &Checkpoint, pid: u32) -> Result<TaskStrings, Warning> {
    strings_of_one(checkpoint, pid, Which::Arguments)
}

/// The environment of a task, without looking at the others. The counterpart of go-criu's
/// `GetPsEnvVars`.
///
/// # Errors
///
/// Fails when the task has no memory, or an image is damaged.
pub fn environment_of(checkpoint: &Checkpoint, pid: u32) -> Result<TaskStrings, Warning> {
    strings_of_one(checkpoint, pid, Which::Environment)
}

fn strings_of_one(checkpoint: &Checkpoint, pid: u32, which: Which) -> Result<TaskStrings, Warning> {
    let memory = Memory::open(checkpoint, MemoryOptions::default())?;
    let mut explorer = Explorer::new(checkpoint.clone());
    let strings = explorer.strings_of(&memory, pid, which, BUDGET);
    match (strings, explorer.warnings.pop()) {
        (_, Some(warning)) => Err(warning),
        (strings, None) => Ok(strings.unwrap_or_else(|| TaskStrings {
            pid,
            bytes: BString::default(),
        })),
    }
}

/// Most bytes that are read for a task: the kernel takes three quarters of 8 MiB for arguments and
/// environment together.
const STRINGS_LIMIT: u64 = 6 << 20;

/// Most bytes that are kept for all tasks. Hostile images can speak of much that they do not hold.
const BUDGET: u64 = 32 << 20;
