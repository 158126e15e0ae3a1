//! What this host has of what a tree needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use criu::request::CgroupMode;
use criu::{Criu, External, Restore};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::build_id::build_id;
use super::facts::{CgroupSeen, Facts, FileKind, FileSeen, MountRole, SocketSeen};
use super::mount_table::{MountLine, below, mount_lines};
use super::processor;
use super::running::cgroup_lines;
use super::socket_table::bound_sockets;
use crate::error::Result;
use crate::host;
use crate::message::Host;
use crate::tree::exists;

/// A file that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileHere {
    /// It is not there.
    Missing,
    /// It cannot be looked at.
    Failed(String),
    /// It is there. All that can be known is set.
    Found(FileSeen),
}

/// A control group that was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CgroupHere {
    /// Whether its hierarchy is there.
    pub hierarchy: bool,
    /// Whether the hierarchy's controllers are there in version 2.
    pub in_version_2: bool,
    /// Whether the group is there; unset if that cannot be seen.
    pub group: Option<bool>,
}

/// A socket here that is bound to what the tree wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) socket: SocketSeen,
    /// Who has it, if that can be seen.
    pub(super) owner: Option<String>,
}

/// What this host has of what [`Facts`] name, and how a tree would be restored here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Here {
    pub(super) criu: String,
    pub(super) architecture: String,
    pub(super) kernel: String,
    pub(super) page_size_bytes: u64,
    /// Features as in [`Facts::features`].
    pub(super) features: BTreeSet<String>,
    pub(super) namespaces: BTreeSet<String>,
    pub(super) filesystems: BTreeSet<String>,
    /// What CRIU says this processor lacks.
    pub(super) processor_lacks: Option<String>,
    /// Ids in use, and by which program.
    pub(super) pids: BTreeMap<i32, String>,
    pub(super) pid_max: Option<i32>,
    pub(super) files: BTreeMap<String, FileHere>,
    pub(super) skip_permissions: bool,
    pub(super) mount_points: BTreeMap<String, String>,
    /// Keys of external mounts that the restore is given, with the path and whether that is there.
    pub(super) externals: BTreeMap<String, (PathBuf, bool)>,
    pub(super) automatic_externals: bool,
    pub(super) skipped_mounts: BTreeSet<String>,
    pub(super) taken: Vec<Taken>,
    /// Addresses that are none of this host's.
    pub(super) foreign_addresses: BTreeSet<IpAddr>,
    /// Paths of sockets: whether the directory is there, and whether something else is in the place.
    pub(super) socket_paths: BTreeMap<String, SocketPath>,
    pub(super) cgroups: BTreeMap<CgroupSeen, CgroupHere>,
    pub(super) cgroups_ignored: bool,
    /// The restore puts groups in other places.
    pub(super) cgroups_moved: bool,
    pub(super) security_module: Option<String>,
    /// Profiles loaded here; unset if that cannot be seen.
    pub(super) profiles: Option<BTreeSet<String>>,
    pub(super) replaces_profile: bool,
    pub(super) capabilities: u64,
    pub(super) room_bytes: Option<u64>,
    pub(super) available_bytes: Option<u64>,
}

/// What is where a socket wants its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct SocketPath {
    pub(super) directory: bool,
    pub(super) occupied: bool,
}

impl Here {
    /// Looks for all that `facts` name. `restore` is how the tree would be restored, `work_dir` where CRIU
    /// may compare processors, `room_bytes` the room there is for memory and images.
    ///
    /// # Errors
    ///
    /// When CRIU cannot be reached.
    pub fn look(
        facts: &Facts,
        criu: &Criu,
        restore: &Restore,
        work_dir: &Path,
        room_bytes: Option<u64>,
    ) -> Result<Self> {
        let host = host::here(criu)?;
        Self::look_as(&host, facts, criu, restore, work_dir, room_bytes)
    }

