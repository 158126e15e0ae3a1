//! Peers that do not play by the rules: refused within limits, nothing left, nothing touched.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use criu::{Criu, Dump, NoHooks, Restore};
use criu_migrate::frame::{BlockProblem, Channel, Frame, FrameError, ZEROS_MAX, encode_preamble};
use criu_migrate::transport::Stream;
use criu_migrate::{
    Destination, Error, Fate, ImageProblem, NotSent, Received, Source, Timing, Watch,
};
use criu_testkit::{CriuUnderTest, Scene, TempDir};

/// A peer that sends what it likes.
struct Stranger(UnixStream);

impl Stranger {
    fn send(&mut self, bytes: &[u8]) {
        // It may have been turned away by now.
        let _ = self.0.write_all(bytes);
    }

    fn frame(&mut self, frame: &Frame) {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        self.send(&bytes);
    }

    fn say(&mut self, text: &str) {
        self.frame(&Frame::Control(text.into()));
    }

    fn greet(&mut self) {
        self.send(&encode_preamble());
    }

    /// Greets and offers a tree like those that run here.
    fn offer(&mut self) {
        self.greet();
        let machine =
            String::from_utf8_lossy(rustix::system::uname().machine().to_bytes()).into_owned();
        let page = rustix::param::page_size();
        self.say(&format!(
            r#"{{"say":"offer","host":{{"name":"x","architecture":"{machine}","kernel":"6",
            "page_size_bytes":{page},"criu":"4.3"}},"needs":{{}},"pids":[],"resident_bytes":1}}"#
        ));
    }

    /// Waits until the peer has said something with this word.
    fn hear(&mut self, word: &str) {
        self.0
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains(word) {
            let mut buffer = [0; 4096];
            let count = self.0.read(&mut buffer).unwrap();
            assert_ne!(
                count,
                0,
                "closed before {word}: {}",
                String::from_utf8_lossy(&heard)
            );
            heard.extend_from_slice(&buffer[..count]);
        }
    }
}

fn short() -> Timing {
    let mut timing = Timing::default();
    timing.beat = Duration::from_millis(100);
    timing.silence = Duration::from_secs(4);
    timing.frame = Duration::from_millis(500);
    timing.greeting = Duration::from_millis(600);
    timing.answer = Duration::from_secs(5);
    timing.restore = Duration::from_secs(5);
    timing
}

fn ends() -> (Box<Stream>, Stranger) {
    let (near, far) = UnixStream::pair().unwrap();
    (
        Box::new(Stream::descriptors(&near, &near, "a stranger").unwrap()),
        Stranger(far),
    )
}

/// Lets a stranger at a destination; it must fail within ten seconds and leave nothing.
#[track_caller]
fn against_destination(act: impl FnOnce(&mut Stranger) + Send) -> Error {
    let Some(criu) = CriuUnderTest::newest() else {
        return Error::Cancelled;
    };
    let work_dir = TempDir::new();
    let criu = Criu::with_binary(criu.path()).unwrap();
    let mut destination = Destination::new(criu, Restore::new(work_dir.path()));
    destination.work_dir = work_dir.path().to_owned();
    destination.limit_bytes = 1 << 20;
    destination.timing = short();
    let (near, mut stranger) = ends();
    let began = Instant::now();
    let outcome: Result<Received, Error> = std::thread::scope(|scope| {
        let stranger = scope.spawn(move || {
            act(&mut stranger);
            stranger
        });
        let outcome = destination.receive(near, &mut NoHooks, &Watch::default());
        drop(stranger.join());
        outcome
    });
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(std::fs::read_dir(work_dir.path()).unwrap().count(), 0);
    outcome.unwrap_err()
}

/// Whether the test has a CRIU; recorded as skipped if not.
fn can_run() -> bool {
    CriuUnderTest::newest().is_some()
}

