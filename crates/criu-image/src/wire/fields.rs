//! Walks the fields of an encoded message without allocating.

use super::budget::Budget;
use super::{DecodeError, DecodeErrorKind, RECURSION_LIMIT};

/// How a value is laid out on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireType {
    /// A number of one to ten bytes.
    Varint = 0,
    /// Eight bytes, little endian.
    Fixed64 = 1,
    /// A length and that many bytes: string, bytes, message or packed list.
    Bytes = 2,
    /// Fields up to an end tag; not used by CRIU.
    Group = 3,
    /// Four bytes, little endian.
    Fixed32 = 5,
}

/// A field's value as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number of one to ten bytes.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// The bytes behind a length.
    Bytes(&'a [u8]),
    /// The fields of a group, without its end tag.
    Group(&'a [u8]),
}

/// One field off the wire.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    number: u32,
    value: Value<'a>,
    bytes: &'a [u8],
    rest: &'a [u8],
    offset: usize,
    depth: u32,
    budget: Option<&'a Budget>,
}

impl<'a> Field<'a> {
    /// The field number.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> Value<'a> {
        self.value
    }

    /// The wire type of the value.
    #[must_use]
    pub fn wire_type(&self) -> WireType {
        match self.value {
            Value::Varint(_) => WireType::Varint,
            Value::Fixed64(_) => WireType::Fixed64,
            Value::Fixed32(_) => WireType::Fixed32,
            Value::Bytes(_) => WireType::Bytes,
            Value::Group(_) => WireType::Group,
        }
    }

    /// The whole field, tag included, as it stands on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Byte offset of the field's tag in the outermost message.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The bytes of the enclosing message that follow this field.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Walks the fields of the message that this field holds.
    ///
    /// # Errors
    ///
    /// Fails when the value is not a [`Value::Bytes`] or nesting goes past [`RECURSION_LIMIT`].
    pub fn message(&self) -> Result<Fields<'a>, DecodeError> {
        let Value::Bytes(bytes) = self.value else {
            return Err(self.wrong_wire_type(WireType::Bytes));
        };
        // The value ends where the field ends.
        let offset = self.offset + self.bytes.len() - bytes.len();
        self.nested(bytes, offset, self.depth + 1)
    }

    /// Walks bytes that are part of this field.
    pub(super) fn nested<'b>(
        &self,
        bytes: &'b [u8],
        offset: usize,
        depth: u32,
    ) -> Result<Fields<'b>, DecodeError>
    where
        'a: 'b,
    {
        if depth > RECURSION_LIMIT {
            let limit = RECURSION_LIMIT;
            return Err(DecodeError::new(DecodeErrorKind::TooDeep { limit }, offset));
        }
        Ok(Fields {
            bytes,
            position: 0,
            base: offset,
            depth,
            budget: self.budget,
        })
    }

    /// Accounts for memory that the field's value takes.
    #[inline]
    pub(super) fn take_memory(&self, count: usize, size: usize) -> Result<(), DecodeError> {
        match self.budget {
            Some(budget) => budget.take(count, size, self.offset),
            None => Ok(()),
        }
    }

    /// The error of a field whose type has another wire type.
    #[must_use]
    pub fn wrong_wire_type(&self, expected: WireType) -> DecodeError {
        self.error(DecodeErrorKind::WrongWireType {
            expected,
            found: self.wire_type(),
        })
    }

    pub(super) fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError::new(kind, self.offset)
    }

    pub(super) fn depth(&self) -> u32 {
        self.depth
    }
}

/// Walks the fields of an encoded message in wire order; stops after the first error.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    position: usize,
    base: usize,
    depth: u32,
    budget: Option<&'a Budget>,
}

