//! What an area of memory is.

use std::fmt;
use std::ops::Range;

use bstr::BString;
use criu_image::Entry;
use criu_image::checkpoint::FileIndex;
use criu_image::memory::{
    Area, VMA_ANON_SHARED, VMA_AREA_MEMFD, VMA_AREA_SOCKET, VMA_AREA_SYSVIPC, VMA_AREA_UPROBES,
    VMA_AREA_VDSO, VMA_AREA_VSYSCALL, VMA_AREA_VVAR, VMA_EXT_PLUGIN, VMA_FILE_PRIVATE,
    VMA_FILE_SHARED, Vma,
};
use criu_image::message::{FdTypes, MemfdInodeEntry, MmEntry, VmaEntry};

/// An area of a task's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskArea {
    /// Its addresses.
    pub addresses: Range<u64>,
    /// What the task may do with it.
    pub protection: Protection,
    /// Whether changes are seen by all who map the same.
    pub is_shared: bool,
    /// What it is.
    pub kind: AreaKind,
}

/// What a task may do with an area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Protection {
    /// Read.
    pub read: bool,
    /// Write.
    pub write: bool,
    /// Execute.
    pub execute: bool,
}

/// What an area is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AreaKind {
    /// The task's own memory.
    Anonymous,
    /// What `brk` gave.
    Heap,
    /// The stack of the first thread.
    Stack,
    /// A mapped file.
    File {
        /// Its path, if the images have it.
        path: Option<BString>,
        /// Position of the area's first byte in the file, in bytes.
        offset: u64,
    },
    /// A mapped memory file.
    MemoryFile {
        /// Its name, if the images have it.
        name: Option<BString>,
        /// Position of the area's first byte in the file, in bytes.
        offset: u64,
    },
    /// Shared memory without a file.
    Shared {
        /// The object, an id of the checkpoint's own.
        id: u64,
        /// Position of the area's first byte in the object, in bytes.
        offset: u64,
    },
    /// System V shared memory.
    SystemV {
        /// The segment's id.
        id: u64,
        /// Position of the area's first byte in the segment, in bytes.
        offset: u64,
    },
    /// The kernel's code for user space.
    Vdso,
    /// The kernel's variables for user space.
    Vvar,
    /// The kernel's system call page.
    Vsyscall,
    /// The kernel's page for probes.
    Uprobes,
    /// The ring of a packet socket.
    Socket,
    /// A device mapping that a plugin of CRIU restores.
    Plugin,
}

/// Tells what areas are.
#[derive(Debug)]
pub(super) struct Namer<'a> {
    files: &'a FileIndex,
    memfds: Vec<Entry<MemfdInodeEntry>>,
    heap: Range<u64>,
    /// An address in the stack.
    stack: u64,
}

impl<'a> Namer<'a> {
    pub(super) fn new(
        files: &'a FileIndex,
        memfds: Vec<Entry<MemfdInodeEntry>>,
        mm: &MmEntry,
    ) -> Self {
        Self {
            files,
            memfds,
            heap: mm.mm_start_brk..mm.mm_brk,
            stack: mm.mm_start_stack,
        }
    }

    pub(super) fn name(&self, area: &Area) -> TaskArea {
        let vma = area.vma();
        TaskArea {
            addresses: area.start()..area.end(),
            protection: Protection {
                read: vma.prot & 1 != 0,
                write: vma.prot & 2 != 0,
                execute: vma.prot & 4 != 0,
            },
            is_shared: vma.flags & MAP_SHARED != 0,
            kind: self.kind(vma),
        }
    }

