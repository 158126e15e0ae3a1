//! What follows an entry, as the member `extra` of its object.

use std::io::{self, Read, Write};

use criu_image::message::{IpcMsg, IpcShmEntry};
use criu_image::payload::{PayloadKind, Role, ipc_semaphores};
use criu_image::wire::Message;
use criu_image::{ByteOrder, ImageKind, Part, Payload, RawEntry};

use super::{message, write_message};
use crate::json::error::DecodeError;
use crate::json::text::{Base64Lines, Text};
use crate::json::{EXTRA_KEY, PADDING_KEY};

/// Where in the text a payload goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Whether the object has no members yet.
    pub(super) first: bool,
    pub(super) kind: ImageKind,
    pub(super) order: ByteOrder,
}

/// Writes the payload; returns whether there was anything to write.
pub(super) fn write<R: Read, W: Write>(
    text: &mut Text<W>,
    place: Place,
    entry: &mut RawEntry<'_, R>,
) -> Result<bool, DecodeError> {
    let payload = &mut entry.payload;
    match place.kind.payload() {
        PayloadKind::None => return Ok(false),
        PayloadKind::TcpStream => {
            text.key(place.first, EXTRA_KEY);
            text.open(b'{');
            let mut first = true;
            while let Some(mut part) = payload.next_part()? {
                let inbound = part.role() == Role::Inbound;
                text.key(first, if inbound { "inq" } else { "outq" });
                first = false;
                let mut queue = Base64String::begin(text);
                queue.push_part(text, &mut part)?;
                queue.end(text)?;
            }
            text.close(b'}', first);
        }
        PayloadKind::IpcSemaphores => {
            text.key(place.first, EXTRA_KEY);
            write_semaphores(text, payload, place.order)?;
        }
        PayloadKind::IpcMessages => {
            text.key(place.first, EXTRA_KEY);
            write_messages(text, payload)?;
        }
        kind => {
            let mut data = None;
            while let Some(mut part) = payload.next_part()? {
                if part.role() == Role::Padding {
                    if let Some(data) = data.take() {
                        Base64String::end(data, text)?;
                    }
                    let padding = part.to_vec()?;
                    write_padding(text, &padding)?;
                    return Ok(true);
                }
                let data = data.get_or_insert_with(|| {
                    text.key(place.first, EXTRA_KEY);
                    Base64String::begin(text)
                });
                data.push_part(text, &mut part)?;
            }
            match data {
                Some(data) => data.end(text)?,
                // The head of a file in chunks has no data of its own.
                None if kind == PayloadKind::GhostFile => return Ok(false),
                None => {
                    text.key(place.first, EXTRA_KEY);
                    text.word("");
                }
            }
        }
    }
    Ok(true)
}

/// Writes the size of the payload in its place, as Python's `show --nopl` does: nothing at all for
/// the content of files.
pub(super) fn write_size<R: Read, W: Write>(
    text: &mut Text<W>,
    place: Place,
    entry: &mut RawEntry<'_, R>,
) -> Result<bool, DecodeError> {
    let mut size = 0u64;
    match place.kind.payload() {
        PayloadKind::None | PayloadKind::GhostFile => return Ok(false),
        // The size is the segment's, also when its content is in pages.
        PayloadKind::IpcSharedMemory => size = entry.decode::<IpcShmEntry>()?.size,
        _ => {
            while let Some(part) = entry.payload.next_part()? {
                if part.role() != Role::Padding {
                    size = size.saturating_add(part.len().unwrap_or(0));
                }
            }
        }
    }
    text.key(place.first, EXTRA_KEY);
    text.word(&format!("... <{}>", human_size(size)));
    Ok(true)
}

/// A string of base64 that is being written.
struct Base64String {
    lines: Base64Lines,
}

impl Base64String {
    fn begin<W: Write>(text: &mut Text<W>) -> Self {
        text.raw(b"\"");
        Self {
            lines: Base64Lines::default(),
        }
    }

