//! What CRIU can be asked to do, by name.

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
