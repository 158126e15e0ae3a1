//! A process tree as the kernel shows it, and what is done to it outside CRIU.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::error::{Error, Result};
use crate::transport::{Bell, Wait};

/// How long tasks may take to be stopped or gone once they were told to.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long tasks about to be killed may take to be stopped before.
const STOPPED_WITHIN: Duration = Duration::from_secs(1);

/// The tasks of a tree, by handles that stay theirs when ids are taken anew.
///
/// Whole only when the tree was frozen when it was taken down.
#[derive(Debug)]
pub(crate) struct Tree {
    /// The root first.
    tasks: Vec<Task>,
}

#[derive(Debug)]
struct Task {
    pid: i32,
    handle: OwnedFd,
}

impl Tree {
    pub(crate) fn of(root: i32) -> io::Result<Self> {
        let mut tasks = Vec::new();
        let mut pids = vec![root];
        while let Some(pid) = pids.pop() {
            let raw = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
            match pidfd_open(raw, PidfdFlags::empty()) {
                Ok(handle) => tasks.push(Task { pid, handle }),
                // Ended meanwhile; only the root has to be there.
                Err(rustix::io::Errno::SRCH) if pid != root => continue,
                Err(errno) => return Err(errno.into()),
            }
            pids.extend(children(pid));
        }
        Ok(Self { tasks })
    }

    pub(crate) fn pids(&self) -> impl Iterator<Item = i32> {
        self.tasks.iter().map(|task| task.pid)
    }

    /// The tasks that are stopped now.
    pub(crate) fn stopped(&self) -> BTreeSet<i32> {
        self.pids().filter(|pid| state(*pid) == Some('T')).collect()
    }