impl<'a> Fields<'a> {
    /// Starts at the beginning of an outermost message.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            position: 0,
            base: 0,
            depth: 0,
            budget: None,
        }
    }

    /// Starts at the beginning of an outermost message that is going to be kept.
    pub(super) fn within_budget(bytes: &'a [u8], budget: &'a Budget) -> Self {
        Self {
            budget: Some(budget),
            ..Self::new(bytes)
        }
    }

    /// Byte offset in the outermost message of the field that comes next.
    #[must_use]
    pub fn offset(&self) -> usize {
        self.base + self.position
    }

    fn field(&mut self) -> Result<Field<'a>, DecodeError> {
        let start = self.position;
        let tag = self.tag()?;
        let number = tag >> 3;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint("varint")?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array("64-bit value")?)),
            2 => Value::Bytes(self.counted()?),
            3 => Value::Group(self.group(number)?),
            4 => return Err(self.at(start, DecodeErrorKind::StrayEndGroup { number })),
            5 => Value::Fixed32(u32::from_le_bytes(self.array("32-bit value")?)),
            other => {
                let wire_type = if other == 6 { 6 } else { 7 };
                return Err(self.at(start, DecodeErrorKind::InvalidWireType { wire_type }));
            }
        };
        Ok(Field {
            number,
            value,
            bytes: &self.bytes[start..self.position],
            rest: &self.bytes[self.position..],
            offset: self.base + start,
            depth: self.depth,
            budget: self.budget,
        })
    }

    fn tag(&mut self) -> Result<u32, DecodeError> {
        let start = self.position;
        let tag = self.varint("field tag")?;
        match u32::try_from(tag) {
            Ok(small) if small >> 3 != 0 => Ok(small),
            _ => Err(self.at(start, DecodeErrorKind::InvalidTag { tag })),
        }
    }

    #[inline]
    pub(super) fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        if let Some(&byte) = self.bytes.get(self.position)
            && byte < 0x80
        {
            self.position += 1;
            return Ok(u64::from(byte));
        }
        self.long_varint(what)
    }

    fn long_varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let start = self.position;
        let mut value = 0u64;
        for (index, &byte) in self.bytes[start..].iter().take(MAX_VARINT_LEN).enumerate() {
            if index == MAX_VARINT_LEN - 1 && byte > 1 {
                return Err(self.at(start, DecodeErrorKind::VarintTooLong));
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.position = start + index + 1;
                return Ok(value);
            }
        }
        Err(self.at(start, DecodeErrorKind::Truncated { what }))
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        match self.bytes[self.position..].first_chunk::<N>() {
            Some(chunk) => {
                self.position += N;
                Ok(*chunk)
            }
            None => Err(self.at(self.position, DecodeErrorKind::Truncated { what })),
        }
    }

    fn counted(&mut self) -> Result<&'a [u8], DecodeError> {
        let start = self.position;
        let length = self.varint("length")?;
        let rest = &self.bytes[self.position..];
        match usize::try_from(length)
            .ok()
            .and_then(|length| rest.get(..length))
        {
            Some(value) => {
                self.position += value.len();
                Ok(value)
            }
            None => {
                let remaining = rest.len();
                Err(self.at(start, DecodeErrorKind::LengthTooLarge { length, remaining }))
            }
        }
    }

    /// Skips to the end tag of a group, without recursing into groups within it.
    fn group(&mut self, number: u32) -> Result<&'a [u8], DecodeError> {
        let start = self.position;
        let mut open = vec![number];
        loop {
            let end = self.position;
            let innermost = open.last().copied().unwrap_or(number);
            if end == self.bytes.len() {
                return Err(self.at(start, DecodeErrorKind::UnclosedGroup { number: innermost }));
            }
            let tag = self.tag()?;
            match tag & 7 {
                0 => drop(self.varint("varint")?),
                1 => drop(self.array::<8>("64-bit value")?),
                2 => drop(self.counted()?),
                3 if self.depth as usize + open.len() < RECURSION_LIMIT as usize => {
                    open.push(tag >> 3);
                }
                3 => {
                    return Err(self.at(
                        end,
                        DecodeErrorKind::TooDeep {
                            limit: RECURSION_LIMIT,
                        },
                    ));
                }
                4 if tag >> 3 == innermost => {
                    open.pop();
                    if open.is_empty() {
                        return Ok(&self.bytes[start..end]);
                    }
                }
                4 => {
                    return Err(self.at(end, DecodeErrorKind::UnclosedGroup { number: innermost }));
                }
                5 => drop(self.array::<4>("32-bit value")?),
                other => {
                    let wire_type = if other == 6 { 6 } else { 7 };
                    return Err(self.at(end, DecodeErrorKind::InvalidWireType { wire_type }));
                }
            }
        }
    }

    pub(super) fn is_outermost(&self) -> bool {
        self.depth == 0
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position == self.bytes.len()
    }

    fn at(&self, position: usize, kind: DecodeErrorKind) -> DecodeError {
        DecodeError::new(kind, self.base + position)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_at_end() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.position = self.bytes.len();
        }
        Some(field)
    }
}

/// Appends a varint of as few bytes as hold it.
#[inline]
pub fn write_varint(value: u64, out: &mut Vec<u8>) {
    match u8::try_from(value) {
        Ok(byte @ 0..0x80) => out.push(byte),
        _ => write_long_varint(value, out),
    }
}

fn write_long_varint(mut value: u64, out: &mut Vec<u8>) {
    let mut bytes = [0; MAX_VARINT_LEN];
    let mut len = 0;
    while value >= 0x80 {
        bytes[len] = value.to_le_bytes()[0] | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value.to_le_bytes()[0];
    // A length that is known beforehand takes no call and no loop to copy.
    let end = out.len() + len + 1;
    out.extend_from_slice(&bytes);
    out.truncate(end);
}

/// Appends a field's tag.
#[inline]
pub fn write_tag(number: u32, wire_type: WireType, out: &mut Vec<u8>) {
    write_varint(u64::from(number) << 3 | wire_type as u64, out);
}

/// 64 bits in groups of seven.
const MAX_VARINT_LEN: usize = 10;
