//! Pages over a page server, and pages fetched after the restore.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criu::request::Pages;
use criu::{Criu, Dump, Event, Feature, LazyPages, PageServer, Restore};
use criu_testkit::{Namespace, Scene, Subreaper, TestProcess, skip};

use crate::rig::{Rig, each, pid_of};

fn process() -> TestProcess {
    Scene::new().memory_kib(1024).start()
}

fn pages_written(directory: &std::path::Path) -> u64 {
    std::fs::read_dir(directory)
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("pages-"))
        .map(|entry| entry.metadata().unwrap().len())
        .sum()
}

/// Copies what the source kept, so that the directory of the server is whole.
fn gather(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "img")
        {
            let target = to.join(entry.file_name());
            if !target.exists() {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}

/// The process whose working directory this is: the page server tells its id to nobody.
#[track_caller]
fn working_in(directory: &std::path::Path) -> i32 {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| {
            std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == directory)
        })
        .find_map(|entry| entry.file_name().to_str()?.parse().ok())
        .expect("a page server")
}

#[track_caller]
fn comes_back(rig: &Rig, mut process: TestProcess, images: &std::path::Path) {
    let count = process.count();
    rig.bring_back(&mut process, &Restore::new(images));
    process.wait_for_count_above(count);
    assert_eq!(process.verify(), Ok(()));
}

#[test]
fn a_page_server_takes_the_pages_over_tcp() {
    each(|rig| {
        let (source, destination) = (
            rig.images.make_dir("source"),
            rig.images.make_dir("destination"),
        );
        let mut server = PageServer::new(&destination);
        server.address = Some("127.0.0.1".into());
        Subreaper::enable();
        let started = rig.criu.page_server(&server).unwrap();
        let pid = working_in(&destination);
        // CRIU answers 0 in place of the process id, which is none.
        assert!(
            started.port > 0 && started.pid.is_none_or(|told| told == pid),
            "{started:?}"
        );
        let mut process = process();
        let mut dump = Dump::new(pid_of(&process), &source);
        dump.pages = Pages::Server {
            address: "127.0.0.1".into(),
            port: started.port,
        };
        rig.dump(&dump, &mut process);
        Subreaper::reap(u32::try_from(pid).unwrap());
        assert_eq!(pages_written(&source), 0);
        assert!(pages_written(&destination) > 1 << 20);
        gather(&source, &destination);
        comes_back(rig, process, &destination);
    });
}

#[test]
fn a_page_server_child_is_waited_for() {
    each(|rig| {
        let (source, destination) = (
            rig.images.make_dir("source"),
            rig.images.make_dir("destination"),
        );
        let mut server = PageServer::new(&destination);
        server.address = Some("127.0.0.1".into());
        let mut session = rig.criu.session().unwrap();
        let started = session.page_server_child(&server).unwrap();
        let mut process = process();
        let mut dump = Dump::new(pid_of(&process), &source);
        dump.pages = Pages::Server {
            address: "127.0.0.1".into(),
            port: started.port,
        };
        rig.dump(&dump, &mut process);
        let status = session.wait_pid(started.pid).unwrap();
        assert!(status.success(), "{status}");
        gather(&source, &destination);
        comes_back(rig, process, &destination);
    });
}

#[test]
fn waiting_for_a_process_that_is_no_child_of_the_worker_is_refused() {
    each(|rig| {
        let error = rig.criu.session().unwrap().wait_pid(1).unwrap_err();
        assert!(matches!(error, criu::Error::Refused(_)), "{error:?}");
    });
}

#[test]
fn a_page_server_serves_a_connection_handed_to_it() {
    each(|rig| {
        let (source, destination) = (
            rig.images.make_dir("source"),
            rig.images.make_dir("destination"),
        );
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        let mut server = PageServer::new(&destination);
        server.socket = Some(theirs.into());
        Subreaper::enable();
        rig.criu.page_server(&server).unwrap();
        let pid = working_in(&destination);
        drop(server);
        let mut process = process();
        let mut dump = Dump::new(pid_of(&process), &source);
        dump.pages = Pages::Socket(ours.into());
        rig.dump(&dump, &mut process);
        drop(dump);
        Subreaper::reap(u32::try_from(pid).unwrap());
        assert!(pages_written(&destination) > 1 << 20);
        gather(&source, &destination);
        comes_back(rig, process, &destination);
    });
}

