//! Encodes protobuf by hand.

/// A message being encoded, field by field, in the order of the calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proto(Vec<u8>);

impl Proto {
    /// Starts an empty message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a number.
    #[must_use]
    pub fn varint(mut self, number: u32, value: u64) -> Self {
        self.tag(number, 0);
        self.number(value);
        self
    }

    /// Adds a negative number, as `int32` and `int64` have it.
    #[must_use]
    pub fn int(self, number: u32, value: i64) -> Self {
        self.varint(number, value.cast_unsigned())
    }

    /// Adds a number as `sint32` and `sint64` have it.
    #[must_use]
    pub fn zigzag(self, number: u32, value: i64) -> Self {
        self.varint(number, ((value << 1) ^ (value >> 63)).cast_unsigned())
    }

    /// Adds a number below 128 in five bytes where one would do.
    #[must_use]
    pub fn long_varint(mut self, number: u32, value: u8) -> Self {
        self.tag(number, 0);
        self.0.extend([value | 0x80, 0x80, 0x80, 0x80, 0]);
        self
    }

    /// Adds eight bytes.
    #[must_use]
    pub fn fixed64(mut self, number: u32, value: u64) -> Self {
        self.tag(number, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds four bytes.
    #[must_use]
    pub fn fixed32(mut self, number: u32, value: u32) -> Self {
        self.tag(number, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds bytes or text.
    #[must_use]
    pub fn bytes(mut self, number: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.tag(number, 2);
        self.number(value.len() as u64);
        self.0.extend(value);
        self
    }

    /// Adds a message.
    #[must_use]
    pub fn message(self, number: u32, value: &Self) -> Self {
        self.bytes(number, &value.0)
    }

    /// Adds a list of numbers in one piece.
    #[must_use]
    pub fn packed(self, number: u32, values: &[u64]) -> Self {
        let mut list = Self::new();
        for &value in values {
            list.number(value);
        }
        self.bytes(number, list.0)
    }

    /// Adds a group with these fields.
    #[must_use]
    pub fn group(mut self, number: u32, fields: &Self) -> Self {
        self.tag(number, 3);
        self.0.extend(&fields.0);
        self.tag(number, 4);
        self
    }

    /// Adds the fields of another message.
    #[must_use]
    pub fn then(mut self, other: &Self) -> Self {
        self.0.extend(&other.0);
        self
    }

    /// The encoded message.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// The encoded message.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn tag(&mut self, number: u32, wire_type: u64) {
        self.number(u64::from(number) << 3 | wire_type);
    }

    fn number(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(0x80 | value.to_le_bytes()[0]);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }
}
