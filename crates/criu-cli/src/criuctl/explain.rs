//! `criuctl explain`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use criu::diagnose::{Verdict, diagnose};
use criu::log::{Limits, Log};
use serde_json::json;

use super::Global;
use super::report::{Problem, diagnosis_json, result};
use crate::output::json_path;

/// Names CRIU, container engines and this toolkit give to CRIU's log, likeliest first.
const LOG_NAMES: [&str; 7] = [
    "criu.log",
    "restore.log",
    "dump.log",
    "criu-restore.log",
    "criu-dump.log",
    "work/restore.log",
    "work/dump.log",
];

/// Explain a log of CRIU's: the line that names the first cause, what it means, and what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  criuctl explain /tmp/images             the log in an images or working directory
  criuctl explain dump.log
  podman container restore web 2>&1 | criuctl explain -

Exit status: 0 no failure found; 1 a failure was found and explained; 2 the log cannot be read.")]
pub(super) struct Arguments {
    /// A log, a directory with one, or `-` for standard input
    #[arg(value_name = "LOG|DIR", default_value = "-")]
    log: PathBuf,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Problem> {
    let (path, source) = open(&arguments.log)?;
    let log = Log::read(source, Limits::default())
        .map_err(Problem::io(format!("read {}", path.display())))?;
    let verdict = diagnose(&log);
    let shown = json_path(&path);
    let value = match &verdict {
        Verdict::Failure(diagnosis) => {
            json!({ "log": shown, "failure": diagnosis_json(diagnosis) })
        }
        _ => json!({ "log": shown, "failure": null, "note": verdict.to_string() }),
    };
    result(global, &value, || format!("{verdict}\n"))?;
    Ok(match verdict {
        Verdict::Failure(_) => ExitCode::from(1),
        _ => ExitCode::SUCCESS,
    })
}

fn open(path: &Path) -> Result<(PathBuf, Box<dyn Read>), Problem> {
    if path == Path::new("-") {
        return Ok(("standard input".into(), Box::new(io::stdin().lock())));
    }
    if !path.is_dir() {
        let file = File::open(path).map_err(Problem::io(format!("open {}", path.display())))?;
        return Ok((path.to_owned(), Box::new(file)));
    }
    // The newest of the logs there is the one of the last try.
    let logs = LOG_NAMES.iter().map(|name| path.join(name));
    let newest = logs
        .filter_map(|log| Some((log.metadata().ok()?.modified().ok()?, log)))
        .max_by_key(|(modified, _)| *modified);
    let Some((_, log)) = newest else {
        return Err(Problem::Usage(format!(
            "{} holds no log of CRIU's ({})",
            path.display(),
            LOG_NAMES.join(", ")
        )));
    };
    let file = File::open(&log).map_err(Problem::io(format!("open {}", log.display())))?;
    Ok((log, Box::new(file)))
}
