//! How the generated structs hold fields: one [`Codec`] per protobuf type, one pair of functions
//! per label.
//!
//! Generated code names a codec where a Rust type alone does not tell the encoding: an `i32` is an
//! `int32`, an `sint32` or the number of an enum.

use std::fmt::Debug;
use std::marker::PhantomData;

use bstr::BString;

use super::{
    DecodeError, DecodeErrorKind, Field, Fields, Message, Value, WireType, write_tag, write_varint,
};
use crate::schema::Label;

/// Which required fields of a message have been met, one bit each in the order of their numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen(u64);

impl Seen {
    fn mark(&mut self, index: u32) -> bool {
        let bit = 1u64 << index;
        let before = self.0 & bit != 0;
        self.0 |= bit;
        before
    }
}

/// Encodes and decodes one protobuf type.
pub trait Codec {
    /// What the struct holds.
    type Item;
    /// The type's wire type.
    const WIRE_TYPE: WireType;

    /// Takes the value of a field with the right wire type, or `None` if it has another one.
    fn take(value: Value<'_>) -> Option<Self::Item>;

    /// Appends the value without its tag.
    fn put(item: &Self::Item, out: &mut Vec<u8>);
}

/// An enum that keeps numbers it has no name for.
pub trait OpenEnum: Copy + Default + Debug + Eq {
    /// Describes the enum: its name and values.
    const DESCRIPTOR: &'static crate::schema::EnumDescriptor;

    /// The value with the given number.
    fn from_number(number: i32) -> Self;

    /// The value's number.
    fn number(self) -> i32;
}

macro_rules! varint_codec {
    ($($(#[$doc:meta])* $name:ident: $item:ty, |$wire:ident| $take:expr, |$value:ident| $put:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name;

        impl Codec for $name {
            type Item = $item;
            const WIRE_TYPE: WireType = WireType::Varint;

            #[inline]
            fn take(value: Value<'_>) -> Option<$item> {
                match value {
                    Value::Varint($wire) => Some($take),
                    _ => None,
                }
            }

            #[inline]
            fn put($value: &$item, out: &mut Vec<u8>) {
                write_varint($put, out);
            }
        }
    )*};
}

varint_codec! {
    /// `uint32`: the low 32 bits of a varint.
    Uint32: u32, |wire| low_half(wire), |value| u64::from(*value);
    /// `uint64`.
    Uint64: u64, |wire| wire, |value| *value;
    /// `int32`: the low 32 bits of a varint; negative numbers are sign-extended to ten bytes.
    Int32: i32, |wire| low_half(wire).cast_signed(), |value| i64::from(*value).cast_unsigned();
    /// `int64`.
    Int64: i64, |wire| wire.cast_signed(), |value| value.cast_unsigned();
    /// `sint32`: zigzag, so that small negative numbers are short.
    Sint32: i32,
        |wire| ((low_half(wire) >> 1) ^ (low_half(wire) & 1).wrapping_neg()).cast_signed(),
        |value| u64::from(((value << 1) ^ (value >> 31)).cast_unsigned());
    /// `sint64`: zigzag, so that small negative numbers are short.
    Sint64: i64,
        |wire| ((wire >> 1) ^ (wire & 1).wrapping_neg()).cast_signed(),
        |value| ((value << 1) ^ (value >> 63)).cast_unsigned();
    /// `bool`: any number but 0 is true.
    Bool: bool, |wire| wire != 0, |value| u64::from(*value);
}

/// `fixed64`: eight bytes.
#[derive(Debug)]
pub struct Fixed64;

impl Codec for Fixed64 {
    type Item = u64;
    const WIRE_TYPE: WireType = WireType::Fixed64;

    fn take(value: Value<'_>) -> Option<u64> {
        match value {
            Value::Fixed64(number) => Some(number),
            _ => None,
        }
    }

    fn put(item: &u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&item.to_le_bytes());
    }
}

/// `string`: kept as bytes, since CRIU stores paths, which need not be UTF-8.
#[derive(Debug)]
pub struct Text;

impl Codec for Text {
    type Item = BString;
    const WIRE_TYPE: WireType = WireType::Bytes;

    fn take(value: Value<'_>) -> Option<BString> {
        Blob::take(value).map(BString::from)
    }

    fn put(item: &BString, out: &mut Vec<u8>) {
        put_bytes(item, out);
    }
}

/// `bytes`.
#[derive(Debug)]
pub struct Blob;

impl Codec for Blob {
    type Item = Vec<u8>;
    const WIRE_TYPE: WireType = WireType::Bytes;

