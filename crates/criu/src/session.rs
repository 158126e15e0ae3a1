//! A connection to one CRIU worker, and the requests made on it.

use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitStatus;
use std::time::Duration;

use criu_image::wire::Message;

use crate::conclusion::{
    Ending, Limit, conclude, receive_ending, send_ending, started, started_child,
};
use crate::error::{Error, Result};
use crate::exchange::{Exchange, Step};
use crate::failure::Witness;
use crate::features::Features;
use crate::link::{After, Link};
use crate::notify::{Hooks, NoHooks};
use crate::operation::Operation;
use crate::outcome::{
    self, DumpOutcome, PageServerChild, PreDumpOutcome, RestoreOutcome, StartedPageServer,
};
use crate::request::{Check, CpuInfo, Dump, PageServer, PreDump, Prepared, Restore};
use crate::rpc::{CriuReq, CriuReqType, CriuResp};
use crate::statistics::Series;
use crate::submission::{Submission, admit, newest_need, question, told_version, too_old};
use crate::transport::Incoming;
use crate::version::Version;
use crate::worker::Worker;

/// A connection to one CRIU worker that serves several requests.
///
/// Made by [`crate::Criu::session`], or around a socket that is connected to a worker already. CRIU
/// keeps a connection open only after questions ([`Session::version`], [`Session::features`], page
/// servers, processor features) and pre-dumps; the requests that end it take the session by value.
#[derive(Debug)]
pub struct Session {
    link: Link,
    timeout: Option<Duration>,
    version: Option<Version>,
    series: Series,
}

impl Session {
    pub(crate) fn new(link: Link, timeout: Option<Duration>, version: Option<Version>) -> Self {
        Self {
            link,
            timeout,
            version,
            series: Series::default(),
        }
    }

    /// Uses a `SOCK_SEQPACKET` socket that is connected to a CRIU worker already: one that `criu swrk`
    /// was started with, or a connection to a `criu service`.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Io`] when it is a socket of another kind.
    pub fn from_socket(socket: OwnedFd) -> Result<Self> {
        Ok(Self::new(Link::from_socket(socket)?, None, None))
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
    /// Those of every request: [`crate::Error::Refused`], [`crate::Error::Lost`], [`crate::Error::TimedOut`],
    /// [`crate::Error::Protocol`].
    pub fn version(&mut self) -> Result<Version> {
        if let Some(version) = &self.version {
            return Ok(version.clone());
        }
        let request = question(CriuReqType::Version);
        let version = told_version(self.ask(Operation::Version, request))?;
        self.version = Some(version.clone());
        Ok(version)
    }

    /// Asks which optional features CRIU and the kernel have.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn features(&mut self) -> Result<Features> {
        let mut request = question(CriuReqType::FeatureCheck);
        request.features = Some(Box::new(Features::question()));
        let answer = self.ask(Operation::FeatureCheck, request)?;
        Ok(Features::from_answer(&answer.features.unwrap_or_default()))
    }

    /// Records this machine's processor features.
    ///
    /// # Errors
    ///
    /// Those of every request; [`crate::Error::Refused`] with `ENOTSUP` where CRIU cannot tell them.
    pub fn cpuinfo_dump(&mut self, cpuinfo: &CpuInfo) -> Result<()> {
        let prepared = cpuinfo.prepare(Operation::CpuInfoDump)?;
        self.submit(prepared, After::Continues, None).map(drop)
    }

    /// Compares recorded processor features with this machine's.
    ///
    /// # Errors
    ///
    /// Those of every request; [`crate::Error::Refused`] when they do not match.
    pub fn cpuinfo_check(&mut self, cpuinfo: &CpuInfo) -> Result<()> {
        let prepared = cpuinfo.prepare(Operation::CpuInfoCheck)?;
        self.submit(prepared, After::Continues, None).map(drop)
    }