    fn push_part<R: Read, W: Write>(
        &mut self,
        text: &mut Text<W>,
        part: &mut Part<'_, R>,
    ) -> Result<(), DecodeError> {
        while let Some(chunk) = part.next_chunk()? {
            self.lines.push(text, chunk).map_err(DecodeError::Write)?;
        }
        Ok(())
    }

    fn end<W: Write>(self, text: &mut Text<W>) -> Result<(), DecodeError> {
        self.lines.finish(text).map_err(DecodeError::Write)?;
        text.raw(b"\"");
        text.settle().map_err(DecodeError::Write)
    }
}

fn write_semaphores<R: Read, W: Write>(
    text: &mut Text<W>,
    payload: &mut Payload<'_, R>,
    order: ByteOrder,
) -> Result<(), DecodeError> {
    text.open(b'[');
    let mut first = true;
    let mut padding = Vec::new();
    while let Some(mut part) = payload.next_part()? {
        if part.role() == Role::Padding {
            padding = part.to_vec()?;
            continue;
        }
        // Values may be torn between two chunks.
        let mut torn = Vec::new();
        while let Some(chunk) = part.next_chunk()? {
            torn.extend_from_slice(chunk);
            let whole = torn.len() & !1;
            for value in ipc_semaphores::decode(&torn[..whole], order) {
                text.item(first);
                first = false;
                text.integer(value);
                text.settle().map_err(DecodeError::Write)?;
            }
            torn.drain(..whole);
        }
    }
    text.close(b']', first);
    write_padding(text, &padding)
}

fn write_messages<R: Read, W: Write>(
    text: &mut Text<W>,
    payload: &mut Payload<'_, R>,
) -> Result<(), DecodeError> {
    let plain = message::View {
        pretty: false,
        hex: false,
    };
    let mut first = true;
    text.open(b'[');
    while let Some(mut part) = payload.next_part()? {
        match part.role() {
            Role::MessageHeader => {
                text.item(first);
                text.open(b'{');
                let empty = write_message(text, IpcMsg::DESCRIPTOR, part.message(), plain)?;
                text.close(b'}', empty);
            }
            Role::Padding => {
                let padding = part.to_vec()?;
                if padding.iter().any(|&byte| byte != 0) {
                    text.item(false);
                    text.open(b'{');
                    write_padding_member(text, true, &padding).map_err(DecodeError::Write)?;
                    text.close(b'}', false);
                }
            }
            _ => {
                text.item(false);
                let mut data = Base64String::begin(text);
                data.push_part(text, &mut part)?;
                data.end(text)?;
            }
        }
        first = false;
    }
    text.close(b']', first);
    Ok(())
}

/// Writes padding that is not zeros, which no one else will know.
fn write_padding<W: Write>(text: &mut Text<W>, padding: &[u8]) -> Result<(), DecodeError> {
    if padding.iter().all(|&byte| byte == 0) {
        return Ok(());
    }
    write_padding_member(text, false, padding).map_err(DecodeError::Write)
}

fn write_padding_member<W: Write>(
    text: &mut Text<W>,
    first: bool,
    padding: &[u8],
) -> io::Result<()> {
    text.key(first, PADDING_KEY);
    text.base64_string(padding)
}

/// A size for people, in the largest unit that leaves at least 1, whole or with one decimal.
fn human_size(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KB", "MB", "GB", "TB", "PB", "EB"];
    #[expect(
        clippy::cast_precision_loss,
        reason = "one decimal is all that is printed"
    )]
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(size.fract() != 0.0);
    format!("{size:.decimals$}{}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::human_size;

    #[test]
    fn sizes_are_whole_or_have_one_decimal() {
        for (bytes, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KB"),
            (1025, "1.0KB"),
            (1536, "1.5KB"),
            (1 << 20, "1MB"),
            ((1 << 30) + (1 << 29), "1.5GB"),
            (1 << 63, "8EB"),
        ] {
            assert_eq!(human_size(bytes), expected);
        }
    }
}
