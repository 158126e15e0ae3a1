//! Memory of processes: mappings, shared memory, limits.

use super::super::rule::{Group, Rule, cause, clue, consequence};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Memory,
        "restore-no-memory",
        &[
            "Unable to map ANON_VMA: Cannot allocate memory",
            "Unable to remap a private vma: Cannot allocate memory",
            "Unable to reserve memory ({size} bytes): Cannot allocate memory",
            "Can't mmap shmem {size}: Cannot allocate memory",
            "Can't map restorer code: Cannot allocate memory",
            "Can't mmap section for restore code: Cannot allocate memory",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "this machine (or its memory cgroup, container, ulimit -v) has too little memory \
            for the memory of the restored task",
    )
    .remedy(
        "give it more memory or swap, raise the container's memory limit, allow overcommit \
            (sysctl vm.overcommit_memory=1), raise vm.max_map_count and ulimit -v; \
            --lazy-pages restores memory on demand",
    )
    .examples(&[
        "(00.045563)     73: Error (cr-restore.c:333): Unable to map ANON_VMA: Cannot \
                allocate memory",
    ]),
    cause(
        Group::Memory,
        "out-of-memory",
        &["Can't allocate {size} bytes", ": Cannot allocate memory"],
    )
    .except(&["Can't fork for"])
    .cause(
        "memory ran out for CRIU (machine, memory cgroup or ulimit), or an address range \
            it needs is taken",
    )
    .remedy(
        "free memory or add swap, raise the memory limit of the container or cgroup CRIU \
            runs in, allow overcommit (vm.overcommit_memory=1), raise vm.max_map_count",
    )
    .examples(&[
        "Error (criu/mem.c:500): mem: Can't allocate 4096 bytes",
        "Error (criu/x.c:1): Something: Cannot allocate memory",
    ]),
    cause(
        Group::Memory,
        "no-restorer-area",
        &["No suitable area for task_restore bootstrap"],
    )
    .during(Operation::Restore)
    .cause(
        "no free address range was found for CRIU's restoring code: the address space of \
            the task is very full (sanitizers, huge mappings), or limits differ",
    )
    .remedy(
        "upgrade CRIU, raise ulimit -v, restore on a machine with the same address space \
            size (5-level paging, 32/64 bit)",
    )
    .examples(&[
        "  12: Error (criu/cr-restore.c:3000): No suitable area for task_restore \
                bootstrap (200K)",
    ]),
    clue(
        Group::Memory,
        "restorer-map",
        &[
            "Can't restore {at} mapping with {code}",
            "Unable to remap {at} -> {to}",
            "Unable to unmap ({at}){code}",
            "Can't mmap section for restore code",
            "Can't remap restorer blob",
            "Unable to map a guard page {at}",
        ],
    )
    .any_line()
    .during(Operation::Restore)
    .cause(
        "a memory mapping could not be put at its old address: the address is taken or \
            forbidden here (vm.mmap_min_addr, another kernel layout, ASLR, 5-level paging), \
            memory ran out, or SELinux forbids it",
    )
    .remedy(
        "check memory limits, sysctl vm.mmap_min_addr, vm.max_map_count and SELinux; use a \
            newer CRIU and the same kind of kernel as at the dump",
    )
    .examples(&[
        "pie: 12: Error (criu/pie/restorer.c:1500): Can't restore 7f00 mapping with \
                fffffffffffffff4",
        "pie: 12: Error (criu/pie/restorer.c:1000): Unable to remap 7f00 -> 8f00 (1000)",
    ]),
    clue(Group::Memory, "vma-fixup", &["Can't fixup VMA's fd"])
        .during(Operation::Restore)
        .cause("a mapped file could not be opened again")
        .remedy(
            "provide the same program and libraries at the same paths as at the dump; the \
            reason stands before",
        )
        .examples(&[" 565: Error (criu/mem.c:768): Can't fixup VMA's fd"]),
    cause(
        Group::Memory,
        "high-memory",
        &[
            "Can't restore high memory region {range} because kernel does only support vmas up \
            to {limit}",
            "Can't dump high memory region {range} of task {limit}",
        ],
    )
    .cause(
        "the task has mappings at addresses ({range}) that this kernel does not have \
            (another page-table depth or page size)",
    )
    .remedy(
        "restore on a machine with the same virtual address size (s390, ppc64, arm64 \
            52-bit VA, 5-level paging)",
    )
    .examples(&[
        "  12: Error (criu/mem.c:900): Can't restore high memory region 1-2 because \
                kernel does only support vmas up to 3",
    ]),
    cause(
        Group::Memory,
        "sysv-shmem-outside",
        &[
            "with SysVIPC shmem map @{at} doesn't live in IPC ns",
            "Task {pid} with SysVIPC shmem map @{at} doesn't live in IPC ns",
        ],
    )
    .cause(
        "the task uses System V shared memory of the machine's own IPC namespace, which \
            CRIU dumps only together with the namespace",
    )
    .remedy(
        "run the program in an IPC namespace of its own (unshare --ipc, a container), then \
            dump it",
    )
    .examples(&[
        "Error (criu/cr-dump.c:400): Task 12 with SysVIPC shmem map @7f00 doesn't live \
                in IPC ns",
    ]),
    cause(
        Group::Memory,
        "sysv-shmem-holes",
        &[
            "Sysv shmem {at} with a hole not supported",
            "Sysv shmem {at} with tail hole not supported",
            "Sysv shmem {at} with misordered attach chunks",
            "SysV shmem vma {at} points to anon vma",
        ],
    )
    .cause("System V shared memory is attached in parts, which CRIU cannot dump")
    .remedy("attach the segment as a whole in the program (no partial munmap)")
    .examples(&["Error (criu/shmem.c:200): Sysv shmem 7f00 with a hole not supported"]),
    cause(
        Group::Memory,
        "device-mapping",
        &["handle_device_vma plugin failed: {why}"],
    )
    .cause(
        "the process maps a device (GPU such as NVIDIA/CUDA or AMD, or other driver \
            memory), and no plugin took care of it: no plugin is installed, or cuda-checkpoint \
            took no part",
    )
    .remedy(
        "for CUDA install CRIU's cuda_plugin (CRIU 4.0+, directory /usr/lib/criu or \
            --libdir) with NVIDIA's cuda-checkpoint in PATH and driver r555/r570 or newer; for \
            AMD the amdgpu_plugin; or let the program release the GPU (cuda-checkpoint \
            --toggle --pid PID) before the dump",
    )
    .examples(&[
        "Error (criu/proc_parse.c:114): handle_device_vma plugin failed: No such file \
                or directory",
    ]),
    clue(
        Group::Memory,
        "non-regular-mapping",
        &["Can't handle non-regular mapping"],
    )
    .cause(
        "the process maps something that is neither memory nor a regular file: a device \
            (GPU, /dev/mem, RDMA), or a special mapping",
    )
    .remedy(
        "close the device or use a plugin (cuda_plugin with cuda-checkpoint, \
            amdgpu_plugin); disable the feature in the program",
    )
    .examples(&[
        "Error (criu/proc_parse.c:629): Can't handle non-regular mapping on 12's map \
                7f00",
    ]),
    cause(
        Group::Memory,
        "unsupported-mapping",
        &[
            "Unsupported mapping found {range}",
            "Bogus mapping {range}",
            "Nonlinear mapping found {range}",
        ],
    )
    .cause(
        "the process has a mapping that CRIU cannot dump ({range}): huge pages, device or \
            special memory",
    )
    .remedy(
        "see /proc/PID/smaps for what is at {range}; disable huge pages (hugetlbfs) or the \
            device in the program; upgrade CRIU (3.17+ supports hugetlb)",
    )
    .examples(&["Error (criu/proc_parse.c:700): Unsupported mapping found 00007f00-00008f00"]),
    cause(
        Group::Memory,
        "uprobes",
        &["has uprobes vma. Consider using"],
    )
    .cause(
        "the process has an uprobes mapping: a tracing or monitoring tool (perf, bpftrace, \
            eBPF agent) probes it",
    )
    .remedy("use --allow-uprobes, or detach the tool first")
    .examples(&[
        "Error (criu/proc_parse.c:600): PID 12 has uprobes vma. Consider using \
                --allow-uprobes.",
    ]),
    clue(
        Group::Memory,
        "shmem-restore",
        &[
            "Can't resize shmem {id} size={size}",
            "Can't mmap shmem {id} size={size}",
            "Can't restore shmem content{id}{size}",
            "Unable to truncate memfd{id}{size}",
        ],
    )
    .during(Operation::Restore)
    .cause("shared memory could not be created again: /dev/shm or memory is too small")
    .remedy(
        "give more memory, enlarge /dev/shm (docker --shm-size) to that of the dumping \
            machine",
    )
    .examples(&[
        "  12: Error (criu/shmem.c:600): Can't resize shmem 0x1 size=4096: File too \
                large",
        "  12: Error (criu/shmem.c:600): Can't restore shmem content",
    ]),
    cause(
        Group::Memory,
        "hugetlb-restore",
        &[
            "Unable to create memfd",
            "Can't create memfd:{name}",
            "Unable to map huge pages",
        ],
    )
    .during(Operation::Restore)
    .cause("a memfd (perhaps on huge pages) cannot be created here")
    .remedy(
        "reserve as many huge pages as on the dumping machine (vm.nr_hugepages), use \
            kernel 4.14+; check seccomp for memfd_create",
    )
    .examples(&["  12: Error (criu/memfd.c:300): Can't create memfd:x: Invalid argument"]),
    consequence(Group::Memory, "open-vma", &["`- Can't open vma"])
        .cause("a mapped file could not be opened again")
        .remedy(
            "the reason stands before: the same program and libraries must be at the same paths",
        )
        .examples(&["(00.029099) 110495: Error (criu/mem.c:1349): `- Can't open vma"]),
    clue(
        Group::Memory,
        "restorer-memory",
        &[
            "Unable to reserve memory ({code})",
            "madvise({code}",
            "lazy-pages: register {code}",
        ],
    )
    .any_line()
    .files(&["restorer.c"])
    .during(Operation::Restore)
    .cause(
        "memory of the task could not be set up ({code}; -12 is out of memory, -22 not \
            supported by this kernel)",
    )
    .remedy(
        "give more memory or raise limits (ulimit -v, vm.max_map_count, cgroup), use a \
            kernel as new as that of the dump; restore without --lazy-pages",
    )
    .examples(&["pie: 12: Error (criu/pie/restorer.c:1000): Unable to reserve memory (1000)"]),
];
