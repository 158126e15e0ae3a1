//! The three ways to CRIU: a worker, a service, a socket handed in; and what only a worker can take.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criu::{Criu, Dump, Error, Event, Session};
use criu_testkit::{CriuUnderTest, FakeCriu, Scene, Step, TempDir};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::rig::{each, pid_of};

/// A `criu service` that ends with this value.
struct Service {
    process: Child,
    directory: TempDir,
}

impl Service {
    fn start(under_test: &CriuUnderTest) -> Self {
        let directory = TempDir::new();
        let process = under_test
            .command()
            .args(["service", "--address"])
            .arg(directory.join("socket"))
            .args(["-o", "service.log", "-v4", "-W"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let service = Self { process, directory };
        let deadline = Instant::now() + Duration::from_secs(10);
        while Criu::with_service(service.socket()).session().is_err() {
            assert!(Instant::now() < deadline, "the service does not come up");
            std::thread::sleep(Duration::from_millis(2));
        }
        service
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_service_dumps_and_restores() {
    each(|rig| {
        let service = Service::start(&rig.under_test);
        let criu = Criu::with_service(service.socket()).with_timeout(Duration::from_secs(60));
        assert_eq!(criu.binary(), None);
        assert_eq!(criu.version().unwrap(), rig.criu.version().unwrap());
        let mut process = Scene::new().start();
        let mut seen = 0;
        let mut count = |_: Event<'_>| {
            seen += 1;
            Ok(())
        };
        let dumped = criu.dump_with(&rig.dump_of(&process), &mut count).unwrap();
        assert_eq!(seen, 3);
        assert!(dumped.statistics.is_some());
        process.reap();
        let outcome = criu.restore(&rig.restore()).unwrap();
        process.restored_as(u32::try_from(outcome.pid).unwrap());
        process.wait_for_count_above(process.count());

        let mut restore = rig.restore();
        restore.as_child = true;
        let error = criu.restore(&restore).unwrap_err();
        assert!(
            matches!(error, Error::NeedsWorker { option: "as_child" }),
            "{error:?}"
        );
    });
}

#[test]
fn a_failure_of_a_service_is_explained_like_any_other() {
    each(|rig| {
        let service = Service::start(&rig.under_test);
        let criu = Criu::with_service(service.socket()).with_timeout(Duration::from_secs(60));
        let error = criu.restore(&rig.restore()).unwrap_err();
        let Error::Refused(failure) = &error else {
            panic!("{error:?}")
        };
        assert_eq!(failure.worker_exit, None);
        assert!(
            failure
                .log
                .as_ref()
                .is_some_and(|report| report.log.errors().next().is_some())
        );
    });
}

#[test]
fn a_socket_handed_in_serves_as_a_session() {
    each(|rig| {
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        let mut worker = swrk_on(rig.under_test.path(), theirs);
        let mut session = Session::from_socket(ours)
            .unwrap()
            .with_timeout(Duration::from_secs(60));
        assert_eq!(session.version().unwrap(), rig.criu.version().unwrap());
        let mut process = Scene::new().start();
        session
            .dump(&Dump::new(pid_of(&process), rig.images.path()))
            .unwrap();
        process.reap();
        assert!(worker.wait().unwrap().success());
    });
}

#[test]
fn a_service_that_is_not_there_and_a_program_that_is_not_there_are_told_apart() {
    let place = TempDir::new();
    let error = Criu::with_service(place.join("none"))
        .version()
        .unwrap_err();
    assert!(matches!(&error, Error::Connect { path, .. } if path.starts_with(place.path())));
    assert!(error.to_string().contains("criu service"), "{error}");
    let error = Criu::with_binary(place.join("none")).unwrap_err();
    assert!(matches!(error, Error::BinaryNotFound { .. }), "{error:?}");
    std::fs::write(place.join("criu"), "text").unwrap();
    let error = Criu::with_binary(place.join("criu")).unwrap_err();
    assert!(
        matches!(error, Error::BinaryNotExecutable { .. }),
        "{error:?}"
    );
}

#[test]
fn a_restored_child_is_waited_for_with_its_exit_code() {
    each(|rig| {
        let mut process = Scene::new().start();
        rig.dump(&rig.dump_of(&process), &mut process);
        let mut restore = rig.restore();
        restore.as_child = true;
        let child = rig.criu.restore(&restore).unwrap().child.expect("a child");
        assert!(child.try_wait().unwrap().is_none());
        process.wait_for_count_above(process.count());
        process.finish(7);
        assert_eq!(child.wait().unwrap().code(), Some(7));
        assert!(child.wait().is_err(), "it cannot be reaped twice");
    });
}

#[test]
fn a_restored_child_can_be_killed() {
    each(|rig| {
        let mut process = Scene::new().start();
        rig.dump(&rig.dump_of(&process), &mut process);
        let mut restore = rig.restore();
        restore.as_child = true;
        let child = rig.criu.restore(&restore).unwrap().child.expect("a child");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(!Path::new(&format!("/proc/{}", child.pid())).exists());
    });
}

#[test]
fn the_worker_becomes_the_command_asked_for() {
    each(|rig| {
        let mut process = Scene::new().start();
        rig.dump(&rig.dump_of(&process), &mut process);
        let mut restore = rig.restore();
        restore.then_exec = ["sh", "-c", "exit 9"].map(Into::into).to_vec();
        let outcome = rig.criu.restore(&restore).unwrap();
        let mut command = outcome.command.expect("a command");
        assert_eq!(command.wait().unwrap().code(), Some(9));
        process.restored_as(u32::try_from(outcome.pid).unwrap());
        process.wait_for_count_above(process.count());
    });
}

/// A worker's own complaint, when it never gets as far as a log, is what the error shows.
#[test]
fn what_the_worker_prints_stands_in_the_error() {
    let fake = FakeCriu::new(&[
        Step::Stderr(b"error while loading libnet.so.9\n".into()),
        Step::Exit(127),
    ]);
    let error = Criu::with_binary(fake.path())
        .unwrap()
        .version()
        .unwrap_err();
    assert!(matches!(error, Error::Lost(_)), "{error:?}");
    assert!(error.to_string().contains("libnet.so.9"), "{error}");
}

fn swrk_on(binary: &Path, socket: OwnedFd) -> Child {
    // The shell can give a descriptor a number; standard input is how it gets it.
    Command::new("sh")
        .args(["-c", r#"exec 3<&0 </dev/null "$0" swrk 3"#])
        .arg(binary)
        .stdin(Stdio::from(socket))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
