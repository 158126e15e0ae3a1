//! Writes memory to a file.

use std::io;
use std::ops::Range;

use criu_image::memory::AddressSpace;

use super::Residence;
use crate::{Monitor, SparseWriter};

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extracted {
    /// Bytes written, those included for which zeros stand.
    pub byte_len: u64,
    /// Where the bytes came from, and for how many there are none.
    pub residence: Residence,
    /// Bytes of the ranges that are not mapped.
    pub unmapped: u64,
}

/// Why memory was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExtractError {
    /// An image is damaged or cannot be read.
    #[error(transparent)]
    Image(#[from] criu_image::Error),
    /// The file cannot be written.
    #[error("cannot write")]
    Write(#[from] io::Error),
    /// The monitor stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// Writes the bytes of ranges one after the other. Zeros stand for bytes that are not known.
///
/// # Errors
///
/// Fails when a pages file is damaged or cannot be read, the file cannot be written, or the
/// monitor stops it.
pub fn extract(
    space: &AddressSpace,
    ranges: &[Range<u64>],
    output: &mut SparseWriter<'_>,
    monitor: &dyn Monitor,
) -> Result<Extracted, ExtractError> {
    let mut extracted = Extracted::default();
    let mut reader = space.reader();
    let mut buffer = vec![0; BUFFER_LEN];
    for range in ranges {
        let mut at = range.start;
        for span in space.spans(range.clone()) {
            let gap = span.start - at;
            output.zeros(gap)?;
            extracted.unmapped += gap;
            extracted
                .residence
                .add(space, span.content, span.byte_len());
            at = span.start;
            while at < span.end {
                if monitor.is_stopped() {
                    return Err(ExtractError::Interrupted);
                }
                let left = span.end - at;
                let count = match span.content.is_known() {
                    // Zeros that were never written are no reason to read.
                    true if !matches!(span.content, criu_image::memory::Content::Zero) => {
                        let len =
                            usize::try_from(left).map_or(BUFFER_LEN, |len| len.min(BUFFER_LEN));
                        let count = reader.read_at(at, &mut buffer[..len])?;
                        output.write(&buffer[..count])?;
                        count as u64
                    }
                    _ => 0,
                };
                if count == 0 {
                    output.zeros(left)?;
                    monitor.advance(left);
                    at = span.end;
                } else {
                    monitor.advance(count);
                    at += count;
                }
            }
        }
        let gap = range.end.saturating_sub(at);
        output.zeros(gap)?;
        extracted.unmapped += gap;
    }
    extracted.byte_len = output.position();
    Ok(extracted)
}

/// Bytes copied at once.
const BUFFER_LEN: usize = 256 * 1024;
