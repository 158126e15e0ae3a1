//! Control groups.

use super::super::rule::{Group, Rule, cause, clue};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Cgroup,
        "cgroup-controller-missing",
        &[
            "Can't mount controller dir {path}: No such file or directory",
            "Can't mount controller dir {path}: No such device",
            "Can't mount controller dir {path}",
            "Can't mount {path} cgyard",
            "Unable to mount the cgroup ({path}) file system",
        ],
    )
    .cause(
        "the cgroup controller of {path} (such as rdma, misc, hugetlb, cpuset) cannot be \
            mounted: this kernel does not have it, it is used by another cgroup version \
            (v1/v2), or CRIU may not mount",
    )
    .remedy(
        "leave cgroups out with --manage-cgroups=ignore (or none), or restore on a host \
            with the same cgroup version and controllers (rdma, misc …: modprobe, \
            CONFIG_CGROUP_*; systemd.unified_cgroup_hierarchy); --cgroup-yard gives prepared \
            mounts",
    )
    .examples(&[
        "Error (criu/cgroup.c:1704): cg: \tCan't mount controller dir \
                .criu.cgyard.fVGJqJ/rdma: No such file or directory",
    ]),
    cause(
        Group::Cgroup,
        "cgroup-devices",
        &["Failed writing {value} to devices/{path}"],
    )
    .during(Operation::Restore)
    .cause(
        "CRIU wrote a devices cgroup property that the kernel refuses ({value} to {path}): \
            a bug of CRIU 2.5/2.6, or a nested container that may not widen its devices",
    )
    .remedy(
        "upgrade (update) to CRIU 2.7 or newer, or leave cgroup properties alone with \
            --manage-cgroups=ignore (or soft)",
    )
    .examples(&[
        "(00.716597) Error (criu/cgroup.c:1209): cg: Failed writing a to \
                devices//lxc/cnt1/devices.deny: Invalid argument",
    ]),
    cause(
        Group::Cgroup,
        "cgroup-property",
        &[
            "Failed writing {value} to {path}",
            "Failed writing {value}\n{path}",
            "Failed closing {value}{path}",
            "bad cgroup path: {value}{path}",
        ],
    )
    .files(&["cgroup.c"])
    .during(Operation::Restore)
    .cause(
        "a cgroup property ({path}) cannot be set to {value} here: the value does not fit \
            this machine (cpuset, memory limit, interface names of net_prio), another \
            controller set, or CRIU may not write it",
    )
    .remedy(
        "restore with --manage-cgroups=soft, or none / ignore to leave cgroups alone; use \
            a newer CRIU; make the destination's cgroup limits (cpus, memory) allow the value",
    )
    .examples(&[
        "Error (criu/cgroup.c:1225): cg: Failed writing 0-3 to cpuset//x/cpuset.cpus: \
                Permission denied",
    ]),
    cause(
        Group::Cgroup,
        "cgroup-property-multiline",
        &["Failed writing {value}"],
    )
    .files(&["cgroup.c"])
    .during(Operation::Restore)
    .cause(
        "a cgroup property cannot be set to \"{value}\" here: for net_prio.ifpriomap an \
            interface of the dumping machine does not exist on this one; else the value does \
            not fit this machine",
    )
    .remedy(
        "restore with --manage-cgroups=ignore (or none, soft) to leave cgroup properties \
            alone, or upgrade CRIU; create the same network interfaces for ifpriomap",
    )
    .examples(&["(00.708398) Error (criu/cgroup.c:1225): cg: Failed writing lo 0"]),
    cause(
        Group::Cgroup,
        "cgroup-move",
        &[
            "Can't move {pid} into {path} (",
            "Can't move into {path} ({pid}",
            "cgroupd: Can't move thread {pid} into {path}",
            "Can't move thread {pid} into {path}",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "a task could not be put into its cgroup {path}: the cgroup does not exist or is \
            not writable (systemd, container without cgroup namespace), a cpuset is empty, or \
            processes are not allowed in an inner cgroup v2 node",
    )
    .remedy(
        "restore with --manage-cgroups=ignore (or none), use --cgroup-root to place the \
            tree elsewhere, or run privileged with writable cgroups; the same cgroup version \
            on both hosts",
    )
    .examples(&[
        "  12: Error (criu/cgroup.c:900): cg: Can't move 12 into systemd/x/tasks \
                (-1/-1): No space left on device",
    ]),
    cause(
        Group::Cgroup,
        "cgroup-dir",
        &[
            "Can't make cgroup dir {path}",
            "Failed accessing cgroup dir {path}",
            "Cgroup dir {path} doesn't exist",
            "Can't make controller dir {path}",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "the cgroup directory {path} cannot be made or used: read-only or missing cgroup \
            file system, another cgroup version, or no rights",
    )
    .remedy(
        "restore with --manage-cgroups=ignore (or none), --cgroup-root, or run privileged \
            with /sys/fs/cgroup mounted read-write; the same cgroup version (v1/v2) on both \
            machines",
    )
    .examples(&[
        "Error (criu/cgroup.c:1400): cg: Can't make cgroup dir systemd/x: Read-only \
                file system",
    ]),
    cause(
        Group::Cgroup,
        "cgroup-exists",
        &["Abort restore of existing cgroups"],
    )
    .during(Operation::Restore)
    .cause(
        "in strict mode (--manage-cgroups=strict) CRIU refuses to restore into cgroups \
            that exist already",
    )
    .remedy("remove the old cgroup directories, or use --manage-cgroups=soft, full or ignore")
    .examples(&["Error (criu/cgroup.c:1500): cg: Abort restore of existing cgroups"]),
    cause(
        Group::Cgroup,
        "cgroup-not-subset",
        &[
            "Set {id} is not subset of {other}",
            "Non supported sub-cgroups found{id}{other}",
        ],
    )
    .during(Operation::Dump)
    .cause("the tasks live in cgroups that this old CRIU cannot dump together")
    .remedy("upgrade CRIU, or dump with --manage-cgroups=ignore")
    .examples(&["Error (cgroup.c:600): cg: Set 3 is not subset of 2"]),
    cause(
        Group::Cgroup,
        "cgroup-prefix",
        &[
            "cg {path} shorter than path prefix",
            "CG paths mismatch: {path}",
            "invalid cgroup configuration, {path} is not a suffix of",
        ],
    )
    .cause(
        "the cgroup path {path} is not inside the root of its cgroup namespace: the \
            process was moved, or entered the container from outside (exec)",
    )
    .remedy(
        "do not run processes into the container with exec while dumping, or dump with \
            --manage-cgroups=ignore; upgrade CRIU",
    )
    .examples(&[
        "Error (criu/proc_parse.c:2400): invalid cgroup configuration, /x is not a \
                suffix of /y",
    ]),
    cause(
        Group::Cgroup,
        "cgroup-unlisted",
        &[
            "No cg_controller_entry found for {path}",
            "controller {path} not found",
        ],
    )
    .files(&["cgroup.c"])
    .cause("the cgroup controller {path} is missing in the images or on this machine")
    .remedy(
        "use --manage-cgroups=ignore (or none), or hosts with the same cgroup version and \
            controllers; upgrade CRIU",
    )
    .examples(&["Error (criu/cgroup.c:800): cg: No cg_controller_entry found for cpu/x"]),
    cause(
        Group::Cgroup,
        "cgns",
        &[
            "couldn't unshare cgns",
            "couldn't set cgns prefix {path}",
            "failed preparing cgns",
            "Expecting root_task to restore cgroup namespace",
        ],
    )
    .during(Operation::Restore)
    .cause("the cgroup namespace could not be set up")
    .remedy(
        "use a kernel with cgroup namespaces (4.6+, CONFIG_CGROUPS), run as root; or \
            --manage-cgroups=ignore",
    )
    .examples(&["Error (criu/cgroup.c:1000): cg: couldn't unshare cgns: Operation not permitted"]),
    clue(
        Group::Cgroup,
        "cgyard",
        &[
            "Can't make temp cgyard dir",
            "Can't open cgyard",
            "Can't mount tmpfs in cgyard",
            "Can't make cgyard private",
        ],
    )
    .cause(
        "CRIU could not prepare its private place for cgroup mounts in the current \
            directory",
    )
    .remedy(
        "start CRIU in a writable directory, with CAP_SYS_ADMIN; or use \
            --manage-cgroups=ignore",
    )
    .examples(&[
        "Error (criu/cgroup.c:1650): cg: Can't make temp cgyard dir: Read-only file \
                system",
    ]),
    clue(
        Group::Cgroup,
        "cgroup-open",
        &[
            "Failed opening {path}: {why}",
            "failed statting cgroup prop {path}: {why}",
            "Failed scanning {path}: {why}",
            "failed walking {path} for empty cgroups{why}",
        ],
    )
    .files(&["cgroup.c"])
    .during(Operation::Dump)
    .cause("a cgroup file or property {path} could not be read ({why})")
    .remedy(
        "mount all cgroup controllers of the container, or dump with \
            --manage-cgroups=ignore; use a newer CRIU; --cgroup-props can name what to dump",
    )
    .examples(&[
        "Error (criu/cgroup.c:300): cg: Failed opening memory//x/memory.limit: No such \
                file or directory",
    ]),
    clue(
        Group::Cgroup,
        "cgroup-fs",
        &[
            "Unable to open the cgroup file system",
            "Unable to configure the cgroup",
            "Unable to create the cgroup",
            "couldn't open task cgroup file",
        ],
    )
    .cause("the cgroup file system cannot be mounted by CRIU")
    .remedy(
        "run CRIU with CAP_SYS_ADMIN in the initial user namespace, or use \
            --manage-cgroups=ignore; check that the kernel has CONFIG_CGROUPS and the \
            controllers",
    )
    .examples(&[
        "Error (criu/cgroup.c:700): cg: Unable to create the cgroup (rdma) file \
                system: Device or resource busy",
    ]),
];
