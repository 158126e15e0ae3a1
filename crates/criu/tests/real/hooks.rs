//! Notifications: which come, in which order, and what refusing each of them does.

use criu::request::Pages;
use criu::{Dump, Error, Event, External, FinalState, Hook, HookResult, Hooks, TargetState};
use criu_testkit::{Namespace, Scene, TestProcess};

use crate::rig::{Rig, each, pid_of};

/// Keeps the names of the events, and refuses the one it is told to.
#[derive(Default)]
struct Recorder {
    seen: Vec<Hook>,
    refused: Option<Hook>,
    pids: Vec<i32>,
}

impl Recorder {
    fn refusing(hook: Hook) -> Self {
        Self {
            refused: Some(hook),
            ..Self::default()
        }
    }
}

impl Hooks for Recorder {
    fn on(&mut self, event: Event<'_>) -> HookResult {
        let hook = match event {
            Event::PreStream => Hook::PreStream,
            Event::PreDump => Hook::PreDump,
            Event::PostDump => Hook::PostDump,
            Event::PreRestore => Hook::PreRestore,
            Event::PostRestore { pid } => {
                self.pids.push(pid);
                Hook::PostRestore
            }
            Event::NetworkLock => Hook::NetworkLock,
            Event::NetworkUnlock => Hook::NetworkUnlock,
            Event::SetupNamespaces { pid } => {
                self.pids.push(pid);
                Hook::SetupNamespaces
            }
            Event::PostSetupNamespaces => Hook::PostSetupNamespaces,
            Event::PreResume => Hook::PreResume,
            Event::PostResume => Hook::PostResume,
            Event::OrphanPtsMaster(_) => Hook::OrphanPtsMaster,
            Event::StatusReady => Hook::StatusReady,
            Event::QueryExtFiles(_) => Hook::QueryExtFiles,
            other => panic!("{other:?}"),
        };
        self.seen.push(hook);
        if self.refused == Some(hook) {
            Err(format!("{hook} is not wanted").into())
        } else {
            Ok(())
        }
    }
}

fn with_namespaces() -> TestProcess {
    Scene::new().namespaces(&Namespace::ALL).start()
}

fn restore_of(rig: &Rig, process: &TestProcess) -> criu::Restore {
    let mut restore = rig.restore();
    restore.root = process.root().map(ToOwned::to_owned);
    restore
}

/// The scenario `action_script` of rust-criu's suite, for a tree without namespaces.
#[test]
fn a_plain_tree_has_the_short_sequences() {
    each(|rig| {
        let mut process = Scene::new().start();
        let mut recorder = Recorder::default();
        rig.criu
            .dump_with(&rig.dump_of(&process), &mut recorder)
            .unwrap();
        assert_eq!(
            recorder.seen,
            [Hook::PreDump, Hook::QueryExtFiles, Hook::PostDump]
        );
        process.reap();

        let mut recorder = Recorder::default();
        let outcome = rig
            .criu
            .restore_with(&rig.restore(), &mut recorder)
            .unwrap();
        process.restored_as(u32::try_from(outcome.pid).unwrap());
        assert_eq!(
            recorder.seen,
            [
                Hook::PreRestore,
                Hook::PostRestore,
                Hook::PreResume,
                Hook::PostResume
            ]
        );
        assert_eq!(recorder.pids, [outcome.pid]);
    });
}

/// The scenario `action_script` of rust-criu's suite, for a tree with namespaces.
#[test]
fn a_tree_with_namespaces_has_the_full_sequences() {
    each(|rig| {
        let mut process = with_namespaces();
        let mut recorder = Recorder::default();
        rig.criu
            .dump_with(&rig.dump_of(&process), &mut recorder)
            .unwrap();
        assert_eq!(
            recorder.seen,
            [
                Hook::PreDump,
                Hook::NetworkLock,
                Hook::QueryExtFiles,
                Hook::PostDump
            ]
        );
        process.reap();

        let mut recorder = Recorder::default();
        let restore = restore_of(rig, &process);
        let outcome = rig.criu.restore_with(&restore, &mut recorder).unwrap();
        process.restored_as(u32::try_from(outcome.pid).unwrap());
        assert_eq!(
            recorder.seen,
            [
                Hook::PreRestore,
                Hook::SetupNamespaces,
                Hook::PostSetupNamespaces,
                Hook::PostRestore,
                Hook::NetworkUnlock,
                Hook::PreResume,
                Hook::PostResume,
            ]
        );
        assert_eq!(recorder.pids, [outcome.pid, outcome.pid]);
    });
}

