//! Checkpoints a running process and brings it back: `dump_restore PID DIRECTORY`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use criu::{Criu, Dump, Event, Restore};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(pid), Some(images)) = (arguments.next(), arguments.next()) else {
        return Err("usage: dump_restore PID DIRECTORY".into());
    };

    let criu = Criu::find()?;
    println!("CRIU {} with {:?}", criu.version()?, criu.features()?);

    let dump = Dump::new(pid.parse::<i32>()?, images.as_str());
    let mut hooks = |event: Event<'_>| {
        println!("dump: {event:?}");
        Ok(())
    };
    let dumped = criu.dump_with(&dump, &mut hooks)?;
    if let Some(statistics) = dumped.statistics {
        println!(
            "frozen for {:?}, {} pages written",
            statistics.frozen, statistics.pages_written
        );
    }

    let restored = criu.restore(&Restore::new(images.as_str()))?;
    println!("process {} runs again", restored.pid);
    Ok(())
}
