//! What arrives on a connection, for whoever waits for it.

use crate::message::Message;
use crate::window::SharedBytes;

/// A piece of a channel's stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    Data(SharedBytes),
    Zeros(u64),
    End,
}

/// What arrives in order: messages, and the data of images among them.
#[derive(Debug)]
pub(crate) enum Arrival {
    Message(Message),
    Image(Chunk),
}
