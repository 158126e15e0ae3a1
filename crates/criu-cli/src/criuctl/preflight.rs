//! `criuctl preflight`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use criu::{Dump, Restore};
use criu_image::Checkpoint;
use criu_migrate::preflight::{Check, Facts, Preflight};
use criu_migrate::{Source, Timing};

use super::Global;
use super::arguments::{ProcessorArguments, RestoreCgroupArguments};
use super::findings::{asked, check_names, no_answer, present};
use super::migrate::{ProtectionArguments, reach};
use super::outside::ComparedArguments;
use super::report::Problem;

/// Find what is in the way of a restore or a migration, before anything is touched
///
/// Compares what a process tree needs with what a host has: versions, processor, kernel, page size, process
/// ids, files and libraries, mounts, ports, control groups, security profiles, memory.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  criuctl preflight /tmp/images                     can this checkpoint be restored here?
  criuctl preflight 127.0.0.1:7077 --pid 4711       can process 4711 move there?
  criuctl preflight 127.0.0.1:7077 -D /tmp/images   can this checkpoint be restored there?
  criuctl preflight --over 'ssh root@there criuctl migrate receive --stdio' --pid 4711
  criuctl preflight 127.0.0.1:7077                  is that host such as this one?

At HOST:PORT waits `criuctl migrate receive --listen`, which answers and waits on; how the tree would be
restored is said there.

Exit status: 0 nothing is in the way; 1 something is; 2 wrong usage, unreadable images, or no answer;
130 interrupted.")]
pub(super) struct Arguments {
    /// A checkpoint to compare with this host, or the host to ask
    #[arg(value_name = "IMAGES_DIR|HOST:PORT", required_unless_present = "over")]
    place: Option<String>,
    /// Ask the host that this shell command leads to, by its standard streams
    #[arg(long, value_name = "COMMAND", conflicts_with = "place")]
    over: Option<String>,
    /// Accept that anyone on the network can read what is asked
    #[arg(long, conflicts_with = "over")]
    insecure: bool,
    /// Ask the host about this process, with all its children
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: Option<i32>,
    /// Ask the host about this checkpoint
    #[arg(short = 'D', long, value_name = "DIR", conflicts_with = "pid")]
    images_dir: Option<PathBuf>,
    /// Do not compare this (can be repeated)
    #[arg(long, value_name = "CHECK", value_parser = check_names())]
    ignore: Vec<Check>,
    #[command(flatten)]
    protection: ProtectionArguments,
    #[command(flatten)]
    restore: RestoreArguments,
}

/// How the checkpoint would be restored on this host.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "How it would be restored here")]
struct RestoreArguments {
    #[command(flatten)]
    compared: ComparedArguments,
    #[command(flatten)]
    processor: ProcessorArguments,
    #[command(flatten)]
    cgroups: RestoreCgroupArguments,
}

impl RestoreArguments {
    fn request(&self, images: &Path) -> Result<Restore, Problem> {
        let mut restore = Restore::new(images);
        self.compared.apply(&mut restore)?;
        restore.cgroups = self.cgroups.cgroups();
        self.processor.apply(&mut restore.settings);
        Ok(restore)
    }
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Problem> {
    match (&arguments.place, &arguments.over) {
        (Some(place), None) if is_directory(place) => here(global, arguments, Path::new(place)),
        (place, over) => there(global, arguments, (over.as_deref(), place.as_deref())),
    }
}

/// A name with a slash, or that of a directory, is no host.
fn is_directory(place: &str) -> bool {
    place.contains('/') || Path::new(place).is_dir()
}

fn here(global: &Global, arguments: &Arguments, images: &Path) -> Result<ExitCode, Problem> {
    if arguments.pid.is_some() || arguments.images_dir.is_some() {
        let text = "which host? --pid and --images-dir are what HOST:PORT is asked about";
        return Err(Problem::Usage(text.to_owned()));
    }
    let facts = facts_of(images)?;
    let criu = global.criu()?;
    let restore = arguments.restore.request(images)?;
    let work_dir = std::env::temp_dir();
    let mut preflight = Preflight::new(&criu, &restore, &work_dir);
    preflight.ignore = &arguments.ignore;
    let report = preflight.compare(&facts.fit()).map_err(no_answer)?;
    present(global, &report)
}

fn there(
    global: &Global,
    arguments: &Arguments,
    way: (Option<&str>, Option<&str>),
) -> Result<ExitCode, Problem> {
    if let (None, Some(place)) = way
        && !place.contains(':')
    {
        return Err(Problem::Usage(format!(
            "`{place}` is neither a directory nor HOST:PORT"
        )));
    }
    let facts = arguments.images_dir.as_deref().map(facts_of).transpose()?;
    let criu = global.criu()?;
    let work_dir = std::env::temp_dir();
    let ignore = &arguments.ignore;
    asked(global, |watch| {
        let transport = reach(way, arguments.insecure, &arguments.protection)?;
        let answer = match (facts, arguments.pid) {
            (Some(facts), _) => criu_migrate::preflight::ask(
                transport,
                &criu,
                facts,
                ignore,
                &Timing::default(),
                watch,
            ),
            (None, Some(pid)) => {
                let mut source = Source::new(criu, Dump::new(pid, &work_dir));
                source.ignore.clone_from(ignore);
                source.ask(transport, watch)
            }
            (None, None) => Facts::of_machine(&criu, &work_dir).and_then(|facts| {
                criu_migrate::preflight::ask(
                    transport,
                    &criu,
                    facts,
                    ignore,
                    &Timing::default(),
                    watch,
                )
            }),
        };
        answer.map_err(no_answer)
    })
}

fn facts_of(images: &Path) -> Result<Facts, Problem> {
    let read = Checkpoint::open(images).and_then(|checkpoint| Facts::of_images(&checkpoint));
    read.map_err(|error| Problem::Images {
        source: Box::new(error),
    })
}
