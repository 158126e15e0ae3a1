//! What a tree in images needs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;

use bstr::{BString, ByteSlice};
use criu::Feature;
use criu_image::checkpoint::present;
use criu_image::memory::{Memory, MemoryOptions};
use criu_image::message::{
    CoreEntry, CoreEntryMarch, CredsEntry, FdTypes, FileEntry, Fstype, InetSkEntry, Lsmtype,
    MntEntry, RegFileEntry, RemapFilePathEntry, SeccompMode, TaskKobjIdsEntry, TtyInfoEntry,
    UnixSkEntry,
};
use criu_image::wire::slot::OpenEnum;
use criu_image::{ByteOrder, Checkpoint, Entry, ImageKind, Result};

use super::build_id::hexadecimal;
use super::check::Check;
use super::facts::{
    CgroupSeen, Facts, FileKind, FileSeen, LsmSeen, MountRole, MountSeen, Protocol, SessionSeen,
    SocketSeen,
};
use super::processor::{CPUINFO, CPUINFO_BYTES_MAX};

impl Facts {
    /// Finds out what the tree in a checkpoint needs.
    ///
    /// # Errors
    ///
    /// When an image that every checkpoint has is missing, or one is damaged.
    pub fn of_images(checkpoint: &Checkpoint) -> Result<Self> {
        let inventory = checkpoint.inventory()?.into_value();
        let mut facts = Self {
            image_version: Some(inventory.img_version),
            made_s: made(checkpoint),
            ..Self::default()
        };
        if inventory.compress.is_some_and(|mode| mode != 0) {
            facts.require(Feature::MemoryCompression.name());
        }
        let tasks = checkpoint.tasks()?;
        let host = inventory.root_ids.as_deref();
        let root_ids = match tasks.root() {
            Some(root) => present(checkpoint.ids(root.pid))?.map(Entry::into_value),
            None => None,
        };
        facts.take_own_namespaces(host, root_ids.as_ref());
        let mut confined = BTreeSet::new();
        let members: BTreeSet<u32> = tasks.iter().map(|task| task.pid).collect();
        for task in tasks.iter() {
            facts.take_id(task.pid);
            let pid = number(task.pid);
            let leader = number(task.sid);
            if !facts.owns("pid") && !members.contains(&task.sid) && leader > 0 {
                facts.foreign_session.get_or_insert(SessionSeen {
                    pid,
                    leader,
                    // It would not have been dumped otherwise.
                    accepted: true,
                });
            }
            for thread in task.threads.iter().chain([&task.pid]) {
                // Dead tasks have threads without images, whose ids mean nothing.
                if let Some(core) = present(checkpoint.core(*thread))? {
                    facts.take_id(*thread);
                    facts.take_core(core.into_value(), &mut confined);
                }
            }
            if let Some(creds) =
                present(checkpoint.one::<CredsEntry>(ImageKind::Creds, task.pid.into()))?
            {
                facts.take_creds(&creds, &mut confined);
            }
        }
        // A task's id is also that of its first thread.
        facts.pids.sort_unstable();
        facts.pids.dedup();
        let module = match inventory.lsmtype {
            Some(Lsmtype::Apparmor) => Some("apparmor"),
            Some(Lsmtype::Selinux) => Some("selinux"),
            _ => None,
        };
        if let Some(module) = module.filter(|_| !confined.is_empty()) {
            facts.lsm = Some(LsmSeen {
                module: module.to_owned(),
                profiles: confined.into_iter().collect(),
            });
        }
        let terminals = present(checkpoint.many::<TtyInfoEntry>(ImageKind::TtyInfo, 0))?;
        facts.has_terminal = terminals.is_some_and(|all| all.iter().any(|tty| tty.sid != 0));
        let mounts = match root_ids.as_ref().and_then(|ids| ids.mnt_ns_id) {
            Some(id) if facts.owns("mnt") => present(checkpoint.mounts(id))?.unwrap_or_default(),
            _ => Vec::new(),
        };
        facts.take_files(checkpoint, &mounts)?;
        let close = inventory.tcp_close.unwrap_or(false);
        facts.take_bound(checkpoint, host.and_then(|ids| ids.net_ns_id), close)?;
        facts.mounts = mounts
            .iter()
            .filter_map(|mount| mount_seen(mount))
            .collect();
        facts.take_groups(checkpoint)?;
        facts.take_memory(checkpoint, tasks.root().map(|root| root.pid))?;
        if let Some(opened) = present(checkpoint.source().open(CPUINFO))? {
            let mut bytes = Vec::new();
            let limit = CPUINFO_BYTES_MAX as u64 + 1;
            let read = std::io::Read::read_to_end(
                &mut std::io::Read::take(opened.bytes, limit),
                &mut bytes,
            );
            if read.is_ok() && bytes.len() <= CPUINFO_BYTES_MAX {
                facts.processor = bytes;
            }
        }
        Ok(facts)
    }

