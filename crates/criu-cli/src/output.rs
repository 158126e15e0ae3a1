//! What both commands print alike: errors, colours and tables.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::path::Path;

/// When to use colour (`--color`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    /// Decides for one of the standard streams.
    pub(crate) fn applies_to(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                stream.is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }
}

/// How a text is set off, where colour applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Strong,
    Good,
    Warning,
    Bad,
}

impl Tone {
    /// Wraps `text` in the escapes of the tone.
    pub(crate) fn paint(self, text: &str, colored: bool) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            Self::Strong => "1",
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "1;31",
        };
        if colored {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// Writes to standard output; a reader that has gone away ends the program quietly.
///
/// # Errors
///
/// Any other failure to write.
pub(crate) fn write_stdout(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        written => written,
    }
}

/// A path for JSON, which has no bytes that are not UTF-8: they become U+FFFD. (A `Path` itself cannot be serialised then,
/// and `json!` panics.)
pub(crate) fn json_path(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// Makes text of untrusted origin safe to print on a terminal: control characters are escaped.
pub(crate) fn visible(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' => safe.push(character),
            control if control.is_control() => safe.extend(control.escape_default()),
            other => safe.push(other),
        }
    }
    safe
}

/// Makes lines of untrusted origin safe to print on a terminal, as [`visible`] does.
pub(crate) struct VisibleLines<W: Write> {
    out: W,
    /// The line that is not at its end yet.
    line: Vec<u8>,
}

impl<W: Write> VisibleLines<W> {
    pub(crate) fn new(out: W) -> Self {
        let line = Vec::new();
        Self { out, line }
    }

    fn write_line(&mut self) -> std::io::Result<()> {
        let line = visible(&String::from_utf8_lossy(&self.line));
        self.line.clear();
        self.out.write_all(line.as_bytes())
    }
}

impl<W: Write> Write for VisibleLines<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            self.write_line()?;
            self.out.write_all(b"\n")?;
            rest = &rest[end + 1..];
        }
        self.line.extend_from_slice(rest);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.write_line()?;
        self.out.flush()
    }
}

/// A table whose columns are as wide as their longest cell.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<(String, Tone)>>,
}

impl Table {
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = (String, Tone)>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Lays the table out; the last column is left ragged.
    pub(crate) fn render(&self, colored: bool) -> String {
        let mut columns = Columns::default();
        for row in &self.rows {
            columns.measure(row);
        }
        let mut text = String::new();
        for row in &self.rows {
            columns.append(row, colored, &mut text);
        }
        text
    }
}

/// Widths of a table's columns, for tables that are made twice so that they need not be kept.
#[derive(Debug, Default)]
pub(crate) struct Columns {
    widths: Vec<usize>,
}

impl Columns {
    /// Makes room for the cells of a row.
    pub(crate) fn measure(&mut self, row: &[(String, Tone)]) {
        if self.widths.len() < row.len() {
            self.widths.resize(row.len(), 0);
        }
        for (width, (cell, _)) in self.widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }

    /// Appends a line.
    pub(crate) fn append(&self, row: &[(String, Tone)], colored: bool, text: &mut String) {
        for (column, (cell, tone)) in row.iter().enumerate() {
            text.push_str(&tone.paint(cell, colored));
            if column + 1 < row.len() {
                let width = self.widths.get(column).copied().unwrap_or(0);
                let padding = width.saturating_sub(cell.chars().count()) + 2;
                text.extend(std::iter::repeat_n(' ', padding));
            }
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_lines_do_not_trail_blanks() {
        let mut table = Table::default();
        table.row([("a".to_owned(), Tone::Plain), ("b".to_owned(), Tone::Good)]);
        table.row([
            ("long".to_owned(), Tone::Plain),
            (String::new(), Tone::Plain),
        ]);
        assert_eq!(table.render(false), "a     b\nlong\n");
        assert_eq!(table.render(true), "a     \x1b[32mb\x1b[0m\nlong\n");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(visible("a\x1b[31mb\n"), "a\\u{1b}[31mb\\n");
        let mut out = Vec::new();
        let mut lines = VisibleLines::new(&mut out);
        for piece in ["a\x1b[3", "1mb\nc\r\n", "d\x07"] {
            lines.write_all(piece.as_bytes()).expect("memory takes it");
        }
        lines.flush().expect("memory takes it");
        assert_eq!(out, b"a\\u{1b}[31mb\nc\\r\nd\\u{7}");
    }
}
