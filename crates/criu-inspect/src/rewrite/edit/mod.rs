//! Changes what a checkpoint says of addresses, paths and names, so that it can be restored
//! elsewhere.

mod text;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

use bstr::{BString, ByteSlice};
use criu_image::message::{CoreEntry, FdTypes, FileEntry, InetSkEntry, RegFileEntry, UtsnsEntry};
use criu_image::wire::Message;
use criu_image::{ByteOrder, Checkpoint, Entry, ImageKind, ImageWriter};

pub use self::text::InvalidEdit;
use super::{Backups, Error, Result, Transaction};
use crate::Monitor;

/// A change to a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Edit {
    /// An end of internet sockets.
    Socket {
        /// Which sockets.
        sockets: Sockets,
        /// Which end, and what it is now; parts that are not given fit anything.
        from: End,
        /// What it will be; parts that are not given stay.
        to: End,
    },
    /// The first components of the paths of regular files and directories, working directories,
    /// roots and mapped files included.
    Path {
        /// The path that others lie below, or are.
        from: BString,
        /// What takes its place.
        to: BString,
    },
    /// The directory that a task works in.
    WorkingDirectory {
        /// The task.
        task: Task,
        /// The new path.
        to: BString,
    },
    /// The directory that is a task's root.
    Root {
        /// The task.
        task: Task,
        /// The new path.
        to: BString,
    },
    /// The name of a task's command.
    Comm {
        /// The task.
        task: Task,
        /// The new name.
        to: BString,
    },
    /// The host name of the UTS namespaces that were dumped.
    HostName(BString),
    /// The domain name of the UTS namespaces that were dumped.
    DomainName(BString),
}

/// A task of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// The only one that there is.
    Only,
    /// The one with this id.
    Pid(u32),
}

/// Internet sockets, and an end of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sockets {
    /// TCP sockets that listen, and where.
    TcpListen,
    /// Other TCP sockets, and their own address.
    TcpLocal,
    /// TCP sockets, and whom they are connected to.
    TcpRemote,
    /// UDP sockets, and their own address.
    UdpLocal,
    /// UDP sockets, and whom they are connected to.
    UdpRemote,
}

/// An end of a connection: `8080`, `127.0.0.1`, `127.0.0.1:8080`, `::1`, `[::1]:8080`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// The address.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: Option<u16>,
}

/// What to do with the changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EditMode {
    /// Make them, all or none.
    #[default]
    Apply,
    /// Only tell them.
    Preview,
}

/// How to edit.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct EditOptions {
    /// Whether the images as they were are kept.
    pub backups: Backups,
    /// Whether the changes are made.
    pub mode: EditMode,
}

/// A value that was, or would be, changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Edited {
    /// Name of the image.
    pub image: String,
    /// Index of the entry, from 0.
    pub entry: u64,
    /// What it is.
    pub what: &'static str,
    /// What it was.
    pub before: BString,
    /// What it is now, or would be.
    pub after: BString,
}

/// Changes the checkpoint in a directory.
///
/// # Errors
///
/// Fails when an edit finds nothing to change, cannot be made, or images are damaged or cannot be
/// written. Then the directory is as it was.
pub fn edit(
    directory: &Path,
    edits: &[Edit],
    options: EditOptions,
    monitor: &dyn Monitor,
) -> Result<Vec<Edited>> {
    let checkpoint = Checkpoint::open(directory)?;
    let mut editor = Editor::new(&checkpoint, edits, options.mode)?;
    editor.files()?;
    editor.cores()?;
    editor.utsns()?;
    let mut unmatched = edits.iter().zip(&editor.matched);
    if let Some((edit, _)) = unmatched.find(|(_, met)| !**met) {
        let edit = edit.to_string();
        return Err(Error::Unmatched { edit });
    }
    if options.mode == EditMode::Apply {
        editor.transaction.commit(options.backups, monitor)?;
    }
    Ok(editor.edited)
}

struct Editor<'a> {
    checkpoint: &'a Checkpoint,
    edits: &'a [Edit],
    /// Which edits have found something to change.
    matched: Vec<bool>,
    /// Regular files that single edits are about: the edit's index, the file, its new path.
    renamed: Vec<(usize, u32, BString)>,
    edited: Vec<Edited>,
    mode: EditMode,
    transaction: Transaction,
}

/// What became of an image's entry.
struct Found {
    edit: usize,
    what: &'static str,
    before: BString,
    after: BString,
}

