//! Image files.

use super::super::rule::{Group, Rule, cause, clue};
use crate::operation::Operation;

const COPY: &str = "copy the complete images directory (parents included), check that the dump \
    succeeded, use the same or a newer CRIU; make a new dump";

/// Images that good dumps lack too.
const OPTIONAL: &[&str] = &[
    "No apparmor.img",
    "No cgroup.img",
    "No fifo-data.img",
    "No filelocks.img",
    "No memfd.img",
    "No pidns-",
    "No pipes-data.img",
    "No remap-fpath.img",
    "No sk-queues.img",
    "No tty-data.img",
    "No tty-info.img",
];

pub(super) const RULES: &[Rule] = &[
    cause(Group::Images, "no-inventory", &["No inventory.img image"])
        .any_line()
        .during(Operation::Restore)
        .then(&["Unexpected EOF", "FAILED"])
        .cause(
            "the images directory has no inventory.img: the dump did not finish (it failed), \
            the directory is the wrong one, or the images were not copied",
        )
        .remedy(
            "check that the dump succeeded (its own log; fix its failure first), and give the \
            right directory with --images-dir (-D)",
        )
        .examples(&[
            "(00.000130) No inventory.img image\n(00.000137) Error (criu/protobuf.c:72): \
                Unexpected EOF on (empty-image)",
        ]),
    cause(Group::Images, "no-image", &["No {name}.img image"])
        .any_line()
        .during(Operation::Restore)
        .then(&["Unexpected EOF on (empty-image)"])
        .except(OPTIONAL)
        .cause(
            "the image {name}.img, which the restore needs, is not in the images directory: \
            the dump was incomplete or the file was lost",
        )
        .remedy(COPY)
        .examples(&[
            "(00.1)   1: No core-12.img image\n(00.000137) Error (criu/protobuf.c:72): \
                Unexpected EOF on (empty-image)",
        ]),
    cause(
        Group::Images,
        "no-task-image",
        &[
            "No core-{pid}.img image",
            "No mm-{pid}.img image",
            "No pagemap-{pid}.img image",
        ],
    )
    .any_line()
    .during(Operation::Restore)
    .cause(
        "an image of task {pid} is not in the images directory (the line names it): the dump \
            was incomplete or the file was lost",
    )
    .remedy(COPY)
    .examples(&[
        "(00.120242)  21778: No mm-21778.img image",
        "(00.140457)  21953: No pagemap-21953.img image",
    ]),
    cause(Group::Images, "no-ids-image", &["No ids-{pid}.img image"])
        .any_line()
        .during(Operation::Restore)
        .then(&["No IDS for root task"])
        .cause(
            "the image ids-{pid}.img of the root task is not in the images directory: the dump \
            was incomplete, the file was lost, or a very old CRIU wrote the images",
        )
        .remedy(COPY)
        .examples(&[
            "(00.119976) No ids-22420.img image\n(00.119986) Error (criu/pstree.c:920): No IDS \
                for root task.",
        ]),
    cause(Group::Images, "no-pstree-image", &["No pstree.img image"])
        .any_line()
        .during(Operation::Restore)
        .cause(
            "the image of the process tree, pstree.img, is not in the images directory (CRIU \
            may even crash on that): the dump was incomplete or the file was lost",
        )
        .remedy(COPY)
        .examples(&["(00.137377) No pstree.img image"]),
    cause(Group::Images, "no-files-image", &["No files.img image"])
        .any_line()
        .during(Operation::Restore)
        .near(&["No reg-files.img image"])
        .cause(
            "the image of the open files, files.img, is not in the images directory (the \
            restored tasks may even crash on that): the dump was incomplete or the file was lost",
        )
        .remedy(COPY)
        .examples(&[
            "(00.099267) No files.img image\n(00.099285) No reg-files.img image\n(00.103724) \
                Error (criu/cr-restore.c:1277): 21629 killed by signal 11: Segmentation fault",
        ]),
    clue(
        Group::Images,
        "image-short",
        &[
            "Read {got} bytes while {wanted} expected from {name}: ",
            "Read {got} bytes while {wanted} expected from {name}",
            "Failed unpacking object {object} from {name}",
        ],
    )
    .cause("the image {name} is damaged: empty, truncated or overwritten")
    .remedy(
        "check that the dump finished successfully and that all images were copied \
            completely (disk space, transfer); make a new dump",
    )
    .examples(&[
        "Error (criu/protobuf.c:93): Read 48 bytes while 2849 expected from \
                /i/core-23042.img: No such file or directory",
        "Error (criu/protobuf.c:101): Failed unpacking object 0x7ffd from /i/core-23630.img",
    ]),
    clue(
        Group::Images,
        "image-eof",
        &[
            "Unexpected EOF",
            "Img trimmed",
            "Can't read img file",
            "Read {got} bytes while",
            "Failed unpacking object",
        ],
    )
    .cause("an image is missing, empty or truncated (the lines before this one may name it)")
    .remedy(
        "check that the dump finished successfully and that all images were copied \
            completely (disk space, transfer); make a new dump",
    )
    .examples(&[
        "Error (criu/protobuf.c:72): Unexpected EOF on (empty-image)",
        "Error (criu/image.c:700): Img trimmed 1/2",
    ]),
    cause(
        Group::Images,
        "image-magic",
        &[
            "Magic doesn't match for {name}",
            "Head magic doesn't match for {name}",
        ],
    )
    .cause(
        "{name} is not the image it should be: damaged, of another CRIU version, or no \
            CRIU image",
    )
    .remedy(
        "copy the images again (binary-safe), use the CRIU version of the dump or a newer \
            one; check the images directory",
    )
    .examples(&["Error (criu/image.c:500): Magic doesn't match for core-12.img"]),
    cause(
        Group::Images,
        "image-version",
        &[
            "Not supported images version",
            "Too old image, no longer supported",
            "Unknown image format",
            "Images corrupted or too old criu was used for dump",
            "Images currupted or too old criu was used for dump",
        ],
    )
    .cause(
        "this CRIU cannot read the images: dumped by a newer (or much older) version of CRIU, \
            or incomplete",
    )
    .remedy(
        "restore with the same CRIU version as the dump or a newer one (upgrade CRIU on \
            the restoring machine); copy the complete images directory",
    )
    .examples(&["Error (criu/image.c:60): Not supported images version 3"]),
    cause(
        Group::Images,
        "image-dir",
        &[
            "Can't open dir {path}: {why}",
            "Couldn't open image dir {path}{why}",
            "Can't open images directory{path}{why}",
        ],
    )
    .cause("the images directory {path} cannot be opened ({why})")
    .remedy(
        "create the directory (mkdir -p) before the dump and give it with --images-dir \
            (-D); check its permissions",
    )
    .examples(&[
        "Error (criu/image.c:600): Can't open dir /tmp/x: No such file or directory",
        "Error (criu/crtools.c:200): Couldn't open image dir x",
    ]),
    cause(
        Group::Images,
        "image-open",
        &[
            "Unable to open {name}.img: {why}",
            "Unable to create {name}.img: {why}",
        ],
    )
    .cause("the image {name}.img cannot be opened ({why})")
    .remedy(
        "check permissions, space and mount options (read-only) of the images directory; \
            use an empty directory for each dump",
    )
    .examples(&["Error (criu/image.c:550): Unable to open core-1.img: Permission denied"]),
    cause(
        Group::Images,
        "missing-plugin",
        &["Missing required plugin: {name}"],
    )
    .during(Operation::Restore)
    .cause("the images were dumped with the plugin {name}, which is not installed here")
    .remedy(
        "install the plugin {name} (package criu-cuda-plugin, criu-amdgpu-plugin, …) and \
            give its directory with --libdir (-L)",
    )
    .examples(&["Error (criu/image.c:120): Missing required plugin: cuda_plugin"]),
    clue(
        Group::Images,
        "image-corrupt",
        &[
            "image corruption",
            "Image corrupted on pid {pid}",
            "Image corruption on kIDs data",
            "Parent missed on non-root task",
            "Corrupted root cgset",
            "Corrupted ghost image",
            "Can't find a parent for {pid}",
            "Core task state data missed",
            "Core info data missed for non-zombie",
            "Core IDS data missed for non-zombie",
            "pstree item has invalid pid {pid}",
            "No IDS for root task",
            "Wrong object requested {pid}",
            "The image file was truncated",
            "Corrupted TUN link entry",
            "Unexpected task {pid} in a tree",
        ],
    )
    .cause(
        "the images contradict each other: they are damaged, mixed from several dumps, or \
            edited",
    )
    .remedy(
        "use an empty images directory for each dump and copy it completely; check what \
            crit shows; make a new dump; use the same or a newer CRIU",
    )
    .examples(&[
        "Error (criu/pstree.c:500): Parent missed on non-root task with pid 12, image \
                corruption!",
        "Error (criu/cr-restore.c:100): Image corrupted on pid 1",
    ]),
    clue(
        Group::Images,
        "img-streamer",
        &[
            "Unable to connect to image streamer socket: {path}",
            "Failed to communicate with the image streamer{path}",
        ],
    )
    .cause("criu-image-streamer is not reachable")
    .remedy("start criu-image-streamer with the same images directory before CRIU's --stream")
    .examples(&[
        "Error (criu/img-streamer.c:100): Unable to connect to image streamer socket: \
                x: No such file or directory",
    ]),
    clue(
        Group::Images,
        "fd-missing-in-images",
        &[
            "No file for fd {fd} id {id}",
            "Can't find regfile for {fd}{id}",
            "No entry for reg-file-ID {fd}{id}",
            "Can't find target file {fd}{id}",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "the images name a file that they do not hold: damaged or mixed images, or images \
            of another version",
    )
    .remedy(
        "use the images of one successful dump, complete; restore with the same or a newer \
            CRIU",
    )
    .examples(&["  12: Error (criu/files.c:800): No file for fd 3 id 0x7"]),
];
