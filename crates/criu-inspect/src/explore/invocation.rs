//! How tasks were started: arguments and environment, out of their memory.

use bstr::BString;
use criu_image::Checkpoint;
use criu_image::memory::{Content, Memory, MemoryOptions};
use serde::{Serialize, Serializer};

use super::{Explorer, Partial, Warning};

/// Strings that a task was started with.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TaskStrings {
    /// The task.
    pub pid: u32,
    /// Arguments, the program's name first; or variables, as `NAME=value`.
    #[serde(serialize_with = "texts")]
    pub strings: Vec<BString>,
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
        if let Some(memory) = self.wanted(memory) {
            for pid in self.living() {
                if let Some(strings) = self.strings_of(&memory, pid, which) {
                    tasks.push(TaskStrings { pid, strings });
                }
            }
        }
        self.answer(tasks)
    }

    fn strings_of(&mut self, memory: &Memory, pid: u32, which: Which) -> Option<Vec<BString>> {
        let mm = self.wanted(self.checkpoint.mm(pid))?;
        let (start, end) = match which {
            Which::Arguments => (mm.mm_arg_start, mm.mm_arg_end),
            Which::Environment => (mm.mm_env_start, mm.mm_env_end),
        };
        let len = end.saturating_sub(start).min(STRINGS_LIMIT);
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        let space = self.wanted(memory.task(pid))?;
        let read = self.wanted(space.read_at(start, &mut bytes))?;
        if read < bytes.len() {
            let address = start + read as u64;
            let content = space.span_at(address).map(|span| span.content);
            self.warn(Warning::Memory {
                pid,
                address,
                reason: absence(content),
            });
            bytes.truncate(read);
        }
        let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
        if bytes.is_empty() {
            return Some(Vec::new());
        }
        let strings = bytes.split(|&byte| byte == 0);
        Some(strings.map(BString::from).collect())
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
pub fn arguments_of(checkpoint: &Checkpoint, pid: u32) -> Result<Vec<BString>, Warning> {
    strings_of_one(checkpoint, pid, Which::Arguments)
}

/// The environment of a task, without looking at the others. The counterpart of go-criu's
/// `GetPsEnvVars`.
///
/// # Errors
///
/// Fails when the task has no memory, or an image is damaged.
pub fn environment_of(checkpoint: &Checkpoint, pid: u32) -> Result<Vec<BString>, Warning> {
    strings_of_one(checkpoint, pid, Which::Environment)
}

fn strings_of_one(
    checkpoint: &Checkpoint,
    pid: u32,
    which: Which,
) -> Result<Vec<BString>, Warning> {
    let memory = Memory::open(checkpoint, MemoryOptions::default())?;
    let mut explorer = Explorer::new(checkpoint.clone());
    let strings = explorer.strings_of(&memory, pid, which);
    match explorer.warnings.pop() {
        Some(warning) => Err(warning),
        None => Ok(strings.unwrap_or_default()),
    }
}

fn texts<S: Serializer>(texts: &[BString], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(texts.iter().map(|text| String::from_utf8_lossy(text)))
}

/// Most bytes that are read: the kernel gives arguments and environment together a quarter of the
/// stack at most, and never more than 6 MiB.
const STRINGS_LIMIT: u64 = 8 << 20;
