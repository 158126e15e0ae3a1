//! A connection after its handshake, used from two threads.
//!
//! The keys and counters of both directions are one state, behind one lock. The lock is held only to encrypt
//! or decrypt a piece in memory; all system calls, and so all waiting, are outside. Each direction has its
//! ciphertext in a buffer of its own, so the receiver never writes and the sender never reads: what TLS itself
//! has to answer (a new key) goes out before the sender's next piece, and a migration beats every two seconds.

use std::fmt;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::Connection;

use super::Name;
use super::problem::Error;
use crate::transport::{Bell, Halves, Receive, Transmit, Transport, Wait};

/// Most bytes encrypted in one go: enough for a system call to be worth it, and few enough that the other
/// direction waits for microseconds.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes of ciphertext read in one go.
const CIPHERTEXT_BYTES: usize = 128 << 10;
/// How long a peer that reads slowly has to make room for the last word.
const FAREWELL: Duration = Duration::from_secs(1);

/// A transport that nobody on the way can read or alter.
#[derive(Debug)]
pub struct Secured {
    peer: String,
    halves: Halves,
    connection: Connection,
    ciphertext: Ciphertext,
}

impl Secured {
    pub(super) fn new(
        peer: String,
        halves: Halves,
        mut connection: Connection,
        ciphertext: Ciphertext,
    ) -> Self {
        // What is written is taken out at once.
        connection.set_buffer_limit(None);
        Self {
            peer,
            halves,
            connection,
            ciphertext,
        }
    }

    /// Adds to the peer's address what its certificate says.
    pub(super) fn known_as(mut self, name: Option<&Name>) -> Self {
        self.peer = match name {
            Some(name) => format!("{}, certified as {name}", self.peer),
            None => format!("{}, certified", self.peer),
        };
        self
    }
}

impl Transport for Secured {
    fn peer(&self) -> String {
        self.peer.clone()
    }

    fn split(self: Box<Self>) -> io::Result<Halves> {
        let shared = Shared(Arc::new(Mutex::new(self.connection)));
        let receiver = Decrypting {
            inner: self.halves.receiver,
            shared: shared.clone(),
            ciphertext: self.ciphertext,
            failure: None,
        };
        let sender = Encrypting {
            inner: self.halves.sender,
            shared,
            pending: Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 16),
            sent: 0,
            given_up: false,
            bell: Bell::new()?,
        };
        Ok(Halves::new(Box::new(receiver), Box::new(sender)))
    }
}

/// The state both directions share.
#[derive(Clone)]
struct Shared(Arc<Mutex<Connection>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

/// What came and is not decrypted yet.
pub(super) struct Ciphertext {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.end - self.start)
    }
}

impl Ciphertext {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; CIPHERTEXT_BYTES],
            start: 0,
            end: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads more, when all has been fed; 0 at the end.
    pub(super) fn fill(
        &mut self,
        receiver: &mut dyn Receive,
        wait: &Wait<'_>,
    ) -> io::Result<usize> {
        (self.start, self.end) = (0, 0);
        self.end = receiver.receive(&mut self.buffer, wait)?;
        Ok(self.end)
    }

    /// Feeds some of it to the connection, about a quarter of a record.
    pub(super) fn feed(&mut self, connection: &mut Connection) -> Result<(), rustls::Error> {
        let mut left = self.buffer.get(self.start..self.end).unwrap_or_default();
        // Takes nothing once the peer has said that it ends; fails only when plaintext waits to be taken,
        // which it does not here.
        let fed = connection.read_tls(&mut left);
        match fed {
            Ok(0) => self.start = self.end,
            Ok(count) => self.start += count,
            Err(error) => return Err(rustls::Error::General(error.to_string())),
        }
        connection.process_new_packets().map(drop)
    }
}

