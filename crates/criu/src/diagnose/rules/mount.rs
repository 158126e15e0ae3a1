//! Mounts and file systems.

use super::super::rule::{Group, Rule, cause, clue, consequence};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Mount,
        "mount-sharing",
        &[
            "Mount {id} {path} (master_id: {master} shared_id: {shared}) has unreachable \
            sharing",
            "Mount {id} (master_id: {master} shared_id: {shared}) has unreachable sharing{path}",
        ],
    )
    .cause(
        "the mount {path} of the container receives or shares mount events with a mount \
            outside the dumped namespace (propagation, slave of {master})",
    )
    .remedy(
        "checkpoint the container through its own tool (lxc-checkpoint; lxc \
            stop/snapshot/move --stateful; podman, runc, docker checkpoint), which passes the \
            external mounts; with criu itself add --external mnt[]:sm or \
            --enable-external-masters and --enable-external-sharing with --ext-mount-map auto, \
            or --external mnt[PATH]:KEY for this mount; or make it private (mount \
            --make-rprivate)",
    )
    .examples(&[
        "(00.015419) Error (criu/mount.c:948): mnt: Mount 352 ./dev/console \
                (master_id: 3 shared_id: 0) has unreachable sharing. Try \
                --enable-external-masters.",
    ]),
    cause(
        Group::Mount,
        "mount-sharing-group",
        &[
            "Sharing group ({a}, {b}) has unreachable sharing",
            "External slavery sharing group ({a}, {b})",
            "Sharing group ({a}, {b}) parent collision",
        ],
    )
    .cause(
        "a group of mounts shares mount events (propagation) with mounts outside, in a way \
            CRIU cannot rebuild",
    )
    .remedy(
        "use --external mnt[]:sm (or --enable-external-masters, \
            --enable-external-sharing), checkpoint through the container's tool, or make the \
            mounts private; on restore --mntns-compat-mode tries the older engine",
    )
    .examples(&[
        "  1: Error (criu/mount-v2.c:100): mnt-v2: Sharing group (1, 2) has \
                unreachable sharing. Try --enable-external-masters.",
    ]),
    cause(
        Group::Mount,
        "mount-no-root",
        &[
            "{mount} doesn't have a proper root mount",
            "No root found for mountpoint {mount}",
        ],
    )
    .cause(
        "the mount {mount} is a bind mount from outside the container's mount namespace (a \
            volume, /etc/hosts, /etc/resolv.conf, /proc or /sys entry of the host), and CRIU \
            was not told what it is",
    )
    .remedy(
        "checkpoint through the container's tool (podman, runc, docker, lxc-checkpoint), \
            which declares these external mounts; with criu itself add --external \
            mnt[PATH]:KEY for each (or --external mnt[]:m, --ext-mount-map auto) and \
            --external mnt[KEY]:HOSTPATH on restore with --root; or --skip-mnt PATH; mounts of \
            /sys/fs/cgroup need a newer kernel (4.6 has cgroup namespaces) or runtime",
    )
    .examples(&[
        "Error (criu/mount.c:660): mnt: 554:./etc/hosts doesn't have a proper root \
                mount",
    ]),
    cause(
        Group::Mount,
        "mount-autodetected",
        &["Mount {mount} is autodetected external mount"],
    )
    .cause(
        "the mount {mount} comes from outside the container, and automatic external mounts \
            were not allowed",
    )
    .remedy("use --external mnt[]:KEY (older: --ext-mount-map auto) on dump and restore")
    .examples(&[
        "  1: Error (criu/mount.c:2600): mnt: Mount 12:./etc/hosts is autodetected \
                external mount. Try \"--ext-mount-map auto\" to allow them.",
    ]),
    cause(
        Group::Mount,
        "mount-no-mapping",
        &["No mapping for {mount} mountpoint"],
    )
    .during(Operation::Restore)
    .cause(
        "the mount {mount} was dumped as external, and restore was not told what to mount \
            there",
    )
    .remedy(
        "restore with --external mnt[KEY]:PATH (older: --ext-mount-map KEY:PATH or auto) \
            for it, as at the dump; use the same version of the container tool (lxc-checkpoint \
            1.1.4+, runc, podman) on both sides",
    )
    .examples(&["Error (mount.c:2393): mnt: No mapping for /sys/fs/cgroup/perf_event mountpoint"]),
    cause(
        Group::Mount,
        "fs-unsupported",
        &["FS mnt {path} dev {dev} root {root} unsupported id {id}"],
    )
    .any_line()
    .cause(
        "the file system mounted at {path} is of a kind CRIU cannot dump (bpf, tracefs, \
            nsfs, fuse, hugetlbfs, debugfs, NFS …)",
    )
    .remedy(
        "unmount it in the container before the dump (umount {path}), make it external \
            (--external mnt[{path}]:KEY on dump, --external mnt[KEY]:PATH on restore), leave \
            it out with --skip-mnt {path}, or let CRIU try with --enable-fs NAME (hugetlbfs, \
            tracefs …)",
    )
    .examples(&["mnt: FS mnt ./sys/fs/bpf dev 0x75 root / unsupported id 691"]),
    cause(
        Group::Mount,
        "fuse-not-external",
        &["{path} is a fuse mount but not external"],
    )
    .cause("a FUSE file system is mounted at {path}; its server cannot be dumped")
    .remedy(
        "make it external (--external mnt[PATH]:KEY), unmount it before the dump, or \
            --skip-mnt; lxcfs mounts are passed by lxc-checkpoint",
    )
    .examples(&["Error (criu/filesystems.c:600): mnt: ./mnt/f is a fuse mount but not external"]),
    cause(Group::Mount, "fs-not-empty", &["{path} isn't empty"])
        .errors()
        .files(&["filesystems.c", "mount.c"])
        .cause(
            "the pseudo file system at {path} (mqueue, fusectl, autofs, binfmt_misc, debugfs \
            …) has content that CRIU cannot save",
        )
        .remedy(
            "remove its content (message queues in /dev/mqueue, registered formats) or unmount \
            it before the dump; --external mnt[PATH]:KEY or --skip-mnt for it",
        )
        .examples(&["Error (criu/filesystems.c:900): mnt: ./dev/mqueue isn't empty: 3"]),
    cause(
        Group::Mount,
        "fs-dump-failed",
        &["failed to dump fs {path} ({type}): always fail"],
    )
    .cause("the file system {type} at {path} cannot be dumped")
    .remedy("unmount it, make it --external mnt[PATH]:KEY, or --skip-mnt it")
    .examples(&["Error (criu/filesystems.c:900): mnt: failed to dump fs ./x (nfsd): always fail"]),
    cause(
        Group::Mount,
        "btrfs-subvol",
        &["invalid btrfs options, no subvol argument"],
    )
    .cause("a btrfs mount does not name its subvolume")
    .remedy(
        "mount btrfs with subvol=, use a newer kernel, or another file system (overlay on \
            ext4/xfs) for the container",
    )
    .examples(&["Error (criu/filesystems.c:600): mnt: invalid btrfs options, no subvol argument"]),
    cause(
        Group::Mount,
        "root-differs",
        &["The root task has another root than mntns: {path}"],
    )
    .cause(
        "the root directory of the process ({path}) is not the root of its mount \
            namespace: it was chrooted, or the container was started on an initramfs (ramdisk, \
            switch_root: no pivot_root; DOCKER_RAMDISK, boot from rootfs)",
    )
    .remedy(
        "run the container from a real root file system (boot from disk or with pivot_root \
            instead of ramfs, unset DOCKER_RAMDISK / --no-pivot), or enter the tree with \
            pivot_root instead of chroot; dump without the mount namespace if the process only \
            uses chroot",
    )
    .examples(&[
        "(00.156626) Error (criu/mount.c:3385): mnt: The root task has another root \
                than mntns: /new_root",
    ]),
    cause(
        Group::Mount,
        "nested-mntns-root",
        &[
            "Nested mount namespaces with different roots {a} are not supported yet",
            "Nested mount namespaces with different roots are not supported yet{a}",
            "Nested mount namespaces are not supported without mnt_id in fdinfo{a}",
            "have different set of mounts{a}",
            "Nested mount {a} w/o root insertion detected",
        ],
    )
    .cause(
        "the tree has several mount namespaces (systemd services with PrivateTmp and the \
            like, nested containers, snap, chromium sandbox) that this CRIU cannot dump \
            together",
    )
    .remedy(
        "upgrade CRIU (3.15+) and the kernel; disable \
            PrivateTmp/ProtectSystem/PrivateDevices in the services of the container, do not \
            nest containers, run without the sandbox",
    )
    .examples(&[
        "Error (criu/mount.c:600): mnt: Nested mount namespaces with different roots 1 \
                (@/ x) 2 (@/ y) are not supported yet",
    ]),
    cause(
        Group::Mount,
        "overmounted",
        &[
            "The mount {id} is overmounted so paths are invisible",
            "{id} is overmounted",
        ],
    )
    .cause("mount {id} is covered by another mount, so that files on it cannot be reached")
    .remedy("unmount what covers it (mount points used twice), upgrade CRIU (3.0+ handles most)")
    .examples(&[
        "Error (criu/mount.c:3900): mnt: The mount 12 is overmounted so paths are \
                invisible",
    ]),
    cause(
        Group::Mount,
        "same-mountpoint",
        &["has two children with same mountpoint"],
    )
    .cause("two mounts lie on the same mount point: something is mounted twice there")
    .remedy("unmount one of them in the container before the dump")
    .examples(&[
        "Error (criu/mount.c:300): mnt: Mount 12 has two children with same \
                mountpoint: 3 4",
    ]),
    cause(
        Group::Mount,
        "device-unreachable",
        &[
            "Unable to find suitable mount point for s_dev {dev}",
            "The file system {dev} is inaccessible",
            "Resolving over invalid device for {dev}",
            "Resolving over unvalid device for {dev}",
            "No device for {dev} mount",
        ],
    )
    .cause("the file system of device {dev} is not mounted where CRIU can reach it")
    .remedy(
        "mount it (or bind-mount it) inside the container, or make the mount external; use \
            a newer kernel and CRIU for overlayfs and btrfs",
    )
    .examples(&[
        "Error (criu/mount.c:200): mnt: Unable to find suitable mount point for s_dev \
                2d",
    ]),
    cause(
        Group::Mount,
        "root-option",
        &["The --root option is required to restore a mount namespace"],
    )
    .during(Operation::Restore)
    .cause(
        "the images hold a mount namespace, and restore was not told where its root file \
            system is",
    )
    .remedy(
        "restore with --root PATH, where PATH is a mount point holding the container's \
            root file system (mount --bind rootfs rootfs first)",
    )
    .examples(&[
        "Error (criu/mount.c:3400): mnt: The --root option is required to restore a \
                mount namespace",
    ]),
    cause(
        Group::Mount,
        "root-not-mount",
        &[
            "New root and old root are the same",
            "The parent of the new root is unreachable",
            "Unable to find mount point for {path}",
            "Unable to find real path for {path}",
        ],
    )
    .during(Operation::Restore)
    .cause("the directory given with --root is not a mount point of its own")
    .remedy(
        "bind-mount it onto itself first (mount --bind DIR DIR; mount --make-private DIR) \
            and give it with --root",
    )
    .examples(&["Error (criu/mount.c:3400): mnt: New root and old root are the same"]),
    cause(
        Group::Mount,
        "pivot-root",
        &["pivot_root(., {path}) failed"],
    )
    .during(Operation::Restore)
    .cause(
        "pivot_root failed: the new root is not a mount point, or CRIU runs on an \
            initramfs (rootfs) which cannot be pivoted",
    )
    .remedy(
        "bind-mount the root directory onto itself and give it with --root; do not run \
            from an initramfs (ramdisk)",
    )
    .examples(&[
        "  1: Error (criu/mount.c:3000): mnt: pivot_root(., /tmp/cr-tmpfs) failed: \
                Invalid argument",
    ]),
    cause(
        Group::Mount,
        "move-mount",
        &[
            "Failed to move_mount from {from} to {path}",
            "Failed to open_tree {from}{path}",
            "Failed to copy sharing from {from} to {path}",
            "Failed to copy sharing from source {from} to {path}",
            "Failed to cross-mntns move_mount plain mount {from}{path}",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "a mount could not be moved into place ({from}): mount engine v2 needs open_tree, \
            move_mount and MOVE_MOUNT_SET_GROUP of kernel 5.15, and {from} must exist and must \
            not be a shared parent's or locked mount",
    )
    .remedy(
        "restore with --mntns-compat-mode (the older mount engine), check that the source \
            {from} exists and is a private mount (mount --make-rprivate), or use a newer \
            kernel and CRIU",
    )
    .examples(&["(02.086261)      1: Error \
                (/usr/src/debug/criu/3.19.0+git/criu/mount-v2.c:324): mnt-v2: Failed to \
                move_mount from /lib to /tmp/.criu.mntns.50SvLA/mnt-0000000275: Invalid \
                argument"]),
    cause(
        Group::Mount,
        "mountpoint-missing",
        &[
            "Can't mount at {path}: No such file or directory",
            "Can't bind-mount at {path}: No such file or directory",
            "Unable to mount {path}: No such file or directory",
            "Can't stat mountpoint {path}: No such file or directory",
            "Unable to bind-mount {path}: No such file or directory",
            "Unable to open {path} mountpoint: No such file",
            "Can't fetch stat on {path}: No such file",
            "mount /{path}: No such file or directory",
        ],
    )
    .files(&["mount.c", "mount-v2.c"])
    .during(Operation::Restore)
    .cause(
        "{path} cannot be mounted: the mount point or the source of the bind mount does \
            not exist on this machine or in this root file system",
    )
    .remedy(
        "create the same directory or file at that path (volumes, bind mounts and the \
            container's image must be the same as at the dump) before restoring, or map it \
            elsewhere with --external mnt[KEY]:PATH",
    )
    .examples(&[
        "  1: Error (criu/mount.c:2700): mnt: Can't mount at ./data/x: No such file or \
                directory",
    ]),
    clue(
        Group::Mount,
        "mount-failed",
        &[
            "Can't mount at {path}: {why}",
            "Can't bind-mount at {path}: {why}",
            "Unable to mount {path}: {why}",
            "Unable to bind-mount {path}: {why}",
            "Can't mount {path}: {why}",
            "Unable to remount {path}: {why}",
            "Can't re-mount at {path}: {why}",
            "Unable to apply mount flags {path}: {why}",
            "Can't restore ext mount ({path}){why}",
        ],
    )
    .files(&["mount.c", "mount-v2.c", "filesystems.c"])
    .during(Operation::Restore)
    .cause("{path} cannot be mounted ({why})")
    .remedy(
        "run with CAP_SYS_ADMIN (root, privileged container); provide the mount point, its \
            source and the file system driver (modprobe) as at the dump; use --external \
            mnt[KEY]:PATH for what comes from outside; try --mntns-compat-mode",
    )
    .examples(&[
        "  1: Error (criu/mount.c:2700): mnt: Can't mount at ./sys: Device or resource \
                busy",
    ]),
    cause(
        Group::Mount,
        "mount-eperm",
        &[
            "Unable to mount {path}: Operation not permitted",
            "Can't mount at {path}: Operation not permitted",
            "Can't mount {path}: Operation not permitted",
        ],
    )
    .files(&["mount.c", "mount-v2.c"])
    .during(Operation::Restore)
    .cause(
        "CRIU may not mount {path}: it runs without CAP_SYS_ADMIN, in a user namespace, or \
            AppArmor forbids mounts",
    )
    .remedy("run it as root with CAP_SYS_ADMIN (privileged container, AppArmor unconfined)")
    .examples(&[
        "  1: Error (criu/mount.c:2000): mnt: Unable to mount proc ./proc (id=5): \
                Operation not permitted",
    ]),
    cause(
        Group::Mount,
        "mntns-create",
        &[
            "Unable to unshare a mount namespace",
            "Unable to create a new mntns",
            "Unable to clone a mount namespace",
            "Can't create new mount namespace",
        ],
    )
    .errors()
    .cause("a mount namespace cannot be created: CRIU has no CAP_SYS_ADMIN here")
    .remedy(
        "run CRIU as root with CAP_SYS_ADMIN (in a container: privileged, seccomp \
            unconfined)",
    )
    .examples(&[
        "Error (criu/mount.c:1000): mnt: Unable to unshare a mount namespace: \
                Operation not permitted",
    ]),
    clue(
        Group::Mount,
        "cross-mntns",
        &[
            "Can't open mount {id}",
            "Can't switch mnt_ns",
            "Can't switch to pid's {id} mnt_ns",
            "Unable to get the root file descriptor of pid {id}",
            "Can't open the task root",
        ],
    )
    .cause("CRIU could not enter or look into the mount namespace of the tasks")
    .remedy(
        "run as root with CAP_SYS_ADMIN and CAP_SYS_CHROOT outside the container; see the \
            error before this one",
    )
    .examples(&["Error (criu/mount.c:1400): mnt: Can't open mount 0x3"]),
    cause(
        Group::Mount,
        "autofs-control",
        &[
            "Process {pid} autofs pipe fd {fd} is not empty",
            "Autofs {pid} is alive, but unreachable{fd}",
            "Abandoned mount or control was delegated to child?{pid}{fd}",
            "Master {pid} doesn't have a read end of the pipe{fd}",
        ],
    )
    .cause("an autofs mount is in use or its automounter is not in the tree")
    .remedy(
        "stop the automounter (systemd .automount units, autofs) in the container before \
            the dump, or make the mount external",
    )
    .examples(&["Error (criu/autofs.c:300): Process 12 autofs pipe fd 3 is not empty."]),
    cause(
        Group::Mount,
        "few-mounts",
        &["A few mount points can't be mounted"],
    )
    .during(Operation::Restore)
    .cause(
        "some mounts wait for each other (their parents or the mounts they are slaves of \
            are missing), so the tree of mounts cannot be built; the lines after this one name \
            them",
    )
    .remedy(
        "give the missing ones as --external mnt[KEY]:PATH (or --ext-mount-map auto, \
            --enable-external-masters), make mounts private before the dump, or upgrade CRIU \
            (mount engine v2 of 3.17)",
    )
    .examples(&["  1: Error (criu/mount.c:2500): mnt: A few mount points can't be mounted"]),
    clue(
        Group::Mount,
        "criu-mntns",
        &[
            "Failed to find criu pid's mount ns",
            "Failed to get root path for mount",
        ],
    )
    .cause("CRIU could not make sense of its own mounts")
    .remedy("run CRIU on the host in its initial mount namespace, with /proc mounted")
    .examples(&["Error (criu/mount.c:700): mnt: Failed to find criu pid's mount ns!"]),
    clue(
        Group::Mount,
        "mountinfo",
        &[
            "Can't parse {pid}'s mountinfo",
            "Failed to parse mountinfo line {pid}",
            "Bad format in {pid} mountinfo",
            "Failed to parse FS specific data on {pid}",
        ],
    )
    .cause("the list of mounts of a task could not be understood ({pid})")
    .remedy(
        "upgrade CRIU to one as new as the kernel; unmount unusual file systems (paths \
            with line breaks, aufs, overlay with many layers)",
    )
    .examples(&["Error (criu/proc_parse.c:1700): Bad format in 12 mountinfo: 'x'"]),
    consequence(
        Group::Mount,
        "mount-tree-dump",
        &[
            "Unable to dump a file system for {mount}",
            "Dumping mount tree failed{mount}",
        ],
    )
    .cause("the content of the mount {mount} could not be saved")
    .remedy("the reason stands before; tmpfs content needs GNU tar")
    .examples(&["Error (criu/mount.c:1600): mnt: Unable to dump a file system for 12:./x"]),
    clue(
        Group::Mount,
        "mntns-busy",
        &[
            "Can't remove the directory {path}: Device or resource busy",
            "Can't umount {path}: Device or resource busy",
            "Can't unmount {path}: Device or resource busy",
            "Unable to umount {path}: Device or resource busy",
        ],
    )
    .cause(
        "{path}, a temporary mount point of CRIU, is still in use: another mount namespace \
            holds a copy of it",
    )
    .remedy(
        "unmount it by hand (umount -l {path}), make the mounts it lies under private \
            (mount --make-rprivate /), and see the errors before; often this is only a \
            consequence",
    )
    .examples(&[
        "Error (criu/mount.c:3456): mnt: Can't remove the directory \
                /tmp/.criu.mntns.x: Device or resource busy",
    ]),
    clue(
        Group::Mount,
        "mount-parent",
        &[
            "No parent found for mountpoint {mount}",
            "No root found for tree{mount}",
            "Can't find NS_ROOT{mount}",
            "Unable to handle mounts under {mount}",
            "Failed to find root for {mount} in our supposed bind",
        ],
    )
    .cause(
        "the mounts of the process do not make a tree that CRIU understands ({mount}): its \
            root was changed (chroot, pivot_root with leftovers, switch_root), or mounts \
            vanished meanwhile",
    )
    .remedy(
        "dump the whole container from its init, from outside; upgrade CRIU; unmount \
            leftovers of pivot_root (old root)",
    )
    .examples(&["Error (criu/mount.c:250): mnt: No parent found for mountpoint 12 (@./x)"]),
    cause(
        Group::Mount,
        "mount-nvidia",
        &[
            "{mount}nvidia{rest} doesn't have a proper root mount",
            "Mount {mount}nvidia{rest} (master_id: {master} shared_id: {shared}) has \
                    unreachable sharing",
            "{mount}libcuda{rest} doesn't have a proper root mount",
        ],
    )
    .cause(
        "the NVIDIA container runtime has mounted parts of the host's driver \
            ({mount}nvidia{rest}) into the container from outside (prestart hook), and CRIU \
            was not told that they are external",
    )
    .remedy(
        "start the container with a recent NVIDIA container toolkit in CDI mode (podman \
            --device nvidia.com/gpu=all; nvidia-ctk runtime … mode=cdi), so that runtime and \
            CRIU know the mounts; use recent podman/runc/containerd and CRIU; with criu itself \
            --external mnt[]:sm (--enable-external-masters, --enable-external-sharing) or \
            --external mnt[PATH]:KEY for each",
    )
    .examples(&[
        "662 (00.007387) Error (criu/mount.c:757): mnt: \
                637:./usr/lib/firmware/nvidia/550.127.05/gsp_tu10x.bin doesn't have a proper \
                root mount",
        "(07.507264) Error (criu/mount.c:1088): mnt: Mount 251 \
                ./proc/driver/nvidia/gpus/0000:00:04.0 (master_id: 5 shared_id: 0) has \
                unreachable sharing. Try --enable-external-masters.",
    ]),
];
