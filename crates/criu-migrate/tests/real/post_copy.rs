//! Post-copy: memory follows when the tree runs already.

use criu_migrate::{Error, Fate, Happening, Mode, Stage};
use criu_testkit::{CriuUnderTest, Namespace, Scene};

use crate::journey::{Journey, arrived, traveller};

#[test]
fn memory_follows_a_tree_that_runs_already() {
    for criu in CriuUnderTest::all() {
        let mut process = traveller(Scene::new().memory_kib(32 << 10).threads(2).children(1));
        process.wait_for_count_above(2);
        let mut journey = Journey::of(&process, &criu);
        journey.source.mode = Some(Mode::PostCopy);
        let ends = journey.travel();
        arrived(&mut process, &ends);
        let sent = ends.sent.unwrap();
        assert_eq!(sent.mode, Mode::PostCopy);
        // How much of it comes while the restored tree is still held is chance.
        assert!(sent.page_stream_bytes > 16 << 20, "{sent:?}");
        assert!(sent.image_bytes < 8 << 20, "{sent:?}");
        let told = |events: &[criu_migrate::Event]| {
            let filled = events
                .iter()
                .position(|event| matches!(event.what, Happening::Filled));
            let running = events
                .iter()
                .position(|event| matches!(event.what, Happening::Running { .. }));
            running.unwrap() < filled.unwrap()
        };
        assert!(told(&ends.source_events) && told(&ends.destination_events));
    }
}

#[test]
fn an_established_connection_survives_post_copy() {
    for criu in CriuUnderTest::all() {
        let scene = Scene::new()
            .namespaces(&[Namespace::Net])
            .memory_kib(8 << 10)
            .tcp()
            .tcp_listener(0);
        let mut process = traveller(scene);
        process.wait_for_count_above(2);
        let mut journey = Journey::of(&process, &criu);
        journey.source.mode = Some(Mode::PostCopy);
        journey.source.dump.sockets.tcp_established = true;
        arrived(&mut process, &journey.travel());
    }
}

#[test]
fn a_mode_that_cannot_work_is_refused_before_the_tree_is_touched() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let reach = criu::Criu::with_binary(criu.path()).unwrap();
    if reach
        .features()
        .unwrap()
        .contains(criu::Feature::MemoryTracking)
    {
        // Here it can work; the guest's tests move trees so.
        return;
    }
    let process = traveller(Scene::new());
    for mode in [Mode::PreCopy, Mode::Hybrid] {
        let mut journey = Journey::of(&process, &criu);
        journey.source.mode = Some(mode);
        let ends = journey.travel();
        let failed = ends.sent.unwrap_err();
        assert!(matches!(failed.error, Error::Mode(_)), "{failed:?}");
        assert_eq!(
            (failed.fate, failed.stage),
            (Fate::Untouched, Stage::Accepted)
        );
        let text = failed.error.to_string();
        assert!(text.contains("CONFIG_MEM_SOFT_DIRTY"), "{text}");
    }
    let count = process.count();
    process.wait_for_count_above(count);
}
