//! Mapped areas of memory.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{self, Write};

use bstr::BString;
use criu_image::ImageKind;
use criu_image::memory::{
    VMA_ANON_SHARED, VMA_AREA_SOCKET, VMA_AREA_SYSVIPC, VMA_AREA_VDSO, VMA_AREA_VSYSCALL,
    VMA_FILE_PRIVATE, VMA_FILE_SHARED,
};
use criu_image::message::{FdTypes, MmEntry, VmaEntry};
use serde::{Serialize, Serializer};

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
        let mut objects = Objects::default();
        // Objects are counted over all tasks, also when one is asked about.
        let only = self.only.take();
        let living = self.living();
        self.only = only;
        for pid in living {
            let Some(mm) = self.wanted(self.checkpoint.mm(pid)) else {
                continue;
            };
            let vmas = self.vmas_of(pid, &mm);
            if only.is_some_and(|only| only != pid) {
                for vma in vmas.iter() {
                    objects.resource(vma);
                }
                continue;
            }
            let exe = self.describe(pid, FdTypes::Reg, mm.exe_file_id);
            let mut areas = Vec::with_capacity(vmas.len());
            for vma in vmas.iter() {
                let mut resource = match objects.resource(vma) {
                    Resource::Named(name) => name.into(),
                    Resource::File { id } => {
                        let mut text = self.describe(pid, FdTypes::Reg, id);
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
                areas.push(Mapping {
                    start: vma.start,
                    end: vma.end,
                    protection: vma.prot,
                    resource,
                });
            }
            tasks.push(TaskMappings { pid, exe, areas });
        }
        self.answer(Mappings(tasks))
    }

    /// The areas of a task, also from the image that older CRIU wrote for them.
    pub(super) fn vmas_of<'a>(&mut self, pid: u32, mm: &'a MmEntry) -> Cow<'a, [VmaEntry]> {
        if !mm.vmas.is_empty() {
            return mm.vmas.as_slice().into();
        }
        self.entries(ImageKind::Vmas, pid.into()).into()
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
        let mut line = Vec::new();
        for task in &self.0 {
            writeln!(out, "{}", task.pid)?;
            write!(out, "\t{:<36}    ", "exe")?;
            out.write_all(&task.exe)?;
            out.write_all(b"\n")?;
            for area in &task.areas {
                line.clear();
                column::hexadecimal(&mut line, area.start, 8);
                line.push(b'-');
                column::hexadecimal(&mut line, area.end, 8);
                column::fill(&mut line, 0, 36);
                line.extend(protection_letters(area.protection));
                if !area.resource.is_empty() {
                    line.push(b' ');
                    line.extend_from_slice(&area.resource);
                }
                line.push(b'\n');
                out.write_all(b"\t")?;
                out.write_all(&line)?;
            }
        }
        Ok(())
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
