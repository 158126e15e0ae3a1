//! Containers: moved by their own runtime's checkpoint and restore, as one transaction.
//!
//! ```text
//!  source                                              destination
//!    │ offer (machine, runtime, id, bundle or image) ───▶ │  refuses here if it can know that it will not work
//!    │ ◀───────────────────────────────────── accept      │
//!    │ open-sync, first pass; synced  (runc: the bundle)  │
//!  runtime dumps its memory, and it goes on               │  pre-copy only, once for each round:
//!    │ image + its bytes + end, for each image ─────────▶ │
//!    │ round-done; round-stored ────────────────────────▶ │
//!  runtime checkpoints the container, and keeps it        │
//!    │ checkpointed ────────────────────────────────────▶ │
//!    │ open-sync, last pass; synced  (runc: the bundle)   │
//!    │ image + its bytes + end, for each image ─────────▶ │
//!    │ complete ────────────────────────────────────────▶ │
//!    │ ◀────────────────────────────────────── ready      │
//!    │ commit ──────────────────────────────────────────▶ │  runtime restores the container
//!    │ ◀────────────────────────────────── committed      │
//!  checkpoint removed
//! ```
//!
//! Runtimes end the container when they checkpoint it, so that what keeps it from being lost is its
//! checkpoint on disk: until `commit` every failure restores it from there, here; afterwards the source
//! does so only when the destination says `abort`, which it does only when nothing of the container is
//! left there. A sender killed meanwhile leaves the checkpoint, which its last words name.

mod arrival;
mod departure;
mod podman;
mod program;
mod report;
mod rounds;
mod runc;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use arrival::{Arrival, obstacle};
pub use departure::ContainerSource;
pub use report::{ContainerFate, ContainerNotSent};

/// A program that runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Runtime {
    /// `runc`: a container is an id and a bundle, a directory with its configuration and its root.
    Runc,
    /// `podman`: a container has an image below its root, and a storage of podman's.
    Podman,
}

impl Runtime {
    /// The program, and the Debian package it is in.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Podman => "podman",
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct Container {
    /// What runs it.
    pub runtime: Runtime,
    /// Its id, or for podman its name.
    pub id: String,
}

impl Container {
    /// Names a container.
    pub fn new(runtime: Runtime, id: impl Into<String>) -> Self {
        Self {
            runtime,
            id: id.into(),
        }
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} container {}", self.runtime, self.id)
    }
}

/// What the source tells of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ContainerOffer {
    /// What runs it.
    pub runtime: Runtime,
    /// Its id.
    pub id: String,
    /// Its name, if it has one beside the id.
    #[serde(default)]
    pub name: Option<String>,
    /// The bundle of a runc container: its absolute path on both sides.
    #[serde(default)]
    pub bundle: Option<String>,
    /// The image of a podman container.
    #[serde(default)]
    pub image: Option<ImageSeen>,
}

/// The image a container is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ImageSeen {
    /// Its name, by which the destination looks for it.
    pub name: String,
    /// Its id, which has to be the same there.
    pub id: String,
}

/// Whether this can be the id or name of a container: it becomes a word on a command line.
fn is_id(id: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'+' | b'-' | b'.');
    let begins = |id: &str| id.starts_with(|first: char| first.is_ascii_alphanumeric());
    id.len() <= 200 && begins(id) && id.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_no_option_and_no_path() {
        assert!(is_id("web-1.a_b+c"));
        for id in [
            "",
            "-f",
            "--all",
            "../x",
            ".",
            "a/b",
            "a b",
            "a\n",
            &"a".repeat(300),
        ] {
            assert!(!is_id(id), "{id:?}");
        }
    }
}
