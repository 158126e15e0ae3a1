//! Checkpointing a process tree, at once or with rounds before.

use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use super::memory::{Compression, ImageIo, Pages, Tls};
use super::prepared::Prepared;
use super::settings::{set, set_flag, text};
use super::{Directory, DumpCgroups, DumpMounts, NetworkLock, PidfdStore, Settings, Sockets};
use crate::error::{Error, Result};
use crate::operation::Operation;
use crate::rpc::{CriuOpts, CriuPreDumpMode, CriuReqType};

/// The root of the tree to dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// The process of this id, as the caller sees it; not the caller itself.
    Process(i32),
    /// The calling process itself.
    ///
    /// The call returns twice, like `fork`: once in the process that goes on running if
    /// [`FinalState::Running`] is asked for, and once in each restored copy.
    Caller,
}

impl From<i32> for Target {
    fn from(pid: i32) -> Self {
        Self::Process(pid)
    }
}

/// What becomes of the tree once it is dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum FinalState {
    /// It is killed.
    #[default]
    Killed,
    /// It goes on (`--leave-running`).
    Running,
    /// It is left stopped (`--leave-stopped`).
    Stopped,
}

/// Finding the path of a file that is known by its handle only, such as an inotify watch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Irmap {
    /// The search is done even where the path could be opened by handle (`--force-irmap`).
    pub force: bool,
    /// More paths to search (`--irmap-scan-path`).
    pub scan_paths: Vec<PathBuf>,
}

/// Dumps a process tree (`criu dump`).
///
/// ```
/// use criu::{Dump, FinalState};
///
/// let mut dump = Dump::new(1234, "/var/lib/checkpoints/1");
/// dump.then = FinalState::Running;
/// dump.sockets.tcp_established = true;
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Dump {
    /// What is dumped.
    pub target: Target,
    /// Where the images go.
    pub images: Directory,
    /// The images of the pre-dump before this, relative to `images` (`--prev-images-dir`).
    pub parent: Option<PathBuf>,
    /// What becomes of the tree.
    pub then: FinalState,
    /// Memory tracking is left on for a next, incremental dump (`--track-mem`).
    pub track_memory: bool,
    /// Pages this dump has are removed from the parent's images (`--auto-dedup`).
    pub auto_dedup: bool,
    /// Where the pages go.
    pub pages: Pages,
    /// TLS for the connection the pages go over.
    pub tls: Option<Tls>,
    /// Compression of the pages (since CRIU 4.3).
    pub compression: Option<Compression>,
    /// How the images are written (since CRIU 4.3).
    pub image_io: Option<ImageIo>,
    /// The images are streamed to a `criu-image-streamer` (since CRIU 4.3 over RPC).
    pub stream: bool,
    /// The tree's session or process group reaches outside, as that of a shell's job does
    /// (`--shell-job`).
    pub shell_job: bool,
    /// File locks are dumped; without this they make the dump fail (`--file-locks`).
    pub file_locks: bool,
    /// Files without a name are given one, so that they can be reopened (`--link-remap`).
    pub link_remap: bool,
    /// Open devices are dumped by any path that leads to them (`--evasive-devices`).
    pub evasive_devices: bool,
    /// Largest file without a name that is kept in the images, in bytes (`--ghost-limit`); CRIU's
    /// default is 1 MiB.
    pub ghost_limit_bytes: Option<u32>,
    /// Finding paths by file handle.
    pub irmap: Irmap,
    /// Connections.
    pub sockets: Sockets,
    /// How the network is locked while the tree is frozen.
    pub network_lock: Option<NetworkLock>,
    /// The contents of the tree's network namespace are left out (`--empty-ns net`).
    pub empty_network_namespace: bool,
    /// Mounts and other external resources.
    pub mounts: DumpMounts,
    /// Control groups.
    pub cgroups: DumpCgroups,
    /// How long CRIU may take to freeze and dump the tree before it gives up by itself (`--timeout`,
    /// whole seconds); 10 s by default. Unlike a client's own timeout it leaves the tree running.
    pub timeout: Option<Duration>,
    /// A profile to record in place of the tasks' own (`--lsm-profile`).
    pub lsm_profile: Option<String>,
    /// Handles kept over a series of pre-dumps.
    pub pidfd_store: Option<PidfdStore>,
    /// Settings of every operation.
    pub settings: Settings,
}

impl Dump {
    /// Dumps `target` into `images`, and kills it.
    pub fn new(target: impl Into<Target>, images: impl Into<Directory>) -> Self {
        Self {
            target: target.into(),
            images: images.into(),
            parent: None,
            then: FinalState::default(),
            track_memory: false,
            auto_dedup: false,
            pages: Pages::default(),
            tls: None,
            compression: None,
            image_io: None,
            stream: false,
            shell_job: false,
            file_locks: false,
            link_remap: false,
            evasive_devices: false,
            ghost_limit_bytes: None,
            irmap: Irmap::default(),
            sockets: Sockets::default(),
            network_lock: None,
            empty_network_namespace: false,
            mounts: DumpMounts::default(),
            cgroups: DumpCgroups::default(),
            timeout: None,
            lsm_profile: None,
            pidfd_store: None,
            settings: Settings::default(),
        }
    }

