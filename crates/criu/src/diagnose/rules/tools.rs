//! Programs that CRIU runs, and their output.

use super::super::rule::{Group, Rule, cause, clue, consequence};

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Tools,
        "tar-missing",
        &[
            "exec failed: No such file or directory",
            "exec(tar, ...) failed: No such file or directory",
            "exec(tar, ...) failed",
            "execvp(\"tar\", ...) failed: No such file or directory",
        ],
    )
    .near(&["tmpfs content", "tar"])
    .cause(
        "CRIU saves and restores the content of tmpfs mounts by running tar, which is not \
            installed where CRIU runs",
    )
    .remedy(
        "install tar: GNU tar (package tar) must be in PATH on the host where CRIU runs; \
            minimal systems (RancherOS, Alpine, container images) do not have it; or make the \
            tmpfs mounts external (--external mnt[…])",
    )
    .examples(&[
        "(00.168708) Error (criu/util.c:652): exec failed: No such file or \
                directory\n(00.169253) Error (criu/util.c:666): exited, status=1\n(00.169270) \
                Error (criu/mount.c:1202): mnt: Can't dump tmpfs content",
    ]),
    cause(
        Group::Tools,
        "tool-missing",
        &[
            "exec({tool}, ...) failed: No such file or directory",
            "exec({tool}, ...) failed: Permission denied",
            "execvp(\"{tool}\", ...) failed: No such file or directory",
            "execvp({tool}, ...) failed: No such file or directory",
        ],
    )
    .cause("the program {tool} that CRIU runs is not installed (or not in PATH)")
    .remedy(
        "install {tool} on the machine where CRIU runs: iptables/ip6tables (package \
            iptables; or use --network-lock nftables or skip), ip (iproute2), tar, \
            apparmor_parser; check PATH of the service that starts CRIU",
    )
    .examples(&[
        "Error (criu/util.c:600): exec(iptables-restore, ...) failed: No such file or \
                directory",
    ]),
    cause(
        Group::Tools,
        "iptables-exec-missing",
        &["exec failed: No such file or directory"],
    )
    .near(&["iptables", "IP tool", "nft"])
    .cause(
        "CRIU runs iptables-restore to lock the network (or ip for network namespaces), \
            and the program is not installed where CRIU runs",
    )
    .remedy(
        "install iptables and iproute2 (ip) and put them in CRIU's PATH, or use \
            --network-lock nftables or --network-lock skip",
    )
    .examples(&[
        "(00.168708) Error (criu/util.c:652): exec failed: No such file or \
                directory\nError (criu/net.c:1): net: IP tool failed on link save",
    ]),
    clue(
        Group::Tools,
        "exec-failed",
        &["exec failed: {why}", "exec({why}, ...) failed"],
    )
    .cause(
        "a program that CRIU runs (tar, iptables-restore, ip, an action script) could not \
            be started: {why}",
    )
    .remedy(
        "install GNU tar, iptables (ip6tables), iproute2 (ip) where CRIU runs, and check \
            PATH",
    )
    .examples(&[
        "Error (criu/util.c:652): exec failed: Permission denied",
        "Error (criu/util.c:652): exec failed: No such file or directory",
    ]),
    cause(
        Group::Tools,
        "tar-busybox",
        &[
            "tar: unrecognized option",
            "tar: invalid option",
            "BusyBox v{version} (",
        ],
    )
    .foreign()
    .cause(
        "the tar that CRIU runs for tmpfs content is BusyBox tar (or another one) without \
            the GNU options CRIU uses",
    )
    .remedy(
        "install GNU tar (the full, real tar: package tar; apk add tar) and make sure that \
            it comes first in PATH where CRIU runs",
    )
    .examples(&[
        "tar: unrecognized option '--no-unquote'",
        "BusyBox v1.36.0 (2026-05-05 08:00:00 CST) multi-call binary.",
    ]),
    cause(
        Group::Tools,
        "tar-error",
        &[
            "tar: {path}: Cannot {what}",
            "tar: {path}: {what}: No space left",
            "tar: Exiting with failure status due to previous errors{path}{what}",
            "tar: This does not look like a tar archive{path}{what}",
            "gzip: {path}{what}",
        ],
    )
    .foreign()
    .except(&["file changed as we read it", "socket ignored"])
    .cause("tar, which saves and restores tmpfs content, failed: {path} cannot {what}")
    .remedy(
        "look at tar's message: free space or enlarge the tmpfs, check permissions and \
            that files in it do not vanish; install GNU tar with the options CRIU uses \
            (--xattrs, --selinux)",
    )
    .examples(&["tar: ./x: Cannot mknod: Operation not permitted"]),
    clue(
        Group::Tools,
        "tmpfs-content",
        &["Can't dump tmpfs content", "Can't restore tmpfs content"],
    )
    .cause("tar could not save or restore the content of a tmpfs mount")
    .remedy(
        "install GNU tar (not BusyBox tar) where CRIU runs, look at tar's messages before \
            this line, check free space and memory; or make the mount external",
    )
    .examples(&["(00.169270) Error (criu/mount.c:1202): mnt: Can't dump tmpfs content"]),
    clue(
        Group::Tools,
        "iptables-mark",
        &[
            "This may be connected to disabled CONFIG_NETFILTER_XT_MARK",
            "Locking network failed: iptables-restore returned",
        ],
    )
    .cause(
        "the network could not be locked: iptables-restore failed, mostly because the \
            kernel lacks CONFIG_NETFILTER_XT_MARK or iptables support, or iptables is not \
            installed",
    )
    .remedy(
        "load or enable the kernel modules (modprobe xt_mark ip_tables iptable_filter \
            ip6table_filter), install iptables, or use --network-lock nftables (CRIU 3.17+) or \
            --network-lock skip",
    )
    .examples(&[
        "Error (criu/net.c:3100): net: Locking network failed: iptables-restore \
                returned 2. This may be connected to disabled CONFIG_NETFILTER_XT_MARK kernel \
                build config option.",
    ]),
    clue(
        Group::Tools,
        "iptables-failed",
        &[
            "Iptables configration failed",
            "Iptables configuration failed",
            "iptables-restore -w failed",
            "iptables-restore failed",
        ],
    )
    .cause(
        "iptables failed when CRIU locked or restored the network: kernel modules are missing \
            (xt_mark, ip_tables), iptables-nft and iptables-legacy are mixed, or a rule is not there \
            any more (a second restore of the same images)",
    )
    .remedy(
        "modprobe ip_tables iptable_filter ip6table_filter xt_mark xt_comment nf_conntrack, \
            install a recent iptables (both iptables and ip6tables), or use --network-lock \
            nftables or --network-lock skip; upgrade CRIU",
    )
    .examples(&[
            "Error (criu/netfilter.c:100): Iptables configuration failed: No such file or \
            directory"]),
    cause(
        Group::Tools,
        "iptables-output",
        &[
            "iptables-restore: line {line} failed",
            "ip6tables-restore: line {line} failed",
            "tables-restore: unable to initialize table{line}",
            "iptables-restore v{line}",
            "ip6tables-restore v{line}",
            "can't initialize iptables table{line}",
            "can't initialize ip6tables table{line}",
            "iptables-restore: invalid option{line}",
            "iptables: {line}",
        ],
    )
    .foreign()
    .then(&["exited, status=", "failed"])
    .cause(
        "iptables failed when CRIU ran it ({line}): kernel modules are missing (xt_mark, ip_tables), \
            iptables-nft and iptables-legacy are mixed, or iptables is too old",
    )
    .remedy(
        "modprobe ip_tables iptable_filter ip6table_filter xt_mark xt_comment nf_conntrack, \
            install a recent iptables (both iptables and ip6tables), or use --network-lock \
            nftables or --network-lock skip",
    )
    .examples(&["iptables-restore: line 6 failed\nError (criu/util.c:643): exited, status=1"]),
    clue(
        Group::Tools,
        "ip-tool",
        &["IP tool failed on {args}", "IP tool failed{args}"],
    )
    .cause("the program ip (iproute2) failed or is not installed: {args}")
    .remedy(
        "install iproute2 (full ip, not BusyBox) where CRIU runs, recent enough for `ip \
            route save`, `ip rule save`; check that links and routes of the network namespace \
            can be saved; see its message before this line",
    )
    .examples(&["Error (criu/net.c:1900): net: IP tool failed on route save"]),
    cause(
        Group::Tools,
        "iptables-legacy",
        &[
            "Can't restore iptables dump - no legacy version present",
            "Can't restore ip6tables dump - no legacy version present",
        ],
    )
    .cause("the images hold iptables-legacy rules and this machine has no iptables-legacy")
    .remedy(
        "install iptables-legacy and ip6tables-legacy (package iptables, iptables-legacy) \
            on the restoring machine",
    )
    .examples(&[
        "  1: Error (criu/net.c:2000): net: Can't restore iptables dump - no legacy \
                version present",
    ]),
    cause(
        Group::Tools,
        "nft",
        &[
            "nft command error:{text}",
            "Locking network failed using nftables{text}",
            "Locking connection failed using nftables{text}",
            "Unable to restore nftables. CRIU was built without libnftables support{text}",
            "Nftables based locking requires libnftables{text}",
            "Cannot generate CRIU's nftables table name{text}",
        ],
    )
    .cause(
        "nftables could not be used: kernel support (CONFIG_NF_TABLES, set concatenations, \
            5.10+) or CRIU's libnftables is missing",
    )
    .remedy(
        "load nf_tables (modprobe nf_tables, CONFIG_NF_TABLES=y, NFT_CT), use a CRIU built \
            with libnftables, or --network-lock iptables or skip",
    )
    .examples(&[
        "Error (criu/net.c:2100): net: nft command error:",
        "Error (criu/net.c:3000): net: Locking network failed using nftables",
    ]),
    cause(
        Group::Tools,
        "action-script",
        &[
            "Script {name} exited with {code}",
            "One of more action scripts failed{name}{code}",
        ],
    )
    .despite_success()
    .cause("an action script failed: {name} (exit code {code})")
    .remedy(
        "run the script by hand with CRTOOLS_SCRIPT_ACTION set and fix it; check its path \
            and execute permission (chmod +x)",
    )
    .examples(&["Error (criu/action-scripts.c:80): Script /x/a.sh exited with 256"]),
    cause(
        Group::Tools,
        "action-script-rpc",
        &["RPC client reported script error"],
    )
    .despite_success()
    .cause(
        "the caller (libcriu, go-criu, runc, crun, podman) refused a notification: its own \
            hook failed",
    )
    .remedy(
        "look at the error of the caller: the hook (setup-namespaces, network-lock, \
            post-restore …) failed there, for runc often restoring network devices or cgroups",
    )
    .examples(&["Error (criu/cr-service.c:200): RPC client reported script error"]),
    clue(
        Group::Tools,
        "script-return",
        &[
            "Pre dump script failed with {code}",
            "Aborting restore due to pre-restore script ret code {code}",
            "Aborting restore due to post-restore script ret code {code}",
            "Pre-resume script ret code {code}",
            "Post-resume script ret code {code}",
            "Aborting restore due to script ret code {code}",
            "Pre-stream script failed with {code}",
        ],
    )
    .cause("an action script or hook of the caller failed ({code})")
    .remedy(
        "look at the script's own output or at the caller (runc, podman, lxc); run it by \
            hand",
    )
    .examples(&["Error (criu/cr-dump.c:2000): Pre dump script failed with 1!"]),
    consequence(
        Group::Tools,
        "child-exit",
        &["exited, status={code}", "killed by signal {code}"],
    )
    .except(&["Restore"])
    .cause("a program that CRIU ran failed with status {code}")
    .remedy(
        "look at its own messages before this line: tar, iptables-restore, ip or a script; \
            install what is missing",
    )
    .examples(&["Error (criu/util.c:666): exited, status=1"]),
    cause(
        Group::Tools,
        "xtables-lock",
        &["can't open lock file {path}: {why}"],
    )
    .foreign()
    .cause(
        "iptables may not use its lock file {path} ({why}): CRIU runs in a user namespace \
            or a sandbox without rights to /run",
    )
    .remedy(
        "make {path} writable where CRIU runs (mount a tmpfs on /run, XTABLES_LOCKFILE), \
            upgrade CRIU, which mounts its own /run there; or use --network-lock nftables or \
            skip",
    )
    .examples(&["Fatal: can't open lock file /run/xtables.lock: Permission denied"]),
    clue(
        Group::Tools,
        "nft-chain-busy",
        &[
            "CHAIN_USER_DEL failed",
            "CHAIN_ADD failed",
            "CHAIN_DEL failed",
        ],
    )
    .foreign()
    .cause(
        "the firewall chain CRIU of an earlier network lock is still there or in use: the \
            lock was set twice, or an earlier run did not unlock",
    )
    .remedy(
        "remove the leftover chain (iptables -F CRIU; iptables -D INPUT -j CRIU; iptables \
            -X CRIU, the same with ip6tables), use --network-lock nftables or skip, upgrade \
            CRIU",
    )
    .examples(&["line 7: CHAIN_USER_DEL failed (Device or resource busy): chain CRIU"]),
    clue(Group::Tools, "command-failed", &["{tool} failed"])
        .files(&["net.c"])
        .except(&["IP tool", "Locking", "nft", "with -1", "returned"])
        .cause("the program {tool} failed while the network namespace was saved or restored")
        .remedy(
            "look at its own message before this line; install iproute2, iptables and \
            ip6tables where CRIU runs and load their kernel modules",
        )
        .examples(&["      1: Error (criu/net.c:1738): ip6tables-save failed"]),
    cause(
        Group::Tools,
        "ip-netlink",
        &[
            "RTNETLINK answers: {why}",
            "Error: ipv4: {why}",
            "Error: ipv6: {why}",
        ],
    )
    .foreign()
    .except(&["File exists", "already assigned"])
    .near(&["IP tool failed"])
    .cause(
        "the program ip (iproute2) could not save or restore addresses, routes or rules: \
            {why}",
    )
    .remedy(
        "make the network namespace look as at the dump: same links, addresses and \
            gateways (a route whose gateway is unreachable cannot be restored), install a \
            recent iproute2; or leave it to scripts with --empty-ns net, or use an external \
            network namespace",
    )
    .examples(&[
        "RTNETLINK answers: Network is unreachable\n(00.051000)      1: Error \
                (criu/util.c:641): exited, status=2\n(00.051100)      1: Error \
                (criu/net.c:2070): IP tool failed on route restore",
    ]),
    cause(
        Group::Tools,
        "shell-not-found",
        &["{tool}: not found", "{tool}: command not found"],
    )
    .foreign()
    .near(&["exited, status=", "FAILED"])
    .except(&["Error (", "image"])
    .cause("the program {tool} that CRIU (or a script) runs is not installed or not in PATH")
    .remedy(
        "install it on the machine where CRIU runs: iptables, iproute2 (ip), GNU tar, nft; \
            check PATH of the service that starts CRIU",
    )
    .examples(&["sh: 1: ip: not found\nError (criu/util.c:641): exited, status=127"]),
    cause(
        Group::Tools,
        "iptables-modules",
        &[
            "Couldn't load match `{module}'",
            "Couldn't load target `{module}'",
            "Extension {module} revision 0 not supported, missing kernel module",
            "Could not fetch rule set generation id{module}",
            "Can't find library for match `{module}'",
            "FATAL: Module {module} not found",
        ],
    )
    .foreign()
    .near(&["exited, status=", "FAILED", "network"])
    .cause(
        "iptables cannot work here: a kernel module ({module}) is missing, or iptables may \
            not talk to the kernel",
    )
    .remedy(
        "load the modules (modprobe ip_tables iptable_filter xt_mark xt_comment nf_tables; \
            CONFIG_NETFILTER_XT_MARK=y), run as root, use --network-lock nftables or \
            --network-lock skip",
    )
    .examples(&[
        "iptables-restore v1.8.4 (legacy): Couldn't load match `mark':No such file or \
                directory\nError (criu/util.c:641): exited, status=2",
    ]),
    cause(Group::Tools, "nft-rule", &[
            "Error: Could not process rule: {why}",
            "Could not process rule: {why}"])
        .foreign()
        .then(&["nftables", "exited, status=", "create table", "^^^", "failed"])
        .cause(
            "the kernel refused an nftables rule of CRIU ({why}): it lacks nftables \
            (CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET), or its modules are not loaded"
        )
        .remedy(
            "use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET (modprobe \
            nf_tables), a CRIU built without nftables, or upgrade CRIU (4.0 goes on without); \
            --network-lock iptables or skip"
        )
        .examples(&[
                "Error: Could not process rule: Operation not supported\ncreate table inet \
                CRIU\n^^^^^^^^^^^^^^^^^^^^^^^\nError (criu/kerndat.c:1508): Can't create \
                nftables table"]),
    clue(Group::Tools, "nft-table", &["Can't create nftables table"])
        .errors()
        .cause(
            "CRIU cannot make an nftables table: the kernel lacks nftables (CONFIG_NF_TABLES, \
            CONFIG_NF_TABLES_INET)"
        )
        .remedy(
            "use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET (modprobe \
            nf_tables), a CRIU built without nftables, or upgrade CRIU (4.0 goes on without); \
            --network-lock iptables or skip"
        )
        .examples(&["Error (criu/kerndat.c:1508): Can't create nftables table"]),
];
