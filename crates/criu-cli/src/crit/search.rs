//! `crit search`.

use std::fmt::Write as _;
use std::io::{BufWriter, Write, stdout};
use std::ops::{ControlFlow, Range};
use std::process::ExitCode;

use criu_image::memory::Content;
use criu_inspect::memory::{AreaKind, TaskMemory, unmapped_objects};
use criu_inspect::search::{Match, Pattern, Search, SearchError, Tally};
use serde_json::{Value, json};

use super::mem::{area_json, hex, hex_text, printable, subject_json};
use super::place::{self, Place, Subject};
use super::problem::Problem;
use super::progress::Progress;
use super::size::ByteSize;
use crate::output::{Color, Tone, visible};

/// Find bytes in the memory of tasks
///
/// Searches what is in the images, of parents too: each task's memory as the task sees it, then the shared memory
/// that nobody has mapped. What lies side by side is searched as one. Prints a line for each match: task, address,
/// area, and the bytes around it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  crit search /tmp/images password                     a text, in all tasks
  crit search /tmp/images --pid 4711 --context 64 password
  crit search /tmp/images --hex '89 50 4e 47 ?? 0a'    bytes; ?? is any byte
  crit search /tmp/images --utf16 password             a text as Java and JavaScript keep it
  crit search /tmp/images --regex '(?i)session=[0-9a-f]+'
  crit search /tmp/images --json password | jq .address

Exit status: 0 found; 1 not found; 2 error.")]
pub(super) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// What to find: a text, unless an option says otherwise
    #[arg(value_name = "PATTERN")]
    pattern: String,
    /// The pattern is a regular expression; with (?-u) it matches bytes, otherwise UTF-8
    #[arg(long, group = "form")]
    regex: bool,
    /// The pattern is bytes as pairs of hexadecimal digits; ?? is any byte
    #[arg(long, group = "form")]
    hex: bool,
    /// Find the text as UTF-16, little endian
    #[arg(long, group = "form")]
    utf16: bool,
    /// How many bytes to show on either side of a match
    #[arg(long, value_name = "BYTES", default_value_t = 16, value_parser = clap::value_parser!(u64).range(..=65536))]
    context: u64,
    /// Only matches that begin in this range: FROM-TO or FROM+BYTES
    #[arg(long, value_name = "RANGE", value_parser = place::range)]
    range: Option<Range<u64>>,
    /// Stop after so many matches
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Print only how many matches there are
    #[arg(long, conflicts_with = "json")]
    count: bool,
    /// Print a line of JSON for each match
    #[arg(long)]
    json: bool,
}

/// Runs the verb; it has exit codes of its own.
pub(super) fn main(arguments: &Arguments) -> ExitCode {
    match run(arguments) {
        Ok(0) => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        Err(problem) => match problem.report() {
            // A reader that has gone away has seen enough.
            code if code == ExitCode::SUCCESS => code,
            _ => ExitCode::from(2),
        },
    }
}

fn run(arguments: &Arguments) -> Result<u64, Problem> {
    let pattern = match arguments {
        Arguments { regex: true, .. } => Pattern::regex(&arguments.pattern),
        Arguments { hex: true, .. } => Pattern::hex(&arguments.pattern),
        Arguments { utf16: true, .. } => Pattern::utf16(&arguments.pattern),
        _ => Pattern::literal(arguments.pattern.as_bytes()),
    }
    .map_err(|error| Problem::Refused(error.to_string()))?;
    let memory = arguments.place.open()?;
    let mut finder = Finder {
        arguments,
        search: Search::new(&pattern),
        progress: Progress::watch()?,
        output: BufWriter::new(stdout()),
        colored: Color::Auto.applies_to(&stdout()),
        count: 0,
        not_searched: Tally::default(),
    };
    if let Some(range) = &arguments.range {
        finder.search.addresses = range.clone();
    }
    for pid in arguments.place.pids(&memory)? {
        finder.find(&Subject::Task(TaskMemory::open(&memory, pid)?))?;
    }
    let objects = match (arguments.place.pid, arguments.place.shared) {
        (Some(_), _) => Vec::new(),
        (None, Some(id)) => vec![id],
        (None, None) => unmapped_objects(&memory)?,
    };
    for id in objects {
        let space = memory.shared(id)?;
        finder.find(&Subject::Shared { id, space })?;
    }
    finder.finish()
}

struct Finder<'a> {
    arguments: &'a Arguments,
    search: Search<'a>,
    progress: Progress,
    output: BufWriter<std::io::Stdout>,
    colored: bool,
    count: u64,
    not_searched: Tally,
}

