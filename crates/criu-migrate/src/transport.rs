//! Ways to the other host.
//!
//! A [`Transport`] is a two-way stream of bytes whose waiting can be ended from another thread.
//! [`Stream`] is one over descriptors: a TCP connection, the standard streams of a command such as
//! `ssh host criuctl migrate receive --stdio`, our own standard streams, or a socket pair for tests.
//! `tls` (a feature of this crate) makes any transport one that nobody on the way can read or alter.

#[cfg(feature = "tls")]
pub mod tls;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// A way to the other host: a two-way stream of bytes.
pub trait Transport: Send {
    /// Says who is at the other end, for messages.
    fn peer(&self) -> String;

    /// Takes the stream apart into its two directions, which are used by different threads.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    fn split(self: Box<Self>) -> io::Result<Halves>;
}

/// The two directions of a [`Transport`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Halves {
    /// From the peer.
    pub receiver: Box<dyn Receive>,
    /// To the peer.
    pub sender: Box<dyn Transmit>,
}

impl Halves {
    /// Joins two directions.
    pub fn new(receiver: Box<dyn Receive>, sender: Box<dyn Transmit>) -> Self {
        Self { receiver, sender }
    }
}

/// The direction from the peer.
pub trait Receive: Send + fmt::Debug {
    /// Reads some bytes; 0 when the peer has ended its direction.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] when the deadline passes first, [`io::ErrorKind::Interrupted`] when
    /// the bell rings first; those of the stream.
    fn receive(&mut self, buffer: &mut [u8], wait: &Wait<'_>) -> io::Result<usize>;
}

/// The direction to the peer.
pub trait Transmit: Send + fmt::Debug {
    /// Writes some bytes, at least one.
    ///
    /// # Errors
    ///
    /// As [`Receive::receive`].
    fn transmit(&mut self, bytes: &[u8], wait: &Wait<'_>) -> io::Result<usize>;
}

/// How long to wait, and what ends the waiting.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Wait<'a> {
    /// When to give up.
    pub deadline: Option<Instant>,
    /// Ends the waiting when it rings.
    pub bell: &'a Bell,
}

impl<'a> Wait<'a> {
    /// Waits until `deadline`, or for ever.
    pub fn new(deadline: Option<Instant>, bell: &'a Bell) -> Self {
        Self { deadline, bell }
    }

    /// Waits until one of `flags` is there on `fd`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`], [`io::ErrorKind::Interrupted`], and those of `poll`.
    pub fn for_flags(&self, fd: BorrowedFd<'_>, flags: PollFlags) -> io::Result<()> {
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(fd, flags),
                PollFd::from_borrowed_fd(self.bell.0.fd.as_fd(), PollFlags::IN),
            ];
            let left = self.deadline.map(|deadline| {
                let left = deadline.saturating_duration_since(Instant::now());
                Timespec::try_from(left).unwrap_or(Timespec {
                    tv_sec: i64::MAX,
                    tv_nsec: 0,
                })
            });
            match poll(&mut fds, left.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) if !fds[1].revents().is_empty() => {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                Ok(_) => return Ok(()),
            }
        }
    }
}

/// Wakes everybody who waits, once and for all.
#[derive(Debug, Clone)]
pub struct Bell(Arc<BellRope>);

#[derive(Debug)]
struct BellRope {
    /// For who waits.
    fd: OwnedFd,
    /// For who has no need to wait: looking costs no system call.
    has_rung: AtomicBool,
}

impl Bell {
    /// A bell that has not rung.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn new() -> io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Self(Arc::new(BellRope {
            fd: eventfd(0, flags)?,
            has_rung: AtomicBool::new(false),
        })))
    }

    /// Rings it.
    pub fn ring(&self) {
        self.0.has_rung.store(true, Ordering::Relaxed);
        // Fails only when the counter is full: it has rung then.
        let _ = rustix::io::write(&self.0.fd, &1_u64.to_ne_bytes());
    }

    /// Whether it has rung.
    pub fn has_rung(&self) -> bool {
        self.0.has_rung.load(Ordering::Relaxed)
    }
}

