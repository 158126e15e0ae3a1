//! Containers, moved by real runtimes.

mod rounds;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use criu_testkit::{CriuUnderTest, Subreaper, TempDir, skip, slowness, target_binary};

use crate::sides::{criu_with, criuctl, have, listening, wait_for, which};

/// What runs in every container: it counts in memory, and writes that down.
const COUNTER: &str =
    "i=0; while :; do i=$((i+1)); echo $i > /state/count; echo $i >> /state/all; sleep 0.02; done";

/// That, as a command.
const COUNTING: [&str; 3] = ["/bin/sh", "-c", COUNTER];

/// Two hosts on this machine: programs of the same names with storages of their own.
#[derive(Debug)]
struct Hosts {
    directory: TempDir,
    criu: CriuUnderTest,
    id: String,
}

impl Hosts {
    fn new(criu: CriuUnderTest) -> Self {
        Subreaper::enable();
        let directory = TempDir::new();
        for name in [
            "source-bin",
            "destination-bin",
            "source",
            "destination",
            "bundles",
        ] {
            directory.make_dir(name);
        }
        let name = directory.path().file_name().unwrap().to_string_lossy();
        let plain = name.chars().filter(char::is_ascii_alphanumeric);
        let id = format!("c{}", plain.collect::<String>());
        Self {
            directory,
            criu,
            id,
        }
    }

    /// A program on one host that does something else first; `@` before a name stands for the real one.
    fn wrap(&self, host: &str, program: &str, text: &str) {
        let real = which(program);
        let text = text.replace(&format!("@{program}"), &real);
        let path = self.directory.join(format!("{host}-bin")).join(program);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self, host: &str) -> String {
        let bin = self.directory.join(format!("{host}-bin"));
        format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
    }

    /// A command on one host, with CRIU where the runtimes look for it.
    fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new(program);
        let criu = self.criu.path().parent().unwrap().display().to_string();
        command.env("PATH", format!("{}:{criu}", self.path(host)));
        command.env("CONTAINERS_CONF", self.directory.join("containers.conf"));
        let storage = self.directory.join(format!("{host}-storage.conf"));
        command.env("CONTAINERS_STORAGE_CONF", storage);
        command.env("TMPDIR", self.directory.make_dir("temporary"));
        command.stdin(Stdio::null());
        command
    }

    fn run<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(
        &self,
        host: &str,
        program: &str,
        arguments: I,
    ) -> Output {
        let mut command = self.command(host, program);
        command.args(arguments).output().unwrap()
    }

    /// Sends with those options, the receiver with those; what both said and how the sender ended.
    fn send(&self, send: &[&str], receive: &[&str]) -> (Option<i32>, String) {
        let bundles = self.directory.join("bundles");
        // Runtimes take their time, and more where everything does.
        let silence = (10 * slowness()).to_string();
        let mut receiving = self.command("destination", "unshare");
        receiving.env("CRIU", self.criu.path());
        // On the destination there is nothing in that place.
        receiving.args(["--mount", "sh", "-c"]);
        receiving
            .arg("mount -t tmpfs none \"$0\" && exec \"$@\"")
            .arg(&bundles);
        receiving.args([env!("CARGO_BIN_EXE_criuctl"), "migrate", "receive"]);
        receiving.args(["--listen", "127.0.0.1:0", "-D"]);
        receiving
            .arg(self.directory.join("destination"))
            .args(["--silence", &silence])
            .args(receive);
        let (mut receiver, address) = listening(receiving, &self.directory);
        let mut sending = criuctl(&self.criu);
        let environment = self.command("source", "true");
        for (name, value) in environment.get_envs() {
            sending.env(name, value.unwrap());
        }
        sending.args(["migrate", "send", &address.to_string(), "-D"]);
        sending.arg(self.directory.join("source"));
        sending.args(["--silence", &silence]).args(send);
        let sent = sending.output().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5) * slowness();
        let said = || fs::read_to_string(self.directory.join("receiver")).unwrap();
        while receiver.try_wait().unwrap().is_none()
            && Instant::now() < deadline
            && !said().contains("turned")
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        // One that turned the sender away waits for the next.
        let _ = receiver.kill();
        wait_for(&mut receiver, "the receiver");
        let said = format!(
            "sender: {}{}receiver: {}",
            String::from_utf8_lossy(&sent.stdout),
            String::from_utf8_lossy(&sent.stderr),
            said()
        );
        (sent.status.code(), said)
    }

    /// What is left in the directory of a side.
    fn left_behind(&self, side: &str) -> usize {
        fs::read_dir(self.directory.join(side)).unwrap().count()
    }
}

