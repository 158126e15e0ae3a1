//! Sockets that are bound, from the tables in `/proc/PID/net`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::facts::{Protocol, SocketSeen};

/// A line of one of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SocketLine {
    pub(super) inode: u64,
    pub(super) socket: SocketSeen,
}

/// Reads all tables of the network namespace of a process, given as its directory in `/proc`.
pub(super) fn bound_sockets(process: &Path) -> Vec<SocketLine> {
    let mut sockets = Vec::new();
    for (name, protocol) in TABLES {
        let table = fs::read_to_string(process.join("net").join(name)).unwrap_or_default();
        sockets.extend(
            table
                .lines()
                .skip(1)
                .filter_map(|line| inet_line(line, protocol)),
        );
    }
    // Names may hold any byte.
    let table = fs::read(process.join("net/unix")).unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    sockets.extend(table.lines().skip(1).filter_map(unix_line));
    sockets
}

const TABLES: [(&str, Protocol); 6] = [
    ("tcp", Protocol::Tcp),
    ("tcp6", Protocol::Tcp),
    ("udp", Protocol::Udp),
    ("udp6", Protocol::Udp),
    ("udplite", Protocol::UdpLite),
    ("udplite6", Protocol::UdpLite),
];

/// Reads `sl local remote state queues timer retransmits uid timeout inode ...`, see proc_pid_net(5).
fn inet_line(line: &str, protocol: Protocol) -> Option<SocketLine> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let local = socket_address(words.next()?)?;
    let remote = socket_address(words.next()?)?;
    let state = u8::from_str_radix(words.next()?, 16).ok()?;
    let inode = words.nth(5)?.parse().ok()?;
    // A connection that only waits for its time to be over belongs to nobody.
    if local.port() == 0 || (protocol == Protocol::Tcp && state == TCP_TIME_WAIT) {
        return None;
    }
    Some(SocketLine {
        inode,
        socket: SocketSeen::Inet {
            protocol,
            local,
            remote: (remote.port() != 0).then_some(remote),
            v6_only: None,
            shares: false,
        },
    })
}

/// Reads `number: references protocol flags type state inode name`.
fn unix_line(line: &str) -> Option<SocketLine> {
    let mut rest = line;
    let mut inode = "";
    for _ in 0..7 {
        rest = rest.trim_start_matches(' ');
        (inode, rest) = rest.split_once(' ')?;
    }
    Some(SocketLine {
        inode: inode.parse().ok()?,
        socket: SocketSeen::Unix {
            name: rest.to_owned(),
        },
    })
    .filter(|_| !rest.is_empty())
}

/// Reads `ADDRESS:PORT`: the address as 32-bit words of this machine with the bytes in network order.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// `TCP_TIME_WAIT` of the kernel's tcp_states.h.
const TCP_TIME_WAIT: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    #[test]
    fn our_own_sockets_are_found_in_the_tables() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let six = TcpListener::bind("[::1]:0");
        let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
        let directory = criu_testkit::TempDir::new();
        let path = directory.join("with blank");
        let _unix = UnixListener::bind(&path).unwrap();
        let found = bound_sockets(Path::new("/proc/self"));
        let has = |protocol, local: SocketAddr| {
            let socket = SocketSeen::Inet {
                protocol,
                local,
                remote: None,
                v6_only: None,
                shares: false,
            };
            found
                .iter()
                .any(|line| line.socket == socket && line.inode != 0)
        };
        assert!(has(Protocol::Tcp, tcp.local_addr().unwrap()), "{found:?}");
        assert!(has(Protocol::Udp, udp.local_addr().unwrap()));
        if let Ok(six) = six {
            assert!(has(Protocol::Tcp, six.local_addr().unwrap()));
        }
        let name = path.to_str().unwrap().to_owned();
        assert!(
            found
                .iter()
                .any(|line| line.socket == SocketSeen::Unix { name: name.clone() })
        );
    }

    #[test]
    fn nonsense_is_passed_over() {
        for line in [
            "",
            "0:",
            "0: 0100007F:1F90",
            "0: zz:1F90 0:0 0A",
            "0: 01:1 02:2 0A 0 0 0 0 0 1",
        ] {
            assert_eq!(inet_line(line, Protocol::Tcp), None, "{line}");
        }
        for line in ["", "0:", "0: 3 0 0 1 3 x /run/a", "0: 3 0 0 1 3 7"] {
            assert_eq!(unix_line(line), None, "{line}");
        }
        let nameless = "0: 00000003 00000000 00000000 0001 03 12345";
        assert_eq!(unix_line(nameless), None);
    }
}
