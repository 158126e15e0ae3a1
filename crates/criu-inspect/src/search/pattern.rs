//! What is searched for.

use memchr::memmem::Finder;
use regex::bytes::Regex;

/// Bytes to find.
#[derive(Clone, Debug)]
pub struct Pattern {
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Literal(Box<Finder<'static>>),
    Regex(Regex),
}

/// Why a pattern is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// Nothing would match everywhere.
    #[error("the pattern matches nothing at all, which is everywhere")]
    Empty,
    /// It is longer than [`LONGEST_PATTERN`].
    #[error("the pattern has {len} bytes, more than {LONGEST_PATTERN}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A text is not hexadecimal.
    #[error("expected pairs of hexadecimal digits or `??`, found {found:?}")]
    Hex {
        /// What stands there instead.
        found: String,
    },
    /// A text is no regular expression.
    #[error("{0}")]
    Regex(#[source] Box<regex::Error>),
}

impl Pattern {
    /// Finds exactly these bytes.
    ///
    /// # Errors
    ///
    /// Fails when there are none or too many.
    pub fn literal(bytes: &[u8]) -> Result<Self, PatternError> {
        match bytes.len() {
            0 => Err(PatternError::Empty),
            len if len > LONGEST_PATTERN => Err(PatternError::TooLong { len }),
            _ => Ok(Self {
                kind: Kind::Literal(Box::new(Finder::new(bytes).into_owned())),
            }),
        }
    }

    /// Finds a text as UTF-16 in little endian, as JavaScript, Java and Windows programs keep it.
    ///
    /// # Errors
    ///
    /// Fails when it is empty or too long.
    pub fn utf16(text: &str) -> Result<Self, PatternError> {
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        Self::literal(&bytes)
    }

    /// Finds bytes given as pairs of hexadecimal digits, with blanks or none between them; `??`
    /// stands for any byte.
    ///
    /// # Errors
    ///
    /// Fails when the text is something else, empty or too long.
    pub fn hex(text: &str) -> Result<Self, PatternError> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace())
            .collect();
        let mut bytes = Vec::with_capacity(digits.len() / 2);
        for pair in digits.chunks(2) {
            let text = std::str::from_utf8(pair).unwrap_or_default();
            let byte = match text {
                "??" => None,
                // `from_str_radix` takes a sign.
                _ if text.len() == 2 && !text.starts_with('+') => {
                    match u8::from_str_radix(text, 16) {
                        Ok(byte) => Some(byte),
                        Err(_) => return Err(not_hex(pair)),
                    }
                }
                _ => return Err(not_hex(pair)),
            };
            bytes.push(byte);
        }
        if let Some(literal) = bytes.iter().copied().collect::<Option<Vec<u8>>>() {
            return Self::literal(&literal);
        }
        if bytes.len() > LONGEST_PATTERN {
            return Err(PatternError::TooLong { len: bytes.len() });
        }
        let mut regex = "(?s-u)".to_owned();
        for byte in bytes {
            match byte {
                Some(byte) => regex += &format!(r"\x{byte:02x}"),
                None => regex.push('.'),
            }
        }
        Self::regex(&regex)
    }

    /// Finds what a regular expression matches, in the syntax of the `regex` crate. `.` and classes
    /// stand for characters in UTF-8; with `(?-u)` they stand for bytes. `^` and `$` stand for the
    /// ends of what lies side by side in memory, or with `(?m)` for those of lines.
    ///
    /// A match has at most [`LONGEST_MATCH`] bytes. Empty matches do not count.
    ///
    /// # Errors
    ///
    /// Fails when the text is no regular expression, would take too much memory, or matches
    /// nothing at all.
    pub fn regex(text: &str) -> Result<Self, PatternError> {
        let regex = Regex::new(text).map_err(|error| PatternError::Regex(Box::new(error)))?;
        if regex.is_match(b"") {
            return Err(PatternError::Empty);
        }
        Ok(Self {
            kind: Kind::Regex(regex),
        })
    }

    /// How many bytes behind a match's first one can belong to it.
    pub(super) fn reach(&self) -> u64 {
        match &self.kind {
            Kind::Literal(finder) => finder.needle().len() as u64 - 1,
            Kind::Regex(_) => LONGEST_MATCH as u64,
        }
    }

    /// How many zero bytes of memory that was never written to can count.
    pub(super) fn margin(&self) -> u64 {
        match &self.kind {
            Kind::Literal(_) => self.reach(),
            Kind::Regex(_) => 4096,
        }
    }

    /// How many bytes in front of a match decide whether it is one.
    pub(super) fn behind(&self) -> u64 {
        match &self.kind {
            Kind::Literal(_) => 0,
            // A character, for `\b`.
            Kind::Regex(_) => 4,
        }
    }

    /// The first match that begins at `from` or behind, up to where `starts` ends: its first byte
    /// and length.
    pub(super) fn find(&self, text: &[u8], from: usize, starts: usize) -> Option<(usize, usize)> {
        match &self.kind {
            Kind::Literal(finder) => {
                let len = finder.needle().len();
                let text = &text[..text.len().min(starts.saturating_add(len - 1))];
                let at = from + finder.find(text.get(from..)?)?;
                Some((at, len))
            }
            Kind::Regex(regex) => {
                let mut from = from;
                while from < starts {
                    let found = regex.find_at(text, from)?;
                    if found.start() >= starts {
                        return None;
                    }
                    if found.is_empty() {
                        from = found.start().max(from) + 1;
                        continue;
                    }
                    if found.len() <= LONGEST_MATCH {
                        return Some((found.start(), found.len()));
                    }
                    let window = &text[..found.start() + LONGEST_MATCH];
                    match regex.find_at(window, found.start()) {
                        Some(cut) if cut.start() == found.start() && !cut.is_empty() => {
                            return Some((cut.start(), cut.len()));
                        }
                        _ => from = found.start() + 1,
                    }
                }
                None
            }
        }
    }
}

