//! Bringing a process tree back.

use std::ffi::OsString;
use std::path::PathBuf;

use super::dump::CLONE_NEWNET;
use super::mount::ExternalMount;
use super::prepared::Prepared;
use super::settings::{set, set_flag, text};
use super::{
    Directory, External, ImageIo, InheritFd, JoinNamespace, RestoreCgroups, Settings, Sockets,
};
use crate::error::Result;
use crate::operation::Operation;
use crate::rpc::{
    CriuOpts, CriuReqType, CriuVethPair, InheritFd as RpcInheritFd,
    JoinNamespace as RpcJoinNamespace,
};
use crate::worker::Streams;

/// The names of a restored veth device and of its peer, in the older form.
///
/// [`External::Veth`] is the newer way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VethPair {
    /// Device name in the tree's network namespace.
    pub inner: String,
    /// Name of the peer on this host.
    pub outer: String,
}

impl VethPair {
    /// Names the two ends.
    pub fn new(inner: impl Into<String>, outer: impl Into<String>) -> Self {
        Self {
            inner: inner.into(),
            outer: outer.into(),
        }
    }
}

/// Restores a process tree from images (`criu restore`). The tasks run when the call returns.
#[derive(Debug)]
#[non_exhaustive]
pub struct Restore {
    /// Where the images are.
    pub images: Directory,
    /// The new root directory of a tree with its own mount namespace (`--root`).
    pub root: Option<PathBuf>,
    /// The restored root task becomes a child of the calling process (`--restore-sibling`), which can
    /// then wait for it. Worker mode only.
    pub as_child: bool,
    /// Descriptors that replace dumped files (`--inherit-fd`). Worker mode only.
    pub inherit_fds: Vec<InheritFd>,
    /// External resources, by the names the dump gave them (`--external`).
    pub external: Vec<External>,
    /// External mounts in the older form (`--ext-mount-map`).
    pub ext_mount_map: Vec<ExternalMount>,
    /// Mount points to leave out (`--skip-mnt`).
    pub skip_mounts: Vec<PathBuf>,
    /// Peers of veth devices, in the older form (`--veth-pair`).
    pub veths: Vec<VethPair>,
    /// Namespaces to join (`--join-ns`).
    pub join_namespaces: Vec<JoinNamespace>,
    /// The network namespace is restored empty (`--empty-ns net`).
    pub empty_network_namespace: bool,
    /// Connections.
    pub sockets: Sockets,
    /// Control groups.
    pub cgroups: RestoreCgroups,
    /// The tree was a shell's job and takes over the caller's terminal (`--shell-job`): the worker then
    /// shares our standard streams.
    pub shell_job: bool,
    /// Terminals whose master was not dumped are given to [`crate::Event::OrphanPtsMaster`]
    /// (`--orphan-pts-master`).
    pub orphan_pts_master: bool,
    /// Locks of files are restored (`--file-locks`).
    pub file_locks: bool,
    /// Named remaps of nameless files are followed (`--link-remap`).
    pub link_remap: bool,
    /// Open devices are restored by any path that leads to them (`--evasive-devices`).
    pub evasive_devices: bool,
    /// Memory is fetched when it is first touched, from a `criu lazy-pages` that listens in the working
    /// directory (`--lazy-pages`).
    pub lazy_pages: bool,
    /// Pages are removed from the images once restored (`--auto-dedup`).
    pub auto_dedup: bool,
    /// Threads that decompress pages, 0 for one per processor (since CRIU 4.3).
    pub decompress_threads: Option<u32>,
    /// How the images are read (since CRIU 4.3).
    pub image_io: Option<ImageIo>,
    /// The images come from a `criu-image-streamer` (since CRIU 4.3 over RPC).
    pub stream: bool,
    /// System settings that cannot be restored are skipped (`--weak-sysctls`).
    pub weak_sysctls: bool,
    /// Security profile for the tasks, such as `apparmor:NAME` or `selinux:LABEL` (`--lsm-profile`).
    pub lsm_profile: Option<String>,
    /// Security context for restored mounts (`--lsm-mount-context`).
    pub lsm_mount_context: Option<String>,
    /// The older way of restoring mounts is used (`--mntns-compat-mode`).
    pub mntns_compat_mode: bool,
    /// The permissions of reopened files are not compared (`--skip-file-rwx-check`).
    pub skip_file_rwx_check: bool,
    /// A command that the worker becomes once all is restored (`--exec-cmd`).
    pub then_exec: Vec<OsString>,
    /// Settings of every operation.
    pub settings: Settings,
}

