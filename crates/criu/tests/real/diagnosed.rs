//! Real failures provoked from the real CRIU: each is told with its root line and what to do.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use criu::request::{LogTo, Pages};
use criu::{CpuInfo, Dump, Error, Event, External, FinalState, PreDump, Restore, TargetState};
use criu_testkit::{Namespace, Scene, Subreaper, TestProcess};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::rig::{Rig, each, pid_of, terminals};

/// Checks that the failure is explained: the text of the root line, and a word of the remedy.
#[track_caller]
fn told(rig: &Rig, error: &Error, rule: &str, root: &str, remedy: &str) {
    let series = rig.under_test.series();
    let failure = error
        .failure()
        .unwrap_or_else(|| panic!("{series:?}: {error:?}"));
    let diagnosis = failure.diagnosis.as_ref().unwrap_or_else(|| {
        let log = failure.log.as_ref().map(|report| report.log.tail(20));
        panic!("{series:?}: no diagnosis: {error}\n{log:#?}")
    });
    let name = diagnosis.rule.map(|rule| rule.id());
    assert!(
        name == Some(rule)
            && diagnosis.root.text().contains(root)
            && diagnosis.remedy.contains(remedy),
        "{series:?}: rule {name:?}\n{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&diagnosis.cause) && text.contains(&diagnosis.remedy),
        "{text}"
    );
}

/// Checks the failure of a dump, and that the process runs on.
#[track_caller]
fn dump_told(rig: &Rig, process: &TestProcess, dump: &Dump, rule: &str, root: &str, remedy: &str) {
    let error = rig.criu.dump(dump).unwrap_err();
    told(rig, &error, rule, root, remedy);
    let target = error.failure().unwrap().target;
    assert_eq!(target, Some((pid_of(process), TargetState::Running)));
    process.wait_for_count_above(process.count());
}

#[test]
fn a_terminal_of_a_shell_outside() {
    let _numbers = terminals();
    each(|rig| {
        let (process, _master) = TestProcess::on_terminal(Scene::new());
        let dump = rig.dump_of(&process);
        dump_told(rig, &process, &dump, "tty-shell-job", "peer", "--shell-job");
    });
}

#[test]
fn an_established_connection() {
    each(|rig| {
        let process = Scene::new().namespaces(&[Namespace::Net]).tcp().start();
        let dump = rig.dump_of(&process);
        dump_told(
            rig,
            &process,
            &dump,
            "tcp-established",
            "onnected TCP socket",
            "--tcp-established",
        );
    });
}

#[test]
fn a_unix_socket_whose_peer_is_outside() {
    each(|rig| {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let process = Scene::new().stdin(OwnedFd::from(theirs)).start();
        let mut dump = rig.dump_of(&process);
        dump_told(
            rig,
            &process,
            &dump,
            "unix-external",
            "External socket",
            "--external unix",
        );
        dump.sockets.external_unix = criu::request::ExternalUnixSockets::All;
        dump_told(
            rig,
            &process,
            &dump,
            "unix-half-stream",
            "half of stream",
            "--external unix",
        );
    });
}

#[test]
fn file_locks() {
    each(|rig| {
        let process = Scene::new().file_locks().start();
        let dump = rig.dump_of(&process);
        dump_told(
            rig,
            &process,
            &dump,
            "file-locks",
            "file locks",
            "--file-locks",
        );
    });
}

#[test]
fn a_file_that_lost_one_of_its_names() {
    each(|rig| {
        let process = Scene::new().removed_hard_link().start();
        let dump = rig.dump_of(&process);
        dump_told(
            rig,
            &process,
            &dump,
            "link-remap-needed",
            "link-remap",
            "--link-remap",
        );
    });
}

#[test]
fn an_unlinked_file_that_is_too_large() {
    each(|rig| {
        let process = Scene::new().part("unlinked=2048").start();
        let dump = rig.dump_of(&process);
        dump_told(
            rig,
            &process,
            &dump,
            "ghost-limit",
            "ghost file",
            "--ghost-limit",
        );
    });
}