    /// Makes the request that copies the memory of this dump's tree beforehand, into `images`.
    ///
    /// What both know is the same in it, but for the pages, which stay in the images unless changed.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when there are no descriptors left.
    pub fn pre_dump(&self, images: impl Into<Directory>) -> Result<PreDump> {
        Ok(PreDump {
            tls: self.tls.clone(),
            compression: self.compression.clone(),
            image_io: self.image_io,
            shell_job: self.shell_job,
            irmap: self.irmap.clone(),
            mounts: self.mounts.clone(),
            cgroups: self.cgroups.clone(),
            timeout: self.timeout,
            settings: self.settings.try_clone()?,
            ..PreDump::new(self.target, images)
        })
    }

    /// Builds the message of this request, as it would be sent without hooks.
    ///
    /// For inspection: the descriptors it names were opened for it and are closed again.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Directory`] and [`crate::Error::Misuse`], as the request itself.
    pub fn message(&self) -> Result<CriuOpts> {
        Ok(self.prepare()?.opts)
    }

    pub(crate) fn prepare(&self) -> Result<Prepared<'_>> {
        let mut prepared = Prepared::new(Operation::Dump, CriuReqType::Dump);
        self.settings.apply(&mut prepared, Some(&self.images))?;
        apply_target(self.target, &mut prepared)?;
        apply_pidfd_store(self.pidfd_store.as_ref(), &mut prepared)?;
        self.pages.apply(&mut prepared)?;

        let opts = &mut prepared.opts;
        set(&mut opts.parent_img, self.parent.as_ref().map(text));
        set_flag(&mut opts.leave_running, self.then == FinalState::Running);
        set_flag(&mut opts.leave_stopped, self.then == FinalState::Stopped);
        set_flag(&mut opts.track_mem, self.track_memory);
        set_flag(&mut opts.auto_dedup, self.auto_dedup);
        if let Some(tls) = &self.tls {
            tls.apply(opts);
        }
        if let Some(compression) = &self.compression {
            compression.apply(opts)?;
        }
        set(&mut opts.image_io_mode, self.image_io.map(ImageIo::message));
        set_flag(&mut opts.stream, self.stream);
        set_flag(&mut opts.shell_job, self.shell_job);
        set_flag(&mut opts.file_locks, self.file_locks);
        set_flag(&mut opts.link_remap, self.link_remap);
        set_flag(&mut opts.evasive_devices, self.evasive_devices);
        set(&mut opts.ghost_limit, self.ghost_limit_bytes);
        self.irmap.apply(opts);
        self.sockets.apply(opts);
        set(
            &mut opts.network_lock,
            self.network_lock.map(NetworkLock::message),
        );
        if self.empty_network_namespace {
            opts.empty_ns = Some(CLONE_NEWNET);
        }
        self.mounts.apply(opts);
        self.cgroups.apply(opts);
        set(&mut opts.timeout, self.timeout.map(whole_seconds));
        set(&mut opts.lsm_profile, self.lsm_profile.as_ref().map(text));
        Ok(prepared)
    }
}

/// How a pre-dump reads memory (`--pre-dump-mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PreDumpMode {
    /// Tasks are stopped until all pages are in pipes. CRIU's default.
    Splice,
    /// Tasks run on while their memory is read.
    Read,
}

impl PreDumpMode {
    const fn message(self) -> CriuPreDumpMode {
        match self {
            Self::Splice => CriuPreDumpMode::Splice,
            Self::Read => CriuPreDumpMode::VmRead,
        }
    }
}

/// Copies the memory of a tree that goes on running, so that a later dump has less to copy
/// (`criu pre-dump`). Needs memory tracking ([`crate::Feature::MemoryTracking`]).
#[derive(Debug)]
#[non_exhaustive]
pub struct PreDump {
    /// What is dumped.
    pub target: Target,
    /// Where the images go.
    pub images: Directory,
    /// The images of the round before this, relative to `images` (`--prev-images-dir`).
    pub parent: Option<PathBuf>,
    /// How memory is read.
    pub mode: Option<PreDumpMode>,
    /// Pages this round has are removed from the parent's images (`--auto-dedup`).
    pub auto_dedup: bool,
    /// Where the pages go.
    pub pages: Pages,
    /// TLS for the connection the pages go over.
    pub tls: Option<Tls>,
    /// Compression of the pages (since CRIU 4.3).
    pub compression: Option<Compression>,
    /// How the images are written (since CRIU 4.3).
    pub image_io: Option<ImageIo>,
    /// The tree's session reaches outside (`--shell-job`).
    pub shell_job: bool,
    /// Finding paths by file handle; done while the tree runs, to spare the dump.
    pub irmap: Irmap,
    /// Mounts and other external resources.
    pub mounts: DumpMounts,
    /// Control groups.
    pub cgroups: DumpCgroups,
    /// How long CRIU may take before it gives up by itself (`--timeout`, whole seconds).
    pub timeout: Option<Duration>,
    /// Handles kept over the series.
    pub pidfd_store: Option<PidfdStore>,
    /// Settings of every operation.
    pub settings: Settings,
}

