//! What a tree needs on the host where it is to be restored.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::check::Check;
use super::finding::fitting;

/// What a tree needs, as far as it can be told before it is restored.
///
/// A field that is unset or empty was not found out, or there is nothing of the kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Facts {
    /// Version of the CRIU that dumps the tree.
    pub criu: Option<String>,
    /// Version of the images, as `inventory.img` has it.
    pub image_version: Option<u32>,
    /// Machine type, as `uname -m` has it.
    pub architecture: Option<String>,
    /// Bytes of a page of memory.
    pub page_size_bytes: Option<u64>,
    /// Release of the kernel the tree runs on.
    pub kernel: Option<String>,
    /// The processor's features, in CRIU's own image form; empty if it cannot tell them.
    pub processor: Vec<u8>,
    /// Features of kernel and CRIU that the restore cannot do without: `pidfd`, `seccomp`, `rseq`,
    /// `lazy_pages`.
    pub features: Vec<String>,
    /// Features, by CRIU's names, that the source has and the tree may want again.
    pub source_features: Vec<String>,
    /// Kinds of namespaces the tree has of its own, by their names in `/proc/PID/ns`.
    pub namespaces: Vec<String>,
    /// Its session, if the leader of that is not in the tree.
    pub foreign_session: Option<SessionSeen>,
    /// Whether a task has a controlling terminal.
    pub has_terminal: bool,
    /// Ids of processes and threads that the tree must get back on the host; empty if its pid namespace
    /// is its own, where ids are always free.
    pub pids: Vec<i32>,
    /// The largest of the ids, also in a pid namespace of its own.
    pub largest_pid: Option<i32>,
    /// Files the tree uses and does not take along.
    pub files: Vec<FileSeen>,
    /// When the checkpoint was made, in seconds since 1970; unset for a running tree.
    pub made_s: Option<i64>,
    /// Mounts that matter.
    pub mounts: Vec<MountSeen>,
    /// What sockets are bound to, if the network namespace is the host's.
    pub sockets: Vec<SocketSeen>,
    /// Control groups that are restored.
    pub cgroups: Vec<CgroupSeen>,
    /// Security profiles.
    pub lsm: Option<LsmSeen>,
    /// Capabilities that some task has, as the bits of `CapPrm`; none if its user namespace is its own.
    pub capabilities: u64,
    /// Memory the tree has resident, in bytes, shared pages counted for each task.
    pub memory_bytes: u64,
    /// What did not fit into a message.
    pub left_out: Vec<LeftOut>,
}

/// A session whose leader is not in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SessionSeen {
    /// A task in it.
    pub pid: i32,
    /// The id of its leader.
    pub leader: i32,
    /// Whether the dump was told to accept that (`--shell-job`).
    #[serde(default)]
    pub accepted: bool,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Pipe,
    /// A socket, or what is none of these.
    Other,
}

impl FileKind {
    /// Tells it from `st_mode`.
    pub const fn of_mode(mode: u32) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o020_000 => Self::CharacterDevice,
            0o060_000 => Self::BlockDevice,
            0o010_000 => Self::Pipe,
            _ => Self::Other,
        }
    }

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Regular => "a file",
            Self::Directory => "a directory",
            Self::CharacterDevice => "a character device",
            Self::BlockDevice => "a block device",
            Self::Pipe => "a named pipe",
            Self::Other => "something else",
        }
    }
}

/// A file the tree uses, as the source has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileSeen {
    /// Its path in the tree's own root.
    pub path: String,
    /// Its `st_mode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Its length in bytes; unset for what may change until the tree is frozen, and for what is no
    /// regular file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len_bytes: Option<u64>,
    /// Its build id in hexadecimal digits, if it is a program or library that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// When it was last modified, in seconds since 1970; unset for what may change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified_s: Option<i64>,
}

/// What a mount has to do with the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MountRole {
    /// The tree's own mount namespace has it.
    Own,
    /// It comes from outside the tree's mount namespace and has to be given to the restore by this key.
    External(String),
    /// A file the tree uses lies on it, and its mount namespace is the host's.
    Shared,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MountSeen {
    /// Where it is mounted.
    pub mountpoint: String,
    /// Its file system's type, as `/proc/filesystems` has it; empty if unknown.
    #[serde(default)]
    pub fstype: String,
    /// What it has to do with the tree.
    pub role: MountRole,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// UDP-Lite.
    UdpLite,
}

