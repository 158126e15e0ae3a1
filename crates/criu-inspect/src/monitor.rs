//! Who watches long work, and may stop it.

/// Watches work that takes long. `()` does not care.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// #[derive(Default)]
/// struct Counter(AtomicU64);
///
/// impl criu_inspect::Monitor for Counter {
///     fn advance(&self, bytes: u64) {
///         self.0.fetch_add(bytes, Ordering::Relaxed);
///     }
/// }
/// ```
pub trait Monitor: Sync {
    /// That much work is ahead, in bytes. May be called several times; what is ahead adds up.
    fn expect(&self, bytes: u64) {
        let _ = bytes;
    }

    /// That much of it is done, in bytes.
    fn advance(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Returns whether the work shall stop and be undone.
    fn is_stopped(&self) -> bool {
        false
    }
}

impl Monitor for () {}
