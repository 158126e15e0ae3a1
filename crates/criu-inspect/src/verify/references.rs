//! Whether what images refer to exists.

use std::collections::{HashMap, HashSet};

use criu_image::checkpoint::{ImageName, present};
use criu_image::memory::{
    VMA_ANON_SHARED, VMA_AREA_MEMFD, VMA_AREA_SOCKET, VMA_EXT_PLUGIN, VMA_FILE_PRIVATE,
    VMA_FILE_SHARED,
};
use criu_image::message::{
    CgroupEntry, CoreEntry, FdTypes, FileEntry, InventoryEntry, IpcShmEntry, PipeDataEntry,
    RemapFilePathEntry, RemapType, SeccompEntry, SeccompMode, SkPacketEntry, TaskKobjIdsEntry,
    TtyInfoEntry, VmaEntry,
};
use criu_image::wire::Message;
use criu_image::wire::slot::OpenEnum;
use criu_image::{Entry, ImageKind};

use super::Check;
use crate::explore::{Explorer, TaskState, Warning};

/// What there is to refer to.
#[derive(Default)]
struct Known {
    /// Images, by kind and id.
    images: HashSet<(ImageKind, u64)>,
    files: HashSet<(FdTypes, u32)>,
    /// The ids of files, whatever their type.
    file_ids: HashSet<u32>,
    pipes: HashSet<u32>,
    unix_inodes: HashSet<u32>,
    terminals: HashSet<u32>,
    memfds: HashMap<u64, u32>,
    mounts: HashSet<u32>,
    /// `None` if no control groups were dumped.
    cgroup_sets: Option<HashSet<u32>>,
    seccomp_filters: usize,
    /// The namespaces that CRIU ran in.
    host: TaskKobjIdsEntry,
}

impl Known {
    fn has(&self, kind: ImageKind, id: impl Into<u64>) -> bool {
        self.images.contains(&(kind, id.into()))
    }

    fn has_file(&self, kind: FdTypes, id: u32) -> bool {
        self.files.contains(&(kind, id))
    }
}

