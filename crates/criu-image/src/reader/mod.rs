//! Reads images entry by entry.

mod payload;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::byte_order::ByteOrder;
use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::kind::{Entries, FirstWord, IMG_COMMON, IMG_SERVICE, ImageKind};
use crate::memory::PageRange;
use crate::message::PagemapEntry;
use crate::payload::{PayloadKind, Plan};
use crate::record::{ENTRY_LIMIT, Header};
use crate::schema::MessageDescriptor;
use crate::stream::Stream;
use crate::wire::{DecodeError, Message};
use crate::writer::ImageWriter;

pub use self::payload::{Part, Payload};

use self::payload::Pending;

/// How to read an image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ReadOptions {
    /// The byte order, or `None` to tell it from the magic. Raw images have none to tell from and
    /// need none.
    pub byte_order: Option<ByteOrder>,
    /// The kind that the image's name stands for. Raw images, and kinds that share their magic,
    /// cannot be told by the magic; otherwise the magic decides.
    pub kind: Option<ImageKind>,
    /// The image's file, for errors.
    pub path: Option<PathBuf>,
    /// Bytes that the source holds, if known, so that hostile sizes are refused before reading.
    pub len: Option<u64>,
    /// Largest entry to read, in bytes.
    pub entry_limit: u64,
}

/// Reads an image from any source, front to back, in bounded memory.
///
/// ```
/// use criu_image::ImageReader;
/// use criu_image::message::PstreeEntry;
/// use criu_image::wire::Message;
///
/// # fn main() -> criu_image::Result<()> {
/// let bytes = b"\x19\x43\x56\x54\x30\x30\x27\x50\x0a\0\0\0\x08\x01\x10\0\x18\x01\x20\x01\x28\x01";
/// let mut reader = ImageReader::new(&bytes[..])?;
/// while let Some(entry) = reader.next_entry()? {
///     let task: PstreeEntry = entry.decode()?;
///     assert_eq!(task.pid, 1);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ImageReader<R> {
    stream: Stream<R>,
    header: Header,
    entry_limit: u64,
    next_index: u64,
    entry: Vec<u8>,
    pending: Pending,
}

/// An entry as it stands in the image, and what follows it.
#[derive(Debug)]
pub struct RawEntry<'a, R> {
    /// Its place in the image, from 0.
    pub index: u64,
    /// Offset of its size word in the image, in bytes.
    pub offset: u64,
    /// Describes the message.
    pub descriptor: &'static MessageDescriptor,
    /// The encoded message.
    pub bytes: &'a [u8],
    /// What follows; what is not read of it is passed over.
    pub payload: Payload<'a, R>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            byte_order: None,
            kind: None,
            path: None,
            len: None,
            entry_limit: ENTRY_LIMIT,
        }
    }
}

impl ReadOptions {
    /// Reads an image from any source.
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read or does not begin like an image.
    pub fn read<R: Read>(self, source: R) -> Result<ImageReader<R>> {
        let len = self.len;
        self.begin(Stream::new(source, len))
    }

    /// Reads an image from a source in which payloads can be passed over without reading them.
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read or does not begin like an image.
    pub fn read_seekable<R: Read + Seek>(self, mut source: R) -> Result<ImageReader<R>> {
        let measured = source.stream_position().and_then(|start| {
            let end = source.seek(SeekFrom::End(0))?;
            source.seek(SeekFrom::Start(start))?;
            Ok(end.saturating_sub(start))
        });
        let len = measured.map_err(|error| Error::io("seek", error))?;
        self.begin(Stream::seekable(source, len))
    }

    fn begin<R: Read>(self, mut stream: Stream<R>) -> Result<ImageReader<R>> {
        stream.order = self.byte_order.unwrap_or_default();
        stream.path = self.path;
        stream.kind = self.kind;
        let header = match self.kind {
            Some(kind) if kind.is_raw() => Header::new(kind),
            named => read_header(&mut stream, named, self.byte_order)?,
        };
        stream.kind = Some(header.kind);
        let is_body = matches!(header.kind.entries(), Entries::Raw);
        Ok(ImageReader {
            stream,
            header,
            entry_limit: self.entry_limit,
            next_index: 0,
            entry: Vec::new(),
            pending: Pending::new(
                header.kind.payload(),
                if is_body {
                    Plan::body()
                } else {
                    Plan::default()
                },
            ),
        })
    }
}

