//! What can go wrong, by who is at fault.

use std::io;
use std::time::Duration;

use crate::container::Runtime;
use crate::conversation::{OutOfTurn, Party};
use crate::frame::FrameError;
use crate::mode::Unavailable;
use crate::policy::Reason;
use crate::preflight::FactsProblem;
use crate::sync::SyncProblem;

/// The result of an operation of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a migration did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection failed.
    #[error("the connection failed while {doing}")]
    Connection {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },

    /// Whoever connected made no offer in this protocol.
    #[error("whoever connected made no offer: {source}")]
    Stranger {
        /// What it did instead.
        source: Box<Error>,
    },

    /// The peer closed the connection before the migration was over.
    #[error("the {0} closed the connection; look at what it reported")]
    Closed(Party),

    /// The peer gave no sign of life.
    #[error(
        "the {peer} gave no sign of life for {after:?}; check that it runs and that the network is up"
    )]
    Silent {
        /// Who.
        peer: Party,
        /// For how long.
        after: Duration,
    },

    /// The peer lives but did not get done in time.
    #[error("the {peer} did not get done with {what} within {after:?}")]
    TooSlow {
        /// Who.
        peer: Party,
        /// With what.
        what: &'static str,
        /// The time it had.
        after: Duration,
    },

    /// The peer sent what is no frame.
    #[error("malformed data from the {peer}: {problem}")]
    Frame {
        /// Who sent it.
        peer: Party,
        /// What is wrong with it.
        problem: FrameError,
    },

    /// The peer sent a control message that is none.
    #[error("malformed message from the {peer}")]
    Message {
        /// Who sent it.
        peer: Party,
        /// What is wrong with it.
        source: serde_json::Error,
    },

    /// A message was said out of turn.
    #[error(transparent)]
    OutOfTurn(#[from] OutOfTurn),

    /// The peer sent image data that it may not send.
    #[error("unacceptable image from the {peer}: {problem}")]
    Image {
        /// Who sent it.
        peer: Party,
        /// What is wrong with it.
        problem: ImageProblem,
    },

    /// A container's runtime failed.
    #[error("{runtime} cannot {doing}: {said}")]
    Container {
        /// The runtime.
        runtime: Runtime,
        /// What it should have done.
        doing: String,
        /// What it says.
        said: String,
    },

    /// Files could not be brought along.
    #[error("{path} cannot be brought along: {problem}")]
    Sync {
        /// Which.
        path: String,
        /// Why not.
        problem: SyncProblem,
    },

    /// The destination does not take the tree; nothing was touched.
    #[error("the destination refuses: {reason}")]
    Refused {
        /// Why, and what to do.
        reason: String,
    },

    /// A peer describes what its tree needs in a way that is not taken.
    #[error("what the tree needs cannot be compared: {0}")]
    Facts(#[from] FactsProblem),

    /// The source only asked what differs here, and was answered: no tree came.
    #[error("the source only asked what differs here")]
    OnlyAsked,

    /// The peer gave up.
    #[error("the {by} gave up: {reason}")]
    Aborted {
        /// Who.
        by: Party,
        /// Why.
        reason: String,
        /// The tree was let go on the destination before it was ended there, and may have run.
        may_have_run: bool,
    },

    /// The mode asked for cannot work between these two machines; nothing was touched.
    #[error(transparent)]
    Mode(#[from] Unavailable),

    /// The policy found that the tree cannot move well, and the caller wants it to stay then.
    #[error(
        "stopping the tree would take {} ({reason}); allow a longer downtime or post-copy, or have it stopped anyway",
        describe_downtime(*.predicted)
    )]
    GaveUp {
        /// Why no further round would help.
        reason: Reason,
        /// The downtime predicted.
        predicted: Option<Duration>,
    },

    /// Memory that was to follow the tree did not.
    #[error(
        "memory of the tree cannot follow: {reason}; without it the tree does not run on the destination"
    )]
    MemoryLost {
        /// What happened.
        reason: String,
    },

    /// The caller called it off.
    #[error("called off")]
    Cancelled,

    /// A request of ours makes no sense for a migration.
    #[error("misuse: {problem}")]
    Misuse {
        /// What makes no sense.
        problem: &'static str,
    },

    /// CRIU failed.
    #[error("{0}")]
    Criu(Box<criu::Error>),

    /// Something of our own could not be done.
    #[error("cannot {doing}")]
    Io {
        /// What.
        doing: String,
        /// Why not.
        source: io::Error,
    },

    /// The tree could not be brought into the state it has to be in.
    #[error("process {pid} of the tree is {found}, not {expected}")]
    Task {
        /// The process.
        pid: i32,
        /// The state it is in.
        found: String,
        /// The state it should be in.
        expected: &'static str,
    },
}

fn describe_downtime(predicted: Option<Duration>) -> String {
    predicted.map_or_else(
        || "a time nobody knows".to_owned(),
        |time| format!("about {time:.0?}"),
    )
}

impl Error {
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

impl From<criu::Error> for Error {
    fn from(error: criu::Error) -> Self {
        Self::Criu(Box::new(error))
    }
}

/// What is wrong with an image the peer sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageProblem {
    /// Its name is not that of an image file.
    #[error("{name:?} is not the name of an image file")]
    Name {
        /// The name.
        name: String,
    },
    /// There is such an image already.
    #[error("{name} was sent before")]
    Twice {
        /// Its name.
        name: String,
    },
    /// More or fewer bytes came than were announced.
    #[error("{name} has {found_bytes} bytes, announced were {announced_bytes}")]
    Length {
        /// Its name.
        name: String,
        /// The bytes announced.
        announced_bytes: u64,
        /// The bytes that came until it was noticed.
        found_bytes: u64,
    },
    /// Image data came though no image was announced, or an image was announced within another.
    #[error("image data out of place")]
    OutOfPlace,
    /// Not as many images came as the source says it sent.
    #[error("{found} images came, the source sent {announced}")]
    Count {
        /// How many the source sent.
        announced: u64,
        /// How many came.
        found: u64,
    },
    /// All images together take more room than they may.
    #[error("the images take more than the {limit_bytes} bytes they may")]
    TooLarge {
        /// The room they may take.
        limit_bytes: u64,
    },
}