impl PreDump {
    /// Copies the memory of `target` into `images`.
    pub fn new(target: impl Into<Target>, images: impl Into<Directory>) -> Self {
        Self {
            target: target.into(),
            images: images.into(),
            parent: None,
            mode: None,
            auto_dedup: false,
            pages: Pages::default(),
            tls: None,
            compression: None,
            image_io: None,
            shell_job: false,
            irmap: Irmap::default(),
            mounts: DumpMounts::default(),
            cgroups: DumpCgroups::default(),
            timeout: None,
            pidfd_store: None,
            settings: Settings::default(),
        }
    }

    /// Builds the message of this request, as it would be sent.
    ///
    /// For inspection: the descriptors it names were opened for it and are closed again.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Directory`] and [`crate::Error::Misuse`], as the request itself.
    pub fn message(&self) -> Result<CriuOpts> {
        Ok(self.prepare(CriuReqType::SinglePreDump)?.opts)
    }

    pub(crate) fn prepare(&self, kind: CriuReqType) -> Result<Prepared<'_>> {
        let mut prepared = Prepared::new(Operation::PreDump, kind);
        if self.target == Target::Caller {
            return Err(Error::Misuse {
                problem: "a process cannot pre-dump itself",
            });
        }
        self.settings.apply(&mut prepared, Some(&self.images))?;
        apply_target(self.target, &mut prepared)?;
        apply_pidfd_store(self.pidfd_store.as_ref(), &mut prepared)?;
        self.pages.apply(&mut prepared)?;

        let opts = &mut prepared.opts;
        opts.track_mem = Some(true);
        set(&mut opts.parent_img, self.parent.as_ref().map(text));
        set(&mut opts.pre_dump_mode, self.mode.map(PreDumpMode::message));
        set_flag(&mut opts.auto_dedup, self.auto_dedup);
        if let Some(tls) = &self.tls {
            tls.apply(opts);
        }
        if let Some(compression) = &self.compression {
            compression.apply(opts)?;
        }
        set(&mut opts.image_io_mode, self.image_io.map(ImageIo::message));
        set_flag(&mut opts.shell_job, self.shell_job);
        self.irmap.apply(opts);
        self.mounts.apply(opts);
        self.cgroups.apply(opts);
        set(&mut opts.timeout, self.timeout.map(whole_seconds));
        Ok(prepared)
    }
}

/// The flag of a network namespace in the kernel's `clone`.
pub(super) const CLONE_NEWNET: u32 = 0x4000_0000;

impl Irmap {
    fn apply(&self, opts: &mut CriuOpts) {
        set_flag(&mut opts.force_irmap, self.force);
        opts.irmap_scan_paths
            .extend(self.scan_paths.iter().map(text));
    }
}

fn apply_target(target: Target, prepared: &mut Prepared<'_>) -> Result<()> {
    match target {
        Target::Process(pid) if pid <= 0 => {
            return Err(Error::Misuse {
                problem: "a process id must be positive",
            });
        }
        // As a child of ours the worker would be part of the tree it freezes.
        Target::Process(pid) if pid.unsigned_abs() == std::process::id() => {
            return Err(Error::Misuse {
                problem: "a process dumps itself by Target::Caller, not by its id",
            });
        }
        Target::Process(pid) => {
            prepared.opts.pid = Some(pid);
            prepared.target = Some(pid);
        }
        Target::Caller => prepared.dumps_caller = true,
    }
    Ok(())
}

fn apply_pidfd_store(store: Option<&PidfdStore>, prepared: &mut Prepared<'_>) -> Result<()> {
    if let Some(store) = store {
        let socket = store.share().map_err(|source| Error::Io {
            doing: "share the pidfd store",
            source,
        })?;
        prepared.opts.pidfd_store_sk = Some(socket.as_raw_fd());
        prepared.held.push(socket);
    }
    Ok(())
}

/// CRIU counts whole seconds, and takes 0 for its default: a shorter time becomes one second.
fn whole_seconds(time: Duration) -> u32 {
    let rounded_up = time
        .as_secs()
        .saturating_add(u64::from(time.subsec_nanos() > 0))
        .max(1);
    u32::try_from(rounded_up).unwrap_or(u32::MAX)
}
