//! Where nothing goes wrong.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;

use criu_testkit::{CriuUnderTest, Scene, Subreaper, TempDir, TestProcess};

use crate::sides::{criuctl, criuctl_in, listening, traveller, wait_for};

/// Goes on with a process that has moved, and checks that all it holds came along.
#[track_caller]
pub(crate) fn arrived(process: &mut TestProcess, pid: u64) {
    process.reap();
    let count = process.count();
    process.restored_as(u32::try_from(pid).unwrap());
    process.wait_for_count_above(count);
    assert_eq!(process.verify(), Ok(()));
}

#[test]
fn a_tree_moves_over_loopback_and_both_sides_tell() {
    for criu in CriuUnderTest::all() {
        Subreaper::enable();
        let mut process = traveller(Scene::new().threads(2).children(1).memory_kib(4096).pipe());
        let directory = TempDir::new();
        let mut receive = criuctl_in(&directory, &criu);
        receive.args(["migrate", "receive", "--listen", "127.0.0.1:0", "-D"]);
        receive.arg(directory.make_dir("destination"));
        receive.arg("--root").arg(process.root().unwrap());
        let (mut receiver, address) = listening(receive, &directory);
        let sent = criuctl_in(&directory, &criu)
            .args([
                "--json",
                "migrate",
                "send",
                &process.pid().to_string(),
                &address.to_string(),
                "-D",
            ])
            .arg(directory.make_dir("source"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&sent.stdout);
        assert!(
            sent.status.success(),
            "{text} {}",
            String::from_utf8_lossy(&sent.stderr)
        );
        assert!(wait_for(&mut receiver, "the receiver").success());
        let events: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events[0]["event"], "connected");
        let result = &events[events.len() - 1];
        assert_eq!(result["event"], "result");
        arrived(&mut process, result["result"]["pid"].as_u64().unwrap());
        let said = std::fs::read_to_string(directory.join("receiver")).unwrap();
        assert!(
            said.contains("restored as process") && said.contains("runs there"),
            "{said}"
        );
        for side in ["source", "destination"] {
            assert_eq!(std::fs::read_dir(directory.join(side)).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_tree_moves_over_the_standard_streams_of_a_command() {
    for criu in CriuUnderTest::all() {
        Subreaper::enable();
        let mut process = traveller(Scene::new().memory_kib(1024));
        // A script that prints must not get into the stream.
        let over = format!(
            "CRIU={} {} migrate receive --stdio --root {} --action-script 'echo'",
            criu.path().display(),
            env!("CARGO_BIN_EXE_criuctl"),
            process.root().unwrap().display(),
        );
        let sent = criuctl(&criu)
            .args([
                "--json",
                "migrate",
                "send",
                &process.pid().to_string(),
                "--over",
                &over,
            ])
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&sent.stdout);
        assert!(
            sent.status.success(),
            "{text} {}",
            String::from_utf8_lossy(&sent.stderr)
        );
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        arrived(&mut process, last["result"]["pid"].as_u64().unwrap());
    }
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_touched() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    // Not in a pid namespace of its own: on the same machine its ids are taken, by itself.
    let process = Scene::new().start();
    process.wait_for_count_above(2);
    let over = format!(
        "CRIU={} {} migrate receive --stdio",
        criu.path().display(),
        env!("CARGO_BIN_EXE_criuctl")
    );
    let sent = criuctl(&criu)
        .args([
            "migrate",
            "send",
            &process.pid().to_string(),
            "--over",
            &over,
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&sent.stderr);
    assert_eq!(sent.status.code(), Some(1), "{said}");
    let pid = process.pid();
    assert!(
        said.contains(&format!(
            "pids: process id {pid}: needed is free, there is in use by "
        )),
        "{said}"
    );
    assert!(
        said.contains(&format!("process {pid} was not touched")),
        "{said}"
    );
    process.wait_for_count_above(process.count());
}

#[test]
fn files_that_differ_are_named_before_anything_is_touched() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let process = traveller(Scene::new().open_file());
    let (directory, elsewhere) = (TempDir::new(), TempDir::new());
    std::fs::write(elsewhere.join("target"), "another program").unwrap();
    let send = |more: &str| {
        let over = format!(
            "CRIU={} {} migrate receive --stdio --root {} {more}",
            criu.path().display(),
            env!("CARGO_BIN_EXE_criuctl"),
            elsewhere.path().display()
        );
        let sent = criuctl_in(&directory, &criu)
            .args([
                "migrate",
                "send",
                &process.pid().to_string(),
                "--over",
                &over,
            ])
            .output()
            .unwrap();
        assert_eq!(sent.status.code(), Some(1));
        process.wait_for_count_above(process.count());
        String::from_utf8_lossy(&sent.stderr).into_owned()
    };
    let said = send("");
    assert!(
        said.contains("in the way: files: /target: needed is ")
            && said.contains("there is 15 bytes"),
        "{said}"
    );
    assert!(
        said.contains("in the way: files: /state/count: needed is there, there is missing"),
        "{said}"
    );
    assert!(said.contains("was not touched"), "{said}");
    // Insisted on, the restore finds out, and everything goes back to how it was.
    let said = send("--ignore files");
    assert!(said.contains("goes on here"), "{said}");
}

#[test]
fn plain_tcp_beyond_this_machine_needs_the_users_word() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    for arguments in [
        ["send", "1", "192.0.2.1:7077"],
        ["receive", "--listen", "0.0.0.0:0"],
    ] {
        let refused = criuctl(&criu)
            .arg("migrate")
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("--insecure"), "{said}");
    }
}

/// A pipe that leads out of the tree ends with the source; the destination hands another over in its place.
#[test]
fn a_tree_that_writes_into_a_pipe_is_handed_another_on_the_destination() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    for mode in ["stop-and-copy", "post-copy"] {
        Subreaper::enable();
        let (reader, writer) = std::io::pipe().unwrap();
        let inode = rustix::fs::fstat(&writer).unwrap().st_ino;
        let scene = Scene::new().counting_on_stdout().stdout(writer);
        let mut process = traveller(scene);
        let (new_reader, new_writer) = std::io::pipe().unwrap();
        let directory = TempDir::new();
        let mut receive = criuctl_in(&directory, &criu);
        receive.args(["migrate", "receive", "--listen", "127.0.0.1:0", "-D"]);
        receive.arg(directory.make_dir("destination"));
        receive.arg("--root").arg(process.root().unwrap());
        receive.args(["--inherit-fd", &format!("fd[0]:pipe:[{inode}]")]);
        receive.stdin(new_writer);
        let (mut receiver, address) = listening(receive, &directory);
        let sent = criuctl_in(&directory, &criu)
            .args(["--json", "migrate", "send", "--mode", mode])
            .args([process.pid().to_string(), address.to_string()])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&sent.stdout);
        assert!(sent.status.success(), "{sent:?}");
        assert!(wait_for(&mut receiver, "the receiver").success());
        let result: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        arrived(&mut process, result["result"]["pid"].as_u64().unwrap());
        // Nothing is lost between the two, nothing comes twice.
        let last = BufReader::new(reader).lines().last().unwrap().unwrap();
        let mut lines = BufReader::new(new_reader).lines();
        let first = lines.next().unwrap().unwrap();
        let number = |text: &str| text.parse::<u64>().unwrap();
        assert_eq!(number(&first), number(&last) + 1, "{mode}");
        // The receiver has kept no end of it.
        drop(process);
        assert!(lines.all(|line| line.is_ok()));
    }
}

