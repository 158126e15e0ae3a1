//! What lies where.

use std::io::{self, BufWriter, Write, stdout};
use std::ops::Range;

use criu_image::memory::{AddressSpace, Content, Memory, Span};
use criu_inspect::memory::{AreaKind, Residence, TaskArea, TaskMemory, residence};
use serde_json::{Map, Value, json};

use super::super::place::Subject;
use super::super::problem::Problem;
use super::super::size::ByteSize;
use super::{Arguments, Filter};
use crate::output::{Color, Columns, Tone, visible};

/// Prints the table, or its JSON, of what is asked for.
pub(super) fn show(
    memory: &Memory,
    arguments: &Arguments,
    filter: &Filter<'_>,
) -> Result<(), Problem> {
    let listing = Listing {
        memory,
        filter,
        with_spans: arguments.spans,
        colored: Color::Auto.applies_to(&stdout()),
    };
    let mut out = BufWriter::new(stdout());
    let out = &mut out;
    let mut objects = Vec::new();
    if arguments.place.pid.is_none() {
        objects = memory.shared_ids()?;
        objects.retain(|id| arguments.place.shared.is_none_or(|wanted| wanted == *id));
    }
    let pids = arguments.place.pids(memory)?;
    if arguments.json {
        let mut shared = List::begin("{\"shared\":", out).map_err(Problem::stdout)?;
        for id in objects {
            let space = memory.shared(id)?;
            let written = shared
                .next(out)
                .and_then(|()| listing.object_json(id, &space, out));
            written.map_err(Problem::stdout)?;
        }
        let tasks = shared
            .end(out)
            .and_then(|()| List::begin(",\"tasks\":", out));
        let mut tasks = tasks.map_err(Problem::stdout)?;
        for pid in pids {
            let task = TaskMemory::open(memory, pid)?;
            let written = tasks.next(out).and_then(|()| listing.task_json(&task, out));
            written.map_err(Problem::stdout)?;
        }
        let ended = tasks.end(out).and_then(|()| out.write_all(b"}\n"));
        return ended.and_then(|()| out.flush()).map_err(Problem::stdout);
    }
    if arguments.place.shared.is_some() && objects.is_empty() {
        // Says that there is none.
        arguments.place.only(memory)?;
    }
    for (index, pid) in pids.into_iter().enumerate() {
        let task = TaskMemory::open(memory, pid)?;
        let gap = if index > 0 { "\n" } else { "" };
        let written = write!(out, "{gap}").and_then(|()| listing.task_text(&task, out));
        written.map_err(Problem::stdout)?;
    }
    for id in objects {
        let space = memory.shared(id)?;
        let written = writeln!(out).and_then(|()| listing.object_text(id, &space, out));
        written.map_err(Problem::stdout)?;
    }
    out.flush().map_err(Problem::stdout)
}

/// What a listing shows, and how.
struct Listing<'a> {
    memory: &'a Memory,
    filter: &'a Filter<'a>,
    with_spans: bool,
    colored: bool,
}

/// Takes the rows of a table one by one.
type Rows<'a> = &'a mut dyn FnMut(Vec<(String, Tone)>) -> io::Result<()>;

