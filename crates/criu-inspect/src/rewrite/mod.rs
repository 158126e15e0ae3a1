//! Writes a checkpoint anew: its pages ([`compress()`], [`decompress()`], [`flatten()`]), and what it
//! says of addresses, paths and names ([`fn@edit`]).
//!
//! All or nothing: new files are staged beside the old ones, take their names together at the end,
//! and the old ones come back if that fails or the [`Monitor`](crate::Monitor) stops it.

mod compress;
mod decompress;
mod edit;
mod flatten;
mod pagemap;
mod transaction;

use std::io;
use std::path::{Path, PathBuf};

use criu_image::memory::PageSize;

pub use self::compress::{CompressOptions, compress};
pub use self::decompress::{DecompressOptions, decompress};
pub use self::edit::{Edit, EditMode, EditOptions, Edited, End, InvalidEdit, Sockets, Task, edit};
pub use self::flatten::{FlattenOptions, flatten, flatten_into};
pub use self::transaction::{Backups, StagedFile, Transaction};

/// What became of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It was already as asked for; nothing was written.
    Unneeded,
    /// There are no pagemaps; nothing was written.
    NoPagemaps,
    /// It was written anew: what became of each pagemap, in the order of their names.
    Rewritten(Vec<RewrittenPagemap>),
}

/// What became of a pagemap and its pages.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RewrittenPagemap {
    /// Name of the pagemap's file.
    pub name: String,
    /// Pages whose bytes were written.
    pub pages: u64,
    /// Bytes read of pages files.
    pub bytes_read: u64,
    /// Bytes that the new pages file has.
    pub bytes_written: u64,
}

/// Why a checkpoint was not written anew.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image is damaged or cannot be read.
    #[error(transparent)]
    Image(criu_image::Error),
    /// Reading or writing failed.
    #[error("{}: cannot {action}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// An entry of a pagemap says what cannot be.
    #[error("{} entry {entry}: {detail}", path.display())]
    Entry {
        /// The pagemap.
        path: PathBuf,
        /// Index of the entry; the head is entry 0.
        entry: u64,
        /// What is wrong.
        detail: String,
    },
    /// The images as a whole do not fit each other.
    #[error("{}: {detail}", path.display())]
    Unsuitable {
        /// The image.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// An edit finds nothing to change.
    #[error("nothing in the checkpoint fits {edit}")]
    Unmatched {
        /// The edit, as text.
        edit: String,
    },
    /// A backup has the name of an existing file.
    #[error("refusing to overwrite existing backup: {}", path.display())]
    BackupExists {
        /// The existing file.
        path: PathBuf,
    },
    /// The monitor stopped it; everything is as it was.
    #[error("interrupted; nothing was changed")]
    Interrupted,
    /// The old files could not be put back.
    #[error("commit failed ({cause}); rollback also failed for {}", files.join(", "))]
    Rollback {
        /// Why the new files were not left in place.
        cause: Box<Error>,
        /// The files, each with where its old content is and why it could not be put back.
        files: Vec<String>,
    },
}

/// What the functions here return.
pub type Result<T> = std::result::Result<T, Error>;

impl From<criu_image::Error> for Error {
    fn from(error: criu_image::Error) -> Self {
        Self::Image(error)
    }
}

impl Error {
    fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    fn unsuitable(path: impl Into<PathBuf>, detail: impl Into<String>) -> Self {
        Self::Unsuitable {
            path: path.into(),
            detail: detail.into(),
        }
    }
}

/// Bits of `inventory_entry.img_version` as CRIU numbers them: images with a first word
/// (`CRTOOLS_IMAGES_V1_1`).
const IMAGES_V1_1: u32 = 2;
/// The same with compressed pages (`CRTOOLS_IMAGES_V1_2`, CRIU 4.3).
const IMAGES_V1_2: u32 = 3;

/// The page size of images that do not tell it.
const FALLBACK_PAGE_SIZE: PageSize = PageSize::DEFAULT;
