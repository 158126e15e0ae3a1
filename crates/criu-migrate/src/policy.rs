//! The decision after each round of pre-copy: another round, stop now, or something else.
//!
//! Pure: statistics in, decision and reason out. Nothing is measured, remembered or done here.
//!
//! ```
//! use criu_migrate::policy::{Decision, Limits, Round, decide};
//! use std::time::Duration;
//!
//! let round = |pages_written, milliseconds| Round {
//!     pages_scanned: 20_000,
//!     pages_written,
//!     page_size_bytes: 4096,
//!     wire_bytes: pages_written * 4096,
//!     took: Duration::from_millis(milliseconds),
//!     fixed_downtime: Duration::from_millis(20),
//! };
//! let first = [round(20_000, 800)];
//! assert_eq!(decide(&Limits::default(), &first).decision, Decision::NextRound);
//! let second = [round(20_000, 800), round(1_500, 60)];
//! assert_eq!(decide(&Limits::default(), &second).decision, Decision::StopNow);
//! ```

use std::fmt;
use std::time::Duration;

use crate::units::microseconds_if_known;

/// What the user set.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// Downtime that is good enough.
    pub max_downtime: Duration,
    /// Most pre-copy rounds.
    pub max_rounds: u32,
    /// Longest time for all rounds together.
    pub max_time: Option<Duration>,
    /// Most bytes on the wire for all rounds together.
    pub max_bytes: Option<u64>,
    /// What is done when memory changes faster than it can be copied.
    pub on_divergence: OnDivergence,
}

impl Default for Limits {
    /// 300 ms of downtime, 10 rounds, no limit of time and bytes; stops anyway when it cannot converge.
    fn default() -> Self {
        Self {
            max_downtime: Duration::from_millis(300),
            max_rounds: 10,
            max_time: None,
            max_bytes: None,
            on_divergence: OnDivergence::StopAnyway,
        }
    }
}

/// What is done when the rounds do not bring the downtime below its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnDivergence {
    /// The rest of the memory follows when the tree runs on the destination already.
    PostCopy,
    /// The longer downtime is taken.
    StopAnyway,
    /// The tree stays where it is.
    GiveUp,
}

/// What one round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Pages looked at.
    pub pages_scanned: u64,
    /// Pages that had to be copied: all at first, later those written to since the round before began.
    pub pages_written: u64,
    /// Bytes of a page.
    pub page_size_bytes: u64,
    /// Bytes that went over the connection for it.
    pub wire_bytes: u64,
    /// How long it took, from one scan of the memory to the next.
    pub took: Duration,
    /// Downtime that stopping costs whatever the memory: freezing, the other images, the restore.
    pub fixed_downtime: Duration,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Decision {
    /// Copy again what was written meanwhile.
    NextRound,
    /// Freeze the tree and copy the rest.
    StopNow,
    /// Freeze the tree, move it without the rest, and let that follow.
    PostCopy,
    /// Leave the tree where it is.
    GiveUp,
}

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// There was no round yet.
    NothingCopiedYet,
    /// The last round's dirty rate is not known before a second one.
    OnlyOneRound,
    /// Stopping now keeps the downtime below its limit.
    DowntimeReached,
    /// The predicted downtime still shrinks.
    StillShrinking,
    /// Another round would not shorten the downtime.
    Converged,
    /// Memory is written to faster than it can be copied.
    DirtyFasterThanLink,
    /// All rounds that were allowed are done.
    RoundsUsed,
    /// The time is used up, or another round would use it up.
    TimeUsed,
    /// The bytes are used up, or another round would use them up.
    BytesUsed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingCopiedYet => "nothing is copied yet",
            Self::OnlyOneRound => "one round does not tell how fast memory changes",
            Self::DowntimeReached => "the downtime is below its limit",
            Self::StillShrinking => "the downtime still shrinks",
            Self::Converged => "another round would not shorten it",
            Self::DirtyFasterThanLink => "memory changes faster than it is copied",
            Self::RoundsUsed => "all rounds are done",
            Self::TimeUsed => "the time is used up",
            Self::BytesUsed => "the bytes are used up",
        })
    }
}

