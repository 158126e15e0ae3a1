use super::*;
use criu_testkit::{CriuUnderTest, TempDir};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixListener};

use crate::preflight::{LsmSeen, MountSeen, Protocol};

fn file(path: &str) -> FileSeen {
    FileSeen {
        path: path.into(),
        build_id: Some("00".into()),
        ..FileSeen::default()
    }
}

#[test]
fn files_are_found_below_the_root_and_links_do_not_lead_out_of_it() {
    let directory = TempDir::new();
    let root = directory.make_dir("root");
    std::fs::write(root.join("plain"), "1234").unwrap();
    std::fs::write(directory.join("secret"), "12").unwrap();
    symlink("/plain", root.join("absolute")).unwrap();
    symlink("../secret", root.join("up")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink("/proc/self/exe", root.join("program")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        Mode::RUSR,
        0,
    )
    .unwrap();
    let opened = Root::open(&root).unwrap();
    let len = |path: &str| match opened.look(path, &file(path)) {
        FileHere::Found(found) => found.len_bytes,
        _ => None,
    };
    assert_eq!((len("/plain"), len("/absolute")), (Some(4), Some(4)));
    for path in ["/gone", "/up", "/plain/below", "/program"] {
        assert_eq!(opened.look(path, &file(path)), FileHere::Missing, "{path}");
    }
    assert!(matches!(
        opened.look("/loop", &file("/loop")),
        FileHere::Failed(_)
    ));
    // Looking does not open: nobody writes to it.
    let FileHere::Found(pipe) = opened.look("/pipe", &file("/pipe")) else {
        panic!("no pipe");
    };
    assert_eq!(pipe.mode.map(FileKind::of_mode), Some(FileKind::Pipe));
    assert!(matches!(opened.look("/", &file("/")), FileHere::Found(_)));
    let everywhere = Root::open(Path::new("/")).unwrap();
    let program = std::env::current_exe().unwrap();
    let name = program.to_str().unwrap();
    let found = everywhere.look(name, &file(name));
    let own = build_id(&File::open(program).unwrap()).unwrap();
    assert!(matches!(found, FileHere::Found(found) if found.build_id == own));
}

#[test]
fn files_on_external_mounts_are_looked_for_in_what_is_mounted_there() {
    let directory = TempDir::new();
    let volume = directory.make_dir("volume");
    std::fs::write(volume.join("database"), "12345").unwrap();
    std::fs::write(directory.join("hosts"), "123").unwrap();
    let external = |mountpoint: &str, key: &str| MountSeen {
        mountpoint: mountpoint.into(),
        fstype: String::new(),
        role: MountRole::External(key.into()),
    };
    let facts = Facts {
        files: ["/data/database", "/data/gone", "/etc/hosts", "/other/x"]
            .map(file)
            .into(),
        mounts: vec![
            external("/data", "vol"),
            external("/etc/hosts", "hosts"),
            external("/other", "unnamed"),
        ],
        ..Facts::default()
    };
    let mut here = Here {
        externals: [
            ("vol".to_owned(), (volume, true)),
            ("hosts".to_owned(), (directory.join("hosts"), true)),
        ]
        .into(),
        ..Here::default()
    };
    here.look_at_files(&facts, directory.path());
    let len = |path: &str| match here.files.get(path) {
        Some(FileHere::Found(found)) => found.len_bytes,
        _ => None,
    };
    assert_eq!(
        (len("/data/database"), len("/etc/hosts")),
        (Some(5), Some(3))
    );
    assert_eq!(here.files["/data/gone"], FileHere::Missing);
    assert!(!here.files.contains_key("/other/x"));
}

#[test]
fn what_is_taken_here_is_seen_with_its_owner() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let directory = TempDir::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = directory.join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let stale = directory.join("stale");
    drop(UnixDatagram::bind(&stale).unwrap());
    let occupied = directory.join("occupied");
    std::fs::write(&occupied, "").unwrap();
    let unix = |path: &Path| SocketSeen::Unix {
        name: path.to_str().unwrap().into(),
    };
    let inet = |local| SocketSeen::Inet {
        protocol: Protocol::Tcp,
        local,
        remote: None,
        v6_only: None,
        shares: false,
    };
    let own = i32::try_from(std::process::id()).unwrap();
    let group = |hierarchy: &str, path: &str| CgroupSeen {
        hierarchy: hierarchy.into(),
        path: path.into(),
    };
    let facts = Facts {
        pids: vec![own, i32::MAX, -1, 0],
        sockets: vec![
            inet(tcp.local_addr().unwrap()),
            inet("192.0.2.1:1".parse().unwrap()),
            unix(&path),
            unix(&stale),
            unix(&occupied),
            unix(&directory.join("no/socket")),
        ],
        mounts: vec![MountSeen {
            mountpoint: "/".into(),
            fstype: String::new(),
            role: MountRole::Shared,
        }],
        cgroups: vec![group("no-such-controller", "/")],
        features: vec!["pidfd".into()],
        lsm: Some(LsmSeen {
            module: "none-such".into(),
            profiles: Vec::new(),
        }),
        ..Facts::default()
    };
    let mut restore = Restore::new(directory.path());
    restore.external = vec![
        "mnt[there]:/".parse().unwrap(),
        "mnt[gone]:/nowhere".parse().unwrap(),
    ];
    let criu = Criu::with_binary(criu.path()).unwrap();
    let here = Here::look(&facts, &criu, &restore, directory.path(), Some(7)).unwrap();
    assert_eq!(here.pids.keys().copied().collect::<Vec<_>>(), [own]);
    let owned = |socket: &SocketSeen| {
        let taken = here.taken.iter().find(|taken| taken.socket == *socket);
        taken.and_then(|taken| taken.owner.clone())
    };
    let us = format!("process {own} (");
    for socket in [&facts.sockets[0], &facts.sockets[2]] {
        assert!(owned(socket).unwrap().starts_with(&us), "{:?}", here.taken);
    }
    assert_eq!(owned(&unix(&stale)), None);
    let foreign: IpAddr = [192, 0, 2, 1].into();
    assert_eq!(here.foreign_addresses, [foreign].into());
    let place = |path: &Path| here.socket_paths[path.to_str().unwrap()];
    assert!(place(&stale).directory && !place(&stale).occupied);
    assert!(place(&occupied).occupied && !place(&directory.join("no/socket")).directory);
    assert!(here.mount_points.contains_key("/") && here.filesystems.contains("proc"));
    assert!(here.features.contains("pidfd") && here.namespaces.contains("pid"));
    assert!(here.externals["there"].1 && !here.externals["gone"].1);
    assert!(!here.cgroups[&facts.cgroups[0]].hierarchy);
    assert!(here.pid_max.is_some() && here.available_bytes.is_some());
    assert_eq!((here.room_bytes, here.processor_lacks), (Some(7), None));
}
