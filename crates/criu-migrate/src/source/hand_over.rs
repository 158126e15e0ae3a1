//! The hooks of the dump that moves the tree: what happens while it is frozen.

use std::collections::BTreeSet;
use std::time::Instant;

use criu::{HookError, HookResult, Hooks};

use crate::connection::{Connection, Outgoing};
use crate::error::{Error, Result};
use crate::frame::{Channel, DATA_BYTES_MAX, Frame};
use crate::images_dir::{ImagesDir, Piece, SparseReader};
use crate::message::Message;
use crate::sync::{Departure, written_by};
use crate::timing::Timing;
use crate::tree::Tree;
use crate::watch::{Happening, Watch};

/// What was found of the tree when it was frozen.
#[derive(Debug, Default)]
pub(crate) struct Frozen {
    pub(crate) since: Option<Instant>,
    /// Tasks that were stopped before all this, and are to stay so.
    pub(crate) stopped_before: BTreeSet<i32>,
}

/// What hooks do at the points of a dump that matter here.
pub(crate) trait Steps {
    /// The tree is about to be frozen.
    fn freezing(&mut self) -> Result<()>;
    /// All images are written, and the tree is frozen.
    fn dumped(&mut self) -> Result<()>;
}

/// Passes what CRIU tells to the caller's hooks, and takes the steps.
pub(crate) struct Stepping<'a, S> {
    pub(crate) steps: S,
    pub(crate) hooks: &'a mut dyn Hooks,
    /// Our own reason to refuse.
    pub(crate) trouble: Option<Error>,
}

impl<S: Steps> Hooks for Stepping<'_, S> {
    fn on(&mut self, event: criu::Event<'_>) -> HookResult {
        let is_first = matches!(event, criu::Event::PreDump);
        let is_last = matches!(event, criu::Event::PostDump);
        self.hooks.on(event)?;
        let result = if is_first {
            self.steps.freezing()
        } else if is_last {
            self.steps.dumped()
        } else {
            Ok(())
        };
        result.map_err(|error| {
            let text: HookError = error.to_string().into();
            self.trouble = Some(error);
            text
        })
    }
}

/// Notes what the tree is before it is frozen.
pub(crate) fn begin(connection: &mut Connection, pid: i32, watch: &Watch) -> Result<Frozen> {
    connection.check(watch)?;
    let tree = Tree::of(pid).map_err(Error::io(format!("look at process {pid}")))?;
    watch.tell(Happening::Freezing);
    Ok(Frozen {
        since: Some(Instant::now()),
        stopped_before: tree.stopped(),
    })
}

/// Copies what has changed of the files that come along, while the tree is frozen that may have written them.
pub(crate) fn sync_last(
    connection: &mut Connection,
    departure: Option<&Departure>,
    tree: &Tree,
    timing: &Timing,
    watch: &Watch,
) -> Result<()> {
    let Some(departure) = departure else {
        return Ok(());
    };
    departure.last_pass(connection, &written_by(tree.pids()), timing.restore, watch)
}

/// Images that were sent.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Copied {
    pub(crate) images: u64,
    pub(crate) stream_bytes: u64,
    pub(crate) sent_bytes: u64,
}

/// Sends all images, and says that they are complete.
pub(crate) fn send_images(
    connection: &mut Connection,
    images: &ImagesDir,
    pages_follow: bool,
    watch: &Watch,
) -> Result<Copied> {
    let copied = copy_images(connection, images, watch)?;
    watch.tell(Happening::ImagesCopied {
        images: copied.images,
        stream_bytes: copied.stream_bytes,
        sent_bytes: copied.sent_bytes,
    });
    connection.say(&Message::Complete {
        images: copied.images,
        pages_follow,
    })?;
    watch.tell(Happening::Restoring);
    Ok(copied)
}

/// Sends all images of a directory.
pub(crate) fn copy_images(
    connection: &mut Connection,
    images: &ImagesDir,
    watch: &Watch,
) -> Result<Copied> {
    let mut copied = Copied::default();
    for (name, len_bytes) in images.images()? {
        connection.check(watch)?;
        connection.say(&Message::Image {
            name: name.as_str().to_owned(),
            len_bytes,
        })?;
        let file = images.open_image(&name);
        let file = file.map_err(Error::io(format!("open {}", name.as_str())))?;
        let reader = SparseReader::new(file, len_bytes);
        copied.sent_bytes += send_image(connection.outgoing(), reader, name.as_str())?;
        copied.images += 1;
        copied.stream_bytes += len_bytes;
    }
    Ok(copied)
}

/// Sends the bytes of an image; returns how many went over the connection.
fn send_image(outgoing: &Outgoing, mut reader: SparseReader, name: &str) -> Result<u64> {
    let sending = |source| Error::Connection {
        doing: "sending an image",
        source,
    };
    let mut buffer = vec![0; DATA_BYTES_MAX];
    let mut sent = 0;
    while let Some(piece) = reader
        .next(&mut buffer)
        .map_err(Error::io(format!("read {name}")))?
    {
        match piece {
            Piece::Data(bytes) => {
                sent += outgoing
                    .send_stream(Channel::Image, bytes)
                    .map_err(sending)? as u64;
            }
            Piece::Hole(count) => outgoing
                .send_zeros(Channel::Image, count)
                .map_err(sending)?,
        }
    }
    outgoing
        .send_frame(&Frame::End(Channel::Image))
        .map_err(sending)?;
    Ok(sent)
}
