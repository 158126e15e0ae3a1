//! Mounts of a dump.

use std::path::PathBuf;

use super::External;
use super::settings::{set_flag, text};
use crate::rpc::{CriuOpts, ExtMountMap};

/// A mount treated as external, in the older form (`--ext-mount-map KEY:VALUE`).
///
/// [`External::Mount`] and [`External::MountSource`] are the newer way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExternalMount {
    /// Dump: the mount point; restore: the name given on dump.
    pub key: String,
    /// Dump: a name for it; restore: the path to mount from.
    pub value: String,
}

impl ExternalMount {
    /// Pairs a key with its value.
    pub fn new(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
        }
    }

    pub(super) fn message(&self) -> ExtMountMap {
        ExtMountMap {
            key: text(&self.key),
            val: text(&self.value),
            ..ExtMountMap::default()
        }
    }
}

/// Mounts and other resources that come from outside the tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DumpMounts {
    /// Resources to treat as external (`--external`).
    pub external: Vec<External>,
    /// External mounts in the older form.
    pub ext_mount_map: Vec<ExternalMount>,
    /// CRIU finds external mounts itself (`--ext-mount-map auto`).
    pub auto_detect: bool,
    /// Mounts shared with the outside may be detected so (`--enable-external-sharing`).
    pub external_sharing: bool,
    /// Mounts that are slaves of the outside may be detected so (`--enable-external-masters`).
    pub external_masters: bool,
    /// Mount points to leave out (`--skip-mnt`).
    pub skip: Vec<PathBuf>,
    /// File systems CRIU does not know but shall accept, or `all` (`--enable-fs`).
    pub enable_fs: Vec<String>,
}

impl DumpMounts {
    pub(super) fn apply(&self, opts: &mut CriuOpts) {
        opts.external.extend(
            self.external
                .iter()
                .map(|external| external.to_string().into()),
        );
        opts.ext_mnt
            .extend(self.ext_mount_map.iter().map(ExternalMount::message));
        set_flag(&mut opts.auto_ext_mnt, self.auto_detect);
        set_flag(&mut opts.ext_sharing, self.external_sharing);
        set_flag(&mut opts.ext_masters, self.external_masters);
        opts.skip_mnt.extend(self.skip.iter().map(text));
        opts.enable_fs.extend(self.enable_fs.iter().map(text));
    }
}
