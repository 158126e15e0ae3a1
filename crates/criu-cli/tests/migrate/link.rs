//! A network between the two sides that can be cut, and made narrow.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A TCP relay on loopback for one connection.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: AtomicU8,
    /// Bytes that have gone to the destination.
    passed: AtomicU64,
    /// From how many of them on the link is narrow.
    narrow_from: AtomicU64,
}

const UP: u8 = 0;
const CUT: u8 = 1;
const BLACK_HOLE: u8 = 2;

/// What goes to the destination on a narrow link, in bytes a second: signs of life get through, memory does not
/// for a long while.
const NARROW: u64 = 512 << 10;

impl Link {
    /// Leads to `destination`; narrow once so many bytes have gone there.
    pub(crate) fn to(destination: SocketAddr, narrow_from: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: AtomicU8::new(UP),
            passed: AtomicU64::new(0),
            narrow_from: AtomicU64::new(narrow_from),
        });
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            let Ok((near, _)) = listener.accept() else {
                return;
            };
            let far = TcpStream::connect(destination).unwrap();
            for (from, to, is_there) in [(&near, &far, true), (&far, &near, false)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let shared = Arc::clone(&theirs);
                std::thread::spawn(move || shared.relay(from, to, is_there));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that have gone to the destination.
    pub(crate) fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// Closes the connection in both directions.
    pub(crate) fn cut(&self) {
        self.shared.state.store(CUT, Ordering::SeqCst);
    }

    /// Loses everything from now on, and tells nobody.
    pub(crate) fn swallow(&self) {
        self.shared.state.store(BLACK_HOLE, Ordering::SeqCst);
    }

    /// Is narrow from now on.
    pub(crate) fn narrow(&self) {
        self.shared.narrow_from.store(0, Ordering::SeqCst);
    }

    /// Ends being narrow.
    pub(crate) fn widen(&self) {
        self.shared.narrow_from.store(u64::MAX, Ordering::SeqCst);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Shared {
    fn is_narrow(&self) -> bool {
        self.passed.load(Ordering::SeqCst) >= self.narrow_from.load(Ordering::SeqCst)
    }

    fn relay(&self, mut from: TcpStream, mut to: TcpStream, is_there: bool) {
        from.set_read_timeout(Some(Duration::from_millis(10)))
            .unwrap();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match self.state.load(Ordering::SeqCst) {
                CUT => break,
                BLACK_HOLE => {
                    std::thread::sleep(Duration::from_millis(20));
                    continue;
                }
                _ => {}
            }
            let is_narrow = is_there && self.is_narrow();
            let most = if is_narrow { 8 << 10 } else { buffer.len() };
            match from.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(count) => {
                    // What was read before the cable was pulled is lost with it.
                    if self.state.load(Ordering::SeqCst) == UP
                        && to.write_all(&buffer[..count]).is_err()
                    {
                        break;
                    }
                    if is_there {
                        self.passed.fetch_add(count as u64, Ordering::SeqCst);
                    }
                    if is_narrow {
                        self.pause(count as u64);
                    }
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(_) => break,
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Waits as long as so many bytes take on a narrow link, or until it is not one any more.
    fn pause(&self, count: u64) {
        let until = Instant::now() + Duration::from_micros(count * 1_000_000 / NARROW);
        while self.is_narrow() && self.state.load(Ordering::SeqCst) == UP && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
