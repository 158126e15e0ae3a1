//! `criuctl`: processes in and out of checkpoints.

mod arguments;
mod check;
mod cpuinfo;
mod dump;
mod explain;
mod features;
mod findings;
mod interrupt;
mod migrate;
mod outside;
mod page_server;
mod pre_dump;
mod preflight;
mod report;
mod restore;
mod script;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use criu::Criu;

use crate::output::Color;
use report::Problem;

/// Checkpoints processes, brings them back, and explains what went wrong.
///
/// Drives CRIU, which has to be installed (`criu` on PATH, or named by $CRIU or --criu). Options keep the
/// names they have in CRIU's own command.
#[derive(Debug, Parser)]
#[command(
    name = "criuctl",
    version,
    disable_version_flag = true,
    after_help = "Examples:
  criuctl check                              is this host able?
  criuctl dump 4711 -D /tmp/images           freeze process 4711 and its children into files
  criuctl restore -D /tmp/images             bring them back and wait for them
  criuctl restore -D /tmp/images --detach    bring them back and return
  criuctl explain /tmp/images                what does CRIU's log say went wrong?

Exit status: 0 success; 1 the operation failed or a check did not pass; 2 wrong usage, or a file that
cannot be read or written; 130 interrupted.
An attached restore exits as the restored process does (128 + signal if one killed it)."
)]
struct Command {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Options of every verb.
#[derive(Debug, clap::Args)]
struct Global {
    /// The criu program to use
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "service")]
    criu: Option<PathBuf>,
    /// Use the `criu service` that listens at this socket
    #[arg(long, global = true, value_name = "SOCKET")]
    service: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
    /// Give up after this many seconds, and end CRIU
    #[arg(long, global = true, value_name = "SECONDS")]
    deadline: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Check(check::Arguments),
    Version,
    Features,
    Dump(Box<dump::Arguments>),
    PreDump(Box<pre_dump::Arguments>),
    Restore(Box<restore::Arguments>),
    PageServer(Box<page_server::Arguments>),
    #[command(subcommand)]
    Cpuinfo(cpuinfo::Verb),
    Explain(explain::Arguments),
    Preflight(Box<preflight::Arguments>),
    #[command(subcommand)]
    Migrate(migrate::Verb),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  criuctl completions bash > /etc/bash_completion.d/criuctl")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Describes the command line, for completions and manual pages.
pub fn command() -> clap::Command {
    Command::command()
}

/// Runs the command on the program's arguments.
pub fn main() -> ExitCode {
    let Command { global, verb } = Command::parse();
    let outcome = match verb {
        Verb::Check(arguments) => check::run(&global, &arguments),
        Verb::Version => version::run(&global),
        Verb::Features => features::run(&global),
        Verb::Dump(arguments) => dump::run(&global, &arguments),
        Verb::PreDump(arguments) => pre_dump::run(&global, &arguments),
        Verb::Restore(arguments) => restore::run(&global, *arguments),
        Verb::PageServer(arguments) => page_server::run(&global, &arguments),
        Verb::Cpuinfo(verb) => cpuinfo::run(&global, &verb),
        Verb::Explain(arguments) => explain::run(&global, &arguments),
        Verb::Preflight(arguments) => preflight::run(&global, &arguments),
        Verb::Migrate(verb) => migrate::run(&global, verb),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "criuctl", &mut script);
            report::print(&String::from_utf8_lossy(&script)).map(|()| ExitCode::SUCCESS)
        }
    };
    outcome.unwrap_or_else(|problem| report::fail(&global, &problem))
}

impl Global {
    /// Reaches CRIU as the options say.
    fn criu(&self) -> Result<Criu, Problem> {
        let criu = match (&self.criu, &self.service) {
            (_, Some(socket)) => Criu::with_service(socket),
            (Some(path), None) => Criu::with_binary(path)?,
            (None, None) => Criu::find()?,
        };
        Ok(match self.deadline {
            Some(seconds) => criu.with_timeout(std::time::Duration::from_secs(seconds)),
            None => criu,
        })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }
}
