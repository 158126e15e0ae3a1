//! Special descriptors: epoll, inotify, timers, pidfd, BPF maps.

use super::super::rule::{Group, Rule, cause, clue, consequence};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Special,
        "epoll-foreign",
        &[
            "kid_lookup_epoll: no match pid {pid} efd {efd} tfd {tfd}",
            "kid_lookup_epoll_tfd: no match pid {pid} efd {efd} tfd {tfd}",
        ],
    )
    .any_line()
    .near(&["Dump eventpoll", "Escaped/closed", "FAILED"])
    .cause(
        "the epoll descriptor {efd} of process {pid} watches a file (number {tfd}) that \
            the process itself does not have open any more: the epoll descriptor was \
            inherited, leaked by the program that started it (the terminal of VSCode / Visual \
            Studio Code, Node.js, a service manager)",
    )
    .remedy(
        "start the program from a plain terminal or with other descriptors closed (setsid, \
            close descriptors above 2), so that it does not inherit the leaked epoll \
            descriptor; or let the program remove (EPOLL_CTL_DEL) a file from epoll before \
            closing it",
    )
    .examples(&[
        "(00.029258) epoll: kid_lookup_epoll: no match pid 15786 efd 21 tfd 3 toff \
                0\n(00.029267) Error (criu/cr-dump.c:1349): Dump eventpoll (pid: 15786) failed \
                with -1",
    ]),
    cause(
        Group::Special,
        "epoll-escaped",
        &["Escaped/closed fd descriptor {fd} on pid {pid}"],
    )
    .cause(
        "an epoll descriptor of process {pid} watches descriptor {fd}, which was closed or \
            given away (dup, fork, SCM_RIGHTS) while still registered: leaked or inherited \
            epoll descriptor",
    )
    .remedy(
        "start the program so that it inherits no epoll descriptors (plain terminal \
            instead of VSCode's; setsid), let it remove closed files from epoll; upgrade CRIU \
            and use a kernel 4.13+ with CONFIG_KCMP",
    )
    .examples(&["Error (criu/eventpoll.c:300): epoll: Escaped/closed fd descriptor 3 on pid 12"]),
    cause(
        Group::Special,
        "epoll-restore",
        &[
            "Can't add event on {id}",
            "No epoll FD for {id}",
            "Can't create epoll {id}",
        ],
    )
    .files(&["eventpoll.c"])
    .during(Operation::Restore)
    .cause("an epoll descriptor could not be set up again")
    .remedy(
        "raise fs.epoll.max_user_watches; see what the watched descriptor is (crit x DIR \
            fds); upgrade CRIU",
    )
    .examples(&[
        "  12: Error (criu/eventpoll.c:500): epoll: Can't add event on 0x1: No space \
                left on device",
    ]),
    cause(
        Group::Special,
        "inotify-unresolved",
        &[
            "Can't dump that handle",
            "Failed to resolve {dev}:{ino}",
            "Can't find suitable path for handle (dev {dev} ino {ino})",
        ],
    )
    .cause(
        "an inotify or fanotify watch is on a file whose name CRIU cannot find from its \
            handle (overlayfs, tmpfs, btrfs or a deleted file)",
    )
    .remedy(
        "use --force-irmap (with --irmap-scan-path PATH for directories to search), let \
            the program drop its watches (tail -F, file watchers, systemd) before the dump, or \
            move the watched files to another file system than overlay; upgrade kernel \
            (CONFIG_FHANDLE=y) and CRIU",
    )
    .examples(&["Error (criu/fsnotify.c:250): fsnotify: \tCan't dump that handle"]),
    cause(
        Group::Special,
        "inotify-mount",
        &[
            "Unable to lookup a mount by dev 0x{dev}",
            "Unable to lookup a mount by dev {dev}",
            "Can't find mnt_id 0x{dev}",
            "Mount root for {dev} not found",
        ],
    )
    .files(&["fsnotify.c"])
    .cause(
        "a watched file (inotify, fanotify) is on a mount that is not in the container's \
            mount namespace (device {dev})",
    )
    .remedy(
        "let the program drop its inotify watches, use --force-irmap, make the mount \
            visible or external",
    )
    .examples(&["Error (criu/fsnotify.c:150): fsnotify: Unable to lookup a mount by dev 0x2d"]),
    cause(
        Group::Special,
        "inotify-limit",
        &[
            "Can't add watch for {x}: No space left on device",
            "Can't create inotify for {x}: Too many open files",
            "Can't create inotify{x}: Too many open files",
        ],
    )
    .cause("the limit of inotify watches or instances is reached")
    .remedy("raise fs.inotify.max_user_watches and fs.inotify.max_user_instances (sysctl)")
    .examples(&[
        "  12: Error (criu/fsnotify.c:700): fsnotify: Can't add watch for 0x1 with \
                0x2: No space left on device",
    ]),
    cause(
        Group::Special,
        "inotify-watch",
        &[
            "Can't add watch for {x} with {y}",
            "Can't set next inotify wd{x}{y}",
            "Unsorted watch {x} found for {y}",
            "Adding fanotify mask {x} on {y}",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "a watch (inotify, fanotify) could not be set again: the watched file does not \
            exist here, or the kernel rejects its mask (a dump made on another kernel)",
    )
    .remedy(
        "provide the watched files and directories at the same paths; if it says invalid \
            argument, upgrade kernel and CRIU",
    )
    .examples(&[
        "  12: Error (criu/fsnotify.c:700): fsnotify: Can't add watch for 0x1 with \
                0x2: No such file or directory",
    ]),
    cause(
        Group::Special,
        "timerfd",
        &[
            "Can't restore ticks/time for timerfd",
            "Can't restore timerfd {code}",
            "No timerfd support for c/r{code}",
        ],
    )
    .any_line()
    .cause(
        "a timerfd could not be handled: the kernel lacks CONFIG_CHECKPOINT_RESTORE \
            (TFD_IOC_SET_TICKS) or the clock needs CAP_WAKE_ALARM",
    )
    .remedy(
        "use a kernel 3.17+ with CONFIG_CHECKPOINT_RESTORE=y and CAP_WAKE_ALARM for alarm \
            clocks",
    )
    .examples(&[
        "pie: 12: Error (criu/pie/restorer.c:1100): Can't restore ticks/time for \
                timerfd - 3",
    ]),
    cause(
        Group::Special,
        "posix-timers",
        &[
            "Can't create posix timer - {id}",
            "Can't create timers, kernel don't give them consequently{id}",
            "Can't restore posix timers {id}",
            "Unexpected timer id {id}",
        ],
    )
    .any_line()
    .cause("POSIX timers could not be read or created with their old ids")
    .remedy(
        "use a kernel with CONFIG_POSIX_TIMERS and CONFIG_CHECKPOINT_RESTORE; kernel 6.15+ \
            numbers timers otherwise: upgrade CRIU to 4.2 or newer",
    )
    .examples(&[
        "pie: 12: Error (criu/pie/restorer.c:1200): Can't create timers, kernel don't \
                give them consequently",
    ]),
    cause(
        Group::Special,
        "pidfd-outside",
        &[
            "pidfd pid {pid} is not a part of process tree",
            "PIDFD_THREAD flag is currently not supported{pid}",
        ],
    )
    .cause(
        "the process holds a pidfd of a process ({pid}) outside the dumped tree, or of a \
            thread",
    )
    .remedy("close the pidfd before the dump, or dump the tree that has both processes")
    .examples(&["Error (criu/pidfd.c:80): pidfd: pidfd pid 12 is not a part of process tree.."]),
    cause(
        Group::Special,
        "bpfmap",
        &[
            "CRIU does not currently support dumping BPF map type {type}",
            "Can't create bpfmap {type}",
            "Can't perform a batch lookup on BPF map{type}",
        ],
    )
    .cause("a BPF map of a kind CRIU cannot handle ({type})")
    .remedy(
        "close BPF maps and programs (eBPF agent, systemd's own) before the dump; \
            supported: hash and array maps; use a newer kernel and CRIU, with CAP_BPF",
    )
    .examples(&[
        "Error (criu/bpfmap.c:100): bpfmap: CRIU does not currently support dumping \
                BPF map type 27!",
    ]),
    cause(
        Group::Special,
        "memfd",
        &[
            "Can't reopen memfd {id}",
            "Unable to find the {id} memfd inode",
            "Cannot apply seals on memfd{id}",
        ],
    )
    .cause("a memfd could not be restored")
    .remedy("upgrade CRIU and the kernel; check /proc is mounted and writable")
    .examples(&["  12: Error (criu/memfd.c:300): Can't reopen memfd id=3: Permission denied"]),
    clue(
        Group::Special,
        "signal-dump",
        &[
            "Dump {pid} signals failed",
            "Can't dump private signals for thread {pid}",
            "Can't dump shared signals (pid: {pid})",
            "ptrace doesn't support PTRACE_PEEKSIGINFO{pid}",
            "Unable to send siginfo {pid}",
        ],
    )
    .any_line()
    .cause("pending signals could not be read or sent again")
    .remedy("use a kernel with CONFIG_CHECKPOINT_RESTORE; upgrade CRIU")
    .examples(&["Error (criu/cr-dump.c:1500): Dump 12 signals failed -1"]),
    clue(
        Group::Special,
        "fanotify-init",
        &["Can't init fanotify mark", "Can't find fanotify with id"],
    )
    .during(Operation::Restore)
    .cause("fanotify could not be set up")
    .remedy("use a kernel with CONFIG_FANOTIFY and run with CAP_SYS_ADMIN")
    .examples(&[
        "  12: Error (criu/fsnotify.c:800): fsnotify: Can't init fanotify mark (22): \
                Operation not permitted",
    ]),
    consequence(
        Group::Special,
        "epoll-dump-failed",
        &["Dump eventpoll (pid: {pid}) failed"],
    )
    .cause(
        "an epoll descriptor of process {pid} could not be dumped: it watches a file that \
            is not open in the process (inherited or leaked epoll descriptor)",
    )
    .remedy(
        "start the program from a plain terminal (VSCode's leaks descriptors) with setsid; \
            run the dump with -v4 to see which epoll target it is",
    )
    .examples(&[
        "(00.029267) Error (criu/cr-dump.c:1349): Dump eventpoll (pid: 15786) failed \
                with -1",
    ]),
    cause(
        Group::Special,
        "io-uring-unsendable",
        &["send_fds failed (-22)"],
    )
    .during(Operation::Dump)
    .cause(
        "the process very likely uses io_uring, which CRIU does not support: kernels since 6.8 \
            refuse to hand its descriptor to CRIU",
    )
    .remedy(
        "look for anon_inode:[io_uring] in ls -l /proc/PID/fd; start the program without \
            io_uring: Node.js UV_USE_IO_URING=0, sysctl kernel.io_uring_disabled=2 (programs \
            then fall back to epoll), a seccomp profile that denies io_uring_setup",
    )
    .examples(&["pie: 21670: Error (criu/pie/parasite.c:602): send_fds failed (-22)"]),
    cause(
        Group::Special,
        "io-uring-mapping",
        &[
            "Unknown shit {mode} (anon_inode:[io_uring]",
            "(anon_inode:[io_uring]{mode}",
        ],
    )
    .cause("the process uses io_uring, which CRIU does not support")
    .remedy(
        "start the program without io_uring: Node.js UV_USE_IO_URING=0, redis/valkey \
            io-threads settings, sysctl kernel.io_uring_disabled=2 (programs then fall back to \
            epoll)",
    )
    .examples(&[
        "(00.011691) Error (criu/proc_parse.c:479): Unknown shit 600 \
                (anon_inode:[io_uring])",
    ]),
    cause(
        Group::Special,
        "anon-mapping",
        &[
            "Unknown shit {mode} (anon_inode:{name})",
            "Unknown shit {mode} (/anon_inode:{name})",
        ],
    )
    .cause(
        "the process maps an anonymous kernel object {name} (perf, KVM, secret memory …) \
            that CRIU does not support",
    )
    .remedy(
        "start the program without it (stop profilers, virtual machines, monitoring), or \
            use a newer CRIU",
    )
    .examples(&["Error (criu/proc_parse.c:479): Unknown shit 600 (anon_inode:[perf_event])"]),
    clue(
        Group::Special,
        "inotify-handle",
        &[
            "Handle 0x{dev}:0x{ino} cannot be opened",
            "Handle {dev}:{ino} cannot be opened",
            "Can't open file handle for {dev}:{ino}",
        ],
    )
    .files(&["fsnotify.c"])
    .cause(
        "an inotify or fanotify watch is on a file (device {dev}, inode {ino}) that cannot \
            be opened by its handle: overlayfs does not support inotify handles, or the file \
            is deleted",
    )
    .remedy(
        "use --force-irmap (with --irmap-scan-path PATH) so that CRIU searches for the \
            file, let the program drop its watch, or keep watched files on another file system \
            than overlay (a volume; the vfs storage driver)",
    )
    .examples(&[
        "Warn  (criu/fsnotify.c:200): fsnotify: \tHandle 0x2d:0x1f cannot be opened",
        "(02.332716) Error (fsnotify.c:214): fsnotify: Can't open file handle for \
                0x0000002b:0x00000000004d5e1c: Stale file handle",
    ]),
    cause(
        Group::Special,
        "epoll-regular-file",
        &["Can't add event on {id}: Operation not permitted"],
    )
    .files(&["eventpoll.c"])
    .during(Operation::Restore)
    .cause(
        "a descriptor that epoll watched is now one that cannot be watched: a regular file \
            (or /dev/null) where a terminal, pipe or socket was, mostly standard input or \
            output (stdin)",
    )
    .remedy(
        "restore with the same kind of standard files: from a terminal with --shell-job if \
            it was one, with a pipe given by --inherit-fd; or start the program with its stdin \
            from a pipe or /dev/null before the dump",
    )
    .examples(&[
        "  98657: Error (criu/eventpoll.c:419): epoll: Can't add event on 0x00000a: \
                Operation not permitted",
    ]),
];
