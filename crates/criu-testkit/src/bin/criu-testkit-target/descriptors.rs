//! Every other kind of file descriptor.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::{
    FlockOperation, MemfdFlags, OFlags, fcntl_getfl, fcntl_lock, flock, inotify, memfd_create,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_gettime,
    timerfd_settime,
};

use crate::Failure;
use crate::parts::{Part, expect};

/// A pipe with unread bytes.
pub(crate) struct Pipe {
    reader: std::io::PipeReader,
    writer: std::io::PipeWriter,
}

impl Pipe {
    pub(crate) fn new() -> Result<Self, Failure> {
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(b"bytes in a pipe")?;
        Ok(Pipe { reader, writer })
    }
}

impl Part for Pipe {
    fn verify(&mut self) -> Result<(), Failure> {
        self.writer.write_all(b", and more")?;
        let mut found = [0; 25];
        self.reader.read_exact(&mut found)?;
        expect(&&found[..], &&b"bytes in a pipe, and more"[..])
    }
}

/// A named pipe with unread bytes, open in both directions.
pub(crate) struct Fifo {
    file: File,
}

impl Fifo {
    pub(crate) fn new(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )?;
        let mut file = File::options().read(true).write(true).open(path)?;
        file.write_all(b"bytes in a fifo")?;
        Ok(Fifo { file })
    }
}

impl Part for Fifo {
    fn verify(&mut self) -> Result<(), Failure> {
        let mut found = [0; 15];
        self.file.read_exact(&mut found)?;
        expect(&&found[..], &&b"bytes in a fifo"[..])
    }
}

/// Both ends of a pseudo-terminal.
pub(crate) struct Pty {
    master: File,
    slave: File,
    typed: bool,
}

impl Pty {
    pub(crate) fn new() -> Result<Self, Failure> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        Ok(Pty {
            master: master.into(),
            slave: slave.into(),
            typed: false,
        })
    }

    /// With a line typed at the master and not read yet at the slave.
    pub(crate) fn with_line_typed() -> Result<Self, Failure> {
        let mut pty = Pty::new()?;
        pty.master.write_all(b"typed\n")?;
        pty.typed = true;
        Ok(pty)
    }
}

impl Part for Pty {
    fn verify(&mut self) -> Result<(), Failure> {
        if !self.typed {
            self.master.write_all(b"typed\n")?;
        }
        let mut waiting = [PollFd::from_borrowed_fd(self.slave.as_fd(), PollFlags::IN)];
        expect(
            &poll(
                &mut waiting,
                Some(&Timespec {
                    tv_sec: 5,
                    tv_nsec: 0,
                }),
            )?,
            &1,
        )?;
        let mut found = [0; 6];
        self.slave.read_exact(&mut found)?;
        expect(&&found[..], &&b"typed\n"[..])
    }
}

/// `flock` and POSIX locks, each on a file of its own.
pub(crate) struct Locks {
    paths: [PathBuf; 2],
    _files: [File; 2],
}

impl Locks {
    pub(crate) fn new(directory: &Path) -> Result<Self, Failure> {
        let paths = ["flock", "posix-lock"].map(|name| directory.join(name));
        let open = |path: &PathBuf| {
            File::options()
                .create(true)
                .truncate(true)
                .read(true)
                .write(true)
                .open(path)
        };
        let files = [open(&paths[0])?, open(&paths[1])?];
        flock(&files[0], FlockOperation::NonBlockingLockExclusive)?;
        fcntl_lock(&files[1], FlockOperation::NonBlockingLockExclusive)?;
        Ok(Locks {
            paths,
            _files: files,
        })
    }
}

impl Part for Locks {
    fn verify(&mut self) -> Result<(), Failure> {
        let locks = fs::read_to_string("/proc/locks")?;
        for (path, kind) in self.paths.iter().zip(["FLOCK", "POSIX"]) {
            let inode = format!(":{} ", fs::metadata(path)?.ino());
            if !locks
                .lines()
                .any(|line| line.contains(kind) && line.contains(&inode))
            {
                return Err(format!("no {kind} lock on {}", path.display()).into());
            }
        }
        Ok(())
    }
}

/// An open file whose content must stay.
pub(crate) struct HeldFile {
    file: File,
    content: Vec<u8>,
}

