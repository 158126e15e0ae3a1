//! The side the tree leaves.
//!
//! ```text
//! prepare ─▶ rounds ─▶ stop_and_copy, or post_copy
//! ```
//!
//! What keeps the tree safe while it moves is said in `stop_and_copy` and `post_copy`.

mod hand_over;
mod moving;
mod post_copy;
mod rounds;
mod stop_and_copy;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criu::{Criu, Dump, Feature, Hooks, Target};

use crate::compression::Compression;
use crate::connection::Connection;
use crate::conversation::{Party, Stage};
use crate::error::{Error, Result};
use crate::host;
use crate::message::{Host, Message, Needs, Offer};
use crate::mode::{Abilities, Chosen, Mode, choose};
use crate::policy::{Decision, Limits, OnDivergence};
use crate::preflight::{self, Check, Facts, Report};
use crate::report::{Failed, Fate, NotSent, Sent};
use crate::source::moving::Moving;
use crate::source::rounds::{NO_ROUNDS, Rounding};
use crate::staging::Staging;
use crate::sync::Departure;
use crate::timing::Timing;
use crate::transport::Transport;
use crate::tunnel::{Plan, Tunnel};
use crate::watch::{Happening, Watch};

pub(crate) use hand_over::{Copied, copy_images, send_images};
pub(crate) use rounds::{Counted, Rounds, until_decided};

/// Sends a process tree away.
#[derive(Debug)]
#[non_exhaustive]
pub struct Source {
    /// How CRIU is reached: a worker process, not a service, since descriptors are handed over.
    pub criu: Criu,
    /// How the tree is dumped. Where to and what becomes of it is decided here.
    pub dump: Dump,
    /// How memory moves; chosen by what both sides can do unless set.
    pub mode: Option<Mode>,
    /// When rounds of pre-copy end, and what is done if they do not help.
    pub limits: Limits,
    /// Where the images other than memory lie for a moment, in a private directory.
    pub work_dir: PathBuf,
    /// Whether to compress memory and images, if the destination expands them.
    pub compression: Compression,
    /// Paths that come along, as the tree sees them; see [`crate::sync`].
    pub sync: Vec<PathBuf>,
    /// What the destination need not compare.
    pub ignore: Vec<Check>,
    /// How long to wait for the destination.
    pub timing: Timing,
}

impl Source {
    /// Prepares to send the tree that `dump` names; its directory and what is to become of the tree are
    /// not used.
    pub fn new(criu: Criu, dump: Dump) -> Self {
        Self {
            criu,
            dump,
            mode: None,
            limits: Limits::default(),
            work_dir: std::env::temp_dir(),
            compression: Compression::default(),
            sync: Vec::new(),
            ignore: Vec::new(),
            timing: Timing::default(),
        }
    }

    /// Moves the tree. `hooks` sees what CRIU tells; refusing calls the migration off.
    ///
    /// # Errors
    ///
    /// [`NotSent`], which says what has become of the tree.
    pub fn send(
        self,
        transport: Box<dyn Transport>,
        hooks: &mut dyn Hooks,
        watch: &Watch,
    ) -> Result<Sent, Box<NotSent>> {
        let pid = match self.dump.target {
            Target::Process(pid) => pid,
            _ => 0,
        };
        let destination = transport.peer();
        let not_sent = |failed: Failed| {
            watch.tell(Happening::Failed {
                stage: failed.stage,
                reason: failed.error.to_string(),
            });
            Box::new(NotSent {
                stage: failed.stage,
                error: failed.error,
                pid,
                fate: failed.fate,
                destination: destination.clone(),
            })
        };
        let untouched = |error| Failed::new(Stage::Opening, error, Fate::Untouched);
        if pid <= 0 {
            let problem = "a process cannot send itself away";
            return Err(not_sent(untouched(Error::Misuse { problem })));
        }
        let mut connection = Connection::open(transport, Party::Source, &self.timing)
            .map_err(|error| not_sent(untouched(error)))?;
        watch.tell(Happening::Connected {
            peer: connection.peer_name().to_owned(),
        });
        connection.outgoing().set_compression(self.compression);
        let sent = self.migrate(&mut connection, pid, hooks, watch);
        sent.map_err(|failed| {
            // Said where it still may be.
            connection.abort(&failed.error.to_string());
            not_sent(failed)
        })
    }