/// What a stranger did in place of an offer.
fn instead(error: Error) -> Error {
    match error {
        Error::Stranger { source } => *source,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_makes_no_offer_is_turned_away_in_time() {
    if !can_run() {
        return;
    }
    let error = instead(against_destination(|stranger| {
        stranger.send(b"GET / HTTP/1.1\r\nHost: there\r\n\r\n");
    }));
    assert!(
        error.to_string().contains("does not speak this protocol"),
        "{error}"
    );

    let error = instead(against_destination(|stranger| {
        let mut preamble = encode_preamble();
        preamble[8..12].copy_from_slice(&[9, 0, 9, 0]);
        stranger.send(&preamble);
    }));
    assert!(error.to_string().contains("versions 9 to 9"), "{error}");

    // Slow-loris: a byte now and then, in the preamble, in a header, in a body; or nothing but beats.
    let trickle = |stranger: &mut Stranger, bytes: &[u8]| {
        for byte in bytes {
            stranger.send(&[*byte]);
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    let error = instead(against_destination(move |stranger| {
        trickle(stranger, &encode_preamble())
    }));
    assert!(
        matches!(
            error,
            Error::TooSlow {
                what: "greeting",
                ..
            }
        ),
        "{error}"
    );
    let error = instead(against_destination(move |stranger| {
        stranger.greet();
        trickle(
            stranger,
            &[1, 0, 0, 0, 100, 0, 0, 0, b'{', b'{', b'{', b'{'],
        );
    }));
    assert!(matches!(error, Error::TooSlow { .. }), "{error}");
    let error = instead(against_destination(|stranger| {
        stranger.greet();
        for _ in 0..15 {
            stranger.frame(&Frame::Beat);
            std::thread::sleep(Duration::from_millis(100));
        }
    }));
    assert!(
        matches!(
            error,
            Error::TooSlow {
                what: "its offer",
                ..
            }
        ),
        "{error}"
    );
    let error = instead(against_destination(|_| {
        std::thread::sleep(Duration::from_millis(900))
    }));
    assert!(
        matches!(
            error,
            Error::TooSlow {
                what: "greeting",
                ..
            }
        ),
        "{error}"
    );
    let error = instead(against_destination(|stranger| stranger.greet()));
    assert!(
        matches!(error, Error::TooSlow { .. } | Error::Closed(_)),
        "{error}"
    );
}

#[test]
fn malformed_and_oversized_frames_are_refused_before_anything_is_allocated() {
    if !can_run() {
        return;
    }
    for header in [
        [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        [2, 1, 0, 0, 0, 0, 0, 0x80],
        [9, 0, 0, 0, 0, 0, 0, 0],
        [2, 7, 0, 0, 1, 0, 0, 0],
        [5, 0, 1, 0, 0, 0, 0, 0],
    ] {
        let error = instead(against_destination(move |stranger| {
            stranger.greet();
            stranger.send(&header);
        }));
        assert!(matches!(error, Error::Frame { .. }), "{error}");
    }
    for text in [
        "",
        "[]",
        "nonsense",
        r#"{"say":"dance"}"#,
        r#"{"say":"offer"}"#,
        "\u{fffd}",
    ] {
        let error = instead(against_destination(move |stranger| {
            stranger.greet();
            // An empty control message cannot be framed by honest means.
            match text {
                "" => stranger.send(&[1, 0, 0, 0, 0, 0, 0, 0]),
                text => stranger.say(text),
            }
        }));
        assert!(
            matches!(error, Error::Message { .. } | Error::Frame { .. }),
            "{text:?}: {error}"
        );
    }
    // Nesting must not use up the stack.
    let error = instead(against_destination(|stranger| {
        stranger.greet();
        stranger.say(&format!(
            r#"{{"say":"offer","host":{}"#,
            "[".repeat(500_000)
        ));
    }));
    assert!(matches!(error, Error::Message { .. }), "{error}");
}

#[test]
fn what_is_said_out_of_turn_ends_the_conversation() {
    if !can_run() {
        return;
    }
    for text in [
        r#"{"say":"commit"}"#,
        r#"{"say":"open-pages"}"#,
        r#"{"say":"restored","pid":1}"#,
    ] {
        let error = instead(against_destination(move |stranger| {
            stranger.greet();
            stranger.say(text);
        }));
        assert!(matches!(error, Error::OutOfTurn(_)), "{error}");
        let error = against_destination(move |stranger| {
            stranger.offer();
            stranger.hear("accept");
            stranger.say(text);
            stranger.say(text);
            std::thread::sleep(Duration::from_millis(300));
        });
        assert!(matches!(error, Error::OutOfTurn(_)), "{text}: {error:?}");
    }
    let image = instead(against_destination(|stranger| {
        stranger.greet();
        stranger.frame(&Frame::Data(Channel::Image, b"x".to_vec()));
    }));
    assert!(
        matches!(
            image,
            Error::Image {
                problem: ImageProblem::OutOfPlace,
                ..
            }
        ),
        "{image}"
    );
}

#[test]
fn blocks_that_do_not_expand_are_refused() {
    if !can_run() {
        return;
    }
    let refused = |body: Vec<u8>| {
        let error = instead(against_destination(move |stranger| {
            stranger.greet();
            stranger.send(&[6, 1, 0, 0]);
            stranger.send(&u32::try_from(body.len()).unwrap().to_le_bytes());
            stranger.send(&body);
            std::thread::sleep(Duration::from_millis(200));
        }));
        match error {
            Error::Frame {
                problem: FrameError::Block(problem),
                ..
            } => problem,
            other => panic!("{other:?}"),
        }
    };
    // A reference to what nobody sent, with a literal that there is.
    let mut reference = vec![1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
    reference.extend([0, 16, 0, 0x80, 0, 0xf0, 0xff, 0xff, b'x']);
    let problem = refused(reference);
    assert!(
        matches!(problem, BlockProblem::Reference { .. }),
        "{problem}"
    );
    // Zeros without end.
    let mut zeros = vec![0, 0, 0, 0, 1, 0, 0, 0];
    zeros.extend([0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0]);
    let problem = refused(zeros);
    assert!(
        matches!(problem, BlockProblem::TooLarge { .. }),
        "{problem}"
    );
    // A zstd frame of one block that repeats a byte 128 Ki times, in a block that says it is ten.
    let mut bomb = vec![10, 0, 0, 0, 0, 0, 1, 0];
    bomb.extend([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x03, 0x00, 0x10, b'x']);
    let problem = refused(bomb);
    assert!(
        matches!(
            problem,
            BlockProblem::Packed { .. } | BlockProblem::CannotExpand
        ),
        "{problem}"
    );
}

#[test]
fn image_names_that_lead_elsewhere_and_false_lengths_are_refused() {
    if !can_run() {
        return;
    }
    let outside = TempDir::new();
    let target = outside.join("owned.img");
    let absolute = target.display().to_string();
    let up = format!("../../../../../../..{absolute}");
    let image = |name: &str, len_bytes: u64| {
        format!(r#"{{"say":"image","name":"{name}","len_bytes":{len_bytes}}}"#)
    };
    let refused = |says: Vec<String>, data: Vec<Frame>| {
        let error = against_destination(move |stranger| {
            stranger.offer();
            stranger.hear("accept");
            stranger.say(r#"{"say":"open-pages"}"#);
            stranger.hear("pages-ready");
            for text in says {
                stranger.say(&text);
            }
            for frame in data {
                stranger.frame(&frame);
            }
            std::thread::sleep(Duration::from_millis(300));
        });
        match error {
            Error::Image { problem, .. } => problem,
            other => panic!("{other:?}"),
        }
    };
    for name in [
        absolute.as_str(),
        &up,
        "parent",
        "a/../b.img",
        "..",
        "criu.log",
    ] {
        let problem = refused(vec![image(name, 1)], vec![]);
        assert!(
            matches!(problem, ImageProblem::Name { .. }),
            "{name}: {problem}"
        );
    }
    assert!(!target.exists());
    let problem = refused(vec![image("a.img", u64::MAX)], vec![]);
    assert!(
        matches!(problem, ImageProblem::TooLarge { .. }),
        "{problem}"
    );
    let more = Frame::Data(Channel::Image, b"four".to_vec());
    let problem = refused(vec![image("a.img", 3)], vec![more]);
    assert!(
        matches!(problem, ImageProblem::Length { found_bytes: 4, .. }),
        "{problem}"
    );
    let zeros = Frame::Zeros(Channel::Image, ZEROS_MAX);
    let problem = refused(vec![image("a.img", 1 << 20)], vec![zeros]);
    assert!(matches!(problem, ImageProblem::Length { .. }), "{problem}");
    let problem = refused(vec![r#"{"say":"complete","images":3}"#.into()], vec![]);
    assert!(
        matches!(
            problem,
            ImageProblem::Count {
                announced: 3,
                found: 0
            }
        ),
        "{problem}"
    );
}

#[test]
fn memory_beyond_the_room_there_is_ends_the_migration() {
    if !can_run() {
        return;
    }
    // The limit here is 1 MiB; the page server would write what it is told to.
    let error = against_destination(|stranger| {
        stranger.offer();
        stranger.hear("accept");
        stranger.say(r#"{"say":"open-pages"}"#);
        stranger.hear("pages-ready");
        for _ in 0..10 {
            stranger.frame(&Frame::Zeros(Channel::Pages, ZEROS_MAX));
        }
        stranger.say(r#"{"say":"complete","images":0}"#);
        std::thread::sleep(Duration::from_millis(500));
    });
    // CRIU's own server may find the nonsense before the limit is reached.
    assert!(
        matches!(
            error,
            Error::Image {
                problem: ImageProblem::TooLarge { .. },
                ..
            } | Error::Criu(_)
        ),
        "{error:?}"
    );
}

#[test]
fn an_image_set_that_is_none_fails_in_criu_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    let error = against_destination(|stranger| {
        stranger.offer();
        stranger.hear("accept");
        stranger.say(r#"{"say":"open-pages"}"#);
        stranger.hear("pages-ready");
        stranger.say(r#"{"say":"image","name":"inventory.img","len_bytes":4}"#);
        stranger.frame(&Frame::Data(Channel::Image, b"junk".to_vec()));
        stranger.frame(&Frame::End(Channel::Image));
        // The page server's connection ends as CRIU ends it: FORCE_CLOSE, 0x1024.
        let mut close = [0; 32];
        close[..2].copy_from_slice(&0x1024_u16.to_le_bytes());
        stranger.frame(&Frame::Data(Channel::Pages, close.to_vec()));
        stranger.frame(&Frame::End(Channel::Pages));
        stranger.say(r#"{"say":"complete","images":1}"#);
        stranger.hear("abort");
    });
    assert!(matches!(error, Error::Criu(_)), "{error:?}");
}

#[test]
fn a_hostile_destination_cannot_touch_the_tree() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let process = Scene::new().start();
    process.wait_for_count_above(1);
    let pid = i32::try_from(process.pid()).unwrap();
    let against = |act: fn(&mut Stranger)| -> Box<NotSent> {
        let work_dir = TempDir::new();
        let criu = Criu::with_binary(criu.path()).unwrap();
        let mut source = Source::new(criu, Dump::new(pid, work_dir.path()));
        source.work_dir = work_dir.path().to_owned();
        source.timing = short();
        let (near, mut stranger) = ends();
        let began = Instant::now();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(move || act(&mut stranger));
            source.send(near, &mut NoHooks, &Watch::default())
        });
        assert!(began.elapsed() < Duration::from_secs(10));
        assert_eq!(std::fs::read_dir(work_dir.path()).unwrap().count(), 0);
        outcome.unwrap_err()
    };
    const ACCEPT: &str = r#"{"say":"accept","name":"x","architecture":"x","kernel":"6","page_size_bytes":1,"criu":"4"}"#;
    let early: [fn(&mut Stranger); 4] = [
        |stranger| stranger.send(b"SSH-2.0-OpenSSH_9.2\r\n"),
        |stranger| {
            stranger.greet();
            stranger.say(r#"{"say":"committed","pid":1}"#);
        },
        |stranger| {
            stranger.greet();
            stranger.say(ACCEPT);
            stranger.say(r#"{"say":"restored","pid":1}"#);
            std::thread::sleep(Duration::from_millis(300));
        },
        |stranger| {
            stranger.greet();
            stranger.say(r#"{"say":"refuse","reason":"\u001b[2Jno"}"#);
        },
    ];
    for act in early {
        let not_sent = against(act);
        assert_eq!(not_sent.fate, Fate::Untouched, "{not_sent:?}");
    }
    // One that answers the page server's questions with lies, and commits before it is asked.
    let not_sent = against(|stranger| {
        stranger.greet();
        stranger.say(ACCEPT);
        stranger.hear("open-pages");
        stranger.say(r#"{"say":"pages-ready"}"#);
        stranger.frame(&Frame::Data(Channel::Pages, vec![0; 4096]));
        stranger.say(r#"{"say":"committed","pid":1}"#);
        std::thread::sleep(Duration::from_millis(500));
    });
    assert!(
        matches!(not_sent.fate, Fate::Untouched | Fate::Resumed),
        "{not_sent:?}"
    );
    process.wait_for_count_above(process.count());
}

/// A description of what a tree needs, said as an offer or as a question.
fn describe(stranger: &mut Stranger, word: &str, needs: &str) {
    stranger.greet();
    stranger.say(&format!(
        r#"{{"say":"{word}","host":{{"name":"x","architecture":"x","kernel":"6","page_size_bytes":4096,
        "criu":"4.3"}},"needs":{{}},{needs}}}"#
    ));
    std::thread::sleep(Duration::from_millis(300));
}

#[test]
fn what_no_honest_source_needs_is_refused_and_the_receiver_is_there_for_others() {
    if !can_run() {
        return;
    }
    let many = |item: &str, count: usize| vec![item; count].join(",");
    let long = "x".repeat(5000);
    for (needs, said) in [
        (
            format!(r#""files":[{}]"#, many(r#"{"path":"/"}"#, 40_000)),
            "40000 files",
        ),
        (
            format!(r#""pids":[{}]"#, many("1", 200_000)),
            "200000 process ids",
        ),
        (
            r#""files":[{"path":"/../../etc/shadow"}]"#.to_owned(),
            "/../../etc/shadow",
        ),
        (r#""files":[{"path":"/x\u0000y"}]"#.to_owned(), "is no path"),
        (format!(r#""files":[{{"path":"/{long}"}}]"#), "is no path"),
        (
            r#""sockets":[{"family":"unix","name":"relative"}]"#.to_owned(),
            "relative",
        ),
        (format!(r#""namespaces":["{long}"]"#), "is no namespace"),
        (
            r#""cgroups":[{"hierarchy":"cpu","path":"/../.."}]"#.to_owned(),
            "/../..",
        ),
        (
            format!(r#""processor":[{}]"#, many("0", 17_000)),
            "17000 bytes",
        ),
    ] {
        for word in ["offer", "inspect"] {
            let needs = needs.clone();
            let error = instead(against_destination(move |stranger| {
                describe(stranger, word, &needs);
            }));
            let text = error.to_string();
            assert!(matches!(error, Error::Facts(_)), "{text}");
            assert!(text.contains(said) && text.len() < 1000, "{said}: {text}");
        }
    }
    // Not of the kind it should be at all.
    let error = instead(against_destination(|stranger| {
        describe(
            stranger,
            "offer",
            r#""sockets":[{"family":"carrier pigeon"}]"#,
        );
    }));
    assert!(matches!(error, Error::Message { .. }), "{error}");
}

#[test]
fn who_only_asks_is_answered_and_nothing_follows() {
    if !can_run() {
        return;
    }
    let error = against_destination(|stranger| {
        describe(stranger, "inspect", r#""pids":[1],"architecture":"vax""#);
        stranger.hear(r#""found":"in use by "#);
        // It is no offer, and cannot become one.
        stranger.say(r#"{"say":"open-pages"}"#);
    });
    assert!(matches!(error, Error::OnlyAsked), "{error}");
}

#[test]
fn a_destination_that_floods_with_findings_ends_the_conversation() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let process = Scene::new().start();
    process.wait_for_count_above(2);
    let work_dir = TempDir::new();
    let pid = i32::try_from(process.pid()).unwrap();
    let criu = Criu::with_binary(criu.path()).unwrap();
    let mut source = Source::new(criu, Dump::new(pid, work_dir.path()));
    source.work_dir = work_dir.path().to_owned();
    source.timing = short();
    let (near, mut stranger) = ends();
    let finding = r#"{"check":"colour","object":"o","wanted":"w","found":"f","severity":"warns","remedy":"r"}"#;
    let findings = format!(r#"{{"say":"findings","findings":[{finding}]}}"#);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || {
            stranger.greet();
            stranger.hear("offer");
            stranger.say(&findings);
            stranger.say(&findings);
            std::thread::sleep(Duration::from_millis(300));
        });
        source.send(near, &mut NoHooks, &Watch::default())
    });
    let failed = outcome.unwrap_err();
    assert!(
        matches!(failed.error, Error::OutOfTurn(_)),
        "{}",
        failed.error
    );
    assert_eq!(failed.fate, Fate::Untouched);
    process.wait_for_count_above(process.count());
}
