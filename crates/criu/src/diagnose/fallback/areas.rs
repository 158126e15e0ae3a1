//! What the parts of CRIU do, by the module or source file that a line names.

pub(super) struct Area {
    pub(super) modules: &'static [&'static str],
    pub(super) files: &'static [&'static str],
    pub(super) does: &'static str,
    pub(super) remedy: &'static str,
}

pub(super) const AREAS: &[Area] = &[
    Area {
        modules: &["mnt", "mnt-v2"],
        files: &["mount.c", "mount-v2.c", "filesystems.c", "sysfs_parse.c"],
        does: "saves and rebuilds mounts",
        remedy: "look at the mount named: make it --external mnt[PATH]:KEY (dump) and \
                mnt[KEY]:PATH (restore), leave it out with --skip-mnt, or unmount it in the \
                container; for a mount shared with the outside use --enable-external-masters, or mount --make-rprivate \
                before the start; --mntns-compat-mode switches to the older mount engine on restore; \
                checkpoint containers through their runtime (podman, runc, lxc-checkpoint), \
                which passes the mounts",
    },
    Area {
        modules: &["tty"],
        files: &["tty.c"],
        does: "handles terminals",
        remedy: "use --shell-job for a process that shares its terminal with a shell, or start \
                it with setsid and its standard files redirected to files or /dev/null",
    },
    Area {
        modules: &["cg", "cg-prop", "cgroupd"],
        files: &["cgroup.c", "cgroup-props.c"],
        does: "saves and rebuilds control groups",
        remedy: "use --manage-cgroups=ignore (or none, soft) to leave cgroups alone, or \
                --cgroup-root to place them elsewhere; both machines should use the same \
                cgroup version and controllers",
    },
    Area {
        modules: &["net", "nf", "tun"],
        files: &["net.c", "netfilter.c", "libnetlink.c", "tun.c"],
        does: "saves and rebuilds network namespaces, locks the network and runs ip, \
                iptables and nft",
        remedy: "make sure iproute2 and iptables (or nft with --network-lock nftables) are \
                installed and their kernel modules loaded (xt_mark, veth, bridge, tun); delete leftover \
                interfaces (ip link del) and CRIU's leftover rules; CAP_NET_ADMIN is needed; \
                --network-lock skip avoids locking, --empty-ns net leaves the network namespace to \
                scripts",
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
        remedy: "use --tcp-established to keep TCP connections, --tcp-close to drop them, \
                --skip-in-flight for connections being opened; the same IP addresses must \
                exist at restore",
    },
    Area {
        modules: &["unix", "sk unix"],
        files: &["sk-unix.c"],
        does: "saves and restores UNIX sockets",
        remedy: "use --ext-unix-sk (or --external unix[INODE]) for sockets whose peer is \
                outside the dumped tree, dump the peer's process (the parent) too, or close the \
                connection before the dump; remove a stale socket file before the restore",
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
        remedy: "check that the lazy-pages daemon runs with the same images directory, that \
                the kernel has CONFIG_USERFAULTFD and that vm.unprivileged_userfaultfd allows \
                it; or restore without --lazy-pages",
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
        remedy: "check the disk space and the chain of parent images (--prev-images-dir, \
                --track-mem); make a full dump when the chain does not fit; check that the \
                page server runs",
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
        remedy: "check memory, swap and limits; for incremental dumps check --track-mem and \
                --prev-images-dir",
    },
    Area {
        modules: &["fsnotify", "irmap"],
        files: &["fsnotify.c", "irmap.c"],
        does: "handles inotify and fanotify watches",
        remedy: "use --force-irmap (with --irmap-scan-path) to let CRIU search for the watched \
                files, or let the program drop its watches",
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
        remedy: "find the descriptor in /proc/PID/fd and let the program close it, or use a \
                newer CRIU and kernel",
    },
    Area {
        modules: &["seccomp"],
        files: &["seccomp.c"],
        does: "saves and restores seccomp filters",
        remedy: "run CRIU itself without seccomp (unconfined) and with CAP_SYS_ADMIN; the \
                kernel needs CONFIG_SECCOMP_FILTER and CONFIG_CHECKPOINT_RESTORE",
    },
    Area {
        modules: &["apparmor", "lsm"],
        files: &["lsm.c", "apparmor.c"],
        does: "handles security labels (AppArmor, SELinux)",
        remedy: "load the same AppArmor profile or SELinux policy on this machine, or give \
                another with --lsm-profile",
    },
    Area {
        modules: &["cpu", "x86", "xsave", "fpu", "shstk"],
        files: &["cpu.c", "cpuinfo.c", "crtools.c", "shstk.c"],
        does: "compares CPU features and saves registers",
        remedy: "restore on a CPU with at least the same features, or relax the check with \
                --cpu-cap (none, or fpu, cpu, ins)",
    },
    Area {
        modules: &["vdso"],
        files: &["vdso.c", "util-vdso.c", "parasite-vdso.c"],
        does: "handles the vDSO, code that the kernel maps into every process",
        remedy: "use a CRIU as new as the kernel: the vDSO changes with kernel versions; \
                delete /run/criu.kdat after changing the kernel",
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
        remedy: "check that plugin, driver and tool (cuda-checkpoint) versions fit each other; \
                remove a plugin you do not need from the plugin directory (--libdir)",
    },
    Area {
        modules: &["tls"],
        files: &["tls.c"],
        does: "secures the connection to the page server",
        remedy: "check the certificates given with --tls-cacert, --tls-cert and --tls-key on \
                both sides",
    },
    Area {
        modules: &["uns"],
        files: &["namespaces.c", "pid_ns.c", "uts_ns.c", "timens.c"],
        does: "saves and rebuilds namespaces",
        remedy: "check that the kernel has the namespace kinds used, and that CRIU has the \
                privileges to create them (not in an unprivileged user namespace)",
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
        remedy: "the same files must exist at the same paths with the same size and mode at \
                restore; --link-remap and --ghost-limit for deleted files, --external \
                file[MNT:INODE] and --inherit-fd for files that the caller gives; remove what an \
                earlier try left (link_remap.*, *.ghost)",
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
        remedy: "make sure no debugger or tracer (gdb, strace) holds the process, that CRIU \
                has CAP_SYS_PTRACE and CAP_SYS_ADMIN (kernel.yama.ptrace_scope, seccomp, \
                SELinux execmem), and that CRIU is as new as the kernel",
    },
    Area {
        modules: &[],
        files: &["proc_parse.c"],
        does: "reads /proc",
        remedy: "CRIU must be as new as the kernel, run as root, and see a /proc of the right \
                pid namespace",
    },
    Area {
        modules: &[],
        files: &["restorer.c", "cr-restore.c", "rst-malloc.c"],
        does: "rebuilds the processes",
        remedy: "restore with the privileges (root, CAP_SYS_ADMIN, CAP_CHECKPOINT_RESTORE), limits, \
                libraries and kernel features of the dump; the same pids must be free (kill who \
                holds them, or restore in a new pid namespace with criu-ns or unshare -p); look for \
                errors of the same pid just before",
    },
    Area {
        modules: &[],
        files: &["pstree.c"],
        does: "rebuilds the process tree with its sessions and process groups",
        remedy: "use --shell-job if the root process is not a session leader, or start it with \
                setsid",
    },
    Area {
        modules: &[],
        files: &["image.c", "protobuf.c", "image-desc.c", "bfd.c"],
        does: "reads and writes image files",
        remedy: "check that the images directory (-D) is the right one, complete, not \
                truncated and written by the same or an older CRIU",
    },
    Area {
        modules: &[],
        files: &["kerndat.c", "cr-check.c"],
        does: "finds out what the kernel can do when it starts",
        remedy: "run CRIU as root, privileged and without a seccomp filter; use a kernel with \
                CONFIG_CHECKPOINT_RESTORE=y; delete /run/criu.kdat after changing kernel or \
                CRIU; upgrade CRIU to one as new as the kernel",
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
        remedy: "the kernel needs CONFIG_CHECKPOINT_RESTORE or CONFIG_KCMP, and CRIU the \
                capability CAP_SYS_PTRACE",
    },
    Area {
        modules: &[],
        files: &["aio.c"],
        does: "handles asynchronous I/O",
        remedy: "let pending I/O finish",
    },
];
