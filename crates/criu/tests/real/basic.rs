//! Processes dumped and restored: what is left of them, and where the images and the log lie.

use std::fs::File;
use std::time::{Duration, Instant};

use criu::request::{Directory, LogTo};
use criu::{Dump, FinalState, PreDump, Restore};
use criu_testkit::{CriuUnderTest, Scene, TempDir, skip};

use crate::rig::{Rig, each, pid_of};

/// The scenario `basic` of rust-criu's suite, and `dump`/`restore` of go-criu's.
#[test]
fn a_plain_process_goes_on_where_it_stopped() {
    each(|rig| {
        let process = Scene::new().memory_kib(512).start();
        let dump = rig.dump_of(&process);
        rig.survives(process, &dump, &rig.restore());
    });
}

#[test]
fn a_tree_with_threads_and_a_zombie_goes_on() {
    each(|rig| {
        let process = Scene::new().threads(3).children(2).zombie().start();
        let dump = rig.dump_of(&process);
        rig.survives(process, &dump, &rig.restore());
    });
}

#[test]
fn a_process_left_running_counts_on_without_a_restore() {
    each(|rig| {
        let process = Scene::new().start();
        let mut dump = rig.dump_of(&process);
        dump.then = FinalState::Running;
        rig.criu.dump(&dump).unwrap();
        assert!(process.is_running());
        process.wait_for_count_above(process.count());
        assert_eq!(process.verify(), Ok(()));
    });
}