    /// Starts a page server that outlives the session.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn page_server(&mut self, server: &PageServer) -> Result<StartedPageServer> {
        let prepared = server.prepare(CriuReqType::PageServer)?;
        let answer = self.submit(prepared, After::Continues, None)?;
        Ok(started(&answer))
    }

    /// Starts a page server that is a child of the worker: [`Session::wait_pid`] waits for it.
    ///
    /// It outlives a session that is dropped, and then ends once it has served its client.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn page_server_child(&mut self, server: &PageServer) -> Result<PageServerChild> {
        let prepared = server.prepare(CriuReqType::PageServerChld)?;
        let answer = self.submit(prepared, After::Continues, None)?;
        Ok(started_child(&answer))
    }

    /// Waits until a child of the worker ends, and ends the session.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Refused`] when the worker has no such child.
    pub fn wait_pid(mut self, pid: i32) -> Result<ExitStatus> {
        let pid = u32::try_from(pid).map_err(|_| Error::Misuse {
            problem: "a process id must be positive",
        })?;
        let mut request = question(CriuReqType::WaitPid);
        request.pid = Some(pid);
        request.keep_open = None;
        let witness = Witness::new(Operation::WaitPid, crate::request::LogPlace::Nowhere, None);
        let answer = self.exchange(request, &witness, After::Ends, &mut NoHooks)?;
        Ok(std::os::unix::process::ExitStatusExt::from_raw(
            answer.status.unwrap_or(0),
        ))
    }

    /// Copies the memory of a running tree; after it only [`Session::pre_dump`] and
    /// [`Session::dump`] may follow.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn pre_dump(&mut self, pre_dump: &PreDump) -> Result<PreDumpOutcome> {
        let prepared = pre_dump.prepare(CriuReqType::PreDump)?;
        if self.link.is_open() {
            // Once pre-dumping has begun CRIU answers no questions.
            self.version()?;
        }
        let work_dir = prepared.work_dir();
        self.submit(prepared, After::Continues, None)?;
        let mut outcome = outcome::of_pre_dump(work_dir.as_ref());
        outcome.statistics = self.series.of_last(outcome.statistics);
        Ok(outcome)
    }

    /// Dumps a tree and ends the session.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn dump(self, dump: &Dump) -> Result<DumpOutcome> {
        self.finish_dump(dump, None)
    }

    /// Dumps a tree, reacting to notifications, and ends the session.
    ///
    /// # Errors
    ///
    /// Those of every request, and [`crate::Error::Hook`].
    pub fn dump_with(self, dump: &Dump, hooks: &mut dyn Hooks) -> Result<DumpOutcome> {
        self.finish_dump(dump, Some(hooks))
    }

    /// Restores a tree and ends the session.
    ///
    /// # Errors
    ///
    /// Those of every request.
    pub fn restore(self, restore: &Restore) -> Result<RestoreOutcome> {
        self.finish_restore(restore, None)
    }

    /// Restores a tree, reacting to notifications, and ends the session.
    ///
    /// # Errors
    ///
    /// Those of every request, and [`crate::Error::Hook`].
    pub fn restore_with(self, restore: &Restore, hooks: &mut dyn Hooks) -> Result<RestoreOutcome> {
        self.finish_restore(restore, Some(hooks))
    }

    /// Checks that CRIU can work here, and ends the session.
    ///
    /// # Errors
    ///
    /// Those of every request; [`crate::Error::Refused`] when something CRIU needs is missing.
    pub fn check(mut self, check: &Check) -> Result<()> {
        self.submit(check.prepare()?, After::Ends, None).map(drop)
    }

    fn finish_dump(mut self, dump: &Dump, hooks: Option<&mut dyn Hooks>) -> Result<DumpOutcome> {
        let prepared = dump.prepare()?;
        let work_dir = prepared.work_dir();
        let answer = self.submit(prepared, After::Ends, hooks)?;
        let mut outcome = outcome::of_dump(&answer, work_dir.as_ref());
        outcome.statistics = self.series.of_last(outcome.statistics);
        Ok(outcome)
    }

    fn finish_restore(
        mut self,
        restore: &Restore,
        hooks: Option<&mut dyn Hooks>,
    ) -> Result<RestoreOutcome> {
        let prepared = restore.prepare()?;
        let work_dir = prepared.work_dir();
        let answer = self.submit(prepared, After::restore(restore), hooks)?;
        outcome::of_restore(&answer, restore, work_dir.as_ref(), self.link.worker.take())
    }

    pub(crate) fn into_worker(mut self) -> Option<Worker> {
        self.link.worker.take()
    }

    fn ask(&mut self, operation: Operation, request: CriuReq) -> Result<Box<CriuResp>> {
        let witness = Witness::new(operation, crate::request::LogPlace::Nowhere, None);
        self.exchange(request, &witness, After::Continues, &mut NoHooks)
    }

    pub(crate) fn submit(
        &mut self,
        prepared: Prepared<'_>,
        after: After,
        hooks: Option<&mut dyn Hooks>,
    ) -> Result<Box<CriuResp>> {
        admit(&prepared, &self.link)?;
        if let Some((feature, needed)) = newest_need(&prepared) {
            too_old(&self.version()?, feature, needed)?;
        }
        let Submission {
            request,
            witness,
            held,
        } = Submission::new(prepared, after, hooks.is_some());
        let answer = match hooks {
            Some(hooks) => self.exchange(request, &witness, after, hooks),
            None => self.exchange(request, &witness, after, &mut NoHooks),
        };
        drop(held);
        answer
    }

    fn exchange(
        &mut self,
        request: CriuReq,
        witness: &Witness,
        after: After,
        hooks: &mut dyn Hooks,
    ) -> Result<Box<CriuResp>> {
        self.link.begin(witness.operation)?;
        let mut exchange = Exchange::new(request.r#type);
        let limit = Limit::from_now(self.timeout);
        let ending = self.converse(&request.encode(), &mut exchange, hooks, limit);
        let panic = exchange.take_panic();
        let answer = conclude(ending, exchange, witness, &mut self.link, after, limit);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        let answer = answer?;
        self.link.keep(after);
        Ok(answer)
    }

    fn converse(
        &mut self,
        request: &[u8],
        exchange: &mut Exchange,
        hooks: &mut dyn Hooks,
        limit: Limit,
    ) -> Ending {
        let deadline = limit.deadline;
        let connection = &self.link.connection;
        let mut outgoing = request.to_vec();
        loop {
            if let Err(error) = connection.send(&outgoing, deadline) {
                return send_ending(error);
            }
            let peer = self.link.worker.as_ref().map(Worker::pidfd);
            let packet = match connection.receive(deadline, peer) {
                Ok(Incoming::Packet(packet)) => packet,
                Ok(Incoming::Closed | Incoming::PeerExited) => return Ending::Closed,
                Ok(Incoming::TimedOut) => return Ending::TimedOut,
                Err(error) => return receive_ending(error),
            };
            match exchange.step(packet) {
                Step::Answer(answer) => return Ending::Answered(answer),
                Step::Nonsense(problem) => return Ending::Nonsense(problem),
                Step::Notify(mut notification) => {
                    let mut external = Vec::new();
                    let event = notification.event(&mut external);
                    let result = if exchange.has_panicked() {
                        Ok(())
                    } else {
                        exchange.settle(catch_unwind(AssertUnwindSafe(|| hooks.on(event))))
                    };
                    outgoing = exchange.reply(notification, result, &external);
                }
            }
        }
    }
}