impl Check<'_> {
    pub(super) fn references(&mut self, images: &[ImageName]) {
        let mut known = Known {
            images: images
                .iter()
                .map(|image| (image.kind, image.id.unwrap_or(0)))
                .collect(),
            ..Known::default()
        };
        self.inventory(&mut known);
        let is_whole = self.each_file(images, |_, _, file| {
            known.files.insert((file.r#type, file.id));
            known.file_ids.insert(file.id);
            known
                .pipes
                .extend(file.pipe.as_ref().map(|pipe| pipe.pipe_id));
            known
                .pipes
                .extend(file.fifo.as_ref().map(|fifo| fifo.pipe_id));
            known
                .unix_inodes
                .extend(file.usk.as_ref().map(|unix| unix.ino));
        });
        if is_whole.is_err() {
            // Cannot be told from damage that has been said already.
            return;
        }
        let terminals = self.entries::<TtyInfoEntry>(ImageKind::TtyInfo, 0);
        known.terminals = terminals.iter().map(|terminal| terminal.id).collect();
        for memfd in present(self.checkpoint.memfds())
            .ok()
            .flatten()
            .unwrap_or_default()
        {
            known.memfds.insert(memfd.inode_id, memfd.shmid);
        }
        for image in images.iter().filter(|image| image.kind == ImageKind::Mnts) {
            let id = image.id.unwrap_or(0);
            let mounts = self.entries::<criu_image::message::MntEntry>(ImageKind::Mnts, id);
            known.mounts.extend(mounts.iter().map(|mount| mount.mnt_id));
        }
        let cgroups = self.entries::<CgroupEntry>(ImageKind::Cgroup, 0);
        let sets = cgroups
            .first()
            .map(|cgroups| cgroups.sets.iter().map(|set| set.id).collect());
        known.cgroup_sets = sets;
        self.seccomp(&mut known);
        let looked_at = self.each_file(images, |check, (name, index), file| {
            check.file(name, index, file, &known);
        });
        // It was whole before.
        drop(looked_at);
        self.segments(images, &known);
        self.queues(&known);
        self.remaps(&known);
        self.tasks(&known);
    }

    /// Goes over the files without keeping them, each with the name of its image and its index
    /// there.
    fn each_file(
        &mut self,
        images: &[ImageName],
        mut visit: impl FnMut(&mut Self, (&str, u64), &FileEntry),
    ) -> criu_image::Result<()> {
        let has_image = images.iter().any(|image| image.kind == ImageKind::Files);
        if has_image {
            let name = ImageKind::Files.file(0);
            let mut image = self.checkpoint.image(ImageKind::Files, 0)?;
            let mut is_empty = true;
            while let Some(entry) = image.next_entry()? {
                is_empty = false;
                let index = entry.index;
                visit(self, (&name, index), &entry.decode()?);
            }
            if !is_empty {
                return Ok(());
            }
        }
        let name = match has_image {
            true => ImageKind::Files.file(0),
            // As far as one can be named: older CRIU has an image for each type.
            false => ImageKind::RegFiles.file(0),
        };
        for (file, index) in self.checkpoint.files()?.iter().zip(0..) {
            visit(self, (&name, index), file);
        }
        Ok(())
    }

    /// The entries of an image that may be missing; what cannot be read has been said.
    fn entries<T: Message>(&self, kind: ImageKind, id: u64) -> Vec<Entry<T>> {
        self.checkpoint.many(kind, id).unwrap_or_default()
    }

    fn inventory(&mut self, known: &mut Known) {
        let name = ImageKind::Inventory.file(0);
        let inventory: InventoryEntry = match self.checkpoint.inventory() {
            Ok(inventory) => inventory.into_value(),
            Err(error) => return self.failed(&error),
        };
        if !(1..=3).contains(&inventory.img_version) {
            let problem = format!(
                "images of version {}, which no CRIU writes",
                inventory.img_version
            );
            self.fault(Some(&name), Some(0), problem);
        }
        if let Some(ids) = inventory.root_ids {
            known.host = *ids;
        }
    }

    fn seccomp(&mut self, known: &mut Known) {
        let image = self.entries::<SeccompEntry>(ImageKind::Seccomp, 0);
        let filters = image
            .first()
            .map(|image| image.seccomp_filters.as_slice())
            .unwrap_or_default();
        known.seccomp_filters = filters.len();
        for (index, filter) in filters.iter().enumerate() {
            if filter.prev.is_some_and(|before| before as usize >= index) {
                let problem = format!(
                    "filter {index} comes after filter {:?}",
                    filter.prev.unwrap_or(0)
                );
                self.fault(Some(&ImageKind::Seccomp.file(0)), Some(0), problem);
            }
        }
    }

    fn file(&mut self, name: &str, index: u64, file: &FileEntry, known: &Known) {
        let mut missing = Vec::new();
        let mut need = |is_there: bool, what: String| {
            if !is_there {
                missing.push(what);
            }
        };
        let regular = |id: u32| known.has_file(FdTypes::Reg, id);
        let mount = |id: Option<i32>| match id.and_then(|id| u32::try_from(id).ok()) {
            Some(id @ 1..) if !known.mounts.is_empty() => known.mounts.contains(&id),
            _ => true,
        };
        if let Some(file) = &file.reg {
            need(
                mount(file.mnt_id),
                format!("mount {}", file.mnt_id.unwrap_or(0)),
            );
        }
        if let Some(fifo) = &file.fifo
            && let Some(id) = fifo.regf_id
        {
            need(regular(id), format!("regular file {id}"));
        }
        if let Some(terminal) = &file.tty {
            let id = terminal.tty_info_id;
            need(known.terminals.contains(&id), format!("terminal {id}"));
            if let Some(id) = terminal.regf_id {
                need(regular(id), format!("regular file {id}"));
            }
        }
        if let Some(memfd) = &file.memfd {
            let id = memfd.inode_id;
            match known.memfds.get(&id.into()) {
                None => need(false, format!("memory file {id}")),
                Some(&shmid) => {
                    let there = known.has(ImageKind::ShmemPagemap, shmid);
                    need(
                        there,
                        format!("content of memory file {id} (shared memory {shmid})"),
                    );
                }
            }
        }
        if let Some(unix) = &file.usk {
            let is_external = unix.uflags & USK_EXTERN != 0;
            let has_peer = unix.peer == 0 || is_external || known.unix_inodes.contains(&unix.peer);
            need(has_peer, format!("peer socket {}", unix.peer));
            need(
                mount(unix.mnt_id),
                format!("mount {}", unix.mnt_id.unwrap_or(0)),
            );
        }
        for what in missing {
            let problem = format!("file {} refers to {what}, which no image holds", file.id);
            self.fault(Some(name), Some(index), problem);
        }
    }

    /// System V shared memory has its content in pagemaps.
    fn segments(&mut self, images: &[ImageName], known: &Known) {
        for image in images
            .iter()
            .filter(|image| image.kind == ImageKind::IpcnsShm)
        {
            let segments = self.entries::<IpcShmEntry>(ImageKind::IpcnsShm, image.id.unwrap_or(0));
            for (segment, index) in segments.iter().zip(0..) {
                let map = segment.desc.id;
                if segment.in_pagemaps == Some(true) && !known.has(ImageKind::ShmemPagemap, map) {
                    let name = ImageKind::ShmemPagemap.file(map.into());
                    self.fault(Some(&image.name), Some(index), format!("{name} is missing"));
                }
            }
        }
    }

    fn queues(&mut self, known: &Known) {
        for kind in [ImageKind::PipesData, ImageKind::FifoData] {
            for (data, index) in self.entries::<PipeDataEntry>(kind, 0).iter().zip(0..) {
                if !known.pipes.contains(&data.pipe_id) {
                    let problem = format!("no file is pipe {}", data.pipe_id);
                    self.fault(Some(&kind.file(0)), Some(index), problem);
                }
            }
        }
        let name = ImageKind::SkQueues.file(0);
        for (packet, index) in self
            .entries::<SkPacketEntry>(ImageKind::SkQueues, 0)
            .iter()
            .zip(0..)
        {
            let sockets = [
                FdTypes::Unixsk,
                FdTypes::Inetsk,
                FdTypes::Netlinksk,
                FdTypes::Packetsk,
            ];
            if !sockets
                .iter()
                .any(|&kind| known.has_file(kind, packet.id_for))
            {
                let problem = format!("no socket has the id {}", packet.id_for);
                self.fault(Some(&name), Some(index), problem);
            }
            for &id in packet.scm.iter().flat_map(|scm| &scm.rights) {
                if !known.file_ids.contains(&id) {
                    let problem = format!("no file under way has the id {id}");
                    self.fault(Some(&name), Some(index), problem);
                }
            }
        }
    }

    fn remaps(&mut self, known: &Known) {
        let name = ImageKind::RemapFpath.file(0);
        let remaps = self.entries::<RemapFilePathEntry>(ImageKind::RemapFpath, 0);
        for (remap, index) in remaps.iter().zip(0..) {
            let id = remap.remap_id;
            let problem = match remap.remap_type {
                _ if !known.file_ids.contains(&remap.orig_id) => {
                    format!("no file has the id {}", remap.orig_id)
                }
                Some(RemapType::Linked) if !known.has_file(FdTypes::Reg, id) => {
                    format!("no regular file has the id {id}")
                }
                Some(RemapType::Ghost) if !known.has(ImageKind::GhostFile, id) => {
                    format!("{} is missing", ImageKind::GhostFile.file(id.into()))
                }
                _ => continue,
            };
            self.fault(Some(&name), Some(index), problem);
        }
    }

    fn tasks(&mut self, known: &Known) {
        let pstree = ImageKind::Pstree.file(0);
        let tree = Explorer::new(self.checkpoint.clone()).processes();
        for warning in &tree.warnings {
            match warning {
                Warning::Image(error) => self.failed(error),
                Warning::TooDeep { .. } => {}
                other => self.fault(Some(&pstree), None, other.to_string()),
            }
        }
        let Ok(tasks) = self.checkpoint.tasks() else {
            return;
        };
        for (task, index) in tasks.iter().zip(0..) {
            let pid = task.pid;
            // What cannot be read has been said; that it is missing, too.
            let Ok(core) = self.checkpoint.core(pid) else {
                continue;
            };
            let Some(state) = TaskState::of(&core) else {
                let name = ImageKind::Core.file(pid.into());
                self.fault(
                    Some(&name),
                    Some(0),
                    "the image of a thread where that of a task should be",
                );
                continue;
            };
            self.core(pid, &core, known);
            // Of a zombie CRIU writes whatever thread id its memory held.
            if !state.has_resources() {
                continue;
            }
            self.task(pid, known);
            for &tid in task.threads.iter().filter(|&&tid| tid != pid) {
                match self.checkpoint.core(tid) {
                    Ok(core) => self.core(tid, &core, known),
                    Err(error) if error.is_missing() => {
                        let problem =
                            format!("thread {tid} has no {}", ImageKind::Core.file(tid.into()));
                        self.fault(Some(&pstree), Some(index), problem);
                    }
                    Err(_) => {}
                }
            }
        }
    }

    fn core(&mut self, tid: u32, core: &CoreEntry, known: &Known) {
        let name = ImageKind::Core.file(tid.into());
        let thread = core.thread_core.as_deref();
        let sets = [
            thread.and_then(|thread| thread.cg_set),
            core.tc.as_ref().and_then(|task| task.cg_set),
        ];
        for set in sets.into_iter().flatten() {
            if known
                .cgroup_sets
                .as_ref()
                .is_some_and(|sets| !sets.contains(&set))
            {
                let problem = format!("no set of control groups has the id {set}");
                self.fault(Some(&name), Some(0), problem);
            }
        }
        if let Some(thread) = thread
            && thread.seccomp_mode == Some(SeccompMode::Filter)
            && let Some(filter) = thread.seccomp_filter
            && filter as usize >= known.seccomp_filters
        {
            let problem = format!("seccomp filter {filter} of {}", known.seccomp_filters);
            self.fault(Some(&name), Some(0), problem);
        }
    }

    fn task(&mut self, pid: u32, known: &Known) {
        if let Some(fs) = self.needed(self.checkpoint.fs(pid)) {
            for id in [fs.cwd_id, fs.root_id] {
                self.need_file(
                    ImageKind::Fs.file(pid.into()),
                    Some(0),
                    known,
                    FdTypes::Reg,
                    id,
                );
            }
        }
        if let Some(ids) = self.needed(self.checkpoint.ids(pid)) {
            let fds = self.needed(self.checkpoint.fdinfo(ids.files_id));
            let name = ImageKind::Fdinfo.file(ids.files_id.into());
            for (fd, index) in fds.unwrap_or_default().iter().zip(0..) {
                self.need_file(name.clone(), Some(index), known, fd.r#type, fd.id);
            }
            self.namespaces(pid, &ids, known);
        }
        if let Some(map) = self.needed(self.checkpoint.memory_map_of_mm(pid)) {
            let name = ImageKind::Mm.file(pid.into());
            let exe = map.mm().exe_file_id;
            self.need_file(name.clone(), Some(0), known, FdTypes::Reg, exe);
            // A malformed area has been said.
            for vma in map.areas().filter_map(Result::ok) {
                self.area(&name, &vma, known);
            }
        }
    }

    fn needed<T>(&mut self, result: criu_image::Result<T>) -> Option<T> {
        result.map_err(|error| self.failed(&error)).ok()
    }

    fn need_file(
        &mut self,
        name: String,
        entry: Option<u64>,
        known: &Known,
        kind: FdTypes,
        id: u32,
    ) {
        // The file behind a controlling terminal is made, not opened.
        let made = [FdTypes::CtlTty, FdTypes::AutofsPipe, FdTypes::Und];
        if !made.contains(&kind) && !known.has_file(kind, id) {
            let word = FdTypes::DESCRIPTOR.name_of(kind.number());
            let word = word.map_or_else(|| kind.number().to_string(), str::to_owned);
            let problem = format!("no {word} file has the id {id}");
            // As by a working directory that is the root; such faults stand side by side.
            let mut last = self.verified.faults.iter().rev().take(2);
            let repeated = last.any(|fault| {
                fault.file.as_ref() == Some(&name)
                    && fault.entry == entry
                    && fault.problem == problem
            });
            if !repeated {
                self.fault(Some(&name), entry, problem);
            }
        }
    }

    fn area(&mut self, name: &str, vma: &VmaEntry, known: &Known) {
        let is = |bits: u32| vma.status & bits != 0;
        if is(VMA_EXT_PLUGIN) {
            return;
        }
        let file = u32::try_from(vma.shmid).unwrap_or(0);
        let problem = match () {
            () if is(VMA_ANON_SHARED) => {
                if known.has(ImageKind::ShmemPagemap, vma.shmid) {
                    return;
                }
                format!("{} is missing", ImageKind::ShmemPagemap.file(vma.shmid))
            }
            () if is(VMA_AREA_SOCKET) && !known.has_file(FdTypes::Packetsk, file) => {
                format!("no PACKETSK file has the id {}", vma.shmid)
            }
            () if is(VMA_AREA_MEMFD) => {
                if known.has_file(FdTypes::Memfd, file) {
                    return;
                }
                format!("no MEMFD file has the id {}", vma.shmid)
            }
            () if is(VMA_FILE_PRIVATE | VMA_FILE_SHARED) => {
                if known.has_file(FdTypes::Reg, file) {
                    return;
                }
                format!("no REG file has the id {}", vma.shmid)
            }
            () => return,
        };
        self.fault(
            Some(name),
            Some(0),
            format!("area at {:#x}: {problem}", vma.start),
        );
    }

    /// A namespace that CRIU did not run in was dumped, and has images.
    fn namespaces(&mut self, pid: u32, ids: &TaskKobjIdsEntry, known: &Known) {
        let host = &known.host;
        for (word, id, host, kind) in [
            ("mount", ids.mnt_ns_id, host.mnt_ns_id, ImageKind::Mnts),
            ("network", ids.net_ns_id, host.net_ns_id, ImageKind::Netns),
            ("IPC", ids.ipc_ns_id, host.ipc_ns_id, ImageKind::IpcVar),
            ("UTS", ids.uts_ns_id, host.uts_ns_id, ImageKind::Utsns),
            ("user", ids.user_ns_id, host.user_ns_id, ImageKind::Userns),
        ] {
            let Some(id) = id.filter(|_| id != host && host.is_some()) else {
                continue;
            };
            // Its content can be left out (`--empty-ns net`), as runc always does: all of it then.
            if kind == ImageKind::Netns && !NETWORK.iter().any(|kind| known.has(*kind, id)) {
                continue;
            }
            if !known.has(kind, id) {
                let name = ImageKind::Ids.file(pid.into());
                let problem = format!("{word} namespace {id}: {} is missing", kind.file(id.into()));
                self.fault(Some(&name), Some(0), problem);
            }
        }
    }
}

/// Images of what is in a network namespace, beside its settings.
const NETWORK: [ImageKind; 3] = [ImageKind::Netdev, ImageKind::Ifaddr, ImageKind::Route];

/// The other end is outside the checkpoint (`USK_EXTERN` of `uflags`, from CRIU's `sk-unix.c`).
const USK_EXTERN: u32 = 1;
