//! The side the tree comes to.
//!
//! What keeps the tree from running twice here: CRIU restores it and then holds it in the `post-restore`
//! hook until the source says `commit`. Refusing the hook (on `abort`, a lost connection, a `commit` that
//! comes too late, the death of this process) makes CRIU kill what it restored. `committed` is said only
//! when CRIU has let the tree run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criu::{Criu, HookError, HookResult, Hooks, PageServer, Restore};

use crate::connection::{Arrival as Arrived, Chunk, Connection};
use crate::container::{self, Arrival};
use crate::conversation::Party;
use crate::error::{Error, ImageProblem, Result};
use crate::host;
use crate::message::{Message, Offer};
use crate::preflight::{self, Checks, Enforcement};
use crate::staging::{Intake, IntakeError, Staging};
use crate::sync::Landing;
use crate::timing::Timing;
use crate::transport::Transport;
use crate::tree::{Tree, exists};
use crate::tunnel::Tunnel;
use crate::watch::{Happening, Watch};

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
    /// Places where a source may put files that come along, with all below them, as the tree sees them: none
    /// unless said, since a source that names a wrong path would replace and delete what is there.
    pub allow_sync: Vec<PathBuf>,
    /// What is compared before a tree is accepted.
    pub checks: Checks,
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

impl Destination {
    /// Prepares to receive a tree.
    pub fn new(criu: Criu, restore: Restore) -> Self {
        Self {
            criu,
            restore,
            work_dir: std::env::temp_dir(),
            limit_bytes: u64::MAX,
            allow_sync: Vec::new(),
            checks: Checks::default(),
            timing: Timing::default(),
        }
    }

    /// Receives one tree. `hooks` sees what CRIU tells while it restores; refusing calls the migration
    /// off.
    ///
    /// # Errors
    ///
    /// When the tree does not run here; nothing of it is left then, and the source resumes it or says
    /// that it is in doubt.
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
            Ok(_) | Err(Error::Refused { .. }) => connection.linger(FAREWELL),
            Err(error) => connection.abort(&chain(error)),
        }
        outcome.inspect_err(|error| {
            watch.tell(Happening::Failed {
                stage,
                reason: error.to_string(),
            });
        })
    }

    fn take_in(
        &mut self,
        connection: &mut Connection,
        hooks: &mut dyn Hooks,
        watch: &Watch,
    ) -> Result<Received> {
        let offer = match connection.hear("its offer", self.timing.greeting, watch) {
            Ok(Message::Offer(offer)) => *offer,
            Ok(message) => return Err(out_of_turn(&message).into()),
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => {
                return Err(Error::Stranger {
                    source: Box::new(error),
                });
            }
        };
        let staging = Staging::create(&self.work_dir)?;
        let room_bytes = staging.free_bytes()?.min(self.limit_bytes);
        let ours = host::here(&self.criu)?;
        let obstacle = match obstacle(&offer, &ours, room_bytes) {
            None => self.difference(&offer)?,
            obstacle => obstacle,
        };
        let root = self.restore.root.clone().unwrap_or_else(|| "/".into());
        let obstacle = match (obstacle, &offer.container) {
            (None, Some(container)) => container::obstacle(self, container, &staging)?,
            (obstacle, _) => obstacle,
        };
        let landing = match obstacle {
            None => Landing::prepare(&root, &self.allow_sync, &offer.sync, watch),
            Some(reason) => Err(reason),
        };
        let mut landing = match landing {
            Ok(landing) => landing,
            Err(reason) => {
                let said = reason.clone();
                connection.say(&Message::Refuse { reason })?;
                return Err(Error::Refused { reason: said });
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
            return arrival.take_in(connection, &mut landing, watch);
        }
        loop {
            match connection.hear("its next step", self.timing.answer, watch)? {
                Message::OpenSync { path, pass } => {
                    landing.receive(connection, &path, pass, staging.path(), SYNC)?;
                }
                Message::OpenPages => break,
                message => return Err(out_of_turn(&message).into()),
            }
        }

        let pages = connection.take_pages().ok_or(Error::Misuse {
            problem: "the pages channel is in use",
        })?;
        let (tunnel, theirs) = Tunnel::start(connection.outgoing(), pages, watch, room_bytes)?;
        let mut server = PageServer::new(staging.open()?);
        server.socket = Some(theirs);
        server.settings.log_to = criu::request::LogTo::File("page-server.log".into());
        self.criu.page_server(&server)?;
        // Its copy is the only one now: when it ends, so does the stream.
        drop(server);
        connection.say(&Message::PagesReady)?;

        let images = self.take_images(connection, &staging, &mut landing, room_bytes, watch)?;
        // The source has CRIU's word that every page arrived; what is left is to write and to exit.
        let stored = tunnel.wait_end(self.timing.answer);
        if tunnel.is_over_budget() {
            let problem = ImageProblem::TooLarge {
                limit_bytes: room_bytes,
            };
            return Err(Error::Image {
                peer: Party::Source,
                problem,
            });
        }
        stored.map_err(Error::io("store the memory: the page server does not end"))?;

        watch.tell(Happening::Restoring);
        offer.needs.apply_to(&mut self.restore);
        self.restore.images = staging.open()?.into();
        let mut holding = Holding {
            connection,
            hooks,
            watch,
            commit_within: self.timing.commit,
            restored: None,
            committed: false,
            trouble: None,
        };
        let outcome = self.criu.restore_with(&self.restore, &mut holding);
        let (restored, committed, trouble) = (holding.restored, holding.committed, holding.trouble);
        let pid = match (outcome, restored) {
            (Ok(outcome), Some(_)) if committed => outcome.pid,
            // A hook refused when it was too late: the tree runs.
            (
                Err(criu::Error::Hook {
                    restored: Some(pid),
                    failure: None,
                    ..
                }),
                Some(_),
            ) if committed => pid,
            (outcome, restored) => {
                if let Some(tree) = restored {
                    // CRIU has killed it, unless it was killed itself. Only when nothing is left may the
                    // source be told to resume its copy.
                    if let Err(error) = tree.kill() {
                        connection.break_off();
                        // Its files stay with it.
                        landing.keep();
                        return Err(error);
                    }
                }
                return Err(match (trouble, outcome) {
                    (Some(trouble), _) => trouble,
                    (None, Err(error)) => error.into(),
                    (None, Ok(_)) => Error::Misuse {
                        problem: "this CRIU gave no notifications",
                    },
                });
            }
        };
        landing.keep();
        watch.tell(Happening::Running { pid });
        // The tree runs whether this arrives or not; the source's copy stays stopped until it knows.
        let _ = connection.say(&Message::Committed { pid });
        Ok(Received { pid, images })
    }

    /// What differs here from what the tree needs, if anything, for a refusal.
    fn difference(&self, offer: &Offer) -> Result<Option<String>> {
        if self.checks.files == Enforcement::Refuse {
            let root = self.restore.root.as_deref().unwrap_or(Path::new("/"));
            let found = preflight::compare_files(&offer.files, root);
            if !found.is_empty() {
                let named: Vec<String> =
                    found.iter().take(NAMED).map(ToString::to_string).collect();
                let more = match found.len() - named.len() {
                    0 => String::new(),
                    count => format!("; and {count} more"),
                };
                return Ok(Some(format!(
                    "files of the tree differ: {}{more}",
                    named.join("; ")
                )));
            }
        }
        if self.checks.processor == Enforcement::Refuse {
            let recorded = &offer.processor;
            let settings = &self.restore.settings;
            return preflight::compare_processors(&self.criu, recorded, settings, &self.work_dir);
        }
        Ok(None)
    }

    pub(crate) fn take_images(
        &self,
        connection: &mut Connection,
        staging: &Staging,
        landing: &mut Landing,
        room_bytes: u64,
        watch: &Watch,
    ) -> Result<u64> {
        let mut intake = Intake::new(staging, room_bytes);
        let failed = |error| match error {
            IntakeError::Problem(problem) => Error::Image {
                peer: Party::Source,
                problem,
            },
            IntakeError::Io(source) => Error::Io {
                doing: "write an image".to_owned(),
                source,
            },
        };
        loop {
            let taken = match connection.next("the images", self.timing.restore, watch)? {
                Arrived::Message(Message::Image { name, len_bytes }) => {
                    intake.begin(&name, len_bytes)
                }
                Arrived::Message(Message::Complete { images }) => {
                    intake.complete(images).map_err(failed)?;
                    return Ok(images);
                }
                Arrived::Message(Message::OpenSync { path, pass }) => {
                    landing.receive(connection, &path, pass, staging.path(), SYNC)?;
                    Ok(())
                }
                Arrived::Message(message) => return Err(out_of_turn(&message).into()),
                Arrived::Image(Chunk::Data(bytes)) => intake.add(&bytes),
                Arrived::Image(Chunk::Zeros(count)) => intake.add_zeros(count),
                Arrived::Image(Chunk::End) => intake.end(),
            };
            taken.map_err(failed)?;
        }
    }
}

