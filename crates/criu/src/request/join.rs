//! Existing namespaces that restored tasks join instead of getting their own.

use std::path::PathBuf;

/// A kind of namespace that CRIU can join on restore.
///
/// A pid namespace cannot be joined this way; hand it over as an inherited descriptor with
/// [`crate::External::PidNamespace`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NamespaceKind {
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Network.
    Net,
    /// Clocks.
    Time,
    /// User and group ids.
    User {
        /// User id to take inside.
        uid: Option<u32>,
        /// Group id to take inside.
        gid: Option<u32>,
    },
    /// Host and domain name.
    Uts,
    /// Mounts.
    Mnt,
}

impl NamespaceKind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ipc => "ipc",
            Self::Net => "net",
            Self::Time => "time",
            Self::User { .. } => "user",
            Self::Uts => "uts",
            Self::Mnt => "mnt",
        }
    }
}

/// A namespace to join (`--join-ns KIND:FILE[,EXTRA]`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JoinNamespace {
    /// Which kind it is.
    pub kind: NamespaceKind,
    /// A namespace file, such as `/run/netns/blue` or `/proc/PID/ns/net`.
    pub file: PathBuf,
}

impl JoinNamespace {
    /// Names the namespace `file` stands for.
    pub fn new(kind: NamespaceKind, file: impl Into<PathBuf>) -> Self {
        Self {
            kind,
            file: file.into(),
        }
    }

    /// Names the namespace that the process `pid` is in.
    pub fn of_process(kind: NamespaceKind, pid: i32) -> Self {
        Self::new(kind, format!("/proc/{pid}/ns/{}", kind.name()))
    }

    pub(crate) fn extra(&self) -> Option<String> {
        let NamespaceKind::User { uid, gid } = self.kind else {
            return None;
        };
        let text = |id: Option<u32>| id.map(|id| id.to_string()).unwrap_or_default();
        (uid.is_some() || gid.is_some()).then(|| format!("{},{}", text(uid), text(gid)))
    }
}
