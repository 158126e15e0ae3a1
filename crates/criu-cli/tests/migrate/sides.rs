//! Sender and receiver as processes, and the one tree they move.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use criu_testkit::{
    CriuUnderTest, Namespace, Scene, Skip, Subreaper, TempDir, TestProcess, record_skip, slowness,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::link::Link;

/// How long anything may take, but where everything is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Silence after which a side gives the other up, but where everything is slow.
const SILENCE: Duration = Duration::from_secs(3);

pub(crate) fn patience() -> Duration {
    PATIENCE * slowness()
}

pub(crate) fn silence() -> Duration {
    SILENCE * slowness()
}

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

/// As [`criuctl`], with its temporary files in that directory, so that what it keeps for the user goes with the test.
pub(crate) fn criuctl_in(directory: &TempDir, criu: &CriuUnderTest) -> Command {
    let mut command = criuctl(criu);
    command.env("TMPDIR", directory.make_dir("temporary"));
    command
}

/// The newest CRIU; none, which is told, where one of these programs is missing.
pub(crate) fn criu_with(programs: &[&str]) -> Option<CriuUnderTest> {
    if let Some(missing) = programs.iter().find(|program| !have(program)) {
        record_skip(Skip::Avoidable, &format!("{missing} is not installed"));
        return None;
    }
    CriuUnderTest::newest()
}

/// As [`criu_with`], where the kernel tracks memory.
pub(crate) fn tracking_criu_with(programs: &[&str]) -> Option<CriuUnderTest> {
    let criu = criu_with(programs)?;
    if !is_tracked(&criu) {
        record_skip(Skip::Unavoidable, criu::Feature::MemoryTracking.remedy());
        return None;
    }
    Some(criu)
}

pub(crate) fn is_tracked(criu: &CriuUnderTest) -> bool {
    let features = criu::Criu::with_binary(criu.path()).unwrap().features();
    features.unwrap().contains(criu::Feature::MemoryTracking)
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

/// How memory moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    StopAndCopy,
    PreCopy,
    PostCopy,
    Hybrid,
}

impl Mode {
    pub(crate) fn has_rounds(self) -> bool {
        matches!(self, Self::PreCopy | Self::Hybrid)
    }

    /// Whether memory follows when the tree runs there.
    pub(crate) fn is_lazy(self) -> bool {
        matches!(self, Self::PostCopy | Self::Hybrid)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StopAndCopy => "stop-and-copy",
            Self::PreCopy => "pre-copy",
            Self::PostCopy => "post-copy",
            Self::Hybrid => "hybrid",
        })
    }
}

/// A point of a migration to strike at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A hook of CRIU on the source, held by an action script.
    Source(&'static str),
    /// One on the destination.
    Destination(&'static str),
    /// Memory is on its way to a page server: that of the first round, or all, frozen.
    Pages,
    /// The first round is over.
    Rounds,
    /// The tree runs there, and most of its memory has not come yet.
    Filling,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(stage) => write!(f, "source {stage}"),
            Self::Destination(stage) => write!(f, "destination {stage}"),
            Self::Pages => f.write_str("pages"),
            Self::Rounds => f.write_str("between rounds"),
            Self::Filling => f.write_str("filling"),
        }
    }
}

/// A process with a part in a migration, beside sender and receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    SourceCriu,
    DestinationCriu,
    PageServer,
    LazyPages,
    Guard,
}

/// Whether memory follows, and has not come yet.
pub(crate) fn is_filled(mode: Mode, moment: Moment) -> bool {
    let is_handed_over = matches!(moment, Moment::Destination("pre-resume") | Moment::Filling);
    mode.is_lazy() && is_handed_over
}

/// Memory that all has to follow, or goes through a narrow link: more than fits into the buffers on the way.
pub(crate) const MEMORY_KIB: u32 = 24 << 10;
/// Where the link gets narrow when memory is to be caught on its way.
const PART_OF_MEMORY: u64 = 2 << 20;