impl Protocol {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::UdpLite => "udp-lite",
        }
    }
}

/// What a socket is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SocketSeen {
    /// An address and a port.
    Inet {
        /// The protocol.
        protocol: Protocol,
        /// The socket's own address.
        local: SocketAddr,
        /// The other end of a connection.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remote: Option<SocketAddr>,
        /// Whether an IPv6 socket leaves IPv4 alone; unset if unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        v6_only: Option<bool>,
        /// Whether it shares the port with sockets that want to (`SO_REUSEPORT`).
        #[serde(default)]
        shares: bool,
    },
    /// A name: a path, or an abstract name after `@`.
    Unix {
        /// The name.
        name: String,
    },
}

impl SocketSeen {
    /// The local address of one that has any.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Inet { local, .. } => Some(local.ip()),
            Self::Unix { .. } => None,
        }
    }
}

/// A control group a task is in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CgroupSeen {
    /// The hierarchy: its controllers separated by commas, or `name=...`; empty for version 2.
    pub hierarchy: String,
    /// The group's path in it.
    pub path: String,
}

/// Security profiles of the tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LsmSeen {
    /// The module: `apparmor` or `selinux`.
    pub module: String,
    /// The profiles or labels of confined tasks.
    pub profiles: Vec<String>,
}

/// Facts that did not fit into a message, or could not be put into words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LeftOut {
    /// What they are for.
    pub check: Check,
    /// How many.
    pub count: u64,
}

/// What is wrong with facts a peer sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactsProblem {
    /// More of something than is taken.
    #[error("it names {count} {what}, at most {limit} are taken")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many are taken.
        limit: usize,
    },
    /// A text that is too long or holds what it must not.
    #[error("{text:?} is no {what}")]
    Text {
        /// What it should be.
        what: &'static str,
        /// Its beginning.
        text: String,
    },
}

/// Most of each that is sent or taken. They bound the work a peer can ask for.
const FILES_MAX: usize = 16_384;
const PIDS_MAX: usize = 20_000;
const OTHERS_MAX: usize = 2048;
/// Most bytes of each in a message, as JSON. Together less than a control message may have.
const FILES_BYTES_MAX: usize = 480 << 10;
const MOUNTS_BYTES_MAX: usize = 96 << 10;
const SOCKETS_BYTES_MAX: usize = 96 << 10;
const CGROUPS_BYTES_MAX: usize = 32 << 10;
const PROFILES_BYTES_MAX: usize = 16 << 10;

/// Longest path the kernel takes (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;
/// Longest of every other text.
const TEXT_BYTES_MAX: usize = 512;

impl Facts {
    /// Cuts them down to what fits into a message and counts what does not.
    #[must_use]
    pub fn fit(mut self) -> Self {
        let mut left = Vec::new();
        let mut cut = |check, count: u64| left.push(LeftOut { check, count });
        cut(
            Check::Pids,
            take_fitting(&mut self.pids, PIDS_MAX, usize::MAX),
        );
        cut(
            Check::Files,
            take_fitting(&mut self.files, FILES_MAX, FILES_BYTES_MAX),
        );
        cut(
            Check::Mounts,
            take_fitting(&mut self.mounts, OTHERS_MAX, MOUNTS_BYTES_MAX),
        );
        cut(
            Check::Sockets,
            take_fitting(&mut self.sockets, OTHERS_MAX, SOCKETS_BYTES_MAX),
        );
        cut(
            Check::Cgroups,
            take_fitting(&mut self.cgroups, OTHERS_MAX, CGROUPS_BYTES_MAX),
        );
        if let Some(lsm) = &mut self.lsm {
            cut(
                Check::Lsm,
                take_fitting(&mut lsm.profiles, OTHERS_MAX, PROFILES_BYTES_MAX),
            );
        }
        for LeftOut { check, count } in left {
            self.leave_out(check, count);
        }
        self
    }

    /// Notes a feature that the restore cannot do without, by the names of [`features`](Self::features).
    pub fn require(&mut self, feature: &str) {
        if !self.features.iter().any(|known| known == feature) {
            self.features.push(feature.to_owned());
        }
    }

    /// Whether the tree has a namespace of its own of this kind.
    pub fn owns(&self, namespace: &str) -> bool {
        self.namespaces.iter().any(|own| own == namespace)
    }