impl<'a> Editor<'a> {
    fn new(checkpoint: &'a Checkpoint, edits: &'a [Edit], mode: EditMode) -> Result<Self> {
        let mut editor = Self {
            checkpoint,
            edits,
            matched: vec![false; edits.len()],
            renamed: Vec::new(),
            edited: Vec::new(),
            mode,
            transaction: Transaction::new(checkpoint.source().location()),
        };
        for (index, edit) in edits.iter().enumerate() {
            let (task, to, is_root) = match edit {
                Edit::WorkingDirectory { task, to } => (*task, to, false),
                Edit::Root { task, to } => (*task, to, true),
                _ => continue,
            };
            let pid = editor.pid(task)?;
            let fs = checkpoint.fs(pid)?;
            let id = if is_root { fs.root_id } else { fs.cwd_id };
            editor.refuse_shared(pid, id)?;
            editor.renamed.push((index, id, to.clone()));
        }
        Ok(editor)
    }

    fn pid(&self, task: Task) -> Result<u32> {
        let tasks = self.checkpoint.tasks()?;
        let failed = |detail: String| {
            let directory = self.checkpoint.source().location();
            Error::unsuitable(directory, detail)
        };
        match task {
            Task::Pid(pid) if tasks.find(pid).is_some() => Ok(pid),
            Task::Pid(pid) => Err(failed(format!("no task has the pid {pid}"))),
            Task::Only => match tasks.iter().collect::<Vec<_>>()[..] {
                [only] => Ok(only.pid),
                _ => Err(failed(format!(
                    "there are {} tasks: say which",
                    tasks.len()
                ))),
            },
        }
    }

