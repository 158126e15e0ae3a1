//! The tree of processes.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Write};

use bstr::BString;
use criu_image::message::CoreEntry;
use serde::{Serialize, Serializer};

use super::{Explorer, Partial, Warning};

/// The state that a task was dumped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TaskState {
    /// It ran.
    Alive,
    /// It was dead.
    Dead,
    /// It was stopped by a signal.
    Stopped,
    /// It had ended, and its parent had not asked how.
    Zombie,
    /// A number that has no name here.
    Other(u32),
}

/// A process with its children.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// Name of the command; empty if its image cannot be read.
    #[serde(serialize_with = "super::text")]
    pub comm: BString,
    /// State that it was dumped in, unless its image cannot be read.
    #[serde(skip)]
    pub state: Option<TaskState>,
    /// Children, in the order of the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Process>,
}

/// The processes of a checkpoint.
///
/// As JSON it is the root; in damaged checkpoints, those that do not descend from it are in its
/// member `others`.
#[derive(Clone, Debug, Default)]
pub struct ProcessTree {
    /// Processes without a parent in the checkpoint, the root first; a sound checkpoint has one.
    pub roots: Vec<Process>,
}

impl Explorer {
    /// The tree of processes.
    pub fn processes(&mut self) -> Partial<ProcessTree> {
        let tasks = self.task_list();
        let mut pids = HashSet::with_capacity(tasks.len());
        for task in tasks.iter() {
            if !pids.insert(task.pid) {
                self.warn(Warning::SamePid { pid: task.pid });
            }
        }
        let mut roots = Vec::new();
        // The processes from a root down to the one at hand.
        let mut open: Vec<Process> = Vec::new();
        let mut too_deep = false;
        for (depth, task) in tasks.walk() {
            if self.only.is_some_and(|only| only != task.pid) {
                continue;
            }
            let depth = if self.only.is_some() { 0 } else { depth };
            if depth == 0 && task.ppid != 0 && self.only.is_none() {
                self.warn(match pids.contains(&task.ppid) {
                    true => Warning::Cycle { pid: task.pid },
                    false => Warning::UnknownParent {
                        pid: task.pid,
                        ppid: task.ppid,
                    },
                });
            }
            let core = self.core(task.pid);
            too_deep |= depth > DEPTH_LIMIT;
            close(&mut open, depth.min(DEPTH_LIMIT), &mut roots);
            open.push(Process {
                pid: task.pid,
                pgid: task.pgid,
                sid: task.sid,
                state: core.as_ref().and_then(TaskState::of),
                comm: core
                    .and_then(|core| core.tc)
                    .map(|task| task.comm)
                    .unwrap_or_default(),
                children: Vec::new(),
            });
        }
        close(&mut open, 0, &mut roots);
        if too_deep {
            self.warn(Warning::TooDeep { limit: DEPTH_LIMIT });
        }
        // CRIT takes the last of several for the root.
        if let Some(root) = tasks.root()
            && let Some(place) = roots.iter().position(|process| process.pid == root.pid)
        {
            roots[..=place].rotate_right(1);
        }
        self.answer(ProcessTree { roots })
    }
}

/// Hands processes over to their parents until `depth` of them are open.
fn close(open: &mut Vec<Process>, depth: usize, roots: &mut Vec<Process>) {
    while open.len() > depth
        && let Some(process) = open.pop()
    {
        match open.last_mut() {
            Some(parent) => parent.children.push(process),
            None => roots.push(process),
        }
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Dead => "dead",
            Self::Stopped => "stopped",
            Self::Zombie => "zombie",
            Self::Other(number) => return write!(f, "state {number}"),
        })
    }
}

impl TaskState {
    /// The state in a task's image; threads have none.
    #[must_use]
    pub fn of(core: &CoreEntry) -> Option<Self> {
        core.tc
            .as_ref()
            .map(|task| Self::from_number(task.task_state))
    }

    /// The state with the given number in CRIU's images.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Alive,
            2 => Self::Dead,
            3 => Self::Stopped,
            6 => Self::Zombie,
            other => Self::Other(other),
        }
    }

    /// Returns whether the task still had memory, files and the rest.
    #[must_use]
    pub fn has_resources(self) -> bool {
        !matches!(self, Self::Dead | Self::Zombie)
    }
}

impl ProcessTree {
    /// Writes the tree as `crit x DIR ps` does.
    ///
    /// # Errors
    ///
    /// Fails when `out` does.
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{:>7}{:>7}{:>7}   COMM", "PID", "PGID", "SID")?;
        let mut open: Vec<(usize, &Process)> = self.roots.iter().map(|root| (0, root)).collect();
        open.reverse();
        while let Some((depth, process)) = open.pop() {
            let Process { pid, pgid, sid, .. } = process;
            write!(out, "{pid:>7}{pgid:>7}{sid:>7}   {:1$}", "", 4 * depth)?;
            out.write_all(&process.comm)?;
            writeln!(out)?;
            let children = process.children.iter().rev();
            open.extend(children.map(|child| (depth + 1, child)));
        }
        Ok(())
    }

    /// The process with the given id.
    #[must_use]
    pub fn find(&self, pid: u32) -> Option<&Process> {
        let mut open: Vec<&Process> = self.roots.iter().collect();
        while let Some(process) = open.pop() {
            if process.pid == pid {
                return Some(process);
            }
            open.extend(&process.children);
        }
        None
    }
}

impl Serialize for ProcessTree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            #[serde(flatten)]
            root: &'a Process,
            others: &'a [Process],
        }
        match self.roots.as_slice() {
            [] => serializer.serialize_none(),
            [root] => root.serialize(serializer),
            [root, others @ ..] => Form { root, others }.serialize(serializer),
        }
    }
}

/// Deepest nesting that is shown. Real trees are far from it; a hostile one could make the output
/// grow with the square of the number of tasks.
const DEPTH_LIMIT: usize = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_words() {
        let words = [1, 2, 3, 6, 9].map(|number| TaskState::from_number(number).to_string());
        assert_eq!(words, ["alive", "dead", "stopped", "zombie", "state 9"]);
    }
}