impl HeldFile {
    pub(crate) fn plain(directory: &Path) -> Result<Self, Failure> {
        HeldFile::create(&directory.join("plain"), b"an open file".to_vec())
    }

    /// A file on the tmpfs that a process with mounts of its own has.
    pub(crate) fn on_tmpfs() -> Result<Self, Failure> {
        fs::create_dir_all("/tmp/directory")?;
        HeldFile::create(
            Path::new("/tmp/directory/file"),
            b"a file on a tmpfs".to_vec(),
        )
    }

    /// A file without a name; at least `len` bytes.
    pub(crate) fn unlinked(directory: &Path, len: usize) -> Result<Self, Failure> {
        let path = directory.join("unlinked");
        let mut content = b"a file without a name".to_vec();
        content
            .extend((content.len()..len).map(|index| b'a' + u8::try_from(index % 26).unwrap_or(0)));
        let held = HeldFile::create(&path, content)?;
        fs::remove_file(path)?;
        Ok(held)
    }

    /// A file without a name whose data lies between holes.
    pub(crate) fn unlinked_with_holes(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("unlinked-holes");
        let mut content = vec![0; 1 << 20];
        content[64 * 1024..64 * 1024 + 5].copy_from_slice(b"first");
        content[512 * 1024..512 * 1024 + 6].copy_from_slice(b"second");
        let file = File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)?;
        file.set_len(content.len() as u64)?;
        file.write_all_at(b"first", 64 * 1024)?;
        file.write_all_at(b"second", 512 * 1024)?;
        fs::remove_file(path)?;
        Ok(HeldFile { file, content })
    }

    /// A file opened by a name that is gone, while another name remains.
    pub(crate) fn with_removed_link(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("removed");
        let held = HeldFile::create(&path, b"a file with another name".to_vec())?;
        fs::hard_link(&path, directory.join("remaining"))?;
        fs::remove_file(path)?;
        Ok(held)
    }

    fn create(path: &Path, content: Vec<u8>) -> Result<Self, Failure> {
        let mut file = File::options()
            .create(true)
            .truncate(true)
            .read(true)
            .write(true)
            .open(path)?;
        file.write_all(&content)?;
        Ok(HeldFile { file, content })
    }
}

impl Part for HeldFile {
    fn verify(&mut self) -> Result<(), Failure> {
        let len = self.file.metadata()?.len();
        expect(&len, &(self.content.len() as u64))?;
        let mut found = vec![0; self.content.len()];
        self.file.read_exact_at(&mut found, 0)?;
        if found == self.content {
            Ok(())
        } else {
            Err("the content is another".into())
        }
    }
}

/// An open directory that was removed.
pub(crate) struct UnlinkedDir {
    directory: File,
}

impl UnlinkedDir {
    pub(crate) fn new(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join("removed-directory");
        fs::create_dir(&path)?;
        let held = File::open(&path)?;
        fs::remove_dir(path)?;
        Ok(UnlinkedDir { directory: held })
    }
}

impl Part for UnlinkedDir {
    fn verify(&mut self) -> Result<(), Failure> {
        expect(&self.directory.metadata()?.is_dir(), &true)
    }
}

/// An eventfd with a count.
pub(crate) struct Eventfd {
    file: File,
}

impl Eventfd {
    pub(crate) fn new() -> Result<Self, Failure> {
        Ok(Eventfd {
            file: eventfd(42, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?.into(),
        })
    }
}

impl Part for Eventfd {
    fn verify(&mut self) -> Result<(), Failure> {
        let mut found = [0; 8];
        self.file.read_exact(&mut found)?;
        expect(&u64::from_ne_bytes(found), &42)
    }
}

/// A timer that fires every hour.
pub(crate) struct Timerfd {
    timer: OwnedFd,
}

impl Timerfd {
    const INTERVAL_SECONDS: i64 = 3600;

    pub(crate) fn new() -> Result<Self, Failure> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        let hour = rustix::time::Timespec {
            tv_sec: Timerfd::INTERVAL_SECONDS,
            tv_nsec: 0,
        };
        timerfd_settime(
            &timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec {
                it_interval: hour,
                it_value: hour,
            },
        )?;
        Ok(Timerfd { timer })
    }
}

