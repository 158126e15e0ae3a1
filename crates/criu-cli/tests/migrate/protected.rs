//! Migrations over TLS, with certificates in files.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use criu_testkit::{
    CertificateAuthority, CertificateFiles, CriuUnderTest, Scene, Subreaper, TempDir, Validity,
};

use crate::sides::{PATIENCE, criuctl, criuctl_in, listening, traveller, wait_for};
use crate::travel::arrived;

/// An authority with the certificates of a source and a destination.
struct Office {
    directory: TempDir,
    authority: CertificateAuthority,
    source: CertificateFiles,
    destination: CertificateFiles,
}

impl Office {
    fn open() -> Self {
        let directory = TempDir::new();
        let authority = CertificateAuthority::new("migrations");
        authority.write(directory.path(), "ca.pem");
        let issue =
            |name, hosts: &[&str]| authority.issue(directory.path(), name, hosts, Validity::Now);
        Self {
            source: issue("source", &["source.example"]),
            destination: issue("destination", &["destination.example", "127.0.0.1"]),
            authority,
            directory,
        }
    }

    fn protect<'a>(&self, command: &'a mut Command, files: &CertificateFiles) -> &'a mut Command {
        command
            .arg("--tls-cert")
            .arg(&files.certificate)
            .arg("--tls-key")
            .arg(&files.key)
            .arg("--tls-ca")
            .arg(self.directory.join("ca.pem"))
    }
}

fn send(criu: &CriuUnderTest, pid: u32, to: &str, work_dir: &Path) -> Command {
    let mut command = criuctl(criu);
    command.args(["--json", "migrate", "send", &pid.to_string(), to, "-D"]);
    command.arg(work_dir);
    command
}

#[test]
fn a_tree_moves_over_tls_to_one_that_turned_strangers_away() {
    for criu in CriuUnderTest::all() {
        Subreaper::enable();
        let mut process = traveller(Scene::new().threads(2).children(1).memory_kib(4096).pipe());
        let (office, foreign) = (Office::open(), Office::open());
        let directory = TempDir::new();
        let mut receive = criuctl_in(&directory, &criu);
        // Beyond loopback, too, without a word of insecurity.
        receive.args(["migrate", "receive", "--listen", "0.0.0.0:0", "-D"]);
        receive.arg(directory.make_dir("destination"));
        receive.arg("--root").arg(process.root().unwrap());
        receive.args(["--tls-name", "elsewhere.example"]);
        receive.args(["--tls-name", "source.example"]);
        office.protect(&mut receive, &office.destination);
        let (mut receiver, address) = listening(receive, &directory);
        let to = format!("127.0.0.1:{}", address.port());
        let pid = process.pid();
        let source = directory.make_dir("source");
        let refused = |command: &mut Command, why: &str| {
            let count = process.count();
            let began = Instant::now();
            let output = command.output().unwrap();
            // With `--json` failures are data.
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(!output.status.success(), "{said}");
            assert!(said.contains(why), "{said}");
            assert!(began.elapsed() < Duration::from_secs(8));
            process.wait_for_count_above(count);
        };
        // Of another authority, each way round; of a name that is not let in; without TLS; expecting another.
        let mut stranger = send(&criu, pid, &to, &source);
        foreign.protect(&mut stranger, &foreign.source);
        refused(&mut stranger, "is not signed by the authority given here");
        let mut impostor = send(&criu, pid, &to, &source);
        impostor.arg("--tls-cert").arg(&foreign.source.certificate);
        impostor.arg("--tls-key").arg(&foreign.source.key);
        impostor
            .arg("--tls-ca")
            .arg(office.directory.join("ca.pem"));
        refused(&mut impostor, "not of an authority it knows");
        let mut uninvited = send(&criu, pid, &to, &source);
        office.protect(&mut uninvited, &office.destination);
        refused(&mut uninvited, "none of the names it lets in");
        refused(&mut send(&criu, pid, &to, &source), "failed");
        let mut choosy = send(&criu, pid, &to, &source);
        office.protect(&mut choosy, &office.source);
        choosy.args(["--tls-name", "third.example"]);
        refused(
            &mut choosy,
            "is for destination.example, 127.0.0.1, not for third.example",
        );
        let revoked = office.authority.revoke(
            office.directory.path(),
            "crl.pem",
            &["destination"],
            Validity::Now,
        );
        let mut informed = send(&criu, pid, &to, &source);
        office.protect(&mut informed, &office.source);
        informed.arg("--tls-crl").arg(revoked);
        refused(&mut informed, "was revoked by the authority");
        assert!(receiver.try_wait().unwrap().is_none());

        let mut sender = send(&criu, pid, &to, &source);
        office.protect(&mut sender, &office.source);
        let sent = sender.output().unwrap();
        let text = String::from_utf8_lossy(&sent.stdout);
        assert!(
            sent.status.success(),
            "{text} {}",
            String::from_utf8_lossy(&sent.stderr)
        );
        assert!(wait_for(&mut receiver, "the receiver").success());
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let peer = lines[0]["peer"].as_str().unwrap();
        assert!(peer.ends_with(", certified as 127.0.0.1"), "{peer}");
        let pid = lines[lines.len() - 1]["result"]["pid"].as_u64().unwrap();
        arrived(&mut process, pid);
        let said = std::fs::read_to_string(directory.join("receiver")).unwrap();
        assert!(said.contains(", certified as source.example"), "{said}");
        assert_eq!(said.matches("turned 127.0.0.1:").count(), 6, "{said}");
        for side in ["source", "destination"] {
            assert_eq!(std::fs::read_dir(directory.join(side)).unwrap().count(), 0);
        }
    }
}

