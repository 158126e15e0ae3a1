//! A runtime's program, with the right CRIU first on its path.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use criu::Criu;
use criu::diagnose::{Verdict, diagnose};
use criu::log::Log;
use rustix::process::{Pid, Signal, kill_process_group};

use super::Runtime;
use crate::error::{Error, Result};

/// How often somebody looks whether a command has ended.
const CHECK: Duration = Duration::from_millis(3);
/// For commands that only ask.
pub(super) const ASKING: Duration = Duration::from_secs(60);
/// Most bytes of what a command prints that are read.
const OUTPUT_BYTES_MAX: u64 = 4 << 20;
/// Most bytes of CRIU's log that are read.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// A runtime that can be called.
#[derive(Debug)]
pub(super) struct Program {
    runtime: Runtime,
    path: OsString,
    /// What commands write to standard error where their output must not be inherited.
    place: PathBuf,
}

impl Program {
    /// Finds the runtime; `place` is a directory of ours that outlives the value.
    pub(super) fn find(runtime: Runtime, criu: &Criu, place: &Path) -> Result<Self> {
        let binary = criu.binary().ok_or(Error::Misuse {
            problem: "a runtime needs CRIU's program, not its service",
        })?;
        let putting = || Error::io("put CRIU where the runtime finds it");
        // A runtime looks for `criu` on its path, whatever name the one to use has.
        let bin = place.join("bin");
        let binary = fs::canonicalize(binary).map_err(putting())?;
        match fs::create_dir(&bin) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => {
                made.map_err(putting())?;
                std::os::unix::fs::symlink(binary, bin.join("criu")).map_err(putting())?;
            }
        }
        let mut path = OsString::from(bin);
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin".into()));
        let program = Self {
            runtime,
            path,
            place: place.to_path_buf(),
        };
        program.run("look for it", ["--version"], ASKING)?;
        Ok(program)
    }

    /// Runs a command and returns what it printed.
    pub(super) fn run<I, S>(&self, doing: &str, arguments: I, within: Duration) -> Result<String>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        // Files, not pipes: what the runtime starts may hold them open for ever.
        let (mut output, mut errors) = (self.file()?, self.file()?);
        let mut command = self.command(arguments);
        command
            .stdout(self.copy(&output)?)
            .stderr(self.copy(&errors)?);
        match self.finish(&mut command, within) {
            Ok(()) => read(&mut output),
            Err(None) => Err(self.too_slow(doing)),
            Err(Some(said)) => {
                let text = read(&mut errors)?;
                Err(self.failed(doing, &said, &text))
            }
        }
    }

    /// Runs a command whose standard streams the container may keep.
    pub(super) fn run_detached<I, S>(
        &self,
        doing: &str,
        arguments: I,
        within: Duration,
    ) -> Result<()>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let log = self.place.join(format!("{}.log", self.runtime));
        let _ = fs::remove_file(&log);
        let words = [OsStr::new("--log"), log.as_os_str()].map(OsStr::to_owned);
        let rest = arguments.into_iter().map(|word| word.as_ref().to_owned());
        let mut command = self.command(words.into_iter().chain(rest));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        match self.finish(&mut command, within) {
            Ok(()) => Ok(()),
            Err(None) => Err(self.too_slow(doing)),
            Err(Some(said)) => {
                let text = fs::read_to_string(&log).unwrap_or_default();
                Err(self.failed(doing, &said, &text))
            }
        }
    }

    /// A failure, with the cause that CRIU's log names.
    pub(super) fn explain(&self, error: Error, log: &Path) -> Error {
        let Error::Container {
            runtime,
            doing,
            said,
        } = error
        else {
            return error;
        };
        let mut bytes = Vec::new();
        let read = File::open(log).and_then(|log| log.take(LOG_BYTES_MAX).read_to_end(&mut bytes));
        let cause = match read.map(|_| diagnose(&Log::parse(&bytes))) {
            Ok(Verdict::Failure(diagnosis)) => format!(
                "; the cause CRIU names: {}: {}; {}",
                diagnosis.root.text(),
                diagnosis.cause,
                diagnosis.remedy
            ),
            _ => String::new(),
        };
        Error::Container {
            runtime,
            doing,
            said: said + &cause,
        }
    }

    fn command<I, S>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = Command::new(self.runtime.program());
        command.args(arguments).env("PATH", &self.path);
        // The terminal's Ctrl-C is for us: a runtime in the middle of it would leave half a container.
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    /// Runs a command to its end; says why it failed, or nothing when it took too long and was killed.
    fn finish(&self, command: &mut Command, within: Duration) -> Result<(), Option<String>> {
        let mut child = command.spawn().map_err(|error| {
            let runtime = self.runtime;
            Some(format!(
                "{runtime} cannot be started ({error}); install the package {runtime}"
            ))
        })?;
        let began = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(Some(format!("it ended with {status}"))),
                Ok(None) if began.elapsed() < within => std::thread::sleep(CHECK),
                outcome => {
                    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                        let _ = kill_process_group(group, Signal::KILL);
                    }
                    let _ = child.wait();
                    return Err(outcome.err().map(|error| error.to_string()));
                }
            }
        }
    }

    /// What it has done by then nobody knows: told apart from a failure by its kind.
    fn too_slow(&self, doing: &str) -> Error {
        let doing = format!("wait for {} to {doing}", self.runtime);
        Error::io(doing)(std::io::ErrorKind::TimedOut.into())
    }

    fn failed(&self, doing: &str, said: &str, text: &str) -> Error {
        let lines: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let last = lines
            .get(lines.len().saturating_sub(5)..)
            .unwrap_or_default();
        let last: String = last.join("; ").chars().take(2000).collect();
        let colon = if last.is_empty() { "" } else { ": " };
        Error::Container {
            runtime: self.runtime,
            doing: doing.to_owned(),
            said: format!("{said}{colon}{last}"),
        }
    }

    fn file(&self) -> Result<File> {
        use rustix::fs::{MemfdFlags, memfd_create};
        let file = memfd_create("criu-migrate", MemfdFlags::CLOEXEC);
        let file = file.map_err(|errno| Error::io("make a file")(errno.into()))?;
        Ok(file.into())
    }

    fn copy(&self, file: &File) -> Result<File> {
        file.try_clone().map_err(Error::io("use a file twice"))
    }
}

