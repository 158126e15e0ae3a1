//! Reads and writes every CRIU checkpoint image, losslessly, from any `Read` and to any `Write`.

mod byte_order;
pub mod checkpoint;
mod entry;
mod error;
pub mod kind;
pub mod memory;
pub mod message;
pub mod payload;
mod reader;
mod record;
pub mod schema;
pub mod stats;
mod stream;
pub mod wire;
mod writer;

pub use self::byte_order::ByteOrder;
pub use self::checkpoint::Checkpoint;
pub use self::entry::Entry;
pub use self::error::{Error, ErrorKind, Place, Result};
pub use self::kind::ImageKind;
pub use self::reader::{ImageReader, Part, Payload, RawEntry, ReadOptions};
pub use self::record::{ENTRY_LIMIT, Header};
pub use self::writer::ImageWriter;
