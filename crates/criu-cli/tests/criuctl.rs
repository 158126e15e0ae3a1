//! `criuctl` as a user meets it: real processes, real CRIUs, what is printed and how it exits.

#![expect(
    clippy::unwrap_used,
    reason = "a test has no better answer than to fail"
)]

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use criu_testkit::{CriuUnderTest, FakeCriu, Message, Scene, Step, TempDir, TestProcess, skip};
use serde_json::Value;

/// The command, hermetic: only what the test gives it.
fn criuctl(criu: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_criuctl"));
    command
        .env_remove("NO_COLOR")
        .env("CRIU", criu)
        .stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", stdout(output), stderr(output)))
}

/// Dumps the process, which is then gone.
#[track_caller]
fn dump(criu: &Path, process: &mut TestProcess, images: &Path) {
    let pid = process.pid().to_string();
    let dumped = criuctl(criu)
        .args(["dump", &pid, "-D"])
        .arg(images)
        .output()
        .unwrap();
    assert_success(&dumped);
    assert!(
        stdout(&dumped).contains("it is gone"),
        "{}",
        stdout(&dumped)
    );
    process.reap();
}

/// Starts a restore that waits for the process, and waits until the process runs.
#[track_caller]
fn restore_attached(criu: &Path, images: &Path) -> Child {
    let pidfile = images.join("pid");
    let mut restore = criuctl(criu);
    restore
        .args(["restore", "-D"])
        .arg(images)
        .arg("--pidfile")
        .arg(&pidfile);
    let attached = restore.spawn().unwrap();
    wait_until("the pid file", || pidfile.exists());
    attached
}

#[track_caller]
fn assert_success(output: &Output) {
    assert!(
        output.status.success(),
        "{}{}",
        stdout(output),
        stderr(output)
    );
}

/// Runs the body with each CRIU there is.
macro_rules! with_each_criu {
    (|$criu:ident| $body:block) => {
        let all = CriuUnderTest::all();
        if all.is_empty() {
            skip!(Avoidable, "no CRIU: run `cargo xtask criu`");
        }
        for $criu in all {
            $body
        }
    };
}

#[test]
fn dump_and_detached_restore_continue_the_process() {
    with_each_criu!(|criu| {
        let images = TempDir::new();
        let mut process = Scene::new().threads(2).start();
        process.wait_for_count_above(3);
        dump(criu.path(), &mut process, images.path());
        let count = process.count();

        let restored = criuctl(criu.path())
            .args(["--json", "restore", "--detach", "-D"])
            .arg(images.path())
            .output()
            .unwrap();
        assert_success(&restored);
        let pid = json(&restored)["pid"].as_u64().unwrap();
        process.restored_as(u32::try_from(pid).unwrap());
        process.wait_for_count_above(count);
        process.verify().unwrap();
    });
}

#[test]
fn an_attached_restore_exits_as_the_process_does() {
    with_each_criu!(|criu| {
        for (code, expected) in [(0_u8, 0), (7, 7)] {
            let images = TempDir::new();
            let mut process = Scene::new().start();
            dump(criu.path(), &mut process, images.path());
            let mut attached = restore_attached(criu.path(), images.path());
            assert!(attached.try_wait().unwrap().is_none(), "it did not wait");
            process.finish(code);
            assert_eq!(wait(&mut attached).code(), Some(expected));
            process.gone();
        }
    });
}

#[test]
fn signals_reach_an_attached_process() {
    with_each_criu!(|criu| {
        let images = TempDir::new();
        let mut process = Scene::new().start();
        dump(criu.path(), &mut process, images.path());
        let mut attached = restore_attached(criu.path(), images.path());
        std::thread::sleep(Duration::from_millis(100));
        kill("TERM", attached.id());
        assert_eq!(wait(&mut attached).code(), Some(128 + 15));
        process.gone();
    });
}

#[test]
fn a_failure_names_root_cause_remedy_and_state_and_leaves_no_images() {
    with_each_criu!(|criu| {
        let images = TempDir::new();
        let process = Scene::new().file_locks().start();
        let arguments = ["dump", &process.pid().to_string(), "-D"];
        let failed = criuctl(criu.path())
            .args(arguments)
            .arg(images.path())
            .output()
            .unwrap();
        assert_eq!(failed.status.code(), Some(1));
        let text = stderr(&failed);
        for part in [
            "error:",
            "cause:",
            "remedy:",
            "--file-locks",
            "keeps running",
            "criu.log",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains('\x1b'), "colour in a pipe");
        process.verify().unwrap();
        let left: Vec<_> = std::fs::read_dir(images.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".img"))
            .collect();
        assert!(left.is_empty(), "{left:?}");

        let failed = criuctl(criu.path())
            .arg("--json")
            .args(arguments)
            .arg(images.path())
            .output()
            .unwrap();
        assert_eq!(failed.status.code(), Some(1));
        let error = &json(&failed)["error"];
        assert_eq!(error["operation"], "dump");
        assert!(
            error["diagnosis"]["remedy"]
                .as_str()
                .unwrap()
                .contains("--file-locks")
        );
        assert_eq!(error["process"]["state"], "keeps running");

        let explained = criuctl(criu.path())
            .arg("explain")
            .arg(images.path())
            .output()
            .unwrap();
        assert_eq!(explained.status.code(), Some(1));
        assert!(
            stdout(&explained).contains("--file-locks"),
            "{}",
            stdout(&explained)
        );
    });
}