    /// Memory resident in all tasks together, shared pages counted for each.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.pids().map(resident_bytes).sum()
    }

    /// The parent of the root; `None` when the root has ended.
    pub(crate) fn parent(&self) -> Option<i32> {
        behind_name(self.pids().next()?)?
            .split(' ')
            .nth(1)?
            .parse()
            .ok()
    }

    /// Whether somebody, that is CRIU, holds the root by ptrace.
    pub(crate) fn is_traced(&self) -> bool {
        let root = self.pids().next().unwrap_or_default();
        let status = fs::read_to_string(format!("/proc/{root}/status")).unwrap_or_default();
        let tracer = status
            .lines()
            .find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|tracer| tracer.trim() != "0")
    }

    /// Stops every task, as soon as nobody traces it any more.
    pub(crate) fn stop(&self) {
        for task in &self.tasks {
            // One that has ended needs nothing.
            let _ = pidfd_send_signal(&task.handle, Signal::STOP);
        }
    }

    /// Waits until every task is stopped or has ended.
    pub(crate) fn wait_stopped(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for task in &self.tasks {
            loop {
                match state(task.pid) {
                    Some('T' | 'Z' | 'X') | None => break,
                    Some(_) if Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    Some(state) => {
                        return Err(Error::Task {
                            pid: task.pid,
                            found: format!("in state {state}"),
                            expected: "stopped",
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets the tasks go on, but for those that were stopped before all this.
    pub(crate) fn resume(&self, except: &BTreeSet<i32>) {
        for task in self.tasks.iter().filter(|task| !except.contains(&task.pid)) {
            // One that has ended needs nothing.
            let _ = pidfd_send_signal(&task.handle, Signal::CONT);
        }
    }

    /// Kills every task, and what each has started since, and waits until all have ended.
    pub(crate) fn kill_with_children(mut self) -> Result<()> {
        // A stopped task starts no more; what it had started is found then. Not every one stops: one may wait in the
        // kernel for memory, and starts nothing either.
        let mut looked_at = 0;
        while looked_at < self.tasks.len() {
            let new = looked_at..self.tasks.len();
            looked_at = self.tasks.len();
            let deadline = Instant::now() + STOPPED_WITHIN;
            for task in &self.tasks[new.clone()] {
                let _ = pidfd_send_signal(&task.handle, Signal::STOP);
            }
            for index in new {
                let pid = self.tasks[index].pid;
                while !matches!(state(pid), Some('T' | 't' | 'Z' | 'X') | None)
                    && Instant::now() < deadline
                {
                    std::thread::sleep(Duration::from_micros(200));
                }
                for child in children(pid) {
                    let is_known = self.pids().any(|known| known == child);
                    if !is_known
                        && let Some(raw) = Pid::from_raw(child)
                        && let Ok(handle) = pidfd_open(raw, PidfdFlags::empty())
                    {
                        self.tasks.push(Task { pid: child, handle });
                    }
                }
            }
        }
        self.kill()
    }

    /// Kills every task and waits until all have ended.
    pub(crate) fn kill(&self) -> Result<()> {
        for task in &self.tasks {
            let _ = pidfd_send_signal(&task.handle, Signal::KILL);
        }
        let bell = Bell::new().map_err(Error::io("wait for processes"))?;
        let wait = Wait::new(Some(Instant::now() + PATIENCE), &bell);
        for task in &self.tasks {
            let waited = wait.for_flags(std::os::fd::AsFd::as_fd(&task.handle), PollFlags::IN);
            if waited.is_err() {
                return Err(Error::Task {
                    pid: task.pid,
                    found: "still there".to_owned(),
                    expected: "gone",
                });
            }
        }
        Ok(())
    }
}

pub(crate) fn exists(pid: i32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap_or(false)
}

/// The state letter of proc_pid_stat(5); `None` when there is no such process.
fn state(pid: i32) -> Option<char> {
    behind_name(pid)?.chars().next()
}

/// When a process began, in the kernel's ticks since boot; `None` when there is no such process.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    // Field 22 of all, the 20th behind the name.
    behind_name(pid)?.split(' ').nth(19)?.parse().ok()
}

/// What `/proc/PID/stat` has behind the name, which stands in parentheses and may hold anything.
fn behind_name(pid: i32) -> Option<String> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some(String::from_utf8_lossy(stat.get(end + 2..)?).into_owned())
}

/// The children of all threads of a process.
fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let mut found = Vec::new();
    for thread in threads.into_iter().flatten().flatten() {
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(
            text.split_whitespace()
                .filter_map(|word| word.parse::<i32>().ok()),
        );
    }
    found
}

fn resident_bytes(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use criu_testkit::Scene;

    #[test]
    fn what_a_tree_starts_while_it_is_killed_goes_too() {
        // Two that start others as fast as they can, known by how long those sleep.
        let word = format!("20.{}", std::process::id());
        let script = format!(
            "storm() {{ i=0; while [ $i -lt 2000 ]; do sleep {word} & i=$((i+1)); done; wait; }}; (storm) & storm"
        );
        let mut root = std::process::Command::new("/bin/sh")
            .args(["-c", &script])
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(100));
        let tree = Tree::of(i32::try_from(root.id()).unwrap()).unwrap();
        assert!(tree.pids().count() > 3);
        tree.kill_with_children().unwrap();
        root.wait().unwrap();
        let is_left = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&word)
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let left: Vec<i32> = all.filter(is_left).collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_tree_is_stopped_resumed_and_killed_as_a_whole() {
        let mut process = Scene::new().children(2).memory_kib(4096).start();
        let root = i32::try_from(process.pid()).unwrap();
        let tree = Tree::of(root).unwrap();
        assert_eq!(tree.pids().count(), 3);
        assert_eq!(tree.pids().next(), Some(root));
        assert!(tree.resident_bytes() > 4 << 20);
        assert!(tree.stopped().is_empty());
        for task in &tree.tasks {
            pidfd_send_signal(&task.handle, Signal::STOP).unwrap();
        }
        tree.wait_stopped().unwrap();
        assert_eq!(tree.stopped().len(), 3);
        let kept: BTreeSet<i32> = tree.pids().skip(2).collect();
        tree.resume(&kept);
        process.wait_for_count_above(process.count());
        assert_eq!(tree.stopped(), kept);
        tree.kill().unwrap();
        process.reap();
        assert!(!exists(root));
    }
}
