//! Where the images of a checkpoint come from.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// A place that holds the images of one checkpoint.
///
/// [`Directory`] is one; archives and streams can be others.
pub trait Source: Debug + Send + Sync {
    /// Lists the files, in any order.
    ///
    /// # Errors
    ///
    /// Fails when the place cannot be read.
    fn names(&self) -> Result<Vec<String>>;

    /// Opens a file for reading front to back.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Missing`] when there is no such file.
    fn open(&self, name: &str) -> Result<OpenImage>;

    /// Opens a file for reading anywhere, as page contents need.
    ///
    /// # Errors
    ///
    /// Fails with [`ErrorKind::Missing`] when there is no such file.
    fn open_pages(&self, name: &str) -> Result<Arc<dyn RandomAccess>>;

    /// The checkpoint that this one continues, which is where its `parent` link leads.
    ///
    /// # Errors
    ///
    /// Fails when there is a link that leads nowhere.
    fn parent(&self) -> Result<Option<Arc<dyn Source>>>;

    /// Names the place, in messages and to find out whether a chain of parents comes back to it.
    fn location(&self) -> &Path;
}

/// A file of a [`Source`], being read.
pub struct OpenImage {
    /// The bytes.
    pub bytes: Box<dyn Read + Send>,
    /// How many there are, if that is known.
    pub len: Option<u64>,
}

/// Bytes that can be read anywhere, from several threads at once.
pub trait RandomAccess: Debug + Send + Sync {
    /// How many bytes there are.
    fn byte_len(&self) -> u64;

    /// Reads some bytes at an offset; 0 at the end.
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The file with just these bytes, for those who would rather map it.
    fn as_file(&self) -> Option<&File> {
        None
    }

    /// Reads bytes at an offset until `out` is full.
    ///
    /// # Errors
    ///
    /// Fails when the source cannot be read or ends too early.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let mut filled = 0;
        while filled < out.len() {
            match self.read_at(&mut out[filled..], offset + filled as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A directory of images, as CRIU writes it.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    canonical: PathBuf,
}

impl Directory {
    /// Opens a directory.
    ///
    /// # Errors
    ///
    /// Fails when there is no such directory.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let canonical = fs::canonicalize(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::from(ErrorKind::NoDirectory).in_file(path),
            _ => in_path(error, "open", path),
        })?;
        if !canonical.is_dir() {
            return Err(in_path(io::ErrorKind::NotADirectory.into(), "open", path));
        }
        Ok(Self {
            path: path.to_owned(),
            canonical,
        })
    }

    /// The path as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, name: &str) -> Result<(File, u64)> {
        let path = self.path.join(name);
        let failed = |error| in_path(error, "open", &path);
        // Opening a named pipe would wait for a writer.
        if !fs::metadata(&path).map_err(failed)?.is_file() {
            let detail = "not a regular file".to_owned();
            return Err(Error::from(ErrorKind::Unsupported { detail }).in_file(&path));
        }
        let file = File::open(&path).map_err(failed)?;
        let len = file.metadata().map_err(failed)?.len();
        Ok((file, len))
    }
}

impl Source for Directory {
    fn names(&self) -> Result<Vec<String>> {
        let failed = |error| in_path(error, "read", &self.path);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            // Names that are not UTF-8 are no images.
            names.extend(entry.map_err(failed)?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> Result<OpenImage> {
        let (file, len) = self.file(name)?;
        Ok(OpenImage {
            bytes: Box::new(file),
            len: Some(len),
        })
    }

    fn open_pages(&self, name: &str) -> Result<Arc<dyn RandomAccess>> {
        let (file, byte_len) = self.file(name)?;
        Ok(Arc::new(PagesFile { file, byte_len }))
    }

    fn parent(&self) -> Result<Option<Arc<dyn Source>>> {
        let link = self.path.join(PARENT);
        match fs::symlink_metadata(&link) {
            Ok(_) => match Self::open(&link) {
                Err(error) if error.is_missing() => {
                    let detail = "the link to the parent checkpoint leads nowhere".to_owned();
                    Err(Error::from(ErrorKind::Inconsistent { detail }).in_file(&link))
                }
                opened => Ok(Some(Arc::new(opened?))),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(in_path(error, "open", &link)),
        }
    }

    fn location(&self) -> &Path {
        &self.canonical
    }
}

impl std::fmt::Debug for OpenImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenImage")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct PagesFile {
    file: File,
    byte_len: u64,
}

impl RandomAccess for PagesFile {
    fn byte_len(&self) -> u64 {
        self.byte_len
    }

    #[cfg(unix)]
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, out, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, out, offset)
    }

    fn as_file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

impl RandomAccess for Vec<u8> {
    fn byte_len(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.get(offset..));
        let rest = rest.unwrap_or_default();
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

fn in_path(error: io::Error, action: &'static str, path: &Path) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::from(ErrorKind::Missing),
        _ => Error::io(action, error),
    }
    .in_file(path)
}

/// The link to the images that an incremental checkpoint continues.
const PARENT: &str = "parent";
