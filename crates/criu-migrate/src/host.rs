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

/// Says why a tree of `theirs` cannot be restored on `ours`, and what to do; `None` if nothing is in the
/// way.
pub(crate) fn obstacle(theirs: &Host, ours: &Host) -> Option<String> {
    if theirs.architecture != ours.architecture {
        return Some(format!(
            "the tree is for {} and this machine is {}; use a destination of the same architecture",
            theirs.architecture, ours.architecture
        ));
    }
    if theirs.page_size_bytes != ours.page_size_bytes {
        return Some(format!(
            "the source has pages of {} bytes and this kernel of {}; boot a kernel with the same page size",
            theirs.page_size_bytes, ours.page_size_bytes
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_named_with_both_values() {
        let host = Host {
            name: "a".into(),
            architecture: "x86_64".into(),
            kernel: "6.1".into(),
            page_size_bytes: 4096,
            criu: "4.3".into(),
        };
        assert_eq!(obstacle(&host, &host), None);
        let mut arm = host.clone();
        arm.architecture = "aarch64".into();
        let said = obstacle(&arm, &host).unwrap();
        assert!(
            said.contains("aarch64") && said.contains("x86_64"),
            "{said}"
        );
        let mut large = host.clone();
        large.page_size_bytes = 65536;
        let said = obstacle(&large, &host).unwrap();
        assert!(said.contains("65536") && said.contains("4096"), "{said}");
    }
}
