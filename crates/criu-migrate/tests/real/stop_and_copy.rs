//! Stop-and-copy where nothing goes wrong.

use criu_migrate::{Compression, Happening};
use criu_testkit::{CriuUnderTest, Namespace, Scene};

use crate::journey::{Journey, arrived, traveller};

#[test]
fn a_process_moves_and_counts_on() {
    for criu in CriuUnderTest::all() {
        let mut process = traveller(Scene::new().memory_kib(8192));
        process.wait_for_count_above(2);
        let ends = Journey::of(&process, &criu).travel();
        arrived(&mut process, &ends);
        let names = |events: &[criu_migrate::Event]| -> Vec<String> {
            let name = |event| {
                serde_json::to_value(event).unwrap()["event"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            };
            // How often progress is told depends on how long it takes.
            let names = events.iter().map(name);
            names.filter(|name| name != "pages-moving").collect()
        };
        assert_eq!(
            names(&ends.source_events),
            [
                "connected",
                "agreed",
                "mode-chosen",
                "freezing",
                "pages-copied",
                "images-copied",
                "restoring",
                "restored",
                "committing",
                "running"
            ]
        );
        assert_eq!(
            names(&ends.destination_events),
            [
                "connected",
                "agreed",
                "restoring",
                "restored",
                "committing",
                "running"
            ]
        );
        let sent = ends.sent.unwrap();
        assert!(
            sent.page_stream_bytes > 8 << 20 && sent.images > 5,
            "{sent:?}"
        );
        assert!(sent.downtime <= sent.total);
    }
}

#[test]
fn a_tree_with_threads_pipes_and_sockets_moves() {
    for criu in CriuUnderTest::all() {
        let scene = Scene::new().threads(3).children(2).pipe();
        let mut process = traveller(scene.unix_sockets().event_files().unlinked_file());
        process.wait_for_count_above(2);
        let ends = Journey::of(&process, &criu).travel();
        arrived(&mut process, &ends);
    }
}

#[test]
fn an_established_connection_moves_with_both_its_ends() {
    for criu in CriuUnderTest::all() {
        let scene = Scene::new()
            .namespaces(&[Namespace::Net])
            .tcp()
            .tcp_listener(0);
        let mut process = traveller(scene);
        process.wait_for_count_above(2);
        let mut journey = Journey::of(&process, &criu);
        journey.source.dump.sockets.tcp_established = true;
        arrived(&mut process, &journey.travel());
    }
}

#[test]
fn zero_pages_are_not_sent() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let mut process = traveller(Scene::new().part("zeros=65536"));
    process.wait_for_count_above(2);
    let ends = Journey::of(&process, &criu).travel();
    arrived(&mut process, &ends);
    let copied = ends
        .source_events
        .iter()
        .find_map(|event| match event.what {
            Happening::PagesCopied {
                stream_bytes,
                sent_bytes,
            } => Some((stream_bytes, sent_bytes)),
            _ => None,
        });
    let (stream_bytes, sent_bytes) = copied.unwrap();
    assert!(stream_bytes > 64 << 20, "{stream_bytes}");
    assert!(sent_bytes < 8 << 20, "{sent_bytes}");
    assert!(ends.sent.unwrap().wire_bytes < 8 << 20);
}

#[cfg(feature = "zstd")]
#[test]
fn compressed_memory_arrives_and_is_less_on_the_way() {
    for criu in CriuUnderTest::all() {
        let mut wire = Vec::new();
        for compression in [Compression::Off, Compression::Always, Compression::Adaptive] {
            let mut process = traveller(Scene::new().part("text=16384").memory_kib(1024));
            process.wait_for_count_above(2);
            let mut journey = Journey::of(&process, &criu);
            journey.source.compression = compression;
            let ends = journey.travel();
            arrived(&mut process, &ends);
            let sent = ends.sent.unwrap();
            let traffic = sent.traffic;
            assert!(traffic.stream_bytes >= sent.page_stream_bytes + sent.image_bytes);
            assert!(traffic.wire_bytes < sent.wire_bytes, "{sent:?}");
            match compression {
                Compression::Off => assert_eq!(traffic.packed_bytes, 0),
                _ => assert!(
                    traffic.packed_to_bytes < traffic.packed_bytes / 2,
                    "{traffic:?}"
                ),
            }
            wire.push(sent.wire_bytes);
        }
        assert!(wire[0] > 16 << 20, "{wire:?}");
        assert!(wire[1] * 10 < wire[0] * 6, "{wire:?}");
        // How much depends on how fast this machine is, but it begins with compressing.
        assert!(wire[2] < wire[0], "{wire:?}");
    }
}

#[test]
fn pages_that_are_alike_are_sent_once() {
    for criu in CriuUnderTest::all() {
        let mut process = traveller(Scene::new().part("copies=32768"));
        process.wait_for_count_above(2);
        let mut journey = Journey::of(&process, &criu);
        journey.source.compression = Compression::Off;
        let ends = journey.travel();
        arrived(&mut process, &ends);
        let sent = ends.sent.unwrap();
        assert!(sent.traffic.duplicate_bytes > 31 << 20, "{sent:?}");
        assert!(sent.wire_bytes < 8 << 20, "{sent:?}");
    }
}
