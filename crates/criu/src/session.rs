//! A connection to one CRIU worker, and the requests made on it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use criu_image::wire::Message;

use crate::error::{Error, Result};
use crate::exchange::{Exchange, Step};
use crate::failure::{CriuErrno, Witness};
use crate::features::Features;
use crate::notify::{Hooks, NoHooks};
use crate::outcome::{DumpOutcome, PreDumpOutcome, RestoreOutcome, StartedPageServer};
use crate::request::{
    Check, CpuInfo, Dump, Operation, PageServer, PreDump, Prepared, Restore, newest_option,
};
use crate::rpc::{CriuReq, CriuReqType, CriuResp};
use crate::transport::{Connection, Incoming};
use crate::version::Version;
use crate::worker::{Streams, Worker, spawn_detached};
use crate::outcome;

/// The oldest CRIU spoken to: the first whose worker can tell its version.
pub const OLDEST_SUPPORTED: Version = Version::new(3, 0, 0);

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
}

/// The connection, and the worker behind it if it is ours.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) worker: Option<Worker>,
    /// What the worker was started with; `None` when it is not ours.
    readiness: Option<Readiness>,
    ended: bool,
}

/// What a worker has to be started with to serve a request.
#[derive(Debug, PartialEq, Eq)]
struct Readiness {
    descriptors: usize,
    streams: Streams,
    outside_tree: bool,
}

impl Readiness {
    fn of(prepared: &Prepared<'_>) -> Self {
        Self {
            descriptors: prepared.handed_over.len(),
            streams: prepared.streams,
            outside_tree: prepared.dumps_caller,
        }
    }
}

impl Link {
    /// Starts a worker for several requests.
    pub(crate) fn spawn(binary: &Path) -> Result<Self> {
        let readiness =
            Readiness { descriptors: 0, streams: Streams::Quiet, outside_tree: false };
        Self::spawn_ready(binary, &[], readiness)
    }

    /// Starts a worker for one request.
    pub(crate) fn spawn_for(binary: &Path, prepared: &Prepared<'_>) -> Result<Self> {
        Self::spawn_ready(binary, &prepared.handed_over, Readiness::of(prepared))
    }

    fn spawn_ready(
        binary: &Path,
        descriptors: &[BorrowedFd<'_>],
        readiness: Readiness,
    ) -> Result<Self> {
        crate::binary::verify(binary)?;
        let (worker, connection) = if readiness.outside_tree {
            (None, spawn_detached(binary)?)
        } else {
            let (worker, connection) = Worker::spawn(binary, descriptors, readiness.streams)?;
            (Some(worker), connection)
        };
        Ok(Self { connection, worker, readiness: Some(readiness), ended: false })
    }

    /// Takes up a request. The link counts as ended until [`Link::keep`]: an error, or a panic in a
    /// hook, leaves it so.
    pub(crate) fn begin(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Err(Error::Misuse { problem: "the session has ended" });
        }
        Ok(())
    }

    /// Goes on after a request that succeeded.
    pub(crate) fn keep(&mut self, after: After) {
        self.ended = after == After::Ends;
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.ended
    }

    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let connection = Connection::connect(path)
            .map_err(|source| Error::Connect { path: path.to_owned(), source })?;
        Ok(Self { connection, worker: None, readiness: None, ended: false })
    }

    pub(crate) fn from_socket(socket: OwnedFd) -> Result<Self> {
        let connection = Connection::from_socket(socket)
            .map_err(|source| Error::Io { doing: "use the socket handed in", source })?;
        Ok(Self { connection, worker: None, readiness: None, ended: false })
    }
}

/// How an exchange with CRIU came to its end.
#[derive(Debug)]
pub(crate) enum Ending {
    Answered(Box<CriuResp>),
    Closed,
    TimedOut,
    Nonsense(String),
    Failed(&'static str, std::io::Error),
}

/// What is left open after a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// CRIU ends the connection.
    Ends,
    /// CRIU waits for the next request, if this one succeeds.
    Continues,
}

impl Session {
    pub(crate) fn new(link: Link, timeout: Option<Duration>, version: Option<Version>) -> Self {
        Self { link, timeout, version }
    }

