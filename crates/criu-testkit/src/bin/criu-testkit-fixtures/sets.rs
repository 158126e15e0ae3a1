//! The sets: which process, dumped how.

use std::os::unix::fs::MetadataExt;

use criu_testkit::{Namespace, Scene};

/// One set of images.
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) scene: fn() -> Scene,
    /// The process to dump, given the first.
    pub(crate) root: fn(u32) -> u32,
    /// For dump and restore.
    pub(crate) options: &'static [&'static str],
    /// For both too, where they depend on the running process.
    pub(crate) own_options: fn(u32) -> Vec<String>,
    pub(crate) restore_options: &'static [&'static str],
    pub(crate) dump: Dump,
    pub(crate) kernel: Kernel,
    pub(crate) after: After,
    pub(crate) cpuinfo: bool,
    pub(crate) on_terminal: bool,
    /// Undoes what the scene did to the machine.
    pub(crate) cleanup: fn(),
    /// The CRIUs it is made with; where one would give the same as the other, only the newer.
    pub(crate) series: &'static [&'static str],
}

impl Set {
    /// The directories it is kept in, oldest first.
    pub(crate) fn directories(&self) -> Vec<String> {
        let earlier = match self.dump {
            Dump::Chain(_) => vec![format!("{}-1", self.name), format!("{}-2", self.name)],
            _ => Vec::new(),
        };
        earlier.into_iter().chain([self.name.to_owned()]).collect()
    }
}

/// Where the pages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dump {
    Plain,
    ToPageServer,
    Lazy,
    /// Two pre-dumps, then the dump, each with these options.
    Chain(&'static [&'static str]),
}

/// What it takes of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    Any,
    /// That of the guest, for tracking memory changes or for AppArmor.
    Guest,
}

/// What proves that the dump is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Restore,
    /// A restore here would need what the dump cannot give: the pages, a terminal, an external namespace.
    Nothing,
}

const PLAIN: Set = Set {
    name: "plain",
    about: "a process that counts",
    scene: Scene::new,
    root: |first| first,
    options: &[],
    own_options: |_| Vec::new(),
    restore_options: &[],
    dump: Dump::Plain,
    kernel: Kernel::Any,
    after: After::Restore,
    cpuinfo: false,
    on_terminal: false,
    cleanup: || {},
    series: &["4.2", "4.3"],
};

