//! The rest of the memory follows when the tree runs on the destination.
//!
//! - CRIU keeps the tree frozen after the `post-dump` hook, and serves its memory over the pages channel to
//!   `criu lazy-pages` on the destination. The conversation goes on in a thread of its own meanwhile.
//! - CRIU was told to let the tree *run* when it is done, and it is done as soon as its connection ends. So when
//!   this process dies before `commit`, or calls off, the tree goes on here, with everything put back.
//! - Before `commit` is said, every task is sent `SIGSTOP`, which waits for CRIU to let go of it. From here nothing
//!   resumes the tree by itself, whoever dies.
//! - When all memory has followed, the tree is killed, still in CRIU's hands: its connections end without a word
//!   to their peers, who talk to the destination now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use criu::FinalState;
use criu::request::Pages;

use crate::connection::Connection;
use crate::conversation::Stage;
use crate::error::{Error, Result};
use crate::images_dir::ImagesDir;
use crate::message::Message;
use crate::report::{Failed, Fate};
use crate::source::hand_over::{Copied, Frozen, Stepping, Steps, begin, send_images, sync_last};
use crate::source::moving::{HandOver, Moved, Moving, fate_after_commit, undone};
use crate::sync::Departure;
use crate::timing::Timing;
use crate::tree::Tree;
use crate::tunnel::{Handle, Inbound, Plan, Tunnel};
use crate::watch::{Happening, Watch};

/// How often a wait looks whether CRIU is still there.
const CHECK: Duration = Duration::from_millis(50);
/// How often progress is told.
const TELL: Duration = Duration::from_millis(250);

pub(crate) fn run(mut moving: Moving<'_>) -> Result<Moved, Failed> {
    let (images, tunnel) = prepare(&mut moving).map_err(moving.untouched())?;
    let reached = moving.connection.reached();
    let criu_ended = AtomicBool::new(false);
    let (criu_ended, images, watch) = (&criu_ended, &images, moving.watch);
    std::thread::scope(|scope| {
        let mut stepping = Stepping {
            steps: Serving {
                scope,
                connection: Some(moving.connection),
                watch,
                timing: moving.timing,
                images,
                departure: moving.departure,
                tunnel: tunnel.handle(),
                criu_ended,
                pid: moving.pid,
                frozen: None,
                served: None,
            },
            hooks: moving.hooks,
            trouble: None,
        };
        let dumped = moving.criu.dump_with(&moving.dump, &mut stepping);
        criu_ended.store(true, Ordering::Release);
        let Stepping { steps, trouble, .. } = stepping;
        let Some(served) = steps.served else {
            let (error, fate) = undone(dumped, trouble, steps.frozen.is_some());
            let stage = steps
                .connection
                .map_or(reached, |connection| connection.reached());
            return Err(Failed::new(stage, error, fate));
        };
        let served = match served.join() {
            Ok(served) => served,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        served.map_err(|unserved| unserved.close(dumped))
    })
}

/// Gives CRIU a connection to serve memory on.
fn prepare(moving: &mut Moving<'_>) -> Result<(ImagesDir, Tunnel)> {
    let number = moving.number();
    if let Some(pagemaps) = &moving.rounds.pagemaps {
        // CRIU leaves out what it sees that the rounds have copied.
        let parent = moving.staging.open_images(number - 1)?;
        let written = pagemaps.write_to(&parent);
        written.map_err(Error::io("note which pages were copied"))?;
    }
    let images = moving.staging.images_to_dump(number)?;
    let connection = &mut *moving.connection;
    let pages = connection.take_pages()?;
    let plan = Plan {
        inbound: Inbound::PageRequests,
        note_pages: false,
        patience: None,
    };
    let (tunnel, theirs) = Tunnel::start(connection.outgoing(), pages, moving.watch, plan)?;
    let dump = &mut moving.dump;
    dump.images = images.open()?.into();
    dump.pages = Pages::LazySocket(theirs);
    dump.then = FinalState::Running;
    dump.parent = (number > 1).then(|| moving.staging.parent_of(number));
    // Without it CRIU does not look which pages the parent has.
    dump.track_memory = number > 1;
    Ok((images, tunnel))
}

/// The images go over in the last hook of the dump; then the conversation moves to its thread.
struct Serving<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    connection: Option<&'scope mut Connection>,
    watch: &'scope Watch,
    timing: &'scope Timing,
    images: &'scope ImagesDir,
    departure: Option<&'scope Departure>,
    tunnel: Handle,
    criu_ended: &'scope AtomicBool,
    pid: i32,
    frozen: Option<Frozen>,
    served: Option<ScopedJoinHandle<'scope, Result<Moved, Box<Unserved>>>>,
}

