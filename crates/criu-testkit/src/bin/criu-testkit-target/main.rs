//! The process that tests checkpoint: it counts, holds what it is told to hold, and tells whether that survived.
//!
//! ```text
//! criu-testkit-target DIR PART...               state and questions live in DIR
//! criu-testkit-target --enter ROOT DIR PART...  makes ROOT the root of its mount namespace first
//! criu-testkit-target --run COMMAND...          becomes the command, having closed what it inherited
//! criu-testkit-target --keep ...                keeps descriptors it was started with
//! ```
//!
//! Files in DIR: `ready` (made when all parts are up), `failed` (why they are not), `count` (always 21 bytes, so that
//! CRIU finds the file as it left it), `verify` → `verified` (empty when all is well), `finish` (holds the exit code).

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use parts::Part;

mod descriptors;
mod mounts;
mod parts;
mod sockets;

/// The time between two counts.
const TICK: Duration = Duration::from_millis(5);

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let keep = words.first() == Some(&"--keep");
    if keep {
        words.remove(0);
    } else {
        close_inherited();
    }
    match words.as_slice() {
        ["--run", program, rest @ ..] => {
            let _ = Command::new(program).args(rest).exec();
            ExitCode::FAILURE
        }
        ["--enter", root, rest @ ..] => {
            let kept: &[&str] = if keep { &["--keep"] } else { &[] };
            let failure = enter(Path::new(root), &[kept, rest].concat());
            let tell =
                |root: &str| fs::write(Path::new(root).join("state/failed"), failure.to_string());
            // It has another name once it is the root.
            let _ = tell(root).or_else(|_| tell("/"));
            ExitCode::FAILURE
        }
        [directory, parts @ ..] => match run(Path::new(directory), parts) {
            Ok(code) => code,
            Err(failure) => {
                let _ = fs::write(Path::new(directory).join("failed"), failure.to_string());
                ExitCode::FAILURE
            }
        },
        [] => ExitCode::from(2),
    }
}

/// Closes what the starter left open beyond the standard streams: it would become part of the checkpoint, or prevent it.
fn close_inherited() {
    let listing = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    let fds: Vec<i32> = listing
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    for fd in fds {
        // The listing's own descriptor is closed by now.
        if fd > 2 && Path::new(&format!("/proc/self/fd/{fd}")).exists() {
            #[expect(
                unsafe_code,
                reason = "an inherited descriptor is known by its number only"
            )]
            // SAFETY: this program has only begun and owns nothing beyond the standard streams.
            unsafe {
                rustix::io::close(fd);
            }
        }
    }
}

/// Makes `root` the root of this process's own mount namespace and starts again from there. Returns only on failure.
fn enter(root: &Path, rest: &[&str]) -> Failure {
    use rustix::mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
    };

    let become_root = || -> rustix::io::Result<()> {
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        mount_bind(root, root)?;
        mount(
            "proc",
            root.join("proc"),
            "proc",
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
            None,
        )?;
        mount(
            "tmpfs",
            root.join("tmp"),
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
            None,
        )?;
        mount("tmpfs", root.join("dev"), "tmpfs", MountFlags::NOSUID, None)?;
        make_null_device(&root.join("dev/null"))?;
        std::env::set_current_dir(root).map_err(io_error)?;
        rustix::process::pivot_root(".", "old")?;
        unmount("old", UnmountFlags::DETACH)?;
        std::env::set_current_dir("/").map_err(io_error)
    };
    if let Err(error) = become_root() {
        return error.into();
    }
    // Standard streams still lie in the old root, but for pipes, which lie in none. A regular file is there only if a
    // test gave it, for being outside.
    let stream = |stream: &dyn AsFd| -> std::io::Result<Stdio> {
        let mode = rustix::fs::fstat(stream.as_fd())?.st_mode;
        match rustix::fs::FileType::from_raw_mode(mode) {
            rustix::fs::FileType::Fifo | rustix::fs::FileType::RegularFile => Ok(Stdio::inherit()),
            _ => File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map(Into::into),
        }
    };
    let mut command = Command::new("/target");
    let streams = || -> std::io::Result<_> {
        let (stdin, stdout) = (stream(&std::io::stdin())?, stream(&std::io::stdout())?);
        Ok((stdin, stdout, stream(&std::io::stderr())?))
    };
    let (stdin, stdout, stderr) = match streams() {
        Ok(streams) => streams,
        Err(error) => return error.into(),
    };
    command
        .args(rest)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let error = command.exec();
        // The test has copied the program, and what another of its threads forks then has the copy open for writing
        // until that is another program, too.
        if error.kind() != std::io::ErrorKind::ExecutableFileBusy || Instant::now() > deadline {
            return error.into();
        }
        std::thread::sleep(TICK);
    }
}

fn make_null_device(path: &Path) -> rustix::io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    let mode = Mode::from_raw_mode(0o666);
    match mknodat(CWD, path, FileType::CharacterDevice, mode, makedev(1, 3)) {
        // No devices in a user namespace; an empty file does for streams that nobody reads.
        Err(rustix::io::Errno::PERM) => File::create(path).map(drop).map_err(io_error),
        made => made,
    }
}

fn io_error(error: std::io::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)
}

fn run(directory: &Path, names: &[&str]) -> Result<ExitCode, Failure> {
    // Fails for a session leader only, which then is what we want.
    let _ = rustix::process::setsid();
    let mut parts: Vec<(&str, Box<dyn Part>)> = Vec::new();
    for name in names {
        let part = parts::make(name, directory).map_err(|failure| format!("{name}: {failure}"))?;
        parts.push((name, part));
    }
    let counter = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .open(directory.join("count"))?;
    let mut count: u64 = 0;
    counter.write_all_at(format!("{count:020}\n").as_bytes(), 0)?;
    File::create(directory.join("ready"))?;
    loop {
        std::thread::sleep(TICK);
        count += 1;
        counter.write_all_at(format!("{count:020}\n").as_bytes(), 0)?;
        for (_, part) in &mut parts {
            part.tick(count);
        }
        if fs::remove_file(directory.join("verify")).is_ok() {
            verify(directory, &mut parts)?;
        }
        if let Ok(text) = fs::read_to_string(directory.join("finish")) {
            return Ok(ExitCode::from(text.trim().parse::<u8>()?));
        }
    }
}

fn verify(directory: &Path, parts: &mut [(&str, Box<dyn Part>)]) -> Result<(), Failure> {
    let mut answer = Vec::new();
    for (name, part) in parts {
        if let Err(failure) = part.verify() {
            writeln!(answer, "{name}: {failure}")?;
        }
    }
    fs::write(directory.join("answer"), answer)?;
    fs::rename(directory.join("answer"), directory.join("verified"))?;
    Ok(())
}
