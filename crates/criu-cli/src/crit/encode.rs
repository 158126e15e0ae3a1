//! `crit encode`.

use std::io;
use std::path::PathBuf;

use clap::ValueEnum;
use criu_inspect::json::{
    self, EncodeError, EncodeErrorKind, EncodeOptions, TaskStateWords, UnknownMembers,
};

use super::input::Input;
use super::problem::Problem;
use super::target::Target;

/// Turn JSON into an image
///
/// Takes the JSON of this tool, of CRIU's Python tool and of go-criu's, pretty or not.
#[derive(Debug, clap::Args)]
#[command(
    alias = "enc",
    after_help = "Examples:
  crit encode -i core.json -o core-4711.img
  crit decode -i core-1.img | jq '.entries[0].tc.comm = \"new\"' | crit encode -o core-1.img"
)]
pub(super) struct Arguments {
    /// The JSON; standard input if not given
    #[arg(short, long = "in", alias = "input", value_name = "FILE")]
    input: Option<PathBuf>,
    /// Where the image goes; standard output if not given
    #[arg(short, long = "out", alias = "output", value_name = "FILE")]
    output: Option<PathBuf>,
    /// Pass over members that no message has, instead of refusing the text
    #[arg(long)]
    ignore_unknown: bool,
    /// Whose words for the state of a task the text has
    #[arg(long, value_enum, default_value_t, value_name = "VERSION")]
    task_state_words: Words,
}

/// Whose words for the state of a task are meant.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Words {
    /// CRIT 4.3 and this tool: 3 is "Stopped", 6 is "Zombie"
    #[default]
    #[value(name = "4.3")]
    V4_3,
    /// CRIT 4.2 and before: 3 is "Zombie", 6 is "Stopped"
    #[value(name = "4.2")]
    V4_2,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let words = match arguments.task_state_words {
        Words::V4_3 => TaskStateWords::V4_3,
        Words::V4_2 => TaskStateWords::V4_2,
    };
    let unknown = match arguments.ignore_unknown {
        true => UnknownMembers::Ignored,
        false => UnknownMembers::Refused,
    };
    let options = EncodeOptions::default()
        .task_state_words(words)
        .unknown_members(unknown);
    let input = Input::open(arguments.input.as_deref())?;
    let mut target = Target::open(arguments.output.as_deref())?;
    match json::encode(input.file(), target.writer(), options) {
        Ok(_) => target.finish(),
        Err(error) => Err(match write_error(&error) {
            Some(source) => target.problem(source),
            None => input.problem(error),
        }),
    }
}

/// Why the image could not be written, if that is it. Nothing is wrong with the text then, which the error names.
fn write_error(error: &EncodeError) -> Option<io::Error> {
    let EncodeErrorKind::Write(error) = error.kind() else {
        return None;
    };
    match error.reason() {
        criu_image::ErrorKind::Io { source, .. } => Some(
            source
                .raw_os_error()
                .map_or_else(|| source.kind().into(), io::Error::from_raw_os_error),
        ),
        _ => None,
    }
}
