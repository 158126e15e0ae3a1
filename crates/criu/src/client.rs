//! The way to CRIU, and the requests that need no session.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::binary;
use crate::conclusion::started;
use crate::error::{Error, Result};
use crate::features::Features;
use crate::lazy_pages::{LazyPages, LazyPagesServer};
use crate::link::{After, Link};
use crate::notify::Hooks;
use crate::operation::Operation;
use crate::outcome::{self, DumpOutcome, PreDumpOutcome, RestoreOutcome, StartedPageServer};
use crate::request::{Check, CpuInfo, Dump, PageServer, PreDump, Prepared, Restore};
use crate::rpc::CriuReqType;
use crate::session::Session;
use crate::submission::too_old;
use crate::version::Version;

/// A way to reach CRIU.
///
/// Each request starts a worker (or connects to a service), and leaves nothing running behind. Several
/// threads may use one value at once.
///
/// ```no_run
/// use criu::{Criu, Dump, Restore};
///
/// let criu = Criu::find()?;
/// criu.dump(&Dump::new(1234, "/tmp/images"))?;
/// let restored = criu.restore(&Restore::new("/tmp/images"))?;
/// println!("running again as {}", restored.pid);
/// # Ok::<(), criu::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Criu {
    reach: Reach,
    timeout: Option<Duration>,
    /// Asked for at most once, when a request uses what is not in every release.
    version: OnceLock<Version>,
}

#[derive(Debug, Clone)]
enum Reach {
    Worker(PathBuf),
    Service(PathBuf),
}

impl Criu {
    /// Finds the `criu` program: the one `$CRIU` names, else on `PATH` or where it usually is.
    ///
    /// # Errors
    ///
    /// [`crate::Error::BinaryNotFound`], [`crate::Error::BinaryNotExecutable`].
    pub fn find() -> Result<Self> {
        Ok(Self::through(Reach::Worker(binary::find()?)))
    }

    /// Uses the `criu` program at `path`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::BinaryNotFound`], [`crate::Error::BinaryNotExecutable`].
    pub fn with_binary(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        binary::verify(&path)?;
        Ok(Self::through(Reach::Worker(path)))
    }

    /// Uses the `criu service` that listens at `socket`. It is connected to with each request.
    pub fn with_service(socket: impl Into<PathBuf>) -> Self {
        Self::through(Reach::Service(socket.into()))
    }

    fn through(reach: Reach) -> Self {
        Self {
            reach,
            timeout: None,
            version: OnceLock::new(),
        }
    }

    /// Limits the time each request may take, hooks included.
    ///
    /// When it passes, the worker is killed, and the error tells what has become of the tree. A worker
    /// killed in the middle of a dump can leave tasks stopped: [`Dump::timeout`] is the limit that
    /// lets CRIU clean up, and should be the shorter one. What a restore cut short has half made is
    /// killed too, except for a root task that is not below the worker ([`Restore::as_child`]).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Returns the path of the program, unless a service is used.
    pub fn binary(&self) -> Option<&std::path::Path> {
        match &self.reach {
            Reach::Worker(binary) => Some(binary),
            Reach::Service(_) => None,
        }
    }

    /// Starts a worker, or connects to the service, for several requests.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Spawn`], [`crate::Error::Connect`].
    pub fn session(&self) -> Result<Session> {
        Ok(Session::new(
            self.link(self.deadline())?,
            self.timeout,
            self.known_version(),
        ))
    }

    /// Asks for CRIU's version, and remembers it.
    ///
    /// # Errors
    ///
    /// Those of every request: [`crate::Error::Spawn`] or [`crate::Error::Connect`], [`crate::Error::Refused`],
    /// [`crate::Error::Lost`], [`crate::Error::TimedOut`], [`crate::Error::Protocol`].
    pub fn version(&self) -> Result<Version> {
        if let Some(version) = self.known_version() {
            return Ok(version);
        }
        let version = self.session()?.version()?;
        Ok(self.learn_version(version))
    }

    /// Checks that CRIU is `needed` or later.
    ///
    /// # Errors
    ///
    /// [`crate::Error::TooOld`], and those of [`Criu::version`].
    pub fn require(&self, needed: &Version) -> Result<()> {
        too_old(
            &self.version()?,
            "what was asked for".to_owned(),
            needed.clone(),
        )
    }

