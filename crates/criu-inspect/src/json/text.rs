//! Writes JSON text, laid out as Python's `json` module lays it out.

use std::io::{self, Write};

use super::Style;

/// Writes JSON to `out` through a buffer of bounded size.
#[derive(Debug)]
pub(super) struct Text<W> {
    out: W,
    buffer: Vec<u8>,
    indented: bool,
    depth: usize,
    lines: Vec<u8>,
}

impl<W: Write> Text<W> {
    /// Starts a text.
    pub(super) fn new(out: W, style: Style) -> Self {
        Self {
            out,
            buffer: Vec::new(),
            indented: style == Style::Pretty,
            depth: 0,
            lines: Vec::new(),
        }
    }

    /// Opens an object or a list.
    #[inline]
    pub(super) fn open(&mut self, bracket: u8) {
        self.buffer.push(bracket);
        self.depth += 1;
    }

    /// Closes what was opened.
    #[inline]
    pub(super) fn close(&mut self, bracket: u8, empty: bool) {
        self.depth -= 1;
        if self.indented && !empty {
            self.new_line();
        }
        self.buffer.push(bracket);
    }

    /// Starts the next element of a list.
    #[inline]
    pub(super) fn item(&mut self, first: bool) {
        if !first {
            self.buffer.push(b',');
        }
        if self.indented {
            self.new_line();
        } else if !first {
            self.buffer.push(b' ');
        }
    }

    /// Starts the next member of an object; `name` has no characters to escape.
    #[inline]
    pub(super) fn key(&mut self, first: bool, name: &str) {
        if self.indented {
            self.item(first);
            self.buffer.push(b'"');
        } else {
            self.buffer
                .extend_from_slice(if first { b"\"" } else { b", \"" });
        }
        self.buffer.extend_from_slice(name.as_bytes());
        self.buffer.extend_from_slice(b"\": ");
    }

    /// Writes text that is JSON already.
    #[inline]
    pub(super) fn raw(&mut self, text: &[u8]) {
        self.buffer.extend_from_slice(text);
    }

