//! `bpfmap-data.img`: contents of BPF maps.
//!
//! ```text
//! { bpfmap_data_entry, `keys_bytes` bytes, `values_bytes` bytes }*
//! ```

use super::{Piece, Plan, Role};
use crate::message::BpfmapDataEntry;
use crate::wire::{DecodeError, Message};

pub(super) fn plan(entry: &[u8]) -> Result<Plan, DecodeError> {
    let entry = BpfmapDataEntry::decode(entry)?;
    Ok(Plan::of([
        Some(Piece::bytes(Role::Keys, entry.keys_bytes.into())),
        Some(Piece::bytes(Role::Values, entry.values_bytes.into())),
    ]))
}
