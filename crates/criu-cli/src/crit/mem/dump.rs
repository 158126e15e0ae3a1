//! Bytes as a hex dump.

use std::fmt::Write;
use std::ops::Range;

use criu_image::memory::{Memory, Span};
use serde_json::{Value, json};

use super::super::place::Subject;
use super::super::problem::Problem;
use super::table::{hex, span_json, subject_json, where_text};
use crate::output::write_stdout;

/// Prints the bytes of a range, and where those are that are not in the images.
pub(super) fn show(
    memory: &Memory,
    subject: &Subject<'_>,
    range: Range<u64>,
    as_json: bool,
) -> Result<(), Problem> {
    let space = subject.space();
    let mut reader = space.reader();
    let print = |text: &str| write_stdout(text).map_err(Problem::stdout);
    let mut values = Vec::new();
    let mut next = range.start;
    let mut lines = Lines::default();
    for span in space.spans(range.clone()) {
        if span.start > next && !as_json {
            lines.absent(next..span.start, "not mapped");
        }
        next = span.end;
        if !span.content.is_known() {
            if as_json {
                values.push(Value::Object(span_json(memory, space, span)));
            } else {
                lines.absent(span.start..span.end, &where_text(memory, space, span));
            }
            continue;
        }
        let mut at = span.start;
        while at < span.end {
            let len = usize::try_from(span.end - at).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
            let mut bytes = vec![0; len];
            let count = reader.read_at(at, &mut bytes)?;
            bytes.truncate(count);
            if as_json {
                let piece = Span {
                    start: at,
                    end: at + count as u64,
                    ..space.span_at(at).unwrap_or(span)
                };
                let mut value = span_json(memory, space, piece);
                value.insert("bytes".into(), json!(hex_text(&bytes)));
                values.push(Value::Object(value));
            } else {
                lines.bytes(at, &bytes);
                print(&std::mem::take(&mut lines.text))?;
            }
            if count == 0 {
                break;
            }
            at += count as u64;
        }
    }
    if as_json {
        let (name, id) = subject_json(subject);
        let value = json!({
            name: id, "start": hex(range.start), "end": hex(range.end), "spans": values,
        });
        return print(&format!("{value}\n"));
    }
    lines.flush();
    if next < range.end {
        lines.absent(next..range.end, "not mapped");
    }
    lines.end(range.end);
    print(&lines.text)
}

/// Lines in the form of `hexdump -C`; repeated ones become a star.
#[derive(Debug, Default)]
struct Lines {
    text: String,
    /// Bytes of a line that is not complete, and its address.
    open: Vec<u8>,
    address: u64,
    /// The line printed last, and whether a star stands for those that followed.
    last: Vec<u8>,
    is_starred: bool,
}

impl Lines {
    fn bytes(&mut self, address: u64, bytes: &[u8]) {
        if self.open.is_empty() {
            self.address = address;
        }
        for &byte in bytes {
            self.open.push(byte);
            if self.open.len() == LINE_LEN {
                self.flush();
            }
        }
    }

    fn flush(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let line = std::mem::take(&mut self.open);
        if line.len() == LINE_LEN && line == self.last {
            if !self.is_starred {
                self.text.push_str("*\n");
            }
            self.is_starred = true;
        } else {
            self.line(&line);
            self.is_starred = false;
        }
        self.address += line.len() as u64;
        self.last = line;
    }

    fn line(&mut self, line: &[u8]) {
        let mut cells = String::new();
        for (index, byte) in line.iter().enumerate() {
            if index == LINE_LEN / 2 {
                cells.push(' ');
            }
            // Writing to a string does not fail.
            let _ = write!(cells, "{byte:02x} ");
        }
        let shown: String = line.iter().map(|&byte| printable(byte)).collect();
        let _ = writeln!(self.text, "{:012x}  {cells:<49} |{shown}|", self.address);
    }

    /// A line that says why there are no bytes.
    fn absent(&mut self, range: Range<u64>, why: &str) {
        self.flush();
        let len = range.end - range.start;
        let _ = writeln!(self.text, "{:012x}  -- {len:#x} bytes {why}", range.start);
        self.last.clear();
        self.is_starred = false;
    }

    fn end(&mut self, address: u64) {
        let _ = writeln!(self.text, "{address:012x}");
    }
}

/// A byte as ASCII, a dot if it is none.
pub(in super::super) fn printable(byte: u8) -> char {
    match byte {
        b' '..=b'~' => char::from(byte),
        _ => '.',
    }
}

/// Bytes as hexadecimal digits.
pub(in super::super) fn hex_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Bytes in a line.
const LINE_LEN: usize = 16;
/// Bytes read at once.
const CHUNK_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_hexdump() {
        let mut lines = Lines::default();
        let mut bytes = vec![0; 64];
        bytes[..5].copy_from_slice(b"text\x7f");
        lines.bytes(0x1000, &bytes);
        lines.bytes(0x1040, b"end");
        lines.absent(0x1043..0x2043, "lazy");
        lines.end(0x2043);
        let expected = "\
000000001000  74 65 78 74 7f 00 00 00  00 00 00 00 00 00 00 00  |text............|
000000001010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
000000001040  65 6e 64                                          |end|
000000001043  -- 0x1000 bytes lazy
000000002043
";
        assert_eq!(lines.text, expected);
    }
}
