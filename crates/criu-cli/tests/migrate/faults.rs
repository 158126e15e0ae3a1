//! Each party killed, stopped or cut off at each point of each mode: afterwards one live copy, or a stopped one the
//! user is asked about, and never two; and nothing is left.
//!
//! A test takes the most telling cases of its part of the matrix. With `CRIU_SOAK` set, as `cargo xtask soak` does, it
//! takes all of them, with every CRIU.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use criu_testkit::{CriuUnderTest, Scene, Skip, Subreaper, TestProcess, record_skip, slowness};
use rustix::process::Signal;

use crate::sides::{
    Copy, MEMORY_KIB, Mode, Moment, Role, Sides, descriptors, is_filled, is_tracked, litter,
    patience, signal, silence, traveller,
};

mod rule;

use rule::{Expected, FAULTS, Fault, answer};

/// A cell of the matrix.
#[derive(Debug, Clone)]
struct Case {
    criu: CriuUnderTest,
    mode: Mode,
    moment: Moment,
    fault: Fault,
    expected: Expected,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.criu.series();
        write!(
            f,
            "CRIU {major}.{minor}\t{}\t{}\t{}",
            self.mode, self.moment, self.fault
        )
    }
}

/// Strikes with the telling faults at each of these moments; with all faults in a soak.
fn check(mode: Mode, rows: &[(Moment, &[Fault])]) {
    let is_soak = std::env::var_os("CRIU_SOAK").is_some();
    let criu = match is_soak {
        true => CriuUnderTest::all(),
        false => CriuUnderTest::newest().into_iter().collect(),
    };
    if let Some(criu) = criu.first()
        && mode.has_rounds()
        && !is_tracked(criu)
    {
        let remedy = criu::Feature::MemoryTracking.remedy();
        return record_skip(Skip::Unavoidable, remedy);
    }
    let wanted = std::env::var("CRIU_SOAK_FILTER").unwrap_or_default();
    let mut cases = VecDeque::new();
    for criu in &criu {
        for (moment, telling) in rows {
            for fault in if is_soak { &FAULTS } else { *telling } {
                if let Some(expected) = answer(mode, *moment, *fault) {
                    let case = Case {
                        criu: criu.clone(),
                        mode,
                        moment: *moment,
                        fault: *fault,
                        expected,
                    };
                    if !is_soak || case.to_string().replace('\t', " ").contains(&wanted) {
                        cases.push_back(case);
                    }
                }
            }
        }
    }
    let littered = litter();
    let failures = run_all(cases);
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    eventually(
        || litter().is_subset(&littered),
        || format!("left: {:?}", litter().difference(&littered)),
    );
}

/// Runs cases beside each other, for they mostly wait; returns what failed.
fn run_all(cases: VecDeque<Case>) -> Vec<String> {
    /// Cases at a time.
    const JOBS: usize = 3;
    let jobs = if slowness() > 1 { 2 } else { JOBS };
    let (queue, failures) = (Mutex::new(cases), Mutex::new(Vec::new()));
    let next = || {
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let began = Instant::now();
                    let outcome = catch_unwind(AssertUnwindSafe(|| run(&case)));
                    tell(&case, began.elapsed(), outcome.is_ok());
                    if let Err(panic) = outcome {
                        let text = panic.downcast_ref::<String>().cloned();
                        let text = text.or_else(|| {
                            panic.downcast_ref::<&str>().map(|text| (*text).to_owned())
                        });
                        let failure = format!("{case}: {}", text.unwrap_or_default());
                        tell_why(&failure);
                        failures
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(failure);
                    }
                }
            });
        }
    });
    failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Adds a line to the table of `cargo xtask soak`, for which nothing may swallow it.
fn tell(case: &Case, took: Duration, is_ok: bool) {
    let Some(table) = std::env::var_os("CRIU_SOAK") else {
        return;
    };
    let word = if is_ok { "ok" } else { "FAILED" };
    let line = format!(
        "{case}\t{:?}\t{:.1}\t{word}\n",
        case.expected,
        took.as_secs_f64()
    );
    let mut file = std::fs::OpenOptions::new();
    let file = file.create(true).append(true).open(table);
    file.unwrap().write_all(line.as_bytes()).unwrap();
}

/// Says at once why a case failed: a round of a soak takes hours, and the test tells it at its end.
fn tell_why(failure: &str) {
    if std::env::var_os("CRIU_SOAK").is_some() {
        // Not by a macro, whose output the harness keeps to the end.
        let _ = writeln!(std::io::stderr(), "FAILED {failure}");
    }
}

