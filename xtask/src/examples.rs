//! The examples, each run as its own first line says.
//!
//! An example opens with what it does and, in back quotes, how it is called: `NAME WORD...`. Run here, it finds the
//! file `dump.log` of a good dump in its working directory; `PID` stands for a process that counts and `DIRECTORY` for
//! an empty directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::criu::target_directory;
use crate::failure::{Doing, Failure, Outcome};
use crate::licences::text_of;
use crate::stage::Stage;
use crate::tool;

/// How long an example may run.
const PATIENCE: Duration = Duration::from_secs(120);

/// One example of the workspace.
pub(crate) struct Example {
    pub(crate) name: String,
    source: PathBuf,
}

/// All examples of the workspace's members, from what `cargo metadata` says.
pub(crate) fn all(metadata: &Value) -> Vec<Example> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let members = list(&metadata["workspace_members"]);
    let mut examples = Vec::new();
    for package in list(&metadata["packages"])
        .iter()
        .filter(|package| members.contains(&package["id"]))
    {
        for target in list(&package["targets"]) {
            if list(&target["kind"]).iter().any(|kind| kind == "example") {
                examples.push(Example {
                    name: text_of(&target["name"]).to_owned(),
                    source: PathBuf::from(text_of(&target["src_path"])),
                });
            }
        }
    }
    examples
}

/// The log of a dump that went well.
pub(crate) fn good_log(criu: &Path) -> Outcome<Vec<u8>> {
    let mut stage = Stage::set(&counter())?;
    let mut process = stage.start_counter()?;
    let images = stage.directory.join("images");
    fs::create_dir(&images).doing(format_args!("cannot create {}", images.display()))?;
    let dumped = tool::output(
        Command::new(criu)
            .args([
                "dump",
                "--leave-running",
                "-v4",
                "-o",
                "dump.log",
                "-t",
                &process.id().to_string(),
                "-D",
            ])
            .arg(&images),
    );
    let _ = process.kill();
    let _ = process.wait();
    dumped?;
    fs::read(images.join("dump.log")).doing("the dump left no log")
}

impl Example {
    /// Runs it by `command`, which names the program; it must end well, in time.
    pub(crate) fn run(&self, mut command: Command, log: &[u8]) -> Outcome<()> {
        let source = fs::read_to_string(&self.source)
            .doing(format_args!("cannot read {}", self.source.display()))?;
        let mut stage = Stage::set(&counter())?;
        let work = stage.directory.join("work");
        fs::create_dir(&work).doing(format_args!("cannot create {}", work.display()))?;
        fs::write(work.join("dump.log"), log).doing("cannot write dump.log")?;
        let mut typed = vec![self.name.clone()];
        for word in usage(&source, &self.name) {
            typed.push(match word.as_str() {
                "PID" => {
                    let process = stage.start_counter()?;
                    let pid = process.id().to_string();
                    reap_when_dumped(process);
                    pid
                }
                "DIRECTORY" => {
                    let directory = stage.directory.join("images");
                    fs::create_dir_all(&directory)
                        .doing(format_args!("cannot create {}", directory.display()))?;
                    directory.display().to_string()
                }
                _ => word,
            });
        }
        println!("$ {}", typed.join(" "));
        command
            .args(&typed[1..])
            .current_dir(&work)
            .stdin(Stdio::null());
        let mut child = command
            .spawn()
            .doing(format_args!("cannot run {}", self.name))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().doing("cannot wait for it")? {
                return if status.success() {
                    Ok(())
                } else {
                    Err(Failure::new(format!("it ended with {status}")))
                };
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Failure::new(format!("it still ran after {PATIENCE:?}")));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The words after the name in the first back-quoted command line of the first line; none if there is no such.
fn usage(source: &str, name: &str) -> Vec<String> {
    let first = source.lines().next().unwrap_or_default();
    let mut quoted = first
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::split_whitespace);
    let command = quoted.find_map(|mut words| (words.next() == Some(name)).then_some(words));
    command
        .map(|words| words.map(str::to_owned).collect())
        .unwrap_or_default()
}

/// The zombie of a dumped process would be in the way of its restore, so somebody waits for it all the time.
fn reap_when_dumped(mut process: Child) {
    std::thread::spawn(move || process.wait());
}

fn counter() -> PathBuf {
    target_directory().join("debug/criu-testkit-target")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_tells_how_to_call_it() {
        let words = |source| usage(source, "explain");
        assert_eq!(
            words("//! Explains: `explain dump.log`, or `explain < x`.\n"),
            ["dump.log"]
        );
        assert_eq!(
            words("//! Uses `Criu` in `explain PID DIRECTORY`.\n"),
            ["PID", "DIRECTORY"]
        );
        assert!(words("//! Just explains.\n//! `explain x`\n").is_empty());
        assert!(words("").is_empty());
    }
}
