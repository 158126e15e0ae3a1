//! Creating processes anew and giving them back what they had.

use super::super::rule::{Group, Rule, cause, clue, consequence};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Process,
        "pid-in-use",
        &[
            "Can't fork for {pid}: File exists",
            "Pid {pid} do not match expected",
            "Can't create process with pid {pid}: File exists",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "pid {pid} is already in use (in this pid namespace), and a restored process gets \
            its old pid back",
    )
    .remedy(
        "kill or wait for the process (or thread) that has the pid, and reap it if it is a \
            zombie; or restore in a new pid namespace: criu-ns restore, unshare -p -m -f \
            --mount-proc, a container; dump in a pid namespace to start with",
    )
    .examples(&[
        "Error (criu/cr-restore.c:1490): Can't fork for 12: File exists",
        "   5: Error (cr-restore.c:1000): Pid 6 do not match expected 5",
    ]),
    cause(
        Group::Process,
        "tid-in-use",
        &[
            "Unable to create a thread: -17",
            "Thread pid mismatch {pid}",
        ],
    )
    .any_line()
    .during(Operation::Restore)
    .cause("a thread id of the images is already in use in this pid namespace")
    .remedy(
        "kill the process or thread that has the id, or restore in a new pid namespace \
            (criu-ns, unshare -p, container)",
    )
    .examples(&["pie: 12: Error (criu/pie/restorer.c:1700): Unable to create a thread: -17"]),
    cause(
        Group::Process,
        "fork-eperm",
        &["Can't fork for {pid}: Operation not permitted"],
    )
    .during(Operation::Restore)
    .cause(
        "the kernel refused to create a process with the chosen pid {pid} (clone3 with \
            set_tid, or writing ns_last_pid): CRIU lacks CAP_SYS_ADMIN or \
            CAP_CHECKPOINT_RESTORE in the user namespace that owns the pid namespace, or a \
            seccomp filter stops clone3",
    )
    .remedy(
        "run CRIU as root with CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE (in a container: \
            --privileged, --cap-add=CHECKPOINT_RESTORE, --security-opt seccomp=unconfined)",
    )
    .examples(&["Error (criu/cr-restore.c:1490): Can't fork for 12: Operation not permitted"]),
    cause(
        Group::Process,
        "fork-invalid",
        &["Can't fork for {pid}: Invalid argument"],
    )
    .during(Operation::Restore)
    .cause(
        "the kernel rejected the creation of pid {pid}: the pid is larger than pid_max \
            here, or the new pid namespace must start with pid 1, or the flags do not fit this \
            kernel",
    )
    .remedy(
        "raise kernel.pid_max (sysctl) to that of the dumping machine, restore in a fresh \
            pid namespace whose first process is the root (pid 1), or use a newer kernel and \
            CRIU",
    )
    .examples(&["Error (criu/cr-restore.c:1490): Can't fork for 4194000: Invalid argument"]),
    cause(
        Group::Process,
        "fork-limit",
        &[
            "Can't fork for {pid}: Resource temporarily unavailable",
            "Can't fork for {pid}: Cannot allocate memory",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "no process can be created: a limit of processes (ulimit -u, pids cgroup) or \
            memory is reached, or init of the pid namespace has ended",
    )
    .remedy(
        "raise the limit of processes (RLIMIT_NPROC, pids.max, kernel.threads-max), give \
            more memory; restore in a pid namespace whose init lives",
    )
    .examples(&[
        "Error (criu/cr-restore.c:1490): Can't fork for 12: Resource temporarily \
                unavailable",
    ]),
    cause(
        Group::Process,
        "last-pid-eperm",
        &[
            "Can't set last_pid {pid}",
            "Write {pid} to sys/kernel/ns_last_pid failed",
            "to /proc/sys/kernel/ns_last_pid",
            "can't open last pid fd",
            "Can't open sys.ns_last_pid",
            "ns_last_pid on procfs",
            "Can't open sysctl kernel/ns_last_pid",
            "Setting PID failed",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "/proc/sys/kernel/ns_last_pid cannot be written, so processes cannot get their old \
            pids: /proc/sys is read-only (container), the kernel lacks \
            CONFIG_CHECKPOINT_RESTORE, or CRIU lacks CAP_SYS_ADMIN / CAP_CHECKPOINT_RESTORE",
    )
    .remedy(
        "run CRIU privileged with a writable /proc/sys (docker: --privileged, or \
            --security-opt systempaths=unconfined), use a kernel with \
            CONFIG_CHECKPOINT_RESTORE=y, or kernel 5.5+ with CRIU 3.14+ which use clone3 \
            instead",
    )
    .examples(&[
        "Error (criu/cr-restore.c:1200): Setting PID failed",
        "pie: 3: Error (criu/pie/restorer.c:1500): can't open last pid fd -30",
    ]),
    clue(
        Group::Process,
        "restore-killed-segv",
        &[
            "{pid} killed by signal 11: Segmentation fault",
            "{pid} killed by signal 11",
            "{pid} killed by signal 4",
            "{pid} killed by signal 7",
            "{pid} killed by signal 5",
            "{pid} stopped by signal 11",
            "{pid} stopped by signal 4",
            "{pid} stopped by signal 7",
        ],
    )
    .despite_success()
    .during(Operation::Restore)
    .cause(
        "the restored task {pid} crashed (segmentation fault or the like) as soon as it \
            ran: CRIU before 3.17 does not restore rseq, which glibc 2.35 and newer uses; or \
            the program's libraries, CPU features (AVX-512, xsave, CET) or vDSO differ from \
            those at the dump",
    )
    .remedy(
        "upgrade CRIU (3.17 or newer version knows rseq; 3.19/4.x fixed more), or start \
            the program with GLIBC_TUNABLES=glibc.pthread.rseq=0; restore with the same \
            libraries and on a CPU with the same features",
    )
    .examples(&[
        "Error (criu/cr-restore.c:1480): 1959 killed by signal 11: Segmentation fault",
        "Error (criu/cr-restore.c:1480): 1959 killed by signal 7: Bus error",
        "Error (criu/cr-restore.c:1492): 18962 stopped by signal 11: Segmentation fault",
    ]),
    consequence(
        Group::Process,
        "restore-killed",
        &["{pid} killed by signal {signal}"],
    )
    .during(Operation::Restore)
    .cause(
        "CRIU (or the kernel, when memory ran out) killed task {pid} because the restore \
            could not go on",
    )
    .remedy(
        "the reason stands before: look for the first error of any task, run restore with \
            -v4; look in the kernel log for the OOM killer, and give it more memory",
    )
    .examples(&["Error (criu/cr-restore.c:1424):  565 killed by signal 9: Killed"]),
    clue(
        Group::Process,
        "attach-eperm",
        &[
            "Can't attach to {pid}: Operation not permitted",
            "Can't attach to init: Operation not permitted",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "CRIU could not attach to a restored task at the end: somebody else traces it, or \
            Yama's ptrace_scope, missing CAP_SYS_PTRACE, SELinux or the task's changed \
            credentials forbid it, or the task died in between",
    )
    .remedy(
        "run as root with CAP_SYS_PTRACE (container: privileged), \
            kernel.yama.ptrace_scope=0, no other tracer (gdb, strace, security agent); look at \
            earlier lines of the same task; upgrade CRIU",
    )
    .examples(&[
        "(05.275088) Error (criu/cr-restore.c:1736): Can't attach to 507010: Operation \
                not permitted",
    ]),
    clue(
        Group::Process,
        "attach-esrch",
        &["Can't attach to {pid}: No such process"],
    )
    .during(Operation::Restore)
    .cause(
        "the restored task {pid} died before CRIU could take leave of it: it crashed or \
            was killed at its first step",
    )
    .remedy(
        "look at earlier lines of the task; upgrade CRIU (rseq needs 3.17 or newer); check \
            memory (OOM) and CPU features",
    )
    .examples(&["Error (criu/cr-restore.c:1736): Can't attach to 507010: No such process"]),
    cause(
        Group::Process,
        "sched-params",
        &[
            "Can't get sched policy for {pid}",
            "Can't set scheduler params",
            "Inconsistent sched params received",
        ],
    )
    .cause(
        "the scheduling policy of a task cannot be read or set (real-time policies need \
            CAP_SYS_NICE and an RT budget in the cgroup)",
    )
    .remedy(
        "run with CAP_SYS_NICE, give the cgroup real-time runtime (cpu.rt_runtime_us) or \
            use normal scheduling",
    )
    .examples(&["Error (criu/cr-dump.c:200): Can't get sched policy for 12: No such process"]),
    cause(
        Group::Process,
        "rlimit-restore",
        &["Can't restore cur > max for {pid}", "Can't set rlimit"],
    )
    .cause("a resource limit of the task cannot be restored")
    .remedy(
        "run CRIU with CAP_SYS_RESOURCE and limits at least as high as those of the task \
            (ulimit -n, -l, -u)",
    )
    .examples(&["  12: Error (criu/cr-restore.c:2700): Can't restore cur > max for 12.7"]),
    cause(
        Group::Process,
        "oom-score",
        &["to /proc/self/oom_score_adj failed"],
    )
    .during(Operation::Restore)
    .cause(
        "the task's oom_score_adj cannot be lowered to its old value without \
            CAP_SYS_RESOURCE",
    )
    .remedy(
        "run the restore with CAP_SYS_RESOURCE (as root, privileged container), or dump \
            the process with oom_score_adj 0",
    )
    .examples(&[
        "  12: Error (criu/cr-restore.c:700): Write -900 to /proc/self/oom_score_adj \
                failed: Permission denied",
    ]),
    cause(
        Group::Process,
        "loginuid",
        &[
            "Setting loginuid for {pid} task failed",
            "Setting loginuid for CT init task failed, CAP_AUDIT_CONTROL?{pid}",
            "Restore original /proc/self/loginuid failed{pid}",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "the audit login uid cannot be set: CAP_AUDIT_CONTROL is missing or the kernel \
            makes it immutable",
    )
    .remedy(
        "give CRIU CAP_AUDIT_CONTROL (root, privileged container), or use a kernel without \
            CONFIG_AUDIT_LOGINUID_IMMUTABLE",
    )
    .examples(&["  12: Error (criu/cr-restore.c:700): Setting loginuid for 12 task failed"]),
    cause(
        Group::Process,
        "mm-map",
        &[
            "sys_prctl(PR_SET_MM, PR_SET_MM_MAP) failed with {code}",
            "prctl failed @{code} with",
        ],
    )
    .any_line()
    .during(Operation::Restore)
    .cause(
        "the kernel refused to restore the layout of the address space (prctl PR_SET_MM): \
            CAP_SYS_RESOURCE or CAP_CHECKPOINT_RESTORE is missing, an address in the images is \
            not valid here, or the kernel lacks CONFIG_CHECKPOINT_RESTORE",
    )
    .remedy(
        "run as root with CAP_SYS_RESOURCE (privileged container), use a kernel with \
            CONFIG_CHECKPOINT_RESTORE=y, and the same or a newer CRIU than at the dump",
    )
    .examples(&[
        "pie: 12: Error (criu/pie/restorer.c:1800): sys_prctl(PR_SET_MM, \
                PR_SET_MM_MAP) failed with -1",
    ]),
    cause(
        Group::Process,
        "exe-link",
        &["Can't restore EXE link ({code})"],
    )
    .any_line()
    .during(Operation::Restore)
    .cause(
        "/proc/self/exe cannot be set ({code}): CAP_SYS_RESOURCE or CAP_SYS_ADMIN is \
            missing, or the old program is still mapped (overlayfs)",
    )
    .remedy(
        "run the restore as root in the initial user namespace, or with \
            CAP_SYS_RESOURCE/CAP_CHECKPOINT_RESTORE; use a newer kernel",
    )
    .examples(&["pie: 12: Error (criu/pie/restorer.c:400): Can't restore EXE link (-1)"]),
    clue(
        Group::Process,
        "thread-create",
        &["Unable to create a thread: {code}"],
    )
    .any_line()
    .during(Operation::Restore)
    .cause(
        "a thread could not be created ({code}; -17: its id is in use, -11: limit of \
            threads, -1: not permitted, -22: invalid id)",
    )
    .remedy(
        "free the thread id (kill what uses it, or use a new pid namespace), raise the \
            limits of processes, run with CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE",
    )
    .examples(&["pie: 12: Error (criu/pie/restorer.c:1700): Unable to create a thread: -11"]),
    cause(
        Group::Process,
        "pid-ns-init",
        &[
            "First PID in a PID namespace needs to be {pid} and not",
            "Can't restore pid namespace without the process init{pid}",
            "This process tree can only be restored in a new pid namespace{pid}",
            "Unable to restore into an empty PID namespace{pid}",
        ],
    )
    .during(Operation::Restore)
    .cause("the tree belongs to a pid namespace whose init (pid 1) must be restored first")
    .remedy(
        "dump the container from its init process (pid 1 inside); restore in a new pid \
            namespace (criu-ns, the container runtime)",
    )
    .examples(&[
        "Error (criu/cr-restore.c:1100): First PID in a PID namespace needs to be 1 \
                and not 7",
    ]),
    cause(
        Group::Process,
        "pid-max",
        &["Can't set kernel pid_max={pid}"],
    )
    .during(Operation::Restore)
    .cause("the images use pids up to {pid}, above kernel.pid_max, which cannot be raised here")
    .remedy("raise it before: sysctl kernel.pid_max={pid} (as root on the host)")
    .examples(&["Error (criu/pstree.c:900): Can't set kernel pid_max=4194304: Permission denied"]),
    clue(
        Group::Process,
        "task-unexpected-state",
        &["Task {pid} is in unexpected state: {state}"],
    )
    .despite_success()
    .cause(
        "task {pid} stopped or ended where CRIU did not expect it (wait status {state}): \
            an earlier error of that task, a BUG in the restorer, a signal, or another tracer",
    )
    .remedy(
        "look at the lines of task {pid} before; upgrade CRIU; detach other tracers (gdb, \
            strace)",
    )
    .examples(&[
        "(00.250658) Error (compel/src/lib/infect.c:1440): Task 14 is in unexpected \
                state: b7f",
    ]),
    clue(Group::Process, "restorer-bug", &["BUG at {place}"])
        .any_line()
        .cause("an internal check of CRIU failed at {place}, mostly after another error")
        .remedy(
            "look at the error before; upgrade CRIU to a newer version, and the container \
            runtime that calls it (docker, containerd, runc: older ones forget --empty-ns net \
            on restore)",
        )
        .examples(&[
            "(00.250540) pie: 14: Error (criu/pie/restorer.c:1745): BUG at \
                criu/pie/restorer.c:1745",
        ]),
];