    fn kind(&self, vma: Vma) -> AreaKind {
        let is = |bit: u32| vma.status & bit != 0;
        let (id, offset) = (vma.shmid, vma.pgoff);
        match () {
            () if is(VMA_EXT_PLUGIN) => AreaKind::Plugin,
            () if is(VMA_AREA_SOCKET) => AreaKind::Socket,
            () if is(VMA_AREA_VDSO) => AreaKind::Vdso,
            () if is(VMA_AREA_VVAR) => AreaKind::Vvar,
            () if is(VMA_AREA_VSYSCALL) => AreaKind::Vsyscall,
            () if is(VMA_AREA_UPROBES) => AreaKind::Uprobes,
            () if is(VMA_AREA_MEMFD) => AreaKind::MemoryFile {
                name: memfd_of(vma.shmid, self.files, &self.memfds).map(|memfd| memfd.name.clone()),
                offset,
            },
            () if is(VMA_FILE_PRIVATE) || is(VMA_FILE_SHARED) => AreaKind::File {
                path: u32::try_from(id).ok().and_then(|id| self.files.path(id)),
                offset,
            },
            () if is(VMA_AREA_SYSVIPC) => AreaKind::SystemV { id, offset },
            () if is(VMA_ANON_SHARED) => AreaKind::Shared { id, offset },
            () if vma.start < self.heap.end && self.heap.start < vma.end => AreaKind::Heap,
            () if (vma.start..vma.end).contains(&self.stack) => AreaKind::Stack,
            () => AreaKind::Anonymous,
        }
    }
}

impl AreaKind {
    /// A word for it, such as `heap`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Heap => "heap",
            Self::Stack => "stack",
            Self::File { .. } => "file",
            Self::MemoryFile { .. } => "memfd",
            Self::Shared { .. } => "shared",
            Self::SystemV { .. } => "sysv",
            Self::Vdso => "vdso",
            Self::Vvar => "vvar",
            Self::Vsyscall => "vsyscall",
            Self::Uprobes => "uprobes",
            Self::Socket => "socket",
            Self::Plugin => "plugin",
        }
    }

    /// All words.
    pub const WORDS: [&'static str; 13] = [
        "anonymous",
        "heap",
        "stack",
        "file",
        "memfd",
        "shared",
        "sysv",
        "vdso",
        "vvar",
        "vsyscall",
        "uprobes",
        "socket",
        "plugin",
    ];
}

impl fmt::Display for AreaKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, offset } => match path {
                Some(path) => write!(f, "{path}+{offset:#x}"),
                None => write!(f, "[file]+{offset:#x}"),
            },
            Self::MemoryFile { name, offset } => match name {
                Some(name) => write!(f, "[memfd {name}]+{offset:#x}"),
                None => write!(f, "[memfd]+{offset:#x}"),
            },
            Self::Shared { id, offset } => write!(f, "[shared {id}]+{offset:#x}"),
            Self::SystemV { id, offset } => write!(f, "[sysv {id}]+{offset:#x}"),
            other => write!(f, "[{}]", other.word()),
        }
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (is_allowed, letter) in [(self.read, 'r'), (self.write, 'w'), (self.execute, 'x')] {
            write!(f, "{}", if is_allowed { letter } else { '-' })?;
        }
        Ok(())
    }
}

/// The shared memory object that an area shows.
pub(super) fn object_of(
    vma: &VmaEntry,
    files: &FileIndex,
    memfds: &[Entry<MemfdInodeEntry>],
) -> Option<u64> {
    if vma.status & VMA_ANON_SHARED != 0 {
        return Some(vma.shmid);
    }
    if vma.status & VMA_AREA_MEMFD != 0 {
        return memfd_of(vma.shmid, files, memfds).map(|memfd| memfd.shmid.into());
    }
    None
}

/// The memory file with an id among the open files.
fn memfd_of<'a>(
    id: u64,
    files: &FileIndex,
    memfds: &'a [Entry<MemfdInodeEntry>],
) -> Option<&'a MemfdInodeEntry> {
    let file = files.find(FdTypes::Memfd, u32::try_from(id).ok()?)?;
    let inode = file.memfd.as_deref()?.inode_id;
    memfds
        .iter()
        .find(|memfd| memfd.inode_id == u64::from(inode))
        .map(|memfd| &**memfd)
}

/// The mapping is shared (`MAP_SHARED`).
const MAP_SHARED: u32 = 1;
