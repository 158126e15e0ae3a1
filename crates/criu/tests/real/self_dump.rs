//! Processes that dump themselves. This very test program, started again in a role, is the process.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criu::{Criu, Dump, FinalState, Target};
use criu_testkit::{Subreaper, TempDir};

use crate::rig::{Rig, each};

/// Says in the environment where the process in its role talks to the test.
const ROLE: &str = "CRIU_TEST_SELF_DUMP";

/// What becomes of the process when it has dumped itself.
const LEAVES_RUNNING: &str = "CRIU_TEST_SELF_DUMP_LEAVES_RUNNING";

#[test]
fn a_process_that_dumps_itself_goes_on_and_so_does_its_copy() {
    if let Some(directory) = std::env::var_os(ROLE) {
        return dump_this_process(Path::new(&directory));
    }
    each(|rig| {
        let place = TempDir::new();
        let name = "self_dump::a_process_that_dumps_itself_goes_on_and_so_does_its_copy";
        let mut process = start(rig, place.path(), name, true);
        wait_for(&place.join("goes-on"));
        assert!(!place.join("restored").exists());
        fs::write(place.join("finish"), "").unwrap();
        assert!(process.wait().unwrap().success());

        fs::remove_file(place.join("finish")).unwrap();
        copy_goes_on(rig, &place);
    });
}

#[test]
fn a_process_that_is_killed_by_its_own_dump_returns_from_it_when_restored() {
    if let Some(directory) = std::env::var_os(ROLE) {
        return dump_this_process(Path::new(&directory));
    }
    each(|rig| {
        let place = TempDir::new();
        let name =
            "self_dump::a_process_that_is_killed_by_its_own_dump_returns_from_it_when_restored";
        let mut process = start(rig, place.path(), name, false);
        let status = process.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
        assert!(!place.join("goes-on").exists() && !place.join("restored").exists());
        copy_goes_on(rig, &place);
    });
}

fn copy_goes_on(rig: &Rig, place: &TempDir) {
    Subreaper::enable();
    let mut restore = rig.restore();
    restore.as_child = true;
    let child = rig.criu.restore(&restore).unwrap().child.unwrap();
    wait_for(&place.join("restored"));
    fs::write(place.join("finish"), "").unwrap();
    assert!(child.wait().unwrap().success());
}

fn start(rig: &Rig, place: &Path, test: &str, leave_running: bool) -> Child {
    let mut command = Command::new("setsid");
    command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ROLE, place)
        .env("CRIU", rig.under_test.path())
        .current_dir(rig.images.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if leave_running {
        command.env(LEAVES_RUNNING, "1");
    }
    command.spawn().unwrap()
}

/// The role: dumps itself, says in which life it is, and waits to be told to finish.
fn dump_this_process(place: &Path) {
    let images = PathBuf::from(".");
    let mut dump = Dump::new(Target::Caller, images);
    if std::env::var_os(LEAVES_RUNNING).is_some() {
        dump.then = FinalState::Running;
    }
    let word = match Criu::find().unwrap().dump(&dump) {
        Ok(outcome) if outcome.restored => "restored".to_owned(),
        Ok(_) => "goes-on".to_owned(),
        Err(error) => {
            fs::write(place.join("failed"), format!("{error}\n{error:?}")).unwrap();
            return;
        }
    };
    fs::write(place.join(word), "").unwrap();
    wait_for(&place.join("finish"));
}

#[track_caller]
fn wait_for(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !path.exists() {
        let failed = path.with_file_name("failed");
        assert!(
            Instant::now() < deadline && !failed.exists(),
            "{}: {}",
            path.display(),
            fs::read_to_string(failed).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
