//! A connection to one CRIU worker, with futures for its requests.

use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::process::ExitStatus;
use std::time::Duration;

use criu_image::wire::Message;
use tokio::time::timeout_at;

use super::Hooks;
use super::conversation::{converse, worker_end};
use crate::conclusion::{Ending, Limit, conclude, started, started_child};
use crate::error::{Error, Result};
use crate::exchange::Exchange;
use crate::failure::Witness;
use crate::features::Features;
use crate::link::{After, Link};
use crate::notify::NoHooks;
use crate::operation::Operation;
use crate::outcome::{
    self, DumpOutcome, PageServerChild, PreDumpOutcome, RestoreOutcome, StartedPageServer,
};
use crate::request::{Check, CpuInfo, Dump, LogPlace, PageServer, PreDump, Prepared, Restore};
use crate::rpc::{CriuReq, CriuReqType, CriuResp};
use crate::statistics::Series;
use crate::submission::{Submission, admit, newest_need, question, told_version, too_old};
use crate::version::Version;
use crate::worker::exit_grace;

/// For requests without hooks: CRIU is then not asked to notify.
const NO_HOOKS: Option<&mut NoHooks> = None;

/// A connection to one CRIU worker that serves several requests, as [`crate::Session`] does.
#[derive(Debug)]
pub struct Session {
    link: Link,
    timeout: Option<Duration>,
    version: Option<Version>,
    series: Series,
}

