//! Reads memory in large steps, also where it lies about in small bits.

use std::sync::Arc;

use criu_image::checkpoint::RandomAccess;
use criu_image::memory::{AddressSpace, Content, MemoryReader, PagesRef, Span};
use criu_image::{Error, ErrorKind};

/// Reads the bytes of spans, with some of a pages file ahead.
#[derive(Debug)]
pub(super) struct Window<'a> {
    space: &'a AddressSpace,
    reader: MemoryReader<'a>,
    /// What is read ahead: where from, and the bytes.
    ahead: Option<(PagesRef, u64)>,
    bytes: Vec<u8>,
    /// How many bytes reads may go back.
    back: u64,
}

impl<'a> Window<'a> {
    pub(super) fn new(space: &'a AddressSpace, back: u64) -> Self {
        Self {
            space,
            reader: space.reader(),
            ahead: None,
            bytes: Vec::new(),
            back,
        }
    }

    /// Fills `out` with the bytes of a span, which has as many and knows them.
    pub(super) fn read(&mut self, span: Span, out: &mut [u8]) -> Result<(), Error> {
        match span.content {
            Content::Zero => out.fill(0),
            Content::Stored { pages, offset } => self.read_stored(pages, offset, out)?,
            _ => {
                let count = self.reader.read_at(span.start, out)?;
                if count < out.len() {
                    let detail = format!("no bytes at {:#x}", span.start + count as u64);
                    return Err(ErrorKind::Inconsistent { detail }.into());
                }
            }
        }
        Ok(())
    }

    fn read_stored(&mut self, pages: PagesRef, offset: u64, out: &mut [u8]) -> Result<(), Error> {
        let Some(file) = self.space.pages(pages) else {
            return Err(ErrorKind::Missing.into());
        };
        let expected = out.len() as u64;
        let truncated = || {
            let found = file.bytes.byte_len().saturating_sub(offset);
            Error::from(ErrorKind::Truncated {
                what: "pages",
                expected,
                found: found.min(expected),
            })
            .in_file(file.path)
        };
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => truncated(),
            _ => Error::from(ErrorKind::Io {
                action: "read",
                source: error,
            })
            .in_file(file.path),
        };
        if out.len() >= SMALL {
            return file.bytes.read_exact_at(out, offset).map_err(failed);
        }
        let held = |ahead: &Option<(PagesRef, u64)>, bytes: &[u8]| {
            let (held, start) = (*ahead)?;
            let skip = usize::try_from(offset.checked_sub(start)?).ok()?;
            (held == pages && skip.checked_add(out.len())? <= bytes.len()).then_some(skip)
        };
        let skip = match held(&self.ahead, &self.bytes) {
            Some(skip) => skip,
            None => {
                self.ahead = None;
                let start = offset.saturating_sub(self.back);
                fill(&mut self.bytes, file.bytes, start).map_err(failed)?;
                self.ahead = Some((pages, start));
                usize::try_from(offset - start).unwrap_or(usize::MAX)
            }
        };
        match self.bytes.get(skip..skip.saturating_add(out.len())) {
            Some(bytes) => out.copy_from_slice(bytes),
            None => return Err(truncated()),
        }
        Ok(())
    }
}

/// Reads as much as there is, up to the length of a window.
fn fill(
    bytes: &mut Vec<u8>,
    file: &Arc<dyn RandomAccess>,
    offset: u64,
) -> Result<(), std::io::Error> {
    let left = file.byte_len().saturating_sub(offset);
    let len = usize::try_from(left).map_or(AHEAD_LEN, |left| left.min(AHEAD_LEN));
    bytes.resize(len, 0);
    file.read_exact_at(bytes, offset)
}

/// Reads shorter than this, in bytes, are served from what was read ahead.
const SMALL: usize = 64 * 1024;

/// Bytes read at once, more than those that reads may go back.
const AHEAD_LEN: usize = 192 * 1024;
