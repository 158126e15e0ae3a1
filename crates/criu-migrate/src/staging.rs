//! The private directory a migration keeps its images in, on either side: one below it for each round.
//!
//! It is removed with the value. One left behind by a killed process is removed by the next migration
//! in the same place: the owner of a directory holds a lock on it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock, fstatvfs};

use crate::error::{Error, Result};
use crate::images_dir::ImagesDir;

const PREFIX: &str = "criu-migrate-";
/// Not swept by anybody.
const LASTING_PREFIX: &str = "criu-container-";
/// A directory younger than this may not be locked by its owner yet.
const SETTLED: Duration = Duration::from_secs(60);

/// A directory of our own for images.
#[derive(Debug)]
pub(crate) struct Staging {
    path: PathBuf,
    directory: File,
    /// Stays when the value goes.
    lasting: bool,
}

impl Staging {
    /// Makes one in `parent`, and removes what killed migrations left there.
    pub(crate) fn create(parent: &Path) -> Result<Self> {
        sweep(parent);
        Self::make(parent, PREFIX, false)
    }

    /// Makes one that stays, also when this process is killed, until it is let go.
    pub(crate) fn create_lasting(parent: &Path, label: &str) -> Result<Self> {
        Self::make(parent, &format!("{LASTING_PREFIX}{label}-"), true)
    }

    /// Lets it stay.
    pub(crate) fn keep(&mut self) {
        self.lasting = true;
    }

    /// Has a lasting one removed with the value, too.
    pub(crate) fn let_go(&mut self) {
        self.lasting = false;
    }

    fn make(parent: &Path, prefix: &str, lasting: bool) -> Result<Self> {
        let making = |source| Error::Io {
            doing: format!("make a directory for images in {}", parent.display()),
            source,
        };
        let unique = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(making)?;
        let path = parent.join(format!("{prefix}{}", unique.trim()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(making)?;
        let opened = File::open(&path).and_then(|directory| {
            flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
            Ok(directory)
        });
        match opened {
            Ok(directory) => Ok(Self {
                path,
                directory,
                lasting,
            }),
            Err(source) => {
                let _ = fs::remove_dir(&path);
                Err(making(source))
            }
        }
    }

    /// Makes the directory for the images of the `round`th dump, whose parent are those of the one before.
    pub(crate) fn images_of(&self, round: u32) -> Result<ImagesDir> {
        let images = ImagesDir::create(self.path_of(round))?;
        if round > 1 {
            images.link_parent(&self.parent_of(round))?;
        }
        Ok(images)
    }

    /// As [`Staging::images_of`], for a dump: CRIU links the parent itself.
    pub(crate) fn images_to_dump(&self, round: u32) -> Result<ImagesDir> {
        ImagesDir::create(self.path_of(round))
    }

    /// The images of a round before.
    pub(crate) fn open_images(&self, round: u32) -> Result<ImagesDir> {
        ImagesDir::open_at(self.path_of(round))
    }

    /// Where the images of a round lie.
    pub(crate) fn path_of(&self, round: u32) -> PathBuf {
        self.path.join(round_name(round))
    }

    /// The images before those of `round`, as seen from them.
    pub(crate) fn parent_of(&self, round: u32) -> PathBuf {
        Path::new("..").join(round_name(round.saturating_sub(1)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that still fit.
    pub(crate) fn free_bytes(&self) -> Result<u64> {
        let space = fstatvfs(&self.directory).map_err(io::Error::from);
        let space = space.map_err(Error::io("look for free space"))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

fn round_name(round: u32) -> String {
    format!("round-{round}")
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.lasting {
            return;
        }
        // What cannot be removed now the next migration tries again.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the directories of migrations that were killed.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        let settled = entry.metadata().and_then(|metadata| metadata.modified());
        let settled = settled.is_ok_and(|modified| {
            SystemTime::now()
                .duration_since(modified)
                .is_ok_and(|age| age > SETTLED)
        });
        if ours && settled {
            remove_if_abandoned(&entry.path());
        }
    }
}

fn remove_if_abandoned(path: &Path) {
    if let Ok(directory) = File::open(path)
        && flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok()
    {
        let _ = fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staging() -> (criu_testkit::TempDir, Staging) {
        let parent = criu_testkit::TempDir::new();
        let staging = Staging::create(parent.path()).unwrap();
        (parent, staging)
    }

    #[test]
    fn each_round_has_the_one_before_as_its_parent() {
        let (_parent, staging) = staging();
        let first = staging.images_of(1).unwrap();
        assert!(!first.path().join("parent").exists());
        let second = staging.images_of(2).unwrap();
        let parent = fs::canonicalize(second.path().join("parent")).unwrap();
        assert_eq!(parent, fs::canonicalize(first.path()).unwrap());
        assert!(staging.images_of(2).is_err());
    }

    #[test]
    fn an_abandoned_directory_is_removed_and_one_in_use_is_not() {
        let (parent, in_use) = staging();
        let abandoned = parent.make_dir(format!("{PREFIX}old"));
        let foreign = parent.make_dir("precious");
        let young = parent.make_dir(format!("{PREFIX}young"));
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        for path in [
            abandoned.as_path(),
            in_use.path.as_path(),
            foreign.as_path(),
        ] {
            File::open(path).unwrap().set_modified(hour_ago).unwrap();
        }
        let next = Staging::create(parent.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(in_use.path.exists() && foreign.exists() && young.exists());
        let path = next.path.clone();
        drop(next);
        assert!(!path.exists());
    }
}
