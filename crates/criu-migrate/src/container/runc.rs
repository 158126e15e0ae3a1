//! The runtime `runc`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::program::{ASKING, Program, again_if_unseizable};
use crate::error::{Error, Result};
use crate::message::Needs;

/// A container as `runc state` tells it.
#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) pid: i32,
    pub(super) status: String,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
}

/// Looks for a container; an error when there is none.
pub(super) fn state(program: &Program, id: &str) -> Result<State> {
    let text = program.run(&format!("look for container {id}"), ["state", id], ASKING)?;
    serde_json::from_str(&text)
        .map_err(|error| Error::io(format!("read what runc says of container {id}"))(error.into()))
}

/// Whether there is a container of that id, in whatever state.
pub(super) fn exists(program: &Program, id: &str) -> Result<bool> {
    match state(program, id) {
        Ok(_) => Ok(true),
        Err(Error::Container { said, .. }) if said.contains("does not exist") => Ok(false),
        Err(error) => Err(error),
    }
}

/// What a dump takes, and what becomes of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Memory only; the container goes on.
    PreDump,
    /// All of it; it is gone then.
    Checkpoint,
}

/// Dumps the container into a directory, without what the images in `parent`, as seen from there, have.
pub(super) fn dump(
    program: &Program,
    id: &str,
    images: &Path,
    kind: Kind,
    parent: Option<PathBuf>,
    needs: &Needs,
    within: Duration,
) -> Result<()> {
    let mut words = words(["checkpoint", "--image-path"]);
    words.extend([images.into(), "--work-path".into(), images.into()]);
    if let Some(parent) = parent {
        words.extend(["--parent-path".into(), parent.into()]);
    }
    if kind == Kind::PreDump {
        words.push("--pre-dump".into());
    }
    words.extend(options(needs));
    words.push(id.into());
    let doing = format!("{kind} container {id}");
    let attempt = || {
        program
            .run(&doing, &words, within)
            .map(drop)
            .map_err(|error| program.explain(error, &images.join("dump.log")))
    };
    again_if_unseizable(attempt)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PreDump => "dump the memory of",
            Self::Checkpoint => "checkpoint",
        })
    }
}

/// Restores the container.
pub(super) fn restore(
    program: &Program,
    id: &str,
    images: &Path,
    bundle: &Path,
    needs: &Needs,
    within: Duration,
) -> Result<()> {
    let words = restore_words(id, images, bundle, needs);
    program
        .run_detached(&format!("restore container {id}"), words, within)
        .map_err(|error| program.explain(error, &images.join("restore.log")))
}

/// The arguments of a restore, for a person to use, too.
pub(super) fn restore_words(
    id: &str,
    images: &Path,
    bundle: &Path,
    needs: &Needs,
) -> Vec<OsString> {
    let mut words = words(["restore", "--detach", "--image-path"]);
    words.extend([images.into(), "--work-path".into(), images.into()]);
    words.extend(["--bundle".into(), bundle.into()]);
    words.extend(options(needs));
    words.push(id.into());
    words
}

/// Removes whatever there is of a container.
pub(super) fn remove(program: &Program, id: &str) -> Result<()> {
    program
        .run(
            &format!("remove container {id}"),
            ["delete", "--force", id],
            ASKING,
        )
        .map(drop)
}

fn options(needs: &Needs) -> Vec<OsString> {
    let mut words = Vec::new();
    for (needed, word) in [
        (needs.tcp_established, "--tcp-established"),
        (needs.file_locks, "--file-locks"),
        (needs.external_unix_sockets, "--ext-unix-sk"),
    ] {
        if needed {
            words.push(word.into());
        }
    }
    words
}

fn words<const COUNT: usize>(words: [&str; COUNT]) -> Vec<OsString> {
    words.into_iter().map(OsString::from).collect()
}