    fn migrate(
        self,
        connection: &mut Connection,
        pid: i32,
        hooks: &mut dyn Hooks,
        watch: &Watch,
    ) -> Result<Sent, Failed> {
        let began = Instant::now();
        let prepared = self.prepare(connection, pid, watch);
        let (staging, mode, rounds, departure) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err(Failed::new(connection.reached(), error, Fate::Untouched)),
        };
        let moving = Moving {
            criu: &self.criu,
            dump: self.dump,
            pid,
            staging: &staging,
            rounds: &rounds,
            departure: departure.as_ref(),
            timing: &self.timing,
            watch,
            hooks,
            connection: &mut *connection,
        };
        let moved = if mode.is_lazy() {
            post_copy::run(moving)?
        } else {
            stop_and_copy::run(moving)?
        };
        Ok(Sent {
            pid: moved.pid,
            mode,
            downtime: moved.downtime,
            frozen: moved.frozen,
            total: began.elapsed(),
            page_stream_bytes: rounds.stream_bytes + moved.stream_bytes,
            followed_bytes: moved.followed_bytes,
            images: moved.copied.images,
            image_bytes: moved.copied.stream_bytes,
            wire_bytes: connection.outgoing().sent_bytes(),
            traffic: connection.outgoing().traffic(),
            rounds: rounds.reports,
        })
    }

    /// Everything before the tree is frozen for good.
    fn prepare(
        &self,
        connection: &mut Connection,
        pid: i32,
        watch: &Watch,
    ) -> Result<(Staging, Mode, Rounds, Option<Departure>)> {
        let departure = Departure::of_process(pid, &self.sync)?;
        let chosen = self.agree(connection, pid, departure.as_ref(), watch)?;
        let staging = Staging::create(&self.work_dir)?;
        let mut limits = self.limits.clone();
        if limits.on_divergence == OnDivergence::PostCopy && !chosen.may_end_lazily {
            limits.on_divergence = OnDivergence::StopAnyway;
        }
        if let Some(departure) = &departure {
            departure.first_pass(connection, watch)?;
        }
        let rounding = Rounding {
            criu: &self.criu,
            dump: &self.dump,
            staging: &staging,
            timing: &self.timing,
            limits: &limits,
            watch,
        };
        let (rounds, verdict) = match chosen.mode.has_rounds() {
            true => rounding.run(connection)?,
            false => (Rounds::default(), NO_ROUNDS),
        };
        let mode = match verdict.decision {
            Decision::PostCopy => Mode::Hybrid,
            _ => chosen.mode,
        };
        Ok((staging, mode, rounds, departure))
    }

    /// Asks the destination what is in the tree's way there; the tree is not touched and does not move.
    ///
    /// # Errors
    ///
    /// When there is no such process, or no receiver answers.
    pub fn ask(&self, transport: Box<dyn Transport>, watch: &Watch) -> Result<Report> {
        let pid = match self.dump.target {
            Target::Process(pid) => pid,
            _ => 0,
        };
        let facts = Facts::of_running(pid, &self.dump, &self.criu, &self.work_dir)?;
        preflight::ask(
            transport,
            &self.criu,
            facts,
            &self.ignore,
            &self.timing,
            watch,
        )
    }

    fn offer(&self, ours: &Host, pid: i32, departure: Option<&Departure>) -> Result<Offer> {
        let mut facts = Facts::of_running_on(ours, pid, &self.dump, &self.criu, &self.work_dir)?;
        if self.mode.is_some_and(Mode::is_lazy) {
            facts.require(Feature::LazyPages.name());
        }
        if let Some(departure) = departure {
            facts.files.retain(|file| !departure.covers(&file.path));
        }
        let mut offer = Offer::new(ours.clone(), facts.fit());
        offer.needs = Needs::of_dump(&self.dump);
        offer.ignore.clone_from(&self.ignore);
        offer.sync = departure.map_or_else(Vec::new, |all| all.offered().to_vec());
        Ok(offer)
    }

    /// Makes the offer, and finds a mode with whoever accepts it.
    fn agree(
        &self,
        connection: &mut Connection,
        pid: i32,
        departure: Option<&Departure>,
        watch: &Watch,
    ) -> Result<Chosen> {
        if self.dump.shell_job {
            return Err(Error::Misuse {
                problem: "a shell's job cannot move: its terminal and session stay here",
            });
        }
        let ours = host::here(&self.criu)?;
        let offer = self.offer(&ours, pid, departure)?;
        connection.say(&Message::Offer(Box::new(offer)))?;
        let theirs = match preflight::hear_answer(connection, &self.timing, watch)? {
            Message::Accept(host) => host,
            Message::Refuse { reason } => return Err(Error::Refused { reason }),
            message => return Err(connection.unexpected(&message)),
        };
        let able = Abilities {
            memory_tracking: ours.memory_tracking,
            lazy_source: ours.lazy_pages,
            large_pipes: host::has_large_pipes(),
            lazy_destination: theirs.lazy_pages,
        };
        watch.tell(Happening::Agreed { host: *theirs });
        let chosen = choose(self.mode, &able)?;
        watch.tell(Happening::ModeChosen {
            mode: chosen.mode,
            reason: chosen.reason.to_owned(),
        });
        Ok(chosen)
    }
}

/// Has the destination start a page server, and connects a CRIU here with it.
fn open_pages(
    connection: &mut Connection,
    plan: Plan,
    timing: &Timing,
    watch: &Watch,
) -> Result<(Tunnel, OwnedFd)> {
    connection.say(&Message::OpenPages)?;
    asked(
        connection,
        "its page server",
        timing.answer,
        watch,
        |message| matches!(message, Message::PagesReady),
    )?;
    let pages = connection.take_pages()?;
    Tunnel::start(connection.outgoing(), pages, watch, plan)
}

/// Waits for the one message that answers what was said last.
fn asked(
    connection: &mut Connection,
    what: &'static str,
    within: Duration,
    watch: &Watch,
    is_answer: impl FnOnce(&Message) -> bool,
) -> Result<()> {
    let message = connection.hear(what, within, watch)?;
    if is_answer(&message) {
        Ok(())
    } else {
        Err(connection.unexpected(&message))
    }
}
