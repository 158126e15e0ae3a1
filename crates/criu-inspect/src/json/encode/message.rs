//! A JSON object as an encoded message.

use std::io::Read;
use std::net::IpAddr;

use criu_image::schema::{FieldDescriptor, FieldKind, Label, MessageDescriptor};
use criu_image::wire::{RECURSION_LIMIT, WireType, write_tag, write_varint};

use super::{EncodeOptions, Result};
use crate::json::error::{EncodeError, EncodeErrorKind};
use crate::json::form;
use crate::json::number::{self, Integer, NotANumber};
use crate::json::token::{Json, Shape};
use crate::json::{UNKNOWN_KEY, UnknownMembers, quoted_printable};

/// Turns objects into messages, and knows what was learnt from the text on the way.
#[derive(Debug)]
pub(super) struct MessageEncoder {
    options: EncodeOptions,
    /// Whether the text is from Go's tool, as 64-bit numbers in quotes tell.
    is_from_go: bool,
    /// Where the fields of the messages at hand were written, innermost last.
    segments: Vec<Segment>,
    depth: u32,
    /// A message within the one at hand that lacks a required field. Not an error at once, since
    /// the entry may be kept as it was.
    incomplete: Option<EncodeError>,
}

/// A field of a message being written.
#[derive(Clone, Copy, Debug)]
struct Segment {
    /// Its place in the descriptor.
    field: usize,
    start: usize,
    end: usize,
}

/// A message being written.
#[derive(Debug)]
pub(super) struct Message {
    descriptor: &'static MessageDescriptor,
    start: usize,
    first_segment: usize,
    /// The field that probably comes next.
    expected: usize,
    ascending: bool,
    /// Whether a required field may have been left out before the expected one.
    has_gap: bool,
    unknown: Vec<u8>,
    is_first: bool,
}

/// What a member of an object is.
pub(super) enum Member {
    /// The object is at its end.
    None,
    /// One of the message, which has been taken.
    Field,
    /// Another one, whose value is still to be taken.
    Other(String),
}

impl Message {
    pub(super) fn descriptor(&self) -> &'static MessageDescriptor {
        self.descriptor
    }
}

impl MessageEncoder {
    pub(super) fn new(options: EncodeOptions) -> Self {
        Self {
            options,
            is_from_go: false,
            segments: Vec::new(),
            depth: 0,
            incomplete: None,
        }
    }

    /// Begins a message, at the object's opening bracket.
    pub(super) fn begin<R: Read>(
        &mut self,
        json: &mut Json<R>,
        descriptor: &'static MessageDescriptor,
        out: &[u8],
    ) -> Result<Message> {
        json.open(b'{', "an object")?;
        self.depth += 1;
        if self.depth > RECURSION_LIMIT {
            let limit = RECURSION_LIMIT;
            return Err(json.error(EncodeErrorKind::TooDeep { limit }));
        }
        Ok(Message {
            descriptor,
            start: out.len(),
            first_segment: self.segments.len(),
            expected: 0,
            ascending: true,
            has_gap: false,
            unknown: Vec::new(),
            is_first: true,
        })
    }

    /// Takes the next member, and its value if it is one of the message.
    #[inline]
    pub(super) fn member<R: Read>(
        &mut self,
        json: &mut Json<R>,
        message: &mut Message,
        out: &mut Vec<u8>,
    ) -> Result<Member> {
        if !json.next(b'}', &mut message.is_first)? {
            return Ok(Member::None);
        }
        let fields = message.descriptor.fields;
        // Fields mostly come in their order, with optional ones left out.
        let mut found = None;
        let end = fields.len().min(message.expected + LIKELY_FIELDS);
        for (skipped, field) in fields[message.expected..end].iter().enumerate() {
            if json.take_key_if(field.name) {
                found = Some(message.expected + skipped);
                break;
            }
            message.has_gap |= field.label == Label::Required;
        }
        let index = match found {
            Some(index) => index,
            None => {
                let key = json.key()?;
                match message.descriptor.field_named(&key) {
                    Some(field) => message
                        .descriptor
                        .field_index(field.number)
                        .unwrap_or_default(),
                    None if key == UNKNOWN_KEY => {
                        json.colon()?;
                        message.unknown = bytes(json).map_err(|error| error.within(key))?;
                        return Ok(Member::Field);
                    }
                    None => return Ok(Member::Other(key)),
                }
            }
        };
        json.colon()?;
        let field = &fields[index];
        let start = out.len();
        self.field(json, field, out)
            .map_err(|error| error.within(field.name))?;
        // A name that had to be looked up may have skipped any field.
        message.has_gap |= found.is_none();
        message.ascending &= index >= message.expected;
        message.expected = index + 1;
        self.segments.push(Segment {
            field: index,
            start,
            end: out.len(),
        });
        Ok(Member::Field)
    }

