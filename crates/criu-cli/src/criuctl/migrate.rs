//! `criuctl migrate`.

mod course;
mod logs;
mod progress;
#[cfg(feature = "tls")]
mod protection;
#[cfg(not(feature = "tls"))]
#[path = "migrate/plain.rs"]
mod protection;
mod receive;
mod send;

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use criu_migrate::transport::{Protection, Stream, Transport, protection_of};
use criu_migrate::{Error, Timing};

use super::Global;
use super::report::Problem;

use logs::Logs;

pub(super) use protection::ProtectionArguments;
use protection::connected;

/// Move a running process tree to another host
///
/// The tree is frozen, copied, restored there, and goes on there; here it is gone then. It never runs on
/// both hosts. Whatever goes wrong before the hand-over, Ctrl-C on either side included, lets it go on
/// here and leaves nothing there.
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Examples, first on the destination, then on the source:
  criuctl migrate receive --listen 127.0.0.1:7077
  criuctl migrate send 4711 127.0.0.1:7077

Or with one command on the source, over ssh:
  criuctl migrate send 4711 --over 'ssh root@there criuctl migrate receive --stdio'

The files the processes use have to be there under the same names, or come along (--sync); their process ids
have to be free there: a tree in a pid namespace of its own brings its ids along.

Containers of runc and podman move by their own runtime:
  criuctl migrate send --podman web 127.0.0.1:7077")]
pub(super) enum Verb {
    Receive(Box<receive::Arguments>),
    Send(Box<send::Arguments>),
}

pub(super) fn run(global: &Global, verb: Verb) -> Result<ExitCode, Problem> {
    match verb {
        Verb::Receive(arguments) => receive::run(global, &arguments),
        Verb::Send(arguments) => send::run(global, &arguments),
    }
}

/// The exit code of a migration that leaves the tree stopped, for the user to decide.
const IN_DOUBT: u8 = 3;

/// The usual waits, but for how long a peer may be silent.
fn timing(silence: Duration) -> Timing {
    let mut timing = Timing::default();
    timing.silence = silence;
    // Who puts up with a slow peer does so from the beginning: what else the peer has to do takes longer, too.
    let usual = Timing::default().silence.as_secs().max(1);
    let times = u32::try_from(silence.as_secs().div_ceil(usual)).unwrap_or(u32::MAX);
    timing.greeting = timing.greeting.saturating_mul(times.max(1));
    timing.answer = timing.answer.saturating_mul(times.max(1));
    // The peer must not seem dead because one beat is late.
    timing.beat = timing.beat.min(silence / 4);
    timing
}

/// How long the destination may take to accept the connection.
const CONNECT: Duration = Duration::from_secs(10);

/// Reaches a receiver: by the streams of a command, or at `HOST:PORT`.
pub(super) fn reach(
    way: (Option<&str>, Option<&str>),
    insecure: bool,
    protection: &ProtectionArguments,
) -> Result<Box<dyn Transport>, Problem> {
    match way {
        (Some(command), _) => {
            let stream = Stream::command(command);
            Ok(Box::new(
                stream.map_err(Problem::io(format!("run `{command}`")))?,
            ))
        }
        (None, Some(text)) => {
            let client = protection.client(text)?;
            let addresses = addresses(text, insecure || protection.is_tls())?;
            let stream = Stream::connect(addresses.as_slice(), CONNECT)
                .map_err(Problem::io(format!("connect to {text}")))?;
            connected(stream, client.as_ref(), text)
        }
        (None, None) => {
            let text = "where to? Give HOST:PORT or --over COMMAND";
            Err(Problem::Usage(text.to_owned()))
        }
    }
}

/// Finds the addresses of `HOST:PORT`, and refuses those where anyone on the way could read the memory
/// of the tree, or put in another, unless they are `protected` or the user is content with that.
fn addresses(text: &str, protected: bool) -> Result<Vec<SocketAddr>, Problem> {
    let resolved = text
        .to_socket_addrs()
        .map_err(Problem::io(format!("resolve {text}")))?;
    let addresses: Vec<SocketAddr> = resolved.collect();
    let open = addresses
        .iter()
        .find(|address| protection_of(address.ip()) != Protection::Loopback);
    match open {
        Some(address) if !protected => Err(Problem::Usage(format!(
            "{address} is not on this machine, and plain TCP protects neither the memory of the tree nor the \
             destination; use {}`--over 'ssh HOST criuctl migrate receive --stdio'`, or `--insecure` on a network \
             where everyone may run anything as root",
            protection::REMEDY
        ))),
        _ => Ok(addresses),
    }
}

/// Turns a failed migration into a problem.
pub(super) fn failed(error: Error, tried: String) -> Problem {
    match error {
        Error::Criu(error) => Problem::during(*error, tried),
        Error::Cancelled => Problem::Interrupted,
        Error::Misuse { problem } => Problem::Usage(problem.to_owned()),
        error => Problem::Migration {
            tried,
            source: Box::new(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_tcp_is_for_loopback_unless_the_user_insists() {
        assert!(addresses("127.0.0.1:1", false).is_ok());
        assert!(addresses("[::1]:1", false).is_ok());
        for open in ["0.0.0.0:1", "192.0.2.1:1", "[::]:1"] {
            assert!(
                matches!(addresses(open, false), Err(Problem::Usage(_))),
                "{open}"
            );
            assert!(addresses(open, true).is_ok(), "{open}");
        }
        assert!(matches!(
            addresses("127.0.0.1", false),
            Err(Problem::Io { .. })
        ));
    }
}
