//! Dumps two processes at once on tokio, with a time limit and a hook that waits. Needs root and CRIU.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criu::asynchronous::{Criu, Hooks};
use criu::{Dump, Event, FinalState, HookResult};

/// Takes its time while the tasks are frozen, as one that tells another host would.
struct Announce;

impl Hooks for Announce {
    async fn on(&mut self, event: Event<'_>) -> HookResult {
        if let Event::PostDump = event {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::temp_dir().join(format!("async-{}", std::process::id()));
    let mut processes = Vec::new();
    for _ in 0..2 {
        let mut sleep = Command::new("setsid");
        sleep.args(["sleep", "1000"]).stdin(Stdio::null());
        processes.push(sleep.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    }
    let result = dump_both(&processes, &place).await;
    for mut process in processes {
        process.kill()?;
        process.wait()?;
    }
    std::fs::remove_dir_all(&place)?;
    result
}

async fn dump_both(processes: &[Child], place: &Path) -> Result<(), Box<dyn Error>> {
    let criu = Criu::find()?.with_timeout(Duration::from_secs(30));
    println!("CRIU {}", criu.version().await?);
    let mut dumps = Vec::new();
    for process in processes {
        let images = place.join(process.id().to_string());
        std::fs::create_dir_all(&images)?;
        let mut dump = Dump::new(i32::try_from(process.id())?, images);
        dump.then = FinalState::Running;
        dumps.push(dump);
    }
    let (mut first, mut second) = (Announce, Announce);
    let (first, second) = tokio::try_join!(
        criu.dump_with(&dumps[0], &mut first),
        criu.dump_with(&dumps[1], &mut second),
    )?;
    for statistics in [first.statistics, second.statistics].into_iter().flatten() {
        println!("frozen for {:?}", statistics.frozen);
    }

    // A future that is dropped ends its worker; the process is not harmed.
    let brief = tokio::time::timeout(Duration::from_millis(1), criu.dump(&dumps[0])).await;
    println!(
        "in a millisecond: {}",
        if brief.is_ok() { "dumped" } else { "given up" }
    );
    Ok(())
}
