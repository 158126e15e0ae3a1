//! Sockets.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use bstr::{BString, ByteSlice};
use criu_image::message::{
    FdTypes, FdinfoEntry, FileEntry, InetSkEntry, SkOptsEntry, SkPacketEntry, TcpStreamEntry,
    UnixSkEntry,
};
use criu_image::{ByteOrder, ImageKind};
use serde::Serialize;

use super::files::type_name;
use super::{Explorer, Partial, Warning};

/// The sockets of a task.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TaskSockets {
    /// The task.
    pub pid: u32,
    /// Its sockets, in the order of its descriptors in the image.
    pub sockets: Vec<Socket>,
}

/// A socket, as far as its family tells.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Socket {
    /// The descriptor's number.
    pub fd: u32,
    /// CRIU's name of the type of file, such as `INETSK`.
    pub fd_type: String,
    /// Address family, such as `INET6`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub family: String,
    /// Protocol, such as `TCP`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// Type, such as `STREAM`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// State, such as `LISTEN`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub state: String,
    /// Own address; of a unix socket its name, with `@` in front of abstract ones.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub src_addr: String,
    /// Own port.
    #[serde(skip_serializing_if = "is_zero")]
    pub src_port: u32,
    /// Address of the other side.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dest_addr: String,
    /// Port of the other side.
    #[serde(skip_serializing_if = "is_zero")]
    pub dest_port: u32,
    /// Size of the send buffer, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub send_buf: String,
    /// Size of the receive buffer, in words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub recv_buf: String,
    /// Inode, by which unix sockets refer to each other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ino: Option<u32>,
    /// Inode of a unix socket's peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<u32>,
    /// Bytes received and not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recv_queue: Option<u64>,
    /// Bytes written and not acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_queue: Option<u64>,
    /// Connections that may wait, of a socket that listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<u32>,
}

/// The sockets of each task that has any.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Sockets(pub Vec<TaskSockets>);

impl Explorer {
    /// Sockets: where they are bound, whom they are connected to, what is queued in them.
    pub fn sockets(&mut self) -> Partial<Sockets> {
        let order = self.byte_order();
        let mut queued: Option<HashMap<u32, u64>> = None;
        let mut tasks = Vec::new();
        for pid in self.living() {
            let mut sockets = Vec::new();
            for fd in self.fdinfo(pid) {
                if !is_socket(fd.r#type) {
                    continue;
                }
                let Some(file) = self.file_table().find(fd.r#type, fd.id) else {
                    let (kind, id) = (fd.r#type, fd.id);
                    self.warn(Warning::UnknownFile { pid, kind, id });
                    continue;
                };
                let mut socket = Socket::new(&fd, &file, order);
                if let Some(inet) = file.isk.filter(|inet| inet.proto == IPPROTO_TCP) {
                    let stream = self
                        .checkpoint
                        .one::<TcpStreamEntry>(ImageKind::TcpStream, inet.ino.into());
                    if let Some(stream) = self.optional(stream) {
                        socket.recv_queue = Some(stream.inq_len.into());
                        socket.send_queue = Some(stream.outq_len.into());
                    }
                } else if fd.r#type != FdTypes::Inetsk {
                    let queued = queued.get_or_insert_with(|| self.queued());
                    socket.recv_queue = queued.get(&fd.id).copied();
                }
                sockets.push(socket);
            }
            if !sockets.is_empty() {
                tasks.push(TaskSockets { pid, sockets });
            }
        }
        self.answer(Sockets(tasks))
    }

    /// Bytes queued in sockets other than TCP, by the id of the socket.
    fn queued(&mut self) -> HashMap<u32, u64> {
        let mut queued = HashMap::new();
        for packet in self.entries::<SkPacketEntry>(ImageKind::SkQueues, 0) {
            *queued.entry(packet.id_for).or_insert(0) += u64::from(packet.length);
        }
        queued
    }

    /// The byte order of the machine that was dumped.
    pub(super) fn byte_order(&mut self) -> ByteOrder {
        let image = self.checkpoint.image(ImageKind::Files, 0);
        image.map_or(ByteOrder::Little, |image| image.byte_order())
    }
}

