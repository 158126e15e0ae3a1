//! What can be asked of CRIU: one options struct per operation.
//!
//! Each struct is made by its `new` with what the operation cannot do without, and then changed
//! through its public fields; `Default` values are CRIU's own. What newer versions of CRIU add can be
//! set through [`Settings::raw`] before this crate knows it.

mod cgroup;
pub(crate) mod check;
pub(crate) mod cpuinfo;
mod directory;
pub(crate) mod dump;
pub(crate) mod external;
pub(crate) mod inherit;
mod join;
mod memory;
mod mount;
pub(crate) mod page_server;
mod pidfd_store;
mod prepared;
pub(crate) mod restore;
mod settings;
mod socket;
mod support;

pub use cgroup::{CgroupMode, CgroupRoot, DumpCgroups, RestoreCgroups};
pub use directory::Directory;
pub use dump::{Irmap, PreDumpMode};
pub use external::{AutoMounts, DeviceNumber, ParseExternalError};
pub use inherit::DescriptorKey;
pub use join::{JoinNamespace, NamespaceKind};
pub use memory::{Compression, ImageIo, Pages, Tls};
pub use mount::{DumpMounts, ExternalMount};
pub use pidfd_store::PidfdStore;
pub use restore::VethPair;
pub use settings::{CpuCapabilities, LogLevel, LogTo, Settings};
pub use socket::{ExternalUnixSockets, NetworkLock, Sockets};

pub(crate) use check::Check;
pub(crate) use cpuinfo::CpuInfo;
pub(crate) use dump::{Dump, PreDump};
pub(crate) use external::External;
pub(crate) use inherit::InheritFd;
pub(crate) use page_server::PageServer;
pub(crate) use prepared::{LogPlace, Prepared};
pub(crate) use restore::Restore;
pub(crate) use support::newest_option;

use std::fmt;

/// An operation of CRIU, as named in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Checkpoint a process tree.
    Dump,
    /// Copy the memory of a running process tree, before a dump.
    PreDump,
    /// Bring a process tree back.
    Restore,
    /// Check whether CRIU can work here.
    Check,
    /// Receive pages over the network.
    PageServer,
    /// Fill the memory of a restored tree when it is first touched.
    LazyPages,
    /// Record the features of this machine's processor.
    CpuInfoDump,
    /// Compare recorded processor features with this machine's.
    CpuInfoCheck,
    /// Ask for optional features of CRIU and the kernel.
    FeatureCheck,
    /// Ask for CRIU's version.
    Version,
    /// Wait for a child of the worker.
    WaitPid,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dump => "dump",
            Self::PreDump => "pre-dump",
            Self::Restore => "restore",
            Self::Check => "check",
            Self::PageServer => "page-server",
            Self::LazyPages => "lazy-pages",
            Self::CpuInfoDump => "cpuinfo dump",
            Self::CpuInfoCheck => "cpuinfo check",
            Self::FeatureCheck => "feature check",
            Self::Version => "version",
            Self::WaitPid => "wait-pid",
        })
    }
}
