//! The side the tree leaves.
//!
//! What keeps the tree safe here:
//!
//! - While pages and images are copied and the destination restores, the tree is frozen by CRIU, held in
//!   the `post-dump` hook. Refusing the hook makes CRIU put everything back, network locks and TCP
//!   connections included, and let the tree go on. Should this process die, CRIU sees its connection
//!   closed, which is a refusal.
//! - Only when the destination holds the restored tree is the hook accepted, and CRIU told before to
//!   leave the tree *stopped*, not to kill it. From here nothing resumes the tree by itself, not even the
//!   death of this process; and then only is `commit` said.
//! - The stopped tree is killed when the destination says that the tree runs there. Until then it is
//!   the copy that cannot be lost.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criu::request::Pages;
use criu::{Criu, Dump, FinalState, HookError, HookResult, Hooks, Target};

use crate::connection::{Connection, Outgoing};
use crate::conversation::{Party, Stage};
use crate::error::{Error, Result};
use crate::frame::{Channel, Frame};
use crate::host;
use crate::message::{Message, Needs, Offer};
use crate::preflight;
use crate::staging::{Piece, SparseReader, Staging};
use crate::sync::Departure;
use crate::timing::Timing;
use crate::transport::Transport;
use crate::tree::{Tree, has_own_pid_namespace};
use crate::tunnel::Tunnel;
use crate::watch::{Happening, Watch};

/// Sends a process tree away.
#[derive(Debug)]
#[non_exhaustive]
pub struct Source {
    /// How CRIU is reached: a worker process, not a service, since descriptors are handed over.
    pub criu: Criu,
    /// How the tree is dumped. Where to and what becomes of it is decided here.
    pub dump: Dump,
    /// Paths that come along, as the tree sees them; see [`crate::sync`].
    pub sync: Vec<PathBuf>,
    /// Where the images other than memory lie for a moment, in a private directory.
    pub work_dir: PathBuf,
    /// How long to wait for the destination.
    pub timing: Timing,
}

/// What a migration came to, seen from the source.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Sent {
    /// The root task on the destination, as seen there.
    pub pid: i32,
    /// From before the tree was frozen until the destination said that it runs: no less than the
    /// downtime the tree itself sees.
    #[serde(rename = "downtime_us", serialize_with = "microseconds")]
    pub downtime: Duration,
    /// From the beginning to the end.
    #[serde(rename = "total_us", serialize_with = "microseconds")]
    pub total: Duration,
    /// Bytes of the page stream, zero pages included.
    pub page_stream_bytes: u64,
    /// Images beside the memory, and their bytes.
    pub images: u64,
    /// Bytes of those images.
    pub image_bytes: u64,
    /// All bytes this side sent over the connection.
    pub wire_bytes: u64,
}

fn microseconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// What has become of the tree on the source when a migration failed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fate {
    /// It was not touched.
    Untouched,
    /// It was frozen and goes on.
    Resumed,
    /// It is stopped, and may or may not run on the destination: see [`NotSent`].
    InDoubt,
    /// It runs on the destination, but could not be removed here, where it is stopped.
    Leftover,
    /// CRIU could not put it back; its error tells the state.
    Unknown,
}

/// A migration that failed, seen from the source.
#[derive(Debug)]
#[non_exhaustive]
pub struct NotSent {
    /// Where it failed.
    pub stage: Stage,
    /// Why.
    pub error: Error,
    /// The root task.
    pub pid: i32,
    /// What has become of the tree here.
    pub fate: Fate,
    /// The destination.
    pub destination: String,
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pid, there) = (self.pid, &self.destination);
        write!(f, "migration failed while {}; ", self.stage)?;
        match self.fate {
            Fate::Untouched => write!(f, "process {pid} was not touched"),
            Fate::Resumed => write!(f, "process {pid} goes on here"),
            Fate::InDoubt => write!(
                f,
                "process {pid} is left stopped here because it may run on the destination: look at {there}; if it \
                 runs there, kill the one here (SIGKILL to each process of the tree); if not, resume it (SIGCONT \
                 to each)"
            ),
            Fate::Leftover => write!(
                f,
                "the tree runs on {there}, but what is left of process {pid} here, stopped, could not be killed: kill it"
            ),
            Fate::Unknown => write!(f, "see above for the state of process {pid}"),
        }
    }
}