    fn take_own_namespaces(
        &mut self,
        host: Option<&TaskKobjIdsEntry>,
        root: Option<&TaskKobjIdsEntry>,
    ) {
        let (Some(host), Some(root)) = (host, root) else {
            return;
        };
        for (kind, id_of) in NAMESPACES {
            let (theirs, ours) = (id_of(root), id_of(host));
            if theirs.is_some() && ours.is_some() && theirs != ours {
                self.namespaces.push(kind.to_owned());
            }
        }
    }

    fn take_id(&mut self, id: u32) {
        let id = number(id);
        self.largest_pid = self.largest_pid.max(Some(id));
        if !self.owns("pid") {
            self.pids.push(id);
        }
    }

    fn take_core(&mut self, core: CoreEntry, confined: &mut BTreeSet<String>) {
        let machine = match core.mtype {
            CoreEntryMarch::X86_64 => Some("x86_64"),
            CoreEntryMarch::Arm => Some("arm"),
            CoreEntryMarch::Aarch64 => Some("aarch64"),
            CoreEntryMarch::Ppc64 => Some("ppc64"),
            CoreEntryMarch::S390 => Some("s390"),
            CoreEntryMarch::Mips => Some("mips"),
            CoreEntryMarch::Loongarch64 => Some("loongarch64"),
            CoreEntryMarch::Riscv64 => Some("riscv64"),
            _ => None,
        };
        if let Some(machine) = machine {
            self.architecture = Some(machine.to_owned());
        }
        let Some(thread) = core.thread_core else {
            return;
        };
        if thread.seccomp_mode == Some(SeccompMode::Filter) {
            self.require("seccomp");
        }
        if thread
            .rseq_entry
            .is_some_and(|rseq| rseq.rseq_abi_pointer != 0)
        {
            self.require("rseq");
        }
        if let Some(creds) = thread.creds {
            self.take_creds(&creds, confined);
        }
    }

    fn take_creds(&mut self, creds: &CredsEntry, confined: &mut BTreeSet<String>) {
        if !self.owns("user") {
            let [low, high] = [0, 1].map(|at| creds.cap_prm.get(at).copied().unwrap_or(0));
            self.capabilities |= u64::from(low) | u64::from(high) << 32;
        }
        if let Some(profile) = &creds.lsm_profile
            && !profile.is_empty()
            && profile != "unconfined"
        {
            confined.insert(profile.to_str_lossy().into_owned());
        }
    }