impl Steps for Serving<'_, '_> {
    fn freezing(&mut self) -> Result<()> {
        if let Some(connection) = &mut self.connection {
            self.frozen = Some(begin(connection, self.pid, self.watch)?);
        }
        Ok(())
    }

    fn dumped(&mut self) -> Result<()> {
        let looking = Error::io(format!("look at process {}", self.pid));
        let tree = Tree::of(self.pid).map_err(looking)?;
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        sync_last(connection, self.departure, &tree, self.timing, self.watch)?;
        let copied = send_images(connection, self.images, true, self.watch)?;
        let frozen = self.frozen.take().unwrap_or_default();
        self.frozen = Some(Frozen {
            since: frozen.since,
            stopped_before: frozen.stopped_before.clone(),
        });
        let Some(connection) = self.connection.take() else {
            return Ok(());
        };
        let conversation = Conversation {
            connection,
            watch: self.watch,
            timing: self.timing,
            tunnel: self.tunnel.clone(),
            criu_ended: self.criu_ended,
            tree,
            frozen,
            copied,
        };
        let thread = std::thread::Builder::new().name("migrate-serve".to_owned());
        let serving = thread.spawn_scoped(self.scope, move || conversation.run());
        self.served = Some(serving.map_err(Error::io("start a thread"))?);
        Ok(())
    }
}

/// What is said while CRIU serves.
struct Conversation<'a> {
    connection: &'a mut Connection,
    watch: &'a Watch,
    timing: &'a Timing,
    tunnel: Handle,
    criu_ended: &'a AtomicBool,
    tree: Tree,
    frozen: Frozen,
    copied: Copied,
}

/// A conversation that came to nothing; the tree is still to be seen to when CRIU has let go of it.
#[derive(Debug)]
struct Unserved {
    stage: Stage,
    error: Error,
    tree: Tree,
    frozen: Frozen,
    then: Then,
}

/// What is to become of the tree.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// It goes on, since CRIU lets it.
    GoesOn,
    /// It was sent `SIGSTOP` and is resumed.
    Resume,
    /// It stays stopped.
    Stays(Fate),
}

