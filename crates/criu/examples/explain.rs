//! Explains a CRIU log: `explain dump.log`, or `explain < dump.log`.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use criu::diagnose::{Verdict, diagnose};
use criu::log::{Limits, Log};

fn main() -> io::Result<ExitCode> {
    let log = match std::env::args_os().nth(1) {
        Some(path) => Log::read(File::open(path)?, Limits::default())?,
        None => Log::read(io::stdin().lock(), Limits::default())?,
    };
    let verdict = diagnose(&log);
    writeln!(io::stdout(), "{verdict}")?;
    Ok(match verdict {
        Verdict::NoFailure(_) => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}
