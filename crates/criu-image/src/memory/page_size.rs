//! How large a page is on the machine that was dumped.

use crate::message::CoreEntryMarch;

/// Bytes in a page.
///
/// Images do not say it; see [`MemoryOptions`](super::MemoryOptions) for how it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageSize(u32);

impl PageSize {
    /// 4 KiB, which x86-64 has, and most machines of most other architectures.
    pub const DEFAULT: Self = Self(4096);

    /// Takes a size in bytes: a power of two from 4 KiB to 64 KiB, as Linux has them.
    #[must_use]
    pub fn new(bytes: u64) -> Option<Self> {
        let bytes = u32::try_from(bytes).ok()?;
        (bytes.is_power_of_two() && (4096..=65536).contains(&bytes)).then_some(Self(bytes))
    }

    /// The size that kernels of an architecture are usually built with.
    #[must_use]
    pub fn usual_on(architecture: CoreEntryMarch) -> Self {
        match architecture {
            CoreEntryMarch::Ppc64 => Self(65536),
            CoreEntryMarch::Mips | CoreEntryMarch::Loongarch64 => Self(16384),
            _ => Self::DEFAULT,
        }
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0.into()
    }
}