    /// The same, when it is known how this host presents itself.
    pub(super) fn look_as(
        host: &Host,
        facts: &Facts,
        criu: &Criu,
        restore: &Restore,
        work_dir: &Path,
        room_bytes: Option<u64>,
    ) -> Result<Self> {
        let mut here = Self {
            criu: host.criu.clone(),
            architecture: host.architecture.clone(),
            kernel: host.kernel.clone(),
            page_size_bytes: host.page_size_bytes,
            skip_permissions: restore.skip_file_rwx_check,
            replaces_profile: restore.lsm_profile.is_some(),
            room_bytes,
            ..Self::default()
        };
        if !facts.processor.is_empty() {
            let settings = &restore.settings;
            here.processor_lacks = processor::lacking(criu, &facts.processor, settings, work_dir)?;
        }
        here.look_at_kernel();
        if !(facts.features.is_empty() && facts.source_features.is_empty())
            && let Ok(features) = criu.features()
        {
            here.features
                .extend(features.iter().map(|feature| feature.name().to_owned()));
        }
        here.look_at_pids(&facts.pids);
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mount_lines(&text);
        here.look_at_mounts(facts, restore, &mounts);
        here.look_at_files(facts, restore.root.as_deref().unwrap_or(Path::new("/")));
        here.look_at_sockets(&facts.sockets);
        here.look_at_cgroups(&facts.cgroups, restore, &mounts);
        here.look_at_profiles();
        here.look_at_memory();
        Ok(here)
    }

    fn look_at_kernel(&mut self) {
        let entries = fs::read_dir("/proc/self/ns")
            .into_iter()
            .flatten()
            .flatten();
        self.namespaces = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|kind| {
                // A limit of none is as good as none.
                let limit = format!("/proc/sys/user/max_{kind}_namespaces");
                !fs::read_to_string(limit).is_ok_and(|limit| limit.trim() == "0")
            })
            .collect();
        let text = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let last = |line: &str| Some(line.rsplit('\t').next()?.to_owned());
        self.filesystems = text.lines().filter_map(last).collect();
        if pidfd_open(getpid(), PidfdFlags::empty()).is_ok() {
            self.features.insert("pidfd".to_owned());
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if status.contains("\nSeccomp_filters:") || status.contains("\nSeccomp:") {
            self.features.insert("seccomp".to_owned());
        }
        // Restartable sequences came with 4.18.
        if host::kernel_release(&self.kernel).is_none_or(|release| release >= (4, 18)) {
            self.features.insert("rseq".to_owned());
        }
        let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
        let permitted = permitted.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
        self.capabilities = permitted.unwrap_or(u64::MAX);
        // Those a kernel does not know it takes and forgets.
        let last = fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
        let known = last
            .trim()
            .parse()
            .ok()
            .and_then(|last: u32| u64::MAX.checked_shl(last + 1));
        self.capabilities |= known.unwrap_or(0);
    }

    fn look_at_pids(&mut self, pids: &[i32]) {
        let max = fs::read_to_string("/proc/sys/kernel/pid_max").ok();
        self.pid_max = max.and_then(|text| text.trim().parse().ok());
        for pid in pids.iter().copied().filter(|pid| *pid > 0 && exists(*pid)) {
            self.pids.insert(pid, program(pid));
        }
    }

    /// Those on external mounts are looked for in what will be mounted there.
    fn look_at_files(&mut self, facts: &Facts, root: &Path) {
        if facts.files.is_empty() {
            return;
        }
        let externals: Vec<(&str, Option<&(PathBuf, bool)>)> = facts
            .mounts
            .iter()
            .filter_map(|mount| match &mount.role {
                MountRole::External(key) => {
                    Some((mount.mountpoint.as_str(), self.externals.get(key)))
                }
                _ => None,
            })
            .collect();
        let mut roots: BTreeMap<PathBuf, io::Result<Root>> = BTreeMap::new();
        let mut files = BTreeMap::new();
        for file in &facts.files {
            let on = externals
                .iter()
                .filter_map(|(point, source)| Some((below(&file.path, point)?, point, source)))
                .max_by_key(|(_, point, _)| point.len());
            let (directory, path) = match on {
                None => (root, file.path.as_str()),
                // The mount itself is in the way then, and not its files.
                Some((_, _, None | Some((_, false)))) => continue,
                // A single file can be mounted, too.
                Some(("", _, Some((source, true)))) => match source.to_str() {
                    Some(source) => (Path::new("/"), source),
                    None => continue,
                },
                Some((rest, _, Some((source, true)))) => (source.as_path(), rest),
            };
            let opened = roots
                .entry(directory.to_owned())
                .or_insert_with(|| Root::open(directory));
            let found = match opened {
                Ok(root) => root.look(path, file),
                Err(error) => FileHere::Failed(format!("{}: {error}", directory.display())),
            };
            files.insert(file.path.clone(), found);
        }
        self.files = files;
    }

