//! `ghost-file-ID.img`: contents of unlinked files.
//!
//! ```text
//! chunks true : ghost_file_entry, { ghost_chunk_entry, `len` bytes }*
//! else        : ghost_file_entry, the whole content up to the end of the file
//! ```
//!
//! Only regular files have content. A chunk lies at `off`; between chunks the file has holes.

use super::Plan;
use crate::message::{GhostChunkEntry, GhostFileEntry};
use crate::wire::{DecodeError, Message};

pub(super) fn plan_head(entry: &[u8]) -> Result<Plan, DecodeError> {
    if GhostFileEntry::decode(entry)?.chunks == Some(true) {
        return Ok(Plan::default());
    }
    Ok(Plan::body())
}

pub(super) fn plan_chunk(entry: &[u8]) -> Result<Plan, DecodeError> {
    Ok(Plan::data(GhostChunkEntry::decode(entry)?.len))
}