/// The scenario `lazy_pages` of rust-criu's suite: `criu lazy-pages` serves from the images.
#[test]
fn memory_is_fetched_after_the_restore() {
    each(|rig| {
        if !rig.criu.features().unwrap().contains(Feature::LazyPages) {
            skip!(Unavoidable, "{}", Feature::LazyPages.remedy());
        }
        let mut process = process();
        rig.dump(&rig.dump_of(&process), &mut process);
        let mut daemon = lazy_pages_daemon(rig);
        let mut restore = rig.restore();
        restore.lazy_pages = true;
        let count = process.count();
        rig.bring_back(&mut process, &restore);
        process.wait_for_count_above(count);
        assert_eq!(process.verify(), Ok(()));
        // Once everything is fetched there is nothing left for it to do.
        let status = daemon.wait().unwrap();
        assert!(status.success(), "{status} {:?}", status.signal());
    });
}

/// Post-copy as a migration does it: the pages stay in the frozen tree, and go over a connection of ours.
#[test]
fn memory_is_fetched_from_the_frozen_tree_over_a_connection_handed_over() {
    each(|rig| {
        if !rig.criu.features().unwrap().contains(Feature::LazyPages) {
            skip!(Unavoidable, "{}", Feature::LazyPages.remedy());
        }
        let mut process = Scene::new()
            .memory_kib(8192)
            .namespaces(&[Namespace::Pid])
            .start();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut dump = rig.dump_of(&process);
        dump.pages = Pages::LazySocket(ours.into());
        let config = rig.images.join("criu.conf");
        std::fs::write(&config, "display-stats").unwrap();
        dump.settings.config_file = Some(config);
        let complete = AtomicBool::new(false);
        let mut server = LazyPages::new(rig.images.path(), rig.images.path());
        server.socket = Some(theirs.into());
        let count = process.count();
        std::thread::scope(|scope| {
            let dumping = scope.spawn(|| {
                let mut hook = |event: Event<'_>| {
                    if let Event::PostDump = event {
                        complete.store(true, Ordering::Release);
                    }
                    Ok(())
                };
                rig.criu.dump_with(&dump, &mut hook).map(drop)
            });
            while !complete.load(Ordering::Acquire) && !dumping.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(pages_written(rig.images.path()) < 1 << 20);
            let mut server = rig.criu.lazy_pages(&server).unwrap();
            let mut restore = rig.restore();
            restore.lazy_pages = true;
            let restored = rig.criu.restore(&restore).unwrap();
            assert!(server.wait(Duration::from_secs(30)).unwrap());
            dumping.join().unwrap().unwrap();
            process.reap();
            process.restored_as(u32::try_from(restored.pid).unwrap());
        });
        process.wait_for_count_above(count);
        assert_eq!(process.verify(), Ok(()));
    });
}

#[test]
fn a_lazy_pages_server_that_cannot_start_says_why() {
    each(|rig| {
        let error = rig
            .criu
            .lazy_pages(&LazyPages::new(rig.images.path(), rig.images.path()))
            .unwrap_err();
        let failure = error.failure().expect("a failure");
        assert!(failure.log.is_some(), "{error}");
        assert!(matches!(error, criu::Error::Lost(_)), "{error:?}");
    });
}

fn lazy_pages_daemon(rig: &Rig) -> Child {
    let daemon = rig
        .under_test
        .command()
        .args(["lazy-pages", "-o", "lazy-pages.log", "-v4", "-D"])
        .arg(rig.images.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let socket = rig.images.join("lazy-pages.socket");
    let deadline = Instant::now() + Duration::from_secs(10);
    while !socket.exists() {
        assert!(Instant::now() < deadline, "lazy-pages does not come up");
        std::thread::sleep(Duration::from_millis(2));
    }
    daemon
}

#[test]
fn a_page_server_in_a_service_takes_no_descriptor() {
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let images = criu_testkit::TempDir::new();
    let mut server = PageServer::new(images.path());
    server.socket = Some(ours.into());
    let listener = images.join("socket");
    let _service = std::os::unix::net::UnixDatagram::bind(&listener).unwrap();
    // Told before anything is sent; the service need not even be one.
    let error = Criu::with_service(&listener)
        .page_server(&server)
        .unwrap_err();
    assert!(
        matches!(
            error,
            criu::Error::NeedsWorker { .. } | criu::Error::Connect { .. }
        ),
        "{error:?}"
    );
}
