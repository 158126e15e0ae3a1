//! The page stream between a CRIU and the connection.
//!
//! CRIU (the dumping one, or the page server) has one end of a socket pair; two threads carry bytes
//! between the other end and the pages channel, unread: that zero pages and duplicates are not sent is the
//! [encoder](crate::encoder)'s business.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::connection::{Chunk, Outgoing};
use crate::error::{Error, Result};
use crate::frame::Channel;
use crate::transport::Wait;
use crate::watch::Watch;

/// How often a thread looks whether it is still wanted.
const CHECK: Duration = Duration::from_millis(100);

/// Carries pages until dropped.
#[derive(Debug)]
pub(crate) struct Tunnel {
    ends: Arc<Ends>,
    threads: Vec<JoinHandle<()>>,
    /// Closed when CRIU has ended its side.
    ended: Receiver<()>,
}

#[derive(Debug)]
struct Ends {
    socket: UnixStream,
    closing: AtomicBool,
    /// Bytes CRIU sent, and how many of them went over the connection.
    stream_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// Bytes CRIU may still be sent.
    budget_bytes: AtomicU64,
    over_budget: AtomicBool,
}

impl Tunnel {
    /// Starts carrying; returns the end for CRIU. At most `budget_bytes` are passed on to it.
    pub(crate) fn start(
        outgoing: &Outgoing,
        pages: Receiver<Chunk>,
        watch: &Watch,
        budget_bytes: u64,
    ) -> Result<(Self, OwnedFd)> {
        let setting_up = |source| Error::Io {
            doing: "connect CRIU with the page channel".to_owned(),
            source,
        };
        let (ours, theirs) = UnixStream::pair().map_err(setting_up)?;
        ours.set_nonblocking(true).map_err(setting_up)?;
        let ends = Arc::new(Ends {
            socket: ours,
            closing: AtomicBool::new(false),
            stream_bytes: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            budget_bytes: AtomicU64::new(budget_bytes),
            over_budget: AtomicBool::new(false),
        });
        let (running, ended) = sync_channel::<()>(0);
        let mut tunnel = Self {
            ends: Arc::clone(&ends),
            threads: Vec::new(),
            ended,
        };
        let (from_criu, to_criu) = (Arc::clone(&ends), ends);
        let (out, back) = (outgoing.clone(), outgoing.clone());
        let (watch, builder) = (watch.clone(), || {
            std::thread::Builder::new().name("migrate-pages".to_owned())
        });
        let thread = builder().spawn(move || {
            // Whatever the reason, CRIU learns of it by the end of its connection.
            let _ = from_criu.carry_out(&out, &watch);
            from_criu.close();
            drop(running);
        });
        tunnel.threads.push(thread.map_err(setting_up)?);
        let thread = builder().spawn(move || {
            let _ = to_criu.carry_in(&back, &pages);
            to_criu.close();
        });
        tunnel.threads.push(thread.map_err(setting_up)?);
        Ok((tunnel, theirs.into()))
    }

    /// Bytes CRIU sent, and how many of them went over the connection.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.ends.stream_bytes.load(Ordering::Relaxed),
            self.ends.sent_bytes.load(Ordering::Relaxed),
        )
    }

    /// Whether the peer sent more than CRIU may be given.
    pub(crate) fn is_over_budget(&self) -> bool {
        self.ends.over_budget.load(Ordering::Relaxed)
    }

    /// Waits until CRIU has ended its side, or nothing can be carried any more.
    pub(crate) fn wait_end(&self, within: Duration) -> io::Result<()> {
        match self.ended.recv_timeout(within) {
            Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.ends.close();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Ends {
    fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        // Fails when it is closed already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    fn carry_out(&self, outgoing: &Outgoing, watch: &Watch) -> io::Result<()> {
        outgoing.begin_pages();
        loop {
            if watch.is_cancelled() {
                return Ok(());
            }
            let wait = Wait::new(Instant::now().checked_add(CHECK), outgoing.bell());
            match wait.for_flags(self.socket.as_fd(), PollFlags::IN) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => continue,
                waited => waited?,
            }
            // The socket does not block.
            let read = |buffer: &mut [u8]| Ok(rustix::io::read(&self.socket, buffer)?);
            let (count, sent) = match outgoing.send_from(Channel::Pages, read) {
                Ok((0, _)) => return Ok(()),
                Err(error) if is_momentary(&error) => continue,
                sent => sent?,
            };
            self.stream_bytes.fetch_add(count as u64, Ordering::Relaxed);
            self.sent_bytes.fetch_add(sent as u64, Ordering::Relaxed);
        }
    }

    fn carry_in(&self, outgoing: &Outgoing, pages: &Receiver<Chunk>) -> io::Result<()> {
        let zeros = vec![0; 64 << 10];
        loop {
            match pages.recv_timeout(CHECK) {
                Ok(Chunk::Data(bytes)) => self.pass_on(outgoing, &bytes)?,
                Ok(Chunk::Zeros(mut count)) => {
                    while count > 0 {
                        let piece =
                            usize::try_from(count).map_or(zeros.len(), |n| n.min(zeros.len()));
                        self.pass_on(outgoing, &zeros[..piece])?;
                        count -= piece as u64;
                    }
                }
                Ok(Chunk::End) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if self.closing.load(Ordering::Relaxed) => {
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn pass_on(&self, outgoing: &Outgoing, mut bytes: &[u8]) -> io::Result<()> {
        let spend = |left: u64| left.checked_sub(bytes.len() as u64);
        let spent = self
            .budget_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend);
        if spent.is_err() {
            self.over_budget.store(true, Ordering::Relaxed);
            return Err(io::ErrorKind::StorageFull.into());
        }
        let wait = Wait::new(None, outgoing.bell());
        while !bytes.is_empty() {
            wait.for_flags(self.socket.as_fd(), PollFlags::OUT)?;
            let flags = rustix::net::SendFlags::NOSIGNAL;
            match rustix::net::send(&self.socket, bytes, flags) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

fn is_momentary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
