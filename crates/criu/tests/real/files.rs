//! Files without names, locks, links.

use criu_testkit::Scene;

use crate::rig::{each, terminals};

#[test]
fn unlinked_files_keep_their_content() {
    each(|rig| {
        let process = Scene::new()
            .unlinked_file()
            .part("unlinked-holes")
            .part("unlinked-dir")
            .start();
        let dump = rig.dump_of(&process);
        rig.survives(process, &dump, &rig.restore());
    });
}

#[test]
fn file_locks_are_held_again() {
    each(|rig| {
        let process = Scene::new().file_locks().start();
        let mut dump = rig.dump_of(&process);
        dump.file_locks = true;
        let mut restore = rig.restore();
        restore.file_locks = true;
        rig.survives(process, &dump, &restore);
    });
}

#[test]
fn a_file_that_lost_one_of_its_names_is_given_another() {
    each(|rig| {
        let process = Scene::new().removed_hard_link().start();
        let mut dump = rig.dump_of(&process);
        dump.link_remap = true;
        let mut restore = rig.restore();
        restore.link_remap = true;
        rig.survives(process, &dump, &restore);
    });
}

#[test]
fn a_raised_ghost_limit_lets_a_large_unlinked_file_through() {
    each(|rig| {
        let process = Scene::new().part("unlinked=2048").start();
        let mut dump = rig.dump_of(&process);
        let error = rig.criu.dump(&dump).unwrap_err();
        assert!(matches!(error, criu::Error::Refused(_)), "{error:?}");
        assert!(process.is_running());
        dump.ghost_limit_bytes = Some(4 << 20);
        rig.survives(process, &dump, &rig.restore());
    });
}

#[test]
fn pipes_sockets_and_event_files_keep_what_is_in_them() {
    let _numbers = terminals();
    each(|rig| {
        let process = Scene::new()
            .pipe()
            .fifo()
            .unix_sockets()
            .udp()
            .pty()
            .event_files()
            .start();
        let dump = rig.dump_of(&process);
        rig.survives(process, &dump, &rig.restore());
    });
}