impl std::error::Error for NotSent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl Source {
    /// Prepares to send the tree that `dump` names; its directory and what is to become of the tree are
    /// not used.
    pub fn new(criu: Criu, dump: Dump) -> Self {
        Self {
            criu,
            dump,
            sync: Vec::new(),
            work_dir: std::env::temp_dir(),
            timing: Timing::default(),
        }
    }

    /// Moves the tree by stop-and-copy. `hooks` sees what CRIU tells; refusing calls the migration off.
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
        let mut not_sent = NotSent {
            stage: Stage::Opening,
            error: Error::Misuse {
                problem: "a process cannot send itself away",
            },
            pid,
            fate: Fate::Untouched,
            destination: transport.peer(),
        };
        if pid <= 0 {
            return Err(Box::new(not_sent));
        }
        let outcome = Connection::open(transport, Party::Source, &self.timing)
            .map_err(|error| (Stage::Opening, error, Fate::Untouched))
            .and_then(|connection| self.migrate(connection, pid, hooks, watch));
        outcome.map_err(|(stage, error, fate)| {
            watch.tell(Happening::Failed {
                stage,
                reason: error.to_string(),
            });
            (not_sent.stage, not_sent.error, not_sent.fate) = (stage, error, fate);
            Box::new(not_sent)
        })
    }

    fn migrate(
        mut self,
        mut connection: Connection,
        pid: i32,
        hooks: &mut dyn Hooks,
        watch: &Watch,
    ) -> Result<Sent, (Stage, Error, Fate)> {
        let began = Instant::now();
        watch.tell(Happening::Connected {
            peer: connection.peer_name().to_owned(),
        });
        let prepared = self.prepare(&mut connection, pid, watch);
        let (staging, tunnel, theirs, departure) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let stage = connection.reached();
                connection.abort(&error.to_string());
                return Err((stage, error, Fate::Untouched));
            }
        };
        self.dump.pages = Pages::Socket(theirs);
        self.dump.then = FinalState::Stopped;
        self.dump.parent = None;

        let mut held = Holding {
            connection: &mut connection,
            hooks,
            watch,
            timing: &self.timing,
            staging: &staging,
            tunnel: &tunnel,
            departure: departure.as_ref(),
            pid,
            frozen_since: None,
            stopped_before: BTreeSet::new(),
            frozen: None,
            trouble: None,
        };
        let dumped = self.criu.dump_with(&self.dump, &mut held);
        let Holding {
            frozen_since,
            stopped_before,
            frozen,
            trouble,
            ..
        } = held;
        let frozen = match (dumped, frozen) {
            (Ok(_), Some(frozen)) => frozen,
            (dumped, frozen) => {
                let (error, mut fate) = undone(dumped.err(), trouble, frozen_since.is_some());
                if let Some(frozen) = frozen {
                    // CRIU died while it left the tree stopped: some tasks may be, others not.
                    frozen.tree.resume(&stopped_before);
                    fate = Fate::Resumed;
                }
                let stage = connection.reached();
                connection.abort(&error.to_string());
                return Err((stage, error, fate));
            }
        };

        // CRIU is done and has left the tree stopped: from here it is ours.
        let tree = frozen.tree;
        let ready = tree.wait_stopped().and_then(|()| connection.check(watch));
        if let Err(error) = ready {
            tree.resume(&stopped_before);
            let stage = connection.reached();
            connection.abort(&error.to_string());
            return Err((stage, error, Fate::Resumed));
        }
        watch.tell(Happening::Committing);
        let in_doubt = |error| (Stage::Committing, error, Fate::InDoubt);
        connection.say(&Message::Commit).map_err(in_doubt)?;
        let answer = connection.hear("resuming the tree", self.timing.verdict, watch);
        let there = match answer {
            Ok(Message::Committed { pid }) => pid,
            // The destination says so only when nothing of the tree is left there.
            Err(error @ Error::Aborted { .. }) => {
                tree.resume(&stopped_before);
                return Err((Stage::Committing, error, Fate::Resumed));
            }
            Err(error) => return Err(in_doubt(error)),
            Ok(message) => {
                return Err(in_doubt(Error::from(out_of_turn(&message))));
            }
        };
        let downtime = frozen_since.map_or(Duration::ZERO, |since| since.elapsed());
        watch.tell(Happening::Running { pid: there });
        tree.kill()
            .map_err(|error| (Stage::Over, error, Fate::Leftover))?;
        Ok(Sent {
            pid: there,
            downtime,
            total: began.elapsed(),
            page_stream_bytes: tunnel.counts().0,
            images: frozen.images,
            image_bytes: frozen.image_bytes,
            wire_bytes: connection.outgoing().sent_bytes(),
        })
    }

    /// Everything before the tree is touched.
    fn prepare(
        &mut self,
        connection: &mut Connection,
        pid: i32,
        watch: &Watch,
    ) -> Result<(Staging, Tunnel, std::os::fd::OwnedFd, Option<Departure>)> {
        if self.dump.shell_job {
            return Err(Error::Misuse {
                problem: "a shell's job cannot move: its terminal and session stay here",
            });
        }
        let tree = Tree::of(pid).map_err(Error::io(format!("look at process {pid}")))?;
        let departure = Departure::of_process(pid, &self.sync)?;
        let comes_along = |file: &preflight::FileSeen| {
            departure.as_ref().is_some_and(|all| all.covers(&file.path))
        };
        let mut files = preflight::files_of(tree.pids());
        files.retain(|file| !comes_along(file));
        let offer = Offer {
            host: host::here(&self.criu)?,
            needs: Needs::of_dump(&self.dump),
            pids: match has_own_pid_namespace(pid) {
                true => Vec::new(),
                false => tree.pids().collect(),
            },
            resident_bytes: tree.resident_bytes(),
            files,
            sync: departure
                .as_ref()
                .map_or_else(Vec::new, |all| all.offered().to_vec()),
            container: None,
            processor: preflight::processor_here(&self.criu, &self.work_dir)?,
        };
        drop(tree);
        connection.say(&Message::Offer(Box::new(offer)))?;
        match connection.hear("its answer", self.timing.answer, watch)? {
            Message::Accept(host) => watch.tell(Happening::Agreed { host: *host }),
            Message::Refuse { reason } => return Err(Error::Refused { reason }),
            message => return Err(out_of_turn(&message).into()),
        }
        if let Some(departure) = &departure {
            departure.first_pass(connection, watch)?;
        }
        connection.say(&Message::OpenPages)?;
        match connection.hear("its page server", self.timing.answer, watch)? {
            Message::PagesReady => {}
            message => return Err(out_of_turn(&message).into()),
        }
        let staging = Staging::create(&self.work_dir)?;
        let pages = connection.take_pages().ok_or(Error::Misuse {
            problem: "the pages channel is in use",
        })?;
        // What a page server answers are single bytes.
        let answers = 1 << 20;
        let (tunnel, theirs) = Tunnel::start(connection.outgoing(), pages, watch, answers)?;
        self.dump.images = staging.open()?.into();
        Ok((staging, tunnel, theirs, departure))
    }
}

