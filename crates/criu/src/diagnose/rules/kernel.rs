//! What kernel, CPU and CRIU version must offer each other.

use super::super::rule::{Group, Rule, cause, clue, consequence};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Kernel,
        "vdso-bounds",
        &[
            "Unexpected rt vDSO area bounds",
            "Can't find vDSO/VVAR bounds",
            "Can't find rt vDSO",
            "VVAR and VVAR_VCLOCK entries are not subsequent",
            "two nonconsecutive vvar vma-s",
            "Kdat sizes of vdso/vvar differ to maps file",
            "Failed reading self/maps for filling vdso/vvar bounds",
        ],
    )
    .any_line()
    .cause(
        "this kernel lays out the vDSO in a way that this CRIU does not know: the kernel \
            is newer than CRIU (6.13+ split vvar; 6.x time namespaces), or /run/criu.kdat is \
            from another kernel",
    )
    .remedy(
        "upgrade CRIU to a newer version (4.1 or later for kernels from 6.13 on), delete \
            the cache /run/criu.kdat",
    )
    .examples(&["Error (criu/vdso.c:600): vdso: Unexpected rt vDSO area bounds"]),
    cause(
        Group::Kernel,
        "vdso-other",
        &[
            "header magic mismatch",
            "Can't find vDSO area in image",
            "Found VVAR area without support",
            "Found vDSO area without support",
            "Corrupted Elf symbols/hash",
            "Corrupted Elf phdr",
            "Corrupted Elf dynamic section",
            "Not all dynamic entries are present",
            "Kdat has empty vdso symtable",
            "kerndat_vdso_fill_symtable failed",
            "Can't handle small vDSO symbol",
            "Failed to map vdso",
            "Task had vdso, restorer doesn't",
            "Failed to proxify dumpee contents",
            "vDSO isn't provided by kernel, but exists in images",
        ],
    )
    .any_line()
    .cause(
        "the kernel's vDSO does not fit what CRIU expects: the kernel is newer than CRIU \
            (or built without GNU/SysV hash in its vDSO), or the vDSO is disabled (vdso=0)",
    )
    .remedy(
        "upgrade CRIU to a newer version as new as the kernel, delete /run/criu.kdat; boot \
            without vdso=0; restore on the same kernel as the dump",
    )
    .examples(&[
        "(00.124909) Found VVAR area without support",
        "Error (criu/pie-util-vdso.c:97): vdso: ELF header magic mismatch",
        "pie: 12: Error (criu/pie/util-vdso.c:200): Not all dynamic entries are present",
    ]),
    cause(
        Group::Kernel,
        "compat-vdso",
        &[
            "Compat vdso helper exited with {code}",
            "Helper for mmaping compat vdso failed with {code}",
            "Failed to mmap compatible vdso with helper process{code}",
            "Compat vDSO helper didn't exit, status: {code}",
        ],
    )
    .cause(
        "the 32-bit vDSO could not be looked at: the kernel has no 32-bit support \
            (CONFIG_IA32_EMULATION, COMPAT_VDSO), or it is not permitted",
    )
    .remedy(
        "use a CRIU built without CONFIG_COMPAT or upgrade CRIU, or a kernel with \
            CONFIG_IA32_EMULATION=y (not ia32_emulation=off)",
    )
    .examples(&["Error (criu/vdso.c:500): vdso: Compat vdso helper exited with 1"]),
    cause(
        Group::Kernel,
        "xsave-size",
        &[
            "CPU xsave size mismatch ({a}",
            "CPU xsave max size mismatch ({a}",
            "CPU xfeatures has unsupported bits ({a}",
        ],
    )
    .cause("the CPU of this machine has other register state (xsave) than the one of the dump")
    .remedy(
        "restore on a CPU with the same features (in virtual machines give the same CPU \
            model, live migration baseline), or relax with --cpu-cap=none or --cpu-cap=cpu; \
            upgrade CRIU",
    )
    .examples(&["Error (criu/arch/x86/cpu.c:400): cpu: CPU xsave size mismatch (2696/832)"]),
    cause(
        Group::Kernel,
        "cpu-capabilities",
        &[
            "CPU instruction capabilities do not match run time",
            "CPU capabilities do not match run time",
            "CPU capabilites do not match run time",
            "FPU feature required by image is not supported on host",
            "FPU xsave area present, but host cpu doesn't support it",
            "CPU Feature {name} required by image",
            "CPU Feature {name} not supported on host",
            "PACG support is required from the source system",
        ],
    )
    .cause("this CPU lacks instructions or FPU features that the CPU of the dump had")
    .remedy(
        "restore on a CPU with at least the same features (virtual machines: the same CPU \
            model), or relax the check with --cpu-cap=none (or cpu, fpu, ins) at your own \
            risk; `criu cpuinfo dump` and `criu cpuinfo check` tell beforehand",
    )
    .examples(&[
        "Error (criu/arch/x86/cpu.c:300): cpu: CPU instruction capabilities do not \
                match run time",
    ]),
    cause(Group::Kernel, "cpuinfo-image", &["No cpuinfo image"])
        .cause("there is no cpuinfo.img in the images directory to compare this CPU with")
        .remedy(
            "run `criu cpuinfo dump -D DIR` on the machine of the dump first, and bring the images \
            directory along",
        )
        .examples(&["(00.140064) Error (criu/arch/x86/cpu.c:411): cpu: No cpuinfo image"]),
    cause(
        Group::Kernel,
        "fpu-corrupt",
        &[
            "Corruption in FPU {what} area",
            "Corruption in {what} area (expected",
            "reported {what} bytes (expecting",
        ],
    )
    .cause(
        "the floating-point state is larger or laid out otherwise than this CRIU expects: \
            the CPU has newer features (AVX-512, AMX, PKRU) than CRIU knows",
    )
    .remedy(
        "upgrade CRIU to a newer version; or disable the feature for the machine \
            (clearcpuid=, noxsave)",
    )
    .examples(&[
        "Error (criu/arch/x86/crtools.c:300): x86: Corruption in AVX area (expected \
                256 but 0 obtained)",
    ]),
    cause(
        Group::Kernel,
        "fpu-set",
        &[
            "Can't set FPU registers for {pid}: {why}",
            "Can't set xstate for {pid}: {why}",
            "Couldn't get floating-point registers{pid}{why}",
            "PTRACE_GETREGSET failed{pid}{why}",
        ],
    )
    .cause(
        "the registers of task {pid} cannot be read or written ({why}): kernel, CPU \
            features and CRIU do not fit (xsave size, AMX)",
    )
    .remedy(
        "upgrade CRIU to a newer version as new as kernel and CPU; in virtual machines use \
            a simpler CPU model",
    )
    .examples(&[
        "Error (compel/arch/x86/src/lib/infect.c:400): Can't set FPU registers for 12: \
                Invalid argument",
    ]),
    cause(
        Group::Kernel,
        "rseq-unsupported",
        &[
            "{pid} has rseq but kernel lacks get_rseq_conf feature",
            "unsupported RSEQ ABI version = {pid}",
            "rseq: can't restore as kernel doesn't support it{pid}",
            "C/R of processes which are using rseq() won't work{pid}",
            "something wrong with ptrace(PTRACE_GET_RSEQ_CONFIGURATION, {pid})",
        ],
    )
    .except(&["won't work"])
    .cause(
        "the process uses restartable sequences (rseq, glibc 2.35+), and the kernel cannot \
            tell their state (PTRACE_GET_RSEQ_CONFIGURATION, kernel 5.13)",
    )
    .remedy(
        "use a newer kernel (5.13+) and CRIU (3.17+), or start the program with \
            GLIBC_TUNABLES=glibc.pthread.rseq=0",
    )
    .examples(&[
        "Error (criu/cr-dump.c:1000): 12 has rseq but kernel lacks get_rseq_conf \
                feature",
    ]),
    clue(
        Group::Kernel,
        "rseq-dump",
        &[
            "Dump {pid} rseq failed",
            "Fixup rseq for {pid} failed",
            "Can't restore rseq_cs pointer (pid: {pid})",
            "failed sys_rseq({pid}",
            "unexpected failure of sys_rseq({pid}",
            "Unable to check if rseq() is initialized: {pid}",
        ],
    )
    .any_line()
    .cause("the state of restartable sequences (rseq) of the task could not be handled")
    .remedy(
        "upgrade CRIU (3.17+; newer glibc and kernels with a larger rseq area need 4.x), \
            or start the program with GLIBC_TUNABLES=glibc.pthread.rseq=0",
    )
    .examples(&["Error (criu/cr-dump.c:1600): Dump 12 rseq failed -1"]),
    cause(
        Group::Kernel,
        "shadow-stack",
        &[
            "Failed to prepare shadow stack memory",
            "Shadow stack address mismatch",
            "Failed to map shadow stack",
            "Failed to lock shadow stack controls",
            "shstk: can't get shadow stack status for",
            "kerndat_has_shstk failed",
            "kdat_has_shstk failed",
        ],
    )
    .any_line()
    .cause(
        "the process uses a shadow stack (CET), which kernel and CRIU do not handle \
            together here",
    )
    .remedy(
        "upgrade CRIU (4.0+) and the kernel (6.6+), or start the program with \
            GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK (x86_shstk disabled)",
    )
    .examples(&["Error (criu/arch/x86/shstk.c:100): Failed to prepare shadow stack memory"]),
    consequence(
        Group::Kernel,
        "kerndat-failed",
        &[
            "{check} failed when initializing kerndat",
            "{check} has failed when initializing kerndat",
        ],
    )
    .cause(
        "CRIU's look at the kernel failed in {check}: kernel and CRIU do not fit each \
            other, or CRIU may not do it (container, sandbox, seccomp, no CAP_SYS_ADMIN)",
    )
    .remedy(
        "run CRIU as root, unconfined and privileged; upgrade CRIU to one as new as the \
            kernel; delete /run/criu.kdat; the line before tells what failed",
    )
    .examples(&[
        "Error (criu/kerndat.c:2000): kerndat_has_rseq failed when initializing \
                kerndat.",
    ]),
    consequence(
        Group::Kernel,
        "kerndat-stop",
        &["Could not initialize kernel features detection"],
    )
    .cause("CRIU could not find out what the kernel can do")
    .remedy(
        "the reason stands before; run as root, privileged, upgrade CRIU, delete \
            /run/criu.kdat",
    )
    .examples(&["Error (criu/crtools.c:200): Could not initialize kernel features detection."]),
    cause(
        Group::Kernel,
        "guard-pages-kernel",
        &["doesn't support PAGE_IS_GUARD flag"],
    )
    .near(&["MADV_GUARD_INSTALL pages"])
    .cause("the process uses guard pages (MADV_GUARD_INSTALL) and the kernel cannot list them")
    .remedy("upgrade the kernel (6.15+), or use a libc/allocator without MADV_GUARD_INSTALL")
    .examples(&[
        "Warn  (criu/kerndat.c:1900): ioctl(PAGEMAP_SCAN) doesn't support \
                PAGE_IS_GUARD flag. CRIU dump will fail\nError (criu/cr-dump.c:100): Collect \
                MADV_GUARD_INSTALL pages (pid: 1) failed with -1",
    ]),
    cause(
        Group::Kernel,
        "aio-remap",
        &[
            "Kernel doesn't remap AIO rings",
            "Ring remap failed with {code}",
            "Ring setup failed with {code}",
            "wrong aio: {code}",
        ],
    )
    .any_line()
    .during(Operation::Restore)
    .cause("asynchronous I/O rings (aio) could not be restored")
    .remedy(
        "use a kernel 3.18+ with CONFIG_AIO, raise fs.aio-max-nr, or disable native aio in \
            the program (mysql: innodb_use_native_aio=0)",
    )
    .examples(&["pie: 12: Error (criu/pie/restorer.c:900): Ring setup failed with -11"]),
    cause(
        Group::Kernel,
        "clone3",
        &[
            "This architecture does not support clone3() with set_tid",
            "clone3() with set_tid not supported",
        ],
    )
    .errors()
    .near(&["Restoring FAILED"])
    .cause("the kernel or architecture cannot choose pids with clone3")
    .remedy("use kernel 5.5 or newer; upgrade CRIU")
    .examples(&[
        "Error (criu/x.c:1): This architecture does not support clone3() with set_tid, \
                yet!\nError (criu/cr-restore.c:1): Restoring FAILED.",
    ]),
    cause(
        Group::Kernel,
        "core-march",
        &[
            "Core march mismatch {code}",
            "Unsupported ELF data encoding: {code}",
        ],
    )
    .cause("the images are of another CPU architecture")
    .remedy("restore on a machine of the same architecture as the dump")
    .examples(&["Error (criu/cr-restore.c:900): Core march mismatch 1"]),
    cause(
        Group::Kernel,
        "check-feature",
        &[
            "Kernel doesn't support PTRACE_O_SUSPEND_SECCOMP",
            "prctl: PR_SET_MM_MAP is not supported",
            "/proc/<pid>/timers file is missing",
            "SO_PEEK_OFF sockoption doesn't work",
            "fdinfo doesn't contain the mnt_id field",
            "procfs: stat extension is not supported",
            "No userns proc file",
            "sysctl is inaccessible",
            "sysctl is missing",
        ],
    )
    .any_line()
    .cause("`criu check` found that the kernel lacks a feature CRIU needs")
    .remedy(
        "use a kernel with CONFIG_CHECKPOINT_RESTORE=y, CONFIG_NAMESPACES and the *_DIAG \
            options, as new as possible (upgrade the kernel); run CRIU as root",
    )
    .examples(&[
        "Error (criu/cr-check.c:700): Kernel doesn't support PTRACE_O_SUSPEND_SECCOMP",
        "/proc/<pid>/timers file is missing.",
    ]),
    clue(
        Group::Kernel,
        "proc-format",
        &[
            "stat for {pid} is corrupted",
            "Parsing {pid}'s stat failed",
            "Error parsing proc status file",
            "Unable to parse '{pid}'",
            "Bad maps format {pid}",
            "Unable to parse: {pid}",
            "No records of type {pid} found in fdinfo file",
            "error parsing [{pid}] for",
            "Failed parsing cgroup {pid}",
            "Parse error in posix timers proc file!",
        ],
    )
    .cause(
        "a file of /proc looks other than this CRIU expects: the kernel is newer or \
            patched, or /proc is not the kernel's own (lxcfs, gVisor)",
    )
    .remedy("upgrade CRIU to a newer version as new as the kernel")
    .examples(&[
        "Error (criu/proc_parse.c:2000): Parsing 12's stat failed (#fields do not \
                match)",
    ]),
    cause(
        Group::Kernel,
        "32bit-stack",
        &[
            "mmap() of compat syscall stack failed with",
            "Compatible mode without vdso map support",
            "Failed to allocate 32-bit stack for sigaction",
        ],
    )
    .any_line()
    .cause("the memory below 4 GiB that a 32-bit task needs could not be set up")
    .remedy("use kernel 4.12+ with CONFIG_IA32_EMULATION, upgrade CRIU")
    .examples(&["Error (compel/arch/x86/x.h:1): mmap() of compat syscall stack failed with -12"]),
    cause(
        Group::Kernel,
        "stack-smash",
        &["Restorer stack smash detected {code}"],
    )
    .any_line()
    .during(Operation::Restore)
    .cause(
        "CRIU's restoring code overran its stack: this CRIU is too old for kernel, CPU or \
            compiler",
    )
    .remedy("upgrade CRIU to a newer version")
    .examples(&["pie: 12: Error (criu/pie/restorer.c:2000): Restorer stack smash detected 1"]),
    clue(
        Group::Kernel,
        "vdso-symtable",
        &[
            "kdat_can_map_vdso failed",
            "Failed to fill self vdso symtable",
            "Failed to fill compat vdso symtable",
            "kerndat_vdso_fill_symtable failed",
        ],
    )
    .cause("the kernel's vDSO could not be read: it does not fit what this CRIU expects")
    .remedy(
        "upgrade CRIU to a newer version as new as the kernel, delete /run/criu.kdat; boot \
            without vdso=0",
    )
    .examples(&["Error (criu/vdso.c:700): vdso: Failed to fill self vdso symtable"]),
    cause(
        Group::Kernel,
        "self-map-files",
        &[
            "Can't stat self map_files {at}: No such file or directory",
            "Can't stat self map_files",
        ],
    )
    .cause(
        "the kernel has no /proc/self/map_files: it is built without \
            CONFIG_CHECKPOINT_RESTORE (or CRIU may not read it)",
    )
    .remedy(
        "use a kernel with CONFIG_CHECKPOINT_RESTORE=y (a newer kernel or the \
            distribution's full one), run CRIU as root",
    )
    .examples(&[
        "Error (criu/kerndat.c:182): Can't stat self map_files 2: No such file or \
                directory",
    ]),
    cause(
        Group::Kernel,
        "clone3-probe",
        &["Unexpected error from clone3"],
    )
    .errors()
    .cause(
        "clone3 answers in an unexpected way: this kernel has an incomplete backport of it \
            (Oracle UEK 5.4, some vendor kernels), or a seccomp filter or sandbox changes it",
    )
    .remedy(
        "use another kernel (upgrade to 5.5 or newer, the distribution's standard kernel), \
            a newer CRIU, and run CRIU without a seccomp filter",
    )
    .examples(&["Error (criu/kerndat.c:1048): Unexpected error from clone3"]),
    cause(
        Group::Kernel,
        "ipv6-probe",
        &["Unable to create a ipv6 dgram socket: Address family not supported"],
    )
    .cause(
        "IPv6 is disabled on this machine (ipv6.disable=1), and this CRIU takes that for \
            an error",
    )
    .remedy(
        "upgrade CRIU (3.19 or newer copes without IPv6), or boot with IPv6 enabled \
            (remove ipv6.disable=1)",
    )
    .examples(&[
        "Error (criu/kerndat.c:1581): Unable to create a ipv6 dgram socket: Address \
                family not supported by protocol",
    ]),
    clue(Group::Kernel, "nsid", &["NSID is not supported"])
        .errors()
        .cause(
            "the kernel cannot name network namespaces (NSID, kernel 3.20/4.0), or its modules \
            for it are not installed",
        )
        .remedy(
            "use a newer kernel, or install the full set of kernel modules (linux-image-extra \
            / linux-modules-extra package), and upgrade CRIU",
        )
        .examples(&["Error (criu/kerndat.c:645): NSID is not supported"]),
    clue(
        Group::Kernel,
        "elf-class",
        &["Unsupported ELF class: {code}"],
    )
    .cause("an ELF image of another word size than expected ({code})")
    .remedy("restore on the same architecture; upgrade CRIU")
    .examples(&["Error (criu/x.c:1): Unsupported ELF class: 1"]),
    cause(
        Group::Kernel,
        "no-proc-timers",
        &["Can't open {pid}/timers on procfs: No such file"],
    )
    .cause(
        "the kernel has no /proc/PID/timers: CONFIG_CHECKPOINT_RESTORE or \
            CONFIG_POSIX_TIMERS is missing",
    )
    .remedy(
        "use a kernel with CONFIG_CHECKPOINT_RESTORE=y and CONFIG_POSIX_TIMERS=y (3.10 or \
            newer)",
    )
    .examples(&[
        "Error (criu/util.h:100): Can't open 12/timers on procfs: No such file or \
                directory",
    ]),
    clue(
        Group::Kernel,
        "proc-file-missing",
        &["Can't open {pid}/{file} on procfs: No such file"],
    )
    .cause(
        "/proc/{pid}/{file} does not exist: the process has ended, or the kernel was built \
            without the feature behind it",
    )
    .remedy(
        "check that process {pid} still runs (as seen from where CRIU runs), and that the \
            kernel has CONFIG_CHECKPOINT_RESTORE=y and CONFIG_NAMESPACES=y (`criu check \
            --all`); use a newer kernel",
    )
    .examples(&[
        "Error (criu/util.h:100): Can't open 12/ns/time on procfs: No such file or \
                directory",
    ]),
    clue(
        Group::Security,
        "proc-file-denied",
        &[
            "Can't open {pid}/{file} on procfs: Permission denied",
            "Can't open {pid}/{file} on procfs: Operation not permitted",
        ],
    )
    .cause(
        "CRIU may not read /proc/{pid}/{file}: it is not root, lacks \
            CAP_SYS_PTRACE/CAP_SYS_ADMIN over the process' user namespace, or a security \
            module (AppArmor, SELinux, hidepid) forbids it",
    )
    .remedy(
        "run CRIU as root (sudo) with CAP_SYS_PTRACE and CAP_SYS_ADMIN, outside the \
            container or privileged; look for AppArmor or SELinux denials in the kernel log",
    )
    .examples(&["Error (criu/util.h:100): Can't open 12/ns/mnt on procfs: Permission denied"]),
];
