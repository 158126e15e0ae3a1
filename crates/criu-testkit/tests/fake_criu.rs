//! The fake CRIU does what its script says.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use criu_testkit::{FakeCriu, Field, Message, Step, TempDir, fields};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, recvmsg, send, socket_with, socketpair,
};

/// Starts the fake as a worker by the shell, which can place a descriptor by number.
fn start(fake: &FakeCriu) -> (std::process::Child, OwnedFd) {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("socketpair");
    let child = Command::new("sh")
        .args(["-c", "exec 3<&0 \"$0\" swrk 3"])
        .arg(fake.path())
        .stdin(Stdio::from(theirs))
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh runs");
    (child, ours)
}

fn receive(connection: &OwnedFd) -> Vec<u8> {
    let mut packet = vec![0; 1 << 20];
    let (len, _) = recv(connection, &mut packet[..], RecvFlags::empty()).expect("recv");
    packet.truncate(len);
    packet
}

#[test]
fn it_answers_with_the_bytes_of_the_script_and_keeps_the_request() {
    let long = Message::reply(10, 1).bytes(9, vec![b'x'; 100_000]).build();
    let fake = FakeCriu::new(&[Step::Receive, Step::Send(long.clone())]);
    let (mut child, connection) = start(&fake);
    let request = Message::new().varint(1, 10).build();
    send(&connection, &request, SendFlags::empty()).expect("send");
    assert_eq!(receive(&connection), long);
    assert_eq!(
        receive(&connection),
        Vec::<u8>::new(),
        "closed at the end of the script"
    );
    assert!(child.wait().expect("wait").success());
    assert_eq!(fake.requests(), vec![request]);
    assert_eq!(fields(&fake.requests()[0]), vec![Field::Varint(1, 10)]);
    assert_eq!(fake.workers(), vec![child.id()]);
}

#[test]
fn it_hands_descriptors_over() {
    let fake = FakeCriu::new(&[Step::SendWithFds(vec![1, 2, 3], 2)]);
    let (mut child, connection) = start(&fake);
    let mut space = [std::mem::MaybeUninit::uninit(); 256];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut packet = [0; 16];
    let received = recvmsg(
        &connection,
        &mut [std::io::IoSliceMut::new(&mut packet)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .expect("recvmsg");
    assert_eq!(received.bytes, 3);
    let fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(fds.len(), 2);
    child.wait().expect("wait");
}

#[test]
fn it_dies_exits_and_complains_as_told() {
    let die = FakeCriu::new(&[Step::Receive, Step::Die(9)]);
    let (mut child, connection) = start(&die);
    send(&connection, b"x", SendFlags::empty()).expect("send");
    assert_eq!(receive(&connection), Vec::<u8>::new());
    assert_eq!(child.wait().expect("wait").signal(), Some(9));

    let directory = TempDir::new();
    let log = directory.join("criu.log");
    let exit = FakeCriu::new(&[
        Step::WriteFile(log.clone(), b"Error (criu/x.c:1): no\n".to_vec()),
        Step::Stderr(b"oh no".to_vec()),
        Step::Close,
        Step::Exit(3),
    ]);
    let (mut child, _connection) = start(&exit);
    let mut said = String::new();
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut said)
        .expect("read");
    assert_eq!(child.wait().expect("wait").code(), Some(3));
    assert_eq!(said, "oh no");
    assert_eq!(
        std::fs::read(log).expect("written"),
        b"Error (criu/x.c:1): no\n"
    );
}

#[test]
fn it_hangs_and_ignores_termination_as_told() {
    let fake = FakeCriu::new(&[
        Step::IgnoreTermination,
        Step::Receive,
        Step::Send(vec![7]),
        Step::Hang,
    ]);
    let (mut child, connection) = start(&fake);
    send(&connection, b"x", SendFlags::empty()).expect("send");
    assert_eq!(receive(&connection), [7]);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal");
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(child.try_wait().expect("wait"), None);
    child.kill().expect("kill");
    child.wait().expect("wait");
}

#[test]
fn it_serves_one_connection_on_a_socket_and_tells_its_version() {
    let fake = FakeCriu::of_version("3.99", &[Step::Receive, Step::Send(vec![9])]);
    let output = Command::new(fake.path())
        .arg("--version")
        .output()
        .expect("runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Version: 3.99\n");

    let directory = TempDir::new();
    let path = directory.join("service.socket");
    let mut child = Command::new(fake.path())
        .args(["service", "--address"])
        .arg(&path)
        .spawn()
        .expect("runs");
    fake.wait_for_socket(&path);
    let connection = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .expect("socket");
    let address = SocketAddrUnix::new(&path).expect("short");
    // Bound is not yet listening.
    while connect(&connection, &address).is_err() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    send(&connection, b"x", SendFlags::empty()).expect("send");
    assert_eq!(receive(&connection), [9]);
    assert!(child.wait().expect("wait").success());
}
