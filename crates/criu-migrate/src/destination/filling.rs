//! Memory that follows the tree.

use std::io;
use std::time::Duration;

use criu::{Criu, LazyPages, LazyPagesServer};

use crate::connection::Connection;
use crate::destination::guard::Guard;
use crate::error::{Error, Result};
use crate::message::Message;
use crate::tree::Tree;
use crate::tunnel::{Inbound, Plan, Tunnel};
use crate::watch::{Happening, Watch};

/// How often a wait looks whether the source is still there.
const CHECK: Duration = Duration::from_millis(50);
/// How many of those pass between reports of progress.
const CHECKS_PER_REPORT: u32 = 5;

/// `criu lazy-pages`, connected with the CRIU that holds the memory on the source.
#[derive(Debug)]
pub(crate) struct Filling {
    server: LazyPagesServer,
    tunnel: Tunnel,
}

impl Filling {
    /// Starts it; it is ready for the restore then.
    pub(crate) fn start(
        criu: &Criu,
        mut lazy_pages: LazyPages,
        connection: &mut Connection,
        watch: &Watch,
    ) -> Result<Self> {
        let pages = connection.take_pages()?;
        let plan = Plan {
            // What it asks for fills memory that the tree has in any case.
            inbound: Inbound::Bytes(u64::MAX),
            note_pages: false,
            patience: None,
        };
        // Requests for pages are to go on when it is too late to call off.
        let quiet = Watch::default();
        let (tunnel, theirs) = Tunnel::start(connection.outgoing(), pages, &quiet, plan)?;
        lazy_pages.socket = Some(theirs);
        if watch.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let server = criu.lazy_pages(&lazy_pages)?;
        Ok(Self { server, tunnel })
    }

    /// Has the tree guarded while its memory follows.
    pub(crate) fn guard(&self, tree: &Tree) -> io::Result<Guard> {
        Guard::post(tree.pids(), self.server.pid(), self.tunnel.our_end()?)
    }

    /// Waits until all memory has come. When it cannot come any more the tree is ended: it must not run without.
    pub(crate) fn finish(
        mut self,
        connection: &mut Connection,
        tree: Tree,
        guard: Option<Guard>,
        watch: &Watch,
    ) -> Result<()> {
        let outcome = self.wait(connection, watch);
        if let Err(error) = outcome {
            // Before the tunnel goes. If it was the filler that ended, the tree finds zeros now: at once.
            let killed = tree.kill_with_children();
            drop(guard);
            killed?;
            return Err(error);
        }
        if let Some(guard) = guard {
            guard.release();
        }
        watch.tell(Happening::Filled);
        // The tree has all it needs, whether the source hears of it or not.
        let _ = connection.say(&Message::Filled);
        Ok(())
    }

    /// The tree is let go: with its connection `criu lazy-pages` would end, and the tree find zeros, before the tree can be
    /// ended.
    pub(crate) fn let_go(&self) {
        self.tunnel.hold_open();
    }

    /// Looks whether it is still there, or has done all there was to do.
    pub(crate) fn check(&mut self) -> Result<()> {
        let ended = self.server.wait(Duration::ZERO);
        ended.map(drop).map_err(|error| Error::MemoryLost {
            reason: error.to_string(),
        })
    }

    fn wait(&mut self, connection: &mut Connection, watch: &Watch) -> Result<()> {
        for check in 1_u32.. {
            let lost = |reason: String| Error::MemoryLost { reason };
            if self
                .server
                .wait(CHECK)
                .map_err(|error| lost(error.to_string()))?
            {
                return Ok(());
            }
            connection.check(watch).or_else(|error| {
                // All may have come just before the connection was lost.
                match self.server.wait(CHECK) {
                    Ok(true) => Ok(()),
                    _ => Err(lost(error.to_string())),
                }
            })?;
            if check % CHECKS_PER_REPORT == 0 {
                watch.tell(Happening::Filling {
                    stream_bytes: self.tunnel.received_bytes(),
                });
            }
        }
        Ok(())
    }
}
