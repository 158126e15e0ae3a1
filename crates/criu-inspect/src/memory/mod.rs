//! What lies in a task's memory, and where its bytes are.
//!
//! The bytes themselves come from [`criu_image::memory::AddressSpace`]; this tells the areas'
//! meaning, adds up what is where, and writes ranges to files. Arguments and environment are
//! [`explore`](crate::explore)'s.

mod area;
mod extract;

use std::ops::Range;

use bstr::BString;
use criu_image::checkpoint::present;
use criu_image::memory::{AddressSpace, Content, Memory};
use criu_image::{Checkpoint, Result};

pub use self::area::{AreaKind, Protection, TaskArea};
pub use self::extract::{ExtractError, Extracted, extract};

/// The memory of a task, with what its areas are.
#[derive(Debug)]
pub struct TaskMemory<'a> {
    pid: u32,
    comm: Option<BString>,
    space: AddressSpace,
    namer: area::Namer<'a>,
}

/// Where the bytes of a range are, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Residence {
    /// In pages files: of the checkpoint itself, of its parent, and so on.
    pub in_pages: Vec<u64>,
    /// Nowhere: never written to, so they are zero.
    pub zero: u64,
    /// Left in the source task by a lazy dump.
    pub lazy: u64,
    /// In the mapped file, unchanged.
    pub in_file: u64,
    /// Provided by the kernel anew.
    pub kernel: u64,
    /// Those of a device or socket.
    pub device: u64,
    /// Kept by a plugin of CRIU.
    pub plugin: u64,
    /// Should be in the images, and are not.
    pub missing: u64,
}

impl<'a> TaskMemory<'a> {
    /// Opens the memory of a task.
    ///
    /// # Errors
    ///
    /// Fails when the task has none, as dead tasks do, or an image is damaged.
    pub fn open(memory: &'a Memory, pid: u32) -> Result<Self> {
        let checkpoint = memory.checkpoint();
        let mm = checkpoint.memory_map_of_mm(pid)?.into_mm();
        let space = memory.task(pid)?;
        let core = present(checkpoint.core(pid))?;
        let memfds = present(checkpoint.memfds())?.unwrap_or_default();
        Ok(Self {
            pid,
            comm: core
                .as_ref()
                .and_then(|core| core.tc.as_ref())
                .map(|task| task.comm.clone()),
            space,
            namer: area::Namer::new(memory.files(), memfds, &mm),
        })
    }

    /// The task.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The name of the task, as the kernel keeps it.
    #[must_use]
    pub fn comm(&self) -> Option<&BString> {
        self.comm.as_ref()
    }

    /// The bytes, by address.
    #[must_use]
    pub fn space(&self) -> &AddressSpace {
        &self.space
    }

    /// The areas, by ascending address; one for each of the space's.
    pub fn areas(&self) -> impl ExactSizeIterator<Item = TaskArea> {
        self.space.areas().iter().map(|area| self.namer.name(area))
    }

    /// The area that holds an address.
    #[must_use]
    pub fn area_at(&self, address: u64) -> Option<TaskArea> {
        let area = self.space.area_at(address)?;
        Some(self.namer.name(area))
    }
}

/// The tasks that have memory, in the order of the tree: those that are dead have none.
///
/// # Errors
///
/// Fails when the tree is missing or damaged.
pub fn tasks(checkpoint: &Checkpoint) -> Result<Vec<u32>> {
    let with_memory = checkpoint.ids_of(criu_image::ImageKind::Mm)?;
    let tasks = checkpoint.tasks()?;
    let pids = tasks.walk().into_iter().map(|(_, task)| task.pid);
    Ok(pids
        .filter(|&pid| with_memory.binary_search(&pid.into()).is_ok())
        .collect())
}

/// The shared memory objects that no area of a task shows: memory files and System V segments that
/// nobody has mapped.
///
/// # Errors
///
/// Fails when an image is damaged.
pub fn unmapped_objects(memory: &Memory) -> Result<Vec<u64>> {
    let checkpoint = memory.checkpoint();
    let mut objects = memory.shared_ids()?;
    if objects.is_empty() {
        return Ok(objects);
    }
    let memfds = present(checkpoint.memfds())?.unwrap_or_default();
    for pid in tasks(checkpoint)? {
        for vma in checkpoint.vmas(pid)? {
            if let Some(object) = area::object_of(&vma, memory.files(), &memfds) {
                objects.retain(|&id| id != object);
            }
        }
    }
    Ok(objects)
}

/// Adds up where the bytes of a range are; what is not mapped does not count.
#[must_use]
pub fn residence(space: &AddressSpace, addresses: Range<u64>) -> Residence {
    let mut residence = Residence::default();
    for span in space.spans(addresses) {
        residence.add(space, span.content, span.byte_len());
    }
    residence
}

impl Residence {
    /// Counts bytes.
    pub fn add(&mut self, space: &AddressSpace, content: Content, byte_len: u64) {
        let count = match content {
            Content::Stored { pages, .. } | Content::Compressed { pages } => {
                let depth = space.pages(pages).map_or(0, |file| file.depth as usize);
                if self.in_pages.len() <= depth {
                    self.in_pages.resize(depth + 1, 0);
                }
                &mut self.in_pages[depth]
            }
            Content::Zero => &mut self.zero,
            Content::Lazy => &mut self.lazy,
            Content::File { .. } => &mut self.in_file,
            Content::Kernel => &mut self.kernel,
            Content::Device => &mut self.device,
            Content::Plugin => &mut self.plugin,
            _ => &mut self.missing,
        };
        // Areas do not overlap, so sums stay within the address space.
        *count += byte_len;
    }

    /// Adds what another range has.
    pub fn add_all(&mut self, other: &Self) {
        if self.in_pages.len() < other.in_pages.len() {
            self.in_pages.resize(other.in_pages.len(), 0);
        }
        for (count, other) in self.in_pages.iter_mut().zip(&other.in_pages) {
            *count = count.saturating_add(*other);
        }
        let pairs = [
            (&mut self.zero, other.zero),
            (&mut self.lazy, other.lazy),
            (&mut self.in_file, other.in_file),
            (&mut self.kernel, other.kernel),
            (&mut self.device, other.device),
            (&mut self.plugin, other.plugin),
            (&mut self.missing, other.missing),
        ];
        for (count, other) in pairs {
            // Over many tasks, hostile images can make it more than there can be.
            *count = count.saturating_add(other);
        }
    }

    /// Bytes in the pages file of the checkpoint itself.
    #[must_use]
    pub fn here(&self) -> u64 {
        self.in_pages.first().copied().unwrap_or(0)
    }

    /// Bytes in the pages files of parents.
    #[must_use]
    pub fn in_parents(&self) -> u64 {
        self.in_pages
            .iter()
            .skip(1)
            .fold(0, |sum, &count| sum.saturating_add(count))
    }
}
