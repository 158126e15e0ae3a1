//! Open files: descriptors, working directories and roots.

use std::io::{self, Write};

use bstr::BString;
use criu_image::ImageKind;
use criu_image::message::{FdTypes, FdinfoEntry};
use criu_image::wire::slot::OpenEnum;
use serde::Serialize;

use super::{Explorer, Partial, Warning};

/// The open files of a task.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FdTable {
    /// The task.
    pub pid: u32,
    /// Its descriptors in the order of the image, then its working directory and its root.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<OpenFile>,
}

/// An open file.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct OpenFile {
    /// The descriptor's number, or `cwd`, or `root`.
    pub fd: String,
    /// CRIU's name of the file's type; none for directories that are no descriptors.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Path of the file, or what CRIT calls it.
    #[serde(serialize_with = "super::text")]
    pub path: BString,
}

/// The open files of each task that was not dead.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct OpenFiles(pub Vec<FdTable>);

impl Explorer {
    /// Open files: descriptors, working directories and roots.
    pub fn open_files(&mut self) -> Partial<OpenFiles> {
        let mut tables = Vec::new();
        for pid in self.living() {
            let mut files = Vec::new();
            for fd in self.fdinfo(pid) {
                let path = self.describe(pid, fd.r#type, fd.id);
                files.push(OpenFile {
                    fd: fd.fd.to_string(),
                    kind: Some(type_name(fd.r#type)),
                    path,
                });
            }
            if let Some(fs) = self.wanted(self.checkpoint.fs(pid)) {
                for (fd, id) in [("cwd", fs.cwd_id), ("root", fs.root_id)] {
                    files.push(OpenFile {
                        fd: fd.to_owned(),
                        kind: None,
                        path: self.describe(pid, FdTypes::Reg, id),
                    });
                }
            }
            tables.push(FdTable { pid, files });
        }
        self.answer(OpenFiles(tables))
    }

    /// The descriptors of a task.
    pub(super) fn fdinfo(&mut self, pid: u32) -> Vec<FdinfoEntry> {
        let Some(ids) = self.wanted(self.checkpoint.ids(pid)) else {
            return Vec::new();
        };
        self.entries(ImageKind::Fdinfo, ids.files_id.into())
    }

    /// What CRIT calls a file of a task.
    pub(super) fn describe(&mut self, pid: u32, kind: FdTypes, id: u32) -> BString {
        // Areas of a mapped file stand side by side.
        if let Some((_, text)) = self
            .described
            .as_ref()
            .filter(|(key, _)| *key == (kind, id))
        {
            return text.clone();
        }
        let (text, found) = self.file_table().describe(kind, id);
        match found {
            true => self.described = Some(((kind, id), text.clone())),
            false => self.warn(Warning::UnknownFile { pid, kind, id }),
        }
        text
    }
}

/// CRIU's name of a type of file; its number if it has none.
pub(super) fn type_name(kind: FdTypes) -> String {
    match FdTypes::DESCRIPTOR.name_of(kind.number()) {
        Some(name) => name.to_owned(),
        None => kind.number().to_string(),
    }
}

impl OpenFiles {
    /// Writes the files as `crit x DIR fds` does.
    ///
    /// # Errors
    ///
    /// Fails when `out` does.
    pub fn write_text(&self, out: &mut impl Write) -> io::Result<()> {
        for FdTable { pid, files } in &self.0 {
            writeln!(out, "{pid}")?;
            for file in files {
                write!(out, "\t{:>7}: ", file.fd)?;
                out.write_all(&file.path)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }
}
