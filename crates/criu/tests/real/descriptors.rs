//! Descriptors of ours that restored processes use in place of dumped ones.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use criu::request::DescriptorKey;
use criu::{External, InheritFd};
use criu_testkit::{Scene, TestProcess};
use rustix::io::FdFlags;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

use crate::rig::{each, terminals};

/// The scenario `inheritfd` of go-criu's suite: the restored process writes into a new pipe.
#[test]
fn an_inherited_pipe_takes_the_place_of_the_dumped_one() {
    each(|rig| {
        let (reader, writer) = std::io::pipe().unwrap();
        let id = inode(&writer);
        let mut process = Scene::new().counting_on_stdout().stdout(writer).start();
        rig.dump(&rig.dump_of(&process), &mut process);
        let last = BufReader::new(reader).lines().last().unwrap().unwrap();

        let (new_reader, new_writer) = std::io::pipe().unwrap();
        let mut restore = rig.restore();
        restore
            .inherit_fds
            .push(InheritFd::new(DescriptorKey::Pipe(id), &new_writer).unwrap());
        rig.bring_back(&mut process, &restore);
        let flags = rustix::io::fcntl_getfd(&new_writer).unwrap();
        assert!(
            flags.contains(FdFlags::CLOEXEC),
            "the caller's descriptor was changed"
        );
        drop((new_writer, restore));
        let mut lines = BufReader::new(new_reader).lines();
        let first = lines.next().unwrap().unwrap();
        let number = |text: &str| text.parse::<u64>().unwrap();
        assert_eq!(number(&first), number(&last) + 1);

        // Nobody else holds the writing end: once the process is gone, so is the pipe.
        drop(process);
        assert!(lines.all(|line| line.is_ok()));
    });
}

#[test]
fn an_inherited_socket_takes_the_place_of_the_dumped_one() {
    each(|rig| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let id = inode(&theirs);
        let theirs = OwnedFd::from(theirs);
        let mut process = Scene::new()
            .echo()
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs)
            .start();
        converses(&ours, "before");
        let mut dump = rig.dump_of(&process);
        dump.mounts
            .external
            .push(External::UnixSocket { inode: id });
        rig.dump(&dump, &mut process);

        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut restore = rig.restore();
        restore
            .inherit_fds
            .push(InheritFd::new(DescriptorKey::Socket(id), &theirs).unwrap());
        rig.bring_back(&mut process, &restore);
        converses(&ours, "after");
    });
}

#[test]
fn an_inherited_file_takes_the_place_of_the_dumped_one() {
    each(|rig| {
        let first = rig.images.join("first");
        let file = File::create(&first).unwrap();
        let mut process = Scene::new().counting_on_stdout().stdout(file).start();
        process.wait_for_count_above(2);
        rig.dump(&rig.dump_of(&process), &mut process);

        let written = std::fs::read(&first).unwrap();
        let second = rig.images.join("second");
        std::fs::write(&second, &written).unwrap();
        let file = File::options().append(true).open(&second).unwrap();
        let mut restore = rig.restore();
        let key = DescriptorKey::File(first.display().to_string());
        restore
            .inherit_fds
            .push(InheritFd::new(key, &file).unwrap());
        let count = process.count();
        rig.bring_back(&mut process, &restore);
        process.wait_for_count_above(count + 1);
        assert_eq!(std::fs::read(&first).unwrap(), written);
        assert!(std::fs::read(&second).unwrap().len() > written.len());
    });
}

/// The way of container runtimes: the terminal is external on dump, a new one inherited on restore.
#[test]
fn an_external_terminal_is_replaced_by_a_new_one() {
    let _numbers = terminals();
    each(|rig| {
        let (mut process, master) = TestProcess::on_terminal(Scene::new().echo());
        let slave = File::open(format!("/proc/{}/fd/0", process.pid())).unwrap();
        let metadata = slave.metadata().unwrap();
        let (rdev, dev) = (metadata.rdev(), metadata.dev());
        drop(slave);
        let mut dump = rig.dump_of(&process);
        dump.mounts.external.push(External::Tty { rdev, dev });
        rig.dump(&dump, &mut process);
        drop(master);

        let (master, slave) = terminal();
        let mut restore = rig.restore();
        let key = DescriptorKey::Tty { rdev, dev };
        restore
            .inherit_fds
            .push(InheritFd::new(key, &slave).unwrap());
        rig.bring_back(&mut process, &restore);
        let mut master = File::from(master);
        master.write_all(b"anyone\n").unwrap();
        let (mut heard, mut buffer) = (Vec::new(), [0; 256]);
        while heard.windows(6).filter(|text| text == b"anyone").count() < 2 {
            let len = master.read(&mut buffer).unwrap();
            heard.extend_from_slice(&buffer[..len]);
        }
    });
}

fn inode(file: impl AsFd) -> u32 {
    let inode = rustix::fs::fstat(file).unwrap().st_ino;
    u32::try_from(inode).unwrap()
}

#[track_caller]
fn converses(ours: &UnixStream, text: &str) {
    ours.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut ours = ours;
    writeln!(ours, "{text}").unwrap();
    let mut heard = vec![0; text.len() + 1];
    ours.read_exact(&mut heard).unwrap();
    assert_eq!(heard, format!("{text}\n").into_bytes());
}

pub(crate) fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    (master, slave)
}
