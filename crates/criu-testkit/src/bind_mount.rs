//! A directory that is a mount, so that it can be the root of something.

use std::path::{Path, PathBuf};

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};

/// A directory mounted onto itself until dropped.
#[derive(Debug)]
pub struct BindMount {
    path: PathBuf,
}

impl BindMount {
    /// Mounts a directory onto itself.
    ///
    /// # Panics
    ///
    /// When that is not possible.
    #[must_use]
    #[track_caller]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        mount_bind(&path, &path)
            .and_then(|()| mount_change(&path, MountPropagationFlags::PRIVATE))
            .unwrap_or_else(|error| panic!("cannot mount {}: {error}", path.display()));
        BindMount { path }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for BindMount {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}
