//! `criuctl pre-dump`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use criu::PreDump;
use criu::request::PreDumpMode;
use serde_json::json;

use super::Global;
use super::arguments::{
    DumpCgroupArguments, IrmapArguments, MemoryArguments, MountArguments, SettingsArguments,
    TargetArguments, parse_seconds,
};
use super::dump::{Contents, make_directory};
use super::report::{Problem, dump_statistics_json, dump_statistics_text, result};
use crate::output::json_path;

/// Copy the memory of a process that goes on running, so that a later dump is shorter
#[derive(Debug, clap::Args)]
#[command(after_help = "Example, two rounds and the dump:
  criuctl pre-dump 4711 -D /tmp/1
  criuctl pre-dump 4711 -D /tmp/2 --prev-images-dir ../1
  criuctl dump 4711 -D /tmp/3 --prev-images-dir ../2 --track-mem

Needs a kernel that tracks memory changes; `criuctl features` tells.")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Directory for the images
    #[arg(short = 'D', long, value_name = "DIR", default_value = ".")]
    images_dir: PathBuf,
    /// How memory is read
    #[arg(long, value_name = "MODE", value_enum)]
    pre_dump_mode: Option<ModeWord>,
    /// The process belongs to the session of a shell
    #[arg(short = 'j', long)]
    shell_job: bool,
    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    #[command(flatten)]
    irmap: IrmapArguments,
    #[command(flatten)]
    memory: MemoryArguments,
    #[command(flatten)]
    mounts: MountArguments,
    #[command(flatten)]
    cgroups: DumpCgroupArguments,
    #[command(flatten)]
    settings: SettingsArguments,
}

/// How a pre-dump reads memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModeWord {
    /// Through pipes, the process stopped until all pages are in them
    Splice,
    /// By reading while the process runs
    Read,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Problem> {
    let (pid, images) = (arguments.target.pid()?, &arguments.images_dir);
    if !arguments.settings.action_script.is_empty() {
        return Err(Problem::Usage(
            "CRIU runs no action scripts in a pre-dump".to_owned(),
        ));
    }
    let mut request = PreDump::new(pid, images);
    arguments.settings.apply(&mut request.settings);
    request.parent.clone_from(&arguments.memory.prev_images_dir);
    request.mode = arguments.pre_dump_mode.map(|word| match word {
        ModeWord::Splice => PreDumpMode::Splice,
        ModeWord::Read => PreDumpMode::Read,
    });
    request.auto_dedup = arguments.memory.auto_dedup;
    request.pages = arguments.memory.pages();
    request.compression = arguments.memory.compression();
    request.image_io = arguments.memory.image_io();
    request.tls = arguments.memory.tls();
    request.shell_job = arguments.shell_job;
    request.timeout = arguments.timeout;
    request.irmap = arguments.irmap.irmap();
    request.mounts = arguments.mounts.mounts()?;
    request.cgroups = arguments.cgroups.cgroups();

    let criu = global.criu()?;
    make_directory(images)?;
    let before = Contents::of(images, &request.settings.log_to);
    let done = criu.pre_dump(&request).map_err(|error| {
        before.remove_what_came_since();
        let tried = format!(
            "copying the memory of process {pid} into {}",
            images.display()
        );
        Problem::during(error, tried)
    })?;

    let statistics = done.statistics.as_ref();
    let value = json!({
        "pid": pid, "images": json_path(images), "statistics": statistics.map(dump_statistics_json),
    });
    result(global, &value, || {
        let counted =
            statistics.map(|statistics| format!(" ({})", dump_statistics_text(statistics)));
        let counted = counted.unwrap_or_default();
        format!(
            "memory of process {pid} copied into {}{counted}; it goes on\n",
            images.display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
