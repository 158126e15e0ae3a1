//! `criuctl dump`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use criu::request::{LogTo, Pages};
use criu::{Dump, Error, FinalState};
use serde_json::json;

use super::Global;
use super::arguments::{
    DumpCgroupArguments, EmptyNamespace, IrmapArguments, MemoryArguments, MountArguments,
    NetworkLockWord, SettingsArguments, SocketArguments, TargetArguments, parse_seconds,
    parse_size,
};
use super::interrupt::{CalledOff, CommandHooks, Interrupt};
use super::report::{Problem, dump_statistics_json, dump_statistics_text, result};
use super::script::Scripts;
use crate::output::json_path;

/// Freeze a process and its children into image files
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  criuctl dump 4711 -D /tmp/images                        the process is gone afterwards
  criuctl dump 4711 -D /tmp/images --leave-running        it goes on
  criuctl dump 4711 -D /tmp/images --shell-job            it was started from this shell
  criuctl dump 4711 -D /tmp/images --tcp-established      it has open connections

The images directory is made if it does not exist. When the dump fails or is interrupted (Ctrl-C), the
process goes on and the images already written are removed; the log stays.")]
pub(super) struct Arguments {
    #[command(flatten)]
    target: TargetArguments,
    /// Directory for the images
    #[arg(short = 'D', long, value_name = "DIR", default_value = ".")]
    images_dir: PathBuf,
    /// Let the process go on
    #[arg(short = 'R', long)]
    leave_running: bool,
    /// Leave the process stopped
    #[arg(short = 's', long, conflicts_with = "leave_running")]
    leave_stopped: bool,
    /// The process belongs to the session of a shell
    #[arg(short = 'j', long)]
    shell_job: bool,
    /// Give up, and let the process go on, after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    /// Keep memory tracking on for a next, incremental dump
    #[arg(long)]
    track_mem: bool,
    /// Keep pages in the process and serve them on --port to one `criu lazy-pages`
    #[arg(long, conflicts_with = "page_server")]
    lazy_pages: bool,
    /// Stream the images to a criu-image-streamer (since CRIU 4.3)
    #[arg(long)]
    stream: bool,
    /// Dump file locks
    #[arg(short = 'l', long)]
    file_locks: bool,
    /// Give files without a name one, so that they can be opened again
    #[arg(long)]
    link_remap: bool,
    /// Dump devices by any path that leads to them
    #[arg(long)]
    evasive_devices: bool,
    /// Largest file without a name that is kept in the images, such as 8M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    ghost_limit: Option<u32>,
    /// How to lock the network
    #[arg(long, value_name = "METHOD", value_enum)]
    network_lock: Option<NetworkLockWord>,
    /// Leave the contents of this namespace out
    #[arg(long, value_name = "NAMESPACE", value_enum)]
    empty_ns: Option<EmptyNamespace>,
    /// Security profile to record for the tasks
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    #[command(flatten)]
    irmap: IrmapArguments,
    #[command(flatten)]
    memory: MemoryArguments,
    #[command(flatten)]
    sockets: SocketArguments,
    #[command(flatten)]
    mounts: MountArguments,
    #[command(flatten)]
    cgroups: DumpCgroupArguments,
    #[command(flatten)]
    settings: SettingsArguments,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Problem> {
    let (pid, images) = (arguments.target.pid()?, &arguments.images_dir);
    let dump = request(pid, arguments)?;
    let criu = global.criu()?;
    make_directory(images)?;
    let interrupt = Interrupt::watch()?;
    let mut hooks = CommandHooks {
        interrupt,
        scripts: Scripts {
            programs: arguments.settings.action_script.clone(),
            images: images.clone(),
        },
    };

    let before = Contents::of(images, &dump.settings.log_to);
    let dumped = criu.dump_with(&dump, &mut hooks).map_err(|error| {
        before.remove_what_came_since();
        failed(
            error,
            format!("dumping process {pid} into {}", images.display()),
        )
    })?;

    let statistics = dumped.statistics.as_ref();
    let value = json!({
        "pid": pid,
        "images": json_path(images),
        "process": match dump.then {
            FinalState::Running => "running",
            FinalState::Stopped => "stopped",
            _ => "gone",
        },
        "statistics": statistics.map(dump_statistics_json),
    });
    result(global, &value, || {
        let fate = match dump.then {
            FinalState::Running => "it goes on",
            FinalState::Stopped => "it is stopped",
            _ => "it is gone",
        };
        let counted =
            statistics.map(|statistics| format!(" ({})", dump_statistics_text(statistics)));
        let counted = counted.unwrap_or_default();
        format!(
            "process {pid} dumped into {}{counted}; {fate}\n",
            images.display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a directory for images unless it is there.
pub(super) fn make_directory(images: &Path) -> Result<(), Problem> {
    fs::create_dir_all(images).map_err(Problem::io(format!(
        "make the directory {}",
        images.display()
    )))
}

/// Turns an error into a problem; that the user called it off is no failure to explain.
pub(super) fn failed(error: Error, tried: String) -> Problem {
    match &error {
        Error::Hook { source, .. } if source.is::<CalledOff>() => {
            eprintln!("criuctl: interrupted while {tried}; everything was put back");
            Problem::Interrupted
        }
        _ => Problem::during(error, tried),
    }
}

fn request(pid: i32, arguments: &Arguments) -> Result<Dump, Problem> {
    let mut dump = Dump::new(pid, &arguments.images_dir);
    arguments.settings.apply(&mut dump.settings);
    dump.then = match (arguments.leave_running, arguments.leave_stopped) {
        (true, _) => FinalState::Running,
        (_, true) => FinalState::Stopped,
        _ => FinalState::Killed,
    };
    dump.parent.clone_from(&arguments.memory.prev_images_dir);
    dump.auto_dedup = arguments.memory.auto_dedup;
    dump.pages = if arguments.lazy_pages {
        Pages::Lazy {
            port: arguments.memory.port().unwrap_or(0),
        }
    } else {
        arguments.memory.pages()
    };
    dump.compression = arguments.memory.compression();
    dump.image_io = arguments.memory.image_io();
    dump.tls = arguments.memory.tls();
    dump.shell_job = arguments.shell_job;
    dump.timeout = arguments.timeout;
    dump.track_memory = arguments.track_mem;
    dump.stream = arguments.stream;
    dump.file_locks = arguments.file_locks;
    dump.link_remap = arguments.link_remap;
    dump.evasive_devices = arguments.evasive_devices;
    dump.ghost_limit_bytes = arguments.ghost_limit;
    dump.network_lock = arguments.network_lock.map(Into::into);
    dump.empty_network_namespace = arguments.empty_ns.is_some();
    dump.lsm_profile.clone_from(&arguments.lsm_profile);
    dump.irmap = arguments.irmap.irmap();
    dump.sockets = arguments.sockets.sockets()?;
    dump.mounts = arguments.mounts.mounts()?;
    dump.cgroups = arguments.cgroups.cgroups();
    Ok(dump)
}

/// What an images directory held before, to remove what a failed dump leaves: an incomplete checkpoint
/// must not look like one.
#[derive(Debug)]
pub(super) struct Contents {
    directory: PathBuf,
    names: Option<BTreeSet<OsString>>,
    log: Option<OsString>,
}

impl Contents {
    pub(super) fn of(directory: &Path, log: &LogTo) -> Self {
        let log = match log {
            LogTo::File(name) => Some(name.clone()),
            _ => None,
        };
        Self {
            directory: directory.to_owned(),
            names: names(directory),
            log,
        }
    }

    /// Removes image files that were not there before. What was there and was written over is gone
    /// already.
    pub(super) fn remove_what_came_since(&self) {
        let (Some(before), Some(now)) = (&self.names, names(&self.directory)) else {
            return;
        };
        for name in now.difference(before) {
            let is_image = Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "img");
            if is_image && Some(name) != self.log.as_ref() {
                // Left behind, it does no harm beyond the confusion this avoids.
                let _ = fs::remove_file(self.directory.join(name));
            }
        }
    }
}

fn names(directory: &Path) -> Option<BTreeSet<OsString>> {
    let entries = fs::read_dir(directory).ok()?;
    Some(
        entries
            .filter_map(|entry| Some(entry.ok()?.file_name()))
            .collect(),
    )
}
