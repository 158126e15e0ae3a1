//! One end of CRIU's RPC socket: whole packets out, whole packets and owned descriptors in.
//!
//! The socket is `SOCK_SEQPACKET`: one protobuf message per packet, no length prefix. A packet may be
//! larger than any fixed buffer, so its size is asked of the kernel before it is read.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, recv, recvmsg, send, socket_with, socketpair, sockopt,
};

/// A packet larger than this is refused: no reply of CRIU comes near it, and the sender chose it.
const PACKET_LIMIT: usize = 16 << 20;

/// Descriptors accepted with one packet; CRIU sends at most one.
const DESCRIPTORS_PER_PACKET: usize = 4;

/// How long to wait before asking a busy service again.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// What the peer sent in one packet.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// What happened while waiting for a packet.
#[derive(Debug)]
pub(crate) enum Incoming {
    Packet(Packet),
    /// The peer closed its end.
    Closed,
    /// The watched process ended and left nothing to read.
    PeerExited,
    /// The deadline passed.
    TimedOut,
}

/// Our end of the socket.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
}

impl Connection {
    /// Makes a connected pair: our end, and the end to hand to a worker. Both are close-on-exec.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self { socket: ours }, theirs))
    }

    /// Connects to a `criu service` listening at `path`; while it has no room for another connection,
    /// tries again until `deadline`.
    pub(crate) fn connect(path: &Path, deadline: Option<Instant>) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        loop {
            match rustix::net::connect(&socket, &address) {
                // There is nothing to poll for: a UNIX socket does not tell when the queue shrinks.
                Err(Errno::AGAIN) => {}
                other => return Ok(other.map(|()| Self { socket })?),
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(RETRY_INTERVAL);
        }
    }

    /// Uses a socket that is already connected to a CRIU worker.
    pub(crate) fn from_socket(socket: OwnedFd) -> io::Result<Self> {
        match sockopt::socket_type(&socket)? {
            SocketType::SEQPACKET => Ok(Self { socket }),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the socket is not SOCK_SEQPACKET, which CRIU's RPC needs",
            )),
        }
    }

    /// Sends one packet, waiting until `deadline` for room.
    pub(crate) fn send(&self, bytes: &[u8], deadline: Option<Instant>) -> io::Result<()> {
        loop {
            match self.try_send(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait(&[(self.socket.as_fd(), PollFlags::OUT)], deadline)? {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                done => return done,
            }
        }
    }

    /// Sends one packet if there is room for it now.
    pub(crate) fn try_send(&self, bytes: &[u8]) -> io::Result<()> {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match send(&self.socket, bytes, flags) {
            // The packet does not fit the send buffer: a larger one is the only way to send it whole.
            Err(Errno::MSGSIZE) => {
                sockopt::set_socket_send_buffer_size(&self.socket, bytes.len().saturating_mul(2))?;
                send(&self.socket, bytes, flags)?;
            }
            other => {
                other?;
            }
        }
        Ok(())
    }

    /// Ends the connection in both directions, although the descriptor stays open.
    #[cfg(feature = "tokio")]
    pub(crate) fn hang_up(&self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    /// Waits for a packet until `deadline`, and for the end of the process behind `peer` if given.
    pub(crate) fn receive(
        &self,
        deadline: Option<Instant>,
        peer: Option<BorrowedFd<'_>>,
    ) -> io::Result<Incoming> {
        loop {
            // Asked first: a peer that answered and then exited has still answered.
            if let Some(incoming) = self.try_receive()? {
                return Ok(incoming);
            }
            let mut watched = vec![(self.socket.as_fd(), PollFlags::IN)];
            watched.extend(peer.map(|peer| (peer, PollFlags::IN)));
            if !wait(&watched, deadline)? {
                // A process that dumps itself may wake up here in its restored copy, long after.
                return Ok(self.try_receive()?.unwrap_or(Incoming::TimedOut));
            }
            if let Some(peer) = peer
                && wait(&[(peer, PollFlags::IN)], Some(Instant::now()))?
            {
                return Ok(self.try_receive()?.unwrap_or(Incoming::PeerExited));
            }
        }
    }

    /// Takes a packet if one is there; `None` when nothing is waiting.
    pub(crate) fn try_receive(&self) -> io::Result<Option<Incoming>> {
        let size = match recv(
            &self.socket,
            &mut [0_u8; 0],
            RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT,
        ) {
            Ok((_, size)) => size,
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::CONNRESET) => return Ok(Some(Incoming::Closed)),
            Err(error) => return Err(error.into()),
        };
        if size > PACKET_LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a packet of {size} bytes is over the limit of {PACKET_LIMIT}"),
            ));
        }

        let mut bytes = vec![0; size];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_PER_PACKET))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            &self.socket,
            &mut [io::IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
        )?;
        let descriptors = ancillary
            .drain()
            .flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
                _ => Vec::new(),
            })
            .collect();
        bytes.truncate(received.bytes);
        if bytes.is_empty() {
            return Ok(Some(Incoming::Closed));
        }
        Ok(Some(Incoming::Packet(Packet { bytes, descriptors })))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits until one of the descriptors is ready; `false` when `deadline` passes first.
pub(crate) fn wait(
    watched: &[(BorrowedFd<'_>, PollFlags)],
    deadline: Option<Instant>,
) -> io::Result<bool> {
    let mut descriptors: Vec<PollFd<'_>> = watched
        .iter()
        .map(|(fd, events)| PollFd::from_borrowed_fd(*fd, *events))
        .collect();
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match poll(&mut descriptors, left.map(timespec).as_ref()) {
            Ok(0) if left.is_none_or(|left| left.is_zero()) => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // Poll takes at most what fits its clock; a longer wait is simply repeated.
    Timespec::try_from(duration.min(Duration::from_secs(3600))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(5))
    }

    #[test]
    fn packets_larger_than_any_default_buffer_arrive_whole() {
        let (ours, theirs) = Connection::pair().unwrap();
        let theirs = Connection::from_socket(theirs).unwrap();
        let sent: Vec<u8> = (0..100_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        theirs.send(&sent, soon()).unwrap();
        match ours.receive(soon(), None).unwrap() {
            Incoming::Packet(packet) => assert_eq!(packet.bytes, sent),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn descriptors_are_owned_and_close_on_exec() {
        let (ours, theirs) = Connection::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let rights = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&rights)));
        sendmsg(
            &theirs,
            &[io::IoSlice::new(b"x")],
            &mut ancillary,
            SendFlags::empty(),
        )
        .unwrap();
        let Incoming::Packet(packet) = ours.receive(soon(), None).unwrap() else {
            panic!()
        };
        let [descriptor] = packet.descriptors.as_slice() else {
            panic!("{packet:?}")
        };
        let flags = rustix::io::fcntl_getfd(descriptor).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn a_closed_peer_and_a_passed_deadline_are_told_apart() {
        let (ours, theirs) = Connection::pair().unwrap();
        let now = Some(Instant::now());
        assert!(matches!(
            ours.receive(now, None).unwrap(),
            Incoming::TimedOut
        ));
        drop(theirs);
        assert!(matches!(
            ours.receive(None, None).unwrap(),
            Incoming::Closed
        ));
    }

    #[test]
    fn other_socket_types_are_refused() {
        let (stream, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Connection::from_socket(stream.into()).is_err());
    }
}
