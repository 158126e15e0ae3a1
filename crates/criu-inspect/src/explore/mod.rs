//! Questions about a checkpoint as a user of `ps`, `lsof`, `pmap`, `ss` or `findmnt` asks them.
//!
//! An [`Explorer`] answers them one by one, from any source of images. Nothing it meets in the
//! images makes it fail: what is missing or damaged becomes a [`Warning`] beside the answer.
//!
//! ```no_run
//! use criu_inspect::explore::Explorer;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let checkpoint = criu_image::Checkpoint::open("/var/lib/checkpoint")?;
//! let mut explorer = Explorer::new(checkpoint);
//! let files = explorer.open_files();
//! for task in &files.value.0 {
//!     for file in &task.files {
//!         let _ = (task.pid, &file.fd, &file.path);
//!     }
//! }
//! assert!(files.warnings.is_empty(), "{:?}", files.warnings);
//! # Ok(())
//! # }
//! ```
//!
//! The answers to [`processes`](Explorer::processes), [`open_files`](Explorer::open_files),
//! [`mappings`](Explorer::mappings) and [`resident`](Explorer::resident) write themselves as CRIT
//! does, byte for byte; as JSON they and [`sockets`](Explorer::sockets) have the members that
//! go-criu's CRIT gives them. Those that grow with a task's memory can also be
//! [`Streamed`] out, whatever their size.

mod cgroups;
mod column;
mod credentials;
mod file_table;
mod files;
mod invocation;
mod mappings;
mod mounts;
mod namespaces;
mod netlink;
mod network;
mod resident;
mod signal;
mod signals;
mod sockets;
mod streamed;
mod threads;
mod timers;
mod tree;
mod warning;

use std::sync::Arc;

use bstr::{BString, ByteSlice};
use criu_image::checkpoint::{Tasks, present};
use criu_image::message::{CoreEntry, FdTypes, PstreeEntry};
use criu_image::wire::{DecodeError, Fields, Message, Value};
use criu_image::{Checkpoint, Entry, ImageKind};
use serde::Serializer;

pub use self::cgroups::{CgroupMembership, TaskCgroups};
pub use self::credentials::{Capabilities, Credentials, Ids};
use self::file_table::FileTable;
pub use self::files::{FdTable, OpenFile, OpenFiles};
pub use self::invocation::{TaskStrings, arguments_of, environment_of};
pub use self::mappings::{Mapping, Mappings, TaskMappings};
pub use self::mounts::{Mount, MountNamespace};
pub use self::namespaces::{IdRange, Namespace};
pub use self::netlink::Route;
pub use self::network::{Device, DeviceAddress, Network};
pub use self::resident::{Resident, ResidentArea, ResidentRange, TaskResident};
pub use self::signal::signal_name;
pub use self::signals::{PendingSignal, SignalHandler, TaskSignals, ThreadSignals};
pub use self::sockets::{Socket, Sockets, TaskSockets};
pub use self::streamed::Streamed;
pub use self::threads::{TaskThreads, Thread};
pub use self::timers::{TaskTimers, Timer};
pub use self::tree::{Process, ProcessTree, TaskState};
pub use self::warning::{Partial, Warning};

/// Answers questions about a checkpoint.
#[derive(Debug)]
pub struct Explorer {
    checkpoint: Checkpoint,
    only: Option<u32>,
    tasks: Option<Arc<Tasks>>,
    files: Option<Arc<FileTable>>,
    /// The file that was described last.
    described: Option<((FdTypes, u32), BString)>,
    warnings: Vec<Warning>,
}

impl Explorer {
    /// Asks about all tasks of a checkpoint.
    #[must_use]
    pub fn new(checkpoint: Checkpoint) -> Self {
        Self {
            checkpoint,
            only: None,
            tasks: None,
            files: None,
            described: None,
            warnings: Vec::new(),
        }
    }

    /// Asks about a single task from now on.
    #[must_use]
    pub fn only(mut self, pid: u32) -> Self {
        self.only = Some(pid);
        self
    }

    /// The checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The tasks, in the order of the image.
    pub fn tasks(&mut self) -> Partial<Arc<Tasks>> {
        let tasks = self.task_list();
        self.answer(tasks)
    }

    /// Gives an answer with the warnings since the last one.
    fn answer<T>(&mut self, value: T) -> Partial<T> {
        let warnings = std::mem::take(&mut self.warnings);
        Partial { value, warnings }
    }

    fn warn(&mut self, warning: impl Into<Warning>) {
        self.warnings.push(warning.into());
    }

    /// Warns of a malformed area of memory.
    fn warn_of_area(&mut self, pid: u32, error: DecodeError) {
        self.warn(Warning::Area { pid, source: error });
    }

    /// Turns an error into a warning.
    fn wanted<T>(&mut self, result: criu_image::Result<T>) -> Option<T> {
        result.map_err(|error| self.warn(error)).ok()
    }

    /// Turns an error into a warning; that an image is missing is none.
    fn optional<T>(&mut self, result: criu_image::Result<T>) -> Option<T> {
        self.wanted(present(result)).flatten()
    }

