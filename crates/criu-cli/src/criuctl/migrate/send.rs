//! `criuctl migrate send`.

mod container;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use criu::Dump;
use criu_migrate::container::{Container, Runtime};
use criu_migrate::transport::{Stream, Transport};
use criu_migrate::{Error, Fate, NotSent, Sent, Source};
use serde_json::json;

use super::progress::{Form, size};
use super::{IN_DOUBT, Logs, addresses, failed, stop_on_signals, timing};
use crate::criuctl::Global;
use crate::criuctl::arguments::{
    DumpCgroupArguments, EmptyNamespace, MountArguments, NetworkLockWord, SettingsArguments,
    SocketArguments, parse_seconds, parse_size,
};
use crate::criuctl::interrupt::{CommandHooks, Interrupt};
use crate::criuctl::report::{self, Problem, result};
use crate::criuctl::script::Scripts;
use crate::output::visible;

/// Send a process tree away
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  criuctl migrate send 4711 127.0.0.1:7077
  criuctl migrate send 4711 --over 'ssh root@there criuctl migrate receive --stdio'
  criuctl migrate send 4711 10.0.0.2:7077 --insecure --tcp-established
  criuctl migrate send 4711 --sync /srv/app --over \
      'ssh root@there criuctl migrate receive --stdio --allow-sync /srv/app'
  criuctl migrate send --runc web --over \
      'ssh root@there criuctl migrate receive --stdio --allow-sync /srv/bundles'
  criuctl migrate send --podman web --over 'ssh root@there criuctl migrate receive --stdio'

A container is checkpointed here and restored there by its runtime, which must be on both hosts; until it runs
there its checkpoint is kept, and restored here when anything fails. A runc container needs its bundle's
directory allowed there; a podman container its image there.

Exit status: 0 the tree runs there; 1 it does not, and goes on here; 3 in doubt: the tree is stopped here
and may run there, which the message says how to resolve; 130 called off.")]
pub(in crate::criuctl) struct Arguments {
    /// The process to send, with all its children; not with --runc and --podman
    #[arg(value_name = "PID", required_unless_present_any = ["runc", "podman"])]
    pid: Option<String>,
    /// Where `criuctl migrate receive --listen` waits
    #[arg(value_name = "HOST:PORT")]
    destination: Option<String>,
    /// Send this container of runc, with its bundle, by runc's checkpoint and restore
    #[arg(long, value_name = "ID", conflicts_with_all = CONTAINER_CONFLICTS)]
    runc: Option<String>,
    /// Send this container of podman, with what changed below its root, by podman's checkpoint and restore
    #[arg(long, value_name = "ID", conflicts_with_all = CONTAINER_CONFLICTS, conflicts_with = "runc")]
    podman: Option<String>,
    /// A shell command whose standard streams lead to `criuctl migrate receive --stdio`
    #[arg(long, value_name = "COMMAND")]
    over: Option<String>,
    /// Accept that anyone on the network can read and alter the tree
    #[arg(long, conflicts_with = "over")]
    insecure: bool,
    /// Directory for the images other than memory, which lie there for a moment [default: that for temporary files]
    #[arg(short = 'D', long, value_name = "DIR")]
    images_dir: Option<PathBuf>,
    /// Give up, and let the process go on, if it cannot be frozen within this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    timeout: Option<Duration>,
    /// Give up, and let the process go on, if it is not restored there within this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    restore_timeout: Option<Duration>,
    /// Give the destination up when it gives no sign of life for this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    silence: Option<Duration>,
    /// A file or directory to bring along, as the process sees it (can be repeated): copied by rsync once while
    /// the process runs, and what has changed once more while it is frozen. A directory comes with all in it on
    /// the same file system; what is not in it here is deleted there
    #[arg(long, value_name = "PATH")]
    sync: Vec<PathBuf>,
    /// Take file locks along
    #[arg(short = 'l', long)]
    file_locks: bool,
    /// Give files without a name one, so that they can be opened again
    #[arg(long)]
    link_remap: bool,
    /// Take devices along by any path that leads to them
    #[arg(long)]
    evasive_devices: bool,
    /// Largest file without a name that is taken along, such as 8M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    ghost_limit: Option<u32>,
    /// How to lock the network
    #[arg(long, value_name = "METHOD", value_enum)]
    network_lock: Option<NetworkLockWord>,
    /// Leave the contents of this namespace out
    #[arg(long, value_name = "NAMESPACE", value_enum)]
    empty_ns: Option<EmptyNamespace>,
    #[command(flatten)]
    sockets: SocketArguments,
    #[command(flatten)]
    mounts: MountArguments,
    #[command(flatten)]
    cgroups: DumpCgroupArguments,
    #[command(flatten)]
    settings: SettingsArguments,
}

/// What a runtime does not take, or decides itself.
const CONTAINER_CONFLICTS: [&str; 7] = [
    "timeout",
    "link_remap",
    "evasive_devices",
    "ghost_limit",
    "network_lock",
    "empty_ns",
    "action_script",
];