    /// Refuses to rename a directory for one task that others have too.
    fn refuse_shared(&self, pid: u32, id: u32) -> Result<()> {
        let mut uses = 0;
        let mut users = HashSet::new();
        for task in self.checkpoint.tasks()?.iter() {
            let Some(fs) = criu_image::checkpoint::present(self.checkpoint.fs(task.pid))? else {
                continue;
            };
            let here = [fs.cwd_id, fs.root_id]
                .iter()
                .filter(|&&other| other == id)
                .count();
            uses += here;
            if here > 0 {
                users.insert(task.pid);
            }
        }
        for table in self.checkpoint.ids_of(ImageKind::Fdinfo)? {
            let Ok(table) = u32::try_from(table) else {
                continue;
            };
            let fds = self.checkpoint.fdinfo(table)?;
            uses += fds
                .iter()
                .filter(|fd| fd.r#type == FdTypes::Reg && fd.id == id)
                .count();
        }
        if uses <= 1 {
            return Ok(());
        }
        users.remove(&pid);
        let path = self
            .checkpoint
            .source()
            .location()
            .join(ImageKind::Fs.file(pid.into()));
        let detail = format!(
            "that directory is in use {uses} times{}; change its path for all with path:OLD=NEW",
            if users.is_empty() {
                ""
            } else {
                ", also by other tasks"
            }
        );
        Err(Error::unsuitable(path, detail))
    }

    fn files(&mut self) -> Result<()> {
        let concerned = self.edits.iter().any(|edit| {
            use Edit::{Path, Root, Socket, WorkingDirectory};
            matches!(
                edit,
                Socket { .. } | Path { .. } | WorkingDirectory { .. } | Root { .. }
            )
        });
        if !concerned {
            return Ok(());
        }
        self.image(
            ImageKind::Files,
            0,
            |editor, file: &mut Entry<FileEntry>, order| {
                let mut found = Vec::new();
                if let Some(regular) = file.reg.as_deref()
                    && let Some((edit, to)) = editor.path(regular)
                {
                    found.push(Found {
                        edit,
                        what: "path",
                        before: regular.name.clone(),
                        after: to.clone(),
                    });
                    if let Some(regular) = &mut file.edit().reg {
                        regular.name = to;
                    }
                }
                if let Some(socket) = file.isk.as_deref() {
                    let mut socket = socket.clone();
                    let ends = editor.socket(&mut socket, order)?;
                    if !ends.is_empty() {
                        file.edit().isk = Some(Box::new(socket));
                        found.extend(ends);
                    }
                }
                Ok(found)
            },
        )?;
        self.image(
            ImageKind::RegFiles,
            0,
            |editor, file: &mut Entry<RegFileEntry>, _| {
                let Some((edit, to)) = editor.path(file) else {
                    return Ok(Vec::new());
                };
                let before = std::mem::replace(&mut file.edit().name, to.clone());
                Ok(vec![Found {
                    edit,
                    what: "path",
                    before,
                    after: to,
                }])
            },
        )?;
        self.image(
            ImageKind::Inetsk,
            0,
            |editor, file: &mut Entry<InetSkEntry>, order| {
                let mut socket = InetSkEntry::clone(file);
                let ends = editor.socket(&mut socket, order)?;
                if !ends.is_empty() {
                    *file.edit() = socket;
                }
                Ok(ends)
            },
        )
    }

    fn cores(&mut self) -> Result<()> {
        let edits = self.edits;
        let mut named = HashSet::new();
        for (index, edit) in edits.iter().enumerate() {
            let Edit::Comm { task, to } = edit else {
                continue;
            };
            let pid = self.pid(*task)?;
            if !named.insert(pid) {
                let directory = self.checkpoint.source().location();
                let detail = format!("task {pid} is given two names");
                return Err(Error::unsuitable(directory, detail));
            }
            self.image(
                ImageKind::Core,
                pid.into(),
                |_, core: &mut Entry<CoreEntry>, _| {
                    let before = core.tc.as_ref().map(|task| task.comm.clone());
                    let core = core.edit();
                    if let Some(task) = &mut core.tc {
                        task.comm.clone_from(to);
                    }
                    // A thread's name, the leader's too, is here as well.
                    if let Some(thread) = &mut core.thread_core
                        && thread.comm.is_some()
                    {
                        thread.comm = Some(to.clone());
                    }
                    let found = before.map(|before| Found {
                        edit: index,
                        what: "comm",
                        before,
                        after: to.clone(),
                    });
                    Ok(found.into_iter().collect())
                },
            )?;
        }
        Ok(())
    }

    fn utsns(&mut self) -> Result<()> {
        let edits = self.edits;
        let mut names = edits
            .iter()
            .enumerate()
            .filter_map(|(index, edit)| match edit {
                Edit::HostName(to) => Some((index, "host name", to)),
                Edit::DomainName(to) => Some((index, "domain name", to)),
                _ => None,
            });
        let names: Vec<_> = names.by_ref().collect();
        if names.is_empty() {
            return Ok(());
        }
        for id in self.checkpoint.ids_of(ImageKind::Utsns)? {
            self.image(ImageKind::Utsns, id, |_, uts: &mut Entry<UtsnsEntry>, _| {
                let mut found = Vec::new();
                for &(edit, what, to) in &names {
                    let uts = uts.edit();
                    let name = match what {
                        "host name" => &mut uts.nodename,
                        _ => &mut uts.domainname,
                    };
                    let before = std::mem::replace(name, to.clone());
                    found.push(Found {
                        edit,
                        what,
                        before,
                        after: to.clone(),
                    });
                }
                Ok(found)
            })?;
        }
        Ok(())
    }

    /// Passes every entry of an image to `change`; stages the image anew if one was changed.
    fn image<T: Message>(
        &mut self,
        kind: ImageKind,
        id: u64,
        mut change: impl FnMut(&Self, &mut Entry<T>, ByteOrder) -> Result<Vec<Found>>,
    ) -> Result<()> {
        let mut image = match self.checkpoint.image(kind, id) {
            Ok(image) => image,
            Err(error) if error.is_missing() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let name = kind.file(id);
        let (header, order) = (image.header(), image.byte_order());
        let mut writer = ImageWriter::new(Vec::new(), header, order)?;
        let before = self.edited.len();
        for (index, mut entry) in image.entries::<T>()?.into_iter().enumerate() {
            for found in change(self, &mut entry, order)? {
                self.matched[found.edit] = true;
                self.edited.push(Edited {
                    image: name.clone(),
                    entry: index as u64,
                    what: found.what,
                    before: found.before,
                    after: found.after,
                });
            }
            writer.entry(&entry.bytes())?;
        }
        if self.edited.len() > before && self.mode == EditMode::Apply {
            let staged = self.transaction.stage(&name)?;
            let bytes = writer.finish()?;
            std::io::Write::write_all(&mut staged.file(), &bytes)
                .map_err(Error::io("write", staged.path()))?;
            self.transaction.replace(staged)?;
        }
        Ok(())
    }

    /// The new path of a regular file, and the edit that gives it; those of a single task go
    /// before those of prefixes, and the first of several counts.
    fn path(&self, file: &RegFileEntry) -> Option<(usize, BString)> {
        let single = self.renamed.iter().find(|(_, id, _)| *id == file.id);
        if let Some((index, _, to)) = single {
            return Some((*index, to.clone()));
        }
        self.edits.iter().enumerate().find_map(|(index, edit)| {
            let Edit::Path { from, to } = edit else {
                return None;
            };
            Some((index, with_prefix_replaced(&file.name, from, to)?))
        })
    }

    /// Changes the ends of a socket.
    fn socket(&self, socket: &mut InetSkEntry, order: ByteOrder) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut is_changed = [false; 2];
        for (index, edit) in self.edits.iter().enumerate() {
            let Edit::Socket { sockets, from, to } = edit else {
                continue;
            };
            let is_remote = matches!(sockets, Sockets::TcpRemote | Sockets::UdpRemote);
            if !sockets.include(socket) || is_changed[usize::from(is_remote)] {
                continue;
            }
            let (words, port) = match is_remote {
                true => (&mut socket.dst_addr, &mut socket.dst_port),
                false => (&mut socket.src_addr, &mut socket.src_port),
            };
            let before = End::of(words, *port, order);
            if !from.fits(before) {
                continue;
            }
            if let Some(address) = to.address {
                let new = words_of(address, order);
                if new.len() != words.len() {
                    return Err(Error::Unsuitable {
                        path: self.checkpoint.source().location().to_owned(),
                        detail: format!("{address} is not of the address family of {before}"),
                    });
                }
                *words = new;
            }
            if let Some(new) = to.port {
                *port = new.into();
            }
            let after = End::of(words, *port, order);
            is_changed[usize::from(is_remote)] = true;
            found.push(Found {
                edit: index,
                what: sockets.name(),
                before: before.to_string().into(),
                after: after.to_string().into(),
            });
        }
        Ok(found)
    }
}

/// `path` with `from`, as whole components, replaced by `to`.
fn with_prefix_replaced(path: &[u8], from: &[u8], to: &[u8]) -> Option<BString> {
    let from = from.trim_end_with(|character| character == '/');
    let rest = path.strip_prefix(from)?;
    if !(rest.is_empty() || rest.starts_with(b"/")) {
        return None;
    }
    let to = match rest {
        [] => to,
        _ => to.trim_end_with(|character| character == '/'),
    };
    let replaced = [to, rest].concat();
    Some(if replaced.is_empty() {
        "/".into()
    } else {
        replaced.into()
    })
}

impl Sockets {
    /// What these are called in text.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::TcpListen => "tcp-listen",
            Self::TcpLocal => "tcp-local",
            Self::TcpRemote => "tcp-remote",
            Self::UdpLocal => "udp-local",
            Self::UdpRemote => "udp-remote",
        }
    }

    fn include(self, socket: &InetSkEntry) -> bool {
        match self {
            Self::TcpListen => socket.proto == IPPROTO_TCP && socket.state == TCP_LISTEN,
            Self::TcpLocal | Self::TcpRemote => {
                socket.proto == IPPROTO_TCP && socket.state != TCP_LISTEN
            }
            Self::UdpLocal | Self::UdpRemote => {
                socket.proto == IPPROTO_UDP || socket.proto == IPPROTO_UDPLITE
            }
        }
    }
}

