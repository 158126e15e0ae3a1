//! What an image is, and how many entries it has.

use std::fmt;
use std::io::Read;

use criu_image::kind::Entries;
use criu_image::{ImageKind, ImageReader};

use super::error::DecodeError;

/// What an image is, and how many entries it has. Printed, it is the JSON of `crit info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// The kind of image.
    pub kind: ImageKind,
    /// How many entries it has. The head of a page map is not counted, that of a file in chunks
    /// is, as by Python's tool.
    pub count: u64,
}

/// Counts the entries of an image, passing over what follows them.
///
/// # Errors
///
/// Fails when the image cannot be read or is of a kind without entries.
pub fn info<R: Read>(image: &mut ImageReader<R>) -> Result<Info, DecodeError> {
    let kind = image.kind();
    if kind.entry(0).is_none() {
        return Err(DecodeError::NoEntries { kind });
    }
    let mut count = 0u64;
    while image.next_entry()?.is_some() {
        count += 1;
    }
    let has_head = matches!(kind.entries(), Entries::Headed { .. });
    if has_head && kind.payload() == criu_image::payload::PayloadKind::None {
        count = count.saturating_sub(1);
    }
    Ok(Info { kind, count })
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.kind.crit_name().unwrap_or(self.kind.name());
        write!(
            f,
            "{{\n    \"magic\": \"{name}\",\n    \"count\": {}\n}}",
            self.count
        )
    }
}
