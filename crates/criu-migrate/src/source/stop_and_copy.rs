//! The rest of the memory is copied while the tree is frozen.
//!
//! - The tree is held by CRIU in the `post-dump` hook. Refusing the hook makes CRIU put everything back, network
//!   locks and TCP connections included, and let the tree go on. Should this process die, CRIU sees its
//!   connection closed, which is a refusal.
//! - Only when the destination holds the restored tree is the hook accepted, and CRIU told before to leave the
//!   tree *stopped*, not to kill it. From here nothing resumes the tree by itself, not even the death of this
//!   process; and then only is `commit` said.
//! - The stopped tree is killed when the destination says that the tree runs there. Until then it is the copy
//!   that cannot be lost.

use std::time::Instant;

use criu::FinalState;
use criu::request::Pages;

use crate::connection::Connection;
use crate::conversation::Stage;
use crate::error::{Error, Result};
use crate::images_dir::ImagesDir;
use crate::message::Message;
use crate::report::{Failed, Fate};
use crate::source::hand_over::{Copied, Frozen, Stepping, Steps, begin, send_images, sync_last};
use crate::source::moving::{HandOver, Moved, Moving, fate_after_commit, undone};
use crate::source::open_pages;
use crate::sync::Departure;
use crate::timing::Timing;
use crate::tree::Tree;
use crate::tunnel::{Inbound, Plan, Tunnel};
use crate::watch::{Happening, Watch};

pub(crate) fn run(mut moving: Moving<'_>) -> Result<Moved, Failed> {
    let (images, tunnel) = prepare(&mut moving).map_err(moving.untouched())?;
    let (timing, watch) = (moving.timing, moving.watch);
    let mut stepping = Stepping {
        steps: Holding {
            connection: moving.connection,
            watch,
            timing,
            images: &images,
            departure: moving.departure,
            tunnel: &tunnel,
            pid: moving.pid,
            frozen: Frozen::default(),
            held: None,
        },
        hooks: moving.hooks,
        trouble: None,
    };
    let dumped = moving.criu.dump_with(&moving.dump, &mut stepping);
    let Stepping { steps, trouble, .. } = stepping;
    let Holding {
        connection,
        frozen,
        held,
        ..
    } = steps;
    let (statistics, held) = match (dumped, held) {
        (Ok(dumped), Some(held)) => (dumped.statistics, held),
        (dumped, held) => {
            // A peer that is gone or gave up is the cause, if it is, or the caller who called it off.
            let trouble = trouble.or_else(|| connection.check(watch).err());
            let (error, mut fate) = undone(dumped, trouble, frozen.since.is_some());
            if let Some(held) = held {
                // CRIU died while it left the tree stopped: some tasks may be, others not.
                held.tree.resume(&frozen.stopped_before);
                fate = Fate::Resumed;
            }
            return Err(Failed::new(connection.reached(), error, fate));
        }
    };

    // CRIU is done and has left the tree stopped: from here it is ours.
    let tree = held.tree;
    let ready = tree.wait_stopped().and_then(|()| connection.check(watch));
    if let Err(error) = ready {
        tree.resume(&frozen.stopped_before);
        return Err(Failed::new(connection.reached(), error, Fate::Resumed));
    }
    watch.tell(Happening::Committing);
    let failed = |error, fate| Failed::new(Stage::Committing, error, fate);
    let in_doubt = |error| failed(error, Fate::InDoubt);
    let said = Instant::now();
    connection.say(&Message::Commit).map_err(in_doubt)?;
    let answer = connection.hear("resuming the tree", timing.verdict, watch);
    let (pid, resumed_after_us) = match answer {
        Ok(Message::Committed {
            pid,
            resumed_after_us,
            pages_follow: false,
        }) => (pid, resumed_after_us),
        Err(error) => {
            let fate = fate_after_commit(&error);
            if fate == Fate::Resumed {
                tree.resume(&frozen.stopped_before);
            }
            return Err(failed(error, fate));
        }
        Ok(message) => return Err(in_doubt(connection.unexpected(&message))),
    };
    let hand_over = HandOver {
        frozen_since: frozen.since,
        said,
        heard: Instant::now(),
        resumed_after_us,
    };
    watch.tell(Happening::Running { pid });
    tree.kill()
        .map_err(|error| Failed::new(Stage::Over, error, Fate::Leftover))?;
    Ok(Moved {
        pid,
        downtime: hand_over.downtime(),
        frozen: statistics.map(|statistics| statistics.frozen),
        copied: held.copied,
        stream_bytes: tunnel.counts().0,
        followed_bytes: 0,
    })
}

/// Has the destination start its page server, and CRIU told where the pages go.
fn prepare(moving: &mut Moving<'_>) -> Result<(ImagesDir, Tunnel)> {
    let number = moving.number();
    let images = moving.staging.images_to_dump(number)?;
    let plan = Plan {
        // What a page server answers are single bytes.
        inbound: Inbound::Bytes(1 << 20),
        note_pages: false,
        patience: None,
    };
    let connection = &mut *moving.connection;
    let (tunnel, theirs) = open_pages(connection, plan, moving.timing, moving.watch)?;
    let dump = &mut moving.dump;
    dump.images = images.open()?.into();
    dump.pages = Pages::Socket(theirs);
    dump.then = FinalState::Stopped;
    dump.parent = (number > 1).then(|| moving.staging.parent_of(number));
    // Without it CRIU does not look which pages the parent has.
    dump.track_memory = number > 1;
    Ok((images, tunnel))
}

/// The whole move up to the hand-over happens in the last hook of the dump.
struct Holding<'a> {
    connection: &'a mut Connection,
    watch: &'a Watch,
    timing: &'a Timing,
    images: &'a ImagesDir,
    departure: Option<&'a Departure>,
    tunnel: &'a Tunnel,
    pid: i32,
    frozen: Frozen,
    held: Option<Held>,
}

/// The tree is restored and held on the destination.
#[derive(Debug)]
struct Held {
    tree: Tree,
    copied: Copied,
}

impl Steps for Holding<'_> {
    fn freezing(&mut self) -> Result<()> {
        self.frozen = begin(self.connection, self.pid, self.watch)?;
        Ok(())
    }

    /// Copies what is left and waits until the destination holds the tree.
    fn dumped(&mut self) -> Result<()> {
        let (stream_bytes, sent_bytes) = self.tunnel.counts();
        self.watch.tell(Happening::PagesCopied {
            stream_bytes,
            sent_bytes,
        });
        let looking = Error::io(format!("look at process {}", self.pid));
        let tree = Tree::of(self.pid).map_err(looking)?;
        sync_last(
            self.connection,
            self.departure,
            &tree,
            self.timing,
            self.watch,
        )?;
        let copied = send_images(self.connection, self.images, false, self.watch)?;
        let answer = self
            .connection
            .hear("the restore", self.timing.restore, self.watch)?;
        let Message::Restored { pid } = answer else {
            return Err(self.connection.unexpected(&answer));
        };
        self.watch.tell(Happening::Restored { pid });
        self.held = Some(Held { tree, copied });
        Ok(())
    }
}
