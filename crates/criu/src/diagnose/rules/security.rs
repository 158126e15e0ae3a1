//! Privileges, capabilities, seccomp and security modules.

use super::super::rule::{Group, Rule, cause, clue};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Security,
        "not-root",
        &[
            "You need to be root to run this command",
            "Running as non-root requires '--unprivileged'",
            "CRIU needs to have the CAP_SYS_ADMIN or the CAP_CHECKPOINT_RESTORE capability",
        ],
    )
    .any_line()
    .cause("CRIU was run as an ordinary user without the privileges it needs")
    .remedy(
        "run it as root (sudo), or give the binary CAP_CHECKPOINT_RESTORE (setcap \
            cap_checkpoint_restore,cap_sys_ptrace+eip criu) and use --unprivileged (CRIU \
            3.18+, kernel 5.9+)",
    )
    .examples(&[
        "Error (criu/util.c:900): You need to be root to run this command",
        "Running as non-root requires '--unprivileged'",
    ]),
    cause(
        Group::Security,
        "map-files",
        &[
            "Failed fstatat on map {map}: Operation not permitted",
            "Failed fstatat on map {map}: Permission denied",
            "mapfile link {map}: Operation not permitted",
            "mapfile link {map}: Permission denied",
            "/proc/<pid>/map_files is inaccessible{map}",
        ],
    )
    .cause(
        "CRIU may not read /proc/PID/map_files: it runs as an ordinary user or without \
            CAP_SYS_ADMIN / CAP_CHECKPOINT_RESTORE in the initial user namespace",
    )
    .remedy(
        "run CRIU as root (sudo) with CAP_SYS_ADMIN or, from kernel 5.9 on, \
            CAP_CHECKPOINT_RESTORE; in a container use --privileged or \
            --cap-add=SYS_ADMIN,CHECKPOINT_RESTORE; rootless containers cannot be checkpointed \
            so",
    )
    .examples(&[
        "Error (criu/proc_parse.c:211): Failed fstatat on map 400000: Operation not \
                permitted",
    ]),
    cause(
        Group::Kernel,
        "map-files-missing",
        &[
            "Can't open map_files",
            "/proc/<pid>/map_files directory is missing",
            "Can't open {pid}/map_files on procfs: No such file",
        ],
    )
    .cause("the kernel has no /proc/PID/map_files: CONFIG_CHECKPOINT_RESTORE is missing")
    .remedy(
        "use a kernel with CONFIG_CHECKPOINT_RESTORE=y (kernels before 4.3 need \
            CONFIG_EXPERT too); run CRIU as root",
    )
    .examples(&["Error (criu/proc_parse.c:600): Can't open map_files: No such file or directory"]),
    cause(
        Group::Security,
        "capabilities-restore",
        &[
            "Unable to restore capabil{code}",
            "Unable to drop capability {code}",
            "Unable to raise ambient capability {code}",
        ],
    )
    .despite_success()
    .during(Operation::Restore)
    .cause(
        "the capabilities of the task cannot be set: it had more at the dump (a \
            --privileged container) than this container or user namespace allows",
    )
    .remedy(
        "restore in a container with the same capabilities as at the dump (--privileged or \
            the same --cap-add list; CRIU itself needs CAP_SETPCAP), or dump from a container \
            without them",
    )
    .examples(&[
        "(00.250351) pie: 14: Error (criu/pie/restorer.c:297): Unable to restore \
                capabilities: -1",
    ]),
    cause(
        Group::Security,
        "credentials-restore",
        &[
            "Can't setgroups([{n}",
            "Unable to set real, effective and saved user ID: {n}",
            "Unable to set real, effective and saved group ID: {n}",
            "Can't setup supplementary group IDs: {n}",
            "Unable to set PR_SET_SECUREBITS: {n}",
            "Unable to set fsuid{n}",
            "Unable to set fsgid{n}",
            "cred pid {n}",
        ],
    )
    .any_line()
    .during(Operation::Restore)
    .cause(
        "user, group or security bits of the task cannot be set: CRIU lacks \
            CAP_SETUID/CAP_SETGID/CAP_SETPCAP here, or the ids are not mapped in this user \
            namespace",
    )
    .remedy(
        "run the restore as root with all capabilities; use the same uid/gid mapping \
            (subuid, --uidmap, --userns) as at the dump",
    )
    .examples(&[
        "pie: 12: Error (criu/pie/restorer.c:200): Unable to set real, effective and \
                saved user ID: -1",
    ]),
    cause(
        Group::Security,
        "too-many-caps",
        &["Kernel reports more capabilities than this CRIU supports"],
    )
    .cause("the kernel is newer than this CRIU: it has more capabilities than CRIU knows")
    .remedy("upgrade CRIU to a newer version")
    .examples(&[
        "Error (criu/kerndat.c:600): Kernel reports more capabilities than this CRIU \
                supports: 41 > 40",
    ]),
    cause(
        Group::Security,
        "seccomp-suspend",
        &["suspending seccomp failed: {why}"],
    )
    .cause(
        "the kernel refused PTRACE_O_SUSPEND_SECCOMP ({why}): CRIU itself runs under a \
            seccomp filter (in a container) or without CAP_SYS_ADMIN, or the kernel lacks it \
            (CONFIG_CHECKPOINT_RESTORE, 4.3+)",
    )
    .remedy(
        "run CRIU outside of the container, or unconfined: --security-opt \
            seccomp=unconfined, --privileged, CAP_SYS_ADMIN; the tasks may have a seccomp \
            filter, CRIU may not",
    )
    .examples(&[
        "Error (compel/src/lib/ptrace.c:27): suspending seccomp failed: Operation not \
                permitted",
    ]),
    clue(
        Group::Security,
        "seccomp-suspend-warning",
        &["failed to suspend seccomp, restore will probably fail"],
    )
    .cause("the kernel cannot suspend seccomp filters while restoring")
    .remedy(
        "use a kernel 4.3+ with CONFIG_CHECKPOINT_RESTORE, run CRIU as root with \
            CAP_SYS_ADMIN and without a seccomp filter (unconfined)",
    )
    .examples(&[
        "Error (criu/cr-restore.c:1800): failed to suspend seccomp, restore will \
                probably fail...",
    ]),
    cause(
        Group::Security,
        "seccomp-fetch",
        &[
            "Can't fetch filter on tid_real {tid}: {why}",
            "couldn't dump seccomp filter{tid}{why}",
            "dumping seccomp infos not supported{tid}{why}",
            "Can't fetch filter on tid_real {tid} i {why}",
            "Can't fetch seccomp metadata on tid_real {tid}{why}",
        ],
    )
    .cause(
        "the seccomp filters of the task cannot be read: the kernel lacks \
            CONFIG_SECCOMP_FILTER together with CONFIG_CHECKPOINT_RESTORE, or CRIU has a \
            seccomp filter itself or no CAP_SYS_ADMIN",
    )
    .remedy(
        "run CRIU as root, unconfined (not under seccomp itself), on a kernel 4.4+ with \
            CONFIG_CHECKPOINT_RESTORE=y; or run the container without a filter (--security-opt \
            seccomp=unconfined; lxc.seccomp.profile empty)",
    )
    .examples(&[
        "Error (criu/seccomp.c:100): seccomp: Can't fetch filter on tid_real 12 i 0: \
                Permission denied",
        "Error (criu/seccomp.c:100): dumping seccomp infos not supported",
    ]),
    cause(
        Group::Security,
        "seccomp-restore",
        &[
            "SECCOMP_SET_MODE_FILTER returned {code} on tid",
            "PR_SET_SECCOMP returned {code}",
            "sys_seccomp() returned {code}",
            "SECCOMP_MODE_STRICT returned {code}",
            "Unknown seccomp mode {code}",
        ],
    )
    .any_line()
    .during(Operation::Restore)
    .cause("the seccomp filter of the task cannot be installed again ({code})")
    .remedy(
        "run the restore as root with CAP_SYS_ADMIN, unconfined, with a kernel and CRIU as \
            new as at the dump; or run the container with seccomp=unconfined",
    )
    .examples(&[
        "pie: 12: Error (criu/pie/restorer.c:600): seccomp: SECCOMP_SET_MODE_FILTER \
                returned -22 on tid 12",
    ]),
    cause(Group::Security, "apparmor-attr", &["err scanfing: {why}"])
        .files(&["lsm.c"])
        .cause(
            "AppArmor is detected, but the label of the task (/proc/PID/attr/current) cannot \
            be read ({why}): AppArmor is built in but not the active security module, or \
            disabled on this kernel",
        )
        .remedy(
            "enable AppArmor properly (kernel command line apparmor=1 security=apparmor, \
            lsm=…,apparmor), or disable it (apparmor=0); upgrade CRIU, which reads \
            attr/apparmor/current where it exists",
        )
        .examples(&["(00.022893) Error (criu/lsm.c:37): err scanfing: Invalid argument"]),
    cause(
        Group::Security,
        "apparmor-namespace",
        &[
            "Apparmor namespace present but dumping not enabled",
            "failed to collect AA namespace",
            "couldn't find AA namespace end in: {name}",
            "walking AA namespace {name} failed",
        ],
    )
    .errors()
    .cause(
        "the container has an AppArmor namespace of its own (stacked profiles), which CRIU \
            could not dump",
    )
    .remedy(
        "upgrade CRIU, mount securityfs (/sys/kernel/security), or run the container \
            without AppArmor nesting (lxc: security.nesting=false, \
            lxc.apparmor.profile=unconfined)",
    )
    .examples(&["Error (criu/lsm.c:100): failed to collect AA namespace"]),
    cause(
        Group::Security,
        "apparmor-policy",
        &[
            "apparmor parsing failed {code}",
            "failed to write policy in AA namespace {code}",
            "write AA policy {code}",
            "couldn't write policy for {code}",
            "failed to create namespace {code}",
            "couldn't open apparmor load file {code}",
        ],
    )
    .files(&["apparmor.c"])
    .during(Operation::Restore)
    .cause("the AppArmor profiles of the container could not be loaded")
    .remedy(
        "install apparmor_parser and mount securityfs on the restoring machine, run as \
            root with CAP_MAC_ADMIN; or use --lsm-profile apparmor:unconfined",
    )
    .examples(&["Error (criu/apparmor.c:700): apparmor parsing failed 1"]),
    cause(
        Group::Security,
        "lsm-profile-write",
        &["can't write lsm profile {code}"],
    )
    .any_line()
    .during(Operation::Restore)
    .cause(
        "the security label (AppArmor profile or SELinux context) of the task cannot be \
            set ({code}): the profile is not loaded on this machine, or the policy forbids the \
            change",
    )
    .remedy(
        "load the same profile here (apparmor_parser -r; the same SELinux policy), or \
            restore with another label: --lsm-profile apparmor:NAME / selinux:CONTEXT, or \
            unconfined",
    )
    .examples(&["pie: 12: Error (criu/pie/restorer.c:150): can't write lsm profile -13"]),
    cause(
        Group::Security,
        "lsm-mismatch",
        &[
            "mismatched lsm types and lsm profile specified",
            "apparmor LSM specified but apparmor not supported by kernel",
            "selinux LSM specified but selinux not supported by kernel",
            "invalid argument {text} for --lsm-profile",
            "unknown lsm {text}",
            "can't render profile {text}",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "the images carry a label of one security module (AppArmor or SELinux), and this \
            machine has another",
    )
    .remedy(
        "restore on a machine with the same security module, or give a fitting label with \
            --lsm-profile apparmor:NAME or selinux:CONTEXT (unconfined)",
    )
    .examples(&[
        "Error (criu/lsm.c:400): apparmor LSM specified but apparmor not supported by \
                kernel",
        "Error (criu/lsm.c:400): mismatched lsm types and lsm profile specified",
    ]),
    cause(
        Group::Security,
        "selinux-context",
        &[
            "Invalid selinux context {context}",
            "Non unconfined selinux contexts not supported {context}",
            "getting selinux profile failed{context}",
        ],
    )
    .cause("the SELinux context of the task could not be handled: {context}")
    .remedy(
        "upgrade CRIU (3.13+ handles confined contexts), or run the program unconfined \
            (runcon, --security-opt label=disable)",
    )
    .examples(&["Error (criu/lsm.c:60): Invalid selinux context system_u"]),
    clue(
        Group::Security,
        "selinux-socket",
        &[
            "Unable to set the {kind} socket SELinux context",
            "Setting SELinux socket context for PID {kind} failed",
            "Unable to reset socket SELinux context{kind}",
            "Resetting SELinux socket context to default for PID {kind} failed",
            "Getting SELinux context for PID {kind} failed",
        ],
    )
    .cause("CRIU may not create sockets with the container's SELinux label")
    .remedy(
        "install container-selinux and criu's policy, or run CRIU unconfined; setenforce 0 \
            to test; podman: --security-opt label=disable",
    )
    .examples(&[
        "Error (criu/net.c:3000): net: Setting SELinux socket context for PID 12 \
                failed: Permission denied",
    ]),
    clue(
        Group::Security,
        "transport-connect",
        &[
            "Can't accept connection to the transport socket",
            "Unable to connect a transport socket",
            "Can't connect the control socket",
        ],
    )
    .cause(
        "CRIU's code inside the process could not talk back to CRIU: a security module \
            (SELinux, AppArmor) or seccomp filter forbids the socket, or the process was \
            stopped",
    )
    .remedy(
        "look for SELinux/AppArmor denials in the kernel log (ausearch -m avc, dmesg), \
            install container-selinux, run unconfined; upgrade CRIU",
    )
    .examples(&[
        "Error (compel/src/lib/infect.c:900): Unable to connect a transport socket: \
                Permission denied",
    ]),
    cause(
        Group::Security,
        "kcmp-refused",
        &[
            "kcmp failed: pid ({a}",
            "System call kcmp is not supported{a}",
            "kcmp-epoll failed: pid ({a}",
        ],
    )
    .cause(
        "the kcmp system call does not work: the kernel lacks \
            CONFIG_KCMP/CONFIG_CHECKPOINT_RESTORE, or a seccomp filter or missing \
            CAP_SYS_PTRACE forbids it",
    )
    .remedy(
        "use a kernel with CONFIG_KCMP=y (CONFIG_CHECKPOINT_RESTORE=y), run as root with \
            CAP_SYS_PTRACE, in a container with seccomp=unconfined",
    )
    .examples(&[
        "Error (criu/kcmp-ids.c:150): kcmp failed: pid (1 2) type 0 idx (3 4): \
                Operation not permitted",
    ]),
    cause(
        Group::Security,
        "userns-write",
        &[
            "Unable to write into uid_map",
            "Unable to write into gid_map",
            "Can't write into {pid}/uid_map",
            "Unable to write into {pid}",
        ],
    )
    .except(&["setgroups"])
    .files(&["namespaces.c"])
    .during(Operation::Restore)
    .cause(
        "the user namespace's id maps cannot be written: CRIU lacks CAP_SETUID/CAP_SETGID \
            in the parent user namespace",
    )
    .remedy("run the restore as root in the initial user namespace")
    .examples(&[
        "Error (criu/namespaces.c:1300): Unable to write into uid_map: Operation not \
                permitted",
    ]),
    cause(
        Group::Security,
        "no-id-mapping",
        &["Unable to convert uid or gid"],
    )
    .during(Operation::Dump)
    .cause(
        "the user namespace of the tree has no mapping for its root user (uid 0 or gid 0): \
            uid_map or gid_map was never written, or leaves root out",
    )
    .remedy(
        "write /proc/PID/uid_map and gid_map (unshare --map-root-user, newuidmap, newgidmap, \
            userns of the container's configuration) so that uid 0 and gid 0 are mapped, then \
            dump again",
    )
    .examples(&["Error (criu/namespaces.c:1000): Unable to convert uid or gid"]),
    cause(
        Group::Security,
        "ids-unmapped",
        &["One or more namespaces doesn't belong to the target user namespace"],
    )
    .cause("the tree uses users, groups or namespaces that are not part of its user namespace")
    .remedy(
        "dump the whole container with its user namespace, from the host; processes with \
            ids outside of the mapping, or namespaces created outside, cannot be dumped",
    )
    .examples(&[
        "Error (criu/namespaces.c:1000): One or more namespaces doesn't belong to the target \
                user namespace",
    ]),
    cause(
        Group::Security,
        "dumpable",
        &[
            "Unable to set PR_SET_DUMPABLE",
            "Can't drop the dumpable flag",
        ],
    )
    .any_line()
    .cause("the dumpable flag of the process could not be set")
    .remedy("run CRIU as root; check fs.suid_dumpable")
    .examples(&["Error (criu/crtools.c:100): Unable to set PR_SET_DUMPABLE: Invalid argument"]),
];
