//! Restores a process that writes into a pipe, with a new pipe of ours in its place. Needs root and CRIU.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use criu::request::DescriptorKey;
use criu::{Criu, Dump, InheritFd, Restore};

fn main() -> Result<(), Box<dyn Error>> {
    let images = std::env::temp_dir().join(format!("inherit_fd-{}", std::process::id()));
    std::fs::create_dir(&images)?;
    let result = change_pipes(&images);
    std::fs::remove_dir_all(&images)?;
    result
}

fn change_pipes(images: &Path) -> Result<(), Box<dyn Error>> {
    // `yes` writes whenever there is room.
    let (reader, writer) = std::io::pipe()?;
    let mut process = Command::new("setsid")
        .args(["yes", "still here"])
        .stdin(Stdio::null())
        .stdout(writer)
        .stderr(Stdio::null())
        .spawn()?;
    let pid = i32::try_from(process.id())?;
    // The pipe's id is its inode number, as in the link `pipe:[ID]`.
    let id = std::fs::metadata(format!("/proc/{pid}/fd/1"))?.ino();

    let criu = Criu::find()?;
    criu.dump(&Dump::new(pid, images))?;
    process.wait()?;
    drop(reader);

    let (reader, writer) = std::io::pipe()?;
    let mut restore = Restore::new(images);
    let key = DescriptorKey::Pipe(u32::try_from(id)?);
    restore.inherit_fds.push(InheritFd::new(key, &writer)?);
    restore.as_child = true;
    let outcome = criu.restore(&restore)?;
    // The process has its own copies; ours would keep the pipe open after its end.
    drop((writer, restore));

    let mut lines = BufReader::new(reader).lines();
    println!(
        "the restored process says: {}",
        lines.next().ok_or("nothing")??
    );
    if let Some(child) = outcome.child {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}