/// A sender and a receiver at work, at one point.
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
    pub(crate) fn at(
        moment: Moment,
        mode: Mode,
        process: &TestProcess,
        criu: &CriuUnderTest,
    ) -> Self {
        Subreaper::enable();
        let directory = TempDir::new();
        let script = directory.join("hold");
        let place = directory.path().display();
        let stage = match moment {
            Moment::Source(stage) | Moment::Destination(stage) => stage,
            _ => "never",
        };
        let text = format!(
            "#!/bin/sh\n[ \"$CRTOOLS_SCRIPT_ACTION\" = {stage} ] || exit 0\n: > {place}/reached\n\
             while [ ! -e {place}/go ]; do sleep 0.02; done\n[ ! -e {place}/refuse ]\n"
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();

        let silence = silence().as_secs().to_string();
        // All they start is known by this, wherever it ends up.
        let mark = |command: &mut Command| {
            command.env(MARK, directory.path());
            command.args(["--silence", &silence]);
        };
        let mut receive = criuctl_in(&directory, criu);
        receive.args(["migrate", "receive", "--listen", "127.0.0.1:0"]);
        mark(&mut receive);
        receive.arg("-D").arg(directory.make_dir("destination"));
        receive.arg("--root").arg(process.root().unwrap());
        if matches!(moment, Moment::Destination(_)) {
            receive.arg("--action-script").arg(&script);
        }
        let (receiver, address) = listening(receive, &directory);
        let link = Link::to(
            address,
            match moment {
                _ if is_filled(mode, moment) && !mode.has_rounds() => 0,
                Moment::Pages | Moment::Rounds => PART_OF_MEMORY,
                _ => u64::MAX,
            },
        );
        let mut send = criuctl_in(&directory, criu);
        let target = process.pid().to_string();
        send.args(["migrate", "send", &target, &link.address().to_string()]);
        send.args(["--mode", &mode.to_string()]);
        if moment == Moment::Rounds {
            // Rounds as long as another would help.
            send.args(["--max-downtime", "0ms"]);
        }
        if is_filled(mode, moment) {
            // What is written to all the time is left over by one as by many.
            send.args(["--max-rounds", "1"]);
        }
        mark(&mut send);
        send.arg("-D").arg(directory.make_dir("source"));
        if matches!(moment, Moment::Source(_)) {
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
        sides.wait_for_moment(moment, mode);
        sides
    }

    fn wait_for_moment(&mut self, moment: Moment, mode: Mode) {
        let deadline = Instant::now() + patience();
        // Only what the rounds have left is not to come.
        let mut narrows = is_filled(mode, moment) && mode.has_rounds();
        loop {
            if narrows && self.read("receiver").contains("round 1 is stored") {
                self.link.narrow();
                narrows = false;
            }
            let is_reached = match moment {
                Moment::Source(_) | Moment::Destination(_) => {
                    self.directory.join("reached").exists()
                }
                Moment::Pages => {
                    self.link.passed() > PART_OF_MEMORY && self.find(Role::PageServer).is_some()
                }
                Moment::Rounds => {
                    let stored = self.read("receiver").contains("round 1 is stored");
                    if self.link.passed() > PART_OF_MEMORY {
                        self.link.widen();
                    }
                    stored
                }
                Moment::Filling => {
                    // What has to be there before is let through.
                    self.read("sender").contains("runs there as process")
                }
            };
            if is_reached {
                return;
            }
            let said = || format!("{moment} is not reached: {}", self.said());
            assert!(Instant::now() < deadline, "{}", said());
            let ended = self.sender.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?} {}", self.said());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn read(&self, side: &str) -> String {
        fs::read_to_string(self.directory.join(side)).unwrap_or_default()
    }

    /// What both printed.
    pub(crate) fn said(&self) -> String {
        format!(
            "sender: {}receiver: {}",
            self.read("sender"),
            self.read("receiver")
        )
    }

    /// Lets what is held go on.
    pub(crate) fn go_on(&self) {
        fs::write(self.directory.join("go"), "").unwrap();
    }

    /// Has the script that holds it fail, which calls the migration off.
    pub(crate) fn refuse(&self) {
        fs::write(self.directory.join("refuse"), "").unwrap();
        self.go_on();
    }

    /// Waits for both to end.
    pub(crate) fn wait(&mut self) -> (ExitStatus, ExitStatus) {
        let deadline = Instant::now() + patience();
        loop {
            let sender = self.sender.try_wait().unwrap();
            let receiver = self.receiver.try_wait().unwrap();
            if let (Some(sender), Some(receiver)) = (sender, receiver) {
                return (sender, receiver);
            }
            if Instant::now() > deadline {
                panic!(
                    "no end: {sender:?} {receiver:?}\n{}{}",
                    self.said(),
                    self.standstill()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Where everybody waits, and the last that each CRIU wrote into its log.
    fn standstill(&self) -> String {
        let mut text = String::new();
        for process in self.processes() {
            let read = |name| fs::read_to_string(format!("/proc/{}/{name}", process.pid));
            let waits = read("wchan").unwrap_or_default();
            text.push_str(&format!("{process:?} waits in {waits}\n"));
            let logs = fs::read_dir(format!("/proc/{}/cwd", process.pid));
            for log in logs.into_iter().flatten().flatten() {
                if log.path().extension().is_some_and(|end| end == "log") {
                    let log_text = fs::read(log.path()).unwrap_or_default();
                    let log_text = String::from_utf8_lossy(&log_text).into_owned();
                    let lines: Vec<&str> = log_text.lines().rev().take(4).collect();
                    text.push_str(&format!("  {:?}: {lines:#?}\n", log.file_name()));
                }
            }
        }
        text
    }

    /// The processes that hold the tree's counter open: one if there is one copy, whatever their ids.
    pub(crate) fn copies(&self) -> Vec<Copy> {
        copies(&self.count_file)
    }

    /// The processes that hold the counter of the tree's first child open.
    pub(crate) fn copies_of_child(&self) -> Vec<Copy> {
        copies(&self.count_file.with_file_name("child-0").join("count"))
    }

    /// Whether a copy is still being made: the CRIU that restores it, child of the receiver, is above it until it
    /// lets it run.
    pub(crate) fn is_in_the_making(&self, copy: &Copy) -> bool {
        let mut pid = copy.pid;
        while let Some(parent) = parent_of(pid).filter(|parent| *parent > 1) {
            if parent == self.receiver.id() {
                return true;
            }
            pid = parent;
        }
        false
    }

    /// What is left of a side in its directory.
    pub(crate) fn left_behind(&self, side: &str) -> Vec<PathBuf> {
        let listing = fs::read_dir(self.directory.join(side)).unwrap();
        listing.flatten().map(|entry| entry.path()).collect()
    }

    /// Everything sender and receiver have started that is still there, and they themselves.
    pub(crate) fn processes(&self) -> Vec<Marked> {
        marked(
            self.directory.path(),
            [self.sender.id(), self.receiver.id()],
        )
    }

    pub(crate) fn find(&self, role: Role) -> Option<u32> {
        let (sender, receiver) = (self.sender.id(), self.receiver.id());
        let all = self.processes();
        // CRIU names its processes anew, each for what it does; the scripts are children, too.
        let is_criu = |process: &Marked| {
            let is_other = [" lazy-pages ", "criu-migrate-guard", "hold", "sleep"];
            // One that ends has no command any more.
            !process.command.is_empty()
                && !is_other.iter().any(|word| process.command.contains(word))
        };
        let found = all.iter().find(|process| match role {
            Role::SourceCriu => process.parent == sender && is_criu(process),
            Role::DestinationCriu => process.parent == receiver && is_criu(process),
            // It has left the worker that made it, and stands where the pages go.
            Role::PageServer => {
                let cwd = fs::read_link(format!("/proc/{}/cwd", process.pid));
                ![sender, receiver].contains(&process.parent)
                    && cwd.is_ok_and(|cwd| cwd.starts_with(self.directory.join("destination")))
            }
            Role::LazyPages => process.command.contains(" lazy-pages "),
            Role::Guard => process.command.contains("criu-migrate-guard"),
        });
        found.map(|process| process.pid)
    }
}

impl Drop for Sides {
    fn drop(&mut self) {
        let _ = fs::write(self.directory.join("go"), "");
        for child in [&mut self.sender, &mut self.receiver] {
            let _ = child.kill();
            let _ = child.wait();
        }
        // After a test that failed; one that passed has seen that there is none.
        for process in self.processes() {
            signal(process.pid, Signal::KILL);
        }
    }
}

/// The variable in the environment of all that a sender or receiver of a case started.
const MARK: &str = "CRIU_TEST_CASE";

/// A process that bears the mark of a case, or stands in one of its directories.
#[derive(Debug, Clone)]
pub(crate) struct Marked {
    pub(crate) pid: u32,
    parent: u32,
    pub(crate) command: String,
}

fn marked(case: &Path, sides: [u32; 2]) -> Vec<Marked> {
    let mark = format!("{MARK}={}", case.display());
    let mut found = Vec::new();
    for pid in process_ids() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        if rest.is_empty() || rest.starts_with('Z') {
            continue;
        }
        let parent = rest.split(' ').nth(1).and_then(|word| word.parse().ok());
        let parent = parent.unwrap_or(0);
        // CRIU writes its new name over its environment.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let is_marked = environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes());
        let cwd = fs::read_link(format!("/proc/{pid}/cwd"));
        if is_marked || sides.contains(&parent) || cwd.is_ok_and(|cwd| cwd.starts_with(case)) {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            found.push(Marked {
                pid,
                parent,
                command: String::from_utf8_lossy(&command).replace('\0', " "),
            });
        }
    }
    found
}

fn process_ids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
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
    let deadline = Instant::now() + patience();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "{who} does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal; one that has ended needs none.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let _ = kill_process(pid, signal);
}

/// A process that is a copy of one of the tree.
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
    for pid in process_ids() {
        let fds = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        if fds.into_iter().any(|fd| same(fd.path())) {
            // At once, since it may end, and nobody tells then whose child it was.
            if let Some((state, parent)) = state_and_parent(pid) {
                found.push((Copy { pid, state }, parent));
            }
        }
    }
    // A child between `fork` and `exec` has it open, too.
    let pids: Vec<u32> = found.iter().map(|(copy, _)| copy.pid).collect();
    found.retain(|(_, parent)| !pids.contains(parent));
    found.into_iter().map(|(copy, _)| copy).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    state_and_parent(pid).map(|(_, parent)| parent)
}

fn state_and_parent(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // They come behind the name.
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    let state = words.next()?.chars().next()?;
    Some((state, words.next()?.parse().ok()?))
}

/// What a process has open, without the numbers that differ each time.
pub(crate) fn descriptors(pid: u32) -> Vec<String> {
    let fds = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<String> = fds
        .filter_map(|fd| {
            let to = fs::read_link(fd.path()).ok()?.display().to_string();
            Some(to.replace(|letter: char| letter.is_ascii_digit(), ""))
        })
        .collect();
    found.sort();
    found
}

/// What CRIU may leave on the machine beside its directories: mounts, and places for them.
pub(crate) fn litter() -> BTreeSet<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let places = ["/", "/tmp", "/run"].into_iter().flat_map(|directory| {
        let listing = fs::read_dir(directory).into_iter().flatten().flatten();
        listing.map(|entry| entry.path().display().to_string())
    });
    let is_criu = |path: &String| path.contains("/.criu.") || path.contains("/crtools");
    mounts
        .map(str::to_owned)
        .chain(places)
        .filter(is_criu)
        .collect()
}
