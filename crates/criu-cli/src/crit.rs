//! `crit`: images as text, and back.

mod compress;
mod decode;
mod decompress;
mod encode;
mod flatten;
mod info;
mod input;
mod mem;
mod place;
mod problem;
mod progress;
mod search;
mod set;
mod show;
mod size;
mod stats;
mod target;
mod verify;
mod x;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Shows CRIU's checkpoint images as JSON, and turns JSON back into images.
///
/// Understands the command lines of CRIU's own Python tool of this name and of go-criu's, and prints what
/// Python's prints.
#[derive(Debug, Parser)]
#[command(
    name = "crit",
    version,
    infer_long_args = true,
    args_override_self = true, // of an option given twice the last counts, as with Python
    after_help = "Examples:
  crit show core-4711.img                        what does this image say?
  crit decode -i pstree.img -o pstree.json       an image as JSON ...
  crit encode -i pstree.json -o pstree.img       ... and back, to the byte
  crit decode --pretty < mm-4711.img | less      from a pipe, to a pipe
  crit info pagemap-4711.img                     which image is this, and how many entries has it?
  crit x /tmp/images ps                          which processes are in this checkpoint?
  crit mem /tmp/images --pid 4711                what lies where in its memory?
  crit search /tmp/images password               where in memory is this text?

Exit status: 0 success; 1 failure; 2 wrong usage (1 without any argument, as Python's tool)."
)]
struct Command {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Compress(compress::Arguments),
    Decode(decode::Arguments),
    Decompress(decompress::Arguments),
    Encode(encode::Arguments),
    Flatten(flatten::Arguments),
    Info(info::Arguments),
    Mem(Box<mem::Arguments>),
    Search(Box<search::Arguments>),
    Set(Box<set::Arguments>),
    Show(show::Arguments),
    Stats(stats::Arguments),
    Verify(verify::Arguments),
    X(x::Arguments),
}

/// Describes the command line, for completions and manual pages.
pub fn command() -> clap::Command {
    Command::command()
}

/// Runs the command on the program's arguments.
pub fn main() -> ExitCode {
    let outcome = match Command::parse().verb {
        Some(Verb::Compress(arguments)) => compress::run(&arguments),
        Some(Verb::Decode(arguments)) => decode::run(&arguments),
        Some(Verb::Decompress(arguments)) => decompress::run(&arguments),
        Some(Verb::Encode(arguments)) => encode::run(&arguments),
        Some(Verb::Flatten(arguments)) => flatten::run(&arguments),
        Some(Verb::Info(arguments)) => info::run(&arguments),
        Some(Verb::Mem(arguments)) => mem::run(&arguments),
        Some(Verb::Search(arguments)) => return search::main(&arguments),
        Some(Verb::Set(arguments)) => set::run(&arguments),
        Some(Verb::Show(arguments)) => show::run(&arguments),
        Some(Verb::Stats(arguments)) => stats::run(&arguments),
        Some(Verb::Verify(arguments)) => match verify::run(&arguments) {
            Ok(code) => return code,
            Err(problem) => Err(problem),
        },
        Some(Verb::X(arguments)) => x::run(&arguments),
        None => {
            eprintln!("{}", command().render_usage());
            eprintln!("crit: error: too few arguments");
            return ExitCode::FAILURE;
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => problem.report(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