    /// Leaves out what is looked for one by one and is not to be compared: it is not even looked for.
    pub(super) fn without(&self, ignore: &[Check]) -> Self {
        let mut facts = self.clone();
        for check in ignore {
            match check {
                Check::Files => facts.files.clear(),
                Check::Pids => facts.pids.clear(),
                Check::Sockets => facts.sockets.clear(),
                Check::Cgroups => facts.cgroups.clear(),
                Check::Processor => facts.processor.clear(),
                _ => {}
            }
        }
        facts
    }

    /// Counts facts that are left out.
    pub(super) fn leave_out(&mut self, check: Check, count: u64) {
        let known = self.left_out.iter_mut().find(|left| left.check == check);
        match known {
            Some(left) => left.count = left.count.saturating_add(count),
            None if count > 0 => self.left_out.push(LeftOut { check, count }),
            None => {}
        }
    }

    /// Refuses what no honest source sends, before anything is looked up by it.
    ///
    /// # Errors
    ///
    /// Says what is wrong.
    pub fn check_bounds(&self) -> Result<(), FactsProblem> {
        let counts = [
            ("files", self.files.len(), FILES_MAX),
            ("process ids", self.pids.len(), PIDS_MAX),
            ("mounts", self.mounts.len(), OTHERS_MAX),
            ("sockets", self.sockets.len(), OTHERS_MAX),
            ("control groups", self.cgroups.len(), OTHERS_MAX),
            (
                "security profiles",
                self.lsm.as_ref().map_or(0, |lsm| lsm.profiles.len()),
                OTHERS_MAX,
            ),
            ("features", self.features.len(), 64),
            ("features", self.source_features.len(), 64),
            ("namespaces", self.namespaces.len(), 64),
            ("notes on what was left out", self.left_out.len(), 64),
            (
                "bytes of a processor's description",
                self.processor.len(),
                super::processor::CPUINFO_BYTES_MAX,
            ),
        ];
        for (what, count, limit) in counts {
            if count > limit {
                return Err(FactsProblem::TooMany { what, count, limit });
            }
        }
        for file in &self.files {
            path(&file.path)?;
            text("build id", file.build_id.iter())?;
        }
        for mount in &self.mounts {
            path(&mount.mountpoint)?;
            text("file system", [&mount.fstype])?;
            if let MountRole::External(key) = &mount.role {
                within("key of a mount", key, PATH_BYTES_MAX)?;
            }
        }
        for socket in &self.sockets {
            if let SocketSeen::Unix { name } = socket {
                match name.starts_with('@') {
                    true => within("name of a socket", name, TEXT_BYTES_MAX)?,
                    false => path(name)?,
                }
            }
        }
        for group in &self.cgroups {
            text("control group hierarchy", [&group.hierarchy])?;
            path(&group.path)?;
        }
        if let Some(lsm) = &self.lsm {
            text("security module", [&lsm.module])?;
            for profile in &lsm.profiles {
                within("security profile", profile, PATH_BYTES_MAX)?;
            }
        }
        text("feature", self.features.iter().chain(&self.source_features))?;
        text("namespace", &self.namespaces)?;
        let machine = [&self.criu, &self.architecture, &self.kernel];
        text("version", machine.into_iter().flatten())
    }
}

fn take_fitting<T: Serialize>(items: &mut Vec<T>, most: usize, bytes_max: usize) -> u64 {
    let over = items.len().saturating_sub(most);
    items.truncate(most);
    let (fits, left) = fitting(std::mem::take(items), bytes_max);
    *items = fits;
    left + over as u64
}

fn text<'a>(
    what: &'static str,
    texts: impl IntoIterator<Item = &'a String>,
) -> Result<(), FactsProblem> {
    texts
        .into_iter()
        .try_for_each(|text| within(what, text, TEXT_BYTES_MAX))
}

/// An absolute path that leads nowhere but down.
fn path(path: &str) -> Result<(), FactsProblem> {
    if !path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(problem("absolute path without `..`", path));
    }
    within("path", path, PATH_BYTES_MAX)
}

fn within(what: &'static str, text: &str, bytes_max: usize) -> Result<(), FactsProblem> {
    if text.len() > bytes_max || text.contains('\0') {
        return Err(problem(what, text));
    }
    Ok(())
}

