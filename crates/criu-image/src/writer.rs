//! Writes images entry by entry.

use std::io::{BufWriter, Write};

use crate::byte_order::ByteOrder;
use crate::error::{Error, ErrorKind, Result};
use crate::payload;
use crate::record::{ENTRY_LIMIT, Header};
use crate::wire::Message;

/// Writes an image to any sink.
///
/// ```
/// use criu_image::{ByteOrder, Header, ImageKind, ImageWriter};
/// use criu_image::message::PipeDataEntry;
///
/// # fn main() -> criu_image::Result<()> {
/// let header = Header::new(ImageKind::PipesData);
/// let mut writer = ImageWriter::new(Vec::new(), header, ByteOrder::Little)?;
/// writer.message(&PipeDataEntry { pipe_id: 7, bytes: 5, ..Default::default() })?;
/// writer.data(b"hello")?;
/// assert!(writer.finish()?.ends_with(b"\x08\x07\x10\x05hello"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ImageWriter<W: Write> {
    sink: BufWriter<W>,
    header: Header,
    order: ByteOrder,
    entries: u64,
    /// Bytes of data since the last entry or message header.
    data_len: u64,
}

impl<W: Write> ImageWriter<W> {
    /// Starts an image with its header.
    ///
    /// # Errors
    ///
    /// Fails when the sink does.
    pub fn new(sink: W, header: Header, order: ByteOrder) -> Result<Self> {
        let mut writer = Self {
            sink: BufWriter::with_capacity(BUFFER_LEN, sink),
            header,
            order,
            entries: 0,
            data_len: 0,
        };
        for word in [header.first_word, header.magic].into_iter().flatten() {
            writer.put(&order.u32_bytes(word))?;
        }
        Ok(writer)
    }

    /// The words in front of the entries.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The byte order.
    #[must_use]
    pub fn byte_order(&self) -> ByteOrder {
        self.order
    }

    /// Writes an encoded entry behind its size.
    ///
    /// # Errors
    ///
    /// Fails when the entry is too large for its size word, or the sink fails.
    pub fn entry(&mut self, bytes: &[u8]) -> Result<()> {
        self.framed(bytes)?;
        self.entries += 1;
        Ok(())
    }

    /// Encodes and writes an entry.
    ///
    /// # Errors
    ///
    /// Fails as [`entry`](Self::entry) does.
    pub fn message<T: Message>(&mut self, message: &T) -> Result<()> {
        self.entry(&message.encode())
    }

    /// Writes the encoded `ipc_msg` in front of a queued message's data.
    ///
    /// # Errors
    ///
    /// Fails as [`entry`](Self::entry) does.
    pub fn message_header(&mut self, bytes: &[u8]) -> Result<()> {
        self.framed(bytes)
    }

    /// Writes bytes of a payload, or of an image without entries.
    ///
    /// # Errors
    ///
    /// Fails when the sink does.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.data_len += bytes.len() as u64;
        self.put(bytes)
    }

    /// Fills up with zeros to the boundary that this kind of payload needs, counting the data
    /// since the last entry or message header. Not for copying: padding that was read is data.
    ///
    /// # Errors
    ///
    /// Fails when the sink does.
    pub fn pad(&mut self) -> Result<()> {
        let alignment = self.header.kind.payload().alignment();
        for _ in 0..payload::padding(self.data_len, alignment) {
            self.data(&[0])?;
        }
        Ok(())
    }

    /// Writes what is buffered and gives the sink back.
    ///
    /// # Errors
    ///
    /// Fails when the sink does.
    pub fn finish(self) -> Result<W> {
        let (kind, mut sink) = (self.header.kind, self.sink);
        sink.flush()
            .map_err(|error| Error::io("write", error).in_kind(kind))?;
        sink.into_inner()
            .map_err(|error| Error::io("write", error.into_error()).in_kind(kind))
    }

    fn framed(&mut self, bytes: &[u8]) -> Result<()> {
        let size = bytes.len() as u64;
        let Some(word) = u32::try_from(size).ok().filter(|_| size <= ENTRY_LIMIT) else {
            let too_large = ErrorKind::EntryTooLarge {
                size,
                limit: ENTRY_LIMIT,
            };
            return Err(Error::from(too_large)
                .in_kind(self.header.kind)
                .in_entry(self.entries));
        };
        self.put(&self.order.u32_bytes(word))?;
        self.put(bytes)?;
        self.data_len = 0;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.sink.write_all(bytes).map_err(|error| {
            Error::io("write", error)
                .in_kind(self.header.kind)
                .in_entry(self.entries)
        })
    }
}

/// Bytes gathered before they are written.
const BUFFER_LEN: usize = 64 * 1024;
