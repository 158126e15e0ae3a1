//! A process worth checkpointing, from its start over dump and restore to its end.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use crate::binaries::target_binary;
use crate::bind_mount::BindMount;
use crate::pace::patience;
use crate::scene::{Namespace, Scene};
use crate::subreaper::{Subreaper, children, descendants};
use crate::temp_dir::TempDir;

/// A process made by a [`Scene`]. It and all below it are killed and reaped on drop.
///
/// It talks to the test through files in its directory only, so that nothing of the test is part of its checkpoint.
#[derive(Debug)]
pub struct TestProcess {
    /// The process we started: the target itself, or the `unshare` above it. `None` once reaped.
    launched: Option<Child>,
    /// The target as seen from here; `None` while it exists only as images.
    pid: Option<u32>,
    /// All below it, which the test adopts when it is dumped.
    below: Vec<u32>,
    root: Option<MountedRoot>,
    directory: TempDir,
}

impl TestProcess {
    /// A process on a pseudo-terminal of its own, and the master end, which the test keeps.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    #[track_caller]
    pub fn on_terminal(scene: Scene) -> (TestProcess, OwnedFd) {
        let (master, slave) = terminal();
        let copy = || {
            slave
                .try_clone()
                .unwrap_or_else(|error| panic!("cannot copy a descriptor: {error}"))
        };
        let scene = scene
            .controlling_terminal()
            .stdin(copy())
            .stdout(copy())
            .stderr(copy());
        (scene.start(), master)
    }

    /// The process id of the tree's root, as the test sees it.
    ///
    /// # Panics
    ///
    /// When the process is dumped and not restored.
    #[must_use]
    #[track_caller]
    pub fn pid(&self) -> u32 {
        let Some(pid) = self.pid else {
            panic!("the process is gone and not restored")
        };
        pid
    }

    /// Its directory: `count`, and what its parts put there.
    #[must_use]
    pub fn directory(&self) -> PathBuf {
        match &self.root {
            Some(root) => root.mount.path().join("state"),
            None => self.directory.path().to_path_buf(),
        }
    }

    /// The directory that is its root, a mount of this machine, where it has mounts of its own: what `--root` of a
    /// restore names.
    #[must_use]
    pub fn root(&self) -> Option<&Path> {
        self.root.as_ref().map(|root| root.mount.path())
    }

    /// How far it has counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        fs::read_to_string(self.directory().join("count"))
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Waits until it has counted further than `count`.
    ///
    /// # Panics
    ///
    /// When it does not get there within 20 seconds.
    #[track_caller]
    pub fn wait_for_count_above(&self, count: u64) {
        wait_until("the process does not count on", || self.count() > count);
    }

    /// Asks the process whether all it holds is as it was made. Asking consumes what lay in pipes and sockets, so
    /// ask once.
    ///
    /// # Errors
    ///
    /// What is not as it was made, one line each.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    #[track_caller]
    pub fn verify(&self) -> Result<(), String> {
        let answer = self.directory().join("verified");
        let _ = fs::remove_file(&answer);
        self.ask("verify", "");
        wait_until("the process does not answer", || answer.exists());
        let text = fs::read_to_string(&answer)
            .unwrap_or_else(|error| panic!("cannot read the answer: {error}"));
        if text.is_empty() { Ok(()) } else { Err(text) }
    }

    /// Tells the process to end with this exit code.
    #[track_caller]
    pub fn finish(&self, code: u8) {
        self.ask("finish", &code.to_string());
    }

    /// Whether the process runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        let Some(pid) = self.pid else { return false };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    }

    /// Waits for the end of the dumped process and reaps it; gives how it ended.
    ///
    /// # Panics
    ///
    /// When it was not started by this test, or does not end within 20 seconds.
    #[track_caller]
    pub fn reap(&mut self) -> ExitStatus {
        let Some(mut launched) = self.launched.take() else {
            panic!("the process is not a child of this test")
        };
        let mut ended = None;
        wait_until("the process does not end", || {
            ended = launched.try_wait().ok().flatten();
            ended.is_some()
        });
        self.pid = None;
        // Killed with their parent, they are ours now. Until they are reaped, the root's own id stays in use too, as
        // that of their session.
        for pid in self.below.drain(..) {
            Subreaper::reap(pid);
        }
        ended.unwrap_or_default()
    }

    /// Takes charge of the restored process.
    ///
    /// # Panics
    ///
    /// When the dumped one was not reaped.
    #[track_caller]
    pub fn restored_as(&mut self, pid: u32) {
        assert!(
            self.pid.is_none(),
            "the process that was dumped has not been reaped"
        );
        self.pid = Some(pid);
        self.below = descendants(pid);
    }

    /// Forgets the process without waiting, after somebody else (an attached CRIU) has reaped it.
    pub fn gone(&mut self) {
        self.pid = None;
    }

