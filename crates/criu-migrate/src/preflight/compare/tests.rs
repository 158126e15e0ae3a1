//! Each check with what passes, what warns and what blocks.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::compare;
use crate::preflight::check::Check;
use crate::preflight::facts::{
    CgroupSeen, Facts, FileSeen, LeftOut, LsmSeen, MountRole, MountSeen, Protocol, SessionSeen,
    SocketSeen,
};
use crate::preflight::finding::{Report, Severity};
use crate::preflight::here::{CgroupHere, FileHere, Here, SocketPath, Taken};

fn facts() -> Facts {
    Facts {
        criu: Some("4.3".into()),
        image_version: Some(2),
        architecture: Some("x86_64".into()),
        page_size_bytes: Some(4096),
        kernel: Some("6.1.5-generic".into()),
        processor: vec![1],
        ..Facts::default()
    }
}

fn here() -> Here {
    Here {
        criu: "4.3".into(),
        architecture: "x86_64".into(),
        page_size_bytes: 4096,
        kernel: "6.1.0".into(),
        namespaces: ["pid", "net"].map(String::from).into(),
        capabilities: u64::MAX,
        ..Here::default()
    }
}

/// What a report says, one line a finding.
fn lines(report: &Report) -> Vec<String> {
    let line = |finding: &crate::preflight::Finding| {
        assert!(!finding.remedy.is_empty() && !finding.object.is_empty());
        let mark = match finding.severity {
            Severity::Blocks => "BLOCKS",
            Severity::Warns => "warns",
        };
        let crate::preflight::Finding {
            check,
            object,
            wanted,
            found,
            ..
        } = finding;
        format!("{mark} {check}: {object}: {wanted} | {found}")
    };
    report.findings.iter().map(line).collect()
}

#[track_caller]
fn check(change: impl FnOnce(&mut Facts, &mut Here), expected: &[&str]) {
    let (mut facts, mut here) = (facts(), here());
    change(&mut facts, &mut here);
    assert_eq!(lines(&compare(&facts, &here)), expected);
}

#[test]
fn equal_machines_differ_in_nothing() {
    check(|_, _| {}, &[]);
    assert!(compare(&facts(), &here()).is_empty());
    // Nothing known is nothing in the way, and the processor is said not to be compared.
    let report = compare(&Facts::default(), &here());
    assert_eq!(report.findings, []);
    assert_eq!(report.not_compared.len(), 1);
    assert_eq!(report.not_compared[0].check, Check::Processor);
}

#[test]
fn versions_of_criu_and_of_images() {
    check(
        |_, here| here.criu = "4.2.1".into(),
        &["warns criu: version of CRIU: 4.3 | 4.2.1"],
    );
    check(|facts, _| facts.criu = Some("4.2".into()), &[]);
    check(
        |facts, _| facts.criu = Some("4.3.1 (gitid v4.3-5-gabc)".into()),
        &[],
    );
    check(
        |facts, here| {
            facts.criu = None;
            here.criu = "2.12".into();
        },
        &[&format!(
            "BLOCKS criu: version of CRIU: {} or later | 2.12",
            criu::OLDEST_SUPPORTED
        )],
    );
    check(|facts, _| facts.image_version = Some(3), &[]);
    check(
        |facts, here| {
            facts.criu = None;
            facts.image_version = Some(3);
            here.criu = "4.2.1".into();
        },
        &["BLOCKS image-version: version of the images: 3 | CRIU 4.2.1, which reads up to 2"],
    );
    check(
        |facts, _| facts.image_version = Some(4),
        &["BLOCKS image-version: version of the images: 4 | CRIU 4.3, which reads up to 3"],
    );
    let mut unknown = here();
    unknown.criu = "four".into();
    assert_eq!(
        compare(&facts(), &unknown).not_compared[0].check,
        Check::Criu
    );
}

#[test]
fn machines_and_page_sizes() {
    check(
        |_, here| here.architecture = "aarch64".into(),
        &["BLOCKS architecture: machine type: x86_64 | aarch64"],
    );
    for (images, machine) in [
        ("arm", "armv7l"),
        ("ppc64", "ppc64le"),
        ("s390", "s390x"),
        ("mips", "mips64"),
    ] {
        check(
            |facts, here| {
                facts.architecture = Some(images.into());
                here.architecture = machine.into();
            },
            &[],
        );
    }
    check(
        |facts, _| facts.page_size_bytes = Some(65536),
        &["BLOCKS page-size: bytes of a page of memory: 65536 | 4096"],
    );
}

