//! `crit decompress`.

use std::path::PathBuf;

use criu_inspect::rewrite::{self, DecompressOptions, Outcome};

use super::compress::backups;
use super::problem::Problem;
use super::progress::Progress;
use crate::output::{visible, write_stdout};

/// Decompress memory pages in a checkpoint directory
///
/// After that every CRIU restores it. All images change together or not at all; the compressed ones are kept
/// as NAME.bak.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  crit decompress --in-place /var/lib/checkpoint")]
pub(super) struct Arguments {
    /// The checkpoint
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Skip creating backup files
    #[arg(long)]
    in_place: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let mut options = DecompressOptions::default();
    options.backups = backups(arguments.in_place);
    let progress = Progress::watch()?;
    let outcome = rewrite::decompress(&arguments.directory, options, &progress)
        .map_err(Problem::rewrite("decompress", &arguments.directory))?;
    drop(progress);
    let directory = visible(&arguments.directory.to_string_lossy());
    let text = match outcome {
        Outcome::Unneeded => format!("Checkpoint in {directory} is already decompressed\n"),
        Outcome::Rewritten(maps) => {
            let mut text = format!("Decompressing checkpoint in {directory}\n");
            for map in maps {
                text += &format!(
                    "  {}: {} pages ({}K -> {}K)\n",
                    map.name,
                    map.pages,
                    map.bytes_read / 1024,
                    map.bytes_written / 1024,
                );
            }
            text + "Done\n"
        }
        _ => format!("No pagemap files found in {directory}\n"),
    };
    write_stdout(&text).map_err(Problem::stdout)
}
