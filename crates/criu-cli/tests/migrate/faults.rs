//! Each party killed, stopped or cut off at each point: afterwards one live copy, or a stopped one in
//! doubt, and never two.

use std::time::{Duration, Instant};

use criu_testkit::{CriuUnderTest, Scene, Subreaper, TestProcess};
use rustix::process::Signal;

use crate::sides::{Copy, Hold, Sides, criu_of, signal, traveller};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    KillSender,
    KillReceiver,
    KillSourceCriu,
    KillDestinationCriu,
    StopSender,
    StopReceiver,
    Cut,
    Swallow,
    /// Ctrl-C.
    InterruptSender,
    InterruptReceiver,
}

/// What the copies must be afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// It runs where it ran before.
    Here,
    /// It runs on the destination only.
    There,
    /// It runs on the destination, and a stopped copy is left here: in doubt.
    ThereAndStoppedHere,
    /// A stopped copy is left here: in doubt.
    StoppedHere,
}

fn check(hold: Hold, cases: &[(Fault, Expected)]) {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    for (fault, expected) in cases {
        let mut process = traveller(Scene::new().children(1).memory_kib(512).pipe());
        let before = process.pid();
        let mut sides = Sides::hold_at(hold, &process, &criu);
        strike(*fault, &sides);
        sides.go_on();
        if matches!(fault, Fault::StopSender | Fault::StopReceiver) {
            // Long enough to be given up, then it may go on.
            std::thread::sleep(Duration::from_secs(4));
            let stopped = if *fault == Fault::StopSender {
                &sides.sender
            } else {
                &sides.receiver
            };
            signal(stopped.id(), Signal::CONT);
        }
        let ends = sides.wait();
        let case = || format!("{hold:?} {fault:?}: {ends:?} {}", sides.said());
        let copies = settled(&sides, before, *expected);
        let found = outcome(&copies, before);
        assert_eq!(found, Some(*expected), "{copies:?} {}", case());
        if *expected != Expected::Here {
            // The sender's exit code tells, if it lived to tell.
            let code = ends.0.code();
            let told = match expected {
                Expected::There => Some(0),
                _ => Some(3),
            };
            assert!(code.is_none() || code == told, "{}", case());
        }
        if !matches!(fault, Fault::KillReceiver) {
            assert_eq!(sides.left_behind("destination"), 0, "{}", case());
        }
        if !matches!(fault, Fault::KillSender) {
            assert_eq!(sides.left_behind("source"), 0, "{}", case());
        }
        conclude(&mut process, &copies, before, *expected, &case());
    }
}

fn strike(fault: Fault, sides: &Sides) {
    match fault {
        Fault::KillSender => signal(sides.sender.id(), Signal::KILL),
        Fault::KillReceiver => signal(sides.receiver.id(), Signal::KILL),
        Fault::KillSourceCriu => signal(criu_of(&sides.sender), Signal::KILL),
        Fault::KillDestinationCriu => signal(criu_of(&sides.receiver), Signal::KILL),
        Fault::StopSender => signal(sides.sender.id(), Signal::STOP),
        Fault::StopReceiver => signal(sides.receiver.id(), Signal::STOP),
        Fault::Cut => sides.link.cut(),
        Fault::Swallow => sides.link.swallow(),
        Fault::InterruptSender => signal(sides.sender.id(), Signal::INT),
        Fault::InterruptReceiver => signal(sides.receiver.id(), Signal::INT),
    }
    // Noticed before the held side goes on, where it can be noticed at once.
    std::thread::sleep(Duration::from_millis(100));
}

/// The copies once they are as expected; as they are, when they do not become so.
fn settled(sides: &Sides, before: u32, expected: Expected) -> Vec<Copy> {
    // A CRIU that lost its client needs a moment to put things back.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let copies = sides.copies();
        let running = copies.iter().filter(|copy| !copy.is_stopped()).count();
        assert!(running <= 1, "two run: {copies:?}");
        if outcome(&copies, before) == Some(expected) || Instant::now() > deadline {
            return copies;
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

/// Does what the message tells the user to do, and checks that the tree is whole.
#[track_caller]
fn conclude(
    process: &mut TestProcess,
    copies: &[Copy],
    before: u32,
    expected: Expected,
    case: &str,
) {
    let there = copies.iter().find(|copy| copy.pid != before);
    match expected {
        Expected::Here => {}
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

#[test]
fn before_the_tree_is_frozen() {
    check(
        Hold::Source("pre-dump"),
        &[
            (Fault::KillSender, Expected::Here),
            (Fault::KillReceiver, Expected::Here),
            (Fault::KillSourceCriu, Expected::Here),
            (Fault::StopSender, Expected::Here),
            (Fault::StopReceiver, Expected::Here),
            (Fault::Cut, Expected::Here),
            (Fault::Swallow, Expected::Here),
            (Fault::InterruptSender, Expected::Here),
            (Fault::InterruptReceiver, Expected::Here),
        ],
    );
}

#[test]
fn when_the_memory_is_copied() {
    check(
        Hold::Source("post-dump"),
        &[
            (Fault::KillSender, Expected::Here),
            (Fault::KillReceiver, Expected::Here),
            (Fault::KillSourceCriu, Expected::Here),
            (Fault::StopSender, Expected::Here),
            (Fault::StopReceiver, Expected::Here),
            (Fault::Cut, Expected::Here),
            (Fault::Swallow, Expected::Here),
            (Fault::InterruptSender, Expected::Here),
            (Fault::InterruptReceiver, Expected::Here),
        ],
    );
}

#[test]
fn before_the_tree_is_restored() {
    check(
        Hold::Destination("pre-restore"),
        &[
            (Fault::KillSender, Expected::Here),
            (Fault::KillReceiver, Expected::Here),
            (Fault::KillSourceCriu, Expected::Here),
            (Fault::KillDestinationCriu, Expected::Here),
            (Fault::StopSender, Expected::Here),
            (Fault::StopReceiver, Expected::Here),
            (Fault::Cut, Expected::Here),
            (Fault::Swallow, Expected::Here),
            (Fault::InterruptSender, Expected::Here),
            (Fault::InterruptReceiver, Expected::Here),
        ],
    );
}

#[test]
fn when_the_tree_is_restored_and_held() {
    check(
        Hold::Destination("post-restore"),
        &[
            (Fault::KillSender, Expected::Here),
            (Fault::KillReceiver, Expected::Here),
            (Fault::KillSourceCriu, Expected::Here),
            (Fault::KillDestinationCriu, Expected::Here),
            (Fault::StopSender, Expected::Here),
            (Fault::StopReceiver, Expected::Here),
            (Fault::Cut, Expected::Here),
            (Fault::Swallow, Expected::Here),
            (Fault::InterruptSender, Expected::Here),
            (Fault::InterruptReceiver, Expected::Here),
        ],
    );
}

#[test]
fn in_the_hand_over() {
    check(
        Hold::Destination("pre-resume"),
        &[
            // Too late to call anything off.
            (Fault::InterruptSender, Expected::There),
            (Fault::InterruptReceiver, Expected::There),
            (Fault::Cut, Expected::ThereAndStoppedHere),
            (Fault::Swallow, Expected::ThereAndStoppedHere),
            (Fault::KillSender, Expected::ThereAndStoppedHere),
            (Fault::StopReceiver, Expected::ThereAndStoppedHere),
            (Fault::StopSender, Expected::There),
            // CRIU takes the death of its client for a refusal, which it only logs at this point.
            (Fault::KillReceiver, Expected::ThereAndStoppedHere),
            (Fault::KillDestinationCriu, Expected::Here),
        ],
    );
}