#[test]
fn a_tree_left_running_has_its_network_unlocked() {
    each(|rig| {
        let process = with_namespaces();
        let mut dump = rig.dump_of(&process);
        dump.then = FinalState::Running;
        let mut recorder = Recorder::default();
        rig.criu.dump_with(&dump, &mut recorder).unwrap();
        assert_eq!(
            recorder.seen,
            [
                Hook::PreDump,
                Hook::NetworkLock,
                Hook::QueryExtFiles,
                Hook::PostDump,
                Hook::NetworkUnlock,
            ]
        );
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn a_refused_hook_of_a_dump_fails_it_and_the_tree_runs_on() {
    each(|rig| {
        for hook in [
            Hook::PreDump,
            Hook::NetworkLock,
            Hook::QueryExtFiles,
            Hook::PostDump,
        ] {
            let process = with_namespaces();
            let mut recorder = Recorder::refusing(hook);
            let error = rig
                .criu
                .dump_with(&rig.dump_of(&process), &mut recorder)
                .unwrap_err();
            let Error::Hook {
                hook: named,
                source,
                failure: Some(failure),
                ..
            } = &error
            else {
                panic!("{hook}: {error:?}")
            };
            assert_eq!(named, hook.name());
            assert_eq!(source.to_string(), format!("{hook} is not wanted"));
            assert_eq!(
                failure.target,
                Some((pid_of(&process), TargetState::Running)),
                "{hook}"
            );
            assert!(failure.last_hook.is_some());
            process.wait_for_count_above(process.count());
            assert!(recorder.seen.starts_with(&[Hook::PreDump]));
        }
    });
}

#[test]
fn a_refused_hook_of_a_restore_fails_it_and_leaves_no_process() {
    each(|rig| {
        for hook in [
            Hook::PreRestore,
            Hook::SetupNamespaces,
            Hook::PostSetupNamespaces,
            Hook::PostRestore,
        ] {
            let mut process = with_namespaces();
            rig.dump(&rig.dump_of(&process), &mut process);
            let count = process.count();
            let mut recorder = Recorder::refusing(hook);
            let restore = restore_of(rig, &process);
            let error = rig.criu.restore_with(&restore, &mut recorder).unwrap_err();
            let Error::Hook {
                hook: named,
                failure: Some(_),
                restored: None,
                ..
            } = &error
            else {
                panic!("{hook}: {error:?}")
            };
            assert_eq!(named, hook.name());
            for pid in recorder.pids {
                assert!(is_gone(pid), "{hook}: process {pid} is left");
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert_eq!(process.count(), count, "{hook}");
        }
    });
}

#[test]
fn a_refusal_that_criu_only_logs_is_reported_beside_the_restored_process() {
    each(|rig| {
        for hook in [Hook::PreResume, Hook::PostResume] {
            let mut process = Scene::new().start();
            rig.dump(&rig.dump_of(&process), &mut process);
            let mut recorder = Recorder::refusing(hook);
            let error = rig
                .criu
                .restore_with(&rig.restore(), &mut recorder)
                .unwrap_err();
            let Error::Hook {
                hook: named,
                failure: None,
                restored: Some(pid),
                ..
            } = &error
            else {
                panic!("{hook}: {error:?}")
            };
            assert_eq!(named, hook.name());
            process.restored_as(u32::try_from(*pid).unwrap());
            process.wait_for_count_above(process.count());
        }
    });
}

#[test]
fn a_refused_unlock_of_the_network_does_not_undo_a_dump() {
    each(|rig| {
        let process = with_namespaces();
        let mut dump = rig.dump_of(&process);
        dump.then = FinalState::Running;
        let mut recorder = Recorder::refusing(Hook::NetworkUnlock);
        let error = rig.criu.dump_with(&dump, &mut recorder).unwrap_err();
        assert!(
            matches!(&error, Error::Hook { hook, failure: None, .. } if hook == "network-unlock"),
            "{error:?}"
        );
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn a_refused_unlock_of_the_network_does_not_undo_a_restore() {
    each(|rig| {
        let mut process = with_namespaces();
        rig.dump(&rig.dump_of(&process), &mut process);
        let mut recorder = Recorder::refusing(Hook::NetworkUnlock);
        let restore = restore_of(rig, &process);
        let error = rig.criu.restore_with(&restore, &mut recorder).unwrap_err();
        let Error::Hook {
            hook,
            failure: None,
            restored: Some(pid),
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(hook, "network-unlock");
        process.restored_as(u32::try_from(*pid).unwrap());
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn a_panicking_hook_lets_criu_clean_up_and_goes_on_panicking() {
    each(|rig| {
        let process = with_namespaces();
        let dump = rig.dump_of(&process);
        for hook in ["pre-dump", "network-lock", "post-dump"] {
            let mut hooks = |event: Event<'_>| {
                let name = match event {
                    Event::PreDump => "pre-dump",
                    Event::NetworkLock => "network-lock",
                    Event::PostDump => "post-dump",
                    _ => "other",
                };
                assert!(name != hook, "a bug in {hook}");
                Ok(())
            };
            let run = std::panic::AssertUnwindSafe(|| rig.criu.dump_with(&dump, &mut hooks));
            let panic = std::panic::catch_unwind(run).unwrap_err();
            let message = panic.downcast_ref::<String>().unwrap();
            assert!(message.contains(&format!("a bug in {hook}")), "{message}");
            process.wait_for_count_above(process.count());
        }
    });
}

/// `query-ext-files` names the one socket that would make the dump fail.
#[test]
fn files_named_when_asked_are_external() {
    each(|rig| {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let inode = rustix::fs::fstat(&theirs).unwrap().st_ino;
        let inode = u32::try_from(inode).unwrap();
        let mut process = Scene::new()
            .stdin(std::os::fd::OwnedFd::from(theirs))
            .start();
        let dump = rig.dump_of(&process);
        assert!(matches!(rig.criu.dump(&dump), Err(Error::Refused(_))));
        assert!(process.is_running());
        let mut hooks = |event: Event<'_>| {
            if let Event::QueryExtFiles(external) = event {
                external.push(External::UnixSocket { inode });
            }
            Ok(())
        };
        rig.criu.dump_with(&dump, &mut hooks).unwrap();
        process.reap();
        drop(ours);
    });
}

#[test]
fn a_lazy_dump_tells_when_its_server_listens() {
    each(|rig| {
        let process = Scene::new().memory_kib(256).start();
        let mut dump = Dump::new(pid_of(&process), rig.images.path());
        dump.pages = Pages::Lazy { port: 0 };
        // Nobody will fetch the pages: refusing ends the dump where it would wait.
        let mut recorder = Recorder::refusing(Hook::StatusReady);
        let error = rig.criu.dump_with(&dump, &mut recorder).unwrap_err();
        assert_eq!(recorder.seen.last(), Some(&Hook::StatusReady), "{error}");
    });
}

fn is_gone(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.contains(") Z ") || stat.contains(") X "))
}