fn run(case: &Case) {
    let Case {
        criu,
        mode,
        moment,
        fault,
        expected,
    } = case;
    let mut scene = Scene::new().children(1).pipe();
    let is_large = is_filled(*mode, *moment) || matches!(moment, Moment::Pages | Moment::Rounds);
    scene = match is_large {
        // The rounds must not get done with it.
        true if is_filled(*mode, *moment) && mode.has_rounds() => scene
            .part(format!("rewritten={MEMORY_KIB}"))
            .part("forking"),
        true => scene.part(format!("watched={MEMORY_KIB}")).part("forking"),
        false => scene.part("watched=1024"),
    };
    if mode.has_rounds() {
        scene = scene.part("churn=64");
    }
    let mut process = traveller(scene);
    let before = process.pid();
    let held = descriptors(before);
    let mut sides = Sides::at(*moment, *mode, &process, criu);
    strike(*fault, &sides);
    let is_stopped = matches!(
        fault,
        Fault::StopSender | Fault::StopReceiver | Fault::Stop(_)
    );
    // What was killed must not be too late for it to matter.
    let is_killed = matches!(fault, Fault::Kill(role) if *role != Role::Guard);
    // Nor must what is on the way be taken for a sign of life.
    if *fault == Fault::StopSender || !is_stopped && !is_killed {
        sides.link.widen();
    }
    let struck = match fault {
        Fault::StopSender => Some(sides.sender.id()),
        Fault::StopReceiver => Some(sides.receiver.id()),
        Fault::Stop(role) => sides.find(*role),
        _ => None,
    };
    sides.go_on();
    if let Some(struck) = struck {
        // Long enough to be given up, then it may go on.
        std::thread::sleep(silence() + Duration::from_secs(2));
        signal(struck, Signal::CONT);
        sides.link.widen();
    }
    let ends = sides.wait();
    let told = || format!("{ends:?} {}", sides.said());
    let copies = settled(&sides, before, *expected);
    let found = outcome(&copies, before);
    assert!(
        expected.is_met_by(found),
        "{found:?}, not {expected:?}: {copies:?} {}",
        told()
    );
    let expected = &found.unwrap_or(*expected);
    // The sender's exit code tells, if it lived to tell.
    if let Some(code) = ends.0.code() {
        let is_told = match expected {
            Expected::Here => matches!(code, 1 | 130),
            Expected::There => code == 0,
            _ => code == 3,
        };
        assert!(is_told, "exit code {code} {}", told());
    }
    eventually(
        || sides.copies_of_child().len() == copies.len(),
        || format!("{:?} {}", sides.copies_of_child(), told()),
    );
    nothing_is_left(&sides, *fault, &told());
    if *fault == Fault::Kill(Role::LazyPages) {
        // What ran there may have found zeros until it was ended; the memory of this copy is looked at below.
        let _ = std::fs::remove_file(process.directory().join("corrupt"));
    }
    conclude(&mut process, &copies, before, *expected, &held, &told());
}

fn strike(fault: Fault, sides: &Sides) {
    let (sender, receiver) = (sides.sender.id(), sides.receiver.id());
    let find = |role| {
        let found = sides.find(role);
        found.unwrap_or_else(|| panic!("no {role:?}: {:?} {}", sides.processes(), sides.said()))
    };
    match fault {
        Fault::KillSender => signal(sender, Signal::KILL),
        Fault::KillReceiver => signal(receiver, Signal::KILL),
        Fault::Kill(role) => signal(find(role), Signal::KILL),
        Fault::StopSender => signal(sender, Signal::STOP),
        Fault::StopReceiver => signal(receiver, Signal::STOP),
        Fault::Stop(role) => signal(find(role), Signal::STOP),
        Fault::Cut => sides.link.cut(),
        Fault::Swallow => sides.link.swallow(),
        Fault::InterruptSender => signal(sender, Signal::INT),
        Fault::InterruptReceiver => signal(receiver, Signal::INT),
    }
    // Noticed before what is held goes on, where it can be noticed at once.
    std::thread::sleep(Duration::from_millis(100));
}

