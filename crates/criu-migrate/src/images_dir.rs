//! A directory of images: names, files with holes, and what is read from and written to them.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat, symlinkat};

use crate::error::{Error, Result};

/// A directory for the images of one dump or round. Whoever made the directory around it removes it.
#[derive(Debug)]
pub(crate) struct ImagesDir {
    path: PathBuf,
    directory: File,
}

impl ImagesDir {
    /// Makes one that must not be there yet.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(Error::io(format!("make the directory {}", path.display())))?;
        Self::open_at(path)
    }

    /// Uses one that is there.
    pub(crate) fn open_at(path: PathBuf) -> Result<Self> {
        let opening = Error::io(format!("open the directory {}", path.display()));
        Ok(Self {
            directory: File::open(&path).map_err(opening)?,
            path,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Names the images that those in here build upon.
    pub(crate) fn link_parent(&self, parent: &Path) -> Result<()> {
        let linked = symlinkat(parent, &self.directory, "parent").map_err(io::Error::from);
        linked.map_err(Error::io(format!("link {}", parent.display())))
    }

    /// A descriptor of the directory.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        let copy = self.directory.try_clone();
        Ok(copy.map_err(Error::io("use the images directory"))?.into())
    }

    /// The images in it, with their lengths, in order of their names.
    pub(crate) fn images(&self) -> Result<Vec<(ImageName, u64)>> {
        let listing = || -> io::Result<Vec<(ImageName, u64)>> {
            let mut images = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                let name = entry.file_name().into_string().ok();
                if let Some(name) = name.and_then(|name| ImageName::parse(&name))
                    && entry.file_type()?.is_file()
                {
                    images.push((name, entry.metadata()?.len()));
                }
            }
            images.sort();
            Ok(images)
        };
        listing().map_err(Error::io(format!("list {}", self.path.display())))
    }

    /// Opens an image for reading.
    pub(crate) fn open_image(&self, name: &ImageName) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.directory, &name.0, flags, Mode::empty())?.into())
    }

    /// Makes an image that must not be there yet.
    pub(crate) fn create_image(&self, name: &ImageName) -> io::Result<ImageFile> {
        Ok(ImageFile {
            file: self.create_file(&name.0)?,
            len_bytes: 0,
        })
    }

    /// Makes a file of a name of our own that must not be there yet.
    pub(crate) fn create_file(&self, name: &str) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.directory, name, flags, Mode::RUSR | Mode::WUSR)?.into())
    }
}

/// The name of an image file: one plain component ending in `.img`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ImageName(String);

/// Longest name: CRIU's own stay far below.
pub(crate) const NAME_BYTES_MAX: usize = 200;

impl ImageName {
    /// Reads a name; `None` for what is no name of an image file, however it came about.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let good = name.ends_with(".img")
            && !name.starts_with('.')
            && name.len() <= NAME_BYTES_MAX
            && name.bytes().all(plain);
        good.then(|| Self(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// An image being written, with holes for its zeros.
#[derive(Debug)]
pub(crate) struct ImageFile {
    file: File,
    len_bytes: u64,
}

impl ImageFile {
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len_bytes += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn skip_zeros(&mut self, count: u64) -> io::Result<()> {
        let end = self.len_bytes.checked_add(count);
        self.len_bytes = end.ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.seek(SeekFrom::Start(self.len_bytes))?;
        Ok(())
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        self.file.set_len(self.len_bytes)
    }
}

/// Reads data of a file and jumps over its holes.
#[derive(Debug)]
pub(crate) struct SparseReader {
    file: File,
    at: u64,
    data_end: u64,
    len_bytes: u64,
}

/// A piece of a sparse file.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    Data(&'a [u8]),
    Hole(u64),
}

impl SparseReader {
    pub(crate) fn new(file: File, len_bytes: u64) -> Self {
        Self {
            file,
            at: 0,
            data_end: 0,
            len_bytes,
        }
    }

    /// Reads the next piece, as much as the buffer holds; `None` at the end.
    pub(crate) fn next<'a>(&mut self, buffer: &'a mut [u8]) -> io::Result<Option<Piece<'a>>> {
        if self.at >= self.len_bytes {
            return Ok(None);
        }
        if self.at >= self.data_end {
            let data = match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(self.at)) {
                Ok(data) => data.min(self.len_bytes),
                // No data up to the end.
                Err(rustix::io::Errno::NXIO) => self.len_bytes,
                Err(errno) => return Err(errno.into()),
            };
            if data > self.at {
                let hole = data - self.at;
                self.at = data;
                return Ok(Some(Piece::Hole(hole)));
            }
            let hole = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(self.at))?;
            self.data_end = hole.min(self.len_bytes);
            self.file.seek(SeekFrom::Start(self.at))?;
        }
        let left = self.data_end - self.at;
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.file.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(Some(Piece::Data(&buffer[..count])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_image_names_are_names() {
        for good in [
            "core-1.img",
            "ghost-file-2a.img",
            "tmpfs-dev-30.tar.gz.img",
            "ids-4_2.img",
        ] {
            assert!(ImageName::parse(good).is_some(), "{good}");
        }
        let long = format!("{}.img", "a".repeat(200));
        for bad in [
            "",
            ".img",
            "..",
            "../core-1.img",
            "/etc/core-1.img",
            "a/b.img",
            "core-1.img/",
            ".hidden.img",
            "parent",
            "core-1",
            "stats-dump",
            "core 1.img",
            "core\n.img",
            "core\0.img",
            "cöre.img",
            &long,
        ] {
            assert!(ImageName::parse(bad).is_none(), "{bad:?}");
        }
    }
}
