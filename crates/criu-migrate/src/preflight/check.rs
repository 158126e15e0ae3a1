//! The things that are compared, by the names people ignore them with.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Something that is compared. On the wire and in `--ignore` it goes by its [`name`](Self::name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "&'static str")]
#[non_exhaustive]
pub enum Check {
    /// The versions of CRIU.
    Criu,
    /// The version of the images.
    ImageVersion,
    /// The machine type.
    Architecture,
    /// The size of a page of memory.
    PageSize,
    /// Namespaces and other features of the kernel that the tree uses, and its release.
    Kernel,
    /// The processor's features, as CRIU compares them.
    Processor,
    /// Session and terminal of the tree.
    Session,
    /// Process ids.
    Pids,
    /// Files and libraries the tree maps, has open or stands in.
    Files,
    /// Mounts: external ones, file systems, mount points below the files.
    Mounts,
    /// Ports, addresses and names that sockets are bound to.
    Sockets,
    /// Control groups.
    Cgroups,
    /// Security modules and their profiles.
    Lsm,
    /// Capabilities of the tasks.
    Credentials,
    /// Room for memory and images.
    Memory,
    /// What a later version compares.
    Other,
}

impl Check {
    /// Every check of this version.
    pub const ALL: [Self; 15] = [
        Self::Criu,
        Self::ImageVersion,
        Self::Architecture,
        Self::PageSize,
        Self::Kernel,
        Self::Processor,
        Self::Session,
        Self::Pids,
        Self::Files,
        Self::Mounts,
        Self::Sockets,
        Self::Cgroups,
        Self::Lsm,
        Self::Credentials,
        Self::Memory,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Criu => "criu",
            Self::ImageVersion => "image-version",
            Self::Architecture => "architecture",
            Self::PageSize => "page-size",
            Self::Kernel => "kernel",
            Self::Processor => "processor",
            Self::Session => "session",
            Self::Pids => "pids",
            Self::Files => "files",
            Self::Mounts => "mounts",
            Self::Sockets => "sockets",
            Self::Cgroups => "cgroups",
            Self::Lsm => "lsm",
            Self::Credentials => "credentials",
            Self::Memory => "memory",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl From<Check> for &'static str {
    fn from(check: Check) -> Self {
        check.name()
    }
}

impl From<String> for Check {
    /// Takes a name from the wire; one this version does not know becomes [`Check::Other`].
    fn from(name: String) -> Self {
        name.parse().unwrap_or(Self::Other)
    }
}

/// A text that is no check's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no check `{name}`; there are {}", Check::ALL.map(Check::name).join(", "))]
pub struct UnknownCheck {
    name: String,
}

impl FromStr for Check {
    type Err = UnknownCheck;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|check| check.name() == name);
        known.ok_or_else(|| UnknownCheck {
            name: name.chars().take(40).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_and_later_ones_are_taken_from_the_wire_only() {
        for check in Check::ALL {
            assert_eq!(check.name().parse(), Ok(check));
            let wire = serde_json::to_string(&check).unwrap();
            assert_eq!(wire, format!("{:?}", check.name()));
            assert_eq!(serde_json::from_str::<Check>(&wire).unwrap(), check);
        }
        assert_eq!(
            serde_json::from_str::<Check>("\"colour\"").unwrap(),
            Check::Other
        );
        let error = "colour".parse::<Check>().unwrap_err().to_string();
        assert!(
            error.contains("`colour`") && error.contains("page-size"),
            "{error}"
        );
        assert!("other".parse::<Check>().is_err());
    }
}
