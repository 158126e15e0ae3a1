//! What a test process shall hold when it is checkpointed.

use std::process::Stdio;

use crate::process::TestProcess;

/// A kind of namespace the process gets one of its own of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// Process ids; the process is the first of its namespace.
    Pid,
    /// Mounts; the process sees a small root of its own, see [`TestProcess::root`].
    Mount,
    /// Network, with loopback up.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Control groups.
    Cgroup,
    /// Users, root inside being the caller outside.
    User,
    /// Clock offsets: boot time and monotonic time run ahead.
    Time,
}

impl Namespace {
    /// All that a container has.
    pub const ALL: [Namespace; 5] = [
        Namespace::Pid,
        Namespace::Mount,
        Namespace::Net,
        Namespace::Ipc,
        Namespace::Uts,
    ];

    pub(crate) fn unshare_options(self) -> &'static [&'static str] {
        match self {
            Namespace::Pid => &["--pid"],
            Namespace::Mount => &["--mount"],
            Namespace::Net => &["--net"],
            Namespace::Ipc => &["--ipc"],
            Namespace::Uts => &["--uts"],
            Namespace::Cgroup => &["--cgroup"],
            Namespace::User => &["--user", "--map-root-user"],
            Namespace::Time => &["--time", "--boottime", "1000", "--monotonic", "500"],
        }
    }
}

/// A test process in the making: it counts, and holds what the methods add.
///
/// ```no_run
/// use criu_testkit::Scene;
///
/// let mut process = Scene::new().threads(3).pipe().start();
/// process.wait_for_count_above(0);
/// process.verify().expect("all is as it was made");
/// ```
#[derive(Debug, Default)]
pub struct Scene {
    pub(crate) parts: Vec<String>,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) prelude: Vec<String>,
    pub(crate) stdio: [Option<Stdio>; 3],
}

impl Scene {
    /// A single process, leader of its own session, standard streams on `/dev/null`, that counts.
    #[must_use]
    pub fn new() -> Self {
        Scene::default()
    }

    /// Starts the process and waits until it holds everything.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> TestProcess {
        // With standard streams of its own it can be started but once.
        let again = self.stdio.iter().all(Option::is_none).then(|| Scene {
            parts: self.parts.clone(),
            namespaces: self.namespaces.clone(),
            prelude: self.prelude.clone(),
            stdio: Default::default(),
        });
        let process = TestProcess::start(self);
        match again {
            Some(scene) if process.is_all_stack_to_criu() => {
                drop(process);
                scene.start()
            }
            _ => process,
        }
    }

    /// Memory with a known pattern, in KiB.
    #[must_use]
    pub fn memory_kib(self, kib: u32) -> Self {
        self.part(format!("memory={kib}"))
    }

    /// Further threads, each counting.
    #[must_use]
    pub fn threads(self, count: u32) -> Self {
        self.part(format!("threads={count}"))
    }

    /// Child processes, each counting too.
    #[must_use]
    pub fn children(self, count: u32) -> Self {
        self.part(format!("children={count}"))
    }

    /// A child stopped by `SIGSTOP`.
    #[must_use]
    pub fn stopped_child(self) -> Self {
        self.part("stopped-child")
    }

    /// A child that ended and that nobody waits for.
    #[must_use]
    pub fn zombie(self) -> Self {
        self.part("zombie")
    }

    /// A pipe with unread bytes in it.
    #[must_use]
    pub fn pipe(self) -> Self {
        self.part("pipe")
    }

    /// A named pipe with unread bytes in it.
    #[must_use]
    pub fn fifo(self) -> Self {
        self.part("fifo")
    }

    /// An established TCP connection over loopback, unread bytes in both directions.
    #[must_use]
    pub fn tcp(self) -> Self {
        self.part("tcp")
    }

    /// A TCP socket that listens on this port of 127.0.0.1 (0: any).
    #[must_use]
    pub fn tcp_listener(self, port: u16) -> Self {
        self.part(format!("tcp-listener={port}"))
    }

    /// A bound UDP socket.
    #[must_use]
    pub fn udp(self) -> Self {
        self.part("udp")
    }

    /// Connected unix sockets, a stream and a datagram pair, with unread bytes and packets.
    #[must_use]
    pub fn unix_sockets(self) -> Self {
        self.part("unix")
    }

    /// A pseudo-terminal, both ends, with unread bytes.
    #[must_use]
    pub fn pty(self) -> Self {
        self.part("pty")
    }

    /// An advisory lock of each kind on a file.
    #[must_use]
    pub fn file_locks(self) -> Self {
        self.part("locks")
    }

    /// An open file that was removed: a "ghost".
    #[must_use]
    pub fn unlinked_file(self) -> Self {
        self.part("unlinked")
    }

    /// An open file one of whose two names was removed: it takes `--link-remap`.
    #[must_use]
    pub fn removed_hard_link(self) -> Self {
        self.part("removed-link")
    }

    /// An open file that the test may alter behind the process's back, called `plain` in its directory.
    #[must_use]
    pub fn open_file(self) -> Self {
        self.part("open-file")
    }

    /// eventfd, timerfd and epoll, an inotify watch, a memfd with content.
    #[must_use]
    pub fn event_files(self) -> Self {
        self.part("eventfd")
            .part("timerfd")
            .part("epoll")
            .part("inotify")
            .part("memfd")
    }

    /// Writes every count as a line to standard output, which the test gave with [`Scene::stdout`].
    #[must_use]
    pub fn counting_on_stdout(self) -> Self {
        self.part("count-on-stdout")
    }

    /// Sends every line read from standard input back on standard output.
    #[must_use]
    pub fn echo(self) -> Self {
        self.part("echo")
    }

    /// Standard input becomes the controlling terminal.
    #[must_use]
    pub fn controlling_terminal(self) -> Self {
        self.part("controlling-terminal")
    }

    /// Whether `unshare` stays outside as the parent: the namespaces of processes and clocks are those of children.
    pub(crate) fn forks(&self) -> bool {
        self.namespaces.contains(&Namespace::Pid) || self.namespaces.contains(&Namespace::Time)
    }

    /// One of the parts of the target program by its own name.
    #[must_use]
    pub fn part(mut self, part: impl Into<String>) -> Self {
        self.parts.push(part.into());
        self
    }

    /// Namespaces of its own.
    #[must_use]
    pub fn namespaces(mut self, namespaces: &[Namespace]) -> Self {
        self.namespaces.extend_from_slice(namespaces);
        if namespaces.contains(&Namespace::Net) {
            self.parts.insert(0, "loopback".into());
        }
        self
    }

    /// A command that prepares what the process inherits and then executes the rest of its arguments, such as
    /// `perl -e '...; exec @ARGV'`. It runs inside the namespaces; descriptors it leaves open stay open.
    #[must_use]
    pub fn prelude(mut self, command: &[&str]) -> Self {
        self.prelude = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Standard input other than `/dev/null`.
    #[must_use]
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdio[0] = Some(stdin.into());
        self
    }

    /// Standard output other than `/dev/null`.
    #[must_use]
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdio[1] = Some(stdout.into());
        self
    }

    /// Standard error other than `/dev/null`.
    #[must_use]
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stdio[2] = Some(stderr.into());
        self
    }
}