#[test]
fn kernels() {
    check(
        |facts, _| facts.namespaces = vec!["pid".into(), "time".into()],
        &["BLOCKS kernel: time namespaces: a kernel that has them | 6.1.0 without"],
    );
    check(
        |facts, here| {
            facts.features = vec!["pidfd".into(), "lazy_pages".into()];
            here.features.insert("pidfd".into());
        },
        &["BLOCKS kernel: feature lazy_pages: there, since the tree uses it | not there"],
    );
    check(
        |facts, _| facts.source_features = vec!["mem_track".into()],
        &["warns kernel: feature mem_track: there, as on the source | not there"],
    );
    check(
        |_, here| here.kernel = "5.15.0-9".into(),
        &["warns kernel: release of the kernel: 6.1.5-generic | 5.15.0-9"],
    );
    check(|_, here| here.kernel = "6.10.0".into(), &[]);
}

#[test]
fn processors_sessions_and_credentials() {
    check(
        |_, here| here.processor_lacks = Some("avx512 is missing".into()),
        &["BLOCKS processor: features of the processor: those of the source's | avx512 is missing"],
    );
    let session = |accepted| SessionSeen {
        pid: 5,
        leader: 4,
        accepted,
    };
    check(
        |facts, _| facts.foreign_session = Some(session(false)),
        &[
            "BLOCKS session: session of process 5: a leader in the tree | leader 4 is not in the tree",
        ],
    );
    check(
        |facts, _| facts.foreign_session = Some(session(true)),
        &[
            "warns session: session of process 5: a leader in the tree | leader 4 is not in the tree",
        ],
    );
    check(
        |facts, _| facts.has_terminal = true,
        &[
            "warns session: controlling terminal: a terminal whose other end is in the tree | one that may stay behind",
        ],
    );
    check(
        |facts, here| {
            facts.capabilities = 0b111;
            here.capabilities = 0b101;
        },
        &["BLOCKS credentials: capabilities of the tasks: 0x7 | 0x5"],
    );
}

#[test]
fn process_ids() {
    check(
        |facts, here| {
            facts.pids = vec![7, 5, 5];
            facts.largest_pid = Some(7);
            here.pid_max = Some(8);
            here.pids = [(5, "nginx".to_owned()), (6, "sh".to_owned())].into();
        },
        &["BLOCKS pids: process id 5: free | in use by nginx"],
    );
    check(
        |facts, here| {
            facts.largest_pid = Some(40_000);
            here.pid_max = Some(32_768);
        },
        &["BLOCKS pids: kernel.pid_max: more than 40000 | 32768"],
    );
}

fn file() -> FileSeen {
    FileSeen {
        path: "/lib/x.so".into(),
        mode: Some(0o100_755),
        len_bytes: Some(9),
        build_id: Some("abcd".into()),
        modified_s: Some(100),
    }
}

/// Compares a file with what it is here.
#[track_caller]
fn check_file(
    change: impl FnOnce(&mut FileSeen, &mut FileSeen, &mut Facts, &mut Here),
    expected: &[&str],
) {
    check(
        |facts, here| {
            let (mut wanted, mut found) = (file(), file());
            change(&mut wanted, &mut found, facts, here);
            here.files
                .insert(wanted.path.clone(), FileHere::Found(found));
            facts.files.push(wanted);
        },
        expected,
    );
}