fn problem(what: &'static str, text: &str) -> FactsProblem {
    FactsProblem::Text {
        what,
        text: text.chars().take(100).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: impl Into<String>) -> FileSeen {
        FileSeen {
            path: path.into(),
            ..FileSeen::default()
        }
    }

    #[test]
    fn the_largest_facts_fit_into_a_message_and_say_what_did_not() {
        let socket = || SocketSeen::Unix {
            name: format!("@{}", "\u{1}".repeat(500)),
        };
        let mount = || MountSeen {
            mountpoint: format!("/{}", "\u{1}".repeat(4000)),
            fstype: "ext4".into(),
            role: MountRole::Own,
        };
        let group = || CgroupSeen {
            hierarchy: "cpu".into(),
            path: format!("/{}", "\u{1}".repeat(4000)),
        };
        let facts = Facts {
            pids: vec![4_194_303; 70_000],
            files: vec![file(format!("/{}", "\u{1}".repeat(4000))); 1000],
            sockets: std::iter::repeat_with(socket).take(3000).collect(),
            mounts: std::iter::repeat_with(mount).take(3000).collect(),
            cgroups: std::iter::repeat_with(group).take(3000).collect(),
            lsm: Some(LsmSeen {
                module: "selinux".into(),
                profiles: vec!["\u{1}".repeat(4000); 3000],
            }),
            processor: vec![255; super::super::processor::CPUINFO_BYTES_MAX],
            ..Facts::default()
        };
        let fit = facts.fit();
        let len = serde_json::to_vec(&fit).unwrap().len();
        assert!(len < crate::frame::CONTROL_BYTES_MAX - (16 << 10), "{len}");
        let left = |check| {
            let left = fit.left_out.iter().find(|left| left.check == check);
            left.map_or(0, |left| left.count)
        };
        assert_eq!(left(Check::Pids), 50_000);
        assert_eq!(left(Check::Files), 1000 - fit.files.len() as u64);
        assert_eq!(left(Check::Sockets), 3000 - fit.sockets.len() as u64);
        assert!(!fit.files.is_empty() && !fit.sockets.is_empty() && !fit.mounts.is_empty());
        assert_eq!(fit.check_bounds(), Ok(()));
        assert_eq!(Facts::default().fit(), Facts::default());
    }

    #[test]
    fn what_no_honest_source_sends_is_refused() {
        let refused = |facts: Facts| facts.check_bounds().unwrap_err();
        for bad in [
            "",
            "etc/passwd",
            "../etc/shadow",
            "/a/../../etc",
            "/..",
            "/a\0b",
            &format!("/{}", "x".repeat(PATH_BYTES_MAX)),
        ] {
            let problem = refused(Facts {
                files: vec![file("/ok"), file(bad)],
                ..Facts::default()
            });
            assert!(
                matches!(problem, FactsProblem::Text { .. }),
                "{bad}: {problem}"
            );
            assert!(problem.to_string().len() < 400);
        }
        assert_eq!(
            refused(Facts {
                files: vec![file("/x"); FILES_MAX + 1],
                ..Facts::default()
            }),
            FactsProblem::TooMany {
                what: "files",
                count: FILES_MAX + 1,
                limit: FILES_MAX
            }
        );
        refused(Facts {
            pids: vec![1; PIDS_MAX + 1],
            ..Facts::default()
        });
        refused(Facts {
            processor: vec![0; 1 << 20],
            ..Facts::default()
        });
        refused(Facts {
            namespaces: vec!["x".repeat(TEXT_BYTES_MAX + 1)],
            ..Facts::default()
        });
        refused(Facts {
            sockets: vec![SocketSeen::Unix {
                name: "/run/../x".into(),
            }],
            ..Facts::default()
        });
        refused(Facts {
            cgroups: vec![CgroupSeen {
                hierarchy: String::new(),
                path: "/../../x".into(),
            }],
            ..Facts::default()
        });
    }

    #[test]
    fn kinds_of_files_are_told_from_their_mode() {
        for (mode, kind) in [
            (0o100_644, FileKind::Regular),
            (0o040_755, FileKind::Directory),
            (0o020_666, FileKind::CharacterDevice),
            (0o060_660, FileKind::BlockDevice),
            (0o010_600, FileKind::Pipe),
            (0o140_755, FileKind::Other),
        ] {
            assert_eq!(FileKind::of_mode(mode), kind);
        }
    }
}
