//! Mapped areas of memory.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, Write};

use bstr::{BString, ByteSlice};
use criu_image::ImageKind;
use criu_image::checkpoint::MemoryMap;
use criu_image::memory::{
    VMA_ANON_SHARED, VMA_AREA_SOCKET, VMA_AREA_SYSVIPC, VMA_AREA_VDSO, VMA_AREA_VSYSCALL,
    VMA_FILE_PRIVATE, VMA_FILE_SHARED,
};
use criu_image::message::{FdTypes, VmaEntry};
use criu_image::wire::DecodeError;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

use super::streamed::{Listing, Streamed};
use super::{Explorer, Partial, column};

/// The mapped areas of a task.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct TaskMappings {
    /// The task.
    pub pid: u32,
    /// Path of its program.
    #[serde(serialize_with = "super::text")]
    pub exe: BString,
    /// The areas, in the order of the image.
    #[serde(rename = "mems", skip_serializing_if = "Vec::is_empty")]
    pub areas: Vec<Mapping>,
}

/// A mapped area.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Mapping {
    /// First address.
    #[serde(serialize_with = "super::hexadecimal")]
    pub start: u64,
    /// Address behind the last one.
    #[serde(serialize_with = "super::hexadecimal")]
    pub end: u64,
    /// `PROT_*` bits.
    #[serde(serialize_with = "protection")]
    pub protection: u32,
    /// What is mapped, in CRIT's words; empty for plain memory.
    #[serde(
        serialize_with = "super::text",
        skip_serializing_if = "super::is_empty"
    )]
    pub resource: BString,
}

/// The mapped areas of each task that was not dead.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Mappings(pub Vec<TaskMappings>);

impl Explorer {
    /// Mapped areas of memory.
    pub fn mappings(&mut self) -> Partial<Mappings> {
        let mut tasks = Vec::new();
        let Ok(()) = self.each_mappings(|pid, exe, areas| {
            let (exe, areas) = (exe.to_owned(), areas.collect());
            tasks.push(TaskMappings { pid, exe, areas });
            Ok::<_, Infallible>(())
        });
        self.answer(Mappings(tasks))
    }

    /// Goes over the mapped areas of each task once.
    fn each_mappings<E>(
        &mut self,
        mut visit: impl FnMut(u32, &BString, Areas<'_, '_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut objects = Objects::default();
        // Objects are counted over all tasks, also when one is asked about.
        let only = self.only.take();
        let living = self.living();
        self.only = only;
        for pid in living {
            let Some(map) = self.memory_map(pid) else {
                continue;
            };
            let is_asked_about = only.is_none_or(|only| only == pid);
            let exe = match is_asked_about {
                true => self.describe(pid, FdTypes::Reg, map.mm().exe_file_id),
                false => BString::default(),
            };
            let mut areas = Areas {
                explorer: self,
                pid,
                vmas: Box::new(map.areas()),
                objects: &mut objects,
            };
            match is_asked_about {
                true => visit(pid, &exe, areas)?,
                false => while areas.next_vma().is_some() {},
            }
        }
        Ok(())
    }

    /// The memory of a task, with areas also from the image that older CRIU wrote for them.
    pub(super) fn memory_map(&mut self, pid: u32) -> Option<MemoryMap> {
        let mut map = self.wanted(self.checkpoint.memory_map_of_mm(pid))?;
        if map.area_count() == 0
            && let Some(mut legacy) =
                self.optional(self.checkpoint.image(ImageKind::Vmas, pid.into()))
        {
            let taken = map.take_legacy_areas(&mut legacy);
            self.wanted(taken);
        }
        Some(map)
    }
}

/// The mapped areas of a task, one by one.
struct Areas<'a, 'm> {
    explorer: &'a mut Explorer,
    pid: u32,
    vmas: Box<dyn Iterator<Item = Result<VmaEntry, DecodeError>> + 'm>,
    objects: &'a mut Objects,
}

impl Areas<'_, '_> {
    /// The next area that is not malformed.
    fn next_vma(&mut self) -> Option<(VmaEntry, Resource)> {
        loop {
            match self.vmas.next()? {
                Ok(vma) => {
                    let resource = self.objects.resource(&vma);
                    return Some((vma, resource));
                }
                Err(error) => self.explorer.warn_of_area(self.pid, error),
            }
        }
    }
}

impl Iterator for Areas<'_, '_> {
    type Item = Mapping;

