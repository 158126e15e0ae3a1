//! `crit x`.

mod tables;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use criu_image::Checkpoint;
use criu_inspect::explore::{Explorer, Partial, Streamed, Warning};
use serde::Serialize;

use super::problem::Problem;
use crate::output::{VisibleLines, visible};

/// Explore a checkpoint: its processes, files, memory, sockets and more
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  crit x /tmp/images ps                          the tree of processes
  crit x /tmp/images fds --pid 4711              what has process 4711 open?
  crit x /tmp/images sk                          sockets, as ss shows them
  crit x /tmp/images env --json | jq .           the environment, for machines

What is missing or damaged is said on standard error, and the rest is shown.
Exit status: 0 success; 1 no such checkpoint or process; 2 wrong usage.")]
pub(super) struct Arguments {
    /// The directory with the images
    #[arg(value_name = "DIR")]
    images: PathBuf,
    /// What to show
    #[arg(value_enum, value_name = "WHAT")]
    what: What,
    /// Only the process with this id
    #[arg(short, long, value_name = "PID")]
    pid: Option<u32>,
    /// Print JSON; ps, fds, mems, rss and sk as go-criu's crit does
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum What {
    /// The tree of processes
    Ps,
    /// Open files, working directories and roots
    #[value(alias = "fd")]
    Fds,
    /// Mapped areas of memory
    #[value(alias = "mem")]
    Mems,
    /// Which pages were dumped
    Rss,
    /// Sockets
    Sk,
    /// Threads
    Threads,
    /// Mounts
    Mounts,
    /// Namespaces
    Ns,
    /// Network devices, addresses and routes
    Net,
    /// Environments
    Env,
    /// Arguments
    Args,
    /// Users, groups and capabilities
    Creds,
    /// Signals: pending, blocked, handled
    Signals,
    /// Timers
    Timers,
    /// Control groups
    Cgroups,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let checkpoint = Checkpoint::open(&arguments.images)?;
    let mut explorer = Explorer::new(checkpoint);
    let Partial {
        value: tasks,
        warnings,
    } = explorer.tasks();
    warn(&warnings);
    let images = arguments.images.display();
    if tasks.is_empty() {
        return Err(Problem::Refused(format!("{images} holds no processes")));
    }
    if let Some(pid) = arguments.pid {
        if tasks.find(pid).is_none() {
            let problem = format!("{images} holds no process with the id {pid}");
            return Err(Problem::Refused(problem));
        }
        explorer = explorer.only(pid);
    }
    let form = if arguments.json {
        Form::Json
    } else {
        Form::Text
    };
    let x = &mut explorer;
    let text = match arguments.what {
        What::Ps => form.names(x.processes(), |tree, out| tree.write_text(out)),
        What::Fds => form.names(x.open_files(), |files, out| files.write_text(out)),
        What::Mems => form.streamed(x.stream_mappings(), |areas, out| areas.write_text(out)),
        What::Rss => form.streamed(x.stream_resident(), |pages, out| pages.write_text(out)),
        What::Env => form.names(x.environment(), tables::environment),
        What::Sk => form.table(x.sockets(), tables::sockets),
        What::Threads => form.table(x.threads(), tables::threads),
        What::Mounts => form.table(x.mounts(), tables::mounts),
        What::Ns => form.table(x.namespaces(), tables::namespaces),
        What::Net => form.table(x.networks(), tables::networks),
        What::Args => form.table(x.arguments(), tables::arguments),
        What::Creds => form.table(x.credentials(), tables::credentials),
        What::Signals => form.table(x.signals(), tables::signals),
        What::Timers => form.table(x.timers(), tables::timers),
        What::Cgroups => form.table(x.cgroups(), tables::cgroups),
    };
    text.map_err(|source| Problem::Write { path: None, source })
}

/// How an answer is given.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Text,
}

impl Form {
    /// Gives an answer in CRIT's form, which holds names as they are.
    fn names<T: Serialize>(
        self,
        partial: Partial<T>,
        write: impl FnOnce(&T, &mut Output) -> io::Result<()>,
    ) -> io::Result<()> {
        warn(&partial.warnings);
        let mut out = self.output();
        match self {
            Self::Json => write_json(&partial.value, &mut out)?,
            Self::Text => write(&partial.value, &mut out)?,
        }
        out.flush()
    }

    /// Gives an answer in CRIT's form while it is worked out.
    fn streamed<T>(
        self,
        mut answer: Streamed<'_, T>,
        write: impl FnOnce(&mut Streamed<'_, T>, &mut Output) -> io::Result<()>,
    ) -> io::Result<()>
    where
        for<'a> Streamed<'a, T>: Serialize,
    {
        let mut out = self.output();
        let written = match self {
            Self::Json => write_json(&answer, &mut out),
            Self::Text => write(&mut answer, &mut out),
        };
        written.and_then(|()| out.flush())?;
        warn(&answer.into_warnings());
        Ok(())
    }

    /// Gives an answer as a table, whose cells are safe to print.
    fn table<T: Serialize>(
        self,
        partial: Partial<T>,
        write: impl FnOnce(&T, &mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        warn(&partial.warnings);
        let mut text = Vec::new();
        match self {
            Self::Json => write_json(&partial.value, &mut text)?,
            Self::Text => write(&partial.value, &mut text)?,
        }
        print(&text)
    }

    /// Standard output; on a terminal, names in text are made safe to print.
    fn output(self) -> Output {
        let stdout = io::stdout();
        let is_escaped = matches!(self, Self::Text) && stdout.is_terminal();
        BufWriter::with_capacity(
            OUTPUT_BUFFER_LEN,
            match is_escaped {
                true => Box::new(VisibleLines::new(stdout)),
                false => Box::new(stdout),
            },
        )
    }
}

/// Where text goes.
type Output = BufWriter<Box<dyn Write>>;

/// Bytes of text that are written at once.
const OUTPUT_BUFFER_LEN: usize = 64 * 1024;

/// Writes to standard output.
pub(super) fn print(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()
}

/// Writes JSON as go-criu's tool lays it out.
pub(super) fn write_json(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    let layout = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, layout);
    value.serialize(&mut serializer)?;
    out.write_all(b"\n")
}

/// Says what is amiss on standard error; each thing once.
fn warn(warnings: &[Warning]) {
    let mut said = std::collections::HashSet::new();
    for warning in warnings {
        let mut text = warning.to_string();
        let mut source = std::error::Error::source(warning);
        while let Some(error) = source {
            let reason = error.to_string();
            // What is transparent says the same again.
            if !text.ends_with(&reason) {
                text = format!("{text}: {reason}");
            }
            source = error.source();
        }
        if said.insert(text.clone()) {
            eprintln!("crit: warning: {}", visible(&text));
        }
    }
}
