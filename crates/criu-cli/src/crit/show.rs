//! `crit show`.

use std::path::PathBuf;

use criu_inspect::json::{DecodeOptions, Payloads, Style};

use super::input::Input;
use super::problem::Problem;
use super::target::Target;

/// Show an image as readable JSON
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  crit show files.img
  crit show --nopl sk-queues.img                 only the sizes of what waits in the sockets")]
pub(super) struct Arguments {
    /// The image
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Print the size of data that follows entries instead of the data
    #[arg(long)]
    nopl: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let payloads = match arguments.nopl {
        true => Payloads::Size,
        false => Payloads::Whole,
    };
    let input = Input::open(Some(&arguments.input))?;
    let options = DecodeOptions::new(Style::Pretty).payloads(payloads);
    super::decode::print(input, Target::open(None)?, options)
}