    fn next(&mut self) -> Option<Mapping> {
        let (vma, resource) = self.next_vma()?;
        let mut resource = match resource {
            Resource::Named(name) => name.into(),
            Resource::File { id } => {
                let mut text = self.explorer.describe(self.pid, FdTypes::Reg, id);
                if vma.pgoff != 0 {
                    text.extend_from_slice(format!(" + {:#x}", vma.pgoff).as_bytes());
                }
                if vma.status & VMA_FILE_SHARED != 0 {
                    text.extend_from_slice(b" (s)");
                }
                text
            }
        };
        if vma.status & VMA_AREA_REGULAR == 0 {
            if !resource.is_empty() {
                resource.push(b' ');
            }
            resource.push(b'*');
        }
        Some(Mapping {
            start: vma.start,
            end: vma.end,
            protection: vma.prot,
            resource,
        })
    }
}

/// What lies behind an area.
enum Resource {
    Named(String),
    File { id: u32 },
}

/// Shared objects, numbered as they are met.
#[derive(Debug, Default)]
struct Objects {
    numbers: HashMap<u64, usize>,
}

impl Objects {
    fn resource(&mut self, vma: &VmaEntry) -> Resource {
        let is = |bits: u32| vma.status & bits != 0;
        Resource::Named(match () {
            () if is(VMA_AREA_SYSVIPC) => format!("ips[{:x}]", self.number(vma.shmid)),
            () if is(VMA_ANON_SHARED) => format!("shmem[{:x}]", self.number(vma.shmid)),
            () if is(VMA_AREA_SOCKET) => format!("packet[{:x}]", self.number(vma.shmid)),
            () if is(VMA_FILE_PRIVATE | VMA_FILE_SHARED) => {
                // Files have ids of 32 bits; no file has the id 0.
                let id = u32::try_from(vma.shmid).unwrap_or(0);
                return Resource::File { id };
            }
            () if is(VMA_AREA_STACK) => "[stack]".to_owned(),
            () if is(VMA_AREA_VSYSCALL) => "[vsyscall]".to_owned(),
            () if is(VMA_AREA_VDSO) => "[vdso]".to_owned(),
            () if vma.flags & MAP_GROWSDOWN != 0 => "[stack?]".to_owned(),
            () => String::new(),
        })
    }

    fn number(&mut self, id: u64) -> usize {
        let next = self.numbers.len() + 1;
        *self.numbers.entry(id).or_insert(next)
    }
}

impl Mapping {
    /// Protection as `ls` and `pmap` have it: `rwx`, `r--`.
    #[must_use]
    pub fn protection_text(&self) -> String {
        protection_text(self.protection)
    }
}

impl Mappings {
    /// Writes the areas as `crit x DIR mems` does.
    ///
    /// # Errors
    ///
    /// Fails when `out` does.
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        let mut lines = Lines::new(out);
        for task in &self.0 {
            lines.task(task.pid, &task.exe)?;
            for area in &task.areas {
                lines.area(area)?;
            }
        }
        Ok(())
    }
}

impl Streamed<'_, Mappings> {
    /// Writes the areas as `crit x DIR mems` does.
    ///
    /// # Errors
    ///
    /// Fails when `out` does.
    pub fn write_text(&mut self, out: &mut impl Write) -> io::Result<()> {
        let mut lines = Lines::new(out);
        self.explorer.get_mut().each_mappings(|pid, exe, areas| {
            lines.task(pid, exe)?;
            for area in areas {
                lines.area(&area)?;
            }
            Ok(())
        })
    }
}

impl Serialize for Streamed<'_, Mappings> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tasks = serializer.serialize_seq(None)?;
        self.explorer
            .borrow_mut()
            .each_mappings(|pid, exe, areas| {
                let exe = exe.to_str_lossy();
                tasks.serialize_element(&Listing::new(pid, Some(&exe), "mems", areas))
            })?;
        tasks.end()
    }
}

/// Writes lines as CRIT does.
struct Lines<'a, W> {
    out: &'a mut W,
    line: Vec<u8>,
}

impl<'a, W: Write> Lines<'a, W> {
    fn new(out: &'a mut W) -> Self {
        let line = Vec::new();
        Self { out, line }
    }

    fn task(&mut self, pid: u32, exe: &BString) -> io::Result<()> {
        write!(self.out, "{pid}\n\t{:<36}    ", "exe")?;
        self.out.write_all(exe)?;
        self.out.write_all(b"\n")
    }

    fn area(&mut self, area: &Mapping) -> io::Result<()> {
        let line = &mut self.line;
        line.clear();
        line.push(b'\t');
        column::hexadecimal(line, area.start, 8);
        line.push(b'-');
        column::hexadecimal(line, area.end, 8);
        column::fill(line, 1, 36);
        line.extend(protection_letters(area.protection));
        if !area.resource.is_empty() {
            line.push(b' ');
            line.extend_from_slice(&area.resource);
        }
        line.push(b'\n');
        self.out.write_all(line)
    }
}

fn protection_text(bits: u32) -> String {
    protection_letters(bits)
        .into_iter()
        .map(char::from)
        .collect()
}

fn protection_letters(bits: u32) -> [u8; 3] {
    let letters = [(1, b'r'), (2, b'w'), (4, b'x')];
    letters.map(|(bit, letter)| if bits & bit != 0 { letter } else { b'-' })
}

fn protection<S: Serializer>(bits: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&protection_text(*bits))
}

// Bits of `vma_entry.status`, from CRIU's `image.h`.

/// The area is one to dump (`VMA_AREA_REGULAR`).
const VMA_AREA_REGULAR: u32 = 1;
/// The main stack (`VMA_AREA_STACK`).
const VMA_AREA_STACK: u32 = 1 << 1;

/// The area grows at its start (`MAP_GROWSDOWN` of `mmap`).
const MAP_GROWSDOWN: u32 = 0x100;
