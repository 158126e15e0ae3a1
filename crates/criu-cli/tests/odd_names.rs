//! Names that are not UTF-8: of the process's files, and of the directory that the images are in.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use criu_testkit::{CriuUnderTest, Scene, TempDir, recode};

fn crit<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_crit"))
        .args(arguments)
        .output()
        .expect("crit runs")
}

/// The command's answer, which has to be a good one.
#[track_caller]
fn answer<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Vec<u8> {
    let output = crit(arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    output.stdout
}

/// A name that is no UTF-8, as bytes.
fn odd(name: &str) -> OsString {
    OsString::from_vec([name.as_bytes(), b"\xff\xc3("].concat())
}

/// Holds a file, an unlinked file, a named pipe and a unix socket open, and works in a directory, all with odd names,
/// its own included.
const ODD: &str = r#"use Socket;
my ($home, @program) = @ARGV;
$^F = 255;
my $odd = "\xff\xc3(";
mkdir "$home/cwd$odd"; chdir "$home/cwd$odd" or die;
open our $file, "+>", "$home/file$odd" or die;
open our $ghost, "+>", "$home/ghost$odd" or die;
print $ghost "content"; unlink "$home/ghost$odd";
system "mkfifo", "$home/fifo$odd"; open our $fifo, "+<", "$home/fifo$odd" or die;
socket our $socket, AF_UNIX, SOCK_DGRAM, 0 or die;
bind $socket, sockaddr_un("$home/socket$odd") or die;
exec @program;"#;

fn scene(home: &Path) -> Scene {
    Scene::new().prelude(&["perl", "-e", ODD, home.to_str().expect("text")])
}

/// The bytes of all files of a directory, but for logs.
fn images(directory: &Path) -> Vec<(OsString, Vec<u8>)> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("reads"))
        .filter(|entry| entry.path().extension().is_some_and(|end| end == "img"))
        .map(|entry| (entry.file_name(), fs::read(entry.path()).expect("reads")))
        .collect();
    files.sort();
    files
}

#[test]
fn a_process_whose_files_have_odd_names_survives_json_and_set() {
    for criu in CriuUnderTest::all() {
        let place = TempDir::new();
        let home = place.make_dir("home");
        let directory = place.make_dir(odd("images"));
        let mut process = scene(&home).start();
        process.wait_for_count_above(1);
        let pid = process.pid();
        criu.dump(pid, &directory, &[]);
        process.reap();

        let before = images(&directory);
        recode(Path::new(env!("CARGO_BIN_EXE_crit")), &directory);
        assert!(images(&directory) == before, "JSON lost something");
        answer([OsStr::new("verify"), directory.as_os_str()]);
        let cwd = home.join(odd("cwd"));
        let shown = |what| answer([OsStr::new("x"), directory.as_os_str(), OsStr::new(what)]);
        let fds = shown("fds");
        for name in ["cwd", "file"] {
            let path = home.join(odd(name));
            let path = path.as_os_str().as_bytes();
            let is_shown = fds.windows(path.len()).any(|window| window == path);
            assert!(is_shown, "{}", String::from_utf8_lossy(&fds));
        }
        let sockets = String::from_utf8(shown("sk")).expect("text");
        assert!(sockets.contains("socket\u{fffd}\u{fffd}("), "{sockets}");

        // Moved to where the name is odd in another way.
        let moved = home.join(OsStr::from_bytes(b"\xfe"));
        fs::rename(&cwd, &moved).expect("moved");
        let change = [
            b"path:",
            cwd.as_os_str().as_bytes(),
            b"=",
            moved.as_os_str().as_bytes(),
        ];
        let change = OsString::from_vec(change.concat());
        let comm = OsStr::from_bytes(b"comm=\xff\xfe");
        answer([OsStr::new("set"), directory.as_os_str(), &change, comm]);

        let count = process.count();
        process.restored_as(criu.restore(&directory, &[]));
        process.wait_for_count_above(count);
        let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).expect("it runs");
        assert_eq!(link("cwd"), moved);
        let comm = fs::read(format!("/proc/{pid}/comm")).expect("it runs");
        assert_eq!(comm, b"\xff\xfe\n");
        let open: Vec<_> = (3..10)
            .filter_map(|fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok())
            .collect();
        assert!(open.contains(&home.join(odd("file"))), "{open:?}");
        assert!(open.contains(&home.join(odd("fifo"))), "{open:?}");
    }
}

