//! What CRIU says on its way out.

use super::super::rule::{Group, Rule, consequence};

const LOOK: &str = "the reason stands before this line; if it does not, run again with -v4 and look at what CRIU did last; \
     a newer version of CRIU (upgrade) may say more or not fail";

pub(super) const RULES: &[Rule] = &[
    consequence(
        Group::Process,
        "operation-failed",
        &[
            "Dumping FAILED",
            "Restoring FAILED",
            "Pre-dumping FAILED",
            "Lazy pages transfer FAILED",
        ],
    )
    .cause("the operation failed, and the log does not hold the reason")
    .remedy(
        "get the whole log (-v4, --log-file; the runtime's dump.log or restore.log): the \
            first error in it is the reason; if there is none, upgrade CRIU to a newer version",
    )
    .examples(&["Error (criu/cr-dump.c:2111): Dumping FAILED."]),
    consequence(
        Group::Process,
        "dump-step-failed",
        &[
            "Dump files (pid: {pid}) failed",
            "Collect mappings (pid: {pid}) failed",
            "Collect fds (pid: {pid}) failed",
            "Dump mappings (pid: {pid}) failed",
            "Dump core (pid: {pid}) failed",
            "Dump fs (pid: {pid}) failed",
            "Dump ids (pid: {pid}) failed",
            "Pre-dumping files failed (pid: {pid})",
            "Can't dump misc (pid: {pid})",
            "Dump cgroup of threads in process (pid: {pid}) failed",
            "Can't dump thread for pid {pid}",
            "Can't dump threads{pid}",
            "Collect mappings (pid: {pid}) ",
            "Dump cgroups (pid: {pid}) failed",
            "Dump creds (pid: {pid}) failed",
            "Check uid (pid: {pid}) failed",
            "Can't get proc fd (pid: {pid})",
            "Dump file lock failed!{pid}",
            "Can't read posix timers file (pid: {pid})",
            "Failed to check aio rings (pid: {pid})",
            "Can't fixup vdso VMAs (pid: {pid})",
            "Can't make VM id for {pid}",
            "Obtaining task stat failed{pid}",
        ],
    )
    .cause("a step of dumping process {pid} failed")
    .remedy(LOOK)
    .examples(&[
        "(00.600175) Error (criu/cr-dump.c:1681): Dump files (pid: 3515192) failed \
                with -1",
    ]),
    consequence(
        Group::Process,
        "parasite-command",
        &[
            "Command {n} for daemon failed with {code}",
            "Can't stop daemon in parasite{n}{code}",
            "Can't cure (pid: {n}) from parasite{code}",
            "Parasite exited with {n}{code}",
            "Parasite failed to {n}{code}",
            "Can't dump sigactions (pid: {n}){code}",
            "Can't dump itimers (pid: {n}){code}",
            "Can't dump posix timers (pid: {n}){code}",
            "Failed to read ack{n}{code}",
            "Can't retrieve FDs from socket{n}{code}",
            "si_code={n} si_pid={code}",
        ],
    )
    .cause("CRIU's code inside the process reported a failure")
    .remedy(
        "the reason stands before, in a line that starts with `pie:` (run with -v4 if \
            there is none); upgrade CRIU",
    )
    .examples(&[
        "(00.008875) Error (compel/src/lib/infect-rpc.c:72): Command 76 for daemon \
                failed with -1",
    ]),
    consequence(
        Group::Process,
        "detach-failed",
        &[
            "Unable to detach from {pid}",
            "Unable to detach {pid}: No such process",
            "Can't interrupt the {pid} task",
            "Can't catch all tasks{pid}",
            "Can't stop all tasks on rt_sigreturn{pid}",
            "Failed to unmap restorer from {pid}",
            "Unable to wait {pid}",
        ],
    )
    .cause("CRIU lost its hold of a task while cleaning up or finishing: the task ended")
    .remedy(LOOK)
    .examples(&[
        "(10.001135) Error (compel/src/lib/infect.c:355): Unable to detach from 24689: \
                No such process",
    ]),
    consequence(
        Group::Process,
        "child-failed",
        &[
            "{pid} exited, status={code}",
            "Child {pid} died too early{code}",
            "Restorer abnormal termination for {pid}{code}",
            "Restorer fail {pid}{code}",
            "{pid} exited with non-zero code ({code}",
            "Error while waiting for pids{pid}{code}",
            "Killing processes because of failure on restore{pid}{code}",
            "Failed to wait on helpers and zombies{pid}{code}",
            "{pid} stopped by signal {code}",
            "Task exited with {pid}{code}",
            "Child exited with an error{pid}{code}",
            "Child wasn't terminated normally{pid}{code}",
        ],
    )
    .any_line()
    .cause("a restored task gave up ({pid})")
    .remedy("look for the first error line of that task before; run restore with -v4")
    .examples(&["(00.046204)     72: Error (cr-restore.c:1303): 73 exited, status=1"]),
    consequence(
        Group::Process,
        "network-unlocked",
        &[
            "The Network was unlocked so some data or a connection may have been lost",
            "Failed to unlock TCP connection {ino}",
        ],
    )
    .any_line()
    .cause("CRIU gave the network free again after a failure")
    .remedy(LOOK)
    .examples(&["The Network was unlocked so some data or a connection may have been lost."]),
    consequence(
        Group::Files,
        "unresolved-fd",
        &[
            "Can't get fd={fd}, pid={pid}",
            "Unable to recv fd {fd}{pid}",
            "Can't sent fd {fd} to {pid}",
            "recv_fd error{fd}{pid}",
        ],
    )
    .cause("a descriptor could not be passed between tasks, because one of them failed")
    .remedy(LOOK)
    .examples(&["  12: Error (criu/files.c:1000): Can't get fd=3, pid=12"]),
    consequence(
        Group::Images,
        "write-failed",
        &["Can't write {n} bytes", "Failed packing PB object {n}"],
    )
    .cause("an image could not be written")
    .remedy("check free disk space, quotas and permissions of the images directory")
    .examples(&["Error (criu/protobuf.c:300): Can't write 12 bytes: Input/output error"]),
    consequence(
        Group::Process,
        "stage-failed",
        &[
            "Failed to switch restore stage to {stage}",
            "Can't create net_ns{stage}",
            "Can't remove the directory {stage}: No such file or directory",
            "Can't wait or bad status: errno={stage}",
            "Can't restore ns back{stage}",
            "cgroupd: recv req error{stage}",
            "Error during remaining page copy{stage}",
        ],
    )
    .cause("a stage of the restore failed, or its remains could not be removed")
    .remedy(LOOK)
    .examples(&[
        "(00.362656) Error (criu/cr-restore.c:2313): Failed to switch restore stage to \
                CR_STATE_PREPARE_NAMESPACES",
        "(00.410145) Error (criu/mount.c:3175): mnt: Can't remove the directory \
                /tmp/.criu.mntns.2ighcL: No such file or directory",
    ]),
];
