//! Memory: pages, pagemaps, incremental dumps, page server, lazy pages, shared memory.

use super::super::rule::{Group, Rule, cause, clue, consequence};
use crate::log::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(Group::Memory, "parent-page-missing", &["Missing {page} in parent pagemap", "not found in parent"])
        .cause("in an incremental dump a page counts as unchanged since the previous dump, but is not in the parent images: the chain does not fit (wrong or incomplete --prev-images-dir, process restarted, tracking reset by somebody else, or a bug of older CRIU)")
        .remedy("make a full dump and start over with a new chain: all dumps of the chain with --track-mem, each with --prev-images-dir naming the directory of the one before (relative to -D); upgrade to a newer CRIU")
        .examples(&["(00.130324) Error (criu/page-xfer.c:290): page-xfer: Missing 5574d7796000 in parent pagemap", "Error (criu/page-xfer.c:335): page-xfer: Hole 0x5574d7796000/8192 not found in parent"]),
    cause(Group::Memory, "parent-snapshot", &["No parent for snapshot pagemap", "Can't open parent path {path}", "Invalid parent image directory provided{path}", "Can't link parent snapshot{path}"])
        .cause("the images are incremental, and the parent images (link `parent` in the images directory) are missing or elsewhere")
        .remedy("keep the whole chain of images in the same relative places (copy the parent directories too, check the `parent` symbolic link); --prev-images-dir is relative to --images-dir; or make a full dump")
        .examples(&["  12: Error (criu/pagemap.c:300): No parent for snapshot pagemap", "Error (criu/image.c:700): Can't link parent snapshot: File exists"]),
    cause(Group::Memory, "track-mem-missing", &["Tracking memory is not available"])
        .cause("the kernel cannot track changes of memory (soft-dirty): CONFIG_MEM_SOFT_DIRTY is missing (x86, s390, newer on arm64/riscv only), or a virtual machine type that lacks it")
        .remedy("omit --track-mem and --prev-images-dir (make full dumps; iterative migration and pre-dump are not possible), or use a kernel with CONFIG_MEM_SOFT_DIRTY=y")
        .examples(&["Error (criu/config.c:1200): Tracking memory is not available. Consider omitting --track-mem option."]),
    cause(Group::Memory, "dirty-reset", &["Can't reset {pid}'s dirty memory tracker"])
        .cause("the memory tracking of task {pid} could not be reset (clear_refs): the kernel lacks CONFIG_MEM_SOFT_DIRTY or the task is gone")
        .remedy("omit --track-mem, or use a kernel with CONFIG_MEM_SOFT_DIRTY=y")
        .examples(&["Error (criu/mem.c:90): Can't reset 12's dirty memory tracker: Invalid argument"]),
    cause(Group::Kernel, "pagemap-scan", &["PAGEMAP_SCAN: Invalid argument", "PAGEMAP_SCAN failed with unexpected errno", "PAGEMAP_SCAN: {why}"])
        .cause("CRIU and the kernel do not agree on PAGEMAP_SCAN: kernel 6.7 has it without PAGE_IS_SOFT_DIRTY, which this CRIU (3.19, 4.0) expects")
        .remedy("upgrade CRIU to a newer version (4.0 or later with the fix), or use another kernel (6.8 or newer, or older than 6.7)")
        .examples(&["b'(00.011001) Error (criu/pagemap-cache.c:199): pagemap-cache: PAGEMAP_SCAN: Invalid argument'"]),
    cause(Group::Memory, "pagemap-denied", &["Can't open {pid}/pagemap on procfs: Permission denied", "Can't open {pid}/pagemap on procfs: Operation not permitted", "Can't read {pid}'s pagemap file: {why}"])
        .cause("the page map of task {pid} cannot be read: CRIU lacks CAP_SYS_ADMIN/CAP_SYS_PTRACE")
        .remedy("run CRIU as root with all capabilities")
        .examples(&["Error (criu/pagemap-cache.c:60): Can't open 12/pagemap on procfs: Permission denied"]),
    cause(Group::Memory, "no-space", &[": No space left on device"])
        .except(&["cg: ", "Can't move", "inotify"])
        .cause("a file system is full: the one of the images directory (or work directory, /dev/shm, /tmp, memory cgroup)")
        .remedy("free disk space or put --images-dir on a larger file system (the images need about as much space as the memory of the processes); check inodes and quotas (df -h, df -i); memory-backed directories count as memory")
        .examples(&["Error (criu/page-xfer.c:200): page-xfer: Unable to spice data: No space left on device", "Error (criu/image.c:600): Can't write img file: No space left on device"]),
    cause(Group::Memory, "restore-no-memory", &["Unable to map ANON_VMA: Cannot allocate memory", "Unable to remap a private vma: Cannot allocate memory", "Unable to reserve memory ({size} bytes): Cannot allocate memory", "Can't mmap shmem {size}: Cannot allocate memory", "Can't map restorer code: Cannot allocate memory", "Can't mmap section for restore code: Cannot allocate memory"])
        .during(Operation::Restore)
        .cause("this machine (or its memory cgroup, container, ulimit -v) has too little memory for the memory of the restored task")
        .remedy("give it more memory or swap, raise the container's memory limit, allow overcommit (sysctl vm.overcommit_memory=1), raise vm.max_map_count and ulimit -v; --lazy-pages restores memory on demand")
        .examples(&["(00.045563)     73: Error (cr-restore.c:333): Unable to map ANON_VMA: Cannot allocate memory"]),
    cause(Group::Memory, "out-of-memory", &["Can't allocate {size} bytes", ": Cannot allocate memory"])
        .except(&["Can't fork for"])
        .cause("memory ran out for CRIU (machine, memory cgroup or ulimit), or an address range it needs is taken")
        .remedy("free memory or add swap, raise the memory limit of the container or cgroup CRIU runs in, allow overcommit (vm.overcommit_memory=1), raise vm.max_map_count")
        .examples(&["Error (criu/mem.c:500): mem: Can't allocate 4096 bytes", "Error (criu/x.c:1): Something: Cannot allocate memory"]),
    cause(Group::Memory, "no-restorer-area", &["No suitable area for task_restore bootstrap"])
        .during(Operation::Restore)
        .cause("no free address range was found for CRIU's restoring code: the address space of the task is very full (sanitizers, huge mappings), or limits differ")
        .remedy("upgrade CRIU, raise ulimit -v, restore on a machine with the same address space size (5-level paging, 32/64 bit)")
        .examples(&["  12: Error (criu/cr-restore.c:3000): No suitable area for task_restore bootstrap (200K)"]),
    clue(Group::Memory, "restorer-map", &["Can't restore {at} mapping with {code}", "Unable to remap {at} -> {to}", "Unable to unmap ({at}){code}", "Can't mmap section for restore code", "Can't remap restorer blob", "Unable to map a guard page {at}"])
        .any_line()
        .during(Operation::Restore)
        .cause("a memory mapping could not be put at its old address: the address is taken or forbidden here (vm.mmap_min_addr, another kernel layout, ASLR, 5-level paging), memory ran out, or SELinux forbids it")
        .remedy("check memory limits, sysctl vm.mmap_min_addr, vm.max_map_count and SELinux; use a newer CRIU and the same kind of kernel as at the dump")
        .examples(&["pie: 12: Error (criu/pie/restorer.c:1500): Can't restore 7f00 mapping with fffffffffffffff4", "pie: 12: Error (criu/pie/restorer.c:1000): Unable to remap 7f00 -> 8f00 (1000)"]),
    clue(Group::Memory, "vma-fixup", &["Can't fixup VMA's fd"])
        .during(Operation::Restore)
        .cause("a mapped file could not be opened again")
        .remedy("provide the same program and libraries at the same paths as at the dump; the reason stands before")
        .examples(&[" 565: Error (criu/mem.c:768): Can't fixup VMA's fd"]),
    cause(Group::Memory, "high-memory", &["Can't restore high memory region {range} because kernel does only support vmas up to {limit}", "Can't dump high memory region {range} of task {limit}"])
        .cause("the task has mappings at addresses ({range}) that this kernel does not have (another page-table depth or page size)")
        .remedy("restore on a machine with the same virtual address size (s390, ppc64, arm64 52-bit VA, 5-level paging)")
        .examples(&["  12: Error (criu/mem.c:900): Can't restore high memory region 1-2 because kernel does only support vmas up to 3"]),
    cause(Group::Memory, "uffd-eperm", &["Unable to open a userfaultfd descriptor: {why}", "Unable to open an userfaultfd descriptor: {why}", "Lazy pages are not available: {why}"])
        .except(&["Function not implemented"])
        .near(&["userfaultfd descriptor: Operation not permitted", "userfaultfd descriptor: Permission denied"])
        .cause("userfaultfd may not be used here ({why}): vm.unprivileged_userfaultfd is 0 and the task has no CAP_SYS_PTRACE in the initial user namespace (user namespace, container), or a seccomp filter forbids it")
        .remedy("set sysctl vm.unprivileged_userfaultfd=1, run the restore as root outside a user namespace (CAP_SYS_PTRACE, privileged container), or restore without --lazy-pages")
        .examples(&["b'(00.066969)      1: Error (criu/uffd.c:317): uffd: Unable to open a userfaultfd descriptor: Operation not permitted'"]),
    cause(Group::Memory, "uffd-missing", &["Unable to open a userfaultfd descriptor: Function not implemented", "Unable to open an userfaultfd descriptor: Function not implemented", "UFFD is not supported", "Non-cooperative UFFD is not supported", "Incompatible uffd API", "Failed to get uffd API"])
        .except(&["Lazy pages are not available"])
        .cause("the kernel has no (suitable) userfaultfd, which lazy restore needs")
        .remedy("use a kernel of 4.11 or newer with CONFIG_USERFAULTFD=y, or restore without --lazy-pages")
        .examples(&["Error (criu/uffd.c:317): uffd: Unable to open a userfaultfd descriptor: Function not implemented"]),
    clue(Group::Memory, "lazy-socket", &["connect to {path} failed: {why}", "No lazy-pages socket{path}{why}"])
        .cause("the lazy-pages daemon is not reachable at {path} ({why})")
        .remedy("start `criu lazy-pages -D DIR` (same images/work directory, and --page-server --address --port for a remote source) before `criu restore --lazy-pages`")
        .examples(&["Error (criu/uffd.c:400): uffd: connect to lazy-pages.socket failed: No such file or directory"]),
    clue(Group::Memory, "lazy-transfer", &["Error during UFFD copy", "no pagemap covers {at}", "failed reading pages at {at}", "mcopy_rc:{at}", "Restorer unexpectedly closed the connection"])
        .cause("the lazy-pages daemon could not deliver a page: the restored process or the source went away, or the images are incomplete")
        .remedy("keep the source (criu dump --lazy-pages or page server) alive until the transfer ends; see the restore's own log for why it stopped; upgrade CRIU")
        .examples(&["Error (criu/uffd.c:900): uffd: 12-1: Error during UFFD copy"]),
    cause(Group::Memory, "page-server-connect", &["Can't connect to server: {why}", "Can't connect page server: {why}", "connect to page server failed{why}"])
        .cause("the page server cannot be reached: {why}")
        .remedy("start `criu page-server -D DIR --port PORT` on the other machine first, check --address, --port and the firewall")
        .examples(&["Error (criu/util.c:1200): Can't connect to server: Connection refused"]),
    clue(Group::Memory, "page-server-lost", &["The page server doesn't answer", "Can't write to page server", "Can't read pagemap from socket", "Can't write pages to socket", "Remote side closed connection", "A socket was closed unexpectedly", "Error reading data from page server", "Can't send PSI {n} to server"])
        .cause("the connection to the page server broke: the other side stopped")
        .remedy("look at the log of the page server (its disk may be full, its images directory wrong); start it anew for each dump; check network and TLS options on both sides")
        .examples(&["Error (criu/page-xfer.c:300): page-xfer: The page server doesn't answer: Connection reset by peer"]),
    cause(Group::Memory, "page-server-bind", &["Can't bind {kind} server: Address already in use"])
        .cause("the {kind} server's port is in use: another one still runs")
        .remedy("stop the other one (ss -tlpn) or choose another --port")
        .examples(&["Error (criu/util.c:1100): Can't bind page server: Address already in use"]),
    cause(Group::Memory, "dedup", &["Auto-deduplication failed", "Error punching hole", "Can't punch hole"])
        .cause("unused pages could not be cut out of the parent images: the file system cannot punch holes (fallocate)")
        .remedy("leave --auto-dedup away, or keep the images on ext4, xfs, btrfs or tmpfs")
        .examples(&["Error (criu/page-xfer.c:350): page-xfer: Auto-deduplication failed: Operation not supported"]),
    cause(Group::Memory, "page-image-short", &["Reached EOF unexpectedly while reading page from image", "Can't read mapping page", "Can't read async pr bytes", "Can't read pages data ({code})"])
        .any_line()
        .during(Operation::Restore)
        .cause("pages are missing in the images: a pages-*.img file is truncated or not copied completely, or holds were punched by --auto-dedup")
        .remedy("copy the images again, completely (with the parent directories); do not restore twice from images read with --auto-dedup; make a new dump")
        .examples(&["  12: Error (criu/pagemap.c:300): Reached EOF unexpectedly while reading page from image", "pie: 12: Error (criu/pie/restorer.c:1600): Can't read pages data (0)"]),
    cause(Group::Memory, "vmsplice", &["Can't splice pages to pipe ({n})", "vmsplice: Failed to splice user buffer to pipe {n}", "Can't splice all pages to pipe ({n})", "process_vm_readv failed{n}"])
        .any_line()
        .cause("pages of the process could not be read: they vanished (a mapped file was truncated), or are not readable memory (device, secret memory)")
        .remedy("do not truncate files that the program has mapped; use the other --pre-dump-mode (read or splice); upgrade CRIU and the kernel")
        .examples(&["pie: 12: Error (criu/pie/parasite.c:100): Can't splice pages to pipe (-14/1/0)"]),
    clue(Group::Memory, "pipe-alloc", &["Can't make pipe for page-pipe", "Can't get pipe size", "Can't get shmem into page-pipe"])
        .cause("the pipes for moving pages could not be made: a limit of descriptors or pipe memory is reached")
        .remedy("raise ulimit -n, fs.pipe-user-pages-soft/hard and fs.pipe-max-size for CRIU, or use --pre-dump-mode read")
        .examples(&["Error (criu/page-pipe.c:100): page-pipe: Can't make pipe for page-pipe: Too many links"]),
    cause(Group::Memory, "pid-reuse", &["Pid-reuse detection failed: no parent inventory"])
        .cause("the previous dump has no inventory, so CRIU cannot tell whether the process is still the same")
        .remedy("name the directory of the previous pre-dump with --prev-images-dir; make the whole chain with the same CRIU version")
        .examples(&["Error (criu/mem.c:300): Pid-reuse detection failed: no parent inventory, check warnings in get_parent_inventory"]),
    cause(Group::Memory, "sysv-shmem-outside", &["with SysVIPC shmem map @{at} doesn't live in IPC ns", "Task {pid} with SysVIPC shmem map @{at} doesn't live in IPC ns"])
        .cause("the task uses System V shared memory of the machine's own IPC namespace, which CRIU dumps only together with the namespace")
        .remedy("run the program in an IPC namespace of its own (unshare --ipc, a container), then dump it")
        .examples(&["Error (criu/cr-dump.c:400): Task 12 with SysVIPC shmem map @7f00 doesn't live in IPC ns"]),
    cause(Group::Memory, "sysv-shmem-holes", &["Sysv shmem {at} with a hole not supported", "Sysv shmem {at} with tail hole not supported", "Sysv shmem {at} with misordered attach chunks", "SysV shmem vma {at} points to anon vma"])
        .cause("System V shared memory is attached in parts, which CRIU cannot dump")
        .remedy("attach the segment as a whole in the program (no partial munmap)")
        .examples(&["Error (criu/shmem.c:200): Sysv shmem 7f00 with a hole not supported"]),
    cause(Group::Memory, "device-mapping", &["handle_device_vma plugin failed: {why}"])
        .cause("the process maps a device (GPU such as NVIDIA/CUDA or AMD, or other driver memory), and no plugin took care of it: no plugin is installed, or cuda-checkpoint took no part")
        .remedy("for CUDA install CRIU's cuda_plugin (CRIU 4.0+, directory /usr/lib/criu or --libdir) with NVIDIA's cuda-checkpoint in PATH and driver r555/r570 or newer; for AMD the amdgpu_plugin; or let the program release the GPU (cuda-checkpoint --toggle --pid PID) before the dump")
        .examples(&["Error (criu/proc_parse.c:114): handle_device_vma plugin failed: No such file or directory"]),
    clue(Group::Memory, "non-regular-mapping", &["Can't handle non-regular mapping"])
        .cause("the process maps something that is neither memory nor a regular file: a device (GPU, /dev/mem, RDMA), or a special mapping")
        .remedy("close the device or use a plugin (cuda_plugin with cuda-checkpoint, amdgpu_plugin); disable the feature in the program")
        .examples(&["Error (criu/proc_parse.c:629): Can't handle non-regular mapping on 12's map 7f00"]),
    cause(Group::Memory, "unsupported-mapping", &["Unsupported mapping found {range}", "Bogus mapping {range}", "Nonlinear mapping found {range}"])
        .cause("the process has a mapping that CRIU cannot dump ({range}): huge pages, device or special memory")
        .remedy("see /proc/PID/smaps for what is at {range}; disable huge pages (hugetlbfs) or the device in the program; upgrade CRIU (3.17+ supports hugetlb)")
        .examples(&["Error (criu/proc_parse.c:700): Unsupported mapping found 00007f00-00008f00"]),
    cause(Group::Memory, "uprobes", &["has uprobes vma. Consider using"])
        .cause("the process has an uprobes mapping: a tracing or monitoring tool (perf, bpftrace, eBPF agent) probes it")
        .remedy("use --allow-uprobes, or detach the tool first")
        .examples(&["Error (criu/proc_parse.c:600): PID 12 has uprobes vma. Consider using --allow-uprobes."]),
    cause(Group::Memory, "madv-guard", &["Collect MADV_GUARD_INSTALL pages (pid: {pid}) failed", "MADV_GUARD_INSTALL) failed with {pid}"])
        .any_line()
        .cause("guard pages (madvise MADV_GUARD_INSTALL, used by newer glibc and allocators) need kernel support")
        .remedy("use kernel 6.13+ on both sides (6.15+ for dumping them) and CRIU 4.2 or newer")
        .examples(&["Error (criu/cr-dump.c:100): Collect MADV_GUARD_INSTALL pages (pid: 12) failed with -1"]),
    cause(Group::Memory, "shmem-restore", &["Can't resize shmem {id} size={size}", "Can't mmap shmem {id} size={size}", "Can't restore shmem content{id}{size}", "Unable to truncate memfd{id}{size}"])
        .during(Operation::Restore)
        .cause("shared memory could not be created again: /dev/shm or memory is too small")
        .remedy("give more memory, enlarge /dev/shm (docker --shm-size) to that of the dumping machine")
        .examples(&["  12: Error (criu/shmem.c:600): Can't resize shmem 0x1 size=4096: File too large", "  12: Error (criu/shmem.c:600): Can't restore shmem content"]),
    cause(Group::Memory, "hugetlb-restore", &["Unable to create memfd", "Can't create memfd:{name}", "Unable to map huge pages"])
        .during(Operation::Restore)
        .cause("a memfd (perhaps on huge pages) cannot be created here")
        .remedy("reserve as many huge pages as on the dumping machine (vm.nr_hugepages), use kernel 4.14+; check seccomp for memfd_create")
        .examples(&["  12: Error (criu/memfd.c:300): Can't create memfd:x: Invalid argument"]),
    consequence(Group::Memory, "dump-pages-failed", &["Can't dump page with parasite", "Failed to fill cache for", "Dump VMA pages failure"])
        .cause("dumping the memory of a task failed")
        .remedy("the reason stands before: disk space, parent images, page server or kernel support")
        .examples(&["Error (criu/mem.c:672): Can't dump page with parasite"]),
    clue(Group::Security, "lazy-pages-eperm", &["Lazy pages are not available: Operation not permitted"])
        .errors()
        .cause("userfaultfd may not be used: CRIU runs as an ordinary user (not root), or vm.unprivileged_userfaultfd is 0 in a container")
        .remedy("run CRIU as root (sudo), or set sysctl vm.unprivileged_userfaultfd=1; lazy pages need it")
        .examples(&["Error (criu/uffd.c:231): uffd: Lazy pages are not available: Operation not permitted"]),
    clue(Group::Memory, "lazy-protocol", &["recv_fd error", "send_fd error", "PID sending error", "PID recv error", "PID recv: short read", "Can't read uffd message", "unexpected uffd event", "Failed to unregister ("])
        .files(&["uffd.c"])
        .cause("the lazy-pages daemon and the restore lost each other")
        .remedy("start one `criu lazy-pages` daemon per restore, in the same work directory, and keep it running; look at the log of the other side for why it stopped; upgrade CRIU, or restore without --lazy-pages")
        .examples(&["(00.010000) Error (criu/uffd.c:762): uffd: recv_fd error", "Error (criu/uffd.c:1220): uffd: 4--19: Can't read uffd message: Bad file descriptor"]),
    consequence(Group::Memory, "open-vma", &["`- Can't open vma"])
        .cause("a mapped file could not be opened again")
        .remedy("the reason stands before: the same program and libraries must be at the same paths")
        .examples(&["(00.029099) 110495: Error (criu/mem.c:1349): `- Can't open vma"]),
    clue(Group::Memory, "restorer-memory", &["Unable to reserve memory ({code})", "madvise({code}", "lazy-pages: register {code}"])
        .any_line()
        .files(&["restorer.c"])
        .during(Operation::Restore)
        .cause("memory of the task could not be set up ({code}; -12 is out of memory, -22 not supported by this kernel)")
        .remedy("give more memory or raise limits (ulimit -v, vm.max_map_count, cgroup), use a kernel as new as that of the dump; restore without --lazy-pages")
        .examples(&["pie: 12: Error (criu/pie/restorer.c:1000): Unable to reserve memory (1000)"]),
];