impl ImageReader<File> {
    /// Reads an image from a file; its name tells what the magic does not.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be read or does not begin like an image.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let options = ReadOptions {
            kind: ImageKind::from_file_name(name).map(|(kind, _)| kind),
            path: Some(path.to_owned()),
            ..ReadOptions::default()
        };
        let file = File::open(path).map_err(|error| {
            match error.kind() {
                io::ErrorKind::NotFound => Error::from(ErrorKind::Missing),
                _ => Error::io("open", error),
            }
            .in_file(path)
        })?;
        options
            .read_seekable(file)
            .map_err(|error| error.in_file(path))
    }
}

impl<R: Read> ImageReader<R> {
    /// Reads an image from any source.
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read or does not begin like an image.
    pub fn new(source: R) -> Result<Self> {
        ReadOptions::default().read(source)
    }

    /// The words in front of the entries.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// The kind of image.
    #[must_use]
    pub fn kind(&self) -> ImageKind {
        self.header.kind
    }

    /// The byte order, as given or told from the magic.
    #[must_use]
    pub fn byte_order(&self) -> ByteOrder {
        self.stream.order
    }

    /// Bytes read so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.stream.offset()
    }

    /// Reads the next entry; what was left of the payload before it is passed over.
    ///
    /// Images without entries give none; their content is the [`body`](Self::body).
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read, ends within an entry, or gives a size that cannot be.
    pub fn next_entry(&mut self) -> Result<Option<RawEntry<'_, R>>> {
        let index = self.next_index;
        let Some(descriptor) = self.header.kind.entry(index) else {
            return Ok(None);
        };
        Payload {
            stream: &mut self.stream,
            pending: &mut self.pending,
        }
        .skip()?;
        self.stream.entry = Some(index);
        let offset = self.stream.offset();
        let Some(size) = self.stream.word_or_end("size of an entry")? else {
            self.stream.entry = None;
            return Ok(None);
        };
        let (size, limit) = (u64::from(size), self.entry_limit);
        if size > limit {
            return Err(self.stream.error(ErrorKind::EntryTooLarge { size, limit }));
        }
        self.entry.clear();
        self.stream.append(&mut self.entry, size, "entry")?;
        self.pending.plan = match self.pending.kind {
            PayloadKind::None => Plan::default(),
            kind => kind
                .plan(index, &self.entry)
                .map_err(|error| self.stream.error(ErrorKind::Malformed(error)))?,
        };
        self.next_index = index + 1;
        Ok(Some(RawEntry {
            index,
            offset,
            descriptor,
            bytes: &self.entry,
            payload: Payload {
                stream: &mut self.stream,
                pending: &mut self.pending,
            },
        }))
    }

    /// The content of an image without entries: one piece, up to the end of the file. `None` where
    /// there are entries.
    pub fn body(&mut self) -> Option<Payload<'_, R>> {
        matches!(self.header.kind.entries(), Entries::Raw).then_some(Payload {
            stream: &mut self.stream,
            pending: &mut self.pending,
        })
    }

    /// Reads and decodes all entries of an image whose entries are of one type; payloads are
    /// passed over.
    ///
    /// # Errors
    ///
    /// Fails when the image cannot be read, or an entry is of another type or malformed.
    pub fn entries<T: Message>(&mut self) -> Result<Vec<Entry<T>>> {
        let mut entries = Vec::new();
        while let Some(entry) = self.next_entry()? {
            entries.push(entry.to_entry()?);
        }
        Ok(entries)
    }

    /// Reads and decodes the only entry of an image.
    ///
    /// # Errors
    ///
    /// Fails when the image cannot be read, has no entry or more than one, or the entry is of
    /// another type or malformed.
    pub fn only_entry<T: Message>(&mut self) -> Result<Entry<T>> {
        let bytes = self.only_entry_bytes::<T>()?;
        Entry::decode(bytes).map_err(|error| self.malformed(error))
    }

    /// Reads the only entry of an image as bytes; they are still to be decoded.
    pub(crate) fn only_entry_bytes<T: Message>(&mut self) -> Result<Vec<u8>> {
        let mut found = 0;
        let mut bytes = Vec::new();
        while let Some(entry) = self.next_entry()? {
            entry.check_type::<T>()?;
            if found == 0 {
                bytes = std::mem::take(&mut self.entry);
            }
            found += 1;
        }
        match found {
            1 => Ok(bytes),
            found => Err(self.stream.error(ErrorKind::EntryCount {
                expected: "1",
                found,
            })),
        }
    }

    /// The error of the first entry, which is malformed.
    pub(crate) fn malformed(&self, error: DecodeError) -> Error {
        self.stream.error(ErrorKind::Malformed(error)).in_entry(0)
    }

    /// Writes all that is left of this image, entries and payloads, byte for byte.
    ///
    /// # Errors
    ///
    /// Fails when either side fails.
    pub fn copy_to<W: io::Write>(&mut self, writer: &mut ImageWriter<W>) -> Result<()> {
        while let Some(mut entry) = self.next_entry()? {
            writer.entry(entry.bytes)?;
            entry.payload.copy_to(writer)?;
        }
        match self.body() {
            Some(mut body) => body.copy_to(writer),
            None => Ok(()),
        }
    }
}