impl Restore {
    /// Restores what is in `images`.
    pub fn new(images: impl Into<Directory>) -> Self {
        Self {
            images: images.into(),
            root: None,
            as_child: false,
            inherit_fds: Vec::new(),
            external: Vec::new(),
            ext_mount_map: Vec::new(),
            skip_mounts: Vec::new(),
            veths: Vec::new(),
            join_namespaces: Vec::new(),
            empty_network_namespace: false,
            sockets: Sockets::default(),
            cgroups: RestoreCgroups::default(),
            shell_job: false,
            orphan_pts_master: false,
            file_locks: false,
            link_remap: false,
            evasive_devices: false,
            lazy_pages: false,
            auto_dedup: false,
            decompress_threads: None,
            image_io: None,
            stream: false,
            weak_sysctls: false,
            lsm_profile: None,
            lsm_mount_context: None,
            mntns_compat_mode: false,
            skip_file_rwx_check: false,
            then_exec: Vec::new(),
            settings: Settings::default(),
        }
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
        let mut prepared = Prepared::new(Operation::Restore, CriuReqType::Restore);
        self.settings.apply(&mut prepared, Some(&self.images))?;
        for inherited in &self.inherit_fds {
            let fd = prepared.hand_over(&inherited.fd, "inherit_fds")?;
            let key = inherited.key.to_string().into();
            let message = RpcInheritFd {
                key,
                fd,
                ..RpcInheritFd::default()
            };
            prepared.opts.inherit_fd.push(message);
        }
        if self.as_child {
            prepared.worker_only = prepared.worker_only.or(Some("as_child"));
        }
        if self.shell_job {
            prepared.streams = Streams::Inherited;
        }

        let opts = &mut prepared.opts;
        set(&mut opts.root, self.root.as_ref().map(text));
        set_flag(&mut opts.rst_sibling, self.as_child);
        opts.external.extend(
            self.external
                .iter()
                .map(|external| external.to_string().into()),
        );
        opts.ext_mnt
            .extend(self.ext_mount_map.iter().map(ExternalMount::message));
        opts.skip_mnt.extend(self.skip_mounts.iter().map(text));
        opts.veths
            .extend(self.veths.iter().map(|veth| CriuVethPair {
                if_in: text(&veth.inner),
                if_out: text(&veth.outer),
                ..CriuVethPair::default()
            }));
        opts.join_ns
            .extend(self.join_namespaces.iter().map(|join| RpcJoinNamespace {
                ns: text(join.kind.name()),
                ns_file: text(&join.file),
                extra_opt: join.extra().map(Into::into),
                ..RpcJoinNamespace::default()
            }));
        if self.empty_network_namespace {
            opts.empty_ns = Some(CLONE_NEWNET);
        }
        self.sockets.apply(opts);
        self.cgroups.apply(opts);
        set_flag(&mut opts.shell_job, self.shell_job);
        set_flag(&mut opts.orphan_pts_master, self.orphan_pts_master);
        set_flag(&mut opts.file_locks, self.file_locks);
        set_flag(&mut opts.link_remap, self.link_remap);
        set_flag(&mut opts.evasive_devices, self.evasive_devices);
        set_flag(&mut opts.lazy_pages, self.lazy_pages);
        set_flag(&mut opts.auto_dedup, self.auto_dedup);
        set(&mut opts.decompress_threads, self.decompress_threads);
        set(&mut opts.image_io_mode, self.image_io.map(ImageIo::message));
        set_flag(&mut opts.stream, self.stream);
        set_flag(&mut opts.weak_sysctls, self.weak_sysctls);
        set(&mut opts.lsm_profile, self.lsm_profile.as_ref().map(text));
        set(
            &mut opts.lsm_mount_context,
            self.lsm_mount_context.as_ref().map(text),
        );
        set_flag(&mut opts.mntns_compat_mode, self.mntns_compat_mode);
        set_flag(&mut opts.skip_file_rwx_check, self.skip_file_rwx_check);
        opts.exec_cmd.extend(self.then_exec.iter().map(text));
        Ok(prepared)
    }
}
