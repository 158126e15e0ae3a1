//! Who tasks are and what they may do.

use bstr::BString;
use criu_image::message::CredsEntry;
use serde::Serialize;

use super::threads::seccomp_word;
use super::{Explorer, Partial};

/// The credentials of a task's leader.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Credentials {
    /// The task.
    pub pid: u32,
    /// Name of the command.
    #[serde(serialize_with = "super::text")]
    pub comm: BString,
    /// User.
    pub uid: Ids,
    /// Group.
    pub gid: Ids,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// `SECBIT_*` bits.
    pub secure_bits: u32,
    /// Whether programs run from here gain nothing.
    pub no_new_privileges: bool,
    /// Profile of the security module.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "super::optional_text"
    )]
    pub lsm_profile: Option<BString>,
    /// How system calls are filtered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<&'static str>,
    /// User that logged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// What is added to the badness when memory runs out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adjustment: Option<i32>,
}

/// The four ids that a task has as a user or as a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Ids {
    /// Whose task it is.
    pub real: u32,
    /// By which most permissions are judged.
    pub effective: u32,
    /// To which it may return.
    pub saved: u32,
    /// By which access to files is judged.
    pub filesystem: u32,
}

/// Sets of capabilities, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// Those it has at hand.
    pub effective: Vec<String>,
    /// Those it may take.
    pub permitted: Vec<String>,
    /// Those that programs run from here may have.
    pub inheritable: Vec<String>,
    /// Those that cannot be had but from here.
    pub bounding: Vec<String>,
    /// Those that programs without privileges keep.
    pub ambient: Vec<String>,
}

impl Explorer {
    /// Credentials of each task that was not dead.
    pub fn credentials(&mut self) -> Partial<Vec<Credentials>> {
        let mut all = Vec::new();
        for pid in self.living() {
            let core = self.core(pid).unwrap_or_default();
            let mut credentials = Credentials {
                pid,
                ..Credentials::default()
            };
            let entry = match self.wanted(self.checkpoint.creds(pid)) {
                Some(entry) => entry,
                None => continue,
            };
            credentials.take(entry);
            if let Some(task) = core.tc {
                credentials.comm = task.comm;
                credentials.login_uid = task.loginuid;
                credentials.oom_score_adjustment = task.oom_score_adj;
                credentials.seccomp = task.old_seccomp_mode.and_then(seccomp_word);
            }
            if let Some(thread) = core.thread_core {
                let seccomp = thread.seccomp_mode.and_then(seccomp_word);
                credentials.seccomp = seccomp.or(credentials.seccomp);
            }
            all.push(credentials);
        }
        self.answer(all)
    }
}

impl Credentials {
    fn take(&mut self, entry: CredsEntry) {
        self.uid = Ids {
            real: entry.uid,
            effective: entry.euid,
            saved: entry.suid,
            filesystem: entry.fsuid,
        };
        self.gid = Ids {
            real: entry.gid,
            effective: entry.egid,
            saved: entry.sgid,
            filesystem: entry.fsgid,
        };
        self.capabilities = Capabilities {
            effective: capability_names(&entry.cap_eff),
            permitted: capability_names(&entry.cap_prm),
            inheritable: capability_names(&entry.cap_inh),
            bounding: capability_names(&entry.cap_bnd),
            ambient: capability_names(&entry.cap_amb),
        };
        self.groups = entry.groups;
        self.secure_bits = entry.secbits;
        self.no_new_privileges = entry.no_new_privs.is_some_and(|bit| bit != 0);
        self.lsm_profile = entry.lsm_profile.filter(|profile| !profile.is_empty());
    }
}

impl Capabilities {
    /// How many capabilities the kernel this crate knows has; a set with that many is full.
    pub const COUNT: usize = CAPABILITIES.len();
}

/// The names of capabilities in 32-bit words, least first; numbers for those without a name.
fn capability_names(words: &[u32]) -> Vec<String> {
    let mut names = Vec::new();
    // Two words are all that the kernel has.
    for (word, first) in words.iter().take(2).zip([0usize, 32]) {
        for bit in (0..32usize).filter(|bit| word >> bit & 1 != 0) {
            let number = first + bit;
            names.push(match CAPABILITIES.get(number) {
                Some(name) => format!("cap_{name}"),
                None => number.to_string(),
            });
        }
    }
    names
}

/// By number, from the kernel's `linux/capability.h`.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_their_names() {
        assert_eq!(
            capability_names(&[1 << 21, 1 << 8]),
            ["cap_sys_admin", "cap_checkpoint_restore"]
        );
        assert_eq!(capability_names(&[0, 1 << 31]), ["63"]);
        assert_eq!(
            capability_names(&[u32::MAX, 0x1ff]).len(),
            Capabilities::COUNT
        );
    }
}