#[test]
fn a_process_id_in_use() {
    each(|rig| {
        let process = Scene::new().start();
        let mut dump = rig.dump_of(&process);
        dump.then = FinalState::Running;
        rig.criu.dump(&dump).unwrap();
        let error = rig.criu.restore(&rig.restore()).unwrap_err();
        told(rig, &error, "pid-in-use", "File exists", "reap");
        assert_eq!(error.failure().unwrap().errno, Some(criu::CriuErrno(17)));
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn an_open_file_that_is_gone_or_has_another_size() {
    each(|rig| {
        let mut process = Scene::new().open_file().start();
        let pid = process.pid();
        rig.dump(&rig.dump_of(&process), &mut process);
        let file = process.directory().join("plain");
        let content = fs::read(&file).unwrap();
        fs::write(&file, b"shorter").unwrap();
        let error = rig.criu.restore(&rig.restore()).unwrap_err();
        told(rig, &error, "file-size", "bad size", "restore");
        // What was half restored is killed, and its zombie comes to the test.
        Subreaper::reap(pid);
        fs::remove_file(&file).unwrap();
        let error = rig.criu.restore(&rig.restore()).unwrap_err();
        told(rig, &error, "file-missing", "Can't open file", "same path");
        Subreaper::reap(pid);
        fs::write(&file, content).unwrap();
        rig.bring_back(&mut process, &rig.restore());
    });
}

/// A bind mount from outside appears in the mount namespace of the process.
#[test]
fn a_mount_from_outside() {
    each(|rig| {
        let process = Scene::new().namespaces(&Namespace::ALL).start();
        let outside = rig.images.make_dir("outside");
        mount_into(&process, &outside);
        let images = rig.images.make_dir("images");
        let mut dump = Dump::new(pid_of(&process), &images);
        dump_told(
            rig,
            &process,
            &dump,
            "mount-no-root",
            "proper root mount",
            "--external mnt",
        );
        let mountpoint = "/tmp".into();
        dump.mounts.external = vec![External::Mount {
            mountpoint,
            key: "outside".into(),
        }];
        dump.then = FinalState::Running;
        rig.criu.dump(&dump).unwrap();
    });
}

fn mount_into(process: &TestProcess, directory: &Path) {
    let namespace = File::open(format!("/proc/{}/ns/mnt", process.pid())).unwrap();
    let directory = directory.to_owned();
    let mount = move || {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(rustix::fs::CWD, &directory, flags).unwrap();
        leave_shared_directories();
        let namespace = std::os::fd::AsFd::as_fd(&namespace);
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount)).unwrap();
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&tree, "", rustix::fs::CWD, "/tmp", flags).unwrap();
    };
    std::thread::spawn(mount).join().unwrap();
}

/// A thread that shares its working directory with others may not enter a mount namespace.
fn leave_shared_directories() {
    #[expect(
        unsafe_code,
        reason = "unshare can break what relies on shared descriptors; only the directories are unshared"
    )]
    // SAFETY: the descriptor table stays shared, which is what the contract is about.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.unwrap();
}

