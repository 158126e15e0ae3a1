//! Finds out whether a checkpoint is whole.
//!
//! [`verify`] looks at a checkpoint and all that it continues:
//!
//! * every image can be read to its end, and comes out byte for byte when it is turned into JSON
//!   and back;
//! * what pagemaps say fits the pages files, compressed blocks can be expanded, and pages that are
//!   said to be in the parent are there;
//! * what images refer to exists: tasks, files, pipes, terminals, sockets, mounts, namespaces,
//!   control groups, seccomp filters, shared memory.

mod images;
mod pages;
mod references;

use std::fmt;
use std::path::{Path, PathBuf};

use criu_image::{Checkpoint, ImageKind};
use serde::{Serialize, Serializer};

use crate::Monitor;

/// What was found out about a checkpoint and those that it continues, the newest first.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Verification {
    /// One for each.
    pub checkpoints: Vec<Verified>,
}

/// What was found out about a checkpoint.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Verified {
    /// Where it is.
    #[serde(serialize_with = "text")]
    pub path: PathBuf,
    /// How many images were looked at.
    pub images: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// What is wrong: the first [`FAULT_LIMIT`] faults.
    pub faults: Vec<Fault>,
    /// How many faults there are beyond those.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_faults: u64,
}

/// Serialises a path, which need not be UTF-8; what is not becomes U+FFFD.
fn text<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fault {
    /// Name of the file; none if it is about the directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Index of the entry, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// Offset in the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// In what way.
    pub problem: String,
}

/// Looks at a checkpoint and all that it continues.
#[must_use]
pub fn verify(checkpoint: &Checkpoint, monitor: &dyn Monitor) -> Verification {
    let mut verification = Verification::default();
    let mut next = Some(checkpoint.clone());
    while let Some(here) = next {
        let mut check = Check::new(&here, monitor);
        check.all();
        next = match here.parent() {
            Ok(parent) => parent,
            Err(error) => {
                check.failed(&error);
                None
            }
        };
        verification.checkpoints.push(check.verified);
        if monitor.is_stopped() {
            break;
        }
    }
    verification
}

impl Verification {
    /// Returns whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.checkpoints
            .iter()
            .all(|checkpoint| checkpoint.faults.is_empty())
    }
}

/// One checkpoint being looked at.
struct Check<'a> {
    checkpoint: &'a Checkpoint,
    monitor: &'a dyn Monitor,
    verified: Verified,
}

impl<'a> Check<'a> {
    fn new(checkpoint: &'a Checkpoint, monitor: &'a dyn Monitor) -> Self {
        let verified = Verified {
            path: checkpoint.source().location().to_owned(),
            ..Verified::default()
        };
        Self {
            checkpoint,
            monitor,
            verified,
        }
    }

    fn all(&mut self) {
        let images = match self.checkpoint.images() {
            Ok(images) => images,
            Err(error) => return self.failed(&error),
        };
        self.images(&images);
        self.pages(&images);
        // What a pre-dump leaves are pages; all else is in the dump that continues it.
        let has = |kind| images.iter().any(|image| image.kind == kind);
        if has(ImageKind::Pstree) || has(ImageKind::Core) || has(ImageKind::Files) {
            self.references(&images);
        } else if !has(ImageKind::Pagemap) && !has(ImageKind::ShmemPagemap) {
            self.fault(None, None, "no images of a checkpoint here");
        }
    }

    fn fault(&mut self, file: Option<&str>, entry: Option<u64>, problem: impl Into<String>) {
        self.push(Fault {
            file: file.map(str::to_owned),
            entry,
            offset: None,
            problem: problem.into(),
        });
    }

    fn push(&mut self, fault: Fault) {
        match self.verified.faults.len() < FAULT_LIMIT {
            true => self.verified.faults.push(fault),
            false => self.verified.more_faults += 1,
        }
    }

    /// Notes an error as a fault; each place once.
    fn failed(&mut self, error: &criu_image::Error) {
        let place = error.place();
        let path = place.path.as_deref();
        let name = path.and_then(|path| path.file_name());
        let here = path.and_then(|path| path.parent()) == Some(&self.verified.path);
        let file = match (path, name) {
            (_, Some(name)) if here => Some(name.to_string_lossy().into_owned()),
            (Some(path), _) if path != self.verified.path => Some(path.display().to_string()),
            _ => None,
        };
        let fault = Fault {
            file,
            entry: place.entry,
            offset: place.offset,
            problem: with_causes(error.reason()),
        };
        let known = self.verified.faults.iter().any(|known| {
            known == &fault || (known.file == fault.file && known.problem.ends_with(&fault.problem))
        });
        if !known {
            self.push(fault);
        }
    }
}

/// Most faults of a checkpoint that are told one by one: more than anyone reads.
pub const FAULT_LIMIT: usize = 10_000;

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// An error and what led to it.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}: ")?;
        }
        match (self.entry, self.offset) {
            (Some(entry), Some(offset)) => write!(f, "entry {entry} at byte {offset}: ")?,
            (Some(entry), None) => write!(f, "entry {entry}: ")?,
            (None, Some(offset)) => write!(f, "at byte {offset}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.problem)
    }
}