#[test]
fn a_process_left_stopped_stands_still_until_it_is_resumed() {
    each(|rig| {
        let process = Scene::new().start();
        let mut dump = rig.dump_of(&process);
        dump.then = FinalState::Stopped;
        rig.criu.dump(&dump).unwrap();
        // Let go by CRIU, it stops itself as soon as it is scheduled.
        let stat = format!("/proc/{}/stat", process.pid());
        let deadline = Instant::now() + Duration::from_secs(10);
        while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
        let count = process.count();
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(process.count(), count);
        let pid = rustix::process::Pid::from_raw(pid_of(&process)).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn the_outcomes_tell_what_criu_counted() {
    each(|rig| {
        let mut process = Scene::new().memory_kib(1024).start();
        let dumped = rig.dump(&rig.dump_of(&process), &mut process);
        assert!(!dumped.restored);
        let statistics = dumped.statistics.expect("stats-dump");
        // 1 MiB of pattern is 256 pages of 4 KiB; the program itself needs some more.
        assert!(statistics.pages_written > 256, "{statistics:?}");
        assert!(
            !statistics.frozen.is_zero() && !statistics.freezing.is_zero(),
            "{statistics:?}"
        );
        let restored = rig.bring_back(&mut process, &rig.restore());
        assert!(restored.child.is_none() && restored.command.is_none());
        let statistics = restored.statistics.expect("stats-restore");
        assert!(statistics.pages_restored > Some(256), "{statistics:?}");
        assert!(!statistics.restore.is_zero(), "{statistics:?}");
    });
}

#[test]
fn the_work_directory_gets_log_and_statistics_and_the_images_directory_does_not() {
    each(|rig| {
        let mut process = Scene::new().start();
        let work = TempDir::new();
        let mut dump = rig.dump_of(&process);
        dump.settings.work_dir = Some(work.path().into());
        dump.settings.log_to = LogTo::File("dump.log".into());
        let outcome = rig.dump(&dump, &mut process);
        assert!(outcome.statistics.is_some());
        for name in ["dump.log", "stats-dump"] {
            assert!(
                work.join(name).exists() && !rig.images.join(name).exists(),
                "{name}"
            );
        }
        assert!(rig.images.join("inventory.img").exists());

        let mut restore = rig.restore();
        restore.settings.work_dir = Some(work.path().into());
        restore.settings.log_to = LogTo::File("restore.log".into());
        assert!(rig.bring_back(&mut process, &restore).statistics.is_some());
        assert!(work.join("restore.log").exists());
    });
}

#[test]
fn an_open_images_directory_serves_as_well_as_its_path() {
    each(|rig| {
        let mut process = Scene::new().start();
        let open = || Directory::from(File::open(rig.images.path()).unwrap());
        rig.dump(&Dump::new(pid_of(&process), open()), &mut process);
        rig.bring_back(&mut process, &Restore::new(open()));
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn a_directory_resolved_by_criu_itself_serves_too() {
    each(|rig| {
        let mut process = Scene::new().start();
        let at_criu = || Directory::AtCriu(rig.images.path().to_owned());
        rig.dump(&Dump::new(pid_of(&process), at_criu()), &mut process);
        rig.bring_back(&mut process, &Restore::new(at_criu()));
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn a_log_on_standard_error_leaves_no_file_and_still_explains_a_failure() {
    each(|rig| {
        let mut process = Scene::new().start();
        let mut dump = rig.dump_of(&process);
        dump.settings.log_to = LogTo::Stderr;
        rig.dump(&dump, &mut process);
        assert!(!rig.images.join("criu.log").exists());

        // The root's id is free again; what is missing now is an image.
        std::fs::remove_file(rig.images.join("pstree.img")).unwrap();
        let mut restore = rig.restore();
        restore.settings.log_to = LogTo::Stderr;
        let error = rig.criu.restore(&restore).unwrap_err();
        let report = error.failure().unwrap().log.as_ref().expect("a log");
        assert_eq!(report.path, None);
        let errors: Vec<&str> = report
            .log
            .entries()
            .iter()
            .map(|entry| entry.text())
            .collect();
        assert!(
            errors.iter().any(|text| text.contains("pstree.img")),
            "{errors:?}"
        );
    });
}

#[test]
fn two_threads_dump_and_restore_two_processes_at_once() {
    let Some(under_test) = CriuUnderTest::newest() else {
        return;
    };
    let shared = Rig::new(under_test.clone()).criu;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut rig = Rig::new(under_test.clone());
                rig.criu = shared.clone();
                let process = Scene::new().threads(1).start();
                let dump = rig.dump_of(&process);
                rig.survives(process, &dump, &rig.restore());
            });
        }
    });
}

/// The scenario `predump` of go-criu's suite.
#[test]
fn a_series_of_pre_dumps_ends_with_a_dump_that_has_less_to_copy() {
    each(|rig| {
        let mut process = Scene::new().memory_kib(4096).start();
        let features = rig.criu.features().unwrap();
        if !features.contains(criu::Feature::MemoryTracking) {
            skip!(Unavoidable, "{}", criu::Feature::MemoryTracking.remedy());
        }
        let (first, second) = (rig.images.make_dir("1"), rig.images.make_dir("2"));
        let last = rig.images.make_dir("3");
        let mut session = rig.criu.session().unwrap();
        let before = session
            .pre_dump(&PreDump::new(pid_of(&process), &first))
            .unwrap();
        let mut pre_dump = PreDump::new(pid_of(&process), &second);
        pre_dump.parent = Some("../1".into());
        session.pre_dump(&pre_dump).unwrap();
        let mut dump = Dump::new(pid_of(&process), &last);
        dump.parent = Some("../2".into());
        dump.track_memory = true;
        let after = session.dump(&dump).unwrap();
        process.reap();
        let pages = (
            before.statistics.unwrap().pages_written,
            after.statistics.unwrap().pages_written,
        );
        assert!(pages.1 < pages.0, "{pages:?}");
        rig.bring_back(&mut process, &Restore::new(&last));
        assert_eq!(process.verify(), Ok(()));
    });
}

/// The scenario `predump` of go-criu's suite, on connections of their own.
#[test]
fn a_single_pre_dump_leaves_the_process_running() {
    each(|rig| {
        let process = Scene::new().memory_kib(1024).start();
        if !rig
            .criu
            .features()
            .unwrap()
            .contains(criu::Feature::MemoryTracking)
        {
            skip!(Unavoidable, "{}", criu::Feature::MemoryTracking.remedy());
        }
        let outcome = rig
            .criu
            .pre_dump(&PreDump::new(pid_of(&process), rig.images.path()))
            .unwrap();
        assert!(outcome.statistics.unwrap().pages_written > 256);
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn a_pre_dump_without_memory_tracking_is_refused_and_the_process_runs_on() {
    each(|rig| {
        if rig
            .criu
            .features()
            .unwrap()
            .contains(criu::Feature::MemoryTracking)
        {
            return;
        }
        let process = Scene::new().start();
        let pre_dump = PreDump::new(pid_of(&process), rig.images.path());
        for error in [
            rig.criu.pre_dump(&pre_dump).unwrap_err(),
            rig.criu.session().unwrap().pre_dump(&pre_dump).unwrap_err(),
        ] {
            assert!(matches!(error, criu::Error::Refused(_)), "{error:?}");
            let failure = error.failure().unwrap();
            assert_eq!(
                failure.target,
                Some((pid_of(&process), criu::TargetState::Running))
            );
        }
        process.wait_for_count_above(process.count());
    });
}
