//! A process that dumps itself and is told on which side of the checkpoint it wakes up.
//!
//! The program starts itself a second time, as the process in a session of its own. Needs root and CRIU.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};

use criu::{Criu, Dump, Restore, Target};

fn main() -> Result<(), Box<dyn Error>> {
    if let Some(images) = std::env::args_os().nth(1) {
        return dump_myself(Path::new(&images));
    }
    let images = std::env::temp_dir().join(format!("self_dump-{}", std::process::id()));
    std::fs::create_dir(&images)?;
    let result = start_and_restore(&images);
    std::fs::remove_dir_all(&images)?;
    result
}

/// What the process does: the call returns in its restored copy, perhaps days later.
fn dump_myself(images: &Path) -> Result<(), Box<dyn Error>> {
    let outcome = Criu::find()?.dump(&Dump::new(Target::Caller, images))?;
    if outcome.restored {
        std::fs::write(images.join("said"), "I was dumped, and I am back")?;
    }
    Ok(())
}

fn start_and_restore(images: &Path) -> Result<(), Box<dyn Error>> {
    let mut process = Command::new("setsid")
        .arg(std::env::current_exe()?)
        .arg(images)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    println!("the process dumped itself: {}", process.wait()?);

    let mut restore = Restore::new(images);
    restore.as_child = true;
    let child = Criu::find()?.restore(&restore)?.child.ok_or("no child")?;
    println!("its copy ended with {}", child.wait()?);
    println!(
        "and said: {}",
        std::fs::read_to_string(images.join("said"))?
    );
    Ok(())
}
