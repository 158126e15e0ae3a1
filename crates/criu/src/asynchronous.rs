//! The same operations as futures, on tokio (feature `tokio`).
//!
//! ```no_run
//! use criu::asynchronous::Criu;
//! use criu::{Dump, Restore};
//!
//! # async fn example() -> criu::Result<()> {
//! let criu = Criu::find()?;
//! criu.dump(&Dump::new(1234, "/tmp/images")).await?;
//! let restored = criu.restore(&Restore::new("/tmp/images")).await?;
//! # Ok(()) }
//! ```
//!
//! A future that is dropped before it is done ends its worker and reaps it. What the worker was doing
//! is then cut short: see [`crate::Criu::with_timeout`] on what that means for a tree. If it waits for
//! a hook at that moment, it is given up to a second to clean up first.

mod conversation;
mod session;

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

pub use session::Session;
use tokio::io::Interest;

use crate::conclusion::{Limit, started};
use crate::error::{Error, Result};
use crate::features::Features;
use crate::link::Link;
use crate::notify::{Event, HookResult};
use crate::operation::Operation;
use crate::outcome::{
    self, DumpOutcome, PreDumpOutcome, RestoreOutcome, RestoredChild, StartedPageServer,
};
use crate::request::{Check, CpuInfo, Dump, PageServer, PreDump, Prepared, Restore};
use crate::rpc::{CriuReqType, CriuResp};
use crate::submission::too_old;
use crate::transport::RETRY_INTERVAL;
use crate::version::Version;

/// Asynchronous reactions to notifications.
pub trait Hooks: Send {
    /// Reacts to a notification; CRIU waits until the future is done.
    fn on(&mut self, event: Event<'_>) -> impl Future<Output = HookResult> + Send;
}

/// Lets blocking hooks serve an asynchronous request. They block its task while they run.
#[derive(Debug)]
pub struct Blocking<H>(pub H);

impl<H: crate::Hooks + Send> Hooks for Blocking<H> {
    async fn on(&mut self, event: Event<'_>) -> HookResult {
        self.0.on(event)
    }
}

impl Hooks for crate::NoHooks {
    async fn on(&mut self, _event: Event<'_>) -> HookResult {
        Ok(())
    }
}

/// Waits for a restored child to end and reaps it; see [`RestoredChild::wait`].
///
/// # Errors
///
/// As there.
pub async fn wait(child: &RestoredChild) -> io::Result<ExitStatus> {
    let ended = conversation::watch(child.as_fd(), Interest::READABLE)?;
    loop {
        let mut ready = ended.readable().await?;
        match child.try_wait()? {
            Some(status) => return Ok(status),
            None => ready.clear_ready(),
        }
    }
}

/// A way to reach CRIU, as [`crate::Criu`] is, with futures for its operations.
#[derive(Debug, Clone)]
pub struct Criu {
    blocking: crate::Criu,
}

impl From<crate::Criu> for Criu {
    fn from(blocking: crate::Criu) -> Self {
        Self { blocking }
    }
}

impl Criu {
    /// Finds the `criu` program; see [`crate::Criu::find`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn find() -> Result<Self> {
        crate::Criu::find().map(Self::from)
    }

    /// Uses the `criu` program at `path`.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::with_binary`].
    pub fn with_binary(path: impl Into<PathBuf>) -> Result<Self> {
        crate::Criu::with_binary(path).map(Self::from)
    }

    /// Uses the `criu service` that listens at `socket`.
    pub fn with_service(socket: impl Into<PathBuf>) -> Self {
        crate::Criu::with_service(socket).into()
    }

