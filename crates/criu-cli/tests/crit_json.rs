//! `crit decode`, `encode`, `info` and `show` as a user meets them: where text goes, what is left
//! behind, what is said when something is wrong, and how the command exits.

#![expect(
    clippy::unwrap_used,
    reason = "a test has no better answer than to fail"
)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use criu_testkit::{TempDir, python_crit, skip};

/// A task, in `pstree.img`.
const PSTREE: &[u8] =
    b"\x19\x43\x56\x54\x30\x30\x27\x50\x0a\0\0\0\x08\x01\x10\0\x18\x01\x20\x01\x28\x01";

const COMPACT: &str = r#"{"magic": "PSTREE", "entries": [{"pid": 1, "ppid": 0, "pgid": 1, "sid": 1, "threads": [1]}]}"#;

fn crit() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crit"));
    command.env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

/// Runs the command with this on its standard input.
fn fed(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // A command that does not read on has its reasons.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn check_failure(output: &Output, expected: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    assert_eq!(stderr(output), expected);
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_line_break_follows_on_standard_output_but_not_in_a_file() {
    let directory = TempDir::new();
    let (image, text, back) = (
        directory.join("pstree.img"),
        directory.join("pstree.json"),
        directory.join("back.img"),
    );
    fs::write(&image, PSTREE).unwrap();
    let shown = crit().args(["decode", "-i"]).arg(&image).output().unwrap();
    assert_eq!(stdout(&shown), format!("{COMPACT}\n"));
    for (input, output) in [("-i", "-o"), ("--in", "--out"), ("--input", "--output")] {
        let decoded = crit()
            .args(["decode", input])
            .arg(&image)
            .arg(output)
            .arg(&text)
            .output();
        assert!(decoded.unwrap().status.success());
        assert_eq!(fs::read_to_string(&text).unwrap(), COMPACT);
        let encoded = crit()
            .args(["encode", input])
            .arg(&text)
            .arg(output)
            .arg(&back)
            .output();
        assert!(encoded.unwrap().status.success());
        assert_eq!(fs::read(&back).unwrap(), PSTREE);
    }
    assert_eq!(
        names(directory.path()),
        ["back.img", "pstree.img", "pstree.json"]
    );
}

#[test]
fn pipes_on_both_sides() {
    let pretty = fed(crit().args(["decode", "--pretty"]), PSTREE);
    assert!(
        stdout(&pretty)
            .starts_with("{\n    \"magic\": \"PSTREE\",\n    \"entries\": [\n        {\n")
    );
    let back = fed(crit().arg("encode"), &pretty.stdout);
    assert_eq!(back.stdout, PSTREE);
    let shuffled = br#"{"entries": [{"threads": [1], "sid": 1, "pgid": 1, "ppid": 0, "pid": 1}], "magic": "PSTREE"}"#;
    assert_eq!(fed(crit().arg("encode"), shuffled).stdout, PSTREE);
}

#[test]
fn long_payloads_go_through_files_and_pipes() {
    let directory = TempDir::new();
    let (source, text, back) = (
        directory.join("ghost-file-1.img"),
        directory.join("text"),
        directory.join("back.img"),
    );
    // The last line of base64 begins before 64 Ki characters, ends behind them, and is padded.
    let mut image =
        b"\x19\x43\x56\x54\x05\x36\x58\x52\x08\0\0\0\x08\x01\x10\0\x18\xa4\x83\x02".to_vec();
    image.resize(image.len() + 49_153, b'x');
    fs::write(&source, &image).unwrap();
    for style in [&[][..], &["--pretty"]] {
        let mut decode = crit();
        decode.arg("decode").args(style).arg("-i").arg(&source);
        let decoded = decode.output().unwrap();
        assert_eq!(stderr(&decoded), "");
        let encoded = fed(crit().arg("encode"), &decoded.stdout);
        assert_eq!(stderr(&encoded), "");
        assert!(encoded.stdout == image, "through pipes");
        fs::write(&text, &decoded.stdout).unwrap();
        let mut encode = crit();
        encode
            .arg("encode")
            .arg("-i")
            .arg(&text)
            .arg("-o")
            .arg(&back);
        assert_eq!(stderr(&encode.output().unwrap()), "");
        assert!(fs::read(&back).unwrap() == image, "through files");
    }
}

#[test]
fn info_and_show() {
    let directory = TempDir::new();
    let image = directory.join("pipes-data.img");
    fs::write(
        &image,
        b"\x19\x43\x56\x54\x09\x37\x45\x56\x04\0\0\0\x08\x07\x10\x05hello",
    )
    .unwrap();
    let info = crit().arg("info").arg(&image).output().unwrap();
    assert_eq!(
        stdout(&info),
        "{\n    \"magic\": \"PIPES_DATA\",\n    \"count\": 1\n}\n"
    );
    let shown = crit().arg("show").arg(&image).output().unwrap();
    let decoded = crit()
        .args(["decode", "--pretty", "-i"])
        .arg(&image)
        .output()
        .unwrap();
    assert_eq!(stdout(&shown), stdout(&decoded));
    assert!(
        stdout(&shown).contains("\"extra\": \"aGVsbG8=\\n\""),
        "{}",
        stdout(&shown)
    );
    let left_out = crit()
        .args(["show", "--nopl"])
        .arg(&image)
        .output()
        .unwrap();
    assert!(stdout(&left_out).contains("\"extra\": \"... <5B>\""));
    check_failure(
        &fed(crit().arg("encode"), &left_out.stdout),
        "crit: standard input: line 7, column 22: entry 0: extra: payload was left out when this text was printed\n\
         hint: print the image with `crit decode --pretty`, not with `crit show --nopl`\n",
    );
}

#[test]
fn without_arguments_it_says_so_and_fails_as_pythons_tool() {
    let output = crit().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stdout(&output), "");
    assert!(
        stderr(&output).ends_with("crit: error: too few arguments\n"),
        "{}",
        stderr(&output)
    );
    assert_eq!(
        crit().arg("decipher").output().unwrap().status.code(),
        Some(2)
    );
}

