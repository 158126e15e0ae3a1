//! Directories a request names.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A directory for images or for CRIU's log and other working files.
#[derive(Debug)]
#[non_exhaustive]
pub enum Directory {
    /// A directory the calling process can open. CRIU receives it opened, so it need not be
    /// reachable by the same path (or at all) from CRIU's side.
    Path(PathBuf),
    /// A directory that is already open.
    Fd(OwnedFd),
    /// A path that only CRIU shall resolve, in its own root: for a service that sees other mounts
    /// than the caller. Its log then cannot be read for error reports, unless the path leads to it
    /// from here as well.
    AtCriu(PathBuf),
}

impl Directory {
    /// Opens the directory, if it is the caller's to open.
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>> {
        let failed = |path: &Path, source| Error::Directory {
            path: path.to_owned(),
            source,
        };
        match self {
            Self::Path(path) => {
                let file = File::open(path).map_err(|source| failed(path, source))?;
                let metadata = file.metadata().map_err(|source| failed(path, source))?;
                if metadata.is_dir() {
                    Ok(Some(file.into()))
                } else {
                    Err(failed(path, std::io::ErrorKind::NotADirectory.into()))
                }
            }
            Self::Fd(fd) => {
                let copy = fd.as_fd().try_clone_to_owned();
                copy.map(Some)
                    .map_err(|source| failed(Path::new("(open descriptor)"), source))
            }
            Self::AtCriu(_) => Ok(None),
        }
    }

    /// Copies it; an open directory is opened once more.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when there are no descriptors left.
    pub fn try_clone(&self) -> Result<Self> {
        Ok(match self {
            Self::Path(path) => Self::Path(path.clone()),
            Self::AtCriu(path) => Self::AtCriu(path.clone()),
            Self::Fd(fd) => Self::Fd(fd.try_clone().map_err(|source| Error::Io {
                doing: "copy a descriptor",
                source,
            })?),
        })
    }

    /// Returns the directory's path, if it was given as one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) | Self::AtCriu(path) => Some(path),
            Self::Fd(_) => None,
        }
    }
}

impl From<PathBuf> for Directory {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<&PathBuf> for Directory {
    fn from(path: &PathBuf) -> Self {
        Self::Path(path.clone())
    }
}

impl From<&Path> for Directory {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<&str> for Directory {
    fn from(path: &str) -> Self {
        Self::Path(path.into())
    }
}

impl From<OwnedFd> for Directory {
    fn from(fd: OwnedFd) -> Self {
        Self::Fd(fd)
    }
}

impl From<File> for Directory {
    fn from(file: File) -> Self {
        Self::Fd(file.into())
    }
}
