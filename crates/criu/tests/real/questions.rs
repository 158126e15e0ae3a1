//! What CRIU can be asked: version, features, checks, processor features; and what it is too old for.

use criu::request::{Compression, Directory};
use criu::{Check, CpuInfo, Criu, Error, Feature, Session, Target, Version};
use criu_testkit::{CriuUnderTest, Scene};

use crate::rig::each;

/// The scenario `version` of rust-criu's suite.
#[test]
fn the_version_is_that_of_the_program() {
    each(|rig| {
        let version = rig.criu.version().unwrap();
        assert_eq!((version.major, version.minor), rig.under_test.series());
        let printed = rig.under_test.command().arg("--version").output().unwrap();
        let printed: Version = String::from_utf8_lossy(&printed.stdout).parse().unwrap();
        assert_eq!(version, printed);
        rig.criu.require(&Version::new(4, 2, 0)).unwrap();
        let error = rig.criu.require(&Version::new(99, 0, 0)).unwrap_err();
        assert!(
            matches!(&error, Error::TooOld { found, .. } if found.as_deref() == Some(&version)),
            "{error}"
        );
    });
}

/// The scenario `features` of go-criu's suite.
#[test]
fn the_features_are_what_criu_check_says_of_each() {
    each(|rig| {
        let features = rig.criu.features().unwrap();
        for (feature, word) in [
            (Feature::MemoryTracking, "mem_dirty_track"),
            (Feature::LazyPages, "uffd-noncoop"),
        ] {
            let status = rig
                .under_test
                .command()
                .args(["check", "--feature", word])
                .output()
                .unwrap()
                .status;
            assert_eq!(features.contains(feature), status.success(), "{feature}");
        }
        if rig.under_test.series() < (4, 3) {
            assert!(!features.contains(Feature::MemoryCompression));
        }
    });
}

#[test]
fn a_session_answers_several_questions() {
    each(|rig| {
        let mut session = rig.criu.session().unwrap();
        let version = session.version().unwrap();
        let features = session.features().unwrap();
        assert_eq!(features, session.features().unwrap());
        session
            .cpuinfo_dump(&CpuInfo::new(rig.images.path()))
            .unwrap();
        session
            .cpuinfo_check(&CpuInfo::new(rig.images.path()))
            .unwrap();
        assert_eq!(session.version().unwrap(), version);
        session.check(&Check::default()).unwrap();
    });
}

#[test]
fn questions_can_come_before_a_dump_and_a_restore_in_one_session() {
    each(|rig| {
        let mut process = Scene::new().start();
        let mut session = rig.criu.session().unwrap();
        session.features().unwrap();
        session.dump(&rig.dump_of(&process)).unwrap();
        process.reap();
        let mut session = rig.criu.session().unwrap();
        session.version().unwrap();
        let outcome = session.restore(&rig.restore()).unwrap();
        process.restored_as(u32::try_from(outcome.pid).unwrap());
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn this_machine_passes_the_check() {
    each(|rig| {
        rig.criu.check(&Check::default()).unwrap();
        let mut check = Check::default();
        check.log_dir = Some(Directory::from(rig.images.path()));
        rig.criu.check(&check).unwrap();
        let log = std::fs::read_to_string(rig.images.join("criu.log")).unwrap();
        assert!(log.contains("Running on"), "{log}");
    });
}

#[test]
fn processor_features_match_those_of_the_same_machine() {
    each(|rig| {
        let cpuinfo = CpuInfo::new(rig.images.path());
        let error = rig.criu.cpuinfo_check(&cpuinfo).unwrap_err();
        assert!(
            matches!(error, Error::Refused(_)),
            "nothing is recorded yet: {error:?}"
        );
        rig.criu.cpuinfo_dump(&cpuinfo).unwrap();
        assert!(rig.images.join("cpuinfo.img").exists());
        rig.criu.cpuinfo_check(&cpuinfo).unwrap();
    });
}

#[test]
fn an_option_that_criu_is_too_old_for_is_named() {
    each(|rig| {
        let process = Scene::new().start();
        let mut dump = rig.dump_of(&process);
        dump.compression = Some(Compression::default());
        let error = rig.criu.dump(&dump).unwrap_err();
        if rig.under_test.series() < (4, 3) {
            let Error::TooOld {
                feature, needed, ..
            } = &error
            else {
                panic!("{error:?}")
            };
            assert!(feature.contains("--compress"), "{feature}");
            assert_eq!(**needed, Version::new(4, 3, 0));
            assert!(
                !rig.images.join("criu.log").exists(),
                "CRIU was asked all the same"
            );
        } else {
            // Debian builds CRIU without LZ4, and CRIU says so itself.
            assert!(matches!(error, Error::Refused(_)), "{error:?}");
        }
        assert!(process.is_running());
    });
}

#[test]
fn a_process_id_that_is_none_is_misuse() {
    each(|rig| {
        for pid in [0, -1] {
            let dump = criu::Dump::new(Target::Process(pid), rig.images.path());
            assert!(matches!(rig.criu.dump(&dump), Err(Error::Misuse { .. })));
        }
    });
}

/// Runs this very test program as another user, who may ask but not dump.
#[test]
fn a_caller_without_rights_is_told_before_criu_is_asked() {
    const ROLE: &str = "CRIU_TEST_ROLE_UNPRIVILEGED";
    if std::env::var_os(ROLE).is_some() {
        let criu = Criu::with_binary(std::env::var_os("CRIU_TEST_UNPRIVILEGED").unwrap()).unwrap();
        let error = criu
            .dump(&criu::Dump::new(1, std::env::temp_dir()))
            .unwrap_err();
        assert!(matches!(error, Error::NotPrivileged { .. }), "{error:?}");
        assert!(error.to_string().contains("root"), "{error}");
        return;
    }
    let Some(under_test) = CriuUnderTest::newest() else {
        return;
    };
    // The build directory may be closed to others: what the test needs is copied out.
    let place = criu_testkit::TempDir::new();
    let program = place.join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let stand_in = place.join("criu");
    std::fs::write(&stand_in, "#!/bin/sh\nexit 1\n").unwrap();
    for path in [place.path(), &program, &stand_in] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let test = "questions::a_caller_without_rights_is_told_before_criu_is_asked";
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", test])
        .env(ROLE, "1")
        .env("CRIU_TEST_UNPRIVILEGED", &stand_in)
        .current_dir("/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{output:?}"
    );
    drop(under_test);
}

#[test]
fn handles_and_outcomes_can_be_sent_to_other_threads() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Criu>();
    sync::<Criu>();
    send::<Session>();
    send::<criu::Dump>();
    send::<criu::Restore>();
    send::<criu::RestoreOutcome>();
    send::<criu::RestoredChild>();
    send::<Error>();
    sync::<Error>();
}