impl Socket {
    fn new(fd: &FdinfoEntry, file: &FileEntry, order: ByteOrder) -> Self {
        let mut socket = Self {
            fd: fd.fd,
            fd_type: type_name(fd.r#type),
            ..Self::default()
        };
        if let Some(inet) = &file.isk {
            socket.take_inet(inet, order);
        } else if let Some(unix) = &file.usk {
            socket.take_unix(unix);
        } else if let Some(packet) = &file.psk {
            socket.family = "PACKET".to_owned();
            socket.kind = type_word(packet.r#type);
            socket.protocol = ethertype_word(u16::from_be(low_half(packet.protocol)));
            socket.take_buffers(&packet.opts);
        } else if let Some(netlink) = &file.nlsk {
            socket.family = "NETLINK".to_owned();
            socket.protocol = netlink_word(netlink.protocol);
            // Netlink knows but one state, which has no name.
            if netlink.state != 0 {
                socket.state = state_word(netlink.state);
            }
            socket.src_port = netlink.portid;
            socket.dest_port = netlink.dst_portid;
            socket.ino = Some(netlink.ino);
            socket.take_buffers(&netlink.opts);
        }
        socket
    }

    fn take_inet(&mut self, inet: &InetSkEntry, order: ByteOrder) {
        self.family = family_word(inet.family);
        self.protocol = protocol_word(inet.proto);
        self.kind = type_word(inet.r#type);
        self.state = state_word(inet.state);
        self.src_addr = address_text(&inet.src_addr, order);
        self.src_port = inet.src_port;
        self.dest_addr = address_text(&inet.dst_addr, order);
        self.dest_port = inet.dst_port;
        self.ino = Some(inet.ino);
        self.backlog = (inet.state == TCP_LISTEN).then_some(inet.backlog);
        self.take_buffers(&inet.opts);
    }

    fn take_unix(&mut self, unix: &UnixSkEntry) {
        self.family = "UNIX".to_owned();
        self.kind = type_word(unix.r#type);
        self.state = state_word(unix.state);
        self.src_addr = unix_name_text(&unix.name);
        self.ino = Some(unix.ino);
        self.peer = (unix.peer != 0).then_some(unix.peer);
        self.backlog = (unix.state == TCP_LISTEN).then_some(unix.backlog);
        self.take_buffers(&unix.opts);
    }

    fn take_buffers(&mut self, options: &SkOptsEntry) {
        self.send_buf = byte_count_words(options.so_sndbuf);
        self.recv_buf = byte_count_words(options.so_rcvbuf);
    }
}

fn is_socket(kind: FdTypes) -> bool {
    use FdTypes::{Inetsk, Netlinksk, Packetsk, Unixsk};
    matches!(kind, Inetsk | Unixsk | Packetsk | Netlinksk)
}

/// An address as CRIU keeps it: 32-bit words with the bytes in network order in the memory of the
/// dumped machine; one for IPv4, four for IPv6.
pub(super) fn address_text(words: &[u32], order: ByteOrder) -> String {
    let bytes = |word: u32| order.u32_bytes(word);
    match words {
        [] => String::new(),
        &[word] => Ipv4Addr::from(bytes(word)).to_string(),
        &[a, b, c, d, ..] => {
            let mut all = [0; 16];
            for (place, word) in all.chunks_exact_mut(4).zip([a, b, c, d]) {
                place.copy_from_slice(&bytes(word));
            }
            Ipv6Addr::from(all).to_string()
        }
        _ => format!("{words:?}"),
    }
}

fn unix_name_text(name: &[u8]) -> String {
    let text: BString = match name {
        [0, name @ ..] => [b"@", name].concat().into(),
        name => name.strip_suffix(b"\0").unwrap_or(name).into(),
    };
    text.to_str_lossy().into_owned()
}

/// A count of bytes as go-criu writes it: `212992` is `208.0 KB`.
fn byte_count_words(bytes: u32) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut rest = f64::from(bytes) / 1024.0;
    let mut units = ["KB", "MB", "GB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for larger in units {
        if rest < 1024.0 {
            break;
        }
        rest /= 1024.0;
        unit = larger;
    }
    format!("{rest:.1} {unit}")
}

fn word(table: &[(u32, &str)], number: u32) -> String {
    let known = table.iter().find(|(value, _)| *value == number);
    known.map_or_else(|| number.to_string(), |(_, word)| (*word).to_owned())
}

fn family_word(number: u32) -> String {
    word(
        &[
            (1, "UNIX"),
            (2, "INET"),
            (10, "INET6"),
            (16, "NETLINK"),
            (17, "PACKET"),
        ],
        number,
    )
}

fn type_word(number: u32) -> String {
    word(
        &[
            (1, "STREAM"),
            (2, "DGRAM"),
            (3, "RAW"),
            (5, "SEQPACKET"),
            (10, "PACKET"),
        ],
        number,
    )
}

fn state_word(number: u32) -> String {
    word(
        &[
            (1, "ESTABLISHED"),
            (2, "SYN_SENT"),
            (3, "SYN_RECV"),
            (4, "FIN_WAIT1"),
            (5, "FIN_WAIT2"),
            (6, "TIME_WAIT"),
            (7, "CLOSE"),
            (8, "CLOSE_WAIT"),
            (9, "LAST_ACK"),
            (TCP_LISTEN, "LISTEN"),
            (11, "CLOSING"),
            (12, "NEW_SYN_RECV"),
        ],
        number,
    )
}

fn protocol_word(number: u32) -> String {
    word(
        &[
            (0, "IP"),
            (1, "ICMP"),
            (IPPROTO_TCP, "TCP"),
            (17, "UDP"),
            (58, "ICMPV6"),
            (136, "UDPLITE"),
            (255, "RAW"),
        ],
        number,
    )
}

/// Protocols of netlink, from the kernel's `linux/netlink.h`.
fn netlink_word(number: u32) -> String {
    word(
        &[
            (0, "ROUTE"),
            (2, "USERSOCK"),
            (4, "SOCK_DIAG"),
            (6, "XFRM"),
            (7, "SELINUX"),
            (9, "AUDIT"),
            (10, "FIB_LOOKUP"),
            (11, "CONNECTOR"),
            (12, "NETFILTER"),
            (15, "KOBJECT_UEVENT"),
            (16, "GENERIC"),
            (21, "CRYPTO"),
        ],
        number,
    )
}

/// Protocols of packet sockets, from the kernel's `linux/if_ether.h`.
fn ethertype_word(number: u16) -> String {
    match number {
        0x0003 => "ALL".to_owned(),
        0x0800 => "IP".to_owned(),
        0x0806 => "ARP".to_owned(),
        0x86dd => "IPV6".to_owned(),
        other => format!("0x{other:04x}"),
    }
}

fn low_half(word: u32) -> u16 {
    u16::try_from(word & 0xffff).unwrap_or_default()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// State of a socket that listens, from the kernel's `tcp_states.h`; unix sockets use it too.
const TCP_LISTEN: u32 = 10;

/// Protocol number of TCP.
const IPPROTO_TCP: u32 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_their_usual_form() {
        let order = ByteOrder::Little;
        assert_eq!(address_text(&[0x0100_007f], order), "127.0.0.1");
        assert_eq!(address_text(&[0x7f00_0001], ByteOrder::Big), "127.0.0.1");
        assert_eq!(address_text(&[0, 0, 0, 0x0100_0000], order), "::1");
        assert_eq!(address_text(&[], order), "");
    }

    #[test]
    fn names_of_unix_sockets_are_those_of_ss() {
        assert_eq!(unix_name_text(b"\0bus"), "@bus");
        assert_eq!(unix_name_text(b"/run/s\0"), "/run/s");
        assert_eq!(unix_name_text(b""), "");
    }

    #[test]
    fn buffers_are_counted_in_words() {
        assert_eq!(byte_count_words(512), "512 B");
        assert_eq!(byte_count_words(212_992), "208.0 KB");
        assert_eq!(byte_count_words(4_194_304), "4.0 MB");
    }
}