    /// Reads what can be read of an image that may be missing.
    fn entries<T: Message>(&mut self, kind: ImageKind, id: u64) -> Vec<T> {
        let Some(mut image) = self.optional(self.checkpoint.image(kind, id)) else {
            return Vec::new();
        };
        let mut entries = Vec::new();
        loop {
            match image.next_entry() {
                Ok(Some(entry)) => match entry.decode() {
                    Ok(entry) => entries.push(entry),
                    Err(error) => self.warn(error),
                },
                Ok(None) => break,
                Err(error) => {
                    self.warn(error);
                    break;
                }
            }
        }
        entries
    }

    fn task_list(&mut self) -> Arc<Tasks> {
        if let Some(tasks) = &self.tasks {
            return tasks.clone();
        }
        let tasks = Arc::new(Tasks::new(self.read_tasks()));
        self.tasks = Some(tasks.clone());
        tasks
    }

    fn read_tasks(&mut self) -> Vec<Entry<PstreeEntry>> {
        let mut tasks: Vec<Entry<PstreeEntry>> = Vec::new();
        let mut image = match self.checkpoint.image(ImageKind::Pstree, 0) {
            Ok(image) => image,
            Err(error) => {
                self.warn(error);
                return self.tasks_from_cores();
            }
        };
        loop {
            match image.next_entry() {
                Ok(Some(entry)) => match entry.to_entry() {
                    Ok(task) => tasks.push(task),
                    Err(error) => match nested_task(entry.bytes) {
                        Some(task) => tasks.push(task.into()),
                        None => self.warn(error),
                    },
                },
                Ok(None) => return tasks,
                Err(error) => {
                    self.warn(error);
                    return tasks;
                }
            }
        }
    }

    /// Makes up for a missing tree of tasks.
    fn tasks_from_cores(&mut self) -> Vec<Entry<PstreeEntry>> {
        let ids = self.wanted(self.checkpoint.ids_of(ImageKind::Core));
        let mut tasks = Vec::new();
        for id in ids.unwrap_or_default() {
            let Ok(pid) = u32::try_from(id) else { continue };
            let core = self.wanted(self.checkpoint.core(pid));
            // Threads have no task of their own.
            if core.is_some_and(|core| core.tc.is_some()) {
                let task = PstreeEntry {
                    pid,
                    ..PstreeEntry::default()
                };
                tasks.push(task.into());
            }
        }
        if !tasks.is_empty() {
            self.warn(Warning::NoTree);
        }
        tasks
    }

    /// The ids of the tasks asked about.
    fn selected(&mut self) -> Vec<u32> {
        let tasks = self.task_list();
        let pids = tasks.iter().map(|task| task.pid);
        pids.filter(|&pid| self.only.is_none_or(|only| only == pid))
            .collect()
    }

    /// The tasks asked about that were not dead: those with memory, files and the rest.
    fn living(&mut self) -> Vec<u32> {
        let mut living = self.selected();
        living.retain(|&pid| match self.core(pid) {
            Some(core) => TaskState::of(&core).is_none_or(TaskState::has_resources),
            None => true,
        });
        living
    }

    fn core(&mut self, tid: u32) -> Option<CoreEntry> {
        let core = self.wanted(self.checkpoint.core(tid));
        core.map(Entry::into_value)
    }

    fn file_table(&mut self) -> Arc<FileTable> {
        if let Some(files) = &self.files {
            return files.clone();
        }
        let files = Arc::new(FileTable::read(&self.checkpoint, &mut self.warnings));
        self.files = Some(files.clone());
        files
    }
}

/// Takes a task whose ids are lists, one for each nested pid namespace: there `pid`, `pgid` and
/// `sid` are absent, and fields 6, 7 and 8 hold `ns_pid`, `ns_pgid` and `ns_sid`, outermost first.
fn nested_task(bytes: &[u8]) -> Option<PstreeEntry> {
    let mut ids = [None; 9];
    let mut threads = Vec::new();
    for field in Fields::new(bytes) {
        let field = field.ok()?;
        let Value::Varint(id) = field.value() else {
            continue;
        };
        let id = u32::try_from(id).ok()?;
        match field.number() {
            5 => threads.push(id),
            number @ 1..=8 => {
                ids[number as usize].get_or_insert(id);
            }
            _ => {}
        }
    }
    Some(PstreeEntry {
        pid: ids[1].or(ids[6])?,
        ppid: ids[2]?,
        pgid: ids[3].or(ids[7])?,
        sid: ids[4].or(ids[8])?,
        threads,
        ..PstreeEntry::default()
    })
}

/// Serialises text that need not be UTF-8; what is not becomes U+FFFD.
fn text<S: Serializer>(text: &BString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text.to_str_lossy())
}

/// Serialises text that may be absent.
fn optional_text<S: Serializer>(
    optional: &Option<BString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match optional {
        Some(present) => text(present, serializer),
        None => serializer.serialize_none(),
    }
}

/// Returns whether text is left out of JSON.
fn is_empty(text: &BString) -> bool {
    text.is_empty()
}

/// Serialises an address: hexadecimal, without prefix or leading zeros.
fn hexadecimal<S: Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{address:x}"))
}