    /// Limits the time each request may take, hooks included; see [`crate::Criu::with_timeout`].
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        self.blocking.with_timeout(timeout).into()
    }

    /// Returns the path of the program, unless a service is used.
    pub fn binary(&self) -> Option<&Path> {
        self.blocking.binary()
    }

    /// Starts a worker, or connects to the service, for several requests.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::session`]. A service without room for another connection is not waited for.
    pub fn session(&self) -> Result<Session> {
        Ok(self.open(self.blocking.link(Some(Instant::now()))?))
    }

    /// Asks for CRIU's version, and remembers it.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::version`].
    pub async fn version(&self) -> Result<Version> {
        if let Some(version) = self.blocking.known_version() {
            return Ok(version);
        }
        let version = self.session()?.version().await?;
        Ok(self.blocking.learn_version(version))
    }

    /// Checks that CRIU is `needed` or later.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::require`].
    pub async fn require(&self, needed: &Version) -> Result<()> {
        too_old(
            &self.version().await?,
            "what was asked for".to_owned(),
            needed.clone(),
        )
    }

    /// Asks which optional features CRIU and the kernel have.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::features`].
    pub async fn features(&self) -> Result<Features> {
        self.session()?.features().await
    }

    /// Checks that CRIU can work here.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::check`].
    pub async fn check(&self, check: &Check) -> Result<()> {
        self.run(check.prepare()?).await.map(drop)
    }

    /// Dumps a process tree.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::dump`].
    pub async fn dump(&self, dump: &Dump) -> Result<DumpOutcome> {
        let prepared = dump.prepare()?;
        self.session_for(&prepared)
            .await?
            .run_dump(prepared, None::<&mut crate::NoHooks>)
            .await
    }

    /// Dumps a process tree, reacting to notifications.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::dump_with`].
    pub async fn dump_with<H: Hooks>(&self, dump: &Dump, hooks: &mut H) -> Result<DumpOutcome> {
        let prepared = dump.prepare()?;
        self.session_for(&prepared)
            .await?
            .run_dump(prepared, Some(hooks))
            .await
    }

    /// Copies the memory of a tree that goes on running, in one round.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::pre_dump`].
    pub async fn pre_dump(&self, pre_dump: &PreDump) -> Result<PreDumpOutcome> {
        let prepared = pre_dump.prepare(CriuReqType::SinglePreDump)?;
        let work_dir = prepared.work_dir();
        self.run(prepared).await?;
        Ok(outcome::of_pre_dump(work_dir.as_ref()))
    }

    /// Restores a process tree.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::restore`].
    pub async fn restore(&self, restore: &Restore) -> Result<RestoreOutcome> {
        let prepared = restore.prepare()?;
        self.session_for(&prepared)
            .await?
            .run_restore(restore, prepared, None::<&mut crate::NoHooks>)
            .await
    }

    /// Restores a process tree, reacting to notifications.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::restore_with`].
    pub async fn restore_with<H: Hooks>(
        &self,
        restore: &Restore,
        hooks: &mut H,
    ) -> Result<RestoreOutcome> {
        let prepared = restore.prepare()?;
        self.session_for(&prepared)
            .await?
            .run_restore(restore, prepared, Some(hooks))
            .await
    }

    /// Starts a page server that runs by itself until one client has sent its pages.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::page_server`].
    pub async fn page_server(&self, server: &PageServer) -> Result<StartedPageServer> {
        let answer = self.run(server.prepare(CriuReqType::PageServer)?).await?;
        Ok(started(&answer))
    }

    /// Records this machine's processor features in an images directory.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::cpuinfo_dump`].
    pub async fn cpuinfo_dump(&self, cpuinfo: &CpuInfo) -> Result<()> {
        self.run(cpuinfo.prepare(Operation::CpuInfoDump)?)
            .await
            .map(drop)
    }

    /// Compares the processor features recorded in an images directory with this machine's.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::cpuinfo_check`].
    pub async fn cpuinfo_check(&self, cpuinfo: &CpuInfo) -> Result<()> {
        self.run(cpuinfo.prepare(Operation::CpuInfoCheck)?)
            .await
            .map(drop)
    }

    async fn run(&self, prepared: Prepared<'_>) -> Result<Box<CriuResp>> {
        self.session_for(&prepared).await?.run(prepared).await
    }

    async fn session_for(&self, prepared: &Prepared<'_>) -> Result<Session> {
        let limit = Limit::from_now(self.blocking.timeout());
        loop {
            match self.blocking.link_for(prepared, Some(Instant::now())) {
                Err(Error::Connect { source, .. })
                    if source.kind() == io::ErrorKind::TimedOut && !limit.has_passed() => {}
                link => return Ok(self.open(link?)),
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    fn open(&self, link: Link) -> Session {
        Session::new(link, self.blocking.timeout(), self.blocking.known_version())
    }
}