impl Listing<'_> {
    fn task_text(&self, task: &TaskMemory<'_>, out: &mut impl Write) -> io::Result<()> {
        let comm = task.comm().map(|comm| visible(&comm.to_string()));
        let name = format!("{} {}", task.pid(), comm.unwrap_or_default());
        let name = Tone::Strong.paint(name.trim_end(), self.colored);
        writeln!(out, "{name}")?;
        self.table(|rows| self.task_rows(task, rows), out)
    }

    fn object_text(&self, id: u64, space: &AddressSpace, out: &mut impl Write) -> io::Result<()> {
        let end = space.areas().last().map_or(0, |area| area.end());
        let what = format!("shared memory object {id}");
        let sum = residence(space, 0..u64::MAX);
        let rows = |rows: Rows<'_>| {
            rows(head("POSITIONS"))?;
            rows(row(&(0..end), "", &what, &sum, Tone::Strong))?;
            self.span_rows(space, 0..u64::MAX, rows)
        };
        self.table(rows, out)
    }

    /// Makes the rows twice: to know how wide they are, and to write them.
    fn table(
        &self,
        make: impl Fn(Rows<'_>) -> io::Result<()>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let mut columns = Columns::default();
        make(&mut |row| {
            columns.measure(&row);
            Ok(())
        })?;
        let mut line = String::new();
        make(&mut |row| {
            line.clear();
            columns.append(&row, self.colored, &mut line);
            out.write_all(line.as_bytes())
        })
    }

    fn task_rows(&self, task: &TaskMemory<'_>, rows: Rows<'_>) -> io::Result<()> {
        rows(head("ADDRESSES"))?;
        let mut sum = Residence::default();
        for area in task.areas() {
            let Some(addresses) = self.filter.cut(&area) else {
                continue;
            };
            let amount = residence(task.space(), addresses.clone());
            sum.add_all(&amount);
            let sharing = if area.is_shared { 's' } else { 'p' };
            let protection = format!("{}{sharing}", area.protection);
            let kind = visible(&area.kind.to_string());
            rows(row(&addresses, &protection, &kind, &amount, Tone::Plain))?;
            self.span_rows(task.space(), addresses, rows)?;
        }
        let mut cells = vec![("total".to_owned(), Tone::Strong)];
        cells.extend(amounts(&sum, "", Tone::Strong));
        rows(cells)
    }

    fn span_rows(
        &self,
        space: &AddressSpace,
        addresses: Range<u64>,
        rows: Rows<'_>,
    ) -> io::Result<()> {
        if !self.with_spans {
            return Ok(());
        }
        for span in space.spans(addresses) {
            let tone = match span.content {
                Content::Missing => Tone::Bad,
                _ => Tone::Plain,
            };
            let mut cells = vec![
                (format!("  {}", range_text(&(span.start..span.end))), tone),
                (ByteSize(span.byte_len()).to_string(), tone),
            ];
            cells.extend([(); 7].map(|()| (String::new(), Tone::Plain)));
            cells.push((format!("  {}", where_text(self.memory, space, span)), tone));
            rows(cells)?;
        }
        Ok(())
    }

    fn task_json(&self, task: &TaskMemory<'_>, out: &mut impl Write) -> io::Result<()> {
        let mut sum = Residence::default();
        let mut areas = List::begin("{\"areas\":", out)?;
        for area in task.areas() {
            let Some(addresses) = self.filter.cut(&area) else {
                continue;
            };
            let amount = residence(task.space(), addresses.clone());
            sum.add_all(&amount);
            let mut value = area_json(&area);
            value.insert("start".into(), hex(addresses.start));
            value.insert("end".into(), hex(addresses.end));
            value.insert("size".into(), json!(addresses.end - addresses.start));
            residence_json(&amount, &mut value);
            areas.next(out)?;
            self.with_spans_json(value, task.space(), addresses, out)?;
        }
        areas.end(out)?;
        let mut value = Map::new();
        value.insert("pid".into(), json!(task.pid()));
        if let Some(comm) = task.comm() {
            value.insert("comm".into(), json!(comm.to_string()));
        }
        value.insert("size".into(), json!(total(&sum)));
        residence_json(&sum, &mut value);
        rest_json(&value, out)
    }

    fn object_json(&self, id: u64, space: &AddressSpace, out: &mut impl Write) -> io::Result<()> {
        let mut value = Map::new();
        value.insert("id".into(), json!(id));
        let sum = residence(space, 0..u64::MAX);
        value.insert("size".into(), json!(total(&sum)));
        residence_json(&sum, &mut value);
        self.with_spans_json(value, space, 0..u64::MAX, out)
    }

    /// Writes an object, with the spans of a range of addresses if they are asked for.
    fn with_spans_json(
        &self,
        value: Map<String, Value>,
        space: &AddressSpace,
        addresses: Range<u64>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        if !self.with_spans {
            return write!(out, "{}", Value::Object(value));
        }
        let mut spans = List::begin("{\"spans\":", out)?;
        for span in space.spans(addresses) {
            spans.next(out)?;
            write!(
                out,
                "{}",
                Value::Object(span_json(self.memory, space, span))
            )?;
        }
        spans.end(out)?;
        rest_json(&value, out)
    }
}

