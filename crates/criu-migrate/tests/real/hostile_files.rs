//! Peers that would put files where they may not.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use criu::{Criu, NoHooks, Restore};
use criu_migrate::frame::{Channel, Frame, encode_preamble};
use criu_migrate::sync::SyncProblem;
use criu_migrate::transport::Stream;
use criu_migrate::{Destination, Error, Watch};
use criu_testkit::{CriuUnderTest, TempDir};

/// Offers `/data` to a destination that allows it below `root`, and goes on with `frames` once accepted.
fn against(root: &TempDir, frames: &[Frame]) -> Option<Error> {
    let criu = CriuUnderTest::newest()?;
    let work_dir = TempDir::new();
    let mut restore = Restore::new(work_dir.path());
    restore.root = Some(root.path().to_owned());
    let mut destination = Destination::new(Criu::with_binary(criu.path()).unwrap(), restore);
    destination.work_dir = work_dir.path().to_owned();
    destination.allow_sync = vec!["/data".into()];
    destination.timing.silence = Duration::from_secs(3);
    let (end, mut far) = UnixStream::pair().unwrap();
    let near = Box::new(Stream::descriptors(&end, &end, "a stranger").unwrap());
    // Or the stranger would never see it closed.
    drop(end);
    let began = Instant::now();
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || {
            far.write_all(&encode_preamble()).unwrap();
            let machine = rustix::system::uname().machine().to_string_lossy().into_owned();
            let page = rustix::param::page_size();
            let offer = format!(
                r#"{{"say":"offer","host":{{"name":"x","architecture":"{machine}","kernel":"6","page_size_bytes":{page},
                "criu":"4.3"}},"needs":{{}},"pids":[],"resident_bytes":1,"sync":[{{"path":"/data","kind":"directory"}}]}}"#
            );
            let mut bytes = Vec::new();
            Frame::Control(offer.into()).encode(&mut bytes);
            far.write_all(&bytes).unwrap();
            let mut heard = Vec::new();
            while !String::from_utf8_lossy(&heard).contains("accept") {
                let mut buffer = [0; 4096];
                let count = far.read(&mut buffer).unwrap();
                assert_ne!(count, 0, "{}", String::from_utf8_lossy(&heard));
                heard.extend_from_slice(&buffer[..count]);
            }
            for frame in frames {
                let mut bytes = Vec::new();
                frame.encode(&mut bytes);
                // It may have given up by now.
                let _ = far.write_all(&bytes);
            }
            // Reads what is said until it closes, or both would wait.
            far.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let _ = std::io::copy(&mut far, &mut std::io::sink());
        });
        destination.receive(near, &mut NoHooks, &Watch::default())
    });
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(std::fs::read_dir(work_dir.path()).unwrap().count(), 0);
    Some(outcome.unwrap_err())
}

fn open_sync(path: &str, pass: &str) -> Frame {
    let text = format!(r#"{{"say":"open-sync","path":"{path}","pass":"{pass}"}}"#);
    Frame::Control(text.into())
}

#[test]
fn only_a_path_of_the_offer_is_opened() {
    let root = TempDir::new();
    for path in ["/", "/etc", "/data/below", "/data/../etc", ""] {
        let Some(error) = against(&root, &[open_sync(path, "first")]) else {
            return;
        };
        let problem = match error {
            Error::Sync { problem, .. } => problem,
            other => panic!("{path}: {other:?}"),
        };
        assert!(
            matches!(problem, SyncProblem::NotOffered),
            "{path}: {problem:?}"
        );
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "{path}");
    }
}

#[test]
fn a_pass_out_of_turn_is_refused() {
    let root = TempDir::new();
    // The first pass is over when images come.
    let image = r#"{"say":"image","name":"core-1.img","len_bytes":1}"#;
    let image = Frame::Control(image.into());
    let Some(error) = against(&root, &[image, open_sync("/data", "first")]) else {
        return;
    };
    assert!(matches!(error, Error::OutOfTurn(_)), "{error:?}");
}

#[test]
fn what_is_no_rsync_is_given_up_and_leaves_nothing() {
    let root = TempDir::new();
    let data = |bytes: &[u8]| Frame::Data(Channel::Files, bytes.to_vec());
    let open = || open_sync("/data", "first");
    for (what, frames) in [
        ("noise", vec![open(), data(&[7; 100_000])]),
        (
            "zeros",
            vec![open(), Frame::Zeros(Channel::Files, 64 << 20)],
        ),
        ("nothing", vec![open(), Frame::End(Channel::Files)]),
        (
            "another module",
            vec![
                open(),
                data(b"@RSYNCD: 31.0\nother\n"),
                Frame::End(Channel::Files),
            ],
        ),
        (
            "reading",
            vec![
                open(),
                data(b"@RSYNCD: 31.0\nfiles\n--server\n--sender\n-r\n.\nfiles/\n\n"),
                Frame::End(Channel::Files),
            ],
        ),
        ("silence", vec![open()]),
    ] {
        let Some(error) = against(&root, &frames) else {
            return;
        };
        let given_up = matches!(
            error,
            Error::Sync {
                problem: SyncProblem::Failed { .. },
                ..
            } | Error::Silent { .. }
        );
        assert!(given_up, "{what}: {error:?}");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "{what}");
    }
}
