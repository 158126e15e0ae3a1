//! Sockets with something in them.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::Failure;
use crate::parts::{Part, expect};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

/// Both ends of a connection over loopback, with bytes under way in both directions.
pub(crate) struct Tcp {
    _listener: TcpListener,
    near: TcpStream,
    far: TcpStream,
}

impl Tcp {
    pub(crate) fn new() -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut near = TcpStream::connect(listener.local_addr()?)?;
        let (mut far, _) = listener.accept()?;
        near.write_all(b"towards the far end")?;
        far.write_all(b"towards the near end")?;
        near.set_read_timeout(PATIENCE)?;
        far.set_read_timeout(PATIENCE)?;
        Ok(Tcp {
            _listener: listener,
            near,
            far,
        })
    }
}

impl Part for Tcp {
    fn verify(&mut self) -> Result<(), Failure> {
        read_expected(&mut self.far, b"towards the far end")?;
        read_expected(&mut self.near, b"towards the near end")?;
        self.near.write_all(b"still open")?;
        read_expected(&mut self.far, b"still open")
    }
}

/// A listening socket that greets whoever connects; its port stands in the file `port`.
pub(crate) struct TcpServer {
    listener: TcpListener,
}

impl TcpServer {
    pub(crate) fn new(port: u16, directory: &Path) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", port))?;
        listener.set_nonblocking(true)?;
        std::fs::write(
            directory.join("port"),
            listener.local_addr()?.port().to_string(),
        )?;
        Ok(TcpServer { listener })
    }
}

impl Part for TcpServer {
    fn tick(&mut self, count: u64) {
        if let Ok((mut client, _)) = self.listener.accept() {
            let _ = writeln!(client, "count {count}");
        }
    }

    fn verify(&mut self) -> Result<(), Failure> {
        self.listener.local_addr()?;
        Ok(())
    }
}

/// A bound socket, and one connected to it.
pub(crate) struct Udp {
    bound: UdpSocket,
    connected: UdpSocket,
}

impl Udp {
    pub(crate) fn new() -> Result<Self, Failure> {
        let bound = UdpSocket::bind("127.0.0.1:0")?;
        let connected = UdpSocket::bind("127.0.0.1:0")?;
        connected.connect(bound.local_addr()?)?;
        bound.set_read_timeout(PATIENCE)?;
        Ok(Udp { bound, connected })
    }
}

impl Part for Udp {
    fn verify(&mut self) -> Result<(), Failure> {
        self.connected.send(b"datagram")?;
        let mut buffer = [0; 64];
        let (len, from) = self.bound.recv_from(&mut buffer)?;
        expect(&&buffer[..len], &&b"datagram"[..])?;
        expect(&from, &self.connected.local_addr()?)
    }
}

/// Connected pairs: a stream with bytes, datagrams with packets.
pub(crate) struct Unix {
    stream: (UnixStream, UnixStream),
    datagram: (UnixDatagram, UnixDatagram),
}

impl Unix {
    pub(crate) fn new() -> Result<Self, Failure> {
        let stream = UnixStream::pair()?;
        let datagram = UnixDatagram::pair()?;
        (&stream.0).write_all(b"bytes in a stream")?;
        datagram.0.send(b"first packet")?;
        datagram.0.send(b"second packet")?;
        Ok(Unix { stream, datagram })
    }
}

impl Part for Unix {
    fn verify(&mut self) -> Result<(), Failure> {
        self.stream.1.set_read_timeout(PATIENCE)?;
        self.datagram.1.set_read_timeout(PATIENCE)?;
        read_expected(&mut self.stream.1, b"bytes in a stream")?;
        for packet in [&b"first packet"[..], b"second packet"] {
            let mut buffer = [0; 64];
            let len = self.datagram.1.recv(&mut buffer)?;
            expect(&&buffer[..len], &packet)?;
        }
        Ok(())
    }
}

/// A datagram under way that carries an open file.
pub(crate) struct UnixRights {
    sender: UnixDatagram,
    receiver: UnixDatagram,
    // CRIU takes a file in a packet only if a process holds it as well.
    _file: File,
}

impl UnixRights {
    pub(crate) fn new(directory: &Path) -> Result<Self, Failure> {
        let (sender, receiver) = UnixDatagram::pair()?;
        let path = directory.join("passed");
        std::fs::write(&path, "passed along")?;
        let file = File::open(path)?;
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); 64];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(
            &sender,
            &[IoSlice::new(b"with a file")],
            &mut control,
            SendFlags::empty(),
        )?;
        Ok(UnixRights {
            sender,
            receiver,
            _file: file,
        })
    }
}

impl Part for UnixRights {
    fn verify(&mut self) -> Result<(), Failure> {
        self.sender.take_error()?;
        let mut space = [MaybeUninit::uninit(); 64];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut packet = [0; 32];
        recvmsg(
            &self.receiver,
            &mut [IoSliceMut::new(&mut packet)],
            &mut control,
            RecvFlags::DONTWAIT,
        )?;
        let passed = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let mut text = String::new();
        File::from(passed.ok_or("no descriptor came along")?).read_to_string(&mut text)?;
        expect(&text.as_str(), &"passed along")
    }
}

fn read_expected(from: &mut impl Read, expected: &[u8]) -> Result<(), Failure> {
    let mut found = vec![0; expected.len()];
    from.read_exact(&mut found)?;
    expect(&found.as_slice(), &expected)
}
