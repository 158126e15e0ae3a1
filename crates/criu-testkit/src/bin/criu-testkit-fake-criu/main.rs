//! Plays the script of a `FakeCriu`: `criu-testkit-fake-criu DIR swrk FD`, `... service --address PATH`,
//! `... --version`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, accept, bind, listen, recv, sendmsg, socket_with,
};
use rustix::process::{Signal, kill_process};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        [directory, "--version" | "-V"] => print_version(Path::new(directory)),
        [directory, "swrk", fd] => {
            inherited(fd).and_then(|connection| play(Path::new(directory), connection))
        }
        [directory, "service", "--address", path] => {
            serve(Path::new(path)).and_then(|connection| play(Path::new(directory), connection))
        }
        _ => Err(format!("the fake criu does not know: {}", words.join(" ")).into()),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "fake criu: {failure}");
            ExitCode::from(99)
        }
    }
}

fn print_version(directory: &Path) -> Result<ExitCode, Failure> {
    let version = fs::read_to_string(directory.join("version"))?;
    writeln!(io::stdout(), "Version: {version}")?;
    Ok(ExitCode::SUCCESS)
}

fn inherited(fd: &str) -> Result<OwnedFd, Failure> {
    let fd = fd.parse::<i32>()?;
    if !Path::new(&format!("/proc/self/fd/{fd}")).exists() {
        return Err(format!("descriptor {fd} was not inherited").into());
    }
    #[expect(
        unsafe_code,
        reason = "there is no other way to take over a descriptor that was inherited by number"
    )]
    // SAFETY: it is open, as just seen, and nothing else in this program, which has only begun, knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn serve(path: &Path) -> Result<OwnedFd, Failure> {
    let listener = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    bind(&listener, &SocketAddrUnix::new(path)?)?;
    listen(&listener, 1)?;
    Ok(accept(&listener)?)
}

fn play(directory: &Path, connection: OwnedFd) -> Result<ExitCode, Failure> {
    let mut workers = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("workers"))?;
    workers.write_all(format!("{}\n", std::process::id()).as_bytes())?;
    let mut connection = Some(connection);
    let script = fs::read_to_string(directory.join("script"))?;
    for line in script.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["receive"] => receive(open(&connection)?, directory)?,
            ["send", bytes] => send(open(&connection)?, &unhex(bytes)?, 0)?,
            ["send-with-fds", count, bytes] => {
                send(open(&connection)?, &unhex(bytes)?, count.parse()?)?
            }
            ["write-file", path, bytes] => fs::write(path_of(unhex(path)?), unhex(bytes)?)?,
            ["stderr", bytes] => io::stderr().write_all(&unhex(bytes)?)?,
            ["close"] => drop(connection.take()),
            ["sleep", milliseconds] => {
                std::thread::sleep(Duration::from_millis(milliseconds.parse()?))
            }
            ["hang"] => loop {
                std::thread::sleep(Duration::from_secs(3600));
            },
            ["exit", code] => return Ok(ExitCode::from(code.parse::<u8>()?)),
            ["die", signal] => die(signal.parse()?)?,
            _ => return Err(format!("no such step: {line}").into()),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn open(connection: &Option<OwnedFd>) -> Result<BorrowedFd<'_>, Failure> {
    Ok(connection
        .as_ref()
        .ok_or("the script closed the connection before")?
        .as_fd())
}

/// Takes one packet whole, whatever its length, and keeps it in the next free `request-N`.
fn receive(connection: BorrowedFd<'_>, directory: &Path) -> Result<(), Failure> {
    let (_, len) = recv(
        connection,
        &mut [0_u8; 0][..],
        RecvFlags::PEEK | RecvFlags::TRUNC,
    )?;
    if len == 0 {
        return Err("the client closed the connection where a request is expected".into());
    }
    let mut packet = vec![0; len];
    recv(connection, &mut packet[..], RecvFlags::empty())?;
    for number in 0.. {
        let path = directory.join(format!("request-{number}"));
        match File::create_new(&path) {
            Ok(mut file) => {
                file.write_all(&packet)?;
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn send(connection: BorrowedFd<'_>, bytes: &[u8], fd_count: u8) -> Result<(), Failure> {
    let files = (0..fd_count)
        .map(|_| File::open("/dev/null"))
        .collect::<io::Result<Vec<File>>>()?;
    let fds: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    let rights = SendAncillaryMessage::ScmRights(&fds);
    let mut space = vec![std::mem::MaybeUninit::uninit(); rights.size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(rights) {
        return Err("too many descriptors for one packet".into());
    }
    sendmsg(
        connection,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

fn die(signal: i32) -> Result<(), Failure> {
    let signal = Signal::from_named_raw(signal).ok_or("no such signal")?;
    kill_process(rustix::process::getpid(), signal)?;
    Err("still alive".into())
}

fn path_of(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes).into()
}

fn unhex(text: &str) -> Result<Vec<u8>, Failure> {
    if text == "-" {
        return Ok(Vec::new());
    }
    (0..text.len())
        .step_by(2)
        .map(|at| {
            Ok(u8::from_str_radix(
                text.get(at..at + 2).ok_or("odd number of digits")?,
                16,
            )?)
        })
        .collect()
}