    #[track_caller]
    pub(crate) fn start(scene: Scene) -> TestProcess {
        Subreaper::enable();
        let directory = TempDir::new();
        let target = target_binary();
        let mut arguments: Vec<String> = Vec::new();
        let mut root = None;
        if !scene.namespaces.is_empty() {
            arguments.push("unshare".to_owned());
            let options = scene
                .namespaces
                .iter()
                .flat_map(|namespace| namespace.unshare_options());
            arguments.extend(options.map(|option| (*option).to_owned()));
            if scene.forks() {
                arguments.push("--fork".into());
            }
        }
        let keep = !scene.prelude.is_empty();
        if keep {
            // What the prelude leaves open is wanted, what this test has open is not.
            arguments.splice(0..0, [target.display().to_string(), "--run".into()]);
        }
        let forks = scene.forks();
        arguments.extend(scene.prelude);
        arguments.push(target.display().to_string());
        if keep {
            arguments.push("--keep".into());
        }
        if scene.namespaces.contains(&Namespace::Mount) {
            let mounted = MountedRoot::furnish(&directory, &target);
            arguments.extend([
                "--enter".into(),
                mounted.mount.path().display().to_string(),
                "/state".into(),
            ]);
            root = Some(mounted);
        } else {
            arguments.push(directory.path().display().to_string());
        }
        arguments.extend(scene.parts);
        let [stdin, stdout, stderr] = scene.stdio.map(|stdio| stdio.unwrap_or_else(Stdio::null));
        let mut launched = Command::new(&arguments[0])
            .args(&arguments[1..])
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(stdin)
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}", arguments[0]));
        let launched_pid = launched.id();
        let mut process = TestProcess {
            launched: None,
            pid: Some(launched_pid),
            below: Vec::new(),
            root,
            directory,
        };
        let (ready, failed) = (
            process.directory().join("ready"),
            process.directory().join("failed"),
        );
        let mut ended = None;
        wait_until("the process does not come up", || {
            ended = launched.try_wait().ok().flatten();
            ready.exists() || ended.is_some()
        });
        process.launched = Some(launched);
        if let Some(status) = ended {
            let reason = fs::read_to_string(failed).unwrap_or_default();
            panic!("the process ended with {status} before it was ready: {reason}");
        }
        if forks {
            // `unshare` stays outside as the parent of the namespace's first process.
            process.pid = children(launched_pid).first().copied();
            assert!(process.pid.is_some(), "unshare has no child");
        }
        process.below = descendants(process.pid());
        process
    }

    /// Whether CRIU takes all memory of a task for its stack, and copies it where it should follow.
    ///
    /// It does where a stack pointer lies on the first byte of a page (`is_stack` of CRIU's `mem.c` compares what is left
    /// of addresses within their pages): one of 256, by chance.
    pub(crate) fn is_all_stack_to_criu(&self) -> bool {
        let tasks = self.below.iter().copied().chain([self.pid()]);
        let threads = tasks.flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter());
        threads.flatten().flatten().any(|thread| {
            let seen = fs::read_to_string(thread.path().join("syscall")).unwrap_or_default();
            // The last but one; nothing is told of a thread that runs.
            let pointer = seen.split_whitespace().rev().nth(1);
            let pointer = pointer.and_then(|word| word.strip_prefix("0x"));
            pointer.is_some_and(|digits| digits.ends_with("000"))
        })
    }

    #[track_caller]
    fn ask(&self, what: &str, text: &str) {
        // Written beside and moved into place: the process must not see half of it.
        let draft = self.directory().join("draft");
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, self.directory().join(what)))
            .unwrap_or_else(|error| panic!("cannot ask the process to {what}: {error}"));
    }
}

impl Drop for TestProcess {
    fn drop(&mut self) {
        if let Some(pid) = self.pid.take() {
            if std::thread::panicking() {
                // A second panic would abort and hide the first.
                let _ = std::panic::catch_unwind(|| {
                    Subreaper::kill_tree_except(pid, self.launched.as_ref())
                });
            } else {
                Subreaper::kill_tree_except(pid, self.launched.as_ref());
            }
        }
        if let Some(mut launched) = self.launched.take() {
            let _ = launched.kill();
            let _ = launched.wait();
        }
    }
}

/// A directory with the target program and its libraries, mounted onto itself so that it can be a root.
#[derive(Debug)]
struct MountedRoot {
    mount: BindMount,
}

impl MountedRoot {
    #[track_caller]
    fn furnish(directory: &TempDir, target: &Path) -> Self {
        let path = directory.make_dir("root");
        for name in ["proc", "dev", "tmp", "old", "state", "usr/sbin", "usr/bin"] {
            directory.make_dir(Path::new("root").join(name));
        }
        let mut files = shared_objects(target);
        files.push((target.to_path_buf(), PathBuf::from("target")));
        // The target sets its loopback interface up by this program.
        if let Some(ip) = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"]
            .map(Path::new)
            .into_iter()
            .find(|ip| ip.exists())
        {
            files.extend(shared_objects(ip));
            files.push((ip.to_path_buf(), PathBuf::from("usr/sbin/ip")));
        }
        for (from, to) in files {
            let to = path.join(to);
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)
                    .unwrap_or_else(|error| panic!("cannot create {}: {error}", parent.display()));
            }
            fs::copy(&from, &to)
                .unwrap_or_else(|error| panic!("cannot copy {}: {error}", from.display()));
        }
        MountedRoot {
            mount: BindMount::new(path),
        }
    }
}

/// The dynamic loader and the libraries of a program, each with its place below a root.
#[track_caller]
fn shared_objects(program: &Path) -> Vec<(PathBuf, PathBuf)> {
    let output = Command::new("ldd")
        .arg(program)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run ldd: {error}"));
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(|path| {
            (
                PathBuf::from(path),
                PathBuf::from(path.trim_start_matches('/')),
            )
        })
        .collect()
}

/// A new pseudo-terminal: master and slave.
#[track_caller]
fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    openpt(flags)
        .and_then(|master| {
            grantpt(&master)?;
            unlockpt(&master)?;
            let slave = ioctl_tiocgptpeer(&master, flags)?;
            Ok((master, slave))
        })
        .unwrap_or_else(|error| panic!("cannot make a terminal: {error}"))
}

#[track_caller]
fn wait_until(failure: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience();
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "{failure} ({:?} have passed)",
            patience()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}
