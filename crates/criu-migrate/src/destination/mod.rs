//! The side the tree comes to.
//!
//! What keeps the tree from running twice here: CRIU restores it and then holds it in the `post-restore`
//! hook until the source says `commit`. Refusing the hook (on `abort`, a lost connection, a `commit` that
//! comes too late, the death of this process) makes CRIU kill what it restored. `committed` is said only
//! when CRIU has let the tree run.
//!
//! `store` takes in what the tree is made of; `filling` sees to memory that follows, and `guard` to the tree
//! should that fail. `yard` clears away what a killed CRIU leaves behind.

mod filling;
mod guard;
mod store;
mod yard;

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use criu::{Criu, HookError, HookResult, Hooks, LazyPages, Restore};

use crate::connection::Connection;
use crate::container::{self, Arrival};
use crate::conversation::Party;
use crate::delta::bases::Bases;
use crate::error::{Error, Result};
use crate::host;
use crate::images_dir::ImagesDir;
use crate::message::{Message, Offer};
use crate::page_stream::StreamKind;
use crate::preflight::{Asks, Check, Preflight};
use crate::staging::Staging;
use crate::sync::Landing;
use crate::timing::Timing;
use crate::transport::Transport;
use crate::tree::Tree;
use crate::units::in_microseconds;
use crate::watch::{Happening, Watch};

use filling::Filling;
use guard::Guard;
use store::Store;

pub(crate) use store::Taking;

/// Receives a process tree.
///
/// Whoever can make this side accept an offer can run what it likes here, as root: that is what
/// restoring a process is. Only take connections from those who may.
#[derive(Debug)]
#[non_exhaustive]
pub struct Destination {
    /// How CRIU is reached: a worker process, not a service, since descriptors are handed over.
    pub criu: Criu,
    /// How the tree is restored. What the dump needs is added; the directory is not used.
    pub restore: Restore,
    /// Where the images lie until the tree runs, in a private directory.
    pub work_dir: PathBuf,
    /// Most bytes that memory and images may take there; what is free if that is less.
    pub limit_bytes: u64,
    /// What is not compared before a tree is accepted.
    pub ignore: Vec<Check>,
    /// Places where a source may put files that come along, with all below them, as the tree sees them: none
    /// unless said, since a source that names a wrong path would replace and delete what is there.
    pub allow_sync: Vec<PathBuf>,
    /// How long to wait for the source.
    pub timing: Timing,
}

/// A tree that has arrived and runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Received {
    /// Its root task.
    pub pid: i32,
    /// The images it came in, beside its memory.
    pub images: u64,
}

impl Received {
    pub(crate) fn new(pid: i32, images: u64) -> Self {
        Self { pid, images }
    }
}

/// A tree that does not run here.
#[derive(Debug)]
struct NotTaken {
    error: Error,
    /// CRIU had let it go, or some of it, before it was ended here.
    may_have_run: bool,
}

impl From<Error> for NotTaken {
    fn from(error: Error) -> Self {
        Self {
            error,
            may_have_run: false,
        }
    }
}

impl Destination {
    /// Prepares to receive a tree.
    pub fn new(criu: Criu, restore: Restore) -> Self {
        Self {
            criu,
            restore,
            work_dir: std::env::temp_dir(),
            limit_bytes: u64::MAX,
            ignore: Vec::new(),
            allow_sync: Vec::new(),
            timing: Timing::default(),
        }
    }

    /// Receives one tree. `hooks` sees what CRIU tells while it restores; refusing calls the migration
    /// off.
    ///
    /// # Errors
    ///
    /// When the tree does not run here; nothing of it is left then, and the source resumes it or says
    /// that it is in doubt. [`Error::OnlyAsked`] when the source wanted to know what differs, and no more.
    pub fn receive(
        mut self,
        transport: Box<dyn Transport>,
        hooks: &mut dyn Hooks,
        watch: &Watch,
    ) -> Result<Received> {
        let stranger = |error| Error::Stranger {
            source: Box::new(error),
        };
        let mut connection =
            Connection::open(transport, Party::Destination, &self.timing).map_err(stranger)?;
        watch.tell(Happening::Connected {
            peer: connection.peer_name().to_owned(),
        });
        let outcome = self.take_in(&mut connection, hooks, watch);
        let stage = connection.reached();
        match &outcome {
            // Closing first could destroy what the source has not read yet.
            Ok(_) => connection.linger(FAREWELL),
            Err(not_taken) => match &not_taken.error {
                Error::Refused { .. } | Error::OnlyAsked => connection.linger(FAREWELL),
                error => connection.give_up(&chain(error), not_taken.may_have_run),
            },
        }
        outcome.map_err(|NotTaken { error, .. }| {
            if !matches!(error, Error::OnlyAsked) {
                watch.tell(Happening::Failed {
                    stage,
                    reason: error.to_string(),
                });
            }
            error
        })
    }