    fn take_files(&mut self, checkpoint: &Checkpoint, mounts: &[Entry<MntEntry>]) -> Result<()> {
        let order = byte_order(checkpoint);
        // Files without a name, whose content is in the images or behind another name.
        let remaps = present(checkpoint.many::<RemapFilePathEntry>(ImageKind::RemapFpath, 0))?;
        let remaps = remaps.unwrap_or_default();
        let mut remapped: BTreeSet<u32> = remaps.iter().map(|remap| remap.orig_id).collect();
        let all = checkpoint.files()?;
        // Terminals are made anew.
        remapped.extend(all.iter().filter_map(|file| file.tty.as_ref()?.regf_id));
        let taken_along: BTreeSet<u32> = mounts
            .iter()
            .filter(|mount| !is_root(mount) && external_key(mount).is_none())
            .map(|mount| mount.mnt_id)
            .collect();
        let mut files = BTreeMap::new();
        for entry in all.iter() {
            if entry.r#type == FdTypes::Pidfd {
                self.require("pidfd");
            }
            let Some(file) = &entry.reg else { continue };
            if remapped.contains(&file.id) || file.ext == Some(true) || !is_named(&file.name) {
                continue;
            }
            // Other mounts of its own mount namespace come along, or are found again below the root.
            let mount = file.mnt_id.and_then(|id| u32::try_from(id).ok());
            if mount.is_some_and(|id| taken_along.contains(&id)) {
                continue;
            }
            match file.name.to_str() {
                Ok(path) => {
                    files.insert(path.to_owned(), file_seen(path, file, order));
                }
                Err(_) => self.leave_out(Check::Files, 1),
            }
        }
        self.files = files.into_values().collect();
        Ok(())
    }

    fn take_bound(
        &mut self,
        checkpoint: &Checkpoint,
        host: Option<u32>,
        close: bool,
    ) -> Result<()> {
        let order = byte_order(checkpoint);
        let of_host = |id: Option<u32>| id.is_none() || host.is_none() || id == host;
        let mut seen_before = HashSet::new();
        for FileEntry { isk, usk, .. } in checkpoint.files()?.iter() {
            let seen = match (isk, usk) {
                (Some(inet), _) if !self.owns("net") && of_host(inet.ns_id) => {
                    inet_seen(inet, order, close)
                }
                (_, Some(unix)) if of_host(unix.ns_id) => unix_seen(unix).filter(|socket| {
                    let SocketSeen::Unix { name } = socket else {
                        return true;
                    };
                    match name.starts_with('@') {
                        true => !self.owns("net"),
                        false => !self.owns("mnt"),
                    }
                }),
                _ => None,
            };
            if let Some(seen) = seen.filter(|seen| seen_before.insert(seen.clone())) {
                self.sockets.push(seen);
            }
        }
        Ok(())
    }

    fn take_groups(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let Some(groups) = present(checkpoint.cgroups())? else {
            return Ok(());
        };
        // Without controllers the tasks go where the restorer is.
        if groups.controllers.is_empty() {
            return Ok(());
        }
        let mut all = BTreeSet::new();
        for member in groups.sets.iter().flat_map(|set| &set.ctls) {
            all.insert(CgroupSeen {
                hierarchy: member.name.to_str_lossy().into_owned(),
                path: member.path.to_str_lossy().into_owned(),
            });
        }
        self.cgroups = all.into_iter().collect();
        Ok(())
    }

    fn take_memory(&mut self, checkpoint: &Checkpoint, root: Option<u32>) -> Result<()> {
        for part in checkpoint.chain()? {
            for image in part.images()? {
                if image.kind == ImageKind::Pages {
                    let len = part.source().open(&image.name)?.len.unwrap_or(0);
                    self.memory_bytes = self.memory_bytes.saturating_add(len);
                }
            }
        }
        // Without pages there is nothing to tell their size by.
        if let Some(root) = root.filter(|_| self.memory_bytes > 0) {
            let memory = Memory::open(checkpoint, MemoryOptions::default())?;
            let space = present(memory.task(root))?;
            self.page_size_bytes = space.map(|space| space.page_size().bytes());
        }
        Ok(())
    }
}

type IdOf = fn(&TaskKobjIdsEntry) -> Option<u32>;

/// Kinds of namespaces by their names in `/proc/PID/ns`.
const NAMESPACES: [(&str, IdOf); 8] = [
    ("cgroup", |ids| ids.cgroup_ns_id),
    ("ipc", |ids| ids.ipc_ns_id),
    ("mnt", |ids| ids.mnt_ns_id),
    ("net", |ids| ids.net_ns_id),
    ("pid", |ids| ids.pid_ns_id),
    ("time", |ids| ids.time_ns_id),
    ("user", |ids| ids.user_ns_id),
    ("uts", |ids| ids.uts_ns_id),
];

/// When the images were written, if they are in files.
fn made(checkpoint: &Checkpoint) -> Option<i64> {
    let path = checkpoint.source().location().join("inventory.img");
    Some(std::fs::metadata(path).ok()?.mtime())
}

fn number(id: u32) -> i32 {
    i32::try_from(id).unwrap_or(i32::MAX)
}

fn byte_order(checkpoint: &Checkpoint) -> ByteOrder {
    let image = checkpoint.image(ImageKind::Files, 0);
    image.map_or(ByteOrder::Little, |image| image.byte_order())
}

fn is_named(name: &[u8]) -> bool {
    name.starts_with(b"/")
        && !name.ends_with(b" (deleted)")
        && !name.starts_with(b"/proc/")
        && !name.starts_with(b"/sys/")
}

