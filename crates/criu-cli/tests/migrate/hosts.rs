//! Two hosts, a client on a third, and an address that moves with the server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use criu_testkit::{
    CriuUnderTest, Namespace, NetworkNamespace, Scene, Subreaper, TempDir, TestProcess,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sides::{listening, wait_for};

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

fn criuctl(host: &NetworkNamespace, criu: &CriuUnderTest) -> Command {
    let mut command = host.command(env!("CARGO_BIN_EXE_criuctl"));
    command.env("CRIU", criu.path());
    command
}

/// A server on the source with a client that talks to it all the while, and how it ended.
struct Moved {
    hosts: Hosts,
    process: TestProcess,
    sent: Output,
    said: String,
    /// Lines sent and answered, and the longest time an answer took.
    lines: u64,
    longest: Duration,
}

/// Sends the server away; the receiver runs `script` at each stage, with the hosts' names filled in.
fn send_server(criu: &CriuUnderTest, script: impl FnOnce(&Hosts) -> String) -> Moved {
    Subreaper::enable();
    let hosts = Hosts::new();
    let directory = TempDir::new();

    let listener = on(&hosts.source, || TcpListener::bind((SERVER, 5000)).unwrap());
    let client = on(&hosts.client, || {
        TcpStream::connect((SERVER, 5000)).unwrap()
    });
    let (served, _) = listener.accept().unwrap();
    drop(listener);
    let (input, output): (OwnedFd, OwnedFd) = (served.try_clone().unwrap().into(), served.into());
    let scene = Scene::new().echo().memory_kib(4096).threads(2);
    let scene = scene
        .namespaces(&[Namespace::Pid])
        .stdin(input)
        .stdout(output);
    let process = on(&hosts.source, || scene.start());
    process.wait_for_count_above(2);

    let path = directory.join("script");
    fs::write(&path, format!("#!/bin/sh\n{}", script(&hosts))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut receive = criuctl(&hosts.destination, criu);
    receive.args([
        "migrate",
        "receive",
        "--listen",
        "10.77.2.2:0",
        "--insecure",
        "-D",
    ]);
    receive.arg(directory.make_dir("destination"));
    receive.arg("--action-script").arg(&path);
    let (mut receiver, address) = listening(receive, &directory);

    let over = AtomicBool::new(false);
    let (began, begun) = channel();
    let (sent, (lines, longest)) = std::thread::scope(|scope| {
        let talk = scope.spawn(|| talk(&client, &over, &began));
        begun.recv().unwrap();
        let sent = criuctl(&hosts.source, criu)
            .args([
                "--json",
                "migrate",
                "send",
                &process.pid().to_string(),
                &address.to_string(),
            ])
            .args(["--insecure", "--tcp-established", "-D"])
            .arg(directory.make_dir("source"))
            .output()
            .unwrap();
        // Or the client would talk for ever.
        over.store(true, Ordering::Relaxed);
        (sent, talk.join().unwrap())
    });
    wait_for(&mut receiver, "the receiver");
    let mut said = String::from_utf8_lossy(&sent.stdout).into_owned();
    said += &fs::read_to_string(directory.join("receiver")).unwrap();
    Moved {
        hosts,
        process,
        sent,
        said,
        lines,
        longest,
    }
}

/// Sends lines and waits for each to come back, until some time after it is over.
fn talk(mut client: &TcpStream, over: &AtomicBool, began: &Sender<()>) -> (u64, Duration) {
    client
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let mut answers = BufReader::new(client.try_clone().unwrap());
    let (mut longest, mut lines, mut after) = (Duration::ZERO, 0_u64, 0);
    while after < 20 {
        after += u64::from(over.load(Ordering::Relaxed));
        lines += 1;
        let asked = Instant::now();
        client
            .write_all(format!("line {lines}\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, format!("line {lines}\n"));
        longest = longest.max(asked.elapsed());
        let _ = began.send(());
        std::thread::sleep(Duration::from_millis(2));
    }
    (lines, longest)
}

#[test]
fn a_server_moves_to_another_host_and_its_client_notices_nothing_but_the_pause() {
    for criu in CriuUnderTest::all() {
        // The address and the route to it move when the tree is about to be restored there.
        let Moved {
            hosts,
            mut process,
            sent,
            said,
            lines,
            longest,
        } = send_server(&criu, |hosts| {
            format!(
                "[ \"$CRTOOLS_SCRIPT_ACTION\" = pre-restore ] || exit 0\nip addr add {SERVER}/24 dev eth0 && \
                 nsenter --net={} ip route replace {SERVER}/32 dev to-there src {CLIENT}\n",
                hosts.client.path().display()
            )
        });
        assert!(sent.status.success(), "{said}");
        let result = said.lines().find_map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).ok()?;
            value["result"]["pid"].as_u64()
        });
        let pid = result.unwrap();
        assert_eq!(
            fs::read_link(format!("/proc/{pid}/ns/net")).unwrap(),
            fs::read_link(hosts.destination.path()).unwrap()
        );
        process.reap();
        process.restored_as(u32::try_from(pid).unwrap());
        process.wait_for_count_above(process.count());
        assert_eq!(process.verify(), Ok(()));
        assert!(
            lines > 20 && longest < Duration::from_secs(20),
            "{lines} lines, {longest:?}"
        );
    }
}

#[test]
fn a_client_keeps_its_connection_when_the_destination_gives_up() {
    for criu in CriuUnderTest::all() {
        for stage in ["pre-restore", "post-restore"] {
            // The restored copy needs the address to exist; nothing leads to it.
            let moved = send_server(&criu, |_| {
                format!(
                    "[ \"$CRTOOLS_SCRIPT_ACTION\" != pre-restore ] || ip addr add {SERVER}/24 dev eth0\n\
                     [ \"$CRTOOLS_SCRIPT_ACTION\" != {stage} ]\n"
                )
            });
            assert_eq!(moved.sent.status.code(), Some(1), "{stage}: {}", moved.said);
            assert!(
                moved.said.contains("\"fate\":\"resumed\""),
                "{stage}: {}",
                moved.said
            );
            assert!(moved.lines > 20, "{}", moved.lines);
            moved.process.wait_for_count_above(moved.process.count());
            assert_eq!(moved.process.verify(), Ok(()));
        }
    }
}
