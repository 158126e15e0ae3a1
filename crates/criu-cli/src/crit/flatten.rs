//! `crit flatten`.

use std::path::PathBuf;

use criu_inspect::rewrite::{self, FlattenOptions, Outcome};

use super::compress::backups;
use super::problem::Problem;
use super::progress::Progress;
use super::size::ByteSize;
use crate::output::{visible, write_stdout};

/// Make one checkpoint of a chain of incremental ones
///
/// Takes the pages that the checkpoint has in its parents into it, and the link to them away, so that it can be
/// restored without them. The parents stay as they are. All images change together or not at all. Pages are
/// uncompressed afterwards.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  crit flatten /var/lib/checkpoint/3                    in place; old images are kept as NAME.bak
  crit flatten /var/lib/checkpoint/3 -o /tmp/flat       into a new directory")]
pub(super) struct Arguments {
    /// The newest checkpoint of the chain
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Leave the checkpoint as it is, and write a new one into this directory
    #[arg(short, long, value_name = "OUT", conflicts_with = "in_place")]
    output: Option<PathBuf>,
    /// Skip creating backup files
    #[arg(long)]
    in_place: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let mut options = FlattenOptions::default();
    options.backups = backups(arguments.in_place);
    let progress = Progress::watch()?;
    let directory = &arguments.directory;
    let outcome = match &arguments.output {
        Some(output) => rewrite::flatten_into(directory, output, options, &progress),
        None => rewrite::flatten(directory, options, &progress),
    }
    .map_err(Problem::rewrite("flatten", directory))?;
    drop(progress);
    let result = arguments.output.as_ref().unwrap_or(directory);
    let result = visible(&result.to_string_lossy());
    let text = match outcome {
        Outcome::Unneeded => format!("{result} has no parent\n"),
        Outcome::Rewritten(maps) => {
            let mut text = String::new();
            for map in maps {
                let size = ByteSize(map.bytes_written);
                text += &format!("{}: {} pages, {size}\n", map.name, map.pages);
            }
            text + &format!("{result} needs no parent\n")
        }
        _ => format!("{result} has no pages\n"),
    };
    write_stdout(&text).map_err(Problem::stdout)
}
