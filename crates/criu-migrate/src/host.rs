//! This machine, as it presents itself to the other.

use criu::Criu;

use crate::error::Result;
use crate::message::Host;

/// Describes this machine and its CRIU.
pub(crate) fn here(criu: &Criu) -> Result<Host> {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Ok(Host {
        name: text(uname.nodename()),
        architecture: text(uname.machine()),
        kernel: text(uname.release()),
        page_size_bytes: rustix::param::page_size() as u64,
        criu: criu.version()?.to_string(),
    })
}
