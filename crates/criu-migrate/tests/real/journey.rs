//! A migration from here to here: both sides in this process, over a socket pair.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use criu::{Criu, Dump, NoHooks, Restore};
use criu_migrate::transport::{Stream, Transport};
use criu_migrate::{Destination, Error, Event, NotSent, Received, Sent, Source, Timing, Watch};
use criu_testkit::{CriuUnderTest, Namespace, Scene, TempDir, TestProcess, slowness};

/// Both sides of a migration, and what they reported.
pub(crate) struct Journey {
    pub(crate) work_dir: TempDir,
    pub(crate) source: Source,
    pub(crate) destination: Destination,
}

/// How it ended, on both sides.
pub(crate) struct Ends {
    pub(crate) sent: Result<Sent, Box<NotSent>>,
    pub(crate) received: Result<Received, Error>,
    pub(crate) source_events: Vec<Event>,
    pub(crate) destination_events: Vec<Event>,
}

/// A process that can move within one machine: it brings its process ids along, and a `/proc` for them.
/// Without that CRIU mounts one on a directory that two dumps at once would both make.
pub(crate) fn traveller(scene: Scene) -> TestProcess {
    scene
        .namespaces(&[Namespace::Pid, Namespace::Mount])
        .start()
}

/// Waits that make a test of their running out short.
pub(crate) fn brisk() -> Timing {
    let mut timing = Timing::default();
    timing.beat = Duration::from_millis(100);
    timing.silence = Duration::from_secs(2) * slowness();
    timing.commit = Duration::from_secs(3) * slowness();
    timing.verdict = Duration::from_secs(6) * slowness();
    timing
}

impl Journey {
    pub(crate) fn of(process: &TestProcess, criu: &CriuUnderTest) -> Self {
        let work_dir = TempDir::new();
        let pid = i32::try_from(process.pid()).unwrap();
        let reach = || Criu::with_binary(criu.path()).unwrap();
        let mut source = Source::new(reach(), Dump::new(pid, work_dir.path()));
        source.work_dir = work_dir.make_dir("source");
        source.timing = brisk();
        let mut restore = Restore::new(work_dir.path());
        restore.root = process.root().map(Into::into);
        let mut destination = Destination::new(reach(), restore);
        destination.work_dir = work_dir.make_dir("destination");
        destination.timing = brisk();
        Self {
            work_dir,
            source,
            destination,
        }
    }

    pub(crate) fn travel(self) -> Ends {
        let (near, far) = Stream::pair().unwrap();
        self.travel_over(Box::new(near), Box::new(far))
    }

    pub(crate) fn travel_over(self, near: Box<dyn Transport>, far: Box<dyn Transport>) -> Ends {
        let (source_watch, source_events) = recorder();
        let (destination_watch, destination_events) = recorder();
        let (sent, received) = std::thread::scope(|scope| {
            let destination = scope.spawn(|| {
                self.destination
                    .receive(far, &mut NoHooks, &destination_watch)
            });
            let sent = self.source.send(near, &mut NoHooks, &source_watch);
            (sent, destination.join().unwrap())
        });
        // Whatever happened, nothing is left behind.
        for side in ["source", "destination"] {
            let left: Vec<_> = std::fs::read_dir(self.work_dir.join(side))
                .unwrap()
                .collect();
            assert!(left.is_empty(), "the {side} left {left:?}");
        }
        let events = |events: Arc<Mutex<Vec<Event>>>| std::mem::take(&mut *events.lock().unwrap());
        Ends {
            sent,
            received,
            source_events: events(source_events),
            destination_events: events(destination_events),
        }
    }
}

fn recorder() -> (Watch, Arc<Mutex<Vec<Event>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&events);
    (
        Watch::new(move |event| sink.lock().unwrap().push(event.clone())),
        events,
    )
}

/// Goes on with a process that has moved, and checks that all it holds came along.
#[track_caller]
pub(crate) fn arrived(process: &mut TestProcess, ends: &Ends) {
    let sent = ends.sent.as_ref().unwrap_or_else(|failed| {
        panic!(
            "{failed}: {}; destination: {:?}",
            failed.error, ends.received
        )
    });
    let received = ends.received.as_ref().unwrap();
    assert_eq!(sent.pid, received.pid);
    process.reap();
    let count = process.count();
    process.restored_as(u32::try_from(received.pid).unwrap());
    process.wait_for_count_above(count);
    assert_eq!(process.verify(), Ok(()));
}
