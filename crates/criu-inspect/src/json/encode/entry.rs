//! An entry: its message, what stands beside the message, and its payload.

use std::io::{Read, Write};

use criu_image::payload::{PayloadKind, PieceLen, Role};
use criu_image::schema::MessageDescriptor;
use criu_image::{ErrorKind, ImageKind, ImageWriter};

use super::message::{self, Member, Message, MessageEncoder};
use super::spool::Spool;
use super::{EncodeOptions, Result};
use crate::json::error::EncodeErrorKind;
use crate::json::token::Json;
use crate::json::{EXTRA_KEY, PADDING_KEY, RAW_KEY, form};

/// Turns objects into entries, one after the other.
#[derive(Debug)]
pub(super) struct EntryEncoder<'a, R, W: Write> {
    pub(super) json: &'a mut Json<R>,
    pub(super) writer: ImageWriter<W>,
    pub(super) kind: ImageKind,
    pub(super) encoder: MessageEncoder,
    pub(super) options: EncodeOptions,
    /// The encoded message.
    bytes: Vec<u8>,
    /// Where base64 is gathered and decoded.
    pub(super) base64: Vec<u8>,
    spool: Spool,
    state: State,
}

/// How far an entry is.
#[derive(Debug, Default)]
struct State {
    index: u64,
    /// The message, until it is written.
    message: Option<Message>,
    raw: Option<Vec<u8>>,
    padding: Vec<u8>,
    has_payload: bool,
    data_len: u64,
    messages: u64,
}

impl<'a, R: Read, W: Write> EntryEncoder<'a, R, W> {
    pub(super) fn new(
        json: &'a mut Json<R>,
        kind: ImageKind,
        writer: ImageWriter<W>,
        options: EncodeOptions,
    ) -> Self {
        Self {
            json,
            writer,
            kind,
            encoder: MessageEncoder::new(options),
            options,
            bytes: Vec::new(),
            base64: Vec::new(),
            spool: Spool::default(),
            state: State::default(),
        }
    }

    /// Takes an object and writes the entry.
    pub(super) fn entry(&mut self, index: u64) -> Result<()> {
        let Some(descriptor) = self.kind.entry(index) else {
            return Ok(());
        };
        self.bytes.clear();
        let message = self.encoder.begin(self.json, descriptor, &self.bytes)?;
        self.state = State {
            index,
            message: Some(message),
            ..State::default()
        };
        loop {
            let Some(message) = &mut self.state.message else {
                // Written already, with a payload that was too large to be kept.
                if !self.json.next(b'}', &mut false)? {
                    break;
                }
                let key = self.json.key()?;
                self.other(descriptor, key)?;
                continue;
            };
            let member = self
                .encoder
                .member(self.json, message, &mut self.bytes)
                .map_err(|error| error.within(descriptor.name))?;
            match member {
                Member::None => break,
                Member::Field => {}
                Member::Other(key) => self.other(descriptor, key)?,
            }
        }
        if self.state.message.is_some() {
            self.write_message(descriptor)?;
        }
        self.finish_payload()
    }

    /// Appends data to the payload.
    pub(super) fn put(&mut self, data: &[u8]) -> Result<()> {
        self.state.data_len += data.len() as u64;
        self.put_uncounted(data)
    }

    /// Appends what is no data: headers of messages, padding.
    pub(super) fn put_uncounted(&mut self, data: &[u8]) -> Result<()> {
        if self.spool.is_full()
            && let Some(message) = &self.state.message
            && self.encoder.missing(message).is_none()
        {
            self.write_message(message.descriptor())?;
            self.release()?;
        }
        if self.state.message.is_none() {
            return self
                .writer
                .data(data)
                .map_err(|error| self.json.error(error.into()));
        }
        let kept = self.spool.put(data);
        kept.map_err(|error| self.json.error(EncodeErrorKind::Spool(error)))
    }

    /// Bytes of data so far.
    pub(super) fn data_len(&self) -> u64 {
        self.state.data_len
    }

    /// Counts a message of a queue.
    pub(super) fn count_message(&mut self) {
        self.state.messages += 1;
    }

