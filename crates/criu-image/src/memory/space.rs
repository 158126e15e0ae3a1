//! The address space itself.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::store::{Found, PageStore, Place, Segment};
use super::{MemoryReader, PageSize};
use crate::checkpoint::RandomAccess;
use crate::error::{ErrorKind, Result};
use crate::message::VmaEntry;

/// The memory of a task, or of a shared memory object.
#[derive(Clone, Debug)]
pub struct AddressSpace {
    page_size: PageSize,
    areas: Vec<Area>,
    stores: Vec<Arc<PageStore>>,
}

/// A mapped area. There are very many, so that what follows from the rest is not kept.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    pub(super) vma: Vma,
    /// The store of the shared memory object that is mapped, from `pgoff` on.
    pub(super) object: Option<u32>,
}

/// What a `vma_entry` says of an area's addresses and of what is mapped there. A large task has
/// very many areas, so the rest is not kept; [`Checkpoint::vmas`](crate::Checkpoint::vmas) has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// Address behind the last one.
    pub end: u64,
    /// Position in what is mapped, in bytes.
    pub pgoff: u64,
    /// Id of what is mapped.
    pub shmid: u64,
    /// `PROT_*` bits.
    pub prot: u32,
    /// `MAP_*` bits.
    pub flags: u32,
    /// `VMA_*` bits.
    pub status: u32,
}

/// A store that an area looks into.
#[derive(Clone, Copy, Debug)]
struct Layer {
    store: u32,
    /// The address in the store of the area's start.
    base: u64,
}

/// What is behind the layers of an area.
#[derive(Clone, Copy, Debug)]
enum Base {
    Zero,
    File,
    Kernel,
    Device,
    Plugin,
    Missing,
}

/// Addresses that follow each other within an area and have their bytes in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First address.
    pub start: u64,
    /// Address behind the last one.
    pub end: u64,
    /// Index of the area in [`AddressSpace::areas`].
    pub area: usize,
    /// Where the bytes are, or why they are not there.
    pub content: Content,
}

/// Where the bytes of a span are, or why they are not in the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// As they are, in a pages file.
    Stored {
        /// The pages file.
        pages: PagesRef,
        /// Position of the span's first byte, in bytes.
        offset: u64,
    },
    /// Compressed, in a pages file; [`MemoryReader`] expands them.
    Compressed {
        /// The pages file.
        pages: PagesRef,
    },
    /// Nowhere, since they are zero: memory that was never written to.
    Zero,
    /// Left in the source task by a lazy dump.
    Lazy,
    /// In the mapped file, unchanged.
    File {
        /// Id of the file, a regular one unless the checkpoint says otherwise.
        id: u32,
        /// Position of the span's first byte in the file, in bytes.
        offset: u64,
    },
    /// The kernel provides them anew.
    Kernel,
    /// They are those of a device or socket.
    Device,
    /// A plugin of CRIU keeps them.
    Plugin,
    /// They should be in the images, and are not.
    Missing,
}

/// Names a pages file of an [`AddressSpace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PagesRef {
    store: u32,
    level: u32,
}

/// A pages file.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PagesFile<'a> {
    /// The bytes.
    pub bytes: &'a Arc<dyn RandomAccess>,
    /// The file.
    pub path: &'a Path,
    /// How many links to a parent lead to it.
    pub depth: u32,
}

/// The spans of a range of addresses, ascending; what is not mapped is left out.
#[derive(Clone, Debug)]
pub struct Spans<'a> {
    space: &'a AddressSpace,
    next: u64,
    end: u64,
    area: usize,
}

impl AddressSpace {
    /// Takes areas by ascending address.
    pub(super) fn new(
        page_size: PageSize,
        areas: Vec<Area>,
        stores: Vec<Arc<PageStore>>,
    ) -> Result<Self> {
        let mut last_end = 0;
        for area in &areas {
            let Vma {
                start, end, pgoff, ..
            } = area.vma;
            let detail = match end.checked_sub(start) {
                None | Some(0) => format!("the area at {start:#x} ends at {end:#x}"),
                Some(_) if start < last_end => format!("two areas hold address {start:#x}"),
                Some(len) if pgoff.checked_add(len).is_none() => {
                    format!("the area at {start:#x} maps a file beyond 2^64 bytes")
                }
                Some(_) => {
                    last_end = end;
                    continue;
                }
            };
            return Err(ErrorKind::Inconsistent { detail }.into());
        }
        Ok(Self {
            page_size,
            areas,
            stores,
        })
    }