#[test]
fn memory_tracking_that_the_kernel_lacks() {
    each(|rig| {
        if rig
            .criu
            .features()
            .unwrap()
            .contains(criu::Feature::MemoryTracking)
        {
            return;
        }
        let process = Scene::new().start();
        let error = rig
            .criu
            .pre_dump(&PreDump::new(pid_of(&process), rig.images.path()))
            .unwrap_err();
        told(
            rig,
            &error,
            "track-mem-missing",
            "rack",
            "CONFIG_MEM_SOFT_DIRTY",
        );
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn a_process_that_is_not_there() {
    each(|rig| {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        child.wait().unwrap();
        let error = rig
            .criu
            .dump(&Dump::new(pid, rig.images.path()))
            .unwrap_err();
        told(rig, &error, "task-gone", "", "pid");
        let failure = error.failure().unwrap();
        assert_eq!(failure.target, Some((pid, TargetState::Gone)));
        assert_eq!(failure.errno.and_then(criu::CriuErrno::name), Some("ESRCH"));
    });
}

#[test]
fn an_images_directory_without_images() {
    each(|rig| {
        let error = rig.criu.restore(&rig.restore()).unwrap_err();
        told(rig, &error, "no-inventory", "inventory", "images");
    });
}

#[test]
fn images_of_a_version_to_come_or_cut_short() {
    each(|rig| {
        let mut process = Scene::new().start();
        let pid = process.pid();
        rig.dump(&rig.dump_of(&process), &mut process);
        let inventory = rig.images.join("inventory.img");
        let good = fs::read(&inventory).unwrap();
        // The magic word and the size of the entry, whose first field is `img_version`.
        let mut future = good.clone();
        assert_eq!(future[8], 0x08);
        future[9] = 100;
        fs::write(&inventory, future).unwrap();
        let error = rig.criu.restore(&rig.restore()).unwrap_err();
        told(rig, &error, "image-version", "100", "CRIU");
        fs::write(&inventory, good).unwrap();

        let files = rig.images.join("files.img");
        let good = fs::read(&files).unwrap();
        fs::write(&files, &good[..good.len() - 5]).unwrap();
        let error = rig.criu.restore(&rig.restore()).unwrap_err();
        Subreaper::reap(pid);
        told(rig, &error, "image-short", "", "cop");
        fs::write(&files, good).unwrap();
        rig.bring_back(&mut process, &rig.restore());
    });
}

#[test]
fn lazy_pages_that_nobody_serves() {
    each(|rig| {
        let mut process = Scene::new().start();
        rig.dump(&rig.dump_of(&process), &mut process);
        let mut restore = rig.restore();
        restore.lazy_pages = true;
        let error = rig.criu.restore(&restore).unwrap_err();
        told(
            rig,
            &error,
            "lazy-socket",
            "lazy-pages.socket",
            "lazy-pages",
        );
    });
}

/// While one dump holds the process, a second one finds it traced.
#[test]
fn a_process_that_somebody_traces() {
    each(|rig| {
        let process = Scene::new().start();
        let mut dump = rig.dump_of(&process);
        dump.then = FinalState::Running;
        let second = Dump::new(pid_of(&process), rig.images.make_dir("second"));
        let mut error = None;
        let mut hooks = |event: Event<'_>| {
            if let Event::PostDump = event {
                error = rig.criu.dump(&second).err();
            }
            Ok(())
        };
        rig.criu.dump_with(&dump, &mut hooks).unwrap();
        told(
            rig,
            &error.unwrap(),
            "seize-refused",
            "Unable to interrupt task",
            "strace",
        );
        process.wait_for_count_above(process.count());
    });
}

#[test]
fn a_freezer_group_that_is_not_there() {
    each(|rig| {
        let process = Scene::new().start();
        let mut dump = rig.dump_of(&process);
        dump.cgroups.freeze = Some("/sys/fs/cgroup/no/such/group".into());
        dump_told(
            rig,
            &process,
            &dump,
            "freezer-missing",
            "freezer.state",
            "--freeze-cgroup",
        );
    });
}

#[test]
fn a_pid_namespace_below_the_root() {
    each(|rig| {
        let marker = rig.images.join("up");
        let script = format!(
            "unshare --pid --fork sh -c 'touch {}; sleep 1000'",
            marker.display()
        );
        let mut shell = Command::new("setsid")
            .args(["sh", "-c", &format!("{script} & wait")])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !marker.exists() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        let pid = i32::try_from(shell.id()).unwrap();
        let error = rig
            .criu
            .dump(&Dump::new(pid, rig.images.path()))
            .unwrap_err();
        Subreaper::kill_tree(shell.id());
        let _ = shell.wait();
        told(rig, &error, "nested-ns", "", "namespace");
    });
}

#[test]
fn an_address_that_somebody_else_has_taken() {
    each(|rig| {
        let mut process = Scene::new().tcp_listener(0).start();
        let port = fs::read_to_string(process.directory().join("port")).unwrap();
        rig.dump(&rig.dump_of(&process), &mut process);
        let _taken = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
        let error = rig.criu.restore(&rig.restore()).unwrap_err();
        told(
            rig,
            &error,
            "bind-address-in-use",
            "Address already in use",
            "port",
        );
    });
}

#[test]
fn an_external_namespace_that_nobody_gives() {
    each(|rig| {
        let mut process = Scene::new().namespaces(&[Namespace::Net]).start();
        let namespace = format!("/proc/{}/ns/net", process.pid());
        let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(namespace).unwrap());
        let mut dump = rig.dump_of(&process);
        dump.mounts.external = vec![External::NetworkNamespace {
            inode,
            key: "outside".into(),
        }];
        rig.dump(&dump, &mut process);
        let error = rig.criu.restore(&rig.restore()).unwrap_err();
        told(rig, &error, "external-netns", "", "--inherit-fd");
    });
}

#[test]
fn a_hook_of_ours_that_refuses() {
    each(|rig| {
        let process = Scene::new().start();
        let mut hooks = |event: Event<'_>| match event {
            Event::PostDump => Err("no".into()),
            _ => Ok(()),
        };
        let error = rig
            .criu
            .dump_with(&rig.dump_of(&process), &mut hooks)
            .unwrap_err();
        told(rig, &error, "action-script-rpc", "", "hook");
    });
}

