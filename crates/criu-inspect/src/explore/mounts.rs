//! Mounts.

use std::collections::{BTreeMap, HashSet};

use bstr::BString;
use criu_image::ImageKind;
use criu_image::message::{Fstype, MntEntry};
use criu_image::wire::slot::OpenEnum;
use serde::Serialize;

use super::{Explorer, Partial};

/// The mounts of a mount namespace.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct MountNamespace {
    /// Id of the namespace in the images.
    pub namespace: u64,
    /// Its mounts, each behind the one that it is mounted on.
    pub mounts: Vec<Mount>,
}

/// A mount.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Mount {
    /// Id.
    pub id: u32,
    /// Id of the mount that it is mounted on.
    pub parent: u32,
    /// How many mounts lie between it and the root.
    #[serde(skip)]
    pub depth: usize,
    /// Where it is mounted.
    #[serde(serialize_with = "super::text")]
    pub target: BString,
    /// What is mounted.
    #[serde(serialize_with = "super::text")]
    pub source: BString,
    /// The directory of the file system that is mounted, unless it is the topmost.
    #[serde(
        serialize_with = "super::text",
        skip_serializing_if = "super::is_empty"
    )]
    pub root: BString,
    /// Type of file system.
    #[serde(serialize_with = "super::text")]
    pub fstype: BString,
    /// Options, separated by commas.
    #[serde(serialize_with = "super::text")]
    pub options: BString,
    /// Peer group that it shares mounts with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared: Option<u32>,
    /// Peer group that it gets mounts from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master: Option<u32>,
    /// The key under which it is to be given on restore, as it was left out of the dump.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "super::optional_text"
    )]
    pub external: Option<BString>,
}

impl Explorer {
    /// The mounts of each mount namespace that was dumped.
    pub fn mounts(&mut self) -> Partial<Vec<MountNamespace>> {
        let mut namespaces = self.namespace_images(ImageKind::Mnts);
        if self.only.is_some() {
            let mut wanted = HashSet::new();
            for pid in self.living() {
                let ids = self.wanted(self.checkpoint.ids(pid));
                wanted.extend(ids.and_then(|ids| ids.mnt_ns_id).map(u64::from));
            }
            namespaces.retain(|namespace| wanted.contains(namespace));
        }
        let mut all = Vec::new();
        for namespace in namespaces {
            let mounts = tree(self.entries(ImageKind::Mnts, namespace));
            all.push(MountNamespace { namespace, mounts });
        }
        self.answer(all)
    }

    /// The ids of the namespaces that have an image of a kind.
    pub(super) fn namespace_images(&mut self, kind: ImageKind) -> Vec<u64> {
        self.wanted(self.checkpoint.ids_of(kind))
            .unwrap_or_default()
    }
}

/// Sorts mounts behind those that they are mounted on; each comes once, also if they are mounted
/// in a circle.
fn tree(entries: Vec<MntEntry>) -> Vec<Mount> {
    let ids: HashSet<u32> = entries.iter().map(|entry| entry.mnt_id).collect();
    let mut children = BTreeMap::<u32, Vec<usize>>::new();
    let mut roots = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        if entry.parent_mnt_id == entry.mnt_id || !ids.contains(&entry.parent_mnt_id) {
            roots.push(index);
        } else {
            children.entry(entry.parent_mnt_id).or_default().push(index);
        }
    }
    // CRIU writes the newest mount first.
    for siblings in children.values_mut() {
        siblings.sort_by_key(|&index| (&entries[index].mountpoint, entries[index].mnt_id));
    }
    let mut met = HashSet::new();
    let mut mounts = Vec::with_capacity(entries.len());
    for start in roots.into_iter().chain(0..entries.len()) {
        let mut open = vec![(0, start)];
        while let Some((depth, index)) = open.pop() {
            if !met.insert(index) {
                continue;
            }
            let entry = &entries[index];
            mounts.push(Mount::new(entry, depth));
            let below = children.get(&entry.mnt_id).into_iter().flatten();
            open.extend(below.rev().map(|&index| (depth + 1, index)));
        }
    }
    mounts
}

impl Mount {
    fn new(entry: &MntEntry, depth: usize) -> Self {
        let group = |id: Option<u32>| id.filter(|&id| id != 0);
        let external = match (entry.ext_mount, &entry.ext_key) {
            (_, Some(key)) => Some(key.clone()),
            (Some(true), None) => Some(entry.source.clone()),
            _ => None,
        };
        Self {
            id: entry.mnt_id,
            parent: entry.parent_mnt_id,
            depth,
            target: entry.mountpoint.clone(),
            source: entry.source.clone(),
            root: if entry.root == "/" {
                BString::default()
            } else {
                entry.root.clone()
            },
            fstype: fstype_name(entry),
            options: options(entry),
            shared: group(entry.shared_id),
            master: group(entry.master_id),
            external,
        }
    }
}

/// The type's name; those that CRIU does not mount itself are not told from each other.
fn fstype_name(entry: &MntEntry) -> BString {
    if let Some(name) = entry.fsname.as_ref().filter(|name| !name.is_empty()) {
        return name.clone();
    }
    let number = entry.fstype.cast_signed();
    match Fstype::DESCRIPTOR.name_of(number) {
        Some("UNSUPPORTED") => "unknown".into(),
        Some(name) => name.to_ascii_lowercase().into(),
        None => entry.fstype.to_string().into(),
    }
}

fn options(entry: &MntEntry) -> BString {
    let superblock = entry.sb_flags.unwrap_or(0);
    let flags = entry.flags | superblock;
    let mut text = BString::from(if flags & 1 != 0 { "ro" } else { "rw" });
    for (bit, name) in MOUNT_FLAGS {
        if flags & bit != 0 {
            text.push(b',');
            text.extend_from_slice(name.as_bytes());
        }
    }
    if !entry.options.is_empty() {
        text.push(b',');
        text.extend_from_slice(&entry.options);
    }
    text
}

/// `MS_*` flags with their names in `/proc/mounts`, from the kernel's `linux/mount.h`.
const MOUNT_FLAGS: [(u32, &str); 10] = [
    (1 << 1, "nosuid"),
    (1 << 2, "nodev"),
    (1 << 3, "noexec"),
    (1 << 4, "sync"),
    (1 << 6, "mand"),
    (1 << 7, "dirsync"),
    (1 << 10, "noatime"),
    (1 << 11, "nodiratime"),
    (1 << 21, "relatime"),
    (1 << 25, "lazytime"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(mnt_id: u32, parent_mnt_id: u32, mountpoint: &str) -> MntEntry {
        MntEntry {
            mnt_id,
            parent_mnt_id,
            mountpoint: mountpoint.into(),
            root: "/".into(),
            flags: 0x20_000e,
            ..MntEntry::default()
        }
    }

    #[test]
    fn mounts_stand_behind_what_they_are_mounted_on() {
        let mounts = tree(vec![
            mount(4, 2, "/proc/sys"),
            mount(3, 1, "/tmp"),
            mount(2, 1, "/proc"),
            mount(1, 99, "/"),
        ]);
        let order: Vec<_> = mounts.iter().map(|mount| (mount.id, mount.depth)).collect();
        assert_eq!(order, [(1, 0), (2, 1), (4, 2), (3, 1)]);
        assert_eq!(mounts[0].options, "rw,nosuid,nodev,noexec,relatime");
    }

    #[test]
    fn mounts_in_a_circle_come_once() {
        let mounts = tree(vec![mount(1, 2, "/"), mount(2, 1, "/a"), mount(3, 3, "/b")]);
        assert_eq!(mounts.len(), 3);
    }
}