impl End {
    fn of(words: &[u32], port: u32, order: ByteOrder) -> Self {
        Self {
            address: address_of(words, order),
            port: u16::try_from(port).ok(),
        }
    }

    fn fits(self, found: Self) -> bool {
        self.address
            .is_none_or(|address| Some(address) == found.address)
            && self.port.is_none_or(|port| Some(port) == found.port)
    }
}

fn address_of(words: &[u32], order: ByteOrder) -> Option<IpAddr> {
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|&word| order.u32_bytes(word))
        .collect();
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

/// An address as CRIU keeps it: words with the bytes in network order in memory.
fn words_of(address: IpAddr, order: ByteOrder) -> Vec<u32> {
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, |bytes| order.u32(bytes));
    bytes.chunks_exact(4).map(word).collect()
}

/// State of a socket that listens, from the kernel's `tcp_states.h`.
const TCP_LISTEN: u32 = 10;

// Protocol numbers, from the kernel's `linux/in.h`.
const IPPROTO_TCP: u32 = 6;
const IPPROTO_UDP: u32 = 17;
const IPPROTO_UDPLITE: u32 = 136;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_whole_components() {
        let replaced = |path: &str, from: &str, to: &str| {
            with_prefix_replaced(path.as_bytes(), from.as_bytes(), to.as_bytes())
                .map(|path| path.to_string())
        };
        assert_eq!(
            replaced("/var/www/a", "/var/www", "/srv").as_deref(),
            Some("/srv/a")
        );
        assert_eq!(
            replaced("/var/www", "/var/www/", "/srv/").as_deref(),
            Some("/srv/")
        );
        assert_eq!(replaced("/var/www2", "/var/www", "/srv"), None);
        assert_eq!(replaced("/a", "/", "/mnt").as_deref(), Some("/mnt/a"));
        assert_eq!(replaced("/old/a", "/old", "/").as_deref(), Some("/a"));
        assert_eq!(replaced("/", "/", "/mnt").as_deref(), Some("/mnt/"));
    }

    #[test]
    fn addresses_go_both_ways() {
        for (text, order) in [
            ("10.1.2.3", ByteOrder::Little),
            ("fe80::1:2", ByteOrder::Big),
        ] {
            let address: IpAddr = text.parse().expect("an address");
            assert_eq!(address_of(&words_of(address, order), order), Some(address));
        }
        let local = "127.0.0.1".parse().expect("an address");
        assert_eq!(words_of(local, ByteOrder::Little), [0x0100_007f]);
    }
}
