//! `crit set`: checkpoints that are restored elsewhere.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};

use criu_testkit::{CriuUnderTest, Scene, TempDir};

mod restored;

fn crit(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crit"))
        .args(arguments)
        .output()
        .expect("crit runs")
}

#[track_caller]
fn set(images: &Path, changes: &[&str]) -> String {
    let directory = images.to_str().expect("text");
    let output = crit(&[&["set", directory], changes].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).expect("text")
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

#[test]
fn a_listener_is_restored_on_another_port() {
    for criu in CriuUnderTest::all() {
        let images = TempDir::new();
        let (old, new) = (free_port(), free_port());
        let mut process = Scene::new().tcp_listener(old).start();
        process.wait_for_count_above(2);
        TcpStream::connect(("127.0.0.1", old)).expect("it listens");
        criu.dump(process.pid(), images.path(), &[]);
        process.reap();
        let count = process.count();
        let told = set(
            images.path(),
            &[
                &format!("--tcp-listen={old}={new}"),
                "comm=elsewhere",
                "--backup",
            ],
        );
        assert!(told.contains(&format!("127.0.0.1:{new}")), "{told}");
        assert!(images.join("files.img.bak").exists());
        let pid = criu.restore(images.path(), &[]);
        process.restored_as(pid);
        process.wait_for_count_above(count);
        TcpStream::connect(("127.0.0.1", new)).expect("it listens on the new port");
        TcpStream::connect(("127.0.0.1", old)).expect_err("it has left the old port");
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs");
        assert_eq!(comm, "elsewhere\n", "CRIU {:?}", criu.series());
    }
}

/// The files of a directory with their content.
fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| {
            let entry = entry.expect("readable");
            let name = entry.file_name().into_string().expect("a name");
            (name, std::fs::read(entry.path()).expect("readable"))
        })
        .collect();
    files.sort();
    files
}

fn fixture(set: &str) -> TempDir {
    let copy = TempDir::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(set);
    for (name, bytes) in contents(&source) {
        std::fs::write(copy.join(name), bytes).expect("written");
    }
    copy
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let images = fixture("4.3/tcp");
    let before = contents(images.path());
    let told = set(
        images.path(),
        &["tcp-listen:8080=127.0.0.2:81", "--dry-run"],
    );
    assert!(
        told.contains("127.0.0.1:8080") && told.contains("127.0.0.2:81"),
        "{told}"
    );
    assert_eq!(contents(images.path()), before);
}

#[test]
fn either_all_changes_are_made_or_none() {
    let images = fixture("4.3/container");
    let before = contents(images.path());
    let directory = images.path().to_str().expect("text");
    for (change, reason) in [
        (
            "tcp-listen:8080=1",
            "nothing in the checkpoint fits tcp-listen:8080=1",
        ),
        ("comm=x", "there are 2 tasks: say which"),
        ("comm:77=x", "no task has the pid 77"),
        ("comm:3=x comm:3=y", "task 3 is given two names"),
        ("path:/nowhere=/here", "fits path:/nowhere=/here"),
    ] {
        let changes: Vec<_> = change.split(' ').collect();
        let output = crit(&[&["set", directory, "hostname=other"], &changes[..]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{change}: {stderr}");
        assert!(stderr.contains(reason), "{change}: {stderr}");
        assert_eq!(contents(images.path()), before, "{change}");
    }
    let told = set(
        images.path(),
        &[
            "hostname=other",
            "comm:3=child",
            "path:/state=/var/state",
            "--json",
        ],
    );
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["applied"], true);
    let changed: Vec<_> = contents(images.path())
        .into_iter()
        .zip(before)
        .filter(|(now, before)| now != before)
        .map(|(now, _)| now.0)
        .collect();
    assert_eq!(changed, ["core-3.img", "files.img", "utsns-12.img"]);
    let again = crit(&["x", directory, "ps"]);
    assert!(String::from_utf8_lossy(&again.stdout).contains("child"));
}

#[test]
fn another_address_family_is_refused() {
    let images = fixture("4.3/tcp");
    let directory = images.path().to_str().expect("text");
    let output = crit(&["set", directory, "tcp-listen:8080=[::1]:8080"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr.contains("::1 is not of the address family of 127.0.0.1:8080"),
        "{stderr}"
    );
}

#[test]
fn a_backup_that_is_there_stays() {
    let images = fixture("4.3/plain");
    set(images.path(), &["comm=once", "--backup"]);
    let before = contents(images.path());
    let directory = images.path().to_str().expect("text");
    let output = crit(&["set", directory, "comm=twice", "--backup"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("refusing to overwrite existing backup"),
        "{stderr}"
    );
    assert!(stderr.contains("leave out --backup"), "{stderr}");
    assert_eq!(contents(images.path()), before);
}
