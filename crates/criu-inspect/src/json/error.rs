//! What can go wrong between images and JSON.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;

use criu_image::ImageKind;

use super::form::MessageError;

/// Why an image was not printed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The image cannot be read, or is no image.
    #[error(transparent)]
    Image(#[from] criu_image::Error),
    /// An entry cannot be decoded.
    #[error("{}malformed message", place(.kind, .entry, .offset))]
    Message {
        /// What kind of image it is in, unless it is in none.
        kind: Option<ImageKind>,
        /// Index of the entry, from 0.
        entry: Option<u64>,
        /// Offset of the culprit in the image, in bytes.
        offset: Option<u64>,
        /// What is wrong with it.
        #[source]
        source: MessageError,
    },
    /// The image does not consist of entries, so it has no JSON form.
    #[error("{kind} images hold raw data and have no JSON form")]
    NoEntries {
        /// The kind of image.
        kind: ImageKind,
    },
    /// The text cannot be written.
    #[error("cannot write the text")]
    Write(#[source] io::Error),
}

fn place(kind: &Option<ImageKind>, entry: &Option<u64>, offset: &Option<u64>) -> String {
    let mut place = String::new();
    if let Some(kind) = kind {
        place += &format!("{kind} image: ");
    }
    if let Some(entry) = entry {
        place += &format!("entry {entry}");
        if let Some(offset) = offset {
            place += &format!(" at byte {offset}");
        }
        place += ": ";
    }
    place
}

/// Why JSON was not turned into an image, and where in the text.
pub struct EncodeError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    line: u64,
    column: u64,
    entry: Option<u64>,
    path: Vec<Cow<'static, str>>,
    kind: EncodeErrorKind,
}

/// What is wrong with a JSON text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeErrorKind {
    /// The text cannot be read.
    #[error("cannot read the text")]
    Read(#[source] io::Error),
    /// The image cannot be written.
    #[error(transparent)]
    Write(#[from] criu_image::Error),
    /// What is too large for memory cannot be kept in a file without a name.
    #[error("cannot keep data in a temporary file")]
    Spool(#[from] io::Error),
    /// The text does not begin like CRIT's JSON.
    #[error("expected an object, found {found}")]
    NotJson {
        /// What it begins with.
        found: String,
    },
    /// Something else should stand here.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What should stand here.
        expected: &'static str,
        /// What does.
        found: String,
    },
    /// A string holds a control character that is not escaped.
    #[error("control character within a string")]
    ControlCharacter,
    /// A string holds an escape that does not exist.
    #[error("invalid escape in a string")]
    BadEscape,
    /// A string holds half a surrogate pair.
    #[error("lone surrogate \\u{unit:04x} in a string")]
    LoneSurrogate {
        /// The half.
        unit: u16,
    },
    /// A string that should be text is no UTF-8.
    #[error("string is no UTF-8")]
    InvalidText,
    /// A number has a fraction or an exponent.
    #[error("expected an integer, found a fraction")]
    Fraction,
    /// A number has more than 64 bits.
    #[error("number does not fit into 64 bits")]
    TooLarge,
    /// Objects are nested too deeply.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The deepest nesting that is read.
        limit: u32,
    },
    /// A member that there must be is missing.
    #[error("member `{key}` is missing")]
    MissingMember {
        /// The key of the member.
        key: &'static str,
    },
    /// A member is there twice, or too late to be heeded.
    #[error("member `{key}` must come once, before `entries`")]
    Misplaced {
        /// The key of the member.
        key: &'static str,
    },
    /// No image has this magic.
    #[error("unknown magic `{name}`")]
    UnknownMagic {
        /// The name as it stands.
        name: String,
    },
    /// Neither the message nor CRIT has a member of this name.
    #[error("unknown field `{name}` of `{message}`")]
    UnknownField {
        /// The name as it stands.
        name: String,
        /// The message.
        message: &'static str,
    },
    /// A required field is missing.
    #[error("required field `{field}` is missing")]
    MissingField {
        /// The name of the field.
        field: &'static str,
    },
    /// The value is of another type than the field.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What the field takes.
        expected: &'static str,
        /// What stands here.
        found: &'static str,
    },
    /// The number does not fit into the field.
    #[error("number does not fit into a field of type {kind}")]
    OutOfRange {
        /// The type of the field.
        kind: &'static str,
    },
    /// The string stands for no number that the field knows.
    #[error("unknown word or number \"{word}\"")]
    UnknownWord {
        /// The string as it stands.
        word: String,
    },
    /// The string is no device number.
    #[error("\"{word}\" is no device number `major:minor`")]
    BadDevice {
        /// The string as it stands.
        word: String,
    },
    /// The string is no base64.
    #[error("invalid base64")]
    BadBase64,
    /// The payload is only a size, as `show --nopl` prints it.
    #[error("payload was left out when this text was printed")]
    LeftOut,
    /// The payload is not as long as the entry says.
    #[error("payload of {found} {unit} where the entry says {expected}")]
    PayloadLen {
        /// How long it should be.
        expected: u64,
        /// How long it is.
        found: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// Fields stand behind a payload that was too large to be kept.
    #[error("field behind a large `extra`: put `extra` last")]
    BehindPayload,
}

impl EncodeError {
    pub(super) fn at(line: u64, column: u64, kind: EncodeErrorKind) -> Self {
        Self(Box::new(Inner {
            line,
            column,
            entry: None,
            path: Vec::new(),
            kind,
        }))
    }

    /// Notes that the error lies within the given field.
    pub(super) fn within(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.0.path.push(name.into());
        self
    }

    /// Notes the entry.
    pub(super) fn in_entry(mut self, entry: u64) -> Self {
        self.0.entry.get_or_insert(entry);
        self
    }

    /// What is wrong.
    #[must_use]
    pub fn kind(&self) -> &EncodeErrorKind {
        &self.0.kind
    }

    /// The line of the text, from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.0.line
    }

    /// The byte of the line, from 1.
    #[must_use]
    pub fn column(&self) -> u64 {
        self.0.column
    }

    /// Index of the entry, from 0, if it is in one.
    #[must_use]
    pub fn entry(&self) -> Option<u64> {
        self.0.entry
    }

    /// The fields that lead to the culprit, such as `mm_entry.vmas.start`; empty if it is in none.
    #[must_use]
    pub fn path(&self) -> String {
        let names: Vec<&str> = self.0.path.iter().rev().map(Cow::as_ref).collect();
        names.join(".")
    }
}

impl fmt::Debug for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: ", self.line(), self.column())?;
        if let Some(entry) = self.entry() {
            write!(f, "entry {entry}: ")?;
        }
        if !self.0.path.is_empty() {
            write!(f, "{}: ", self.path())?;
        }
        self.0.kind.fmt(f)
    }
}

impl Error for EncodeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.kind.source()
    }
}
