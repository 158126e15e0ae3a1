//! Every field of `criu_opts` has a typed way in, and what is newer than this crate passes through.
#![expect(
    clippy::unwrap_used,
    reason = "a test has no better answer than to stop"
)]

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use criu::request::{
    AutoMounts, CgroupMode, CgroupRoot, Compression, CpuCapabilities, DescriptorKey, Directory,
    ExternalMount, ExternalUnixSockets, ImageIo, JoinNamespace, LogTo, NamespaceKind, NetworkLock,
    Pages, PidfdStore, PreDumpMode, Settings, Tls, VethPair,
};
use criu::rpc::CriuOpts;
use criu::{
    Check, CpuInfo, Criu, Dump, External, FinalState, InheritFd, NoHooks, PageServer, PreDump,
    Restore,
};
use criu_image::schema::{FieldKind, MessageDescriptor};
use criu_image::wire::{Fields, Message, UnknownFields, Value};
use criu_testkit::{FakeCriu, Field, Step, fields};

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

fn here() -> Directory {
    Directory::from("/")
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.work_dir = Some(here());
    settings.log_to = LogTo::File("some.log".into());
    settings.config_file = Some("/etc/criu/other.conf".into());
    settings.unprivileged = true;
    settings.cpu_capabilities = Some(CpuCapabilities::ALL);
    settings.display_stats = true;
    settings.plugin_options = vec!["amdgpu_plugin.x=y".into()];
    settings.status_fd = Some(null());
    settings
}

fn tls() -> Tls {
    let mut tls = Tls::default();
    tls.ca_cert = Some("/ca".into());
    tls.ca_crl = Some("/crl".into());
    tls.cert = Some("/cert".into());
    tls.key = Some("/key".into());
    tls.accept_any_name = true;
    tls
}

fn compression() -> Compression {
    let mut compression = Compression::default();
    compression.acceleration = Some(3);
    compression.block_size_bytes = Some(1 << 16);
    compression
}

/// A dump with everything set.
fn dump() -> Dump {
    let mut dump = Dump::new(1234, here());
    dump.settings = settings();
    dump.parent = Some("../1".into());
    dump.then = FinalState::Running;
    dump.track_memory = true;
    dump.auto_dedup = true;
    dump.pages = Pages::Socket(null());
    dump.tls = Some(tls());
    dump.compression = Some(compression());
    dump.image_io = Some(ImageIo::Direct);
    dump.stream = true;
    dump.shell_job = true;
    dump.file_locks = true;
    dump.link_remap = true;
    dump.evasive_devices = true;
    dump.ghost_limit_bytes = Some(1 << 20);
    dump.irmap.force = true;
    dump.irmap.scan_paths = vec!["/srv".into()];
    dump.sockets.tcp_established = true;
    dump.sockets.tcp_skip_in_flight = true;
    dump.sockets.tcp_close = true;
    dump.sockets.external_unix = ExternalUnixSockets::Inodes(vec![77]);
    dump.network_lock = Some(NetworkLock::Nftables);
    dump.empty_network_namespace = true;
    dump.mounts.external = vec![External::AutoMounts(AutoMounts::default())];
    dump.mounts.ext_mount_map = vec![ExternalMount::new("/mnt", "name")];
    dump.mounts.auto_detect = true;
    dump.mounts.external_sharing = true;
    dump.mounts.external_masters = true;
    dump.mounts.skip = vec!["/skip".into()];
    dump.mounts.enable_fs = vec!["fuse".into()];
    dump.cgroups.mode = Some(CgroupMode::Full);
    dump.cgroups.props = Some("cpu".into());
    dump.cgroups.props_file = Some("/props".into());
    dump.cgroups.controllers = vec!["cpu".into()];
    dump.cgroups.freeze = Some("/sys/fs/cgroup/freezer/x".into());
    dump.cgroups.yard = Some("/yard".into());
    dump.timeout = Some(Duration::from_secs(5));
    dump.lsm_profile = Some("apparmor:x".into());
    dump.pidfd_store = Some(PidfdStore::new().unwrap());
    dump
}

fn pre_dump() -> PreDump {
    let mut pre_dump = PreDump::new(1234, here());
    pre_dump.mode = Some(PreDumpMode::Read);
    pre_dump.pages = Pages::Server {
        address: "127.0.0.1".into(),
        port: 27,
    };
    pre_dump
}

fn restore() -> Restore {
    let mut restore = Restore::new(Directory::AtCriu("/images".into()));
    restore.settings.log_to = LogTo::Stderr;
    restore.root = Some("/root".into());
    restore.as_child = true;
    restore.inherit_fds = vec![InheritFd::new(DescriptorKey::Pipe(7), null()).unwrap()];
    restore.veths = vec![VethPair::new("eth0", "veth0")];
    let user = NamespaceKind::User {
        uid: Some(0),
        gid: Some(0),
    };
    restore.join_namespaces = vec![JoinNamespace::new(user, "/proc/1/ns/user")];
    restore.cgroups.roots = vec![CgroupRoot::of_controller("cpu", "/new")];
    restore.orphan_pts_master = true;
    restore.lazy_pages = true;
    restore.decompress_threads = Some(2);
    restore.weak_sysctls = true;
    restore.lsm_mount_context = Some("context".into());
    restore.mntns_compat_mode = true;
    restore.skip_file_rwx_check = true;
    restore.then_exec = vec!["true".into()];
    restore
}