    fn look_at_mounts(&mut self, facts: &Facts, restore: &Restore, mounts: &[MountLine]) {
        let shared = facts
            .mounts
            .iter()
            .any(|mount| mount.role == MountRole::Shared);
        if shared {
            let point = |mount: &MountLine| (mount.mountpoint.clone(), mount.fstype.clone());
            self.mount_points = mounts.iter().map(point).collect();
        }
        let mut external = |key: &str, path: &Path| {
            let there = path.exists();
            self.externals
                .insert(key.to_owned(), (path.to_owned(), there));
        };
        for given in &restore.external {
            match given {
                External::MountSource { key, source } => external(key, source),
                External::Mount { mountpoint, key } => {
                    external(&mountpoint.to_string_lossy(), Path::new(key));
                }
                External::Other(text) => {
                    let inner = text.strip_prefix("mnt[");
                    if let Some((key, path)) = inner.and_then(|text| text.rsplit_once("]:")) {
                        external(key, Path::new(path));
                    }
                }
                External::AutoMounts(_) => self.automatic_externals = true,
                _ => {}
            }
        }
        for given in &restore.ext_mount_map {
            external(&given.key, Path::new(&given.value));
        }
        let skipped = restore.skip_mounts.iter();
        self.skipped_mounts = skipped
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
    }

    fn look_at_sockets(&mut self, wanted: &[SocketSeen]) {
        if wanted.is_empty() {
            return;
        }
        let mut taken = Vec::new();
        for line in bound_sockets(Path::new("/proc/self")) {
            if wanted.iter().any(|wanted| same_place(wanted, &line.socket)) {
                taken.push(line);
            }
        }
        let owners = owners(taken.iter().map(|line| line.inode).collect());
        self.taken = taken
            .into_iter()
            .map(|line| Taken {
                owner: owners.get(&line.inode).cloned(),
                socket: line.socket,
            })
            .collect();
        let addresses: BTreeSet<IpAddr> = wanted.iter().filter_map(SocketSeen::address).collect();
        let foreign = addresses.into_iter().filter(|address| {
            let bound = || UdpSocket::bind((*address, 0));
            !address.is_unspecified()
                && !address.is_multicast()
                && !is_link_local(address)
                && bound().is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
        });
        self.foreign_addresses = foreign.collect();
        for socket in wanted {
            let SocketSeen::Unix { name } = socket else {
                continue;
            };
            if name.starts_with('/') {
                let path = Path::new(name);
                let kind = fs::symlink_metadata(path).map(|found| FileKind::of_mode(found.mode()));
                let place = SocketPath {
                    directory: path.parent().is_some_and(Path::is_dir),
                    // CRIU removes a socket nobody listens at.
                    occupied: kind.is_ok_and(|kind| kind != FileKind::Other),
                };
                self.socket_paths.insert(name.clone(), place);
            }
        }
    }

    fn look_at_cgroups(&mut self, wanted: &[CgroupSeen], restore: &Restore, mounts: &[MountLine]) {
        self.cgroups_ignored = restore.cgroups.mode == Some(CgroupMode::Ignore);
        self.cgroups_moved = !restore.cgroups.roots.is_empty();
        if wanted.is_empty() {
            return;
        }
        let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = cgroup_lines(&text);
        let controllers = fs::read_to_string("/proc/cgroups").unwrap_or_default();
        let controllers: BTreeSet<&str> = controllers
            .lines()
            .filter_map(|line| line.split('\t').next())
            .collect();
        let is_named = |hierarchy: &str, name: &str| hierarchy.split(',').any(|own| own == name);
        for group in wanted {
            let names: Vec<&str> = group.hierarchy.split(',').collect();
            let holds =
                |group: &CgroupSeen| names.iter().all(|name| is_named(&group.hierarchy, name));
            let mount = mounts.iter().find(|mount| match group.hierarchy.as_str() {
                "" => mount.fstype == "cgroup2",
                _ => {
                    mount.fstype == "cgroup"
                        && names.iter().all(|name| is_named(&mount.options, name))
                }
            });
            let found = CgroupHere {
                hierarchy: own.iter().any(holds),
                in_version_2: names.iter().all(|name| controllers.contains(name)),
                group: mount.map(|mount| {
                    let relative = group.path.trim_start_matches('/');
                    Path::new(&mount.mountpoint).join(relative).is_dir()
                }),
            };
            self.cgroups.insert(group.clone(), found);
        }
    }

