//! Where tasks play with a process that counts, cleared away however they end.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, waitpid};

use crate::failure::{Doing, Failure, Outcome};
use crate::tool;

/// How long a process may take for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of its own under the temporary one. It and every process started from a program in it go away on drop, and also when
/// this program is killed or interrupted: a shell waits for that on the other end of a pipe.
pub(crate) struct Stage {
    pub(crate) directory: PathBuf,
    cleaner: Child,
    /// The counting process, which may have become our child anew when it was restored.
    counter: Option<Pid>,
}

impl Stage {
    /// Makes the directory, with the program that counts in it.
    pub(crate) fn set(counter: &Path) -> Outcome<Self> {
        // A restored process is an orphan: it shall become ours, so that nothing of it stays behind.
        set_child_subreaper(Some(getpid())).doing("cannot adopt restored processes")?;
        let directory = std::env::temp_dir().join(format!("criu-stage-{}", std::process::id()));
        fs::create_dir(&directory).doing(format_args!("cannot create {}", directory.display()))?;
        // In a session of its own, where Ctrl-C does not reach it. Programs are told by their executable, which lies
        // in a directory only this stage knows.
        let script = "trap '' INT TERM HUP; read -r _; for p in /proc/[0-9]*; do case \"$(readlink \"$p/exe\")\" in \
                      \"$0\"/*) kill -9 \"${p#/proc/}\";; esac; done; rm -rf \"$0\"";
        let cleaner = Command::new("setsid")
            .args(["sh", "-c", script])
            .arg(&directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .doing("cannot run setsid")
            .inspect_err(|_| drop(fs::remove_dir_all(&directory)))?;
        let stage = Stage {
            directory,
            cleaner,
            counter: None,
        };
        for name in ["state", "bin"] {
            let path = stage.directory.join(name);
            fs::create_dir(&path).doing(format_args!("cannot create {}", path.display()))?;
        }
        fs::copy(counter, stage.program())
            .doing(format_args!("cannot copy {}", counter.display()))?;
        Ok(stage)
    }

    /// The command that [`Stage::start_counter`] runs, as a person would type it.
    pub(crate) fn counter_command(&self) -> String {
        tool::words(&self.command())
    }

    /// Starts the process and waits until it counts.
    pub(crate) fn start_counter(&mut self) -> Outcome<Child> {
        let child = self
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .doing(format_args!("cannot run {}", self.program().display()))?;
        self.counter = Some(Pid::from_child(&child));
        wait_for(|| Ok(self.count() > 0))
            .map_err(|failure| failure.while_doing("the process does not count"))?;
        Ok(child)
    }

    /// How far the process has counted; it writes that to a file.
    pub(crate) fn count(&self) -> u64 {
        let text = fs::read_to_string(self.directory.join("state/count")).unwrap_or_default();
        text.trim().parse().unwrap_or(0)
    }

    /// Prints how the process counts.
    pub(crate) fn watch(&self, pid: i32, times: u32) -> Outcome<()> {
        print!("   process {pid} counts:");
        for _ in 0..times {
            std::thread::sleep(Duration::from_millis(250));
            print!(" {}", self.count());
            std::io::stdout()
                .flush()
                .doing("cannot write to standard output")?;
        }
        println!();
        Ok(())
    }

    fn program(&self) -> PathBuf {
        self.directory.join("bin/counter")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program());
        command
            .arg(self.directory.join("state"))
            .current_dir("/")
            .env_clear();
        command
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // The end of its input is its sign to clean up.
        drop(self.cleaner.stdin.take());
        let _ = self.cleaner.wait();
        if let Some(counter) = self.counter {
            // Killed by now; fails at once if it is not our child, or was waited for.
            let _ = waitpid(Some(counter), WaitOptions::empty());
        }
    }
}

/// Waits until the condition holds.
pub(crate) fn wait_for(mut condition: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition()? {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("{PATIENCE:?} have passed")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
