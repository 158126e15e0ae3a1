//! A CRIU that misbehaves: whatever it does ends in a clear error within the deadline, by either client.
#![expect(
    clippy::unwrap_used,
    reason = "a test has no better answer than to stop"
)]

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criu::{
    Check, CpuInfo, Criu, CriuErrno, Dump, Error, Event, Hook, PageServer, PreDump, Restore,
    TargetState, Version, WorkerExit, asynchronous,
};
use criu_testkit::{FakeCriu, Field, Message, Step, TempDir, fields};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

/// Request types as rpc.proto numbers them.
const EMPTY: u64 = 0;
const DUMP: u64 = 1;
const RESTORE: u64 = 2;
const NOTIFY: u64 = 6;
const VERSION: u64 = 10;

/// Time for what is expected to end by itself.
const AMPLE: Duration = Duration::from_secs(20);
/// Time for what is expected to run into it.
const SHORT: Duration = Duration::from_millis(300);
/// How much later than its deadline a request may end: the machine has other work.
const SLACK: Duration = Duration::from_secs(4);

/// A client of either kind, reduced to one call.
#[derive(Debug, Clone, Copy)]
enum Client {
    Blocking,
    Asynchronous,
}

#[derive(Debug, Clone, Copy)]
enum Request {
    Version,
    Features,
    Check,
    Dump,
    SinglePreDump,
    PreDump,
    Restore,
    PageServer,
    PageServerChild,
    WaitPid,
    CpuInfoDump,
    CpuInfoCheck,
}

const ALL_REQUESTS: [Request; 12] = [
    Request::Version,
    Request::Features,
    Request::Check,
    Request::Dump,
    Request::SinglePreDump,
    Request::PreDump,
    Request::Restore,
    Request::PageServer,
    Request::PageServerChild,
    Request::WaitPid,
    Request::CpuInfoDump,
    Request::CpuInfoCheck,
];

/// A process whose fate an error has to tell, and a place for images.
struct Scene {
    target: Child,
    images: TempDir,
}

impl Scene {
    fn new() -> Self {
        let mut sleep = Command::new("sleep");
        sleep.arg("1000").stdin(Stdio::null()).stdout(Stdio::null());
        Self {
            target: sleep.spawn().unwrap(),
            images: TempDir::new(),
        }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.target.id()).unwrap()
    }

    fn dump(&self) -> Dump {
        Dump::new(self.pid(), self.images.path())
    }

    /// Makes the request with the fake.
    fn make(
        &self,
        client: Client,
        fake: &FakeCriu,
        request: Request,
        timeout: Duration,
    ) -> Result<(), Error> {
        let criu = Criu::with_binary(fake.path())
            .unwrap()
            .with_timeout(timeout);
        let images = self.images.path();
        let (dump, pre_dump) = (self.dump(), PreDump::new(self.pid(), images));
        let (restore, server) = (Restore::new(images), PageServer::new(images));
        let cpuinfo = CpuInfo::new(images);
        match client {
            Client::Blocking => match request {
                Request::Version => criu.version().map(drop),
                Request::Features => criu.features().map(drop),
                Request::Check => criu.check(&Check::default()),
                Request::Dump => criu.dump(&dump).map(drop),
                Request::SinglePreDump => criu.pre_dump(&pre_dump).map(drop),
                Request::PreDump => criu.session()?.pre_dump(&pre_dump).map(drop),
                Request::Restore => criu.restore(&restore).map(drop),
                Request::PageServer => criu.page_server(&server).map(drop),
                Request::PageServerChild => criu.session()?.page_server_child(&server).map(drop),
                Request::WaitPid => criu.session()?.wait_pid(1).map(drop),
                Request::CpuInfoDump => criu.cpuinfo_dump(&cpuinfo),
                Request::CpuInfoCheck => criu.cpuinfo_check(&cpuinfo),
            },
            Client::Asynchronous => in_runtime(async {
                let criu = asynchronous::Criu::from(criu);
                match request {
                    Request::Version => criu.version().await.map(drop),
                    Request::Features => criu.features().await.map(drop),
                    Request::Check => criu.check(&Check::default()).await,
                    Request::Dump => criu.dump(&dump).await.map(drop),
                    Request::SinglePreDump => criu.pre_dump(&pre_dump).await.map(drop),
                    Request::PreDump => criu.session()?.pre_dump(&pre_dump).await.map(drop),
                    Request::Restore => criu.restore(&restore).await.map(drop),
                    Request::PageServer => criu.page_server(&server).await.map(drop),
                    Request::PageServerChild => {
                        criu.session()?.page_server_child(&server).await.map(drop)
                    }
                    Request::WaitPid => criu.session()?.wait_pid(1).await.map(drop),
                    Request::CpuInfoDump => criu.cpuinfo_dump(&cpuinfo).await,
                    Request::CpuInfoCheck => criu.cpuinfo_check(&cpuinfo).await,
                }
            }),
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.target.kill();
        let _ = self.target.wait();
    }
}

fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Runs a scenario with both kinds of client.
#[track_caller]
fn both(scenario: impl Fn(Client, &Scene)) {
    for client in [Client::Blocking, Client::Asynchronous] {
        scenario(client, &Scene::new());
    }
}

/// Checks that no worker of the fake is left, not even as a zombie.
#[track_caller]
fn no_worker_is_left(fake: &FakeCriu) {
    for pid in fake.workers() {
        assert!(
            !std::path::Path::new(&format!("/proc/{pid}")).exists(),
            "worker {pid} is left"
        );
    }
}

fn runs_on(error: &Error, scene: &Scene) -> bool {
    error.failure().and_then(|failure| failure.target) == Some((scene.pid(), TargetState::Running))
}

/// The answer to the version question that precedes requests with newer options.
fn version_answer() -> Vec<u8> {
    Message::reply(VERSION, 1)
        .bytes(10, Message::new().varint(1, 4).varint(2, 3))
        .build()
}

#[test]
fn criu_killed_in_the_middle_of_any_request_is_said_to_be_lost() {
    both(|client, scene| {
        for request in ALL_REQUESTS {
            // Some requests ask for the version first; the question itself must not fail.
            let asks_first = matches!(
                request,
                Request::SinglePreDump | Request::PreDump | Request::PageServerChild
            );
            let mut script = vec![Step::Receive];
            if asks_first {
                script.extend([Step::Send(version_answer()), Step::Receive]);
            }
            script.push(Step::Die(9));
            let fake = FakeCriu::new(&script);
            let start = Instant::now();
            let error = scene.make(client, &fake, request, AMPLE).unwrap_err();
            assert!(start.elapsed() < SLACK, "{request:?}");
            let Error::Lost(failure) = &error else {
                panic!("{client:?} {request:?}: {error:?}")
            };
            assert_eq!(
                failure.worker_exit,
                Some(WorkerExit::Signal(9)),
                "{request:?}"
            );
            assert!(error.to_string().contains("SIGKILL"), "{error}");
            if matches!(
                request,
                Request::Dump | Request::PreDump | Request::SinglePreDump
            ) {
                assert!(runs_on(&error, scene), "{error:?}");
                assert!(error.to_string().contains("keeps running"), "{error}");
            }
            no_worker_is_left(&fake);
        }
    });
}

#[test]
fn criu_that_ends_without_an_answer_is_lost_with_its_exit_code() {
    both(|client, scene| {
        for script in [vec![Step::Exit(3)], vec![Step::Receive, Step::Exit(3)]] {
            let fake = FakeCriu::new(&script);
            let error = scene.make(client, &fake, Request::Dump, AMPLE).unwrap_err();
            let Error::Lost(failure) = &error else {
                panic!("{error:?}")
            };
            assert_eq!(failure.worker_exit, Some(WorkerExit::Code(3)));
            assert!(error.to_string().contains("code 3"), "{error}");
        }
    });
}

