//! `criuctl migrate send`.

mod container;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use criu::Dump;
use criu_migrate::container::{Container, Runtime};
use criu_migrate::preflight::Check;
use criu_migrate::{Compression, Error, Fate, NotSent, Sent, Source};
use serde_json::json;

use super::course::CourseArguments;
use super::progress::{Form, milliseconds, size};
use super::protection::ProtectionArguments;
use super::{IN_DOUBT, Logs, failed, reach, timing};
use crate::criuctl::Global;
use crate::criuctl::arguments::{
    DumpCgroupArguments, EmptyNamespace, MountArguments, NetworkLockWord, SettingsArguments,
    SocketArguments, parse_seconds, parse_size,
};
use crate::criuctl::findings::{self, check_names};
use crate::criuctl::interrupt::{CommandHooks, Interrupt, stop_on_signals};
use crate::criuctl::report::{self, Problem, result};
use crate::criuctl::script::Scripts;
use crate::output::visible;

/// Send a process tree away
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  criuctl migrate send 4711 127.0.0.1:7077
  criuctl migrate send 4711 --over 'ssh root@there criuctl migrate receive --stdio'
  criuctl migrate send 4711 there:7077 --tls-cert here.pem --tls-key here.key --tls-ca ca.pem
  criuctl migrate send 4711 10.0.0.2:7077 --insecure --tcp-established
  criuctl migrate send 4711 10.0.0.2:7077 --insecure --max-downtime 100ms --on-divergence post-copy
  criuctl migrate send 4711 10.0.0.2:7077 --insecure --mode post-copy
  criuctl migrate send 4711 --sync /srv/app --over \
      'ssh root@there criuctl migrate receive --stdio --allow-sync /srv/app'
  criuctl migrate send --runc web --over \
      'ssh root@there criuctl migrate receive --stdio --allow-sync /srv/bundles'
  criuctl migrate send --podman web --over 'ssh root@there criuctl migrate receive --stdio'

A container is checkpointed here and restored there by its runtime, which must be on both hosts; its memory moves
while it runs, but for what changes last, where this host can track memory (podman: in one round). Until it runs
there its checkpoint is kept, and restored here when anything fails. A runc container needs its bundle's
directory allowed there; a podman container its image there.

Exit status: 0 the tree runs there; 1 it does not, and goes on here; 3 the tree is stopped here, and may run
there, or was ended there before all its memory had followed: the message says what to do; 130 called off. With --preflight-only: 0 nothing is
in the way; 1 something is; 2 no answer.")]
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
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["destination", "protection"])]
    over: Option<String>,
    /// Accept that anyone on the network can read and alter the tree
    #[arg(long, conflicts_with = "over")]
    insecure: bool,
    /// Only ask the destination what is in the way there, and send nothing
    #[arg(long)]
    preflight_only: bool,
    /// Have the destination not compare this before it accepts the tree (can be repeated)
    #[arg(long, value_name = "CHECK", value_parser = check_names())]
    ignore: Vec<Check>,
    /// Directory for the images other than memory, which lie there for a moment [default: that for temporary files]
    #[arg(short = 'D', long, value_name = "DIR")]
    images_dir: Option<PathBuf>,
    /// Whether to compress memory and images
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    compress: CompressWord,
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
    course: CourseArguments,
    #[command(flatten)]
    sockets: SocketArguments,
    #[command(flatten)]
    mounts: MountArguments,
    #[command(flatten)]
    cgroups: DumpCgroupArguments,
    #[command(flatten)]
    protection: ProtectionArguments,
    #[command(flatten)]
    settings: SettingsArguments,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CompressWord {
    /// While the network is slower than the compressor
    Auto,
    /// Never; zero pages and duplicates are left out all the same
    Off,
    /// Whatever becomes smaller, even if that takes longer
    Always,
}

impl From<CompressWord> for Compression {
    fn from(word: CompressWord) -> Self {
        match word {
            CompressWord::Auto => Self::Adaptive,
            CompressWord::Off => Self::Off,
            CompressWord::Always => Self::Always,
        }
    }
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
    let way = (arguments.over.as_deref(), words.destination);
    let transport = reach(way, arguments.insecure, &arguments.protection)?;
    let logs = Logs::prepare(&mut dump.settings)?;
    let mut source = Source::new(criu, dump);
    source.work_dir.clone_from(&work_dir);
    source.mode = arguments.course.mode();
    source.limits = arguments.course.limits();
    source.compression = arguments.compress.into();
    source.sync.clone_from(&arguments.sync);
    if let Some(silence) = arguments.silence {
        source.timing = timing(silence);
    }
    if let Some(restore) = arguments.restore_timeout {
        source.timing.restore = restore;
    }
    source.ignore.clone_from(&arguments.ignore);
    if arguments.preflight_only {
        logs.discard();
        return findings::asked(global, |watch| {
            source.ask(transport, watch).map_err(findings::no_answer)
        });
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

/// What people are shown of a migration that succeeded.
fn table(what: &str, sent: &Sent) -> String {
    let mut text = format!("{what} runs there as {} ({})\n", sent.pid, sent.mode);
    if !sent.rounds.is_empty() {
        text.push_str("  round     pages        sent      time    frozen  predicted downtime\n");
    }
    for round in &sent.rounds {
        let predicted = round.verdict.and_then(|verdict| verdict.predicted_downtime);
        text.push_str(&format!(
            "  {:5} {:>9} {:>11} {:>9} {:>9}  {}\n",
            round.round,
            round.pages_written,
            size(round.wire_bytes),
            milliseconds(round.took),
            milliseconds(round.frozen),
            predicted.map_or_else(|| "-".to_owned(), milliseconds),
        ));
    }
    let mut row = |name: &str, value: String| text.push_str(&format!("  {name:<9} {value}\n"));
    row("downtime", milliseconds(sent.downtime));
    if let Some(frozen) = sent.frozen {
        row("frozen", format!("{} by CRIU's dump", milliseconds(frozen)));
    }
    row("total", milliseconds(sent.total));
    let followed = match sent.followed_bytes {
        0 => String::new(),
        bytes => format!(", {} of it when the tree ran there", size(bytes)),
    };
    row(
        "memory",
        format!("{}{followed}", size(sent.page_stream_bytes)),
    );
    row(
        "images",
        format!("{}, {}", sent.images, size(sent.image_bytes)),
    );
    let moved = sent.page_stream_bytes.saturating_add(sent.image_bytes);
    row(
        "sent",
        format!("{}{}", size(sent.wire_bytes), ratio(sent.wire_bytes, moved)),
    );
    let traffic = &sent.traffic;
    row(
        "not sent",
        format!(
            "{} zeros, {} duplicates, {} unchanged; {} compressed to {}",
            size(traffic.zero_bytes),
            size(traffic.duplicate_bytes),
            size(traffic.unchanged_bytes),
            size(traffic.packed_bytes),
            size(traffic.packed_to_bytes)
        ),
    );
    text
}

/// How much of what moved went over the wire.
fn ratio(wire_bytes: u64, moved_bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
    match moved_bytes {
        0 => String::new(),
        _ => format!(
            ", {:.2} of what moved",
            wire_bytes as f64 / moved_bytes as f64
        ),
    }
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
        Fate::InDoubt | Fate::Outlived => ExitCode::from(IN_DOUBT),
        _ => code,
    }
}
