//! Pre-copy of a container: its runtime dumps its memory while it runs, and the checkpoint carries what changed since.
//!
//! runc builds each dump upon the one before, podman its checkpoint upon one dump.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use criu_image::ImageReader;
use criu_image::stats::DumpStats;

use super::arrival::ARCHIVE;
use super::program::Program;
use super::{ContainerOffer, Runtime, podman, runc};
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::message::{Message, Needs};
use crate::policy::{Limits, OnDivergence};
use crate::source::{Counted, Rounds, copy_images, until_decided};
use crate::staging::Staging;
use crate::timing::Timing;
use crate::watch::{Happening, Watch};

/// What the rounds need.
pub(super) struct Rounding<'a> {
    pub(super) program: &'a Program,
    pub(super) offer: &'a ContainerOffer,
    pub(super) staging: &'a Staging,
    pub(super) needs: &'a Needs,
    pub(super) timing: &'a Timing,
    pub(super) limits: &'a Limits,
    pub(super) watch: &'a Watch,
}

impl Rounding<'_> {
    /// Makes rounds until the policy says that it is enough.
    pub(super) fn run(&self, connection: &mut Connection) -> Result<Rounds> {
        let mut limits = self.limits.clone();
        // Nothing of a container can follow when it runs there.
        if limits.on_divergence == OnDivergence::PostCopy {
            limits.on_divergence = OnDivergence::StopAnyway;
        }
        if self.offer.runtime == Runtime::Podman {
            limits.max_rounds = limits.max_rounds.min(1);
            // A single round tells nothing of how memory changes.
            limits.on_divergence = OnDivergence::StopAnyway;
        }
        until_decided(&limits, self.watch, |rounds| self.round(connection, rounds))
            .map(|(rounds, _)| rounds)
    }

    fn round(&self, connection: &mut Connection, rounds: &mut Rounds) -> Result<()> {
        connection.check(self.watch)?;
        let began = Instant::now();
        let sent_before = connection.outgoing().sent_bytes();
        let round = rounds.count().saturating_add(1);
        self.watch.tell(Happening::RoundBegun { round });
        let images = self.staging.images_to_dump(round)?;
        let statistics = self.dump(round, images.path()).map_err(with_remedy)?;
        let copied = copy_images(connection, &images, self.watch)?;
        connection.say(&Message::RoundDone)?;
        match connection.hear("storing a round", self.timing.answer, self.watch)? {
            Message::RoundStored => {}
            message => return Err(connection.unexpected(&message)),
        }
        let counted = Counted {
            statistics: &statistics,
            stream_bytes: copied.stream_bytes,
            wire_bytes: connection.outgoing().sent_bytes() - sent_before,
            took: began.elapsed(),
        };
        rounds.add(counted, self.watch);
        Ok(())
    }

    /// Dumps the memory; the container goes on. Without statistics the policy knows less.
    fn dump(&self, round: u32, images: &Path) -> Result<DumpStats> {
        let (id, within) = (self.offer.id.as_str(), self.timing.restore);
        match self.offer.runtime {
            Runtime::Runc => {
                let parent = (round > 1).then(|| self.staging.parent_of(round));
                let kind = runc::Kind::PreDump;
                runc::dump(self.program, id, images, kind, parent, self.needs, within)?;
                Ok(read_statistics(images).unwrap_or_default())
            }
            Runtime::Podman => {
                let archive = images.join(ARCHIVE);
                podman::pre_checkpoint(self.program, id, &archive, self.needs, within)
            }
        }
    }
}

fn read_statistics(images: &Path) -> Option<DumpStats> {
    let file = File::open(images.join(DumpStats::FILE_NAME)).ok()?;
    DumpStats::read(ImageReader::new(file).ok()?).ok()
}

/// A runtime may have no pre-dumps although the kernel can.
fn with_remedy(error: Error) -> Error {
    match error {
        Error::Container {
            runtime,
            doing,
            said,
        } => Error::Container {
            runtime,
            doing,
            said: format!("{said}; `--mode stop-and-copy` does without"),
        },
        error => error,
    }
}

/// The dump podman keeps in its own storage to build a checkpoint upon. It holds the memory of the container, and nobody
/// removes it if no checkpoint follows: so it is removed with the value.
#[derive(Debug)]
pub(super) struct PreCheckpoint {
    path: Option<PathBuf>,
}

impl PreCheckpoint {
    /// That of a container podman keeps in `storage`.
    pub(super) fn below(storage: Option<&Path>) -> Self {
        Self {
            path: storage.map(|storage| storage.join("pre-checkpoint")),
        }
    }

    /// Leaves it to the checkpoint that is built upon it, with which podman removes it.
    pub(super) fn keep(&mut self) {
        self.path = None;
    }
}

impl Drop for PreCheckpoint {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // There is none if no round was made.
            let _ = fs::remove_dir_all(path);
        }
    }
}