/// How often a container is dumped whose tasks cannot be stopped.
const ATTEMPTS: u32 = 4;

/// Dumps a container, and again after a race of CRIU's with the freezer of cgroup v2: a task that is frozen while it waits
/// for its `vfork` cannot be stopped, and the container goes on after that.
pub(super) fn again_if_unseizable<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match attempt() {
            Err(Error::Container { said, .. })
                if left > 0 && said.contains("Unseizable non-zombie") => {}
            outcome => return outcome,
        }
    }
}

fn read(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    let all = file
        .rewind()
        .and_then(|()| file.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes));
    all.map_err(Error::io("read what a runtime printed"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use criu_testkit::TempDir;
    use std::os::unix::fs::PermissionsExt;

    fn runc(place: &TempDir, script: Option<&str>) -> Program {
        let bin = place.make_dir("bin");
        if let Some(script) = script {
            fs::write(bin.join("runc"), format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(bin.join("runc"), fs::Permissions::from_mode(0o755)).unwrap();
        }
        Program {
            runtime: Runtime::Runc,
            path: bin.into(),
            place: place.path().to_path_buf(),
        }
    }

    #[test]
    fn a_runtime_that_fails_hangs_or_is_missing_is_told_apart() {
        let place = TempDir::new();
        let run = |program: &Program, within| program.run("do it", ["word"], within);
        let error = run(&runc(&place, None), ASKING).unwrap_err().to_string();
        assert!(error.contains("install the package runc"), "{error}");
        let program = runc(&place, Some("echo $1; echo its reason >&2; exit 7"));
        let error = run(&program, ASKING).unwrap_err().to_string();
        assert_eq!(
            error,
            "runc cannot do it: it ended with exit status: 7: its reason"
        );
        let program = runc(&place, Some("echo $1"));
        assert_eq!(run(&program, ASKING).unwrap(), "word\n");
        // What it started holds its standard output: nobody waits for that.
        let program = runc(&place, Some("/bin/sleep 30 & echo $1"));
        let began = Instant::now();
        assert_eq!(run(&program, ASKING).unwrap(), "word\n");
        assert!(began.elapsed() < Duration::from_secs(10));
        let program = runc(&place, Some("exec /bin/sleep 30"));
        let slow = run(&program, Duration::from_millis(100)).unwrap_err();
        let is_slow = matches!(&slow, Error::Io { source, .. }
            if source.kind() == std::io::ErrorKind::TimedOut);
        assert!(is_slow, "{slow}");
    }

    #[test]
    fn a_container_that_cannot_be_stopped_is_tried_a_few_times_and_no_other() {
        let count = std::cell::Cell::new(0);
        let attempts = |said: &str, good_at: u32| {
            count.set(0);
            let outcome = again_if_unseizable(|| {
                count.set(count.get() + 1);
                match count.get() == good_at {
                    true => Ok(()),
                    false => Err(Error::Container {
                        runtime: Runtime::Runc,
                        doing: String::new(),
                        said: said.to_owned(),
                    }),
                }
            });
            (outcome.is_ok(), count.get())
        };
        let unseizable = "Error (compel/src/lib/infect.c:271): Unseizable non-zombie 7 found";
        assert_eq!(attempts(unseizable, 3), (true, 3));
        assert_eq!(attempts(unseizable, 9), (false, ATTEMPTS));
        assert_eq!(attempts("no such container", 2), (false, 1));
    }
}
