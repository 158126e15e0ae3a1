//! Reads bytes by address.

use super::space::{AddressSpace, Content};
use super::store::BlockCache;
use crate::error::Result;

/// Reads the bytes of an [`AddressSpace`], and keeps the compressed block that it expanded last.
#[derive(Debug)]
pub struct MemoryReader<'a> {
    space: &'a AddressSpace,
    cache: BlockCache,
}

impl<'a> MemoryReader<'a> {
    pub(super) fn new(space: &'a AddressSpace) -> Self {
        Self {
            space,
            cache: BlockCache::default(),
        }
    }

    /// The address space.
    #[must_use]
    pub fn space(&self) -> &'a AddressSpace {
        self.space
    }

    /// Reads bytes from an address on until `out` is full or the bytes are not in the images, and
    /// returns how many were read. [`AddressSpace::span_at`] says why it was not more.
    ///
    /// # Errors
    ///
    /// Fails when a pages file is damaged or cannot be read.
    pub fn read_at(&mut self, address: u64, out: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < out.len() {
            let Some(at) = address.checked_add(filled as u64) else {
                break;
            };
            let Some((span, segment)) = self.space.locate(at) else {
                break;
            };
            let rest = &mut out[filled..];
            let wanted =
                usize::try_from(span.byte_len()).map_or(rest.len(), |len| len.min(rest.len()));
            let rest = &mut rest[..wanted];
            match span.content {
                Content::Zero => rest.fill(0),
                content if content.is_known() => {
                    let Some((store, segment)) = segment else {
                        break;
                    };
                    let Some(store) = self.space.store(store) else {
                        break;
                    };
                    store.fetch(segment, rest, &mut self.cache)?;
                }
                _ => break,
            }
            filled += wanted;
        }
        Ok(filled)
    }
}
