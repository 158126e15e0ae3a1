//! Lines of successful runs that look like trouble.

use super::super::rule::{Group, Rule, clue, noise};

pub(super) const RULES: &[Rule] = &[
    noise(
        Group::Process,
        "rlimit-self",
        &["Can't setup RLIMIT_NOFILE for self"],
    )
    .cause(
        "CRIU could not raise its own limit of open files; it matters only for processes \
            with very many",
    )
    .remedy("run as root, or raise ulimit -n")
    .examples(&[
        "Error (criu/crtools.c:222): rlimir: Can't setup RLIMIT_NOFILE for self: \
                Operation not permitted",
    ]),
    noise(
        Group::Mount,
        "binfmt-misc",
        &[
            "Unable to create the binfmt_misc file system",
            "Unable to mount the binfmt_misc file system",
            "Can't mount binfmt_misc",
        ],
    )
    .cause("CRIU looked for binfmt_misc and may not mount it (in a container)")
    .remedy("nothing; or modprobe binfmt_misc and run privileged")
    .examples(&[
        "Error (criu/util.c:1625): Unable to create the binfmt_misc file system: \
                Operation not permitted",
    ]),
    noise(
        Group::Memory,
        "no-parent-image",
        &["No parent image found, though parent directory is set"],
    )
    .cause(
        "an object of the final dump has no image in the previous one, since it is new; it \
            is dumped whole: spurious message, no error",
    )
    .remedy("nothing: dump and restore succeed")
    .examples(&[
        "Error (criu/page-xfer.c:400): page-xfer: No parent image found, though parent \
                directory is set: No such file or directory",
    ]),
    noise(
        Group::Images,
        "parent-directory",
        &[
            "Failed to open parent directory",
            "Failed to open parent pre-dump inventory image",
            "Failed to read parent pre-dump inventory entry",
            "Parent pre-dump inventory has no uptime",
            "Absolute paths for parent links may not work on restore",
        ],
    )
    .warnings()
    .cause("there is no previous dump, or it lacks something that is not needed")
    .remedy("nothing for a full dump; give --prev-images-dir for an incremental one")
    .examples(&["Warn  (criu/image.c:134): Failed to open parent directory"]),
    noise(
        Group::Kernel,
        "kdat-cache",
        &[
            "Can't load /run/criu.kdat",
            "Can't keep kdat cache on non-tempfs",
            "Stale {path} file",
            "Couldn't save {path}.kdat",
            "Couldn't save {path}",
            "$XDG_RUNTIME_DIR not set",
        ],
    )
    .cause("CRIU keeps what it learnt about the kernel in a cache file, and could not")
    .remedy("nothing; CRIU looks again each time")
    .examples(&["Warn  (criu/kerndat.c:792): Can't load /run/criu.kdat"]),
    noise(
        Group::Kernel,
        "kernel-probe",
        &[
            "Can't get pidfd",
            "Unable to get {what} network namespace",
            "NSID isn't reported for network links",
            "Unable to create a netlink socket: NSID can't be used",
            "Can't create nftables table",
            "CRIU was built without libnftables support",
            "CRIU was built without nftables support",
            "Hardware breakpoints don't seem to work",
            "prctl PR_SET_THP_DISABLE",
            "Unable to open a socket file",
            "ioctl(PAGEMAP_SCAN) doesn't support PAGE_IS_GUARD flag",
            "The kernel doesn't support",
            "Unexpected error from clone3: ",
            "got non-present PFN",
            "Unsupported stack guard detected",
            "Can't fetch file_stat",
            "Couldn't find iptables version which is using iptables legacy API",
            "Couldn't find ip6tables version",
            "Dirty tracking is OFF",
            "Loginuid restore is OFF",
            "compat_cr is not supported",
            "isn't supported",
            "is not supported. This is not fatal",
            "clone3() with set_tid not supported",
            "Fail to rmdir",
            "Fail to umount2",
            "reported by netlink",
            "Generating dynamic descriptor for plugin",
            "The pagemap cache is disabled",
            "Check if \"ip rule save\" is supported",
            "TCP mem sysctls are not available",
            "The memory limits for TCP queues are suspiciously small",
            "Pidfd store requires",
            "CRIU was built without CONFIG_COMPAT",
            "Do not have API to map vDSO",
            "TCP_REPAIR isn't available to unprivileged users",
        ],
    )
    .warnings()
    .cause("CRIU tried out what the kernel can do; it goes on without this")
    .remedy("nothing, unless the processes need it; a newer kernel has it")
    .examples(&[
        "Warn  (criu/kerndat.c:1518): Can't get pidfd",
        "Warn  (criu/net.c:2780): Unable to get socket network namespace",
        "Warn  (criu/libnetlink.c:55): ERROR -95 reported by netlink",
    ]),
    noise(
        Group::Process,
        "loginuid-probe",
        &[
            "to /proc/self/loginuid failed",
            "Unable to read /proc/{pid}/loginuid",
        ],
    )
    .any_line()
    .cause("CRIU tried whether it may set the audit login uid; it goes on without")
    .remedy("nothing; CAP_AUDIT_CONTROL would allow it")
    .examples(&[
        "Write 4294967295 to /proc/self/loginuid failed: Operation not permitted",
        "(00.000232) Error (proc_parse.c:824): Write 4294967295 to /proc/self/loginuid \
                failed: Invalid argument",
    ]),
    noise(
        Group::Process,
        "interrupted-syscall",
        &["Will restore {pid} with interrupted system call"],
    )
    .cause("a system call of the task was interrupted, as signals do")
    .remedy("nothing")
    .examples(&[
        "Warn  (compel/arch/x86/src/lib/infect.c:419): Will restore 1697352 with \
                interrupted system call",
    ]),
    noise(
        Group::Net,
        "address-exists",
        &[
            "RTNETLINK answers: File exists",
            "Address already assigned",
            "address already assigned",
        ],
    )
    .any_line()
    .cause("ip restored an address or route that the kernel had set by itself (loopback)")
    .remedy("nothing")
    .examples(&[
        "b'Error: ipv4: Address already assigned.'",
        "RTNETLINK answers: File exists",
    ]),
    noise(
        Group::Process,
        "restore-warnings",
        &[
            "Set CLONE_PARENT | CLONE_NEWPID but it might cause restore problem",
            "Stopped and detached shell job will get SIGHUP from OS",
            "has pdeath_sig configured",
            "Dumpable flag not present in criu dump",
            "Dumpable flag [{x}] does not match",
            "Unable to drop capability {x} from bset",
            "Dropping unsupported capability",
            "Disabling transparent huge pages",
            "Using -t with criu restore is obsoleted",
            "--network-lock will be ignored in restore command",
            "Exit with non fatal signal ignored",
            "Can't restore vvar - continuing regardless",
            "FPU is about to restore ignoring",
            "Couldn't unlink remap",
            "Can't unlink socket",
            "Can't unlink stale socket",
            "Restoring task with shadow stack on non-CET machine",
            "might fail after restore",
        ],
    )
    .warnings()
    .cause("CRIU warns about something it handles itself")
    .remedy("nothing, usually")
    .examples(&[
        "Warn  (criu/cr-restore.c:849): Set CLONE_PARENT | CLONE_NEWPID but it might \
                cause restore problem,because not all kernels support such clone flags \
                combinations!",
    ]),
    noise(
        Group::Files,
        "link-attempt",
        &["Can't link {from} -> {to}", "Failed to restore old fsuid"],
    )
    .files(&["files-reg.c"])
    .except(&[".ghost"])
    .cause("CRIU tried one way to link a deleted file back and goes on with another")
    .remedy("nothing by itself")
    .examples(&["Warn  (criu/files-reg.c:1881): Can't link  -> ./dev/shm/link_remap.635"]),
    noise(
        Group::Files,
        "build-id-probe",
        &[
            "Couldn't find any program headers for file",
            "Build-ID (For validation) could not be",
            "Invalid description size for build-id note",
            "Couldn't mmap file with fd",
            "No build-ID note",
        ],
    )
    .cause("a file has no build-id to compare at restore; its size is compared instead")
    .remedy("nothing")
    .examples(&[
        "Warn  (criu/files-reg.c:1500): Couldn't find any program headers for file \
                with fd 3",
    ]),
    noise(
        Group::Special,
        "fsnotify-warnings",
        &[
            "inotify events will be dropped",
            "fanotify events will be dropped",
            "Detected FS_EVENT_ON_CHILD bit in mask",
            "Can't open mount for s_dev",
        ],
    )
    .cause("pending file notifications are lost; the watches stay")
    .remedy("nothing, usually")
    .examples(&[
        "Warn  (criu/fsnotify.c:280): fsnotify: The 0x00000001 inotify events will be \
                dropped",
    ]),
    noise(
        Group::Inet,
        "queue-warnings",
        &[
            "Write queue of the {ino} socket isn't empty",
            "Read queue is dropped for socket",
            "Unix SCM files are not verified",
            "Can't check shutdown state of inet socket",
            "No socket shutdown info",
            "Shutdown mismatch",
            "Window parameters are not restored",
            "Trying to resolve unix socket with obsolete method",
            "Can't stat socket",
        ],
    )
    .cause(
        "some datagrams in socket queues are dropped, or a socket's state is not known \
            exactly",
    )
    .remedy("nothing, usually: datagrams may be lost as on any network")
    .examples(&["Warn  (criu/sk-inet.c:200): inet: Write queue of the 1f socket isn't empty"]),
    noise(
        Group::Mount,
        "mount-warnings",
        &[
            "Can't get root fd of mntns for",
            "Can't fstatat on",
            "Can't create a temporary directory",
            "has both unbindable and sharing, ignoring unbindable",
            "The file system {dev} is inaccessible",
        ],
    )
    .files(&["mount.c"])
    .warnings()
    .cause("CRIU could not reach a mount in one way and tries others")
    .remedy("nothing by itself")
    .examples(&[
        "Warn  (criu/mount.c:1000): mnt: Can't create a temporary directory: Read-only \
                file system",
    ]),
    noise(
        Group::Net,
        "sysctl-skip",
        &[
            "Skip {path}/{name}",
            "The image contains unknown sysctl-s",
            "veth is in an external netns",
            "GRE tap device",
            "GRE tunnel device",
        ],
    )
    .files(&["net.c"])
    .cause(
        "a setting or link that this kernel does not have, or that needs no care, is \
            skipped",
    )
    .remedy("nothing")
    .examples(&["Warn  (criu/net.c:300): net: Skip ipv4/x"]),
    noise(
        Group::Gpu,
        "rseq-critical",
        &[
            "task is in rseq critical section",
            "Skylake xsave fpu bug workaround used",
            "max xsave frame exceed",
            "misordered xstate",
            "Mark in rt-vdso points to vma",
            "Suspiciously short VMA",
            "Stopped tasks are not supported",
            "Can't cure failed infection",
            "Pid reuse detected for pid",
            "Pid reuse{x} detected for pid",
            "Clocks values have not been dumped",
            "child - parent mountpoint mismatch",
        ],
    )
    .cause("CRIU notes a special case that it handles")
    .remedy("nothing")
    .examples(&[
        "Warn  (criu/cr-dump.c:900): The 12 task is in rseq critical section. IP will \
                be set to rseq abort handler addr",
    ]),
    noise(
        Group::Options,
        "obsolete-option",
        &[
            "Using --address or --port in combination with --ps-socket is obsolete",
            "status_fd is obsoleted",
            "Binding to local dir address",
            "Feature checking for unknown feature",
            "join-ns with user-namespace is not fully tested",
            "The early log buffer is full",
            "The early log isn't empty",
            "Failed to find pipe_ino option",
        ],
    )
    .cause("an option or way of use is old-fashioned")
    .remedy("nothing")
    .examples(&[
        "Warn  (criu/cr-service.c:600): status_fd is obsoleted; use status-ready \
                notification instead",
    ]),
    clue(
        Group::Process,
        "wrapper-failure",
        &[
            "criu failed: type {type} errno {errno}",
            "CRIU checkpointing failed {type}{errno}",
            "CRIU restoring failed {type}{errno}",
        ],
    )
    .any_line()
    .cause(
        "the container runtime (runc, crun) reports that CRIU failed (request {type}, \
            errno {errno}); the reason is in CRIU's own log, which the message names",
    )
    .remedy(
        "read CRIU's log (dump.log or restore.log in the work directory that the runtime \
            names; podman: container's userdata directory, or --print-stats/--keep; runc: \
            --work-path) and explain that",
    )
    .examples(&["Error: criu failed: type NOTIFY errno 0"]),
    noise(
        Group::Process,
        "freezer-extra",
        &["in the freezer cgroup (status"],
    )
    .warnings()
    .cause(
        "a process outside of the dumped tree is in the container's freezer cgroup \
            (started with exec or attach)",
    )
    .remedy("nothing by itself; end such processes if the dump fails")
    .examples(&[
        "Warn  (criu/seize.c:400): Unexpected process 3 in the freezer cgroup (status \
                0x57f)",
    ]),
    noise(
        Group::Special,
        "irmap-scan",
        &["Can't stat /no-such-path", "irmap: Can't stat"],
    )
    .cause("CRIU looked for a watched file in many places, some of which do not exist")
    .remedy("nothing by itself")
    .examples(&[
        "(00.174208) Error (irmap.c:81): irmap: Can't stat /no-such-path: No such file \
                or directory",
    ]),
    noise(
        Group::Net,
        "sysctl-probe",
        &[
            "Can't open sysctl net/ipv4/tcp_rmem",
            "Can't open sysctl net/ipv4/tcp_wmem",
            "Can't open sysctl net/core",
            "Can't read sysctl net/ipv4/tcp",
        ],
    )
    .cause("CRIU asked for limits of TCP memory that this network namespace does not have")
    .remedy("nothing")
    .examples(&[
        "(00.000167) Error (sysctl.c:142): Can't open sysctl net/ipv4/tcp_rmem: No \
                such file or directory",
    ]),
    noise(
        Group::Net,
        "veth-probe",
        &["Unable to create a veth pair: -95"],
    )
    .files(&["net.c", "kerndat.c"])
    .cause(
        "CRIU tried whether veth pairs can be made in another namespace; an older kernel \
            cannot",
    )
    .remedy("nothing")
    .examples(&["Error (criu/net.c:3085): Unable to create a veth pair: \
                -95\nWarn  (criu/net.c:3107): NSID isn't reported for network links"]),
    noise(
        Group::Tools,
        "iptables-wait-probe",
        &[
            "iptables-restore: invalid option -- 'w'",
            "ip6tables-restore: invalid option -- 'w'",
        ],
    )
    .foreign()
    .cause(
        "CRIU tried whether iptables-restore knows -w; this old one does not, and is run \
            without",
    )
    .remedy("nothing; a newer iptables has it")
    .examples(&["iptables-restore: invalid option -- 'w'"]),
    noise(
        Group::Memory,
        "lazy-pages-probe",
        &["Lazy pages are not available: Function not implemented"],
    )
    .cause("the kernel has no userfaultfd, which only lazy restore needs")
    .remedy("nothing, unless --lazy-pages is used: then use a kernel with CONFIG_USERFAULTFD=y")
    .examples(&[
        "Error (criu/uffd.c:235): uffd: Lazy pages are not available: Function not \
                implemented",
    ]),
];
