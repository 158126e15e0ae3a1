//! Moving pages: pagemaps, incremental dumps, page server, lazy pages.

use super::super::rule::{Group, Rule, cause, clue, consequence};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Memory,
        "parent-page-missing",
        &["Missing {page} in parent pagemap", "not found in parent"],
    )
    .cause(
        "in an incremental dump a page counts as unchanged since the previous dump, but is \
            not in the parent images: the chain does not fit (wrong or incomplete \
            --prev-images-dir, process restarted, tracking reset by somebody else, or a bug of \
            older CRIU)",
    )
    .remedy(
        "make a full dump and start over with a new chain: all dumps of the chain with \
            --track-mem, each with --prev-images-dir naming the directory of the one before \
            (relative to -D); upgrade to a newer CRIU",
    )
    .examples(&[
        "(00.130324) Error (criu/page-xfer.c:290): page-xfer: Missing 5574d7796000 in \
                parent pagemap",
        "Error (criu/page-xfer.c:335): page-xfer: Hole 0x5574d7796000/8192 not found \
                in parent",
    ]),
    cause(
        Group::Memory,
        "parent-snapshot",
        &[
            "No parent for snapshot pagemap",
            "Can't open parent path {path}",
            "Invalid parent image directory provided{path}",
            "Can't link parent snapshot{path}",
        ],
    )
    .cause(
        "the images are incremental, and the parent images (link `parent` in the images \
            directory) are missing or elsewhere",
    )
    .remedy(
        "keep the whole chain of images in the same relative places (copy the parent \
            directories too, check the `parent` symbolic link); --prev-images-dir is relative \
            to --images-dir; or make a full dump",
    )
    .examples(&[
        "  12: Error (criu/pagemap.c:300): No parent for snapshot pagemap",
        "Error (criu/image.c:700): Can't link parent snapshot: File exists",
    ]),
    cause(
        Group::Memory,
        "track-mem-missing",
        &["Tracking memory is not available"],
    )
    .cause(
        "the kernel cannot track changes of memory (soft-dirty): CONFIG_MEM_SOFT_DIRTY is \
            missing (x86, s390, newer on arm64/riscv only), or a virtual machine type that \
            lacks it",
    )
    .remedy(
        "omit --track-mem and --prev-images-dir (make full dumps; iterative migration and \
            pre-dump are not possible), or use a kernel with CONFIG_MEM_SOFT_DIRTY=y",
    )
    .examples(&[
        "Error (criu/config.c:1200): Tracking memory is not available. Consider \
                omitting --track-mem option.",
    ]),
    cause(
        Group::Memory,
        "dirty-reset",
        &["Can't reset {pid}'s dirty memory tracker"],
    )
    .cause(
        "the memory tracking of task {pid} could not be reset (clear_refs): the kernel \
            lacks CONFIG_MEM_SOFT_DIRTY or the task is gone",
    )
    .remedy("omit --track-mem, or use a kernel with CONFIG_MEM_SOFT_DIRTY=y")
    .examples(&["Error (criu/mem.c:90): Can't reset 12's dirty memory tracker: Invalid argument"]),
    cause(
        Group::Kernel,
        "pagemap-scan",
        &[
            "PAGEMAP_SCAN: Invalid argument",
            "PAGEMAP_SCAN failed with unexpected errno",
            "PAGEMAP_SCAN: {why}",
        ],
    )
    .cause(
        "CRIU and the kernel do not agree on PAGEMAP_SCAN: kernel 6.7 has it without \
            PAGE_IS_SOFT_DIRTY, which this CRIU (3.19, 4.0) expects",
    )
    .remedy(
        "upgrade CRIU to a newer version (4.0 or later with the fix), or use another \
            kernel (6.8 or newer, or older than 6.7)",
    )
    .examples(&[
        "b'(00.011001) Error (criu/pagemap-cache.c:199): pagemap-cache: PAGEMAP_SCAN: \
                Invalid argument'",
    ]),
    cause(
        Group::Memory,
        "pagemap-denied",
        &[
            "Can't open {pid}/pagemap on procfs: Permission denied",
            "Can't open {pid}/pagemap on procfs: Operation not permitted",
            "Can't read {pid}'s pagemap file: {why}",
        ],
    )
    .cause("the page map of task {pid} cannot be read: CRIU lacks CAP_SYS_ADMIN/CAP_SYS_PTRACE")
    .remedy("run CRIU as root with all capabilities")
    .examples(&[
        "Error (criu/pagemap-cache.c:60): Can't open 12/pagemap on procfs: Permission \
                denied",
    ]),
    cause(Group::Memory, "no-space", &[": No space left on device"])
        .except(&["cg: ", "Can't move", "inotify"])
        .files(&[
            "page-xfer.c",
            "page-pipe.c",
            "image.c",
            "protobuf.c",
            "bfd.c",
            "util.c",
            "files-reg.c",
            "pagemap.c",
            "log.c",
            "stats.c",
            "shmem.c",
            "uffd.c",
            "ipc_ns.c",
            "bpfmap.c",
            "sk-queue.c",
            "pipes.c",
        ])
        .cause(
            "a file system is full: the one of the images directory (or work directory, \
            /dev/shm, /tmp, memory cgroup)",
        )
        .remedy(
            "free disk space or put --images-dir on a larger file system (the images need \
            about as much space as the memory of the processes); check inodes and quotas (df \
            -h, df -i); memory-backed directories count as memory",
        )
        .examples(&[
            "Error (criu/page-xfer.c:200): page-xfer: Unable to spice data: No space left \
                on device",
            "Error (criu/image.c:600): Can't write img file: No space left on device",
        ]),
    cause(
        Group::Memory,
        "uffd-eperm",
        &[
            "Unable to open a userfaultfd descriptor: {why}",
            "Unable to open an userfaultfd descriptor: {why}",
            "Lazy pages are not available: {why}",
        ],
    )
    .except(&["Function not implemented"])
    .near(&[
        "userfaultfd descriptor: Operation not permitted",
        "userfaultfd descriptor: Permission denied",
    ])
    .cause(
        "userfaultfd may not be used here ({why}): vm.unprivileged_userfaultfd is 0 and \
            the task has no CAP_SYS_PTRACE in the initial user namespace (user namespace, \
            container), or a seccomp filter forbids it",
    )
    .remedy(
        "set sysctl vm.unprivileged_userfaultfd=1, run the restore as root outside a user \
            namespace (CAP_SYS_PTRACE, privileged container), or restore without --lazy-pages",
    )
    .examples(&[
        "b'(00.066969)      1: Error (criu/uffd.c:317): uffd: Unable to open a \
                userfaultfd descriptor: Operation not permitted'",
    ]),
    cause(
        Group::Memory,
        "uffd-missing",
        &[
            "Unable to open a userfaultfd descriptor: Function not implemented",
            "Unable to open an userfaultfd descriptor: Function not implemented",
            "UFFD is not supported",
            "Non-cooperative UFFD is not supported",
            "Incompatible uffd API",
            "Failed to get uffd API",
        ],
    )
    .except(&["Lazy pages are not available"])
    .cause("the kernel has no (suitable) userfaultfd, which lazy restore needs")
    .remedy(
        "use a kernel of 4.11 or newer with CONFIG_USERFAULTFD=y, or restore without \
            --lazy-pages",
    )
    .examples(&[
        "Error (criu/uffd.c:317): uffd: Unable to open a userfaultfd descriptor: \
                Function not implemented",
    ]),
    clue(
        Group::Memory,
        "lazy-socket",
        &[
            "connect to {path} failed: {why}",
            "No lazy-pages socket{path}{why}",
        ],
    )
    .cause("the lazy-pages daemon is not reachable at {path} ({why})")
    .remedy(
        "start `criu lazy-pages -D DIR` (same images/work directory, and --page-server \
            --address --port for a remote source) before `criu restore --lazy-pages`",
    )
    .examples(&[
        "Error (criu/uffd.c:400): uffd: connect to lazy-pages.socket failed: No such \
                file or directory",
    ]),
    clue(
        Group::Memory,
        "lazy-transfer",
        &[
            "Error during UFFD copy",
            "no pagemap covers {at}",
            "failed reading pages at {at}",
            "mcopy_rc:{at}",
            "Restorer unexpectedly closed the connection",
        ],
    )
    .cause(
        "the lazy-pages daemon could not deliver a page: the restored process or the \
            source went away, or the images are incomplete",
    )
    .remedy(
        "keep the source (criu dump --lazy-pages or page server) alive until the transfer \
            ends; see the restore's own log for why it stopped; upgrade CRIU",
    )
    .examples(&["Error (criu/uffd.c:900): uffd: 12-1: Error during UFFD copy"]),
    cause(
        Group::Memory,
        "page-server-connect",
        &[
            "Can't connect to server: {why}",
            "Can't connect page server: {why}",
            "connect to page server failed{why}",
        ],
    )
    .cause("the page server cannot be reached: {why}")
    .remedy(
        "start `criu page-server -D DIR --port PORT` on the other machine first, check \
            --address, --port and the firewall",
    )
    .examples(&["Error (criu/util.c:1200): Can't connect to server: Connection refused"]),
    cause(
        Group::Memory,
        "page-server-unreachable",
        &["Can't connect to server {address}"],
    )
    .except(&["Can't connect to server: "])
    .any_line()
    .cause("no page server listens at {address}")
    .remedy(
        "start `criu page-server -D DIR --port PORT` on the other machine first and wait until it \
            listens; check --address, --port and the firewall",
    )
    .examples(&["(00.110925) Can't connect to server 127.0.0.1:44891"]),
    clue(
        Group::Memory,
        "page-server-lost",
        &[
            "The page server doesn't answer",
            "Can't write to page server",
            "Can't read pagemap from socket",
            "Can't write pages to socket",
            "Remote side closed connection",
            "A socket was closed unexpectedly",
            "Error reading data from page server",
            "Can't send PSI {n} to server",
        ],
    )
    .cause("the connection to the page server broke: the other side stopped")
    .remedy(
        "look at the log of the page server (its disk may be full, its images directory \
            wrong); start it anew for each dump; check network and TLS options on both sides",
    )
    .examples(&[
        "Error (criu/page-xfer.c:300): page-xfer: The page server doesn't answer: \
                Connection reset by peer",
    ]),
    cause(
        Group::Memory,
        "page-server-bind",
        &["Can't bind {kind} server: Address already in use"],
    )
    .cause("the {kind} server's port is in use: another one still runs")
    .remedy("stop the other one (ss -tlpn) or choose another --port")
    .examples(&["Error (criu/util.c:1100): Can't bind page server: Address already in use"]),
    cause(
        Group::Memory,
        "dedup",
        &[
            "Auto-deduplication failed",
            "Error punching hole",
            "Can't punch hole",
        ],
    )
    .cause(
        "unused pages could not be cut out of the parent images: the file system cannot \
            punch holes (fallocate)",
    )
    .remedy("leave --auto-dedup away, or keep the images on ext4, xfs, btrfs or tmpfs")
    .examples(&[
        "Error (criu/page-xfer.c:350): page-xfer: Auto-deduplication failed: Operation \
                not supported",
    ]),
    cause(
        Group::Memory,
        "page-image-short",
        &[
            "Reached EOF unexpectedly while reading page from image",
            "Can't read mapping page",
            "Can't read async pr bytes",
            "Can't read pages data ({code})",
            "Unexpected EOF reading pages data",
        ],
    )
    .any_line()
    .during(Operation::Restore)
    .cause(
        "pages are missing in the images: a pages-*.img file is not there, truncated or not \
            copied completely, or holes were punched by --auto-dedup",
    )
    .remedy(
        "copy the images again, completely (with the parent directories); do not restore \
            twice from images read with --auto-dedup; make a new dump",
    )
    .examples(&[
        "  12: Error (criu/pagemap.c:300): Reached EOF unexpectedly while reading page \
                from image",
        "pie: 12: Error (criu/pie/restorer.c:1600): Can't read pages data (0)",
        "pie: 22842: Error (criu/pie/restorer.c:1986): Unexpected EOF reading pages data at \
                offset 4096 (63 iovs remaining)",
    ]),
    cause(
        Group::Memory,
        "vmsplice",
        &[
            "Can't splice pages to pipe ({n})",
            "vmsplice: Failed to splice user buffer to pipe {n}",
            "Can't splice all pages to pipe ({n})",
            "process_vm_readv failed{n}",
        ],
    )
    .any_line()
    .cause(
        "pages of the process could not be read: they vanished (a mapped file was \
            truncated), or are not readable memory (device, secret memory)",
    )
    .remedy(
        "do not truncate files that the program has mapped; use the other --pre-dump-mode \
            (read or splice); upgrade CRIU and the kernel",
    )
    .examples(&["pie: 12: Error (criu/pie/parasite.c:100): Can't splice pages to pipe (-14/1/0)"]),
    clue(
        Group::Memory,
        "pipe-alloc",
        &[
            "Can't make pipe for page-pipe",
            "Can't get pipe size",
            "Can't get shmem into page-pipe",
        ],
    )
    .cause(
        "the pipes for moving pages could not be made: a limit of descriptors or pipe \
            memory is reached",
    )
    .remedy(
        "raise ulimit -n, fs.pipe-user-pages-soft/hard and fs.pipe-max-size for CRIU, or \
            use --pre-dump-mode read",
    )
    .examples(&[
        "Error (criu/page-pipe.c:100): page-pipe: Can't make pipe for page-pipe: Too \
                many links",
    ]),
    cause(
        Group::Memory,
        "pid-reuse",
        &["Pid-reuse detection failed: no parent inventory"],
    )
    .cause(
        "the previous dump has no inventory, so CRIU cannot tell whether the process is \
            still the same",
    )
    .remedy(
        "name the directory of the previous pre-dump with --prev-images-dir; make the \
            whole chain with the same CRIU version",
    )
    .examples(&[
        "Error (criu/mem.c:300): Pid-reuse detection failed: no parent inventory, \
                check warnings in get_parent_inventory",
    ]),
    cause(
        Group::Memory,
        "madv-guard",
        &[
            "Collect MADV_GUARD_INSTALL pages (pid: {pid}) failed",
            "MADV_GUARD_INSTALL) failed with {pid}",
        ],
    )
    .any_line()
    .cause(
        "guard pages (madvise MADV_GUARD_INSTALL, used by newer glibc and allocators) need \
            kernel support",
    )
    .remedy("use kernel 6.13+ on both sides (6.15+ for dumping them) and CRIU 4.2 or newer")
    .examples(&[
        "Error (criu/cr-dump.c:100): Collect MADV_GUARD_INSTALL pages (pid: 12) failed \
                with -1",
    ]),
    consequence(
        Group::Memory,
        "dump-pages-failed",
        &[
            "Can't dump page with parasite",
            "Failed to fill cache for",
            "Dump VMA pages failure",
        ],
    )
    .cause("dumping the memory of a task failed")
    .remedy("the reason stands before: disk space, parent images, page server or kernel support")
    .examples(&["Error (criu/mem.c:672): Can't dump page with parasite"]),
    clue(
        Group::Security,
        "lazy-pages-eperm",
        &["Lazy pages are not available: Operation not permitted"],
    )
    .errors()
    .cause(
        "userfaultfd may not be used: CRIU runs as an ordinary user (not root), or \
            vm.unprivileged_userfaultfd is 0 in a container",
    )
    .remedy(
        "run CRIU as root (sudo), or set sysctl vm.unprivileged_userfaultfd=1; lazy pages \
            need it",
    )
    .examples(&[
        "Error (criu/uffd.c:231): uffd: Lazy pages are not available: Operation not \
                permitted",
    ]),
    clue(
        Group::Memory,
        "lazy-protocol",
        &[
            "recv_fd error",
            "send_fd error",
            "PID sending error",
            "PID recv error",
            "PID recv: short read",
            "Can't read uffd message",
            "unexpected uffd event",
            "Failed to unregister (",
        ],
    )
    .files(&["uffd.c"])
    .cause("the lazy-pages daemon and the restore lost each other")
    .remedy(
        "start one `criu lazy-pages` daemon per restore, in the same work directory, and \
            keep it running; look at the log of the other side for why it stopped; upgrade \
            CRIU, or restore without --lazy-pages",
    )
    .examples(&[
        "(00.010000) Error (criu/uffd.c:762): uffd: recv_fd error",
        "Error (criu/uffd.c:1220): uffd: 4--19: Can't read uffd message: Bad file \
                descriptor",
    ]),
];