    /// The page size, as given or worked out.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.page_size
    }

    /// The mapped areas, by ascending address.
    #[must_use]
    pub fn areas(&self) -> &[Area] {
        &self.areas
    }

    /// The area that holds an address.
    #[must_use]
    pub fn area_at(&self, address: u64) -> Option<&Area> {
        let index = self.first_area_behind(address);
        self.areas
            .get(index)
            .filter(|area| area.vma.start <= address)
    }

    /// The span that holds an address, from that address on; `None` if nothing is mapped there.
    #[must_use]
    pub fn span_at(&self, address: u64) -> Option<Span> {
        Some(self.locate(address)?.0)
    }

    /// The spans of a range of addresses.
    #[must_use]
    pub fn spans(&self, addresses: Range<u64>) -> Spans<'_> {
        let (next, end) = (addresses.start, addresses.end);
        Spans {
            space: self,
            next,
            end,
            area: self.first_area_behind(next),
        }
    }

    /// All spans.
    #[must_use]
    pub fn all_spans(&self) -> Spans<'_> {
        self.spans(0..u64::MAX)
    }

    /// A pages file that a span names.
    #[must_use]
    pub fn pages(&self, pages: PagesRef) -> Option<PagesFile<'_>> {
        let store = self.stores.get(pages.store as usize)?;
        let (bytes, path) = store.pages(pages.level)?;
        Some(PagesFile {
            bytes,
            path,
            depth: pages.level,
        })
    }

    /// For each pages file with bytes of this space: the file, and the length in bytes that its
    /// pagemap calls for.
    pub fn pages_lengths(&self) -> impl Iterator<Item = (&Arc<dyn RandomAccess>, &Path, u64)> {
        self.stores.iter().flat_map(|store| store.lengths())
    }

    /// Reads bytes by address.
    #[must_use]
    pub fn reader(&self) -> MemoryReader<'_> {
        MemoryReader::new(self)
    }

    /// Reads bytes from an address on until `out` is full or the bytes are not in the images, and
    /// returns how many were read. [`span_at`](Self::span_at) says why it was not more.
    ///
    /// For many reads, a [`reader`](Self::reader) expands compressed blocks once, not each time.
    ///
    /// # Errors
    ///
    /// Fails when a pages file is damaged or cannot be read.
    pub fn read_at(&self, address: u64, out: &mut [u8]) -> Result<usize> {
        self.reader().read_at(address, out)
    }

    pub(super) fn store(&self, index: u32) -> Option<&PageStore> {
        self.stores.get(index as usize).map(AsRef::as_ref)
    }

    /// The span that holds an address, and the segment with its bytes.
    pub(super) fn locate(&self, address: u64) -> Option<(Span, Option<(u32, Segment)>)> {
        let index = self.first_area_behind(address);
        let area = self.areas.get(index)?;
        (area.vma.start <= address).then(|| self.span_in(index, area, address))
    }

    fn first_area_behind(&self, address: u64) -> usize {
        self.areas.partition_point(|area| area.vma.end <= address)
    }

    /// The span of an area from an address on, and the segment with its bytes.
    fn span_in(&self, index: usize, area: &Area, address: u64) -> (Span, Option<(u32, Segment)>) {
        let vma = &area.vma;
        let within = address - vma.start;
        let mut end = vma.end;
        for layer in area.layers() {
            // Stores have no addresses past the end, so what wraps is a gap.
            let Some(inner) = layer.base.checked_add(within) else {
                continue;
            };
            match self.stores[layer.store as usize].find(inner) {
                Found::GapTo(next) => end = end.min(address.saturating_add(next - inner)),
                Found::Segment(segment) => {
                    end = end.min(address.saturating_add(segment.end - inner));
                    let pages = |level| PagesRef {
                        store: layer.store,
                        level,
                    };
                    let content = match segment.place {
                        Place::Stored { level, position } => Content::Stored {
                            pages: pages(level),
                            offset: position,
                        },
                        Place::Blocks { level, .. } => Content::Compressed {
                            pages: pages(level),
                        },
                        Place::Lazy => Content::Lazy,
                        Place::Missing => Content::Missing,
                    };
                    let span = Span {
                        start: address,
                        end,
                        area: index,
                        content,
                    };
                    return (span, Some((layer.store, segment)));
                }
            }
        }
        let content = match area.base() {
            Base::Zero => Content::Zero,
            Base::File => Content::File {
                id: u32::try_from(vma.shmid).unwrap_or(0),
                offset: vma.pgoff + within,
            },
            Base::Kernel => Content::Kernel,
            Base::Device => Content::Device,
            Base::Plugin => Content::Plugin,
            Base::Missing => Content::Missing,
        };
        (
            Span {
                start: address,
                end,
                area: index,
                content,
            },
            None,
        )
    }
}

