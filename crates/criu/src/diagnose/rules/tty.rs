//! Terminals, sessions and process groups.

use super::super::rule::{Group, Rule, cause, clue};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Tty,
        "tty-shell-job",
        &[
            "Found dangling tty with sid {sid} pgid {pgid} ({name}) on peer fd {fd}",
            "Task attached to shell terminal. Consider using",
            "Found slave peer index {index} without correspond master peer",
        ],
    )
    .any_line()
    .cause(
        "the process uses a terminal (tty, pts) of a session that is not dumped: it was \
            started from a shell, and shell and terminal stay outside",
    )
    .remedy(
        "dump and restore it as a shell job with --shell-job (-j), or start the program \
            detached from the terminal: setsid, standard input/output/error redirected to \
            files or /dev/null; with libraries set shell_job, with runc use `--shell-job`",
    )
    .examples(&[
        "(00.005) Error (criu/tty.c:1861): tty: Found dangling tty with sid 123 pgid \
                456 (pts) on peer fd 0.",
        "Task attached to shell terminal. Consider using --shell-job option. More \
                details on http://criu.org/Simple_loop",
        "Error (criu/tty.c:400): tty: Found slave peer index 3 without correspond \
                master peer",
    ]),
    cause(
        Group::Tty,
        "tty-session-outside",
        &["No task found with sid {sid}"],
    )
    .during(Operation::Restore)
    .cause(
        "a terminal in the images is the controlling terminal of session {sid}, whose \
            leader was not dumped: a descriptor of an outside terminal leaked into the process \
            (as the VSCode terminal, tmux or screen do), or it was dumped without being a \
            session leader",
    )
    .remedy(
        "start the program in its own session before the dump: setsid, with all standard \
            files redirected (setsid prog < /dev/null > out.log 2>&1 &), from a plain terminal \
            and not from an IDE's; or dump the tree from its session leader (the shell, tmux)",
    )
    .examples(&["127514: Error (criu/tty.c:1453): tty: No task found with sid 124454"]),
    cause(
        Group::Tty,
        "tty-stdin-is-none",
        &[
            "Don't have tty to inherit session from, aborting",
            "Standard stream is not a terminal, aborting",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "a shell job is restored, but CRIU's own standard input is not a terminal (started \
            by a service, through RPC/swrk, ssh without -t, nohup, cron), so there is no \
            terminal to give to it",
    )
    .remedy(
        "restore from a terminal: give CRIU a pty (pseudo-terminal) as stdin (ssh -t, \
            script -qc '…' /dev/null, docker exec -it), keep --shell-job; or dump a process \
            that has no terminal (setsid, stdin from /dev/null); or pass a terminal with \
            --inherit-fd",
    )
    .examples(&[
        "(criu/tty.c:1014): tty: Don't have tty to inherit session from, aborting",
        "Error (tty.c:700): tty: Standard stream is not a terminal, aborting",
    ]),
    cause(
        Group::Tty,
        "fdstore-read",
        &["Unable to get a file descriptor with the {id} id"],
    )
    .during(Operation::Restore)
    .cause(
        "CRIU could not take a descriptor (for a shell job: its own standard input) out of \
            its store; CRIU 3.8 had this broken",
    )
    .remedy(
        "use another CRIU version than 3.8: upgrade (update) to a newer one; restore from \
            a terminal with --shell-job, or dump the process without a terminal (setsid, stdin \
            from /dev/null)",
    )
    .examples(&[
        "2632: Error (criu/fdstore.c:112): Unable to get a file descriptor with the 0 \
                id: Resource temporarily unavailable",
    ]),
    clue(
        Group::Tty,
        "tty-stdin-lost",
        &[
            "Can't get self_stdin_fdid",
            "Can't dup stdin to SELF_STDIN_OFF",
            "Can't place stdin fd to fdstore",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "CRIU could not take over its own standard input for a shell job (broken in CRIU \
            3.8)",
    )
    .remedy(
        "use another CRIU version than 3.8 (update), or restore from a terminal with \
            --shell-job; or dump the process without a terminal (setsid, stdin from /dev/null)",
    )
    .examples(&[
        "  2632: Error (criu/tty.c:1006): tty: Can't get self_stdin_fdid",
        "Error (criu/tty.c:2300): tty: Can't place stdin fd to fdstore",
    ]),
    cause(
        Group::Tty,
        "tty-devpts-lookup",
        &[
            "Can't lookup mount={mnt} for fd={fd} path=/dev/pts/{index}",
            "Can't lookup mount={mnt} for fd={fd} path=/{index}/pts/",
            "Can't lookup mount={mnt} for fd={fd} path=/dev/console{index}",
            "Can't lookup mount={mnt} for fd={fd} path=/dev/tty{index}",
        ],
    )
    .cause(
        "descriptor {fd} is a terminal of a devpts mount outside the process' mount \
            namespace (mount {mnt}): the process was started in the container from outside, by \
            docker exec, kubectl exec, lxc-attach or nsenter with a terminal",
    )
    .remedy(
        "start it without that terminal: detached (docker exec -d, setsid) with standard \
            files redirected to /dev/null or files; or make it part of the container's own \
            command; or give the terminal as --external tty[rdev:dev] and --inherit-fd at \
            restore",
    )
    .examples(&["Error (criu/files-reg.c:1123): Can't lookup mount=25 for fd=0 path=/dev/pts/1"]),
    cause(
        Group::Tty,
        "tty-master-outside",
        &[
            "Unable to find a master for {name}",
            "The master for {name} isn't from the root mntns",
        ],
    )
    .cause(
        "the slave end of the pseudo-terminal {name} is open in the tree, but the process \
            that holds its master (terminal emulator, sshd, docker, tmux) is not dumped",
    )
    .remedy(
        "use --shell-job, or mark the terminal external (--external tty[rdev:dev], given \
            back with --inherit-fd fd[N]:tty[rdev:dev]); or start the program without a \
            terminal (setsid, redirect to /dev/null)",
    )
    .examples(&["Error (criu/tty.c:2200): tty: Unable to find a master for /dev/pts/3"]),
    cause(
        Group::Tty,
        "tty-ctty-inheritance",
        &["ctty inheritance detected sid/pgrp {sid}"],
    )
    .cause(
        "the controlling terminal was inherited from session {sid} in a way CRIU cannot \
            rebuild",
    )
    .remedy("start the program in its own session (setsid) or without a terminal")
    .examples(&[
        "Error (criu/tty.c:2000): tty: ctty inheritance detected sid/pgrp 12, no PTY \
                peer with sid/pgrp needed",
    ]),
    cause(
        Group::Tty,
        "tty-slave-open",
        &[
            "Can't open slave tty {path}: {why}",
            "Can't open slave pty {path}",
            "Can't open master pty {path}",
            "Unable to open {path} with specified index {index}",
            "Can't open tty {path}",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "the terminal {path} could not be opened on restore: its number is taken or there \
            is no devpts for it here",
    )
    .remedy(
        "restore with --shell-job from a terminal, or in a fresh mount namespace with its \
            own devpts (container); or dump the process without a terminal (setsid, redirect)",
    )
    .examples(&[
        "  34: Error (criu/tty.c:500): tty: Can't open slave tty /dev/pts/1: No such \
                file or directory",
        "12: Error (criu/tty.c:488): tty: Unable to open /dev/ptmx with specified \
                index 2",
    ]),
    cause(
        Group::Tty,
        "tty-driver-unknown",
        &["Unable to find a tty driver (rdev {rdev} dev"],
    )
    .cause(
        "a terminal device of a kind CRIU does not know (rdev {rdev}), for instance a \
            serial line",
    )
    .remedy(
        "close the serial line or other terminal before the dump, or make it external: \
            --external tty[rdev:dev]; redirect standard files elsewhere",
    )
    .examples(&["Error (criu/tty.c:2100): tty: Unable to find a tty driver (rdev 0x440 dev 0x5)"]),
    cause(
        Group::Tty,
        "session-root-not-leader",
        &[
            "The root process {pid} is not a session leader",
            "{pid} is not a session leader. Consider using",
        ],
    )
    .any_line()
    .cause(
        "the root of the dumped tree, {pid}, is not a session leader: its session belongs \
            to a shell outside the tree",
    )
    .remedy(
        "use --shell-job (-j) on dump and on restore, or start the program in a session of \
            its own with setsid",
    )
    .examples(&[
        "Error (criu/pstree.c:106): The root process 123 is not a session leader. \
                Consider using --shell-job option",
    ]),
    cause(
        Group::Tty,
        "session-id-collision",
        &[
            "Current gid {own} intersects with",
            "Current sid {own} intersects with",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "with --shell-job the restored processes join CRIU's own session and process \
            group, but the current id {own} (pgid/sid) is also an id used in the images",
    )
    .remedy(
        "run criu restore from another session or process group (setsid criu restore …, a \
            fresh shell or terminal), outside a container where ids are as small as {own}; or \
            dump the program as leader of its own session (setsid) so that --shell-job is not \
            needed",
    )
    .examples(&[
        "Error (criu/pstree.c:411): Current gid 1 intersects with pid (255) in images",
        "Error (criu/pstree.c:380): Current sid 77 intersects with pid (77) in images",
    ]),
    cause(
        Group::Tty,
        "session-leader-outside-ns",
        &[
            "A session leader of {pid}({real}) is outside of its pid namespace",
            "A session leader of zombie process {pid}({real}) is outside of its pid namespace",
        ],
    )
    .cause(
        "process {pid} (real pid {real}) belongs to a session whose leader is outside its \
            pid namespace: it entered the container from outside (docker exec, kubectl exec, \
            podman exec, nsenter, lxc-attach)",
    )
    .remedy(
        "end processes that were started in the container with exec before the checkpoint, \
            or start them with setsid inside (docker exec -d … setsid …) so that they have \
            their own session; an init that calls setsid helps too",
    )
    .examples(&[
        "Error (criu/cr-dump.c:1500): A session leader of 31(3544) is outside of its \
                pid namespace",
    ]),
    clue(
        Group::Tty,
        "session-birth",
        &[
            "Can't figure out which sid ({a} or {b})the process {pid} was born with",
            "Can't determinate with which sid ({a} or {b})the process {pid} was born",
        ],
    )
    .cause(
        "process {pid} has changed its session in a way that cannot be replayed (session \
            {a} or {b})",
    )
    .remedy(
        "start the processes so that sessions nest (setsid once per daemon); dump the \
            whole tree from its root, use a newer CRIU",
    )
    .examples(&[
        "Error (criu/pstree.c:700): Can't figure out which sid (12 or 13)the process \
                15 was born with",
    ]),
    clue(
        Group::Tty,
        "session-leader-missing",
        &["Can't find a session leader for {sid}"],
    )
    .during(Operation::Restore)
    .cause("the images hold processes of session {sid} whose leader was not dumped")
    .remedy(
        "restore with --shell-job, or start the program in its own session (setsid) before \
            the dump",
    )
    .examples(&["Error (criu/pstree.c:760): Can't find a session leader for 4321"]),
    clue(
        Group::Tty,
        "sid-restore",
        &[
            "Can't restore sid ({sid})",
            "Requested sid {sid} doesn't match inherited",
            "Can't restore pgid ({sid}",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "the session or process group {sid} could not be set up: its leader is missing or \
            dead, or CRIU runs as leader of the same group",
    )
    .remedy(
        "start the program with setsid before the dump, or use --shell-job on both sides; \
            run criu restore from another session",
    )
    .examples(&[
        "  12: Error (criu/cr-restore.c:1600): Can't restore sid (7): Operation not \
                permitted",
    ]),
];
