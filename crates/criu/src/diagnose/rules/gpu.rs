//! GPUs and plugins.

use super::super::rule::{Group, Rule, cause, clue, noise};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Gpu,
        "amdgpu-no-kfd",
        &[
            "fstat error for /dev/kfd: No such file or directory",
            "stat error for /dev/kfd: No such file or directory",
        ],
    )
    .cause(
        "the amdgpu plugin is loaded on a machine without an AMD GPU (there is no \
            /dev/kfd; for instance NVIDIA only) and aborts",
    )
    .remedy(
        "remove amdgpu_plugin.so from CRIU's plugin directory (/usr/lib/criu, package \
            criu-amdgpu-plugin), or point --libdir (-L) at a directory without it; upgrade \
            CRIU",
    )
    .examples(&[
        "(00.600161) Error (amdgpu_plugin.c:1203): amdgpu_plugin: fstat error for \
                /dev/kfd: No such file or directory",
    ]),
    cause(
        Group::Gpu,
        "amdgpu-kernel",
        &[
            "CR not supported on current kernel",
            "Failed to call get version ioctl",
            "check if the kernel has DRM_IOCTL_GEM_CHANGE_HANDLE support",
        ],
    )
    .cause(
        "the amdgpu driver of this kernel has no checkpoint/restore support for KFD (or \
            too old a version of it)",
    )
    .remedy(
        "use a kernel 5.18+ (or the matching ROCm/amdgpu driver; 6.x for newer plugin \
            versions)",
    )
    .examples(&[
        "Error (amdgpu_plugin.c:300): amdgpu_plugin: CR not supported on current \
                kernel (current:01.06 min:01.08)",
    ]),
    cause(
        Group::Gpu,
        "amdgpu-topology",
        &[
            "Number of devices mismatch (checkpointed:{a}",
            "Number of xgmi groups mismatch (checkpointed:{a}",
            "Failed to map GPUs{a}",
            "Failed to match all GPU groups{a}",
            "Failed to match remaining nodes{a}",
            "Failed to find node with gpu_id:{a}",
        ],
    )
    .cause("the AMD GPUs of this machine do not match those of the dump")
    .remedy(
        "restore on a machine with the same number and kind of AMD GPUs (amdgpu plugin; \
            KFD_* environment variables relax firmware and topology checks)",
    )
    .examples(&[
        "Error (amdgpu_plugin_topology.c:900): amdgpu_plugin: Number of devices \
                mismatch (checkpointed:2 local:1)",
    ]),
    clue(Group::Gpu, "amdgpu-other", &["amdgpu_plugin: {what}"])
        .cause("the amdgpu plugin failed: {what}")
        .remedy(
            "check the amdgpu driver and ROCm versions and access to /dev/kfd and /dev/dri \
            (groups video, render); without an AMD GPU remove amdgpu_plugin.so from the plugin \
            directory (--libdir)",
        )
        .examples(&["Error (amdgpu_plugin.c:900): amdgpu_plugin: Failed to dump (ret:-1)"]),
    cause(
        Group::Gpu,
        "nvidia-device-fd",
        &[
            "Can't dump file {fd} of that type [{mode}] (chr 195:{minor}",
            "Can't dump file {fd} of that type [{mode}] (chr 510:{minor}",
            "Can't dump file {fd} of that type [{mode}] (chr 511:{minor}",
        ],
    )
    .cause(
        "the process has an NVIDIA GPU device (/dev/nvidia*) open, and no plugin released \
            it",
    )
    .remedy(
        "install CRIU's cuda_plugin (CRIU 4.0+, --libdir) with cuda-checkpoint in PATH and \
            NVIDIA driver r555/r570+; or run cuda-checkpoint --toggle --pid PID before the \
            dump; graphics (OpenGL, Vulkan), NVML, MPS and UVM users cannot be dumped; else \
            stop the program's use of the GPU",
    )
    .examples(&[
        "Error (criu/files-ext.c:98): Can't dump file 9 of that type [20666] (chr \
                195:255)",
    ]),
    cause(
        Group::Gpu,
        "cuda-checkpoint-failed",
        &[
            "CHECKPOINT_DEVICES failed with {why}",
            "PAUSE_DEVICES failed with {why}",
            "RESUME_DEVICES RESTORE failed with {why}",
            "RESUME_DEVICES UNLOCK failed with {why}",
            "Failed to get CUDA state for PID {why}",
            "cuda-checkpoint exited improperly: {why}",
            "cuda-checkpoint unexpectedly signaled with {why}",
            "Unknown CUDA state: {why}",
        ],
    )
    .cause(
        "NVIDIA's cuda-checkpoint could not checkpoint or restore the CUDA state of the \
            process: {why}",
    )
    .remedy(
        "use a driver and cuda-checkpoint that fit (r570 or newer), enough host memory for \
            GPU memory and --timeout for large models; not supported: UVM, IPC memory, MPS, \
            NCCL across processes, some GPUs; the restoring machine needs the same GPU type \
            and driver",
    )
    .examples(&[
        "Error (cuda_plugin.c:400): cuda_plugin: CHECKPOINT_DEVICES failed with OS \
                call failed or operation not supported on this OS",
    ]),
    clue(
        Group::Gpu,
        "cuda-state-unlock",
        &["Failed to unlock process status {why}, pid {pid} may hang"],
    )
    .cause("cuda-checkpoint could not give the GPU back to process {pid}: {why}")
    .remedy(
        "check the NVIDIA driver and cuda-checkpoint versions; the process may hang and \
            must be ended",
    )
    .examples(&[
        "Error (cuda_plugin.c:400): cuda_plugin: Failed to unlock process status x, \
                pid 12 may hang",
    ]),
    noise(
        Group::Gpu,
        "cuda-no-restore-thread",
        &[
            "Failed to launch cuda-checkpoint to retrieve restore tid",
            "Could not find restore thread for process ID",
        ],
    )
    .any_line()
    .cause("the CUDA plugin asked about a process that does not use CUDA")
    .remedy(
        "remove cuda_plugin.so from CRIU's plugin directory (or give another --libdir) if \
            no process uses CUDA; if one does, update the NVIDIA driver and cuda-checkpoint",
    )
    .examples(&[
        "Error (cuda_plugin.c:221): cuda_plugin: Failed to launch cuda-checkpoint to \
                retrieve restore tid: Could not find restore thread for process ID 1697607",
    ]),
    noise(
        Group::Gpu,
        "cuda-missing-tool",
        &[
            "check that {tool} is present in $PATH",
            "cuda-checkpoint --action flag not supported",
            "Failed to launch cuda-checkpoint to retrieve state",
        ],
    )
    .cause(
        "the CUDA plugin is installed but cuda-checkpoint is not, or the driver is too \
            old; without CUDA processes this does not matter",
    )
    .remedy(
        "install cuda-checkpoint in PATH and driver r555 or newer if a process uses CUDA; \
            else remove cuda_plugin.so from the plugin directory",
    )
    .examples(&[
        "Warn  (cuda_plugin.c:500): cuda_plugin: check that cuda-checkpoint is present \
                in $PATH",
    ]),
    cause(
        Group::Gpu,
        "plugin-load",
        &[
            "Unable to load {path}: {why}",
            "Can't load plugin {path}{why}",
            "Corrupted plugin {path}{why}",
            "Failed in init({path}) of \"{why}\"",
        ],
    )
    .files(&["plugin.c"])
    .cause("the plugin {path} could not be loaded or started: {why}")
    .remedy(
        "install a plugin built for this CRIU version with its libraries, or remove it \
            from the plugin directory (--libdir)",
    )
    .examples(&["Error (criu/plugin.c:150): Unable to load /usr/lib/criu/x.so: undefined symbol"]),
    cause(
        Group::Gpu,
        "freezer-plugin",
        &["One or more plugins are incompatible with the freezer cgroup in the FROZEN state"],
    )
    .during(Operation::Dump)
    .cause("a plugin (cuda_plugin) cannot work while the container's cgroup is frozen")
    .remedy(
        "dump without --freeze-cgroup, unfreeze the container first, upgrade CRIU, or \
            remove the CUDA plugin from the plugin directory",
    )
    .examples(&[
        "Error (criu/seize.c:900): One or more plugins are incompatible with the \
                freezer cgroup in the FROZEN state.",
    ]),
];