impl Session {
    /// Uses a socket that is connected to a CRIU worker already; see [`crate::Session::from_socket`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn from_socket(socket: OwnedFd) -> Result<Self> {
        Ok(Self {
            link: Link::from_socket(socket)?,
            timeout: None,
            version: None,
            series: Series::default(),
        })
    }

    /// Limits the time each request may take; see [`crate::Criu::with_timeout`].
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Asks for CRIU's version.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::version`].
    pub async fn version(&mut self) -> Result<Version> {
        if let Some(version) = &self.version {
            return Ok(version.clone());
        }
        let request = question(CriuReqType::Version);
        let version = told_version(self.ask(Operation::Version, request).await)?;
        self.version = Some(version.clone());
        Ok(version)
    }

    /// Asks which optional features CRIU and the kernel have.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::features`].
    pub async fn features(&mut self) -> Result<Features> {
        let mut request = question(CriuReqType::FeatureCheck);
        request.features = Some(Box::new(Features::question()));
        let answer = self.ask(Operation::FeatureCheck, request).await?;
        Ok(Features::from_answer(&answer.features.unwrap_or_default()))
    }

    /// Records this machine's processor features.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::cpuinfo_dump`].
    pub async fn cpuinfo_dump(&mut self, cpuinfo: &CpuInfo) -> Result<()> {
        self.go_on(cpuinfo.prepare(Operation::CpuInfoDump)?)
            .await
            .map(drop)
    }

    /// Compares recorded processor features with this machine's.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::cpuinfo_check`].
    pub async fn cpuinfo_check(&mut self, cpuinfo: &CpuInfo) -> Result<()> {
        self.go_on(cpuinfo.prepare(Operation::CpuInfoCheck)?)
            .await
            .map(drop)
    }

    /// Starts a page server that outlives the session.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::page_server`].
    pub async fn page_server(&mut self, server: &PageServer) -> Result<StartedPageServer> {
        let answer = self.go_on(server.prepare(CriuReqType::PageServer)?).await?;
        Ok(started(&answer))
    }

    /// Starts a page server that is a child of the worker.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::page_server_child`].
    pub async fn page_server_child(&mut self, server: &PageServer) -> Result<PageServerChild> {
        let prepared = server.prepare(CriuReqType::PageServerChld)?;
        let answer = self.go_on(prepared).await?;
        Ok(started_child(&answer))
    }

    /// Waits until a child of the worker ends, and ends the session.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::wait_pid`].
    pub async fn wait_pid(mut self, pid: i32) -> Result<ExitStatus> {
        let pid = u32::try_from(pid).map_err(|_| Error::Misuse {
            problem: "a process id must be positive",
        })?;
        let mut request = question(CriuReqType::WaitPid);
        request.pid = Some(pid);
        request.keep_open = None;
        let witness = Witness::new(Operation::WaitPid, LogPlace::Nowhere, None);
        let answer = self
            .exchange(request, &witness, After::Ends, NO_HOOKS)
            .await?;
        Ok(std::os::unix::process::ExitStatusExt::from_raw(
            answer.status.unwrap_or(0),
        ))
    }

    /// Copies the memory of a running tree; see [`crate::Session::pre_dump`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn pre_dump(&mut self, pre_dump: &PreDump) -> Result<PreDumpOutcome> {
        let prepared = pre_dump.prepare(CriuReqType::PreDump)?;
        if self.link.is_open() {
            self.version().await?;
        }
        let work_dir = prepared.work_dir();
        self.go_on(prepared).await?;
        let mut outcome = outcome::of_pre_dump(work_dir.as_ref());
        outcome.statistics = self.series.of_last(outcome.statistics);
        Ok(outcome)
    }

    /// Dumps a tree, and ends the session.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::dump`].
    pub async fn dump(mut self, dump: &Dump) -> Result<DumpOutcome> {
        self.run_dump(dump.prepare()?, NO_HOOKS).await
    }

    /// Dumps a tree, reacting to notifications, and ends the session.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::dump_with`].
    pub async fn dump_with<H: Hooks>(mut self, dump: &Dump, hooks: &mut H) -> Result<DumpOutcome> {
        self.run_dump(dump.prepare()?, Some(hooks)).await
    }

    /// Restores a tree, and ends the session.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::restore`].
    pub async fn restore(mut self, restore: &Restore) -> Result<RestoreOutcome> {
        self.run_restore(restore, restore.prepare()?, NO_HOOKS)
            .await
    }

    /// Restores a tree, reacting to notifications, and ends the session.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::restore_with`].
    pub async fn restore_with<H: Hooks>(
        mut self,
        restore: &Restore,
        hooks: &mut H,
    ) -> Result<RestoreOutcome> {
        self.run_restore(restore, restore.prepare()?, Some(hooks))
            .await
    }

    /// Checks that CRIU can work here, and ends the session.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::check`].
    pub async fn check(mut self, check: &Check) -> Result<()> {
        self.run(check.prepare()?).await.map(drop)
    }

    pub(super) fn new(link: Link, timeout: Option<Duration>, version: Option<Version>) -> Self {
        Self {
            link,
            timeout,
            version,
            series: Series::default(),
        }
    }

    /// Makes a request that ends the session.
    pub(super) async fn run(&mut self, prepared: Prepared<'_>) -> Result<Box<CriuResp>> {
        self.submit(prepared, After::Ends, NO_HOOKS).await
    }

    pub(super) async fn run_dump<H: Hooks>(
        &mut self,
        prepared: Prepared<'_>,
        hooks: Option<&mut H>,
    ) -> Result<DumpOutcome> {
        let work_dir = prepared.work_dir();
        let answer = self.submit(prepared, After::Ends, hooks).await?;
        let mut outcome = outcome::of_dump(&answer, work_dir.as_ref());
        outcome.statistics = self.series.of_last(outcome.statistics);
        Ok(outcome)
    }

    pub(super) async fn run_restore<H: Hooks>(
        &mut self,
        restore: &Restore,
        prepared: Prepared<'_>,
        hooks: Option<&mut H>,
    ) -> Result<RestoreOutcome> {
        let work_dir = prepared.work_dir();
        let answer = self
            .submit(prepared, After::restore(restore), hooks)
            .await?;
        let worker = self.link.worker.take();
        outcome::of_restore(&answer, restore, work_dir.as_ref(), worker)
    }

    async fn ask(&mut self, operation: Operation, request: CriuReq) -> Result<Box<CriuResp>> {
        let witness = Witness::new(operation, LogPlace::Nowhere, None);
        self.exchange(request, &witness, After::Continues, NO_HOOKS)
            .await
    }

    async fn go_on(&mut self, prepared: Prepared<'_>) -> Result<Box<CriuResp>> {
        self.submit(prepared, After::Continues, NO_HOOKS).await
    }

    async fn submit<H: Hooks>(
        &mut self,
        prepared: Prepared<'_>,
        after: After,
        hooks: Option<&mut H>,
    ) -> Result<Box<CriuResp>> {
        admit(&prepared, &self.link)?;
        if let Some((feature, needed)) = newest_need(&prepared) {
            too_old(&self.version().await?, feature, needed)?;
        }
        let Submission {
            request,
            witness,
            held,
        } = Submission::new(prepared, after, hooks.is_some());
        let answer = self.exchange(request, &witness, after, hooks).await;
        drop(held);
        answer
    }

    async fn exchange<H: Hooks>(
        &mut self,
        request: CriuReq,
        witness: &Witness,
        after: After,
        hooks: Option<&mut H>,
    ) -> Result<Box<CriuResp>> {
        self.link.begin(witness.operation)?;
        let mut exchange = Exchange::new(request.r#type);
        let request = request.encode();
        let conversation = converse(&self.link, &request, &mut exchange, hooks);
        let limit = Limit::from_now(self.timeout);
        let ending = match limit.deadline {
            None => conversation.await,
            Some(deadline) => timeout_at(deadline.into(), conversation)
                .await
                .unwrap_or(Ok(Ending::TimedOut)),
        };
        let ending = ending.unwrap_or_else(|error| Ending::Failed("wait for CRIU", error));
        let ends_by_itself = match &ending {
            Ending::Answered(answer) => !answer.success || after == After::Ends,
            Ending::Closed => true,
            _ => false,
        };
        if ends_by_itself {
            // The blocking wait that follows then finds the worker ended already.
            worker_end(&self.link, exit_grace(limit.deadline)).await;
        }
        let panic = exchange.take_panic();
        let answer = conclude(ending, exchange, witness, &mut self.link, after, limit);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        let answer = answer?;
        self.link.keep(after);
        Ok(answer)
    }
}
