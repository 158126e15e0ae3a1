//! The same as futures.

use std::time::Duration;

use criu::asynchronous::{self, Blocking, Criu, Hooks};
use criu::request::Pages;
use criu::{
    Check, CpuInfo, Dump, Error, Event, Hook, HookResult, PageServer, PreDump, Restore, TargetState,
};
use criu_testkit::{CriuUnderTest, Namespace, Scene, Subreaper, TempDir, TestProcess};

use crate::rig::{Rig, each, pid_of};

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

fn client(rig: &Rig) -> Criu {
    rig.criu.clone().into()
}

/// Hooks that wait before they answer, as those that write to a network would.
#[derive(Default)]
struct Patient {
    names: Vec<String>,
    refused: Option<Hook>,
}

impl Hooks for Patient {
    async fn on(&mut self, event: Event<'_>) -> HookResult {
        let name = format!("{event:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let refused = matches!(
            (&event, self.refused),
            (Event::PostDump, Some(Hook::PostDump))
        );
        self.names.push(name);
        if refused { Err("no".into()) } else { Ok(()) }
    }
}

#[test]
fn a_process_is_dumped_and_restored_with_waiting_hooks() {
    each(|rig| {
        let mut process = Scene::new().namespaces(&[Namespace::Net]).start();
        let count = process.count();
        run(async {
            let criu = client(rig);
            let mut hooks = Patient::default();
            let dumped = criu
                .dump_with(&rig.dump_of(&process), &mut hooks)
                .await
                .unwrap();
            assert!(dumped.statistics.is_some());
            assert_eq!(hooks.names.len(), 4, "{:?}", hooks.names);
            process.reap();
            let mut hooks = Patient::default();
            let restored = criu.restore_with(&rig.restore(), &mut hooks).await.unwrap();
            assert!(restored.statistics.is_some());
            assert_eq!(hooks.names.len(), 7, "{:?}", hooks.names);
            process.restored_as(u32::try_from(restored.pid).unwrap());
        });
        process.wait_for_count_above(count);
    });
}

