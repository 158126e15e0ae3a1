//! What ends a tree whose memory can no longer come.
//!
//! While memory follows, `criu lazy-pages` fills what the tree touches, and the tree waits. Should it end, the kernel
//! gives the tree zeros instead. So the tree is ended first if memory cannot come any more: by the receiving process, or,
//! should that die, by the guard: a process of its own, a shell with a script of a few lines, since only a program that
//! was there before can be started without `unsafe`. The guard also holds our end of the connection of
//! `criu lazy-pages`, which so goes on to wait for memory until the tree has been ended.
//!
//! It does not hold the userfaultfds, though the tree would then wait also when `criu lazy-pages` dies: CRIU takes those of
//! a task that has all its memory out of its epoll set by closing them, which works only if nobody else has them open.
//! Otherwise it goes on with memory it has freed.

use std::fs;
use std::io::{self, PipeWriter, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};

use crate::tree::start_time;

/// Kills each process it is given as `PID:START`, with all its children, unless it reads a line before its
/// standard input ends. The start time, the 20th field behind the name in `/proc/PID/stat`, tells a process from a
/// later one of the same id.
const SCRIPT: &str = r#"
read -r done && exit 0
end() {
    # Stopped it starts no more children; one that does not stop waits in the kernel.
    kill -STOP "$1" 2>/dev/null
    looks=0
    while [ $looks -lt 1000 ]; do
        read -r stat </proc/"$1"/stat || break
        case ${stat##*) } in [TtZX]*) break ;; esac
        looks=$((looks + 1))
    done 2>/dev/null
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do end "$child"; done
    kill -KILL "$1" 2>/dev/null
}
for task in "$@"; do
    pid=${task%%:*}
    stat=$(cat /proc/"$pid"/stat 2>/dev/null) || continue
    set -- ${stat##*) }
    shift 19
    [ "$1" = "${task#*:}" ] && end "$pid"
done
"#;

/// Where the guard keeps what it only holds.
const HELD: i32 = 3;

/// A guard on duty. Dropping it unreleased has the tree killed.
#[derive(Debug)]
pub(crate) struct Guard {
    word: Option<PipeWriter>,
    process: Child,
}

impl Guard {
    /// Guards the tasks of these ids while the process `filler` fills their memory, which goes on while `held` is open.
    pub(crate) fn post(
        pids: impl Iterator<Item = i32>,
        filler: u32,
        held: OwnedFd,
    ) -> io::Result<Self> {
        wait_until_taken(filler)?;
        let tasks = pids.filter_map(|pid| Some(format!("{pid}:{}", start_time(pid)?)));
        let (hears, word) = io::pipe()?;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "criu-migrate-guard"])
            .args(tasks)
            .stdin(hears)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // What ends the receiver by a signal to its group is what this is there for.
            .process_group(0);
        let held = FdMapping {
            parent_fd: held,
            child_fd: HELD,
        };
        command.fd_mappings(vec![held]).map_err(io::Error::other)?;
        Ok(Self {
            process: command.spawn()?,
            word: Some(word),
        })
    }

    /// All memory has come: the tree needs no guard any more.
    pub(crate) fn release(mut self) {
        if let Some(mut word) = self.word.take() {
            let _ = word.write_all(b"done\n");
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.word = None;
        let _ = self.process.wait();
    }
}

/// How long the filler may take to take over the userfaultfds of all tasks.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// Waits until `criu lazy-pages` has the userfaultfds of all tasks: then it closes the socket they come to. Nobody
/// would fill the memory of one whose userfaultfd is still on its way.
fn wait_until_taken(filler: u32) -> io::Result<()> {
    let deadline = Instant::now() + TAKEN_WITHIN;
    while is_listening(filler)? {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether a process has a UNIX socket that listens.
fn is_listening(process: u32) -> io::Result<bool> {
    /// `__SO_ACCEPTCON`, as `/proc/net/unix` shows it.
    const LISTENS: &str = "00010000";
    let table = fs::read(format!("/proc/{process}/net/unix"))?;
    let table = String::from_utf8_lossy(&table);
    let listening: Vec<String> = table
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [_, _, _, LISTENS, _, _, inode, ..] => Some(format!("socket:[{inode}]")),
                _ => None,
            }
        })
        .collect();
    for entry in fs::read_dir(format!("/proc/{process}/fd"))? {
        let leads_to = fs::read_link(entry?.path()).unwrap_or_default();
        if listening
            .iter()
            .any(|socket| leads_to.as_os_str() == socket.as_str())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn sleeper() -> Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    fn pid(child: &Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    #[test]
    fn a_guard_kills_unless_released() {
        let (mut guarded, mut released) = (sleeper(), sleeper());
        let ourselves = std::process::id();
        let post = |child: &Child| {
            let (near, far) = UnixStream::pair().unwrap();
            let guard = Guard::post([pid(child)].into_iter(), ourselves, near.into());
            (guard.unwrap(), far)
        };
        let (guard, far) = post(&guarded);
        assert!(guarded.try_wait().unwrap().is_none());
        // What fills memory does not find its connection closed meanwhile.
        far.set_nonblocking(true).unwrap();
        let waits = (&far).read(&mut [0]).unwrap_err();
        assert_eq!(waits.kind(), io::ErrorKind::WouldBlock);
        drop(guard);
        assert!(!guarded.wait().unwrap().success());
        assert_eq!((&far).read(&mut [0]).unwrap(), 0);

        post(&released).0.release();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(released.try_wait().unwrap().is_none());
        released.kill().unwrap();
        released.wait().unwrap();
    }

    #[test]
    fn a_socket_that_listens_is_seen() {
        let us = std::process::id();
        let place = criu_testkit::TempDir::new();
        let mut shell = sleeper();
        assert!(!is_listening(shell.id()).unwrap());
        let listener = std::os::unix::net::UnixListener::bind(place.join("socket")).unwrap();
        assert!(is_listening(us).unwrap());
        drop(listener);
        shell.kill().unwrap();
        shell.wait().unwrap();
        assert!(is_listening(shell.id()).is_err());
    }

    #[test]
    fn children_go_too() {
        let mut parent = Command::new("/bin/sh")
            .args(["-c", "sleep 61 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = parent.stdout.take().unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).unwrap();
        let child: i32 = line.trim().parse().unwrap();
        let near = UnixStream::pair().unwrap().0.into();
        drop(Guard::post([pid(&parent)].into_iter(), std::process::id(), near).unwrap());
        parent.wait().unwrap();
        // It ends a moment after it was killed, and as an orphan may wait for whoever reaps it.
        let state = || fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let is_gone = |state: String| state.is_empty() || state.contains(") Z ");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !is_gone(state()) {
            assert!(std::time::Instant::now() < deadline, "{}", state());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}
