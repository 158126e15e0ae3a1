//! The side a container leaves.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use criu::Criu;

use super::arrival::{ARCHIVE, DESCRIPTORS, DESCRIPTORS_MAX};
use super::program::Program;
use super::rounds::{PreCheckpoint, Rounding};
use super::{
    Container, ContainerFate, ContainerNotSent, ContainerOffer, Runtime, is_id, podman, runc,
};
use crate::connection::Connection;
use crate::conversation::{Party, Stage};
use crate::error::{Error, Result};
use crate::host;
use crate::message::{Message, Needs, Offer};
use crate::mode::{Abilities, Mode, choose};
use crate::policy::Limits;
use crate::preflight::{self, Facts};
use crate::report::Sent;
use crate::source::{Copied, Rounds, send_images};
use crate::staging::Staging;
use crate::sync::{Departure, written_by};
use crate::timing::Timing;
use crate::transport::Transport;
use crate::tree::Tree;
use crate::watch::{Happening, Watch};

/// Sends a container away.
#[derive(Debug)]
#[non_exhaustive]
pub struct ContainerSource {
    /// The CRIU that the runtime uses: its program, not its service.
    pub criu: Criu,
    /// The container; it has to run.
    pub container: Container,
    /// What its checkpoint and restore are told: established connections, file locks, and for runc UNIX
    /// sockets that lead outside.
    pub needs: Needs,
    /// Paths that come along beside a runc bundle and its root, such as those of bind mounts.
    pub sync: Vec<PathBuf>,
    /// How its memory moves: pre-copy or stop-and-copy. Unless set it is pre-copy where the source can track memory.
    pub mode: Option<Mode>,
    /// When rounds of pre-copy end. A podman container has one at most.
    pub limits: Limits,
    /// Where the checkpoint lies. It should outlast a reboot.
    pub work_dir: PathBuf,
    /// How long to wait for the destination, and (`restore`) for the runtime.
    pub timing: Timing,
}

/// A container that is looked at, and what has been made for it.
#[derive(Debug)]
struct Leaving {
    program: Program,
    staging: Staging,
    offer: ContainerOffer,
    pid: i32,
    /// Where the root of a runc container lies.
    rootfs: PathBuf,
    departure: Option<Departure>,
    mode: Mode,
    rounds: Rounds,
    previous: PreCheckpoint,
}

/// What was found of a container that runs.
struct Found {
    offer: ContainerOffer,
    pid: i32,
    rootfs: PathBuf,
    /// Where podman keeps what belongs to it.
    storage: Option<PathBuf>,
}

impl ContainerSource {
    /// Prepares to send a container.
    pub fn new(criu: Criu, container: Container) -> Self {
        Self {
            criu,
            container,
            needs: Needs::default(),
            sync: Vec::new(),
            mode: None,
            limits: Limits::default(),
            work_dir: PathBuf::from("/var/tmp"),
            timing: Timing::default(),
        }
    }

