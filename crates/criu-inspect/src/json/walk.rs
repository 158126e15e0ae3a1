//! Walks messages that are known to be well-formed, as fast as can be.
//!
//! [`Fields`](criu_image::wire::Fields) checks all it meets and says where it went wrong. Here that
//! has been done: [`form`](super::form) looks at every message before it is printed.

use criu_image::schema::{FieldDescriptor, FieldKind, Label, MessageDescriptor};
use criu_image::wire::{RECURSION_LIMIT, Value};

/// The fields of a message, in the order in which they stand.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    rest: &'a [u8],
}

/// A field as it stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'a> {
    pub(super) number: u32,
    pub(super) value: Value<'a>,
    /// The message from this field on.
    pub(super) from_here: &'a [u8],
}

impl<'a> Walk<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The next field. Groups and 32-bit values, which no field of CRIU has, end the walk.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<Step<'a>> {
        let from_here = self.rest;
        let (tag, len) = read_varint(from_here)?;
        let after = &from_here[len..];
        let (value, len) = match tag & 7 {
            0 => {
                let (number, len) = read_varint(after)?;
                (Value::Varint(number), len)
            }
            1 => (Value::Fixed64(u64::from_le_bytes(*after.first_chunk()?)), 8),
            2 => {
                let (count, len) = read_varint(after)?;
                let end = len.checked_add(usize::try_from(count).ok()?)?;
                (Value::Bytes(after.get(len..end)?), end)
            }
            _ => (Value::Fixed32(0), after.len()),
        };
        self.rest = &after[len..];
        Some(Step {
            number: u32::try_from(tag >> 3).ok()?,
            value,
            from_here,
        })
    }
}

/// Whether a message is well-formed, canonical, complete and without unknown fields: what nearly
/// all messages are. If not, it takes a closer look to find what it is.
pub(super) fn is_plain(descriptor: &MessageDescriptor, message: &[u8], depth: u32) -> bool {
    let mut rest = message;
    let mut expected = descriptor.fields.iter();
    let mut last: Option<&FieldDescriptor> = None;
    while !rest.is_empty() {
        let Some((tag, tag_len)) = read_shortest_varint(rest) else {
            return false;
        };
        let number = tag >> 3;
        let field = match last {
            Some(field) if u64::from(field.number) == number => {
                if field.label != Label::Repeated || field.packed {
                    return false;
                }
                field
            }
            _ => loop {
                match expected.next() {
                    Some(field) if u64::from(field.number) == number => break field,
                    Some(field) if field.label != Label::Required => {}
                    _ => return false,
                }
            },
        };
        last = Some(field);
        let Some((value, value_len)) = read_shortest_varint(&rest[tag_len..]) else {
            return false;
        };
        let mut len = tag_len + value_len;
        let fits = match (&field.kind, tag & 7) {
            (FieldKind::Uint32 | FieldKind::Sint32, 0) => value <= u64::from(u32::MAX),
            (FieldKind::Uint64 | FieldKind::Int64 | FieldKind::Sint64, 0) => true,
            (FieldKind::Int32 | FieldKind::Enum(_), 0) => {
                i32::try_from(value.cast_signed()).is_ok()
            }
            (FieldKind::Bool, 0) => value <= 1,
            (FieldKind::String | FieldKind::Bytes | FieldKind::Message(_), 2) => {
                let end = usize::try_from(value)
                    .ok()
                    .and_then(|value| len.checked_add(value));
                let Some(bytes) = end.and_then(|end| rest.get(len..end)) else {
                    return false;
                };
                len += bytes.len();
                match field.kind {
                    FieldKind::Message(inner) => {
                        depth < RECURSION_LIMIT && is_plain(inner, bytes, depth + 1)
                    }
                    _ => true,
                }
            }
            _ => false,
        };
        if !fits || field.packed {
            return false;
        }
        rest = &rest[len..];
    }
    expected.all(|field| field.label != Label::Required)
}

/// The varint that bytes begin with, and how many of them it takes.
#[inline(always)]
pub(super) fn read_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let &first = bytes.first()?;
    if first < 0x80 {
        return Some((first.into(), 1));
    }
    read_long_varint(first, bytes)
}

fn read_long_varint(first: u8, bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = u64::from(first & 0x7f);
    let mut len = 1;
    while len < MAX_VARINT_LEN {
        let &byte = bytes.get(len)?;
        value |= u64::from(byte & 0x7f) << (7 * len);
        len += 1;
        if byte < 0x80 {
            // Of the tenth byte one bit is left.
            return (len < MAX_VARINT_LEN || byte <= 1).then_some((value, len));
        }
    }
    None
}

/// The same, if it takes no more bytes than it needs.
#[inline]
fn read_shortest_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let (value, len) = read_varint(bytes)?;
    (len == 1 || bytes[len - 1] != 0).then_some((value, len))
}

/// 64 bits in groups of seven.
const MAX_VARINT_LEN: usize = 10;
