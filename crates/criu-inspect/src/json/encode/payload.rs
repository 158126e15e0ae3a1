//! The member `extra` of an entry, as the payload that follows it.

use std::io::{Read, Write};

use criu_image::message::IpcMsg;
use criu_image::payload::{PayloadKind, ipc_messages, ipc_semaphores, padding};
use criu_image::wire::Message;

use super::Result;
use super::entry::EntryEncoder;
use super::message::{self, Member, MessageEncoder};
use crate::json::error::{EncodeError, EncodeErrorKind};
use crate::json::token::Shape;
use crate::json::{PADDING_KEY, RAW_KEY};

impl<R: Read, W: Write> EntryEncoder<'_, R, W> {
    /// Takes the value of `extra`.
    pub(super) fn payload(&mut self) -> Result<()> {
        let shape = self.json.shape()?;
        match (self.kind.payload(), shape) {
            (PayloadKind::TcpStream, Shape::Object) => self.queues(),
            (PayloadKind::IpcSemaphores, Shape::List) => self.semaphores(),
            (PayloadKind::IpcMessages, Shape::List) => self.messages(),
            (
                PayloadKind::TcpStream | PayloadKind::IpcSemaphores | PayloadKind::IpcMessages,
                Shape::String,
            ) => self.quoted(),
            (PayloadKind::TcpStream, _) => Err(self.wrong_type("an object", shape)),
            (PayloadKind::IpcSemaphores | PayloadKind::IpcMessages, _) => {
                Err(self.wrong_type("a list", shape))
            }
            _ => self.base64(),
        }
    }

    /// Takes a string of base64 as data, piece by piece.
    fn base64(&mut self) -> Result<()> {
        let shape = self.json.shape()?;
        if shape != Shape::String {
            return Err(self.wrong_type("base64 in quotes", shape));
        }
        self.json.open_string()?;
        let mut text = std::mem::take(&mut self.base64);
        text.clear();
        loop {
            let ended = self.json.base64(&mut text, BASE64_LEN)?;
            if text.starts_with(LEFT_OUT) {
                return Err(self.json.error(EncodeErrorKind::LeftOut));
            }
            // Not `any`, whose early end keeps the loop from being vectorised.
            let has_space = text
                .iter()
                .fold(false, |any, byte| any | byte.is_ascii_whitespace());
            if has_space {
                text.retain(|byte| !byte.is_ascii_whitespace());
            }
            // This may be all of it, padding included: in `...YQ==\n"` enough may be there at the
            // line break, before the quote. So the last characters wait for what follows them.
            let whole = if ended {
                text.len()
            } else {
                text.len().saturating_sub(1) / 4 * 4
            };
            let rest = text[whole..].to_vec();
            if ended {
                let data = base64_simd::forgiving_decode_inplace(&mut text)
                    .map_err(|_| self.json.error(EncodeErrorKind::BadBase64))?;
                let outcome = self.put(data);
                self.base64 = text;
                return outcome;
            }
            let data = base64_simd::STANDARD
                .decode_inplace(&mut text[..whole])
                .map_err(|_| self.json.error(EncodeErrorKind::BadBase64))?;
            if data.len() != whole / 4 * 3 {
                // Padding in the middle.
                return Err(self.json.error(EncodeErrorKind::BadBase64));
            }
            self.put(data)?;
            text.clear();
            text.extend_from_slice(&rest);
        }
    }

    /// Takes the two queues of a TCP connection, the inbound one first in the image.
    fn queues(&mut self) -> Result<()> {
        self.json.open(b'{', "an object")?;
        let mut first = true;
        let mut has_inbound = false;
        let mut outbound = None;
        while self.json.next(b'}', &mut first)? {
            let key = self.json.key()?;
            self.json.colon()?;
            let taken = match key.as_str() {
                "inq" | "in_q" if !has_inbound => {
                    has_inbound = true;
                    self.base64()
                }
                "outq" | "out_q" if has_inbound && outbound.is_none() => {
                    outbound = Some(Vec::new());
                    self.base64()
                }
                "outq" | "out_q" if outbound.is_none() => {
                    message::bytes(self.json).map(|bytes| outbound = Some(bytes))
                }
                _ => {
                    let name = key.clone();
                    let message = "the queues of a connection";
                    Err(self
                        .json
                        .error(EncodeErrorKind::UnknownField { name, message }))
                }
            };
            taken.map_err(|error| error.within(key))?;
        }
        self.put(&outbound.unwrap_or_default())
    }

    fn semaphores(&mut self) -> Result<()> {
        self.json.open(b'[', "a list")?;
        let mut first = true;
        let mut bytes = Vec::new();
        while self.json.next(b']', &mut first)? {
            let number = self.json.integer()?;
            let value = u16::try_from(number.magnitude)
                .ok()
                .filter(|_| !number.negative);
            let Some(value) = value else {
                return Err(self
                    .json
                    .error(EncodeErrorKind::OutOfRange { kind: "uint16" }));
            };
            ipc_semaphores::encode(&[value], self.writer.byte_order(), &mut bytes);
        }
        self.put(&bytes)
    }

    /// Takes the messages of a queue: each an object and the data behind it.
    fn messages(&mut self) -> Result<()> {
        self.json.open(b'[', "a list")?;
        let mut first = true;
        // Zeros that the message before needs, unless other padding follows.
        let mut pending = 0;
        let mut encoder = MessageEncoder::new(self.options);
        while self.json.next(b']', &mut first)? {
            let mut bytes = Vec::new();
            let mut raw = None;
            let mut own_padding = None;
            let mut header = encoder.begin(self.json, IpcMsg::DESCRIPTOR, &bytes)?;
            loop {
                match encoder.member(self.json, &mut header, &mut bytes)? {
                    Member::None => break,
                    Member::Field => {}
                    Member::Other(key) if key == RAW_KEY => {
                        self.json.colon()?;
                        raw = Some(message::bytes(self.json)?);
                    }
                    Member::Other(key) if key == PADDING_KEY => {
                        self.json.colon()?;
                        own_padding = Some(message::bytes(self.json)?);
                    }
                    Member::Other(key) => encoder.other(self.json, IpcMsg::DESCRIPTOR, key)?,
                }
            }
            if let Some(mut own) = own_padding {
                encoder.end(header, &mut bytes);
                own.resize(std::mem::take(&mut pending), 0);
                self.put_uncounted(&own)?;
                continue;
            }
            self.put_uncounted(&ZEROS[..std::mem::take(&mut pending)])?;
            let missing = encoder.missing(&header);
            encoder.end(header, &mut bytes);
            match raw {
                Some(raw) if super::entry::is_canonically(IpcMsg::DESCRIPTOR, &raw, &bytes) => {
                    bytes = raw;
                }
                _ => {
                    if let Some(field) = missing {
                        let kind = EncodeErrorKind::MissingField { field: field.name };
                        return Err(self.json.error(kind));
                    }
                }
            }
            let announced = IpcMsg::decode(&bytes).map_or(0, |message| u64::from(message.msize));
            let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            self.put_uncounted(&self.writer.byte_order().u32_bytes(size))?;
            self.put_uncounted(&bytes)?;
            if !self.json.next(b']', &mut first)? {
                return Err(self.json.unexpected("the data of the message", Some(b']')));
            }
            let before = self.data_len();
            self.base64()?;
            let found = self.data_len() - before;
            if found != announced {
                let (expected, unit) = (announced, "bytes");
                return Err(self.json.error(EncodeErrorKind::PayloadLen {
                    expected,
                    found,
                    unit,
                }));
            }
            self.count_message();
            pending = usize::try_from(padding(found, ipc_messages::ALIGNMENT)).unwrap_or_default();
        }
        self.put_uncounted(&ZEROS[..pending])
    }

    /// Takes a string that holds the JSON of the payload, as Go's tool has it.
    fn quoted(&mut self) -> Result<()> {
        let text = self.json.string_bytes()?.to_vec();
        if text.starts_with(LEFT_OUT) {
            return Err(self.json.error(EncodeErrorKind::LeftOut));
        }
        if text.is_empty() {
            return Ok(());
        }
        self.json.insert(&text);
        match self.json.shape()? {
            Shape::String => Err(self.wrong_type("an object or a list", Shape::String)),
            _ => self.payload(),
        }
    }

    fn wrong_type(&self, expected: &'static str, found: Shape) -> EncodeError {
        message::wrong_type(self.json, expected, found)
    }
}

/// Characters of base64 that are decoded at a time.
const BASE64_LEN: usize = 64 << 10;

/// How `show --nopl` begins what it shows of a payload.
const LEFT_OUT: &[u8] = b"... <";

/// More than any padding needs.
const ZEROS: [u8; 8] = [0; 8];