    /// Uses a `SOCK_SEQPACKET` socket that is connected to a CRIU worker already: one that `criu swrk`
    /// was started with, or a connection to a `criu service`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it is a socket of another kind.
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
    /// Those of every request: [`Error::Refused`], [`Error::Lost`], [`Error::TimedOut`],
    /// [`Error::Protocol`].
    pub fn version(&mut self) -> Result<Version> {
        if let Some(version) = &self.version {
            return Ok(version.clone());
        }
        let request = question(CriuReqType::Version);
        let answer = self.ask(Operation::Version, request)?;
        let version = Version::from_rpc(&answer.version.unwrap_or_default());
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
    /// Those of every request; [`Error::Refused`] with `ENOTSUP` where CRIU cannot tell them.
    pub fn cpuinfo_dump(&mut self, cpuinfo: &CpuInfo) -> Result<()> {
        let prepared = cpuinfo.prepare(Operation::CpuInfoDump)?;
        self.submit(prepared, After::Continues, None).map(drop)
    }

    /// Compares recorded processor features with this machine's.
    ///
    /// # Errors
    ///
    /// Those of every request; [`Error::Refused`] when they do not match.
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
    /// # Errors
    ///
    /// Those of every request.
    pub fn page_server_child(&mut self, server: &PageServer) -> Result<StartedPageServer> {
        let prepared = server.prepare(CriuReqType::PageServerChld)?;
        let answer = self.submit(prepared, After::Continues, None)?;
        Ok(started(&answer))
    }

    /// Waits until a child of the worker ends, and ends the session.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when the worker has no such child.
    pub fn wait_pid(mut self, pid: i32) -> Result<ExitStatus> {
        let pid = u32::try_from(pid)
            .map_err(|_| Error::Misuse { problem: "a process id must be positive" })?;
        let mut request = question(CriuReqType::WaitPid);
        request.pid = Some(pid);
        request.keep_open = None;
        let witness = Witness::new(Operation::WaitPid, crate::request::LogPlace::Nowhere, None);
        let answer = self.exchange(request, &witness, After::Ends, &mut NoHooks)?;
        Ok(std::os::unix::process::ExitStatusExt::from_raw(answer.status.unwrap_or(0)))
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
        Ok(outcome::of_pre_dump(work_dir.as_ref()))
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
    /// Those of every request, and [`Error::Hook`].
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
    /// Those of every request, and [`Error::Hook`].
    pub fn restore_with(self, restore: &Restore, hooks: &mut dyn Hooks) -> Result<RestoreOutcome> {
        self.finish_restore(restore, Some(hooks))
    }

    /// Checks that CRIU can work here, and ends the session.
    ///
    /// # Errors
    ///
    /// Those of every request; [`Error::Refused`] when something CRIU needs is missing.
    pub fn check(mut self, check: &Check) -> Result<()> {
        self.submit(check.prepare()?, After::Ends, None).map(drop)
    }

    fn finish_dump(
        mut self,
        dump: &Dump,
        hooks: Option<&mut dyn Hooks>,
    ) -> Result<DumpOutcome> {
        let prepared = dump.prepare()?;
        let work_dir = prepared.work_dir();
        let answer = self.submit(prepared, After::Ends, hooks)?;
        Ok(outcome::of_dump(&answer, work_dir.as_ref()))
    }

    fn finish_restore(
        mut self,
        restore: &Restore,
        hooks: Option<&mut dyn Hooks>,
    ) -> Result<RestoreOutcome> {
        let prepared = restore.prepare()?;
        let work_dir = prepared.work_dir();
        let answer = self.submit(prepared, After::Ends, hooks)?;
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
        let Submission { request, witness, held } =
            Submission::new(prepared, after, hooks.is_some());
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
        self.link.begin()?;
        let mut exchange = Exchange::new(request.r#type);
        let ending = self.converse(&request.encode(), &mut exchange, hooks);
        let answer = conclude(ending, exchange, witness, &mut self.link, after, self.timeout)?;
        self.link.keep(after);
        Ok(answer)
    }

    fn converse(
        &mut self,
        request: &[u8],
        exchange: &mut Exchange,
        hooks: &mut dyn Hooks,
    ) -> Ending {
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
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
                    let result = hooks.on(notification.event(&mut external));
                    outgoing = exchange.reply(notification, result, &external);
                }
            }
        }
    }
}

/// A request ready to be sent, apart from the connection it goes over.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) request: CriuReq,
    pub(crate) witness: Witness,
    /// Descriptors to keep open until the answer.
    pub(crate) held: Vec<OwnedFd>,
}

impl Submission {
    pub(crate) fn new(prepared: Prepared<'_>, after: After, notified: bool) -> Self {
        let Prepared { operation, kind, mut opts, log, target, held, .. } = prepared;
        if notified {
            opts.notify_scripts = Some(true);
        }
        // A pre-dump keeps the connection by itself, and CRIU refuses the flag there.
        let keep_open = after == After::Continues && kind != CriuReqType::PreDump;
        let request = CriuReq {
            r#type: kind,
            opts: Some(Box::new(opts)),
            keep_open: keep_open.then_some(true),
            ..CriuReq::default()
        };
        Self { request, witness: Witness::new(operation, log, target), held }
    }
}

