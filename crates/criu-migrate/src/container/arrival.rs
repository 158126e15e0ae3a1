//! The side a container comes to.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::program::Program;
use super::{ContainerOffer, Runtime, is_id, podman, runc};
use crate::connection::Connection;
use crate::conversation::Party;
use crate::destination::{Destination, Received, SYNC, Taking};
use crate::error::{Error, Result};
use crate::images_dir::ImagesDir;
use crate::message::{Message, Needs};
use crate::staging::Staging;
use crate::sync::Landing;
use crate::watch::{Happening, Watch};

/// The image a podman archive travels as.
pub(super) const ARCHIVE: &str = "checkpoint.img";
/// What runc keeps the names of standard streams in.
pub(super) const DESCRIPTORS: &str = "descriptors.json";
/// Most standard streams, and the longest name of one.
pub(super) const DESCRIPTORS_MAX: usize = 3;
const DESCRIPTOR_BYTES_MAX: usize = 4096;

/// Says why a container cannot come, if that can be told.
pub(crate) fn obstacle(
    destination: &Destination,
    container: &ContainerOffer,
    staging: &Staging,
) -> Result<Option<String>> {
    let ContainerOffer {
        runtime, id, name, ..
    } = container;
    if destination.restore.root.is_some() {
        return Ok(Some(
            "a container brings its own root; receive it without --root".to_owned(),
        ));
    }
    if !is_id(id) || name.as_ref().is_some_and(|name| !is_id(name)) {
        return Ok(Some(
            "the container has an id that cannot be one".to_owned(),
        ));
    }
    let program = match Program::find(*runtime, &destination.criu, staging.path()) {
        Ok(program) => program,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let mut names = vec![id];
    names.extend(name);
    for name in names {
        if exists(&program, *runtime, name)? {
            return Ok(Some(format!(
                "there is a {runtime} container {name} here; remove it, or rename one of the two"
            )));
        }
    }
    Ok(match (runtime, &container.bundle, &container.image) {
        (Runtime::Runc, Some(bundle), _) if crate::sync::is_plain(bundle) => None,
        (Runtime::Podman, _, Some(image)) => podman::image_obstacle(&program, image),
        _ => Some(format!(
            "the offer says too little of the {runtime} container"
        )),
    })
}

fn exists(program: &Program, runtime: Runtime, id: &str) -> Result<bool> {
    match runtime {
        Runtime::Runc => runc::exists(program, id),
        Runtime::Podman => podman::exists(program, id),
    }
}

/// A container on its way here.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) destination: &'a Destination,
    pub(crate) container: &'a ContainerOffer,
    pub(crate) needs: &'a Needs,
    pub(crate) staging: &'a Staging,
    pub(crate) room_bytes: u64,
}

