//! Images to JSON.

mod message;
mod payload;

use std::io::{Read, Write};

use criu_image::schema::MessageDescriptor;
use criu_image::{ByteOrder, Header, ImageKind, ImageReader, RawEntry};

use self::message::View;
use super::error::DecodeError;
use super::text::Text;
use super::{HEADER_KEY, RAW_KEY, Style, form};

/// How to print an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeOptions {
    /// How the text looks.
    pub style: Style,
    /// What is shown of payloads.
    pub payloads: Payloads,
}

/// What is shown of the data that follows the entries of some images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Payloads {
    /// All of it; the text encodes to the same image.
    #[default]
    Whole,
    /// Its size.
    Size,
}

impl DecodeOptions {
    /// Prints in the given style, with whole payloads.
    #[must_use]
    pub fn new(style: Style) -> Self {
        Self {
            style,
            payloads: Payloads::Whole,
        }
    }

    /// Shows payloads this way.
    #[must_use]
    pub fn payloads(mut self, payloads: Payloads) -> Self {
        self.payloads = payloads;
        self
    }
}

/// Prints an image as JSON, without a line break at the end, and returns its kind.
///
/// Works in one pass and in memory bounded by the largest entry, whatever the payloads.
///
/// # Errors
///
/// Fails when the image cannot be read, is malformed or is of a kind without entries, or when the
/// text cannot be written. What was written until then is then no JSON.
pub fn decode<R: Read, W: Write>(
    image: &mut ImageReader<R>,
    json: W,
    options: DecodeOptions,
) -> Result<ImageKind, DecodeError> {
    let header = image.header();
    let kind = header.kind;
    let (Some(name), Some(_)) = (kind.crit_name(), kind.entry(0)) else {
        return Err(DecodeError::NoEntries { kind });
    };
    let mut text = Text::new(json, options.style);
    text.open(b'{');
    text.key(true, "magic");
    text.word(name);
    let order = image.byte_order();
    write_header(&mut text, header, order);
    text.key(false, "entries");
    text.open(b'[');
    let mut first = true;
    while let Some(entry) = image.next_entry()? {
        text.item(first);
        first = false;
        write_entry(&mut text, (kind, order), entry, options)?;
        text.settle().map_err(DecodeError::Write)?;
    }
    text.close(b']', first);
    text.close(b'}', false);
    text.finish().map_err(DecodeError::Write)?;
    Ok(kind)
}

/// Prints one encoded message as a JSON object to `out`.
///
/// # Errors
///
/// Fails when the message is malformed, or when the text cannot be written.
pub fn decode_message<W: Write>(
    descriptor: &'static MessageDescriptor,
    bytes: &[u8],
    style: Style,
    out: W,
) -> Result<(), DecodeError> {
    let mut text = Text::new(out, style);
    text.open(b'{');
    let empty = write_message(&mut text, descriptor, bytes, View::of(style))?;
    text.close(b'}', empty);
    text.finish().map_err(DecodeError::Write)?;
    Ok(())
}

/// Writes what the header says beyond what follows from the magic.
fn write_header<W: Write>(text: &mut Text<W>, header: Header, order: ByteOrder) {
    let usual = Header::new(header.kind);
    let other_first_word = header.first_word != usual.first_word;
    if !other_first_word && order == ByteOrder::Little {
        return;
    }
    text.key(false, HEADER_KEY);
    text.open(b'{');
    if other_first_word {
        text.key(true, "first_word");
        text.integer(header.first_word.unwrap_or(0));
    }
    if order == ByteOrder::Big {
        text.key(!other_first_word, "byte_order");
        text.word("big");
    }
    text.close(b'}', false);
}

fn write_entry<R: Read, W: Write>(
    text: &mut Text<W>,
    (kind, order): (ImageKind, ByteOrder),
    mut entry: RawEntry<'_, R>,
    options: DecodeOptions,
) -> Result<(), DecodeError> {
    text.open(b'{');
    let view = View::of(options.style);
    let first =
        write_message(text, entry.descriptor, entry.bytes, view).map_err(|error| match error {
            DecodeError::Message { source, .. } => DecodeError::Message {
                kind: Some(kind),
                entry: Some(entry.index),
                offset: Some(entry.offset + 4 + source.offset as u64),
                source,
            },
            error => error,
        })?;
    let place = payload::Place { first, kind, order };
    let any = match options.payloads {
        Payloads::Whole => payload::write(text, place, &mut entry)?,
        Payloads::Size => payload::write_size(text, place, &mut entry)?,
    };
    text.close(b'}', first && !any);
    Ok(())
}

/// Writes the members that a message has; returns whether none was written.
fn write_message<W: Write>(
    text: &mut Text<W>,
    descriptor: &'static MessageDescriptor,
    bytes: &[u8],
    view: View,
) -> Result<bool, DecodeError> {
    let form = form::inspect(descriptor, bytes).map_err(|source| DecodeError::Message {
        kind: None,
        entry: None,
        offset: None,
        source,
    })?;
    let canonical;
    let ordered = if form.ordered {
        bytes
    } else {
        canonical = form::canonical(descriptor, bytes);
        &canonical
    };
    let any =
        message::write_members(text, descriptor, ordered, view).map_err(DecodeError::Write)?;
    if form.canonical {
        return Ok(!any);
    }
    text.key(!any, RAW_KEY);
    text.base64_string(bytes).map_err(DecodeError::Write)?;
    Ok(false)
}
