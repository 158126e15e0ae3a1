//! UNIX sockets.

use super::super::rule::{Group, Rule, cause, clue};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Unix,
        "unix-external",
        &["External socket is used. Consider using"],
    )
    .cause(
        "a UNIX socket is connected to a process outside the dumped tree (syslog, D-Bus, \
            X11, systemd)",
    )
    .remedy(
        "use --ext-unix-sk (-x) on dump and restore (docker/runc: ext-unix-sk in \
            runc.conf, --ext-unix-sk), or --external unix[INODE]; or close the connection \
            before the dump, or dump the peer's process as well",
    )
    .examples(&[
        "Error (criu/sk-unix.c:700): unix: External socket is used. Consider using \
                --ext-unix-sk option.",
    ]),
    cause(
        Group::Unix,
        "unix-external-restore",
        &["External socket found in image. Consider using"],
    )
    .during(Operation::Restore)
    .cause(
        "the images hold a UNIX socket that was connected to a process outside the dumped \
            tree",
    )
    .remedy(
        "restore with --ext-unix-sk (-x) as well; the server behind the socket must run, \
            at the same path",
    )
    .examples(&[
        "  12: Error (criu/sk-unix.c:1900): unix: External socket found in image. \
                Consider using the --ext-unix-sk option to allow restoring it.",
    ]),
    cause(
        Group::Unix,
        "unix-half-stream",
        &[
            "Can't dump half of stream unix connection",
            "Ext stream not supported",
        ],
    )
    .except(&["Ext stream not supported"])
    .cause(
        "a connected STREAM (or SEQPACKET) UNIX socket has its peer, the other end, \
            outside the dumped tree; --ext-unix-sk covers datagram sockets only",
    )
    .remedy(
        "dump the parent or peer process too, so that both ends are in the same tree \
            (--tree of the common parent process; the container from its init), or close the \
            connection before the dump (D-Bus, X11, Docker/systemd notify sockets; start the \
            program with setsid and standard files redirected to files), or declare it \
            --external unix[INODE]",
    )
    .examples(&[
        "(00.781962) Error (criu/sk-unix.c:725): sk unix: Can't dump half of stream \
                unix connection.",
    ]),
    cause(
        Group::Unix,
        "unix-external-nameless",
        &["Can't dump name-less external socket"],
    )
    .cause(
        "a UNIX socket is connected to a socketpair or unnamed socket of a process outside \
            the dumped tree, so that there is no name to connect to at restore",
    )
    .remedy(
        "dump the process at the other end too (a parent process), or start the program \
            without that socket: standard files redirected to files or /dev/null instead of a \
            socketpair; --external unix[INODE] and --inherit-fd let the caller give it back",
    )
    .examples(&["Error (criu/sk-unix.c:720): unix: Can't dump name-less external socket."]),
    cause(
        Group::Unix,
        "unix-type",
        &["Unsupported type ({type}) on socket {fd}."],
    )
    .cause("UNIX socket of an unsupported type {type}")
    .remedy(
        "only stream, dgram and seqpacket UNIX sockets can be dumped; upgrade CRIU \
            (seqpacket: 1.8)",
    )
    .examples(&["Error (criu/sk-unix.c:200): unix: Unsupported type (4) on socket 3."]),
    cause(
        Group::Unix,
        "unix-peer-unreachable",
        &[
            "Unix socket {ino} with unreachable peer {peer}",
            "Unix socket {ino} without peer {peer}",
            "FATAL: Peer {ino} unresolved for {peer}",
            "Dangling connection {ino}{peer}",
        ],
    )
    .cause(
        "the peer {peer} of UNIX socket {ino} was not found: it belongs to a process \
            outside the tree or another namespace",
    )
    .remedy(
        "dump the tree that has both ends, or use --ext-unix-sk for sockets connected to \
            the outside; or close the connection first",
    )
    .examples(&["Error (criu/sk-unix.c:500): unix: Unix socket 12 with unreachable peer 13 (0)"]),
    cause(
        Group::Unix,
        "unix-in-flight",
        &[
            "Non-empty write queue on an in-flight socket",
            "Found a closed in-flight socket to",
            "In-flight connection on non-listening socket",
        ],
    )
    .cause(
        "a UNIX socket has connections in flight: opened by the client, not accepted yet \
            by the server, with data",
    )
    .remedy("dump again when the server has accepted its connections")
    .examples(&[
        "Error (criu/sk-unix.c:600): unix: Non-empty write queue on an in-flight \
                socket 0x1f",
    ]),
    clue(
        Group::Unix,
        "unix-name-resolve",
        &[
            "Unable to resolve unix socket name with obsolete method",
            "Can't resolve name for socket {ino}",
        ],
    )
    .cause("the path of a UNIX socket cannot be found out on this kernel")
    .remedy("use a kernel newer than 4.10 (SIOCUNIXFILE), and run CRIU with CAP_NET_ADMIN")
    .examples(&[
        "Error (criu/sk-unix.c:900): unix: Unable to resolve unix socket name with \
                obsolete method. Try a linux kernel newer than 4.10",
    ]),
    cause(
        Group::Unix,
        "unix-socket-file-missing",
        &[
            "Can't connect {id} socket: No such file or directory",
            "Can't connect {id} socket: Connection refused",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "nobody listens at the path of a UNIX socket that the process was connected to: \
            the server outside the tree is not running here, or its socket is at another path",
    )
    .remedy(
        "start the server (syslog /dev/log, D-Bus, …) or bind-mount its socket to the same \
            path before the restore; use --ext-unix-sk on both sides",
    )
    .examples(&[
        "  12: Error (criu/sk-unix.c:1400): unix: Can't connect 34 socket: No such \
                file or directory",
    ]),
    cause(
        Group::Unix,
        "unix-state",
        &["Non-stream socket {id} in established state"],
    )
    .cause(
        "the datagram UNIX socket {id} is in state \"established\", as kernels from 5.15 \
            on report it, which this CRIU takes for an error",
    )
    .remedy("upgrade CRIU to a newer version (3.17 or later)")
    .examples(&[
        "Error (criu/sk-unix.c:1858): unix: Non-stream socket 22249 in established \
                state",
    ]),
    clue(
        Group::Unix,
        "unix-bind",
        &[
            "Can't bind id {id} ino",
            "ghost: Can't bind on socket id {id} ino",
            "Can't bind unix socket: {id}",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "a UNIX socket could not be bound to its path again: a stale socket file is in the \
            way, or its directory does not exist here",
    )
    .remedy(
        "remove the stale socket file (Address already in use), create the directory (No \
            such file), make it writable (Permission denied); stop the original process first",
    )
    .examples(&[
        "  12: Error (criu/sk-unix.c:1600): unix: Can't bind id 0x1f ino 123 addr \
                /run/x.sock: Address already in use",
    ]),
    clue(
        Group::Unix,
        "unix-cwd",
        &[
            "Unable to change current working dir",
            "Can't change working dir {path}",
        ],
    )
    .files(&["sk-unix.c"])
    .during(Operation::Restore)
    .cause("the directory of a UNIX socket with a relative path does not exist here")
    .remedy("create the same directory before the restore")
    .examples(&[
        "  12: Error (criu/sk-unix.c:1300): unix: Can't change working dir /run/x: No \
                such file or directory",
    ]),
];
