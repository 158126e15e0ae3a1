//! `crit x`, `crit stats`, `crit verify`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use criu_testkit::TempDir;
use serde_json::Value;

fn fixture(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures")
        .join(set)
}

fn crit(verb: &str, directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crit"))
        .arg(verb)
        .arg(directory)
        .args(arguments)
        .output()
        .expect("crit runs")
}

#[track_caller]
fn text(verb: &str, set: &str, arguments: &[&str]) -> String {
    let output = crit(verb, &fixture(set), arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "", "nothing is amiss");
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn json(verb: &str, set: &str, arguments: &[&str]) -> Value {
    let text = text(verb, set, &[arguments, &["--json"]].concat());
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn json_has_the_members_of_go_criu() {
    let tree = json("x", "4.3/tree", &["ps"]);
    let members = |value: &Value| {
        let members = value.as_object().expect("an object").keys().cloned();
        members.collect::<Vec<String>>()
    };
    assert_eq!(members(&tree), ["children", "comm", "pgid", "pid", "sid"]);
    let files = json("x", "4.3/unix", &["fd"]);
    assert_eq!(members(&files[0]), ["files", "pid"]);
    assert_eq!(members(&files[0]["files"][0]), ["fd", "path", "type"]);
    let areas = json("x", "4.3/plain", &["mem"]);
    assert_eq!(members(&areas[0]), ["exe", "mems", "pid"]);
    assert_eq!(
        members(&areas[0]["mems"][0]),
        ["end", "protection", "resource", "start"]
    );
    let pages = json("x", "4.3/plain", &["rss"]);
    assert_eq!(members(&pages[0]), ["pid", "rss"]);
    assert_eq!(
        members(&pages[0]["rss"][0]),
        ["phy_addr", "phy_pages", "resource", "vmas"]
    );
    assert_eq!(members(&pages[0]["rss"][0]["vmas"][0]), ["addr", "pages"]);
    let sockets = json("x", "4.3/tcp", &["sk"]);
    let listener = &sockets[0]["sockets"][2];
    assert_eq!(listener["state"], "LISTEN");
    assert_eq!(listener["src_addr"], "127.0.0.1");
    assert_eq!(
        (&listener["family"], &listener["protocol"]),
        (&"INET".into(), &"TCP".into())
    );
    assert_eq!(listener["send_buf"], "16.0 KB");
}

#[test]
fn answers_tell_what_the_fixtures_hold() {
    for (set, what, expected) in [
        ("4.3/tcp", "sk", "127.0.0.1:8080"),
        ("4.3/unix", "sk", "u_dgr"),
        ("4.3/tree", "threads", "criu-testkit-ta"),
        ("4.3/container", "mounts", "└─/tmp"),
        ("4.3/container", "ns", "host name fixture"),
        ("4.3/user-container", "ns", "uid 0=0+1"),
        ("4.3/container", "net", "127.0.0.1/8 ::1/128"),
        ("4.3/container", "env", "\tPATH="),
        ("4.3/container", "args", "/target --keep /state"),
        ("4.3/container", "creds", "cap_sys_admin"),
        ("4.3/kernel", "signals", "SIGUSR1 from "),
        ("4.3/kernel", "timers", "SIGALRM"),
        ("4.3/descriptors", "timers", "CLOCK_MONOTONIC"),
        ("4.3/cgroup", "cgroups", "/criu-fixture"),
    ] {
        let told = text("x", set, &[what]);
        assert!(told.contains(expected), "{set} {what}: {told}");
        json("x", set, &[what]);
    }
}

#[test]
fn a_single_process_can_be_asked_about() {
    let all = text("x", "4.3/container", &["fds"]);
    let one = text("x", "4.3/container", &["fds", "--pid", "3"]);
    assert!(one.starts_with("3\n") && all.ends_with(&one), "{one}");
    let output = crit("x", &fixture("4.3/container"), &["fds", "--pid", "4"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no process with the id 4"));
}

#[test]
fn what_is_missing_is_said_and_the_rest_is_shown() {
    let copy = TempDir::new();
    for entry in std::fs::read_dir(fixture("4.3/container")).expect("the fixture is there") {
        let entry = entry.expect("readable");
        std::fs::copy(entry.path(), copy.join(entry.file_name())).expect("copied");
    }
    std::fs::remove_file(copy.join("fs-1.img")).expect("removed");
    let output = crit("x", copy.path(), &["fds"]);
    assert!(output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with("crit: warning: ") && stderr.contains("fs-1.img"),
        "{stderr}"
    );
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(told.matches("root: ").count(), 1, "{told}");
    let output = crit("verify", copy.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        told.contains("1 fault\n  fs-1.img: image is missing\n"),
        "{told}"
    );
    let output = crit("verify", copy.path(), &["--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told[0]["sound"], false);
    assert_eq!(told[0]["checkpoints"][0]["faults"][0]["file"], "fs-1.img");
}

#[test]
fn no_checkpoint_is_an_error() {
    let empty = TempDir::new();
    for (verb, arguments) in [("x", &["ps"][..]), ("stats", &[]), ("verify", &[])] {
        for directory in [empty.path(), Path::new("/nowhere")] {
            let output = crit(verb, directory, arguments);
            assert_eq!(
                output.status.code(),
                Some(1),
                "{verb} {}",
                directory.display()
            );
        }
    }
}

#[test]
fn sound_checkpoints_are_called_so() {
    let told = text("verify", "4.3/plain", &[]);
    assert!(
        told.contains("plain: 15 images, ") && told.ends_with(": sound\n"),
        "{told}"
    );
    assert_eq!(json("verify", "4.3/plain", &[])[0]["sound"], true);
}

#[test]
fn statistics_have_units() {
    let told = text("stats", "4.3/tree", &[]);
    for expected in ["Dump\n", "Restore\n", "standing still ", "ms\n", " pages  "] {
        assert!(told.contains(expected), "{expected:?}: {told}");
    }
    let told = json("stats", "4.3/tree", &[]);
    assert!(told["dump"]["frozen_time_us"].as_u64() > Some(0));
    assert!(told["restore"]["restore_time_us"].as_u64() > Some(0));
}
