//! Whether an encoded message is the one that its JSON encodes to, and which one that is.
//!
//! Protobuf lets the same message be encoded in many ways: fields in any order, numbers longer
//! than needed, lists packed or not. JSON shows what the message says, not how. The *canonical*
//! encoding is what every CRIU and CRIT writes: fields by ascending number, each as short as can
//! be, lists as the schema has them, unknown fields last in the order in which they stood.

use criu_image::schema::{FieldDescriptor, FieldKind, Label, MessageDescriptor};
use criu_image::wire::{
    self, DecodeErrorKind, Field, Fields, RECURSION_LIMIT, Value, WireType, write_tag, write_varint,
};

use super::walk;

/// What is wrong with an encoded message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct MessageError {
    /// The message and the fields that lead to the culprit, such as `mm_entry.vmas`.
    pub path: String,
    /// Byte offset of the culprit in the entry.
    pub offset: usize,
    /// What is wrong with it.
    pub problem: DecodeErrorKind,
}

/// How a message is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Fields ascend, single ones occur once, and unknown ones are last: what a walk from front to
    /// back meets is what the message says.
    pub(super) ordered: bool,
    /// The encoding is the canonical one, and no required field is missing.
    pub(super) canonical: bool,
}

/// Walks a whole message, finding errors and its form.
pub(super) fn inspect(
    descriptor: &'static MessageDescriptor,
    bytes: &[u8],
) -> Result<Form, MessageError> {
    let mut form = Form {
        ordered: true,
        canonical: true,
    };
    if walk::is_plain(descriptor, bytes, 0) {
        return Ok(form);
    }
    inspect_fields(descriptor, Fields::new(bytes), &mut form).map_err(|fault| {
        let mut path = descriptor.name.to_owned();
        for name in fault.path.iter().rev() {
            path.push('.');
            path.push_str(name);
        }
        MessageError {
            path,
            offset: fault.offset,
            problem: fault.problem,
        }
    })?;
    Ok(form)
}

/// Encodes a message that [`inspect`] found no error in the canonical way.
///
/// Of single fields that occur more than once the last one counts, and messages are merged.
pub(super) fn canonical(descriptor: &'static MessageDescriptor, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    append_canonical(descriptor, bytes, 0, &mut out);
    out
}

/// The field's descriptor, if the message has such a field of such a wire type. One of another
/// wire type is as unknown as one of another number.
#[inline]
pub(super) fn known(
    descriptor: &'static MessageDescriptor,
    number: u32,
    value: Value<'_>,
) -> Option<&'static FieldDescriptor> {
    let known = descriptor.field(number)?;
    let fits = match (&known.kind, value) {
        (FieldKind::String | FieldKind::Bytes | FieldKind::Message(_), Value::Bytes(_)) => true,
        (FieldKind::String | FieldKind::Bytes | FieldKind::Message(_), _) => false,
        (FieldKind::Fixed64, Value::Fixed64(_)) => true,
        (FieldKind::Fixed64, Value::Varint(_)) => false,
        (_, Value::Varint(_)) => true,
        (_, Value::Bytes(_)) => known.label == Label::Repeated,
        _ => false,
    };
    fits.then_some(known)
}

/// Walks the numbers of a packed list; `None` stands for one that is cut off.
pub(super) fn packed<'a>(
    kind: &'a FieldKind,
    bytes: &'a [u8],
) -> impl Iterator<Item = Option<u64>> + 'a {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (value, len) = match (kind, rest.first_chunk()) {
            (FieldKind::Fixed64, Some(&bytes)) => (Some(u64::from_le_bytes(bytes)), 8),
            (FieldKind::Fixed64, None) => (None, rest.len()),
            _ => match walk::read_varint(rest) {
                Some((value, len)) => (Some(value), len),
                None => (None, rest.len()),
            },
        };
        rest = &rest[len..];
        Some(value)
    })
}

