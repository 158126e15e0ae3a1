//! What a migration came to, seen from the source.

use std::fmt;
use std::time::Duration;

use crate::conversation::Stage;
use crate::encoder::Traffic;
use crate::error::Error;
use crate::mode::Mode;
use crate::policy::{Round, Verdict};
use crate::units::{microseconds, microseconds_if_known};

/// A migration that succeeded.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Sent {
    /// The root task on the destination, as seen there.
    pub pid: i32,
    /// How memory moved.
    pub mode: Mode,
    /// The rounds of pre-copy.
    pub rounds: Vec<RoundReport>,
    /// How long the tree stood still, as it sees it itself: from before it was frozen until it ran on the
    /// destination. The way of the last messages is taken to be half their way there and back.
    #[serde(rename = "downtime_us", serialize_with = "microseconds")]
    pub downtime: Duration,
    /// How long CRIU took of that to dump it, if it could tell.
    #[serde(rename = "frozen_us", serialize_with = "microseconds_if_known")]
    pub frozen: Option<Duration>,
    /// From the beginning until nothing depends on the source any more.
    #[serde(rename = "total_us", serialize_with = "microseconds")]
    pub total: Duration,
    /// Bytes of all page streams, zero pages included.
    pub page_stream_bytes: u64,
    /// Bytes of page streams that followed when the tree ran on the destination already.
    pub followed_bytes: u64,
    /// Images beside the memory, and their bytes.
    pub images: u64,
    /// Bytes of those images.
    pub image_bytes: u64,
    /// All bytes this side sent over the connection.
    pub wire_bytes: u64,
    /// What page streams and images were made of.
    pub traffic: Traffic,
}

/// What a round of pre-copy came to.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct RoundReport {
    /// Its number, from 1.
    pub round: u32,
    /// Pages looked at.
    pub pages_scanned: u64,
    /// Pages written to since the round before, or all.
    pub pages_written: u64,
    /// Bytes of the page stream, zero pages included.
    pub stream_bytes: u64,
    /// All bytes this side sent over the connection for it.
    pub wire_bytes: u64,
    /// How long it took.
    #[serde(rename = "took_us", serialize_with = "microseconds")]
    pub took: Duration,
    /// How long the tree stood still for it.
    #[serde(rename = "frozen_us", serialize_with = "microseconds")]
    pub frozen: Duration,
    /// What the policy made of it.
    pub verdict: Option<Verdict>,
    /// The figures the policy had.
    #[serde(skip)]
    pub figures: Round,
}

/// What has become of the tree on the source when a migration failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fate {
    /// It was not touched.
    Untouched,
    /// It was frozen and goes on.
    Resumed,
    /// It is stopped, and may or may not run on the destination: see [`NotSent`].
    InDoubt,
    /// It was let go on the destination and ended there, since CRIU failed or memory that was to follow was lost. It
    /// is stopped here as it was when it was frozen.
    Outlived,
    /// It runs on the destination, but could not be removed here, where it is stopped.
    Leftover,
    /// CRIU could not put it back; its error tells the state.
    Unknown,
}

/// A migration that failed, seen from the source.
#[derive(Debug)]
#[non_exhaustive]
pub struct NotSent {
    /// Where it failed.
    pub stage: Stage,
    /// Why.
    pub error: Error,
    /// The root task.
    pub pid: i32,
    /// What has become of the tree here.
    pub fate: Fate,
    /// The destination.
    pub destination: String,
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pid, there) = (self.pid, &self.destination);
        write!(f, "migration failed while {}; ", self.stage)?;
        match self.fate {
            Fate::Untouched => write!(f, "process {pid} was not touched"),
            Fate::Resumed => write!(f, "process {pid} goes on here"),
            Fate::InDoubt if self.stage == Stage::Filling => write!(
                f,
                "process {pid} is left stopped here as it was when it was frozen: look at {there} once the receiving \
                 `criuctl` has ended there (a stopped one has not: kill it first); if the tree runs there then, all \
                 its memory has followed: kill the one here (SIGKILL to each process of the tree); if not, resume it \
                 (SIGCONT to each) if it may go back to that moment"
            ),
            Fate::InDoubt => write!(
                f,
                "process {pid} is left stopped here because it may run on the destination: look at {there}; if it \
                 runs there, kill the one here (SIGKILL to each process of the tree); if not, resume it (SIGCONT \
                 to each)"
            ),
            Fate::Outlived => write!(
                f,
                "the tree was let go on {there} and may have run before it was ended there; process {pid} is left \
                 stopped here as it was when it was frozen: resume it (SIGCONT to each process of the tree) if it \
                 may go back to that moment, or kill it (SIGKILL to each)"
            ),
            Fate::Leftover => write!(
                f,
                "the tree runs on {there}, but what is left of process {pid} here, stopped, could not be killed: kill it"
            ),
            Fate::Unknown => write!(f, "see above for the state of process {pid}"),
        }
    }
}

impl std::error::Error for NotSent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// A failure before its place in [`NotSent`] is known.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) stage: Stage,
    pub(crate) error: Error,
    pub(crate) fate: Fate,
}

impl Failed {
    pub(crate) fn new(stage: Stage, error: Error, fate: Fate) -> Self {
        Self { stage, error, fate }
    }
}
