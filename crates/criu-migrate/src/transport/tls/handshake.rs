//! The handshake: from two strangers to a secured transport, or a reason why not.

use std::time::{Duration, Instant};

use rustls::Connection;
use rustls::pki_types::CertificateDer;

use super::problem::Error;
use super::records::{Ciphertext, Secured};
use crate::transport::{Halves, Transport, Wait};

/// How long a peer that is turned away has to read why.
const FAREWELL: Duration = Duration::from_millis(500);
/// Most bytes that are read of such a peer.
const FAREWELL_BYTES_MAX: usize = 1 << 20;

/// Does the handshake; returns the secured transport and the peer's certificate.
pub(super) fn shake_hands(
    mut connection: Connection,
    transport: Box<dyn Transport>,
    wait: &Wait<'_>,
) -> Result<(Secured, Option<CertificateDer<'static>>), Error> {
    let peer = transport.peer();
    let mut halves = transport
        .split()
        .map_err(|source| Error::Connection { source })?;
    let mut ciphertext = Ciphertext::new();
    if let Err(error) = agree(&mut connection, &mut halves, &mut ciphertext, wait) {
        part(&mut connection, &mut halves, wait);
        return Err(error);
    }
    let certificate = connection
        .peer_certificates()
        .and_then(|chain| chain.first())
        .map(|certificate| certificate.clone().into_owned());
    Ok((
        Secured::new(peer, halves, connection, ciphertext),
        certificate,
    ))
}

fn agree(
    connection: &mut Connection,
    halves: &mut Halves,
    ciphertext: &mut Ciphertext,
    wait: &Wait<'_>,
) -> Result<(), Error> {
    let mut heard_tls = false;
    loop {
        send_all(connection, halves, wait)?;
        if !connection.is_handshaking() {
            return Ok(());
        }
        if ciphertext.is_empty() && ciphertext.fill(&mut *halves.receiver, wait)? == 0 {
            return Err(Error::Closed);
        }
        match ciphertext.feed(connection) {
            Ok(()) => {}
            // What did not even begin like TLS is something else.
            Err(rustls::Error::InvalidMessage(_)) if !heard_tls => return Err(Error::NotTls),
            Err(error) => return Err(error.into()),
        }
        // The peer's first message has been understood when there is something to answer.
        heard_tls |= connection.wants_write() || !connection.is_handshaking();
    }
}

fn send_all(
    connection: &mut Connection,
    halves: &mut Halves,
    wait: &Wait<'_>,
) -> Result<(), Error> {
    let mut output = Vec::new();
    while connection.wants_write() {
        connection
            .write_tls(&mut output)
            .map_err(|source| Error::Connection { source })?;
    }
    let mut left = output.as_slice();
    while !left.is_empty() {
        let written = halves.sender.transmit(left, wait)?;
        left = left.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Tells the peer why, and waits for it to go: closing with something of its unread would take the reason
/// from it.
fn part(connection: &mut Connection, halves: &mut Halves, wait: &Wait<'_>) {
    if !connection.wants_write() {
        return;
    }
    let wait = Wait::new(Instant::now().checked_add(FAREWELL), wait.bell);
    if send_all(connection, halves, &wait).is_err() {
        return;
    }
    let mut buffer = [0; 4096];
    let mut heard = 0;
    while heard < FAREWELL_BYTES_MAX {
        match halves.receiver.receive(&mut buffer, &wait) {
            Ok(0) | Err(_) => return,
            Ok(count) => heard += count,
        }
    }
}