/// The copies once they are as expected; as they are, when they do not become so.
fn settled(sides: &Sides, before: u32, expected: Expected) -> Vec<Copy> {
    // A CRIU that lost its client needs a moment to put things back.
    let deadline = Instant::now() + patience() / 4;
    loop {
        let copies = sides.copies();
        let runs = |copy: &&Copy| !copy.is_stopped() && !sides.is_in_the_making(copy);
        let running = copies.iter().filter(runs).count();
        assert!(running <= 1, "two run: {copies:?}");
        if expected.is_met_by(outcome(&copies, before)) || Instant::now() > deadline {
            return copies;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn eventually(mut is_so: impl FnMut() -> bool, otherwise: impl FnOnce() -> String) {
    let deadline = Instant::now() + patience() / 4;
    while !is_so() {
        if Instant::now() > deadline {
            panic!("{}", otherwise());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn outcome(copies: &[Copy], before: u32) -> Option<Expected> {
    let here = copies.iter().find(|copy| copy.pid == before);
    let there = copies.iter().find(|copy| copy.pid != before);
    match (here, there, copies.len()) {
        (Some(here), None, 1) if here.is_stopped() => Some(Expected::StoppedHere),
        (Some(_), None, 1) => Some(Expected::Here),
        (None, Some(there), 1) if !there.is_stopped() => Some(Expected::There),
        (Some(here), Some(there), 2) if here.is_stopped() && !there.is_stopped() => {
            Some(Expected::ThereAndStoppedHere)
        }
        _ => None,
    }
}

/// No process, and so no socket; no directory but those of who was killed; no log that nobody was told of.
#[track_caller]
fn nothing_is_left(sides: &Sides, fault: Fault, told: &str) {
    eventually(
        || sides.processes().is_empty(),
        || format!("left: {:?} {told}", sides.processes()),
    );
    let excused = |killed| fault == killed;
    if !excused(Fault::KillReceiver) {
        assert!(sides.left_behind("destination").is_empty(), "{told}");
    }
    if !excused(Fault::KillSender) {
        assert!(sides.left_behind("source").is_empty(), "{told}");
    }
    for log in sides.left_behind("temporary") {
        let is_told = told.contains(&log.display().to_string());
        let is_excused = excused(Fault::KillReceiver) || excused(Fault::KillSender);
        assert!(is_told || is_excused, "left: {} {told}", log.display());
    }
}

/// Does what the message tells the user to do, and checks that the tree is whole.
#[track_caller]
fn conclude(
    process: &mut TestProcess,
    copies: &[Copy],
    before: u32,
    expected: Expected,
    held: &[String],
    case: &str,
) {
    let there = copies.iter().find(|copy| copy.pid != before);
    match expected {
        Expected::Here | Expected::ThereOrStoppedHere => {}
        Expected::StoppedHere => {
            for pid in tree(before) {
                signal(pid, Signal::CONT);
            }
        }
        Expected::There | Expected::ThereAndStoppedHere => {
            if expected == Expected::ThereAndStoppedHere {
                // The first process of a pid namespace takes the others with it.
                signal(before, Signal::KILL);
            }
            process.reap();
            process.restored_as(there.unwrap().pid);
        }
    }
    let count = process.count();
    process.wait_for_count_above(count);
    assert_eq!(process.verify(), Ok(()), "{case}");
    // Nothing of ours, or of CRIU's, stays open in it.
    // (What it opens for a moment itself closes again.)
    eventually(
        || descriptors(process.pid()) == held,
        || format!("{:?}, not {held:?}: {case}", descriptors(process.pid())),
    );
    Subreaper::enable();
}

fn tree(root: u32) -> Vec<u32> {
    let mut pids = vec![root];
    let text = std::fs::read_to_string(format!("/proc/{root}/task/{root}/children"));
    pids.extend(
        text.unwrap_or_default()
            .split_whitespace()
            .filter_map(|pid| pid.parse::<u32>().ok()),
    );
    pids
}

/// All that can be done to whom is there at any time.
const ALWAYS: [Fault; 8] = [
    Fault::KillSender,
    Fault::KillReceiver,
    Fault::StopSender,
    Fault::StopReceiver,
    Fault::Cut,
    Fault::Swallow,
    Fault::InterruptSender,
    Fault::InterruptReceiver,
];

#[test]
fn before_the_tree_is_frozen() {
    check(
        Mode::StopAndCopy,
        &[(
            Moment::Source("pre-dump"),
            &[
                Fault::KillSender,
                Fault::StopSender,
                Fault::Kill(Role::SourceCriu),
                Fault::InterruptReceiver,
            ],
        )],
    );
}

#[test]
fn while_memory_is_copied() {
    check(
        Mode::StopAndCopy,
        &[
            (
                Moment::Pages,
                &[
                    Fault::KillSender,
                    Fault::KillReceiver,
                    Fault::Kill(Role::PageServer),
                    Fault::Stop(Role::PageServer),
                    Fault::Kill(Role::SourceCriu),
                    Fault::StopReceiver,
                    Fault::Swallow,
                    Fault::InterruptSender,
                ],
            ),
            (
                Moment::Source("post-dump"),
                &[
                    Fault::KillSender,
                    Fault::StopReceiver,
                    Fault::Cut,
                    Fault::Kill(Role::SourceCriu),
                ],
            ),
        ],
    );
}

/// Nobody has to wait for it: what is blocked on the way to it is called off.
#[test]
fn a_page_server_stopped_for_good_does_not_keep_ctrl_c_from_working() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    for fault in [Fault::InterruptSender, Fault::InterruptReceiver] {
        let part = format!("watched={MEMORY_KIB}");
        let mut process = traveller(Scene::new().part(part));
        let before = process.pid();
        let held = descriptors(before);
        let mut sides = Sides::at(Moment::Pages, Mode::StopAndCopy, &process, &criu);
        let page_server = sides.find(Role::PageServer).unwrap();
        signal(page_server, Signal::STOP);
        sides.link.widen();
        // Until all buffers on the way are full.
        std::thread::sleep(Duration::from_secs(1) * slowness());
        strike(fault, &sides);
        let ends = sides.wait();
        let told = format!("{ends:?} {}", sides.said());
        let copies = settled(&sides, before, Expected::Here);
        assert_eq!(outcome(&copies, before), Some(Expected::Here), "{told}");
        // It ends as soon as it may.
        signal(page_server, Signal::CONT);
        nothing_is_left(&sides, fault, &told);
        conclude(&mut process, &copies, before, Expected::Here, &held, &told);
    }
}

#[test]
fn before_the_tree_is_restored() {
    check(
        Mode::StopAndCopy,
        &[(
            Moment::Destination("pre-restore"),
            &[
                Fault::KillReceiver,
                Fault::Kill(Role::DestinationCriu),
                Fault::StopSender,
                Fault::Cut,
            ],
        )],
    );
}

#[test]
fn when_the_tree_is_restored_and_held() {
    check(
        Mode::StopAndCopy,
        &[(
            Moment::Destination("post-restore"),
            &[
                Fault::KillSender,
                Fault::KillReceiver,
                Fault::Kill(Role::SourceCriu),
                Fault::Kill(Role::DestinationCriu),
                Fault::StopReceiver,
                Fault::Swallow,
                Fault::InterruptSender,
            ],
        )],
    );
}

/// Released by the death of the CRIU that held it, it would run; and nobody else knows of it yet.
#[test]
fn a_restored_tree_whose_criu_was_killed_is_ended_also_when_a_hook_refuses() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let mut process = traveller(Scene::new().part("watched=1024"));
    let before = process.pid();
    let held = descriptors(before);
    let moment = Moment::Destination("post-restore");
    let mut sides = Sides::at(moment, Mode::StopAndCopy, &process, &criu);
    let fault = Fault::Kill(Role::DestinationCriu);
    strike(fault, &sides);
    sides.refuse();
    let ends = sides.wait();
    let told = format!("{ends:?} {}", sides.said());
    let copies = settled(&sides, before, Expected::Here);
    assert_eq!(outcome(&copies, before), Some(Expected::Here), "{told}");
    nothing_is_left(&sides, fault, &told);
    conclude(&mut process, &copies, before, Expected::Here, &held, &told);
}

#[test]
fn in_the_hand_over() {
    let mut faults = ALWAYS.to_vec();
    faults.push(Fault::Kill(Role::DestinationCriu));
    check(
        Mode::StopAndCopy,
        &[(Moment::Destination("pre-resume"), &faults)],
    );
}

#[test]
fn post_copy_before_the_hand_over() {
    check(
        Mode::PostCopy,
        &[
            (Moment::Source("pre-dump"), &[Fault::KillReceiver]),
            (
                Moment::Source("post-dump"),
                &[Fault::KillSender, Fault::Cut],
            ),
            (
                Moment::Destination("pre-restore"),
                &[Fault::KillSender, Fault::Kill(Role::LazyPages)],
            ),
            (
                Moment::Destination("post-restore"),
                &[
                    Fault::KillSender,
                    Fault::KillReceiver,
                    Fault::Kill(Role::LazyPages),
                    Fault::Kill(Role::SourceCriu),
                    Fault::Kill(Role::DestinationCriu),
                    Fault::InterruptSender,
                ],
            ),
        ],
    );
}

#[test]
fn post_copy_in_the_hand_over() {
    check(
        Mode::PostCopy,
        &[(
            Moment::Destination("pre-resume"),
            &[
                Fault::KillSender,
                Fault::KillReceiver,
                Fault::Kill(Role::DestinationCriu),
                Fault::Kill(Role::LazyPages),
                Fault::StopReceiver,
                Fault::Cut,
                Fault::InterruptReceiver,
            ],
        )],
    );
}

#[test]
fn post_copy_while_memory_follows() {
    check(
        Mode::PostCopy,
        &[(
            Moment::Filling,
            &[
                Fault::KillSender,
                Fault::KillReceiver,
                Fault::Kill(Role::SourceCriu),
                Fault::Kill(Role::LazyPages),
                Fault::Kill(Role::Guard),
                Fault::StopSender,
                Fault::StopReceiver,
                Fault::Stop(Role::LazyPages),
                Fault::Cut,
                Fault::Swallow,
                Fault::InterruptSender,
            ],
        )],
    );
}

/// Its memory could not even be guarded: nobody who holds it ready has it in hand.
#[test]
fn post_copy_does_not_let_a_tree_run_whose_memory_nobody_has_in_hand() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let mut process = traveller(Scene::new().part("watched=8192"));
    let before = process.pid();
    let held = descriptors(before);
    let moment = Moment::Destination("pre-restore");
    let mut sides = Sides::at(moment, Mode::PostCopy, &process, &criu);
    let lazy_pages = sides.find(Role::LazyPages).unwrap();
    signal(lazy_pages, Signal::STOP);
    sides.go_on();
    // Longer than anything else takes until the tree would run.
    std::thread::sleep(Duration::from_secs(4) * slowness());
    signal(lazy_pages, Signal::KILL);
    let ends = sides.wait();
    let told = format!("{ends:?} {}", sides.said());
    let copies = settled(&sides, before, Expected::Here);
    assert_eq!(outcome(&copies, before), Some(Expected::Here), "{told}");
    nothing_is_left(&sides, Fault::Kill(Role::LazyPages), &told);
    conclude(&mut process, &copies, before, Expected::Here, &held, &told);
}

/// With the receiver dead, only the guard can end the tree. Until it does, the tree waits for its memory.
#[test]
fn post_copy_does_not_let_a_tree_find_zeros_before_its_guard_ends_it() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let mut process = traveller(Scene::new().part(format!("watched={MEMORY_KIB}")));
    let before = process.pid();
    let held = descriptors(before);
    let mut sides = Sides::at(Moment::Filling, Mode::PostCopy, &process, &criu);
    let guard = sides.find(Role::Guard).unwrap();
    signal(guard, Signal::STOP);
    strike(Fault::KillReceiver, &sides);
    sides.link.widen();
    std::thread::sleep(Duration::from_secs(1) * slowness());
    // With zeros for its memory it would have died of itself, or worse, gone on.
    let waits = outcome(&sides.copies(), before);
    assert_eq!(
        waits,
        Some(Expected::ThereAndStoppedHere),
        "{:?}",
        sides.processes()
    );
    signal(guard, Signal::CONT);
    let ends = sides.wait();
    let told = format!("{ends:?} {}", sides.said());
    let copies = settled(&sides, before, Expected::StoppedHere);
    let found = outcome(&copies, before);
    assert_eq!(found, Some(Expected::StoppedHere), "{told}");
    nothing_is_left(&sides, Fault::KillReceiver, &told);
    let expected = Expected::StoppedHere;
    conclude(&mut process, &copies, before, expected, &held, &told);
}

#[test]
fn pre_copy() {
    check(
        Mode::PreCopy,
        &[
            (
                Moment::Pages,
                &[Fault::KillSender, Fault::Kill(Role::PageServer)],
            ),
            (Moment::Rounds, &[Fault::Cut]),
            (Moment::Source("pre-dump"), &[]),
            (Moment::Source("post-dump"), &[]),
            (Moment::Destination("pre-restore"), &[]),
            (Moment::Destination("post-restore"), &[Fault::KillReceiver]),
            (Moment::Destination("pre-resume"), &[]),
        ],
    );
}

#[test]
fn hybrid() {
    check(
        Mode::Hybrid,
        &[
            (Moment::Pages, &[]),
            (Moment::Rounds, &[]),
            (Moment::Source("pre-dump"), &[]),
            (Moment::Source("post-dump"), &[]),
            (Moment::Destination("pre-restore"), &[]),
            (
                Moment::Destination("post-restore"),
                &[Fault::Kill(Role::LazyPages)],
            ),
            (
                Moment::Destination("pre-resume"),
                &[Fault::Kill(Role::DestinationCriu)],
            ),
            (
                Moment::Filling,
                &[Fault::KillReceiver, Fault::Kill(Role::SourceCriu)],
            ),
        ],
    );
}