    /// The first required field that the message does not have so far.
    pub(super) fn missing(&self, message: &Message) -> Option<&'static FieldDescriptor> {
        let mut rest = message.descriptor.fields[message.expected..].iter();
        if message.ascending && !message.has_gap && rest.all(|field| field.label != Label::Required)
        {
            return None;
        }
        let mut segments = self.segments[message.first_segment..].iter();
        message
            .descriptor
            .fields
            .iter()
            .enumerate()
            .find_map(|(index, field)| {
                if field.label != Label::Required {
                    return None;
                }
                let there = if message.ascending {
                    segments
                        .by_ref()
                        .find(|segment| segment.field >= index)
                        .is_some_and(|segment| segment.field == index)
                } else {
                    self.segments[message.first_segment..]
                        .iter()
                        .any(|segment| segment.field == index)
                };
                (!there).then_some(field)
            })
    }

    /// Ends a message: puts the fields in order, behind them those that the schema does not have.
    pub(super) fn end(&mut self, message: Message, out: &mut Vec<u8>) {
        if !message.ascending {
            let segments = &mut self.segments[message.first_segment..];
            segments.sort_by_key(|segment| segment.field);
            let unordered = out.split_off(message.start);
            for (index, segment) in segments.iter().enumerate() {
                // As with other readers, of several members with the same key the last one counts.
                if segments
                    .get(index + 1)
                    .is_some_and(|next| next.field == segment.field)
                {
                    continue;
                }
                let (start, end) = (segment.start - message.start, segment.end - message.start);
                out.extend_from_slice(&unordered[start..end]);
            }
        }
        out.extend_from_slice(&message.unknown);
        self.segments.truncate(message.first_segment);
        self.depth -= 1;
    }

    /// Takes an object that is a whole message.
    fn nested<R: Read>(
        &mut self,
        json: &mut Json<R>,
        descriptor: &'static MessageDescriptor,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let mut message = self.begin(json, descriptor, out)?;
        loop {
            match self.member(json, &mut message, out)? {
                Member::None => break,
                Member::Field => {}
                Member::Other(key) => self.other(json, descriptor, key)?,
            }
        }
        if let Some(field) = self.missing(&message) {
            let error = json.error(EncodeErrorKind::MissingField { field: field.name });
            self.incomplete.get_or_insert(error.within(descriptor.name));
        }
        self.end(message, out);
        Ok(())
    }

    /// Takes the error of a message within the last whole one that lacks a required field.
    pub(super) fn take_incomplete(&mut self) -> Option<EncodeError> {
        self.incomplete.take()
    }

    /// Takes an object that is a whole message with all its fields.
    pub(super) fn whole<R: Read>(
        &mut self,
        json: &mut Json<R>,
        descriptor: &'static MessageDescriptor,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.nested(json, descriptor, out)?;
        self.take_incomplete().map_or(Ok(()), Err)
    }

    /// Takes a member that belongs nowhere.
    pub(super) fn other<R: Read>(
        &self,
        json: &mut Json<R>,
        descriptor: &'static MessageDescriptor,
        key: String,
    ) -> Result<()> {
        if self.options.unknown_members == UnknownMembers::Refused {
            let message = descriptor.name;
            return Err(json.error(EncodeErrorKind::UnknownField { name: key, message }));
        }
        json.colon()?;
        json.skip_value()
    }

    #[inline(always)]
    fn field<R: Read>(
        &mut self,
        json: &mut Json<R>,
        field: &'static FieldDescriptor,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match field.label {
            Label::Repeated => self.list(json, field, out),
            _ => self.value(json, field, out),
        }
    }

    #[inline(never)]
    fn list<R: Read>(
        &mut self,
        json: &mut Json<R>,
        field: &'static FieldDescriptor,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        json.open(b'[', "a list")?;
        let mut first = true;
        if field.packed {
            let mut list = Vec::new();
            while json.next(b']', &mut first)? {
                let number = self.number(json, field)?;
                form::append_number(&field.kind, number, &mut list);
            }
            if !list.is_empty() {
                write_tag(field.number, WireType::Bytes, out);
                write_varint(list.len() as u64, out);
                out.extend_from_slice(&list);
            }
            return Ok(());
        }
        let mut index = 0u64;
        while json.next(b']', &mut first)? {
            let taken = if field.crit.ipadd && json.peek()? == Some(b'"') {
                self.address(json, field, out)
            } else {
                self.value(json, field, out)
            };
            taken.map_err(|error| error.within(format!("[{index}]")))?;
            index += 1;
        }
        Ok(())
    }

    #[inline(always)]
    fn value<R: Read>(
        &mut self,
        json: &mut Json<R>,
        field: &'static FieldDescriptor,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match field.kind {
            FieldKind::Message(_) | FieldKind::String | FieldKind::Bytes => {
                self.counted(json, field, out)
            }
            ref kind => {
                let number = self.number(json, field)?;
                write_tag(field.number, form::number_wire_type(kind), out);
                form::append_number(kind, number, out);
                Ok(())
            }
        }
    }

    /// Takes a value that has its length in front.
    #[inline(never)]
    fn counted<R: Read>(
        &mut self,
        json: &mut Json<R>,
        field: &'static FieldDescriptor,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match field.kind {
            FieldKind::Message(inner) => {
                write_tag(field.number, WireType::Bytes, out);
                let start = out.len();
                out.push(0);
                self.nested(json, inner, out)?;
                set_len(out, start);
            }
            FieldKind::String => {
                let text;
                let bytes = match json.shape()? {
                    Shape::Number => {
                        text = json.number_text()?;
                        text.as_bytes()
                    }
                    _ => json.string_bytes()?,
                };
                write_counted(field, bytes, out);
            }
            FieldKind::Bytes if field.crit.conv.is_some() => {
                let name = self.socket_name(json.string_bytes()?);
                write_counted(field, &name, out);
            }
            _ => write_counted(field, &bytes(json)?, out),
        }
        Ok(())
    }

    /// Takes a number, and returns it as it goes on the wire.
    #[inline(always)]
    fn number<R: Read>(
        &mut self,
        json: &mut Json<R>,
        field: &'static FieldDescriptor,
    ) -> Result<u64> {
        let integer = match field.kind {
            FieldKind::Bool => return boolean(json),
            _ => match json.digits() {
                Some(magnitude) => magnitude.into(),
                None => self.integer(json, field)?,
            },
        };
        wire_number(&field.kind, integer).ok_or_else(|| {
            json.error(EncodeErrorKind::OutOfRange {
                kind: type_name(&field.kind),
            })
        })
    }

    /// Takes a number that is no plain row of digits.
    #[inline(never)]
    fn integer<R: Read>(
        &mut self,
        json: &mut Json<R>,
        field: &'static FieldDescriptor,
    ) -> Result<Integer> {
        match json.shape()? {
            Shape::Number => json.integer(),
            Shape::String => self.word(json, field),
            found => Err(wrong_type(json, "a number", found)),
        }
    }

    fn word<R: Read>(
        &mut self,
        json: &mut Json<R>,
        field: &'static FieldDescriptor,
    ) -> Result<Integer> {
        let word = json.string()?;
        if let FieldKind::Enum(values) = field.kind
            && let Some(number) = values.number_of(word)
        {
            return Ok(i64::from(number).into());
        }
        match number::parse(field, word, self.options.task_state_words) {
            Ok(integer) => {
                let is_wide = matches!(
                    field.kind,
                    FieldKind::Uint64 | FieldKind::Int64 | FieldKind::Sint64 | FieldKind::Fixed64
                );
                let digits = word.strip_prefix('-').unwrap_or(word);
                // Python's tool never puts plain decimals in quotes.
                self.is_from_go |= is_wide && digits.bytes().all(|digit| digit.is_ascii_digit());
                Ok(integer)
            }
            Err(problem) => {
                let word = word.to_owned();
                Err(json.error(match problem {
                    NotANumber::Unknown => EncodeErrorKind::UnknownWord { word },
                    NotANumber::Device => EncodeErrorKind::BadDevice { word },
                }))
            }
        }
    }

    fn address<R: Read>(
        &mut self,
        json: &mut Json<R>,
        field: &'static FieldDescriptor,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let word = json.string()?;
        let words = match word.parse::<IpAddr>() {
            Ok(address) => number::address_words(address),
            Err(_) => {
                let number = number::parse_number(word)
                    .and_then(|integer| wire_number(&field.kind, integer))
                    .and_then(|number| u32::try_from(number).ok());
                let Some(number) = number else {
                    let word = word.to_owned();
                    return Err(json.error(EncodeErrorKind::UnknownWord { word }));
                };
                vec![number]
            }
        };
        for word in words {
            write_tag(field.number, WireType::Varint, out);
            write_varint(word.into(), out);
        }
        Ok(())
    }

    /// The name of a Unix socket: in base64 if the text is from Go's tool, else quoted-printable.
    fn socket_name(&self, text: &[u8]) -> Vec<u8> {
        if self.is_from_go
            && let Ok(name) = base64_simd::STANDARD.decode_to_vec(text)
        {
            return name;
        }
        quoted_printable::decode(text)
    }
}

