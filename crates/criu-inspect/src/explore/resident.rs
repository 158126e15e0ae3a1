//! Which pages of tasks were dumped, and what they belong to.

use std::convert::Infallible;
use std::io::{self, Read, Write};

use bstr::BString;
use criu_image::memory::{PE_PRESENT, PageRange, PageSize, VMA_FILE_PRIVATE, VMA_FILE_SHARED};
use criu_image::message::{CoreEntryMarch, FdTypes, PagemapHead};
use criu_image::{Entry, ImageKind, ImageReader};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::streamed::{Listing, Streamed};
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
        let Ok(()) = self.each_resident(|pid, ranges| {
            let ranges = ranges.collect();
            tasks.push(TaskResident { pid, ranges });
            Ok::<_, Infallible>(())
        });
        self.answer(Resident(tasks))
    }

    /// Goes over the dumped pages of each task once.
    fn each_resident<E>(
        &mut self,
        mut visit: impl FnMut(u32, Ranges<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for pid in self.living() {
            let Some(vmas) = self.resident_vmas(pid) else {
                continue;
            };
            let page = self.page_size(pid).bytes();
            let image = self.checkpoint.image(ImageKind::Pagemap, pid.into());
            let image = self.wanted(image);
            let ranges = Ranges {
                explorer: self,
                pid,
                page,
                vmas,
                index: 0,
                shown: None,
                image,
            };
            visit(pid, ranges)?;
        }
        Ok(())
    }

    /// The areas of a task, in the order of the image.
    fn resident_vmas(&mut self, pid: u32) -> Option<Vec<ResidentVma>> {
        let map = self.memory_map(pid)?;
        let mut vmas = Vec::with_capacity(map.area_count());
        for vma in map.areas() {
            match vma {
                Ok(vma) => {
                    let mapped = vma.status & (VMA_FILE_PRIVATE | VMA_FILE_SHARED) != 0;
                    vmas.push(ResidentVma {
                        start: vma.start,
                        end: vma.end,
                        // Files have ids of 32 bits; no file has the id 0.
                        file: mapped.then(|| u32::try_from(vma.shmid).unwrap_or(0)),
                    });
                }
                Err(error) => self.warn_of_area(pid, error),
            }
        }
        Some(vmas)
    }

    /// The size of a page: what fits the length of the pages file, else what is usual.
    fn page_size(&mut self, pid: u32) -> PageSize {
        let core = self.checkpoint.core(pid).map(Entry::into_value);
        let architecture = core.map_or(CoreEntryMarch::X86_64, |core| core.mtype);
        // Some have one size only, so that the pagemap need not be gone over for it.
        match architecture {
            CoreEntryMarch::X86_64 | CoreEntryMarch::S390 => None,
            _ => self.measured_page_size(pid),
        }
        .unwrap_or_else(|| PageSize::usual_on(architecture))
    }

    /// The size of a page that fits the length of the pages file, if one does. What is amiss with
    /// the images is told when they are read for what they say.
    fn measured_page_size(&self, pid: u32) -> Option<PageSize> {
        let image = self.checkpoint.image(ImageKind::Pagemap, pid.into());
        let mut image = image.ok()?;
        let head: PagemapHead = image.next_entry().ok()??.decode().ok()?;
        let name = ImageKind::Pages.file(head.pages_id.into());
        let len = self.checkpoint.source().open(&name).ok()?.len?;
        let mut pages = 0u64;
        while let Ok(Some(entry)) = image.next_entry() {
            let Ok(range) = entry.page_range() else { break };
            if range.flags & PE_PRESENT != 0 {
                if range.has_blocks {
                    return None;
                }
                pages = pages.checked_add(range.page_count)?;
            }
        }
        (pages > 0 && len % pages == 0).then(|| PageSize::new(len / pages))?
    }
}

/// What of an area counts here.
struct ResidentVma {
    start: u64,
    end: u64,
    /// The mapped file.
    file: Option<u32>,
}

/// The dumped pages of a task, range by range.
struct Ranges<'a> {
    explorer: &'a mut Explorer,
    pid: u32,
    /// Bytes in a page.
    page: u64,
    vmas: Vec<ResidentVma>,
    /// The first area that the next range may lie in.
    index: usize,
    /// The area that was shown last.
    shown: Option<usize>,
    /// The pagemap, until its end or what is damaged in it.
    image: Option<ImageReader<Box<dyn Read + Send>>>,
}