impl Conversation<'_> {
    fn run(mut self) -> Result<Moved, Box<Unserved>> {
        let mut then = Then::GoesOn;
        let outcome = self.converse(&mut then);
        let stage = self.connection.reached();
        if outcome.is_ok()
            && let Err(error) = self.tree.kill()
        {
            self.tunnel.close();
            let then = Then::Stays(Fate::Leftover);
            return Err(self.unserved(Stage::Over, error, then));
        }
        // CRIU sees that nothing more is asked, and ends.
        self.tunnel.close();
        outcome.map_err(|error| self.unserved(stage, error, then))
    }

    fn unserved(self, stage: Stage, error: Error, then: Then) -> Box<Unserved> {
        Box::new(Unserved {
            stage,
            error,
            tree: self.tree,
            frozen: self.frozen,
            then,
        })
    }

    fn converse(&mut self, then: &mut Then) -> Result<Moved> {
        let answer = self.hear("the restore", self.timing.restore)?;
        let Message::Restored { pid } = answer else {
            return Err(self.connection.unexpected(&answer));
        };
        self.watch.tell(Happening::Restored { pid });
        self.connection.check(self.watch)?;
        *then = Then::Resume;
        self.tree.stop();
        // Nothing is lost yet; from here on memory would be. (That CRIU has ended is known a moment later.)
        self.check_criu()?;
        if !self.tree.is_traced() {
            return Err(criu_lost());
        }
        self.watch.tell(Happening::Committing);
        let (said, before_bytes) = (Instant::now(), self.tunnel.stream_bytes());
        *then = Then::Stays(Fate::InDoubt);
        self.connection.say(&Message::Commit)?;
        let answer = self.hear("resuming the tree", self.timing.verdict);
        let (pid, resumed_after_us) = match answer {
            Ok(Message::Committed {
                pid,
                resumed_after_us,
                pages_follow: true,
            }) => (pid, resumed_after_us),
            Ok(message) => return Err(self.connection.unexpected(&message)),
            Err(error) => {
                *then = match fate_after_commit(&error) {
                    Fate::Resumed => Then::Resume,
                    fate => Then::Stays(fate),
                };
                return Err(error);
            }
        };
        let hand_over = HandOver {
            frozen_since: self.frozen.since,
            said,
            heard: Instant::now(),
            resumed_after_us,
        };
        self.watch.tell(Happening::Running { pid });
        self.fill().inspect_err(|error| {
            if matches!(error, Error::Aborted { .. }) {
                *then = Then::Stays(Fate::Outlived);
            }
        })?;
        let stream_bytes = self.tunnel.stream_bytes();
        Ok(Moved {
            pid,
            downtime: hand_over.downtime(),
            // CRIU counts until it lets go of the tree, long after that runs elsewhere.
            frozen: None,
            copied: self.copied,
            stream_bytes,
            followed_bytes: stream_bytes.saturating_sub(before_bytes),
        })
    }

    /// Looks whether there is a CRIU to serve memory.
    fn check_criu(&self) -> Result<()> {
        match self.criu_ended.load(Ordering::Acquire) {
            true => Err(criu_lost()),
            false => Ok(()),
        }
    }

    /// Waits until all memory has followed; how long that takes is up to the tree and the link.
    fn fill(&mut self) -> Result<()> {
        loop {
            match self.hear("taking the memory", TELL) {
                Ok(Message::Filled) => {
                    self.watch.tell(Happening::Filled);
                    return Ok(());
                }
                Ok(message) => return Err(self.connection.unexpected(&message)),
                Err(Error::TooSlow { .. }) => self.watch.tell(Happening::Filling {
                    stream_bytes: self.tunnel.stream_bytes(),
                }),
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits for a message as long as there is a CRIU to serve memory.
    fn hear(&mut self, what: &'static str, within: Duration) -> Result<Message> {
        let deadline = Instant::now().checked_add(within);
        loop {
            match self.connection.hear(what, CHECK, self.watch) {
                Err(Error::TooSlow { peer, .. }) => {
                    self.check_criu()?;
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return Err(Error::TooSlow {
                            peer,
                            what,
                            after: within,
                        });
                    }
                }
                heard => return heard,
            }
        }
    }
}

fn criu_lost() -> Error {
    Error::MemoryLost {
        reason: "CRIU ended on the source".to_owned(),
    }
}

impl Unserved {
    /// Sees to the tree, now that CRIU has let go of it.
    fn close(self, dumped: criu::Result<criu::DumpOutcome>) -> Failed {
        let (error, fate) = match self.then {
            Then::GoesOn => match (self.error, dumped) {
                (Error::MemoryLost { .. }, dumped) => undone(dumped, None, true),
                (error, Ok(_)) => (error, Fate::Resumed),
                (error, dumped) => undone(dumped, Some(error), true),
            },
            Then::Resume => {
                // One that does not stop has not been let go: CRIU's error says more than we can.
                let _ = self.tree.wait_stopped();
                self.tree.resume(&self.frozen.stopped_before);
                (self.error, Fate::Resumed)
            }
            Then::Stays(fate) => (self.error, fate),
        };
        Failed::new(self.stage, error, fate)
    }
}
