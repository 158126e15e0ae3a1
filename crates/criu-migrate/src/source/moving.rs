//! The move itself, once the rounds are over: what both ways of moving have in common.

use std::time::{Duration, Instant};

use criu::{Criu, Dump, DumpOutcome, Hooks};

use crate::connection::Connection;
use crate::error::Error;
use crate::report::{Failed, Fate};
use crate::source::hand_over::Copied;
use crate::source::rounds::Rounds;
use crate::staging::Staging;
use crate::sync::Departure;
use crate::timing::Timing;
use crate::watch::Watch;

/// A tree about to be moved.
pub(crate) struct Moving<'a> {
    pub(crate) criu: &'a Criu,
    /// How it is dumped; the way of moving adds its own.
    pub(crate) dump: Dump,
    pub(crate) pid: i32,
    pub(crate) staging: &'a Staging,
    pub(crate) rounds: &'a Rounds,
    /// Files that come along.
    pub(crate) departure: Option<&'a Departure>,
    pub(crate) timing: &'a Timing,
    pub(crate) watch: &'a Watch,
    pub(crate) hooks: &'a mut dyn Hooks,
    pub(crate) connection: &'a mut Connection,
}

impl Moving<'_> {
    /// The number of this dump, counted after the rounds.
    pub(crate) fn number(&self) -> u32 {
        self.rounds.count().saturating_add(1)
    }

    /// A failure before the tree was touched.
    pub(crate) fn untouched(&self) -> impl FnOnce(Error) -> Failed {
        let stage = self.connection.reached();
        move |error| Failed::new(stage, error, Fate::Untouched)
    }
}

/// A tree that has moved.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) pid: i32,
    pub(crate) downtime: Duration,
    pub(crate) frozen: Option<Duration>,
    pub(crate) copied: Copied,
    pub(crate) stream_bytes: u64,
    pub(crate) followed_bytes: u64,
}

/// When the tree was given away, and what the destination said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HandOver {
    pub(crate) frozen_since: Option<Instant>,
    pub(crate) said: Instant,
    pub(crate) heard: Instant,
    pub(crate) resumed_after_us: u64,
}

impl HandOver {
    /// How long the tree stood still.
    pub(crate) fn downtime(&self) -> Duration {
        let away = self.heard.saturating_duration_since(self.said);
        let there = Duration::from_micros(self.resumed_after_us).min(away);
        let here = self
            .frozen_since
            .map_or(Duration::ZERO, |since| self.said.duration_since(since));
        here + there + (away - there) / 2
    }
}

/// Says why a dump came to nothing, and what has become of the tree.
pub(crate) fn undone(
    dumped: criu::Result<DumpOutcome>,
    trouble: Option<Error>,
    frozen: bool,
) -> (Error, Fate) {
    let dumped = dumped.err();
    let state = dumped
        .as_ref()
        .and_then(|error| error.failure()?.target.map(|(_, state)| state));
    let fate = match state {
        Some(criu::TargetState::Running) if frozen => Fate::Resumed,
        None | Some(criu::TargetState::Running) if !frozen => Fate::Untouched,
        _ => Fate::Unknown,
    };
    let error = match (trouble, dumped) {
        (Some(trouble), _) => trouble,
        (None, Some(error)) => error.into(),
        (None, None) => Error::Misuse {
            problem: "this CRIU gave no notifications",
        },
    };
    (error, fate)
}

/// What is to become of the tree when this came in place of an answer to `commit`.
///
/// The destination says `abort` only when nothing of the tree is left there.
pub(crate) fn fate_after_commit(error: &Error) -> Fate {
    match error {
        Error::Aborted {
            may_have_run: true, ..
        } => Fate::Outlived,
        Error::Aborted {
            may_have_run: false,
            ..
        } => Fate::Resumed,
        _ => Fate::InDoubt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::conversation::Party;

    #[test]
    fn only_an_abort_settles_what_becomes_of_a_tree_after_commit() {
        let aborted = |may_have_run| Error::Aborted {
            by: Party::Destination,
            reason: "CRIU failed".to_owned(),
            may_have_run,
        };
        assert_eq!(fate_after_commit(&aborted(false)), Fate::Resumed);
        assert_eq!(fate_after_commit(&aborted(true)), Fate::Outlived);
        let closed = Error::Closed(Party::Destination);
        assert_eq!(fate_after_commit(&closed), Fate::InDoubt);
    }

    #[test]
    fn downtime_is_what_both_sides_count_and_half_the_way_between_them() {
        let since = Instant::now();
        let at = |ms| since + Duration::from_millis(ms);
        let hand_over = HandOver {
            frozen_since: Some(since),
            said: at(100),
            heard: at(130),
            resumed_after_us: 20_000,
        };
        assert_eq!(hand_over.downtime(), Duration::from_millis(125));
        let liar = HandOver {
            resumed_after_us: u64::MAX,
            ..hand_over
        };
        assert_eq!(liar.downtime(), Duration::from_millis(130));
    }
}
