//! A decoded entry that still knows its bytes.

use std::ops::Deref;

use crate::wire::{DecodeError, Message};

/// A message together with the bytes it was decoded from.
///
/// As long as it is not edited, [`bytes`](Self::bytes) gives back those very bytes, however they
/// were encoded; that is what makes reading and writing lossless.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry<T> {
    value: T,
    bytes: Option<Vec<u8>>,
}

impl<T: Message> Entry<T> {
    /// Decodes an entry and keeps its bytes.
    ///
    /// # Errors
    ///
    /// Fails when the bytes are no such message.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DecodeError> {
        Ok(Self {
            value: T::decode(&bytes)?,
            bytes: Some(bytes),
        })
    }

    /// Gives the message for changing; from then on it is encoded anew.
    ///
    /// Fields that this crate does not know are still written back.
    pub fn edit(&mut self) -> &mut T {
        self.bytes = None;
        &mut self.value
    }

    /// Returns whether the message was made or changed since it was read.
    #[must_use]
    pub fn is_edited(&self) -> bool {
        self.bytes.is_none()
    }

    /// The encoded message.
    #[must_use]
    pub fn bytes(&self) -> std::borrow::Cow<'_, [u8]> {
        match &self.bytes {
            Some(bytes) => bytes.into(),
            None => self.value.encode().into(),
        }
    }

    /// The message without its bytes.
    #[must_use]
    pub fn into_value(self) -> T {
        self.value
    }
}

impl<T> From<T> for Entry<T> {
    fn from(value: T) -> Self {
        Self { value, bytes: None }
    }
}

impl<T> Deref for Entry<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
