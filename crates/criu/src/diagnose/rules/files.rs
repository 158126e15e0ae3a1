//! Regular, deleted and missing files.

use super::super::rule::{Group, Rule, cause, clue, consequence};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Files,
        "ghost-limit",
        &[
            "Can't dump ghost file {path} of {size} size, increase limit",
            "Can't dump ghost file {path} of {size} size",
        ],
    )
    .cause(
        "the deleted but still used file {path} ({size} bytes) is larger than what CRIU \
            puts into the images (1 MiB by default)",
    )
    .remedy(
        "raise the limit with --ghost-limit SIZE (for instance --ghost-limit 64M; RPC: \
            ghost_limit; docker/runc/podman/lxc: `ghost-limit 64M` in /etc/criu/default.conf \
            or runc.conf), or let the program close or not delete the file",
    )
    .examples(&[
        "(02.580327) Error (files-reg.c:702): Can't dump ghost file /tmp/tcFhOS3I of \
                16777216 size, increase limit",
    ]),
    cause(
        Group::Files,
        "link-remap-leftover",
        &["Can't link remap to {path}: File exists"],
    )
    .cause(
        "a link_remap.* file that an earlier, failed or unrestored dump left over is still \
            in the directory of {path}, and CRIU wants to create it again",
    )
    .remedy(
        "remove (delete) the stale leftover files named link_remap.* in that directory (as \
            seen in the container, for instance /dev/shm), then dump again",
    )
    .examples(&[
        "Error (criu/files-reg.c:1159): Can't link remap to /dev/shm/sem.yYFLwT: File \
                exists",
    ]),
    cause(
        Group::Files,
        "link-remap-failed",
        &["Can't link remap to {path}: {why}"],
    )
    .cause(
        "the deleted file {path} cannot be linked back into its directory ({why}): the \
            file system does not allow hard links to it (overlayfs, NFS, \
            fs.protected_hardlinks, permissions)",
    )
    .remedy(
        "let the program close the file, keep it on another file system (a volume, tmpfs), \
            run CRIU as root with CAP_FOWNER/CAP_DAC_READ_SEARCH, or dump without --link-remap \
            if the file is small enough for a ghost (--ghost-limit)",
    )
    .examples(&[
        "Error (criu/files-reg.c:1159): Can't link remap to /dev/shm/x: Operation not \
                permitted",
    ]),
    cause(
        Group::Files,
        "link-remap-needed",
        &["Can't create link remap for {path}. Use"],
    )
    .cause(
        "the process has {path} open, whose name was removed while another hard link \
            exists (or it was replaced: package update, log rotation, NFS silly rename)",
    )
    .remedy(
        "use --link-remap (runc/podman: automatic, lxc: passed; RPC: link_remap), or close \
            the file before the dump; with NFS (.nfs files) too",
    )
    .examples(&[
        "Error (criu/files-reg.c:1100): Can't create link remap for /tmp/x. Use \
                link-remap option.",
    ]),
    cause(
        Group::Files,
        "file-size",
        &["File {path} has bad size {found} (expect {size})"],
    )
    .during(Operation::Restore)
    .cause(
        "the file {path} changed after the checkpoint: it has {found} bytes now and had \
            {size}; CRIU demands the same size and does not roll files back",
    )
    .remedy(
        "restore the file to the same size and content as at the dump: keep a copy of the \
            file (or a file system snapshot) with the images, or truncate it to its original \
            size (truncate -s {size}) if it only grew; for libraries and programs install the \
            same version; --file-validation chooses what is compared",
    )
    .examples(&[
        "455439: Error (criu/files-reg.c:1702): File home/user/myout.txt has bad size \
                25195 (expect 16965)",
    ]),
    cause(
        Group::Files,
        "file-build-id",
        &["File {path} has bad build-ID"],
    )
    .during(Operation::Restore)
    .cause(
        "{path} is another build of the program or library than at the dump (its build-id \
            differs): it was updated or the machines have different versions",
    )
    .remedy(
        "install the same version of the file (package) as on the dumping machine, copy it \
            over, or restore in the same container image; --file-validation filesize compares \
            sizes only",
    )
    .examples(&["12: Error (criu/files-reg.c:1800): File usr/lib/libc.so.6 has bad build-ID"]),
    cause(
        Group::Files,
        "file-mode",
        &["File {path} has bad mode 0{found} (expect 0{mode})"],
    )
    .during(Operation::Restore)
    .cause(
        "the file {path} has mode {found} here and had {mode} at the dump: its permissions \
            differ",
    )
    .remedy(
        "give it the same mode (permission bits): chmod {mode}, or copy it with its \
            permissions (cp -p, rsync -a, tar -p); CRIU 3.18 and newer can skip the check with \
            --skip-file-rwx-check",
    )
    .examples(&[
        " 565: Error (criu/files-reg.c:1680): File home/user1/tcp-howto has bad mode \
                0100755 (expect 0100775)",
    ]),
    cause(
        Group::Files,
        "file-missing",
        &[
            "Can't open file {path} on restore: No such file or directory",
            "Can't open file {path} on restore: Not a directory",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "the file {path}, which the process had open or mapped (or as its working directory or \
            root), does not exist on this machine",
    )
    .remedy(
        "provide the same file at the same path: copy it from the dumping machine, install \
            the same package, mount the same volume; temporary and log files too; or let the \
            caller give another with --inherit-fd / --external file[MNT:INODE]; --root for \
            another root",
    )
    .examples(&[
        "  12: Error (criu/files-reg.c:2000): Can't open file tmp/x.log on restore: No \
                such file or directory",
    ]),
    cause(
        Group::Files,
        "file-denied",
        &[
            "Can't open file {path} on restore: Permission denied",
            "Can't open file {path} on restore: Operation not permitted",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "the file {path} cannot be opened as at the dump: permissions, a security module \
            (SELinux, AppArmor), or an immutable file",
    )
    .remedy(
        "check owner and permissions (chmod, chown) and SELinux label (restorecon, ls -Z) \
            of {path}; restore as root",
    )
    .examples(&[
        "  12: Error (criu/files-reg.c:2000): Can't open file tmp/x.log on restore: \
                Permission denied",
    ]),
    cause(
        Group::Files,
        "file-read-only",
        &["Can't open file {path} on restore: Read-only file system"],
    )
    .during(Operation::Restore)
    .cause("{path} was open for writing, and its file system is read-only here")
    .remedy(
        "mount it read-write (remount,rw) before the restore, in a container use the same \
            writable volume",
    )
    .examples(&[
        "  12: Error (criu/files-reg.c:2000): Can't open file tmp/x.log on restore: \
                Read-only file system",
    ]),
    cause(
        Group::Files,
        "file-busy",
        &["Can't open file {path} on restore: Text file busy"],
    )
    .during(Operation::Restore)
    .cause("{path} is being executed and cannot be opened for writing, or the other way round")
    .remedy("stop the processes that run the file, or copy it anew")
    .examples(&[
        "  12: Error (criu/files-reg.c:2000): Can't open file tmp/x on restore: Text \
                file busy",
    ]),
    clue(
        Group::Files,
        "file-open-other",
        &["Can't open file {path} on restore: {why}"],
    )
    .during(Operation::Restore)
    .cause("the file {path} could not be opened again: {why}")
    .remedy(
        "make {path} available as it was at the dump (same path, type, permissions; FIFO \
            or device present)",
    )
    .examples(&[
        "  12: Error (criu/files-reg.c:2000): Can't open file dev/x on restore: No \
                such device or address",
    ]),
    cause(
        Group::Files,
        "mount-lookup",
        &["Can't lookup mount={mnt} for fd={fd} path={path}"],
    )
    .cause(
        "descriptor {fd} ({path}) was opened on mount {mnt}, which is not in the process' \
            mount namespace: it was inherited from outside the container (a leaked \
            descriptor), opened before chroot/pivot_root/unshare, or on a mount that has been \
            unmounted",
    )
    .remedy(
        "close the descriptor or redirect it (/dev/null, a file inside the container); \
            start the program detached (setsid, docker run -d) so that it does not inherit \
            files from outside; mark it --external file[MNT_ID:INODE] and give it back with \
            --inherit-fd; on overlayfs/btrfs use a newer CRIU and kernel (mnt_id in fdinfo)",
    )
    .examples(&["Error (criu/files-reg.c:1356): Can't lookup mount=25 for fd=7 path=/usr/bin/x"]),
    cause(
        Group::Files,
        "mount-lookup-mapping",
        &["Can't lookup mount={mnt} for fd=-3 path={path}"],
    )
    .cause(
        "the program or library {path} is mapped from mount {mnt}, which is not in the \
            process' mount namespace: overlayfs or btrfs of an older kernel report a wrong \
            device, or the file belongs to a mount outside (memfd, container init run from the \
            host, unmounted volume), as when the process changes its mount namespace (unshare, \
            setns) after it was started",
    )
    .remedy(
        "use a newer CRIU and kernel (Ubuntu's overlayfs kernels of 5.x reported wrong mnt \
            ids: upgrade the kernel, or use the vfs/devicemapper/native storage driver instead \
            of overlay), and start the program from inside the container's own mounts (exec it \
            after the unshare, as unshare -m PROGRAM does)",
    )
    .examples(&[
        "(00.006867) Error (criu/files-reg.c:1359): Can't lookup mount=572 for fd=-3 \
                path=/usr/local/apache2/bin/httpd",
    ]),
    cause(
        Group::Files,
        "overmounted-file",
        &["Open files on overmounted mounts are not supported yet"],
    )
    .cause("a file is open on a mount that another mount covers")
    .remedy("unmount what covers it, or close the file before the dump")
    .examples(&[
        "Error (criu/files-reg.c:1300): Open files on overmounted mounts are not \
                supported yet; mount=12 fd=3 path=/x",
    ]),
    cause(
        Group::Files,
        "inaccessible-path",
        &["Unaccessible path opened {a}:{b}, need {c}"],
    )
    .cause(
        "an open file's path leads to another file now: it was replaced, or a mount covers \
            it",
    )
    .remedy(
        "use --link-remap, restart the program after package updates, or unmount what \
            covers the path",
    )
    .examples(&["Error (criu/files-reg.c:1250): Unaccessible path opened 8:1, need 8:2"]),
    cause(
        Group::Files,
        "path-not-absolute",
        &["The path [{path}] is not supported"],
    )
    .cause(
        "the open file {path} has no absolute path in the process' namespace (unreachable, \
            detached mount)",
    )
    .remedy("close the file before the dump, or dump the whole container from outside")
    .examples(&["Error (criu/files-reg.c:1360): The path [(unreachable)/x] is not supported"]),
    cause(
        Group::Files,
        "ghost-exists",
        &[
            "Can't create ghost regfile: File exists",
            "Can't link {path}.ghost -> {to}: File exists",
            "Can't create ghost {kind}: File exists",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "a ghost file (copy of a deleted file) is still there from an earlier, failed \
            restore, or two restores run at the same time",
    )
    .remedy(
        "remove stale *.cr.*.ghost and link_remap.* files from the file system, do not run \
            two restores of the same images at once; upgrade CRIU",
    )
    .examples(&[
        "Error (criu/files-reg.c:1189): Can't link dev/null.cr.1.ghost -> dev/null: \
                File exists",
    ])
    .any_line(),
    clue(
        Group::Files,
        "ghost-create",
        &[
            "Can't create ghost {kind}: {why}",
            "Can't create ghost dir {kind}: {why}",
            "Can't link {kind}.ghost -> {why}",
            "Can't reset user/group on ghost {kind}: {why}",
            "Can't make node for ghost {kind}: {why}",
        ],
    )
    .during(Operation::Restore)
    .cause("a deleted file could not be created again for the restored process ({why})")
    .remedy(
        "make sure that the directory it was in exists and is writable (container: same \
            volumes), and that no earlier restore left ghost files there",
    )
    .examples(&[
        "Error (criu/files-reg.c:300): Can't reset user/group on ghost \
                /usr/sbin/b.cr.1.ghost: No such file or directory",
    ]),
    cause(
        Group::Files,
        "cwd-root",
        &[
            "Can't open cwd",
            "Can't change cwd",
            "Can't open root",
            "Can't change root",
        ],
    )
    .files(&["files.c"])
    .during(Operation::Restore)
    .cause(
        "the working directory or root directory of the process does not exist here or \
            cannot be entered",
    )
    .remedy(
        "create the same directory at the same path before the restore; for containers \
            give --root",
    )
    .examples(&["  12: Error (criu/files.c:1400): Can't open cwd"]),
    consequence(
        Group::Files,
        "open-fd-failed",
        &["Unable to open fd={fd} id={id}"],
    )
    .during(Operation::Restore)
    .cause("descriptor {fd} of the process could not be restored")
    .remedy(
        "the reason stands before, mostly a missing or changed file or a socket; run \
            restore with -v4",
    )
    .examples(&["455439: Error (criu/files.c:1196): Unable to open fd=3 id=0x7"]),
    cause(
        Group::Files,
        "aufs",
        &[
            "No aufs branches to search for {path}",
            "Bad format in branch pathname {path}",
            "Cannot find sbinfo in option string {path}",
        ],
    )
    .cause("the container's aufs file system does not tell where {path} lies")
    .remedy("use overlay2 as docker's storage driver instead of aufs, and a newer kernel")
    .examples(&["Error (criu/sysfs_parse.c:60): Cannot find sbinfo in option string si=1"]),
    clue(
        Group::Files,
        "strange-mapping",
        &[
            "Strange file mapped at {at} [{path}]",
            "Failed to resolve mapping {at} filename{path}",
            "Unknown shit {at} ({path})",
            "Can't open mapped [{path}]{at}",
        ],
    )
    .cause(
        "a mapping of {path} could not be resolved to a file that CRIU can reopen (deleted \
            and replaced library, device, overlay)",
    )
    .remedy(
        "restart the program after library updates (package upgrade), use a newer CRIU and \
            kernel, run as root so that /proc/PID/map_files is readable",
    )
    .examples(&["Error (criu/proc_parse.c:300): Strange file mapped at 7f00 [x]:8.1.12"]),
    cause(
        Group::Files,
        "hsperfdata",
        &[
            "Can't open file {path}hsperfdata_{user} on restore: No such file or directory",
            "Can't open file {path}hsperfdata_{user} on restore",
            "File {path}hsperfdata_{user} has bad size",
            "Can't open file {path}.java_pid{user} on restore",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "the Java virtual machine keeps a performance data file (hsperfdata_{user}), which \
            is gone or changed here",
    )
    .remedy(
        "start Java with -XX:-UsePerfData (or -XX:+PerfDisableSharedMem), or provide the \
            same file (copy /tmp/hsperfdata_*) before restoring",
    )
    .examples(&[
        "  12: Error (criu/files-reg.c:2000): Can't open file tmp/hsperfdata_root/12 \
                on restore: No such file or directory",
    ]),
    clue(Group::Files, "ghost-trim", &["trim failed: @{name}@"])
        .cause(
            "the directory for a link to a deleted file was not found: a file of a lower \
            overlayfs layer was deleted while in use",
        )
        .remedy(
            "upgrade CRIU (3.17 or newer dumps it as a ghost file), or do not delete files of \
            the image in the running container; --ghost-limit for its size",
        )
        .examples(&["(00.111637) Error (criu/files-reg.c:1012): trim failed: @link_remap.5@"]),
];