    fn take_in(
        &mut self,
        connection: &mut Connection,
        hooks: &mut dyn Hooks,
        watch: &Watch,
    ) -> Result<Received, NotTaken> {
        let (offer, asks) = match connection.hear("its offer", self.timing.greeting, watch) {
            Ok(Message::Offer(offer)) => (*offer, Asks::ToMove),
            Ok(Message::Inspect(offer)) => (*offer, Asks::OnlyAsks),
            Ok(message) => return Err(connection.unexpected(&message).into()),
            Err(Error::Cancelled) => return Err(Error::Cancelled.into()),
            Err(error) => {
                let source = Box::new(error);
                return Err(Error::Stranger { source }.into());
            }
        };
        let staging = Staging::create(&self.work_dir)?;
        let room_bytes = staging.free_bytes()?.min(self.limit_bytes);
        let ours = host::here(&self.criu)?;
        let mut preflight = Preflight::new(&self.criu, &self.restore, &self.work_dir);
        preflight.room_bytes = Some(room_bytes);
        preflight.ignore = &self.ignore;
        preflight.answer(&ours, &offer, asks, connection, watch)?;
        let mut landing = match self.land(&offer, &staging, watch)? {
            Ok(landing) => landing,
            Err(reason) => {
                let said = reason.clone();
                connection.say(&Message::Refuse { reason })?;
                return Err(Error::Refused { reason: said }.into());
            }
        };
        watch.tell(Happening::Agreed { host: offer.host });
        connection.say(&Message::Accept(Box::new(ours)))?;
        if let Some(container) = offer.container {
            let arrival = Arrival {
                destination: self,
                container: &container,
                needs: &offer.needs,
                staging: &staging,
                room_bytes,
            };
            return Ok(arrival.take_in(connection, &mut landing, watch)?);
        }

        let mut store = Store {
            criu: &self.criu,
            staging: &staging,
            timing: &self.timing,
            room_bytes,
            watch,
            landing: &mut landing,
        };
        let stored = store.take(connection)?;
        watch.tell(Happening::Restoring);
        offer.needs.apply_to(&mut self.restore);
        self.restore.images = stored.directory.open()?.into();
        let mut filling = match stored.pages_follow {
            true => {
                let before = (1..=stored.rounds).rev();
                let before = before.map(|round| staging.path_of(round));
                // All pages that follow belong to the tasks they are asked for.
                connection.build_pages_upon(Bases::new(StreamKind::Answers, before));
                Some(self.fill_from(connection, &stored.directory, watch)?)
            }
            false => None,
        };
        let mut holding = Holding {
            connection,
            hooks,
            watch,
            commit_within: self.timing.commit,
            filling: filling.as_mut(),
            restored: None,
            holder: None,
            guard: None,
            committed: None,
            trouble: None,
        };
        let began = SystemTime::now();
        let outcome = self.criu.restore_with(&self.restore, &mut holding);
        let Holding {
            restored,
            guard,
            committed,
            trouble,
            ..
        } = holding;
        // A CRIU that dies lets go of what it holds, and one that fails may have let go of some of it.
        let may_have_run = committed.is_some();
        let not_taken = |error| NotTaken {
            error,
            may_have_run,
        };
        let (pid, tree, committed) = match (outcome, restored, committed) {
            (Ok(outcome), Some(tree), Some(committed)) => (outcome.pid, tree, committed),
            // A hook refused when it was too late: the tree runs.
            (
                Err(criu::Error::Hook {
                    restored: Some(pid),
                    failure: None,
                    ..
                }),
                Some(tree),
                Some(committed),
            ) => (pid, tree, committed),
            (outcome, restored, _) => {
                if let Some(tree) = restored {
                    // CRIU has killed it, unless it was killed itself. Only when nothing is left may the
                    // source be told to resume its copy.
                    if let Err(error) = tree.kill() {
                        connection.break_off();
                        // Its files stay with it.
                        landing.keep();
                        return Err(not_taken(error));
                    }
                }
                if let Err(error) = &outcome {
                    yard::clear(error, began);
                }
                return Err(not_taken(match (trouble, outcome) {
                    (Some(trouble), _) => trouble,
                    (None, Err(error)) => error.into(),
                    (None, Ok(_)) => Error::Misuse {
                        problem: "this CRIU gave no notifications",
                    },
                }));
            }
        };
        landing.keep();
        watch.tell(Happening::Running { pid });
        // The tree runs whether this arrives or not; the source's copy stays stopped until it knows.
        let _ = connection.say(&Message::Committed {
            pid,
            resumed_after_us: in_microseconds(&committed.elapsed()),
            pages_follow: stored.pages_follow,
        });
        if let Some(filling) = filling {
            filling
                .finish(connection, tree, guard, watch)
                .map_err(not_taken)?;
        }
        Ok(Received {
            pid,
            images: stored.images,
        })
    }