/// A small root with a shell, and a program that knows its memory.
fn furnish(root: &Path) {
    for name in ["proc", "dev", "sys", "tmp", "state", "bin"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let target = target_binary();
    let mut files = vec![
        (target.clone(), PathBuf::from("target")),
        (PathBuf::from("/bin/sh"), PathBuf::from("bin/sh")),
        (PathBuf::from("/bin/sleep"), PathBuf::from("bin/sleep")),
    ];
    let mut linked = Command::new("ldd");
    let linked = linked.args(["/bin/sh", "/bin/sleep"]).arg(target).output();
    for word in String::from_utf8_lossy(&linked.unwrap().stdout).split_whitespace() {
        if word.starts_with('/') && !word.ends_with(':') {
            files.push((word.into(), word.trim_start_matches('/').into()));
        }
    }
    for (from, to) in files {
        let to = root.join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

/// How far the counter of a process is that has a root of its own.
fn count(pid: i64) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/root/state/count"));
    text.unwrap_or_default().trim().parse().unwrap_or(0)
}

#[track_caller]
fn wait_for_count(pid: i64, above: u64) {
    let deadline = Instant::now() + Duration::from_secs(20) * slowness();
    while count(pid) <= above {
        assert!(
            Instant::now() < deadline,
            "process {pid} does not count above {above}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[track_caller]
fn counts_on(pid: i64, above: u64) {
    wait_for_count(pid, above);
    // Every count was written once, in order: nothing ran twice, no file is from another time.
    let all = fs::read_to_string(format!("/proc/{pid}/root/state/all")).unwrap();
    let all: Vec<u64> = all.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(all.iter().copied().eq(1..=all.len() as u64), "{all:?}");
}

/// A runc container on the source.
#[derive(Debug)]
struct Runc(Hosts);

impl Runc {
    fn start(criu: CriuUnderTest) -> Self {
        let runc = Self::running(criu, &COUNTING);
        counts_on(runc.pid("source").unwrap(), 3);
        runc
    }

    /// One in which this command runs and counts.
    fn running(criu: CriuUnderTest, command: &[&str]) -> Self {
        let runc = Self(Hosts::new(criu));
        for host in ["source", "destination"] {
            runc.first(host, "");
        }
        let bundle = runc.bundle();
        furnish(&bundle.join("rootfs"));
        let mut spec = runc.0.command("source", "runc");
        assert!(
            spec.arg("spec")
                .current_dir(&bundle)
                .status()
                .unwrap()
                .success()
        );
        let path = bundle.join("config.json");
        let mut config: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config["process"]["terminal"] = false.into();
        config["process"]["rlimits"] = serde_json::json!([]);
        config["process"]["args"] = serde_json::json!(command);
        config["root"]["readonly"] = false.into();
        fs::write(&path, config.to_string()).unwrap();
        let mut start = runc.0.command("source", "runc");
        start
            .args(["run", "--detach", "--bundle"])
            .arg(&bundle)
            .arg(&runc.0.id);
        start.stdout(Stdio::null()).stderr(Stdio::null());
        assert!(start.status().unwrap().success());
        wait_for_count(runc.pid("source").unwrap(), 3);
        runc
    }

    /// Has a host's runc do something else first.
    fn first(&self, host: &str, text: &str) {
        let state = self.0.directory.join(format!("{host}-state"));
        let text = format!("{text}\nexec @runc --root {} \"$@\"", state.display());
        self.0.wrap(host, "runc", &text);
    }

    fn bundle(&self) -> PathBuf {
        self.0.directory.make_dir("bundles/web")
    }

    fn pid(&self, host: &str) -> Option<i64> {
        let state = self.0.run(host, "runc", ["state", &self.0.id]);
        let state: serde_json::Value = serde_json::from_slice(&state.stdout).ok()?;
        (state["status"] == "running").then(|| state["pid"].as_i64())?
    }

    fn send(&self, send: &[&str], receive: &[&str]) -> (Option<i32>, String) {
        self.0
            .send(&[&["--runc", self.0.id.as_str()], send].concat(), receive)
    }

    /// Does what the message says to do if it does not run there.
    #[track_caller]
    fn restore_by_hand(&self, said: &str, before: u64) {
        let command = said
            .split('`')
            .find(|part| part.starts_with("runc restore"));
        let command = command.unwrap();
        let mut restore = self.0.command("source", "sh");
        restore.args(["-c", command]);
        restore.stdout(Stdio::null()).stderr(Stdio::null());
        assert!(restore.status().unwrap().success(), "{command}");
        counts_on(self.pid("source").unwrap(), before);
    }

    fn bundles(&self) -> String {
        self.0.directory.join("bundles").display().to_string()
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        for host in ["source", "destination"] {
            let state = self.0.directory.join(format!("{host}-state"));
            let _ = Command::new("runc")
                .arg("--root")
                .arg(state)
                .args(["delete", "--force", &self.0.id])
                .output();
        }
    }
}

#[test]
fn a_runc_container_moves_with_its_bundle() {
    if !have("runc") || !have("rsync") {
        skip!(Avoidable, "runc or rsync is not installed");
    }
    for criu in CriuUnderTest::all() {
        let runc = Runc::start(criu);
        let pid = runc.pid("source").unwrap();
        let before = count(pid);
        let (code, said) = runc.send(&[], &["--allow-sync", &runc.bundles()]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(runc.pid("source"), None);
        let there = runc.pid("destination").unwrap();
        counts_on(there, before);
        // Not from the files of the source.
        let source = fs::metadata(runc.bundle().join("rootfs/state/count")).unwrap();
        let now = fs::metadata(format!("/proc/{there}/root/state/count")).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_ne!(source.dev(), now.dev());
        for side in ["source", "destination"] {
            assert_eq!(runc.0.left_behind(side), 0, "{side}");
        }
    }
}

#[test]
fn a_runc_container_that_cannot_come_is_not_touched() {
    let Some(criu) = criu_with(&["runc", "rsync"]) else {
        return;
    };
    let runc = Runc::start(criu);
    let pid = runc.pid("source");
    let bundles = runc.bundles();
    let refused = |send: &[&str], receive: &[&str], expected: &str| {
        let (code, said) = runc.send(send, receive);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains(expected) && said.contains("was not touched"),
            "{said}"
        );
        assert_eq!(runc.pid("source"), pid);
    };
    refused(&[], &[], "--allow-sync");
    refused(
        &[],
        &["--allow-sync", &bundles, "--root", "/tmp"],
        "without --root",
    );
    // The same storage: the id is taken.
    let state = runc.0.directory.join("source-state");
    let same = format!("exec @runc --root {} \"$@\"", state.display());
    runc.0.wrap("destination", "runc", &same);
    refused(
        &[],
        &["--allow-sync", &bundles],
        "there is a runc container",
    );
    runc.0.wrap("destination", "runc", "exit 127");
    refused(&[], &["--allow-sync", &bundles], "runc cannot look for it");
    counts_on(pid.unwrap(), count(pid.unwrap()));
    for side in ["source", "destination"] {
        assert_eq!(runc.0.left_behind(side), 0, "{side}");
    }
    let (code, said) = runc.0.send(&["--runc", "none-such"], &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not exist"), "{said}");
}

#[test]
fn a_runc_container_goes_on_at_the_source_whatever_fails() {
    let Some(criu) = criu_with(&["runc", "rsync"]) else {
        return;
    };
    let allow = |runc: &Runc| runc.bundles();
    // When it is to be checkpointed.
    let runc = Runc::start(criu.clone());
    runc.first("source", "case \"$*\" in *checkpoint*) exit 5;; esac");
    let before = runc.pid("source");
    let (code, said) = runc.send(&[], &["--allow-sync", &allow(&runc)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("goes on here"), "{said}");
    assert_eq!(runc.pid("source"), before);
    assert_eq!(runc.0.left_behind("source"), 0);
    drop(runc);

    // In the last pass: the container is checkpointed already.
    let runc = Runc::start(criu.clone());
    let runs = runc.0.directory.join("runs");
    runc.0.wrap(
        "source",
        "rsync",
        &format!(
            "[ \"$1\" = --version ] && exec @rsync \"$@\"\necho >> {0}\n\
             [ $(wc -l < {0}) -lt 2 ] || exit 9\nexec @rsync \"$@\"",
            runs.display()
        ),
    );
    let before = count(runc.pid("source").unwrap());
    let (code, said) = runc.send(&[], &["--allow-sync", &allow(&runc)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("goes on here"), "{said}");
    counts_on(runc.pid("source").unwrap(), before);
    assert_eq!(runc.pid("destination"), None);
    assert_eq!(runc.0.left_behind("source"), 0);
    drop(runc);

    // After `commit`, when the destination's runtime fails: it says so.
    let runc = Runc::start(criu.clone());
    runc.first("destination", "case \"$*\" in *restore*) exit 5;; esac");
    let before = count(runc.pid("source").unwrap());
    let (code, said) = runc.send(&[], &["--allow-sync", &allow(&runc)]);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("while committing") && said.contains("goes on here"),
        "{said}"
    );
    counts_on(runc.pid("source").unwrap(), before);
    assert_eq!(
        runc.0.left_behind("source") + runc.0.left_behind("destination"),
        0
    );
    drop(runc);

    // After `commit`, when the receiver dies: nobody can know.
    let runc = Runc::start(criu);
    runc.first(
        "destination",
        "case \"$*\" in *restore*) kill -9 $PPID; exit 5;; esac",
    );
    let before = count(runc.pid("source").unwrap());
    let (code, said) = runc.send(&[], &["--allow-sync", &allow(&runc)]);
    assert_eq!(code, Some(3), "{said}");
    assert_eq!((runc.pid("source"), runc.pid("destination")), (None, None));
    assert!(said.contains("may run on the destination"), "{said}");
    runc.restore_by_hand(&said, before);
}

#[test]
fn a_runc_container_that_criu_could_not_stop_is_checkpointed_once_more() {
    let Some(criu) = criu_with(&["runc", "rsync"]) else {
        return;
    };
    let runc = Runc::start(criu);
    let tried = runc.0.directory.join("tried");
    let failing = format!(
        "case \"$*\" in *checkpoint*) if [ ! -e {tried} ]; then touch {tried}; for word; do\n\
         [ \"$before\" != --work-path ] || echo '(10.07) Error (compel/src/lib/infect.c:271): Unseizable non-zombie 7 \
         found, state D, err -1/4' > \"$word/dump.log\"\nbefore=$word\ndone\nexit 1\nfi;; esac",
        tried = tried.display()
    );
    runc.first("source", &failing);
    let before = count(runc.pid("source").unwrap());
    let (code, said) = runc.send(&[], &["--allow-sync", &runc.bundles()]);
    assert_eq!(code, Some(0), "{said}");
    assert!(tried.exists());
    counts_on(runc.pid("destination").unwrap(), before);
}

#[test]
fn a_sender_killed_behind_the_checkpoint_has_said_how_to_go_on() {
    let Some(criu) = criu_with(&["runc", "rsync"]) else {
        return;
    };
    let runc = Runc::start(criu);
    let runs = runc.0.directory.join("runs");
    runc.0.wrap(
        "source",
        "rsync",
        &format!(
            "[ \"$1\" = --version ] && exec @rsync \"$@\"\necho >> {0}\n\
             [ $(wc -l < {0}) -lt 2 ] || kill -9 $PPID\nexec @rsync \"$@\"",
            runs.display()
        ),
    );
    let before = count(runc.pid("source").unwrap());
    let (code, said) = runc.send(&[], &["--allow-sync", &runc.bundles()]);
    assert_eq!(code, None, "{said}");
    assert_eq!((runc.pid("source"), runc.pid("destination")), (None, None));
    runc.restore_by_hand(&said, before);
}

/// A podman container on the source, its image on both sides.
#[derive(Debug)]
struct Podman(Hosts);

impl Podman {
    /// An error where podman does not work, with the reason why.
    fn start(criu: CriuUnderTest) -> Result<Self, String> {
        let podman = Self::running(criu, &COUNTING)?;
        counts_on(podman.pid("source").ok_or("it does not run")?, 3);
        Ok(podman)
    }

    /// One in which this command runs and counts.
    fn running(criu: CriuUnderTest, command: &[&str]) -> Result<Self, String> {
        let podman = Self(Hosts::new(criu));
        let hosts = &podman.0;
        fs::write(
            hosts.directory.join("containers.conf"),
            "[containers]\ndefault_ulimits=[\"nofile=20000:20000\",\"nproc=20000:20000\"]\n\
             log_driver=\"k8s-file\"\n[engine]\ncgroup_manager=\"cgroupfs\"\nevents_logger=\"file\"\nruntime=\"runc\"\n",
        )
        .unwrap();
        for host in ["source", "destination"] {
            let place = |name: &str| hosts.directory.make_dir(format!("{host}-{name}"));
            let text = format!(
                "[storage]\ndriver=\"vfs\"\ngraphroot=\"{}\"\nrunroot=\"{}\"\n",
                place("graph").display(),
                place("run").display()
            );
            fs::write(hosts.directory.join(format!("{host}-storage.conf")), text).unwrap();
        }
        let root = hosts.directory.make_dir("root");
        furnish(&root);
        let archive = hosts.directory.join("root.tar").display().to_string();
        let root = root.display().to_string();
        assert!(
            hosts
                .run("source", "tar", ["-C", &root, "-cf", &archive, "."])
                .status
                .success()
        );
        let image = hosts.directory.join("image.tar").display().to_string();
        let mut run = vec!["run", "--detach", "--network", "none", "--name"];
        run.extend([hosts.id.as_str(), "counter"]);
        run.extend(command);
        for words in [
            &["import", archive.as_str(), "counter"][..],
            &["save", "--output", &image, "counter"],
            &run,
        ] {
            let output = hosts.run("source", "podman", words);
            if !output.status.success() {
                return Err(String::from_utf8_lossy(&output.stderr).into_owned());
            }
        }
        wait_for_count(podman.pid("source").ok_or("it does not run")?, 3);
        Ok(podman)
    }

    fn load_image_there(&self) {
        let image = self.0.directory.join("image.tar").display().to_string();
        let loaded = self
            .0
            .run("destination", "podman", ["load", "--input", &image]);
        assert!(loaded.status.success());
    }

    fn pid(&self, host: &str) -> Option<i64> {
        let format = [
            "inspect",
            "--format",
            "{{.State.Status}} {{.State.Pid}}",
            &self.0.id,
        ];
        let output = self.0.run(host, "podman", format);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim().strip_prefix("running ")?.parse().ok()
    }

    fn send(&self) -> (Option<i32>, String) {
        self.0.send(&["--podman", self.0.id.as_str()], &[])
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for host in ["source", "destination"] {
            let remove = ["rm", "--force", "--time", "0", &self.0.id];
            let mut command = self.0.command(host, "podman");
            command.env("PATH", std::env::var_os("PATH").unwrap());
            let _ = command.args(remove).output();
        }
    }
}

#[test]
fn a_podman_container_moves_with_what_changed_in_its_root() {
    if !have("podman") {
        skip!(Avoidable, "podman is not installed");
    }
    for criu in CriuUnderTest::all() {
        let podman = match Podman::start(criu) {
            Ok(podman) => podman,
            Err(reason) => skip!(
                Unavoidable,
                "podman does not run containers here: {}",
                reason
            ),
        };
        let pid = podman.pid("source");
        let (code, said) = podman.send();
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("image localhost/counter:latest is not here"),
            "{said}"
        );
        assert_eq!(podman.pid("source"), pid);
        podman.load_image_there();

        // The destination's podman fails after `commit`.
        podman.0.wrap(
            "destination",
            "podman",
            "case \"$*\" in *--import*) exit 5;; esac\nexec @podman \"$@\"",
        );
        let before = count(pid.unwrap());
        let (code, said) = podman.send();
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("while committing") && said.contains("goes on here"),
            "{said}"
        );
        let pid = podman.pid("source").unwrap();
        counts_on(pid, before);
        assert_eq!(podman.pid("destination"), None);

        podman
            .0
            .wrap("destination", "podman", "exec @podman \"$@\"");
        // CRIU does not get it stopped at first.
        let place = podman.0.directory.make_dir("tried");
        let failing = format!(
            "case \"$*\" in *\"container checkpoint\"*) if [ ! -e {log} ]; then\n\
             echo '(10.07) Error (compel/src/lib/infect.c:271): Unseizable non-zombie 7 found, state D, err -1/4' > {log}\n\
             echo 'level=error msg=\"criu failed: type NOTIFY errno 0\\nlog file: {log}\"' >&2\nexit 125\nfi;; esac\n\
             exec @podman \"$@\"",
            log = place.join("dump.log").display()
        );
        podman.0.wrap("source", "podman", &failing);
        let before = count(pid);
        let (code, said) = podman.send();
        assert_eq!(code, Some(0), "{said}");
        assert!(place.join("dump.log").exists());
        counts_on(podman.pid("destination").unwrap(), before);
        let exists = podman
            .0
            .run("source", "podman", ["container", "exists", &podman.0.id]);
        assert_eq!(exists.status.code(), Some(1));
        for side in ["source", "destination"] {
            assert_eq!(podman.0.left_behind(side), 0, "{side}");
        }
    }
}