/// A file outside of the tree stays behind. The destination hands over its own, as long as CRIU has found the first:
/// a script brings it there while the tree is frozen.
#[test]
fn a_tree_that_writes_into_an_external_file_goes_on_in_that_of_the_destination() {
    for criu in CriuUnderTest::all() {
        for mode in ["stop-and-copy", "post-copy"] {
            Subreaper::enable();
            let directory = TempDir::new();
            let (here, there) = (directory.join("here"), directory.join("there"));
            let file = fs::File::create(&here).unwrap();
            let inode = file.metadata().unwrap().ino();
            let mut process = traveller(Scene::new().counting_on_stdout().stdout(file));
            let key = format!("file[{:x}:{inode:x}]", mount_id(process.pid()));
            let script = directory.join("bring");
            let text = format!(
                "#!/bin/sh\n[ \"$CRTOOLS_SCRIPT_ACTION\" != post-dump ] || cat {} > {}\n",
                here.display(),
                there.display()
            );
            fs::write(&script, text).unwrap();
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
            let mut receive = criuctl_in(&directory, &criu);
            receive.args(["migrate", "receive", "--listen", "127.0.0.1:0", "-D"]);
            receive.arg(directory.make_dir("destination"));
            receive.arg("--root").arg(process.root().unwrap());
            receive.args(["--inherit-fd", &format!("fd[0]:{key}")]);
            receive.stdin(fs::File::create_new(&there).unwrap());
            let (mut receiver, address) = listening(receive, &directory);
            let sent = criuctl_in(&directory, &criu)
                .args(["--json", "migrate", "send", "--mode", mode])
                .args(["--external", &key, "--action-script"])
                .arg(&script)
                .args([process.pid().to_string(), address.to_string()])
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&sent.stdout);
            assert!(sent.status.success(), "{criu:?} {mode} {sent:?}");
            assert!(wait_for(&mut receiver, "the receiver").success());
            let result = text.lines().last().unwrap();
            let result: serde_json::Value = serde_json::from_str(result).unwrap();
            let left = fs::read_to_string(&here).unwrap();
            arrived(&mut process, result["result"]["pid"].as_u64().unwrap());
            drop(process);
            // Nothing more came here; there, nothing is missing and nothing twice.
            assert_eq!(fs::read_to_string(&here).unwrap(), left);
            let written = fs::read_to_string(&there).unwrap();
            assert!(written.len() > left.len(), "{criu:?} {mode}");
            assert!(written.starts_with(&left), "{criu:?} {mode}");
            let numbers: Vec<u64> = written.lines().map(|line| line.parse().unwrap()).collect();
            let gapless = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
            assert!(gapless, "{criu:?} {mode} {written}");
        }
    }
}

/// The mount on which a process has its standard output open.
fn mount_id(pid: u32) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/fdinfo/1")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    line.unwrap().trim().parse().unwrap()
}
