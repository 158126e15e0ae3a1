//! Answers questions about a checkpoint, wherever it lies.

pub mod json;
