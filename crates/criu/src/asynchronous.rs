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
//! is then cut short: see [`Criu::with_timeout`] on what that means for a tree being dumped.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::task::Poll;
use std::time::Duration;

use criu_image::wire::Message;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout, timeout_at};

use crate::conclusion::{Ending, conclude, receive_ending, send_ending, started};
use crate::error::{Error, Result};
use crate::exchange::{Exchange, Step};
use crate::failure::Witness;
use crate::features::Features;
use crate::link::{After, Link};
use crate::notify::{Event, HookResult};
use crate::outcome::{self, DumpOutcome, PreDumpOutcome, RestoreOutcome, StartedPageServer};
use crate::request::{
    Check, CpuInfo, Dump, LogPlace, Operation, PageServer, PreDump, Prepared, Restore,
};
use crate::rpc::{CriuReq, CriuReqType, CriuResp};
use crate::submission::{Submission, admit, newest_need, question, too_old};
use crate::transport::{Connection, Incoming};
use crate::version::Version;
use crate::worker::{EXIT_GRACE, Worker};

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

    /// Starts a worker, or connects to the service, for several requests.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::session`].
    pub fn session(&self) -> Result<Session> {
        Ok(self.open(self.blocking.link()?))
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
        self.dump_with(dump, None::<&mut crate::NoHooks>).await
    }

    /// Dumps a process tree, reacting to notifications.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::dump_with`].
    pub async fn dump_with<'h, H: Hooks + 'h>(
        &self,
        dump: &Dump,
        hooks: impl Into<Option<&'h mut H>>,
    ) -> Result<DumpOutcome> {
        let prepared = dump.prepare()?;
        let work_dir = prepared.work_dir();
        let mut session = self.open(self.blocking.link_for(&prepared)?);
        let answer = session
            .submit(prepared, After::Ends, hooks.into(), WorkerEnds::WithAnswer)
            .await?;
        Ok(outcome::of_dump(&answer, work_dir.as_ref()))
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
        self.restore_with(restore, None::<&mut crate::NoHooks>)
            .await
    }

    /// Restores a process tree, reacting to notifications.
    ///
    /// # Errors
    ///
    /// See [`crate::Criu::restore_with`].
    pub async fn restore_with<'h, H: Hooks + 'h>(
        &self,
        restore: &Restore,
        hooks: impl Into<Option<&'h mut H>>,
    ) -> Result<RestoreOutcome> {
        let prepared = restore.prepare()?;
        let work_dir = prepared.work_dir();
        let ends = if restore.then_exec.is_empty() {
            WorkerEnds::WithAnswer
        } else {
            WorkerEnds::AsCommand
        };
        let mut session = self.open(self.blocking.link_for(&prepared)?);
        let answer = session
            .submit(prepared, After::Ends, hooks.into(), ends)
            .await?;
        outcome::of_restore(
            &answer,
            restore,
            work_dir.as_ref(),
            session.link.worker.take(),
        )
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
        let mut session = self.open(self.blocking.link_for(&prepared)?);
        let hooks = None::<&mut crate::NoHooks>;
        session
            .submit(prepared, After::Ends, hooks, WorkerEnds::WithAnswer)
            .await
    }

    fn open(&self, link: Link) -> Session {
        Session {
            link,
            timeout: self.blocking.timeout(),
            version: self.blocking.known_version(),
        }
    }
}

/// A connection to one CRIU worker that serves several requests, as [`crate::Session`] does.
#[derive(Debug)]
pub struct Session {
    link: Link,
    timeout: Option<Duration>,
    version: Option<Version>,
}

