//! `criuctl restore`.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use criu::{Restore, RestoredChild};
use rustix::process::{Signal, pidfd_send_signal};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::Global;
use super::arguments::{
    EmptyNamespace, ImageIoWord, RestoreCgroupArguments, SettingsArguments, SocketArguments,
};
use super::dump::failed;
use super::interrupt::{CommandHooks, Interrupt};
use super::outside::OutsideArguments;
use super::report::{Problem, milliseconds, restore_statistics_json, result};
use super::script::Scripts;
use crate::output::json_path;

/// Bring processes back from image files
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  criuctl restore -D /tmp/images               waits, and exits as the restored process does
  criuctl restore -D /tmp/images --detach      returns once the processes run
  criuctl restore -D /tmp/images --shell-job   the process takes over this terminal
  criuctl restore -D /tmp/images --detach --inherit-fd 'fd[5]:pipe:[4711]' 5</dev/null

What was set for the dump (--tcp-established, --shell-job, --ext-unix-sk, --file-locks, …) has to be set
again.")]
pub(super) struct Arguments {
    /// Directory with the images
    #[arg(short = 'D', long, value_name = "DIR", default_value = ".")]
    images_dir: PathBuf,
    /// Return once the processes run
    #[arg(short = 'd', long, visible_alias = "restore-detached")]
    detach: bool,
    /// Accepted for habit: an attached restore always makes the process a child of this one
    #[arg(short = 'S', long, hide = true)]
    restore_sibling: bool,
    /// Write the process id of the restored root to this file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// The processes take over this terminal
    #[arg(short = 'j', long)]
    shell_job: bool,
    /// Fetch memory when it is first touched, from a `criu lazy-pages` in the working directory
    #[arg(long)]
    lazy_pages: bool,
    /// Leave this namespace empty
    #[arg(long, value_name = "NAMESPACE", value_enum)]
    empty_ns: Option<EmptyNamespace>,
    /// Restore file locks
    #[arg(short = 'l', long)]
    file_locks: bool,
    /// Follow the names that --link-remap gave to files
    #[arg(long)]
    link_remap: bool,
    /// Restore devices by any path that leads to them
    #[arg(long)]
    evasive_devices: bool,
    /// Remove pages from the images once they are restored
    #[arg(long)]
    auto_dedup: bool,
    /// Threads that decompress pages, 0 for one per processor (since CRIU 4.3)
    #[arg(long, value_name = "COUNT")]
    decompress_threads: Option<u32>,
    /// How image files are read (since CRIU 4.3)
    #[arg(long, value_name = "MODE", value_enum)]
    image_io_mode: Option<ImageIoWord>,
    /// Read the images from a criu-image-streamer (since CRIU 4.3)
    #[arg(long)]
    stream: bool,
    #[command(flatten)]
    outside: OutsideArguments,
    #[command(flatten)]
    sockets: SocketArguments,
    #[command(flatten)]
    cgroups: RestoreCgroupArguments,
    #[command(flatten)]
    settings: SettingsArguments,
}

pub(super) fn run(global: &Global, arguments: Arguments) -> Result<ExitCode, Problem> {
    let restore = request(&arguments)?;
    let criu = global.criu()?;
    let images = arguments.images_dir.display();
    let mut hooks = CommandHooks {
        interrupt: Interrupt::watch()?,
        scripts: Scripts {
            programs: arguments.settings.action_script.clone(),
            images: arguments.images_dir.clone(),
        },
    };
    let restored = criu
        .restore_with(&restore, &mut hooks)
        .map_err(|error| failed(error, format!("restoring what is in {images}")))?;
    if let Some(pidfile) = &arguments.pidfile {
        fs::write(pidfile, restored.pid.to_string())
            .map_err(Problem::io(format!("write {}", pidfile.display())))?;
    }

    let Some(child) = restored.child else {
        let statistics = restored.statistics.as_ref();
        let value = json!({
            "pid": restored.pid,
            "images": json_path(&arguments.images_dir),
            "statistics": statistics.map(restore_statistics_json),
        });
        result(global, &value, || {
            let took =
                statistics.map(|statistics| format!(" (in {})", milliseconds(statistics.restore)));
            format!(
                "process {} restored from {images}{}\n",
                restored.pid,
                took.unwrap_or_default()
            )
        })?;
        return Ok(ExitCode::SUCCESS);
    };
    let status = wait(&child)?;
    if global.json {
        let value = json!({
            "pid": restored.pid, "exit_code": status.code(), "signal": status.signal(),
        });
        result(global, &value, String::new)?;
    }
    Ok(exit_code(status))
}

/// Waits for the restored process, passing on the signals that ask us to end.
fn wait(child: &RestoredChild) -> Result<ExitStatus, Problem> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])
        .map_err(Problem::io("watch for signals"))?;
    let handle = signals.handle();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for signal in signals.forever() {
                let signal = match signal {
                    SIGINT => Signal::INT,
                    SIGTERM => Signal::TERM,
                    SIGHUP => Signal::HUP,
                    _ => Signal::QUIT,
                };
                // The process may just have ended; the wait tells.
                let _ = pidfd_send_signal(child, signal);
            }
        });
        let status = child.wait();
        handle.close();
        status.map_err(Problem::io("wait for the restored process"))
    })
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn request(arguments: &Arguments) -> Result<Restore, Problem> {
    let mut restore = Restore::new(&arguments.images_dir);
    arguments.settings.apply(&mut restore.settings);
    restore.as_child = !arguments.detach;
    restore.shell_job = arguments.shell_job;
    restore.lazy_pages = arguments.lazy_pages;
    arguments.outside.apply(&mut restore)?;
    restore.empty_network_namespace = arguments.empty_ns.is_some();
    restore.file_locks = arguments.file_locks;
    restore.link_remap = arguments.link_remap;
    restore.evasive_devices = arguments.evasive_devices;
    restore.auto_dedup = arguments.auto_dedup;
    restore.decompress_threads = arguments.decompress_threads;
    restore.image_io = arguments.image_io_mode.map(Into::into);
    restore.stream = arguments.stream;
    restore.sockets = arguments.sockets.sockets()?;
    restore.cgroups = arguments.cgroups.cgroups();
    Ok(restore)
}
