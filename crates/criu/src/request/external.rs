//! Resources outside the dumped tree that CRIU is told to leave alone and reconnect.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A device number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// Its major part.
    pub major: u32,
    /// Its minor part.
    pub minor: u32,
}

/// Which mounts [`External::AutoMounts`] covers beside ordinary bind mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AutoMounts {
    /// Also mounts that are slaves of a mount outside (`m`).
    pub masters: bool,
    /// Also mounts shared with the outside (`s`).
    pub shared: bool,
}

/// One value of CRIU's `--external`.
///
/// The same resource is named once on dump, where it is recognised by what the kernel knows of it, and
/// once on restore, where the name given on dump is tied to something that exists there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum External {
    /// Dump: the mount at `mountpoint` (inside the tree's root) becomes `key` (`mnt[MOUNTPOINT]:KEY`).
    Mount {
        /// Where it is mounted.
        mountpoint: PathBuf,
        /// Name to find it by on restore.
        key: String,
    },
    /// Restore: what was dumped as `key` is bind-mounted from `source` (`mnt[KEY]:SOURCE`).
    MountSource {
        /// Name given on dump.
        key: String,
        /// Path on the restoring host.
        source: PathBuf,
    },
    /// Both: every mount that comes from outside is found by CRIU itself (`mnt[]:FLAGS`).
    AutoMounts(AutoMounts),
    /// Dump: a block device mounted inside (`dev[MAJOR/MINOR]:KEY`).
    Device {
        /// The device.
        device: DeviceNumber,
        /// Name to find it by on restore.
        key: String,
    },
    /// Restore: the device dumped as `key` is `path` here (`dev[KEY]:PATH`).
    DeviceNode {
        /// Name given on dump.
        key: String,
        /// Device node on the restoring host.
        path: PathBuf,
    },
    /// Dump: an open file, by mount id and inode (`file[MNT_ID:INODE]`, hexadecimal).
    File {
        /// Mount the file was opened on.
        mount_id: u32,
        /// Its inode number.
        inode: u64,
    },
    /// Dump: a terminal, by the numbers of its device and of the file system its node is on
    /// (`tty[RDEV:DEV]`, hexadecimal).
    Tty {
        /// `st_rdev` of the terminal.
        rdev: u64,
        /// `st_dev` of its node.
        dev: u64,
    },
    /// Dump: a UNIX socket whose other end is outside (`unix[INODE]`).
    UnixSocket {
        /// Socket inode number.
        inode: u32,
    },
    /// Dump: a network namespace to join instead of create on restore (`net[INODE]:KEY`).
    NetworkNamespace {
        /// Inode of the namespace file.
        inode: u64,
        /// Key of the inherited descriptor on restore.
        key: String,
    },
    /// Dump: a pid namespace to join instead of create on restore (`pid[INODE]:KEY`).
    PidNamespace {
        /// Inode of the namespace file.
        inode: u64,
        /// Key of the inherited descriptor on restore.
        key: String,
    },
    /// Restore: the veth device `inner` of the tree gets the peer `outer` on this host, in `bridge` if
    /// given (`veth[INNER]:OUTER@BRIDGE`).
    Veth {
        /// Device name in the tree's network namespace.
        inner: String,
        /// Name of the peer on this host.
        outer: String,
        /// Bridge of this host that the peer joins.
        bridge: Option<String>,
    },
    /// Restore: the macvlan device `inner` is made on the host's `outer` (`macvlan[INNER]:OUTER`).
    Macvlan {
        /// Device name in the tree's network namespace.
        inner: String,
        /// Device of this host.
        outer: String,
    },
    /// A value this crate has no name for, passed as it is.
    Other(String),
}

impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { mountpoint, key } => write!(f, "mnt[{}]:{key}", mountpoint.display()),
            Self::MountSource { key, source } => write!(f, "mnt[{key}]:{}", source.display()),
            Self::AutoMounts(AutoMounts { masters, shared }) => {
                f.write_str("mnt[]")?;
                if *masters || *shared {
                    f.write_str(":")?;
                }
                f.write_str(if *masters { "m" } else { "" })?;
                f.write_str(if *shared { "s" } else { "" })
            }
            Self::Device { device, key } => {
                write!(f, "dev[{}/{}]:{key}", device.major, device.minor)
            }
            Self::DeviceNode { key, path } => write!(f, "dev[{key}]:{}", path.display()),
            Self::File { mount_id, inode } => write!(f, "file[{mount_id:x}:{inode:x}]"),
            Self::Tty { rdev, dev } => write!(f, "tty[{rdev:x}:{dev:x}]"),
            Self::UnixSocket { inode } => write!(f, "unix[{inode}]"),
            Self::NetworkNamespace { inode, key } => write!(f, "net[{inode}]:{key}"),
            Self::PidNamespace { inode, key } => write!(f, "pid[{inode}]:{key}"),
            Self::Veth {
                inner,
                outer,
                bridge: None,
            } => write!(f, "veth[{inner}]:{outer}"),
            Self::Veth {
                inner,
                outer,
                bridge: Some(bridge),
            } => {
                write!(f, "veth[{inner}]:{outer}@{bridge}")
            }
            Self::Macvlan { inner, outer } => write!(f, "macvlan[{inner}]:{outer}"),
            Self::Other(value) => f.write_str(value),
        }
    }
}