    /// Writes an integer that is often small.
    #[inline]
    pub(super) fn number(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(digit @ 0..=9) => self.buffer.push(b'0' + digit),
            _ => self.integer(value),
        }
    }

    /// Writes an integer.
    #[inline]
    pub(super) fn integer(&mut self, value: impl itoa::Integer) {
        let mut digits = itoa::Buffer::new();
        self.buffer
            .extend_from_slice(digits.format(value).as_bytes());
    }

    /// Writes a word that has no characters to escape, in quotes.
    #[inline]
    pub(super) fn word(&mut self, word: &str) {
        self.buffer.push(b'"');
        self.buffer.extend_from_slice(word.as_bytes());
        self.buffer.push(b'"');
    }

    /// Writes the buffer out if it is full.
    #[inline]
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if self.buffer.len() < WRITE_LEN {
            return Ok(());
        }
        self.write_whole()
    }

    /// Writes as much as makes whole writes, and keeps the rest. Files are written fastest from
    /// border to border of their pages.
    #[cold]
    fn write_whole(&mut self) -> io::Result<()> {
        let len = self.buffer.len() - self.buffer.len() % WRITE_LEN;
        self.out.write_all(&self.buffer[..len])?;
        self.buffer.drain(..len);
        Ok(())
    }

    /// Writes text in quotes, escaping all but printable ASCII.
    ///
    /// Bytes that are no UTF-8 become `\udc80` to `\udcff`, which no valid text contains, so that
    /// they can be told when the text is read back.
    pub(super) fn string(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.push(b'"');
        self.characters(bytes)?;
        self.buffer.push(b'"');
        Ok(())
    }

    /// Writes the inside of a string.
    pub(super) fn characters(&mut self, bytes: &[u8]) -> io::Result<()> {
        let plain = |byte: &u8| matches!(byte, b' '..=b'~') && *byte != b'"' && *byte != b'\\';
        for chunk in bytes.utf8_chunks() {
            let mut rest = chunk.valid();
            while !rest.is_empty() {
                let len = rest
                    .bytes()
                    .position(|byte| !plain(&byte))
                    .unwrap_or(rest.len());
                self.buffer.extend_from_slice(&rest.as_bytes()[..len]);
                rest = &rest[len..];
                let mut characters = rest.chars();
                if let Some(character) = characters.next() {
                    self.escape(character);
                    rest = characters.as_str();
                }
                self.settle()?;
            }
            for &byte in chunk.invalid() {
                self.escape_unit(0xdc00 | u16::from(byte));
            }
        }
        Ok(())
    }

    /// Writes bytes in base64, in quotes.
    pub(super) fn base64_string(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.push(b'"');
        self.base64_lines(bytes)?;
        self.buffer.push(b'"');
        Ok(())
    }

    /// Writes whole lines of base64, and one shorter line if need be.
    fn base64_lines(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.lines.resize(BLOCK_LINES * LINE_CHARACTERS, 0);
        for block in bytes.chunks(BLOCK_LINES * LINE_BYTES) {
            let out = base64_simd::Out::from_slice(&mut self.lines);
            let encoded = base64_simd::STANDARD.encode(block, out);
            for line in encoded.chunks(LINE_CHARACTERS) {
                self.buffer.extend_from_slice(line);
                self.buffer.extend_from_slice(b"\\n");
            }
            self.settle()?;
        }
        Ok(())
    }

    /// Writes out what is left, and returns what was written to.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn new_line(&mut self) {
        self.buffer.push(b'\n');
        let mut spaces = 4 * self.depth;
        while spaces > 0 {
            let some = spaces.min(SPACES.len());
            self.buffer.extend_from_slice(&SPACES[..some]);
            spaces -= some;
        }
    }

    fn escape(&mut self, character: char) {
        let short = match character {
            '"' => b'"',
            '\\' => b'\\',
            '\n' => b'n',
            '\r' => b'r',
            '\t' => b't',
            '\u{8}' => b'b',
            '\u{c}' => b'f',
            _ => {
                let mut units = [0; 2];
                for &mut unit in character.encode_utf16(&mut units) {
                    self.escape_unit(unit);
                }
                return;
            }
        };
        self.buffer.extend_from_slice(&[b'\\', short]);
    }

    fn escape_unit(&mut self, unit: u16) {
        self.buffer.extend_from_slice(b"\\u");
        for shift in [12, 8, 4, 0] {
            self.buffer
                .push(HEX_DIGITS[usize::from(unit >> shift & 0xf)]);
        }
    }
}

/// Bytes that come in pieces, in base64 with a line break after every 76 characters and at the end,
/// as Python's `base64.encodebytes` has it.
#[derive(Debug, Default)]
pub(super) struct Base64Lines {
    begun: Vec<u8>,
}

impl Base64Lines {
    /// Writes the lines that the next bytes fill.
    pub(super) fn push<W: Write>(&mut self, text: &mut Text<W>, bytes: &[u8]) -> io::Result<()> {
        let mut bytes = bytes;
        if !self.begun.is_empty() {
            let missing = bytes.len().min(LINE_BYTES - self.begun.len());
            self.begun.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.begun.len() < LINE_BYTES {
                return Ok(());
            }
            text.base64_lines(&self.begun)?;
            self.begun.clear();
        }
        let (whole, begun) = bytes.split_at(bytes.len() - bytes.len() % LINE_BYTES);
        text.base64_lines(whole)?;
        self.begun.extend_from_slice(begun);
        Ok(())
    }

    /// Writes the last line.
    pub(super) fn finish<W: Write>(self, text: &mut Text<W>) -> io::Result<()> {
        text.base64_lines(&self.begun)
    }
}

/// Bytes of a line of base64 as Python breaks it.
const LINE_BYTES: usize = 57;

/// Characters of such a line.
const LINE_CHARACTERS: usize = 76;