impl Ranges<'_> {
    /// Reads the next entry of the pagemap, as far as it can be read.
    fn next_entry(&mut self) -> Option<PageRange> {
        loop {
            let read = match self.image.as_mut()?.next_entry() {
                Ok(Some(entry)) if entry.index == 0 => entry.decode::<PagemapHead>().map(|_| None),
                Ok(Some(entry)) => entry.page_range().map(Some),
                Ok(None) => {
                    self.image = None;
                    return None;
                }
                Err(error) => Err(error),
            };
            match read {
                Ok(Some(range)) => return Some(range),
                Ok(None) => {}
                Err(error) => {
                    self.explorer.warn(error);
                    self.image = None;
                }
            }
        }
    }
}

impl Iterator for Ranges<'_> {
    type Item = ResidentRange;

    fn next(&mut self) -> Option<ResidentRange> {
        let entry = self.next_entry()?;
        let (start, pages) = (entry.address, entry.page_count);
        let end = start.saturating_add(pages.saturating_mul(self.page));
        let is_before = |vma: &ResidentVma| vma.end <= start;
        while self.vmas.get(self.index).is_some_and(is_before) {
            self.index += 1;
        }
        let mut areas = Vec::new();
        let mut resource = BString::default();
        while let Some(vma) = self.vmas.get(self.index)
            && vma.start < end
        {
            if self.shown == Some(self.index) {
                areas.push(ResidentArea::Same);
            } else {
                let path = vma
                    .file
                    .map(|id| self.explorer.describe(self.pid, FdTypes::Reg, id));
                if let Some(path) = &path {
                    resource.clone_from(path);
                }
                areas.push(ResidentArea::Area {
                    start: vma.start,
                    pages: vma.end.saturating_sub(vma.start) / self.page,
                    path,
                });
                self.shown = Some(self.index);
            }
            self.index += 1;
        }
        // The last area may go on in the next range.
        self.index = self.index.saturating_sub(1);
        Some(ResidentRange {
            start,
            pages,
            areas,
            resource,
        })
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
        for task in &self.0 {
            writeln!(out, "{}", task.pid)?;
            for range in &task.ranges {
                write_range(range, &mut line, out)?;
            }
        }
        Ok(())
    }
}

impl Streamed<'_, Resident> {
    /// Writes the pages as `crit x DIR rss` does.
    ///
    /// # Errors
    ///
    /// Fails when `out` does.
    pub fn write_text(&mut self, out: &mut impl Write) -> io::Result<()> {
        let mut line = Vec::new();
        self.explorer.get_mut().each_resident(|pid, ranges| {
            writeln!(out, "{pid}")?;
            for range in ranges {
                write_range(&range, &mut line, out)?;
            }
            Ok(())
        })
    }
}

impl Serialize for Streamed<'_, Resident> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tasks = serializer.serialize_seq(None)?;
        self.explorer.borrow_mut().each_resident(|pid, ranges| {
            tasks.serialize_element(&Listing::new(pid, None, "rss", ranges))
        })?;
        tasks.end()
    }
}

/// Writes a range as CRIT does.
fn write_range(range: &ResidentRange, line: &mut Vec<u8>, out: &mut impl Write) -> io::Result<()> {
    let pages = |line: &mut Vec<u8>, count| {
        line.extend_from_slice(b" / ");
        let start = line.len();
        column::decimal(line, count);
        column::fill(line, start, 8);
    };
    line.clear();
    line.push(b'\t');
    column::hexadecimal(line, range.start, 0);
    pages(line, range.pages);
    column::fill(line, 0, 24);
    for area in &range.areas {
        match area {
            ResidentArea::Same => line.extend_from_slice(b" ~"),
            ResidentArea::Area {
                start,
                pages: count,
                path,
            } => {
                line.push(b' ');
                column::hexadecimal(line, *start, 8);
                pages(line, *count);
                if let Some(path) = path {
                    line.push(b' ');
                    line.extend_from_slice(path);
                }
            }
        }
        line.extend_from_slice(b"\n\t");
        let start = line.len();
        column::fill(line, start, 23);
    }
    line.push(b'\n');
    out.write_all(line)
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
