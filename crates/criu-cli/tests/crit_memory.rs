//! `crit mem`, `search`, `compress`, `decompress` and `flatten` as a user meets them.

#![expect(
    clippy::unwrap_used,
    reason = "a test has no better answer than to fail"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use criu_testkit::synthetic::{Image, Pagemap, Proto};
use criu_testkit::{TempDir, python_crit};
use serde_json::Value;

fn crit(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crit"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command that succeeds prints.
#[track_caller]
fn said(arguments: &[&str]) -> String {
    let output = crit(arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The directory of a real dump.
fn fixture(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    path.join(name).canonicalize().unwrap()
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

/// A task with a page of text, one never written, one of a lazy dump, and a page of a mapped file.
fn write_small(dir: &Path) {
    let mut page = b"the secret word is xyzzy, is it not?".to_vec();
    page.resize(4096, b'.');
    let map = Pagemap::new(1)
        .entry(0x10000, 1, 4)
        .bytes(&page)
        .entry(0x12000, 1, 2);
    write_task(
        dir,
        &[(0x10000, 0x13000, 1 << 9), (0x20000, 0x21000, 1 << 6)],
        map,
    );
}

fn write_task(dir: &Path, areas: &[(u64, u64, u64)], map: Pagemap) {
    fs::create_dir_all(dir).unwrap();
    let mut mm = Proto::new();
    for number in 1..=12 {
        mm = mm.varint(number, 0);
    }
    for &(start, end, status) in areas {
        let vma = Proto::new()
            .varint(1, start)
            .varint(2, end)
            .varint(3, 0x3000)
            .varint(4, 5)
            .varint(5, 3)
            .varint(6, 2)
            .varint(7, 1 | status)
            .zigzag(8, -1);
        mm = mm.message(14, &vma);
    }
    let mut task = Proto::new();
    for (number, value) in [(1, 7), (2, 0), (3, 7), (4, 7), (5, 7)] {
        task = task.varint(number, value);
    }
    let inventory = Proto::new().varint(1, 2).varint(2, 1);
    let inventory = Image::new(criu_testkit::synthetic::Order::Little)
        .word(0x5831_3116)
        .entry(&inventory);
    let (map, pages) = map.into_images();
    for (name, bytes) in [
        ("inventory.img", inventory.into_bytes()),
        (
            "pstree.img",
            Image::common(0x5027_3030).entry(&task).into_bytes(),
        ),
        (
            "mm-7.img",
            Image::common(0x5749_2820).entry(&mm).into_bytes(),
        ),
        ("pagemap-7.img", map),
        ("pages-1.img", pages),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
    }
}

#[test]
fn a_match_is_shown_with_its_place_and_what_is_around_it() {
    let dir = TempDir::new();
    write_small(dir.path());
    let dir = dir.path().to_str().unwrap();
    let line = "7 000000010013 [anonymous]   secret word is xyzzy, is it not?....\n";
    assert_eq!(said(&["search", dir, "xyzzy"]), line);
    assert_eq!(said(&["search", dir, "--regex", r"x[yz]+\b"]), line);
    assert_eq!(said(&["search", dir, "--hex", "78 79 ?? 7a79"]), line);
    assert_eq!(
        said(&["search", dir, "--context", "2", "--pid", "7", "is"]),
        "7 000000010010 [anonymous]  d is x\n7 00000001001a [anonymous]  , is i\n"
    );
    assert_eq!(said(&["search", dir, "--count", "is"]), "2\n");
    assert_eq!(
        said(&["search", dir, "--limit", "1", "--count", "is"]),
        "1\n"
    );
    assert_eq!(
        said(&["search", dir, "--count", "--range", "10011-", "is"]),
        "1\n"
    );
    // What is around it ends where memory does.
    let end = said(&["search", dir, "--context", "8", "--regex", r"(?-u)\.\x00"]);
    assert_eq!(end, "7 000000010fff [anonymous]  ..................\n");

    let json: Value = serde_json::from_str(&said(&["search", dir, "--json", "xyzzy"])).unwrap();
    assert_eq!(json["address"], "0x10013");
    assert_eq!(json["bytes"], "78797a7a79");
    assert_eq!((&json["pid"], &json["length"]), (&7.into(), &5.into()));
    assert_eq!(json["area"]["end"], "0x13000");

    let nothing = crit(&["search", dir, "plugh"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert_eq!(text(&nothing.stdout), "");
    assert_eq!(
        text(&nothing.stderr),
        "crit: not searched: 4 KiB left in the source by a lazy dump\n"
    );
    for wrong in [
        vec!["search", dir, "--hex", "7"],
        vec!["search", dir, "--regex", "("],
        vec!["search", dir, ""],
        vec!["search", "/nonexistent", "x"],
        vec!["search", dir, "--pid", "8", "x"],
        vec!["search", dir, "--regex", "--hex", "x"],
    ] {
        assert_eq!(crit(&wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn utf16_is_found() {
    let dir = TempDir::new();
    let mut page = vec![b'.'; 4096];
    for (index, unit) in "grüße".encode_utf16().enumerate() {
        page[100 + 2 * index..][..2].copy_from_slice(&unit.to_le_bytes());
    }
    let map = Pagemap::new(1).entry(0x10000, 1, 4).bytes(&page);
    write_task(dir.path(), &[(0x10000, 0x11000, 1 << 9)], map);
    let dir = dir.path().to_str().unwrap();
    assert_eq!(said(&["search", dir, "--utf16", "--count", "grüße"]), "1\n");
    assert_eq!(crit(&["search", dir, "grüße"]).status.code(), Some(1));
}

#[test]
fn memory_is_told_by_area_and_by_part() {
    let dir = TempDir::new();
    write_small(dir.path());
    let dir = dir.path().to_str().unwrap();
    assert_eq!(
        said(&["mem", dir]),
        "7\n\
         ADDRESSES                  SIZE    PROT  HERE   PARENT  ZERO   LAZY   FILE   OTHER  WHAT\n\
         000000010000-000000013000  12 KiB  rw-p  4 KiB  -       4 KiB  4 KiB  -      -      [anonymous]\n\
         000000020000-000000021000  4 KiB   rw-p  -      -       -      -      4 KiB  -      [file]+0x3000\n\
         total                      16 KiB        4 KiB  -       4 KiB  4 KiB  4 KiB  -\n"
    );
    let spans = said(&[
        "mem",
        dir,
        "--spans",
        "--kind",
        "anonymous",
        "--range",
        "10000+8K",
    ]);
    let lines: Vec<&str> = spans.lines().collect();
    assert_eq!(lines.len(), 6, "{spans}");
    assert!(
        lines[3].contains("10000-000000011000  4 KiB") && lines[3].ends_with("pages-1.img+0x0")
    );
    assert!(lines[4].ends_with("zero, never written to"));
    assert!(!said(&["mem", dir, "--protection", "??x"]).contains("anonymous"));
    let json: Value = serde_json::from_str(&said(&["mem", dir, "--json", "--spans"])).unwrap();
    let areas = &json["tasks"][0]["areas"];
    assert_eq!(areas[0]["spans"][2]["in"], "lazy");
    assert_eq!(areas[0]["in_pages"][0], 4096);
    assert_eq!(areas[1]["kind"], "file");
}

#[test]
fn bytes_are_dumped_and_absent_ones_are_marked() {
    let dir = TempDir::new();
    write_small(dir.path());
    let path = dir.path().to_str().unwrap();
    assert_eq!(
        said(&["mem", path, "--at", "10ff8", "--len", "0x1018"]),
        "\
000000010ff8  2e 2e 2e 2e 2e 2e 2e 2e  00 00 00 00 00 00 00 00  |................|
000000011008  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
000000011ff8  00 00 00 00 00 00 00 00                           |........|
000000012000  -- 0x10 bytes left in the source by a lazy dump
000000012010
"
    );
    let end = said(&["mem", path, "--at", "0x20ff0", "--len", "32"]);
    assert_eq!(
        end,
        "000000020ff0  -- 0x10 bytes in file 5+0x3ff0\n\
         000000021000  -- 0x10 bytes not mapped\n000000021010\n"
    );
    let out = dir.join("out");
    let written = crit(&["mem", path, "--out", out.to_str().unwrap()]);
    assert!(written.status.success());
    let notes = text(&written.stderr);
    assert!(
        notes.contains("zeros stand for 4 KiB in mapped files"),
        "{notes}"
    );
    assert!(
        notes.contains("zeros stand for 4 KiB left in the source"),
        "{notes}"
    );
    let bytes = fs::read(&out).unwrap();
    assert_eq!(bytes.len(), 0x4000);
    assert!(bytes.starts_with(b"the secret") && bytes[0x1000..].iter().all(|&byte| byte == 0));
    let piped = crit(&["mem", path, "--at", "10004", "--len", "6", "--out", "-"]);
    assert_eq!(text(&piped.stdout), "secret");

    let wrong = crit(&["mem", path, "--at", "5"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert_eq!(text(&wrong.stderr), "crit: task 7 has nothing at 0x5\n");
}

#[test]
fn real_dumps_give_back_what_their_tasks_held() {
    for version in ["4.2", "4.3"] {
        let dir = fixture(version).join("tree");
        let dir = dir.to_str().unwrap();
        let json: Value = serde_json::from_str(&said(&["mem", dir, "--json"])).unwrap();
        let tasks = json["tasks"].as_array().unwrap();
        assert!(tasks.len() > 1, "{version}");
        for task in tasks {
            let kinds: Vec<&str> = task["areas"]
                .as_array()
                .unwrap()
                .iter()
                .map(|area| area["kind"].as_str().unwrap())
                .collect();
            for kind in ["heap", "stack", "vdso", "file", "anonymous"] {
                assert!(kinds.contains(&kind), "{version}: no {kind} in {kinds:?}");
            }
            assert_eq!(task["missing"], 0);
        }
        // Each task has its own vDSO, which is an ELF file.
        let count = said(&["search", dir, "--count", "--hex", "7f 45 4c 46 02"]);
        assert!(
            count.trim().parse::<usize>().unwrap() >= tasks.len(),
            "{count}"
        );
    }
}

#[test]
fn compressing_says_what_pythons_tool_says() {
    let Some(python) = python_crit() else { return };
    for version in ["4.2", "4.3"] {
        let dir = TempDir::new();
        let (one, two) = (dir.join("one"), dir.join("two"));
        for copied in [&one, &two] {
            copy(&fixture(version).join("plain"), copied);
        }
        let by_python = |verb: &str, dir: &Path| {
            let output = Command::new(&python).arg(verb).arg(dir).output().unwrap();
            (output.status.code(), text(&output.stdout))
        };
        let by_us = |verb: &str, dir: &Path| {
            let output = crit(&[verb, dir.to_str().unwrap()]);
            (output.status.code(), text(&output.stdout))
        };
        // But for the sizes, which are up to the compressor.
        let without_sizes = |(code, said): (Option<i32>, String), dir: &Path| {
            let said = said.replace(dir.to_str().unwrap(), "DIR");
            let lines: Vec<String> = said
                .lines()
                .map(|line| line.split(" (").next().unwrap().to_owned())
                .collect();
            (code, lines)
        };
        for verb in ["compress", "compress", "decompress"] {
            for (dir, name) in [&one, &two].into_iter().flat_map(|dir| {
                let names = files(dir).into_keys();
                names.map(move |name| (dir, name))
            }) {
                // Neither overwrites a backup.
                if name.ends_with(".bak") {
                    fs::remove_file(dir.join(name)).unwrap();
                }
            }
            assert_eq!(
                without_sizes(by_us(verb, &one), &one),
                without_sizes(by_python(verb, &two), &two),
                "{verb}"
            );
        }
    }
}

#[test]
fn existing_backups_are_not_overwritten() {
    let dir = TempDir::new();
    write_small(dir.path());
    fs::write(dir.join("pages-1.img.bak"), "precious").unwrap();
    let before = files(dir.path());
    let refused = crit(&["compress", dir.path().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    let message = text(&refused.stderr);
    assert!(
        message.contains("refusing to overwrite existing backup"),
        "{message}"
    );
    assert!(message.contains("hint:"), "{message}");
    assert!(files(dir.path()) == before);
    said(&["compress", "--in-place", dir.path().to_str().unwrap()]);
}

#[test]
fn an_interrupted_compression_leaves_no_trace() {
    let dir = TempDir::new();
    let mut state = 1u32;
    let noise: Vec<u8> = (0..24 << 20)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect();
    let map = Pagemap::new(1)
        .entry(0x1000_0000, noise.len() as u64 / 4096, 4)
        .bytes(&noise);
    write_task(dir.path(), &[(0x1000_0000, 0x2000_0000, 1 << 9)], map);
    let before = files(dir.path());
    let child = Command::new(env!("CARGO_BIN_EXE_crit"))
        .arg("compress")
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while fs::read_dir(dir.path()).unwrap().count() == before.len() {
        assert!(Instant::now() < deadline, "no staged file");
        std::thread::sleep(Duration::from_millis(1));
    }
    let status = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.signal(), None);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(
        text(&output.stderr).contains("interrupted"),
        "{}",
        text(&output.stderr)
    );
    assert!(files(dir.path()) == before);
}

#[test]
fn a_chain_is_flattened_elsewhere_or_in_place() {
    let dir = TempDir::new();
    let (first, last) = (dir.join("1"), dir.join("2"));
    write_small(&first);
    let map = Pagemap::new(1).entry(0x10000, 1, 1);
    write_task(&last, &[(0x10000, 0x13000, 1 << 9)], map);
    std::os::unix::fs::symlink("../1", last.join("parent")).unwrap();
    let (last, flat) = (last.to_str().unwrap(), dir.join("flat"));
    let spans = said(&["mem", last, "--spans"]);
    assert!(spans.contains("parent's pages-1.img+0x0"), "{spans}");
    let flat = flat.to_str().unwrap();
    let told = said(&["flatten", last, "-o", flat]);
    assert_eq!(
        told,
        format!("pagemap-7.img: 1 pages, 4 KiB\n{flat} needs no parent\n")
    );
    said(&["flatten", last]);
    assert_eq!(said(&["flatten", last]), format!("{last} has no parent\n"));
    fs::remove_dir_all(&first).unwrap();
    for dir in [flat, last] {
        assert_eq!(said(&["search", dir, "--count", "xyzzy"]), "1\n");
    }
}
