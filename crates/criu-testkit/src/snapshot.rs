//! What a process holds, counted before and after.

use std::collections::BTreeMap;
use std::fs;

use crate::subreaper::children;

/// The open file descriptors, children and zombies of the test process.
///
/// Other tests of the same program change them too: a test that compares belongs alone into its file under `tests/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceSnapshot {
    fds: BTreeMap<u32, String>,
    children: Vec<u32>,
    zombies: Vec<u32>,
}

impl ResourceSnapshot {
    /// What this process holds now.
    ///
    /// # Panics
    ///
    /// When `/proc` is not there.
    #[must_use]
    #[track_caller]
    pub fn take() -> Self {
        let listing = fs::read_dir("/proc/self/fd")
            .unwrap_or_else(|error| panic!("cannot read /proc/self/fd: {error}"));
        let mut fds = BTreeMap::new();
        for entry in listing.flatten() {
            // The descriptor of the listing itself is gone by the time its link is read below.
            if let Ok(fd) = entry.file_name().to_string_lossy().parse() {
                fds.insert(fd, entry.path());
            }
        }
        let fds = fds
            .into_iter()
            .filter_map(|(fd, path)| Some((fd, fs::read_link(path).ok()?.display().to_string())))
            .filter(|(_, to)| !to.starts_with(&format!("/proc/{}/fd", std::process::id())))
            .collect();
        let mut children = children(std::process::id());
        children.sort_unstable();
        let zombies = children
            .iter()
            .copied()
            .filter(|pid| is_zombie(*pid))
            .collect();
        ResourceSnapshot {
            fds,
            children,
            zombies,
        }
    }

    /// Number of open file descriptors.
    #[must_use]
    pub fn fd_count(&self) -> usize {
        self.fds.len()
    }

    /// Number of children, zombies included.
    #[must_use]
    pub fn child_count(&self) -> usize {
        self.children.len()
    }

    /// Number of children that ended and were not waited for.
    #[must_use]
    pub fn zombie_count(&self) -> usize {
        self.zombies.len()
    }

    /// Fails the test if anything was left behind, or closed that was not ours, since this snapshot.
    ///
    /// # Panics
    ///
    /// When this process holds other descriptors, children or zombies than then.
    #[track_caller]
    pub fn assert_unchanged(&self) {
        let now = ResourceSnapshot::take();
        let new: Vec<String> = now
            .fds
            .iter()
            .filter(|(fd, _)| !self.fds.contains_key(fd))
            .map(|(fd, to)| format!("{fd} -> {to}"))
            .collect();
        assert!(
            now.fds.len() == self.fds.len()
                && now.children == self.children
                && now.zombies == self.zombies,
            "before: {} descriptors, children {:?}, zombies {:?}; now: {} descriptors, children {:?}, zombies {:?}; \
             new descriptors: {new:?}",
            self.fds.len(),
            self.children,
            self.zombies,
            now.fds.len(),
            now.children,
            now.zombies,
        );
    }
}

fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name stands in parentheses and may hold anything, so the state is what follows the last one.
    stat.rsplit_once(')')
        .is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}
