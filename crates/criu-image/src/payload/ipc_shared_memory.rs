//! `ipcns-shm-ID.img`: System V shared memory.
//!
//! ```text
//! { ipc_shm_entry, [ `size` bytes, zeros up to a multiple of 4 bytes ] }*
//! ```
//!
//! The content is here only in old images. Since segments are dumped like other shared memory,
//! `in_pagemaps` is true, nothing follows, and the content is in `pagemap-shmem-ID.img` with the
//! segment's `desc.id`.

use super::{Plan, Role};
use crate::message::IpcShmEntry;
use crate::wire::{DecodeError, Message};

/// The content is padded up to a multiple of this, in bytes.
pub const ALIGNMENT: u64 = 4;

pub(super) fn plan(entry: &[u8]) -> Result<Plan, DecodeError> {
    let entry = IpcShmEntry::decode(entry)?;
    if entry.in_pagemaps == Some(true) {
        return Ok(Plan::default());
    }
    Ok(Plan::padded(Role::Data, entry.size, ALIGNMENT))
}