/// Lines that are encoded at a time: few enough to stay in the nearest cache.
const BLOCK_LINES: usize = 128;

/// Bytes of text that are gathered before they are written out.
const WRITE_LEN: usize = 128 << 10;

const SPACES: [u8; 64] = [b' '; 64];

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8]) -> String {
        let mut text = Text::new(Vec::new(), Style::Compact);
        text.string(bytes).expect("memory takes it");
        String::from_utf8(text.finish().expect("memory takes it")).expect("text is ASCII")
    }

    #[test]
    fn everything_outside_printable_ascii_is_escaped() {
        assert_eq!(string(b"a/<>&~ "), r#""a/<>&~ ""#);
        assert_eq!(string(b"\"\\\n\r\t\x08\x0c"), r#""\"\\\n\r\t\b\f""#);
        assert_eq!(string(b"\x00\x1f\x7f"), r#""\u0000\u001f\u007f""#);
        assert_eq!(
            string("é\u{ffff}😀".as_bytes()),
            r#""\u00e9\uffff\ud83d\ude00""#
        );
    }

    #[test]
    fn bytes_that_are_no_utf8_become_lone_surrogates() {
        assert_eq!(string(b"a\xffb\xc3"), r#""a\udcffb\udcc3""#);
        // A surrogate in UTF-8 is no UTF-8: it may not come out as that surrogate.
        assert_eq!(string(b"\xed\xb2\x80"), r#""\udced\udcb2\udc80""#);
    }

    #[test]
    fn base64_breaks_after_76_characters_and_at_the_end() {
        let base64 = |bytes: &[u8]| {
            let mut text = Text::new(Vec::new(), Style::Compact);
            text.base64_string(bytes).expect("memory takes it");
            String::from_utf8(text.finish().expect("memory takes it")).expect("text is ASCII")
        };
        assert_eq!(base64(b""), r#""""#);
        assert_eq!(base64(b"a"), r#""YQ==\n""#);
        let line = "AAAA".repeat(19);
        assert_eq!(base64(&[0; 57]), format!(r#""{line}\n""#));
        assert_eq!(base64(&[0; 60]), format!(r#""{line}\nAAAA\n""#));
        let many = base64(&[0; 57 * 1000 + 1]);
        let lines = format!(r"{line}\n").repeat(1000);
        assert_eq!(many, format!(r#""{lines}AA==\n""#));
    }

    #[test]
    fn base64_in_pieces_is_base64_at_once() {
        let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
        let text = |write: &dyn Fn(&mut Text<Vec<u8>>)| {
            let mut text = Text::new(Vec::new(), Style::Compact);
            write(&mut text);
            text.finish().expect("memory takes it")
        };
        let whole = text(&|text| text.base64_lines(&bytes).expect("memory takes it"));
        for size in [1, 2, 56, 57, 58, 114, 9_999] {
            let pieces = text(&|text| {
                let mut lines = Base64Lines::default();
                for piece in bytes.chunks(size) {
                    lines.push(text, piece).expect("memory takes it");
                }
                lines.finish(text).expect("memory takes it");
            });
            assert!(whole == pieces, "in pieces of {size} bytes");
        }
    }

    #[test]
    fn text_is_written_in_whole_writes_up_to_the_last() {
        #[derive(Default)]
        struct Lengths(Vec<usize>);
        impl Write for Lengths {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(bytes.len());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut text = Text::new(Lengths::default(), Style::Compact);
        for _ in 0..WRITE_LEN / 2 {
            text.raw(b"seven b");
            text.settle().expect("memory takes it");
        }
        text.raw(b"and the rest");
        let Lengths(lengths) = text.finish().expect("memory takes it");
        let (last, whole) = lengths.split_last().expect("writes");
        assert!(*last < WRITE_LEN && !whole.is_empty(), "{lengths:?}");
        assert!(whole.iter().all(|len| len % WRITE_LEN == 0), "{lengths:?}");
    }
}
