//! The tree of tasks.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::entry::Entry;
use crate::message::PstreeEntry;

/// The tasks of a checkpoint, in the order of the image.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    entries: Vec<Entry<PstreeEntry>>,
    by_pid: HashMap<u32, usize>,
    children: BTreeMap<u32, Vec<usize>>,
}

impl Tasks {
    /// Makes the tree of the given entries. Of several with the same pid the first counts.
    #[must_use]
    pub fn new(entries: Vec<Entry<PstreeEntry>>) -> Self {
        let mut by_pid = HashMap::new();
        let mut children = BTreeMap::<_, Vec<_>>::new();
        for (index, task) in entries.iter().enumerate() {
            by_pid.entry(task.pid).or_insert(index);
            children.entry(task.ppid).or_default().push(index);
        }
        Self {
            entries,
            by_pid,
            children,
        }
    }

    /// The tasks in the order of the image.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Entry<PstreeEntry>> {
        self.entries.iter()
    }

    /// How many tasks there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The task with the given pid.
    #[must_use]
    pub fn find(&self, pid: u32) -> Option<&Entry<PstreeEntry>> {
        self.by_pid.get(&pid).map(|&index| &self.entries[index])
    }

    /// The root of the tree: the last task without a parent, as CRIT takes it.
    #[must_use]
    pub fn root(&self) -> Option<&Entry<PstreeEntry>> {
        self.children
            .get(&0)?
            .last()
            .map(|&index| &self.entries[index])
    }

    /// The children of the task with the given pid, in the order of the image.
    pub fn children(&self, pid: u32) -> impl Iterator<Item = &Entry<PstreeEntry>> {
        self.children
            .get(&pid)
            .into_iter()
            .flatten()
            .map(|&index| &self.entries[index])
    }

    /// Walks the tree from its roots down, with the depth of each task.
    ///
    /// Every task comes once, also in damaged images where parents are missing or tasks are their
    /// own ancestors; such tasks come last, as roots of their own.
    #[must_use]
    pub fn walk(&self) -> Vec<(usize, &Entry<PstreeEntry>)> {
        let mut order = Vec::with_capacity(self.entries.len());
        let mut met = HashSet::new();
        let roots = self.children.get(&0).into_iter().flatten().copied();
        for start in roots.chain(0..self.entries.len()) {
            let mut open = vec![(0, start)];
            while let Some((depth, index)) = open.pop() {
                if !met.insert(index) {
                    continue;
                }
                let task = &self.entries[index];
                order.push((depth, task));
                let children = self.children.get(&task.pid).into_iter().flatten();
                open.extend(children.rev().map(|&child| (depth + 1, child)));
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(pairs: &[(u32, u32)]) -> Tasks {
        let entry = |&(pid, ppid)| {
            PstreeEntry {
                pid,
                ppid,
                ..Default::default()
            }
            .into()
        };
        Tasks::new(pairs.iter().map(entry).collect())
    }

    fn walk(tasks: &Tasks) -> Vec<(usize, u32)> {
        tasks
            .walk()
            .into_iter()
            .map(|(depth, task)| (depth, task.pid))
            .collect()
    }

    #[test]
    fn a_tree_is_walked_in_order() {
        let tasks = tasks(&[(1, 0), (2, 1), (3, 1), (4, 2)]);
        assert_eq!(walk(&tasks), [(0, 1), (1, 2), (2, 4), (1, 3)]);
        assert_eq!(tasks.root().expect("a root").pid, 1);
        assert_eq!(tasks.find(4).expect("a task").ppid, 2);
        assert_eq!(
            tasks.children(1).map(|task| task.pid).collect::<Vec<_>>(),
            [2, 3]
        );
    }

    #[test]
    fn damaged_trees_still_give_every_task_once() {
        assert_eq!(
            walk(&tasks(&[(5, 6), (6, 5), (7, 99)])),
            [(0, 5), (1, 6), (0, 7)]
        );
        assert_eq!(walk(&tasks(&[(0, 0), (1, 0)])), [(0, 0), (1, 1)]);
    }
}
