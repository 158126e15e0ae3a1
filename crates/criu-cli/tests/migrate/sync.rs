//! Files that exist only on the source.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use criu_testkit::{BindMount, CriuUnderTest, Scene, Subreaper, TempDir, TestProcess, skip};
use rustix::process::Signal;

use crate::sides::{criuctl_in, have, listening, signal, traveller, wait_for, which};

/// Another file system tree to restore in: what the destination has of its own.
#[derive(Debug)]
struct Elsewhere {
    /// Unmounted before the directory is removed that it lies in.
    root: BindMount,
    directory: TempDir,
}

impl Elsewhere {
    fn new() -> Self {
        let directory = TempDir::new();
        let root = BindMount::new(directory.make_dir("root"));
        Self { directory, root }
    }

    fn join(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// A script that runs as an action script, at one stage.
    fn script(&self, stage: &str, text: &str) -> PathBuf {
        let path = self.directory.join("script");
        let text = format!("#!/bin/sh\n[ \"$CRTOOLS_SCRIPT_ACTION\" = {stage} ] || exit 0\n{text}");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// How far the restored process has counted.
    fn count(&self) -> u64 {
        let text = fs::read_to_string(self.join("state/count")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }
}

/// A migration, and what both sides said of it.
#[derive(Debug)]
struct Moved {
    sent: ExitStatus,
    said: String,
}

/// Sends the process elsewhere; `send` and `receive` are further options.
fn run(
    criu: &CriuUnderTest,
    process: &TestProcess,
    elsewhere: &Elsewhere,
    send: &[&str],
    receive: &[&str],
) -> Moved {
    let (mut sender, mut receiver) = start(criu, process, elsewhere, send, receive);
    let sent = wait_for(&mut sender, "the sender");
    // A receiver that turned the sender away waits for the next.
    let deadline = Instant::now() + Duration::from_secs(10);
    while receiver.try_wait().unwrap().is_none() {
        if said(elsewhere).contains("turned") || Instant::now() > deadline {
            signal(receiver.id(), Signal::INT);
            wait_for(&mut receiver, "the receiver");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = said(elsewhere);
    Moved { sent, said }
}

fn start(
    criu: &CriuUnderTest,
    process: &TestProcess,
    elsewhere: &Elsewhere,
    send: &[&str],
    receive: &[&str],
) -> (Child, Child) {
    Subreaper::enable();
    let work = elsewhere.directory.make_dir("destination");
    let mut receiving = criuctl_in(&elsewhere.directory, criu);
    receiving.args(["migrate", "receive", "--listen", "127.0.0.1:0", "-D"]);
    receiving.arg(work).arg("--root").arg(elsewhere.root.path());
    receiving.args(receive);
    let (receiver, address) = listening(receiving, &elsewhere.directory);
    let pid = process.pid().to_string();
    let mut sending = criuctl_in(&elsewhere.directory, criu);
    sending.args(["migrate", "send", &pid, &address.to_string(), "-D"]);
    sending
        .arg(elsewhere.directory.make_dir("source"))
        .args(send);
    let slow = elsewhere.directory.join("bin");
    let path = std::env::var("PATH").unwrap();
    sending.env("PATH", format!("{}:{path}", slow.display()));
    let errors = fs::File::create(elsewhere.directory.join("sender")).unwrap();
    let sender = sending.stdout(Stdio::null()).stderr(errors).spawn();
    (sender.unwrap(), receiver)
}

fn said(elsewhere: &Elsewhere) -> String {
    let read = |name| fs::read_to_string(elsewhere.directory.join(name)).unwrap_or_default();
    format!("sender: {}receiver: {}", read("sender"), read("receiver"))
}

/// The process that writes the counter elsewhere.
#[track_caller]
fn arrived(process: &mut TestProcess, elsewhere: &Elsewhere, moved: &Moved) {
    assert!(moved.sent.success(), "{}", moved.said);
    let pid = moved.said.split("runs there as process ").nth(1).unwrap();
    let pid = pid.split_whitespace().next().unwrap().parse().unwrap();
    process.reap();
    process.restored_as(pid);
    let before = elsewhere.count();
    let deadline = Instant::now() + Duration::from_secs(20);
    while elsewhere.count() <= before {
        assert!(
            Instant::now() < deadline,
            "it does not count: {}",
            moved.said
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a tree has of all that rsync may lose.
fn furnish(root: &Path) {
    let data = root.join("data");
    fs::create_dir(&data).unwrap();
    for name in ["changed", "gone", "a name", "late"] {
        fs::write(data.join(name), "before").unwrap();
    }
    let file = fs::File::options().append(true).open(data.join("changed"));
    let second = Duration::from_secs(1_000_000_000);
    file.unwrap()
        .set_modified(std::time::UNIX_EPOCH + second)
        .unwrap();
    fs::set_permissions(data.join("a name"), fs::Permissions::from_mode(0o4640)).unwrap();
    std::os::unix::fs::chown(data.join("a name"), Some(1234), Some(5678)).unwrap();
    fs::hard_link(data.join("a name"), data.join("link")).unwrap();
    std::os::unix::fs::symlink("/nowhere", data.join("symlink")).unwrap();
    fs::File::create(data.join("sparse"))
        .unwrap()
        .set_len(64 << 20)
        .unwrap();
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
    let mode = Mode::from_raw_mode(0o600);
    mknodat(
        CWD,
        data.join("null"),
        FileType::CharacterDevice,
        mode,
        makedev(1, 3),
    )
    .unwrap();
    mknodat(CWD, data.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    setxattr(
        data.join("changed"),
        "user.note",
        b"kept",
        XattrFlags::empty(),
    )
    .unwrap();
}

#[test]
fn a_tree_arrives_with_a_root_that_the_destination_had_nothing_of() {
    if !have("rsync") {
        skip!(Avoidable, "rsync is not installed");
    }
    for criu in CriuUnderTest::all() {
        let mut process = traveller(Scene::new().memory_kib(512).children(1).open_file());
        let root = process.root().unwrap().to_path_buf();
        furnish(&root);
        let elsewhere = Elsewhere::new();
        // Between the passes: a change of content without one of length or time in a file that is open, a
        // change of a file that is not, within the second in which it was copied, a new and a removed one.
        let script = elsewhere.script(
            "pre-dump",
            &format!(
                "cd {}\ntouch -r state/plain data/late\nprintf 'AN OPEN FILE' | dd of=state/plain conv=notrunc 2>&1\n\
                 touch -r data/late state/plain\nprintf after- > data/changed\ntouch -d @1000000000.5 data/changed\nrm data/gone\necho > data/new\n",
                root.display()
            ),
        );
        let script = script.display().to_string();
        let moved = run(
            &criu,
            &process,
            &elsewhere,
            &["--sync", "/", "--action-script", &script],
            &["--allow-sync", "/"],
        );
        arrived(&mut process, &elsewhere, &moved);
        let data = elsewhere.join("data");
        let read = |path: &str| fs::read_to_string(elsewhere.join(path)).unwrap();
        assert_eq!(read("state/plain"), "AN OPEN FILE");
        assert_eq!(read("data/changed"), "after-");
        assert!(data.join("new").exists() && !data.join("gone").exists());
        let of = |name: &str| fs::symlink_metadata(data.join(name)).unwrap();
        let before = fs::metadata(root.join("data/a name")).unwrap();
        let kept = of("a name");
        assert_eq!(
            (kept.uid(), kept.gid(), kept.mode()),
            (1234, 5678, before.mode())
        );
        assert_eq!(
            (kept.mtime(), kept.mtime_nsec()),
            (before.mtime(), before.mtime_nsec())
        );
        assert_eq!(of("link").ino(), kept.ino());
        assert_eq!(of("sparse").len(), 64 << 20);
        assert!(of("sparse").blocks() < 100, "{}", of("sparse").blocks());
        assert!(of("null").file_type().is_char_device() && of("fifo").file_type().is_fifo());
        assert_eq!(
            fs::read_link(data.join("symlink")).unwrap(),
            Path::new("/nowhere")
        );
        let mut note = [0; 8];
        let count = rustix::fs::getxattr(data.join("changed"), "user.note", &mut note).unwrap();
        assert_eq!(&note[..count], b"kept");
        // Other file systems of its mount namespace come with its images.
        assert_eq!(fs::read_dir(elsewhere.join("proc")).unwrap().count(), 0);
        for side in ["source", "destination"] {
            let left = fs::read_dir(elsewhere.directory.join(side))
                .unwrap()
                .count();
            assert_eq!(left, 0, "{side}");
        }
    }
}

/// The last pass is over before the tree runs there, and what it wrote before it was frozen is in the files then.
#[test]
fn files_come_along_with_a_tree_whose_memory_follows() {
    if !have("rsync") {
        skip!(Avoidable, "rsync is not installed");
    }
    for criu in CriuUnderTest::all() {
        let mut process = traveller(Scene::new().memory_kib(4096).children(1).open_file());
        let root = process.root().unwrap().to_path_buf();
        fs::create_dir(root.join("data")).unwrap();
        fs::write(root.join("data/late"), "before").unwrap();
        let elsewhere = Elsewhere::new();
        let text = format!("echo after > {}", root.join("data/late").display());
        let script = elsewhere.script("pre-dump", &text).display().to_string();
        let send = ["--mode", "post-copy", "--sync", "/"];
        let moved = run(
            &criu,
            &process,
            &elsewhere,
            &[&send[..], &["--action-script", &script]].concat(),
            &["--allow-sync", "/"],
        );
        arrived(&mut process, &elsewhere, &moved);
        assert_eq!(
            fs::read_to_string(elsewhere.join("data/late")).unwrap(),
            "after\n"
        );
        // Its memory: it answers in its own directory, which is elsewhere now.
        let answer = elsewhere.join("state/verified");
        fs::write(elsewhere.join("state/verify"), "").unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !answer.exists() {
            assert!(Instant::now() < deadline, "no answer: {}", moved.said);
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(fs::read_to_string(answer).unwrap(), "");
        for side in ["source", "destination"] {
            let left = fs::read_dir(elsewhere.directory.join(side)).unwrap();
            assert_eq!(left.count(), 0, "{side}");
        }
    }
}

/// Elsewhere has the programs already, but not what the process works on.
fn with_programs(process: &TestProcess) -> Elsewhere {
    let elsewhere = Elsewhere::new();
    let copied = std::process::Command::new("cp")
        .args(["-a", "-x", "-T"])
        .args([process.root().unwrap(), elsewhere.root.path()])
        .status();
    assert!(copied.unwrap().success());
    fs::remove_dir_all(elsewhere.join("state")).unwrap();
    elsewhere
}

#[test]
fn nothing_is_written_where_the_receiver_did_not_allow_it() {
    if !have("rsync") {
        skip!(Avoidable, "rsync is not installed");
    }
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let process = traveller(Scene::new());
    let root = process.root().unwrap().to_path_buf();
    fs::create_dir(root.join("data")).unwrap();
    let elsewhere = with_programs(&process);
    let outside = TempDir::new();
    std::os::unix::fs::symlink(outside.path(), elsewhere.join("data/link")).unwrap();
    fs::create_dir(root.join("data/link")).unwrap();
    fs::write(root.join("data/link/file"), "content").unwrap();
    for (path, allowed, expected) in [
        ("/state", None, "--allow-sync /state"),
        ("/state", Some("/data"), "--allow-sync /state"),
        ("/data/link", Some("/data"), "leads out of /data"),
        ("/data/../state", Some("/data"), "absolute path"),
        ("/gone", Some("/gone"), "cannot open it"),
    ] {
        let allowed: Vec<&str> = allowed.map_or(vec![], |path| vec!["--allow-sync", path]);
        let moved = run(
            &criu,
            &process,
            &elsewhere,
            &["--sync", path],
            &[&allowed[..], &["--ignore", "files"]].concat(),
        );
        assert_eq!(moved.sent.code(), Some(1), "{path} {}", moved.said);
        assert!(moved.said.contains(expected), "{path} {}", moved.said);
        assert!(
            moved.said.contains("was not touched"),
            "{path} {}",
            moved.said
        );
        assert!(!elsewhere.join("state").exists(), "{path}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    process.wait_for_count_above(process.count());
    // A directory that came with a link in it is written into as what it was on the source.
    let moved = run(
        &criu,
        &process,
        &elsewhere,
        &["--sync", "/data"],
        &["--allow-sync", "/data", "--ignore", "files"],
    );
    assert_eq!(moved.sent.code(), Some(1), "{}", moved.said);
    assert!(
        moved.said.contains("/data was here before and remains"),
        "{}",
        moved.said
    );
    assert_eq!(
        fs::read_to_string(elsewhere.join("data/link/file")).unwrap(),
        "content"
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_single_file_moves_and_its_neighbours_stay() {
    if !have("rsync") {
        skip!(Avoidable, "rsync is not installed");
    }
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let mut process = traveller(Scene::new());
    let root = process.root().unwrap().to_path_buf();
    fs::write(root.join("state/neighbour"), "source").unwrap();
    fs::write(root.join("a *file"), "content").unwrap();
    let elsewhere = with_programs(&process);
    fs::create_dir(elsewhere.join("state")).unwrap();
    fs::write(elsewhere.join("state/neighbour"), "destination").unwrap();
    fs::write(elsewhere.join("state/other"), "destination").unwrap();
    fs::remove_file(elsewhere.join("a *file")).unwrap();
    let moved = run(
        &criu,
        &process,
        &elsewhere,
        &["--sync", "/state/count", "--sync", "/a *file"],
        &["--allow-sync", "/state/count", "--allow-sync", "/a *file"],
    );
    arrived(&mut process, &elsewhere, &moved);
    for name in ["neighbour", "other"] {
        let text = fs::read_to_string(elsewhere.join("state").join(name)).unwrap();
        assert_eq!(text, "destination");
    }
    assert_eq!(
        fs::read_to_string(elsewhere.join("a *file")).unwrap(),
        "content"
    );
}

#[test]
fn an_rsync_that_dies_or_is_missing_leaves_the_tree_where_it_is() {
    if !have("rsync") {
        skip!(Avoidable, "rsync is not installed");
    }
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    // The last pass is the third run of the client: first pass, files that are written, all.
    for (run_number, deed, fate) in [
        (1, "kill -9 $$", "was not touched"),
        (3, "kill -9 $$", "goes on here"),
        (1, "exec $0-there-is-none", "was not touched"),
    ] {
        let process = traveller(Scene::new());
        let elsewhere = with_programs(&process);
        let bin = elsewhere.directory.make_dir("bin");
        let counter = elsewhere.directory.join("runs");
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = --version ] && exec @rsync \"$@\"\necho >> {0}\n\
             if [ $(wc -l < {0}) = {run_number} ]; then echo last words >&2; {deed}; fi\nexec @rsync \"$@\"\n",
            counter.display()
        );
        fs::write(bin.join("rsync"), text.replace("@rsync", &which("rsync"))).unwrap();
        fs::set_permissions(bin.join("rsync"), fs::Permissions::from_mode(0o755)).unwrap();
        let moved = run(
            &criu,
            &process,
            &elsewhere,
            &["--sync", "/state"],
            &["--allow-sync", "/state"],
        );
        assert_eq!(moved.sent.code(), Some(1), "{}", moved.said);
        assert!(
            moved.said.contains(fate) && moved.said.contains("last words"),
            "{}",
            moved.said
        );
        assert!(
            moved.said.contains("/state removed again"),
            "{}",
            moved.said
        );
        assert!(!elsewhere.join("state").exists(), "{}", moved.said);
        process.wait_for_count_above(process.count());
        assert_eq!(process.verify(), Ok(()));
    }
    // None on the source at all.
    let process = traveller(Scene::new());
    let elsewhere = with_programs(&process);
    let sent = criuctl_in(&elsewhere.directory, &criu)
        .args([
            "migrate",
            "send",
            &process.pid().to_string(),
            "--over",
            "/bin/cat",
        ])
        .args(["--sync", "/state"])
        .env("PATH", elsewhere.directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&sent.stderr);
    assert_eq!(sent.status.code(), Some(1), "{said}");
    assert!(said.contains("install the package rsync"), "{said}");
    process.wait_for_count_above(process.count());
}

#[test]
fn either_side_killed_in_the_first_pass_leaves_the_tree_and_no_rsync() {
    if !have("rsync") {
        skip!(Avoidable, "rsync is not installed");
    }
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    for kill_receiver in [true, false] {
        let process = traveller(Scene::new());
        let root = process.root().unwrap().to_path_buf();
        // No zeros: those would not be sent.
        fs::write(root.join("state/large"), vec![7; 32 << 20]).unwrap();
        let elsewhere = with_programs(&process);
        let bin = elsewhere.directory.make_dir("bin");
        let text =
            "#!/bin/sh\n[ \"$1\" = --version ] || slow=--bwlimit=1M\nexec @rsync $slow \"$@\"\n";
        fs::write(bin.join("rsync"), text.replace("@rsync", &which("rsync"))).unwrap();
        fs::set_permissions(bin.join("rsync"), fs::Permissions::from_mode(0o755)).unwrap();
        let (mut sender, mut receiver) = start(
            &criu,
            &process,
            &elsewhere,
            &["--sync", "/state"],
            &["--allow-sync", "/state"],
        );
        let deadline = Instant::now() + Duration::from_secs(20);
        while !elsewhere.join("state").exists() {
            assert!(Instant::now() < deadline, "{}", said(&elsewhere));
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(300));
        let killed = if kill_receiver {
            &mut receiver
        } else {
            &mut sender
        };
        killed.kill().unwrap();
        let (sent, _) = (
            wait_for(&mut sender, "the sender"),
            wait_for(&mut receiver, "the receiver"),
        );
        let said = said(&elsewhere);
        if kill_receiver {
            assert_eq!(sent.code(), Some(1), "{said}");
            assert!(said.contains("was not touched"), "{said}");
        } else {
            assert!(said.contains("/state removed again"), "{said}");
            assert!(!elsewhere.join("state").exists());
        }
        process.wait_for_count_above(process.count());
        assert_eq!(process.verify(), Ok(()));
        // No rsync goes on in those directories.
        let deadline = Instant::now() + Duration::from_secs(5);
        while let Some(pid) = rsync_in(&[elsewhere.root.path(), &root]) {
            assert!(Instant::now() < deadline, "rsync {pid} goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// An rsync that works in one of these directories.
fn rsync_in(places: &[&Path]) -> Option<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let is_there = |link: &str| {
                fs::read_link(entry.path().join(link))
                    .is_ok_and(|path| places.iter().any(|place| path.starts_with(place)))
            };
            name.trim() == "rsync" && (is_there("cwd") || is_there("root"))
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .next()
}