    /// Moves the container.
    ///
    /// # Errors
    ///
    /// [`ContainerNotSent`], which says what has become of the container.
    pub fn send(
        self,
        transport: Box<dyn Transport>,
        watch: &Watch,
    ) -> Result<Sent, Box<ContainerNotSent>> {
        let mut not_sent = ContainerNotSent {
            stage: Stage::Opening,
            error: Error::Cancelled,
            container: self.container.clone(),
            fate: ContainerFate::Untouched,
            restore_command: None,
            checkpoint: None,
            destination: transport.peer(),
        };
        let outcome = Connection::open(transport, Party::Source, &self.timing)
            .map_err(|error| (Stage::Opening, error, ContainerFate::Untouched))
            .and_then(|mut connection| self.migrate(&mut connection, &mut not_sent, watch));
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
        &self,
        connection: &mut Connection,
        report: &mut ContainerNotSent,
        watch: &Watch,
    ) -> Result<Sent, (Stage, Error, ContainerFate)> {
        let began = Instant::now();
        watch.tell(Happening::Connected {
            peer: connection.peer_name().to_owned(),
        });
        let mut leaving = match self.prepare(connection, watch) {
            Ok(leaving) => leaving,
            Err(error) => {
                let stage = connection.reached();
                connection.abort(&error.to_string());
                return Err((stage, error, ContainerFate::Untouched));
            }
        };
        // Nobody sees afterwards what was open.
        let written = leaving.written();
        watch.tell(Happening::Freezing);
        let frozen_since = Instant::now();
        if let Err(error) = self.checkpoint(&leaving) {
            let stage = connection.reached();
            connection.abort(&error.to_string());
            let (fate, error) = match leaving.is_running() {
                // CRIU puts back what it cannot dump.
                true => (ContainerFate::Resumed, error),
                false => {
                    report.restore_command = Some(self.restore_command(&leaving));
                    (ContainerFate::Kept, error)
                }
            };
            if fate == ContainerFate::Resumed {
                leaving.staging.let_go();
            }
            return Err((stage, error, fate));
        }
        leaving.previous.keep();
        let restore_command = self.restore_command(&leaving);
        report.restore_command = Some(restore_command.clone());
        watch.tell(Happening::Checkpointed { restore_command });
        if self.container.runtime == Runtime::Runc {
            report.checkpoint = Some(leaving.staging.path().to_path_buf());
        } else {
            // Podman keeps what it restores from; the archive is a copy.
            leaving.staging.let_go();
        }
        let handed = self
            .hand_over(connection, &leaving, &written, watch)
            .and_then(|copied| connection.check(watch).map(|()| copied));
        let copied = match handed {
            Ok(copied) => copied,
            Err(error) => {
                let stage = connection.reached();
                let outcome = self.resume(&mut leaving, error);
                connection.abort(&outcome.0.to_string());
                return Err((stage, outcome.0, outcome.1));
            }
        };

        watch.tell(Happening::Committing);
        let in_doubt = |error| (Stage::Committing, error, ContainerFate::InDoubt);
        connection.say(&Message::Commit).map_err(in_doubt)?;
        // The destination restores only now, and is given the time for that.
        let within = self.timing.restore.saturating_add(self.timing.verdict);
        let there = match connection.hear("restoring the container", within, watch) {
            Ok(Message::Committed {
                pid,
                pages_follow: false,
                ..
            }) => pid,
            // The destination says so only when nothing of the container is left there.
            Err(error @ Error::Aborted { .. }) => {
                let (error, fate) = self.resume(&mut leaving, error);
                return Err((Stage::Committing, error, fate));
            }
            Err(error) => return Err(in_doubt(error)),
            Ok(message) => return Err(in_doubt(connection.unexpected(&message))),
        };
        let downtime = frozen_since.elapsed();
        watch.tell(Happening::Running { pid: there });
        leaving.staging.let_go();
        if self.container.runtime == Runtime::Podman {
            podman::remove(&leaving.program, &leaving.offer.id)
                .map_err(|error| (Stage::Over, error, ContainerFate::Leftover))?;
        }
        Ok(Sent {
            pid: there,
            mode: leaving.mode,
            downtime,
            frozen: None,
            total: began.elapsed(),
            page_stream_bytes: leaving.rounds.stream_bytes,
            rounds: std::mem::take(&mut leaving.rounds.reports),
            followed_bytes: 0,
            images: copied.images,
            image_bytes: copied.stream_bytes,
            wire_bytes: connection.outgoing().sent_bytes(),
            traffic: connection.outgoing().traffic(),
        })
    }

