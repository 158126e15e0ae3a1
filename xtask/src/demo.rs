//! `cargo xtask demo`: a running process is taken off the machine and put back, step by step.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::criu::{self, target_directory, workspace_directory};
use crate::failure::{Doing, Failure, Outcome};
use crate::stage::{Stage, wait_for};
use crate::tool;

/// `cargo xtask demo`.
pub(crate) fn task(arguments: &[String]) -> Outcome<()> {
    if !arguments.is_empty() {
        return Err(Failure::new("usage: cargo xtask demo"));
    }
    println!("1. A CRIU that works on this machine");
    let criu = criu::any()?;
    println!("   {} (version {})", criu.path.display(), criu.version);
    println!("2. Our commands, built");
    let programs = build()?;
    println!("   {}", programs.criuctl.display());
    let start = Instant::now();
    let mut stage = Stage::set(&programs.counter)?;
    play(&mut stage, &programs, &criu.path)?;
    drop(stage);
    println!(
        "Done in {:.1} s; process and files are gone.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn play(stage: &mut Stage, programs: &Programs, criu: &Path) -> Outcome<()> {
    println!("3. A process that counts");
    println!("   $ {}", stage.counter_command());
    let mut counter = stage.start_counter()?;
    let pid = Pid::from_child(&counter);
    let number = pid.as_raw_nonzero();
    stage.watch(number.get(), 3)?;

    println!("4. Checkpoint: the process is written to files and taken off the machine");
    let images = stage.directory.join("checkpoint");
    fs::create_dir(&images).doing(format_args!("cannot create {}", images.display()))?;
    let images_text = images.display().to_string();
    show(
        Command::new(&programs.criuctl)
            .args(["dump", &number.to_string(), "-D", &images_text])
            .env("CRIU", criu),
    )?;
    wait_for(|| {
        Ok(counter
            .try_wait()
            .doing("cannot wait for the process")?
            .is_some())
    })
    .map_err(|failure| failure.while_doing("the dumped process does not end"))?;
    let stopped_at = stage.count();
    std::thread::sleep(Duration::from_millis(200));
    if stage.count() != stopped_at || Path::new(&format!("/proc/{number}")).exists() {
        return Err(Failure::new(format!(
            "process {number} is still there after its checkpoint"
        )));
    }
    println!("   process {number} is gone; it had counted to {stopped_at}");

    println!("5. What the checkpoint holds");
    list(&images)?;
    if let Some(crit) = &programs.crit {
        show(Command::new(crit).args(["x", &images_text, "ps"]))?;
        show(Command::new(crit).args(["x", &images_text, "fds"]))?;
    }

    println!("6. Restore: the same process, from the files");
    show(
        Command::new(&programs.criuctl)
            .args(["restore", "-D", &images_text, "--restore-detached"])
            .env("CRIU", criu),
    )?;
    wait_for(|| Ok(stage.count() > stopped_at))
        .map_err(|failure| failure.while_doing("the restored process does not count"))?;
    let first = stage.count();
    if first > stopped_at + 1000 {
        return Err(Failure::new(format!(
            "the process went on at {first}, having stopped at {stopped_at}"
        )));
    }
    println!("   process {number} is back and counts on from {stopped_at}");
    stage.watch(number.get(), 3)?;

    println!("7. The end");
    kill_process(pid, Signal::KILL).doing("cannot end the restored process")?;
    wait_for(|| match waitpid(Some(pid), WaitOptions::NOHANG) {
        Ok(ended) => Ok(ended.is_some()),
        // Not ours: then whoever adopted it reaps it.
        Err(rustix::io::Errno::CHILD) => Ok(!Path::new(&format!("/proc/{number}")).exists()),
        Err(error) => Err(Failure::new(format!(
            "cannot wait for process {number}: {error}"
        ))),
    })
}

/// Our programs.
struct Programs {
    criuctl: PathBuf,
    crit: Option<PathBuf>,
    counter: PathBuf,
}

fn build() -> Outcome<Programs> {
    let mut command = Command::new(tool::cargo());
    command
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "criu-cli",
            "--package",
            "criu-testkit",
            "--bins",
        ])
        .current_dir(workspace_directory())
        .stdin(Stdio::null());
    let status = command
        .status()
        .doing(format_args!("cannot run {}", tool::words(&command)))?;
    if !status.success() {
        return Err(Failure::new(format!(
            "{} ended with {status}",
            tool::words(&command)
        )));
    }
    let directory = target_directory().join("debug");
    let crit = directory.join("crit");
    Ok(Programs {
        criuctl: directory.join("criuctl"),
        crit: crit.exists().then_some(crit),
        counter: directory.join("criu-testkit-target"),
    })
}

/// Shows a command as a person would type it, and what it prints.
fn show(command: &mut Command) -> Outcome<()> {
    let typed = tool::words(command);
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    println!(
        "   $ {}",
        typed.replacen(
            &command.get_program().to_string_lossy().into_owned(),
            &name,
            1
        )
    );
    for line in tool::output(command)?.lines() {
        println!("     {line}");
    }
    Ok(())
}

fn list(images: &Path) -> Outcome<()> {
    let entries = fs::read_dir(images).doing(format_args!("cannot read {}", images.display()))?;
    let mut files: Vec<(String, u64)> = entries
        .flatten()
        .map(|entry| {
            let len = entry.metadata().map_or(0, |metadata| metadata.len());
            (entry.file_name().to_string_lossy().into_owned(), len)
        })
        .filter(|(name, _)| name.ends_with(".img"))
        .collect();
    files.sort();
    let total: u64 = files.iter().map(|(_, len)| len).sum();
    println!("   {} images, {} KiB:", files.len(), total.div_ceil(1024));
    for row in files.chunks(3) {
        let cells: Vec<String> = row
            .iter()
            .map(|(name, len)| format!("{name:<22} {len:>7}"))
            .collect();
        println!("     {}", cells.join("   "));
    }
    Ok(())
}
