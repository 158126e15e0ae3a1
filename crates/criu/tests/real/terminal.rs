//! Terminals whose master end is outside the tree.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use criu::{Error, Event, Hook, HookResult, Hooks, NoHooks, Restore};
use criu_testkit::{Scene, TestProcess};

use crate::rig::{Rig, each, terminals};

/// The scenario `orphan_pts` of rust-criu's suite.
#[test]
fn the_new_master_of_an_orphan_terminal_is_given_to_the_caller() {
    let _numbers = terminals();
    each(|rig| {
        let mut process = dumped_on_terminal(rig);
        let mut masters = Vec::new();
        let mut hooks = |event: Event<'_>| {
            if let Event::OrphanPtsMaster(master) = event {
                masters.push(master);
            }
            Ok(())
        };
        let outcome = rig
            .criu
            .restore_with(&on_orphan_terminal(rig), &mut hooks)
            .unwrap();
        process.restored_as(u32::try_from(outcome.pid).unwrap());
        assert_eq!(masters.len(), 1);
        echoes(File::from(masters.remove(0)));
    });
}

#[test]
fn the_method_of_a_hooks_value_gets_the_master_too() {
    #[derive(Default)]
    struct Keep(Option<OwnedFd>);
    impl Hooks for Keep {
        fn orphan_pts_master(&mut self, master: OwnedFd) -> HookResult {
            self.0 = Some(master);
            Ok(())
        }
    }
    let _numbers = terminals();
    each(|rig| {
        let mut process = dumped_on_terminal(rig);
        let mut keep = Keep::default();
        let outcome = rig
            .criu
            .restore_with(&on_orphan_terminal(rig), &mut keep)
            .unwrap();
        process.restored_as(u32::try_from(outcome.pid).unwrap());
        echoes(File::from(keep.0.unwrap()));
    });
}

#[test]
fn a_terminal_whose_master_nobody_keeps_is_gone_before_the_process_is_back() {
    let _numbers = terminals();
    each(|rig| {
        let process = dumped_on_terminal(rig);
        let restore = on_orphan_terminal(rig);
        let error = rig.criu.restore_with(&restore, &mut NoHooks).unwrap_err();
        let Error::Refused(failure) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(failure.last_hook, Some(Hook::OrphanPtsMaster));
        drop(process);
    });
}

#[test]
fn a_master_that_is_refused_fails_the_restore() {
    let _numbers = terminals();
    each(|rig| {
        let process = dumped_on_terminal(rig);
        let mut hooks = |event: Event<'_>| match event {
            Event::OrphanPtsMaster(_) => Err("no room for another terminal".into()),
            _ => Ok(()),
        };
        let error = rig
            .criu
            .restore_with(&on_orphan_terminal(rig), &mut hooks)
            .unwrap_err();
        let Error::Hook {
            hook,
            failure: Some(_),
            ..
        } = &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(hook, "orphan-pts-master");
        drop(process);
    });
}

/// A shell's job comes back to the terminal of whoever restores it: this very program, started again
/// in that role.
#[test]
fn a_shell_job_takes_over_the_terminal_of_the_caller() {
    const ROLE: &str = "CRIU_TEST_SHELL_JOB";
    if let Some(images) = std::env::var_os(ROLE) {
        let images = std::path::Path::new(&images);
        let mut restore = Restore::new(images);
        restore.shell_job = true;
        let outcome = criu::Criu::find().unwrap().restore(&restore);
        let said =
            outcome.map_or_else(|error| error.to_string(), |outcome| outcome.pid.to_string());
        std::fs::write(images.join("draft"), said).unwrap();
        std::fs::rename(images.join("draft"), images.join("restored")).unwrap();
        // The terminal hangs up with its session's leader, which is this process.
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    }
    let _numbers = terminals();
    each(|rig| {
        let (mut process, outer) = TestProcess::on_terminal(Scene::new().echo());
        let mut dump = rig.dump_of(&process);
        dump.shell_job = true;
        rig.dump(&dump, &mut process);
        drop(outer);

        let (master, slave) = crate::descriptors::terminal();
        let copy = || slave.try_clone().unwrap();
        let mut shell = std::process::Command::new("setsid")
            .arg("--ctty")
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "terminal::a_shell_job_takes_over_the_terminal_of_the_caller",
            ])
            .args(["--nocapture"])
            .env(ROLE, rig.images.path())
            .env("CRIU", rig.under_test.path())
            .stdin(copy())
            .stdout(copy())
            .stderr(copy())
            .spawn()
            .unwrap();
        let answer = rig.images.join("restored");
        while !answer.exists() {
            assert!(
                shell.try_wait().unwrap().is_none(),
                "the shell's part has ended"
            );
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let pid = std::fs::read_to_string(answer).unwrap();
        process.restored_as(pid.parse().unwrap_or_else(|_| panic!("{pid}")));
        echoes(File::from(master));
        shell.kill().unwrap();
        shell.wait().unwrap();
    });
}

fn dumped_on_terminal(rig: &Rig) -> TestProcess {
    let (mut process, master) = TestProcess::on_terminal(Scene::new().echo());
    let mut dump = rig.dump_of(&process);
    dump.shell_job = true;
    rig.dump(&dump, &mut process);
    drop(master);
    process
}

fn on_orphan_terminal(rig: &Rig) -> Restore {
    let mut restore = rig.restore();
    restore.orphan_pts_master = true;
    restore
}

fn echoes(mut master: File) {
    master.write_all(b"are you there\n").unwrap();
    let mut heard = Vec::new();
    let mut buffer = [0; 256];
    // Once from the terminal's own echo, once from the process.
    while heard
        .windows(13)
        .filter(|text| text == b"are you there")
        .count()
        < 2
    {
        let len = master.read(&mut buffer).unwrap();
        heard.extend_from_slice(&buffer[..len]);
    }
}
