//! What to say about an error that no rule knows: what the part of CRIU that wrote it does, what its
//! errno means there, and where to go on.

use crate::log::{Entry, Level, Location, Operation};

/// Explains `entry` in general terms: cause and remedy.
pub(super) fn explain(entry: &Entry, operation: Option<Operation>) -> (String, String) {
    let area = area(entry);
    let message = entry.message();
    let errno = ERRNOS.iter().find(|errno| {
        message
            .trim_end()
            .trim_end_matches(['.', '!', ')'])
            .ends_with(errno.text)
    });

    let mut cause = match operation {
        Some(operation) => format!("the {operation} stopped here: "),
        None => String::from("CRIU stopped here: "),
    };
    if entry.level == Level::Untagged && entry.time.is_none() {
        let cause = format!(
            "a program that CRIU ran failed and said: {}",
            message.trim()
        );
        return (cause, format!("{TOOL}; {GENERAL}"));
    }
    if entry.level == Level::Untagged {
        cause = match operation {
            Some(operation) => format!(
                "the {operation} failed without an error message; the last thing it did was: "
            ),
            None => {
                String::from("CRIU failed without an error message; the last thing it did was: ")
            }
        };
    }
    cause.push_str(message.trim());
    if let Some(area) = area {
        cause.push_str("; this comes from the part of CRIU that ");
        cause.push_str(area.does);
    }
    if let Some(errno) = errno {
        cause.push_str("; ");
        cause.push_str(errno.meaning);
    }

    let mut remedy = String::new();
    if let Some(errno) = errno {
        remedy.push_str(errno.remedy);
        remedy.push_str("; ");
    }
    if let Some(area) = area {
        remedy.push_str(area.remedy);
        remedy.push_str("; ");
    }
    remedy.push_str(GENERAL);
    (cause, remedy)
}

const GENERAL: &str = "if that does not help, run again with -v4 and read the lines just before this one, run \
     `criu check --all` to see what kernel and configuration lack, and try a newer version of CRIU (upgrade): \
     many failures are fixed there";

const TOOL: &str = "run that program by hand and fix what it complains about: iptables-restore and ip6tables-restore need their \
     kernel modules (ip_tables, xt_mark) and a recent version (or use --network-lock nftables, or skip), ip needs \
     iproute2, tmpfs content needs GNU tar";

struct Errno {
    text: &'static str,
    meaning: &'static str,
    remedy: &'static str,
}

