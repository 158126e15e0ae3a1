//! Two hosts, a client on a third, and an address that moves with the server.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use criu_testkit::{
    CriuUnderTest, Namespace, NetworkNamespace, Scene, Subreaper, TempDir, TestProcess, skip,
};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sides::{listening, signal, wait_for};

/// Where the server is, on whichever host it runs.
const SERVER: &str = "10.77.1.1";
const CLIENT: &str = "10.77.1.9";

struct Hosts {
    source: NetworkNamespace,
    destination: NetworkNamespace,
    client: NetworkNamespace,
}

impl Hosts {
    fn new() -> Self {
        let hosts = Self {
            source: NetworkNamespace::new(),
            destination: NetworkNamespace::new(),
            client: NetworkNamespace::new(),
        };
        // One cable from the client to each host, and one between the hosts for the migration.
        wire(&hosts.client, "to-source", &hosts.source, "eth0");
        wire(&hosts.client, "to-there", &hosts.destination, "eth0");
        wire(&hosts.source, "between", &hosts.destination, "between");
        ip(&hosts.source, &format!("addr add {SERVER}/24 dev eth0"));
        ip(&hosts.source, "addr add 10.77.2.1/24 dev between");
        ip(&hosts.destination, "addr add 10.77.2.2/24 dev between");
        ip(&hosts.client, &format!("addr add {CLIENT}/32 dev lo"));
        ip(
            &hosts.client,
            &format!("route add {SERVER}/32 dev to-source src {CLIENT}"),
        );
        hosts
    }
}

#[track_caller]
fn ip(host: &NetworkNamespace, arguments: &str) {
    let output = host
        .command("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {said}");
}

/// The process that holds a namespace.
fn holder(host: &NetworkNamespace) -> String {
    let path = host.path().display().to_string();
    path.split('/').nth(2).unwrap().to_owned()
}

#[track_caller]
fn wire(near: &NetworkNamespace, near_name: &str, far: &NetworkNamespace, far_name: &str) {
    let there = holder(far);
    ip(
        near,
        &format!("link add {near_name} type veth peer name {far_name} netns {there}"),
    );
    ip(near, &format!("link set {near_name} up"));
    ip(far, &format!("link set {far_name} up"));
}

/// Does something on a thread that is on that host.
fn on<T: Send>(host: &NetworkNamespace, act: impl FnOnce() -> T + Send) -> T {
    let namespace = fs::File::open(host.path()).unwrap();
    std::thread::scope(|scope| {
        let there = scope.spawn(move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), network).unwrap();
            act()
        });
        there.join().unwrap()
    })
}

/// With its temporary files in that directory, so that what it keeps for the user goes with the test.
fn criuctl(host: &NetworkNamespace, criu: &CriuUnderTest, directory: &TempDir) -> Command {
    let mut command = host.command(env!("CARGO_BIN_EXE_criuctl"));
    let temporary = directory.make_dir("temporary");
    command.env("CRIU", criu.path()).env("TMPDIR", temporary);
    command
}

/// A server on the source with a client that talks to it all the while, and how it ended.
struct Moved {
    hosts: Hosts,
    process: TestProcess,
    sent: Output,
    said: String,
    talk: Talk,
}

/// What became of a client's conversation.
struct Talk {
    /// Lines sent and answered, and the longest time an answer took.
    lines: u64,
    longest: Duration,
    /// Why it ended early.
    broken: Option<io::Error>,
}

impl Moved {
    /// Rules by which CRIU holds a connection still on a host, which it is to take away again.
    fn locks(&self) -> Vec<String> {
        let left_behind = match self.sent.status.code() {
            // CRIU leaves those of a tree that it does not let go on: see *known limits* in `docs/migration.md`.
            Some(0) => Vec::new(),
            _ => locks(&self.hosts.source),
        };
        [left_behind, locks(&self.hosts.destination)].concat()
    }
}

/// Rules by which CRIU holds connections on a host. It names tables and chains of its own, and marks its own packets,
/// which rules in those of others let through.
fn locks(host: &NetworkNamespace) -> Vec<String> {
    let mut found = Vec::new();
    for (program, arguments) in [("iptables-save", &[][..]), ("nft", &["list", "ruleset"])] {
        let listed = host.command(program).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let is_lock = |line: &&str| line.contains("CRIU") || line.contains("c114");
        found.extend(text.lines().filter(is_lock).map(str::to_owned));
    }
    found
}