#[test]
fn criu_that_closes_the_connection_and_stays_is_ended_at_the_deadline() {
    both(|client, scene| {
        let fake = FakeCriu::new(&[Step::Receive, Step::Close, Step::Hang]);
        let start = Instant::now();
        let error = scene.make(client, &fake, Request::Dump, SHORT).unwrap_err();
        assert!(start.elapsed() < SHORT + SLACK);
        let Error::Lost(failure) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(failure.worker_exit, Some(WorkerExit::Signal(9)));
        no_worker_is_left(&fake);
    });
}

#[test]
fn criu_that_hangs_is_ended_at_the_deadline_whatever_signals_it_ignores() {
    both(|client, scene| {
        for request in ALL_REQUESTS {
            let fake = FakeCriu::new(&[Step::IgnoreTermination, Step::Receive, Step::Hang]);
            let start = Instant::now();
            let error = scene.make(client, &fake, request, SHORT).unwrap_err();
            assert!(
                start.elapsed() >= SHORT && start.elapsed() < SHORT + SLACK,
                "{request:?}"
            );
            assert!(
                matches!(&error, Error::TimedOut { after, .. } if *after == SHORT),
                "{error:?}"
            );
            no_worker_is_left(&fake);
        }
    });
}

#[test]
fn a_deadline_holds_for_a_notification_that_comes_late() {
    both(|client, scene| {
        let notify = Message::reply(NOTIFY, 1).bytes(5, Message::new().bytes(1, "pre-dump"));
        let fake = FakeCriu::new(&[
            Step::Receive,
            Step::Send(notify.build()),
            Step::Receive,
            Step::Hang,
        ]);
        let error = scene.make(client, &fake, Request::Dump, SHORT).unwrap_err();
        let Error::TimedOut { failure, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(failure.last_hook, Some(Hook::PreDump));
        assert!(error.to_string().contains("last hook: pre-dump"), "{error}");
        assert!(runs_on(&error, scene));
    });
}

#[test]
fn nonsense_is_told_as_such() {
    let nonsense = [
        vec![0xff; 10],
        vec![0x08],
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        // An answer to another request, and a success without a request.
        Message::reply(RESTORE, 1).build(),
        Message::reply(EMPTY, 1).build(),
        // A type CRIU does not have.
        Message::reply(77, 1).build(),
        // Without the fields every answer has.
        Message::new().varint(1, DUMP).build(),
    ];
    both(|client, scene| {
        for bytes in &nonsense {
            let fake = FakeCriu::new(&[Step::Receive, Step::Send(bytes.clone()), Step::Hang]);
            let start = Instant::now();
            let error = scene.make(client, &fake, Request::Dump, AMPLE).unwrap_err();
            assert!(start.elapsed() < SLACK, "{bytes:?}");
            assert!(
                matches!(error, Error::Protocol { .. }),
                "{bytes:?}: {error:?}"
            );
            assert!(runs_on(&error, scene));
            no_worker_is_left(&fake);
        }
    });
}

#[test]
fn a_reply_larger_than_any_usual_buffer_arrives_whole() {
    both(|client, scene| {
        let long = format!("Error (criu/cr-dump.c:1): {}", "x".repeat(150_000));
        let reply = Message::reply(DUMP, 0).varint(7, 3).bytes(9, &long).build();
        let fake = FakeCriu::new(&[Step::Receive, Step::Send(reply), Step::Exit(1)]);
        let error = scene.make(client, &fake, Request::Dump, AMPLE).unwrap_err();
        let Error::Refused(failure) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(failure.message.as_deref(), Some(long.as_str()));
        assert_eq!(failure.errno, Some(CriuErrno(3)));
        assert!(error.to_string().contains("ESRCH"));
    });
}

#[test]
fn a_large_reply_of_a_success_is_read_too() {
    let name = "n".repeat(100_000);
    let version = Message::new().varint(1, 4).varint(2, 3).bytes(6, &name);
    let reply = Message::reply(VERSION, 1).bytes(10, version).build();
    let fake = FakeCriu::new(&[Step::Receive, Step::Send(reply)]);
    let version = Criu::with_binary(fake.path()).unwrap().version().unwrap();
    assert_eq!(version.name.as_deref(), Some(name.as_str()));
    assert!(version.satisfies(&Version::new(4, 3, 0)));
}

#[test]
fn a_refusal_without_a_word_says_so() {
    both(|client, scene| {
        let reply = Message::reply(DUMP, 0).build();
        let fake = FakeCriu::new(&[Step::Receive, Step::Send(reply), Step::Exit(1)]);
        let error = scene.make(client, &fake, Request::Dump, AMPLE).unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{error:?}");
        assert!(error.to_string().contains("without saying why"), "{error}");
        assert!(runs_on(&error, scene));
    });
}

/// A CRIU whose log cannot be read still sends one line of it, which may be one of every run.
#[test]
fn the_line_criu_keeps_is_explained_unless_it_is_harmless() {
    both(|client, scene| {
        let cause = "Error (criu/cr-restore.c:1490): Can't fork for 12: File exists\n";
        let harmless = "Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: \
                        Operation not permitted\n";
        for (line, expected) in [(cause, "already in use"), (harmless, "without saying why")] {
            let reply = Message::reply(RESTORE, 0).bytes(9, line).build();
            let fake = FakeCriu::new(&[Step::Receive, Step::Send(reply), Step::Exit(1)]);
            let error = scene
                .make(client, &fake, Request::Restore, AMPLE)
                .unwrap_err();
            assert_eq!(error.failure().unwrap().message.as_deref(), Some(line));
            assert!(error.to_string().contains(expected), "{error}");
        }
    });
}

#[test]
fn what_criu_prints_outside_its_log_stands_in_the_error() {
    both(|client, scene| {
        let words = b"criu: error while loading shared libraries: libnet.so.9\n".to_vec();
        let fake = FakeCriu::new(&[Step::Stderr(words), Step::Exit(127)]);
        let error = scene
            .make(client, &fake, Request::Version, AMPLE)
            .unwrap_err();
        assert!(error.to_string().contains("libnet.so.9"), "{error}");
    });
}

/// Logs cut in a line, of one endless line, or of no text at all.
#[test]
fn odd_logs_do_not_hide_the_failure() {
    let cause = "(00.012345) Error (criu/cr-dump.c:1523): Can't freeze the tree";
    let mut endless = vec![b'z'; 3 << 20];
    endless.extend_from_slice(format!("\n{cause}").as_bytes());
    let mut binary: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    binary.extend_from_slice(format!("\n{cause}\n").as_bytes());
    let logs = [
        (cause.as_bytes().to_vec(), true),
        (format!("{cause}\r\n\n\n(00.0").into_bytes(), true),
        (endless, true),
        (binary, true),
        (Vec::new(), false),
        (vec![0; 5], false),
    ];
    both(|client, scene| {
        for (log, tells) in &logs {
            let fake = FakeCriu::new(&[
                Step::Receive,
                Step::WriteFile(scene.images.join("criu.log"), log.clone()),
                Step::Send(Message::reply(DUMP, 0).build()),
                Step::Exit(1),
            ]);
            let error = scene.make(client, &fake, Request::Dump, AMPLE).unwrap_err();
            let failure = error.failure().unwrap();
            let report = failure.log.as_ref().expect("a log");
            assert_eq!(
                report.path.as_deref(),
                Some(scene.images.join("criu.log").as_path())
            );
            if *tells {
                let root = &failure.diagnosis.as_ref().expect("a diagnosis").root;
                assert!(root.text().contains("Can't freeze the tree"), "{root:?}");
            }
            assert!(
                format!("{error:?}").len() < 20_000,
                "the log floods the error"
            );
        }
    });
}

#[test]
fn the_log_of_an_earlier_run_is_not_taken_for_this_one() {
    both(|client, scene| {
        let stale = "(00.012345) Error (criu/cr-dump.c:1): yesterday's trouble\n";
        let mut file = std::fs::File::create(scene.images.join("criu.log")).unwrap();
        file.write_all(stale.as_bytes()).unwrap();
        drop(file);
        let fake = FakeCriu::new(&[Step::Receive, Step::Die(9)]);
        let error = scene.make(client, &fake, Request::Dump, AMPLE).unwrap_err();
        assert!(error.failure().unwrap().log.is_none(), "{error:?}");
    });
}

#[test]
fn a_notification_from_the_future_is_acknowledged() {
    both(|client, scene| {
        let notify = Message::reply(NOTIFY, 1).bytes(5, Message::new().bytes(1, "post-quantum"));
        let fake = FakeCriu::new(&[
            Step::Receive,
            Step::Send(notify.build()),
            Step::Receive,
            Step::Send(Message::reply(DUMP, 1).build()),
        ]);
        scene.make(client, &fake, Request::Dump, AMPLE).unwrap();
        let reply = &fake.requests()[1];
        assert!(fields(reply).contains(&Field::Varint(1, NOTIFY)));
        assert!(
            fields(reply).contains(&Field::Varint(3, 1)),
            "{:?}",
            fields(reply)
        );
    });
}

#[test]
fn descriptors_that_come_unasked_are_closed_and_do_no_harm() {
    both(|client, scene| {
        let notify = |name: &str| {
            Message::reply(NOTIFY, 1)
                .bytes(5, Message::new().bytes(1, name))
                .build()
        };
        let fake = FakeCriu::new(&[
            Step::Receive,
            Step::SendWithFds(notify("pre-dump"), 1),
            Step::Receive,
            // More than fit: the kernel closes what does not.
            Step::SendWithFds(notify("post-dump"), 30),
            Step::Receive,
            // A terminal that is announced and does not come.
            Step::Send(notify("orphan-pts-master")),
            Step::Receive,
            Step::SendWithFds(Message::reply(DUMP, 1).build(), 2),
        ]);
        scene.make(client, &fake, Request::Dump, AMPLE).unwrap();
        assert_eq!(fake.requests().len(), 4);
    });
}

#[test]
fn an_answer_counts_although_criu_does_not_exit_after_it() {
    both(|client, scene| {
        let answer = Step::Send(Message::reply(DUMP, 1).build());
        let fake = FakeCriu::new(&[Step::Receive, answer, Step::Hang]);
        let start = Instant::now();
        scene.make(client, &fake, Request::Dump, SHORT).unwrap();
        assert!(start.elapsed() < SHORT + SLACK);
        no_worker_is_left(&fake);
    });
}

#[test]
fn an_answer_counts_although_criu_exits_badly_after_it() {
    both(|client, scene| {
        let answer = Step::Send(Message::reply(DUMP, 1).build());
        let fake = FakeCriu::new(&[Step::Receive, answer, Step::Die(11)]);
        scene.make(client, &fake, Request::Dump, AMPLE).unwrap();
    });
}

/// Before 3.0 the version could not be asked for; such a CRIU refuses the question without a type.
#[test]
fn criu_too_old_to_tell_its_version_is_told_as_too_old() {
    both(|client, scene| {
        let refusal = Step::Send(Message::reply(EMPTY, 0).build());
        let fake = FakeCriu::new(&[Step::Receive, refusal, Step::Exit(1)]);
        let error = scene
            .make(client, &fake, Request::Version, AMPLE)
            .unwrap_err();
        let Error::TooOld {
            needed,
            found: None,
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(**needed, criu::OLDEST_SUPPORTED);
        assert!(error.to_string().contains("upgrade"), "{error}");
    });
}

#[test]
fn an_older_criu_is_not_sent_what_it_would_ignore() {
    both(|client, scene| {
        let version = Message::new().varint(1, 3).varint(2, 16);
        let answer = Message::reply(VERSION, 1).bytes(10, version).build();
        let fake = FakeCriu::new(&[Step::Receive, Step::Send(answer), Step::Receive]);
        let error = scene
            .make(client, &fake, Request::SinglePreDump, AMPLE)
            .unwrap_err();
        let Error::TooOld {
            found: Some(found), ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(**found, Version::new(3, 16, 0));
        assert_eq!(fake.requests().len(), 1);
    });
}

/// A service whose queue is full would have `connect` wait for ever.
#[test]
fn a_service_that_accepts_nobody_is_given_up_at_the_deadline() {
    let place = TempDir::new();
    let path = place.join("socket");
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = || socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let address = SocketAddrUnix::new(&path).unwrap();
    let service = socket();
    bind(&service, &address).unwrap();
    listen(&service, 0).unwrap();
    let mut clients = Vec::new();
    loop {
        let client = socket();
        if connect(&client, &address).is_err() {
            break;
        }
        clients.push(client);
    }
    let start = Instant::now();
    let error = Criu::with_service(&path)
        .with_timeout(SHORT)
        .version()
        .unwrap_err();
    assert!(start.elapsed() < SHORT + SLACK);
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    let start = Instant::now();
    let error = in_runtime(async {
        let criu = asynchronous::Criu::with_service(&path).with_timeout(SHORT);
        criu.check(&Check::default()).await.unwrap_err()
    });
    assert!(start.elapsed() < SHORT + SLACK);
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    // One that has room, but never answers.
    clients.clear();
    let error = Criu::with_service(&path)
        .with_timeout(SHORT)
        .version()
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::TimedOut { .. } | Error::Lost(_) | Error::Connect { .. }
        ),
        "{error:?}"
    );
}

#[test]
fn a_process_that_ends_meanwhile_is_told_to_be_gone() {
    let mut scene = Scene::new();
    let fake = FakeCriu::new(&[
        Step::Receive,
        Step::Sleep(Duration::from_millis(300)),
        Step::Send(Message::reply(DUMP, 0).build()),
        Step::Exit(1),
    ]);
    let criu = Criu::with_binary(fake.path()).unwrap();
    let dump = scene.dump();
    let request = std::thread::spawn(move || criu.dump(&dump).unwrap_err());
    while fake.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(2));
    }
    scene.target.kill().unwrap();
    scene.target.wait().unwrap();
    let error = request.join().unwrap();
    assert_eq!(
        error.failure().unwrap().target,
        Some((scene.pid(), TargetState::Gone))
    );
    assert!(error.to_string().contains("is gone"), "{error}");
}

