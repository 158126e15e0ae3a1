//! Puts images together word by word.

use super::Proto;

/// Order of the bytes in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As on all machines but s390x.
    Little,
    /// As on s390x.
    Big,
}

/// An image being put together.
#[derive(Clone, Debug)]
pub struct Image {
    order: Order,
    bytes: Vec<u8>,
}

impl Image {
    /// Starts an image that has no words yet.
    #[must_use]
    pub fn new(order: Order) -> Self {
        Self {
            order,
            bytes: Vec::new(),
        }
    }

    /// Starts an image of the checkpoint: `IMG_COMMON` and its magic.
    #[must_use]
    pub fn common(magic: u32) -> Self {
        Self::new(Order::Little).word(0x5456_4319).word(magic)
    }

    /// Adds a 32-bit word.
    #[must_use]
    pub fn word(mut self, word: u32) -> Self {
        self.bytes.extend(match self.order {
            Order::Little => word.to_le_bytes(),
            Order::Big => word.to_be_bytes(),
        });
        self
    }

    /// Adds a 16-bit word.
    #[must_use]
    pub fn half(mut self, half: u16) -> Self {
        self.bytes.extend(match self.order {
            Order::Little => half.to_le_bytes(),
            Order::Big => half.to_be_bytes(),
        });
        self
    }

    /// Adds a message behind its size.
    #[must_use]
    pub fn entry(self, message: &Proto) -> Self {
        let size = u32::try_from(message.as_bytes().len()).expect("a small message");
        self.word(size).raw(message.as_bytes())
    }

    /// Adds bytes as they are.
    #[must_use]
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes.extend(bytes.as_ref());
        self
    }

    /// The image.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