    fn look_at_profiles(&mut self) {
        self.security_module = host::security_module().map(ToOwned::to_owned);
        let text = fs::read_to_string("/sys/kernel/security/apparmor/profiles");
        self.profiles = text.ok().map(|text| {
            let name = |line: &str| line.rsplit_once(" (").map(|(name, _)| name.to_owned());
            text.lines().filter_map(name).collect()
        });
    }

    fn look_at_memory(&mut self) {
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        let available = kib("MemAvailable:").map(|free| free + kib("SwapFree:").unwrap_or(0));
        self.available_bytes = available.map(|kib| kib.saturating_mul(1024));
    }
}

/// Whether two sockets may be in each other's way, not looking at addresses.
fn same_place(one: &SocketSeen, other: &SocketSeen) -> bool {
    use SocketSeen::{Inet, Unix};
    match (one, other) {
        (
            Inet {
                protocol, local, ..
            },
            Inet {
                protocol: other_protocol,
                local: other_local,
                ..
            },
        ) => (protocol, local.port()) == (other_protocol, other_local.port()),
        (Unix { name }, Unix { name: other }) => name == other,
        _ => false,
    }
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn program(pid: i32) -> String {
    let name = fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    String::from_utf8_lossy(&name).trim_end().to_owned()
}

/// The processes that have sockets open, by inode.
fn owners(mut inodes: BTreeSet<u64>) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    inodes.remove(&0);
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if inodes.is_empty() {
            break;
        }
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        for fd in fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let link = fs::read_link(fd.path()).unwrap_or_default();
            let inode = link.to_str().and_then(|link| link.strip_prefix("socket:["));
            let inode = inode.and_then(|text| text.strip_suffix(']')?.parse::<u64>().ok());
            if let Some(inode) = inode.filter(|inode| inodes.remove(inode)) {
                found.insert(inode, format!("process {pid} ({})", program(pid)));
            }
        }
    }
    found
}

/// The directory that will be the tree's root, in which paths are followed without leaving it.
struct Root {
    path: PathBuf,
    directory: OwnedFd,
}

impl Root {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            path: path.to_owned(),
            directory: rustix::fs::open(path, flags, Mode::empty())?,
        })
    }

    /// Names a file without opening what is behind it: a pipe or a device would notice.
    fn find(&self, path: &str) -> io::Result<OwnedFd> {
        let relative = path.trim_start_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        // A rename elsewhere can make the kernel unsure; it then wants to be asked again.
        for _ in 0..8 {
            let found = openat2(
                &self.directory,
                relative,
                flags,
                Mode::empty(),
                ResolveFlags::IN_ROOT,
            );
            match found {
                Err(rustix::io::Errno::AGAIN) => {}
                // A kernel before 5.6, or a filter that does not know the call.
                Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => break,
                found => return Ok(found?),
            }
        }
        Ok(rustix::fs::open(
            self.path.join(relative),
            flags,
            Mode::empty(),
        )?)
    }

    fn look(&self, path: &str, wanted: &FileSeen) -> FileHere {
        let looked = || -> io::Result<FileSeen> {
            let handle = self.find(path)?;
            // Its own name in /proc opens the very same file.
            let name = format!("/proc/self/fd/{}", handle.as_raw_fd());
            let metadata = fs::metadata(&name)?;
            let mut found = FileSeen {
                path: wanted.path.clone(),
                mode: Some(metadata.mode()),
                len_bytes: Some(metadata.len()),
                build_id: None,
                modified_s: Some(metadata.mtime()),
            };
            if wanted.build_id.is_some() && metadata.is_file() {
                found.build_id = build_id(&File::open(&name)?)?;
            }
            Ok(found)
        };
        match looked() {
            Ok(found) => FileHere::Found(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => FileHere::Missing,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => FileHere::Missing,
            Err(error) => FileHere::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