impl Arrival<'_> {
    /// Takes everything, and restores the container when the source gives it away.
    pub(crate) fn take_in(
        &self,
        connection: &mut Connection,
        landing: &mut Landing,
        watch: &Watch,
    ) -> Result<Received> {
        let timing = &self.destination.timing;
        let place = self.staging.path();
        let (runtime, id) = (self.container.runtime, self.container.id.as_str());
        let mut rounds = 0_u32;
        let mut left_bytes = self.room_bytes;
        let descriptors = loop {
            // How long a runtime takes to checkpoint is its own.
            match connection.hear("its next step", timing.restore, watch)? {
                Message::OpenSync { path, pass } => {
                    landing.receive(connection, &path, pass, place, SYNC)?;
                }
                first @ Message::Image { .. } => {
                    rounds = rounds.saturating_add(1);
                    let directory = self.staging.images_of(rounds)?;
                    let taking = self.taking(&directory, left_bytes, watch);
                    left_bytes -= taking.round(connection, landing, first)?;
                    connection.say(&Message::RoundStored)?;
                    watch.tell(Happening::RoundStored {
                        round: rounds,
                        bytes: self.room_bytes - left_bytes,
                    });
                }
                Message::Checkpointed { descriptors } => break descriptors,
                message => return Err(connection.unexpected(&message)),
            }
        };
        let number = rounds.saturating_add(1);
        let directory = self.staging.images_of(number)?;
        let first = connection.hear("the checkpoint", timing.restore, watch)?;
        let (images, _) = self
            .taking(&directory, left_bytes, watch)
            .all(connection, landing, first)?;
        if runtime == Runtime::Runc {
            write_descriptors(&descriptors, directory.path())?;
        }
        let program = Program::find(runtime, &self.destination.criu, place)?;
        if exists(&program, runtime, id)? {
            return Err(Error::Container {
                runtime,
                doing: format!("restore container {id}"),
                said: "there is one of that id here by now".to_owned(),
            });
        }
        let asked = Instant::now();
        connection.say(&Message::Ready)?;
        let answer = connection.hear("handing the container over", timing.commit, watch)?;
        // This process may have been stopped meanwhile, and the source may have given up on it.
        if asked.elapsed() > timing.commit {
            return Err(Error::TooSlow {
                peer: Party::Source,
                what: "handing the container over",
                after: timing.commit,
            });
        }
        let Message::Commit = answer else {
            return Err(connection.unexpected(&answer));
        };
        watch.tell(Happening::Committing);
        match self.restore(&program, number, timing.restore) {
            Ok(pid) => {
                landing.keep();
                watch.tell(Happening::Running { pid });
                let _ = connection.say(&Message::Committed {
                    pid,
                    resumed_after_us: 0,
                    pages_follow: false,
                });
                Ok(Received::new(pid, images))
            }
            Err(error) => {
                // Killed in the middle of it, a runtime may have left what it does not know of.
                let unsure = matches!(&error, Error::Io { source, .. }
                    if source.kind() == std::io::ErrorKind::TimedOut);
                let cleared = self.clear(&program);
                if unsure || cleared.is_err() {
                    // It may run: the source must not be told to restore its own.
                    connection.break_off();
                    landing.keep();
                }
                cleared.and(Err(error))
            }
        }
    }

    fn taking<'a>(
        &'a self,
        directory: &'a ImagesDir,
        limit_bytes: u64,
        watch: &'a Watch,
    ) -> Taking<'a> {
        Taking {
            directory,
            limit_bytes,
            place: self.staging.path(),
            within: self.destination.timing.restore,
            watch,
        }
    }

    /// Restores the container from the images of that number.
    fn restore(&self, program: &Program, number: u32, within: Duration) -> Result<i32> {
        let (id, needs) = (self.container.id.as_str(), self.needs);
        let images = self.staging.path_of(number);
        match self.container.runtime {
            Runtime::Runc => {
                let bundle = self.container.bundle.as_deref().unwrap_or("/");
                runc::restore(program, id, &images, Path::new(bundle), needs, within)?;
                Ok(runc::state(program, id)?.pid)
            }
            Runtime::Podman => {
                let archive_of = |number| self.staging.path_of(number).join(ARCHIVE);
                let previous = (number > 1).then(|| archive_of(number - 1));
                let archive = archive_of(number);
                podman::import(program, &archive, previous.as_deref(), needs, within)?;
                Ok(podman::state(program, id)?.pid)
            }
        }
    }

    /// Removes what a failed restore left, and makes sure that it is gone.
    fn clear(&self, program: &Program) -> Result<()> {
        let (runtime, id) = (self.container.runtime, self.container.id.as_str());
        if exists(program, runtime, id)? {
            match runtime {
                Runtime::Runc => runc::remove(program, id)?,
                Runtime::Podman => podman::remove(program, id)?,
            }
            if exists(program, runtime, id)? {
                return Err(Error::Container {
                    runtime,
                    doing: format!("remove container {id}"),
                    said: "it is still there".to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// The names of standard streams are what runc gives to CRIU: nothing but the two kinds it knows.
fn write_descriptors(descriptors: &[String], place: &Path) -> Result<()> {
    let good = descriptors.len() <= DESCRIPTORS_MAX
        && descriptors
            .iter()
            .all(|name| name.len() <= DESCRIPTOR_BYTES_MAX);
    if !good {
        return Err(Error::Misuse {
            problem: "the container has standard streams that cannot be ones",
        });
    }
    let text = serde_json::to_vec(descriptors).unwrap_or_default();
    fs::write(place.join(DESCRIPTORS), text).map_err(Error::io(format!("write {DESCRIPTORS}")))
}