#[test]
fn a_hook_that_fails_is_named_beside_what_criu_made_of_it() {
    struct Refuse;
    impl criu::Hooks for Refuse {
        fn on(&mut self, _: Event<'_>) -> criu::HookResult {
            Err("the disk is full".into())
        }
    }
    impl asynchronous::Hooks for Refuse {
        async fn on(&mut self, _: Event<'_>) -> criu::HookResult {
            Err("the disk is full".into())
        }
    }
    let scene = Scene::new();
    for client in [Client::Blocking, Client::Asynchronous] {
        let notify = Message::reply(NOTIFY, 1).bytes(5, Message::new().bytes(1, "pre-dump"));
        let reply = Message::reply(DUMP, 0).bytes(9, "Error (criu/x.c:1): script failed");
        let fake = FakeCriu::new(&[
            Step::Receive,
            Step::Send(notify.build()),
            Step::Receive,
            Step::Send(reply.build()),
            Step::Exit(1),
        ]);
        let criu = Criu::with_binary(fake.path()).unwrap();
        let error = match client {
            Client::Blocking => criu.dump_with(&scene.dump(), &mut Refuse).unwrap_err(),
            Client::Asynchronous => in_runtime(async {
                asynchronous::Criu::from(criu)
                    .dump_with(&scene.dump(), &mut Refuse)
                    .await
                    .unwrap_err()
            }),
        };
        let Error::Hook {
            hook,
            source,
            failure: Some(failure),
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(
            (hook.as_str(), source.to_string().as_str()),
            ("pre-dump", "the disk is full")
        );
        assert!(failure.message.as_ref().unwrap().contains("script failed"));
        assert!(error.to_string().contains("script failed"), "{error}");
        let said: Vec<String> =
            std::iter::successors(std::error::Error::source(&error), |error| error.source())
                .map(ToString::to_string)
                .collect();
        assert_eq!(said, ["the disk is full"], "the cause stands in the chain");
        assert!(
            !error.to_string().contains("disk"),
            "and only there: {error}"
        );
        assert!(fields(&fake.requests()[1]).contains(&Field::Varint(3, 0)));
    }
}
