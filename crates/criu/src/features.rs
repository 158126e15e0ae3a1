//! Optional features of CRIU and the kernel it runs on.

use std::collections::BTreeSet;
use std::fmt;

use crate::rpc::CriuFeatures;

/// A feature that not every CRIU or kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Feature {
    /// Memory changes can be tracked, which pre-dumps need (`mem_dirty_track`).
    #[doc(alias = "mem_track")]
    MemoryTracking,
    /// Memory can be fetched after the restore (`uffd-noncoop`).
    #[doc(alias = "lazy_pages")]
    LazyPages,
    /// Process handles can be kept over a series of pre-dumps (`pidfd_store`).
    PidfdStore,
    /// Pages can be compressed (since CRIU 4.3, in builds with LZ4).
    #[doc(alias = "mem_compression")]
    MemoryCompression,
}

impl Feature {
    /// Every feature CRIU 4.3 can be asked for.
    pub const ALL: [Self; 4] = [
        Self::MemoryTracking,
        Self::LazyPages,
        Self::PidfdStore,
        Self::MemoryCompression,
    ];

    /// Returns CRIU's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MemoryTracking => "mem_track",
            Self::LazyPages => "lazy_pages",
            Self::PidfdStore => "pidfd_store",
            Self::MemoryCompression => "mem_compression",
        }
    }

    /// Says what it takes to have it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::MemoryTracking => {
                "needs a kernel built with CONFIG_MEM_SOFT_DIRTY, on a processor whose pages can carry the mark"
            }
            Self::LazyPages => {
                "needs a kernel built with CONFIG_USERFAULTFD, and root or vm.unprivileged_userfaultfd=1"
            }
            Self::PidfdStore => "needs a kernel with pidfd_open and pidfd_getfd (5.6 and later)",
            Self::MemoryCompression => "needs CRIU 4.3 or later, built with LZ4",
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of features.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Features(BTreeSet<Feature>);

impl Features {
    /// Tells whether a feature is there.
    pub fn contains(&self, feature: Feature) -> bool {
        self.0.contains(&feature)
    }

    /// Goes through the features that are there.
    pub fn iter(&self) -> impl Iterator<Item = Feature> + '_ {
        self.0.iter().copied()
    }

    /// Asks for every feature: CRIU answers only what it was asked for.
    pub(crate) fn question() -> CriuFeatures {
        CriuFeatures {
            mem_track: Some(true),
            lazy_pages: Some(true),
            pidfd_store: Some(true),
            mem_compression: Some(true),
            ..CriuFeatures::default()
        }
    }

    /// Reads CRIU's answer; a feature it does not mention is one it does not have.
    pub(crate) fn from_answer(answer: &CriuFeatures) -> Self {
        let found = [
            (Feature::MemoryTracking, answer.mem_track),
            (Feature::LazyPages, answer.lazy_pages),
            (Feature::PidfdStore, answer.pidfd_store),
            (Feature::MemoryCompression, answer.mem_compression),
        ];
        found
            .into_iter()
            .filter(|(_, there)| *there == Some(true))
            .map(|(feature, _)| feature)
            .collect()
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        Self(features.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_answer_affirms_is_there() {
        let answer = CriuFeatures {
            mem_track: Some(false),
            lazy_pages: Some(true),
            ..CriuFeatures::default()
        };
        let features = Features::from_answer(&answer);
        assert_eq!(features.iter().collect::<Vec<_>>(), [Feature::LazyPages]);
        assert!(!features.contains(Feature::PidfdStore));
    }
}
