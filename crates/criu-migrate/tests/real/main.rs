//! Migrations with the real CRIU, both sides in this process or in processes of their own.
#![expect(
    clippy::unwrap_used,
    reason = "a test has no better answer than to stop"
)]

mod hostile;
mod hostile_files;
mod journey;
mod post_copy;
mod pre_copy;
mod stop_and_copy;
