//! What a running tree needs, as `/proc` shows it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, OpenOptions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use criu::request::CgroupMode;
use criu::{Criu, Dump, External};
use rustix::fs::OFlags;

use super::build_id::build_id;
use super::check::Check;
use super::facts::{CgroupSeen, Facts, FileSeen, LsmSeen, MountRole, MountSeen, SessionSeen};
use super::mount_table::{mount_lines, mount_of};
use super::processor;
use super::socket_table::bound_sockets;
use crate::error::{Error, Result};
use crate::host;
use crate::message::Host;
use crate::tree::Tree;

impl Facts {
    /// Finds out what the tree of a process needs, if it is dumped as `dump` says. `work_dir` is where
    /// CRIU may describe the processor.
    ///
    /// # Errors
    ///
    /// When there is no such process, or CRIU cannot be reached.
    pub fn of_running(pid: i32, dump: &Dump, criu: &Criu, work_dir: &Path) -> Result<Self> {
        Self::of_running_on(&host::here(criu)?, pid, dump, criu, work_dir)
    }

    /// The same, when it is known how this host presents itself.
    pub(crate) fn of_running_on(
        host: &Host,
        pid: i32,
        dump: &Dump,
        criu: &Criu,
        work_dir: &Path,
    ) -> Result<Self> {
        let tree = Tree::of(pid).map_err(Error::io(format!("look at process {pid}")))?;
        let mut facts = Self::of_host(host, criu, work_dir)?;
        // Version 3 is what has compressed pages.
        facts.image_version = Some(if dump.compression.is_some() { 3 } else { 2 });
        facts.memory_bytes = tree.resident_bytes();
        let pids: Vec<i32> = tree.pids().collect();
        facts.take_namespaces(&pids);
        facts.take_tasks(&pids, dump.shell_job);
        if !facts.owns("net") {
            facts.take_sockets(&pids, dump.sockets.tcp_close);
        }
        let externals = external_mounts(dump);
        let handed_over = external_files(dump);
        let (files, unclear) = files_of(pids.iter().copied(), &externals, &handed_over);
        facts.files = files;
        facts.leave_out(Check::Files, unclear);
        facts.take_mounts(pid, dump, &externals);
        facts.take_cgroups(&pids, dump);
        facts.take_profiles(&pids);
        Ok(facts)
    }

    /// Describes this machine, without any tree.
    ///
    /// # Errors
    ///
    /// When CRIU cannot be reached.
    pub fn of_machine(criu: &Criu, work_dir: &Path) -> Result<Self> {
        Self::of_host(&host::here(criu)?, criu, work_dir)
    }

    pub(crate) fn of_host(host: &Host, criu: &Criu, work_dir: &Path) -> Result<Self> {
        let features = criu.features().map(|features| {
            features
                .iter()
                .map(|feature| feature.name().to_owned())
                .collect()
        });
        Ok(Self {
            criu: Some(host.criu.clone()),
            architecture: Some(host.architecture.clone()),
            page_size_bytes: Some(host.page_size_bytes),
            kernel: Some(host.kernel.clone()),
            processor: processor::describe(criu, work_dir)?,
            // What it lacks is then not compared.
            source_features: features.unwrap_or_default(),
            ..Self::default()
        })
    }

    fn take_namespaces(&mut self, pids: &[i32]) {
        let ours = namespaces_of(Path::new("/proc/self"));
        let mut own = BTreeSet::new();
        for pid in pids {
            for (kind, id) in namespaces_of(&directory(*pid)) {
                if ours.get(&kind).is_some_and(|ours| *ours != id) {
                    own.insert(kind);
                }
            }
        }
        self.namespaces = own.into_iter().collect();
    }

