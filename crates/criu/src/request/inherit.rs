//! Descriptors of the caller that take the place of dumped files.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Names the dumped file that an inherited descriptor replaces, as CRIU identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DescriptorKey {
    /// A pipe, by its id: the inode number in `/proc/PID/fd` at dump time (`pipe:[ID]`).
    Pipe(u32),
    /// A socket, by its inode number (`socket:[INODE]`).
    Socket(u32),
    /// A regular file, by its path relative to the root of the dumped tree (no leading slash).
    File(String),
    /// A terminal, by the numbers of its device and of the file system its node is on.
    Tty {
        /// `st_rdev` of the terminal.
        rdev: u64,
        /// `st_dev` of its node.
        dev: u64,
    },
    /// Any other key, such as that of an external namespace ([`crate::External::NetworkNamespace`]).
    Key(String),
}

impl fmt::Display for DescriptorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pipe(id) => write!(f, "pipe:[{id}]"),
            Self::Socket(inode) => write!(f, "socket:[{inode}]"),
            // CRIU compares with the path as the image holds it, which has no leading slash.
            Self::File(path) => f.write_str(path.trim_start_matches('/')),
            Self::Tty { rdev, dev } => write!(f, "tty[{rdev:x}:{dev:x}]"),
            Self::Key(key) => f.write_str(key),
        }
    }
}

/// A descriptor for restored tasks to use instead of reopening the file of that key.
///
/// It works in worker mode only: a service cannot receive descriptors.
#[derive(Debug)]
#[non_exhaustive]
pub struct InheritFd {
    /// The dumped file it replaces.
    pub key: DescriptorKey,
    /// Our own copy of the descriptor, close-on-exec like any other; the worker alone gets it open.
    pub fd: OwnedFd,
}

impl InheritFd {
    /// Ties a copy of `fd` to `key`.
    ///
    /// # Errors
    ///
    /// When the descriptor cannot be duplicated.
    pub fn new(key: DescriptorKey, fd: impl AsFd) -> io::Result<Self> {
        Ok(Self {
            key,
            fd: fd.as_fd().try_clone_to_owned()?,
        })
    }
}
