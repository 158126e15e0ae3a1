//! The protobuf (proto2) wire format, as CRIU uses it.
//!
//! This is our own small layer instead of a general runtime, for four reasons. Images must come
//! back byte for byte, so fields this crate does not know are kept as the very bytes they were.
//! Images are hostile, so every length is checked against the bytes that are there before anything
//! is allocated, and an error names the byte offset and the field path. One table per message
//! ([`MessageDescriptor`]) serves the typed structs, the JSON
//! writer and the option walk, which a runtime with its own reflection would double. And nobody who
//! builds this crate needs `protoc`.
//!
//! ```text
//! message := field*
//! field   := tag(varint: number << 3 | wire type) value
//! value   := varint | 8 bytes | 4 bytes | varint length, that many bytes | field* end-group tag
//! ```
//!
//! Two levels are offered: [`Fields`] walks a slice without allocating or knowing the schema, and
//! [`Message`] decodes into and encodes from the generated structs.
//!
//! # Where decoding is strict and where it is not
//!
//! As every protobuf parser does, decoding takes fields in any order, packed and unpacked lists
//! whatever the schema says, lists in several pieces, varints longer than needed (up to ten bytes),
//! the last of several values of a single field, and merges repeated occurrences of a single
//! message field. A known field with a foreign wire type counts as unknown. It refuses truncated
//! values, varints over ten bytes, field number 0, groups that do not close, nesting over
//! [`RECURSION_LIMIT`], and what would take more than [`memory_limit`]. Encoding is canonical:
//! ascending field numbers, then unknown fields.

mod budget;
mod error;
mod fields;
pub mod slot;

use std::fmt::Debug;

use crate::schema::MessageDescriptor;

use self::budget::Budget;

pub use self::budget::memory_limit;
pub use self::error::{DecodeError, DecodeErrorKind};
pub use self::fields::{Field, Fields, Value, WireType, write_tag, write_varint};

/// A protobuf message with a generated Rust struct.
pub trait Message: Sized + Default + Clone + Debug + PartialEq {
    /// Describes the message: its name and fields.
    const DESCRIPTOR: &'static MessageDescriptor;

    /// Takes one field off the wire into the struct.
    ///
    /// # Errors
    ///
    /// Fails when the value does not fit the field's type.
    fn merge_field(&mut self, field: &Field<'_>, seen: &mut slot::Seen) -> Result<(), DecodeError>;

    /// Appends the encoded message to `out`.
    fn encode_to(&self, out: &mut Vec<u8>);

    /// The fields beyond the schema, and those whose wire type is not the schema's.
    fn unknown_mut(&mut self) -> &mut UnknownFields;

    /// Decodes a whole message.
    ///
    /// # Errors
    ///
    /// Fails on bytes that are no protobuf, on missing required fields, and on messages that take
    /// more memory than [`memory_limit`].
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let budget = Budget::new(memory_limit(bytes.len()));
        slot::decode_fields(Fields::within_budget(bytes, &budget))
    }

    /// Encodes the message into a new buffer.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_to(&mut out);
        out
    }
}

/// Decodes a message but for a list of messages in it, which [`decode_each`] goes over.
pub(crate) fn decode_without<M: Message>(bytes: &[u8], list: u32) -> Result<M, DecodeError> {
    let budget = Budget::new(memory_limit(bytes.len()));
    slot::decode_chosen(Fields::within_budget(bytes, &budget), |field| {
        !is_item(field, list)
    })
}

/// Decodes the items of a list of messages one by one; `of` is the message that holds the list.
pub(crate) fn decode_each<'a, M: Message>(
    bytes: &'a [u8],
    of: &'static MessageDescriptor,
    list: u32,
) -> impl Iterator<Item = Result<M, DecodeError>> + 'a {
    let name = of.field(list).map_or("unknown field", |field| field.name);
    let decode = move |field: Result<Field<'_>, DecodeError>| {
        let item = field.map(|field| slot::decode_fields(field.message()?));
        match item {
            Ok(item) => item.map_err(|error: DecodeError| error.within(name).within(of.name)),
            Err(error) => Err(error.within(of.name)),
        }
    };
    Fields::new(bytes)
        .filter(move |field| field.as_ref().map_or(true, |field| is_item(field, list)))
        .map(decode)
}

/// How many items a list of messages has.
pub(crate) fn count_each(bytes: &[u8], list: u32) -> usize {
    Fields::new(bytes)
        .filter(|field| field.as_ref().is_ok_and(|field| is_item(field, list)))
        .count()
}

fn is_item(field: &Field<'_>, list: u32) -> bool {
    field.number() == list && field.wire_type() == WireType::Bytes
}

/// Holds the fields a message has beyond its schema, as the bytes they were.
///
/// They are written back after the known fields, so a message of a newer CRIU passes through.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UnknownFields {
    bytes: Vec<u8>,
}

impl UnknownFields {
    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the fields, tags included, in the order in which they stood.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Walks the fields.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(&self.bytes)
    }

    /// Adds a field behind those already there.
    pub fn push(&mut self, field: &Field<'_>) {
        self.bytes.extend_from_slice(field.as_bytes());
    }

    /// Appends the fields to `out`.
    pub fn encode_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes);
    }
}

/// Deepest nesting of messages and groups that is decoded.
///
/// The same limit as Google's parsers have. CRIU's deepest message is a tree of cgroup
/// directories, which the kernel itself keeps far below it.
pub const RECURSION_LIMIT: u32 = 100;
