//! `crit mem`.

mod dump;
mod table;

use std::ops::Range;
use std::path::PathBuf;

use criu_inspect::memory::{AreaKind, ExtractError, TaskArea, extract};

use super::place::{self, Place, Subject};
use super::problem::Problem;
use super::progress::Progress;
use super::size::ByteSize;
use super::target::Target;

pub(super) use self::dump::{hex_text, printable};
pub(super) use self::table::{area_json, hex, subject_json};

/// Show the memory of tasks: what lies where, its bytes, or all of them in a file
///
/// Without --at and --out, a table for each task: its areas, how large they are, and how much of each is in the
/// pages file here, in those of parents, never written to (zero), left in the source by a lazy dump, or unchanged
/// in the mapped file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  crit mem /tmp/images                                    what lies where, for all tasks
  crit mem /tmp/images --pid 4711 --kind heap --spans     where each part of the heap is
  crit mem /tmp/images --pid 4711 --at 7ffc2a1ef000       256 bytes as a hex dump
  crit mem /tmp/images --pid 4711 --kind heap --out heap.bin
  crit mem /tmp/images --shared 5 --at 0 --len 4K         of a shared memory object

Bytes that are not in the images are said to be elsewhere, and where; in --out, zeros stand for them.")]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// Show the bytes from this address on
    #[arg(long, value_name = "ADDRESS", value_parser = place::address, conflicts_with_all = ["kind", "protection", "range", "spans"])]
    at: Option<u64>,
    /// How many bytes [default: 256; with --out, the rest of the area]
    #[arg(long, value_name = "BYTES", value_parser = place::byte_len, requires = "at")]
    len: Option<u64>,
    /// Write the bytes, of one area after the other, to this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["spans", "json"])]
    out: Option<PathBuf>,
    /// Only areas of this kind (can be repeated)
    #[arg(long, value_name = "KIND", value_parser = clap::builder::PossibleValuesParser::new(AreaKind::WORDS))]
    kind: Vec<String>,
    /// Only areas with this protection, such as `rw-` or `r?x`
    #[arg(long, value_name = "RWX", value_parser = protection)]
    protection: Option<String>,
    /// Only addresses of this range: FROM-TO or FROM+BYTES
    #[arg(long, value_name = "RANGE", value_parser = place::range)]
    range: Option<Range<u64>>,
    /// Show each part of an area that has its bytes in one place
    #[arg(long)]
    spans: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--kind`, `--protection` and `--range` leave.
#[derive(Debug)]
struct Filter<'a> {
    kinds: &'a [String],
    protection: Option<&'a str>,
    range: Range<u64>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let memory = arguments.place.open()?;
    let filter = Filter {
        kinds: &arguments.kind,
        protection: arguments.protection.as_deref(),
        range: arguments.range.clone().unwrap_or(0..u64::MAX),
    };
    match (arguments.at, &arguments.out) {
        (None, None) => table::show(&memory, arguments, &filter)?,
        (at, Some(out)) => {
            let subject = arguments.place.only(&memory)?;
            let ranges = match at {
                Some(at) => vec![bytes_from(&subject, at, arguments.len)?],
                None => filter.ranges(&subject),
            };
            write(&subject, &ranges, out)?;
        }
        (Some(at), None) => {
            let subject = arguments.place.only(&memory)?;
            let range = bytes_from(&subject, at, arguments.len.or(Some(DUMP_LEN)))?;
            dump::show(&memory, &subject, range, arguments.json)?;
        }
    }
    Ok(())
}

/// The bytes from an address on: as many as are asked for, else to the end of the area.
fn bytes_from(subject: &Subject<'_>, at: u64, len: Option<u64>) -> Result<Range<u64>, Problem> {
    let Some(area) = subject.space().area_at(at) else {
        let whose = match subject {
            Subject::Task(task) => format!("task {}", task.pid()),
            Subject::Shared { id, .. } => format!("shared memory object {id}"),
        };
        return Err(Problem::Refused(format!("{whose} has nothing at {at:#x}")));
    };
    let end = match len {
        Some(len) => at.saturating_add(len),
        None => area.end(),
    };
    Ok(at..end)
}

fn write(
    subject: &Subject<'_>,
    ranges: &[Range<u64>],
    out: &std::path::Path,
) -> Result<(), Problem> {
    let progress = Progress::watch()?;
    let expected = ranges
        .iter()
        .map(|range| range.end - range.start)
        .fold(0, u64::saturating_add);
    criu_inspect::Monitor::expect(&progress, expected);
    let target = Target::open((out != std::path::Path::new("-")).then_some(out))?;
    let mut output = target.sparse();
    let extracted = extract(subject.space(), ranges, &mut output, &progress);
    let extracted = extracted.and_then(|extracted| {
        output.finish()?;
        Ok(extracted)
    });
    let extracted = extracted.map_err(|error| match error {
        ExtractError::Write(source) => target.problem(source),
        ExtractError::Image(error) => error.into(),
        other => Problem::Refused(other.to_string()),
    })?;
    target.finish()?;
    drop(progress);
    let residence = &extracted.residence;
    let absent = [
        (residence.in_file, "in mapped files"),
        (residence.lazy, "left in the source by a lazy dump"),
        (residence.kernel, "the kernel's"),
        (residence.device, "a device's"),
        (residence.plugin, "a plugin's"),
        (residence.missing, "missing in the images"),
        (extracted.unmapped, "not mapped"),
    ];
    for (count, why) in absent.into_iter().filter(|&(count, _)| count > 0) {
        eprintln!("crit: zeros stand for {} {why}", ByteSize(count));
    }
    Ok(())
}

impl Filter<'_> {
    /// What is left of an area: its addresses, as far as they are asked for.
    fn cut(&self, area: &TaskArea) -> Option<Range<u64>> {
        let is_kind =
            self.kinds.is_empty() || self.kinds.iter().any(|kind| kind == area.kind.word());
        let protection = area.protection.to_string();
        let is_allowed = self.protection.is_none_or(|wanted| {
            wanted
                .chars()
                .zip(protection.chars())
                .all(|(wanted, there)| wanted == '?' || wanted == there)
        });
        let addresses =
            area.addresses.start.max(self.range.start)..area.addresses.end.min(self.range.end);
        (is_kind && is_allowed && !addresses.is_empty()).then_some(addresses)
    }

    fn ranges(&self, subject: &Subject<'_>) -> Vec<Range<u64>> {
        match subject {
            Subject::Task(task) => task.areas().filter_map(|area| self.cut(&area)).collect(),
            Subject::Shared { space, .. } => space
                .areas()
                .iter()
                .map(|area| area.start().max(self.range.start)..area.end().min(self.range.end))
                .filter(|range| !range.is_empty())
                .collect(),
        }
    }
}

fn protection(text: &str) -> Result<String, String> {
    let fits = text.len() == 3
        && text
            .chars()
            .zip("rwx".chars())
            .all(|(given, letter)| given == letter || given == '-' || given == '?');
    match fits {
        true => Ok(text.to_owned()),
        false => Err("not a protection such as rw-, r-x or r??".to_owned()),
    }
}

/// Bytes shown unless asked otherwise.
const DUMP_LEN: u64 = 256;
