//! `cargo test`, watched: its lines passed on and counted, its time limited, its leftovers not waited for.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::failure::{Doing, Failure, Outcome};
use crate::tool;

/// How long all tests together may take.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// How long lines may still come after cargo has ended.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Tests counted from the harness's closing lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
}

impl Tally {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; ...`.
    pub(crate) fn count(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else {
            return;
        };
        let Some((_, counts)) = rest.split_once(". ") else {
            return;
        };
        for part in counts.split("; ") {
            if let Some((number, what)) = part.split_once(' ')
                && let Ok(number) = number.parse::<usize>()
            {
                match what {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    "ignored" => self.ignored += number,
                    _ => {}
                }
            }
        }
    }
}

/// Runs the tests; gives their number, also when some failed.
pub(crate) fn run(command: Command) -> (Tally, Outcome<()>) {
    run_within(command, Some(PATIENCE))
}

/// As [`run`], with another limit or none.
pub(crate) fn run_within(mut command: Command, patience: Option<Duration>) -> (Tally, Outcome<()>) {
    let mut tally = Tally::default();
    let outcome = run_counting(&mut command, patience, &mut tally).and_then(|status| {
        if tally.passed == 0 {
            return Err(Failure::new("not one test ran"));
        }
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{} ended with {status}",
            tool::words(&command)
        )))
    });
    (tally, outcome)
}

fn run_counting(
    command: &mut Command,
    patience: Option<Duration>,
    tally: &mut Tally,
) -> Outcome<ExitStatus> {
    let words = tool::words(command);
    // Alone in a group, all of it can be ended at once. At a terminal that would take Ctrl-C away from it.
    let in_group = std::env::var_os("CI").is_some();
    if in_group {
        command.process_group(0);
    }
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .doing(format_args!("cannot run {words}"))?;
    let lines = lines_of(&mut child);
    let began = Instant::now();
    loop {
        pass_on(&lines, tally, Instant::now() + Duration::from_millis(100));
        if let Some(status) = child
            .try_wait()
            .doing(format_args!("cannot wait for {words}"))?
        {
            // A process that a test left behind may hold the pipe open for ever.
            if !pass_on(&lines, tally, Instant::now() + LAST_LINES) {
                println!("(a process left behind by the tests still holds their output)");
            }
            return Ok(status);
        }
        if let Some(patience) = patience
            && began.elapsed() > patience
        {
            if in_group {
                let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            }
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failure::new(format!(
                "{words} still ran after {} minutes",
                patience.as_secs() / 60
            )));
        }
    }
}

/// The lines the child prints, read by a thread of their own.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                if sender
                    .send(
                        String::from_utf8_lossy(&line)
                            .trim_end_matches('\n')
                            .to_owned(),
                    )
                    .is_err()
                {
                    return;
                }
                line.clear();
            }
        });
    }
    receiver
}

/// Prints and counts the lines that come until then; whether their end has come.
fn pass_on(lines: &Receiver<String>, tally: &mut Tally, until: Instant) -> bool {
    loop {
        match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                println!("{line}");
                tally.count(&line);
            }
            Err(RecvTimeoutError::Timeout) => return false,
            Err(RecvTimeoutError::Disconnected) => {
                // Not a busy loop for the caller while cargo itself still ends.
                std::thread::sleep(Duration::from_millis(10));
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
            "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out; finished in 0.00s",
            "test test result: ok ... ok",
        ] {
            tally.count(line);
        }
        assert_eq!(
            tally,
            Tally {
                passed: 4,
                failed: 2,
                ignored: 1
            }
        );
    }

    #[test]
    fn a_process_left_behind_does_not_hold_the_run_up() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "sleep 20 & echo 'test result: ok. 2 passed; 0 failed; 0 ignored'",
        ]);
        let start = Instant::now();
        let (tally, outcome) = run(command);
        assert!(outcome.is_ok());
        assert_eq!(tally.passed, 2);
        assert!(start.elapsed() < Duration::from_secs(15));
    }

    #[test]
    fn a_run_without_a_test_is_a_failure() {
        let (_, outcome) = run(Command::new("true"));
        assert_eq!(
            outcome.expect_err("nothing ran").to_string(),
            "not one test ran"
        );
    }
}