#[test]
fn a_log_file_with_a_path() {
    each(|rig| {
        let process = Scene::new().start();
        let mut dump = rig.dump_of(&process);
        dump.settings.log_to = LogTo::File("logs/criu.log".into());
        let error = rig.criu.dump(&dump).unwrap_err();
        told(
            rig,
            &error,
            "rpc-log-file",
            "No subdirs are allowed",
            "work",
        );
    });
}

#[test]
fn a_success_raises_no_alarm() {
    each(|rig| {
        let mut process = Scene::new().threads(1).children(1).start();
        rig.dump(&rig.dump_of(&process), &mut process);
        let read = |name: &str| criu::log::Log::parse(&fs::read(rig.images.join(name)).unwrap());
        let verdict = criu::diagnose::diagnose(&read("criu.log"));
        assert!(
            matches!(verdict, criu::diagnose::Verdict::NoFailure(_)),
            "{verdict}"
        );
        let mut restore = Restore::new(rig.images.path());
        restore.settings.log_to = LogTo::File("restore.log".into());
        rig.bring_back(&mut process, &restore);
        let verdict = criu::diagnose::diagnose(&read("restore.log"));
        assert!(
            matches!(verdict, criu::diagnose::Verdict::NoFailure(_)),
            "{verdict}"
        );
    });
}

#[test]
fn a_page_server_that_is_not_there() {
    each(|rig| {
        let process = Scene::new().start();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut dump = rig.dump_of(&process);
        dump.pages = Pages::Server {
            address: "127.0.0.1".into(),
            port,
        };
        dump_told(
            rig,
            &process,
            &dump,
            "page-server-unreachable",
            "onnect",
            "page-server",
        );
    });
}

#[test]
fn processor_features_that_were_not_recorded() {
    each(|rig| {
        let error = rig
            .criu
            .cpuinfo_check(&CpuInfo::new(rig.images.path()))
            .unwrap_err();
        told(
            rig,
            &error,
            "cpuinfo-image",
            "No cpuinfo image",
            "cpuinfo dump",
        );
    });
}
