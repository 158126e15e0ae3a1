//! Answers questions about a checkpoint, wherever it lies.

pub mod explore;
#[doc(hidden)] // for the fuzz targets and our own tests
pub mod fuzz;
pub mod json;
pub mod memory;
mod monitor;
#[cfg(unix)]
pub mod rewrite;
pub mod search;
mod sparse;
pub mod verify;

pub use self::monitor::Monitor;
pub use self::sparse::SparseWriter;
