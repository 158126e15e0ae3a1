//! Checkpoints a process and brings it back: `dump_restore PID DIRECTORY`.
//!
//! Without arguments it starts a process of its own to do it to. Needs root and CRIU.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::process::{Command, Stdio};

use criu::{Criu, Dump, Restore};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    if let (Some(pid), Some(images)) = (arguments.next(), arguments.next()) {
        dump(pid.parse()?, &images)?;
        let restored = Criu::find()?.restore(&Restore::new(images.as_str()))?;
        println!("process {} runs again", restored.pid);
        return Ok(());
    }

    let images = std::env::temp_dir().join(format!("dump_restore-{}", std::process::id()));
    std::fs::create_dir(&images)?;
    let result = there_and_back(&images.display().to_string());
    std::fs::remove_dir_all(&images)?;
    result
}

fn there_and_back(images: &str) -> Result<(), Box<dyn Error>> {
    // A session of its own and no terminal: nothing of it reaches outside.
    let mut process = Command::new("setsid")
        .args(["sleep", "1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    dump(i32::try_from(process.id())?, images)?;
    // Until it is reaped its process id is taken, and the restored process gets the same one.
    println!("dumped process: {}", process.wait()?);

    let mut restore = Restore::new(images);
    restore.as_child = true;
    let outcome = Criu::find()?.restore(&restore)?;
    println!("process {} runs again", outcome.pid);
    if let Some(child) = outcome.child {
        child.kill()?;
        println!("restored process: {}", child.wait()?);
    }
    Ok(())
}

fn dump(pid: i32, images: &str) -> Result<(), Box<dyn Error>> {
    let criu = Criu::find()?; // $CRIU, or `criu` on PATH
    println!("CRIU {}", criu.version()?);
    let dumped = criu.dump(&Dump::new(pid, images))?;
    if let Some(statistics) = dumped.statistics {
        println!(
            "frozen for {:?}, {} pages written",
            statistics.frozen, statistics.pages_written
        );
    }
    Ok(())
}