/// A copy of a fixture in a directory with an odd name.
fn fixture(place: &TempDir, set: &str, name: &str) -> std::path::PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/4.3");
    let copy = place.make_dir(odd(name));
    for entry in fs::read_dir(fixtures.join(set)).expect("fixtures") {
        let entry = entry.expect("reads");
        if entry.file_type().expect("known").is_file() {
            fs::copy(entry.path(), copy.join(entry.file_name())).expect("copied");
        }
    }
    copy
}

#[test]
fn every_verb_takes_a_directory_with_an_odd_name() {
    let place = TempDir::new();
    let first = fixture(&place, "incremental-1", "first");
    let second = fixture(&place, "incremental-2", "second");
    let last = fixture(&place, "incremental", "last");
    symlink(Path::new("..").join(odd("first")), second.join("parent")).expect("linked");
    symlink(Path::new("..").join(odd("second")), last.join("parent")).expect("linked");
    let plain = fixture(&place, "plain", "plain");
    let flat = place.join(odd("flat"));
    let out = place.join(odd("out"));
    let word = |word: &'static str| OsStr::new(word);
    let (last, plain, out) = (last.as_os_str(), plain.as_os_str(), out.as_os_str());
    answer([word("verify"), last, plain]);
    answer([word("verify"), word("--json"), last, plain]);
    answer([word("x"), plain, word("ps"), word("--json")]);
    answer([word("stats"), plain]);
    answer([word("mem"), plain]);
    answer([word("search"), plain, word("count")]);
    let inventory = Path::new(plain).join("inventory.img");
    let inventory = inventory.as_os_str();
    answer([word("info"), inventory]);
    answer([word("show"), inventory]);
    answer([word("decode"), word("-i"), inventory, word("-o"), out]);
    answer([word("encode"), word("-i"), out, word("-o"), inventory]);
    answer([word("compress"), word("--in-place"), plain]);
    answer([word("decompress"), word("--in-place"), plain]);
    answer([word("set"), plain, word("comm=x"), word("--backup")]);
    answer([word("flatten"), last, word("-o"), flat.as_os_str()]);
    assert!(flat.join("inventory.img").exists());
    fs::remove_dir_all(&first).expect("removed");
    answer([word("verify"), flat.as_os_str()]);
    let output = crit([word("verify"), last]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn errors_show_odd_names_as_far_as_they_can_be_shown() {
    let place = TempDir::new();
    let missing = place.join(OsStr::from_bytes(b"no\xffthing\x1b"));
    let set = [
        vec![OsStr::new("x"), missing.as_os_str(), OsStr::new("ps")],
        vec![OsStr::new("verify"), missing.as_os_str()],
        vec![OsStr::new("decode"), OsStr::new("-i"), missing.as_os_str()],
        vec![OsStr::new("set"), missing.as_os_str(), OsStr::new("comm=x")],
        vec![OsStr::new("compress"), missing.as_os_str()],
    ];
    for arguments in set {
        let output = crit(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let told = [output.stdout, output.stderr].concat();
        let told = String::from_utf8(told).expect("text");
        assert!(
            told.contains("no\u{fffd}thing\\u{1b}"),
            "{arguments:?}: {told}"
        );
    }
    let output = crit([
        OsStr::new("set"),
        OsStr::new("x"),
        OsStr::from_bytes(b"cwd=\xff"),
    ]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(r#""\xff" is no absolute path"#), "{told}");
}

#[test]
fn criuctl_takes_a_directory_with_an_odd_name() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let criuctl = |arguments: &[&OsStr]| {
        let output = Command::new(env!("CARGO_BIN_EXE_criuctl"))
            .arg("--criu")
            .arg(criu.path())
            .arg("--json")
            .args(arguments)
            .output()
            .expect("criuctl runs");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    let place = TempDir::new();
    let images = place.join(odd("images"));
    let mut process = Scene::new().start();
    process.wait_for_count_above(1);
    let pid = process.pid().to_string();
    let (images, directory) = (images.as_os_str(), OsStr::new("-D"));
    fs::create_dir(images).expect("made");
    let told = criuctl(&[OsStr::new("dump"), OsStr::new(&pid), directory, images]);
    let shown = images.to_string_lossy();
    assert_eq!(told["images"].as_str(), Some(&*shown));
    process.reap();
    let count = process.count();
    let told = criuctl(&[OsStr::new("explain"), images]);
    assert!(told["failure"].is_null(), "{told}");
    let told = criuctl(&[
        OsStr::new("restore"),
        directory,
        images,
        OsStr::new("--detach"),
    ]);
    assert_eq!(told["images"].as_str(), Some(&*shown));
    process.restored_as(u32::try_from(told["pid"].as_u64().expect("a pid")).expect("a pid"));
    process.wait_for_count_above(count);
}
