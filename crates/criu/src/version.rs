//! CRIU's version: ordered, parsed from and printed as CRIU writes it.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use crate::rpc;

/// The version of a CRIU program.
///
/// Versions are ordered by release. A build from git between two releases (one that names a commit)
/// sorts after the release it is based on and before the next one, because it may hold features of
/// the coming release without being it.
///
/// ```
/// use criu::Version;
///
/// let version: Version = "4.2.1".parse()?;
/// assert!(version > Version::new(4, 2, 0));
/// assert_eq!(version.as_integer(), 40201);
/// assert_eq!(version.to_string(), "4.2.1");
/// # Ok::<(), criu::ParseVersionError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Version {
    /// First number of the release.
    pub major: u32,
    /// Second number of the release.
    pub minor: u32,
    /// Third number of the release; 0 when the release has none.
    pub sublevel: u32,
    /// Commit the program was built from, when it was built from git (for example `v4.2-22-g2cf8f13ca`).
    pub git_id: Option<String>,
    /// Suffix a packager added, if any.
    pub extra: Option<String>,
    /// Code name of the release, if CRIU reports one.
    pub name: Option<String>,
}

impl Version {
    /// Names a release.
    pub const fn new(major: u32, minor: u32, sublevel: u32) -> Self {
        Self {
            major,
            minor,
            sublevel,
            git_id: None,
            extra: None,
            name: None,
        }
    }

    /// Returns the integer form that go-criu, libcriu and their users compare:
    /// `major * 10000 + minor * 100 + sublevel`.
    ///
    /// A git build counts as the next minor release: the sublevel is dropped and 100 added
    /// (4.2 from git is 40300).
    pub const fn as_integer(&self) -> u32 {
        let release = self
            .major
            .saturating_mul(10_000)
            .saturating_add(self.minor.saturating_mul(100))
            .saturating_add(self.sublevel);
        if self.git_id.is_some() {
            (release - release % 100).saturating_add(100)
        } else {
            release
        }
    }

    /// Tells whether this CRIU has what came with the release `needed`.
    ///
    /// Follows the git rule of [`Version::as_integer`]: a git build is taken to have what the next
    /// minor release has.
    pub fn satisfies(&self, needed: &Version) -> bool {
        self.as_integer() >= needed.as_integer()
    }

    pub(crate) fn from_rpc(version: &rpc::CriuVersion) -> Self {
        let number = |value: i32| u32::try_from(value).unwrap_or(0);
        let text = |value: &Option<bstr::BString>| value.as_ref().map(ToString::to_string);
        Self {
            major: number(version.major_number),
            minor: number(version.minor_number),
            sublevel: version.sublevel.map_or(0, number),
            git_id: text(&version.gitid).filter(|id| !id.is_empty() && id != "0"),
            extra: version.extra.map(|extra| extra.to_string()),
            name: text(&version.name).filter(|name| !name.is_empty()),
        }
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let release = |version: &Self| (version.major, version.minor, version.sublevel);
        release(self)
            .cmp(&release(other))
            .then_with(|| self.git_id.is_some().cmp(&other.git_id.is_some()))
            .then_with(|| self.git_id.cmp(&other.git_id))
            .then_with(|| self.extra.cmp(&other.extra))
            .then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.sublevel != 0 {
            write!(f, ".{}", self.sublevel)?;
        }
        if let Some(extra) = &self.extra {
            write!(f, ".{extra}")?;
        }
        if let Some(git_id) = &self.git_id {
            write!(f, " (gitid {git_id})")?;
        }
        Ok(())
    }
}

/// Why a text is not a CRIU version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a CRIU version such as 4.2.1")]
pub struct ParseVersionError {
    text: String,
}

impl FromStr for Version {
    type Err = ParseVersionError;

    /// Reads `4.2`, `4.2.1`, `v4.2`, `4.2 (gitid v4.2-22-g2cf8f13ca)`, and the first lines of
    /// `criu --version` and of a CRIU log (`Version: 4.2 (gitid ...)`, followed by `GitID: ...`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseVersionError {
            text: text.chars().take(80).collect(),
        };
        let body = text.trim();
        let body = body.strip_prefix("Version:").unwrap_or(body).trim_start();
        let body = body.strip_prefix('v').unwrap_or(body);
        let (numbers, rest) = body.split_at(body.find(char::is_whitespace).unwrap_or(body.len()));

        let mut parts = numbers.splitn(4, '.');
        let mut number = |required: bool| match parts.next() {
            Some(part) => part.parse::<u32>().map_err(|_| error()),
            None if required => Err(error()),
            None => Ok(0),
        };
        let mut version = Self::new(number(true)?, number(true)?, number(false)?);
        version.extra = parts
            .next()
            .filter(|extra| !extra.is_empty())
            .map(str::to_owned);
        version.git_id = rest
            .split_once("gitid ")
            .or_else(|| rest.split_once("GitID:"))
            .and_then(|(_, id)| {
                id.split(|c: char| c.is_whitespace() || c == ')')
                    .find(|id| !id.is_empty())
            })
            .filter(|id| *id != "0")
            .map(str::to_owned);
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Version {
        text.parse().expect(text)
    }

    #[test]
    fn parse_reads_what_criu_prints() {
        assert_eq!(parse("4.2"), Version::new(4, 2, 0));
        assert_eq!(parse("Version: 4.2.1\n"), Version::new(4, 2, 1));
        assert_eq!(parse("v3.17.1"), Version::new(3, 17, 1));
        let git = parse("Version: 4.2\nGitID: v4.2-22-g2cf8f13ca\n");
        assert_eq!(git.git_id.as_deref(), Some("v4.2-22-g2cf8f13ca"));
        assert_eq!(parse("4.2 (gitid v4.2-22-g2cf8f13ca)"), git);
        assert_eq!(parse("4.2 (gitid 0)"), Version::new(4, 2, 0));
    }

    #[test]
    fn parse_refuses_what_is_no_version() {
        for text in [
            "",
            "4",
            "4.",
            "4.x",
            "four.two",
            "4.2.",
            "-1.2",
            "99999999999.1",
        ] {
            assert!(text.parse::<Version>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn printed_versions_parse_back() {
        for text in [
            "4.2",
            "4.2.1",
            "4.2.1.rc1",
            "4.2 (gitid v4.2-22-g2cf8f13ca)",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn the_integer_form_follows_the_git_rule() {
        assert_eq!(parse("4.2").as_integer(), 40200);
        assert_eq!(parse("4.2.1").as_integer(), 40201);
        assert_eq!(parse("4.2.1 (gitid abc)").as_integer(), 40300);
        assert_eq!(Version::new(u32::MAX, 1, 1).as_integer(), u32::MAX);
    }

    #[test]
    fn order_is_by_release_and_git_builds_come_after_theirs() {
        let sorted = ["3.17.1", "4.2", "4.2 (gitid abc)", "4.2.1", "4.10"].map(parse);
        assert!(sorted.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(parse("4.2 (gitid abc)").satisfies(&Version::new(4, 3, 0)));
        assert!(!parse("4.2.1").satisfies(&Version::new(4, 3, 0)));
    }
}
