//! How much memory a decoded message may take.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{DecodeError, DecodeErrorKind};

/// Counts the memory that structs and lists of a message take, so that a few bytes cannot stand for
/// very many: an empty message of two bytes is a struct of some hundred.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bytes.
    limit: usize,
    /// Bytes that are left. Atomic only for the sake of [`Sync`]: one thread decodes a message.
    left: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            left: AtomicUsize::new(limit),
        }
    }

    /// Takes `count` items of `size` bytes; `offset` is the place of what asks for them.
    #[inline]
    pub(super) fn take(&self, count: usize, size: usize, offset: usize) -> Result<(), DecodeError> {
        let left = self.left.load(Relaxed);
        match count
            .checked_mul(size)
            .and_then(|wanted| left.checked_sub(wanted))
        {
            Some(rest) => {
                self.left.store(rest, Relaxed);
                Ok(())
            }
            None => {
                let limit = self.limit;
                Err(DecodeError::new(
                    DecodeErrorKind::TooLarge { limit },
                    offset,
                ))
            }
        }
    }
}

/// Most bytes that the structs and lists of a message may take, of which `encoded_len` bytes are
/// encoded.
///
/// Messages that CRIU writes stay far below: the largest it has, a list of a task's memory areas,
/// takes four times its encoded length. The rest is for small messages, where proportions differ.
#[must_use]
pub fn memory_limit(encoded_len: usize) -> usize {
    const BASE: usize = 56 << 20;
    const FACTOR: usize = 4;
    encoded_len.saturating_mul(FACTOR).saturating_add(BASE)
}