#[test]
fn an_interrupted_dump_leaves_the_process_running_and_no_images() {
    with_each_criu!(|criu| {
        let (images, scratch) = (TempDir::new(), TempDir::new());
        let process = Scene::new().start();
        // The script holds CRIU while the signal is sent.
        let (script, reached) = (scratch.join("script"), scratch.join("reached"));
        std::fs::write(
            &script,
            format!(
                "#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION = pre-dump ] || exit 0\ntouch {}\nsleep 0.3\n",
                reached.display()
            ),
        )
        .unwrap();
        make_executable(&script);
        let mut dump = criuctl(criu.path())
            .args(["dump", &process.pid().to_string(), "-D"])
            .arg(images.path())
            .arg("--action-script")
            .arg(&script)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until("the script", || reached.exists());
        kill("INT", dump.id());
        assert_eq!(wait(&mut dump).code(), Some(130));
        let count = process.count();
        process.wait_for_count_above(count);
        process.verify().unwrap();
        assert!(
            !images.join("inventory.img").exists(),
            "an incomplete checkpoint is left"
        );
    });
}

#[test]
fn action_scripts_run_at_each_stage_and_can_refuse() {
    with_each_criu!(|criu| {
        let (images, scratch) = (TempDir::new(), TempDir::new());
        let mut process = Scene::new().start();
        let (script, stages) = (scratch.join("script"), scratch.join("stages"));
        std::fs::write(
            &script,
            format!(
                "#!/bin/sh\necho $CRTOOLS_SCRIPT_ACTION $CRTOOLS_IMAGE_DIR >> {}\n",
                stages.display()
            ),
        )
        .unwrap();
        make_executable(&script);
        let dumped = criuctl(criu.path())
            .args(["dump", &process.pid().to_string(), "-D"])
            .arg(images.path())
            .arg("--action-script")
            .arg(&script)
            .output()
            .unwrap();
        assert_success(&dumped);
        process.reap();
        let images_path = images.path().display();
        let expected = format!("pre-dump {images_path}\npost-dump {images_path}\n");
        assert_eq!(std::fs::read_to_string(&stages).unwrap(), expected);

        std::fs::write(
            &script,
            "#!/bin/sh\n[ $CRTOOLS_SCRIPT_ACTION != post-restore ]\n",
        )
        .unwrap();
        let refused = criuctl(criu.path())
            .args(["restore", "--detach", "-D"])
            .arg(images.path())
            .arg("--action-script")
            .arg(&script)
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(1));
        assert!(
            stderr(&refused).contains("post-restore"),
            "{}",
            stderr(&refused)
        );
        process.gone();
    });
}