/// All sets.
pub(crate) const SETS: &[Set] = &[
    Set {
        cpuinfo: true,
        ..PLAIN
    },
    Set {
        name: "tree",
        about: "threads, a child, a stopped child, a zombie",
        scene: || Scene::new().threads(2).children(1).stopped_child().zombie(),
        ..PLAIN
    },
    Set {
        name: "descriptors",
        about: "pipe, fifo, ptys, eventfd, timerfd, epoll, inotify, memfd, each with something in it",
        scene: || {
            Scene::new()
                .pipe()
                .fifo()
                .pty()
                .part("pty-data")
                .event_files()
        },
        ..PLAIN
    },
    Set {
        name: "pidfd",
        about: "a pidfd of a child",
        scene: || Scene::new().part("pidfd"),
        series: &["4.3"],
        ..PLAIN
    },
    Set {
        name: "unix",
        about: "unix sockets with unread bytes, packets and a file under way",
        scene: || Scene::new().unix_sockets().part("unix-rights"),
        ..PLAIN
    },
    Set {
        name: "ghosts",
        about: "unlinked files whole and in chunks with holes, an unlinked directory, a removed hard link, locks",
        scene: || {
            Scene::new()
                .unlinked_file()
                .part("unlinked-holes")
                .part("unlinked-dir")
                .removed_hard_link()
                .file_locks()
                .open_file()
        },
        options: &["--file-locks", "--link-remap"],
        ..PLAIN
    },
    Set {
        name: "ghost-fiemap",
        about: "an unlinked file with holes, found by extent map",
        scene: || Scene::new().part("unlinked-holes"),
        options: &["--ghost-fiemap"],
        series: &["4.3"],
        ..PLAIN
    },
    Set {
        name: "tcp",
        about: "established TCP with bytes under way, UDP, in a network namespace with devices, routes and filters",
        scene: || {
            Scene::new()
                .namespaces(&[Namespace::Net])
                .prelude(&["sh", "-c", NETWORK, "sh", "perl", "-e", SOCKETS])
                .tcp()
                .tcp_listener(8080)
                .udp()
        },
        options: &["--tcp-established"],
        ..PLAIN
    },
    Set {
        name: "container",
        about: "all of a container's namespaces: host name, IPC objects with content, a tmpfs with files, a child",
        scene: || {
            Scene::new()
                .namespaces(&Namespace::ALL)
                .prelude(&["perl", "-e", IPC])
                .children(1)
                .part("tmpfs-file")
        },
        ..PLAIN
    },
    Set {
        name: "user-container",
        about: "all of a container's namespaces in a user namespace, with a binary format of its own",
        scene: || {
            Scene::new()
                .namespaces(&[Namespace::User])
                .namespaces(&Namespace::ALL)
                .part("binary-format")
        },
        after: After::Nothing,
        ..PLAIN
    },
    Set {
        name: "automount",
        about: "an automatic mount with its daemon",
        scene: || Scene::new().namespaces(&Namespace::ALL).part("automount"),
        after: After::Nothing,
        ..PLAIN
    },
    Set {
        name: "time-namespace",
        about: "a time namespace with both clocks shifted",
        scene: || Scene::new().namespaces(&[Namespace::Pid, Namespace::Time]),
        series: &["4.3"],
        ..PLAIN
    },
    Set {
        name: "external-pid-namespace",
        about: "a process in a PID namespace that the dump leaves out",
        scene: || {
            Scene::new()
                .namespaces(&[Namespace::Pid])
                .prelude(&["sh", "-c", "\"$@\" & wait", "sh"])
        },
        root: |first| {
            let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children"))
                .unwrap_or_default();
            children.trim().parse().unwrap_or(first)
        },
        own_options: |pid| {
            let inode = std::fs::metadata(format!("/proc/{pid}/ns/pid"))
                .map_or(0, |metadata| metadata.ino());
            vec!["--external".into(), format!("pid[{inode}]:extRootPidNS")]
        },
        after: After::Nothing,
        series: &["4.3"],
        ..PLAIN
    },
    Set {
        name: "kernel",
        about: "seccomp filters, signalfd, fanotify, interval timer, a pending signal",
        scene: || Scene::new().prelude(&["perl", "-e", KERNEL]),
        ..PLAIN
    },
    Set {
        name: "terminal",
        about: "a session on a terminal whose master end is outside",
        scene: Scene::new,
        on_terminal: true,
        options: &["--shell-job"],
        after: After::Nothing,
        series: &["4.3"],
        ..PLAIN
    },
    Set {
        name: "page-server",
        about: "pages written by a page server",
        scene: || Scene::new().memory_kib(64),
        dump: Dump::ToPageServer,
        ..PLAIN
    },
    Set {
        name: "lazy",
        about: "pages left behind for a lazy restore",
        scene: || Scene::new().memory_kib(64),
        dump: Dump::Lazy,
        after: After::Nothing,
        ..PLAIN
    },
    Set {
        name: "incremental",
        about: "two pre-dumps and the dump that stands on them, with a cache of watched paths",
        scene: || Scene::new().memory_kib(64).part("churn=16").part("inotify"),
        dump: Dump::Chain(&["--force-irmap", "--irmap-scan-path", "/tmp"]),
        kernel: Kernel::Guest,
        ..PLAIN
    },
    Set {
        name: "deduplicated",
        about: "the same, with what a later dump holds anew removed from the earlier",
        scene: || Scene::new().memory_kib(64).part("churn=16"),
        dump: Dump::Chain(&["--auto-dedup"]),
        kernel: Kernel::Guest,
        ..PLAIN
    },
    Set {
        name: "cgroup",
        about: "a process in a control group of its own",
        scene: || Scene::new().prelude(&["sh", "-c", CGROUP, "sh"]),
        options: &["--manage-cgroups=soft"],
        cleanup: remove_cgroups,
        series: &["4.3"],
        ..PLAIN
    },
    Set {
        name: "apparmor",
        about: "a process confined by the policy of an AppArmor namespace",
        scene: || {
            // The parser is not where the process looks for programs.
            let path = std::env::var("PATH").unwrap_or_default();
            Scene::new().prelude(&["sh", "-c", APPARMOR, &path])
        },
        kernel: Kernel::Guest,
        cleanup: remove_apparmor_namespace,
        // 4.2 takes the parser's warning that it is not configured for the name of a file.
        series: &["4.3"],
        ..PLAIN
    },
];

