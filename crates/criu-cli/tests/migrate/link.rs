//! A network between the two sides that can be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

/// A TCP relay on loopback for one connection.
#[derive(Debug)]
pub(crate) struct Link {
    address: SocketAddr,
    state: Arc<AtomicU8>,
}

const UP: u8 = 0;
const CUT: u8 = 1;
const BLACK_HOLE: u8 = 2;

impl Link {
    pub(crate) fn to(destination: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(AtomicU8::new(UP));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            let Ok((near, _)) = listener.accept() else {
                return;
            };
            let far = TcpStream::connect(destination).unwrap();
            for (from, to) in [(&near, &far), (&far, &near)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                let state = Arc::clone(&shared);
                std::thread::spawn(move || relay(from, to, &state));
            }
        });
        Self { address, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the connection in both directions.
    pub(crate) fn cut(&self) {
        self.state.store(CUT, Ordering::SeqCst);
    }

    /// Loses everything from now on, and tells nobody.
    pub(crate) fn swallow(&self) {
        self.state.store(BLACK_HOLE, Ordering::SeqCst);
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, state: &AtomicU8) {
    from.set_read_timeout(Some(Duration::from_millis(10)))
        .unwrap();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match state.load(Ordering::SeqCst) {
            CUT => break,
            BLACK_HOLE => {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            _ => {}
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                // What was read before the cable was pulled is lost with it.
                if state.load(Ordering::SeqCst) == UP && to.write_all(&buffer[..count]).is_err() {
                    break;
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