/// Takes bytes in base64; white space in it is ignored, and so is missing padding.
pub(super) fn bytes<R: Read>(json: &mut Json<R>) -> Result<Vec<u8>> {
    let found = json.shape()?;
    if found != Shape::String {
        return Err(wrong_type(json, "base64 in quotes", found));
    }
    json.open_string()?;
    let mut text = Vec::new();
    json.base64(&mut text, usize::MAX)?;
    base64_simd::forgiving_decode_to_vec(&text).map_err(|_| json.error(EncodeErrorKind::BadBase64))
}

/// The error for a value of the wrong shape.
pub(super) fn wrong_type<R: Read>(
    json: &Json<R>,
    expected: &'static str,
    found: Shape,
) -> EncodeError {
    let found = match found {
        Shape::Object => "an object",
        Shape::List => "a list",
        Shape::String => "a string",
        Shape::Number => "a number",
        Shape::Literal => "`true`, `false` or `null`",
    };
    json.error(EncodeErrorKind::WrongType { expected, found })
}

fn boolean<R: Read>(json: &mut Json<R>) -> Result<u64> {
    let expected = "`true` or `false`";
    let value = match json.shape()? {
        Shape::Literal => json.literal()?,
        Shape::Number => match json.integer()? {
            Integer { magnitude: 0, .. } => Some(false),
            Integer {
                negative: false,
                magnitude: 1,
            } => Some(true),
            _ => return Err(wrong_type(json, expected, Shape::Number)),
        },
        // Python takes any word for true, even "false"; here they mean what they say.
        Shape::String => match json.string()? {
            "true" | "True" | "1" => Some(true),
            "false" | "False" | "0" => Some(false),
            word => {
                let word = word.to_owned();
                return Err(json.error(EncodeErrorKind::UnknownWord { word }));
            }
        },
        found => return Err(wrong_type(json, expected, found)),
    };
    match value {
        Some(value) => Ok(value.into()),
        None => Err(wrong_type(json, expected, Shape::Literal)),
    }
}