    /// What stands in `stat` and `status` of the tasks.
    fn take_tasks(&mut self, pids: &[i32], shell_job: bool) {
        let own_ids = self.owns("pid");
        for pid in pids {
            let status = fs::read_to_string(directory(*pid).join("status")).unwrap_or_default();
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.map(str::trim)
            };
            if !self.owns("user")
                && let Some(bits) =
                    field("CapPrm:").and_then(|bits| u64::from_str_radix(bits, 16).ok())
            {
                self.capabilities |= bits;
            }
            if field("Seccomp:") == Some("2") {
                self.require("seccomp");
            }
            let stat = fs::read_to_string(directory(*pid).join("stat")).unwrap_or_default();
            // The name before them stands in parentheses and may hold anything.
            let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
            let number = |at: usize| {
                fields
                    .split(' ')
                    .nth(at)
                    .and_then(|word| word.parse::<i32>().ok())
            };
            // Fields 6 and 7 of proc_pid_stat(5).
            let (session, terminal) = (number(3), number(4));
            self.has_terminal |= terminal.is_some_and(|terminal| terminal != 0);
            if let Some(leader) = session.filter(|leader| !own_ids && !pids.contains(leader)) {
                self.foreign_session.get_or_insert(SessionSeen {
                    pid: *pid,
                    leader,
                    accepted: shell_job,
                });
            }
            let threads = fs::read_dir(directory(*pid).join("task"));
            for thread in threads.into_iter().flatten().flatten() {
                let name = thread.file_name();
                let id = name.to_str().and_then(|name| name.parse::<i32>().ok());
                let Some(id) = id.filter(|_| !own_ids) else {
                    continue;
                };
                self.largest_pid = self.largest_pid.max(Some(id));
                self.pids.push(id);
            }
            for (link, _) in descriptors(*pid) {
                if link.as_os_str() == "anon_inode:[pidfd]" {
                    self.require("pidfd");
                }
            }
        }
    }

    fn take_sockets(&mut self, pids: &[i32], close: bool) {
        let mut inodes = BTreeSet::new();
        for pid in pids {
            for (link, _) in descriptors(*pid) {
                let inode = link.to_str().and_then(|link| link.strip_prefix("socket:["));
                inodes.extend(inode.and_then(|text| text.strip_suffix(']')?.parse::<u64>().ok()));
            }
        }
        let Some(pid) = pids.first().filter(|_| !inodes.is_empty()) else {
            return;
        };
        let mut seen_before = HashSet::new();
        for line in bound_sockets(&directory(*pid)) {
            let kept = match &line.socket {
                super::SocketSeen::Inet { remote, .. } => remote.is_none() || !close,
                // A path is in the tree's own mounts then.
                super::SocketSeen::Unix { name } => name.starts_with('@') || !self.owns("mnt"),
            };
            // The same address may be bound more than once.
            if inodes.contains(&line.inode) && kept && seen_before.insert(line.socket.clone()) {
                self.sockets.push(line.socket);
            }
        }
    }

    fn take_mounts(&mut self, pid: i32, dump: &Dump, named: &BTreeMap<PathBuf, String>) {
        let text = fs::read_to_string(directory(pid).join("mountinfo")).unwrap_or_default();
        let lines = mount_lines(&text);
        if !self.owns("mnt") {
            let used: BTreeMap<_, _> = self
                .files
                .iter()
                .filter_map(|file| mount_of(&file.path, &lines))
                .map(|mount| (&mount.mountpoint, mount))
                .collect();
            self.mounts = used
                .into_values()
                .map(|mount| MountSeen {
                    mountpoint: mount.mountpoint.clone(),
                    fstype: mount.fstype.clone(),
                    role: MountRole::Shared,
                })
                .collect();
            return;
        }
        for line in lines {
            if dump
                .mounts
                .skip
                .iter()
                .any(|skip| skip == Path::new(&line.mountpoint))
            {
                continue;
            }
            let key = named.get(Path::new(&line.mountpoint));
            // The root is given to the restore.
            if key.is_none() && line.mountpoint == "/" {
                continue;
            }
            self.mounts.push(MountSeen {
                role: match key {
                    Some(key) => MountRole::External(key.clone()),
                    None => MountRole::Own,
                },
                mountpoint: line.mountpoint,
                fstype: line.fstype,
            });
        }
    }

    /// The groups that CRIU will save: none if it is not to, or the tree is in the groups it is in itself.
    fn take_cgroups(&mut self, pids: &[i32], dump: &Dump) {
        if dump.cgroups.mode == Some(CgroupMode::Ignore) {
            return;
        }
        let groups = |process: &Path| {
            let text = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
            cgroup_lines(&text)
        };
        let ours = groups(Path::new("/proc/self"));
        let theirs = pids.first().map(|pid| groups(&directory(*pid)));
        if theirs.is_some_and(|theirs| theirs == ours) {
            return;
        }
        let mut all = BTreeSet::new();
        for pid in pids {
            all.extend(groups(&directory(*pid)));
        }
        if !dump.cgroups.controllers.is_empty() {
            all.retain(|group| {
                let mut controllers = group.hierarchy.split(',');
                controllers.any(|name| dump.cgroups.controllers.iter().any(|only| only == name))
            });
        }
        self.cgroups = all.into_iter().collect();
    }

    fn take_profiles(&mut self, pids: &[i32]) {
        let Some(module) = host::security_module() else {
            return;
        };
        let mut profiles = BTreeSet::new();
        for pid in pids {
            let attributes = directory(*pid).join("attr");
            let own = fs::read_to_string(attributes.join(module).join("current"));
            let text = own.or_else(|_| fs::read_to_string(attributes.join("current")));
            let Ok(text) = text else { continue };
            let profile = text.trim_end_matches(['\0', '\n']);
            // AppArmor appends the mode in parentheses.
            let profile = profile.rsplit_once(" (").map_or(profile, |(name, _)| name);
            if !profile.is_empty() && profile != "unconfined" {
                profiles.insert(profile.to_owned());
            }
        }
        if !profiles.is_empty() {
            self.lsm = Some(LsmSeen {
                module: module.to_owned(),
                profiles: profiles.into_iter().collect(),
            });
        }
    }
}