/// A stream over descriptors.
#[derive(Debug)]
pub struct Stream {
    receiver: OwnedFd,
    sender: OwnedFd,
    peer: String,
    command: Option<Child>,
}

/// How much a transport protects by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protection {
    /// It never leaves this machine.
    Loopback,
    /// Anyone on the way can read and alter it.
    None,
}

/// Tells how much a plain TCP connection with that address protects.
pub fn protection_of(address: IpAddr) -> Protection {
    let loopback = match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => address
            .to_ipv4_mapped()
            .map_or(address.is_loopback(), |address| address.is_loopback()),
    };
    if loopback {
        Protection::Loopback
    } else {
        Protection::None
    }
}

impl Stream {
    /// Connects over TCP to the first of the addresses that answers, within `timeout` each.
    ///
    /// # Errors
    ///
    /// When none does, the last one's.
    pub fn connect(addresses: impl ToSocketAddrs, timeout: Duration) -> io::Result<Self> {
        let mut failure =
            io::Error::new(io::ErrorKind::AddrNotAvailable, "no address to connect to");
        for address in addresses.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => return Self::tcp(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Uses a TCP connection.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        // Commits are small and urgent.
        stream.set_nodelay(true)?;
        let peer = stream
            .peer_addr()
            .map(|address: SocketAddr| address.to_string())?;
        Self::of(stream.try_clone()?.into(), stream.into(), peer)
    }

    /// Runs `command` in a shell and talks to its standard input and output; its standard error is ours.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn command(command: &str) -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let streams = (child.stdout.take(), child.stdin.take());
        let (Some(stdout), Some(stdin)) = streams else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let peer = format!("`{command}`");
        let mut stream = Self::of(stdout.into(), stdin.into(), peer)?;
        stream.command = Some(child);
        Ok(stream)
    }

    /// Uses two descriptors, such as our own standard input and output.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn descriptors(
        receiver: impl AsFd,
        sender: impl AsFd,
        peer: impl Into<String>,
    ) -> io::Result<Self> {
        let (receiver, sender) = (receiver.as_fd(), sender.as_fd());
        Self::of(
            receiver.try_clone_to_owned()?,
            sender.try_clone_to_owned()?,
            peer.into(),
        )
    }

    /// Two ends of one stream within this process.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (near, far) = UnixStream::pair()?;
        let end = |stream: UnixStream| {
            Self::of(
                stream.try_clone()?.into(),
                stream.into(),
                "this process".to_owned(),
            )
        };
        Ok((end(near)?, end(far)?))
    }

    fn of(receiver: OwnedFd, sender: OwnedFd, peer: String) -> io::Result<Self> {
        for fd in [&receiver, &sender] {
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
        }
        Ok(Self {
            receiver,
            sender,
            peer,
            command: None,
        })
    }
}

impl Transport for Stream {
    fn peer(&self) -> String {
        self.peer.clone()
    }

    fn split(self: Box<Self>) -> io::Result<Halves> {
        let sender = Sender {
            fd: Some(self.sender),
            command: self.command,
        };
        Ok(Halves::new(
            Box::new(Receiver(self.receiver)),
            Box::new(sender),
        ))
    }
}

#[derive(Debug)]
struct Receiver(OwnedFd);

impl Receive for Receiver {
    fn receive(&mut self, buffer: &mut [u8], wait: &Wait<'_>) -> io::Result<usize> {
        loop {
            // A peer that never pauses must not keep the bell from being heard.
            if wait.bell.has_rung() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            // Tried first: while there is something, nothing is waited for.
            match rustix::io::read(&self.0, &mut *buffer) {
                Err(rustix::io::Errno::AGAIN) => {
                    wait.for_flags(self.0.as_fd(), PollFlags::IN)?;
                }
                Err(rustix::io::Errno::INTR) => {}
                read => return Ok(read?),
            }
        }
    }
}