const ERRNOS: &[Errno] = &[
    Errno {
        text: "Operation not permitted",
        meaning: "the kernel refused it: CRIU lacks a privilege (EPERM)",
        remedy: "run CRIU as root with all capabilities (CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_NET_ADMIN, CAP_SYS_RESOURCE, CAP_CHECKPOINT_RESTORE; in a container: privileged, seccomp unconfined), and look for a security module (AppArmor, SELinux, seccomp filter) in the kernel log that forbids it",
    },
    Errno {
        text: "Permission denied",
        meaning: "access was denied (EACCES): file permissions or a security module such as SELinux or AppArmor",
        remedy: "check owner and permissions (chmod, chown) of the path, run CRIU as root, and look for SELinux (avc: denied) or AppArmor messages in the kernel log",
    },
    Errno {
        text: "No such file or directory",
        meaning: "a file, directory or program it needs does not exist here (ENOENT)",
        remedy: "provide the same file at the same path (copy it, bind-mount it, or install the missing package); if it is below /proc or /sys, the kernel lacks the feature (CONFIG_*)",
    },
    Errno {
        text: "No space left on device",
        meaning: "a file system is full (ENOSPC), or a limit on the number of such objects is reached",
        remedy: "free disk space for the images and work directory, or raise the limit",
    },
    Errno {
        text: "Cannot allocate memory",
        meaning: "memory ran out or an address range is in the way (ENOMEM)",
        remedy: "give the machine or the container's memory cgroup more memory or swap, check vm.overcommit_memory, vm.max_map_count and ulimits",
    },
    Errno {
        text: "File exists",
        meaning: "something of that name or number is already there (EEXIST)",
        remedy: "remove or rename what is in the way, or restore into fresh namespaces",
    },
    Errno {
        text: "Device or resource busy",
        meaning: "what it needs is in use by somebody else (EBUSY)",
        remedy: "stop what uses it (unmount it, stop the other program) and try again",
    },
    Errno {
        text: "Too many open files",
        meaning: "the limit of open files is reached (EMFILE)",
        remedy: "raise RLIMIT_NOFILE (ulimit -n) and fs.nr_open for CRIU",
    },
    Errno {
        text: "Read-only file system",
        meaning: "it has to write where the file system is read-only (EROFS)",
        remedy: "make it writable: remount it rw, or in a container use a writable volume or tmpfs for that path",
    },
    Errno {
        text: "Address already in use",
        meaning: "the network address and port are taken (EADDRINUSE)",
        remedy: "stop the process that uses the address and port (ss -tulpn), or restore in a network namespace of its own",
    },
    Errno {
        text: "Cannot assign requested address",
        meaning: "the IP address does not exist on this machine (EADDRNOTAVAIL)",
        remedy: "give an interface the same IP address as at the dump (ip addr add) before restoring, or use --tcp-close",
    },
    Errno {
        text: "Connection refused",
        meaning: "nobody listens at the other end (ECONNREFUSED)",
        remedy: "start the server there (page server, lazy-pages daemon, service) first, check address and port",
    },
    Errno {
        text: "Connection timed out",
        meaning: "the other end does not answer (ETIMEDOUT)",
        remedy: "check address, port and firewall on the way",
    },
    Errno {
        text: "No such process",
        meaning: "the process is gone (ESRCH): it ended while CRIU worked on it, or the pid is wrong",
        remedy: "check that the process still runs and that the pid is right in CRIU's own pid namespace; look for the reason of its end above",
    },
    Errno {
        text: "No child processes",
        meaning: "somebody else waited for CRIU's child (ECHILD): SIGCHLD is ignored or handled in the caller",
        remedy: "do not ignore SIGCHLD in the process that runs CRIU",
    },
    Errno {
        text: "Function not implemented",
        meaning: "this kernel does not have the system call (ENOSYS)",
        remedy: "use a newer kernel or one with the missing CONFIG_* option (`criu check --all` tells which); in a sandbox such as gVisor or WSL1 CRIU cannot work",
    },
    Errno {
        text: "Operation not supported",
        meaning: "the kernel or file system does not support this (EOPNOTSUPP)",
        remedy: "use another file system or a newer kernel, or avoid the feature",
    },
    Errno {
        text: "Protocol not supported",
        meaning: "the kernel has no support for this protocol (EPROTONOSUPPORT)",
        remedy: "load the kernel module for it, or enable its CONFIG_* option",
    },
    Errno {
        text: "No such device",
        meaning: "the device or its driver is not here (ENODEV)",
        remedy: "load the driver's kernel module; the restoring machine must have the same devices",
    },
    Errno {
        text: "No such device or address",
        meaning: "nothing is behind this name any more (ENXIO)",
        remedy: "provide the device, or what listens behind the name",
    },
    Errno {
        text: "Not a directory",
        meaning: "a component of the path is no directory here (ENOTDIR)",
        remedy: "make the file system look as it did at the dump",
    },
    Errno {
        text: "Is a directory",
        meaning: "there is a directory where a file is expected (EISDIR)",
        remedy: "make the file system look as it did at the dump",
    },
    Errno {
        text: "Directory not empty",
        meaning: "a directory that CRIU has to remove or cover has something in it (ENOTEMPTY)",
        remedy: "clean the directory",
    },
    Errno {
        text: "Invalid argument",
        meaning: "the kernel rejected the arguments (EINVAL): often kernel and CRIU do not fit each other",
        remedy: "use a CRIU version as new as the kernel (upgrade CRIU, delete /run/criu.kdat), or a kernel it was made for",
    },
    Errno {
        text: "Input/output error",
        meaning: "reading or writing failed at the device (EIO)",
        remedy: "check the device, the file system and the kernel log",
    },
    Errno {
        text: "Bad address",
        meaning: "memory at that address is not mapped as expected (EFAULT)",
        remedy: "use a newer CRIU; the memory layout is one it did not expect",
    },
    Errno {
        text: "Broken pipe",
        meaning: "the other end went away (EPIPE)",
        remedy: "look at the log of the other end: its failure comes first",
    },
    Errno {
        text: "Resource temporarily unavailable",
        meaning: "a limit is reached or nothing is there to read (EAGAIN)",
        remedy: "raise the limit of processes (ulimit -u, pids cgroup) or memory locked (ulimit -l)",
    },
    Errno {
        text: "Inappropriate ioctl for device",
        meaning: "the file is not of the kind CRIU expects (ENOTTY)",
        remedy: "make sure that standard input is a terminal where one is needed, and that the same kind of file is at the same path",
    },
    Errno {
        text: "Value too large for defined data type",
        meaning: "a number is too large for this kernel or build (EOVERFLOW)",
        remedy: "use a newer CRIU and a 64-bit build",
    },
    Errno {
        text: "Text file busy",
        meaning: "a program that runs cannot be written (ETXTBSY)",
        remedy: "stop the processes that run the file",
    },
    Errno {
        text: "File too large",
        meaning: "a limit on the size of files is reached (EFBIG)",
        remedy: "raise the limit (ulimit -f) or use a file system that takes larger files",
    },
    Errno {
        text: "Disk quota exceeded",
        meaning: "the user's disk quota is used up (EDQUOT)",
        remedy: "free space or write the images elsewhere",
    },
    Errno {
        text: "Network is unreachable",
        meaning: "there is no route to that address (ENETUNREACH)",
        remedy: "set up the same addresses and routes as at the dump before restoring",
    },
    Errno {
        text: "Interrupted system call",
        meaning: "CRIU's time limit or a signal interrupted it (EINTR)",
        remedy: "raise the limit with --timeout SECONDS",
    },
    Errno {
        text: "Stale file handle",
        meaning: "the file behind the handle is gone, or its file system cannot open files by handle (ESTALE)",
        remedy: "avoid overlayfs and network file systems for watched files, use --force-irmap",
    },
    Errno {
        text: "Too many links",
        meaning: "a file system or kernel limit on links or pipes is reached (EMLINK)",
        remedy: "raise the limit or clean up leftovers",
    },
    Errno {
        text: "Address family not supported by protocol",
        meaning: "the kernel has no such network protocol family (EAFNOSUPPORT)",
        remedy: "enable it (IPv6: no ipv6.disable=1; modprobe), or upgrade CRIU, which may cope without",
    },
    Errno {
        text: "Connection reset by peer",
        meaning: "the other end closed the connection (ECONNRESET)",
        remedy: "look at the log of the other end: its failure comes first",
    },
];