/// A decision, its reason and the figures behind it.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Verdict {
    /// What to do.
    pub decision: Decision,
    /// Why.
    pub reason: Reason,
    /// The downtime if the tree is stopped now; unknown before the first round.
    #[serde(
        rename = "predicted_downtime_us",
        serialize_with = "microseconds_if_known"
    )]
    pub predicted_downtime: Option<Duration>,
    /// Bytes of memory copied per second, zero pages and compression counted as if sent.
    pub bandwidth_bytes_per_second: Option<f64>,
    /// Bytes of memory written to per second by the tree; unknown before the second round.
    pub dirty_bytes_per_second: Option<f64>,
}

/// Shrinking by less than this share counts as none.
const LEAST_GAIN: f64 = 0.1;

/// Decides what to do after `rounds`, oldest first.
pub fn decide(limits: &Limits, rounds: &[Round]) -> Verdict {
    let figures = Figures::of(rounds);
    let verdict = |decision, reason| Verdict {
        decision,
        reason,
        predicted_downtime: figures.downtime,
        bandwidth_bytes_per_second: figures.bandwidth,
        dirty_bytes_per_second: figures.dirty_rate,
    };
    // A limit of effort is reached: what is left is to stop, unless the user wants it otherwise.
    let enough = |reason| match (limits.on_divergence, figures.downtime) {
        (_, Some(downtime)) if downtime <= limits.max_downtime => {
            verdict(Decision::StopNow, Reason::DowntimeReached)
        }
        (OnDivergence::PostCopy, _) => verdict(Decision::PostCopy, reason),
        (OnDivergence::StopAnyway, _) => verdict(Decision::StopNow, reason),
        (OnDivergence::GiveUp, _) => verdict(Decision::GiveUp, reason),
    };

    let Some(last) = rounds.last() else {
        return match limits.max_rounds {
            0 => verdict(Decision::StopNow, Reason::RoundsUsed),
            _ => verdict(Decision::NextRound, Reason::NothingCopiedYet),
        };
    };
    let done = u32::try_from(rounds.len()).unwrap_or(u32::MAX);
    let time: Duration = rounds.iter().map(|round| round.took).sum();
    let bytes: u64 = rounds.iter().map(|round| round.wire_bytes).sum();

    if let (Some(downtime), 2..) = (figures.downtime, rounds.len())
        && downtime <= limits.max_downtime
    {
        return verdict(Decision::StopNow, Reason::DowntimeReached);
    }
    if done >= limits.max_rounds {
        return enough(Reason::RoundsUsed);
    }
    // The next round copies about what the tree wrote to during the last one.
    let next_time = figures.next_round.unwrap_or(last.took);
    if limits
        .max_time
        .is_some_and(|max| time.saturating_add(next_time) > max)
    {
        return enough(Reason::TimeUsed);
    }
    let next_bytes = figures.next_wire_bytes(last);
    if limits
        .max_bytes
        .is_some_and(|max| bytes.saturating_add(next_bytes) > max)
    {
        return enough(Reason::BytesUsed);
    }
    let [.., before, _] = rounds else {
        return verdict(Decision::NextRound, Reason::OnlyOneRound);
    };
    if let (Some(dirty), Some(bandwidth)) = (figures.dirty_rate, figures.bandwidth)
        && dirty >= bandwidth
    {
        return enough(Reason::DirtyFasterThanLink);
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a ratio of page counts needs no exactness"
    )]
    let gain = 1.0 - last.pages_written as f64 / before.pages_written.max(1) as f64;
    if gain < LEAST_GAIN {
        return enough(Reason::Converged);
    }
    verdict(Decision::NextRound, Reason::StillShrinking)
}

