//! A checkpoint as a typed whole.

mod file_index;
mod files;
mod memory_map;
mod source;
mod tasks;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::entry::Entry;
use crate::error::{Error, ErrorKind, Result};
use crate::kind::ImageKind;
use crate::message::{
    CgroupEntry, CoreEntry, CpuinfoEntry, CredsEntry, FdinfoEntry, FsEntry, InventoryEntry,
    MemfdInodeEntry, MmEntry, MntEntry, NetDeviceEntry, NetnsEntry, PagemapEntry, PagemapHead,
    TaskKobjIdsEntry, UsernsEntry, UtsnsEntry, VmaEntry,
};
use crate::reader::{ImageReader, ReadOptions};
use crate::stats::{DumpStats, RestoreStats};
use crate::wire::{DecodeError, Message};

pub use self::file_index::FileIndex;
pub use self::files::Files;
pub use self::memory_map::MemoryMap;
pub use self::source::{Directory, OpenImage, RandomAccess, Source};
pub use self::tasks::Tasks;

/// An image of a [`Checkpoint`], by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName {
    /// The kind that the name stands for.
    pub kind: ImageKind,
    /// The id in the name.
    pub id: Option<u64>,
    /// The name itself.
    pub name: String,
}

/// The images of one checkpoint. Nothing is kept in memory: each call reads its image.
///
/// CRIU writes no image for what there is nothing of, so many calls fail with
/// [`ErrorKind::Missing`] on sound checkpoints; [`present`] makes an `Option` of that.
///
/// ```no_run
/// use criu_image::Checkpoint;
///
/// # fn main() -> criu_image::Result<()> {
/// let checkpoint = Checkpoint::open("/var/lib/checkpoint")?;
/// for (depth, task) in checkpoint.tasks()?.walk() {
///     let core = checkpoint.core(task.pid)?;
///     let comm = core.tc.as_ref().map(|task| task.comm.clone());
///     # let _ = (depth, comm);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoint {
    source: Arc<dyn Source>,
    /// The checkpoints that led here by their parent links.
    descendants: Arc<[PathBuf]>,
}