impl Part for Timerfd {
    fn verify(&mut self) -> Result<(), Failure> {
        let state = timerfd_gettime(&self.timer)?;
        expect(&state.it_interval.tv_sec, &Timerfd::INTERVAL_SECONDS)?;
        let remaining = state.it_value.tv_sec;
        if (1..=Timerfd::INTERVAL_SECONDS).contains(&remaining) {
            Ok(())
        } else {
            Err(format!("{remaining} s remain").into())
        }
    }
}

/// An epoll that watches a pipe with data.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    _reader: std::io::PipeReader,
    _writer: std::io::PipeWriter,
}

impl Epoll {
    const DATA: u64 = 0x1234_5678_9abc_def0;

    pub(crate) fn new() -> Result<Self, Failure> {
        let (reader, mut writer) = std::io::pipe()?;
        writer.write_all(b"x")?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &reader,
            epoll::EventData::new_u64(Epoll::DATA),
            epoll::EventFlags::IN,
        )?;
        Ok(Epoll {
            epoll,
            _reader: reader,
            _writer: writer,
        })
    }
}

impl Part for Epoll {
    fn verify(&mut self) -> Result<(), Failure> {
        let mut events = Vec::with_capacity(4);
        let patience = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&patience),
        )?;
        let data: Vec<u64> = events
            .iter()
            .map(|event: &epoll::Event| event.data.u64())
            .collect();
        expect(&data, &vec![Epoll::DATA])
    }
}

/// A watch on a directory in which nothing has happened yet.
pub(crate) struct Inotify {
    inotify: File,
    watched: PathBuf,
}

impl Inotify {
    pub(crate) fn new(directory: &Path) -> Result<Self, Failure> {
        let watched = directory.join("watched");
        fs::create_dir_all(&watched)?;
        let inotify =
            inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&inotify, &watched, inotify::WatchFlags::CREATE)?;
        Ok(Inotify {
            inotify: inotify.into(),
            watched,
        })
    }
}

impl Part for Inotify {
    fn verify(&mut self) -> Result<(), Failure> {
        File::create(self.watched.join("newcomer"))?;
        let mut event = [0; 256];
        let len = self.inotify.read(&mut event)?;
        let name = &event[..len];
        expect(&name.windows(8).any(|window| window == b"newcomer"), &true)
    }
}

/// An anonymous file in memory.
pub(crate) struct Memfd {
    file: File,
}

impl Memfd {
    pub(crate) fn new() -> Result<Self, Failure> {
        let mut file = File::from(memfd_create(
            "testkit",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?);
        file.write_all(b"memory with a name")?;
        rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::GROW)?;
        Ok(Memfd { file })
    }
}

impl Part for Memfd {
    fn verify(&mut self) -> Result<(), Failure> {
        let mut found = [0; 18];
        self.file.read_exact_at(&mut found, 0)?;
        expect(&&found[..], &&b"memory with a name"[..])?;
        expect(
            &rustix::fs::fcntl_get_seals(&self.file)?.contains(rustix::fs::SealFlags::GROW),
            &true,
        )?;
        expect(&fcntl_getfl(&self.file)?.contains(OFlags::RDWR), &true)
    }
}

/// A pidfd of a child that runs.
pub(crate) struct Pidfd {
    child: Child,
    pidfd: OwnedFd,
}

impl Pidfd {
    pub(crate) fn new() -> Result<Self, Failure> {
        let child = Command::new("sleep")
            .arg("100000")
            .stdin(Stdio::null())
            .spawn()?;
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        // Past its start, so that what is dumped is always the same program.
        std::thread::sleep(Duration::from_millis(50));
        Ok(Pidfd { child, pidfd })
    }
}

impl Part for Pidfd {
    fn verify(&mut self) -> Result<(), Failure> {
        pidfd_send_signal(&self.pidfd, Signal::KILL)?;
        let mut watched = [PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN)];
        expect(
            &poll(
                &mut watched,
                Some(&Timespec {
                    tv_sec: 5,
                    tv_nsec: 0,
                }),
            )?,
            &1,
        )?;
        self.child.wait()?;
        Ok(())
    }
}
