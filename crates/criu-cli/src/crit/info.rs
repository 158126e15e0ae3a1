//! `crit info`.

use std::io::Write;
use std::path::PathBuf;

use criu_inspect::json;

use super::input::Input;
use super::problem::Problem;
use super::target::Target;

/// Tell what kind of image a file is, and how many entries it has
///
/// The entry in front of page maps does not count; data that follows entries is passed over.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  crit info pagemap-4711.img")]
pub(super) struct Arguments {
    /// The image
    #[arg(value_name = "FILE")]
    input: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let mut image = Input::open(Some(&arguments.input))?.image()?;
    let info = json::info(&mut image)?;
    let mut target = Target::open(None)?;
    let text = format!("{info}\n");
    target
        .writer()
        .write_all(text.as_bytes())
        .map_err(|error| target.problem(error))?;
    target.finish()
}