/// How the server travels.
#[derive(Default)]
struct Trip {
    mode: Option<&'static str>,
    /// 4 MiB unless set.
    memory_kib: Option<u32>,
    /// What the source does to its cable first.
    tc: Option<&'static str>,
}

/// Sends the server away; the receiver runs `script` at each stage, with the hosts' names filled in.
fn send_server(criu: &CriuUnderTest, trip: &Trip, script: impl FnOnce(&Hosts) -> String) -> Moved {
    Subreaper::enable();
    let hosts = Hosts::new();
    if let Some(arguments) = trip.tc {
        let tc = hosts
            .source
            .command("tc")
            .args(arguments.split(' '))
            .status();
        assert!(tc.unwrap().success(), "tc {arguments}");
    }
    let directory = TempDir::new();

    let listener = on(&hosts.source, || TcpListener::bind((SERVER, 5000)).unwrap());
    let client = on(&hosts.client, || {
        TcpStream::connect((SERVER, 5000)).unwrap()
    });
    let (served, _) = listener.accept().unwrap();
    drop(listener);
    let (input, output): (OwnedFd, OwnedFd) = (served.try_clone().unwrap().into(), served.into());
    let scene = Scene::new().echo().threads(2);
    let scene = scene.memory_kib(trip.memory_kib.unwrap_or(4096));
    let scene = scene
        .namespaces(&[Namespace::Pid])
        .stdin(input)
        .stdout(output);
    let process = on(&hosts.source, || scene.start());
    process.wait_for_count_above(2);

    let path = directory.join("script");
    fs::write(&path, format!("#!/bin/sh\n{}", script(&hosts))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut receive = criuctl(&hosts.destination, criu, &directory);
    receive.args([
        "migrate",
        "receive",
        "--listen",
        "10.77.2.2:0",
        "--insecure",
        "--silence",
        "3",
        "-D",
    ]);
    receive.arg(directory.make_dir("destination"));
    receive.arg("--action-script").arg(&path);
    let (mut receiver, address) = listening(receive, &directory);

    let over = AtomicBool::new(false);
    let (began, begun) = channel();
    let (sent, talk) = std::thread::scope(|scope| {
        let talk = scope.spawn(|| talk(&client, &over, &began));
        begun.recv().unwrap();
        let mode = trip.mode.map(|mode| ["--mode", mode]);
        let sent = criuctl(&hosts.source, criu, &directory)
            .args([
                "--json",
                "migrate",
                "send",
                &process.pid().to_string(),
                &address.to_string(),
            ])
            .args(mode.iter().flatten())
            .args(["--insecure", "--silence", "3", "--tcp-established", "-D"])
            .arg(directory.make_dir("source"))
            .output()
            .unwrap();
        let ended = catch_unwind(AssertUnwindSafe(|| wait_for(&mut receiver, "the receiver")));
        // Or the client would talk for ever.
        over.store(true, Ordering::Relaxed);
        ended.unwrap();
        (sent, talk.join().unwrap())
    });
    let mut said = String::from_utf8_lossy(&sent.stdout).into_owned();
    said += &fs::read_to_string(directory.join("receiver")).unwrap();
    Moved {
        hosts,
        process,
        sent,
        said,
        talk,
    }
}

/// Sends lines and waits for each to come back, until some time after it is over, or the connection is.
fn talk(mut client: &TcpStream, over: &AtomicBool, began: &Sender<()>) -> Talk {
    client
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut answers = BufReader::new(client.try_clone().unwrap());
    let mut talk = Talk {
        lines: 0,
        longest: Duration::ZERO,
        broken: None,
    };
    let mut after = 0;
    while after < 20 {
        after += u64::from(over.load(Ordering::Relaxed));
        let asked = Instant::now();
        let line = format!("line {}\n", talk.lines + 1);
        let mut answer = String::new();
        let answered = client
            .write_all(line.as_bytes())
            .and_then(|()| answers.read_line(&mut answer));
        match answered {
            Ok(0) => talk.broken = Some(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => assert_eq!(answer, line),
            Err(error) => talk.broken = Some(error),
        }
        if talk.broken.is_some() {
            break;
        }
        talk.lines += 1;
        talk.longest = talk.longest.max(asked.elapsed());
        let _ = began.send(());
        std::thread::sleep(Duration::from_millis(2));
    }
    talk
}

/// The address is there before the sockets that use it are restored, and the route to it moves when they are: before
/// that there is nobody to answer a client but by a reset.
fn take_address_along(hosts: &Hosts) -> String {
    format!(
        "case $CRTOOLS_SCRIPT_ACTION in\npre-restore) ip addr add {SERVER}/24 dev eth0 ;;\n\
         pre-resume) nsenter --net={} ip route replace {SERVER}/32 dev to-there src {CLIENT} ;;\nesac\n",
        hosts.client.path().display()
    )
}

#[test]
fn a_server_moves_to_another_host_and_its_client_notices_nothing_but_the_pause() {
    for criu in CriuUnderTest::all() {
        for mode in [None, Some("post-copy")] {
            let trip = Trip {
                mode,
                ..Trip::default()
            };
            let mut moved = send_server(&criu, &trip, take_address_along);
            let said = &moved.said;
            assert!(moved.sent.status.success(), "{said}");
            let result = said.lines().find_map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).ok()?;
                value["result"]["pid"].as_u64()
            });
            let pid = result.unwrap();
            assert_eq!(
                fs::read_link(format!("/proc/{pid}/ns/net")).unwrap(),
                fs::read_link(moved.hosts.destination.path()).unwrap()
            );
            moved.process.reap();
            moved.process.restored_as(u32::try_from(pid).unwrap());
            moved.process.wait_for_count_above(moved.process.count());
            assert_eq!(moved.process.verify(), Ok(()));
            let Talk {
                lines,
                longest,
                broken,
            } = &moved.talk;
            assert!(
                *lines > 20 && *longest < Duration::from_secs(20) && broken.is_none(),
                "{lines} lines, {longest:?}, {broken:?}: {said}"
            );
            assert_eq!(moved.locks(), Vec::<String>::new());
        }
    }
}

