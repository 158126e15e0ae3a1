//! Why bytes could not be decoded as a message.

use super::WireType;

/// Says what was wrong with an encoded message, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {kind} (at byte {offset} of the message)", path = self.path())]
pub struct DecodeError {
    kind: DecodeErrorKind,
    offset: usize,
    path: Vec<&'static str>,
}

/// What was wrong with an encoded message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The bytes end within a tag or a number.
    #[error("truncated {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A length points past the end of the enclosing message.
    #[error("length {length} exceeds the {remaining} bytes that are left")]
    LengthTooLarge {
        /// The length given, in bytes.
        length: u64,
        /// Bytes left in the enclosing message.
        remaining: usize,
    },
    /// A varint has more than ten bytes or more than 64 bits.
    #[error("varint longer than 64 bits")]
    VarintTooLong,
    /// A tag has field number 0 or one over 2^29-1.
    #[error("invalid field tag {tag:#x}")]
    InvalidTag {
        /// The tag as it stands.
        tag: u64,
    },
    /// A tag has one of the two wire types that do not exist.
    #[error("invalid wire type {wire_type}")]
    InvalidWireType {
        /// The wire type, 6 or 7.
        wire_type: u8,
    },
    /// A required field has a wire type that its type does not have.
    #[error("wire type {found:?} where {expected:?} was expected")]
    WrongWireType {
        /// The wire type that the field's type has.
        expected: WireType,
        /// The wire type found.
        found: WireType,
    },
    /// The end of a group without its start.
    #[error("end of group {number} without a start")]
    StrayEndGroup {
        /// The group's field number.
        number: u32,
    },
    /// A group is closed by the end of another one, or not at all.
    #[error("group {number} is not closed")]
    UnclosedGroup {
        /// The group's field number.
        number: u32,
    },
    /// Messages or groups are nested too deeply.
    #[error("nested deeper than {limit} levels")]
    TooDeep {
        /// The deepest nesting that is decoded.
        limit: u32,
    },
    /// The decoded message would take more memory than
    /// [`memory_limit`](super::memory_limit).
    #[error("message takes more than {limit} bytes of memory")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A required field is missing.
    #[error("required field `{field}` is missing")]
    MissingRequired {
        /// The field's name.
        field: &'static str,
    },
}

impl DecodeError {
    pub(super) fn new(kind: DecodeErrorKind, offset: usize) -> Self {
        Self {
            kind,
            offset,
            path: Vec::new(),
        }
    }

    /// Notes that the error lies within the given field or message.
    pub(super) fn within(mut self, name: &'static str) -> Self {
        self.path.push(name);
        self
    }

    /// What was wrong.
    #[must_use]
    pub fn kind(&self) -> &DecodeErrorKind {
        &self.kind
    }

    /// Byte offset of the culprit in the outermost message.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The outermost message and the fields that lead to the culprit, such as
    /// `mm_entry.vmas.start`.
    #[must_use]
    pub fn path(&self) -> String {
        if self.path.is_empty() {
            return "message".to_owned();
        }
        let mut path = String::new();
        for (depth, name) in self.path.iter().rev().enumerate() {
            if depth > 0 {
                path.push('.');
            }
            path.push_str(name);
        }
        path
    }
}
