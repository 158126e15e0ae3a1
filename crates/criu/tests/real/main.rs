//! The crate against real CRIUs, 4.2.1 and 4.3: each scenario with both.
#![expect(
    clippy::unwrap_used,
    reason = "a test has no better answer than to stop"
)]

#[cfg(feature = "tokio")]
mod asynchronous;
mod basic;
mod descriptors;
mod diagnosed;
mod files;
mod hooks;
mod namespaces;
mod pages;
mod questions;
mod reach;
mod rig;
mod self_dump;
mod terminal;