/// A source whose tree goes on with its connection, and says so.
#[track_caller]
fn went_on(moved: &Moved, case: &str) {
    let said = &moved.said;
    assert_eq!(moved.sent.status.code(), Some(1), "{case}: {said}");
    assert!(said.contains("\"fate\":\"resumed\""), "{case}: {said}");
    let talk = &moved.talk;
    let (lines, broken) = (talk.lines, &talk.broken);
    assert!(lines > 20 && broken.is_none(), "{case}: {lines} {broken:?}");
    moved.process.wait_for_count_above(moved.process.count());
    assert_eq!(moved.process.verify(), Ok(()));
    assert_eq!(moved.locks(), Vec::<String>::new(), "{case}");
}

#[test]
fn a_client_keeps_its_connection_when_the_destination_gives_up() {
    for criu in CriuUnderTest::all() {
        for stage in ["pre-restore", "post-restore"] {
            for mode in [None, Some("post-copy")] {
                let trip = Trip {
                    mode,
                    ..Trip::default()
                };
                // The restored copy needs the address to exist; nothing leads to it.
                let moved = send_server(&criu, &trip, |_| {
                    format!(
                        "[ \"$CRTOOLS_SCRIPT_ACTION\" != pre-restore ] || ip addr add {SERVER}/24 dev eth0\n\
                         [ \"$CRTOOLS_SCRIPT_ACTION\" != {stage} ]\n"
                    )
                });
                went_on(&moved, &format!("{stage} {mode:?}"));
            }
        }
    }
}

#[test]
fn a_client_keeps_its_connection_when_the_hosts_lose_each_other_before_the_hand_over() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    for mode in ["stop-and-copy", "post-copy"] {
        let trip = Trip {
            mode: Some(mode),
            ..Trip::default()
        };
        let moved = send_server(&criu, &trip, |_| {
            format!(
                "[ \"$CRTOOLS_SCRIPT_ACTION\" != pre-restore ] || ip addr add {SERVER}/24 dev eth0\n\
                 [ \"$CRTOOLS_SCRIPT_ACTION\" != post-restore ] || ip link set between down\n"
            )
        });
        went_on(&moved, mode);
    }
}

