//! `sk-queues.img`: packets that wait in sockets.
//!
//! ```text
//! { sk_packet_entry, `length` bytes }*
//! ```

use super::Plan;
use crate::message::SkPacketEntry;
use crate::wire::{DecodeError, Message};

pub(super) fn plan(entry: &[u8]) -> Result<Plan, DecodeError> {
    Ok(Plan::data(SkPacketEntry::decode(entry)?.length.into()))
}
