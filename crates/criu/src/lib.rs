//! Placeholder.
pub mod diagnose;
pub mod log;
