//! Images made byte by byte, from CRIU's layout and the schema alone.
//!
//! Nothing here uses `criu-image`: a mistake there cannot hide behind the same mistake here.

mod image;
mod kinds;
mod pagemap;
mod protobuf;
mod sample;
mod schema;

pub use image::{Image, Order};
pub use kinds::{First, KINDS, Kind};
pub use pagemap::Pagemap;
pub use protobuf::Proto;
pub use sample::{Sample, samples};
pub use schema::{Fill, filled, message_names};