fn not_hex(pair: &[u8]) -> PatternError {
    PatternError::Hex {
        found: String::from_utf8_lossy(pair).into_owned(),
    }
}

/// Longest literal, in bytes.
pub const LONGEST_PATTERN: usize = 64 * 1024;

/// Longest match of a regular expression, in bytes: as much as is looked at beyond a match's first
/// byte.
pub const LONGEST_MATCH: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn needle(pattern: Result<Pattern, PatternError>) -> Vec<u8> {
        match pattern.expect("a pattern").kind {
            Kind::Literal(finder) => finder.needle().to_vec(),
            Kind::Regex(regex) => panic!("{regex}"),
        }
    }

    #[test]
    fn texts_become_bytes() {
        assert_eq!(needle(Pattern::utf16("aß")), [0x61, 0, 0xdf, 0]);
        assert_eq!(
            needle(Pattern::hex("de AD\n beef")),
            [0xde, 0xad, 0xbe, 0xef]
        );
        let masked = Pattern::hex("61 ?? 63").expect("a pattern");
        assert_eq!(masked.find(b"..a\ncac..", 0, 9), Some((2, 3)));
        assert_eq!(masked.find(b"..a\ncac..", 0, 2), None);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        assert!(matches!(Pattern::literal(b""), Err(PatternError::Empty)));
        assert!(matches!(Pattern::regex("a*"), Err(PatternError::Empty)));
        assert!(matches!(Pattern::regex("("), Err(PatternError::Regex(_))));
        for text in ["1", "123", "0x12", "g0", "+1", "1?"] {
            assert!(
                matches!(Pattern::hex(text), Err(PatternError::Hex { .. })),
                "{text}"
            );
        }
        let long = vec![1; LONGEST_PATTERN + 1];
        assert!(matches!(
            Pattern::literal(&long),
            Err(PatternError::TooLong { .. })
        ));
    }

    #[test]
    fn matches_that_are_too_long_are_cut() {
        let mut text = vec![b'a'; 3 * LONGEST_MATCH];
        text[2 * LONGEST_MATCH] = b'b';
        let greedy = Pattern::regex("a+").expect("a pattern");
        assert_eq!(greedy.find(&text, 0, text.len()), Some((0, LONGEST_MATCH)));
        // Only from near enough is there a match.
        let ended = Pattern::regex("a+b").expect("a pattern");
        let near = 2 * LONGEST_MATCH + 1 - LONGEST_MATCH;
        let from = near - 3;
        assert_eq!(
            ended.find(&text, from, text.len()),
            Some((near, LONGEST_MATCH))
        );
    }
}
