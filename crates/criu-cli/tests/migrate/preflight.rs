//! What is in the way is named before anything is touched: of a checkpoint, of a host, of a live tree.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use criu_testkit::{CriuUnderTest, Namespace, Scene, Subreaper, TempDir, TestProcess};
use rustix::process::Signal;
use serde_json::Value;

use crate::sides::{criuctl, criuctl_in, listening, signal, traveller, wait_for};

/// Runs `criuctl --json preflight`; gives its exit code and what it printed.
fn preflight(criu: &CriuUnderTest, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = criuctl(criu)
        .args(["--json", "preflight"])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text);
    let value = value.unwrap_or_else(|error| panic!("{error}: {text} {}", errors(&output)));
    (output.status.code(), value)
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The blocking findings of a check: object, needed, found.
fn blocking(value: &Value, check: &str) -> Vec<[String; 3]> {
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let all = value["findings"].as_array().unwrap().iter();
    all.filter(|finding| finding["severity"] == "blocks" && finding["check"] == check)
        .map(|finding| {
            assert_ne!(finding["remedy"], "");
            ["object", "wanted", "found"].map(|name| text(finding, name))
        })
        .collect()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn dump(criu: &CriuUnderTest, process: &TestProcess, images: &Path, more: &[&str]) {
    let dumped = criuctl(criu)
        .args(["dump", &process.pid().to_string(), "-D"])
        .arg(images)
        .args(more)
        .output()
        .unwrap();
    assert!(dumped.status.success(), "{}", errors(&dumped));
}

#[test]
fn a_checkpoint_is_compared_with_this_host_object_by_object() {
    for criu in CriuUnderTest::all() {
        let port = free_port();
        let mut process = Scene::new()
            .threads(1)
            .open_file()
            .tcp_listener(port)
            .start();
        process.wait_for_count_above(2);
        let directory = TempDir::new();
        let images = directory.make_dir("images");
        dump(&criu, &process, &images, &["--leave-running"]);
        let place = images.to_str().unwrap();

        // It runs on: its ids and its port are taken, by itself.
        let (code, value) = preflight(&criu, &[place]);
        assert_eq!((code, &value["clear"]), (Some(1), &false.into()), "{value}");
        let pids = blocking(&value, "pids");
        assert_eq!(pids.len(), 2, "{value}");
        assert_eq!(pids[0][0], format!("process id {}", process.pid()));
        let sockets = blocking(&value, "sockets");
        assert_eq!(sockets[0][0], format!("tcp port {port} at 127.0.0.1"));
        let owner = format!("by process {} (", process.pid());
        assert!(sockets[0][2].contains(&owner), "{value}");
        assert_eq!(blocking(&value, "files"), [[""; 3]; 0]);
        // Ignored, they are not looked at.
        let (code, value) = preflight(&criu, &[place, "--ignore", "pids", "--ignore", "sockets"]);
        assert_eq!(code, Some(0), "{value}");

        signal(process.pid(), Signal::KILL);
        process.reap();
        let (_, value) = preflight(&criu, &[place]);
        assert_eq!(blocking(&value, "pids"), [[""; 3]; 0]);
        assert_eq!(blocking(&value, "sockets"), [[""; 3]; 0]);

        let plain = process.directory().join("plain");
        let content = fs::read(&plain).unwrap();
        let named = plain.to_str().unwrap().to_owned();
        fs::write(&plain, [&content[..], b"more"].concat()).unwrap();
        let (code, value) = preflight(&criu, &[place]);
        let expected = [
            named.clone(),
            format!("{} bytes", content.len()),
            format!("{} bytes", content.len() + 4),
        ];
        assert!(blocking(&value, "files").contains(&expected), "{value}");
        assert_eq!(code, Some(1));
        // CRIU agrees.
        let restored = criuctl(&criu)
            .args(["restore", "--detach", "-D", place])
            .output()
            .unwrap();
        assert_eq!(restored.status.code(), Some(1));
        assert!(errors(&restored).contains("plain"), "{}", errors(&restored));

        fs::remove_file(&plain).unwrap();
        let (_, value) = preflight(&criu, &[place]);
        let expected = [named.clone(), "there".into(), "missing".into()];
        assert!(blocking(&value, "files").contains(&expected), "{value}");
        fs::write(&plain, &content).unwrap();

        let squatter = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (_, value) = preflight(&criu, &[place]);
        let sockets = blocking(&value, "sockets");
        let owner = format!("by process {} (", std::process::id());
        assert!(sockets[0][2].contains(&owner), "{value}");
        drop(squatter);
    }
}

/// Dumps a process, has the checkpoint compared with this host, and restores it: both must go well.
#[track_caller]
fn comes_back(criu: &CriuUnderTest, scene: Scene) {
    let mut process = scene.start();
    process.wait_for_count_above(2);
    let directory = TempDir::new();
    let images = directory.make_dir("images");
    dump(criu, &process, &images, &[]);
    let pid = process.pid();
    process.reap();
    let place = images.to_str().unwrap();
    let described = criuctl(criu)
        .args(["cpuinfo", "dump", "-D", place])
        .output()
        .unwrap();
    assert!(described.status.success(), "{}", errors(&described));
    let root = process.root().map(|root| root.to_str().unwrap().to_owned());
    let root = root.iter().flat_map(|root| ["--root", root]);
    let root: Vec<&str> = root.collect();
    let (code, value) = preflight(criu, &[&[place], root.as_slice()].concat());
    assert_eq!((code, &value["clear"]), (Some(0), &true.into()), "{value}");
    assert_eq!(value["findings"], serde_json::json!([]), "{value}");
    assert_eq!(value["not_compared"], serde_json::json!([]), "{value}");
    let text = criuctl(criu)
        .args(["preflight", place])
        .args(&root)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert_eq!(text, "nothing that was compared is in the way\n");

    let count = process.count();
    let pidfile = directory.join("pid");
    let restored = criuctl(criu)
        .args(["restore", "--detach", "-D", place, "--pidfile"])
        .arg(&pidfile)
        .args(&root)
        .output()
        .unwrap();
    assert!(restored.status.success(), "{}", errors(&restored));
    let known = fs::read_to_string(&pidfile).ok();
    let known = known.and_then(|text| text.trim().parse().ok());
    process.restored_as(known.unwrap_or(pid));
    process.wait_for_count_above(count);
}

#[test]
fn a_checkpoint_that_nothing_is_in_the_way_of_is_restored() {
    for criu in CriuUnderTest::all() {
        Subreaper::enable();
        comes_back(&criu, Scene::new().open_file().tcp_listener(free_port()));
        let tree = Scene::new().threads(2).children(1).zombie().pipe().fifo();
        comes_back(
            &criu,
            tree.udp().unix_sockets().event_files().unlinked_file(),
        );
        let container = Scene::new().namespaces(&Namespace::ALL);
        comes_back(
            &criu,
            container.open_file().tcp_listener(free_port()).pipe(),
        );
    }
}

/// Where the bytes of a program's build id are.
fn build_id_at(program: &[u8]) -> usize {
    let note = b"\x14\0\0\0\x03\0\0\0GNU\0";
    let at = program.windows(note.len()).position(|bytes| bytes == note);
    at.unwrap() + note.len()
}

#[test]
fn a_program_that_is_another_build_or_has_other_permissions_is_named() {
    for criu in CriuUnderTest::all() {
        let directory = TempDir::new();
        let program = directory.join("program");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = Command::new("setsid")
            .args([program.as_os_str(), "1000".as_ref()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let link = format!("/proc/{}/exe", child.id());
        while fs::read_link(&link).is_ok_and(|exe| exe != program) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let images = directory.make_dir("images");
        let dumped = criuctl(&criu)
            .args(["dump", &child.id().to_string(), "-D"])
            .arg(&images)
            .output()
            .unwrap();
        let _ = child.kill();
        child.wait().unwrap();
        assert!(dumped.status.success(), "{}", errors(&dumped));
        let place = images.to_str().unwrap();
        let named = program.to_str().unwrap();
        let (code, value) = preflight(&criu, &[place]);
        assert_eq!(code, Some(0), "{value}");

        let original = fs::read(&program).unwrap();
        let mut other = original.clone();
        other[build_id_at(&original)] ^= 0xff;
        fs::write(&program, &other).unwrap();
        let (code, value) = preflight(&criu, &[place]);
        let found = blocking(&value, "files");
        assert_eq!((code, found.len()), (Some(1), 1), "{value}");
        let [object, wanted, other] = &found[0];
        assert_eq!(object, named);
        assert!(wanted.starts_with("build id ") && other.starts_with("build id "));
        assert!(wanted != other && wanted.len() == other.len(), "{value}");
        let restored = criuctl(&criu)
            .args(["restore", "--detach", "-D", place])
            .output()
            .unwrap();
        assert_eq!(restored.status.code(), Some(1), "CRIU does not agree");
        let said = errors(&restored);
        assert!(said.to_lowercase().contains("build-id"), "{said}");

        fs::write(&program, &original).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        let (_, value) = preflight(&criu, &[place]);
        let permissions = [named, "permissions 0755", "permissions 0700"];
        assert_eq!(blocking(&value, "files"), [permissions]);
        // What the failed restore made may not be gone yet.
        let skip = ["--skip-file-rwx-check", "--ignore", "pids"];
        let (code, value) = preflight(&criu, &[&[place], &skip[..]].concat());
        assert_eq!(code, Some(0), "{value}");
    }
}

#[test]
fn an_external_mount_has_to_be_named_and_to_be_there() {
    for criu in CriuUnderTest::all() {
        Subreaper::enable();
        let mut process = traveller(Scene::new());
        let directory = TempDir::new();
        let images = directory.make_dir("images");
        let given = directory.make_dir("given");
        let told = ["--external", "mnt[/tmp]:vol"];
        dump(
            &criu,
            &process,
            &images,
            &[&told[..], &["--leave-running"]].concat(),
        );
        let (place, root) = (images.to_str().unwrap(), process.root().unwrap().to_owned());
        let root = ["--root", root.to_str().unwrap()];
        let object = "external mount vol at /tmp";
        let needed = "something to mount";
        let (code, value) = preflight(&criu, &[&[place], &root[..]].concat());
        assert_eq!(code, Some(1));
        assert_eq!(
            blocking(&value, "mounts"),
            [[object, needed, "none is named"]]
        );
        let gone = ["--external", "mnt[vol]:/nowhere"];
        let said = [object, needed, "/nowhere is not there"];
        for gone in [gone, ["-M", "vol:/nowhere"]] {
            let (_, value) = preflight(&criu, &[&[place], &root[..], &gone].concat());
            assert_eq!(blocking(&value, "mounts"), [said]);
        }

        // The same of the running tree, asked of a receiver.
        let pid = process.pid().to_string();
        let over = format!(
            "CRIU={} {} migrate receive --stdio {} {}",
            criu.path().display(),
            env!("CARGO_BIN_EXE_criuctl"),
            root.join(" "),
            gone.join(" "),
        );
        let asked = criuctl(&criu)
            .args(["--json", "migrate", "send", &pid, "--over", &over])
            .args(["--preflight-only", told[0], told[1]])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&asked.stdout);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(blocking(&value, "mounts"), [said], "{value}");

        signal(process.pid(), Signal::KILL);
        process.reap();
        let named = format!("mnt[vol]:{}", given.display());
        let named = ["--external", named.as_str()];
        let (code, value) = preflight(&criu, &[&[place], &root[..], &named].concat());
        assert_eq!(code, Some(0), "{value}");
        let restored = criuctl(&criu)
            .args(["--json", "restore", "--detach", "-D", place])
            .args(root)
            .args(named)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&restored.stdout).into_owned();
        assert!(restored.status.success(), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        let count = process.count();
        let pid = value["pid"].as_u64().unwrap();
        process.restored_as(u32::try_from(pid).unwrap());
        process.wait_for_count_above(count);
    }
}

#[test]
fn control_characters_in_names_are_made_visible() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let directory = TempDir::new();
    let evil = directory.join("\u{1b}[31mevil\n");
    fs::write(&evil, "x").unwrap();
    let open = ["sh", "-c", "f=$1; shift; exec 9<\"$f\"; exec \"$@\"", "sh"];
    let open = [&open[..], &[evil.to_str().unwrap()]].concat();
    let mut process = Scene::new().prelude(&open).start();
    process.wait_for_count_above(2);
    let images = directory.make_dir("images");
    dump(&criu, &process, &images, &[]);
    process.reap();
    fs::remove_file(&evil).unwrap();
    let output = criuctl(&criu)
        .arg("preflight")
        .arg(&images)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("\\u{1b}[31mevil\\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_host_is_asked_and_waits_on_for_a_tree() {
    for criu in CriuUnderTest::all() {
        Subreaper::enable();
        let mut moving = traveller(Scene::new());
        let staying = Scene::new().start();
        staying.wait_for_count_above(2);
        let directory = TempDir::new();
        let images = directory.make_dir("images");
        dump(&criu, &staying, &images, &["--leave-running"]);
        let mut receive = criuctl_in(&directory, &criu);
        receive.args(["migrate", "receive", "--listen", "127.0.0.1:0", "-D"]);
        receive.arg(directory.make_dir("destination"));
        receive.arg("--root").arg(moving.root().unwrap());
        let (mut receiver, address) = listening(receive, &directory);
        let address = address.to_string();

        // The host alone is this one.
        let (code, value) = preflight(&criu, &[&address]);
        assert_eq!((code, &value["clear"]), (Some(0), &true.into()), "{value}");
        // A tree without a pid namespace of its own, whose files are not below the other's root.
        for about in [
            ["--pid", &staying.pid().to_string()],
            ["-D", images.to_str().unwrap()],
        ] {
            let (code, value) = preflight(&criu, &[&[address.as_str()][..], &about].concat());
            assert_eq!(code, Some(1), "{value}");
            let taken = format!("process id {}", staying.pid());
            assert_eq!(blocking(&value, "pids")[0][0], taken);
            assert_eq!(blocking(&value, "files")[0][2], "missing");
        }
        let moving_pid = moving.pid().to_string();
        let (code, value) = preflight(&criu, &[&address, "--pid", &moving_pid]);
        assert_eq!(code, Some(0), "{value}");
        let only = criuctl(&criu)
            .args(["migrate", "send", &moving_pid, &address, "--preflight-only"])
            .output()
            .unwrap();
        assert_eq!(only.status.code(), Some(0), "{}", errors(&only));
        let text = String::from_utf8_lossy(&only.stdout);
        assert!(
            text.contains("nothing that was compared is in the way"),
            "{text}"
        );

        // Neither tree was touched, and the receiver still takes one.
        staying.wait_for_count_above(staying.count());
        moving.wait_for_count_above(moving.count());
        let sent = criuctl_in(&directory, &criu)
            .args(["--json", "migrate", "send", &moving_pid, &address])
            .output()
            .unwrap();
        assert!(sent.status.success(), "{}", errors(&sent));
        assert!(wait_for(&mut receiver, "the receiver").success());
        let text = String::from_utf8_lossy(&sent.stdout).into_owned();
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        moving.reap();
        let count = moving.count();
        let pid = last["result"]["pid"].as_u64().unwrap();
        moving.restored_as(u32::try_from(pid).unwrap());
        moving.wait_for_count_above(count);
        assert_eq!(
            fs::read_dir(directory.join("destination")).unwrap().count(),
            0
        );
    }
}

#[test]
fn a_port_that_is_taken_stops_a_migration_unless_it_is_ignored() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let port = free_port();
    // It shares the network of the host, where its own port is taken: by itself.
    let process = Scene::new()
        .namespaces(&[Namespace::Pid, Namespace::Mount])
        .tcp_listener(port)
        .start();
    process.wait_for_count_above(2);
    let over = format!(
        "CRIU={} {} migrate receive --stdio --root {}",
        criu.path().display(),
        env!("CARGO_BIN_EXE_criuctl"),
        process.root().unwrap().display(),
    );
    let pid = process.pid().to_string();
    let directory = TempDir::new();
    let send = |more: &[&str]| {
        criuctl_in(&directory, &criu)
            .args(["migrate", "send", &pid, "--over", &over])
            .args(more)
            .output()
            .unwrap()
    };
    let sent = send(&[]);
    assert_eq!(sent.status.code(), Some(1));
    let said = errors(&sent);
    let finding = format!("in the way: sockets: tcp port {port} at 127.0.0.1: needed is free");
    assert!(said.contains(&finding), "{said}");
    assert!(
        said.contains("start the tree in a network namespace of its own"),
        "{said}"
    );
    assert!(said.contains("was not touched"), "{said}");
    process.wait_for_count_above(process.count());

    // Asked beforehand it is the same, and the receiver ends well.
    let (code, value) = preflight(&criu, &["--over", &over, "--pid", &pid]);
    assert_eq!(code, Some(1));
    assert_eq!(blocking(&value, "sockets").len(), 1, "{value}");

    // The user of the source may know better; the restore then finds out, and the tree goes on.
    let sent = send(&["--ignore", "sockets"]);
    let said = errors(&sent);
    assert!(
        said.contains("not compared: sockets: ignored, as the user says"),
        "{said}"
    );
    assert!(said.contains("goes on here"), "{said}");
    process.wait_for_count_above(process.count());
}

#[test]
fn what_cannot_be_read_or_asked_is_an_error_of_its_own() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let empty = TempDir::new();
    let port = free_port();
    for (arguments, said) in [
        (
            vec![empty.path().to_str().unwrap()],
            "cannot read the checkpoint",
        ),
        (vec!["/nowhere/at/all"], "cannot read the checkpoint"),
        (vec!["nowhere"], "neither a directory nor HOST:PORT"),
        (vec![&format!("127.0.0.1:{port}")], "connect to"),
        (vec!["192.0.2.1:1"], "--insecure"),
        (vec!["--over", "true"], "the comparison failed"),
        (vec!["/tmp", "--pid", "1"], "which host?"),
        (vec!["/tmp", "--ignore", "colour"], "page-size"),
        (vec![], "IMAGES_DIR|HOST:PORT"),
    ] {
        let output = criuctl(&criu)
            .arg("preflight")
            .args(&arguments)
            .output()
            .unwrap();
        let text = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
}