/// The state machine takes no such message here; this is for the compiler.
fn out_of_turn(message: &Message) -> crate::conversation::OutOfTurn {
    crate::conversation::OutOfTurn {
        stage: Stage::Over,
        speaker: Party::Destination,
        message: message.name(),
    }
}

/// Says why a dump came to nothing, and what has become of the tree.
fn undone(dumped: Option<criu::Error>, trouble: Option<Error>, frozen: bool) -> (Error, Fate) {
    let state = dumped
        .as_ref()
        .and_then(|error| error.failure()?.target.map(|(_, state)| state));
    let fate = match state {
        Some(criu::TargetState::Running) if frozen => Fate::Resumed,
        None | Some(criu::TargetState::Running) if !frozen => Fate::Untouched,
        _ => Fate::Unknown,
    };
    let error = match (trouble, dumped) {
        (Some(trouble), _) => trouble,
        (None, Some(error)) => error.into(),
        (None, None) => Error::Misuse {
            problem: "this CRIU gave no notifications",
        },
    };
    (error, fate)
}

/// What was found of the tree when it was frozen, and copied.
#[derive(Debug)]
struct Frozen {
    tree: Tree,
    images: u64,
    image_bytes: u64,
}

/// The hooks of the dump: the whole migration up to the hand-over happens in the last of them.
struct Holding<'a> {
    connection: &'a mut Connection,
    hooks: &'a mut dyn Hooks,
    watch: &'a Watch,
    timing: &'a Timing,
    staging: &'a Staging,
    tunnel: &'a Tunnel,
    departure: Option<&'a Departure>,
    pid: i32,
    frozen_since: Option<Instant>,
    /// Tasks that were stopped before all this, and are to stay so.
    stopped_before: BTreeSet<i32>,
    frozen: Option<Frozen>,
    /// Our own reason to refuse.
    trouble: Option<Error>,
}