fn is_root(mount: &MntEntry) -> bool {
    mount.mountpoint == "/" || mount.mountpoint == "./" || mount.mountpoint == "."
}

fn file_seen(path: &str, file: &RegFileEntry, order: ByteOrder) -> FileSeen {
    let is_file = file
        .mode
        .is_none_or(|mode| FileKind::of_mode(mode) == FileKind::Regular);
    let id: Vec<u8> = file
        .build_id
        .iter()
        .flat_map(|word| order.u32_bytes(*word))
        .collect();
    FileSeen {
        path: path.to_owned(),
        mode: file.mode,
        len_bytes: file.size.filter(|_| is_file),
        build_id: (!id.is_empty()).then(|| hexadecimal(&id)),
        modified_s: None,
    }
}

fn inet_seen(inet: &InetSkEntry, order: ByteOrder, close: bool) -> Option<SocketSeen> {
    let protocol = match inet.proto {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        136 => Protocol::UdpLite,
        _ => return None,
    };
    let address = |words: &[u32], port: u32| {
        let port = u16::try_from(port).ok().filter(|port| *port != 0)?;
        let bytes: Vec<u8> = words
            .iter()
            .flat_map(|word| order.u32_bytes(*word))
            .collect();
        let address = match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
            16 => <[u8; 16]>::try_from(bytes).ok()?.into(),
            _ => return None,
        };
        Some(std::net::SocketAddr::new(address, port))
    };
    let remote = address(&inet.dst_addr, inet.dst_port);
    if protocol == Protocol::Tcp && remote.is_some() && close {
        return None;
    }
    Some(SocketSeen::Inet {
        protocol,
        local: address(&inet.src_addr, inet.src_port)?,
        remote,
        v6_only: inet.v6only,
        shares: inet.opts.so_reuseport == Some(true),
    })
}

/// Flag of a socket that is outside and was not dumped (`USK_EXTERN`).
const UNIX_EXTERN: u32 = 1;

fn unix_seen(unix: &UnixSkEntry) -> Option<SocketSeen> {
    if unix.uflags & UNIX_EXTERN != 0 || unix.deleted == Some(true) {
        return None;
    }
    let name = match unix.name.as_slice() {
        [] => return None,
        [0, name @ ..] => format!("@{}", name.to_str_lossy()),
        name => {
            let name = name.strip_suffix(b"\0").unwrap_or(name).to_str_lossy();
            match &unix.name_dir {
                Some(directory) if !name.starts_with('/') => {
                    format!("{}/{name}", directory.to_str_lossy())
                }
                _ => name.into_owned(),
            }
        }
    };
    // A relative path is found by nobody else.
    (name.starts_with('@') || name.starts_with('/')).then_some(SocketSeen::Unix { name })
}

/// The key a mount from outside has to be given by.
fn external_key(mount: &MntEntry) -> Option<&BString> {
    match (&mount.ext_key, mount.ext_mount) {
        (Some(key), _) if !key.is_empty() => Some(key),
        // The older form keeps the key in place of the root.
        (_, Some(true)) => Some(&mount.root),
        _ => None,
    }
}

