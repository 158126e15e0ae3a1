//! An encoded message as a JSON object, in one walk over its bytes.

use std::io::{self, Write};

use criu_image::schema::{FieldDescriptor, FieldKind, Label, MessageDescriptor};
use criu_image::wire::Value;

use crate::json::number::{self, Integer};
use crate::json::text::Text;
use crate::json::walk::{Step, Walk};
use crate::json::{Style, UNKNOWN_KEY, form, quoted_printable};

/// How the fields of a message are printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// Numbers in the form made for people.
    pub(super) pretty: bool,
    /// Integers in hexadecimal, whatever they are.
    pub(super) hex: bool,
}

impl View {
    pub(super) fn of(style: Style) -> Self {
        Self {
            pretty: style == Style::Pretty,
            hex: false,
        }
    }
}

/// Writes the members of an object: the fields of a message whose form is ordered. Returns whether
/// there were any.
pub(super) fn write_members<W: Write>(
    text: &mut Text<W>,
    descriptor: &'static MessageDescriptor,
    message: &[u8],
    view: View,
) -> io::Result<bool> {
    let mut first = true;
    let mut fields = Walk::new(message);
    let mut next = fields.next();
    while let Some(field) = next {
        let Some(known) = form::known(descriptor, field.number, field.value) else {
            text.key(first, UNKNOWN_KEY);
            text.base64_string(field.from_here)?;
            return Ok(true);
        };
        if known.label == Label::Repeated {
            let mut list = List {
                descriptor,
                known,
                fields: &mut fields,
                next: Some(field),
            };
            write_list(text, &mut list, &mut first, view)?;
            next = list.next;
        } else {
            text.key(first, known.name);
            first = false;
            match field.value {
                // What most fields are.
                Value::Varint(number)
                    if !view.pretty
                        && matches!(known.kind, FieldKind::Uint32 | FieldKind::Uint64) =>
                {
                    text.number(form::truncated(&known.kind, number));
                }
                Value::Varint(number) => {
                    write_number(text, known, form::truncated(&known.kind, number), view)?;
                }
                value => write_value(text, known, value, view)?,
            }
            next = fields.next();
        }
        text.settle()?;
    }
    Ok(!first)
}

/// The occurrences of a repeated field, which lie behind each other.
struct List<'a, 'b> {
    descriptor: &'static MessageDescriptor,
    known: &'static FieldDescriptor,
    fields: &'b mut Walk<'a>,
    next: Option<Step<'a>>,
}

impl<'a> List<'a, '_> {
    #[inline]
    fn take(&mut self) -> Option<Value<'a>> {
        let step = self.next.filter(|step| {
            step.number == self.known.number
                && form::known(self.descriptor, step.number, step.value).is_some()
        })?;
        self.next = self.fields.next();
        Some(step.value)
    }
}

fn write_list<W: Write>(
    text: &mut Text<W>,
    list: &mut List<'_, '_>,
    first_member: &mut bool,
    view: View,
) -> io::Result<()> {
    let known = list.known;
    if known.crit.ipadd && view.pretty {
        return write_address(text, list, first_member);
    }
    let mut first = true;
    while let Some(value) = list.take() {
        let is_number = !matches!(
            known.kind,
            FieldKind::String | FieldKind::Bytes | FieldKind::Message(_)
        );
        let mut begin = |text: &mut Text<W>| {
            if first {
                text.key(*first_member, known.name);
                *first_member = false;
                text.open(b'[');
            }
            text.item(first);
            first = false;
        };
        if is_number {
            for number in form::numbers(&known.kind, value) {
                begin(text);
                write_number(text, known, number, view)?;
                text.settle()?;
            }
        } else {
            begin(text);
            write_value(text, known, value, view)?;
            text.settle()?;
        }
    }
    if !first {
        text.close(b']', false);
    }
    Ok(())
}

/// Writes the words of an address as one string, if it is one; else as they are.
fn write_address<W: Write>(
    text: &mut Text<W>,
    list: &mut List<'_, '_>,
    first_member: &mut bool,
) -> io::Result<()> {
    let known = list.known;
    let mut words = Vec::new();
    while let Some(value) = list.take() {
        words.extend(form::numbers(&known.kind, value));
    }
    if words.is_empty() {
        return Ok(());
    }
    text.key(*first_member, known.name);
    *first_member = false;
    text.open(b'[');
    let narrow: Result<Vec<u32>, _> = words.iter().map(|&word| u32::try_from(word)).collect();
    if let Some(address) = narrow.ok().and_then(|words| number::address(&words)) {
        text.item(true);
        text.word(&number::print_address(address));
    } else {
        for (index, &word) in words.iter().enumerate() {
            text.item(index == 0);
            text.integer(word);
            text.settle()?;
        }
    }
    text.close(b']', false);
    Ok(())
}

fn write_value<W: Write>(
    text: &mut Text<W>,
    known: &'static FieldDescriptor,
    value: Value<'_>,
    view: View,
) -> io::Result<()> {
    match (value, &known.kind) {
        (Value::Varint(number) | Value::Fixed64(number), kind) => {
            write_number(text, known, form::truncated(kind, number), view)
        }
        (Value::Bytes(message), FieldKind::Message(inner)) => {
            let view = View {
                hex: view.hex || known.crit.hex,
                ..view
            };
            text.open(b'{');
            let any = write_members(text, inner, message, view)?;
            text.close(b'}', !any);
            Ok(())
        }
        (Value::Bytes(bytes), FieldKind::String) => text.string(bytes),
        (Value::Bytes(bytes), _) if known.crit.conv.is_some() => {
            let mut quoted = Vec::with_capacity(bytes.len() + bytes.len() / 4);
            quoted_printable::encode(bytes, &mut quoted);
            text.string(&quoted)
        }
        (Value::Bytes(bytes), _) => text.base64_string(bytes),
        (Value::Fixed32(_) | Value::Group(_), _) => Ok(()),
    }
}

#[inline]
fn write_number<W: Write>(
    text: &mut Text<W>,
    known: &FieldDescriptor,
    number: u64,
    view: View,
) -> io::Result<()> {
    let integer: Integer = match known.kind {
        FieldKind::Bool => {
            text.raw(if number == 0 { b"false" } else { b"true" });
            return Ok(());
        }
        FieldKind::Enum(values) => {
            let number = form::low_i32(number);
            match values.name_of(number) {
                Some(name) => text.word(name),
                None => text.integer(number),
            }
            return Ok(());
        }
        FieldKind::Int32 | FieldKind::Int64 => number.cast_signed().into(),
        FieldKind::Sint32 | FieldKind::Sint64 => {
            ((number >> 1).cast_signed() ^ -(number & 1).cast_signed()).into()
        }
        _ => number.into(),
    };
    if view.pretty {
        return number::write_pretty(text, known, integer, view.hex);
    }
    number::write_plain(text, integer);
    Ok(())
}
