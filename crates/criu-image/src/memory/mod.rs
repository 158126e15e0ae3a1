//! Memory as address spaces: one view over areas, pagemaps, the chain of parents, and all the
//! reasons why bytes are not in the images.
//!
//! [`Memory`] opens a checkpoint's memory; an [`AddressSpace`] is that of one task or of one shared
//! memory object. It answers for every address with a [`Span`]: where the bytes are, or why they
//! are not there. [`MemoryReader`] reads bytes by address; a search reads the spans' pages files
//! itself, in pieces as large as it likes.

pub mod block;
mod page_range;
mod page_size;
mod pagemap;
mod reader;
mod segments;
mod space;
mod store;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::checkpoint::{Checkpoint, FileIndex, present};
use crate::error::{Error, ErrorKind, Result};
use crate::kind::ImageKind;
use crate::message::{CoreEntryMarch, FdTypes};

pub use self::page_range::PageRange;
pub use self::page_size::PageSize;
pub use self::pagemap::{PE_LAZY, PE_PARENT, PE_PAYLOAD_ALIGNED, PE_PRESENT};
pub use self::reader::MemoryReader;
pub use self::space::{AddressSpace, Area, Content, PagesFile, PagesRef, Span, Spans, Vma};

use self::pagemap::RawPagemap;
use self::store::PageStore;

/// How to look at memory.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct MemoryOptions {
    /// The page size of the machine that was dumped. If it is not given it is worked out: from
    /// the length of a pages file, for compressed pages from the block size in the inventory, else
    /// it is what the architecture usually has.
    pub page_size: Option<PageSize>,
}

/// The memory of a checkpoint.
///
/// It holds where the files are described, and every shared memory object that was looked at.
#[derive(Debug)]
pub struct Memory {
    checkpoint: Checkpoint,
    options: MemoryOptions,
    files: FileIndex,
    /// Shared memory objects of memory files, by inode id.
    memfds: HashMap<u64, u64>,
    architecture: Option<CoreEntryMarch>,
    compress_block_len: Option<u64>,
    shared: Mutex<BTreeMap<u64, Option<Shared>>>,
}

type Shared = (Arc<PageStore>, PageSize);

impl Memory {
    /// Opens the memory of a checkpoint.
    ///
    /// # Errors
    ///
    /// Fails when an image is damaged.
    pub fn open(checkpoint: &Checkpoint, options: MemoryOptions) -> Result<Self> {
        let memfds = present(checkpoint.memfds())?.unwrap_or_default();
        let tasks = present(checkpoint.tasks())?.unwrap_or_default();
        let mut architecture = None;
        for task in tasks.iter() {
            if let Some(core) = present(checkpoint.core(task.pid))? {
                architecture = Some(core.mtype);
                break;
            }
        }
        let inventory = present(checkpoint.inventory())?;
        Ok(Self {
            checkpoint: checkpoint.clone(),
            options,
            files: checkpoint.file_index()?,
            memfds: memfds
                .iter()
                .map(|memfd| (memfd.inode_id, memfd.shmid.into()))
                .collect(),
            architecture,
            compress_block_len: inventory
                .and_then(|inventory| inventory.compress_block_size)
                .map(u64::from),
            shared: Mutex::default(),
        })
    }

    /// The checkpoint.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The checkpoint's open files.
    #[must_use]
    pub fn files(&self) -> &FileIndex {
        &self.files
    }

    /// The address space of a task.
    ///
    /// # Errors
    ///
    /// Fails when the task has none, as dead tasks do, or an image is damaged.
    pub fn task(&self, pid: u32) -> Result<AddressSpace> {
        let path = self
            .checkpoint
            .source()
            .location()
            .join(ImageKind::Mm.file(pid.into()));
        let in_file = |error: Error| error.in_file(&path).in_kind(ImageKind::Mm);
        let map = self.checkpoint.memory_map(pid)?;
        let mut areas = Vec::with_capacity(map.area_count());
        for vma in map.areas() {
            let vma = vma.map_err(|error| self.checkpoint.malformed_area(pid, error))?;
            areas.push(Area {
                vma: Vma::from(&vma),
                object: None,
            });
        }
        drop(map);
        areas.sort_by_key(Area::start);
        let is_32_bit = areas.iter().all(|area| area.end() <= 1 << 32);
        let private = self.store(ImageKind::Pagemap, pid.into(), is_32_bit)?;
        let (private, page_size) =
            private.unwrap_or_else(|| (PageStore::empty().into(), self.page_size_without_pages()));
        let mut stores = vec![private];
        let mut shared = HashMap::new();
        for area in &mut areas {
            self.look_behind(area, &mut stores, &mut shared)
                .map_err(in_file)?;
        }
        AddressSpace::new(page_size, areas, stores).map_err(in_file)
    }

    /// A shared memory object: one area from address 0, as long as what was dumped of it.
    ///
    /// # Errors
    ///
    /// Fails when there is no such object or an image is damaged.
    pub fn shared(&self, id: u64) -> Result<AddressSpace> {
        self.whole(ImageKind::ShmemPagemap, id, self.shared_store(id)?)
    }

    /// What a pagemap ([`ImageKind::Pagemap`] or [`ImageKind::ShmemPagemap`]) and its parents speak
    /// of, whatever is mapped: one area from address 0 to the last one dumped. Addresses are as the
    /// pagemap has them, and those it does not speak of are [`Content::Zero`].
    ///
    /// # Errors
    ///
    /// Fails when there is no such pagemap or an image is damaged.
    pub fn pagemap(&self, kind: ImageKind, id: u64) -> Result<AddressSpace> {
        self.whole(kind, id, self.store(kind, id, false)?)
    }