/// The number as it goes on the wire, if it fits into the type.
#[inline]
fn wire_number(kind: &FieldKind, integer: Integer) -> Option<u64> {
    let Integer {
        negative,
        magnitude,
    } = integer;
    let signed = || match negative {
        false => i64::try_from(magnitude).ok(),
        true if magnitude <= 1 << 63 => Some(magnitude.wrapping_neg().cast_signed()),
        true => None,
    };
    let narrow = || signed().and_then(|number| i32::try_from(number).ok());
    match kind {
        FieldKind::Uint32 => u32::try_from(magnitude)
            .ok()
            .filter(|_| !negative)
            .map(u64::from),
        FieldKind::Uint64 | FieldKind::Fixed64 => (!negative).then_some(magnitude),
        FieldKind::Int32 | FieldKind::Enum(_) => narrow().map(|n| i64::from(n).cast_unsigned()),
        FieldKind::Int64 => signed().map(i64::cast_unsigned),
        FieldKind::Sint32 => narrow().map(|n| u64::from((n << 1 ^ n >> 31).cast_unsigned())),
        FieldKind::Sint64 => signed().map(|n| (n << 1 ^ n >> 63).cast_unsigned()),
        FieldKind::Bool | FieldKind::String | FieldKind::Bytes | FieldKind::Message(_) => None,
    }
}

fn type_name(kind: &FieldKind) -> &'static str {
    match kind {
        FieldKind::Uint32 => "uint32",
        FieldKind::Uint64 => "uint64",
        FieldKind::Int32 => "int32",
        FieldKind::Int64 => "int64",
        FieldKind::Sint32 => "sint32",
        FieldKind::Sint64 => "sint64",
        FieldKind::Fixed64 => "fixed64",
        FieldKind::Enum(_) => "enum",
        FieldKind::Bool => "bool",
        FieldKind::String => "string",
        FieldKind::Bytes => "bytes",
        FieldKind::Message(_) => "message",
    }
}

fn write_counted(field: &FieldDescriptor, bytes: &[u8], out: &mut Vec<u8>) {
    write_tag(field.number, WireType::Bytes, out);
    write_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Puts the length of all that stands behind the byte at `place` into its place.
fn set_len(out: &mut Vec<u8>, place: usize) {
    let len = out.len() - place - 1;
    let mut encoded = Vec::new();
    match u8::try_from(len) {
        Ok(len @ 0..0x80) => out[place] = len,
        _ => {
            write_varint(len as u64, &mut encoded);
            out.splice(place..=place, encoded);
        }
    }
}

/// Members that are tried before the name is looked up.
const LIKELY_FIELDS: usize = 3;
