//! Every kind of test process survives a checkpoint by a real CRIU, driven without any crate of ours.

use criu_testkit::{CriuUnderTest, Namespace, Scene, Subreaper, TempDir, TestProcess};

fn survives(scene: fn() -> Scene, options: &[&str]) {
    for criu in CriuUnderTest::all() {
        let images = TempDir::new();
        let mut process = scene().start();
        process.wait_for_count_above(2);
        criu.dump(process.pid(), images.path(), options);
        process.reap();
        let count = process.count();
        let root = process.root().map(|root| root.display().to_string());
        let root: Vec<&str> = root
            .as_deref()
            .map(|root| vec!["--root", root])
            .unwrap_or_default();
        process.restored_as(criu.restore(images.path(), &[options, &root].concat()));
        process.wait_for_count_above(count);
        assert_eq!(process.verify(), Ok(()), "CRIU {:?}", criu.series());
    }
}

#[test]
fn a_counting_process_goes_on_where_it_stopped() {
    survives(Scene::new, &[]);
}

#[test]
fn a_tree_with_threads_and_memory_goes_on() {
    survives(
        || {
            Scene::new()
                .threads(3)
                .children(2)
                .zombie()
                .stopped_child()
                .memory_kib(256)
        },
        &[],
    );
}

#[test]
fn pipes_sockets_and_terminals_keep_what_is_in_them() {
    survives(
        || {
            Scene::new()
                .pipe()
                .fifo()
                .unix_sockets()
                .udp()
                .pty()
                .event_files()
        },
        &[],
    );
}

#[test]
fn files_without_names_and_locks_stay() {
    survives(
        || {
            Scene::new()
                .unlinked_file()
                .removed_hard_link()
                .file_locks()
                .open_file()
        },
        &["--file-locks", "--link-remap"],
    );
}

#[test]
fn an_established_connection_in_a_network_namespace_stays() {
    survives(
        || {
            Scene::new()
                .namespaces(&[Namespace::Net])
                .tcp()
                .tcp_listener(0)
        },
        &["--tcp-established"],
    );
}

#[test]
fn a_process_with_all_its_namespaces_goes_on() {
    survives(
        || Scene::new().namespaces(&Namespace::ALL).children(1).pipe(),
        &[],
    );
}

#[test]
fn a_process_on_a_terminal_can_be_dumped_with_it() {
    for criu in CriuUnderTest::all() {
        let images = TempDir::new();
        let (mut process, _master) = TestProcess::on_terminal(Scene::new());
        criu.dump(process.pid(), images.path(), &["--shell-job"]);
        process.reap();
        assert!(images.join("tty-info.img").exists());
    }
}

#[test]
fn a_finished_process_has_the_exit_code_it_was_told() {
    let mut process = Scene::new().start();
    process.finish(5);
    assert_eq!(process.reap().code(), Some(5));
    assert!(!process.is_running());
}

#[test]
fn dropping_the_process_ends_its_whole_tree() {
    let process = Scene::new().children(2).start();
    let pid = process.pid();
    let children =
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("it runs");
    assert_eq!(children.split_whitespace().count(), 2);
    drop(process);
    for gone in children
        .split_whitespace()
        .chain([pid.to_string().as_str()])
    {
        assert!(
            !std::path::Path::new(&format!("/proc/{gone}")).exists(),
            "{gone} is still there"
        );
    }
}

#[test]
fn an_orphan_of_a_killed_parent_is_reaped() {
    let mut parent = std::process::Command::new("sh");
    Subreaper::enable();
    let output = parent
        .args(["-c", "sleep 1000 >/dev/null 2>&1 & echo $!"])
        .output()
        .expect("sh runs");
    let orphan: u32 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .expect("a process id");
    Subreaper::kill_tree(orphan);
    assert!(!std::path::Path::new(&format!("/proc/{orphan}")).exists());
}
