//! Sender and receiver as processes, and the one tree they move.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use criu_testkit::{CriuUnderTest, Namespace, Scene, Subreaper, TempDir, TestProcess};
use rustix::process::{Pid, Signal, kill_process};

use crate::link::Link;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Silence after which a side gives the other up.
const SILENCE_SECONDS: &str = "2";

/// A process that can move within one machine: it brings its process ids along, and a `/proc` for them.
pub(crate) fn traveller(scene: Scene) -> TestProcess {
    let process = scene
        .namespaces(&[Namespace::Pid, Namespace::Mount])
        .start();
    process.wait_for_count_above(2);
    process
}

pub(crate) fn criuctl(criu: &CriuUnderTest) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_criuctl"));
    command.env("CRIU", criu.path()).stdin(Stdio::null());
    command
}

/// Whether a program is installed.
pub(crate) fn have(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output();
    found.is_ok_and(|output| output.status.success())
}

/// Where a program is.
#[track_caller]
pub(crate) fn which(program: &str) -> String {
    let command = format!("command -v {program}");
    let found = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(found.status.success(), "{program} is not installed");
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

/// A point of a migration that can be held: a hook of the CRIU on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Source(&'static str),
    Destination(&'static str),
}

/// A sender and a receiver at work, held at one point.
#[derive(Debug)]
pub(crate) struct Sides {
    pub(crate) sender: Child,
    pub(crate) receiver: Child,
    pub(crate) link: Link,
    directory: TempDir,
    count_file: PathBuf,
}

impl Sides {
    /// Starts both and waits until the point is reached.
    pub(crate) fn hold_at(hold: Hold, process: &TestProcess, criu: &CriuUnderTest) -> Self {
        Subreaper::enable();
        let directory = TempDir::new();
        let script = directory.join("hold");
        let (stage, side) = match hold {
            Hold::Source(stage) => (stage, "source"),
            Hold::Destination(stage) => (stage, "destination"),
        };
        let place = directory.path().display();
        let text = format!(
            "#!/bin/sh\n[ \"$CRTOOLS_SCRIPT_ACTION\" = {stage} ] || exit 0\n: > {place}/reached\n\
             while [ ! -e {place}/go ]; do sleep 0.02; done\n"
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();

        let mut receive = criuctl(criu);
        receive.args([
            "migrate",
            "receive",
            "--listen",
            "127.0.0.1:0",
            "--silence",
            SILENCE_SECONDS,
        ]);
        receive.arg("-D").arg(directory.make_dir("destination"));
        receive.arg("--root").arg(process.root().unwrap());
        if side == "destination" {
            receive.arg("--action-script").arg(&script);
        }
        let (receiver, address) = listening(receive, &directory);
        let link = Link::to(address);
        let mut send = criuctl(criu);
        send.args([
            "migrate",
            "send",
            &process.pid().to_string(),
            &link.address().to_string(),
        ]);
        send.args(["--silence", SILENCE_SECONDS]);
        send.arg("-D").arg(directory.make_dir("source"));
        if side == "source" {
            send.arg("--action-script").arg(&script);
        }
        let errors = fs::File::create(directory.join("sender")).unwrap();
        let sender = send.stdout(Stdio::null()).stderr(errors).spawn().unwrap();
        let mut sides = Self {
            sender,
            receiver,
            link,
            count_file: process.directory().join("count"),
            directory,
        };
        let deadline = Instant::now() + PATIENCE;
        while !sides.directory.join("reached").exists() {
            assert!(
                Instant::now() < deadline,
                "{stage} is not reached: {}",
                sides.said()
            );
            assert!(
                sides.sender.try_wait().unwrap().is_none(),
                "{}",
                sides.said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        sides
    }

    /// What both printed.
    pub(crate) fn said(&self) -> String {
        let read = |name| fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        format!("sender: {}receiver: {}", read("sender"), read("receiver"))
    }

    /// Lets the held side go on.
    pub(crate) fn go_on(&self) {
        fs::write(self.directory.join("go"), "").unwrap();
    }

    /// Waits for both to end.
    pub(crate) fn wait(&mut self) -> (ExitStatus, ExitStatus) {
        (
            wait_for(&mut self.sender, "the sender"),
            wait_for(&mut self.receiver, "the receiver"),
        )
    }

    /// The processes that hold the tree's counter open: one if there is one copy, whatever their ids.
    pub(crate) fn copies(&self) -> Vec<Copy> {
        copies(&self.count_file)
    }

    /// What the sides left in their directories.
    pub(crate) fn left_behind(&self, side: &str) -> usize {
        fs::read_dir(self.directory.join(side)).unwrap().count()
    }
}

impl Drop for Sides {
    fn drop(&mut self) {
        let _ = fs::write(self.directory.join("go"), "");
        for child in [&mut self.sender, &mut self.receiver] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a receiver and learns where it listens.
pub(crate) fn listening(mut receive: Command, directory: &TempDir) -> (Child, SocketAddr) {
    let errors = fs::File::create(directory.join("receiver")).unwrap();
    let mut receiver = receive
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(receiver.stdout.take().unwrap());
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ");
    let address = address.and_then(|address| address.parse().ok());
    let address = address.unwrap_or_else(|| {
        panic!(
            "{line:?} {}",
            fs::read_to_string(directory.join("receiver")).unwrap()
        )
    });
    // Its last line must find a reader, too.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    (receiver, address)
}

#[track_caller]
pub(crate) fn wait_for(child: &mut Child, who: &str) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "{who} does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

/// The CRIU worker of a `criuctl`.
#[track_caller]
pub(crate) fn criu_of(criuctl: &Child) -> u32 {
    // Its only other child is the script that holds the stage.
    let found = children(criuctl.id()).into_iter().find(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        !matches!(name.trim(), "hold" | "sh" | "sleep")
    });
    found.unwrap()
}

fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    threads
        .flat_map(|thread| {
            let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}

/// A process that is a copy of the tree's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) pid: u32,
    /// The letter of proc_pid_stat(5).
    pub(crate) state: char,
}

impl Copy {
    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

fn copies(count_file: &Path) -> Vec<Copy> {
    let Ok(counter) = fs::metadata(count_file) else {
        return Vec::new();
    };
    let same = |path: PathBuf| {
        fs::metadata(path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (counter.dev(), counter.ino()))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let fds = fs::read_dir(entry.path().join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        if fds.into_iter().any(|fd| same(fd.path())) {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let state = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.chars().next());
            found.push(Copy {
                pid,
                state: state.unwrap_or('X'),
            });
        }
    }
    found
}