fn directory(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// The namespaces of a process by kind. Those only its children will be in are none.
fn namespaces_of(process: &Path) -> BTreeMap<String, PathBuf> {
    let entries = fs::read_dir(process.join("ns")).into_iter().flatten();
    entries
        .flatten()
        .filter_map(|entry| {
            let kind = entry.file_name().into_string().ok()?;
            let id = fs::read_link(entry.path()).ok()?;
            (!kind.ends_with("_for_children")).then_some((kind, id))
        })
        .collect()
}

/// The open descriptors of a process: where each leads to, and its name in `/proc`.
fn descriptors(pid: i32) -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir(directory(pid).join("fd"))
        .into_iter()
        .flatten();
    entries
        .flatten()
        .filter_map(|entry| Some((fs::read_link(entry.path()).ok()?, entry.path())))
        .collect()
}

/// The mounts that the dump is told are external, by mount point.
fn external_mounts(dump: &Dump) -> BTreeMap<PathBuf, String> {
    let mut named = BTreeMap::new();
    for external in &dump.mounts.external {
        match external {
            External::Mount { mountpoint, key } => {
                named.insert(mountpoint.clone(), key.clone());
            }
            External::Other(text) => {
                // `mnt[MOUNTPOINT]:KEY`, as the command line has it.
                let inner = text.strip_prefix("mnt[");
                if let Some((mountpoint, key)) = inner.and_then(|text| text.rsplit_once("]:")) {
                    named.insert(mountpoint.into(), key.to_owned());
                }
            }
            _ => {}
        }
    }
    for mount in &dump.mounts.ext_mount_map {
        named.insert((&mount.key).into(), mount.value.clone());
    }
    named
}

/// The files that the dump is told are external, as CRIU names them: the destination hands over its own.
fn external_files(dump: &Dump) -> BTreeSet<String> {
    let named = dump.mounts.external.iter().map(ToString::to_string);
    named.filter(|text| text.starts_with("file[")).collect()
}

/// Reads `/proc/PID/cgroup`: `id:controllers:path`.
pub(super) fn cgroup_lines(text: &str) -> BTreeSet<CgroupSeen> {
    let line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (hierarchy, path) = rest.split_once(':')?;
        Some(CgroupSeen {
            hierarchy: hierarchy.to_owned(),
            path: path.to_owned(),
        })
    };
    text.lines().filter_map(line).collect()
}