/// A list in JSON that is written item by item.
struct List {
    is_empty: bool,
}

impl List {
    fn begin(name: &str, out: &mut impl Write) -> io::Result<Self> {
        write!(out, "{name}[")?;
        Ok(Self { is_empty: true })
    }

    /// Begins an item.
    fn next(&mut self, out: &mut impl Write) -> io::Result<()> {
        match std::mem::replace(&mut self.is_empty, false) {
            true => Ok(()),
            false => out.write_all(b","),
        }
    }

    fn end(self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(b"]")
    }
}

/// Writes the members of an object behind those that are there, and ends it.
fn rest_json(members: &Map<String, Value>, out: &mut impl Write) -> io::Result<()> {
    for (name, value) in members {
        write!(out, ",{}:{value}", json!(name))?;
    }
    out.write_all(b"}")
}

fn head(first: &str) -> Vec<(String, Tone)> {
    [
        first, "SIZE", "PROT", "HERE", "PARENT", "ZERO", "LAZY", "FILE", "OTHER", "WHAT",
    ]
    .map(|name| (name.to_owned(), Tone::Strong))
    .to_vec()
}

fn row(
    addresses: &Range<u64>,
    protection: &str,
    what: &str,
    residence: &Residence,
    tone: Tone,
) -> Vec<(String, Tone)> {
    let mut cells = vec![(range_text(addresses), tone)];
    cells.extend(amounts(residence, protection, tone));
    cells.push((what.to_owned(), tone));
    cells
}

/// The cells from SIZE to OTHER.
fn amounts(residence: &Residence, protection: &str, tone: Tone) -> Vec<(String, Tone)> {
    let other = residence
        .kernel
        .saturating_add(residence.device)
        .saturating_add(residence.plugin);
    let size = |count: u64| match count {
        0 => "-".to_owned(),
        count => ByteSize(count).to_string(),
    };
    let other = match residence.missing {
        0 => (size(other), tone),
        missing => (format!("{} missing", ByteSize(missing)), Tone::Bad),
    };
    vec![
        (ByteSize(total(residence)).to_string(), tone),
        (protection.to_owned(), tone),
        (size(residence.here()), tone),
        (size(residence.in_parents()), tone),
        (size(residence.zero), tone),
        (size(residence.lazy), tone),
        (size(residence.in_file), tone),
        other,
    ]
}

fn total(residence: &Residence) -> u64 {
    [
        residence.in_parents(),
        residence.zero,
        residence.lazy,
        residence.in_file,
        residence.kernel,
        residence.device,
        residence.plugin,
        residence.missing,
    ]
    .into_iter()
    .fold(residence.here(), u64::saturating_add)
}

/// Says where the bytes of a span are.
pub(super) fn where_text(memory: &Memory, space: &AddressSpace, span: Span) -> String {
    match span.content {
        Content::Stored { pages, offset } => {
            let (name, depth) = pages_name(space, pages);
            format!("{}{name}+{offset:#x}", depth_text(depth))
        }
        Content::Compressed { pages } => {
            let (name, depth) = pages_name(space, pages);
            format!("{}{name}, compressed", depth_text(depth))
        }
        Content::Zero => "zero, never written to".to_owned(),
        Content::Lazy => "left in the source by a lazy dump".to_owned(),
        Content::File { id, offset } => match memory.files().path(id) {
            Some(path) => format!("in {}+{offset:#x}", visible(&path.to_string())),
            None => format!("in file {id}+{offset:#x}"),
        },
        Content::Kernel => "provided by the kernel anew".to_owned(),
        Content::Device => "of a device".to_owned(),
        Content::Plugin => "kept by a plugin".to_owned(),
        _ => "missing in the images".to_owned(),
    }
}

