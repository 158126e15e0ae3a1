//! Reads and writes every CRIU checkpoint image, losslessly, from any `Read` and to any `Write`.
//!
//! ```
//! use criu_image::message::PipeDataEntry;
//! use criu_image::{ByteOrder, Header, ImageKind, ImageReader, ImageWriter};
//!
//! # fn main() -> criu_image::Result<()> {
//! let header = Header::new(ImageKind::PipesData);
//! let mut writer = ImageWriter::new(Vec::new(), header, ByteOrder::Little)?;
//! writer.message(&PipeDataEntry { pipe_id: 7, bytes: 5, ..Default::default() })?;
//! writer.data(b"hello")?;
//! let image = writer.finish()?;
//!
//! let mut reader = ImageReader::new(&image[..])?;
//! while let Some(mut entry) = reader.next_entry()? {
//!     let pipe: PipeDataEntry = entry.decode()?;
//!     assert_eq!(pipe.pipe_id, 7);
//!     while let Some(mut part) = entry.payload.next_part()? {
//!         assert_eq!(part.to_vec()?, b"hello");
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! * [`ImageReader`] and [`ImageWriter`] stream images entry by entry in bounded memory;
//!   [`payload`] describes what follows entries. Bytes that are not edited come back as they were.
//! * [`kind`] is the one table of all image kinds, [`ImageKind`].
//! * [`message`] has a struct for every message, [`schema`] the tables that describe them, and
//!   [`wire`] the protobuf encoding. [`Entry`] is a message with the bytes it was read from.
//! * [`Checkpoint`] is a directory of images (or another [`Source`](checkpoint::Source)) as a typed
//!   whole; [`stats`] says what making it took.
//! * [`memory`] shows a task's memory as an address space, over the whole chain of parents.
//!
//! # What it does not do
//!
//! It does not run CRIU, print, know JSON, or take anything from the machine it runs on: byte
//! order, page size and architecture are those of the images, told or given.
//!
//! # Hostile images
//!
//! Images may come from anywhere. No size in them is trusted: memory is taken only for bytes that
//! are there, nesting is limited, links that go round are refused, and damage is an [`Error`] that
//! names file, entry and byte, never a panic.

mod byte_order;
pub mod checkpoint;
mod entry;
mod error;
#[doc(hidden)] // for the fuzz targets and our own tests
pub mod fuzz;
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
