//! `ipcns-sem-ID.img`: values of System V semaphores.
//!
//! ```text
//! { ipc_sem_entry, `nsems` × u16, zeros up to a multiple of 8 bytes }*
//! ```
//!
//! A multiple of four semaphores needs no padding and has none.

use super::{Plan, Role};
use crate::byte_order::ByteOrder;
use crate::message::IpcSemEntry;
use crate::wire::{DecodeError, Message};

/// Values are padded up to a multiple of this, in bytes.
pub const ALIGNMENT: u64 = 8;

pub(super) fn plan(entry: &[u8]) -> Result<Plan, DecodeError> {
    let count = IpcSemEntry::decode(entry)?.nsems;
    Ok(Plan::padded(
        Role::Semaphores,
        2 * u64::from(count),
        ALIGNMENT,
    ))
}

/// Takes the values off the bytes of a [`Role::Semaphores`] piece.
pub fn decode(bytes: &[u8], order: ByteOrder) -> impl Iterator<Item = u16> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(move |&value| order.u16(value))
}

/// Appends values as a [`Role::Semaphores`] piece holds them, without the padding.
pub fn encode(values: &[u16], order: ByteOrder, out: &mut Vec<u8>) {
    for &value in values {
        out.extend(order.u16_bytes(value));
    }
}