/// Finds the files that tasks have open or mapped and that must be on the other side, too; and how many
/// cannot be named for sure.
///
/// Left out is what the tree takes along, is handed there, or what is a different file for everybody: nameless files,
/// mounts of its own mount namespace other than its root and the external ones, `/proc` and `/sys`.
fn files_of(
    pids: impl IntoIterator<Item = i32>,
    externals: &BTreeMap<PathBuf, String>,
    handed_over: &BTreeSet<String>,
) -> (Vec<FileSeen>, u64) {
    let mut files = BTreeMap::new();
    let mut unclear = BTreeSet::new();
    for pid in pids {
        let process = directory(pid);
        let root = process.join("root");
        let mounts = fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
        let mounts = mount_lines(&mounts);
        let namespace = |of: &Path| fs::read_link(of.join("ns/mnt")).ok();
        let own_mounts = namespace(&process) != namespace(Path::new("/proc/self"));
        let mut see = |path: &str, inode: u64, fixed: bool| {
            let named = path.starts_with('/') && !path.ends_with(" (deleted)");
            if !named || path.starts_with("/proc/") || path.starts_with("/sys/") {
                return;
            }
            let comes_along = own_mounts
                && mount_of(path, &mounts).is_none_or(|mount| {
                    mount.mountpoint != "/" && !externals.contains_key(Path::new(&mount.mountpoint))
                });
            if comes_along {
                return;
            }
            let place = root.join(path.trim_start_matches('/'));
            let metadata = match fs::metadata(&place) {
                Ok(metadata) if metadata.ino() == inode => metadata,
                // What another file is mounted over, or a changed root makes of the name, is not it.
                _ => {
                    unclear.insert(path.as_bytes().to_owned());
                    return;
                }
            };
            if !(metadata.is_file() || metadata.is_dir()) {
                return;
            }
            let fixed = fixed && metadata.is_file();
            let seen = files.entry(path.to_owned()).or_insert_with(|| FileSeen {
                path: path.to_owned(),
                mode: Some(metadata.mode()),
                len_bytes: fixed.then_some(metadata.len()),
                modified_s: fixed.then_some(metadata.mtime()),
                build_id: fixed.then(|| build_id_at(&place)).flatten(),
            });
            if !fixed {
                (seen.len_bytes, seen.modified_s, seen.build_id) = (None, None, None);
            }
        };
        let mut nameless = Vec::new();
        let maps = fs::read(process.join("maps")).unwrap_or_default();
        for line in String::from_utf8_lossy(&maps).lines() {
            // `start-end perms offset dev inode path`, see proc_pid_maps(5).
            let mut words = line.split_ascii_whitespace();
            let (Some(inode), Some(_)) = (
                words.nth(4).and_then(|word| word.parse().ok()),
                words.next(),
            ) else {
                continue;
            };
            if let Some(at) = line.find('/') {
                see(&line[at..], inode, true);
            }
        }
        for (path, descriptor) in descriptors(pid) {
            let Ok(metadata) = fs::metadata(&descriptor) else {
                continue;
            };
            let number = descriptor.file_name().unwrap_or_default();
            let info = fs::read_to_string(process.join("fdinfo").join(number)).unwrap_or_default();
            if handed_over.contains(&external_name(&info, metadata.ino())) {
                continue;
            }
            match path.to_str() {
                Some(path) => see(path, metadata.ino(), is_read_only(&info)),
                None => nameless.push(path),
            }
        }
        let cwd = process.join("cwd");
        if let (Ok(path), Ok(metadata)) = (fs::read_link(&cwd), fs::metadata(&cwd)) {
            match path.to_str() {
                Some(path) => see(path, metadata.ino(), false),
                None => nameless.push(path),
            }
        }
        unclear.extend(
            nameless
                .into_iter()
                .map(|path| path.into_os_string().into_vec()),
        );
    }
    (files.into_values().collect(), unclear.len() as u64)
}

/// The build id of a file that was a regular one a moment ago; whatever it is now must not block us.
fn build_id_at(path: &Path) -> Option<String> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .ok()?;
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    is_file.then(|| build_id(&file).ok().flatten()).flatten()
}

/// How `--external` names the file of a descriptor with this `fdinfo`.
fn external_name(info: &str, inode: u64) -> String {
    let mount = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let mount = mount.and_then(|id| id.trim().parse().ok());
    let mount_id = mount.unwrap_or_default();
    External::File { mount_id, inode }.to_string()
}

