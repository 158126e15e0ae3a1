//! Stopping and inspecting processes.

use super::super::rule::{Group, Rule, cause, clue};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Process,
        "criu-in-tree",
        &["The criu itself is within dumped tree"],
    )
    .cause(
        "CRIU is itself a member of the tree it should dump: it was started by the dumped \
            process or its shell, or (in a container) as a child of its init",
    )
    .remedy(
        "start CRIU outside the tree: from another shell or session (setsid and double \
            fork are not enough while the parent chain leads there), dump a subtree with -t of \
            another pid, or checkpoint a container from the host; a self-dump goes through the \
            RPC service",
    )
    .examples(&[
        "(00.048903) Error (compel/src/lib/infect.c:261): The criu itself is within \
                dumped tree.",
    ]),
    cause(
        Group::Process,
        "traced-by-other",
        &[
            "Unable to interrupt task: {pid} (Operation not permitted)",
            "SEIZE {pid}: can't interrupt task: Operation not permitted",
            "Unseizable non-zombie {pid} found",
        ],
    )
    .during(Operation::Dump)
    .near(&[
        "found while seizing",
        "Unseizable",
        "Timeout reached",
        "Seize failed",
    ])
    .cause(
        "task {pid} cannot be seized with ptrace: another tracer (strace, gdb, a debugger, \
            a sandbox) already traces it, as a task can have only one tracer; or CRIU lacks \
            CAP_SYS_PTRACE, or Yama's ptrace_scope, SELinux or a non-dumpable flag forbid it",
    )
    .remedy(
        "detach strace, gdb, debugger or profiler from the process (TracerPid in \
            /proc/{pid}/status names it), stop a second CRIU; run CRIU as root with \
            CAP_SYS_PTRACE, sysctl kernel.yama.ptrace_scope=0; in a container use --privileged \
            or --cap-add=SYS_PTRACE",
    )
    .examples(&[
        "(09.832519) Warn  (compel/src/lib/infect.c:126): Unable to interrupt task: \
                31447 (Operation not permitted)\n(09.832569) Error (criu/seize.c:275): zombie \
                found while seizing",
        "Error (compel/src/lib/infect.c:300): Unseizable non-zombie 12 found, state t, \
                err -1/12",
    ]),
    clue(
        Group::Process,
        "task-gone",
        &[
            "Unable to interrupt task: {pid} (No such process)",
            "SEIZE {pid}: can't interrupt task: No such process",
        ],
    )
    .during(Operation::Dump)
    .cause(
        "there is no task {pid}: it ended, is a zombie, or the pid is that of another pid \
            namespace than CRIU's",
    )
    .remedy(
        "check the pid (as seen from where CRIU runs: docker inspect, podman inspect, \
            pgrep on the host) and that the process still runs; reap zombies",
    )
    .examples(&[
        "Warn  (compel/src/lib/infect.c:126): Unable to interrupt task: 12 (No such \
                process)",
    ]),
    clue(
        Group::Process,
        "zombie-while-seizing",
        &[
            "zombie found while seizing",
            "zombie {pid} (comm {comm}) found while seizing",
            "A root task is dead",
        ],
    )
    .cause(
        "the task to dump is a zombie or ended while CRIU stopped it, or it could not be \
            seized because somebody else traces it (strace, gdb, a debugger)",
    )
    .remedy(
        "check that the process is alive (ps: not Z, not defunct) and let its parent reap \
            zombies; detach other tracers (strace, gdb); use the pid of a live process",
    )
    .examples(&[
        "Error (criu/seize.c:275): zombie found while seizing",
        "Error (criu/cr-dump.c:1100): A root task is dead",
    ]),
    cause(
        Group::Process,
        "root-not-found",
        &[
            "^Can't open {pid#}: No such file or directory",
            "Can't open {pid}/task on procfs: No such file",
            "Can't open {pid}/status on procfs: No such file",
            "Can't open {pid}/stat on procfs: No such file",
            "Can't open {pid}/maps on procfs: No such file",
            "Can't open {pid}/cgroup on procfs: No such file",
            "Unable to open /proc/{pid}: No such file",
            "No process with pid {pid}",
            "Can't open {pid}/smaps on procfs: No such file",
        ],
    )
    .cause(
        "there is no process {pid} in the /proc that CRIU sees: it has ended, or the pid \
            is one of another pid namespace, or /proc is not that of CRIU's pid namespace",
    )
    .remedy(
        "check that process {pid} still runs (exists), use the pid as seen from where CRIU \
            runs (the host's pid for a container), and mount a fresh /proc in a new pid \
            namespace (mount -t proc, unshare --mount-proc)",
    )
    .examples(&[
        "Error (criu/proc_parse.c:1000): Can't open 1234/status on procfs: No such \
                file or directory",
    ]),
    cause(
        Group::Kernel,
        "no-proc-children",
        &[
            "Can't open {pid}/task/{tid}/children on procfs: No such file",
            "/children on procfs: No such file",
        ],
    )
    .cause(
        "the kernel has no /proc/PID/task/TID/children: it is built without \
            CONFIG_PROC_CHILDREN (part of CONFIG_CHECKPOINT_RESTORE before 4.2)",
    )
    .remedy(
        "use a kernel with CONFIG_PROC_CHILDREN=y and CONFIG_CHECKPOINT_RESTORE=y \
            (distribution kernels have them); `criu check` tells what else is missing",
    )
    .examples(&["(00.000502) Error (criu/proc_parse.c:2600): Can't open \
                2833428/task/2833428/children on procfs: No such file or directory"]),
    clue(
        Group::Process,
        "freeze-timeout",
        &["Timeout reached. Try to interrupt"],
    )
    .cause(
        "the tasks could not all be stopped within the time limit: one is in \
            uninterruptible sleep (state D: NFS, FUSE, disk, GPU driver), traced by somebody \
            else, or many fork all the time",
    )
    .remedy(
        "look for tasks in state D (ps -eo pid,stat,wchan,comm) and for tracers (strace, \
            gdb); raise the limit with --timeout SECONDS; use the cgroup freezer \
            (--freeze-cgroup) for containers",
    )
    .examples(&["(10.000732) Error (criu/cr-dump.c:1474): Timeout reached. Try to interrupt: 0"]),
    cause(
        Group::Process,
        "freezer-cgroup",
        &[
            "Unable to freeze cgroup {path}",
            "Unable to freeze tasks",
            "Unable to FROZEN tasks",
        ],
    )
    .cause(
        "the freezer cgroup did not freeze in time: a process in it is in uninterruptible \
            sleep (D), traced or being killed, or processes that are not part of the dumped \
            tree live in the same cgroup",
    )
    .remedy(
        "find the process that does not freeze (ps state D; cat cgroup.procs, \
            freezer.state), stop it; raise --timeout; dump without --freeze-cgroup (podman, \
            runc: the container's own cgroup must hold only the container); processes started \
            with exec in the container must belong to its tree",
    )
    .examples(&[
        "Error (criu/seize.c:640): Unable to freeze cgroup /sys/fs/cgroup/freezer/x \
                (100 x 100ms attempts, timeout: 10s)",
    ]),
    cause(
        Group::Process,
        "freezer-missing",
        &["Neither a cgroupv1 (freezer.state) or cgroupv2 (cgroup.freeze) control file found"],
    )
    .cause(
        "the cgroup given with --freeze-cgroup has neither freezer.state (v1) nor \
            cgroup.freeze (v2)",
    )
    .remedy(
        "give the path of a freezer cgroup (v1: /sys/fs/cgroup/freezer/…; v2: kernel \
            5.2+), or dump without --freeze-cgroup",
    )
    .examples(&[
        "Error (criu/seize.c:100): Neither a cgroupv1 (freezer.state) or cgroupv2 \
                (cgroup.freeze) control file found.",
    ]),
    cause(
        Group::Process,
        "stop-signal",
        &["SEIZE {pid}: unsupported stop signal {signal}"],
    )
    .cause(
        "task {pid} is stopped by signal {signal} in a way CRIU does not know: a debugger \
            or tracer (gdb, strace, seccomp tracer) holds it",
    )
    .remedy("detach the debugger, continue the task (kill -CONT {pid}), then dump again")
    .examples(&["Error (compel/src/lib/infect.c:320): SEIZE 12: unsupported stop signal 5"]),
    cause(
        Group::Process,
        "pending-sigtrap",
        &["Can't dump the {pid} thread with a pending SIGTRAP"],
    )
    .cause("thread {pid} has a pending SIGTRAP from a debugger")
    .remedy("detach the debugger (gdb) and let the thread run before the dump")
    .examples(&[
        "Error (compel/src/lib/infect.c:340): Can't dump the 12 thread with a pending \
                SIGTRAP.",
    ]),
    cause(
        Group::Process,
        "task-32bit",
        &[
            "Can't dump task {pid} running in 32-bit mode",
            "Can't dump task {pid} with LDT descriptors",
            "bit: Only 64 bit tasks are supported",
        ],
    )
    .cause(
        "a 32-bit (ia32, compat) task, or one with its own LDT (wine, dosemu), which this \
            CRIU or kernel cannot dump",
    )
    .remedy(
        "use a CRIU built with 32-bit support (CONFIG_COMPAT, x86_64, kernel 4.12 or \
            newer), or run the 64-bit version of the program",
    )
    .examples(&[
        "Error (compel/arch/x86/src/lib/infect.c:200): Can't dump task 12 running in \
                32-bit mode",
    ]),
    clue(
        Group::Process,
        "no-vma-for-parasite",
        &[
            "No suitable VM found",
            "No suitable VMA found to run parasite",
            "No suitable VM are found",
        ],
    )
    .cause("no executable memory was found in the process to run code in")
    .remedy(
        "use a newer CRIU; a sandboxed or very unusual process (no executable mapping \
            below the limit) cannot be dumped",
    )
    .examples(&["Error (criu/parasite-syscall.c:500): No suitable VM found"]),
    cause(
        Group::Process,
        "foreign-proc",
        &[
            "can't dump unpriviliged task whose /proc doesn't belong to it",
            "can't dump unprivileged task whose /proc doesn't belong to it",
        ],
    )
    .any_line()
    .cause(
        "the process' /proc is not one of its own pid namespace, and as an unprivileged \
            task it cannot mount one: it has entered another mount or pid namespace (vsftpd, \
            chroot, sandbox, nsenter)",
    )
    .remedy(
        "dump it together with the namespaces it lives in (whole container), give it a \
            /proc of its own pid namespace, or run the daemon without its sandbox/isolation \
            option (for vsftpd: isolate=NO, isolate_network=NO)",
    )
    .examples(&[
        "pie: 9203: Error (criu/pie/parasite.c:429): can't dump unpriviliged task \
                whose /proc doesn't belong to it",
    ]),
    clue(
        Group::Process,
        "parasite-proc",
        &[
            "can't get /proc fd",
            "Can't get /proc fd",
            "Parasite failed to get proc fd",
        ],
    )
    .any_line()
    .cause("the process has no usable /proc: none is mounted in its mount namespace or chroot")
    .remedy("mount proc in the container or chroot (mount -t proc proc /proc) before the dump")
    .examples(&["pie: 9203: Error (criu/pie/parasite.c:618): can't get /proc fd"]),
    cause(
        Group::Security,
        "selinux-execmem",
        &["mmap(PROT_WRITE | PROT_EXEC) failed for {pid}, check selinux execmem policy"],
    )
    .cause(
        "process {pid} may not have writable and executable memory: SELinux forbids \
            execmem (or PaX, systemd's MemoryDenyWriteExecute)",
    )
    .remedy(
        "allow execmem (setsebool -P …, semanage permissive, setenforce 0 to test), or \
            drop MemoryDenyWriteExecute= from the systemd unit",
    )
    .examples(&[
        "Warn  (compel/arch/x86/src/lib/infect.c:500): mmap(PROT_WRITE | PROT_EXEC) \
                failed for 12, check selinux execmem policy",
    ]),
    clue(
        Group::Process,
        "remote-mmap",
        &[
            "remote mmap() failed: {why}",
            "Can't infect (pid: {why}) with parasite",
            "Can't inject syscall blob (pid: {why})",
            "Can't allocate memory for parasite blob (pid: {why})",
        ],
    )
    .cause("CRIU could not place its code in the process ({why})")
    .remedy(
        "look for a security module or filter that forbids it (SELinux execmem, seccomp, \
            MemoryDenyWriteExecute), memory limits (ulimit -v, cgroup), and use a CRIU as new \
            as the kernel",
    )
    .examples(&[
        "Error (compel/src/lib/infect.c:600): Can't inject syscall blob (pid: 12)",
        "Error (criu/cr-dump.c:1500): Can't infect (pid: 1) with parasite",
    ]),
    clue(
        Group::Process,
        "parasite-crashed",
        &[
            "{pid} was killed by {signal} unexpectedly",
            "{pid} exited with {signal} unexpectedly",
            "{pid} was stopped by {signal} unexpectedly",
            "Unexpected {pid} task interruption, aborting{signal}",
        ],
    )
    .cause(
        "process {pid} got out of CRIU's hand while CRIU's code ran in it: it was killed \
            (out of memory, SIGKILL), a seccomp filter or security module stopped a system \
            call, or CPU protection (CET shadow stack) and an old CRIU do not fit",
    )
    .remedy(
        "look in the kernel log for the killer (OOM, seccomp audit), upgrade CRIU to one \
            as new as kernel and glibc, run without seccomp filter",
    )
    .examples(&["Error (compel/src/lib/infect.c:1300): 12 was killed by 9 unexpectedly: Killed"]),
    cause(
        Group::Process,
        "aio-ring",
        &[
            "Not valid ring #{ring}",
            "Pending AIO requests in ring #{ring}",
        ],
    )
    .any_line()
    .cause("asynchronous I/O (aio) of the process is still going on")
    .remedy(
        "let pending aio requests finish before the dump (stop I/O of the database), or \
            disable aio (mysql: innodb_use_native_aio=0)",
    )
    .examples(&[
        "pie: 12: Error (criu/pie/parasite.c:700): Not valid ring #0",
        "pie: 12: Error (criu/pie/parasite.c:700): Pending AIO requests in ring #0",
    ]),
    cause(
        Group::Process,
        "threads-changed",
        &["Task pid reused while suspending ({pid}: "],
    )
    .cause("pid {pid} went from one process to another while CRIU stopped it")
    .remedy("dump again; check that the right process runs")
    .examples(&[
        "Error (compel/src/lib/infect.c:300): Task pid reused while suspending (12: 1 \
                -> 2)",
    ]),
    cause(
        Group::Process,
        "cuda-timeout",
        &["Timeout reached. Try to interrupt"],
    )
    .near(&[
        "cuda_plugin: pausing",
        "cuda_plugin: checkpointing",
        "read output of cuda-checkpoint: Interrupted",
    ])
    .cause(
        "cuda-checkpoint did not finish within CRIU's time limit for stopping the tasks \
            (10 s by default): there is much GPU memory or work to save",
    )
    .remedy(
        "raise the limit with --timeout SECONDS (in /etc/criu/runc.conf or default.conf \
            for containers: `timeout 600`)",
    )
    .examples(&[
        "(10.004259) Error (criu/cr-dump.c:1791): Timeout reached. Try to interrupt: \
                0\n(10.004324) Error (cuda_plugin.c:139): cuda_plugin: Unable to read output \
                of cuda-checkpoint: Interrupted system call",
    ]),
    clue(
        Group::Security,
        "parasite-silent",
        &[
            "Message reply from daemon is trimmed",
            "compel_syscall for mprotect failed",
            "remote_mprotect failed",
            "Can't switch parasite {pid} to daemon mode",
        ],
    )
    .cause(
        "CRIU's code inside the process could not run or report back: a security module \
            forbids it (SELinux denies the log file or socket, execmem; AppArmor; a vendor's \
            kernel security module), or the process was killed",
    )
    .remedy(
        "look for denials in the kernel log (ausearch -m avc, dmesg); test with setenforce \
            0 (SELinux) or without the vendor's security module; do not set a log-file outside \
            of the expected directories for runc/crun with SELinux on; upgrade CRIU",
    )
    .examples(&[
        "(00.365266) Error (compel/src/lib/infect-rpc.c:44): Message reply from daemon \
                is trimmed (12/0)",
        "Error (compel/src/lib/infect.c:900): compel_syscall for mprotect failed",
    ]),
    cause(
        Group::Process,
        "ptrace-denied",
        &[
            "Unable to interrupt task: {pid} (Permission denied)",
            "SEIZE {pid}: can't interrupt task: Permission denied",
        ],
    )
    .during(Operation::Dump)
    .cause(
        "CRIU may not trace task {pid}: a security module (AppArmor, SELinux, Yama's \
            ptrace_scope) forbids ptrace, or CRIU lacks CAP_SYS_PTRACE in the task's user \
            namespace",
    )
    .remedy(
        "run CRIU as root with CAP_SYS_PTRACE, outside the container (or privileged, \
            AppArmor unconfined), sysctl kernel.yama.ptrace_scope=0; look for denials in the \
            kernel log",
    )
    .examples(&[
        "Warn  (compel/src/lib/infect.c:126): Unable to interrupt task: 12 (Permission \
                denied)",
    ]),
    cause(
        Group::Process,
        "zombie-threads",
        &[
            "Zombies with threads are not supported",
            "Zombie thread not supported",
            "Zombie with children",
            "Individually stopped threads not supported",
            "Stopped threads not supported",
        ],
    )
    .cause("a zombie (ended) or stopped thread that this CRIU cannot dump")
    .remedy(
        "let the program end the thread properly (pthread_exit of the main thread leaves a \
            zombie leader), reap zombies, continue stopped tasks (kill -CONT); upgrade CRIU",
    )
    .examples(&["Error (cr-dump.c:900): Zombies with threads are not supported"]),
    clue(
        Group::Process,
        "parasite-read",
        &[
            "Unable to get capabilities: {code}",
            "Unable to get uids: {code}",
            "Error calling getgroups ({code})",
            "Too many groups in task {code}",
            "getitimer failed ({code})",
            "sys_timer_gettime failed ({code})",
            "sys_sigaction failed ({code})",
            "Unable to get the clear_child_tid address: {code}",
            "mprotect({code}",
            "membarrier(1 << {code}",
        ],
    )
    .any_line()
    .files(&["parasite.c"])
    .cause("a system call that CRIU made inside the process failed ({code})")
    .remedy(
        "look for a seccomp filter in the process (CRIU needs CAP_SYS_ADMIN to suspend \
            it), use a kernel with CONFIG_CHECKPOINT_RESTORE, upgrade CRIU",
    )
    .examples(&["pie: 12: Error (criu/pie/parasite.c:300): Unable to get capabilities: -1"]),
    clue(
        Group::Process,
        "seize-refused",
        &[
            "Unable to interrupt task: {pid} (Operation not permitted)",
            "SEIZE {pid}: can't interrupt task: Operation not permitted",
        ],
    )
    .during(Operation::Dump)
    .cause(
        "task {pid} could not be stopped with ptrace: it is a zombie (it ended and \
            nobody reaped it; the root of the tree must be alive), or another tracer (strace, \
            gdb, a debugger) holds it, or CRIU lacks CAP_SYS_PTRACE",
    )
    .remedy(
        "look whether the task is a zombie (ps); detach strace, gdb or debugger from it \
            (TracerPid in /proc/{pid}/status); run CRIU as root with CAP_SYS_PTRACE, \
            kernel.yama.ptrace_scope=0, in a container privileged",
    )
    .examples(&[
        "Warn  (compel/src/lib/infect.c:126): Unable to interrupt task: 31447 \
                (Operation not permitted)",
    ]),
    cause(
        Group::Process,
        "frozen-unseizable",
        &["Unseizable non-zombie {pid} found, state {state}, err {code}"],
    )
    .near(&[
        "freezing processes",
        "freezing cgroup",
        "freezer.state",
        "cgroup.freeze",
    ])
    .during(Operation::Dump)
    .cause(
        "task {pid} (state {state}) could not be seized while the freezer cgroup was \
            frozen: the cgroup v2 freezer does not always let ptrace stop a task, or it was \
            frozen before CRIU began",
    )
    .remedy(
        "dump without --freeze-cgroup (the runtime sets freeze_cgroup), or thaw the cgroup \
            before (cgroup.freeze=0); upgrade CRIU and the kernel; make sure that no other \
            tracer (strace, gdb) holds the task",
    )
    .examples(&[
        "(00.000507) freezing processes: 100000 attempts with 100 ms steps\n» \
                (00.103098) Error (compel/src/lib/infect.c:235): Unseizable non-zombie 15481 \
                found, state S, err -1/10",
    ]),
];
