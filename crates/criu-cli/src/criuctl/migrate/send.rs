//! `criuctl migrate send`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use criu::Dump;
use criu_migrate::transport::{Stream, Transport};
use criu_migrate::{Error, Fate, NotSent, Sent, Source};
use serde_json::json;

use super::course::CourseArguments;
use super::progress::{Form, milliseconds, size};
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
  criuctl migrate send 4711 10.0.0.2:7077 --insecure --max-downtime 100ms --on-divergence post-copy
  criuctl migrate send 4711 10.0.0.2:7077 --insecure --mode post-copy

Exit status: 0 the tree runs there; 1 it does not, and goes on here; 3 the tree is stopped here, and may run
there, or was ended there before all its memory had followed: the message says what to do; 130 called off.")]
pub(in crate::criuctl) struct Arguments {
    /// The process to send, with all its children
    #[arg(value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pid: i32,
    /// Where `criuctl migrate receive --listen` waits
    #[arg(value_name = "HOST:PORT", required_unless_present = "over")]
    destination: Option<String>,
    /// A shell command whose standard streams lead to `criuctl migrate receive --stdio`
    #[arg(long, value_name = "COMMAND", conflicts_with = "destination")]
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
    settings: SettingsArguments,
}

/// How long the destination may take to accept the connection.
const CONNECT: Duration = Duration::from_secs(10);

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Problem> {
    let work_dir = arguments.images_dir.clone();
    let work_dir = work_dir.unwrap_or_else(std::env::temp_dir);
    let mut dump = request(arguments, &work_dir)?;
    let criu = global.criu()?;
    let transport = reach(arguments)?;
    let logs = Logs::prepare(&mut dump.settings)?;
    let mut source = Source::new(criu, dump);
    source.work_dir.clone_from(&work_dir);
    arguments.course.apply(&mut source);
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
            result(global, &value, || table(arguments.pid, &sent))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(not_sent) => {
            logs.discard_unless_criu_failed(&not_sent.error);
            Ok(explain(global, *not_sent))
        }
    }
}

fn reach(arguments: &Arguments) -> Result<Box<dyn Transport>, Problem> {
    let stream = match (&arguments.over, &arguments.destination) {
        (Some(command), _) => {
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

fn request(arguments: &Arguments, work_dir: &PathBuf) -> Result<Dump, Problem> {
    let mut dump = Dump::new(arguments.pid, work_dir);
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
fn table(pid: i32, sent: &Sent) -> String {
    let mut text = format!("process {pid} runs there as {} ({})\n", sent.pid, sent.mode);
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