#[test]
fn explain_reads_standard_input_and_knows_success() {
    let mut explain = Command::new(env!("CARGO_BIN_EXE_criuctl"))
        .args(["explain", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let log = "(00.100000) Error (criu/cr-restore.c:1490): Can't fork for 12: File exists\n\
               (00.100001) Error (criu/cr-restore.c:2572): Restoring FAILED.\n";
    explain
        .stdin
        .take()
        .unwrap()
        .write_all(log.as_bytes())
        .unwrap();
    let explained = explain.wait_with_output().unwrap();
    assert_eq!(explained.status.code(), Some(1));
    assert!(
        stdout(&explained).contains(log.lines().next().unwrap()),
        "{}",
        stdout(&explained)
    );

    let scratch = TempDir::new();
    let log = scratch.join("criu.log");
    std::fs::write(&log, "(00.034) Dumping finished successfully\n").unwrap();
    let explained = Command::new(env!("CARGO_BIN_EXE_criuctl"))
        .arg("explain")
        .arg(&log)
        .output()
        .unwrap();
    assert_success(&explained);
    assert!(
        stdout(&explained).contains("no failure found"),
        "{}",
        stdout(&explained)
    );

    let missing = Command::new(env!("CARGO_BIN_EXE_criuctl"))
        .args(["explain", "/nonexistent/criu.log"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn check_version_features_and_cpuinfo_answer_in_both_forms() {
    with_each_criu!(|criu| {
        let checked = criuctl(criu.path()).arg("check").output().unwrap();
        assert_success(&checked);
        assert!(stdout(&checked).contains("dump and restore can work here"));
        let checked = criuctl(criu.path())
            .args(["check", "--json"])
            .output()
            .unwrap();
        assert_eq!(json(&checked)["able"], true);

        let version = criuctl(criu.path())
            .args(["version", "--json"])
            .output()
            .unwrap();
        let (major, minor) = criu.series();
        let printed = json(&version)["criu"]["version"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            printed.starts_with(&format!("{major}.{minor}")),
            "{printed}"
        );

        let features = criuctl(criu.path())
            .args(["features", "--json"])
            .output()
            .unwrap();
        assert!(json(&features)["lazy_pages"].is_boolean());

        let images = TempDir::new();
        for verb in ["dump", "check"] {
            let output = criuctl(criu.path())
                .args(["cpuinfo", verb, "-D"])
                .arg(images.path())
                .output()
                .unwrap();
            assert_success(&output);
        }
        std::fs::write(images.join("cpuinfo.img"), b"garbage").unwrap();
        let output = criuctl(criu.path())
            .args(["cpuinfo", "check", "-D"])
            .arg(images.path())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    });
}

#[test]
fn check_fails_where_nothing_can_work() {
    let checked = criuctl(Path::new("/nonexistent/criu"))
        .arg("check")
        .output()
        .unwrap();
    assert_eq!(checked.status.code(), Some(1));
    assert!(
        stdout(&checked).contains("cannot work here"),
        "{}",
        stdout(&checked)
    );
}

#[test]
fn page_server_receives_the_pages_of_a_dump() {
    with_each_criu!(|criu| {
        let (images, pages) = (TempDir::new(), TempDir::new());
        let mut process = Scene::new().memory_kib(512).start();
        let started = criuctl(criu.path())
            .args([
                "--json",
                "page-server",
                "--detach",
                "--address",
                "127.0.0.1",
                "-D",
            ])
            .arg(pages.path())
            .output()
            .unwrap();
        assert_success(&started);
        let port = json(&started)["port"].as_u64().unwrap();
        let dumped = criuctl(criu.path())
            .args(["dump", &process.pid().to_string(), "-D"])
            .arg(images.path())
            .args([
                "--page-server",
                "--address",
                "127.0.0.1",
                "--port",
                &port.to_string(),
            ])
            .output()
            .unwrap();
        assert_success(&dumped);
        process.reap();
        let bytes: u64 = std::fs::read_dir(pages.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("pages-"))
            .map(|entry| entry.metadata().unwrap().len())
            .sum();
        assert!(bytes >= 512 << 10, "only {bytes} bytes of pages arrived");
        process.gone();
    });
}

#[test]
fn wrong_usage_exits_with_2() {
    let cases: [&[&str]; 7] = [
        &["dump"],
        &["dump", "0"],
        &["dump", "12", "--ghost-limit", "lots"],
        &["dump", "12", "--external", "nonsense"],
        &["dump", "12", "--ext-mount-map", "nonsense"],
        &["restore", "--join-ns", "pid:1"],
        &["frobnicate"],
    ];
    for case in cases {
        let output = criuctl(Path::new("/bin/true")).args(case).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(2),
            "{case:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_deadline_ends_a_criu_that_hangs() {
    let fake = FakeCriu::new(&[Step::Receive, Step::Hang]);
    let started = Instant::now();
    let output = criuctl(&fake.path())
        .args(["--deadline", "1", "version"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("no answer from CRIU within 1s"),
        "{}",
        stderr(&output)
    );
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn what_criu_says_cannot_play_with_the_terminal() {
    let message = Message::reply(10, 0)
        .bytes(9, "Error (x.c:1): \x1b]0;owned\x07\n")
        .build();
    let fake = FakeCriu::new(&[Step::Receive, Step::Send(message)]);
    let output = criuctl(&fake.path()).arg("version").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stderr.contains(&0x1b), "{}", stderr(&output));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut help = Command::new(env!("CARGO_BIN_EXE_criuctl"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(help.stdout.take());
    let output = help.wait_with_output().unwrap();
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
}

#[test]
fn every_verb_explains_itself_with_an_example() {
    let verbs: [&[&str]; 8] = [
        &[],
        &["dump"],
        &["pre-dump"],
        &["restore"],
        &["page-server"],
        &["explain"],
        &["cpuinfo", "dump"],
        &["completions"],
    ];
    for verb in verbs {
        let output = criuctl(Path::new("/bin/true"))
            .args(verb)
            .arg("--help")
            .output()
            .unwrap();
        assert_success(&output);
        assert!(stdout(&output).contains("criuctl "), "{verb:?}");
        assert!(
            stdout(&output).contains("Example"),
            "no example for {verb:?}"
        );
    }
}

#[track_caller]
fn wait_until(what: &str, ready: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ready() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn wait(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.signal(), None, "criuctl itself was killed");
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("criuctl does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn kill(signal: &str, pid: u32) {
    let sent = Command::new("kill")
        .args(["-s", signal, &pid.to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