#[test]
fn a_refused_hook_is_reported_and_the_tree_runs_on() {
    each(|rig| {
        let process = Scene::new().start();
        let mut hooks = Patient {
            refused: Some(Hook::PostDump),
            ..Patient::default()
        };
        let error = run(client(rig).dump_with(&rig.dump_of(&process), &mut hooks)).unwrap_err();
        let Error::Hook {
            hook,
            failure: Some(failure),
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(hook, "post-dump");
        assert_eq!(
            failure.target,
            Some((pid_of(&process), TargetState::Running))
        );
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn blocking_hooks_serve_and_a_panic_in_one_goes_on_after_the_cleaning_up() {
    each(|rig| {
        let process = Scene::new().start();
        let dump = rig.dump_of(&process);
        let mut hooks = Blocking(|event: Event<'_>| {
            assert!(!matches!(event, Event::PostDump), "a bug");
            Ok(())
        });
        let attempt =
            std::panic::AssertUnwindSafe(|| run(client(rig).dump_with(&dump, &mut hooks)));
        let panic = std::panic::catch_unwind(attempt).unwrap_err();
        assert!(
            panic
                .downcast_ref::<&str>()
                .is_some_and(|text| text.contains("a bug"))
        );
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn a_session_asks_and_then_dumps_or_restores() {
    each(|rig| {
        let mut process = Scene::new().start();
        run(async {
            let criu = client(rig);
            assert_eq!(criu.binary(), Some(rig.under_test.path()));
            let mut session = criu
                .session()
                .unwrap()
                .with_timeout(Duration::from_secs(60));
            let version = session.version().await.unwrap();
            criu.require(&version).await.unwrap();
            assert_eq!(
                session.features().await.unwrap(),
                criu.features().await.unwrap()
            );
            let work = rig.images.make_dir("cpu");
            session.cpuinfo_dump(&CpuInfo::new(&work)).await.unwrap();
            session.cpuinfo_check(&CpuInfo::new(&work)).await.unwrap();
            session.dump(&rig.dump_of(&process)).await.unwrap();
            process.reap();
            let restored = criu
                .session()
                .unwrap()
                .restore(&rig.restore())
                .await
                .unwrap();
            process.restored_as(u32::try_from(restored.pid).unwrap());
            criu.session()
                .unwrap()
                .check(&Check::default())
                .await
                .unwrap();
        });
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn a_page_server_child_is_waited_for() {
    each(|rig| {
        let (source, destination) = (
            rig.images.make_dir("source"),
            rig.images.make_dir("destination"),
        );
        let process = Scene::new().start();
        run(async {
            let criu = client(rig);
            let mut server = PageServer::new(&destination);
            server.address = Some("127.0.0.1".into());
            let mut session = criu.session().unwrap();
            let started = session.page_server_child(&server).await.unwrap();
            let mut dump = Dump::new(pid_of(&process), &source);
            dump.then = criu::FinalState::Running;
            dump.pages = Pages::Server {
                address: "127.0.0.1".into(),
                port: started.port,
            };
            let (status, dumped) = tokio::join!(session.wait_pid(started.pid), criu.dump(&dump));
            dumped.unwrap();
            assert!(status.unwrap().success());
        });
        let written = std::fs::read_dir(&destination).unwrap().flatten();
        let names: Vec<_> = written.map(|entry| entry.file_name()).collect();
        assert!(
            names
                .iter()
                .any(|name| name.to_string_lossy().starts_with("pages-")),
            "{names:?}"
        );
    });
}

#[test]
fn a_restored_child_is_waited_for() {
    each(|rig| {
        let mut process = Scene::new().start();
        rig.dump(&rig.dump_of(&process), &mut process);
        let status = run(async {
            let mut restore = rig.restore();
            restore.as_child = true;
            let outcome = client(rig).restore(&restore).await.unwrap();
            process.finish(7);
            asynchronous::wait(&outcome.child.unwrap()).await.unwrap()
        });
        assert_eq!(status.code(), Some(7));
    });
}

#[test]
fn one_task_dumps_many_processes_at_once() {
    let Some(under_test) = CriuUnderTest::newest() else {
        return;
    };
    let rig = Rig::new(under_test);
    let processes: Vec<TestProcess> = (0..4).map(|_| Scene::new().start()).collect();
    let places: Vec<TempDir> = processes.iter().map(|_| TempDir::new()).collect();
    run(async {
        let mut tasks = Vec::new();
        for (process, place) in processes.iter().zip(&places) {
            let criu = client(&rig);
            let mut dump = Dump::new(pid_of(process), place.path());
            dump.then = criu::FinalState::Running;
            tasks.push(tokio::spawn(async move { criu.dump(&dump).await }));
        }
        for task in tasks {
            task.await.unwrap().unwrap();
        }
    });
}

/// A future dropped in the middle of a dump leaves neither worker nor a stopped process, nor a locked
/// network.
#[test]
fn a_dropped_dump_leaves_the_process_running_and_its_network_open() {
    struct Reached(Option<tokio::sync::oneshot::Sender<()>>);
    impl Hooks for Reached {
        async fn on(&mut self, event: Event<'_>) -> HookResult {
            if let Event::PostDump = event {
                let _ = self.0.take().unwrap().send(());
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    }
    each(|rig| {
        let scene = Scene::new()
            .threads(2)
            .children(1)
            .namespaces(&[Namespace::Net])
            .tcp();
        let process = scene.start();
        let mut dump = rig.dump_of(&process);
        dump.sockets.tcp_established = true;
        run(async {
            let (sender, reached) = tokio::sync::oneshot::channel();
            let criu = client(rig);
            let mut hooks = Reached(Some(sender));
            tokio::select! {
                outcome = criu.dump_with(&dump, &mut hooks) => panic!("{outcome:?}"),
                _ = reached => {}
            }
        });
        process.wait_for_count_above(process.count());
        assert_eq!(process.verify(), Ok(()));
    });
}

/// A restore that is cut short leaves no half of a tree behind.
#[test]
fn a_dropped_or_overdue_restore_leaves_no_process() {
    struct Never;
    impl Hooks for Never {
        async fn on(&mut self, event: Event<'_>) -> HookResult {
            if let Event::PostRestore { .. } = event {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    }
    each(|rig| {
        let mut process = Scene::new().threads(1).children(2).start();
        let pid = process.pid();
        let below = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let tree = format!("{pid} {below}");
        rig.dump(&rig.dump_of(&process), &mut process);
        let short = Duration::from_millis(700);
        for dropped in [true, false] {
            run(async {
                let (criu, restore, mut never) = (client(rig), rig.restore(), Never);
                if dropped {
                    let future = criu.restore_with(&restore, &mut never);
                    tokio::time::timeout(short, future).await.unwrap_err();
                } else {
                    let criu = criu.with_timeout(short);
                    let error = criu.restore_with(&restore, &mut never).await.unwrap_err();
                    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
                }
            });
            // Their zombies come to the test; a process left would never end.
            for pid in tree.split_whitespace() {
                Subreaper::reap(pid.parse().unwrap());
            }
        }
        // And the images still are what they were.
        let count = process.count();
        rig.bring_back(&mut process, &rig.restore());
        process.wait_for_count_above(count);
    });
}

#[test]
fn futures_can_be_sent_to_other_threads() {
    fn send<T: Send>(_: T) {}
    let criu = Criu::from(criu::Criu::with_binary("/bin/true").unwrap());
    let (dump, restore) = (Dump::new(1, "/"), Restore::new("/"));
    let pre_dump = PreDump::new(1, "/");
    send(criu.version());
    send(criu.features());
    send(criu.dump(&dump));
    send(criu.pre_dump(&pre_dump));
    send(criu.restore(&restore));
    let mut hooks = Patient::default();
    send(criu.dump_with(&dump, &mut hooks));
    send(criu.restore_with(&restore, &mut hooks));
}