/// Devices, addresses, routes, rules and packet filters of both makes.
const NETWORK: &str = "ip link set lo up
ip link add fixture0 address 02:00:00:00:00:01 type dummy
ip addr add 192.0.2.1/24 dev fixture0
ip link set fixture0 up
ip route add 198.51.100.0/24 via 192.0.2.254
ip rule add from 192.0.2.7 lookup 77
ip link add fixture1 address 02:00:00:00:00:02 type veth peer name fixture2 address 02:00:00:00:00:03
ip link add fixture3 address 02:00:00:00:00:04 type bridge
iptables -A INPUT -s 203.0.113.9 -j DROP
iptables -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
nft add table inet fixture
exec \"$@\"";

/// A netlink socket, a packet socket and a tun device.
const SOCKETS: &str = r#"$^F = 255;
socket(our $netlink, 16, 3, 0) or die "netlink: $!";
socket(our $packet, 17, 3, unpack("S", pack("n", 3))) or die "packet: $!";
if (open(our $tun, "+<", "/dev/net/tun")) {
    my $request = pack("a16 S x22", "fixture4", 0x1001);
    ioctl($tun, 0x400454ca, $request) or die "tun: $!";
}
exec @ARGV or die "exec: $!";"#;

/// System V queues, semaphores and shared memory, all with content.
const IPC: &str = r#"my $queue = msgget(0x1001, 0600 | 01000);
msgsnd($queue, pack("l! a*", 1, "first message"), 0) or die "msgsnd: $!";
msgsnd($queue, pack("l! a*", 2, "the second is longer, and of eight"), 0) or die "msgsnd: $!";
my $set = semget(0x1002, 3, 0600 | 01000);
semctl($set, $_, 16, $_ + 5) for 0..2;
semget(0x1003, 4, 0600 | 01000);
my $memory = shmget(0x1004, 5000, 0600 | 01000);
shmwrite($memory, "shared memory with content", 0, 26) or die "shmwrite: $!";
shmget(0x1005, 4096, 0600 | 01000);
syscall(170, my $name = "fixture", 7) == 0 or die "sethostname: $!";
exec @ARGV or die "exec: $!";"#;

/// What has no safe call in Rust's libraries, by number (x86-64), kept over the execution of the test process. No BPF
/// maps: Debian's CRIU is built without what dumps them.
const KERNEL: &str = r#"use POSIX ();
my $signals = POSIX::SigSet->new(10, 12);
POSIX::sigprocmask(0, $signals) or die "sigprocmask: $!";
my $mask = pack("Q", 1 << 9 | 1 << 11);
syscall(289, -1, $mask, 8, 0) >= 0 or die "signalfd: $!";
kill 10, $$;
my $hour = pack("q4", 3600, 0, 3600, 0);
syscall(38, 0, $hour, 0) == 0 or die "setitimer: $!";
my $group = syscall(300, 0, 0);
$group >= 0 or die "fanotify_init: $!";
my $path = "/tmp";
syscall(301, $group, 1, 0x20, -100, $path) == 0 or die "fanotify_mark: $!";
for my $number (1, 2) {
    my $filter = pack("S C C L", 0x06, 0, 0, 0x7fff0000);
    my $program = pack("S x6 P", 1, $filter);
    syscall(157, 22, 2, $program, 0, 0) == 0 or die "seccomp: $!";
}
exec @ARGV or die "exec: $!";"#;

/// Moves itself into new groups, one in each hierarchy that takes it.
const CGROUP: &str = "for base in /sys/fs/cgroup /sys/fs/cgroup/*; do
    mkdir -p $base/criu-fixture && echo $$ >$base/criu-fixture/cgroup.procs
done 2>/dev/null
exec \"$@\"";

/// Confines itself in a new AppArmor namespace. The policy is loaded from inside, as a container would, so that it says
/// nothing of the namespace's name.
const APPARMOR: &str = r#"mount -t securityfs securityfs /sys/kernel/security
namespace=/sys/kernel/security/apparmor/policy/namespaces/fixture
mkdir $namespace
echo 'profile fixture flags=(attach_disconnected) { /** rwmlkix, unix, capability, signal, ptrace, }' |
    PATH=$0 apparmor_parser --skip-kernel-load --stdout | dd of=$namespace/.replace bs=64k
echo 'exec :fixture:fixture' >/proc/self/attr/apparmor/exec
exec "$@""#;

fn remove_apparmor_namespace() {
    let _ = std::fs::remove_dir("/sys/kernel/security/apparmor/policy/namespaces/fixture");
}

fn remove_cgroups() {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for base in hierarchies.chain(["/sys/fs/cgroup".into()]) {
        let _ = std::fs::remove_dir(base.join("criu-fixture"));
    }
}
