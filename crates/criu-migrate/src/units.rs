//! Times as numbers in reports.

use std::time::Duration;

use serde::Serializer;

/// A time in whole microseconds.
pub(crate) fn microseconds<S: Serializer>(
    time: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(in_microseconds(time))
}

/// The same, or nothing.
pub(crate) fn microseconds_if_known<S: Serializer>(
    time: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => microseconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

pub(crate) fn in_microseconds(time: &Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
