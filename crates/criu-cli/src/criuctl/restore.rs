//! `criuctl restore`.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

use criu::request::{DescriptorKey, JoinNamespace, NamespaceKind, VethPair};
use criu::{External, InheritFd, Restore, RestoredChild};
use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, Signal, getpid, pidfd_getfd, pidfd_open, pidfd_send_signal,
};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::Global;
use super::arguments::{
    EmptyNamespace, ImageIoWord, RestoreCgroupArguments, SettingsArguments, SocketArguments,
    mount_pair,
};
use super::dump::failed;
use super::interrupt::{CommandHooks, Interrupt};
use super::report::{Problem, milliseconds, restore_statistics_json, result};
use super::script::Scripts;

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
    /// New root directory for the processes
    #[arg(short = 'r', long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// A descriptor of this command that replaces a dumped file (can be repeated)
    #[arg(long, value_name = "fd[N]:KEY")]
    inherit_fd: Vec<String>,
    /// A resource of the outside, by the name the dump gave it, such as mnt[hosts]:/etc/hosts (can be repeated)
    #[arg(long, value_name = "TYPE[NAME]:WHAT")]
    external: Vec<External>,
    /// An external mount, by the name the dump gave it (can be repeated)
    #[arg(short = 'M', long, value_name = "KEY:PATH")]
    ext_mount_map: Vec<String>,
    /// A mount point to leave out (can be repeated)
    #[arg(long, value_name = "PATH")]
    skip_mnt: Vec<PathBuf>,
    /// Name the outer end of a veth device (can be repeated)
    #[arg(long, value_name = "INNER=OUTER")]
    veth_pair: Vec<String>,
    /// A namespace to join: net, uts, ipc, time, mnt or user, by PID or file (can be repeated)
    #[arg(short = 'J', long, value_name = "KIND:PID|FILE[,UID,GID]")]
    join_ns: Vec<String>,
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
    /// Skip system settings that cannot be restored
    #[arg(long)]
    weak_sysctls: bool,
    /// Security profile for the tasks
    #[arg(long, value_name = "TYPE:NAME")]
    lsm_profile: Option<String>,
    /// Security context for mounts
    #[arg(long, value_name = "CONTEXT")]
    lsm_mount_context: Option<String>,
    /// Restore mounts in the older way
    #[arg(long)]
    mntns_compat_mode: bool,
    /// Do not compare the permissions of files
    #[arg(long)]
    skip_file_rwx_check: bool,
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
            "images": arguments.images_dir,
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
    restore.root.clone_from(&arguments.root);
    for entry in &arguments.inherit_fd {
        restore.inherit_fds.push(inherit_fd(entry)?);
    }
    restore.external.clone_from(&arguments.external);
    for entry in &arguments.ext_mount_map {
        restore.ext_mount_map.push(mount_pair(entry)?);
    }
    restore.skip_mounts.clone_from(&arguments.skip_mnt);
    for entry in &arguments.veth_pair {
        let (inner, outer) = entry.split_once('=').ok_or_else(|| {
            Problem::Usage(format!("--veth-pair takes INNER=OUTER, not `{entry}`"))
        })?;
        restore.veths.push(VethPair::new(inner, outer));
    }
    for entry in &arguments.join_ns {
        restore.join_namespaces.push(join_namespace(entry)?);
    }
    restore.empty_network_namespace = arguments.empty_ns.is_some();
    restore.file_locks = arguments.file_locks;
    restore.link_remap = arguments.link_remap;
    restore.evasive_devices = arguments.evasive_devices;
    restore.auto_dedup = arguments.auto_dedup;
    restore.decompress_threads = arguments.decompress_threads;
    restore.image_io = arguments.image_io_mode.map(Into::into);
    restore.stream = arguments.stream;
    restore.weak_sysctls = arguments.weak_sysctls;
    restore.lsm_profile.clone_from(&arguments.lsm_profile);
    restore
        .lsm_mount_context
        .clone_from(&arguments.lsm_mount_context);
    restore.mntns_compat_mode = arguments.mntns_compat_mode;
    restore.skip_file_rwx_check = arguments.skip_file_rwx_check;
    restore.sockets = arguments.sockets.sockets()?;
    restore.cgroups = arguments.cgroups.cgroups();
    Ok(restore)
}

/// Reads `fd[N]:KEY` and takes hold of our descriptor N.
fn inherit_fd(entry: &str) -> Result<InheritFd, Problem> {
    let usage = || Problem::Usage(format!("--inherit-fd takes fd[N]:KEY, not `{entry}`"));
    let (number, key) = entry
        .strip_prefix("fd[")
        .and_then(|rest| rest.split_once("]:"))
        .ok_or_else(usage)?;
    let number: i32 = number.parse().map_err(|_| usage())?;
    // A copy made through a handle to ourselves needs no claim on a descriptor we did not open.
    let descriptor = pidfd_open(getpid(), PidfdFlags::empty())
        .and_then(|own| pidfd_getfd(own, number, PidfdGetfdFlags::empty()))
        .map_err(|errno| {
            Problem::io(format!("use descriptor {number} of --inherit-fd"))(errno.into())
        })?;
    InheritFd::new(DescriptorKey::Key(key.to_owned()), descriptor)
        .map_err(Problem::io(format!("duplicate descriptor {number}")))
}

/// Reads `KIND:PID|FILE[,UID,GID]`.
fn join_namespace(entry: &str) -> Result<JoinNamespace, Problem> {
    let usage = || {
        Problem::Usage(format!(
            "--join-ns takes net, uts, ipc, time, mnt or user, then `:` and a PID or a file, not `{entry}`"
        ))
    };
    let (kind, place) = entry.split_once(':').ok_or_else(usage)?;
    let (kind, place) = match kind {
        "net" => (NamespaceKind::Net, place),
        "uts" => (NamespaceKind::Uts, place),
        "ipc" => (NamespaceKind::Ipc, place),
        "time" => (NamespaceKind::Time, place),
        "mnt" => (NamespaceKind::Mnt, place),
        "user" => {
            let mut parts = place.splitn(3, ',');
            let place = parts.next().unwrap_or_default();
            let id = |part: Option<&str>| part.map(str::parse).transpose().map_err(|_| usage());
            let (uid, gid) = (id(parts.next())?, id(parts.next())?);
            (NamespaceKind::User { uid, gid }, place)
        }
        _ => return Err(usage()),
    };
    Ok(match place.parse::<i32>() {
        Ok(pid) => JoinNamespace::of_process(kind, pid),
        Err(_) => JoinNamespace::new(kind, place),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_named_by_process_or_file() {
        let joined = join_namespace("net:12").unwrap();
        assert_eq!(
            joined,
            JoinNamespace::new(NamespaceKind::Net, "/proc/12/ns/net")
        );
        let joined = join_namespace("user:/ns,7,8").unwrap();
        let kind = NamespaceKind::User {
            uid: Some(7),
            gid: Some(8),
        };
        assert_eq!(joined, JoinNamespace::new(kind, "/ns"));
        for bad in ["net", "pid:1", ":1", "user:/ns,x"] {
            assert!(join_namespace(bad).is_err(), "{bad:?}");
        }
    }
}