    /// Everything while the container runs.
    fn prepare(&self, connection: &mut Connection, watch: &Watch) -> Result<Leaving> {
        let Container { runtime, id } = &self.container;
        if !is_id(id) {
            return Err(Error::Misuse {
                problem: "that is no id of a container",
            });
        }
        if self.mode.is_some_and(Mode::is_lazy) {
            return Err(Error::Misuse {
                problem: "the memory of a container cannot follow it: choose pre-copy or stop-and-copy",
            });
        }
        let mut staging = Staging::create_lasting(&self.work_dir, id)?;
        // Until there is something to keep.
        staging.let_go();
        let program = Program::find(*runtime, &self.criu, staging.path())?;
        let Found {
            offer,
            pid,
            rootfs,
            storage,
        } = self.look(&program)?;
        let mut paths = self.sync.clone();
        if let Some(bundle) = &offer.bundle {
            let bundle = PathBuf::from(bundle);
            let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
            if !rootfs.starts_with(&bundle) || device(&rootfs) != device(&bundle) {
                paths.insert(0, rootfs.clone());
            }
            paths.insert(0, bundle);
        }
        let departure = Departure::below(Path::new("/"), &paths)?;
        let tree = Tree::of(pid).map_err(Error::io(format!("look at process {pid}")))?;
        let host = host::here(&self.criu)?;
        let memory_tracking = host.memory_tracking;
        let mut facts = Facts::of_host(&host, &self.criu, &self.work_dir)?;
        facts.memory_bytes = tree.resident_bytes();
        let mut offer_of_all = Offer::new(host, facts.fit());
        offer_of_all.needs = self.needs.clone();
        offer_of_all.sync = departure
            .as_ref()
            .map_or_else(Vec::new, |all| all.offered().to_vec());
        offer_of_all.container = Some(offer.clone());
        connection.say(&Message::Offer(Box::new(offer_of_all)))?;
        match preflight::hear_answer(connection, &self.timing, watch)? {
            Message::Accept(host) => watch.tell(Happening::Agreed { host: *host }),
            Message::Refuse { reason } => return Err(Error::Refused { reason }),
            message => return Err(connection.unexpected(&message)),
        }
        let chosen = choose(self.mode, &Abilities::of_tracking(memory_tracking))?;
        watch.tell(Happening::ModeChosen {
            mode: chosen.mode,
            reason: chosen.reason.to_owned(),
        });
        if let Some(departure) = &departure {
            departure.first_pass(connection, watch)?;
        }
        let previous = PreCheckpoint::below(storage.as_deref());
        let rounding = Rounding {
            program: &program,
            offer: &offer,
            staging: &staging,
            needs: &self.needs,
            timing: &self.timing,
            limits: &self.limits,
            watch,
        };
        let rounds = match chosen.mode.has_rounds() {
            true => rounding.run(connection)?,
            false => Rounds::default(),
        };
        connection.check(watch)?;
        staging.keep();
        Ok(Leaving {
            program,
            staging,
            offer,
            pid,
            rootfs,
            departure,
            mode: chosen.mode,
            rounds,
            previous,
        })
    }

    fn look(&self, program: &Program) -> Result<Found> {
        let Container { runtime, id } = &self.container;
        let not_running = |status: &str| Error::Container {
            runtime: *runtime,
            doing: format!("move container {id}"),
            said: format!("it is {status}, and has to run"),
        };
        match runtime {
            Runtime::Runc => {
                let state = runc::state(program, id)?;
                if state.status != "running" {
                    return Err(not_running(&state.status));
                }
                let bundle = state.bundle.to_str().map(str::to_owned);
                let bundle = bundle.ok_or(Error::Misuse {
                    problem: "the path of the bundle is not in UTF-8",
                })?;
                let offer = ContainerOffer {
                    runtime: *runtime,
                    id: id.clone(),
                    name: None,
                    bundle: Some(bundle),
                    image: None,
                };
                Ok(Found {
                    offer,
                    pid: state.pid,
                    rootfs: state.rootfs,
                    storage: None,
                })
            }
            Runtime::Podman => {
                let state = podman::state(program, id)?;
                if !state.is_running {
                    return Err(not_running("not running"));
                }
                let offer = ContainerOffer {
                    runtime: *runtime,
                    id: state.id,
                    name: Some(state.name),
                    bundle: None,
                    image: Some(state.image),
                };
                Ok(Found {
                    offer,
                    pid: state.pid,
                    rootfs: PathBuf::new(),
                    storage: state.storage,
                })
            }
        }
    }

    fn checkpoint(&self, leaving: &Leaving) -> Result<()> {
        let (program, id) = (&leaving.program, leaving.offer.id.as_str());
        let (needs, within) = (&self.needs, self.timing.restore);
        let number = leaving.number();
        let images = leaving.staging.images_to_dump(number)?;
        let images = images.path();
        match self.container.runtime {
            Runtime::Runc => {
                let parent = (number > 1).then(|| leaving.staging.parent_of(number));
                let kind = runc::Kind::Checkpoint;
                runc::dump(program, id, images, kind, parent, needs, within)
            }
            Runtime::Podman => {
                let archive = images.join(ARCHIVE);
                podman::checkpoint(program, id, &archive, number > 1, needs, within)
            }
        }
    }