impl From<&VmaEntry> for Vma {
    fn from(entry: &VmaEntry) -> Self {
        Self {
            start: entry.start,
            end: entry.end,
            pgoff: entry.pgoff,
            shmid: entry.shmid,
            prot: entry.prot,
            flags: entry.flags,
            status: entry.status,
        }
    }
}

impl Area {
    /// First address.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.vma.start
    }

    /// Address behind the last one.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.vma.end
    }

    /// The area as the image describes it: protection, flags, status.
    #[must_use]
    pub fn vma(&self) -> Vma {
        self.vma
    }

    /// Where to look for bytes, in turn: what is shared by all who map it is in a pagemap of its
    /// own; a private mapping has its own copies over that.
    fn layers(&self) -> impl Iterator<Item = Layer> + use<> {
        let is_private = self.vma.status & (super::VMA_ANON_SHARED | super::VMA_FILE_SHARED) == 0;
        // The first store has the task's own pages, at their addresses.
        let private = is_private.then_some(Layer {
            store: 0,
            base: self.vma.start,
        });
        let base = self.vma.pgoff;
        let object = self.object.map(|store| Layer { store, base });
        private.into_iter().chain(object)
    }

    fn base(&self) -> Base {
        let is = |bit: u32| self.vma.status & bit != 0;
        match () {
            () if self.object.is_some() => Base::Zero,
            () if is(super::VMA_ANON_SHARED) || is(super::VMA_AREA_MEMFD) => Base::Missing,
            () if is(super::VMA_EXT_PLUGIN) => Base::Plugin,
            () if is(super::VMA_AREA_SOCKET) => Base::Device,
            () if is(super::VMA_AREA_VDSO) || is(super::VMA_AREA_VVAR) => Base::Kernel,
            () if is(super::VMA_AREA_VSYSCALL) || is(super::VMA_AREA_UPROBES) => Base::Kernel,
            () if is(super::VMA_FILE_PRIVATE) || is(super::VMA_FILE_SHARED) => Base::File,
            () => Base::Zero,
        }
    }

    /// The id of the mapped file.
    #[must_use]
    pub fn file_id(&self) -> Option<u32> {
        let mapped = super::VMA_FILE_PRIVATE | super::VMA_FILE_SHARED;
        (self.vma.status & mapped != 0).then(|| u32::try_from(self.vma.shmid).ok())?
    }

    /// The id of the shared memory object.
    #[must_use]
    pub fn shared_id(&self) -> Option<u64> {
        (self.vma.status & super::VMA_ANON_SHARED != 0).then_some(self.vma.shmid)
    }
}

impl Span {
    /// Bytes in the span.
    #[must_use]
    pub fn byte_len(&self) -> u64 {
        self.end - self.start
    }
}

impl Content {
    /// Returns whether the images tell the bytes.
    #[must_use]
    pub fn is_known(&self) -> bool {
        matches!(
            self,
            Self::Stored { .. } | Self::Compressed { .. } | Self::Zero
        )
    }
}

impl Iterator for Spans<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let area = self.space.areas.get(self.area)?;
        let start = self.next.max(area.vma.start);
        if start >= self.end {
            return None;
        }
        let (mut span, _) = self.space.span_in(self.area, area, start);
        span.end = span.end.min(self.end);
        self.next = span.end;
        if span.end >= area.vma.end {
            self.area += 1;
        }
        Some(span)
    }
}