#[derive(Debug)]
struct Sender {
    /// Taken on drop, before the command is waited for.
    fd: Option<OwnedFd>,
    command: Option<Child>,
}

/// How long the command of a stream may take to end once its standard input is closed.
const COMMAND_GRACE: Duration = Duration::from_secs(5);

impl Transmit for Sender {
    fn transmit(&mut self, bytes: &[u8], wait: &Wait<'_>) -> io::Result<usize> {
        let fd = self.fd.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        loop {
            // Tried first: the bell must not keep back a last message that there is room for.
            match write_quietly(fd, bytes) {
                Err(rustix::io::Errno::AGAIN) => wait.for_flags(fd.as_fd(), PollFlags::OUT)?,
                Err(rustix::io::Errno::INTR) => {}
                written => return Ok(written?),
            }
        }
    }
}

/// Writes to a socket without `SIGPIPE`; what is no socket is written to as it is (Rust programs ignore
/// the signal unless told otherwise).
fn write_quietly(fd: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    use rustix::net::{SendFlags, send};
    match send(fd, bytes, SendFlags::NOSIGNAL) {
        Err(rustix::io::Errno::NOTSOCK) => rustix::io::write(fd, bytes),
        sent => sent,
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.fd = None;
        let Some(child) = &mut self.command else {
            return;
        };
        let deadline = Instant::now() + COMMAND_GRACE;
        while let Ok(None) = child.try_wait() {
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn halves(stream: Stream) -> Halves {
        Box::new(stream).split().unwrap()
    }

    #[test]
    fn the_bell_ends_waiting_on_both_directions_and_the_deadline_does() {
        let bell = Bell::new().unwrap();
        let (near, _far) = Stream::pair().unwrap();
        let mut near = halves(near);
        let soon = Wait::new(Some(Instant::now() + Duration::from_millis(20)), &bell);
        let error = near.receiver.receive(&mut [0; 8], &soon).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let ringer = bell.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            ringer.ring();
        });
        let ever = Wait::new(None, &bell);
        let error = near.receiver.receive(&mut [0; 8], &ever).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        let full = loop {
            match near.sender.transmit(&[0; 4096], &ever) {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::Interrupted);
        thread.join().unwrap();
    }

    #[test]
    fn a_command_is_talked_to_over_its_standard_streams_and_reaped() {
        let bell = Bell::new().unwrap();
        let mut halves = halves(Stream::command("cat").unwrap());
        let wait = Wait::new(Some(Instant::now() + Duration::from_secs(10)), &bell);
        assert_eq!(
            halves.sender.transmit(b"there and back", &wait).unwrap(),
            14
        );
        let mut buffer = [0; 64];
        let count = halves.receiver.receive(&mut buffer, &wait).unwrap();
        assert_eq!(&buffer[..count], b"there and back");
        drop(halves.sender);
        assert_eq!(halves.receiver.receive(&mut buffer, &wait).unwrap(), 0);
    }

    #[test]
    fn a_peer_that_closed_is_an_error_to_send_to_and_an_end_to_receive_from() {
        let bell = Bell::new().unwrap();
        let (near, far) = Stream::pair().unwrap();
        let mut near = halves(near);
        drop(far);
        let wait = Wait::new(None, &bell);
        // First, since it waits: a child of another test may have the end, too, until it is executed.
        assert_eq!(near.receiver.receive(&mut [0; 8], &wait).unwrap(), 0);
        let error = near.sender.transmit(b"anyone?", &wait).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn only_loopback_needs_no_protection() {
        for (address, expected) in [
            ("127.0.0.1", Protection::Loopback),
            ("::1", Protection::Loopback),
            ("::ffff:127.0.0.1", Protection::Loopback),
            ("10.0.0.1", Protection::None),
            ("::", Protection::None),
            ("0.0.0.0", Protection::None),
        ] {
            assert_eq!(
                protection_of(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
    }
}