impl<R: Read> RawEntry<'_, R> {
    /// Decodes the message.
    ///
    /// # Errors
    ///
    /// Fails when the message is of another type or malformed.
    pub fn decode<T: Message>(&self) -> Result<T> {
        self.check_type::<T>()?;
        T::decode(self.bytes)
            .map_err(|error| self.payload.stream.error(ErrorKind::Malformed(error)))
    }

    /// Reads the addresses of a pagemap's entry, without a struct for its blocks.
    ///
    /// # Errors
    ///
    /// Fails when the message is of another type or malformed.
    pub fn page_range(&self) -> Result<PageRange> {
        self.check_type::<PagemapEntry>()?;
        PageRange::decode(self.bytes)
            .map_err(|error| self.payload.stream.error(ErrorKind::Malformed(error)))
    }

    /// Decodes the message and keeps its bytes.
    ///
    /// # Errors
    ///
    /// Fails when the message is of another type or malformed.
    pub fn to_entry<T: Message>(&self) -> Result<Entry<T>> {
        self.check_type::<T>()?;
        Entry::decode(self.bytes.to_vec())
            .map_err(|error| self.payload.stream.error(ErrorKind::Malformed(error)))
    }

    fn check_type<T: Message>(&self) -> Result<()> {
        let (wanted, found) = (T::DESCRIPTOR.name, self.descriptor.name);
        if wanted == found {
            return Ok(());
        }
        let detail = format!("{wanted} was asked for where the image holds {found}");
        Err(self
            .payload
            .stream
            .error(ErrorKind::Inconsistent { detail }))
    }
}

fn read_header<R: Read>(
    stream: &mut Stream<R>,
    named: Option<ImageKind>,
    byte_order: Option<ByteOrder>,
) -> Result<Header> {
    let mut word = stream.word("magic")?;
    if !begins_image(word) && begins_image(word.swap_bytes()) {
        if byte_order.is_some() {
            return Err(stream.error(ErrorKind::OtherByteOrder { magic: word }));
        }
        stream.order = match stream.order {
            ByteOrder::Little => ByteOrder::Big,
            ByteOrder::Big => ByteOrder::Little,
        };
        word = word.swap_bytes();
    }
    let first_word = (word == IMG_COMMON || word == IMG_SERVICE).then_some(word);
    let magic = match first_word {
        Some(_) => stream.word("magic")?,
        None => word,
    };
    let kind = named
        .filter(|kind| kind.magic() == Some(magic))
        .or_else(|| ImageKind::from_magic(magic))
        .ok_or_else(|| stream.error(ErrorKind::UnknownMagic { magic }))?;
    Ok(Header {
        kind,
        first_word,
        magic: Some(magic),
    })
}

fn begins_image(word: u32) -> bool {
    let first = [FirstWord::Common, FirstWord::Service];
    first.iter().any(|first| first.value() == Some(word)) || ImageKind::from_magic(word).is_some()
}
