//! `criuctl migrate` between processes: what goes right, and everything that can be made to go wrong.

#![expect(
    clippy::unwrap_used,
    reason = "a test has no better answer than to fail"
)]

mod containers;
mod faults;
mod hosts;
mod link;
mod preflight;
#[cfg(feature = "tls")]
mod protected;
mod sides;
mod sync;
mod travel;
