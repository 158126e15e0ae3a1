//! Internet sockets: TCP, UDP, raw, packet, netlink.

use super::super::rule::{Group, Rule, cause, clue, consequence, hint};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Inet,
        "tcp-established",
        &["Connected TCP socket, consider using"],
    )
    .during(Operation::Dump)
    .cause(
        "the process has an established TCP connection, which CRIU does not dump unless \
            told to",
    )
    .remedy(
        "dump and restore with --tcp-established (podman/crun: --tcp-established, runc: \
            --tcp-established, docker: tcp-established in /etc/criu/runc.conf), or let \
            connections be dropped with --tcp-close, or close them first; restoring needs the \
            same IP address",
    )
    .examples(&[
        "Error (criu/sk-inet.c:188): inet: Connected TCP socket, consider using \
                --tcp-established option.",
    ]),
    cause(
        Group::Inet,
        "tcp-established-restore",
        &[
            "Connected TCP socket in image",
            "Dumped with --tcp-established. Need to set it on restore as well",
            "Need to set the --tcp-established",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "the images hold an established TCP connection, and restore was not told to \
            restore it",
    )
    .remedy(
        "restore with --tcp-established as well (podman restore --tcp-established), or \
            with --tcp-close to get the sockets closed",
    )
    .examples(&[
        "  12: Error (criu/sk-inet.c:800): inet: Connected TCP socket in image",
        "Error (criu/image.c:100): Dumped with --tcp-established. Need to set it on \
                restore as well.",
    ]),
    cause(
        Group::Inet,
        "tcp-close-restore",
        &["Need to set the --tcp-close options"],
    )
    .during(Operation::Restore)
    .cause("the dump was made with --tcp-close, and restore was not told so")
    .remedy("restore with --tcp-close (podman restore --tcp-close) as well")
    .examples(&["Error (criu/image.c:90): Need to set the --tcp-close options."]),
    cause(
        Group::Inet,
        "tcp-in-flight",
        &[
            "In-flight connection (l) for",
            "In-flight connections can be ignored with",
            "In-flight connection for",
        ],
    )
    .cause(
        "a listening TCP socket has connections that are being opened and not accepted yet \
            (in flight)",
    )
    .remedy(
        "use --skip-in-flight to ignore them (the peer tries again), or dump when the \
            server has accepted them; docker/runc: skip-in-flight in /etc/criu/runc.conf",
    )
    .examples(&["Error (criu/sk-inet.c:240): inet: In-flight connection (l) for 1f2e"]),
    cause(
        Group::Inet,
        "tcp-stream-image-missing",
        &["No tcp-stream-{ino}.img image"],
    )
    .any_line()
    .then(&["Unexpected EOF", "Unable to open fd", "FAILED"])
    .during(Operation::Restore)
    .cause(
        "there is no image of the TCP connection {ino}: the dump was made with \
            --tcp-close, or for a socket in state TCP_CLOSE, and this CRIU tries to restore it \
            nevertheless (fixed after 3.15)",
    )
    .remedy(
        "upgrade to a newer version of CRIU (3.16 or later), and use the same of \
            --tcp-established or --tcp-close on dump and restore",
    )
    .examples(&[
        "(00.068116)      1: No tcp-stream-608276c.img image\n(00.068117)      1: \
                Error (criu/protobuf.c:74): Unexpected EOF on (empty-image)",
    ]),
    cause(
        Group::Inet,
        "mptcp",
        &[
            "For Go programs, consider using \"GODEBUG=multipathtcp=0\"{x}",
            "Unsupported proto 262 for socket{x}",
        ],
    )
    .cause(
        "the process has a multipath TCP (MPTCP) socket, which CRIU does not support; Go \
            programs from Go 1.24 on use MPTCP for listeners by default",
    )
    .remedy(
        "start the program without MPTCP: GODEBUG=multipathtcp=0 for Go programs, or \
            sysctl net.mptcp.enabled=0",
    )
    .examples(&["Error (criu/sk-inet.c:140): inet: Unsupported proto 262 for socket 1f3"]),
    cause(
        Group::Inet,
        "unsupported-protocol",
        &["Unsupported proto {proto} for socket {ino}"],
    )
    .cause(
        "socket {ino} uses {protocol}, which this CRIU cannot dump: a raw socket or a \
            protocol such as ICMP, SCTP or DCCP",
    )
    .remedy(
        "close the socket or stop the program that has it (ping, a routing or DHCP/IPv6 \
            daemon such as systemd-networkd, radvd, keepalived) before the dump; upgrade to a \
            newer CRIU: ICMP and ICMPv6 raw sockets came with 3.8 and later",
    )
    .examples(&["(01.572067) Error (criu/sk-inet.c:113): Unsupported proto 58 for socket e26f"]),
    cause(
        Group::Inet,
        "unsupported-inet-type",
        &[
            "Can't dump {type} inet socket {ino}. Only",
            "Unsupported socket family: {type}{ino}",
            "Unknown pair family {type} proto {ino}",
            "BUG! Unknown socket collected (family {type}){ino}",
        ],
    )
    .cause(
        "a socket of a family or type that CRIU cannot dump (SCTP, raw, Bluetooth, vsock, \
            CAN, AF_ALG …)",
    )
    .remedy(
        "find it in /proc/PID/fd and with ss -ap, close it or stop the program before the \
            dump, or use a newer CRIU (raw sockets: 3.8)",
    )
    .examples(&[
        "Error (criu/sk-inet.c:200): inet: Can't dump 3 inet socket 1f. Only stream \
                and dgram are supported.",
        "Error (criu/sockets.c:700): sockets: BUG! Unknown socket collected (family 40)",
    ]),
    cause(
        Group::Inet,
        "corked-udp",
        &["Can't dump corked dgram socket {ino}"],
    )
    .cause("the UDP socket {ino} is corked: a datagram is half written")
    .remedy("dump a moment later, or uncork it (UDP_CORK) in the program")
    .examples(&["Error (criu/sk-inet.c:300): inet: Can't dump corked dgram socket 1f"]),
    cause(
        Group::Inet,
        "bind-address-missing",
        &[
            "Can't bind inet socket (id {id}): Cannot assign requested address",
            "Can't bind inet socket{id}: Cannot assign requested address",
            "Can't bind inet socket back{id}: Cannot assign",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "a socket was bound to an IP address that does not exist here (another host, \
            another container address, interface down)",
    )
    .remedy(
        "give an interface the same IP address before restoring (ip addr add ADDR dev IF; \
            container: the same --ip or network), or change the address in the images with \
            crit; --tcp-close drops established connections; net.ipv4.ip_nonlocal_bind=1 (and \
            net.ipv6) lets it bind anyway",
    )
    .examples(&[
        "  12: Error (criu/sk-inet.c:900): inet: Can't bind inet socket (id 45): \
                Cannot assign requested address",
    ]),
    cause(
        Group::Inet,
        "bind-address-in-use",
        &[
            "Can't bind inet socket (id {id}): Address already in use",
            "Can't bind inet socket{id}: Address already in use",
            "Can't listen on a socket{id}: Address already in use",
        ],
    )
    .during(Operation::Restore)
    .cause("the port of a listening socket is already in use on this machine")
    .remedy(
        "stop the process that uses the port (ss -tulpn), for instance the original that \
            still runs (--leave-running), or restore in a network namespace of its own \
            (container)",
    )
    .examples(&[
        "  12: Error (criu/sk-inet.c:900): inet: Can't bind inet socket (id 45): \
                Address already in use",
    ]),
    cause(
        Group::Inet,
        "bind-permission",
        &[
            "Can't bind inet socket (id {id}): Permission denied",
            "Can't bind inet socket{id}: Permission denied",
        ],
    )
    .during(Operation::Restore)
    .cause("a socket with a privileged port or another user's options could not be bound")
    .remedy(
        "restore with CAP_NET_BIND_SERVICE (as root), or lower \
            net.ipv4.ip_unprivileged_port_start",
    )
    .examples(&[
        "  12: Error (criu/sk-inet.c:900): inet: Can't bind inet socket (id 45): \
                Permission denied",
    ]),
    cause(
        Group::Inet,
        "connect-back",
        &["Can't connect inet socket back"],
    )
    .during(Operation::Restore)
    .cause(
        "a TCP connection or connected UDP socket could not be set up again: there is no \
            route to the peer, or the source address does not exist here, or the same \
            connection still exists",
    )
    .remedy(
        "make the network look as at the dump (same IP address, route), end the original \
            process first, or restore with --tcp-close",
    )
    .examples(&[
        "  12: Error (criu/sk-inet.c:900): inet: Can't connect inet socket back: \
                Cannot assign requested address",
    ]),
    cause(
        Group::Inet,
        "tcp-repair-eperm",
        &[
            "Can't turn TCP repair mode ON: Operation not permitted",
            "TCP_REPAIR: Operation not permitted",
            "Unable to set TCP_REPAIR: Operation not permitted",
            "Unable to set TCP_REPAIR with setsockopt: Operation not permitted",
            "TCP_REPAIR isn't available to unprivileged users",
        ],
    )
    .any_line()
    .except(&["isn't available to unprivileged users"])
    .cause(
        "TCP repair mode is refused: CRIU lacks CAP_NET_ADMIN in the user namespace that \
            owns the network namespace (unprivileged or nested container)",
    )
    .remedy(
        "run CRIU with CAP_NET_ADMIN (as root on the host, privileged container), or drop \
            connections with --tcp-close",
    )
    .examples(&[
        "Error (criu/sk-tcp.c:100): tcp: Can't turn TCP repair mode ON: Operation not \
                permitted",
    ]),
    clue(
        Group::Inet,
        "tcp-repair",
        &[
            "Can't turn TCP repair mode ON",
            "libsoccr_save() failed with {code}",
            "Failed to lock TCP connection {code}",
            "Unable to set TCP_REPAIR{code}",
        ],
    )
    .cause(
        "the state of a TCP connection could not be read: TCP repair mode does not work \
            here",
    )
    .remedy(
        "use a kernel with TCP repair (CONFIG_CHECKPOINT_RESTORE) and CAP_NET_ADMIN, not a \
            userspace network stack (gVisor); or use --tcp-close",
    )
    .examples(&[
        "Error (criu/sk-tcp.c:200): tcp: libsoccr_save() failed with -1",
        "Error (soccr/soccr.c:100): Can't turn TCP repair mode ON: Protocol not \
                available",
    ])
    .any_line(),
    clue(
        Group::Inet,
        "tcp-queue",
        &[
            "Can't restore {dir} queue data ({sent})",
            "libsoccr_restore: {dir}{sent}",
        ],
    )
    .any_line()
    .cause(
        "the queued data of a TCP connection could not be put back: socket memory limits \
            are smaller here",
    )
    .remedy(
        "raise net.ipv4.tcp_wmem, tcp_rmem and net.core.wmem_max, rmem_max to those of the \
            dumping machine, or use --tcp-close",
    )
    .examples(&[
        "  12: Error (criu/sk-tcp.c:300): tcp: Can't restore 2 queue data (-1), want \
                (0:1:2): Cannot allocate memory",
    ]),
    clue(
        Group::Inet,
        "tcp-half-closed",
        &[
            "Unknown inet socket {ino} state {state}",
            "Socket state {ino} obtained but expected {state}",
            "Can't dump shutdown inet socket {ino}{state}",
        ],
    )
    .cause(
        "a TCP socket is in a state CRIU cannot dump (half closed, being opened or closed: \
            SYN_SENT, CLOSE_WAIT …)",
    )
    .remedy(
        "upgrade CRIU (newer versions dump half-closed sockets), use --tcp-established and \
            --skip-in-flight, or dump when the connection is settled",
    )
    .examples(&["Error (criu/sk-inet.c:300): inet: Unknown inet socket 1f state 2"]),
    cause(
        Group::Inet,
        "ifname",
        &[
            "couldn't find ifindex for {name}",
            "couldn't find ifname for {name}, can't bind",
        ],
    )
    .cause("a socket is bound to the network interface {name}, which does not exist here")
    .remedy(
        "create the interface {name} (ip link) before the restore, or restore in the \
            container's network namespace",
    )
    .examples(&["  12: Error (criu/sk-inet.c:900): inet: couldn't find ifindex for eth1"]),
    cause(
        Group::Inet,
        "sockbuf-force",
        &[
            "Unable to set socket SO_SNDBUFFORCE/SO_RCVBUFFORCE: Operation not permitted",
            "Unable to set SO_SNDBUFFORCE/SO_RCVBUFFORCE: Operation not permitted",
        ],
    )
    .cause("socket buffer sizes cannot be forced without CAP_NET_ADMIN")
    .remedy("run CRIU with CAP_NET_ADMIN (root, privileged container)")
    .examples(
        &["Error (criu/sockets.c:400): sockets: Unable to set socket \
                SO_SNDBUFFORCE/SO_RCVBUFFORCE: Operation not permitted"],
    ),
    hint(
        Group::Kernel,
        "sock-diag-missing",
        &[
            "Sockets collect procedure family {family} proto {proto}: -2",
            "Diag module missing ({family}){proto}",
            "The sock diag infrastructure is incomplete{family}{proto}",
            "The current kernel doesn't support {family}_diag{proto}",
            "Sockets (family {family} proto {proto}) are not collected",
            "Sockets (family {family}, proto {proto}) are not collected",
        ],
    )
    .any_line()
    .cause(
        "the kernel cannot list sockets: the sock_diag modules are missing (unix_diag, \
            tcp_diag, udp_diag, inet_diag, af_packet_diag, netlink_diag, raw_diag)",
    )
    .remedy(
        "load the modules (modprobe unix_diag tcp_diag udp_diag inet_diag raw_diag \
            af_packet_diag netlink_diag), or use a kernel with CONFIG_UNIX_DIAG, \
            CONFIG_INET_DIAG, CONFIG_INET_TCP_DIAG, CONFIG_INET_UDP_DIAG, \
            CONFIG_INET_RAW_DIAG, CONFIG_PACKET_DIAG and CONFIG_NETLINK_DIAG",
    )
    .examples(&[
        "(00.003493) sockets: Sockets collect procedure family AF_UNIX proto \
                IPPROTO_IP: -2",
        "Error (criu/sockets.c:200): sockets: Diag module missing (-2)",
        "Error (criu/sockets.c:600): sockets: Sockets (family 1 proto 0) are not \
                collected",
    ]),
    cause(
        Group::Inet,
        "netlink-data",
        &["The socket has data to read"],
    )
    .files(&["sk-netlink.c"])
    .cause("a netlink socket has unread data, which CRIU cannot save")
    .remedy(
        "dump again a moment later, when the program (udevd, systemd-networkd, \
            NetworkManager) has read it; --skip… does not exist for it; use a newer CRIU",
    )
    .examples(&["Error (criu/sk-netlink.c:90): netlink: The socket has data to read"]),
    cause(
        Group::Inet,
        "netlink-groups",
        &[
            "The netlink socket 0x{ino} has more than 32 groups",
            "The netlink socket 0x{ino} is bound to groups but not to portid",
            "Groups above 32 are not supported yet{ino}",
        ],
    )
    .cause("a netlink socket is subscribed in a way CRIU cannot dump (more than 32 groups)")
    .remedy("stop the program that has the netlink socket before the dump, or upgrade CRIU")
    .examples(&[
        "Error (criu/sk-netlink.c:100): netlink: The netlink socket 0x1f has more than \
                32 groups",
    ]),
    cause(
        Group::Inet,
        "packet-mc",
        &[
            "Multiple MC membership not supported",
            "Unknown mc membership type {type}",
        ],
    )
    .files(&["sk-packet.c"])
    .cause("a packet socket with multicast memberships that CRIU cannot dump")
    .remedy("stop tcpdump, DHCP or discovery daemons that hold packet sockets before the dump")
    .examples(&[
        "Error (criu/sk-packet.c:100): packet: Multiple MC membership not supported \
                (but can be)",
    ]),
    cause(
        Group::Inet,
        "scm-queue",
        &[
            "Control messages in queue, not supported",
            "More than 1 SCM is not possible",
            "Unsupported scm {kind} in image",
        ],
    )
    .cause(
        "descriptors or other control messages are in flight in a socket queue, which CRIU \
            cannot save",
    )
    .remedy(
        "dump again when the receiver has read its queue, or upgrade CRIU (3.9 and newer \
            save SCM_RIGHTS of UNIX sockets)",
    )
    .examples(&["Error (criu/sk-queue.c:200): skqueue: Control messages in queue, not supported"]),
    consequence(Group::Inet, "sockets-dump-failed", &["Dump sockets failed"])
        .cause("dumping the sockets failed")
        .remedy(
            "the reason stands before; --tcp-established, --tcp-close, --ext-unix-sk and \
            --skip-in-flight are the options for sockets",
        )
        .examples(&["Error (criu/cr-dump.c:1): Dump sockets failed"]),
];
