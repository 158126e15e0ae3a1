//! Reacts to CRIU's notifications: with a closure, with a trait, and by refusing. Needs root and CRIU.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use criu::{Criu, Dump, Event, FinalState, HookResult, Hooks, Restore};

/// Copies the images elsewhere while the tasks are frozen, so that files and memory fit together.
struct Archive {
    copied: usize,
    images: std::path::PathBuf,
}

impl Hooks for Archive {
    fn post_dump(&mut self) -> HookResult {
        self.copied = std::fs::read_dir(&self.images)?.count();
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let images = std::env::temp_dir().join(format!("hooks-{}", std::process::id()));
    std::fs::create_dir(&images)?;
    let mut process = Command::new("setsid")
        .args(["sleep", "1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let result = react(&mut process, &images);
    let _ = process.kill();
    let _ = process.wait();
    std::fs::remove_dir_all(&images)?;
    result
}

fn react(process: &mut Child, images: &Path) -> Result<(), Box<dyn Error>> {
    let criu = Criu::find()?;
    let mut dump = Dump::new(i32::try_from(process.id())?, images);
    dump.then = FinalState::Running;

    // A hook that fails ends the dump; CRIU cleans up and the process runs on.
    let mut refuse = |event: Event<'_>| match event {
        Event::PostDump => Err("no room for the copy".into()),
        _ => Ok(()),
    };
    match criu.dump_with(&dump, &mut refuse) {
        Err(criu::Error::Hook { hook, source, .. }) => println!("{hook} refused: {source}"),
        other => return Err(format!("a refusal was expected: {other:?}").into()),
    }

    let mut archive = Archive {
        copied: 0,
        images: images.to_owned(),
    };
    dump.then = FinalState::Killed;
    criu.dump_with(&dump, &mut archive)?;
    println!(
        "{} files were there while the tasks were frozen",
        archive.copied
    );
    process.wait()?;

    let mut seen = Vec::new();
    let mut watch = |event: Event<'_>| {
        seen.push(format!("{event:?}"));
        Ok(())
    };
    let mut restore = Restore::new(images);
    restore.as_child = true;
    let outcome = criu.restore_with(&restore, &mut watch)?;
    println!("restore went through {}", seen.join(", "));
    if let Some(child) = outcome.child {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}