impl Hooks for Holding<'_> {
    fn on(&mut self, event: criu::Event<'_>) -> HookResult {
        let is_first = matches!(event, criu::Event::PreDump);
        let is_last = matches!(event, criu::Event::PostDump);
        self.hooks.on(event)?;
        let result = if is_first {
            self.begin()
        } else if is_last {
            self.hand_over()
        } else {
            Ok(())
        };
        result.map_err(|error| {
            let text: HookError = error.to_string().into();
            self.trouble = Some(error);
            text
        })
    }
}

impl Holding<'_> {
    fn begin(&mut self) -> Result<()> {
        self.connection.check(self.watch)?;
        let looking = || Error::io(format!("look at process {}", self.pid));
        self.stopped_before = Tree::of(self.pid).map_err(looking())?.stopped();
        self.watch.tell(Happening::Freezing);
        self.frozen_since = Some(Instant::now());
        Ok(())
    }

    /// Copies what is left and waits until the destination holds the tree.
    fn hand_over(&mut self) -> Result<()> {
        let (stream_bytes, sent_bytes) = self.tunnel.counts();
        self.watch.tell(Happening::PagesCopied {
            stream_bytes,
            sent_bytes,
        });
        let looking = Error::io(format!("look at process {}", self.pid));
        let tree = Tree::of(self.pid).map_err(looking)?;
        if let Some(departure) = self.departure {
            let within = self.timing.restore;
            let written = crate::sync::written_by(tree.pids());
            departure.last_pass(self.connection, &written, within, self.watch)?;
        }
        let copied = send_images(self.connection, self.staging, self.watch)?;
        self.watch.tell(Happening::ImagesCopied {
            images: copied.images,
            stream_bytes: copied.stream_bytes,
            sent_bytes: copied.sent_bytes,
        });
        self.connection.say(&Message::Complete {
            images: copied.images,
        })?;
        self.watch.tell(Happening::Restoring);
        let answer = self
            .connection
            .hear("the restore", self.timing.restore, self.watch)?;
        let Message::Restored { pid } = answer else {
            return Err(out_of_turn(&answer).into());
        };
        self.watch.tell(Happening::Restored { pid });
        self.frozen = Some(Frozen {
            tree,
            images: copied.images,
            image_bytes: copied.stream_bytes,
        });
        Ok(())
    }
}

/// Images that were sent.
#[derive(Debug, Default)]
pub(crate) struct Copied {
    pub(crate) images: u64,
    pub(crate) stream_bytes: u64,
    pub(crate) sent_bytes: u64,
}

/// Sends the images of a directory.
pub(crate) fn send_images(
    connection: &mut Connection,
    staging: &Staging,
    watch: &Watch,
) -> Result<Copied> {
    let mut copied = Copied::default();
    for (name, len_bytes) in staging.images()? {
        connection.check(watch)?;
        connection.say(&Message::Image {
            name: name.as_str().to_owned(),
            len_bytes,
        })?;
        let file = staging.open_image(&name);
        let file = file.map_err(Error::io(format!("open {}", name.as_str())))?;
        let reader = SparseReader::new(file, len_bytes);
        copied.sent_bytes += send_image(connection.outgoing(), reader, name.as_str())?;
        copied.images += 1;
        copied.stream_bytes += len_bytes;
    }
    Ok(copied)
}

/// Sends the bytes of an image; returns how many went over the connection.
fn send_image(outgoing: &Outgoing, mut reader: SparseReader, name: &str) -> Result<u64> {
    let sending = |source| Error::Connection {
        doing: "sending an image",
        source,
    };
    let mut buffer = vec![0; crate::frame::DATA_BYTES_MAX];
    let mut sent = 0;
    while let Some(piece) = reader
        .next(&mut buffer)
        .map_err(Error::io(format!("read {name}")))?
    {
        match piece {
            Piece::Data(bytes) => {
                sent += outgoing
                    .send_stream(Channel::Image, bytes)
                    .map_err(sending)? as u64;
            }
            Piece::Hole(count) => outgoing
                .send_zeros(Channel::Image, count)
                .map_err(sending)?,
        }
    }
    outgoing
        .send_frame(&Frame::End(Channel::Image))
        .map_err(sending)?;
    Ok(sent)
}