    fn take(value: Value<'_>) -> Option<Vec<u8>> {
        match value {
            Value::Bytes(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    }

    fn put(item: &Vec<u8>, out: &mut Vec<u8>) {
        put_bytes(item, out);
    }
}

/// An enum: the number as `int32`.
#[derive(Debug)]
pub struct Enum<E>(PhantomData<E>);

impl<E: OpenEnum> Codec for Enum<E> {
    type Item = E;
    const WIRE_TYPE: WireType = WireType::Varint;

    fn take(value: Value<'_>) -> Option<E> {
        Int32::take(value).map(E::from_number)
    }

    fn put(item: &E, out: &mut Vec<u8>) {
        Int32::put(&item.number(), out);
    }
}

/// Takes a required field; `index` is its place among the message's required fields.
#[inline]
pub fn take_required<C: Codec>(
    item: &mut C::Item,
    field: &Field<'_>,
    seen: &mut Seen,
    index: u32,
) -> Result<(), DecodeError> {
    *item = take::<C>(field)?;
    seen.mark(index);
    Ok(())
}

/// Takes an optional field.
#[inline]
pub fn take_optional<C: Codec>(
    item: &mut Option<C::Item>,
    field: &Field<'_>,
) -> Result<(), DecodeError> {
    *item = Some(take::<C>(field)?);
    Ok(())
}

/// Takes one element of a repeated field, or a packed piece of it.
#[inline]
pub fn take_repeated<C: Codec>(
    items: &mut Vec<C::Item>,
    field: &Field<'_>,
) -> Result<(), DecodeError> {
    if C::WIRE_TYPE != WireType::Bytes
        && let Value::Bytes(bytes) = field.value()
    {
        return take_packed::<C>(items, field, bytes);
    }
    let item = take::<C>(field)?;
    reserve(items, field)?;
    items.push(item);
    Ok(())
}

/// Takes a required message field, merged from all its occurrences.
pub fn take_required_message<M: Message>(
    item: &mut M,
    field: &Field<'_>,
    seen: &mut Seen,
    index: u32,
) -> Result<(), DecodeError> {
    let message = field.message()?;
    if !seen.mark(index) {
        *item = decode_merged(field, message)?;
    }
    Ok(())
}

/// Takes an optional message field, merged from all its occurrences.
pub fn take_optional_message<M: Message>(
    item: &mut Option<Box<M>>,
    field: &Field<'_>,
) -> Result<(), DecodeError> {
    let message = field.message()?;
    if item.is_none() {
        field.take_memory(1, size_of::<M>())?;
        *item = Some(Box::new(decode_merged(field, message)?));
    }
    Ok(())
}

/// Takes one element of a repeated message field.
pub fn take_repeated_message<M: Message>(
    items: &mut Vec<M>,
    field: &Field<'_>,
) -> Result<(), DecodeError> {
    let message = field.message()?;
    reserve(items, field)?;
    items.push(decode_fields(message)?);
    Ok(())
}

/// Makes room for the element at hand and, if it is the first, for those to come: growing step by
/// step would take up to three times the memory.
#[inline]
fn reserve<T>(items: &mut Vec<T>, field: &Field<'_>) -> Result<(), DecodeError> {
    if items.len() < items.capacity() {
        return Ok(());
    }
    if !items.is_empty() {
        return reserve_more(items, 1, field);
    }
    let later = later_values(field).count();
    field.take_memory(later + 1, size_of::<T>())?;
    items.reserve_exact(later + 1);
    Ok(())
}

/// Makes room for `count` elements more: all that there are, or some of a list in pieces.
fn reserve_more<T>(items: &mut Vec<T>, count: usize, field: &Field<'_>) -> Result<(), DecodeError> {
    if items.is_empty() {
        field.take_memory(count, size_of::<T>())?;
        items.reserve_exact(count);
    } else {
        // Up to twice as much, so that very many pieces do not move the list as many times.
        field.take_memory(count, 2 * size_of::<T>())?;
        items.reserve(count);
    }
    Ok(())
}

/// The values of the later occurrences of a field.
fn later_values<'a>(field: &Field<'a>) -> impl Iterator<Item = Value<'a>> {
    let number = field.number();
    // What is malformed there is reported by whoever walks the enclosing message.
    Fields::new(field.rest())
        .map_while(Result::ok)
        .filter(move |later| later.number() == number)
        .map(|later| later.value())
}

/// Appends a required field, or a set optional one.
#[inline]
pub fn put<C: Codec>(number: u32, item: &C::Item, out: &mut Vec<u8>) {
    write_tag(number, C::WIRE_TYPE, out);
    C::put(item, out);
}

/// Appends an optional field if it is set.
#[inline]
pub fn put_optional<C: Codec>(number: u32, item: Option<&C::Item>, out: &mut Vec<u8>) {
    if let Some(item) = item {
        put::<C>(number, item, out);
    }
}

/// Appends each element of a repeated field with a tag of its own.
#[inline]
pub fn put_repeated<C: Codec>(number: u32, items: &[C::Item], out: &mut Vec<u8>) {
    for item in items {
        put::<C>(number, item, out);
    }
}

/// Appends a repeated field as one packed list; nothing if it is empty.
pub fn put_packed<C: Codec>(number: u32, items: &[C::Item], out: &mut Vec<u8>) {
    if !items.is_empty() {
        write_tag(number, WireType::Bytes, out);
        put_counted(out, |out| {
            for item in items {
                C::put(item, out);
            }
        });
    }
}

/// Appends a message field.
pub fn put_message<M: Message>(number: u32, item: &M, out: &mut Vec<u8>) {
    write_tag(number, WireType::Bytes, out);
    put_counted(out, |out| item.encode_to(out));
}

/// Decodes a message from its fields.
pub(super) fn decode_fields<M: Message>(fields: Fields<'_>) -> Result<M, DecodeError> {
    decode_chosen(fields, |_| true)
}

/// Decodes a message from some of its fields.
#[inline]
pub(super) fn decode_chosen<M: Message>(
    fields: Fields<'_>,
    is_wanted: impl Fn(&Field<'_>) -> bool,
) -> Result<M, DecodeError> {
    let descriptor = M::DESCRIPTOR;
    let outermost = fields.is_outermost();
    // The outermost message gives its own name; those within go by the name of their field.
    let within_message = |error: DecodeError| {
        if outermost {
            error.within(descriptor.name)
        } else {
            error
        }
    };
    let mut message = M::default();
    let mut seen = Seen::default();
    let mut foreign = None;
    let start = fields.offset();
    for field in fields {
        let field = field.map_err(within_message)?;
        if !is_wanted(&field) {
            continue;
        }
        let Err(error) = message.merge_field(&field, &mut seen) else {
            continue;
        };
        let name = descriptor
            .field(field.number())
            .map_or("unknown field", |known| known.name);
        let error = within_message(error.within(name));
        let is_foreign = matches!(error.kind(), DecodeErrorKind::WrongWireType { .. });
        // One further on is about a message within.
        if !is_foreign || error.offset() != field.offset() {
            return Err(error);
        }
        message.unknown_mut().push(&field);
        foreign.get_or_insert((name, error));
    }
    let required = descriptor
        .fields
        .iter()
        .filter(|field| field.label == Label::Required);
    for (index, field) in required.enumerate() {
        if seen.0 & 1 << index == 0 {
            if let Some((name, error)) = foreign
                && name == field.name
            {
                return Err(error);
            }
            let kind = DecodeErrorKind::MissingRequired { field: field.name };
            return Err(within_message(DecodeError::new(kind, start)));
        }
    }
    Ok(message)
}

#[inline]
fn take<C: Codec>(field: &Field<'_>) -> Result<C::Item, DecodeError> {
    C::take(field.value()).ok_or_else(|| field.wrong_wire_type(C::WIRE_TYPE))
}

fn take_packed<C: Codec>(
    items: &mut Vec<C::Item>,
    field: &Field<'_>,
    bytes: &[u8],
) -> Result<(), DecodeError> {
    if !matches!(C::WIRE_TYPE, WireType::Varint | WireType::Fixed64) {
        return Err(field.wrong_wire_type(C::WIRE_TYPE));
    }
    // Every varint ends with a byte under 0x80.
    let count = match C::WIRE_TYPE {
        WireType::Varint => bytes.iter().filter(|&&byte| byte < 0x80).count(),
        _ => bytes.len() / 8,
    };
    reserve_more(items, count, field)?;
    let offset = field.offset() + field.as_bytes().len() - bytes.len();
    let mut list = field.nested(bytes, offset, field.depth())?;
    while !list.is_at_end() {
        let value = match C::WIRE_TYPE {
            WireType::Varint => Value::Varint(list.varint("packed element")?),
            WireType::Fixed64 => Value::Fixed64(u64::from_le_bytes(list.array("packed element")?)),
            _ => return Err(field.wrong_wire_type(C::WIRE_TYPE)),
        };
        items.extend(C::take(value));
    }
    Ok(())
}

/// Decodes a single message field together with its later occurrences, which protobuf defines to
/// be the same as one occurrence with all the bytes.
fn decode_merged<M: Message>(field: &Field<'_>, first: Fields<'_>) -> Result<M, DecodeError> {
    let Value::Bytes(bytes) = field.value() else {
        return Err(field.wrong_wire_type(WireType::Bytes));
    };
    let pieces = || {
        later_values(field).filter_map(|value| match value {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        })
    };
    let later_len: usize = pieces().map(<[u8]>::len).sum();
    if later_len == 0 {
        return decode_fields(first);
    }
    let merged_len = bytes.len() + later_len;
    field.take_memory(merged_len, 1)?;
    let mut merged = Vec::with_capacity(merged_len);
    merged.extend_from_slice(bytes);
    for piece in pieces() {
        merged.extend_from_slice(piece);
    }
    decode_fields(field.nested(&merged, first.offset(), field.depth() + 1)?)
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends what `body` writes, behind its length.
fn put_counted(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    // Most messages are shorter than 128 bytes: leave one byte for the length, and make room for
    // more only if need be.
    let at = out.len();
    out.push(0);
    body(out);
    let length = out.len() - at - 1;
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out[at] = short,
        _ => {
            let mut prefix = Vec::with_capacity(5);
            write_varint(length as u64, &mut prefix);
            out.splice(at..=at, prefix);
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "protobuf takes the low bits of a varint"
)]
fn low_half(wire: u64) -> u32 {
    wire as u32
}
