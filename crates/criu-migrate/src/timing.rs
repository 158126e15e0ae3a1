//! How long each side waits for the other.

use std::time::Duration;

/// How long each side waits for the other, and how often it gives a sign of life itself.
///
/// Both sides should use the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// Pause between signs of life.
    pub beat: Duration,
    /// A peer silent for so long counts as gone. A stopped peer is noticed so.
    pub silence: Duration,
    /// A frame must be complete so long after its first byte: no peer can hold the connection by
    /// trickling. 256 KiB in the default 30 s is 9 KiB/s.
    pub frame: Duration,
    /// For the preamble, and for the offer after it: bounds what a stranger can hold.
    pub greeting: Duration,
    /// For the answers before anything is frozen.
    pub answer: Duration,
    /// For the destination to restore the tree, frozen all the while.
    pub restore: Duration,
    /// For the source to hand the restored tree over. The destination does not take a later `commit`.
    pub commit: Duration,
    /// For the destination to say that the tree runs. Longer than `commit`, so that a tree in doubt
    /// cannot start after the source has said that it is in doubt.
    pub verdict: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(2),
            silence: Duration::from_secs(10),
            frame: Duration::from_secs(30),
            greeting: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            restore: Duration::from_secs(600),
            commit: Duration::from_secs(30),
            verdict: Duration::from_secs(60),
        }
    }
}
