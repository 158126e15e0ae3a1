//! `pipes-data.img`, `fifo-data.img`: what waits in pipes.
//!
//! ```text
//! { pipe_data_entry, `bytes` bytes }*
//! ```
//!
//! `size` is the capacity of the pipe, not the length of the data.

use super::Plan;
use crate::message::PipeDataEntry;
use crate::wire::{DecodeError, Message};

pub(super) fn plan(entry: &[u8]) -> Result<Plan, DecodeError> {
    Ok(Plan::data(PipeDataEntry::decode(entry)?.bytes.into()))
}
