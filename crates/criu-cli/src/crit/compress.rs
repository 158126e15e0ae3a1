//! `crit compress`.

use std::path::PathBuf;

use criu_inspect::rewrite::{self, Backups, CompressOptions, Outcome};

use super::problem::Problem;
use super::progress::Progress;
use crate::output::{visible, write_stdout};

/// Compress memory pages in a checkpoint directory
///
/// In the form of CRIU 4.3, which must be built with LZ4 to restore it. All images change together or not
/// at all; the plain ones are kept as NAME.bak.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  crit compress --in-place /var/lib/checkpoint")]
pub(super) struct Arguments {
    /// The checkpoint
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Skip creating backup files
    #[arg(long)]
    in_place: bool,
    /// Has no effect (for the command lines of Python's tool): our LZ4 has one speed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65537))]
    acceleration: u32,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    if arguments.acceleration != 1 {
        eprintln!("crit: --acceleration has no effect: this LZ4 has one speed");
    }
    let mut options = CompressOptions::default();
    options.backups = backups(arguments.in_place);
    let progress = Progress::watch()?;
    let outcome = rewrite::compress(&arguments.directory, options, &progress)
        .map_err(Problem::rewrite("compress", &arguments.directory))?;
    drop(progress);
    let directory = visible(&arguments.directory.to_string_lossy());
    let text = match outcome {
        Outcome::Unneeded => format!("Checkpoint in {directory} is already compressed\n"),
        Outcome::Rewritten(maps) => {
            let mut text = format!("Compressing checkpoint in {directory}\n");
            for map in maps.iter().filter(|map| map.bytes_read > 0) {
                // In thousandths, and below zero where padding outweighs what was saved.
                let (read, written) = (i128::from(map.bytes_read), i128::from(map.bytes_written));
                let saved = (read - written) * 1000 / read;
                let sign = if saved < 0 { "-" } else { "" };
                text += &format!(
                    "  {}: {} pages ({}K -> {}K, {sign}{}.{}% saved)\n",
                    map.name,
                    map.pages,
                    map.bytes_read / 1024,
                    map.bytes_written / 1024,
                    saved.abs() / 10,
                    saved.abs() % 10,
                );
            }
            text + "Done\n"
        }
        _ => format!("No pagemap files found in {directory}\n"),
    };
    write_stdout(&text).map_err(Problem::stdout)
}

/// What `--in-place` says.
pub(super) fn backups(in_place: bool) -> Backups {
    match in_place {
        true => Backups::Discard,
        false => Backups::Keep,
    }
}
