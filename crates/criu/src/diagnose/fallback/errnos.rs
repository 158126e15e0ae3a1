//! What the texts of errno mean in CRIU's messages, and what helps.

pub(super) struct Errno {
    pub(super) text: &'static str,
    pub(super) meaning: &'static str,
    pub(super) remedy: &'static str,
}

pub(super) const ERRNOS: &[Errno] = &[
    Errno {
        text: "Operation not permitted",
        meaning: "the kernel refused it: CRIU lacks a privilege (EPERM)",
        remedy: "run CRIU as root with all capabilities (CAP_SYS_ADMIN, CAP_SYS_PTRACE, \
                CAP_NET_ADMIN, CAP_SYS_RESOURCE, CAP_CHECKPOINT_RESTORE; in a container: \
                privileged, seccomp unconfined), and look for a security module (AppArmor, \
                SELinux, seccomp filter) in the kernel log that forbids it",
    },
    Errno {
        text: "Permission denied",
        meaning: "access was denied (EACCES): file permissions or a security module such as \
                SELinux or AppArmor",
        remedy: "check owner and permissions (chmod, chown) of the path, run CRIU as root, and \
                look for SELinux (avc: denied) or AppArmor messages in the kernel log",
    },
    Errno {
        text: "No such file or directory",
        meaning: "a file, directory or program it needs does not exist here (ENOENT)",
        remedy: "provide the same file at the same path (copy it, bind-mount it, or install \
                the missing package); if it is below /proc or /sys, the kernel lacks the \
                feature (CONFIG_*)",
    },
    Errno {
        text: "No space left on device",
        meaning: "a file system is full (ENOSPC), or a limit on the number of such objects is \
                reached",
        remedy: "free disk space for the images and work directory, or raise the limit",
    },
    Errno {
        text: "Cannot allocate memory",
        meaning: "memory ran out or an address range is in the way (ENOMEM)",
        remedy: "give the machine or the container's memory cgroup more memory or swap, check \
                vm.overcommit_memory, vm.max_map_count and ulimits",
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
        remedy: "make it writable: remount it rw, or in a container use a writable volume or \
                tmpfs for that path",
    },
    Errno {
        text: "Address already in use",
        meaning: "the network address and port are taken (EADDRINUSE)",
        remedy: "stop the process that uses the address and port (ss -tulpn), or restore in a \
                network namespace of its own",
    },
    Errno {
        text: "Cannot assign requested address",
        meaning: "the IP address does not exist on this machine (EADDRNOTAVAIL)",
        remedy: "give an interface the same IP address as at the dump (ip addr add) before \
                restoring, or use --tcp-close",
    },
    Errno {
        text: "Connection refused",
        meaning: "nobody listens at the other end (ECONNREFUSED)",
        remedy: "start the server there (page server, lazy-pages daemon, service) first, check \
                address and port",
    },
    Errno {
        text: "Connection timed out",
        meaning: "the other end does not answer (ETIMEDOUT)",
        remedy: "check address, port and firewall on the way",
    },
    Errno {
        text: "No such process",
        meaning: "the process is gone (ESRCH): it ended while CRIU worked on it, or the pid is \
                wrong",
        remedy: "check that the process still runs and that the pid is right in CRIU's own pid \
                namespace; look for the reason of its end above",
    },
    Errno {
        text: "No child processes",
        meaning: "somebody else waited for CRIU's child (ECHILD): SIGCHLD is ignored or handled \
                in the caller",
        remedy: "do not ignore SIGCHLD in the process that runs CRIU",
    },
    Errno {
        text: "Function not implemented",
        meaning: "this kernel does not have the system call (ENOSYS)",
        remedy: "use a newer kernel or one with the missing CONFIG_* option (`criu check \
                --all` tells which); in a sandbox such as gVisor or WSL1 CRIU cannot work",
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
        meaning: "the kernel rejected the arguments (EINVAL): often kernel and CRIU do not fit \
                each other",
        remedy: "use a CRIU version as new as the kernel (upgrade CRIU, delete \
                /run/criu.kdat), or a kernel it was made for",
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
        remedy: "raise the limit of processes (ulimit -u, pids cgroup) or memory locked \
                (ulimit -l)",
    },
    Errno {
        text: "Inappropriate ioctl for device",
        meaning: "the file is not of the kind CRIU expects (ENOTTY)",
        remedy: "make sure that standard input is a terminal where one is needed, and that the \
                same kind of file is at the same path",
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
        meaning: "the file behind the handle is gone, or its file system cannot open files by \
                handle (ESTALE)",
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
        remedy: "enable it (IPv6: no ipv6.disable=1; modprobe), or upgrade CRIU, which may \
                cope without",
    },
    Errno {
        text: "Connection reset by peer",
        meaning: "the other end closed the connection (ECONNRESET)",
        remedy: "look at the log of the other end: its failure comes first",
    },
    Errno {
        text: "Too many references: cannot splice",
        meaning: "too many descriptors are in flight in sockets (ETOOMANYREFS)",
        remedy: "raise RLIMIT_NOFILE (ulimit -n) for CRIU, run it as root",
    },
];
