//! Hundreds of dumps, failures, dropped futures and panics leave nothing behind.
//!
//! One test alone in its program: others would change what it counts.
#![expect(
    clippy::unwrap_used,
    reason = "a test has no better answer than to stop"
)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use criu::{Criu, Dump, Error, Event, FinalState, asynchronous};
use criu_testkit::{
    CriuUnderTest, FakeCriu, Message, ResourceSnapshot, Scene, Step, Subreaper, TempDir,
};

const ROUNDS: usize = 200;
const DUMP: u64 = 1;
const NOTIFY: u64 = 6;

fn notify(name: &str) -> Vec<u8> {
    Message::reply(NOTIFY, 1)
        .bytes(5, Message::new().bytes(1, name))
        .build()
}

#[test]
fn nothing_is_left_behind() {
    Subreaper::enable();
    // What is made once and stays: the test programs, the runtime of the panic machinery.
    let warm_up = FakeCriu::new(&[]);
    let _ = Criu::with_binary(warm_up.path()).unwrap().version();
    std::panic::set_hook(Box::new(|_| {}));

    failed_requests();
    descriptors_nobody_asked_for();
    panicking_hooks();
    dropped_futures();
    real_dumps();
}

fn failed_requests() {
    let images = TempDir::new();
    let fakes = [
        FakeCriu::new(&[
            Step::Receive,
            Step::Send(Message::reply(DUMP, 0).build()),
            Step::Exit(1),
        ]),
        FakeCriu::new(&[Step::Receive, Step::Die(9)]),
        FakeCriu::new(&[Step::Receive, Step::Send(vec![0xff; 3]), Step::Hang]),
        FakeCriu::new(&[Step::Receive, Step::Hang]),
    ];
    let before = ResourceSnapshot::take();
    for round in 0..ROUNDS {
        let fake = &fakes[round % fakes.len()];
        let criu = Criu::with_binary(fake.path())
            .unwrap()
            .with_timeout(Duration::from_millis(50));
        criu.dump(&Dump::new(1, images.path())).unwrap_err();
    }
    let criu = Criu::with_binary("/bin/false").unwrap();
    for _ in 0..ROUNDS {
        assert!(matches!(criu.version(), Err(Error::Lost(_))));
        assert!(matches!(
            criu.dump(&Dump::new(1, "/nowhere")),
            Err(Error::Directory { .. })
        ));
    }
    before.assert_unchanged();
}

fn descriptors_nobody_asked_for() {
    let images = TempDir::new();
    let fake = FakeCriu::new(&[
        Step::Receive,
        Step::SendWithFds(notify("pre-dump"), 3),
        Step::Receive,
        Step::SendWithFds(notify("orphan-pts-master"), 30),
        Step::Receive,
        Step::SendWithFds(Message::reply(DUMP, 1).build(), 4),
    ]);
    let before = ResourceSnapshot::take();
    let criu = Criu::with_binary(fake.path()).unwrap();
    for _ in 0..20 {
        criu.dump(&Dump::new(1, images.path())).unwrap();
    }
    before.assert_unchanged();
}

fn panicking_hooks() {
    let images = TempDir::new();
    let fake = FakeCriu::new(&[
        Step::Receive,
        Step::Send(notify("pre-dump")),
        Step::Receive,
        Step::Send(Message::reply(DUMP, 0).build()),
        Step::Exit(1),
    ]);
    let before = ResourceSnapshot::take();
    let criu = Criu::with_binary(fake.path()).unwrap();
    for _ in 0..ROUNDS {
        let mut hooks = |_: Event<'_>| panic!("a bug in a hook");
        let dump = Dump::new(1, images.path());
        catch_unwind(AssertUnwindSafe(|| criu.dump_with(&dump, &mut hooks))).unwrap_err();
    }
    before.assert_unchanged();
}

fn dropped_futures() {
    let images = TempDir::new();
    let fakes = [
        FakeCriu::new(&[Step::Receive, Step::Hang]),
        FakeCriu::new(&[
            Step::IgnoreTermination,
            Step::Receive,
            Step::Send(notify("pre-dump")),
            Step::Hang,
        ]),
    ];
    let before = ResourceSnapshot::take();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for round in 0..ROUNDS {
            let fake = &fakes[round % fakes.len()];
            let criu = asynchronous::Criu::with_binary(fake.path()).unwrap();
            let dump = Dump::new(1, images.path());
            let moment = Duration::from_millis(round as u64 % 12);
            tokio::time::timeout(moment, criu.dump(&dump))
                .await
                .unwrap_err();
        }
    });
    drop(runtime);
    before.assert_unchanged();
}

fn real_dumps() {
    for under_test in CriuUnderTest::all() {
        let process = Scene::new().start();
        let images = TempDir::new();
        let criu = Criu::with_binary(under_test.path()).unwrap();
        let before = ResourceSnapshot::take();
        for _ in 0..ROUNDS / 2 {
            let mut dump = Dump::new(i32::try_from(process.pid()).unwrap(), images.path());
            dump.then = FinalState::Running;
            criu.dump(&dump).unwrap();
        }
        before.assert_unchanged();
        process.wait_for_count_above(process.count());
    }
}
