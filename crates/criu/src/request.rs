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