fn pages_name(space: &AddressSpace, pages: criu_image::memory::PagesRef) -> (String, u32) {
    match space.pages(pages) {
        Some(file) => {
            let name = file.path.file_name().unwrap_or(file.path.as_os_str());
            (visible(&name.to_string_lossy()), file.depth)
        }
        None => (String::new(), 0),
    }
}

fn depth_text(depth: u32) -> String {
    match depth {
        0 => String::new(),
        1 => "parent's ".to_owned(),
        depth => format!("parent's (depth {depth}) "),
    }
}

fn range_text(addresses: &Range<u64>) -> String {
    format!("{:012x}-{:012x}", addresses.start, addresses.end)
}

/// What an area is, without its addresses.
pub(in super::super) fn area_json(area: &TaskArea) -> Map<String, Value> {
    let mut value = Map::new();
    value.insert("protection".into(), json!(area.protection.to_string()));
    value.insert("shared".into(), json!(area.is_shared));
    value.insert("kind".into(), json!(area.kind.word()));
    let mut put = |name: &str, field: Value| value.insert(name.into(), field);
    match &area.kind {
        AreaKind::File { path, offset } => {
            put("path", json!(path.as_ref().map(ToString::to_string)));
            put("offset", json!(offset));
        }
        AreaKind::MemoryFile { name, offset } => {
            put("name", json!(name.as_ref().map(ToString::to_string)));
            put("offset", json!(offset));
        }
        AreaKind::Shared { id, offset } | AreaKind::SystemV { id, offset } => {
            put("id", json!(id));
            put("offset", json!(offset));
        }
        _ => {}
    }
    value
}

fn residence_json(residence: &Residence, value: &mut Map<String, Value>) {
    let fields = [
        ("in_pages", json!(residence.in_pages)),
        ("zero", json!(residence.zero)),
        ("lazy", json!(residence.lazy)),
        ("in_file", json!(residence.in_file)),
        ("kernel", json!(residence.kernel)),
        ("device", json!(residence.device)),
        ("plugin", json!(residence.plugin)),
        ("missing", json!(residence.missing)),
    ];
    value.extend(fields.map(|(name, count)| (name.to_owned(), count)));
}

/// Where the bytes of a span are.
pub(super) fn span_json(memory: &Memory, space: &AddressSpace, span: Span) -> Map<String, Value> {
    let mut value = Map::new();
    value.insert("start".into(), hex(span.start));
    value.insert("end".into(), hex(span.end));
    let mut put = |name: &str, field: Value| value.insert(name.into(), field);
    match span.content {
        Content::Stored { pages, offset } => {
            let (name, depth) = pages_name(space, pages);
            put("in", json!("pages"));
            put("file", json!(name));
            put("depth", json!(depth));
            put("offset", json!(offset));
        }
        Content::Compressed { pages } => {
            let (name, depth) = pages_name(space, pages);
            put("in", json!("compressed_pages"));
            put("file", json!(name));
            put("depth", json!(depth));
        }
        Content::File { id, offset } => {
            put("in", json!("file"));
            let path = memory.files().path(id).map(|path| path.to_string());
            put("path", json!(path));
            put("offset", json!(offset));
        }
        Content::Zero => drop(put("in", json!("zero"))),
        Content::Lazy => drop(put("in", json!("lazy"))),
        Content::Kernel => drop(put("in", json!("kernel"))),
        Content::Device => drop(put("in", json!("device"))),
        Content::Plugin => drop(put("in", json!("plugin"))),
        _ => drop(put("in", json!("missing"))),
    }
    value
}

/// Addresses are strings in JSON, since many readers keep numbers in floating point.
pub(in super::super) fn hex(address: u64) -> Value {
    Value::String(format!("{address:#x}"))
}

/// Names a subject in JSON.
pub(in super::super) fn subject_json(subject: &Subject<'_>) -> (String, Value) {
    match subject {
        Subject::Task(task) => ("pid".into(), json!(task.pid())),
        Subject::Shared { id, .. } => ("shared".into(), json!(id)),
    }
}