#[test]
fn a_connection_that_never_shakes_hands_is_let_go_for_the_next() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let office = Office::open();
    let directory = TempDir::new();
    let mut receive = criuctl_in(&directory, &criu);
    receive.args(["migrate", "receive", "--listen", "127.0.0.1:0", "-D"]);
    receive.arg(directory.make_dir("destination"));
    office.protect(&mut receive, &office.destination);
    let (mut receiver, address) = listening(receive, &directory);
    let silent = std::net::TcpStream::connect(address).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let said = || std::fs::read_to_string(directory.join("receiver")).unwrap();
    while !said().contains("did not get done with the TLS handshake in time") {
        assert!(Instant::now() < deadline, "{}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(silent);
    assert!(receiver.try_wait().unwrap().is_none());
    receiver.kill().unwrap();
    receiver.wait().unwrap();
}

#[test]
fn arguments_that_cannot_be_meant_so_are_refused() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let office = Office::open();
    let refused = |act: &dyn Fn(&mut Command), why: &str| {
        let mut command = criuctl(&criu);
        command.arg("migrate");
        act(&mut command);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    };
    let receive = ["receive", "--listen", "127.0.0.1:0"];
    refused(
        &|command| _ = command.args(receive).args(["--tls-cert", "x"]),
        "--tls-key",
    );
    refused(
        &|command| _ = command.args(receive).args(["--tls-name", "x"]),
        "--tls-cert",
    );
    // Not only once somebody has connected.
    refused(
        &|command| _ = command.args(receive).args(["-D", "/nonexistent"]),
        "cannot use the directory /nonexistent",
    );
    refused(
        &|command| _ = command.args(receive).args(["--inherit-fd", "x"]),
        "--inherit-fd",
    );
    let protected = |command: &mut Command, arguments: &[&str]| {
        office.protect(command.args(arguments), &office.source);
    };
    refused(
        &|command| {
            protected(
                command,
                &["receive", "--listen", "127.0.0.1:0", "--insecure"],
            )
        },
        "cannot be used with",
    );
    refused(
        &|command| protected(command, &["receive", "--stdio"]),
        "cannot be used with",
    );
    refused(
        &|command| protected(command, &["send", "1", "--over", "true"]),
        "cannot be used with",
    );
    let twice = ["--tls-name", "a.example", "--tls-name", "b.example"];
    refused(
        &|command| {
            command.args(["send", "1", "127.0.0.1:1"]).args(twice);
            office.protect(command, &office.source);
        },
        "give --tls-name once",
    );
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&office.source.key, open).unwrap();
    refused(
        &|command| protected(command, &receive),
        "source.key (mode 0644)",
    );
}