struct Area {
    modules: &'static [&'static str],
    files: &'static [&'static str],
    does: &'static str,
    remedy: &'static str,
}

fn area(entry: &Entry) -> Option<&'static Area> {
    let by_module = entry
        .module()
        .and_then(|module| AREAS.iter().find(|area| area.modules.contains(&module)));
    by_module.or_else(|| {
        let file = entry.location.as_ref().map(Location::file_name)?;
        AREAS.iter().find(|area| area.files.contains(&file))
    })
}

const AREAS: &[Area] = &[
    Area {
        modules: &["mnt", "mnt-v2"],
        files: &["mount.c", "mount-v2.c", "filesystems.c", "sysfs_parse.c"],
        does: "saves and rebuilds mounts",
        remedy: "look at the mount named: make it --external mnt[PATH]:KEY (dump) and mnt[KEY]:PATH (restore), leave it out with --skip-mnt, or unmount it in the container; --mntns-compat-mode switches to the older mount engine on restore; checkpoint containers through their runtime (podman, runc, lxc-checkpoint), which passes the mounts",
    },
    Area {
        modules: &["tty"],
        files: &["tty.c"],
        does: "handles terminals",
        remedy: "use --shell-job for a process that shares its terminal with a shell, or start it with setsid and its standard files redirected to files or /dev/null",
    },
    Area {
        modules: &["cg", "cg-prop", "cgroupd"],
        files: &["cgroup.c", "cgroup-props.c"],
        does: "saves and rebuilds control groups",
        remedy: "use --manage-cgroups=ignore (or none, soft) to leave cgroups alone, or --cgroup-root to place them elsewhere; both machines should use the same cgroup version and controllers",
    },
    Area {
        modules: &["net", "nf", "tun"],
        files: &["net.c", "netfilter.c", "libnetlink.c", "tun.c"],
        does: "saves and rebuilds network namespaces, locks the network and runs ip, iptables and nft",
        remedy: "make sure iproute2 and iptables (or nft with --network-lock nftables) are installed and their kernel modules loaded; --network-lock skip avoids locking, --empty-ns net leaves the network namespace to scripts",
    },
    Area {
        modules: &["inet", "tcp", "sockets", "skqueue", "sk inet"],
        files: &[
            "sk-inet.c",
            "sk-tcp.c",
            "sockets.c",
            "sk-queue.c",
            "soccr.c",
        ],
        does: "saves and restores sockets",
        remedy: "use --tcp-established to keep TCP connections, --tcp-close to drop them, --skip-in-flight for connections being opened; the same IP addresses must exist at restore",
    },
    Area {
        modules: &["unix", "sk unix"],
        files: &["sk-unix.c"],
        does: "saves and restores UNIX sockets",
        remedy: "use --ext-unix-sk (or --external unix[INODE]) for sockets whose peer is outside the dumped tree, or dump the peer's process too",
    },
    Area {
        modules: &["netlink"],
        files: &["sk-netlink.c"],
        does: "handles netlink sockets",
        remedy: "let the process read or close its netlink socket before the dump",
    },
    Area {
        modules: &["packet"],
        files: &["sk-packet.c"],
        does: "handles packet sockets",
        remedy: "close raw packet sockets (tcpdump, DHCP clients) before the dump",
    },
    Area {
        modules: &["uffd", "lazy-pages"],
        files: &["uffd.c"],
        does: "restores memory on demand (lazy pages, userfaultfd)",
        remedy: "check that the lazy-pages daemon runs with the same images directory, that the kernel has CONFIG_USERFAULTFD and that vm.unprivileged_userfaultfd allows it; or restore without --lazy-pages",
    },
    Area {
        modules: &[
            "page-xfer",
            "page-pipe",
            "page-read",
            "pagemap",
            "pagemap-cache",
            "pr",
        ],
        files: &[
            "page-xfer.c",
            "page-pipe.c",
            "pagemap.c",
            "page-read.c",
            "pagemap-cache.c",
        ],
        does: "moves memory pages between processes, images and the page server",
        remedy: "check the disk space and the chain of parent images (--prev-images-dir, --track-mem); make a full dump when the chain does not fit; check that the page server runs",
    },
    Area {
        modules: &["shmem", "hugetlb"],
        files: &["shmem.c", "hugetlb.c"],
        does: "saves and restores shared memory",
        remedy: "check memory and shared memory limits (kernel.shmmax, /dev/shm size, hugepages)",
    },
    Area {
        modules: &["memfd"],
        files: &["memfd.c"],
        does: "saves and restores memfd files",
        remedy: "use a newer CRIU and kernel",
    },
    Area {
        modules: &[],
        files: &["mem.c"],
        does: "saves and restores the memory of processes",
        remedy: "check memory, swap and limits; for incremental dumps check --track-mem and --prev-images-dir",
    },
    Area {
        modules: &["fsnotify", "irmap"],
        files: &["fsnotify.c", "irmap.c"],
        does: "handles inotify and fanotify watches",
        remedy: "use --force-irmap (with --irmap-scan-path) to let CRIU search for the watched files, or let the program drop its watches",
    },
    Area {
        modules: &["epoll", "eventfd", "sfd", "timerfd", "pidfd", "bpfmap"],
        files: &[
            "eventpoll.c",
            "eventfd.c",
            "signalfd.c",
            "timerfd.c",
            "pidfd.c",
            "bpfmap.c",
        ],
        does: "handles special descriptors (epoll, eventfd, signalfd, timerfd, pidfd, BPF maps)",
        remedy: "find the descriptor in /proc/PID/fd and let the program close it, or use a newer CRIU and kernel",
    },
    Area {
        modules: &["seccomp"],
        files: &["seccomp.c"],
        does: "saves and restores seccomp filters",
        remedy: "run CRIU itself without seccomp (unconfined) and with CAP_SYS_ADMIN; the kernel needs CONFIG_SECCOMP_FILTER and CONFIG_CHECKPOINT_RESTORE",
    },
    Area {
        modules: &["apparmor", "lsm"],
        files: &["lsm.c", "apparmor.c"],
        does: "handles security labels (AppArmor, SELinux)",
        remedy: "load the same AppArmor profile or SELinux policy on this machine, or give another with --lsm-profile",
    },
    Area {
        modules: &["cpu", "x86", "xsave", "fpu", "shstk"],
        files: &["cpu.c", "cpuinfo.c", "crtools.c", "shstk.c"],
        does: "compares CPU features and saves registers",
        remedy: "restore on a CPU with at least the same features, or relax the check with --cpu-cap (none, or fpu, cpu, ins)",
    },
    Area {
        modules: &["vdso"],
        files: &["vdso.c", "util-vdso.c", "parasite-vdso.c"],
        does: "handles the vDSO, code that the kernel maps into every process",
        remedy: "use a CRIU as new as the kernel: the vDSO changes with kernel versions; delete /run/criu.kdat after changing the kernel",
    },
    Area {
        modules: &["rseq"],
        files: &[],
        does: "handles restartable sequences (rseq), which glibc 2.35 and newer uses",
        remedy: "use CRIU 3.17 or newer",
    },
    Area {
        modules: &["plugin", "cuda_plugin", "amdgpu_plugin"],
        files: &[
            "plugin.c",
            "cuda_plugin.c",
            "amdgpu_plugin.c",
            "amdgpu_plugin_topology.c",
            "amdgpu_plugin_drm.c",
            "amdgpu_plugin_util.c",
        ],
        does: "runs plugins, which handle devices such as GPUs",
        remedy: "check that plugin, driver and tool (cuda-checkpoint) versions fit each other; remove a plugin you do not need from the plugin directory (--libdir)",
    },
    Area {
        modules: &["tls"],
        files: &["tls.c"],
        does: "secures the connection to the page server",
        remedy: "check the certificates given with --tls-cacert, --tls-cert and --tls-key on both sides",
    },
    Area {
        modules: &["uns"],
        files: &["namespaces.c", "pid_ns.c", "uts_ns.c", "timens.c"],
        does: "saves and rebuilds namespaces",
        remedy: "check that the kernel has the namespace kinds used, and that CRIU has the privileges to create them (not in an unprivileged user namespace)",
    },
    Area {
        modules: &[],
        files: &["ipc_ns.c"],
        does: "saves and rebuilds System V IPC objects",
        remedy: "check kernel.shmmax, kernel.msgmax, kernel.sem and the objects with ipcs",
    },
    Area {
        modules: &["sysctl"],
        files: &["sysctl.c"],
        does: "reads and writes kernel settings below /proc/sys",
        remedy: "--weak-sysctls skips settings that this kernel does not have",
    },
    Area {
        modules: &[],
        files: &[
            "files-reg.c",
            "files.c",
            "files-ext.c",
            "fdstore.c",
            "fifo.c",
            "pipes.c",
        ],
        does: "saves and reopens files",
        remedy: "the same files must exist at the same paths with the same size and mode at restore; --link-remap and --ghost-limit for deleted files, --external file[MNT:INODE] and --inherit-fd for files that the caller gives",
    },
    Area {
        modules: &[],
        files: &["file-lock.c"],
        does: "handles file locks",
        remedy: "use --file-locks",
    },
    Area {
        modules: &[],
        files: &[
            "infect.c",
            "infect-rpc.c",
            "ptrace.c",
            "parasite-syscall.c",
            "parasite.c",
            "seize.c",
        ],
        does: "stops processes with ptrace and runs code inside them",
        remedy: "make sure no debugger or tracer (gdb, strace) holds the process, that CRIU has CAP_SYS_PTRACE and CAP_SYS_ADMIN (kernel.yama.ptrace_scope, seccomp, SELinux execmem), and that CRIU is as new as the kernel",
    },
    Area {
        modules: &[],
        files: &["proc_parse.c"],
        does: "reads /proc",
        remedy: "CRIU must be as new as the kernel, run as root, and see a /proc of the right pid namespace",
    },
    Area {
        modules: &[],
        files: &["restorer.c", "cr-restore.c", "rst-malloc.c"],
        does: "rebuilds the processes",
        remedy: "restore with the privileges, limits and kernel features of the dump; look for errors of the same pid just before",
    },
    Area {
        modules: &[],
        files: &["pstree.c"],
        does: "rebuilds the process tree with its sessions and process groups",
        remedy: "use --shell-job if the root process is not a session leader, or start it with setsid",
    },
    Area {
        modules: &[],
        files: &["image.c", "protobuf.c", "image-desc.c", "bfd.c"],
        does: "reads and writes image files",
        remedy: "check that the images directory (-D) is the right one, complete, not truncated and written by the same or an older CRIU",
    },
    Area {
        modules: &[],
        files: &["kerndat.c", "cr-check.c"],
        does: "finds out what the kernel can do when it starts",
        remedy: "run CRIU as root, privileged and without a seccomp filter; use a kernel with CONFIG_CHECKPOINT_RESTORE=y; delete /run/criu.kdat after changing kernel or CRIU; upgrade CRIU to one as new as the kernel",
    },
    Area {
        modules: &[],
        files: &["cr-service.c"],
        does: "serves requests (RPC)",
        remedy: "check the request's options: images directory, log file, paths and descriptors",
    },
    Area {
        modules: &[],
        files: &["config.c"],
        does: "reads options and configuration files",
        remedy: "check the options and /etc/criu/default.conf, ~/.criu/default.conf",
    },
    Area {
        modules: &[],
        files: &["action-scripts.c"],
        does: "runs action scripts",
        remedy: "run the script by hand and look at its output",
    },
    Area {
        modules: &[],
        files: &["util.c", "util.h", "log.c", "servicefd.c"],
        does: "starts helper programs and handles descriptors",
        remedy: "look at the output of the program around this line",
    },
    Area {
        modules: &[],
        files: &["autofs.c"],
        does: "handles automounts",
        remedy: "stop the automounter or make the mount external",
    },
    Area {
        modules: &[],
        files: &["kcmp-ids.c"],
        does: "compares descriptors with the kcmp system call",
        remedy: "the kernel needs CONFIG_CHECKPOINT_RESTORE or CONFIG_KCMP, and CRIU the capability CAP_SYS_PTRACE",
    },
    Area {
        modules: &[],
        files: &["aio.c"],
        does: "handles asynchronous I/O",
        remedy: "let pending I/O finish",
    },
];
