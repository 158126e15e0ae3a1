//! A CRIU that does what a script says, the wrong things included.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::binaries::fake_criu_binary;
use crate::temp_dir::TempDir;

/// One thing the fake worker does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Waits for a request and keeps it for [`FakeCriu::requests`].
    Receive,
    /// Sends these bytes as one packet; [`crate::Message`] puts them together.
    Send(Vec<u8>),
    /// Sends these bytes with this many open file descriptors.
    SendWithFds(Vec<u8>, u8),
    /// Writes a file, such as the log a test expects the client to read.
    WriteFile(PathBuf, Vec<u8>),
    /// Writes to standard error.
    Stderr(Vec<u8>),
    /// Closes the connection and goes on.
    Close,
    /// Waits.
    Sleep(Duration),
    /// Stays for ever, connection open.
    Hang,
    /// Ignores the signals that ask it to end (`SIGTERM`, `SIGINT`, `SIGHUP`), from the start, wherever this stands.
    IgnoreTermination,
    /// Ends with this exit code.
    Exit(u8),
    /// Ends by this signal, such as 9.
    Die(u8),
}

/// An executable called `criu` that plays a script whenever it is run as worker or service.
///
/// ```no_run
/// use criu_testkit::{FakeCriu, Message, Step};
///
/// let version = Message::new().varint(1, 4).varint(2, 3);
/// let fake = FakeCriu::new(&[
///     Step::Receive,
///     Step::Send(Message::reply(10, 1).bytes(10, version).build()),
/// ]);
/// // Give fake.path() to the client, let it ask for the version, then:
/// assert_eq!(fake.requests().len(), 1);
/// ```
///
/// It knows `swrk FD`, `service --address PATH` (one connection) and `--version`. Without a last word ([`Step::Hang`],
/// [`Step::Exit`], [`Step::Die`]) the worker closes the connection and ends with code 0.
#[derive(Debug)]
pub struct FakeCriu {
    directory: TempDir,
}

impl FakeCriu {
    /// Makes one that says it is version 4.3.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    #[track_caller]
    pub fn new(script: &[Step]) -> Self {
        FakeCriu::of_version("4.3", script)
    }

    /// Makes one whose `--version` says this.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[must_use]
    #[track_caller]
    pub fn of_version(version: &str, script: &[Step]) -> Self {
        let directory = TempDir::new();
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text)
                .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
            path
        };
        let lines: Vec<String> = script.iter().filter_map(line).collect();
        write("script", &lines.join("\n"));
        write("version", version);
        // A signal ignored by the shell stays ignored in what it becomes.
        let trap = if script.contains(&Step::IgnoreTermination) {
            "trap '' TERM INT HUP\n"
        } else {
            ""
        };
        let wrapper = write(
            "criu",
            &format!(
                "#!/bin/sh\n{trap}exec '{}' '{}' \"$@\"\n",
                fake_criu_binary().display(),
                directory.path().display()
            ),
        );
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap_or_else(|error| {
            panic!("cannot make {} executable: {error}", wrapper.display())
        });
        FakeCriu { directory }
    }

    /// The executable.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.join("criu")
    }

    /// The requests received so far, over all runs, as bytes; [`crate::fields`] takes them apart.
    #[must_use]
    pub fn requests(&self) -> Vec<Vec<u8>> {
        (0..)
            .map_while(|number| fs::read(self.directory.join(format!("request-{number}"))).ok())
            .collect()
    }

    /// The ids of the processes that played the script, in the order they started.
    #[must_use]
    pub fn workers(&self) -> Vec<u32> {
        let text = fs::read_to_string(self.directory.join("workers")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Waits until the socket of a `service` is there.
    ///
    /// # Panics
    ///
    /// When it is not there within 10 seconds.
    #[track_caller]
    pub fn wait_for_socket(&self, path: &Path) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !path.exists() {
            assert!(
                Instant::now() < deadline,
                "{} does not appear",
                path.display()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A step as the fake reads it: a word and its arguments, bytes in hexadecimal.
fn line(step: &Step) -> Option<String> {
    Some(match step {
        Step::Receive => "receive".into(),
        Step::Send(bytes) => format!("send {}", hex(bytes)),
        Step::SendWithFds(bytes, count) => format!("send-with-fds {count} {}", hex(bytes)),
        Step::WriteFile(path, bytes) => {
            format!(
                "write-file {} {}",
                hex(path.as_os_str().as_encoded_bytes()),
                hex(bytes)
            )
        }
        Step::Stderr(bytes) => format!("stderr {}", hex(bytes)),
        Step::Close => "close".into(),
        Step::Sleep(duration) => format!("sleep {}", duration.as_millis()),
        Step::Hang => "hang".into(),
        // Done by the wrapper, before the fake starts.
        Step::IgnoreTermination => return None,
        Step::Exit(code) => format!("exit {code}"),
        Step::Die(signal) => format!("die {signal}"),
    })
}

/// `-` stands for no bytes, so that an argument is never empty.
fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "-".into()
    } else {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
