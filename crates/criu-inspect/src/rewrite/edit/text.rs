//! Changes as users write them: `KEY=VALUE`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use bstr::{BString, ByteSlice};

use super::{Edit, End, Sockets, Task};

type Result<T, E = InvalidEdit> = std::result::Result<T, E>;

/// Text that cannot be taken for an [`Edit`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEdit {
    /// There is nothing of that name.
    #[error("unknown key {key:?}")]
    UnknownKey {
        /// The key.
        key: BString,
    },
    /// It is not `KEY=VALUE`.
    #[error("{text:?} is not KEY=VALUE")]
    NotAssignment {
        /// The text.
        text: BString,
    },
    /// The value, or what is to be replaced, cannot be one.
    #[error("{value:?} {problem}")]
    Value {
        /// The value.
        value: BString,
        /// Why it cannot be.
        problem: &'static str,
    },
}

impl FromStr for End {
    type Err = InvalidEdit;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = || InvalidEdit::Value {
            value: text.into(),
            problem: "is no port, address, or address:port",
        };
        if let Ok(port) = text.parse() {
            return Ok(Self {
                address: None,
                port: Some(port),
            });
        }
        if let Ok(both) = text.parse::<SocketAddr>() {
            let (address, port) = (Some(both.ip()), Some(both.port()));
            return Ok(Self { address, port });
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        let address = bare.unwrap_or(text).parse().map_err(|_| invalid())?;
        Ok(Self {
            address: Some(address),
            port: None,
        })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.port) {
            (Some(address), Some(port)) => SocketAddr::new(address, port).fmt(f),
            (Some(address), None) => address.fmt(f),
            (None, Some(port)) => port.fmt(f),
            (None, None) => f.write_str("any"),
        }
    }
}

impl Edit {
    /// Reads `hostname=NAME`, `domainname=NAME`, `comm[:PID]=NAME`, `cwd[:PID]=PATH`,
    /// `root[:PID]=PATH`, `path:OLD=NEW`, and for sockets `tcp-listen:FROM=TO` and the like. Names
    /// and paths need not be UTF-8.
    ///
    /// # Errors
    ///
    /// Fails for anything else.
    pub fn from_bytes(text: &[u8]) -> Result<Self> {
        let not_assignment = || InvalidEdit::NotAssignment { text: text.into() };
        let (key, value) = text.split_once_str(b"=").ok_or_else(not_assignment)?;
        let (key, selector) = match key.split_once_str(b":") {
            Some((key, selector)) => (key, Some(selector)),
            None => (key, None),
        };
        let sockets = match key {
            b"tcp-listen" => Some(Sockets::TcpListen),
            b"tcp-local" => Some(Sockets::TcpLocal),
            b"tcp-remote" => Some(Sockets::TcpRemote),
            b"udp-local" => Some(Sockets::UdpLocal),
            b"udp-remote" => Some(Sockets::UdpRemote),
            _ => None,
        };
        if let Some(sockets) = sockets {
            let from = selector.ok_or_else(|| refuse(key, "needs what to replace: KEY:OLD=NEW"))?;
            return Ok(Self::Socket {
                sockets,
                from: end(from)?,
                to: end(value)?,
            });
        }
        if key == b"path" {
            let from =
                selector.ok_or_else(|| refuse(key, "needs what to replace: path:OLD=NEW"))?;
            return Ok(Self::Path {
                from: path(from)?,
                to: path(value)?,
            });
        }
        let task = match selector {
            None => Task::Only,
            Some(pid) => Task::Pid(number(pid).ok_or_else(|| refuse(pid, "is no pid"))?),
        };
        let of_task = match key {
            b"cwd" => Self::WorkingDirectory {
                task,
                to: path(value)?,
            },
            b"root" => Self::Root {
                task,
                to: path(value)?,
            },
            b"comm" => Self::Comm {
                task,
                to: name(value, COMM_LIMIT)?,
            },
            b"hostname" if selector.is_none() => Self::HostName(name(value, UTS_LIMIT)?),
            b"domainname" if selector.is_none() => Self::DomainName(name(value, UTS_LIMIT)?),
            _ => return Err(InvalidEdit::UnknownKey { key: key.into() }),
        };
        Ok(of_task)
    }
}