    /// Copies everything and waits until the destination has it.
    fn hand_over(
        &self,
        connection: &mut Connection,
        leaving: &Leaving,
        written: &BTreeSet<String>,
        watch: &Watch,
    ) -> Result<Copied> {
        connection.check(watch)?;
        let images = leaving.staging.open_images(leaving.number())?;
        let descriptors = match self.container.runtime {
            Runtime::Runc => read_descriptors(images.path())?,
            Runtime::Podman => Vec::new(),
        };
        connection.say(&Message::Checkpointed { descriptors })?;
        if let Some(departure) = &leaving.departure {
            departure.last_pass(connection, written, self.timing.restore, watch)?;
        }
        let copied = send_images(connection, &images, false, watch)?;
        match connection.hear("taking the images in", self.timing.answer, watch)? {
            Message::Ready => Ok(copied),
            message => Err(connection.unexpected(&message)),
        }
    }

    /// Restores the container here; with the reason why, returns what to report.
    fn resume(&self, leaving: &mut Leaving, reason: Error) -> (Error, ContainerFate) {
        let (program, id) = (&leaving.program, leaving.offer.id.as_str());
        let within = self.timing.restore;
        let restored = match self.container.runtime {
            Runtime::Runc => {
                let images = leaving.images();
                let bundle = leaving.offer.bundle.as_deref().unwrap_or("/");
                runc::restore(program, id, &images, Path::new(bundle), &self.needs, within)
            }
            Runtime::Podman => podman::restore_kept(program, id, &self.needs, within),
        };
        match restored {
            Ok(()) => {
                leaving.staging.let_go();
                (reason, ContainerFate::Resumed)
            }
            Err(error) => (error, ContainerFate::Kept),
        }
    }

    /// What a person types to restore the container here.
    fn restore_command(&self, leaving: &Leaving) -> String {
        let id = leaving.offer.id.as_str();
        let words: Vec<String> = match self.container.runtime {
            Runtime::Runc => {
                let bundle = leaving.offer.bundle.as_deref().unwrap_or("/");
                runc::restore_words(id, &leaving.images(), Path::new(bundle), &self.needs)
                    .iter()
                    .map(|word| word.to_string_lossy().into_owned())
                    .collect()
            }
            Runtime::Podman => podman::restore_words(id, &self.needs),
        };
        format!("{} {}", self.container.runtime, words.join(" "))
    }
}

impl Leaving {
    /// The number of the checkpoint, counted after the rounds.
    fn number(&self) -> u32 {
        self.rounds.count().saturating_add(1)
    }

    /// Where the checkpoint lies.
    fn images(&self) -> PathBuf {
        self.staging.path_of(self.number())
    }

    /// What the container's processes write, by the names this host has for it.
    fn written(&self) -> BTreeSet<String> {
        let Ok(tree) = Tree::of(self.pid) else {
            return BTreeSet::new();
        };
        let within = |file: String| {
            let path = self.rootfs.join(file.trim_start_matches('/'));
            path.to_str().map(str::to_owned)
        };
        written_by(tree.pids())
            .into_iter()
            .filter_map(within)
            .collect()
    }

    fn is_running(&self) -> bool {
        match self.offer.runtime {
            Runtime::Runc => runc::state(&self.program, &self.offer.id)
                .is_ok_and(|state| state.status == "running"),
            Runtime::Podman => {
                podman::state(&self.program, &self.offer.id).is_ok_and(|state| state.is_running)
            }
        }
    }
}

fn read_descriptors(place: &Path) -> Result<Vec<String>> {
    let reading = || Error::io(format!("read {DESCRIPTORS}"));
    let text = fs::read(place.join(DESCRIPTORS)).map_err(reading())?;
    let names: Vec<String> =
        serde_json::from_slice(&text).map_err(|error| reading()(error.into()))?;
    if names.len() > DESCRIPTORS_MAX {
        return Err(reading()(std::io::ErrorKind::InvalidData.into()));
    }
    Ok(names)
}
