//! This machine, as it presents itself to the other.

use criu::{Criu, Feature};

use crate::error::Result;
use crate::message::Host;

/// Describes this machine and its CRIU.
pub(crate) fn here(criu: &Criu) -> Result<Host> {
    let uname = rustix::system::uname();
    let features = criu.features()?;
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Ok(Host {
        name: text(uname.nodename()),
        architecture: text(uname.machine()),
        kernel: text(uname.release()),
        page_size_bytes: rustix::param::page_size() as u64,
        criu: criu.version()?.to_string(),
        memory_tracking: features.contains(Feature::MemoryTracking),
        lazy_pages: features.contains(Feature::LazyPages),
    })
}

/// The first two numbers of a kernel's release.
pub(crate) fn kernel_release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The security module that CRIU restores profiles of, if one is active.
pub(crate) fn security_module() -> Option<&'static str> {
    let is_there = |path| std::path::Path::new(path).exists();
    match () {
        () if is_there("/sys/kernel/security/apparmor/profiles") => Some("apparmor"),
        () if is_there("/sys/fs/selinux/enforce") => Some("selinux"),
        () => None,
    }
}

/// How large pipes must be allowed to be for a lazy dump: CRIU passes memory through one of this size.
const LARGE_PIPE_BYTES: u64 = 4 << 20;

/// Whether CRIU can make pipes of that size here.
pub(crate) fn has_large_pipes() -> bool {
    let limit = std::fs::read_to_string("/proc/sys/fs/pipe-max-size").unwrap_or_default();
    let allowed = limit.trim().parse::<u64>();
    allowed.is_ok_and(|bytes| bytes >= LARGE_PIPE_BYTES) || may_exceed_limits()
}

/// Whether this process has `CAP_SYS_RESOURCE`, as the CRIU it starts has then.
fn may_exceed_limits() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    effective.is_some_and(|mask| mask >> CAP_SYS_RESOURCE & 1 == 1)
}
