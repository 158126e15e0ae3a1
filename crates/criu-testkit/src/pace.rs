//! How fast the machine is that tests run on.

use std::time::Duration;

/// How many times slower than usual this machine is; `cargo xtask` says so for its guest.
#[must_use]
pub fn slowness() -> u32 {
    std::env::var("CRIU_TEST_SLOWNESS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
}

/// How long anything may take that takes no time.
pub(crate) fn patience() -> Duration {
    Duration::from_secs(20) * slowness()
}
