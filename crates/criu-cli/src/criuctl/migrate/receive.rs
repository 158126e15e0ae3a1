//! `criuctl migrate receive`.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use criu::Restore;
use criu_migrate::preflight::Check;
use criu_migrate::transport::{Stream, Transport};
use criu_migrate::{Destination, Error, Received, Watch};
use serde_json::json;

use super::progress::Form;
use super::protection::{ProtectionArguments, accepted};
use super::{Logs, addresses, failed, timing};
use crate::criuctl::Global;
use crate::criuctl::arguments::{RestoreCgroupArguments, SettingsArguments, parse_seconds};
use crate::criuctl::findings::check_names;
use crate::criuctl::interrupt::{CommandHooks, Interrupt, stop_on_signals};
use crate::criuctl::outside::OutsideArguments;
use crate::criuctl::report::{Problem, result};
use crate::criuctl::script::Scripts;
use crate::output::{visible, write_stdout};

/// Receive a process tree
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("way").required(true).args(["listen", "stdio"]))]
#[command(after_help = "Examples:
  criuctl migrate receive --listen 127.0.0.1:7077
  criuctl migrate receive --listen 127.0.0.1:0        the port is printed first
  criuctl migrate receive --stdio                     for `criuctl migrate send --over`
  criuctl migrate receive --stdio --allow-sync /srv   for `criuctl migrate send --sync /srv/app`, or
                                                      for `--runc ID` with a bundle below /srv

With TLS:
  criuctl migrate receive --listen 0.0.0.0:7077 --tls-cert there.pem --tls-key there.key --tls-ca ca.pem

It receives one tree and ends; connections that make no offer are turned away, and those that only ask what
differs (`criuctl preflight`) are answered. Whoever can connect, with TLS whoever has a certificate that is let
in, can run anything here, as root: that is what restoring a process is.

Exit status: 0 the tree runs here; 1 it does not, and nothing of it is left; 130 called off.")]
pub(in crate::criuctl) struct Arguments {
    /// Wait for a connection at this address; port 0 lets the kernel choose
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Talk over standard input and output
    #[arg(long, conflicts_with = "protection")]
    stdio: bool,
    /// Accept that anyone on the network can read and alter the tree, or send another
    #[arg(long, conflicts_with = "stdio")]
    insecure: bool,
    /// Directory for memory and images until the tree runs [default: that for temporary files]
    #[arg(short = 'D', long, value_name = "DIR")]
    images_dir: Option<PathBuf>,
    /// Give the source up when it gives no sign of life for this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    silence: Option<Duration>,
    /// Most bytes memory and images may take there [default: what is free]
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,
    /// Let the source replace and delete files here, with all below, as the processes will see them: below
    /// --root if that is given (can be repeated) [default: nowhere]
    #[arg(long, value_name = "PATH")]
    allow_sync: Vec<PathBuf>,
    /// Do not compare this before accepting a tree (can be repeated)
    #[arg(long, value_name = "CHECK", value_parser = check_names())]
    ignore: Vec<Check>,
    #[command(flatten)]
    outside: OutsideArguments,
    #[command(flatten)]
    cgroups: RestoreCgroupArguments,
    #[command(flatten)]
    protection: ProtectionArguments,
    #[command(flatten)]
    settings: SettingsArguments,
}