fn mount_seen(mount: &MntEntry) -> Option<MountSeen> {
    let key = external_key(mount);
    // The root is given to the restore.
    if key.is_none() && is_root(mount) {
        return None;
    }
    let kind = Fstype::from_number(i32::try_from(mount.fstype).unwrap_or(-1));
    let fstype = match (&mount.fsname, kind) {
        (Some(name), _) if !name.is_empty() => name.to_str_lossy().into_owned(),
        (_, Fstype::Auto | Fstype::Unsupported | Fstype::Unrecognized(_)) => String::new(),
        (_, Fstype::Overlayfs) => "overlay".to_owned(),
        (_, kind) => Fstype::DESCRIPTOR
            .name_of(kind.number())
            .unwrap_or_default()
            .to_ascii_lowercase(),
    };
    let mountpoint = mount.mountpoint.to_str_lossy();
    Some(MountSeen {
        mountpoint: format!("/{}", mountpoint.trim_start_matches(['.', '/'])),
        fstype,
        role: match key {
            Some(key) => MountRole::External(key.to_str_lossy().into_owned()),
            None => MountRole::Own,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn fixture(name: &str) -> Facts {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/4.3");
        Facts::of_images(&Checkpoint::open(root.join(name)).unwrap()).unwrap()
    }

    #[test]
    fn a_container_brings_all_but_its_files() {
        let facts = fixture("container");
        assert_eq!(facts.namespaces, ["ipc", "mnt", "net", "pid", "uts"]);
        assert_eq!(facts.architecture.as_deref(), Some("x86_64"));
        assert_eq!(
            (facts.image_version, facts.page_size_bytes),
            (Some(2), Some(4096))
        );
        assert!(facts.pids.is_empty() && facts.sockets.is_empty() && facts.lsm.is_none());
        let find = |path: &str| facts.files.iter().find(|file| file.path == path);
        let program = find("/target").unwrap();
        assert_eq!(program.len_bytes, Some(6_244_616));
        assert_eq!(program.mode, Some(33261));
        // 342983408 in little endian.
        assert!(program.build_id.as_ref().unwrap().starts_with("f0827114"));
        assert!(
            !facts
                .files
                .iter()
                .any(|file| file.path.starts_with("/tmp/"))
        );
        let types: Vec<&str> = facts
            .mounts
            .iter()
            .map(|mount| mount.fstype.as_str())
            .collect();
        assert_eq!(types, ["tmpfs", "tmpfs", "proc"]);
        assert!(facts.memory_bytes > 1 << 16);
        assert_eq!(facts.check_bounds(), Ok(()));
    }

    #[test]
    fn what_fixtures_hold_is_found() {
        assert_eq!(fixture("plain-compressed").image_version, Some(3));
        assert!(
            fixture("plain-compressed")
                .features
                .contains(&"mem_compression".to_owned())
        );
        assert!(fixture("pidfd").features.contains(&"pidfd".to_owned()));
        assert!(
            fixture("time-namespace")
                .namespaces
                .contains(&"time".to_owned())
        );
        let groups = fixture("cgroup").cgroups;
        let unified = CgroupSeen {
            hierarchy: String::new(),
            path: "/criu-fixture".into(),
        };
        assert!(groups.contains(&unified), "{groups:?}");
        // A task that had ended has a thread with an id that means nothing.
        let tree = fixture("tree");
        assert_eq!(tree.pids, [29906, 29907, 29908, 29909, 29910, 29911]);
        assert_eq!(tree.largest_pid, Some(29911));
        let terminal = fixture("terminal");
        let named = |path: &str| {
            terminal
                .files
                .iter()
                .any(|file| file.path.starts_with(path))
        };
        assert!(
            named("/tmp/") && !named("/dev/pts/"),
            "{:?}",
            terminal.files
        );
    }

    #[test]
    fn damaged_images_are_errors_or_other_facts_and_no_panic() {
        let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/4.3");
        let mut state = 7_u64;
        let mut random = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below
        };
        for set in ["tree", "unix", "cgroup", "container"] {
            let copy = criu_testkit::TempDir::new();
            let mut images = Vec::new();
            for entry in std::fs::read_dir(fixtures.join(set)).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let bytes = std::fs::read(fixtures.join(set).join(&name)).unwrap();
                std::fs::write(copy.join(&name), &bytes).unwrap();
                if name.ends_with(".img") && !name.starts_with("pages-") && bytes.len() > 8 {
                    images.push((name, bytes));
                }
            }
            let read = || Facts::of_images(&Checkpoint::open(copy.path()).unwrap());
            read().unwrap();
            for _ in 0..150 {
                let (name, sound) = &images[random(images.len())];
                let mut damaged = sound.clone();
                for _ in 0..=random(3) {
                    let at = random(damaged.len());
                    match random(3) {
                        0 => damaged.truncate(at.max(1)),
                        1 => damaged[at] ^= 1 << random(8),
                        _ => damaged.insert(at, u8::try_from(random(256)).unwrap()),
                    }
                }
                std::fs::write(copy.join(name), &damaged).unwrap();
                if let Ok(facts) = read() {
                    let bytes = serde_json::to_vec(&facts.fit()).unwrap();
                    assert!(bytes.len() < crate::frame::CONTROL_BYTES_MAX);
                }
                std::fs::write(copy.join(name), sound).unwrap();
            }
        }
    }
}
