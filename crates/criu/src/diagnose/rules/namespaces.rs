//! Namespaces and user mappings.

use super::super::rule::{Group, Rule, cause, clue, consequence};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Namespaces,
        "nested-timens",
        &["Can't dump nested time namespace for {pid}"],
    )
    .cause(
        "task {pid} lives in a time namespace of its own (nested, another than the root \
            task's), which CRIU does not support",
    )
    .remedy(
        "start that task without its own time namespace (unshare without -T/--time; some \
            container and sandbox tools create a timens), or dump only it",
    )
    .examples(&[
        "b\"(00.000806) Error (criu/namespaces.c:460): Can't dump nested time \
                namespace for 51\"",
    ]),
    cause(
        Group::Namespaces,
        "nested-ns",
        &["Can't dump nested {kind} namespace for {pid}"],
    )
    .cause(
        "task {pid} lives in a {kind} namespace of its own inside the tree (nested \
            namespace), which CRIU does not support for this kind",
    )
    .remedy(
        "do not nest: run without the tool that creates the {kind} namespace (docker or \
            podman in a container, unshare, Chromium/browser sandbox, bubblewrap/flatpak, \
            systemd PrivateUsers/PrivateNetwork), or dump that task's subtree by itself; newer \
            CRIU supports more kinds (nested pid: not yet, network, mount, ipc and uts: yes)",
    )
    .examples(&["Error (criu/namespaces.c:400): Can't dump nested user namespace for 12"]),
    cause(
        Group::Namespaces,
        "pidns-no-init",
        &["Can't dump a pid namespace without the process init"],
    )
    .during(Operation::Dump)
    .cause(
        "the process lives in a pid namespace (container), and its init (pid 1 there) is \
            not part of the dumped tree",
    )
    .remedy(
        "dump the container from its init process (the pid of the container's first \
            process on the host), or run the program in the host's pid namespace",
    )
    .examples(&[
        "Error (criu/namespaces.c:1200): Can't dump a pid namespace without the \
                process init",
    ]),
    cause(
        Group::Namespaces,
        "subtask-ns",
        &["Can't restore sub-task in NS"],
    )
    .during(Operation::Restore)
    .cause("a child process of the tree has namespaces of its own that cannot be restored")
    .remedy("do not let children create namespaces (sandbox, nested containers); upgrade CRIU")
    .examples(&["Error (criu/pstree.c:900): Can't restore sub-task in NS (cflags 10000000)"]),
    cause(
        Group::Namespaces,
        "join-ns",
        &[
            "join-ns pid namespace not supported{arg}",
            "Invalid join_ns pid {arg}",
            "Can't access join-ns file {arg}",
            "Failed to setns when join-ns {arg}",
            "invalid user namespace extra_opts {arg}",
            "invalid namespace type {arg}",
            "Conflicting flags: --join-ns and --empty-ns{arg}",
        ],
    )
    .cause("a --join-ns argument cannot be used: {arg}")
    .remedy(
        "give --join-ns KIND:PID or KIND:/path/to/ns of an existing namespace (net, uts, \
            ipc, mnt, user, time; not pid), as root",
    )
    .examples(&[
        "Error (criu/namespaces.c:100): join-ns pid namespace not supported",
        "Error (criu/namespaces.c:90): Invalid join_ns pid x",
    ]),
    cause(
        Group::Namespaces,
        "external-netns",
        &["Unable to find an external netns: {key}"],
    )
    .during(Operation::Restore)
    .cause(
        "the network namespace was dumped as external ({key}), and restore was not given \
            one",
    )
    .remedy(
        "restore with --inherit-fd fd[N]:{key}, where descriptor N is the network \
            namespace file (/proc/PID/ns/net, /var/run/netns/NAME), with the same key as \
            --external net[INODE]:{key} at the dump; runc and podman do it: use the same \
            version",
    )
    .examples(&[
        "  1: Error (criu/net.c:2500): net: Unable to find an external netns: \
                extRootNetNS",
    ]),
    cause(
        Group::Namespaces,
        "external-pidns",
        &[
            "Unable to find an external pidns: {key}",
            "Unable to enter existing PID namespace{key}",
        ],
    )
    .during(Operation::Restore)
    .cause("the pid namespace was dumped as external, and restore was not given one")
    .remedy(
        "restore with --inherit-fd fd[N]:KEY naming the pid namespace (--external \
            pid[INODE]:KEY at the dump)",
    )
    .examples(&["Error (criu/cr-restore.c:1100): Unable to find an external pidns: extRootPidNS"]),
    cause(
        Group::Namespaces,
        "empty-netns",
        &[
            "Unable to dump more than one netns if the --emptyns is set",
            "Unable to dump a socket from an external network namespace",
        ],
    )
    .cause(
        "the tree has a network namespace that cannot be dumped with these options: \
            several of them with --empty-ns net, or a socket of one outside (external)",
    )
    .remedy(
        "leave --empty-ns net away if the tree has nested network namespaces; close \
            sockets that come from another network namespace (inherited from the host)",
    )
    .examples(&[
        "Error (criu/net.c:3300): net: Unable to dump a socket from an external \
                network namespace",
    ]),
    cause(
        Group::Namespaces,
        "userns-prctl",
        &["PR_SET_MM_MAP is not supported, which is required for restoring user namespaces"],
    )
    .any_line()
    .cause("the kernel lacks what restoring user namespaces needs")
    .remedy("use kernel 3.18 or newer with CONFIG_CHECKPOINT_RESTORE")
    .examples(&[
        "prctl: PR_SET_MM_MAP is not supported, which is required for restoring user \
                namespaces",
    ]),
    clue(
        Group::Namespaces,
        "setns",
        &[
            "Can't setns {fd}/{kind}: {why}",
            "Can't open ns' {fd}{kind}{why}",
            "Can't open ns file{fd}{kind}{why}",
            "Can't unshare net-namespace{fd}{kind}{why}",
            "Unable to create a new netns{fd}{kind}{why}",
        ],
    )
    .cause("CRIU could not enter or create a namespace ({kind} {why})")
    .remedy(
        "run CRIU as root with CAP_SYS_ADMIN and CAP_SYS_PTRACE over the tasks' user \
            namespace (outside the container, privileged)",
    )
    .examples(&["Error (criu/namespaces.c:350): Can't setns 12/net: Operation not permitted"]),
    cause(
        Group::Namespaces,
        "timens-offset",
        &[
            "Unable to set a monotonic clock offset",
            "Unable to set a boottime clock offset",
            "Unable to create a new time namespace",
            "Unable to open ns/time_for_children",
        ],
    )
    .during(Operation::Restore)
    .cause("a time namespace with the clocks of the dumped machine could not be made")
    .remedy(
        "use a kernel 5.11+ with CONFIG_TIME_NS=y, run as root with CAP_SYS_TIME; upgrade \
            CRIU",
    )
    .examples(&[
        "  1: Error (criu/timens.c:80): timens: Unable to set a monotonic clock \
                offset: Numerical result out of range",
    ]),
    cause(
        Group::Special,
        "ipc-restore",
        &[
            "Failed to set desired IPC {kind} ID",
            "Failed to restore {kind} id (",
            "/proc/sys/kernel/sem_next_id is inaccessible{kind}",
            "Failed to create {kind} set",
            "Failed to prepare IPC namespace variables{kind}",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "System V IPC objects could not be created with their old ids: the kernel lacks \
            CONFIG_CHECKPOINT_RESTORE (sem_next_id), the ids exist already, or CRIU may not \
            write the sysctls",
    )
    .remedy(
        "use a kernel with CONFIG_CHECKPOINT_RESTORE=y, restore in a fresh IPC namespace \
            as root, with /proc/sys writable",
    )
    .examples(&["  1: Error (criu/ipc_ns.c:600): Failed to set desired IPC sem ID"]),
    cause(
        Group::Special,
        "ipc-message-size",
        &["Unsupported message size: {size} (MAX: {max})"],
    )
    .cause("a System V message is larger ({size}) than kernel.msgmax ({max}) here")
    .remedy("raise kernel.msgmax")
    .examples(&["  1: Error (criu/ipc_ns.c:700): Unsupported message size: 9000 (MAX: 8192)"]),
    cause(
        Group::Net,
        "sysctl",
        &[
            "Can't open sysctl {name}: {why}",
            "Can't write sysctl {name}: {why}",
            "Can't read sysctl {name}: {why}",
        ],
    )
    .cause(
        "the kernel setting {name} cannot be used ({why}): this kernel does not have it, \
            or /proc/sys is read-only or protected",
    )
    .remedy(
        "use --weak-sysctls to skip settings that do not exist here; run privileged with a \
            writable /proc/sys; load the kernel module that owns the setting (nf_conntrack, \
            ipv6)",
    )
    .examples(&[
        "  1: Error (criu/sysctl.c:300): Can't open sysctl net/ipv4/conf/all/x: No \
                such file or directory",
    ]),
    clue(
        Group::Net,
        "sysctl-value",
        &[
            "Can't write {name}: Invalid argument",
            "Can't read {name}: Permission denied",
            "Failed to map ping_group_range: {name}",
        ],
    )
    .files(&["sysctl.c", "net.c"])
    .cause("the kernel setting {name} cannot be set to the value of the dump")
    .remedy("use --weak-sysctls, or reset the setting in the container before the dump")
    .examples(&["  1: Error (criu/sysctl.c:200): Can't write net/ipv4/x: Invalid argument"]),
    consequence(
        Group::Namespaces,
        "ns-id",
        &[
            "Can't make {kind} id",
            "Namespaces dumping finished with error {kind}",
            "worker failed: {kind}",
        ],
    )
    .cause("a namespace of a task could not be handled")
    .remedy("the reason stands before: a nested namespace, missing privileges or kernel support")
    .examples(&[
        "b\"(00.000807) Error (criu/namespaces.c:727): Can't make timens id\"",
        "Error (criu/namespaces.c:1400): Namespaces dumping finished with error 256",
    ]),
    clue(
        Group::Namespaces,
        "usernsd",
        &[
            "uns: daemon exited abnormally",
            "uns: Async call failed. Exiting",
            "failed to start usernsd",
            "uns: recv resp error",
        ],
    )
    .cause("CRIU's helper outside the user namespace failed")
    .remedy("look at the error before; run as root in the initial user namespace; upgrade CRIU")
    .examples(&["Error (criu/namespaces.c:1600): uns: daemon exited abnormally"]),
    cause(
        Group::Special,
        "ipc-next-id",
        &[
            "Can\'t open sysctl kernel/sem_next_id",
            "Can\'t open sysctl kernel/msg_next_id",
            "Can\'t open sysctl kernel/shm_next_id",
        ],
    )
    .except(&["is inaccessible"])
    .cause(
        "System V IPC objects cannot get their old ids: the kernel has no \
            kernel.sem_next_id and its like (CONFIG_CHECKPOINT_RESTORE), or /proc/sys is \
            read-only",
    )
    .remedy(
        "use a kernel with CONFIG_CHECKPOINT_RESTORE=y, and run privileged with a writable \
            /proc/sys",
    )
    .examples(&[
        "  1: Error (criu/sysctl.c:300): Can't open sysctl kernel/sem_next_id: No such \
                file or directory",
    ]),
];
