//! The words in front of an image's entries, and the limits of an entry.
//!
//! ```text
//! inventory.img      : u32 magic                    entry*
//! image of the set   : u32 IMG_COMMON    u32 magic  entry*
//! stats, irmap cache : u32 IMG_SERVICE   u32 magic  entry*
//! version 1.0        : u32 magic                    entry*
//! entry              : u32 size, size bytes of protobuf, payload
//! raw image          : no words, no entries
//! ```
//!
//! Versions 1.1 and 1.2 differ in the inventory's `img_version` only.

use crate::kind::ImageKind;

/// The words in front of an image's entries, as they stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind of image.
    pub kind: ImageKind,
    /// The word in front of the magic.
    pub first_word: Option<u32>,
    /// The magic; raw images have none.
    pub magic: Option<u32>,
}

impl Header {
    /// The header that CRIU writes since version 1.1 of the format.
    #[must_use]
    pub fn new(kind: ImageKind) -> Self {
        Self {
            kind,
            first_word: kind.first_word().value(),
            magic: kind.magic(),
        }
    }

    /// The header of version 1.0, which has no first word.
    #[must_use]
    pub fn v1_0(kind: ImageKind) -> Self {
        Self {
            first_word: None,
            ..Self::new(kind)
        }
    }

    /// Bytes that the header takes.
    #[must_use]
    pub fn byte_len(&self) -> u64 {
        4 * u64::from(u8::from(self.first_word.is_some()) + u8::from(self.magic.is_some()))
    }
}

/// Largest entry that is read, in bytes, unless the caller sets another limit.
///
/// Protobuf itself stops here: its implementations count a message's bytes in a signed 32-bit
/// number, and so does Python's CRIT.
pub const ENTRY_LIMIT: u64 = 0x7fff_ffff;

/// How far the buffer of an entry grows ahead of the bytes that have really come, in bytes.
///
/// From a pipe nobody knows whether the size given is true, so memory is taken only as it fills.
pub(crate) const GROWTH_STEP: u64 = 1 << 20;
