//! Trees with namespaces of their own, and with one of somebody else's.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use criu::request::{DescriptorKey, JoinNamespace, NamespaceKind, NetworkLock};
use criu::{External, InheritFd};
use criu_testkit::{Namespace, NetworkNamespace, Scene, TestProcess};

use crate::rig::{Rig, each};

fn network_of(process: &TestProcess) -> u64 {
    std::fs::metadata(format!("/proc/{}/ns/net", process.pid()))
        .unwrap()
        .ino()
}

#[test]
fn a_process_with_all_its_namespaces_goes_on() {
    each(|rig| {
        let process = Scene::new()
            .namespaces(&Namespace::ALL)
            .children(1)
            .pipe()
            .start();
        let dump = rig.dump_of(&process);
        let mut restore = rig.restore();
        restore.root = Some(process.root().unwrap().to_owned());
        rig.survives(process, &dump, &restore);
    });
}

/// Connections over loopback of a namespace of its own, bytes under way in both directions.
#[test]
fn an_established_connection_loses_nothing() {
    each(|rig| {
        for lock in [None, Some(NetworkLock::Nftables), Some(NetworkLock::Skip)] {
            let process = Scene::new()
                .namespaces(&[Namespace::Net])
                .tcp()
                .tcp_listener(0)
                .start();
            let mut dump = rig.dump_of(&process);
            dump.sockets.tcp_established = true;
            dump.network_lock = lock;
            let mut restore = rig.restore();
            restore.sockets.tcp_established = true;
            rig.survives(process, &dump, &restore);
        }
    });
}

/// The scenario `external_netns` of rust-criu's suite.
#[test]
fn an_external_network_namespace_is_joined_again() {
    each(|rig| {
        let namespace = NetworkNamespace::new();
        let process = in_namespace(&namespace);
        let inode = network_of(&process);
        let key = "outside".to_owned();
        let mut dump = rig.dump_of(&process);
        dump.mounts.external.push(External::NetworkNamespace {
            inode,
            key: key.clone(),
        });
        let mut restore = rig.restore();
        let file = File::open(namespace.path()).unwrap();
        restore
            .inherit_fds
            .push(InheritFd::new(DescriptorKey::Key(key), &file).unwrap());
        comes_back_into(rig, process, &dump, &restore, inode);
    });
}

#[test]
fn a_network_namespace_can_be_joined_by_its_file() {
    each(|rig| {
        let process = Scene::new().namespaces(&[Namespace::Net]).start();
        let dump = rig.dump_of(&process);
        let namespace = NetworkNamespace::new();
        let inode = std::fs::metadata(namespace.path()).unwrap().ino();
        let mut restore = rig.restore();
        restore
            .join_namespaces
            .push(JoinNamespace::new(NamespaceKind::Net, namespace.path()));
        comes_back_into(rig, process, &dump, &restore, inode);
    });
}

/// The scenario `empty_net_ns` of rust-criu's suite.
#[test]
fn an_empty_network_namespace_is_restored_without_its_devices() {
    each(|rig| {
        let process = Scene::new().namespaces(&[Namespace::Net]).start();
        let mut dump = rig.dump_of(&process);
        dump.empty_network_namespace = true;
        let mut restore = rig.restore();
        restore.empty_network_namespace = true;
        rig.survives(process, &dump, &restore);
        let left_out = std::fs::read_dir(rig.images.path()).unwrap().flatten();
        let names: Vec<String> = left_out
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        assert!(
            !names.iter().any(|name| name.starts_with("netdev-")),
            "{names:?}"
        );
    });
}

/// Starts a counting process inside the namespace, though as a child of ours.
fn in_namespace(namespace: &NetworkNamespace) -> TestProcess {
    // The namespace of a thread is that of the children it starts.
    let path = namespace.path().to_owned();
    std::thread::spawn(move || {
        enter_network(&path);
        Scene::new().start()
    })
    .join()
    .unwrap()
}

fn enter_network(path: &Path) {
    let file = File::open(path).unwrap();
    let kind = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind)).unwrap();
}

fn comes_back_into(
    rig: &Rig,
    mut process: TestProcess,
    dump: &criu::Dump,
    restore: &criu::Restore,
    inode: u64,
) {
    rig.dump(dump, &mut process);
    let count = process.count();
    rig.bring_back(&mut process, restore);
    assert_eq!(network_of(&process), inode);
    process.wait_for_count_above(count);
}
