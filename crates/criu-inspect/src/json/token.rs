//! Reads JSON text piece by piece, in a buffer of bounded size.
//!
//! Nothing is kept but where the text stands: whoever reads says what should come next.

use std::fs::File;
use std::io::{self, Read, Write};

use memchr::memchr2;

use super::error::{EncodeError, EncodeErrorKind};
use super::number::Integer;

type Result<T> = std::result::Result<T, EncodeError>;

/// A JSON text that is being read.
#[derive(Debug)]
pub(super) struct Json<R> {
    source: R,
    /// Text that was read; what lies before `position` has been taken.
    buffer: Vec<u8>,
    /// Bytes of text to have at hand.
    buffer_len: usize,
    position: usize,
    end: usize,
    /// Bytes of text that went through the buffer and are gone.
    gone: u64,
    line: u64,
    /// Offset in the text of the line at hand.
    line_start: u64,
    /// Offset in the text of the token at hand.
    mark: u64,
    unescaped: Vec<u8>,
}

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    offset: u64,
    line: u64,
    line_start: u64,
}

/// What a value is, as its first character tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    List,
    String,
    Number,
    Literal,
}

impl<'a> Json<&'a [u8]> {
    /// Starts at the beginning of a text that may be short: entries are read by the thousand.
    pub(super) fn of_slice(text: &'a [u8]) -> Self {
        Self {
            buffer_len: BUFFER_LEN.min(text.len() + 64),
            ..Self::new(text)
        }
    }
}

