//! Orphans come to the test process, which waits for each by its own id.
//!
//! A restored tree is an orphan as soon as CRIU ends. Left to the machine's first process, its zombie may stay in the
//! way of the next restore under the same id ("Can't fork for PID: File exists").

use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal,
    set_child_subreaper, waitpid,
};

use crate::pace::patience;

/// This process, as the one that orphans below it are given to.
#[derive(Debug)]
pub struct Subreaper;

impl Subreaper {
    /// Makes this process the one that adopts the orphans below it; doing so again changes nothing.
    ///
    /// # Panics
    ///
    /// When the kernel refuses.
    #[track_caller]
    pub fn enable() {
        if let Err(error) = set_child_subreaper(Some(getpid())) {
            panic!("cannot become a subreaper: {error}");
        }
    }

    /// Kills a tree and reaps what of it is, or becomes, a child of this process. Never waits for "any" child, so that
    /// nobody else's exit status is stolen.
    ///
    /// # Panics
    ///
    /// When a process of it is still there after 20 seconds.
    #[track_caller]
    pub fn kill_tree(root: u32) {
        Subreaper::kill_tree_except(root, None);
    }

    /// As [`Subreaper::kill_tree`], but leaves it to the owner of `waited_for` to reap that one.
    #[track_caller]
    pub(crate) fn kill_tree_except(root: u32, waited_for: Option<&Child>) {
        Subreaper::enable();
        // The root first: it can start no more children, and a PID namespace dies with its first process.
        let mut tree = vec![root];
        tree.extend(descendants(root));
        for pid in &tree {
            kill(*pid);
        }
        // What was born between looking and killing.
        let late: Vec<u32> = tree
            .iter()
            .flat_map(|pid| descendants(*pid))
            .filter(|pid| !tree.contains(pid))
            .collect();
        for pid in &late {
            kill(*pid);
        }
        let spared = waited_for.map(Child::id);
        for pid in tree.iter().chain(&late).filter(|pid| Some(**pid) != spared) {
            Subreaper::reap(*pid);
        }
    }

    /// Waits until a killed process is gone, reaping it if it is a child of this process.
    ///
    /// # Panics
    ///
    /// When it is still there after 20 seconds.
    #[track_caller]
    pub fn reap(pid: u32) {
        let deadline = Instant::now() + patience();
        loop {
            match waitpid(Some(to_pid(pid)), WaitOptions::NOHANG) {
                Ok(Some(_)) => return,
                // A child that still runs.
                Ok(None) => {}
                // Somebody else's child, or none any more.
                Err(Errno::CHILD) if !fs::exists(format!("/proc/{pid}")).unwrap_or(false) => return,
                Err(Errno::CHILD | Errno::INTR) => {}
                Err(error) => panic!("cannot wait for process {pid}: {error}"),
            }
            assert!(
                Instant::now() < deadline,
                "process {pid} is still there: {}",
                describe(pid)
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The processes below `root`, nearest first.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut found = children(root);
    let mut next = 0;
    while next < found.len() {
        let below = children(found[next]);
        found.extend(below);
        next += 1;
    }
    found
}

/// The children of all threads of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

#[track_caller]
pub(crate) fn to_pid(pid: u32) -> Pid {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .unwrap_or_else(|| panic!("{pid} is no process id"))
}

fn kill(pid: u32) {
    // By pidfd: it names this very process even if the id is taken anew meanwhile.
    if let Ok(process) = pidfd_open(to_pid(pid), PidfdFlags::empty()) {
        let _ = pidfd_send_signal(&process, Signal::KILL);
    }
}

fn describe(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().take(9).collect::<Vec<_>>().join(", ")
}