#[test]
fn a_server_whose_memory_cannot_follow_is_ended_there_and_kept_here() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let can_be_slow = NetworkNamespace::new()
        .command("tc")
        .args("qdisc add dev lo root tbf rate 1mbit burst 32kb latency 50ms".split(' '))
        .output()
        .is_ok_and(|tc| tc.status.success());
    if !can_be_slow {
        skip!(
            Unavoidable,
            "a network cannot be made slow here: needs CONFIG_NET_SCH_TBF"
        );
    }
    let trip = Trip {
        mode: Some("post-copy"),
        memory_kib: Some(32 << 10),
        tc: Some("qdisc add dev between root tbf rate 20mbit burst 64kb latency 100ms"),
    };
    let moved = send_server(&criu, &trip, |hosts| {
        format!(
            "[ \"$CRTOOLS_SCRIPT_ACTION\" != pre-resume ] || (sleep 1; ip link set between down) &\n{}",
            take_address_along(hosts)
        )
    });
    let said = &moved.said;
    assert_eq!(moved.sent.status.code(), Some(3), "{said}");
    assert!(said.contains("\"stage\":\"filling\""), "{said}");
    // It has answered there, and was ended there, as its client noticed.
    let talk = &moved.talk;
    assert!(
        talk.lines > 20 && talk.broken.is_some(),
        "{} {:?} {said}",
        talk.lines,
        talk.broken
    );
    let there = fs::read_link(moved.hosts.destination.path()).unwrap();
    let is_there = |entry: fs::DirEntry| {
        let network = fs::read_link(entry.path().join("ns/net"));
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        network.is_ok_and(|network| network == there) && !command.contains("sleep")
    };
    let left = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name();
            is_there(entry).then_some(pid)
        });
    assert_eq!(
        left.collect::<Vec<_>>(),
        Vec::<std::ffi::OsString>::new(),
        "{said}"
    );
    assert_eq!(moved.locks(), Vec::<String>::new());
    // The message says that it may go back to when it was frozen.
    let before = moved.process.count();
    signal(moved.process.pid(), Signal::CONT);
    moved.process.wait_for_count_above(before);
    assert_eq!(moved.process.verify(), Ok(()));
}

/// What `docs/migration.md` says of it: what remains, and what helps.
#[test]
fn connections_that_a_killed_criu_holds_can_be_freed() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    Subreaper::enable();
    let hosts = Hosts::new();
    for host in [&hosts.source, &hosts.destination] {
        ip(host, "link set lo up");
    }
    let scene = Scene::new().tcp().memory_kib(1024);
    let process = on(&hosts.source, || {
        scene.namespaces(&[Namespace::Pid]).start()
    });
    process.wait_for_count_above(2);
    let directory = TempDir::new();
    let script = directory.join("script");
    let text = "#!/bin/sh\n[ \"$CRTOOLS_SCRIPT_ACTION\" = post-dump ] || exit 0\n\
                for pid in $(pgrep -P $PPID); do [ $pid = $$ ] || kill -9 $pid; done\n";
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut receive = criuctl(&hosts.destination, &criu, &directory);
    receive.args(["migrate", "receive", "--listen", "10.77.2.2:0"]);
    receive.args(["--insecure", "-D"]);
    receive.arg(directory.make_dir("destination"));
    let (mut receiver, address) = listening(receive, &directory);
    let pid = process.pid().to_string();
    let sent = criuctl(&hosts.source, &criu, &directory)
        .args(["migrate", "send", &pid, &address.to_string()])
        .args(["--insecure", "--tcp-established", "--action-script"])
        .arg(&script)
        .output()
        .unwrap();
    wait_for(&mut receiver, "the receiver");
    let said = String::from_utf8_lossy(&sent.stderr);
    assert_eq!(sent.status.code(), Some(1), "{said}");
    assert!(said.contains("goes on here"), "{said}");
    process.wait_for_count_above(process.count());
    assert!(!locks(&hosts.source).is_empty(), "{said}");
    assert_eq!(locks(&hosts.destination), Vec::<String>::new());

    // A CRIU that lets the tree go on takes its sockets out of repair mode. It removes its own rules, not those before.
    let dumped = criuctl(&hosts.source, &criu, &directory)
        .args(["dump", &pid, "--leave-running", "--tcp-established", "-D"])
        .arg(directory.make_dir("dump"))
        .output()
        .unwrap();
    assert!(dumped.status.success(), "{dumped:?}");
    let free =
        "iptables-save | sed -n '/0xc114/s/^-A/-D/p' | while read -r rule; do iptables $rule; done";
    let freed = hosts.source.command("sh").args(["-c", free]).output();
    assert!(freed.unwrap().status.success());
    assert_eq!(locks(&hosts.source), Vec::<String>::new());
    assert_eq!(process.verify(), Ok(()));
}