/// How often the wait for a connection looks whether it was called off.
const ACCEPT_CHECK: Duration = Duration::from_millis(100);

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Problem> {
    let form = match (arguments.stdio, global.json) {
        (true, true) => Form::JsonToStderr,
        _ => Form::of(global),
    };
    let watch = form.watch();
    let signals = stop_on_signals(&watch)?;
    let outcome = match &arguments.listen {
        Some(address) => listen(global, arguments, address, &watch).map(Some),
        None => standard_streams()
            .map_err(Problem::io("use standard input and output"))
            .and_then(
                |stream| match receive(global, arguments, Box::new(stream), &watch)? {
                    Err(Error::OnlyAsked) => Ok(None),
                    outcome => outcome.map(Some).map_err(problem),
                },
            ),
    };
    signals.close();
    let Some(received) = outcome? else {
        return Ok(ExitCode::SUCCESS);
    };
    if arguments.stdio {
        // Standard output was the connection; the source reports.
        return Ok(ExitCode::SUCCESS);
    }
    let value = json!({ "event": "result", "result": received });
    result(global, &value, || {
        format!("process {} runs here\n", received.pid)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Takes standard input and output for the migration. Nothing else, no action script either, may use
/// them then: output goes to standard error from here.
fn standard_streams() -> std::io::Result<Stream> {
    let stream = Stream::descriptors(std::io::stdin(), std::io::stdout(), "the source")?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok(stream)
}

/// Takes connections until one has brought a tree, or failed to after it made an offer.
fn listen(
    global: &Global,
    arguments: &Arguments,
    address: &str,
    watch: &Watch,
) -> Result<Received, Problem> {
    // What is wrong with them the user learns now, not the first source that comes.
    global.criu()?;
    let work_dir = work_dir(arguments);
    request(arguments, &work_dir)?;
    std::fs::read_dir(&work_dir).map_err(Problem::io(format!(
        "use the directory {}",
        work_dir.display()
    )))?;
    let server = arguments.protection.server()?;
    let protected = arguments.insecure || arguments.protection.is_tls();
    let addresses = addresses(address, protected)?;
    let listening = || Problem::io(format!("listen on {address}"));
    let listener = TcpListener::bind(addresses.as_slice()).map_err(listening())?;
    listener.set_nonblocking(true).map_err(listening())?;
    let local = listener.local_addr().map_err(listening())?;
    let announced = match global.json {
        true => format!(
            "{}\n",
            json!({ "event": "listening", "address": local.to_string() })
        ),
        false => format!("listening on {local}\n"),
    };
    write_stdout(&announced).map_err(Problem::io("write to standard output"))?;
    loop {
        if watch.is_cancelled() {
            return Err(Problem::Interrupted);
        }
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(ACCEPT_CHECK);
                continue;
            }
            // The peer may have gone already.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(listening()(error)),
        };
        let Ok(stream) = Stream::tcp(stream) else {
            continue;
        };
        let peer = stream.peer();
        let stream = match accepted(stream, server.as_ref())? {
            Ok(stream) => stream,
            Err(error) => {
                eprintln!(
                    "criuctl: turned {peer} away: {}",
                    visible(&error.to_string())
                );
                continue;
            }
        };
        match receive(global, arguments, stream, watch)? {
            Ok(received) => return Ok(received),
            Err(Error::OnlyAsked) => {}
            // No migration has failed yet.
            Err(error @ (Error::Stranger { .. } | Error::Refused { .. })) => {
                eprintln!(
                    "criuctl: turned {peer} away: {}",
                    visible(&error.to_string())
                );
            }
            Err(error) => return Err(problem(error)),
        }
    }
}

fn receive(
    global: &Global,
    arguments: &Arguments,
    stream: Box<dyn Transport>,
    watch: &Watch,
) -> Result<Result<Received, Error>, Problem> {
    let work_dir = work_dir(arguments);
    let mut restore = request(arguments, &work_dir)?;
    let logs = Logs::prepare(&mut restore.settings)?;
    let mut destination = Destination::new(global.criu()?, restore);
    destination.work_dir.clone_from(&work_dir);
    destination.ignore.clone_from(&arguments.ignore);
    destination.allow_sync.clone_from(&arguments.allow_sync);
    if let Some(limit_bytes) = arguments.max_bytes {
        destination.limit_bytes = limit_bytes;
    }
    if let Some(silence) = arguments.silence {
        destination.timing = timing(silence);
    }
    let mut hooks = CommandHooks {
        interrupt: Interrupt::default(),
        scripts: Scripts {
            programs: arguments.settings.action_script.clone(),
            images: work_dir,
        },
    };
    let outcome = destination.receive(stream, &mut hooks, watch);
    match &outcome {
        Ok(_) => logs.discard(),
        Err(error) => logs.discard_unless_criu_failed(error),
    }
    Ok(outcome)
}

fn problem(error: Error) -> Problem {
    failed(error, "receiving a process tree".to_owned())
}

fn work_dir(arguments: &Arguments) -> PathBuf {
    let given = arguments.images_dir.clone();
    given.unwrap_or_else(std::env::temp_dir)
}

fn request(arguments: &Arguments, work_dir: &PathBuf) -> Result<Restore, Problem> {
    let mut restore = Restore::new(work_dir);
    arguments.settings.apply(&mut restore.settings);
    arguments.outside.apply(&mut restore)?;
    restore.cgroups = arguments.cgroups.cgroups();
    Ok(restore)
}