/// The number that a varint field is taken for: as many bits as its type has.
#[inline]
pub(super) fn truncated(kind: &FieldKind, value: u64) -> u64 {
    match kind {
        FieldKind::Uint32 | FieldKind::Sint32 => value & 0xffff_ffff,
        // Negative numbers are sign-extended.
        FieldKind::Int32 | FieldKind::Enum(_) => i64::from(low_i32(value)).cast_unsigned(),
        FieldKind::Bool => u64::from(value != 0),
        _ => value,
    }
}

/// The low 32 bits, as a signed number.
#[inline]
pub(super) fn low_i32(value: u64) -> i32 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "protobuf drops the upper bits"
    )]
    let low = value as u32;
    low.cast_signed()
}

struct Fault {
    path: Vec<&'static str>,
    offset: usize,
    problem: DecodeErrorKind,
}

impl From<wire::DecodeError> for Fault {
    fn from(error: wire::DecodeError) -> Self {
        Self {
            path: Vec::new(),
            offset: error.offset(),
            problem: error.kind().clone(),
        }
    }
}

fn inspect_fields(
    descriptor: &'static MessageDescriptor,
    fields: Fields<'_>,
    form: &mut Form,
) -> Result<(), Fault> {
    let mut last = 0;
    let mut unknown = false;
    let mut required = 0;
    for field in fields {
        let field = field?;
        let Some(known) = known(descriptor, field.number(), field.value()) else {
            unknown = true;
            continue;
        };
        let number = known.number;
        let again = number == last && known.label == Label::Repeated && !known.packed;
        if unknown || number < last || number == last && !again {
            form.canonical = false;
            // Pieces of a packed list lie behind each other all the same.
            form.ordered &= !unknown && number == last && known.label == Label::Repeated;
        }
        if number > last && known.label == Label::Required {
            required += 1;
        }
        last = number;
        inspect_value(known, &field, form).map_err(|mut fault| {
            fault.path.push(known.name);
            fault
        })?;
    }
    if form.canonical {
        let needed = descriptor
            .fields
            .iter()
            .filter(|field| field.label == Label::Required);
        form.canonical = required == needed.count();
    }
    Ok(())
}

#[inline]
fn inspect_value(known: &FieldDescriptor, field: &Field<'_>, form: &mut Form) -> Result<(), Fault> {
    let value_len = match field.value() {
        Value::Varint(value) => {
            form.canonical &= truncated(&known.kind, value) == value && !known.packed;
            varint_len(value)
        }
        Value::Fixed64(_) => {
            form.canonical &= !known.packed;
            8
        }
        Value::Bytes(bytes) => {
            match known.kind {
                FieldKind::Message(inner) => inspect_fields(inner, field.message()?, form)?,
                FieldKind::String | FieldKind::Bytes => {}
                ref kind => {
                    form.canonical &= known.packed && !bytes.is_empty();
                    for value in packed(kind, bytes) {
                        let Some(value) = value else {
                            return Err(Fault {
                                path: Vec::new(),
                                offset: field.offset(),
                                problem: DecodeErrorKind::Truncated {
                                    what: "packed list",
                                },
                            });
                        };
                        form.canonical &= truncated(kind, value) == value;
                    }
                    if form.canonical && !matches!(kind, FieldKind::Fixed64) {
                        let shortest = packed(kind, bytes).flatten().map(varint_len).sum::<usize>();
                        form.canonical = shortest == bytes.len();
                    }
                }
            }
            varint_len(bytes.len() as u64) + bytes.len()
        }
        Value::Fixed32(_) | Value::Group(_) => 0,
    };
    let tag_len = varint_len(u64::from(field.number()) << 3);
    form.canonical &= field.as_bytes().len() == tag_len + value_len;
    Ok(())
}