pub(crate) fn question(kind: CriuReqType) -> CriuReq {
    CriuReq { r#type: kind, keep_open: Some(true), ..CriuReq::default() }
}

/// Refuses a request that this caller or connection cannot make.
pub(crate) fn admit(prepared: &Prepared<'_>, link: &Link) -> Result<()> {
    let Some(readiness) = &link.readiness else {
        return match prepared.worker_only {
            Some(option) => Err(Error::NeedsWorker { option }),
            None => Ok(()),
        };
    };
    let needs_root = !matches!(prepared.operation, Operation::CpuInfoDump | Operation::CpuInfoCheck);
    let unprivileged = prepared.opts.unprivileged == Some(true);
    if needs_root && !unprivileged && !rustix::process::geteuid().is_root() {
        return Err(Error::NotPrivileged { operation: prepared.operation });
    }
    if *readiness != Readiness::of(prepared) {
        let problem = "this request needs a worker started for it: use the method of `Criu`, \
                       not that of a session";
        return Err(Error::Misuse { problem });
    }
    Ok(())
}

/// Returns what of a request needs a CRIU newer than the oldest one spoken to.
pub(crate) fn newest_need(prepared: &Prepared<'_>) -> Option<(String, Version)> {
    let kind = match prepared.kind {
        CriuReqType::SinglePreDump => Some(("a single pre-dump".to_owned(), Version::new(3, 17, 0))),
        CriuReqType::PageServerChld => {
            Some(("a page server as a child".to_owned(), Version::new(3, 7, 0)))
        }
        _ => None,
    };
    let option = newest_option(&prepared.opts)
        .map(|newest| (format!("the option {}", newest.option), newest.since.clone()));
    [kind, option]
        .into_iter()
        .flatten()
        .max_by_key(|(_, since)| since.as_integer())
        .filter(|(_, since)| *since > OLDEST_SUPPORTED)
}

pub(crate) fn too_old(found: &Version, feature: String, needed: Version) -> Result<()> {
    if found.satisfies(&needed) {
        Ok(())
    } else {
        Err(Error::TooOld { feature, needed, found: found.clone() })
    }
}

pub(crate) fn send_ending(error: std::io::Error) -> Ending {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, TimedOut};
    match error.kind() {
        TimedOut => Ending::TimedOut,
        BrokenPipe | ConnectionReset | NotConnected => Ending::Closed,
        _ => Ending::Failed("send a request to CRIU", error),
    }
}

pub(crate) fn receive_ending(error: std::io::Error) -> Ending {
    match error.kind() {
        std::io::ErrorKind::InvalidData => Ending::Nonsense(error.to_string()),
        _ => Ending::Failed("receive CRIU's answer", error),
    }
}

/// Turns the end of an exchange into its result, and ends the worker where it is no longer needed.
pub(crate) fn conclude(
    ending: Ending,
    mut exchange: Exchange,
    witness: &Witness,
    link: &mut Link,
    after: After,
    timeout: Option<Duration>,
) -> Result<Box<CriuResp>> {
    let refusal = exchange.take_refusal();
    if let Ending::Answered(answer) = ending {
        if answer.success {
            let becomes_command = witness.operation == Operation::Restore;
            if after == After::Ends && !becomes_command {
                finish(link);
            }
            return match refusal {
                None => Ok(answer),
                Some((hook, source)) => Err(Error::Hook {
                    hook,
                    source,
                    failure: None,
                    restored: answer.restore.as_ref().map(|restore| restore.pid),
                }),
            };
        }
        let exit = finish(link);
        let mut failure = witness.failure(exchange.last_hook(), exit, stderr(link));
        failure.errno = answer.cr_errno.filter(|errno| *errno != 0).map(CriuErrno);
        failure.message = answer.cr_errmsg.as_ref().map(ToString::to_string);
        let failure = Box::new(failure);
        return Err(match refusal {
            Some((hook, source)) => {
                Error::Hook { hook, source, failure: Some(failure), restored: None }
            }
            None => Error::Refused(failure),
        });
    }

    let exit = match &ending {
        Ending::Closed => finish(link),
        _ => link.worker.as_mut().and_then(Worker::kill),
    };
    let failure = Box::new(witness.failure(exchange.last_hook(), exit, stderr(link)));
    Err(match (refusal, ending) {
        (Some((hook, source)), _) => {
            Error::Hook { hook, source, failure: Some(failure), restored: None }
        }
        (None, Ending::TimedOut) => {
            Error::TimedOut { after: timeout.unwrap_or_default(), failure }
        }
        (None, Ending::Nonsense(problem)) => Error::Protocol { problem, failure },
        (None, Ending::Failed(doing, source)) => Error::Io { doing, source },
        (None, Ending::Closed | Ending::Answered(_)) => Error::Lost(failure),
    })
}

fn finish(link: &mut Link) -> Option<crate::worker::WorkerExit> {
    link.worker.as_mut().and_then(Worker::finish)
}

fn stderr(link: &mut Link) -> String {
    link.worker.as_mut().map(Worker::stderr).unwrap_or_default()
}

pub(crate) fn started(answer: &CriuResp) -> StartedPageServer {
    let server = answer.ps.as_ref();
    let pid = server.and_then(|server| server.pid).unwrap_or(0);
    // CRIU keeps the port in a signed 16-bit number; the low half is the port either way.
    let port = server.and_then(|server| server.port).unwrap_or(0).to_le_bytes();
    StartedPageServer { pid, port: u16::from_le_bytes([port[0], port[1]]) }
}
