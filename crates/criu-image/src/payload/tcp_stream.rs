//! `tcp-stream-ID.img`: the queues of a TCP connection.
//!
//! ```text
//! tcp_stream_entry, `inq_len` bytes, `outq_len` bytes
//! ```
//!
//! The `unsq_len` bytes that were never sent are the tail of the second queue.

use super::{Piece, Plan, Role};
use crate::message::TcpStreamEntry;
use crate::wire::{DecodeError, Message};

pub(super) fn plan(entry: &[u8]) -> Result<Plan, DecodeError> {
    let entry = TcpStreamEntry::decode(entry)?;
    Ok(Plan::of([
        Some(Piece::bytes(Role::Inbound, entry.inq_len.into())),
        Some(Piece::bytes(Role::Outbound, entry.outq_len.into())),
    ]))
}