/// As [`Edit::from_bytes`].
impl FromStr for Edit {
    type Err = InvalidEdit;

    fn from_str(text: &str) -> Result<Self> {
        Self::from_bytes(text.as_bytes())
    }
}

fn refuse(value: &[u8], problem: &'static str) -> InvalidEdit {
    InvalidEdit::Value {
        value: value.into(),
        problem,
    }
}

fn number(text: &[u8]) -> Option<u32> {
    text.to_str().ok()?.parse().ok()
}

fn end(text: &[u8]) -> Result<End> {
    // What is not UTF-8 is no end either way, and is refused as such.
    text.to_str_lossy().parse()
}

fn path(text: &[u8]) -> Result<BString> {
    match text {
        _ if !text.starts_with(b"/") => Err(refuse(text, "is no absolute path")),
        _ if text.contains(&0) => Err(refuse(text, "holds a zero byte")),
        _ if text.len() >= PATH_LIMIT => Err(refuse(text, "is longer than paths can be")),
        _ => Ok(text.into()),
    }
}

fn name(text: &[u8], limit: usize) -> Result<BString> {
    match text {
        b"" => Err(refuse(text, "is no name")),
        _ if text.contains(&0) => Err(refuse(text, "holds a zero byte")),
        _ if text.len() > limit => Err(refuse(text, "is longer than the kernel takes it")),
        _ => Ok(text.into()),
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_task = |f: &mut fmt::Formatter<'_>, key, task: &Task, to| match task {
            Task::Only => write!(f, "{key}={to}"),
            Task::Pid(pid) => write!(f, "{key}:{pid}={to}"),
        };
        match self {
            Self::Socket { sockets, from, to } => write!(f, "{}:{from}={to}", sockets.name()),
            Self::Path { from, to } => write!(f, "path:{from}={to}"),
            Self::WorkingDirectory { task, to } => of_task(f, "cwd", task, to),
            Self::Root { task, to } => of_task(f, "root", task, to),
            Self::Comm { task, to } => of_task(f, "comm", task, to),
            Self::HostName(to) => write!(f, "hostname={to}"),
            Self::DomainName(to) => write!(f, "domainname={to}"),
        }
    }
}

/// Longest name of a command, in bytes (the kernel's `TASK_COMM_LEN` without the zero).
const COMM_LIMIT: usize = 15;
/// Longest host or domain name, in bytes (the kernel's `__NEW_UTS_LEN`).
const UTS_LIMIT: usize = 64;
/// Bytes of a path with its zero (`PATH_MAX`).
const PATH_LIMIT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parses(text: &str) -> Edit {
        let edit: Edit = text.parse().expect("an edit");
        assert_eq!(edit.to_string(), text);
        edit
    }

    #[test]
    fn edits_are_read_and_printed_alike() {
        let listen = parses("tcp-listen:8080=[::1]:9090");
        let Edit::Socket {
            sockets: Sockets::TcpListen,
            from,
            to,
        } = listen
        else {
            panic!("{listen:?}");
        };
        assert_eq!((from.address, from.port), (None, Some(8080)));
        assert_eq!(to.to_string(), "[::1]:9090");
        parses("udp-remote:10.0.0.1=10.0.0.2");
        parses("path:/var/www=/srv");
        parses("cwd:7=/tmp");
        parses("root=/");
        parses("comm:12=server");
        parses("hostname=web-2");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for text in [
            "hostname",
            "hostname:1=a",
            "colour=red",
            "tcp-listen=80",
            "tcp-listen:80=65536",
            "tcp-listen:80=eighty",
            "cwd=tmp",
            "comm=a-name-of-16-byte",
            "comm:x=y",
            "hostname=",
            "path:/a=b",
            "comm:+7=y\0",
        ] {
            assert!(text.parse::<Edit>().is_err(), "{text}");
        }
    }

    #[test]
    fn paths_need_not_be_utf_8() {
        let Ok(Edit::Path { from, to }) = Edit::from_bytes(b"path:/\xff=/a\xfe") else {
            panic!("an edit");
        };
        assert_eq!((from, to), (b"/\xff".into(), b"/a\xfe".into()));
        let error = Edit::from_bytes(b"cwd=\xff").expect_err("no path");
        assert_eq!(error.to_string(), r#""\xff" is no absolute path"#);
    }
}
