//! Where CRIU keeps process handles between the pre-dumps and the dump of one series.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// A socket that holds a pidfd of every task seen by a pre-dump, so that a later one can tell a task
/// from another that got its pid meanwhile.
///
/// Give the same store to every request of the series and keep it until the dump is done. Needs a
/// kernel with `pidfd_open` and `pidfd_getfd` (see [`crate::Feature::PidfdStore`]).
#[derive(Debug)]
pub struct PidfdStore {
    socket: OwnedFd,
}

impl PidfdStore {
    /// Makes an empty store.
    ///
    /// # Errors
    ///
    /// When the kernel refuses a socket.
    pub fn new() -> io::Result<Self> {
        // CRIU binds it to an abstract name and connects it to itself on first use.
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok(Self { socket })
    }

    /// Uses a UNIX datagram socket made elsewhere.
    pub fn from_socket(socket: OwnedFd) -> Self {
        Self { socket }
    }

    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }
}

impl AsFd for PidfdStore {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