    /// Prepares for files and containers that come along; says what is in the way.
    fn land(
        &self,
        offer: &Offer,
        staging: &Staging,
        watch: &Watch,
    ) -> Result<Result<Landing, String>> {
        let obstacle = match &offer.container {
            Some(container) => container::obstacle(self, container, staging)?,
            None => None,
        };
        if let Some(reason) = obstacle {
            return Ok(Err(reason));
        }
        let root = self.restore.root.clone().unwrap_or_else(|| "/".into());
        Ok(Landing::prepare(
            &root,
            &self.allow_sync,
            &offer.sync,
            watch,
        ))
    }

    /// Prepares to have memory filled from the source, in a directory where the restore finds who does it.
    fn fill_from(
        &mut self,
        connection: &mut Connection,
        images: &ImagesDir,
        watch: &Watch,
    ) -> Result<Filling> {
        let settings = &mut self.restore.settings;
        let work_dir = match &settings.work_dir {
            Some(work_dir) => work_dir.try_clone()?,
            None => images.open()?.into(),
        };
        settings.work_dir = Some(work_dir.try_clone()?);
        self.restore.lazy_pages = true;
        let mut lazy_pages = LazyPages::new(images.open()?, work_dir);
        lazy_pages.log_level = settings.log_level;
        Filling::start(&self.criu, lazy_pages, connection, watch)
    }
}

/// How long to wait for the source to close after the last word.
const FAREWELL: Duration = Duration::from_secs(5);
/// For files that come along; the source knows how long that may take, and its silence is noticed.
pub(crate) const SYNC: Duration = Duration::from_secs(1 << 32);

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The hooks of the restore: the tree is held in one of them until the source gives it away.
struct Holding<'a> {
    connection: &'a mut Connection,
    hooks: &'a mut dyn Hooks,
    watch: &'a Watch,
    commit_within: Duration,
    /// Fills the tree's memory.
    filling: Option<&'a mut Filling>,
    restored: Option<Tree>,
    /// The restored tree's parent, which is CRIU or the process that is to have it.
    holder: Option<i32>,
    guard: Option<Guard>,
    /// When the source gave the tree away.
    committed: Option<Instant>,
    trouble: Option<Error>,
}

impl Hooks for Holding<'_> {
    fn on(&mut self, event: criu::Event<'_>) -> HookResult {
        let restored = match event {
            criu::Event::PostRestore { pid } => Some(pid),
            _ => None,
        };
        if let Some(pid) = restored {
            // Before anything can fail: should CRIU be dead by then, it is ours to end.
            let tree = Tree::of(pid)?;
            self.holder = tree.parent();
            self.restored = Some(tree);
        }
        self.hooks.on(event)?;
        let result = match restored {
            Some(pid) => self.hold(pid),
            // Everything before can still be undone cheaply.
            None if self.committed.is_none() => self.connection.check(self.watch),
            None => Ok(()),
        };
        result.map_err(|error| {
            let text: HookError = error.to_string().into();
            self.trouble = Some(error);
            text
        })
    }
}

impl Holding<'_> {
    fn hold(&mut self, pid: i32) -> Result<()> {
        if let (Some(filling), Some(tree)) = (&self.filling, &self.restored) {
            let guard = filling.guard(tree);
            self.guard = Some(guard.map_err(Error::io("guard the tree while its memory follows"))?);
        }
        self.watch.tell(Happening::Restored { pid });
        let asked = Instant::now();
        self.connection.say(&Message::Restored { pid })?;
        let answer =
            self.connection
                .hear("handing the tree over", self.commit_within, self.watch)?;
        // This process may have been stopped meanwhile, and the source may have given up on it.
        if asked.elapsed() > self.commit_within {
            return Err(Error::TooSlow {
                peer: Party::Source,
                what: "handing the tree over",
                after: self.commit_within,
            });
        }
        match answer {
            Message::Commit => {
                // Nothing is lost yet if memory could not follow.
                if let Some(filling) = &mut self.filling {
                    filling.check()?;
                }
                // A CRIU that has died meanwhile lets nothing go: its end says so.
                if self.restored.as_ref().and_then(Tree::parent) == self.holder {
                    if let Some(filling) = &self.filling {
                        filling.let_go();
                    }
                    self.watch.tell(Happening::Committing);
                    self.committed = Some(Instant::now());
                }
                Ok(())
            }
            message => Err(self.connection.unexpected(&message)),
        }
    }
}