struct Figures {
    bandwidth: Option<f64>,
    dirty_rate: Option<f64>,
    /// How long the next round would take, or copying the rest now.
    next_round: Option<Duration>,
    downtime: Option<Duration>,
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "rates need no exactness")]
    fn of(rounds: &[Round]) -> Self {
        let memory = |round: &Round| round.pages_written as f64 * round.page_size_bytes as f64;
        let (bandwidth, start) = bandwidth_and_start(rounds);
        let dirty_rate = match rounds {
            [.., before, last] if !before.took.is_zero() => {
                Some(memory(last) / before.took.as_secs_f64())
            }
            _ => None,
        };
        // Before a second round nothing tells the dirty rate; all that was copied may be dirty again.
        let left = match (rounds, dirty_rate) {
            ([.., last], Some(rate)) => {
                Some((rate * last.took.as_secs_f64()).min(memory(&rounds[0])))
            }
            ([.., last], None) => Some(memory(last)),
            ([], _) => None,
        };
        let copying = match (left, bandwidth) {
            (Some(left), Some(bandwidth)) => duration(left / bandwidth),
            (Some(_), None) => Some(Duration::ZERO),
            _ => None,
        };
        let next_round = copying.map(|copying| copying.saturating_add(start));
        let downtime = match (copying, rounds.last()) {
            (Some(copying), Some(last)) => Some(copying.saturating_add(last.fixed_downtime)),
            _ => None,
        };
        Self {
            bandwidth,
            dirty_rate,
            next_round,
            downtime,
        }
    }

    /// Bytes on the wire of the next round, at the last one's ratio of wire to memory.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate, never negative; a float beyond u64 becomes its greatest value"
    )]
    fn next_wire_bytes(&self, last: &Round) -> u64 {
        let share = match self.next_round {
            Some(next) if !last.took.is_zero() => next.as_secs_f64() / last.took.as_secs_f64(),
            _ => 1.0,
        };
        (last.wire_bytes as f64 * share) as u64
    }
}

/// How fast memory is copied, and how long a round takes beside that.
///
/// Every round also starts CRIU, freezes the tree and looks for pages. With two rounds of different sizes the two are
/// told apart; rounds of like sizes are taken for nothing but copying.
#[expect(clippy::cast_precision_loss, reason = "rates need no exactness")]
fn bandwidth_and_start(rounds: &[Round]) -> (Option<f64>, Duration) {
    let memory = |round: &Round| round.pages_written as f64 * round.page_size_bytes as f64;
    let seconds = |round: &Round| round.took.as_secs_f64();
    // The last two rounds, since bandwidth changes; the largest where those are too small to tell.
    let largest = rounds.iter().max_by_key(|round| round.pages_written);
    if let ([.., before, last], Some(largest)) = (rounds, largest) {
        for large in [before, largest] {
            let (bytes, time) = (memory(large) - memory(last), seconds(large) - seconds(last));
            if memory(large) > 2.0 * memory(last) && time > 0.0 {
                let bandwidth = bytes / time;
                let start = seconds(last) - memory(last) / bandwidth;
                return (Some(bandwidth), duration(start).unwrap_or_default());
            }
        }
    }
    let recent = rounds
        .get(rounds.len().saturating_sub(2)..)
        .unwrap_or_default();
    let bytes: f64 = recent.iter().map(memory).sum();
    let time: f64 = recent.iter().map(seconds).sum();
    let bandwidth = (bytes > 0.0 && time > 0.0).then(|| bytes / time);
    (bandwidth, Duration::ZERO)
}