/// Whether the flags in a descriptor's `fdinfo`, octal, have access mode `O_RDONLY`.
pub(crate) fn is_read_only(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & 0o3 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use criu_testkit::{Namespace, Scene};

    fn seen<'a>(files: &'a [FileSeen], end: &str) -> Option<&'a FileSeen> {
        files.iter().find(|file| file.path.ends_with(end))
    }

    #[test]
    fn programs_and_open_files_are_seen_and_what_comes_along_is_not() {
        let process = Scene::new().open_file().unlinked_file().start();
        let pid = i32::try_from(process.pid()).unwrap();
        let (files, unclear) = files_of([pid], &BTreeMap::new(), &BTreeSet::new());
        let program = seen(&files, "/criu-testkit-target").unwrap();
        let metadata = fs::metadata(&program.path).unwrap();
        assert_eq!(program.len_bytes, Some(metadata.len()));
        assert_eq!(program.mode, Some(metadata.mode()));
        assert_eq!(program.modified_s, Some(metadata.mtime()));
        let library = seen(&files, "libc.so.6").unwrap();
        assert!(library.len_bytes.is_some() && library.build_id.is_some());
        // Open for writing: it may grow until the tree is frozen.
        assert_eq!(seen(&files, "/count").unwrap().len_bytes, None);
        assert!(seen(&files, "(deleted)").is_none() && seen(&files, "/dev/null").is_none());
        assert_eq!(unclear, 0);

        let inside = Scene::new()
            .namespaces(&[Namespace::Pid, Namespace::Mount])
            .part("tmpfs-file")
            .start();
        let pid = i32::try_from(inside.pid()).unwrap();
        let (files, _) = files_of([pid], &BTreeMap::new(), &BTreeSet::new());
        assert!(files.iter().any(|file| file.path == "/target"), "{files:?}");
        // A tmpfs of its own mount namespace comes along.
        assert!(
            !files.iter().any(|file| file.path.starts_with("/tmp/")),
            "{files:?}"
        );
    }

    #[test]
    fn an_external_file_is_not_needed_on_the_other_side() {
        let process = Scene::new().open_file().start();
        let pid = i32::try_from(process.pid()).unwrap();
        let plain = process.directory().join("plain");
        let open = descriptors(pid)
            .into_iter()
            .find(|(path, _)| *path == plain);
        let number = open.unwrap().1.file_name().unwrap().to_owned();
        let info = fs::read_to_string(directory(pid).join("fdinfo").join(number)).unwrap();
        let name = external_name(&info, fs::metadata(&plain).unwrap().ino());
        for (given, is_needed) in [("file[1:1]", true), (&name, false)] {
            let mut dump = Dump::new(pid, "/nowhere");
            dump.mounts.external = vec![given.parse().unwrap()];
            let (files, _) = files_of([pid], &BTreeMap::new(), &external_files(&dump));
            assert_eq!(seen(&files, "/plain").is_some(), is_needed, "{given}");
            assert!(seen(&files, "/count").is_some());
        }
    }

    #[test]
    fn what_a_tree_needs_is_told_from_proc() {
        let Some(criu) = criu_testkit::CriuUnderTest::newest() else {
            return;
        };
        let work_dir = criu_testkit::TempDir::new();
        let process = Scene::new()
            .threads(2)
            .tcp_listener(0)
            .memory_kib(2048)
            .start();
        let pid = i32::try_from(process.pid()).unwrap();
        let criu = Criu::with_binary(criu.path()).unwrap();
        let dump = Dump::new(pid, work_dir.path());
        let facts = Facts::of_running(pid, &dump, &criu, work_dir.path()).unwrap();
        assert_eq!(facts.namespaces, [""; 0]);
        assert!(
            facts.pids.len() == 3 && facts.pids.contains(&pid),
            "{facts:?}"
        );
        assert_eq!(facts.largest_pid, facts.pids.iter().copied().max());
        assert!(facts.memory_bytes > 2 << 20 && !facts.processor.is_empty());
        assert_eq!(facts.image_version, Some(2));
        assert_eq!(facts.foreign_session, None);
        let listens = |socket: &super::super::SocketSeen| {
            matches!(socket, super::super::SocketSeen::Inet { remote: None, .. })
        };
        assert!(facts.sockets.iter().any(listens), "{:?}", facts.sockets);
        assert!(facts.mounts.iter().any(|mount| mount.mountpoint == "/"));
        assert!(facts.clone().fit() == facts && facts.check_bounds().is_ok());

        let inside = Scene::new()
            .namespaces(&[Namespace::Pid, Namespace::Mount, Namespace::Net])
            .tcp_listener(0)
            .start();
        let pid = i32::try_from(inside.pid()).unwrap();
        let dump = Dump::new(pid, work_dir.path());
        let facts = Facts::of_running(pid, &dump, &criu, work_dir.path()).unwrap();
        assert_eq!(facts.namespaces, ["mnt", "net", "pid"]);
        assert!(facts.pids.is_empty() && facts.sockets.is_empty());
        assert!(
            facts
                .mounts
                .iter()
                .all(|mount| mount.role == MountRole::Own)
        );
        assert!(facts.mounts.iter().any(|mount| mount.fstype == "tmpfs"));
    }

    #[test]
    fn external_mounts_are_known_in_every_form() {
        let mut dump = Dump::new(1, "/nowhere");
        dump.mounts.external = vec![
            External::Mount {
                mountpoint: "/a".into(),
                key: "one".into(),
            },
            "mnt[/b]:two".parse().unwrap(),
            "net[1]:x".parse().unwrap(),
        ];
        dump.mounts.ext_mount_map = vec![criu::request::ExternalMount::new("/c", "three")];
        let named = external_mounts(&dump);
        let expected = [("/a", "one"), ("/b", "two"), ("/c", "three")];
        let expected = expected.map(|(path, key)| (PathBuf::from(path), key.to_owned()));
        assert_eq!(named, BTreeMap::from(expected));
    }

    #[test]
    fn access_modes_are_read_from_octal_flags() {
        assert!(is_read_only("pos:\t0\nflags:\t0100000\nmnt_id:\t1\n"));
        for flags in ["0100001", "0100002", "02", "", "9"] {
            assert!(!is_read_only(&format!("flags:\t{flags}\n")), "{flags}");
        }
    }
}