/// How long to wait for the source to close after the last word.
const FAREWELL: Duration = Duration::from_secs(5);
/// For files that come along; the source knows how long that may take, and its silence is noticed.
pub(crate) const SYNC: Duration = Duration::from_secs(1 << 32);
/// How many ids or files a refusal names.
const NAMED: usize = 8;

fn obstacle(offer: &Offer, ours: &crate::message::Host, room_bytes: u64) -> Option<String> {
    if let Some(reason) = host::obstacle(&offer.host, ours) {
        return Some(reason);
    }
    let mut taken = offer.pids.iter().filter(|pid| exists(**pid));
    let named: Vec<String> = taken.by_ref().take(NAMED).map(i32::to_string).collect();
    if !named.is_empty() {
        let more = match taken.count() {
            0 => String::new(),
            count => format!(" and {count} more"),
        };
        return Some(format!(
            "process ids of the tree are in use here: {}{more}; end those processes, or start the tree in a pid \
             namespace of its own",
            named.join(", ")
        ));
    }
    if offer.resident_bytes > room_bytes {
        return Some(format!(
            "the tree has {} bytes of memory and there is room for {room_bytes} here; make room, or name another \
             working directory",
            offer.resident_bytes
        ));
    }
    None
}

/// The state machine takes no such message here; this is for the compiler.
fn out_of_turn(message: &Message) -> crate::conversation::OutOfTurn {
    crate::conversation::OutOfTurn {
        stage: crate::conversation::Stage::Over,
        speaker: Party::Source,
        message: message.name(),
    }
}

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
    restored: Option<Tree>,
    committed: bool,
    trouble: Option<Error>,
}

impl Hooks for Holding<'_> {
    fn on(&mut self, event: criu::Event<'_>) -> HookResult {
        let restored = match event {
            criu::Event::PostRestore { pid } => Some(pid),
            _ => None,
        };
        self.hooks.on(event)?;
        let result = match restored {
            Some(pid) => self.hold(pid),
            // Everything before can still be undone cheaply.
            None if !self.committed => self.connection.check(self.watch),
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
        let tree = Tree::of(pid).map_err(Error::io(format!("look at process {pid}")))?;
        self.restored = Some(tree);
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
                self.watch.tell(Happening::Committing);
                self.committed = true;
                Ok(())
            }
            message => Err(out_of_turn(&message).into()),
        }
    }
}