#[test]
fn what_is_no_image_is_told_as_pythons_tool_does() {
    check_failure(
        &fed(crit().arg("decode"), b"\x7fELF\x02\x01\x01\0"),
        "Unknown magic 0x464c457f.\n\
         Maybe you are feeding me an image with raw data(i.e. pages.img)?\n",
    );
    check_failure(
        &fed(crit().arg("encode"), PSTREE),
        "Cannot read JSON.\n\
         Maybe you are feeding me an image with protobuf data? Encode expects JSON input.\n",
    );
}

#[test]
fn errors_say_where() {
    let directory = TempDir::new();
    let image = directory.join("pstree.img");
    fs::write(&image, &PSTREE[..20]).unwrap();
    check_failure(
        &crit()
            .args(["decode", "-o", "/dev/null", "-i"])
            .arg(&image)
            .output()
            .unwrap(),
        &format!(
            "crit: {} (PSTREE): entry 0 at byte 12: entry of 10 bytes exceeds the 8 bytes left in the file\n",
            image.display()
        ),
    );
    check_failure(
        &crit()
            .args(["decode", "-i", "/nonexistent/pstree.img"])
            .output()
            .unwrap(),
        "crit: cannot open /nonexistent/pstree.img: No such file or directory (os error 2)\n",
    );
    let typo = COMPACT.replace("\"pid\"", "\"pit\"");
    check_failure(
        &fed(crit().arg("encode"), typo.as_bytes()),
        "crit: standard input: line 1, column 34: entry 0: pstree_entry: unknown field `pit` of `pstree_entry`\n\
         hint: check the spelling, or pass --ignore-unknown to leave it out\n",
    );
}

#[test]
fn what_fails_leaves_the_file_as_it_was() {
    let directory = TempDir::new();
    let target = directory.join("target");
    for verb in ["decode", "encode"] {
        let output = fed(crit().args([verb, "-o"]).arg(&target), &PSTREE[..20]);
        assert_eq!(output.status.code(), Some(1));
        assert!(
            names(directory.path()).is_empty(),
            "{:?}",
            names(directory.path())
        );
    }
    fs::write(&target, "precious").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
    fed(crit().args(["decode", "-o"]).arg(&target), &PSTREE[..20]);
    assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    fed(crit().args(["decode", "-o"]).arg(&target), PSTREE);
    assert_eq!(fs::read_to_string(&target).unwrap(), COMPACT);
    assert_eq!(
        fs::metadata(&target).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert_eq!(names(directory.path()), ["target"]);
}

#[test]
fn a_file_that_is_written_anew_keeps_its_owner() {
    let dir = TempDir::new();
    let image = dir.path().join("pstree.img");
    fs::write(&image, "old").unwrap();
    if chown(&image, Some(65534), Some(65534)).is_err() {
        skip!(Unavoidable, "only root can give files away");
    }
    let output = fed(
        crit().args(["encode", "-o"]).arg(&image),
        COMPACT.as_bytes(),
    );
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::read(&image).unwrap(), PSTREE);
    let there = fs::metadata(&image).unwrap();
    assert_eq!((there.uid(), there.gid()), (65534, 65534));
}

