//! The way of a page stream by itself: for the benchmark.

use std::os::fd::OwnedFd;

use crate::compression::Compression;
use crate::connection::Connection;
use crate::conversation::Party;
use crate::encoder::Traffic;
use crate::error::{Error, Result};
use crate::timing::Timing;
use crate::transport::Transport;
use crate::tunnel::{Inbound, Plan, Tunnel};
use crate::watch::Watch;

/// Carries a page stream between two ends of a connection, both here.
#[derive(Debug)]
pub struct Carrier {
    source: Connection,
    /// Dropped before their connections.
    _tunnels: [Tunnel; 2],
    _destination: Connection,
}

impl Carrier {
    /// Begins; returns the ends for the two CRIUs, the dumping one's first.
    ///
    /// # Errors
    ///
    /// When the two do not come to speak.
    pub fn start(
        near: Box<dyn Transport>,
        far: Box<dyn Transport>,
        compression: Compression,
    ) -> Result<(Self, OwnedFd, OwnedFd)> {
        let timing = Timing::default();
        let (near, far) = std::thread::scope(|scope| {
            let far = scope.spawn(|| Connection::open(far, Party::Destination, &timing));
            let near = Connection::open(near, Party::Source, &timing);
            (near, far.join())
        });
        let misuse = |problem| Error::Misuse { problem };
        let far = far.map_err(|_| misuse("a thread panicked"))?;
        let (mut source, mut destination) = (near?, far?);
        source.outgoing().set_compression(compression);
        let watch = Watch::default();
        let plan = Plan {
            inbound: Inbound::Bytes(u64::MAX),
            note_pages: false,
            patience: None,
        };
        let tunnel = |connection: &mut Connection| {
            let pages = connection.take_pages()?;
            Tunnel::start(connection.outgoing(), pages, &watch, plan)
        };
        let (near, dumping) = tunnel(&mut source)?;
        let (far, serving) = tunnel(&mut destination)?;
        let carrier = Self {
            source,
            _tunnels: [near, far],
            _destination: destination,
        };
        Ok((carrier, dumping, serving))
    }

    /// What was sent so far.
    pub fn traffic(&self) -> Traffic {
        self.source.outgoing().traffic()
    }
}
