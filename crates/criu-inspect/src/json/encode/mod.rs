//! JSON to images.

mod entry;
mod message;
mod payload;
mod spool;

use std::io::{Read, Seek, Write};

use criu_image::schema::MessageDescriptor;
use criu_image::{ByteOrder, Header, ImageKind, ImageWriter};

use self::message::MessageEncoder;
use super::error::{EncodeError, EncodeErrorKind};
use super::token::{Json, Shape};
use super::words::TaskStateWords;
use super::{HEADER_KEY, UnknownMembers};

type Result<T> = std::result::Result<T, EncodeError>;

/// How to read JSON text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodeOptions {
    /// Which words for the state of a task are meant.
    pub task_state_words: TaskStateWords,
    /// What to do about members that no message has.
    pub unknown_members: UnknownMembers,
}

impl EncodeOptions {
    /// Takes the words for the state of a task for these.
    #[must_use]
    pub fn task_state_words(mut self, words: TaskStateWords) -> Self {
        self.task_state_words = words;
        self
    }

    /// Does this about members that no message has.
    #[must_use]
    pub fn unknown_members(mut self, unknown: UnknownMembers) -> Self {
        self.unknown_members = unknown;
        self
    }
}

/// Turns CRIT's JSON into the image that it stands for, and returns its kind.
///
/// Takes what Python's and Go's tools print, pretty or not, in any order of members. Works in one
/// pass and in memory bounded by the largest entry, whatever the payloads; only when the entries
/// stand before the `magic` that tells what they are, they wait in a temporary file.
///
/// # Errors
///
/// Fails when the text cannot be read, is no JSON or does not fit the schema, or when the image
/// cannot be written. What was written until then is then no image.
pub fn encode<R: Read, W: Write>(json: R, image: W, options: EncodeOptions) -> Result<ImageKind> {
    let mut json = Json::new(json);
    match json.peek()? {
        Some(b'{') => json.open(b'{', "an object")?,
        found => {
            let found = match found {
                Some(byte @ b' '..=b'~') => format!("`{}`", char::from(byte)),
                Some(byte) => format!("byte {byte:#04x}"),
                None => "nothing".to_owned(),
            };
            return Err(json.error(EncodeErrorKind::NotJson { found }));
        }
    }
    let mut head = Head::default();
    let mut first = true;
    while json.next(b'}', &mut first)? {
        let key = json.key()?;
        json.colon()?;
        if key != "entries" {
            head.take(&mut json, &key, options)?;
            continue;
        }
        if let Some(kind) = head.kind {
            let writer = head.begin(&mut json, kind, image)?;
            write_entries(&mut json, kind, writer, options)?;
            let mut rest = Head {
                is_over: true,
                ..head
            };
            rest.take_rest(&mut json, options)?;
            return Ok(kind);
        }
        // What the entries are is not known yet: keep them, and look behind them.
        let mark = json.mark();
        let file = json.into_file()?;
        let again = || {
            let mut file = &file;
            let rewound = file.rewind();
            let json = Json::new(file).continue_at(mark);
            match rewound {
                Ok(()) => Ok(json),
                Err(error) => Err(json.error(EncodeErrorKind::Spool(error))),
            }
        };
        let mut ahead = again()?;
        ahead.skip_value()?;
        head.take_rest(&mut ahead, options)?;
        let Some(kind) = head.kind else {
            return Err(ahead.error(EncodeErrorKind::MissingMember { key: "magic" }));
        };
        let mut json = again()?;
        let writer = head.begin(&mut json, kind, image)?;
        write_entries(&mut json, kind, writer, options)?;
        return Ok(kind);
    }
    let key = if head.kind.is_none() {
        "magic"
    } else {
        "entries"
    };
    Err(json.error(EncodeErrorKind::MissingMember { key }))
}

/// Turns a JSON object into an encoded message, appended to `out`.
///
/// # Errors
///
/// Fails when the text is no JSON or does not fit the schema.
pub fn encode_message(
    descriptor: &'static MessageDescriptor,
    json: &[u8],
    options: EncodeOptions,
    out: &mut Vec<u8>,
) -> Result<()> {
    encode_object(descriptor, Json::of_slice(json), options, out)
}

/// The same, with the text from any source.
pub(crate) fn encode_message_from<R: Read>(
    descriptor: &'static MessageDescriptor,
    json: R,
    options: EncodeOptions,
    out: &mut Vec<u8>,
) -> Result<()> {
    encode_object(descriptor, Json::new(json), options, out)
}

fn encode_object<R: Read>(
    descriptor: &'static MessageDescriptor,
    mut json: Json<R>,
    options: EncodeOptions,
    out: &mut Vec<u8>,
) -> Result<()> {
    let start = out.len();
    let encoded = MessageEncoder::new(options)
        .whole(&mut json, descriptor, out)
        .map_err(|error| error.within(descriptor.name))
        .and_then(|()| json.end());
    if encoded.is_err() {
        out.truncate(start);
    }
    encoded
}

