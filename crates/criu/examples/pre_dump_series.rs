//! Copies the memory of a running process in rounds, so that the last one freezes it only briefly.
//! Needs root, CRIU, and a kernel that tracks memory changes.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use criu::{Criu, Dump, Feature, PreDump};

const ROUNDS: u32 = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let criu = Criu::find()?;
    if !criu.features()?.contains(Feature::MemoryTracking) {
        println!(
            "no pre-dumps here: {} {}",
            Feature::MemoryTracking,
            Feature::MemoryTracking.remedy()
        );
        return Ok(());
    }
    let images = std::env::temp_dir().join(format!("pre_dump_series-{}", std::process::id()));
    std::fs::create_dir(&images)?;
    let mut process = Command::new("setsid")
        .args(["sleep", "1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let result = series(&criu, &process, &images);
    end(&mut process)?;
    std::fs::remove_dir_all(&images)?;
    result
}

fn series(criu: &Criu, process: &Child, images: &Path) -> Result<(), Box<dyn Error>> {
    let pid = i32::try_from(process.id())?;
    // All rounds go over one connection, which the dump ends.
    let mut session = criu.session()?;
    for round in 1..=ROUNDS {
        let directory = images.join(round.to_string());
        std::fs::create_dir(&directory)?;
        // Each directory names the one before it, relative to itself.
        let parent = (round > 1).then(|| format!("../{}", round - 1).into());
        let statistics = if round < ROUNDS {
            let mut pre_dump = PreDump::new(pid, &directory);
            pre_dump.parent = parent;
            session.pre_dump(&pre_dump)?.statistics
        } else {
            let mut dump = Dump::new(pid, &directory);
            dump.parent = parent;
            dump.track_memory = true;
            let statistics = session.dump(&dump)?.statistics;
            println!("{statistics:?}");
            return Ok(());
        };
        let pages = statistics.map_or(0, |statistics| statistics.pages_written);
        println!("round {round}: {pages} pages");
    }
    Ok(())
}

fn end(process: &mut Child) -> std::io::Result<()> {
    process.kill()?;
    process.wait().map(drop)
}