    /// Asks which optional features CRIU and the kernel have.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn features(&self) -> Result<Features> {
        self.session()?.features()
    }

    /// Checks that CRIU can work here.
    ///
    /// # Errors
    ///
    /// Those of every request; [`crate::Error::Refused`] when something CRIU needs is missing.
    pub fn check(&self, check: &Check) -> Result<()> {
        let prepared = check.prepare()?;
        self.session_for(&prepared)?
            .submit(prepared, After::Ends, None)
            .map(drop)
    }

    /// Dumps a process tree.
    ///
    /// # Errors
    ///
    /// Those of every request, [`crate::Error::NotPrivileged`], [`crate::Error::TooOld`], [`crate::Error::Directory`].
    pub fn dump(&self, dump: &Dump) -> Result<DumpOutcome> {
        self.run_dump(dump, None)
    }

    /// Dumps a process tree, reacting to notifications.
    ///
    /// # Errors
    ///
    /// Those of [`Criu::dump`], and [`crate::Error::Hook`].
    pub fn dump_with(&self, dump: &Dump, hooks: &mut dyn Hooks) -> Result<DumpOutcome> {
        self.run_dump(dump, Some(hooks))
    }

    /// Copies the memory of a tree that goes on running: one round, on a connection of its own.
    ///
    /// # Errors
    ///
    /// Those of [`Criu::dump`].
    pub fn pre_dump(&self, pre_dump: &PreDump) -> Result<PreDumpOutcome> {
        let prepared = pre_dump.prepare(CriuReqType::SinglePreDump)?;
        let work_dir = prepared.work_dir();
        self.session_for(&prepared)?
            .submit(prepared, After::Ends, None)?;
        Ok(outcome::of_pre_dump(work_dir.as_ref()))
    }

    /// Restores a process tree.
    ///
    /// # Errors
    ///
    /// Those of [`Criu::dump`].
    pub fn restore(&self, restore: &Restore) -> Result<RestoreOutcome> {
        self.run_restore(restore, None)
    }

    /// Restores a process tree, reacting to notifications.
    ///
    /// # Errors
    ///
    /// Those of [`Criu::dump`], and [`crate::Error::Hook`].
    pub fn restore_with(&self, restore: &Restore, hooks: &mut dyn Hooks) -> Result<RestoreOutcome> {
        self.run_restore(restore, Some(hooks))
    }

    /// Starts a page server that runs by itself until one client has sent its pages.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn page_server(&self, server: &PageServer) -> Result<StartedPageServer> {
        let prepared = server.prepare(CriuReqType::PageServer)?;
        let answer = self
            .session_for(&prepared)?
            .submit(prepared, After::Ends, None)?;
        Ok(started(&answer))
    }

    /// Starts a server that fills the memory of a tree restored with [`Restore::lazy_pages`]; it is ready then.
    ///
    /// # Errors
    ///
    /// [`crate::Error::NeedsWorker`] where a service is used; [`crate::Error::Spawn`], [`crate::Error::Lost`],
    /// [`crate::Error::TimedOut`] when it does not come up.
    pub fn lazy_pages(&self, lazy_pages: &LazyPages) -> Result<LazyPagesServer> {
        let binary = self.binary().ok_or(Error::NeedsWorker {
            option: "lazy-pages",
        })?;
        lazy_pages.start(binary)
    }

    /// Records this machine's processor features in an images directory.
    ///
    /// # Errors
    ///
    /// Those of every request; [`crate::Error::Refused`] with `ENOTSUP` where CRIU cannot tell them.
    pub fn cpuinfo_dump(&self, cpuinfo: &CpuInfo) -> Result<()> {
        let prepared = cpuinfo.prepare(Operation::CpuInfoDump)?;
        self.session_for(&prepared)?
            .submit(prepared, After::Ends, None)
            .map(drop)
    }

    /// Compares the processor features recorded in an images directory with this machine's.
    ///
    /// # Errors
    ///
    /// Those of every request; [`crate::Error::Refused`] when they do not match.
    pub fn cpuinfo_check(&self, cpuinfo: &CpuInfo) -> Result<()> {
        let prepared = cpuinfo.prepare(Operation::CpuInfoCheck)?;
        self.session_for(&prepared)?
            .submit(prepared, After::Ends, None)
            .map(drop)
    }

    fn run_dump(&self, dump: &Dump, hooks: Option<&mut dyn Hooks>) -> Result<DumpOutcome> {
        let prepared = dump.prepare()?;
        let work_dir = prepared.work_dir();
        let answer = self
            .session_for(&prepared)?
            .submit(prepared, After::Ends, hooks)?;
        Ok(outcome::of_dump(&answer, work_dir.as_ref()))
    }

    fn run_restore(
        &self,
        restore: &Restore,
        hooks: Option<&mut dyn Hooks>,
    ) -> Result<RestoreOutcome> {
        let prepared = restore.prepare()?;
        let work_dir = prepared.work_dir();
        let mut session = self.session_for(&prepared)?;
        let answer = session.submit(prepared, After::restore(restore), hooks)?;
        outcome::of_restore(&answer, restore, work_dir.as_ref(), session.into_worker())
    }

    fn session_for(&self, prepared: &Prepared<'_>) -> Result<Session> {
        Ok(Session::new(
            self.link_for(prepared, self.deadline())?,
            self.timeout,
            self.known_version(),
        ))
    }

    /// Starts a worker, or connects to the service, which may take until `deadline` to accept.
    pub(crate) fn link(&self, deadline: Option<Instant>) -> Result<Link> {
        match &self.reach {
            Reach::Worker(binary) => Link::spawn(binary),
            Reach::Service(socket) => Link::connect(socket, deadline),
        }
    }

    /// As [`Criu::link`], but the worker is one that can serve this very request.
    pub(crate) fn link_for(
        &self,
        prepared: &Prepared<'_>,
        deadline: Option<Instant>,
    ) -> Result<Link> {
        match &self.reach {
            Reach::Worker(binary) => Link::spawn_for(binary, prepared),
            Reach::Service(socket) => Link::connect(socket, deadline),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.timeout?)
    }

    pub(crate) fn known_version(&self) -> Option<Version> {
        self.version.get().cloned()
    }

    pub(crate) fn learn_version(&self, version: Version) -> Version {
        self.version.get_or_init(|| version).clone()
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}