fn duration(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds over a link of 100,000 pages a second, by pages written.
    fn rounds(pages: &[u64]) -> Vec<Round> {
        let round = |pages: &u64| Round {
            pages_scanned: 1_000_000,
            pages_written: *pages,
            page_size_bytes: 4096,
            wire_bytes: pages * 4096,
            took: Duration::from_micros(pages * 10),
            fixed_downtime: Duration::from_millis(50),
        };
        pages.iter().map(round).collect()
    }

    fn check(limits: &Limits, pages: &[u64], decision: Decision, reason: Reason) {
        let verdict = decide(limits, &rounds(pages));
        assert_eq!(
            (verdict.decision, verdict.reason),
            (decision, reason),
            "{pages:?}: {verdict:?}"
        );
    }

    #[test]
    fn every_reason_is_given_where_it_applies() {
        use Decision::{GiveUp, NextRound, PostCopy, StopNow};
        let limits = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            limits
        };
        let usual = limits(|_| {});
        check(&usual, &[], NextRound, Reason::NothingCopiedYet);
        check(
            &limits(|l| l.max_rounds = 0),
            &[],
            StopNow,
            Reason::RoundsUsed,
        );
        // Unlike in phaul, the first round decides nothing: there is nothing to compare it with.
        check(&usual, &[1_000_000], NextRound, Reason::OnlyOneRound);
        check(&usual, &[100], NextRound, Reason::OnlyOneRound);
        check(
            &usual,
            &[1_000_000, 400_000],
            NextRound,
            Reason::StillShrinking,
        );
        check(
            &usual,
            &[1_000_000, 400_000, 160_000],
            NextRound,
            Reason::StillShrinking,
        );
        // 0.16 s dirty as much as a quarter of the 64,000 pages of the last round: 0.25 s with the rest.
        check(
            &usual,
            &[1_000_000, 160_000, 25_000],
            StopNow,
            Reason::DowntimeReached,
        );
        check(
            &usual,
            &[1_000_000, 500_000, 480_000],
            StopNow,
            Reason::Converged,
        );
        check(
            &usual,
            &[100_000, 1_200_000],
            StopNow,
            Reason::DirtyFasterThanLink,
        );

        let post_copy = limits(|l| l.on_divergence = OnDivergence::PostCopy);
        let give_up = limits(|l| l.on_divergence = OnDivergence::GiveUp);
        check(
            &post_copy,
            &[1_000_000, 500_000, 480_000],
            PostCopy,
            Reason::Converged,
        );
        check(
            &give_up,
            &[100_000, 1_200_000],
            GiveUp,
            Reason::DirtyFasterThanLink,
        );
        // What is good enough is never given up.
        check(
            &give_up,
            &[1_000_000, 160_000, 25_000],
            StopNow,
            Reason::DowntimeReached,
        );

        let two = limits(|l| l.max_rounds = 2);
        check(&two, &[1_000_000, 400_000], StopNow, Reason::RoundsUsed);
        // 10 s and 4 s are gone, the next would take 1.6 s.
        let time = limits(|l| l.max_time = Some(Duration::from_secs(15)));
        check(&time, &[1_000_000, 400_000], StopNow, Reason::TimeUsed);
        let time = limits(|l| l.max_time = Some(Duration::from_secs(16)));
        check(
            &time,
            &[1_000_000, 400_000],
            NextRound,
            Reason::StillShrinking,
        );
        let bytes = limits(|l| l.max_bytes = Some(1_500_000 * 4096));
        check(&bytes, &[1_000_000, 400_000], StopNow, Reason::BytesUsed);
        let bytes = limits(|l| l.max_bytes = Some(1_600_000 * 4096));
        check(
            &bytes,
            &[1_000_000, 400_000],
            NextRound,
            Reason::StillShrinking,
        );
    }

    #[test]
    fn the_figures_are_those_of_the_rounds() {
        let verdict = decide(&Limits::default(), &rounds(&[1_000_000, 400_000]));
        let near = |value: Option<f64>, expected: f64| {
            let value = value.unwrap();
            assert!(
                (value / expected - 1.0).abs() < 1e-6,
                "{value} is not {expected}"
            );
        };
        near(verdict.bandwidth_bytes_per_second, 100_000.0 * 4096.0);
        // 400,000 pages written to in the 10 s of the first round.
        near(verdict.dirty_bytes_per_second, 40_000.0 * 4096.0);
        // In the 4 s of the second one 160,000 more, which take 1.6 s, and 50 ms whatever happens.
        near(
            verdict.predicted_downtime.map(|time| time.as_secs_f64()),
            1.65,
        );
    }

    #[test]
    fn what_a_round_costs_by_itself_is_not_taken_for_a_slow_link() {
        let mut rounds = rounds(&[1_000_000, 2_000, 1_000]);
        for round in &mut rounds {
            round.took += Duration::from_millis(400);
        }
        let verdict = decide(&Limits::default(), &rounds);
        let bandwidth = verdict.bandwidth_bytes_per_second.unwrap();
        assert!((bandwidth / (100_000.0 * 4096.0) - 1.0).abs() < 0.01);
        assert_eq!(verdict.reason, Reason::DowntimeReached);
        assert!(verdict.predicted_downtime.unwrap() < Duration::from_millis(80));
    }

    #[test]
    fn an_idle_tree_stops_after_the_round_that_found_nothing() {
        check(
            &Limits::default(),
            &[1_000_000, 0],
            Decision::StopNow,
            Reason::DowntimeReached,
        );
        // Also when nothing was ever written and no time passed: no division by zero.
        check(
            &Limits::default(),
            &[0, 0],
            Decision::StopNow,
            Reason::DowntimeReached,
        );
    }

    #[test]
    fn rounds_end_whatever_the_tree_does() {
        let limits = Limits::default();
        let mut state = 7_u64;
        for _ in 0..200 {
            let mut pages = Vec::new();
            loop {
                let verdict = decide(&limits, &rounds(&pages));
                if verdict.decision != Decision::NextRound {
                    break;
                }
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                pages.push((state >> 33) % 2_000_000);
                assert!(pages.len() <= 10, "{pages:?}");
            }
        }
    }
}