#[test]
fn an_unknown_directory_is_told_without_the_name_of_a_draft() {
    let output = fed(crit().args(["decode", "-o", "/nowhere/a.json"]), PSTREE);
    check_failure(
        &output,
        "crit: cannot write /nowhere/a.json: No such file or directory (os error 2)\n",
    );
    let output = crit().args(["x", "/nowhere", "ps"]).output().unwrap();
    check_failure(&output, "crit: /nowhere: no such directory\n");
}

#[test]
fn of_an_option_given_twice_the_last_counts() {
    let arguments = [
        "decode",
        "--pretty",
        "--pretty",
        "-i",
        "/nowhere",
        "-i",
        "/dev/stdin",
    ];
    let output = fed(crit().args(arguments), PSTREE);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).starts_with("{\n    \"magic\""));
}

#[test]
fn only_what_comes_too_early_waits_in_a_temporary_file() {
    let data = "AAAA".repeat(1 << 20);
    let len = 3 << 20;
    let run = |text: String| {
        fed(
            crit().arg("encode").env("TMPDIR", "/nonexistent"),
            text.as_bytes(),
        )
    };
    let usual = run(format!(
        r#"{{"magic": "PIPES_DATA", "entries": [{{"pipe_id": 1, "bytes": {len}, "extra": "{data}"}}]}}"#
    ));
    assert_eq!(stderr(&usual), "");
    assert_eq!(usual.stdout.len(), 12 + 7 + len);
    for early in [
        format!(
            r#"{{"magic": "PIPES_DATA", "entries": [{{"extra": "{data}", "pipe_id": 1, "bytes": {len}}}]}}"#
        ),
        COMPACT.replace(r#""magic": "PSTREE", "#, ""),
    ] {
        let output = run(early);
        let said = stderr(&output);
        assert!(
            said.contains("cannot keep data in a temporary file"),
            "{said}"
        );
    }
}

#[test]
fn an_interrupted_command_leaves_nothing_behind() {
    let directory = TempDir::new();
    let mut child = crit()
        .args(["decode", "-o"])
        .arg(directory.join("target"))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    for _ in 0..1000 {
        if !names(directory.path()).is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(names(directory.path()).len(), 1);
    // The signals are watched from about when the draft is there.
    std::thread::sleep(Duration::from_millis(300));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(!child.wait().unwrap().success());
    drop(stdin);
    assert!(
        names(directory.path()).is_empty(),
        "{:?}",
        names(directory.path())
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut image = PSTREE.to_vec();
    for _ in 0..50_000 {
        image.extend(&PSTREE[8..]);
    }
    let directory = TempDir::new();
    let path = directory.join("pstree.img");
    fs::write(&path, image).unwrap();
    let mut child = crit()
        .args(["decode", "-i"])
        .arg(&path)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "");
}

#[test]
fn task_states_of_crit_4_2() {
    let text = r#"{"magic": "CORE", "entries": [{"mtype": "X86_64", "tc": {"task_state": "Stopped", "exit_code": 0, "personality": 0, "flags": 0, "blk_sigset": "0x0", "comm": "x"}}]}"#;
    for (version, number) in [("4.3", 3), ("4.2", 6)] {
        let image = fed(
            crit().args(["encode", "--task-state-words", version]),
            text.as_bytes(),
        );
        let back = fed(crit().arg("decode"), &image.stdout);
        let state = format!("\"task_state\": {number},");
        assert!(stdout(&back).contains(&state), "{}", stdout(&back));
    }
}

#[test]
fn python_exits_as_we_do() {
    let Some(python) = python_crit() else { return };
    let directory = TempDir::new();
    let image = directory.join("pstree.img");
    fs::write(&image, PSTREE).unwrap();
    let path = image.to_str().unwrap();
    for arguments in [
        &[][..],
        &["decode", "-i", path],
        &["decode", "--pretty", "-i", path],
        &["show", path],
        &["show", "--nopl", path],
        &["info", path],
        &["decode", "-i", "/nonexistent"],
        &["decode", "-i", "/bin/sh"],
        &["info", "/bin/sh", "more"],
        &["encode", "-i", path],
        &["decipher"],
    ] {
        let theirs = Command::new(&python)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let ours = crit().args(arguments).output().unwrap();
        assert_eq!(ours.status.code(), theirs.status.code(), "{arguments:?}");
        assert_eq!(stdout(&ours), stdout(&theirs), "{arguments:?}");
    }
}
