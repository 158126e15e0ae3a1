//! Each thing that can be changed, asked of the process that a real CRIU restores.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use criu_testkit::{CriuUnderTest, Namespace, Scene, TempDir, TestProcess};

use super::{free_port, set};

/// Dumps a process, changes the images, and restores it; it counts on.
#[track_caller]
fn restored(
    criu: &CriuUnderTest,
    scene: Scene,
    options: &[&str],
    changes: impl FnOnce(u32) -> Vec<String>,
) -> TestProcess {
    let images = TempDir::new();
    let mut process = scene.start();
    process.wait_for_count_above(1);
    let pid = process.pid();
    criu.dump(pid, images.path(), options);
    process.reap();
    let count = process.count();
    let changes = changes(pid);
    let changes: Vec<&str> = changes.iter().map(String::as_str).collect();
    set(images.path(), &changes);
    process.restored_as(criu.restore(images.path(), options));
    process.wait_for_count_above(count);
    process
}

/// Where a link of a process in `/proc` leads.
#[track_caller]
fn link(process: &TestProcess, name: &str) -> PathBuf {
    fs::read_link(format!("/proc/{}/{name}", process.pid())).expect("it runs")
}

/// Starts a copy of the process's program in a directory, which it holds a file of open and works in.
const AT_HOME: &str = r#"cp "$1" "$0/program"
shift
echo content >"$0/file"
exec 3<>"$0/file"
mkdir "$0/work"
cd "$0/work"
exec "$0/program" "$@""#;

fn at_home(home: &Path) -> Scene {
    Scene::new().prelude(&["sh", "-c", AT_HOME, home.to_str().expect("text")])
}

#[test]
fn all_files_below_a_directory_that_was_moved_are_found() {
    for criu in CriuUnderTest::all() {
        let place = TempDir::new();
        let (old, new) = (place.make_dir("old"), place.join("new"));
        let process = restored(&criu, at_home(&old), &[], |_| {
            fs::rename(&old, &new).expect("moved");
            vec![format!("path:{}={}", old.display(), new.display())]
        });
        for (name, path) in [("exe", "program"), ("fd/3", "file"), ("cwd", "work")] {
            assert_eq!(link(&process, name), new.join(path), "{name}");
        }
        let maps = fs::read_to_string(format!("/proc/{}/maps", process.pid())).expect("it runs");
        let program = new.join("program").display().to_string();
        assert!(maps.contains(&program), "{maps}");
        assert!(!maps.contains(&old.display().to_string()), "{maps}");
    }
}

#[test]
fn a_single_file_that_was_moved_is_found() {
    for criu in CriuUnderTest::all() {
        let place = TempDir::new();
        let (old, new) = (place.join("file"), place.join("renamed"));
        let process = restored(&criu, at_home(place.path()), &[], |_| {
            fs::rename(&old, &new).expect("moved");
            vec![format!("--path={}={}", old.display(), new.display())]
        });
        assert_eq!(link(&process, "fd/3"), new);
        assert_eq!(link(&process, "exe"), place.join("program"));
    }
}

#[test]
fn the_working_directory_and_the_root_are_others() {
    for criu in CriuUnderTest::all() {
        let place = TempDir::new();
        let (cwd, root) = (place.make_dir("cwd"), place.make_dir("root"));
        let process = restored(&criu, at_home(place.path()), &[], |pid| {
            vec![
                format!("cwd={}", cwd.display()),
                format!("root:{pid}={}", root.display()),
            ]
        });
        assert_eq!(link(&process, "cwd"), cwd);
        assert_eq!(link(&process, "root"), root);
        assert_eq!(link(&process, "exe"), place.join("program"));
    }
}

#[test]
fn a_child_and_its_parent_have_other_names() {
    let children = |pid: u32| {
        let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        list.expect("it runs").trim().parse::<u32>().expect("one")
    };
    let comm = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).expect("it runs");
    for criu in CriuUnderTest::all() {
        let scene = Scene::new().threads(1).children(1);
        let images = TempDir::new();
        let mut process = scene.start();
        process.wait_for_count_above(1);
        let (parent, child) = (process.pid(), children(process.pid()));
        criu.dump(parent, images.path(), &[]);
        process.reap();
        let names = [
            format!("comm:{parent}=the parent"),
            format!("comm:{child}=\u{e9}"),
        ];
        set(images.path(), &names.each_ref().map(String::as_str));
        process.restored_as(criu.restore(images.path(), &[]));
        assert_eq!(comm(parent), "the parent\n");
        assert_eq!(comm(child), "\u{e9}\n");
    }
}

#[test]
fn a_uts_namespace_has_other_names() {
    for criu in CriuUnderTest::all() {
        let scene = Scene::new().namespaces(&[Namespace::Uts]);
        let process = restored(&criu, scene, &[], |_| {
            vec!["hostname=web-2".into(), "domainname=example.org".into()]
        });
        let names = Command::new("nsenter")
            .arg(format!("--uts=/proc/{}/ns/uts", process.pid()))
            .args([
                "cat",
                "/proc/sys/kernel/hostname",
                "/proc/sys/kernel/domainname",
            ])
            .output()
            .expect("nsenter runs");
        assert_eq!(
            String::from_utf8_lossy(&names.stdout),
            "web-2\nexample.org\n"
        );
    }
}

#[test]
fn a_listener_has_another_address() {
    for criu in CriuUnderTest::all() {
        let (old, new) = (free_port(), free_port());
        let scene = Scene::new().tcp_listener(old);
        let _process = restored(&criu, scene, &[], |_| {
            vec![format!("tcp-listen:127.0.0.1:{old}=127.0.0.2:{new}")]
        });
        TcpStream::connect(("127.0.0.2", new)).expect("it listens on the new address");
        for gone in [("127.0.0.1", new), ("127.0.0.2", old)] {
            TcpStream::connect(gone).expect_err("it listens nowhere else");
        }
    }
}

/// The local addresses of TCP and UDP sockets in a process's network namespace, as the kernel prints them.
fn addresses(process: &TestProcess, table: &str) -> Vec<String> {
    let path = format!("/proc/{}/net/{table}", process.pid());
    let text = fs::read_to_string(path).expect("it runs");
    let ends = text
        .lines()
        .skip(1)
        .flat_map(|line| line.split_whitespace().skip(1).take(2));
    ends.filter_map(|end| Some(end.split_once(':')?.0.to_owned()))
        .collect()
}

#[test]
fn both_ends_of_connections_have_another_address() {
    for criu in CriuUnderTest::all() {
        let scene = Scene::new().namespaces(&[Namespace::Net]).tcp().udp();
        let process = restored(&criu, scene, &["--tcp-established"], |_| {
            let ends = [
                "tcp-listen",
                "tcp-local",
                "tcp-remote",
                "udp-local",
                "udp-remote",
            ];
            ends.map(|end| format!("{end}:127.0.0.1=127.0.0.2"))
                .to_vec()
        });
        for table in ["tcp", "udp"] {
            let found = addresses(&process, table);
            assert!(found.contains(&"0200007F".to_owned()), "{table}: {found:?}");
            assert!(
                !found.contains(&"0100007F".to_owned()),
                "{table}: {found:?}"
            );
        }
        // What was under way arrives, and the connection carries more.
        assert_eq!(process.verify(), Ok(()), "CRIU {:?}", criu.series());
    }
}
