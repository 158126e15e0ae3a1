//! Network namespaces: links, routes, rules.

use super::super::rule::{Group, Rule, cause, clue};
use crate::operation::Operation;

pub(super) const RULES: &[Rule] = &[
    cause(
        Group::Net,
        "link-unsupported",
        &["Unsupported link {index} (type {type} kind {kind})"],
    )
    .cause(
        "the network namespace has a link of kind {kind} (index {index}), which CRIU \
            cannot dump",
    )
    .remedy(
        "remove the link before the dump (ip link del), or leave the network namespace to \
            scripts with --empty-ns net, or make it external (--external net[INODE]:KEY; \
            podman and runc do so); supported: lo, veth, bridge, tun/tap, macvlan, sit, venet; \
            move devices with --external netdev[IF]:NAME",
    )
    .examples(&["Error (criu/net.c:900): net: Unsupported link 5 (type 1 kind vxlan)"]),
    cause(
        Group::Net,
        "link-type-restore",
        &[
            "Unsupported link type {type}, kind",
            "Unsupported link type {type}",
        ],
    )
    .during(Operation::Restore)
    .cause("the images hold a network link of a type ({type}) that this CRIU cannot restore")
    .remedy("upgrade CRIU, or restore with --empty-ns net / an external network namespace")
    .examples(&["  1: Error (criu/net.c:1700): net: Unsupported link type 3"]),
    cause(
        Group::Net,
        "bridge-slaves",
        &["dumping bridges with attached slaves not supported"],
    )
    .cause("a bridge with attached links cannot be dumped by this CRIU")
    .remedy(
        "upgrade CRIU (3.7+), or stop the nested container engine (docker0, virbr0) before \
            the dump",
    )
    .examples(&[
        "Error (criu/net.c:600): dumping bridges with attached slaves not supported \
                currently",
    ]),
    cause(
        Group::Net,
        "macvlan",
        &[
            "a macvlan parent for {name} is required",
            "Missing macvlan link entry {name}",
            "macvlan mode required for {name}",
        ],
    )
    .cause("a macvlan link needs its parent interface named")
    .remedy("restore with --external macvlan[IFNAME]:PARENT")
    .examples(&["  1: Error (criu/net.c:1500): net: a macvlan parent for eth0 is required"]),
    cause(
        Group::Net,
        "veth-peer",
        &[
            "Unknown peer net namespace",
            "Unable to specify ifindex in the target namespace",
            "Unable to find the {n} master",
        ],
    )
    .during(Operation::Restore)
    .cause("the outer end of a veth pair or the master of a link was not found")
    .remedy(
        "tell restore where the outer end goes: --external veth[IN]:OUT@BRIDGE (older: \
            --veth-pair), or restore into an external network namespace; upgrade CRIU and \
            kernel",
    )
    .examples(&["  1: Error (criu/net.c:1300): net: Unknown peer net namespace"]),
    cause(
        Group::Net,
        "bridge-missing",
        &[
            "Can't add interface {name} to bridge {bridge}",
            "Can't get index of {name}{bridge}",
        ],
    )
    .during(Operation::Restore)
    .cause(
        "the bridge {bridge} for the container's interface {name} does not exist on this \
            machine",
    )
    .remedy(
        "create the bridge (lxcbr0, docker0, …) before restoring, or name another with \
            --external veth[IN]:OUT@BRIDGE",
    )
    .examples(&[
        "Error (criu/net.c:3400): net: Can't add interface veth0 to bridge lxcbr0: No \
                such device",
    ]),
    clue(
        Group::Net,
        "link-restore",
        &[
            "Can't restore link: {code}",
            "can not restore link{code}",
            "Can't restore link{code}",
            "{code} reported by netlink",
        ],
    )
    .errors()
    .during(Operation::Restore)
    .cause(
        "a network link could not be created ({code}; -17: it exists, -95: not supported, \
            -1: not permitted)",
    )
    .remedy(
        "load the link's driver (modprobe veth, bridge, tun, macvlan), delete a leftover \
            interface of the same name (ip link del), run with CAP_NET_ADMIN; or use \
            --empty-ns net",
    )
    .examples(&["  1: Error (criu/net.c:1600): net: Can't restore link: -17"]),
    cause(
        Group::Net,
        "link-refused",
        &["ERROR {code} reported by netlink"],
    )
    .warnings()
    .then(&["Can't restore link", "Unable to restore network links"])
    .during(Operation::Restore)
    .cause(
        "the kernel refused to create or change a network link ({code}; -17: an interface of \
            that name exists, -95: not supported, -1: not permitted)",
    )
    .remedy(
        "leave the network to the runtime with --empty-ns net (runc: EmptyNs, --empty-ns \
            network), which sets interfaces up itself; delete a leftover interface of the same \
            name (ip link del), load the link's driver (modprobe veth, bridge, tun, macvlan), \
            run with CAP_NET_ADMIN",
    )
    .examples(&[
        "» (00.251052)      1: Warn  (libnetlink.c:54): ERROR -17 reported by \
                netlink\n(00.251063)      1: Error (net.c:779): Can't restore link\nError \
                (cr-restore.c:2221): Restoring FAILED.",
    ]),
    clue(
        Group::Net,
        "links-restore",
        &["Unable to restore network links"],
    )
    .during(Operation::Restore)
    .cause(
        "the network links of the namespace could not all be created: one waits for \
            another that is missing",
    )
    .remedy(
        "see the lines before; name outer ends with --external veth[…] or macvlan[…]; use \
            --empty-ns net",
    )
    .examples(&["  1: Error (criu/net.c:1800): net: Unable to restore network links"]),
    clue(
        Group::Net,
        "netns-create-eperm",
        &["Unable create a network namespace: Operation not permitted"],
    )
    .cause("CRIU may not create a network namespace: it has no CAP_SYS_ADMIN")
    .remedy(
        "run CRIU as root (sudo) or in a privileged container; as an ordinary user CRIU \
            needs --unprivileged",
    )
    .examples(&[
        "Error (criu/net.c:3071): Unable create a network namespace: Operation not \
                permitted",
    ]),
    clue(
        Group::Net,
        "veth-create",
        &["Unable to create a veth pair: {code}"],
    )
    .cause(
        "the kernel cannot create veth pairs ({code}): the veth driver is missing, which \
            matters only for network namespaces",
    )
    .remedy("modprobe veth, or use a kernel with CONFIG_VETH; else harmless")
    .examples(&["Error (criu/net.c:3036): Unable to create a veth pair: -1"]),
    cause(
        Group::Net,
        "tun",
        &[
            "No proper support for tun dump/restore",
            "Can't dump {name} with filter on-board",
            "No info about {name} filter, kernel is too old",
            "Net namespace is required to dump tun link{name}",
            "Can't check tun support{name}",
        ],
    )
    .cause("a tun/tap device cannot be dumped")
    .remedy(
        "use a newer kernel with CONFIG_TUN, put the process in a network namespace of its \
            own (container), or close the tun device (VPN, virtual machine) before the dump",
    )
    .examples(&["Error (criu/tun.c:100): tun: Net namespace is required to dump tun link"]),
    cause(
        Group::Net,
        "tun-restore",
        &[
            "Can't open tun device",
            "Can't create tun device",
            "Can't attach tunfile to device",
        ],
    )
    .during(Operation::Restore)
    .cause("a tun/tap device could not be created")
    .remedy(
        "modprobe tun, make /dev/net/tun available in the container (--device \
            /dev/net/tun) and give CAP_NET_ADMIN",
    )
    .examples(&[
        "  1: Error (criu/tun.c:300): tun: Can't open tun device: No such file or \
                directory",
    ]),
    clue(
        Group::Net,
        "sock-netns",
        &[
            "Unable to get a socket net namespace",
            "Unable to find a network namespace",
            "Unable to switch a network namespace",
        ],
    )
    .cause("the network namespace of a socket was not found")
    .remedy(
        "use a newer kernel (4.10+, SIOCGSKNS), and dump the whole container from outside, \
            as root",
    )
    .examples(&[
        "Error (criu/net.c:3300): net: Unable to get a socket net namespace: Operation \
                not permitted",
    ]),
    clue(
        Group::Net,
        "rtnl-open",
        &[
            "Can't open rtnl sock for net dump",
            "Can't create nlk socket",
            "Error receiving nl report",
            "Can't send request message",
        ],
    )
    .cause("the kernel's netlink interface did not answer")
    .remedy(
        "use a kernel with CONFIG_NETLINK_DIAG and INET_DIAG, run with CAP_NET_ADMIN; \
            upgrade CRIU",
    )
    .examples(&[
        "Error (criu/libnetlink.c:100): Error receiving nl report: No buffer space \
                available",
    ]),
    clue(
        Group::Net,
        "nf-modules",
        &[
            "nf: Can't translate ip addr",
            "failed to open /dev/null, using log fd for net module preload",
        ],
    )
    .cause("the addresses of a connection to be locked could not be handled")
    .remedy("use --network-lock skip, or close the connection before the dump")
    .examples(&[
        "Error (criu/netfilter.c:60): nf: Can't translate ip addr: No space left on \
                device",
    ]),
    cause(
        Group::Net,
        "link-fallback",
        &[
            "Unsupported link {index} (type {type} kind ipip)",
            "Unsupported link {index} (type {type} kind gre)",
            "Unsupported link {index} (type {type} kind gretap)",
            "Unsupported link {index} (type {type} kind erspan)",
            "Unsupported link {index} (type {type} kind ip6tnl)",
            "Unsupported link {index} (type {type} kind ip6gre)",
            "Unsupported link {index} (type {type} kind sit)",
            "Unsupported link {index} (type {type} kind vti)",
            "Unsupported link {index} (type {type} kind ip6_vti)",
            "Unsupported link {index} (type 768 {type}",
            "Unsupported link {index} (type 778 {type}",
        ],
    )
    .cause(
        "the network namespace has a tunnel link (index {index}: ipip, gre, erspan, sit, \
            ip6tnl …) that CRIU cannot dump; the kernel puts such fallback devices (tunl0, \
            gre0, erspan0) into every new network namespace once the tunnel's module is loaded \
            on the host (Calico and other CNIs load it)",
    )
    .remedy(
        "unload the module on the host (rmmod ipip ip_gre ip6_tunnel sit), or keep \
            fallback devices out of new namespaces with sysctl \
            net.core.fb_tunnels_only_for_init_net=1 and start the container anew; or remove \
            the link (ip link del), leave the namespace to others with --empty-ns net or \
            --external net[INODE]:KEY; upgrade CRIU",
    )
    .examples(&[
        "b'(00.013516) Error (criu/net.c:650): net: Unsupported link 2 (type 768 kind \
                ipip)'",
    ]),
];
