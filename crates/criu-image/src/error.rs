//! What can go wrong with images.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::kind::ImageKind;
use crate::wire::DecodeError;

/// An error, with the place in the images where it happened.
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    reason: ErrorKind,
    place: Place,
}

/// A place in the images, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The image's file.
    pub path: Option<PathBuf>,
    /// What kind of image it is.
    pub kind: Option<ImageKind>,
    /// Index of the entry, from 0.
    pub entry: Option<u64>,
    /// Offset in the file, in bytes.
    pub offset: Option<u64>,
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Reading or writing failed.
    #[error("cannot {action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The file ends too early.
    #[error("truncated {what}: {expected} bytes expected, {found} found")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Bytes that were needed.
        expected: u64,
        /// Bytes that were there.
        found: u64,
    },
    /// No image has this magic.
    #[error("unknown magic {magic:#x}")]
    UnknownMagic {
        /// The word found.
        magic: u32,
    },
    /// The magic is known in the other byte order.
    #[error("magic {magic:#x} is in the other byte order")]
    OtherByteOrder {
        /// The word found, read in the byte order asked for.
        magic: u32,
    },
    /// The image is of another kind than its name or its user says.
    #[error("expected {expected}, found magic {found:#x}")]
    WrongKind {
        /// The kind wanted.
        expected: ImageKind,
        /// The magic found.
        found: u32,
    },
    /// An entry is larger than what is read.
    #[error("entry of {size} bytes exceeds the limit of {limit} bytes")]
    EntryTooLarge {
        /// Size given, in bytes.
        size: u64,
        /// Limit, in bytes.
        limit: u64,
    },
    /// A size points past the end of the file.
    #[error("{what} of {size} bytes exceeds the {remaining} bytes left in the file")]
    ExceedsFile {
        /// What has the size.
        what: &'static str,
        /// Size given, in bytes.
        size: u64,
        /// Bytes left in the file.
        remaining: u64,
    },
    /// An entry cannot be decoded.
    #[error("malformed entry")]
    Malformed(#[source] DecodeError),
    /// There are not as many entries as there should be.
    #[error("expected {expected} entries, found {found}")]
    EntryCount {
        /// Entries there should be.
        expected: &'static str,
        /// Entries there are.
        found: u64,
    },
    /// What follows an entry does not fit what the entry says.
    #[error("payload does not fit its entry: {detail}")]
    Payload {
        /// In what way.
        detail: String,
    },
    /// There is no such image.
    #[error("image is missing")]
    Missing,
    /// There is no directory of that name.
    #[error("no such directory")]
    NoDirectory,
    /// The images contradict each other.
    #[error("{detail}")]
    Inconsistent {
        /// In what way.
        detail: String,
    },
    /// The images are in a form that this crate was built without, or does not know.
    #[error("unsupported: {detail}")]
    Unsupported {
        /// What is not supported.
        detail: String,
    },
}

/// What most functions here return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(reason: ErrorKind, place: Place) -> Self {
        Self(Box::new(Inner { reason, place }))
    }

    pub(crate) fn io(action: &'static str, source: io::Error) -> Self {
        ErrorKind::Io { action, source }.into()
    }

    /// What went wrong.
    #[must_use]
    pub fn reason(&self) -> &ErrorKind {
        &self.0.reason
    }

    /// Where it went wrong.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// Returns whether an image or a directory is missing, as opposed to damaged.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.0.reason, ErrorKind::Missing | ErrorKind::NoDirectory)
    }

    /// Notes the file, unless one is noted.
    #[must_use]
    pub fn in_file(mut self, path: impl AsRef<Path>) -> Self {
        self.0
            .place
            .path
            .get_or_insert_with(|| path.as_ref().to_owned());
        self
    }

    /// Notes the offset in the file, in bytes, unless one is noted.
    #[must_use]
    pub fn at_byte(mut self, offset: u64) -> Self {
        self.0.place.offset.get_or_insert(offset);
        self
    }

    pub(crate) fn in_kind(mut self, kind: ImageKind) -> Self {
        self.0.place.kind.get_or_insert(kind);
        self
    }

    pub(crate) fn in_entry(mut self, entry: u64) -> Self {
        self.0.place.entry.get_or_insert(entry);
        self
    }
}

impl From<ErrorKind> for Error {
    fn from(reason: ErrorKind) -> Self {
        Self::new(reason, Place::default())
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.reason() {
            ErrorKind::Io { source, .. } => source.kind(),
            ErrorKind::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            ErrorKind::Missing | ErrorKind::NoDirectory => io::ErrorKind::NotFound,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place {
            path,
            kind,
            entry,
            offset,
        } = &self.0.place;
        match (path, kind) {
            (Some(path), Some(kind)) => write!(f, "{} ({kind}): ", path.display())?,
            (Some(path), None) => write!(f, "{}: ", path.display())?,
            (None, Some(kind)) => write!(f, "{kind} image: ")?,
            (None, None) => {}
        }
        match (entry, offset) {
            (Some(entry), Some(offset)) => write!(f, "entry {entry} at byte {offset}: ")?,
            (Some(entry), None) => write!(f, "entry {entry}: ")?,
            (None, Some(offset)) => write!(f, "at byte {offset}: ")?,
            (None, None) => {}
        }
        self.0.reason.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0.reason)
    }
}