/// Everything that the typed requests can set.
fn messages() -> Vec<CriuOpts> {
    let mut stopped = Dump::new(1234, here());
    stopped.then = FinalState::Stopped;
    let mut server = PageServer::new(here());
    server.address = Some("::1".into());
    server.socket = Some(null());
    let mut messages = vec![
        dump().message().unwrap(),
        stopped.message().unwrap(),
        pre_dump().message().unwrap(),
        restore().message().unwrap(),
        server.message().unwrap(),
        Check::default().message().unwrap(),
        CpuInfo::new(here()).message().unwrap(),
    ];
    // Hooks are asked for by giving some; what is sent then shows it.
    let fake = FakeCriu::new(&[Step::Receive]);
    let criu = Criu::with_binary(fake.path()).unwrap();
    criu.dump_with(&Dump::new(1234, here()), &mut NoHooks)
        .unwrap_err();
    messages.push(sent(&fake));
    messages
}

/// The options of the last request a fake has received.
fn sent(fake: &FakeCriu) -> CriuOpts {
    let request = fake.requests().pop().unwrap();
    let opts = fields(&request).into_iter().find_map(|field| match field {
        Field::Bytes(2, bytes) => Some(CriuOpts::decode(bytes).unwrap()),
        _ => None,
    });
    opts.unwrap()
}

/// Adds the numbers of the fields that a message sets, and those of the messages in it, as paths.
fn note(bytes: &[u8], descriptor: &MessageDescriptor, path: &str, found: &mut BTreeSet<String>) {
    for field in Fields::new(bytes) {
        let field = field.unwrap();
        let known = descriptor
            .fields
            .iter()
            .find(|known| known.number == field.number());
        let known = known.unwrap_or_else(|| panic!("{path}{} is not described", field.number()));
        let name = format!("{path}{}", known.name);
        if let (FieldKind::Message(inner), Value::Bytes(bytes)) = (known.kind, field.value()) {
            note(bytes, inner, &format!("{name}."), found);
        }
        found.insert(name);
    }
}

fn described(descriptor: &MessageDescriptor, path: &str, names: &mut BTreeSet<String>) {
    for field in descriptor.fields {
        let name = format!("{path}{}", field.name);
        if let FieldKind::Message(inner) = field.kind {
            described(inner, &format!("{name}."), names);
        }
        names.insert(name);
    }
}

#[test]
fn every_field_of_criu_opts_has_a_typed_way_in() {
    let mut found = BTreeSet::new();
    for message in messages() {
        note(&message.encode(), CriuOpts::DESCRIPTOR, "", &mut found);
    }
    let mut expected = BTreeSet::new();
    described(CriuOpts::DESCRIPTOR, "", &mut expected);
    // In answers only: the process of a page server that was started.
    assert!(expected.remove("ps.pid"));
    let missing: Vec<_> = expected.difference(&found).collect();
    assert!(missing.is_empty(), "no typed way to set {missing:?}");
    assert!(
        expected.len() > 80,
        "the schema is read: {}",
        expected.len()
    );
}

#[test]
fn a_message_is_what_is_sent() {
    let mut dump = dump();
    // Neither a descriptor to hand over nor an option beyond the fake's version asks for more.
    dump.pages = Pages::Images;
    let inspected = dump.message().unwrap();
    let version = criu_testkit::Message::new().varint(1, 4).varint(2, 3);
    let answer = criu_testkit::Message::reply(10, 1)
        .bytes(10, version)
        .build();
    let fake = FakeCriu::new(&[Step::Receive, Step::Send(answer), Step::Receive]);
    Criu::with_binary(fake.path())
        .unwrap()
        .dump(&dump)
        .unwrap_err();
    let mut sent = sent(&fake);
    // Descriptors are opened anew for each.
    sent.images_dir_fd = inspected.images_dir_fd;
    sent.work_dir_fd = inspected.work_dir_fd;
    sent.pidfd_store_sk = inspected.pidfd_store_sk;
    assert_eq!(sent, inspected);
}

#[test]
fn what_the_raw_message_holds_is_sent_beside_the_typed_options() {
    // Field 1999 of a CRIU to come, and one that is known, set to a value that is not.
    let mut future = UnknownFields::default();
    let wire = criu_testkit::Message::new().varint(1999, 7).build();
    for field in Fields::new(&wire) {
        future.push(&field.unwrap());
    }
    let mut dump = Dump::new(1234, here());
    dump.file_locks = true;
    dump.settings.raw.unknown = future;
    dump.settings.raw.ghost_limit = Some(12_345);
    dump.settings.raw.external = vec!["new[kind]".into()];
    dump.mounts.external = vec![External::UnixSocket { inode: 5 }];
    let fake = FakeCriu::new(&[Step::Receive]);
    Criu::with_binary(fake.path())
        .unwrap()
        .dump(&dump)
        .unwrap_err();
    let sent = sent(&fake);
    assert_eq!(sent.unknown.as_bytes(), wire);
    assert_eq!(
        (sent.ghost_limit, sent.file_locks),
        (Some(12_345), Some(true))
    );
    assert_eq!(sent.external, ["new[kind]", "unix[5]"]);
}

#[test]
fn the_typed_value_wins_over_the_raw_one() {
    let mut dump = Dump::new(1234, here());
    dump.ghost_limit_bytes = Some(7);
    dump.settings.raw.ghost_limit = Some(12_345);
    dump.settings.raw.pid = Some(1);
    let message = dump.message().unwrap();
    assert_eq!((message.ghost_limit, message.pid), (Some(7), Some(1234)));
}