fn append_canonical(
    descriptor: &'static MessageDescriptor,
    bytes: &[u8],
    depth: u32,
    out: &mut Vec<u8>,
) {
    if depth > RECURSION_LIMIT {
        return;
    }
    let mut fields = Vec::new();
    let mut unknown = Vec::new();
    for field in Fields::new(bytes).map_while(Result::ok) {
        match known(descriptor, field.number(), field.value()) {
            Some(known) => fields.push((known, field)),
            None => unknown.extend_from_slice(field.as_bytes()),
        }
    }
    fields.sort_by_key(|(known, _)| known.number);
    for same in fields.chunk_by(|(a, _), (b, _)| a.number == b.number) {
        let known = same[0].0;
        match (&known.kind, known.label) {
            (FieldKind::Message(inner), Label::Repeated) => {
                for (_, field) in same {
                    append_message(known, inner, payload(field), depth, out);
                }
            }
            (FieldKind::Message(inner), _) => {
                // Messages one behind the other are the merged message.
                let merged: Vec<u8> = same
                    .iter()
                    .flat_map(|(_, field)| payload(field))
                    .copied()
                    .collect();
                append_message(known, inner, &merged, depth, out);
            }
            (FieldKind::String | FieldKind::Bytes, label) => {
                let counted = if label == Label::Repeated {
                    same
                } else {
                    &same[same.len() - 1..]
                };
                for (_, field) in counted {
                    write_tag(known.number, WireType::Bytes, out);
                    write_varint(payload(field).len() as u64, out);
                    out.extend_from_slice(payload(field));
                }
            }
            (kind, Label::Repeated) => {
                let numbers = same
                    .iter()
                    .flat_map(|(_, field)| numbers(kind, field.value()));
                if known.packed {
                    let mut list = Vec::new();
                    numbers.for_each(|number| append_number(kind, number, &mut list));
                    if !list.is_empty() {
                        write_tag(known.number, WireType::Bytes, out);
                        write_varint(list.len() as u64, out);
                        out.extend_from_slice(&list);
                    }
                } else {
                    for number in numbers {
                        write_tag(known.number, number_wire_type(kind), out);
                        append_number(kind, number, out);
                    }
                }
            }
            (kind, _) => {
                if let Some(number) = numbers(kind, same[same.len() - 1].1.value()).last() {
                    write_tag(known.number, number_wire_type(kind), out);
                    append_number(kind, number, out);
                }
            }
        }
    }
    out.extend_from_slice(&unknown);
}

fn append_message(
    known: &FieldDescriptor,
    inner: &'static MessageDescriptor,
    bytes: &[u8],
    depth: u32,
    out: &mut Vec<u8>,
) {
    let mut message = Vec::with_capacity(bytes.len());
    append_canonical(inner, bytes, depth + 1, &mut message);
    write_tag(known.number, WireType::Bytes, out);
    write_varint(message.len() as u64, out);
    out.extend_from_slice(&message);
}

/// Appends a number of the given type without a tag.
#[inline]
pub(super) fn append_number(kind: &FieldKind, number: u64, out: &mut Vec<u8>) {
    match kind {
        FieldKind::Fixed64 => out.extend_from_slice(&number.to_le_bytes()),
        _ => write_varint(number, out),
    }
}

/// The wire type of a number that is not in a packed list.
#[inline]
pub(super) fn number_wire_type(kind: &FieldKind) -> WireType {
    match kind {
        FieldKind::Fixed64 => WireType::Fixed64,
        _ => WireType::Varint,
    }
}

/// The numbers of a field, one or a packed list.
pub(super) fn numbers<'a>(
    kind: &'a FieldKind,
    value: Value<'a>,
) -> impl Iterator<Item = u64> + use<'a> {
    let (single, list) = match value {
        Value::Varint(number) | Value::Fixed64(number) => (Some(number), &[][..]),
        Value::Bytes(bytes) => (None, bytes),
        Value::Fixed32(_) | Value::Group(_) => (None, &[][..]),
    };
    let list = packed(kind, list).flatten();
    single
        .into_iter()
        .chain(list)
        .map(|number| truncated(kind, number))
}

fn payload<'a>(field: &Field<'a>) -> &'a [u8] {
    match field.value() {
        Value::Bytes(bytes) => bytes,
        _ => &[],
    }
}

#[inline]
fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}
