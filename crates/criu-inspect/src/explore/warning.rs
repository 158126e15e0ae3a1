//! What was found amiss while a question was answered.

use criu_image::ImageKind;
use criu_image::message::FdTypes;
use criu_image::wire::DecodeError;

/// An answer, with what is missing from it.
///
/// Checkpoints are looked at because something went wrong as often as not, so a damaged or missing
/// image costs the part of the answer that it holds, and no more.
#[derive(Debug)]
#[must_use]
pub struct Partial<T> {
    /// What could be found out.
    pub value: T,
    /// Why it may not be all. What is wrong with an image that an explorer reads once for several answers, such as the
    /// files, is told with the first of them.
    pub warnings: Vec<Warning>,
}

/// Why an answer may not be whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// An image is missing or damaged.
    #[error(transparent)]
    Image(#[from] criu_image::Error),
    /// A task's parent is not in the tree.
    #[error("task {pid} has the parent {ppid}, which is not in the checkpoint")]
    UnknownParent {
        /// The task.
        pid: u32,
        /// The parent that it names.
        ppid: u32,
    },
    /// A task is an ancestor of itself.
    #[error("task {pid} is its own ancestor")]
    Cycle {
        /// The task.
        pid: u32,
    },
    /// Two tasks have the same id.
    #[error("two tasks have the pid {pid}")]
    SamePid {
        /// The id.
        pid: u32,
    },
    /// Tasks are nested deeper than they are shown.
    #[error("tasks nested deeper than {limit} levels are shown at that level")]
    TooDeep {
        /// The deepest level shown.
        limit: usize,
    },
    /// The tree of tasks is missing, and was made up from the other images.
    #[error("the tree of tasks is made up from the core images, without parents")]
    NoTree,
    /// A task refers to a file that no image holds.
    #[error("task {pid}: no {} file with id {id} in the images", kind_name(*.kind))]
    UnknownFile {
        /// The task.
        pid: u32,
        /// The type of file.
        kind: FdTypes,
        /// The id.
        id: u32,
    },
    /// A mapped area is malformed.
    #[error("task {pid}: an area of its memory is malformed")]
    Area {
        /// The task.
        pid: u32,
        /// In what way.
        #[source]
        source: DecodeError,
    },
    /// Bytes of a task's memory are not in the images.
    #[error("task {pid}: memory from {address:#x} on is not in the images ({reason})")]
    Memory {
        /// The task.
        pid: u32,
        /// First address missing.
        address: u64,
        /// Where the bytes are instead.
        reason: &'static str,
    },
    /// The output of another program in an image cannot be understood.
    #[error("{kind} image of namespace {id}: at byte {offset}: {detail}")]
    Foreign {
        /// The kind of image.
        kind: ImageKind,
        /// The namespace.
        id: u64,
        /// Where, in bytes.
        offset: usize,
        /// In what way.
        detail: &'static str,
    },
}

fn kind_name(kind: FdTypes) -> String {
    super::files::type_name(kind)
}