/// Why a text cannot be a value of `--external`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not of the form TYPE[ID] or TYPE[ID]:NAME, as `--external` needs")]
pub struct ParseExternalError {
    text: String,
}

impl FromStr for External {
    type Err = ParseExternalError;

    /// Accepts whatever has the form of an `--external` value.
    ///
    /// Whether `mnt[a]:b` is meant for dump or restore cannot be told from the text, so it becomes
    /// [`External::Other`], which passes it on unchanged; only unambiguous forms get their own variant.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseExternalError {
            text: text.to_owned(),
        };
        let (kind, rest) = text.split_once('[').ok_or_else(error)?;
        let (id, name) = rest.rsplit_once(']').ok_or_else(error)?;
        let name = match name.strip_prefix(':') {
            Some(name) => Some(name),
            None if name.is_empty() => None,
            None => return Err(error()),
        };
        if kind.is_empty() {
            return Err(error());
        }
        let other = || Self::Other(text.to_owned());
        Ok(match (kind, id, name) {
            ("mnt", "", flags) if flags.is_none_or(|f| f.chars().all(|c| "ms".contains(c))) => {
                let flags = flags.unwrap_or_default();
                Self::AutoMounts(AutoMounts {
                    masters: flags.contains('m'),
                    shared: flags.contains('s'),
                })
            }
            ("unix", inode, None) => inode
                .parse()
                .map_or_else(|_| other(), |inode| Self::UnixSocket { inode }),
            ("net", inode, Some(key)) => inode.parse().map_or_else(
                |_| other(),
                |inode| Self::NetworkNamespace {
                    inode,
                    key: key.to_owned(),
                },
            ),
            ("pid", inode, Some(key)) => inode.parse().map_or_else(
                |_| other(),
                |inode| Self::PidNamespace {
                    inode,
                    key: key.to_owned(),
                },
            ),
            _ => other(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_criu_reads_them() {
        let key = || "key".to_owned();
        let cases = [
            (
                External::Mount {
                    mountpoint: "/etc/hosts".into(),
                    key: key(),
                },
                "mnt[/etc/hosts]:key",
            ),
            (
                External::MountSource {
                    key: key(),
                    source: "/h".into(),
                },
                "mnt[key]:/h",
            ),
            (External::AutoMounts(AutoMounts::default()), "mnt[]"),
            (
                External::AutoMounts(AutoMounts {
                    masters: true,
                    shared: true,
                }),
                "mnt[]:ms",
            ),
            (
                External::Device {
                    device: DeviceNumber { major: 8, minor: 1 },
                    key: key(),
                },
                "dev[8/1]:key",
            ),
            (
                External::DeviceNode {
                    key: key(),
                    path: "/dev/sda1".into(),
                },
                "dev[key]:/dev/sda1",
            ),
            (
                External::File {
                    mount_id: 0x2b,
                    inode: 0x1f,
                },
                "file[2b:1f]",
            ),
            (
                External::Tty {
                    rdev: 0x8801,
                    dev: 0x1a,
                },
                "tty[8801:1a]",
            ),
            (External::UnixSocket { inode: 77 }, "unix[77]"),
            (
                External::NetworkNamespace {
                    inode: 4026531840,
                    key: key(),
                },
                "net[4026531840]:key",
            ),
            (
                External::PidNamespace {
                    inode: 4026531836,
                    key: key(),
                },
                "pid[4026531836]:key",
            ),
            (
                External::Veth {
                    inner: "eth0".into(),
                    outer: "v1".into(),
                    bridge: None,
                },
                "veth[eth0]:v1",
            ),
            (
                External::Veth {
                    inner: "eth0".into(),
                    outer: "v1".into(),
                    bridge: Some("br0".into()),
                },
                "veth[eth0]:v1@br0",
            ),
            (
                External::Macvlan {
                    inner: "eth0".into(),
                    outer: "ens1".into(),
                },
                "macvlan[eth0]:ens1",
            ),
        ];
        for (external, text) in cases {
            assert_eq!(external.to_string(), text);
            assert_eq!(text.parse::<External>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn text_of_another_form_is_refused() {
        for text in ["", "mnt", "mnt[", "mnt]", "[x]", "mnt[x]y"] {
            assert!(text.parse::<External>().is_err(), "{text:?}");
        }
    }
}
