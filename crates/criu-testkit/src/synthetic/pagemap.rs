//! A pagemap and its pages file.

use super::{Image, Proto};

/// A pagemap being put together, with the bytes of its pages.
#[derive(Clone, Debug)]
pub struct Pagemap {
    image: Image,
    pages: Vec<u8>,
}

impl Pagemap {
    /// Starts a pagemap.
    #[must_use]
    pub fn new(pages_id: u32) -> Self {
        let head = Proto::new().varint(1, pages_id.into());
        Self {
            image: Image::common(0x5608_4025).entry(&head),
            pages: Vec::new(),
        }
    }

    /// Adds an entry without pages, or whose pages are added separately.
    #[must_use]
    pub fn entry(mut self, address: u64, pages: u64, flags: u32) -> Self {
        let entry = Proto::new()
            .varint(1, address)
            .varint(2, 0)
            .varint(4, flags.into())
            .varint(5, pages);
        self.image = self.image.entry(&entry);
        self
    }

    /// Adds an entry as it is.
    #[must_use]
    pub fn raw_entry(mut self, entry: &Proto) -> Self {
        self.image = self.image.entry(entry);
        self
    }

    /// Adds an entry with compressed pages: the stored bytes of each block.
    #[must_use]
    pub fn blocks(
        mut self,
        address: u64,
        pages: u64,
        flags: u32,
        pages_per_block: u64,
        blocks: &[&[u8]],
    ) -> Self {
        let sizes: Vec<u64> = blocks.iter().map(|block| block.len() as u64).collect();
        let list = Proto::new()
            .packed(1, &sizes)
            .varint(2, sizes.iter().sum())
            .varint(3, pages_per_block);
        let entry = Proto::new()
            .varint(1, address)
            .varint(2, 0)
            .varint(4, flags.into())
            .varint(5, pages)
            .message(6, &list);
        self.image = self.image.entry(&entry);
        self.bytes(blocks.concat())
    }

    /// Adds bytes to the pages file.
    #[must_use]
    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.pages.extend(bytes.as_ref());
        self
    }

    /// Fills the pages file with zeros up to a boundary.
    #[must_use]
    pub fn align(mut self, boundary: usize) -> Self {
        let len = self.pages.len().next_multiple_of(boundary);
        self.pages.resize(len, 0);
        self
    }

    /// The pagemap and the pages file.
    #[must_use]
    pub fn into_images(self) -> (Vec<u8>, Vec<u8>) {
        (self.image.into_bytes(), self.pages)
    }
}
