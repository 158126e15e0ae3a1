//! A snapshot sees what a test leaves behind. Alone in its file, as other tests would change what it counts.

use criu_testkit::{NetworkNamespace, ResourceSnapshot, Scene, record_skip};

#[test]
fn a_leak_is_seen_and_a_clean_process_leaves_none() {
    let before = ResourceSnapshot::take();
    before.assert_unchanged();

    let file = std::fs::File::open("/dev/null").expect("open");
    let seen =
        std::panic::catch_unwind(|| before.assert_unchanged()).expect_err("a descriptor more");
    let message = seen.downcast_ref::<String>().expect("a message");
    assert!(message.contains("-> /dev/null"), "{message}");
    drop(file);

    let mut child = std::process::Command::new("true").spawn().expect("runs");
    while ResourceSnapshot::take().zombie_count() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    std::panic::catch_unwind(|| before.assert_unchanged()).expect_err("a zombie");
    child.wait().expect("wait");
    before.assert_unchanged();

    drop(Scene::new().threads(2).children(2).start());
    before.assert_unchanged();
    if rustix::process::geteuid().is_root() {
        let namespace = NetworkNamespace::new();
        let output = namespace
            .command("ip")
            .args(["-o", "link"])
            .output()
            .expect("ip runs");
        assert!(String::from_utf8_lossy(&output.stdout).contains("lo: <LOOPBACK,UP"));
        drop(namespace);
        before.assert_unchanged();
    } else {
        record_skip(
            criu_testkit::Skip::Avoidable,
            "network namespaces need root",
        );
    }
}
