//! Options, requests and the service.

use super::super::rule::{Group, Rule, cause, clue};

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Options,
        "rpc-images-dir",
        &["Neither images_dir_fd nor images_dir was passed by RPC client"],
    )
    .cause("the caller gave no images directory")
    .remedy("set images_dir_fd (or images_dir) in the request")
    .examples(&[
        "Error (criu/cr-service.c:400): Neither images_dir_fd nor images_dir was \
                passed by RPC client.",
    ]),
    cause(
        Group::Options,
        "rpc-log-file",
        &[
            "No subdirs are allowed in log_file name",
            "images-dir or work-dir is required when using log file",
            "Can't create log file {path}",
        ],
    )
    .cause(
        "the log file cannot be made: its name holds a directory, or its directory does \
            not exist or is not writable",
    )
    .remedy(
        "give a plain file name (log_file) and choose the directory with work_dir / \
            images_dir; make it writable",
    )
    .examples(&[
        "Error (criu/cr-service.c:450): No subdirs are allowed in log_file name",
        "Error (criu/log.c:300): Can't create log file /x/y: Permission denied",
    ]),
    cause(
        Group::Options,
        "rpc-standalone",
        &[
            "rst_sibling is not allowed in standalone service",
            "inherit_fd is not allowed in standalone service",
        ],
    )
    .cause(
        "the option works only with a worker started by the caller (criu swrk), not with \
            the service socket",
    )
    .remedy("use swrk mode instead of the criu service for rst_sibling and inherit_fd")
    .examples(&["Error (criu/cr-service.c:700): inherit_fd is not allowed in standalone service"]),
    cause(
        Group::Options,
        "deprecated",
        &["Deprecated functionality ({name}) rejected"],
    )
    .cause("the deprecated feature {name} is not allowed without asking for it")
    .remedy(
        "use --deprecated (or the environment variable CRIU_DEPRECATED), better a newer \
            kernel and newer images",
    )
    .examples(&["Error (criu/config.c:600): Deprecated functionality (x) rejected."]),
    cause(
        Group::Options,
        "option-conflict",
        &[
            "--restore-sibling only makes sense with --restore-detached",
            "--inherit-fd is restore-only option",
            "Cannot pre-dump with --lazy-pages",
            "--exec-cmd requires a command",
            "--exec-cmd is available for the restore command only",
            "--restore-detached and --exec-cmd cannot be used together",
            "Option --mntns-compat-mode is only valid on restore",
            "Standard file descriptors will be closed in daemon mode",
            "must specify --ext-mount-map auto with",
            "--external is dump-only option",
        ],
    )
    .any_line()
    .cause("the options given do not go together")
    .remedy("correct the command line: the message names the options")
    .examples(&[
        "Error (criu/config.c:1100): --restore-sibling only makes sense with \
                --restore-detached",
    ]),
    cause(
        Group::Options,
        "option-value",
        &[
            "Unknown cgroups mode `{value}'",
            "Unknown FPU mode `{value}'",
            "Unknown file validation method `{value}'",
            "Invalid value for --network-lock: {value}",
            "Failed to parse unix socket inode from optarg: {value}",
            "Failed to add skip-mnt: {value}",
            "Could not add external mount when initializing config: {value}",
            "Could not add external resource when initializing config: {value}",
            "Unsupported empty namespace: {value}",
            "Unable to parse a value of {value}",
            "Unable to parse value of {value}",
            "Invalid server address \"{value}\"",
            "unknown command: {value}",
            "invalid argument for -{value}",
            "Failed to add veth pair: {value}",
            "Failed to add action-script: {value}",
            "Failed to add external object: {value}",
            "Unsupported configuration file format{value}",
            "Failed while parsing {value}",
            "unrecognized option {value}",
        ],
    )
    .any_line()
    .except(&["tar:", "iptables"])
    .cause("CRIU does not accept the value {value} of an option")
    .remedy(
        "correct the option (criu --help lists the values); the option may need a newer \
            CRIU: upgrade; check /etc/criu/*.conf too",
    )
    .examples(&[
        "Error (criu/config.c:300): Unknown cgroups mode `x' selected",
        "criu: unrecognized option '--network-lock'",
    ]),
    cause(
        Group::Options,
        "no-tls",
        &["CRIU was built without TLS support"],
    )
    .cause("this CRIU has no TLS")
    .remedy("use a CRIU built with GnuTLS")
    .examples(&["Error (criu/config.c:1100): CRIU was built without TLS support"]),
    cause(
        Group::Options,
        "tls-failed",
        &[
            "Invalid certificate",
            "Can't read certificate revocation list {path}",
            "Push callback send failed{path}",
            "Pull callback recv failed{path}",
        ],
    )
    .files(&["tls.c"])
    .cause("the TLS connection to the page server could not be made: certificates do not fit")
    .remedy(
        "use the same CA on both sides (--tls-cacert, --tls-cert, --tls-key), a server \
            certificate for the name or address used, or --tls-no-cn-verify",
    )
    .examples(&["Error (criu/tls.c:300): tls: Invalid certificate"]),
    clue(
        Group::Options,
        "pidfile",
        &["pidfile: Can't open {path}", "Can't write pidfile{path}"],
    )
    .cause("the pid file cannot be written: {path}")
    .remedy("remove a leftover pid file or give another with --pidfile")
    .examples(&["Error (criu/log.c:400): pidfile: Can't open x: File exists"]),
    clue(
        Group::Options,
        "chdir",
        &[
            "Can't chdir to work_dir",
            "Can't change directory to {path}",
        ],
    )
    .cause("the work directory cannot be entered")
    .remedy("create it before, give it with --work-dir (-W) and check its permissions")
    .examples(&[
        "Error (criu/crtools.c:300): Can't change directory to /x: No such file or \
                directory",
    ]),
    clue(
        Group::Options,
        "rpc-io",
        &[
            "Can't recv request",
            "Can't read request",
            "Failed unpacking request",
            "Can't send response",
            "RPC error: {text}",
        ],
    )
    .cause(
        "the talk with the caller broke: it went away or sent something CRIU does not \
            understand",
    )
    .remedy("look at the caller's own error; use a client that fits CRIU's version")
    .examples(&["Error (criu/cr-service.c:100): Can't recv request: Connection reset by peer"]),
    clue(
        Group::Options,
        "service-socket",
        &[
            "Can't initialize service socket",
            "Can't listen for socket connections",
            "Can't bind: Address already in use",
        ],
    )
    .files(&["cr-service.c"])
    .cause("the service socket cannot be made")
    .remedy("stop another criu service or remove the stale socket, or give another --address")
    .examples(&["Error (criu/cr-service.c:1300): Can't bind: Address already in use"]),
    cause(
        Group::Options,
        "criu-not-found",
        &[
            "Can't exec criu swrk: No such file or directory",
            "exec: \"criu\": executable file not found",
            "criu: command not found",
            "criu binary not found",
        ],
    )
    .any_line()
    .cause("the caller (a runtime or library) did not find the criu program")
    .remedy(
        "install criu (package criu) where the caller looks for it: in PATH, or where its option \
            says (--criu, criu_set_service_binary)",
    )
    .examples(&["Can't exec criu swrk: No such file or directory"]),
    clue(Group::Options, "pid-missing", &["pid not specified"])
        .any_line()
        .cause("no process was named")
        .remedy("give the process to dump with --tree PID (-t)")
        .examples(&["Error: pid not specified"]),
];