impl<R: Read> Json<R> {
    /// Starts at the beginning of a text.
    pub(super) fn new(source: R) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            buffer_len: BUFFER_LEN,
            position: 0,
            end: 0,
            gone: 0,
            line: 1,
            line_start: 0,
            mark: 0,
            unescaped: Vec::new(),
        }
    }

    /// The shape of the next value.
    #[inline]
    pub(super) fn shape(&mut self) -> Result<Shape> {
        match self.peek()? {
            Some(b'{') => Ok(Shape::Object),
            Some(b'[') => Ok(Shape::List),
            Some(b'"') => Ok(Shape::String),
            Some(b'-' | b'0'..=b'9') => Ok(Shape::Number),
            Some(b't' | b'f' | b'n') => Ok(Shape::Literal),
            found => Err(self.unexpected("a value", found)),
        }
    }

    /// Takes an opening bracket.
    #[inline]
    pub(super) fn open(&mut self, bracket: u8, expected: &'static str) -> Result<()> {
        let found = self.peek()?;
        if found != Some(bracket) {
            return Err(self.unexpected(expected, found));
        }
        self.position += 1;
        Ok(())
    }

    /// Moves on to the next element, or takes the closing bracket and returns `false`.
    #[inline(always)]
    pub(super) fn next(&mut self, closing: u8, first: &mut bool) -> Result<bool> {
        if !*first && self.pass_mark(b',') {
            return Ok(true);
        }
        self.next_anyhow(closing, first)
    }

    fn next_anyhow(&mut self, closing: u8, first: &mut bool) -> Result<bool> {
        let found = self.peek()?;
        if found == Some(closing) {
            self.position += 1;
            return Ok(false);
        }
        if *first {
            *first = false;
            return Ok(true);
        }
        if found != Some(b',') {
            let expected = if closing == b'}' {
                "`,` or `}`"
            } else {
                "`,` or `]`"
            };
            return Err(self.unexpected(expected, found));
        }
        self.position += 1;
        self.peek()?;
        Ok(true)
    }

    /// Takes the key of a member, if it is this one and at hand; [`next`](Self::next) has moved
    /// on to it.
    #[inline(always)]
    pub(super) fn take_key_if(&mut self, name: &str) -> bool {
        let Some([b'"', after @ ..]) = self.buffer[..self.end].get(self.position..) else {
            return false;
        };
        let is_it = after.get(name.len()) == Some(&b'"') && after.starts_with(name.as_bytes());
        if is_it {
            self.position += name.len() + 2;
        }
        is_it
    }

    /// Passes over a punctuation mark and the one space behind it, if that is what stands here.
    #[inline(always)]
    fn pass_mark(&mut self, mark: u8) -> bool {
        match self.buffer[..self.end].get(self.position..) {
            Some([found, b' ', next, ..]) if *found == mark && *next > b' ' => {
                self.position += 2;
                self.mark = self.gone + self.position as u64;
                true
            }
            _ => false,
        }
    }

    /// Takes the key of a member.
    pub(super) fn key(&mut self) -> Result<String> {
        let found = self.peek()?;
        if found != Some(b'"') {
            return Err(self.unexpected("a key in quotes", found));
        }
        Ok(self.string()?.to_owned())
    }

    /// Takes the colon between key and value.
    #[inline(always)]
    pub(super) fn colon(&mut self) -> Result<()> {
        if self.pass_mark(b':') {
            return Ok(());
        }
        self.colon_anyhow()
    }

    fn colon_anyhow(&mut self) -> Result<()> {
        let found = self.peek()?;
        if found != Some(b':') {
            return Err(self.unexpected("`:`", found));
        }
        self.position += 1;
        // Errors in the value point at the value.
        self.peek()?;
        Ok(())
    }

    /// Takes a string of text.
    pub(super) fn string(&mut self) -> Result<&str> {
        self.string_bytes()?;
        match str::from_utf8(&self.unescaped) {
            Ok(text) => Ok(text),
            Err(_) => Err(place(
                self.line,
                self.line_start,
                self.mark,
                EncodeErrorKind::InvalidText,
            )),
        }
    }

    /// Takes a string as bytes: `\udc80` to `\udcff` stand for bytes that are no UTF-8.
    pub(super) fn string_bytes(&mut self) -> Result<&[u8]> {
        self.open(b'"', "a string")?;
        self.unescaped.clear();
        loop {
            let window = &self.buffer[self.position..self.end];
            let at = memchr2(b'"', b'\\', window);
            let plain = &window[..at.unwrap_or(window.len())];
            if plain.iter().any(|&byte| byte < b' ') {
                return Err(self.error(EncodeErrorKind::ControlCharacter));
            }
            self.unescaped.extend_from_slice(plain);
            self.position += plain.len();
            match at.map(|at| window[at]) {
                None => self.need("`\"`")?,
                Some(b'"') => {
                    self.position += 1;
                    return Ok(&self.unescaped);
                }
                Some(_) => {
                    let mut unescaped = std::mem::take(&mut self.unescaped);
                    let outcome = self.escape(&mut unescaped);
                    self.unescaped = unescaped;
                    outcome?;
                }
            }
        }
    }

    /// Takes the opening quote of a string that is read with [`base64`](Self::base64).
    pub(super) fn open_string(&mut self) -> Result<()> {
        self.open(b'"', "a string")
    }

    /// Appends the characters of a string, line breaks left out, until there are `enough` or the
    /// string ends; returns whether its closing quote was taken. Without that nothing is known of
    /// what follows: it may be the quote.
    pub(super) fn base64(&mut self, out: &mut Vec<u8>, enough: usize) -> Result<bool> {
        while out.len() < enough {
            let window = &self.buffer[self.position..self.end];
            let at = memchr2(b'"', b'\\', window);
            let plain = &window[..at.unwrap_or(window.len())];
            out.extend_from_slice(plain);
            self.position += plain.len();
            match at.map(|at| &window[at..]) {
                None => self.need("`\"`")?,
                Some([b'"', ..]) => {
                    self.position += 1;
                    return Ok(true);
                }
                Some([_, b'n' | b'r' | b't', ..]) => self.position += 2,
                Some(_) => {
                    let before = out.len();
                    self.escape(out)?;
                    if out[before..].iter().all(u8::is_ascii_whitespace) {
                        out.truncate(before);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Takes a number that is the token at hand, if it is what nearly all are: digits without a
    /// sign, at hand together with what ends them. If not, nothing is taken.
    #[inline(always)]
    pub(super) fn digits(&mut self) -> Option<u64> {
        let window = self.buffer[..self.end].get(self.position..)?;
        let mut value = 0u64;
        // Nineteen digits always fit.
        for (len, &byte) in window.iter().take(20).enumerate() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                let is_whole = len > 0 && !matches!(byte, b'.' | b'e' | b'E');
                self.position += if is_whole { len } else { 0 };
                return is_whole.then_some(value);
            }
            value = value.wrapping_mul(10).wrapping_add(digit.into());
        }
        None
    }

    /// Takes an integer that is the token at hand.
    #[inline]
    pub(super) fn integer(&mut self) -> Result<Integer> {
        self.look_ahead(NUMBER_LEN)?;
        let window = &self.buffer[self.position..self.end];
        let negative = window.first() == Some(&b'-');
        let digits = &window[usize::from(negative)..];
        let mut magnitude = 0u64;
        let mut len = 0;
        // Nineteen digits always fit.
        for &byte in digits.iter().take(19) {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            len += 1;
            magnitude = magnitude * 10 + u64::from(digit);
        }
        while let Some(digit @ b'0'..=b'9') = digits.get(len) {
            len += 1;
            let larger = magnitude.checked_mul(10);
            let Some(larger) = larger.and_then(|m| m.checked_add(u64::from(digit - b'0'))) else {
                return Err(self.error(EncodeErrorKind::TooLarge));
            };
            magnitude = larger;
        }
        if len == 0 {
            let found = digits.first().copied();
            return Err(self.unexpected("a number", found));
        }
        if matches!(digits.get(len), Some(b'.' | b'e' | b'E')) {
            return Err(self.error(EncodeErrorKind::Fraction));
        }
        self.position += len + usize::from(negative);
        Ok(Integer {
            negative: negative && magnitude != 0,
            magnitude,
        })
    }

    /// Takes the characters of a number, whatever number it is.
    pub(super) fn number_text(&mut self) -> Result<String> {
        self.peek()?;
        self.look_ahead(NUMBER_LEN)?;
        let window = &self.buffer[self.position..self.end];
        let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        let len = window.iter().take_while(|byte| is_part(byte)).count();
        let text = String::from_utf8_lossy(&window[..len]).into_owned();
        self.position += len;
        Ok(text)
    }

    /// Takes `true`, `false`, or `null`, which is `None`.
    pub(super) fn literal(&mut self) -> Result<Option<bool>> {
        self.peek()?;
        self.look_ahead(5)?;
        let window = &self.buffer[self.position..self.end];
        for (name, value) in [("true", Some(true)), ("false", Some(false)), ("null", None)] {
            if window.starts_with(name.as_bytes()) {
                self.position += name.len();
                return Ok(value);
            }
        }
        let found = window.first().copied();
        Err(self.unexpected("a value", found))
    }

    /// Passes over a value, whatever it is.
    pub(super) fn skip_value(&mut self) -> Result<()> {
        let mut closing = Vec::new();
        loop {
            match self.shape()? {
                shape @ (Shape::Object | Shape::List) => {
                    let is_object = shape == Shape::Object;
                    self.position += 1;
                    closing.push((if is_object { b'}' } else { b']' }, true));
                }
                Shape::String => self.skip_string()?,
                Shape::Number => drop(self.number_text()?),
                Shape::Literal => drop(self.literal()?),
            }
            loop {
                let Some((bracket, first)) = closing.last_mut() else {
                    return Ok(());
                };
                let (bracket, mut is_first) = (*bracket, *first);
                *first = false;
                if self.next(bracket, &mut is_first)? {
                    if bracket == b'}' {
                        if self.peek()? != Some(b'"') {
                            let found = self.peek()?;
                            return Err(self.unexpected("a key in quotes", found));
                        }
                        self.skip_string()?;
                        self.colon()?;
                    }
                    break;
                }
                closing.pop();
            }
        }
    }

    /// Checks that nothing follows.
    pub(super) fn end(&mut self) -> Result<()> {
        match self.peek()? {
            None => Ok(()),
            found => Err(self.unexpected("the end of the text", found)),
        }
    }

    /// The error for the token at hand.
    #[cold]
    pub(super) fn error(&self, kind: EncodeErrorKind) -> EncodeError {
        place(self.line, self.line_start, self.mark, kind)
    }

    /// The error for a token that should not stand here.
    #[cold]
    pub(super) fn unexpected(&self, expected: &'static str, found: Option<u8>) -> EncodeError {
        let found = match found {
            None => "the end of the text".to_owned(),
            Some(byte @ b' '..=b'~') => format!("`{}`", char::from(byte)),
            Some(byte) => format!("byte {byte:#04x}"),
        };
        self.error(EncodeErrorKind::Unexpected { expected, found })
    }

    /// Where the text stands, to continue it with another reader.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            offset: self.gone + self.position as u64,
            line: self.line,
            line_start: self.line_start,
        }
    }

    /// Puts all text that was not taken into a file without a name.
    pub(super) fn into_file(mut self) -> Result<File> {
        let kept = tempfile::tempfile().and_then(|mut file| {
            file.write_all(&self.buffer[self.position..self.end])?;
            Ok(file)
        });
        let mut file = kept.map_err(|error| self.error(EncodeErrorKind::Spool(error)))?;
        match io::copy(&mut self.source, &mut file) {
            Ok(_) => Ok(file),
            Err(error) => Err(self.error(EncodeErrorKind::Spool(error))),
        }
    }

    /// Counts what another reader took before.
    pub(super) fn continue_at(mut self, mark: Mark) -> Self {
        self.gone = mark.offset;
        self.line = mark.line;
        self.line_start = mark.line_start;
        self.mark = mark.offset;
        self
    }

    /// Puts text in front of what comes next.
    pub(super) fn insert(&mut self, text: &[u8]) {
        self.buffer
            .splice(self.position..self.position, text.iter().copied());
        self.end += text.len();
    }

    /// Passes over white space and looks at the next character.
    #[inline]
    pub(super) fn peek(&mut self) -> Result<Option<u8>> {
        // Mostly nothing or one space stands between tokens.
        for _ in 0..2 {
            match self.buffer[..self.end].get(self.position) {
                Some(&byte) if byte > b' ' => {
                    self.mark = self.gone + self.position as u64;
                    return Ok(Some(byte));
                }
                Some(b' ') => self.position += 1,
                _ => break,
            }
        }
        self.pass_space()
    }

    fn pass_space(&mut self) -> Result<Option<u8>> {
        loop {
            while let Some(&byte) = self.buffer[..self.end].get(self.position) {
                match byte {
                    b' ' | b'\t' | b'\r' => {}
                    b'\n' => {
                        self.line += 1;
                        self.line_start = self.gone + self.position as u64 + 1;
                    }
                    _ => {
                        self.mark = self.gone + self.position as u64;
                        return Ok(Some(byte));
                    }
                }
                self.position += 1;
            }
            if !self.fill()? {
                self.mark = self.gone + self.position as u64;
                return Ok(None);
            }
        }
    }

    fn skip_string(&mut self) -> Result<()> {
        self.open_string()?;
        loop {
            let window = &self.buffer[self.position..self.end];
            match memchr2(b'"', b'\\', window) {
                Some(at) if window[at] == b'"' => {
                    self.position += at + 1;
                    return Ok(());
                }
                Some(at) => {
                    self.position += at + 1;
                    self.look_ahead(1)?;
                    if self.position == self.end {
                        return self.need("`\"`");
                    }
                    self.position += 1;
                }
                None => {
                    self.position = self.end;
                    self.need("`\"`")?;
                }
            }
        }
    }

    /// Takes an escape and appends what it stands for.
    fn escape(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.look_ahead(12)?;
        let window = &self.buffer[self.position..self.end];
        let (character, len) = match window.get(1) {
            Some(b'n') => ('\n', 2),
            Some(b'r') => ('\r', 2),
            Some(b't') => ('\t', 2),
            Some(b'b') => ('\u{8}', 2),
            Some(b'f') => ('\u{c}', 2),
            Some(&byte @ (b'"' | b'\\' | b'/')) => (char::from(byte), 2),
            Some(b'u') => {
                let Some(unit) = hex_unit(&window[2..]) else {
                    return Err(self.error(EncodeErrorKind::BadEscape));
                };
                let low = window[6..]
                    .strip_prefix(b"\\u")
                    .and_then(hex_unit)
                    .filter(|low| matches!(low, 0xdc00..=0xdfff));
                match (unit, low) {
                    (0xd800..=0xdbff, Some(low)) => {
                        let code =
                            0x1_0000 + (u32::from(unit & 0x3ff) << 10) + u32::from(low & 0x3ff);
                        (
                            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
                            12,
                        )
                    }
                    (0xdc80..=0xdcff, _) => {
                        out.push(unit.to_be_bytes()[1]);
                        self.position += 6;
                        return Ok(());
                    }
                    _ => match char::from_u32(unit.into()) {
                        Some(character) => (character, 6),
                        None => return Err(self.error(EncodeErrorKind::LoneSurrogate { unit })),
                    },
                }
            }
            _ => return Err(self.error(EncodeErrorKind::BadEscape)),
        };
        let mut utf8 = [0; 4];
        out.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
        self.position += len;
        Ok(())
    }

    /// Reads more text, of which there must be some.
    fn need(&mut self, expected: &'static str) -> Result<()> {
        if self.fill()? {
            return Ok(());
        }
        self.mark = self.gone + self.end as u64;
        Err(self.unexpected(expected, None))
    }

    /// Has at least `len` bytes at hand, unless the text ends before.
    #[inline]
    fn look_ahead(&mut self, len: usize) -> Result<()> {
        while self.end - self.position < len {
            if !self.fill()? {
                break;
            }
        }
        Ok(())
    }

    /// Reads more text behind what is not taken yet; returns `false` at the end.
    #[cold]
    fn fill(&mut self) -> Result<bool> {
        if self.position > 0 {
            self.buffer.copy_within(self.position..self.end, 0);
            self.gone += self.position as u64;
            self.end -= self.position;
            self.position = 0;
        }
        // Hardly more than a look ahead is ever left.
        let wanted = self.buffer_len.max(self.end + self.buffer_len / 2);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.end += count;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.error(EncodeErrorKind::Read(error))),
            }
        }
    }
}

fn place(line: u64, line_start: u64, mark: u64, kind: EncodeErrorKind) -> EncodeError {
    EncodeError::at(line, mark.saturating_sub(line_start) + 1, kind)
}

fn hex_unit(text: &[u8]) -> Option<u16> {
    let digits = text.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

/// Bytes of text at hand.
const BUFFER_LEN: usize = 128 << 10;

/// Longest number that is looked at, in characters.
const NUMBER_LEN: usize = 64;
