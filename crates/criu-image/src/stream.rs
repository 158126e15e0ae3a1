//! Bytes off a source, counted, and checked against what the source can still hold.

use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::PathBuf;

use crate::byte_order::ByteOrder;
use crate::error::{Error, ErrorKind, Place, Result};
use crate::kind::ImageKind;
use crate::record::GROWTH_STEP;

#[derive(Debug)]
pub(crate) struct Stream<R> {
    source: BufReader<R>,
    skip: fn(&mut BufReader<R>, u64) -> io::Result<()>,
    /// Bytes taken so far.
    offset: u64,
    /// Bytes of the whole source, if that is known.
    len: Option<u64>,
    pub(crate) order: ByteOrder,
    pub(crate) path: Option<PathBuf>,
    pub(crate) kind: Option<ImageKind>,
    /// Index of the entry at hand.
    pub(crate) entry: Option<u64>,
}

impl<R: Read> Stream<R> {
    pub(crate) fn new(source: R, len: Option<u64>) -> Self {
        Self {
            source: BufReader::with_capacity(BUFFER_LEN, source),
            skip: read_over,
            offset: 0,
            len,
            order: ByteOrder::Little,
            path: None,
            kind: None,
            entry: None,
        }
    }

    pub(crate) fn seekable(source: R, len: u64) -> Self
    where
        R: Seek,
    {
        Self {
            skip: seek_over,
            ..Self::new(source, Some(len))
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes left, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        self.len.map(|len| len.saturating_sub(self.offset))
    }

    /// The error for the place at hand.
    pub(crate) fn error(&self, reason: ErrorKind) -> Error {
        let place = Place {
            path: self.path.clone(),
            kind: self.kind,
            entry: self.entry,
            offset: Some(self.offset),
        };
        Error::new(reason, place)
    }

    /// Refuses a size that the rest of the source cannot hold.
    pub(crate) fn check_left(&self, what: &'static str, size: u64) -> Result<()> {
        match self.left() {
            Some(remaining) if size > remaining => Err(self.error(ErrorKind::ExceedsFile {
                what,
                size,
                remaining,
            })),
            _ => Ok(()),
        }
    }

    /// Reads a 32-bit word, or `None` at the end of the source.
    pub(crate) fn word_or_end(&mut self, what: &'static str) -> Result<Option<u32>> {
        if self.buffer()?.is_empty() {
            return Ok(None);
        }
        self.word(what).map(Some)
    }

    /// Reads a 32-bit word.
    pub(crate) fn word(&mut self, what: &'static str) -> Result<u32> {
        if let Some(&bytes) = self.source.buffer().first_chunk() {
            self.consume(4);
            return Ok(self.order.u32(bytes));
        }
        let mut bytes = [0; 4];
        let mut filled = 0;
        while filled < bytes.len() {
            let buffer = self.buffer()?;
            if buffer.is_empty() {
                let found = filled as u64;
                return Err(self.error(ErrorKind::Truncated {
                    what,
                    expected: 4,
                    found,
                }));
            }
            let count = buffer.len().min(bytes.len() - filled);
            bytes[filled..filled + count].copy_from_slice(&buffer[..count]);
            self.consume(count);
            filled += count;
        }
        Ok(self.order.u32(bytes))
    }

    /// Appends exactly `size` bytes to `out`, taking memory only as they come.
    pub(crate) fn append(
        &mut self,
        out: &mut Vec<u8>,
        size: u64,
        what: &'static str,
    ) -> Result<()> {
        self.check_left(what, size)?;
        let there = self.source.buffer();
        if let Some(bytes) = there.get(..clamp(size, usize::MAX)) {
            out.extend_from_slice(bytes);
            self.consume(bytes.len());
            return Ok(());
        }
        let mut left = size;
        while left > 0 {
            let buffer = self.buffer()?;
            if buffer.is_empty() {
                let found = size - left;
                return Err(self.error(ErrorKind::Truncated {
                    what,
                    expected: size,
                    found,
                }));
            }
            let count = clamp(left, buffer.len());
            out.reserve(clamp(left.min(GROWTH_STEP), usize::MAX));
            let buffer = self.source.buffer();
            out.extend_from_slice(&buffer[..count]);
            self.consume(count);
            left -= count as u64;
        }
        Ok(())
    }

    /// The bytes at hand; none at the end of the source.
    pub(crate) fn buffer(&mut self) -> Result<&[u8]> {
        loop {
            match self.source.fill_buf() {
                Ok(_) => return Ok(self.source.buffer()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(self.error(ErrorKind::Io {
                        action: "read",
                        source,
                    }));
                }
            }
        }
    }

    /// Takes bytes that were at hand.
    pub(crate) fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.offset += count as u64;
    }

    /// Passes over `count` bytes.
    pub(crate) fn skip(&mut self, count: u64, what: &'static str) -> Result<()> {
        self.check_left(what, count)?;
        match (self.skip)(&mut self.source, count) {
            Ok(()) => {
                self.offset += count;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let found = error
                    .get_ref()
                    .and_then(|inner| inner.downcast_ref::<ShortBy>());
                let found = found.map_or(0, |short| count - short.0);
                Err(self.error(ErrorKind::Truncated {
                    what,
                    expected: count,
                    found,
                }))
            }
            Err(source) => Err(self.error(ErrorKind::Io {
                action: "read",
                source,
            })),
        }
    }
}

/// As many bytes as are wanted and there.
pub(crate) fn clamp(wanted: u64, there: usize) -> usize {
    usize::try_from(wanted).map_or(there, |wanted| wanted.min(there))
}

fn read_over<R: Read>(source: &mut BufReader<R>, count: u64) -> io::Result<()> {
    let mut left = count;
    while left > 0 {
        match source.fill_buf() {
            Ok([]) => {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, ShortBy(left)));
            }
            Ok(buffer) => {
                let count = clamp(left, buffer.len());
                source.consume(count);
                left -= count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn seek_over<R: Read + Seek>(source: &mut BufReader<R>, count: u64) -> io::Result<()> {
    let count = i64::try_from(count).map_err(|_| io::ErrorKind::InvalidInput)?;
    source.seek_relative(count)
}

/// How many bytes were missing.
#[derive(Debug, thiserror::Error)]
#[error("{0} bytes missing")]
struct ShortBy(u64);

/// Bytes read at once. Large enough that payloads stream at the speed of the source.
const BUFFER_LEN: usize = 256 * 1024;
