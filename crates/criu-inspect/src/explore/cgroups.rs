//! Control groups.

use std::collections::HashMap;

use bstr::BString;
use criu_image::ImageKind;
use criu_image::message::{CgSetEntry, CgroupEntry};
use serde::Serialize;

use super::{Explorer, Partial};

/// The control groups of a task.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TaskCgroups {
    /// The task.
    pub pid: u32,
    /// Name of the command.
    #[serde(serialize_with = "super::text")]
    pub comm: BString,
    /// Id of the set of groups that the task is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<u32>,
    /// The groups, if they were dumped; CRIU does not unless it is told to.
    pub groups: Vec<CgroupMembership>,
}

/// That a task is in a group.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct CgroupMembership {
    /// The hierarchy: its controllers, or `name=...`; empty for the unified one.
    #[serde(serialize_with = "super::text")]
    pub hierarchy: BString,
    /// Path of the group within it.
    #[serde(serialize_with = "super::text")]
    pub path: BString,
}

impl Explorer {
    /// The control groups of each task that was not dead.
    pub fn cgroups(&mut self) -> Partial<Vec<TaskCgroups>> {
        let mut sets: HashMap<u32, CgSetEntry> = HashMap::new();
        for image in self.entries::<CgroupEntry>(ImageKind::Cgroup, 0) {
            sets.extend(image.sets.into_iter().map(|set| (set.id, set)));
        }
        let mut tasks = Vec::new();
        for pid in self.living() {
            let Some(core) = self.core(pid) else { continue };
            let of_thread = core.thread_core.and_then(|thread| thread.cg_set);
            let of_task = core.tc.as_ref().and_then(|task| task.cg_set);
            let set = of_thread.or(of_task);
            let members = set.and_then(|set| sets.get(&set)).map(|set| &set.ctls);
            let membership = |member: &criu_image::message::CgMemberEntry| CgroupMembership {
                hierarchy: member.name.clone(),
                path: member.path.clone(),
            };
            tasks.push(TaskCgroups {
                pid,
                comm: core.tc.map(|task| task.comm).unwrap_or_default(),
                set,
                groups: members
                    .map(|members| members.iter().map(membership).collect())
                    .unwrap_or_default(),
            });
        }
        self.answer(tasks)
    }
}