#[test]
fn files() {
    check_file(|_, _, _, _| {}, &[]);
    for (state, said) in [
        (FileHere::Missing, "missing"),
        (FileHere::Failed("too many links".into()), "too many links"),
    ] {
        check(
            |facts, here| {
                facts.files.push(file());
                here.files.insert(file().path, state);
            },
            &[&format!("BLOCKS files: /lib/x.so: there | {said}")],
        );
    }
    check_file(
        |_, found, _, _| found.mode = Some(0o040_755),
        &["BLOCKS files: /lib/x.so: a file | a directory"],
    );
    // Another length says it all.
    check_file(
        |_, found, _, _| {
            found.len_bytes = Some(10);
            found.build_id = None;
            found.modified_s = Some(200);
        },
        &["BLOCKS files: /lib/x.so: 9 bytes | 10 bytes"],
    );
    check_file(
        |_, found, _, _| found.build_id = Some("ef".into()),
        &["BLOCKS files: /lib/x.so: build id abcd | build id ef"],
    );
    check_file(
        |_, found, _, _| found.build_id = None,
        &["BLOCKS files: /lib/x.so: build id abcd | build id none"],
    );
    check_file(
        |_, found, _, _| found.mode = Some(0o100_700),
        &["BLOCKS files: /lib/x.so: permissions 0755 | permissions 0700"],
    );
    check_file(
        |_, found, _, here| {
            found.mode = Some(0o100_700);
            here.skip_permissions = true;
        },
        &[],
    );
    check_file(
        |_, found, _, _| found.modified_s = Some(101),
        &["warns files: /lib/x.so: modified at 100 s | modified at 101 s"],
    );
    // A file that may grow is only looked for.
    check_file(
        |wanted, found, _, _| {
            (wanted.len_bytes, wanted.build_id, wanted.modified_s) = (None, None, None);
            found.len_bytes = Some(10);
        },
        &[],
    );
    check_file(
        |wanted, _, facts, _| {
            (wanted.build_id, wanted.modified_s) = (None, None);
            facts.made_s = Some(90);
        },
        &[
            "warns files: /lib/x.so: as it was when the checkpoint was made, at 90 s | modified at 100 s",
        ],
    );
    check_file(
        |wanted, _, facts, _| {
            wanted.modified_s = None;
            facts.made_s = Some(90);
        },
        &[],
    );
}

fn mount(role: MountRole) -> MountSeen {
    MountSeen {
        mountpoint: "/data".into(),
        fstype: "ext4".into(),
        role,
    }
}

#[test]
fn mounts() {
    let external = || mount(MountRole::External("vol".into()));
    check(
        |facts, _| facts.mounts.push(external()),
        &["BLOCKS mounts: external mount vol at /data: something to mount | none is named"],
    );
    check(
        |facts, here| {
            facts.mounts.push(external());
            let place = (PathBuf::from("/srv"), false);
            here.externals.insert("vol".into(), place);
        },
        &["BLOCKS mounts: external mount vol at /data: something to mount | /srv is not there"],
    );
    check(
        |facts, here| {
            facts.mounts.push(external());
            here.externals
                .insert("vol".into(), (PathBuf::from("/srv"), true));
        },
        &[],
    );
    check(
        |facts, here| {
            facts.mounts.push(external());
            here.skipped_mounts.insert("/data".into());
        },
        &[],
    );
    let automatic = || mount(MountRole::External(super::AUTOMATIC.into()));
    check(
        |facts, _| facts.mounts.push(automatic()),
        &[
            "BLOCKS mounts: external mount CRIU:AUTOGENERATED at /data: found by CRIU itself | not looked for",
        ],
    );
    check(
        |facts, here| {
            facts.mounts.push(automatic());
            here.automatic_externals = true;
        },
        &[],
    );
    check(
        |facts, _| facts.mounts = vec![mount(MountRole::Own), mount(MountRole::Own)],
        &["warns mounts: file system ext4 at /data: known to the kernel | not loaded"],
    );
    check(
        |facts, here| {
            facts.mounts.push(mount(MountRole::Own));
            here.filesystems.insert("ext4".into());
        },
        &[],
    );
    check(
        |facts, _| facts.mounts.push(mount(MountRole::Shared)),
        &["warns mounts: mount point /data: ext4 | nothing mounted"],
    );
    check(
        |facts, here| {
            facts.mounts.push(mount(MountRole::Shared));
            here.mount_points.insert("/data".into(), "xfs".into());
        },
        &["warns mounts: mount point /data: ext4 | xfs"],
    );
}

fn inet(protocol: Protocol, local: &str, remote: Option<&str>) -> SocketSeen {
    SocketSeen::Inet {
        protocol,
        local: local.parse().unwrap(),
        remote: remote.map(|remote| remote.parse().unwrap()),
        v6_only: None,
        shares: false,
    }
}

fn taken(socket: SocketSeen) -> Taken {
    Taken {
        socket,
        owner: Some("process 7 (nginx)".into()),
    }
}

