//! What all fuzz targets share: the engine behind them, and the allocator that watches them.
//!
//! A target is one line, [`target!`] with a function of a library crate: what is tried lives there,
//! beside what it tries. Two engines can drive it with the same arguments. The one is libFuzzer
//! (feature `libfuzzer`), which is guided by coverage and needs a C++ compiler; any Rust toolchain
//! does, as instrumenting is a matter of stable flags. The other is [`blind`], which needs nothing.
//! `cargo xtask fuzz` picks one and says which.

pub mod blind;
pub mod memory;
pub mod seeds;

#[doc(hidden)]
#[cfg(feature = "libfuzzer")]
pub use libfuzzer_sys;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Makes a fuzz target of its name and a function of bytes.
#[cfg(feature = "libfuzzer")]
#[macro_export]
macro_rules! target {
    ($name:literal, $body:path) => {
        $crate::libfuzzer_sys::fuzz_target!(
            init: $crate::seeds::plant($name),
            |bytes: &[u8]| $crate::memory::watch($body, bytes)
        );
    };
}

/// Makes a fuzz target of its name and a function of bytes.
#[cfg(not(feature = "libfuzzer"))]
#[macro_export]
macro_rules! target {
    ($name:literal, $body:path) => {
        fn main() -> std::process::ExitCode {
            $crate::seeds::plant($name);
            $crate::blind::main($body)
        }
    };
}
