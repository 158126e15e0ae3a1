//! Sockets and the network.

use super::settings::set_flag;
use crate::rpc::{CriuNetworkLockMethod, CriuOpts, UnixSk};

/// UNIX sockets whose other end is outside the tree (`--ext-unix-sk`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ExternalUnixSockets {
    /// They make the dump fail.
    #[default]
    Refused,
    /// All are left to be reconnected on restore (only datagram sockets can be).
    All,
    /// Only those with these inode numbers. [`crate::External::UnixSocket`] is the newer way.
    Inodes(Vec<u32>),
}

/// What is done with TCP and UNIX connections that leave the tree.
///
/// What was set for the dump has to be set again for the restore.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Sockets {
    /// Established TCP connections are dumped and restored (`--tcp-established`).
    pub tcp_established: bool,
    /// Connections that are still being made are left out (`--skip-in-flight`).
    pub tcp_skip_in_flight: bool,
    /// TCP connections are restored as closed (`--tcp-close`).
    pub tcp_close: bool,
    /// UNIX sockets connected to the outside.
    pub external_unix: ExternalUnixSockets,
}

impl Sockets {
    pub(super) fn apply(&self, opts: &mut CriuOpts) {
        set_flag(&mut opts.tcp_established, self.tcp_established);
        set_flag(&mut opts.tcp_skip_in_flight, self.tcp_skip_in_flight);
        set_flag(&mut opts.tcp_close, self.tcp_close);
        set_flag(
            &mut opts.ext_unix_sk,
            self.external_unix != ExternalUnixSockets::Refused,
        );
        if let ExternalUnixSockets::Inodes(inodes) = &self.external_unix {
            opts.unix_sk_ino.extend(inodes.iter().map(|&inode| UnixSk {
                inode,
                ..UnixSk::default()
            }));
        }
    }
}

/// How traffic is kept out while the tree is frozen (`--network-lock`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetworkLock {
    /// Rules of iptables. CRIU's default.
    Iptables,
    /// Rules of nftables.
    Nftables,
    /// Not at all: a peer may then see its connection reset.
    Skip,
}

impl NetworkLock {
    pub(super) const fn message(self) -> CriuNetworkLockMethod {
        match self {
            Self::Iptables => CriuNetworkLockMethod::Iptables,
            Self::Nftables => CriuNetworkLockMethod::Nftables,
            Self::Skip => CriuNetworkLockMethod::Skip,
        }
    }
}