impl Checkpoint {
    /// Opens a directory of images.
    ///
    /// # Errors
    ///
    /// Fails when there is no such directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self::new(Arc::new(Directory::open(path)?)))
    }

    /// Takes the images from any source.
    #[must_use]
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self {
            source,
            descendants: Arc::new([]),
        }
    }

    /// Where the images come from.
    #[must_use]
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// Lists the images, by kind and id. Other files are left out.
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read.
    pub fn images(&self) -> Result<Vec<ImageName>> {
        let mut images: Vec<_> = self
            .source
            .names()?
            .into_iter()
            .filter_map(|name| {
                let (kind, id) = ImageKind::from_file_name(&name)?;
                Some(ImageName { kind, id, name })
            })
            .collect();
        images.sort();
        Ok(images)
    }

    /// The ids of all images of a kind, ascending.
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read.
    pub fn ids_of(&self, kind: ImageKind) -> Result<Vec<u64>> {
        let images = self
            .images()?
            .into_iter()
            .filter(|image| image.kind == kind);
        Ok(images.filter_map(|image| image.id).collect())
    }

    /// Opens an image; the id is ignored for kinds that have none.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Missing`] when there is no such image, and with
    /// [`ErrorKind::WrongKind`] when its magic is of another kind.
    pub fn image(&self, kind: ImageKind, id: u64) -> Result<ImageReader<Box<dyn Read + Send>>> {
        self.image_named(kind, &kind.file(id))
    }

    /// Opens an image under another name than its kind's.
    ///
    /// # Errors
    ///
    /// Fails as [`image`](Self::image) does.
    pub fn image_named(
        &self,
        kind: ImageKind,
        name: &str,
    ) -> Result<ImageReader<Box<dyn Read + Send>>> {
        let path = self.source.location().join(name);
        let opened = self
            .source
            .open(name)
            .map_err(|error| error.in_file(&path).in_kind(kind))?;
        let options = ReadOptions {
            kind: Some(kind),
            path: Some(path.clone()),
            len: opened.len,
            ..ReadOptions::default()
        };
        let reader = options.read(opened.bytes)?;
        match reader.header().magic {
            Some(found) if reader.kind() != kind => Err(Error::from(ErrorKind::WrongKind {
                expected: kind,
                found,
            })
            .in_file(path)),
            _ => Ok(reader),
        }
    }

    /// Reads an image with a single entry.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing, damaged, or holds another message.
    pub fn one<T: Message>(&self, kind: ImageKind, id: u64) -> Result<Entry<T>> {
        self.image(kind, id)?.only_entry()
    }

    /// Reads all entries of an image.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing, damaged, or holds other messages.
    pub fn many<T: Message>(&self, kind: ImageKind, id: u64) -> Result<Vec<Entry<T>>> {
        self.image(kind, id)?.entries()
    }

    /// What the checkpoint as a whole is.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn inventory(&self) -> Result<Entry<InventoryEntry>> {
        self.one(ImageKind::Inventory, 0)
    }

    /// The tree of tasks.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn tasks(&self) -> Result<Tasks> {
        Ok(Tasks::new(self.many(ImageKind::Pstree, 0)?))
    }

    /// Every open file; also from the images that older CRIU wrote for each type. None is no
    /// error.
    ///
    /// # Errors
    ///
    /// Fails when an image is damaged.
    pub fn files(&self) -> Result<Files> {
        files::read(self)
    }

    /// A task or thread.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn core(&self, tid: u32) -> Result<Entry<CoreEntry>> {
        self.one(ImageKind::Core, tid.into())
    }

    /// The address space of a task.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing, as for tasks that are dead, or damaged.
    pub fn mm(&self, pid: u32) -> Result<Entry<MmEntry>> {
        self.one(ImageKind::Mm, pid.into())
    }

    /// The memory areas of a task as bytes, with the rest of [`mm`](Self::mm); also from the image
    /// that older CRIU wrote for them.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged, but for areas, which are not looked into.
    pub fn memory_map(&self, pid: u32) -> Result<MemoryMap> {
        let mut map = self.memory_map_of_mm(pid)?;
        if let Some(mut legacy) = present(self.image(ImageKind::Vmas, pid.into()))? {
            map.take_legacy_areas(&mut legacy)?;
        }
        Ok(map)
    }

    /// The memory areas of a task as bytes, without those that older CRIU wrote elsewhere.
    ///
    /// # Errors
    ///
    /// Fails as [`memory_map`](Self::memory_map) does.
    pub fn memory_map_of_mm(&self, pid: u32) -> Result<MemoryMap> {
        let mut image = self.image(ImageKind::Mm, pid.into())?;
        let bytes = image.only_entry_bytes::<MmEntry>()?;
        MemoryMap::decode(bytes).map_err(|error| image.malformed(error))
    }

    /// The memory areas of a task; also from the image that older CRIU wrote for them.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn vmas(&self, pid: u32) -> Result<Vec<VmaEntry>> {
        let map = self.memory_map(pid)?;
        let areas: Result<_, _> = map.areas().collect();
        areas.map_err(|error| self.malformed_area(pid, error))
    }

    /// The error of an area of [`memory_map`](Self::memory_map).
    pub(crate) fn malformed_area(&self, pid: u32, error: DecodeError) -> Error {
        let path = self.source.location().join(ImageKind::Mm.file(pid.into()));
        Error::from(ErrorKind::Malformed(error))
            .in_file(path)
            .in_kind(ImageKind::Mm)
            .in_entry(0)
    }

    /// The ids of the kernel objects that a task uses. For the root task of old sets they are in
    /// the inventory.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn ids(&self, pid: u32) -> Result<Entry<TaskKobjIdsEntry>> {
        self.one(ImageKind::Ids, pid.into())
    }

    /// Working directory and root of a task.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn fs(&self, pid: u32) -> Result<Entry<FsEntry>> {
        self.one(ImageKind::Fs, pid.into())
    }

    /// The file descriptors of a table; the id is `files_id` of a task's [`ids`](Self::ids).
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn fdinfo(&self, files_id: u32) -> Result<Vec<Entry<FdinfoEntry>>> {
        self.many(ImageKind::Fdinfo, files_id.into())
    }

    /// The credentials of a thread: those in its core image, else the image that older CRIU wrote.
    ///
    /// # Errors
    ///
    /// Fails when both are missing or one is damaged.
    pub fn creds(&self, tid: u32) -> Result<CredsEntry> {
        let core = present(self.core(tid))?.map(Entry::into_value);
        let creds = core
            .and_then(|core| core.thread_core)
            .and_then(|thread| thread.creds);
        match creds {
            Some(creds) => Ok(*creds),
            None => Ok(self
                .one::<CredsEntry>(ImageKind::Creds, tid.into())?
                .into_value()),
        }
    }

    /// The mounts of a mount namespace.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn mounts(&self, mnt_ns_id: u32) -> Result<Vec<Entry<MntEntry>>> {
        self.many(ImageKind::Mnts, mnt_ns_id.into())
    }

    /// Settings of a network namespace.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn netns(&self, net_ns_id: u32) -> Result<Entry<NetnsEntry>> {
        self.one(ImageKind::Netns, net_ns_id.into())
    }

    /// Network devices of a network namespace.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn netdevs(&self, net_ns_id: u32) -> Result<Vec<Entry<NetDeviceEntry>>> {
        self.many(ImageKind::Netdev, net_ns_id.into())
    }

    /// Host and domain name of a UTS namespace.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn utsns(&self, uts_ns_id: u32) -> Result<Entry<UtsnsEntry>> {
        self.one(ImageKind::Utsns, uts_ns_id.into())
    }

    /// Id maps of a user namespace.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn userns(&self, user_ns_id: u32) -> Result<Entry<UsernsEntry>> {
        self.one(ImageKind::Userns, user_ns_id.into())
    }

    /// Control groups.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn cgroups(&self) -> Result<Entry<CgroupEntry>> {
        self.one(ImageKind::Cgroup, 0)
    }

    /// The CPU of the dumping machine.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn cpuinfo(&self) -> Result<Entry<CpuinfoEntry>> {
        self.one(ImageKind::Cpuinfo, 0)
    }

    /// Memory files.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn memfds(&self) -> Result<Vec<Entry<MemfdInodeEntry>>> {
        self.many(ImageKind::MemfdInode, 0)
    }

    /// Which pages were dumped of a task ([`ImageKind::Pagemap`]) or of a shared memory object
    /// ([`ImageKind::ShmemPagemap`]).
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn pagemap(
        &self,
        kind: ImageKind,
        id: u64,
    ) -> Result<(PagemapHead, Vec<Entry<PagemapEntry>>)> {
        let mut image = self.image(kind, id)?;
        let Some(head) = image.next_entry()? else {
            let name = self.source.location().join(kind.file(id));
            let reason = ErrorKind::EntryCount {
                expected: "1 or more",
                found: 0,
            };
            return Err(Error::from(reason).in_file(name).in_kind(kind));
        };
        let head = head.decode()?;
        Ok((head, image.entries()?))
    }

    /// What the dump took, if its work directory was the images directory.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn dump_stats(&self) -> Result<DumpStats> {
        DumpStats::read(self.image_named(ImageKind::Stats, DumpStats::FILE_NAME)?)
    }

    /// What the last restore took, if its work directory was the images directory.
    ///
    /// # Errors
    ///
    /// Fails when the image is missing or damaged.
    pub fn restore_stats(&self) -> Result<RestoreStats> {
        RestoreStats::read(self.image_named(ImageKind::Stats, RestoreStats::FILE_NAME)?)
    }

    /// The checkpoint that this one continues.
    ///
    /// # Errors
    ///
    /// Fails when the link leads nowhere, or back to a checkpoint that led here.
    pub fn parent(&self) -> Result<Option<Self>> {
        let Some(parent) = self.source.parent()? else {
            return Ok(None);
        };
        let here = self.source.location();
        let mut descendants = self.descendants.to_vec();
        descendants.push(here.to_owned());
        if descendants.iter().any(|path| path == parent.location()) {
            let detail = format!(
                "the chain of parents comes back to {}",
                parent.location().display()
            );
            return Err(Error::from(ErrorKind::Inconsistent { detail }).in_file(here));
        }
        Ok(Some(Self {
            source: parent,
            descendants: descendants.into(),
        }))
    }

    /// This checkpoint and all that it continues, the newest first.
    ///
    /// # Errors
    ///
    /// Fails as [`parent`](Self::parent) does.
    pub fn chain(&self) -> Result<Vec<Self>> {
        let mut chain = vec![self.clone()];
        let mut next = self.parent()?;
        while let Some(checkpoint) = next {
            next = checkpoint.parent()?;
            chain.push(checkpoint);
        }
        Ok(chain)
    }
}

/// Makes `None` of the error that an image is missing.
///
/// # Errors
///
/// Passes every other error on.
pub fn present<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}