#[derive(Debug)]
struct Decrypting {
    inner: Box<dyn Receive>,
    shared: Shared,
    ciphertext: Ciphertext,
    /// Why nothing more can be decrypted, for when what could be is handed out.
    failure: Option<Error>,
}

impl Receive for Decrypting {
    fn receive(&mut self, buffer: &mut [u8], wait: &Wait<'_>) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(count) = self.decrypt(buffer)? {
                return Ok(count);
            }
            if self.ciphertext.fill(&mut *self.inner, wait)? == 0 {
                // No word of TLS came that this is the end: somebody may have cut the rest off.
                return match self.decrypt(buffer)? {
                    Some(count) => Ok(count),
                    None => Err(cut_off()),
                };
            }
        }
    }
}

impl Decrypting {
    /// Decrypts into `buffer` until it is full or the ciphertext is used up; 0 bytes when the peer has ended
    /// its direction, none when there is nothing yet.
    fn decrypt(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let failed = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        if let Some(error) = self.failure.take() {
            return Err(failed(error));
        }
        let mut connection = self.shared.lock();
        let mut filled = 0;
        loop {
            let room = buffer.get_mut(filled..).unwrap_or_default();
            match connection.reader().read(room) {
                // The end, or no room left; the end comes again in the next call.
                Ok(0) => return Ok(Some(filled)),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.ciphertext.is_empty() {
                        return Ok((filled > 0).then_some(filled));
                    }
                    match self.ciphertext.feed(&mut connection).map_err(Error::from) {
                        Ok(()) => {}
                        Err(error) if filled == 0 => return Err(failed(error)),
                        Err(error) => {
                            self.failure = Some(error);
                            return Ok(Some(filled));
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn cut_off() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the connection ended without the end of TLS; the peer was killed, or somebody cut it",
    )
}

#[derive(Debug)]
struct Encrypting {
    inner: Box<dyn Transmit>,
    shared: Shared,
    /// Encrypted in order, and sent so far.
    pending: Vec<u8>,
    sent: usize,
    /// The last wait for room ended without any.
    given_up: bool,
    /// Never rings: for the last word.
    bell: Bell,
}

impl Transmit for Encrypting {
    fn transmit(&mut self, bytes: &[u8], wait: &Wait<'_>) -> io::Result<usize> {
        // As long as something is left, nothing of `bytes` is taken, and the caller may come again.
        self.flush(wait)?;
        let piece = bytes.get(..PIECE_BYTES).unwrap_or(bytes);
        let taken = self.encrypt(|connection| connection.writer().write(piece))?;
        match self.flush(wait) {
            // Taken is taken: the rest of a record has to follow. It does when the caller comes again.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
                ) => {}
            flushed => flushed?,
        }
        Ok(taken)
    }
}

impl Encrypting {
    /// Encrypts what `write` writes, and whatever else TLS has to say, to the end of `pending`.
    fn encrypt<T>(
        &mut self,
        write: impl FnOnce(&mut Connection) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut connection = self.shared.lock();
        let written = write(&mut connection)?;
        while connection.wants_write() {
            connection.write_tls(&mut self.pending)?;
        }
        Ok(written)
    }

    /// Sends what is encrypted.
    fn flush(&mut self, wait: &Wait<'_>) -> io::Result<()> {
        self.given_up = true;
        while let Some(left @ [_, ..]) = self.pending.get(self.sent..) {
            self.sent += self.inner.transmit(left, wait)?;
        }
        self.given_up = false;
        self.pending.clear();
        self.sent = 0;
        Ok(())
    }
}

impl Drop for Encrypting {
    fn drop(&mut self) {
        let grace = match self.given_up {
            true => Duration::ZERO,
            false => FAREWELL,
        };
        // A peer that reads nothing any more misses nothing.
        let _ = self.encrypt(|connection| {
            connection.send_close_notify();
            Ok(())
        });
        let bell = self.bell.clone();
        let _ = self.flush(&Wait::new(Instant::now().checked_add(grace), &bell));
    }
}