    fn whole(&self, kind: ImageKind, id: u64, store: Option<Shared>) -> Result<AddressSpace> {
        let Some((store, page_size)) = store else {
            let path = self.checkpoint.source().location().join(kind.file(id));
            return Err(Error::from(ErrorKind::Missing).in_file(path).in_kind(kind));
        };
        let vma = Vma {
            end: store.end(),
            shmid: id,
            ..Vma::default()
        };
        let whole = Area { vma, object: None };
        let areas = if vma.end == 0 {
            Vec::new()
        } else {
            vec![whole]
        };
        AddressSpace::new(page_size, areas, vec![store])
    }

    /// The ids of the shared memory objects, ascending.
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read.
    pub fn shared_ids(&self) -> Result<Vec<u64>> {
        let mut ids = self.checkpoint.ids_of(ImageKind::ShmemPagemap)?;
        ids.extend(self.checkpoint.ids_of(ImageKind::ShmPagesOld)?);
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    /// Finds the shared memory object that an area shows.
    fn look_behind(
        &self,
        area: &mut Area,
        stores: &mut Vec<Arc<PageStore>>,
        shared: &mut HashMap<u64, Option<u32>>,
    ) -> Result<()> {
        let id = match area.vma.status {
            status if status & VMA_ANON_SHARED != 0 => Some(area.vma.shmid),
            status if status & VMA_AREA_MEMFD != 0 => self.memfd_object(area.vma.shmid),
            _ => None,
        };
        let Some(id) = id else {
            return Ok(());
        };
        area.object = match shared.get(&id) {
            Some(&store) => store,
            None => {
                let store = self.shared_store(id)?.map(|(store, _)| {
                    stores.push(store);
                    u32::try_from(stores.len() - 1).unwrap_or(u32::MAX)
                });
                shared.insert(id, store);
                store
            }
        };
        Ok(())
    }

    /// The shared memory object behind a mapped memory file.
    fn memfd_object(&self, file_id: u64) -> Option<u64> {
        let file = self
            .files
            .find(FdTypes::Memfd, u32::try_from(file_id).ok()?)?;
        let inode = file.memfd.as_deref()?.inode_id;
        self.memfds.get(&u64::from(inode)).copied()
    }

    fn shared_store(&self, id: u64) -> Result<Option<Shared>> {
        if let Some(known) = self
            .shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
        {
            return Ok(known.clone());
        }
        let store = self.store(ImageKind::ShmemPagemap, id, false)?;
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(shared.entry(id).or_insert(store).clone())
    }

    fn store(&self, kind: ImageKind, id: u64, is_32_bit: bool) -> Result<Option<Shared>> {
        let page_size = |map: &RawPagemap| self.page_size(map);
        let store = PageStore::load(&self.checkpoint, kind, id, is_32_bit, page_size)?;
        Ok(store.map(|(store, page_size)| (Arc::new(store), page_size)))
    }

    fn page_size(&self, map: &RawPagemap) -> PageSize {
        let of_blocks = || {
            PageSize::new(
                self.compress_block_len?
                    .checked_div(map.pages_per_block()?)?,
            )
        };
        let worked_out = || map.measured_page_size().or_else(of_blocks);
        self.options
            .page_size
            .or_else(worked_out)
            .unwrap_or_else(|| self.page_size_without_pages())
    }

    fn page_size_without_pages(&self) -> PageSize {
        let usual = self
            .architecture
            .map_or(PageSize::DEFAULT, PageSize::usual_on);
        self.options.page_size.unwrap_or(usual)
    }
}

// Bits of `vma_entry.status`, from CRIU's `image.h`.

/// The kernel's code for user space (`VMA_AREA_VDSO`).
pub const VMA_AREA_VDSO: u32 = 1 << 3;
/// The kernel's system call page (`VMA_AREA_VSYSCALL`).
pub const VMA_AREA_VSYSCALL: u32 = 1 << 2;
/// A private mapping of a file (`VMA_FILE_PRIVATE`).
pub const VMA_FILE_PRIVATE: u32 = 1 << 6;
/// A shared mapping of a file (`VMA_FILE_SHARED`).
pub const VMA_FILE_SHARED: u32 = 1 << 7;
/// Shared memory without a file (`VMA_ANON_SHARED`).
pub const VMA_ANON_SHARED: u32 = 1 << 8;
/// Private memory without a file (`VMA_ANON_PRIVATE`).
pub const VMA_ANON_PRIVATE: u32 = 1 << 9;
/// System V shared memory (`VMA_AREA_SYSVIPC`).
pub const VMA_AREA_SYSVIPC: u32 = 1 << 10;
/// The ring of a packet socket (`VMA_AREA_SOCKET`).
pub const VMA_AREA_SOCKET: u32 = 1 << 11;
/// The kernel's variables for user space (`VMA_AREA_VVAR`).
pub const VMA_AREA_VVAR: u32 = 1 << 12;
/// A memory file (`VMA_AREA_MEMFD`).
pub const VMA_AREA_MEMFD: u32 = 1 << 14;
/// The kernel's page for probes (`VMA_AREA_UPROBES`).
pub const VMA_AREA_UPROBES: u32 = 1 << 17;
/// A device mapping that a plugin restores (`VMA_EXT_PLUGIN`).
pub const VMA_EXT_PLUGIN: u32 = 1 << 27;