impl Finder<'_> {
    /// Searches one subject and prints what is found.
    fn find(&mut self, subject: &Subject<'_>) -> Result<(), Problem> {
        let is_full = |count: u64| self.arguments.limit.is_some_and(|limit| count >= limit);
        if is_full(self.count) {
            return Ok(());
        }
        let space = subject.space();
        let stored = space
            .spans(self.search.addresses.clone())
            .filter(|span| span.content.is_known() && span.content != Content::Zero)
            .map(|span| span.byte_len())
            .sum();
        criu_inspect::Monitor::expect(&self.progress, stored);
        let mut reader = space.reader();
        let mut problem = None;
        let mut count = self.count;
        let output = &mut self.output;
        let (arguments, colored) = (self.arguments, self.colored);
        let tally = self.search.run(space, &self.progress, |found| {
            count += 1;
            if !arguments.count {
                let line = Line::read(subject, &mut reader, found, arguments.context);
                let printed = line.and_then(|line| {
                    let text = match arguments.json {
                        true => line.json(subject),
                        false => line.text(subject, colored),
                    };
                    writeln!(output, "{text}").map_err(Problem::stdout)
                });
                if let Err(error) = printed {
                    problem = Some(error);
                    return ControlFlow::Break(());
                }
            }
            match is_full(count) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        self.count = count;
        if let Some(problem) = problem {
            return Err(problem);
        }
        match tally {
            Ok(tally) => {
                self.not_searched.lazy += tally.lazy;
                self.not_searched.missing += tally.missing;
                Ok(())
            }
            Err(SearchError::Image(error)) => Err(error.into()),
            Err(error) => {
                // What was found is of use.
                self.output.flush().map_err(Problem::stdout)?;
                Err(Problem::Refused(error.to_string()))
            }
        }
    }

    fn finish(mut self) -> Result<u64, Problem> {
        if self.arguments.count {
            writeln!(self.output, "{}", self.count).map_err(Problem::stdout)?;
        }
        self.output.flush().map_err(Problem::stdout)?;
        drop(self.progress);
        // Not told of files: their bytes are where everybody can search them.
        for (count, why) in [
            (self.not_searched.lazy, "left in the source by a lazy dump"),
            (self.not_searched.missing, "missing in the images"),
        ] {
            if count > 0 {
                eprintln!("crit: not searched: {} {why}", ByteSize(count));
            }
        }
        Ok(self.count)
    }
}

/// A match with the bytes around it.
struct Line {
    found: Match,
    before: Vec<u8>,
    bytes: Vec<u8>,
    after: Vec<u8>,
}

impl Line {
    fn read(
        subject: &Subject<'_>,
        reader: &mut criu_image::memory::MemoryReader<'_>,
        found: Match,
        context: u64,
    ) -> Result<Self, Problem> {
        let end = found.address + found.byte_len;
        // Only what lies side by side with the match.
        let mut start = found.address.saturating_sub(context);
        let mut next = start;
        for span in subject.space().spans(start..found.address) {
            if span.start != next {
                start = span.start;
            }
            next = span.end;
            if !span.content.is_known() {
                start = next;
            }
        }
        if next != found.address {
            start = found.address;
        }
        let mut read = |from: u64, to: u64| {
            let mut bytes = vec![0; usize::try_from(to - from).unwrap_or_default()];
            let count = reader.read_at(from, &mut bytes)?;
            bytes.truncate(count);
            Ok::<_, Problem>(bytes)
        };
        Ok(Self {
            before: read(start, found.address)?,
            bytes: read(found.address, end)?,
            after: read(end, end.saturating_add(context))?,
            found,
        })
    }

    fn text(&self, subject: &Subject<'_>, colored: bool) -> String {
        let mut text = String::new();
        let address = self.found.address;
        // Writing to a string does not fail.
        let _ = match subject {
            Subject::Task(task) => {
                let area = task.area_at(address);
                let kind = area.map(|area| short(&area.kind)).unwrap_or_default();
                write!(text, "{} {address:012x} {kind}  ", task.pid())
            }
            Subject::Shared { id, .. } => write!(text, "shared {id} {address:012x}  "),
        };
        let shown = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|&byte| printable(byte))
                .collect::<String>()
        };
        text += &shown(&self.before);
        text += &Tone::Bad.paint(&shown(&self.bytes), colored);
        text += &shown(&self.after);
        text
    }

    fn json(&self, subject: &Subject<'_>) -> String {
        let mut value = serde_json::Map::new();
        value.extend([subject_json(subject)]);
        value.insert("address".into(), hex(self.found.address));
        value.insert("length".into(), json!(self.found.byte_len));
        if let Subject::Task(task) = subject
            && let Some(area) = task.area_at(self.found.address)
        {
            let mut area_value = area_json(&area);
            area_value.insert("start".into(), hex(area.addresses.start));
            area_value.insert("end".into(), hex(area.addresses.end));
            value.insert("area".into(), Value::Object(area_value));
        }
        value.insert("before".into(), json!(hex_text(&self.before)));
        value.insert("bytes".into(), json!(hex_text(&self.bytes)));
        value.insert("after".into(), json!(hex_text(&self.after)));
        let text: String = self.bytes.iter().map(|&byte| printable(byte)).collect();
        value.insert("text".into(), json!(text));
        Value::Object(value).to_string()
    }
}

/// What an area is, without the position in it.
fn short(kind: &AreaKind) -> String {
    match kind {
        AreaKind::File {
            path: Some(path), ..
        } => visible(&path.to_string()),
        AreaKind::MemoryFile {
            name: Some(name), ..
        } => visible(&format!("[memfd {name}]")),
        AreaKind::Shared { id, .. } => format!("[shared {id}]"),
        AreaKind::SystemV { id, .. } => format!("[sysv {id}]"),
        other => format!("[{}]", other.word()),
    }
}