#[test]
fn ports_are_taken_where_binding_would_fail() {
    use Protocol::{Tcp, Udp};
    let peer = Some("10.0.0.9:99");
    for (wanted, found, severity) in [
        (
            inet(Tcp, "127.0.0.1:80", None),
            inet(Tcp, "127.0.0.1:80", None),
            Some("BLOCKS"),
        ),
        (
            inet(Tcp, "127.0.0.1:80", None),
            inet(Tcp, "0.0.0.0:80", None),
            Some("BLOCKS"),
        ),
        (
            inet(Tcp, "0.0.0.0:80", None),
            inet(Tcp, "10.0.0.1:80", None),
            Some("BLOCKS"),
        ),
        (
            inet(Tcp, "127.0.0.1:80", None),
            inet(Tcp, "10.0.0.1:80", None),
            None,
        ),
        (
            inet(Tcp, "127.0.0.1:80", None),
            inet(Tcp, "127.0.0.1:81", None),
            None,
        ),
        (
            inet(Tcp, "127.0.0.1:80", None),
            inet(Udp, "127.0.0.1:80", None),
            None,
        ),
        // Whether an IPv6 wildcard covers IPv4 is not always known.
        (
            inet(Tcp, "127.0.0.1:80", None),
            inet(Tcp, "[::]:80", None),
            Some("warns"),
        ),
        (
            inet(Tcp, "127.0.0.1:80", None),
            inet(Tcp, "[::1]:80", None),
            None,
        ),
        (
            inet(Tcp, "[::]:80", None),
            inet(Tcp, "[::]:80", None),
            Some("BLOCKS"),
        ),
        (
            inet(Tcp, "[::ffff:127.0.0.1]:80", None),
            inet(Tcp, "127.0.0.1:80", None),
            Some("BLOCKS"),
        ),
        // Connections share the port of who accepted them.
        (
            inet(Tcp, "10.0.0.1:80", peer),
            inet(Tcp, "0.0.0.0:80", None),
            None,
        ),
        (
            inet(Tcp, "10.0.0.1:80", None),
            inet(Tcp, "10.0.0.1:80", peer),
            None,
        ),
        (
            inet(Tcp, "10.0.0.1:80", peer),
            inet(Tcp, "10.0.0.1:80", peer),
            Some("BLOCKS"),
        ),
        (
            inet(Tcp, "10.0.0.1:80", peer),
            inet(Tcp, "10.0.0.1:80", Some("10.0.0.9:98")),
            None,
        ),
        (
            inet(Udp, "10.0.0.1:53", None),
            inet(Udp, "10.0.0.1:53", peer),
            Some("BLOCKS"),
        ),
    ] {
        let (mut facts, mut here) = (facts(), here());
        facts.sockets.push(wanted.clone());
        here.taken.push(taken(found.clone()));
        let said = lines(&compare(&facts, &here));
        let mark = said.first().map(|line| line.split(' ').next().unwrap());
        assert_eq!(mark, severity, "{wanted:?} {found:?}");
    }
    check(
        |facts, here| {
            facts.sockets.push(inet(Tcp, "0.0.0.0:80", None));
            here.taken.push(taken(inet(Tcp, "127.0.0.1:80", None)));
        },
        &[
            "BLOCKS sockets: tcp port 80 at 0.0.0.0: free | taken at 127.0.0.1:80 by process 7 (nginx)",
        ],
    );
    let sharing = |v6_only, shares, local: &str| SocketSeen::Inet {
        protocol: Tcp,
        local: local.parse().unwrap(),
        remote: None,
        v6_only,
        shares,
    };
    check(
        |facts, here| {
            facts.sockets.push(sharing(None, true, "0.0.0.0:80"));
            facts.sockets.push(sharing(Some(true), false, "[::]:80"));
            here.taken.push(taken(inet(Tcp, "0.0.0.0:80", None)));
        },
        &["warns sockets: tcp port 80 at 0.0.0.0: free | taken at 0.0.0.0:80 by process 7 (nginx)"],
    );
}