/// How long the destination may take to accept the connection.
const CONNECT: Duration = Duration::from_secs(10);

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Problem> {
    let work_dir = arguments.images_dir.clone();
    let work_dir = work_dir.unwrap_or_else(std::env::temp_dir);
    let words = Words::of(arguments)?;
    let container = match (&arguments.runc, &arguments.podman) {
        (Some(id), _) => Some(Container::new(Runtime::Runc, id)),
        (None, Some(id)) => Some(Container::new(Runtime::Podman, id)),
        (None, None) => None,
    };
    if let Some(container) = container {
        return container::run(global, arguments, container, words.destination);
    }
    let pid = words.pid.unwrap_or_default();
    let mut dump = request(arguments, pid, &work_dir)?;
    let criu = global.criu()?;
    let transport = reach(arguments, words.destination)?;
    let logs = Logs::prepare(&mut dump.settings)?;
    let mut source = Source::new(criu, dump);
    source.work_dir.clone_from(&work_dir);
    source.sync.clone_from(&arguments.sync);
    if let Some(silence) = arguments.silence {
        source.timing = timing(silence);
    }
    if let Some(restore) = arguments.restore_timeout {
        source.timing.restore = restore;
    }
    let mut hooks = CommandHooks {
        interrupt: Interrupt::default(),
        scripts: Scripts {
            programs: arguments.settings.action_script.clone(),
            images: work_dir,
        },
    };
    let watch = Form::of(global).watch();
    let signals = stop_on_signals(&watch)?;
    let outcome = source.send(transport, &mut hooks, &watch);
    signals.close();
    match outcome {
        Ok(sent) => {
            logs.discard();
            let value = json!({ "event": "result", "result": sent });
            result(global, &value, || table(&format!("process {pid}"), &sent))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(not_sent) => {
            logs.discard_unless_criu_failed(&not_sent.error);
            Ok(explain(global, *not_sent))
        }
    }
}

/// The words of the command line that are no options.
struct Words<'a> {
    pid: Option<i32>,
    destination: Option<&'a str>,
}

impl<'a> Words<'a> {
    fn of(arguments: &'a Arguments) -> Result<Self, Problem> {
        let (first, second) = (arguments.pid.as_deref(), arguments.destination.as_deref());
        if arguments.runc.is_some() || arguments.podman.is_some() {
            return match second {
                // The only word is where to.
                None => Ok(Self {
                    pid: None,
                    destination: first,
                }),
                Some(_) => Err(Problem::Usage(
                    "a container has no PID: give --runc or --podman, and HOST:PORT".to_owned(),
                )),
            };
        }
        let pid = first
            .and_then(|text| text.parse().ok())
            .filter(|pid| *pid > 0);
        let pid = pid.ok_or_else(|| {
            Problem::Usage(format!("{:?} is no process id", first.unwrap_or_default()))
        })?;
        Ok(Self {
            pid: Some(pid),
            destination: second,
        })
    }
}

fn reach(arguments: &Arguments, destination: Option<&str>) -> Result<Box<dyn Transport>, Problem> {
    let stream = match (&arguments.over, destination) {
        (Some(_), Some(_)) => {
            let text = "both HOST:PORT and --over COMMAND say where to";
            return Err(Problem::Usage(text.to_owned()));
        }
        (Some(command), None) => {
            Stream::command(command).map_err(Problem::io(format!("run `{command}`")))?
        }
        (None, Some(text)) => {
            let addresses = addresses(text, arguments.insecure)?;
            Stream::connect(addresses.as_slice(), CONNECT)
                .map_err(Problem::io(format!("connect to {text}")))?
        }
        (None, None) => {
            let text = "where to? Give HOST:PORT or --over COMMAND";
            return Err(Problem::Usage(text.to_owned()));
        }
    };
    Ok(Box::new(stream))
}

fn request(arguments: &Arguments, pid: i32, work_dir: &PathBuf) -> Result<Dump, Problem> {
    let mut dump = Dump::new(pid, work_dir);
    arguments.settings.apply(&mut dump.settings);
    dump.timeout = arguments.timeout;
    dump.file_locks = arguments.file_locks;
    dump.link_remap = arguments.link_remap;
    dump.evasive_devices = arguments.evasive_devices;
    dump.ghost_limit_bytes = arguments.ghost_limit;
    dump.network_lock = arguments.network_lock.map(Into::into);
    dump.empty_network_namespace = arguments.empty_ns.is_some();
    dump.sockets = arguments.sockets.sockets()?;
    dump.mounts = arguments.mounts.mounts()?;
    dump.cgroups = arguments.cgroups.cgroups();
    Ok(dump)
}

fn table(what: &str, sent: &Sent) -> String {
    let memory = match sent.page_stream_bytes {
        // A runtime has it among the images.
        0 => String::new(),
        bytes => format!("  memory    {}\n", size(bytes)),
    };
    format!(
        "{what} runs there as {}\n  downtime  at most {:.1} ms\n  total     {:.1} ms\n{memory}  images    {}, \
         {}\n  sent      {}\n",
        sent.pid,
        sent.downtime.as_secs_f64() * 1e3,
        sent.total.as_secs_f64() * 1e3,
        sent.images,
        size(sent.image_bytes),
        size(sent.wire_bytes),
    )
}

fn explain(global: &Global, not_sent: NotSent) -> ExitCode {
    let said = visible(&not_sent.to_string());
    let (pid, fate, stage) = (not_sent.pid, not_sent.fate, not_sent.stage);
    let cancelled = matches!(not_sent.error, Error::Cancelled);
    let code = if global.json {
        let value = json!({ "event": "not-sent", "pid": pid, "fate": fate, "stage": stage, "message": said });
        // Standard output may be gone; the exit code still tells.
        let _ = report::print(&format!("{value}\n"));
        report::fail(
            global,
            &failed(not_sent.error, format!("sending process {pid}")),
        )
    } else {
        let code = match cancelled {
            true => ExitCode::from(130),
            false => report::fail(
                global,
                &failed(not_sent.error, format!("sending process {pid}")),
            ),
        };
        eprintln!("criuctl: {said}");
        code
    };
    match fate {
        Fate::InDoubt => ExitCode::from(IN_DOUBT),
        _ => code,
    }
}
