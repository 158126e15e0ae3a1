//! Which pages of tasks were dumped, and what they belong to.

use std::io::{self, Write};

use bstr::BString;
use criu_image::memory::{PE_PRESENT, PageSize, VMA_FILE_PRIVATE, VMA_FILE_SHARED};
use criu_image::message::{CoreEntryMarch, FdTypes, PagemapEntry, PagemapHead};
use criu_image::{Entry, ImageKind};
use serde::{Serialize, Serializer};

use super::{Explorer, Partial, column};

/// The dumped pages of a task.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TaskResident {
    /// The task.
    pub pid: u32,
    /// Ranges of pages, in the order of the image.
    #[serde(rename = "rss", skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<ResidentRange>,
}

/// A range of pages in a pagemap: those in the images as well as those left in a parent or behind.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ResidentRange {
    /// First address.
    #[serde(rename = "phy_addr", serialize_with = "super::hexadecimal")]
    pub start: u64,
    /// How many pages.
    #[serde(rename = "phy_pages")]
    pub pages: u64,
    /// The mapped areas that it lies in.
    #[serde(rename = "vmas", skip_serializing_if = "Vec::is_empty")]
    pub areas: Vec<ResidentArea>,
    /// The file mapped in the last of those areas that has one.
    #[serde(
        serialize_with = "super::text",
        skip_serializing_if = "super::is_empty"
    )]
    pub resource: BString,
}

/// A mapped area with dumped pages.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ResidentArea {
    /// The area in which the range before lies too.
    Same,
    /// Another one.
    Area {
        /// First address.
        start: u64,
        /// Pages of the whole area.
        pages: u64,
        /// The file that is mapped.
        path: Option<BString>,
    },
}

/// The dumped pages of each task that was not dead.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Resident(pub Vec<TaskResident>);

impl Explorer {
    /// Which pages were dumped, and what they belong to.
    pub fn resident(&mut self) -> Partial<Resident> {
        let mut tasks = Vec::new();
        for pid in self.living() {
            let Some(mm) = self.wanted(self.checkpoint.mm(pid)) else {
                continue;
            };
            let vmas = self.vmas_of(pid, &mm);
            let (head, entries) = self.pagemap(pid);
            let page = self.page_size(pid, &head, &entries).bytes();
            let mut ranges = Vec::with_capacity(entries.len());
            let mut index = 0;
            let mut shown = None;
            for entry in entries {
                let (start, pages) = (entry.vaddr, entry.effective_pages());
                let end = start.saturating_add(pages.saturating_mul(page));
                while vmas.get(index).is_some_and(|vma| vma.end <= start) {
                    index += 1;
                }
                let mut areas = Vec::new();
                let mut resource = BString::default();
                while let Some(vma) = vmas.get(index)
                    && vma.start < end
                {
                    if shown == Some(index) {
                        areas.push(ResidentArea::Same);
                    } else {
                        let mapped = vma.status & (VMA_FILE_PRIVATE | VMA_FILE_SHARED) != 0;
                        let path = mapped.then(|| {
                            // Files have ids of 32 bits; no file has the id 0.
                            let id = u32::try_from(vma.shmid).unwrap_or(0);
                            self.describe(pid, FdTypes::Reg, id)
                        });
                        if let Some(path) = &path {
                            resource.clone_from(path);
                        }
                        areas.push(ResidentArea::Area {
                            start: vma.start,
                            pages: vma.end.saturating_sub(vma.start) / page,
                            path,
                        });
                        shown = Some(index);
                    }
                    index += 1;
                }
                // The last area may go on in the next range.
                index = index.saturating_sub(1);
                ranges.push(ResidentRange {
                    start,
                    pages,
                    areas,
                    resource,
                });
            }
            tasks.push(TaskResident { pid, ranges });
        }
        self.answer(Resident(tasks))
    }

    /// The pagemap of a task, as far as it can be read.
    fn pagemap(&mut self, pid: u32) -> (PagemapHead, Vec<PagemapEntry>) {
        let mut entries = Vec::new();
        let mut head = PagemapHead::default();
        let image = self.checkpoint.image(ImageKind::Pagemap, pid.into());
        let Some(mut image) = self.wanted(image) else {
            return (head, entries);
        };
        loop {
            let read = image.next_entry().and_then(|entry| match entry {
                None => Ok(false),
                Some(entry) if entry.index == 0 => {
                    head = entry.decode()?;
                    Ok(true)
                }
                Some(entry) => {
                    entries.push(entry.decode()?);
                    Ok(true)
                }
            });
            match read {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.warn(error);
                    break;
                }
            }
        }
        (head, entries)
    }

    /// The size of a page: what fits the length of the pages file, else what is usual.
    fn page_size(&mut self, pid: u32, head: &PagemapHead, entries: &[PagemapEntry]) -> PageSize {
        let mut present = entries
            .iter()
            .filter(|entry| entry.effective_flags() & PE_PRESENT != 0);
        let pages = present.try_fold(0u64, |sum, entry| match entry.blocks {
            None => sum.checked_add(entry.effective_pages()),
            Some(_) => None,
        });
        let name = ImageKind::Pages.file(head.pages_id.into());
        let len = self.checkpoint.source().open(&name).ok();
        let len = len.and_then(|file| file.len);
        if let (Some(pages @ 1..), Some(len)) = (pages, len)
            && len % pages == 0
            && let Some(size) = PageSize::new(len / pages)
        {
            return size;
        }
        let core = self.checkpoint.core(pid).map(Entry::into_value);
        PageSize::usual_on(core.map_or(CoreEntryMarch::X86_64, |core| core.mtype))
    }
}

impl Resident {
    /// Writes the pages as `crit x DIR rss` does.
    ///
    /// # Errors
    ///
    /// Fails when `out` does.
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let mut line = Vec::new();
        let pages = |line: &mut Vec<u8>, count| {
            line.extend_from_slice(b" / ");
            let start = line.len();
            column::decimal(line, count);
            column::fill(line, start, 8);
        };
        for task in &self.0 {
            writeln!(out, "{}", task.pid)?;
            for range in &task.ranges {
                line.clear();
                line.push(b'\t');
                column::hexadecimal(&mut line, range.start, 0);
                pages(&mut line, range.pages);
                column::fill(&mut line, 0, 24);
                for area in &range.areas {
                    match area {
                        ResidentArea::Same => line.extend_from_slice(b" ~"),
                        ResidentArea::Area {
                            start,
                            pages: count,
                            path,
                        } => {
                            line.push(b' ');
                            column::hexadecimal(&mut line, *start, 8);
                            pages(&mut line, *count);
                            if let Some(path) = path {
                                line.push(b' ');
                                line.extend_from_slice(path);
                            }
                        }
                    }
                    line.extend_from_slice(b"\n\t");
                    let start = line.len();
                    column::fill(&mut line, start, 23);
                }
                line.push(b'\n');
                out.write_all(&line)?;
            }
        }
        Ok(())
    }
}

impl Serialize for ResidentArea {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form {
            addr: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            pages: Option<u64>,
        }
        let (addr, pages) = match self {
            Self::Same => ("~".to_owned(), None),
            Self::Area { start, pages, .. } => (format!("{start:x}"), Some(*pages)),
        };
        Form { addr, pages }.serialize(serializer)
    }
}
