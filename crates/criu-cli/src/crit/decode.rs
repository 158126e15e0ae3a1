//! `crit decode`.

use std::io::Write;
use std::path::PathBuf;

use criu_inspect::json::{self, DecodeError, DecodeOptions, Style};

use super::input::Input;
use super::problem::Problem;
use super::target::Target;

/// Turn an image into JSON
#[derive(Debug, clap::Args)]
#[command(
    alias = "dec",
    after_help = "Examples:
  crit decode -i inventory.img                   on one line, numbers as they are
  crit decode --pretty -i mm-4711.img -o mm.json indented, with names of flags, addresses in hexadecimal
  tar xO --file images.tar core-1.img | crit decode"
)]
pub(super) struct Arguments {
    /// Indent, and print some numbers by names or in hexadecimal
    #[arg(long)]
    pretty: bool,
    /// The image; standard input if not given
    #[arg(short, long = "in", alias = "input", value_name = "FILE")]
    input: Option<PathBuf>,
    /// Where the JSON goes; standard output if not given
    #[arg(short, long = "out", alias = "output", value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let style = match arguments.pretty {
        true => Style::Pretty,
        false => Style::Compact,
    };
    let input = Input::open(arguments.input.as_deref())?;
    let target = Target::open(arguments.output.as_deref())?;
    print(input, target, DecodeOptions::new(style))
}

/// Prints an image; on standard output a line break follows.
pub(super) fn print(
    input: Input,
    mut target: Target,
    options: DecodeOptions,
) -> Result<(), Problem> {
    let mut image = input.image()?;
    json::decode(&mut image, target.writer(), options).map_err(|error| match error {
        // The error does not know where to.
        DecodeError::Write(source) => target.problem(source),
        other => other.into(),
    })?;
    if target.is_stdout() {
        target
            .writer()
            .write_all(b"\n")
            .map_err(|error| target.problem(error))?;
    }
    target.finish()
}