/// When the worker behind a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerEnds {
    WithAnswer,
    AsCommand,
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
        })
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
        let answer = self
            .ask(Operation::Version, question(CriuReqType::Version))
            .await?;
        let version = Version::from_rpc(&answer.version.unwrap_or_default());
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

    /// Starts a page server that is a child of the worker.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::page_server_child`].
    pub async fn page_server_child(&mut self, server: &PageServer) -> Result<StartedPageServer> {
        let prepared = server.prepare(CriuReqType::PageServerChld)?;
        let answer = self.go_on(prepared).await?;
        Ok(started(&answer))
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
        let hooks = None::<&mut crate::NoHooks>;
        let answer = self
            .exchange(
                request,
                &witness,
                After::Ends,
                hooks,
                WorkerEnds::WithAnswer,
            )
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
        Ok(outcome::of_pre_dump(work_dir.as_ref()))
    }

    /// Dumps a tree, reacting to notifications if hooks are given, and ends the session.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::dump_with`].
    pub async fn dump_with<'h, H: Hooks + 'h>(
        mut self,
        dump: &Dump,
        hooks: impl Into<Option<&'h mut H>>,
    ) -> Result<DumpOutcome> {
        let prepared = dump.prepare()?;
        let work_dir = prepared.work_dir();
        let answer = self
            .submit(prepared, After::Ends, hooks.into(), WorkerEnds::WithAnswer)
            .await?;
        Ok(outcome::of_dump(&answer, work_dir.as_ref()))
    }

    /// Dumps a tree, and ends the session.
    ///
    /// # Errors
    ///
    /// See [`crate::Session::dump`].
    pub async fn dump(self, dump: &Dump) -> Result<DumpOutcome> {
        self.dump_with(dump, None::<&mut crate::NoHooks>).await
    }

    async fn ask(&mut self, operation: Operation, request: CriuReq) -> Result<Box<CriuResp>> {
        let witness = Witness::new(operation, LogPlace::Nowhere, None);
        let hooks = None::<&mut crate::NoHooks>;
        self.exchange(
            request,
            &witness,
            After::Continues,
            hooks,
            WorkerEnds::WithAnswer,
        )
        .await
    }

    async fn go_on(&mut self, prepared: Prepared<'_>) -> Result<Box<CriuResp>> {
        let hooks = None::<&mut crate::NoHooks>;
        self.submit(prepared, After::Continues, hooks, WorkerEnds::WithAnswer)
            .await
    }

    async fn submit<H: Hooks>(
        &mut self,
        prepared: Prepared<'_>,
        after: After,
        hooks: Option<&mut H>,
        ends: WorkerEnds,
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
        let answer = self.exchange(request, &witness, after, hooks, ends).await;
        drop(held);
        answer
    }

    async fn exchange<H: Hooks>(
        &mut self,
        request: CriuReq,
        witness: &Witness,
        after: After,
        hooks: Option<&mut H>,
        ends: WorkerEnds,
    ) -> Result<Box<CriuResp>> {
        self.link.begin()?;
        let mut exchange = Exchange::new(request.r#type);
        let request = request.encode();
        let conversation = converse(&self.link, &request, &mut exchange, hooks);
        let deadline = self
            .timeout
            .and_then(|timeout| Instant::now().checked_add(timeout));
        let ending = match deadline {
            None => conversation.await,
            Some(deadline) => timeout_at(deadline, conversation)
                .await
                .unwrap_or(Ok(Ending::TimedOut)),
        };
        let ending = ending.unwrap_or_else(|error| Ending::Failed("wait for CRIU", error));
        let goes_on = matches!(&ending, Ending::Answered(answer) if answer.success)
            && (after == After::Continues || ends == WorkerEnds::AsCommand);
        if !goes_on && !matches!(ending, Ending::TimedOut) {
            // The blocking wait that follows then finds the worker ended already.
            self.link.worker_end().await;
        }
        let answer = conclude(
            ending,
            exchange,
            witness,
            &mut self.link,
            after,
            self.timeout,
        )?;
        self.link.keep(after);
        Ok(answer)
    }
}

impl Link {
    async fn worker_end(&self) {
        let Some(worker) = &self.worker else { return };
        if let Ok(end) = watch(worker.pidfd(), Interest::READABLE) {
            let _ = timeout(EXIT_GRACE, end.readable()).await;
        }
    }
}

async fn converse<H: Hooks>(
    link: &Link,
    request: &[u8],
    exchange: &mut Exchange,
    mut hooks: Option<&mut H>,
) -> io::Result<Ending> {
    let connection = &link.connection;
    let socket = watch(connection.as_fd(), Interest::READABLE | Interest::WRITABLE)?;
    let peer = link.worker.as_ref().map(Worker::pidfd);
    let peer = peer
        .map(|peer| watch(peer, Interest::READABLE))
        .transpose()?;

    let mut outgoing = request.to_vec();
    loop {
        if let Err(error) = send(connection, &socket, &outgoing).await {
            return Ok(send_ending(error));
        }
        let packet = match receive(connection, &socket, peer.as_ref()).await {
            Ok(Incoming::Packet(packet)) => packet,
            Ok(Incoming::TimedOut) => return Ok(Ending::TimedOut),
            Ok(Incoming::Closed | Incoming::PeerExited) => return Ok(Ending::Closed),
            Err(error) => return Ok(receive_ending(error)),
        };
        match exchange.step(packet) {
            Step::Answer(answer) => return Ok(Ending::Answered(answer)),
            Step::Nonsense(problem) => return Ok(Ending::Nonsense(problem)),
            Step::Notify(mut notification) => {
                let mut external = Vec::new();
                let event = notification.event(&mut external);
                let result = match &mut hooks {
                    Some(hooks) => hooks.on(event).await,
                    None => Ok(()),
                };
                outgoing = exchange.reply(notification, result, &external);
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "the successor is unsafe; a borrow keeps the descriptor open as it asks"
)]
fn watch(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    AsyncFd::with_interest(fd, interest)
}

async fn send(
    connection: &Connection,
    socket: &AsyncFd<BorrowedFd<'_>>,
    bytes: &[u8],
) -> io::Result<()> {
    loop {
        let mut ready = socket.writable().await?;
        match connection.try_send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
            done => return done,
        }
    }
}

async fn receive(
    connection: &Connection,
    socket: &AsyncFd<BorrowedFd<'_>>,
    peer: Option<&AsyncFd<BorrowedFd<'_>>>,
) -> io::Result<Incoming> {
    loop {
        let ready = poll_fn(|context| {
            if let Poll::Ready(ready) = socket.poll_read_ready(context) {
                return Poll::Ready(ready.map(Some));
            }
            match peer.map(|peer| peer.poll_read_ready(context)) {
                Some(Poll::Ready(ended)) => Poll::Ready(ended.map(|_| None)),
                _ => Poll::Pending,
            }
        });
        let ready = ready.await?;
        if let Some(incoming) = connection.try_receive()? {
            return Ok(incoming);
        }
        match ready {
            Some(mut ready) => ready.clear_ready(),
            None => return Ok(Incoming::PeerExited),
        }
    }
}
