//! `crit verify`.

use std::io::stdout;
use std::path::PathBuf;
use std::process::ExitCode;

use criu_image::Checkpoint;
use criu_inspect::Monitor;
use criu_inspect::verify::{Verification, verify};
use serde_json::json;

use super::problem::Problem;
use super::progress::Progress;
use super::size::ByteSize;
use crate::output::{Color, Tone, json_path, visible, write_stdout};

/// Check that checkpoints are whole
///
/// Every image decodes and comes back byte for byte; pagemaps fit pages, and compressed pages expand; what images
/// refer to exists; and the same for all that the checkpoint continues.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  crit verify /tmp/images
  crit verify /var/lib/checkpoints/* && echo all of them are sound

Exit status: 0 sound; 1 something is wrong, which is listed; 2 wrong usage.")]
pub(super) struct Arguments {
    /// A checkpoint (can be repeated)
    #[arg(value_name = "DIR", required = true)]
    directories: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Problem> {
    let progress = Progress::watch()?;
    let colored = Color::default().applies_to(&stdout());
    let mut is_sound = true;
    let mut values = Vec::new();
    for directory in &arguments.directories {
        let text = match Checkpoint::open(directory) {
            Ok(checkpoint) => {
                let verification = verify(&checkpoint, &progress);
                is_sound &= verification.is_sound();
                values.push(json!({
                    "directory": json_path(directory),
                    "sound": verification.is_sound(),
                    "checkpoints": verification.checkpoints,
                }));
                report(&verification, colored)
            }
            Err(error) => {
                is_sound = false;
                let problem = error.to_string();
                values.push(json!({
                    "directory": json_path(directory), "sound": false, "error": problem,
                }));
                format!("{}\n", Tone::Bad.paint(&visible(&problem), colored))
            }
        };
        if progress.is_stopped() {
            return Err(Problem::Refused("interrupted".to_owned()));
        }
        if !arguments.json {
            write_stdout(&text).map_err(Problem::stdout)?;
        }
    }
    drop(progress);
    if arguments.json {
        write_stdout(&format!("{:#}\n", json!(values))).map_err(Problem::stdout)?;
    }
    Ok(match is_sound {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn report(verification: &Verification, colored: bool) -> String {
    let mut text = String::new();
    for checkpoint in &verification.checkpoints {
        let what = format!(
            "{}: {} images, {}: ",
            visible(&checkpoint.path.to_string_lossy()),
            checkpoint.images,
            ByteSize(checkpoint.bytes)
        );
        let listed = checkpoint.faults.len() as u64;
        let verdict = match listed.saturating_add(checkpoint.more_faults) {
            0 => Tone::Good.paint("sound", colored),
            1 => Tone::Bad.paint("1 fault", colored),
            count => Tone::Bad.paint(&format!("{count} faults"), colored),
        };
        text += &format!("{what}{verdict}\n");
        for fault in &checkpoint.faults {
            text += &format!("  {}\n", visible(&fault.to_string()));
        }
        if checkpoint.more_faults > 0 {
            text += &format!("  and {} more\n", checkpoint.more_faults);
        }
    }
    text
}
