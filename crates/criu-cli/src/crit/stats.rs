//! `crit stats`.

use std::io::stdout;
use std::path::PathBuf;
use std::time::Duration;

use criu_image::checkpoint::present;
use criu_image::memory::PageSize;
use criu_image::stats::{DumpStats, RestoreStats};
use criu_image::{Checkpoint, ImageKind};
use serde_json::{Value, json};

use super::problem::Problem;
use super::size::ByteSize;
use crate::output::{Color, Table, Tone, write_stdout};

/// Show what the dump and the last restore of a checkpoint took
///
/// CRIU writes its statistics into its work directory, which is the images directory unless `--work-dir` says
/// otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  crit stats /tmp/images
  crit stats --json /tmp/work | jq .dump.frozen_time_us

Exit status: 0 success; 1 there are no statistics; 2 wrong usage.")]
pub(super) struct Arguments {
    /// The directory with stats-dump or stats-restore
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Print JSON: times in microseconds, the rest as counts
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let checkpoint = Checkpoint::open(&arguments.directory)?;
    let dump = present(checkpoint.dump_stats())?;
    let restore = present(checkpoint.restore_stats())?;
    if dump.is_none() && restore.is_none() {
        let directory = arguments.directory.display();
        return Err(Problem::Refused(format!(
            "{directory} holds no statistics (stats-dump, stats-restore)"
        )));
    }
    let text = if arguments.json {
        let value = json!({
            "dump": dump.as_ref().map(|dump| as_json(&dump_lines(dump))),
            "restore": restore.as_ref().map(|restore| as_json(&restore_lines(restore))),
        });
        format!("{value:#}\n")
    } else {
        let mut table = Table::default();
        let page_size = page_size(&checkpoint);
        for (title, lines) in [
            ("Dump", dump.as_ref().map(dump_lines)),
            ("Restore", restore.as_ref().map(restore_lines)),
        ] {
            let Some(lines) = lines else { continue };
            table.row([(title.to_owned(), Tone::Strong)]);
            for Line { what, amount, .. } in lines {
                let Some(amount) = amount else { continue };
                let size = match amount {
                    Amount::Pages(count @ 1..) => {
                        let bytes = count.saturating_mul(page_size.bytes());
                        ByteSize(bytes).to_string()
                    }
                    _ => String::new(),
                };
                let cells = [format!("  {what}"), amount.to_string(), size];
                table.row(cells.map(|cell| (cell, Tone::Plain)));
            }
        }
        table.render(Color::default().applies_to(&stdout()))
    };
    write_stdout(&text).map_err(Problem::stdout)
}

/// The usual size of a page where the checkpoint comes from; statistics alone do not tell.
fn page_size(checkpoint: &Checkpoint) -> PageSize {
    let ids = checkpoint.ids_of(ImageKind::Core).unwrap_or_default();
    let tid = ids.first().and_then(|&id| u32::try_from(id).ok());
    let core = tid.and_then(|tid| checkpoint.core(tid).ok());
    core.map_or(PageSize::DEFAULT, |core| PageSize::usual_on(core.mtype))
}

/// A line of the statistics.
struct Line {
    /// Its member in JSON, which is CRIU's name of the field.
    key: &'static str,
    what: &'static str,
    amount: Option<Amount>,
}

/// Something counted.
#[derive(Clone, Copy)]
enum Amount {
    Time(Duration),
    Pages(u64),
    Count(u64),
}

fn dump_lines(dump: &DumpStats) -> Vec<Line> {
    let time = |key, what, time| line(key, what, time, Amount::Time);
    let pages = |key, what, pages| line(key, what, pages, Amount::Pages);
    let count = |key, what, count| line(key, what, count, Amount::Count);
    vec![
        time(
            "freezing_time_us",
            "until all stood still",
            Some(dump.freezing),
        ),
        time("frozen_time_us", "standing still", Some(dump.frozen)),
        time("memdump_time_us", "taking memory", Some(dump.memory_dump)),
        time(
            "memwrite_time_us",
            "writing memory",
            Some(dump.memory_write),
        ),
        time(
            "irmap_resolve_us",
            "finding watched paths",
            dump.irmap_resolve,
        ),
        pages(
            "pages_scanned",
            "memory looked at",
            Some(dump.pages_scanned),
        ),
        pages(
            "pages_skipped_parent",
            "memory the parent has",
            Some(dump.pages_skipped_parent),
        ),
        pages("pages_written", "memory written", Some(dump.pages_written)),
        pages("pages_lazy", "memory left for later", Some(dump.pages_lazy)),
        count("page_pipes", "pipes used", dump.page_pipes),
        count(
            "page_pipe_bufs",
            "pipe buffers used",
            dump.page_pipe_buffers,
        ),
        pages(
            "shpages_scanned",
            "shared memory looked at",
            dump.shared_pages_scanned,
        ),
        pages(
            "shpages_skipped_parent",
            "shared memory the parent has",
            dump.shared_pages_skipped_parent,
        ),
        pages(
            "shpages_written",
            "shared memory written",
            dump.shared_pages_written,
        ),
    ]
}

fn restore_lines(restore: &RestoreStats) -> Vec<Line> {
    let time = |key, what, time| line(key, what, time, Amount::Time);
    let pages = |key, what, pages| line(key, what, pages, Amount::Pages);
    vec![
        time("forking_time_us", "creating tasks", Some(restore.forking)),
        time("restore_time_us", "in all", Some(restore.restore)),
        pages(
            "pages_compared",
            "memory compared with parents'",
            Some(restore.pages_compared),
        ),
        pages(
            "pages_skipped_cow",
            "memory shared with parents",
            Some(restore.pages_skipped_cow),
        ),
        pages("pages_restored", "memory written", restore.pages_restored),
    ]
}

fn line<T>(
    key: &'static str,
    what: &'static str,
    value: Option<T>,
    amount: fn(T) -> Amount,
) -> Line {
    Line {
        key,
        what,
        amount: value.map(amount),
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Time(time) => write!(f, "{time:?}"),
            Self::Count(count) => count.fmt(f),
            Self::Pages(1) => f.write_str("1 page"),
            Self::Pages(count) => write!(f, "{count} pages"),
        }
    }
}

fn as_json(lines: &[Line]) -> Value {
    let number = |amount| match amount {
        Amount::Time(time) => json!(time.as_micros()),
        Amount::Pages(count) | Amount::Count(count) => json!(count),
    };
    let members = lines
        .iter()
        .map(|line| (line.key.to_owned(), json!(line.amount.map(number))));
    Value::Object(members.collect())
}
