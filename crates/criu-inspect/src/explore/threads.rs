//! Threads.

use bstr::BString;
use criu_image::message::{CoreEntry, SeccompMode};
use serde::Serialize;

use super::{Explorer, Partial};

/// The threads of a task.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TaskThreads {
    /// The task.
    pub pid: u32,
    /// Its threads, the leader included.
    pub threads: Vec<Thread>,
}

/// A thread.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Thread {
    /// Thread id.
    pub tid: u32,
    /// Name.
    #[serde(serialize_with = "super::text")]
    pub comm: BString,
    /// Scheduling policy, such as `OTHER` or `FIFO`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Priority under a real-time policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Nice value, from -20 to 19.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<i32>,
    /// Address of the next instruction, on architectures whose registers this crate reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instruction_pointer: Option<String>,
    /// Address of the top of the stack, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stack_pointer: Option<String>,
    /// How system calls are filtered: `disabled`, `strict` or `filter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<&'static str>,
}

impl Explorer {
    /// The threads of each task that was not dead.
    pub fn threads(&mut self) -> Partial<Vec<TaskThreads>> {
        let tree = self.task_list();
        let mut tasks = Vec::new();
        for pid in self.living() {
            let tids = tree.find(pid).map(|task| task.threads.clone());
            // A tree made up from other images knows of no threads.
            let tids = tids.filter(|tids| !tids.is_empty()).unwrap_or(vec![pid]);
            let mut threads = Vec::with_capacity(tids.len());
            for tid in tids {
                let core = self.core(tid).unwrap_or_default();
                threads.push(Thread::new(tid, core));
            }
            tasks.push(TaskThreads { pid, threads });
        }
        self.answer(tasks)
    }
}

impl Thread {
    fn new(tid: u32, core: CoreEntry) -> Self {
        let registers = registers(&core).map(|addresses| addresses.map(|at| format!("{at:#x}")));
        let [instruction_pointer, stack_pointer] =
            registers.map_or([None, None], |[ip, sp]| [Some(ip), Some(sp)]);
        let old_seccomp = core.tc.as_ref().and_then(|task| task.old_seccomp_mode);
        let mut thread = Self {
            tid,
            instruction_pointer,
            stack_pointer,
            seccomp: old_seccomp.and_then(seccomp_word),
            ..Self::default()
        };
        if let Some(core) = core.thread_core {
            thread.comm = core.comm.unwrap_or_default();
            thread.policy = core.sched_policy.map(policy_word);
            thread.priority = core.sched_prio.filter(|&priority| priority != 0);
            thread.nice = core.sched_nice;
            thread.seccomp = core.seccomp_mode.and_then(seccomp_word).or(thread.seccomp);
        }
        // The leader's name is that of the task.
        if let Some(task) = core.tc
            && thread.comm.is_empty()
        {
            thread.comm = task.comm;
        }
        thread
    }
}

/// Instruction and stack pointer.
fn registers(core: &CoreEntry) -> Option<[u64; 2]> {
    if let Some(thread) = &core.thread_info {
        return Some([thread.gpregs.ip, thread.gpregs.sp]);
    }
    let thread = core.ti_aarch64.as_ref()?;
    Some([thread.gpregs.pc, thread.gpregs.sp])
}

/// The kernel's policies, from `sched(7)`.
fn policy_word(number: u32) -> String {
    match number {
        0 => "OTHER".to_owned(),
        1 => "FIFO".to_owned(),
        2 => "RR".to_owned(),
        3 => "BATCH".to_owned(),
        5 => "IDLE".to_owned(),
        6 => "DEADLINE".to_owned(),
        other => other.to_string(),
    }
}

pub(super) fn seccomp_word(mode: SeccompMode) -> Option<&'static str> {
    match mode {
        SeccompMode::Disabled => Some("disabled"),
        SeccompMode::Strict => Some("strict"),
        SeccompMode::Filter => Some("filter"),
        _ => None,
    }
}
