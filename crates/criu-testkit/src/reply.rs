//! Protobuf by hand: requests and replies as tests want them, the impossible ones included.

/// A message put together field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// An empty message.
    #[must_use]
    pub fn new() -> Self {
        Message::default()
    }

    /// A reply of CRIU: `criu_resp` with `type` (field 1) and `success` (field 2), as rpc.proto numbers them.
    #[must_use]
    pub fn reply(kind: u64, success: u64) -> Self {
        Message::new().varint(1, kind).varint(2, success)
    }

    /// Appends a number.
    #[must_use]
    pub fn varint(mut self, field: u64, value: u64) -> Self {
        self.push_varint(field << 3);
        self.push_varint(value);
        self
    }

    /// Appends a string, bytes or a nested message.
    #[must_use]
    pub fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.push_varint(field << 3 | 2);
        self.push_varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    /// The message on the wire.
    #[must_use]
    pub fn build(self) -> Vec<u8> {
        self.bytes
    }

    fn push_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One field of a message as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// Wire type 0.
    Varint(u64, u64),
    /// Wire type 2.
    Bytes(u64, &'a [u8]),
    /// Wire types 1 and 5, as raw bytes.
    Fixed(u64, &'a [u8]),
}

/// The fields of a message, in order.
///
/// # Panics
///
/// When the bytes are no message.
#[must_use]
#[track_caller]
pub fn fields(mut bytes: &[u8]) -> Vec<Field<'_>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes);
        let field = key >> 3;
        found.push(match key & 7 {
            0 => Field::Varint(field, take_varint(&mut bytes)),
            1 => Field::Fixed(field, take(&mut bytes, 8)),
            2 => {
                let len = take_varint(&mut bytes);
                Field::Bytes(field, take(&mut bytes, len))
            }
            5 => Field::Fixed(field, take(&mut bytes, 4)),
            wire => panic!("field {field} has wire type {wire}"),
        });
    }
    found
}

#[track_caller]
fn take<'a>(bytes: &mut &'a [u8], len: u64) -> &'a [u8] {
    let split = usize::try_from(len)
        .ok()
        .and_then(|len| bytes.split_at_checked(len));
    let Some((head, rest)) = split else {
        panic!("{len} bytes announced, {} there", bytes.len())
    };
    *bytes = rest;
    head
}

#[track_caller]
fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint has more than 10 bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        let inner = Message::new().varint(3, 300);
        let bytes = Message::reply(1, 1)
            .bytes(4, &inner)
            .varint(9, u64::MAX)
            .build();
        assert_eq!(&bytes[..4], &[0x08, 1, 0x10, 1]);
        let found = fields(&bytes);
        assert_eq!(found[2], Field::Bytes(4, &[0x18, 0xac, 0x02]));
        assert_eq!(found[3], Field::Varint(9, u64::MAX));
    }

    #[test]
    #[should_panic(expected = "5 bytes announced, 1 there")]
    fn a_cut_message_is_refused() {
        let _ = fields(&[0x0a, 5, 1]);
    }
}
