//! `ipcns-msg-ID.img`: System V message queues.
//!
//! ```text
//! { ipc_msg_entry, `qnum` × message }*
//! message := u32 size, ipc_msg, `msize` bytes, zeros up to a multiple of 8 bytes
//! ```
//!
//! Messages whose size is a multiple of 8 have no padding.

use super::Plan;
use crate::message::{IpcMsg, IpcMsgEntry};
use crate::wire::{DecodeError, Message};

/// A message's bytes are padded up to a multiple of this, in bytes.
pub const ALIGNMENT: u64 = 8;

/// Largest message header that is read, in bytes: two numbers and room for what may be added.
///
/// CRIU itself reads it into a buffer of fixed size.
pub const HEADER_LIMIT: u64 = 1 << 16;

pub(super) fn plan(entry: &[u8]) -> Result<Plan, DecodeError> {
    Ok(Plan {
        messages: IpcMsgEntry::decode(entry)?.qnum,
        ..Plan::default()
    })
}

/// Takes the length of a message's data off its header, in bytes.
pub(crate) fn data_len(header: &[u8]) -> Result<u64, DecodeError> {
    Ok(IpcMsg::decode(header)?.msize.into())
}
