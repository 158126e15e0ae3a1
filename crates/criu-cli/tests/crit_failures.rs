//! What goes wrong with files is said with the file and the cause, and leaves nothing half done.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use criu_testkit::TempDir;

const CRIT: &str = env!("CARGO_BIN_EXE_crit");

#[track_caller]
fn fails(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    told
}

fn crit(arguments: &[&Path]) -> Output {
    let output = Command::new(CRIT).args(arguments).output();
    output.expect("crit runs")
}

/// Runs it with no byte to be written to any file, as on a full disk.
fn crit_without_room(arguments: &[&Path]) -> Output {
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh", CRIT])
        .args(arguments)
        // A pipe, which has no limit.
        .stderr(Stdio::piped())
        .output()
        .expect("sh runs")
}

fn fixture(set: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/4.3")
        .join(set)
}

/// A copy of a fixture that its owner may change.
fn copied(set: &str, place: &TempDir) -> PathBuf {
    let copy = place.make_dir(set);
    for entry in fs::read_dir(fixture(set)).expect("fixtures") {
        let entry = entry.expect("reads");
        if entry.file_type().expect("known").is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name())).expect("copied");
        }
    }
    copy
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("reads").file_name().into_string())
        .map(|name| name.expect("text"))
        .collect();
    names.sort();
    names
}

/// The file of that beginning.
fn image(directory: &Path, beginning: &str) -> PathBuf {
    let names = names(directory);
    let name = names.iter().find(|name| name.starts_with(beginning));
    directory.join(name.expect("there is one"))
}

#[test]
fn a_full_disk_is_named_with_the_file_that_did_not_fit() {
    let place = TempDir::new();
    let path = Path::new;
    let (inventory, json) = (fixture("plain/inventory.img"), place.join("json"));
    let decode = [path("decode"), path("-i"), &inventory, path("-o")];
    assert!(crit(&[&decode[..], &[&json]].concat()).status.success());
    let encode = [path("encode"), path("-i"), &json, path("-o")];
    let out = place.join("out");
    for verb in [decode, encode] {
        let told = fails(&crit(&[&verb[..], &[path("/dev/full")]].concat()));
        let expected = "crit: cannot write /dev/full: No space left on device (os error 28)\n";
        assert_eq!(told, expected);
        let told = fails(&crit_without_room(&[&verb[..], &[&out]].concat()));
        let file = out.display();
        let expected = format!("crit: cannot write {file}: File too large (os error 27)\n");
        assert_eq!(told, expected);
    }

    let chain = fixture("incremental");
    let flat = place.join("flat");
    let told = fails(&crit_without_room(&[
        path("flatten"),
        &chain,
        path("-o"),
        &flat,
    ]));
    let pages = flat.join("pages-1.img");
    let expected = format!("{}: cannot write: File too large", pages.display());
    assert!(told.contains(&expected), "{told}");
    assert_eq!(names(place.path()), ["json"], "something was left");

    let plain = copied("plain", &place);
    let before = names(&plain);
    let told = fails(&crit_without_room(&[path("compress"), &plain]));
    assert!(told.contains("cannot write: File too large"), "{told}");
    assert_eq!(names(&plain), before);
}

#[test]
fn a_link_that_leads_nowhere_stays_a_link() {
    let place = TempDir::new();
    let (link, out) = (place.join("link"), place.join("out"));
    symlink("out", &link).expect("linked");
    let inventory = fixture("plain/inventory.img");
    let [decode, from, to] = ["decode", "-i", "-o"].map(Path::new);
    let output = crit(&[decode, from, &inventory, to, &link]);
    assert!(output.status.success());
    assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
    assert!(fs::metadata(&out).expect("made").len() > 0);
}

#[test]
fn a_flattened_checkpoint_has_the_images_that_were_links() {
    let place = TempDir::new();
    let chain = copied("incremental", &place);
    symlink(fixture("incremental-2"), chain.join("parent")).expect("linked");
    let core = image(&chain, "core-");
    let elsewhere = place.join("elsewhere");
    fs::rename(&core, &elsewhere).expect("moved");
    symlink(&elsewhere, &core).expect("linked");
    let flat = place.join("flat");
    let arguments = [Path::new("flatten"), &chain, Path::new("-o"), &flat];
    let output = crit(&arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(crit(&[Path::new("verify"), &flat]).status.success());
    let copy = image(&flat, "core-");
    assert!(fs::symlink_metadata(&copy).expect("there").is_file());

    // A copy without the image would be found out at the restore only.
    fs::remove_file(&elsewhere).expect("removed");
    fs::remove_dir_all(&flat).expect("removed");
    let told = fails(&crit(&arguments));
    let name = core.file_name().expect("a name").to_string_lossy();
    assert!(told.contains(&*name), "{told}");
    assert!(!flat.exists());
}

#[test]
fn a_pages_file_that_is_none_is_not_called_missing() {
    let place = TempDir::new();
    let plain = copied("plain", &place);
    let pages = plain.join("pages-1.img");
    fs::remove_file(&pages).expect("removed");
    let compress = [Path::new("compress"), &plain];
    assert!(fails(&crit(&compress)).contains("pages-1.img is missing"));
    fs::create_dir(&pages).expect("made");
    let told = fails(&crit(&compress));
    assert!(told.contains("pages-1.img: not a regular file"), "{told}");
}

#[test]
fn a_process_that_is_not_there_is_not_a_missing_image() {
    let (plain, path) = (fixture("plain"), Path::new);
    let mem = [path("mem"), &plain, path("--pid"), path("7")];
    let told = fails(&crit(&mem));
    assert!(told.contains("holds no process with the id 7"), "{told}");
    let told = fails(&crit(&[&mem[..], &[path("--at"), path("0")]].concat()));
    assert!(told.contains("holds no process with the id 7"), "{told}");
}

#[test]
fn a_damaged_block_is_named_with_its_place() {
    let place = TempDir::new();
    let compressed = copied("plain-compressed", &place);
    let pages = compressed.join("pages-1.img");
    let len = fs::metadata(&pages).expect("there").len();
    fs::write(&pages, vec![0; usize::try_from(len).expect("small")]).expect("written");
    for verb in ["decompress", "search"] {
        let mut arguments = vec![Path::new(verb), &compressed];
        if verb == "search" {
            arguments.push(Path::new("anything"));
        }
        let output = crit(&arguments);
        assert!(matches!(output.status.code(), Some(1 | 2)));
        let told = String::from_utf8_lossy(&output.stderr);
        let expected = "pages-1.img: at byte 0: block is no LZ4";
        assert!(told.contains(expected), "{verb}: {told}");
    }
}
