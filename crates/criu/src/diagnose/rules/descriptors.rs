//! Descriptors of other kinds, locks and limits.

use super::super::rule::{Group, Rule, cause, clue};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Locks,
        "file-locks",
        &["Some file locks are hold by dumping tasks"],
    )
    .cause("the process holds file locks (flock, fcntl), which CRIU dumps only when told to")
    .remedy(
        "use --file-locks (-l) on dump and restore (podman: --file-locks; runc: \
            --file-locks; docker: file-locks in runc.conf), or release the locks",
    )
    .examples(&[
        "Error (criu/file-lock.c:100): Some file locks are hold by dumping tasks! You \
                can try --file-locks to dump them.",
    ]),
    cause(
        Group::Locks,
        "file-lock-unknown",
        &[
            "Unknown file lock: {lock}",
            "Unknown file lock style",
            "Unknown flock type",
            "Unknown lock option",
            "Unknown file lock!",
        ],
    )
    .any_line()
    .cause(
        "/proc/locks has a lock of a kind this CRIU does not know: a lease (LEASE), OFD \
            lock (OFDLCK), delegation, or one of another process on the machine",
    )
    .remedy(
        "upgrade (update) to a newer CRIU: OFD locks since 2.6, leases since 3.0; or stop \
            the program that holds the lease (Samba, NFS server)",
    )
    .examples(&[
        "(00.001482) Error (proc_parse.c:1967): Unknown file lock: 7: \
                LEASE  ACTIVE    READ  1415 08:01:1977585 0 EOF",
    ]),
    cause(
        Group::Locks,
        "file-lock-unresolved",
        &["Unresolved lock found pid {pid} ino {ino}"],
    )
    .cause("a file lock of process {pid} (inode {ino}) belongs to no descriptor CRIU dumps")
    .remedy(
        "release the lock or dump the process that holds it; use a newer CRIU and kernel \
            (locks in fdinfo)",
    )
    .examples(&["Error (criu/file-lock.c:90): Unresolved lock found pid 12 ino 34"]),
    cause(
        Group::Locks,
        "file-lock-restore",
        &[
            "Can not set flock!",
            "Can not set posix lock!",
            "Can not set ofd lock!",
            "Can't set lease",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "a file lock could not be taken again: somebody else holds it, for instance the \
            original process that still runs",
    )
    .remedy("stop the other process that holds the lock (lslocks), then restore")
    .examples(&["  12: Error (criu/file-lock.c:600): Can not set posix lock!"]),
    cause(
        Group::Files,
        "fuse-device",
        &["Can't dump file {fd} of that type [{mode}] (chr 10:229"],
    )
    .cause(
        "the process has /dev/fuse open: it is a FUSE file system server (sshfs, \
            fuse-overlayfs, rclone, lxcfs), and CRIU cannot dump FUSE connections",
    )
    .remedy(
        "stop the FUSE daemon (unmount its file system with fusermount -u) before the \
            dump, or keep it outside the dumped tree and make the mount external; for rootless \
            podman use native overlay instead of fuse-overlayfs",
    )
    .examples(&[
        "(00.026778) Error (criu/files-ext.c:95): Can't dump file 3 of that type \
                [20666] (chr 10:229)",
    ]),
    cause(
        Group::Files,
        "device-fd",
        &[
            "Can't dump file {fd} of that type [{mode}] (chr {rdev})",
            "Can't dump file {fd} of that type [{mode}] (blk {rdev})",
            "Can't dump file {fd} of that type [{mode}] (chr {rdev} ",
        ],
    )
    .cause(
        "descriptor {fd} is {device}: a character device or block device file that CRIU \
            has no handler for",
    )
    .remedy(
        "let the program close the device before the dump, or start it without; a plugin \
            can handle a device (cuda_plugin for NVIDIA, amdgpu_plugin for AMD, --libdir; \
            gdrcopy's /dev/gdrdrv, RDMA and the like have none); terminals need --shell-job, \
            serial consoles (204, 4:64 and up) standard files redirected to a file or /dev/null, \
            devices of a container --external dev[…]",
    )
    .examples(&[
        "Error (criu/files-ext.c:98): Can't dump file 36 of that type [20666] (chr \
                506:0)",
    ]),
    cause(
        Group::Special,
        "anon-inode",
        &[
            "Can't dump file {fd} of that type [{mode}] (anon anon_inode:{name})",
            "Can't dump file {fd} of that type [{mode}] (unknown anon_inode:{name})",
            "Can't dump file {fd} of that type [{mode}] (unknown /anon_inode:{name})",
            "Can't dump file {fd} of that type [{mode}] (anon_inode:{name})",
            "Can't dump file {fd} of that type [{mode}] (anon_inode {name})",
        ],
    )
    .cause(
        "descriptor {fd} is an anonymous kernel object {name} that CRIU does not support \
            (io_uring, perf_event, bpf-prog/bpf-link, userfaultfd, seccomp notify, kvm, \
            landlock, dmabuf …)",
    )
    .remedy(
        "start the program without it: io_uring can be disabled (Node.js: \
            UV_USE_IO_URING=0, kernel.io_uring_disabled=2, liburing users fall back to epoll), \
            close perf/eBPF/KVM descriptors before the dump, or use a newer CRIU",
    )
    .examples(&[
        "Error (criu/files-ext.c:98): Can't dump file 5 of that type [600] (unknown \
                anon_inode:[io_uring])",
        "(00.171097) Error (criu/files-ext.c:98): Can't dump file 3 of that type [600] \
                (anon anon_inode:[perf_event])",
    ]),
    cause(
        Group::Files,
        "unsupported-fd",
        &["Can't dump file {fd} of that type [{mode}]"],
    )
    .cause(
        "descriptor {fd} is of a kind (mode {mode}) that CRIU has no handler for: a \
            device, special socket or kernel object",
    )
    .remedy(
        "see what it is (ls -l /proc/PID/fd/{fd}), close it before the dump or start the \
            program without it; mark what the caller gives back as --external, or use a plugin \
            or a newer CRIU",
    )
    .examples(&["Error (criu/files-ext.c:60): Can't dump file 17 of that type [20660]"]),
    cause(
        Group::Files,
        "inherit-fd",
        &[
            "Invalid inherit fd argument: {text}",
            "Can't fstat inherit fd {text}",
            "Unable to find an inherited fd {text}",
            "in inherit fd list has invalid fd {text}",
        ],
    )
    .cause("an --inherit-fd argument does not fit: {text}")
    .remedy(
        "give --inherit-fd fd[N]:RESOURCE with N open in CRIU's own process (not \
            close-on-exec) and the resource as in the images (pipe:[INODE], tty[rdev:dev], \
            file[mnt_id:inode], path without leading slash)",
    )
    .examples(&["Error (criu/files.c:1600): Invalid inherit fd argument: fd[a]"]),
    cause(
        Group::Files,
        "pipe-outside",
        &[
            "Unable to reopen the pipe {id}",
            "Can't dump half of a pipe {id}",
            "The packetized mode for pipes is not supported yet{id}",
        ],
    )
    .cause(
        "a pipe could not be handled: its other end is outside the tree or it is of a \
            special kind",
    )
    .remedy(
        "dump the processes at both ends, or give the pipe with --inherit-fd \
            fd[N]:pipe:[INODE] at restore (see /proc/PID/fd)",
    )
    .examples(&[
        "  12: Error (criu/pipes.c:200): Unable to reopen the pipe /proc/self/fd/3: \
                Permission denied",
    ]),
    cause(
        Group::Files,
        "pipe-size",
        &["Can't restore pipe size", "Unable to set a pipe size"],
    )
    .cause(
        "a pipe cannot get its old size: fs.pipe-max-size or the user's pipe quota is \
            smaller here",
    )
    .remedy(
        "raise fs.pipe-max-size (sysctl) and fs.pipe-user-pages-soft to those of the \
            dumping machine, or restore with CAP_SYS_RESOURCE",
    )
    .examples(&[
        "  12: Error (criu/pipes.c:100): Can't restore pipe size: Operation not \
                permitted",
    ]),
    cause(
        Group::Files,
        "fifo",
        &[
            "Can't open fifo {id} [{path}]",
            "Can't open fake fifo {id} [{path}]",
        ],
    )
    .cause(
        "the named pipe (FIFO) {path} cannot be opened: it does not exist here or is not \
            readable",
    )
    .remedy("create it at the same path (mkfifo) before the restore, with the same permissions")
    .examples(&[
        "  12: Error (criu/fifo.c:100): Can't open fifo 0x1 [/tmp/f]: No such file or \
                directory",
    ]),
    cause(
        Group::Files,
        "fd-limit",
        &[
            "Too big FD number to restore {fd}",
            "Can't chose service_fd_base: {fd}",
        ],
    )
    .cause("descriptor number {fd} is above the limit of open files here")
    .remedy("raise RLIMIT_NOFILE (ulimit -n) and fs.nr_open for CRIU at restore")
    .examples(&["  12: Error (criu/files.c:700): Too big FD number to restore 1048577"]),
    cause(
        Group::Files,
        "dump-fd-limit",
        &["Too many open files", "Too many open files in system"],
    )
    .cause("the limit of open files is reached")
    .remedy("raise RLIMIT_NOFILE (ulimit -n), fs.nr_open and fs.file-max for CRIU")
    .examples(&["Error (criu/image.c:500): Unable to open x: Too many open files"]),
    clue(
        Group::Files,
        "fcntl-flags",
        &[
            "fcntl call on fd {fd} (flags {flags}) succeeded, but some flags were dropped",
            "fcntl call on fd {fd} (flags {flags}",
        ],
    )
    .cause(
        "the flags of descriptor {fd} ({flags}) could not be restored: the file system \
            here does not support them (O_DIRECT, O_NOATIME)",
    )
    .remedy("use the same kind of file system as at the dump, and restore as root")
    .examples(&[
        "  12: Error (criu/files.c:900): fcntl call on fd 3 (flags 0x4000) failed: \
                Invalid argument",
    ]),
];
