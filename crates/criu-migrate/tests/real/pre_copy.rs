//! Pre-copy and hybrid: where the kernel tracks memory. `cargo xtask test` runs these in its guest.

use std::time::Duration;

use criu::{Criu, Feature};
use criu_migrate::policy::{Decision, OnDivergence};
use criu_migrate::{Error, Fate, Happening, Mode};
use criu_testkit::{CriuUnderTest, Scene, TestProcess, skip};

use crate::journey::{Journey, arrived, traveller};

/// Whether trees can move so here; where not, that is noted.
fn is_tracked(criu: &CriuUnderTest) -> bool {
    let features = Criu::with_binary(criu.path()).unwrap().features().unwrap();
    features.contains(Feature::MemoryTracking)
}

/// A process with memory that changes all the time, but not all of it.
fn restless() -> TestProcess {
    let process = traveller(Scene::new().memory_kib(24 << 10).part("churn=2048"));
    process.wait_for_count_above(20);
    process
}

#[test]
fn pre_copy_rounds_shrink_until_another_would_not_help() {
    for criu in CriuUnderTest::all() {
        if !is_tracked(&criu) {
            skip!(Unavoidable, "{}", Feature::MemoryTracking.remedy());
        }
        let mut process = restless();
        let mut journey = Journey::of(&process, &criu);
        // Never good enough, so that only convergence ends the rounds.
        journey.source.limits.max_downtime = Duration::ZERO;
        let ends = journey.travel();
        arrived(&mut process, &ends);
        let sent = ends.sent.unwrap();
        assert_eq!(sent.mode, Mode::PreCopy);
        let written: Vec<u64> = sent
            .rounds
            .iter()
            .map(|round| round.pages_written)
            .collect();
        println!("pages per round: {written:?}; downtime {:?}", sent.downtime);
        let [first, second, third, ..] = written[..] else {
            panic!("fewer than three rounds: {:?}", sent.rounds);
        };
        assert!(first > second && second > third, "{written:?}");
        let mut verdicts = sent.rounds.iter().filter_map(|round| round.verdict);
        let last = verdicts.next_back().unwrap();
        assert_eq!(last.decision, Decision::StopNow, "{last:?}");
        let told = ends.source_events.iter();
        let rounds = told.filter(|event| matches!(event.what, Happening::RoundDone(_)));
        assert_eq!(rounds.count(), sent.rounds.len());
    }
}

#[test]
fn pre_copy_ends_lazily_in_hybrid_mode() {
    for criu in CriuUnderTest::all() {
        if !is_tracked(&criu) {
            skip!(Unavoidable, "{}", Feature::MemoryTracking.remedy());
        }
        let mut process = restless();
        let mut journey = Journey::of(&process, &criu);
        journey.source.mode = Some(Mode::Hybrid);
        let ends = journey.travel();
        arrived(&mut process, &ends);
        let sent = ends.sent.unwrap();
        let first = &sent.rounds[0];
        println!("{sent:?}");
        // What the rounds have copied does not follow once more.
        assert!(sent.followed_bytes < first.stream_bytes / 2, "{sent:?}");
        assert_eq!(sent.mode, Mode::Hybrid);
    }
}

/// Each of its pages is written to in five seconds, but only a few bytes of it.
fn counting() -> TestProcess {
    let scene = Scene::new().memory_kib(8 << 10).part("dirty=1024");
    let process = traveller(scene);
    process.wait_for_count_above(20);
    process
}

#[test]
fn of_pages_written_to_only_what_changed_is_sent() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    if !is_tracked(&criu) {
        skip!(Unavoidable, "{}", Feature::MemoryTracking.remedy());
    }
    for mode in [Mode::PreCopy, Mode::Hybrid] {
        let mut process = counting();
        let mut journey = Journey::of(&process, &criu);
        journey.source.mode = Some(mode);
        journey.source.limits.max_downtime = Duration::ZERO;
        journey.source.limits.max_rounds = 2;
        let ends = journey.travel();
        arrived(&mut process, &ends);
        let sent = ends.sent.unwrap();
        let first_bytes = sent.rounds[0].stream_bytes;
        let again_bytes = sent.page_stream_bytes - first_bytes;
        println!("{mode:?}: {sent:?}");
        assert!(again_bytes > 2 << 20, "{sent:?}");
        let unchanged_bytes = sent.traffic.unchanged_bytes;
        assert!(unchanged_bytes > again_bytes / 2, "{sent:?}");
        if mode == Mode::Hybrid {
            // Of what followed, too.
            let rounds = sent.rounds.iter().skip(1);
            let in_rounds: u64 = rounds.map(|round| round.stream_bytes).sum();
            assert!(
                unchanged_bytes > in_rounds + sent.followed_bytes / 2,
                "{sent:?}"
            );
        }
    }
}

#[test]
fn pre_copy_that_does_not_converge_is_given_up_if_wanted() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    if !is_tracked(&criu) {
        skip!(Unavoidable, "{}", Feature::MemoryTracking.remedy());
    }
    let process = restless();
    let mut journey = Journey::of(&process, &criu);
    journey.source.limits.max_downtime = Duration::ZERO;
    journey.source.limits.on_divergence = OnDivergence::GiveUp;
    journey.source.limits.max_rounds = 2;
    let ends = journey.travel();
    let failed = ends.sent.unwrap_err();
    assert!(matches!(failed.error, Error::GaveUp { .. }), "{failed:?}");
    assert_eq!(failed.fate, Fate::Untouched);
    assert!(matches!(ends.received, Err(Error::Aborted { .. })));
    let count = process.count();
    process.wait_for_count_above(count);
    assert_eq!(process.verify(), Ok(()));
}
