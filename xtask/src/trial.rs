//! Whether a CRIU works here: it is asked, and then it has to prove it on a small process.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Doing, Failure, Outcome};
use crate::tool;

/// How long a dump or a restore of the small process may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(30);

/// The version a CRIU says it has, such as `4.2.1`.
pub(crate) fn version(criu: &Path) -> Outcome<String> {
    let said = tool::output(Command::new(criu).arg("--version"))?;
    said.lines()
        .find_map(|line| line.strip_prefix("Version: "))
        .map(|version| version.trim().to_owned())
        .ok_or_else(|| {
            Failure::new(format!(
                "{} --version does not name a version: {said:?}",
                criu.display()
            ))
        })
}

/// Fails unless `criu check` passes and a small process survives a dump and a restore.
pub(crate) fn run(criu: &Path, scratch: &Path) -> Outcome<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(
            Failure::new("checkpointing a process needs root").with_remedy("run this as root")
        );
    }
    tool::output(Command::new(criu).arg("check"))
        .map_err(|failure| failure.while_doing("criu check fails"))?;
    // The process id of the dumped process is free for others until it is restored; that race is lost rarely, never
    // three times.
    let mut attempt = dump_and_restore(criu, scratch);
    for _ in 0..2 {
        if attempt.is_ok() {
            break;
        }
        attempt = dump_and_restore(criu, scratch);
    }
    attempt
}

fn dump_and_restore(criu: &Path, scratch: &Path) -> Outcome<()> {
    let images = scratch.join(format!("trial-{}", std::process::id()));
    let _ = fs::remove_dir_all(&images);
    fs::create_dir_all(&images).doing(format_args!("cannot create {}", images.display()))?;
    let result = dump_and_restore_into(criu, &images);
    let _ = fs::remove_dir_all(&images);
    result
}

fn dump_and_restore_into(criu: &Path, images: &Path) -> Outcome<()> {
    // A session of its own, so that CRIU has no terminal to care for; and none of what we were started with, such as
    // the pipes of a `make`, which would be part of the checkpoint.
    let bare = "for fd in /proc/self/fd/*; do fd=${fd##*/}; [ \"$fd\" -le 2 ] || eval \"exec $fd>&-\"; done; \
                exec sleep 1000";
    let mut process = Spawned::start(
        Command::new("setsid")
            .args(["bash", "-c", bare])
            .current_dir("/"),
    )?;
    process.wait_until_it_runs("sleep")?;
    let pid = process.pid();

    let mut dump = Command::new(criu);
    dump.arg("dump")
        .arg("-t")
        .arg(pid.as_raw_nonzero().to_string())
        .arg("-D")
        .arg(images)
        .args(["-o", "dump.log", "-v4"]);
    Spawned::start(&mut dump)?.finish().map_err(|failure| {
        with_log(
            failure.while_doing("trial dump fails"),
            &images.join("dump.log"),
        )
    })?;
    process.reap()?;

    // Attached, so that CRIU reaps the process it restored and nothing stays behind.
    let mut restore = Command::new(criu);
    restore
        .arg("restore")
        .arg("-D")
        .arg(images)
        .args(["-o", "restore.log", "-v4"]);
    let mut restore = Spawned::start(&mut restore)?;
    let log = images.join("restore.log");
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("Restore finished successfully"))
    {
        if restore.has_ended()? || Instant::now() > deadline {
            return Err(with_log(Failure::new("trial restore fails"), &log));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let comm =
        fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    if comm.trim_end() != "sleep" {
        return Err(Failure::new(format!(
            "the restored process is `{}` where `sleep` is expected",
            comm.trim_end()
        )));
    }
    kill_process(pid, Signal::KILL).doing("cannot end the restored process")?;
    restore.reap()
}

fn with_log(failure: Failure, log: &Path) -> Failure {
    let text = fs::read_to_string(log).unwrap_or_default();
    let errors: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("Error (") || line.contains("Warn  ("))
        .collect();
    failure.while_doing(format_args!(
        "the log says\n{}\n",
        tool::tail(&errors.join("\n"), 12)
    ))
}

/// A child that is ended and reaped when nobody waits for it any more.
struct Spawned {
    child: Child,
    words: String,
}

impl Spawned {
    fn start(command: &mut Command) -> Outcome<Self> {
        let words = tool::words(command);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .doing(format_args!("cannot start {words}"))?;
        Ok(Spawned { child, words })
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn wait_until_it_runs(&mut self, name: &str) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        let comm = format!("/proc/{}/comm", self.child.id());
        while !fs::read_to_string(&comm).is_ok_and(|text| text.trim_end() == name) {
            if self.has_ended()? || Instant::now() > deadline {
                return Err(Failure::new(format!("{} did not start", self.words)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn has_ended(&mut self) -> Outcome<bool> {
        Ok(self
            .child
            .try_wait()
            .doing(format_args!("cannot wait for {}", self.words))?
            .is_some())
    }

    /// Waits for the end, which must be a success.
    fn finish(mut self) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self
                .child
                .try_wait()
                .doing(format_args!("cannot wait for {}", self.words))?
            {
                return if status.success() {
                    Ok(())
                } else {
                    Err(Failure::new(format!("{} ended with {status}", self.words)))
                };
            }
            if Instant::now() > deadline {
                return Err(Failure::new(format!("{} hangs", self.words)));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end, whatever it is.
    fn reap(&mut self) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended()? {
            if Instant::now() > deadline {
                return Err(Failure::new(format!("{} does not end", self.words)));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