#[test]
fn addresses_and_names_of_sockets() {
    let local: SocketAddr = "192.0.2.1:80".parse().unwrap();
    check(
        |facts, here| {
            facts
                .sockets
                .push(inet(Protocol::Tcp, "192.0.2.1:80", None));
            facts
                .sockets
                .push(inet(Protocol::Tcp, "192.0.2.1:81", None));
            here.foreign_addresses.insert(local.ip());
        },
        &["warns sockets: address 192.0.2.1: an address of this host | none of its addresses"],
    );
    let unix = |name: &str| SocketSeen::Unix { name: name.into() };
    check(
        |facts, here| {
            facts.sockets = vec![unix("@bus"), unix("/run/free")];
            let (directory, occupied) = (true, false);
            let place = SocketPath {
                directory,
                occupied,
            };
            here.socket_paths.insert("/run/free".into(), place);
            here.taken.push(taken(unix("@bus")));
        },
        &["BLOCKS sockets: socket @bus: free | taken by process 7 (nginx)"],
    );
    for (directory, occupied, said) in [
        (false, false, "its directory | no such directory"),
        (true, true, "a free name | something that is no socket"),
    ] {
        check(
            |facts, here| {
                facts.sockets.push(unix("/run/x"));
                let place = SocketPath {
                    directory,
                    occupied,
                };
                here.socket_paths.insert("/run/x".into(), place);
            },
            &[&format!("BLOCKS sockets: socket /run/x: {said}")],
        );
    }
}

#[test]
fn control_groups() {
    let group = |hierarchy: &str| CgroupSeen {
        hierarchy: hierarchy.into(),
        path: "/web".into(),
    };
    let found = |hierarchy, in_version_2, there| CgroupHere {
        hierarchy,
        in_version_2,
        group: Some(there),
    };
    let check_group = |name: &str, here_it_is, expected: &[&str]| {
        check(
            |facts, here| {
                facts.cgroups.push(group(name));
                here.cgroups.insert(group(name), here_it_is);
            },
            expected,
        );
    };
    check_group("cpu", found(true, true, true), &[]);
    check_group(
        "cpu",
        found(true, true, false),
        &["warns cgroups: control group cpu:/web: there | missing"],
    );
    check_group(
        "cpu",
        found(false, true, false),
        &["BLOCKS cgroups: control group hierarchy cpu: there | its controllers in version 2 only"],
    );
    check_group(
        "rdma",
        found(false, false, false),
        &["BLOCKS cgroups: control group hierarchy rdma: there | none"],
    );
    check_group(
        "name=systemd",
        found(false, false, false),
        &["warns cgroups: control group hierarchy name=systemd: there | not mounted"],
    );
    check_group(
        "",
        found(false, false, false),
        &["BLOCKS cgroups: control groups of version 2: there | none"],
    );
    check(
        |facts, here| {
            facts.cgroups.push(group("rdma"));
            here.cgroups.insert(group("rdma"), CgroupHere::default());
            here.cgroups_ignored = true;
        },
        &[],
    );
    check(
        |facts, here| {
            facts.cgroups.push(group("cpu"));
            here.cgroups.insert(group("cpu"), found(true, true, false));
            here.cgroups_moved = true;
        },
        &[],
    );
}

#[test]
fn security_profiles() {
    let confined = |facts: &mut Facts| {
        facts.lsm = Some(LsmSeen {
            module: "apparmor".into(),
            profiles: vec!["web".into(), "db".into()],
        });
    };
    check(
        |facts, _| confined(facts),
        &["BLOCKS lsm: security module: apparmor | none"],
    );
    check(
        |facts, here| {
            confined(facts);
            here.security_module = Some("selinux".into());
        },
        &["BLOCKS lsm: security module: apparmor | selinux"],
    );
    check(
        |facts, here| {
            confined(facts);
            here.security_module = Some("apparmor".into());
            here.profiles = Some(["web".to_owned()].into());
        },
        &["BLOCKS lsm: apparmor profile db: loaded | not loaded"],
    );
    check(
        |facts, here| {
            confined(facts);
            here.replaces_profile = true;
        },
        &[],
    );
    let (mut facts, mut here) = (facts(), here());
    confined(&mut facts);
    here.security_module = Some("apparmor".into());
    assert_eq!(compare(&facts, &here).not_compared[0].check, Check::Lsm);
}

#[test]
fn memory_and_what_did_not_fit() {
    check(
        |facts, here| {
            facts.memory_bytes = 100;
            here.room_bytes = Some(99);
            here.available_bytes = Some(50);
        },
        &[
            "BLOCKS memory: room in the working directory: 100 bytes | 99 bytes",
            "warns memory: memory: 100 bytes | 50 bytes available",
        ],
    );
    let mut facts = facts();
    facts.left_out.push(LeftOut {
        check: Check::Files,
        count: 12,
    });
    let report = compare(&facts, &here());
    assert_eq!(report.not_compared[0].check, Check::Files);
    assert!(report.not_compared[0].why.contains("12 more"));
}