/// What stands in the object beside the entries.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    kind: Option<ImageKind>,
    first_word: Option<u32>,
    has_first_word: bool,
    order: ByteOrder,
    has_header: bool,
    /// Whether the entries have been written, so that nothing more can be heeded.
    is_over: bool,
}

impl Head {
    /// Takes the value of a member.
    fn take<R: Read>(
        &mut self,
        json: &mut Json<R>,
        key: &str,
        options: EncodeOptions,
    ) -> Result<()> {
        let misplaced = |key| json.error(EncodeErrorKind::Misplaced { key });
        match key {
            "entries" => Err(misplaced("entries")),
            "magic" if self.kind.is_some() => Err(misplaced("magic")),
            "magic" => {
                let name = json.string()?;
                let kind = kind_named(name);
                if kind.is_none() {
                    let name = name.to_owned();
                    return Err(json.error(EncodeErrorKind::UnknownMagic { name }));
                }
                self.kind = kind;
                Ok(())
            }
            HEADER_KEY if self.is_over || self.has_header => Err(misplaced(HEADER_KEY)),
            HEADER_KEY => {
                self.has_header = true;
                self.header(json).map_err(|error| error.within(HEADER_KEY))
            }
            _ if options.unknown_members == UnknownMembers::Ignored => json.skip_value(),
            _ => {
                let name = key.to_owned();
                Err(json.error(EncodeErrorKind::UnknownField {
                    name,
                    message: "an image",
                }))
            }
        }
    }

    /// Takes all members that are left, and the end of the text.
    fn take_rest<R: Read>(&mut self, json: &mut Json<R>, options: EncodeOptions) -> Result<()> {
        while json.next(b'}', &mut false)? {
            let key = json.key()?;
            json.colon()?;
            self.take(json, &key, options)?;
        }
        json.end()
    }

    fn header<R: Read>(&mut self, json: &mut Json<R>) -> Result<()> {
        json.open(b'{', "an object")?;
        let mut first = true;
        while json.next(b'}', &mut first)? {
            let key = json.key()?;
            json.colon()?;
            match key.as_str() {
                "first_word" => {
                    let kind = "uint32";
                    let number = json.integer()?;
                    let word = u32::try_from(number.magnitude)
                        .ok()
                        .filter(|_| !number.negative);
                    let Some(word) = word else {
                        return Err(json.error(EncodeErrorKind::OutOfRange { kind }));
                    };
                    self.first_word = (word != 0).then_some(word);
                    self.has_first_word = true;
                }
                "byte_order" => {
                    self.order = match json.string()? {
                        "little" => ByteOrder::Little,
                        "big" => ByteOrder::Big,
                        word => {
                            let word = word.to_owned();
                            return Err(json.error(EncodeErrorKind::UnknownWord { word }));
                        }
                    }
                }
                _ => {
                    let name = key;
                    let message = HEADER_KEY;
                    return Err(json.error(EncodeErrorKind::UnknownField { name, message }));
                }
            }
        }
        Ok(())
    }

    fn begin<R: Read, W: Write>(
        &self,
        json: &mut Json<R>,
        kind: ImageKind,
        image: W,
    ) -> Result<ImageWriter<W>> {
        let found = json.shape()?;
        if found != Shape::List {
            return Err(message::wrong_type(json, "a list of entries", found));
        }
        let mut header = Header::new(kind);
        if self.has_first_word {
            header.first_word = self.first_word;
        }
        ImageWriter::new(image, header, self.order).map_err(|error| json.error(error.into()))
    }
}

fn write_entries<R: Read, W: Write>(
    json: &mut Json<R>,
    kind: ImageKind,
    writer: ImageWriter<W>,
    options: EncodeOptions,
) -> Result<()> {
    let mut entries = entry::EntryEncoder::new(json, kind, writer, options);
    entries.json.open(b'[', "a list of entries")?;
    let mut first = true;
    let mut index = 0;
    while entries.json.next(b']', &mut first)? {
        entries
            .entry(index)
            .map_err(|error| error.in_entry(index))?;
        index += 1;
    }
    let entry::EntryEncoder { json, writer, .. } = entries;
    match writer.finish() {
        Ok(_) => Ok(()),
        Err(error) => Err(json.error(error.into())),
    }
}

/// The kind with this name that consists of entries, be it an alias.
fn kind_named(name: &str) -> Option<ImageKind> {
    let named = |kind: &&ImageKind| kind.name() == name && kind.entry(0).is_some();
    ImageKind::ALL.iter().find(named).copied()
}
