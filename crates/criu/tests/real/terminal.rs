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
