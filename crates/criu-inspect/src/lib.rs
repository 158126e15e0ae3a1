//! Answers questions about a checkpoint, wherever it lies.

pub mod explore;
pub mod json;
mod monitor;
#[cfg(unix)]
pub mod rewrite;

pub use self::monitor::Monitor;