    /// Takes the value of a member that the message does not have.
    fn other(&mut self, descriptor: &'static MessageDescriptor, key: String) -> Result<()> {
        let is_written = self.state.message.is_none();
        match key.as_str() {
            EXTRA_KEY if self.has_payload() && !self.state.has_payload => {
                self.json.colon()?;
                self.state.has_payload = true;
                self.payload().map_err(|error| error.within(key))
            }
            PADDING_KEY if self.has_payload() => {
                self.json.colon()?;
                self.state.padding =
                    message::bytes(self.json).map_err(|error| error.within(key))?;
                Ok(())
            }
            RAW_KEY if !is_written => {
                self.json.colon()?;
                let raw = message::bytes(self.json).map_err(|error| error.within(key))?;
                self.state.raw = Some(raw);
                Ok(())
            }
            _ if is_written => Err(self.json.error(EncodeErrorKind::BehindPayload)),
            _ => self
                .encoder
                .other(self.json, descriptor, key)
                .map_err(|error| error.within(descriptor.name)),
        }
    }

    fn has_payload(&self) -> bool {
        self.kind.payload() != PayloadKind::None
    }

    /// Writes the message: as it stood, if that is what the fields say, else as they say.
    fn write_message(&mut self, descriptor: &'static MessageDescriptor) -> Result<()> {
        let Some(message) = self.state.message.take() else {
            return Ok(());
        };
        let missing = self.encoder.missing(&message);
        self.encoder.end(message, &mut self.bytes);
        let nested = self.encoder.take_incomplete();
        match self.state.raw.take() {
            Some(raw) if is_canonically(descriptor, &raw, &self.bytes) => self.bytes = raw,
            _ => {
                if let Some(error) = nested {
                    return Err(error);
                }
                if let Some(field) = missing {
                    let error = EncodeErrorKind::MissingField { field: field.name };
                    return Err(self.json.error(error).within(descriptor.name));
                }
            }
        }
        self.writer
            .entry(&self.bytes)
            .map_err(|error| self.json.error(error.into()))
    }

    /// Writes what was kept of the payload.
    fn release(&mut self) -> Result<()> {
        let Self {
            spool,
            writer,
            json,
            ..
        } = self;
        spool
            .release(|data| writer.data(data).map_err(EncodeErrorKind::from))
            .map_err(|error| json.error(error))
    }

    /// Checks the payload against the entry, writes what was kept of it, and the padding.
    fn finish_payload(&mut self) -> Result<()> {
        if !self.has_payload() {
            return Ok(());
        }
        let plan = self
            .kind
            .payload()
            .plan(self.state.index, &self.bytes)
            .map_err(|error| {
                self.json
                    .error(criu_image::Error::from(ErrorKind::Malformed(error)).into())
            })?;
        let mut expected = Some(0u64);
        let mut padding = 0;
        for piece in plan.pieces() {
            match (piece.role, piece.len) {
                (Role::Padding, PieceLen::Bytes(len)) => padding = len,
                (_, PieceLen::Bytes(len)) => {
                    expected = expected.map(|sum| sum.saturating_add(len));
                }
                (_, PieceLen::ToEnd) => expected = None,
            }
        }
        let is_queue = self.kind.payload() == PayloadKind::IpcMessages;
        let (expected, found, unit) = if is_queue {
            (
                Some(plan.messages().into()),
                self.state.messages,
                "messages",
            )
        } else {
            (expected, self.state.data_len, "bytes")
        };
        // Text of `--nopl` has no payload for the content of files; that there is none is said
        // by an empty one.
        if expected.is_none() && !self.state.has_payload {
            return Err(self
                .json
                .error(EncodeErrorKind::MissingMember { key: EXTRA_KEY }));
        }
        if let Some(expected) = expected.filter(|&expected| expected != found) {
            let (key, kind) = (
                EXTRA_KEY,
                EncodeErrorKind::PayloadLen {
                    expected,
                    found,
                    unit,
                },
            );
            return Err(self.json.error(kind).within(key));
        }
        self.release()?;
        let mut bytes = std::mem::take(&mut self.state.padding);
        bytes.resize(usize::try_from(padding).unwrap_or_default(), 0);
        self.writer
            .data(&bytes)
            .map_err(|error| self.json.error(error.into()))
    }
}

/// Whether `raw` is an encoding of the message whose canonical encoding is `canonical`.
pub(super) fn is_canonically(
    descriptor: &'static MessageDescriptor,
    raw: &[u8],
    canonical: &[u8],
) -> bool {
    form::inspect(descriptor, raw).is_ok() && form::canonical(descriptor, raw) == canonical
}
