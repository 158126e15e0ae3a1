//! Answers that are worked out while they are written, so that they need not fit into memory.

use std::cell::RefCell;
use std::marker::PhantomData;

use serde::ser::{SerializeSeq, SerializeStruct};
use serde::{Serialize, Serializer};

use super::{Explorer, Mappings, Resident, Warning};

/// An answer that is worked out while it is written: task by task, line by line.
///
/// It says the very same as the answer `T`, which is all in memory: `write_text` as CRIT does, and
/// [`Serialize`] with go-criu's members. What is amiss is known [afterwards](Self::into_warnings).
#[derive(Debug)]
pub struct Streamed<'a, T> {
    pub(super) explorer: RefCell<&'a mut Explorer>,
    answer: PhantomData<fn() -> T>,
}

impl Explorer {
    /// Mapped areas of memory, as [`mappings`](Self::mappings) gives them, in bounded memory.
    pub fn stream_mappings(&mut self) -> Streamed<'_, Mappings> {
        Streamed::new(self)
    }

    /// Which pages were dumped, as [`resident`](Self::resident) gives them, in bounded memory.
    pub fn stream_resident(&mut self) -> Streamed<'_, Resident> {
        Streamed::new(self)
    }
}

impl<'a, T> Streamed<'a, T> {
    fn new(explorer: &'a mut Explorer) -> Self {
        Self {
            explorer: RefCell::new(explorer),
            answer: PhantomData,
        }
    }

    /// What was found amiss while the answer was written.
    #[must_use]
    pub fn into_warnings(self) -> Vec<Warning> {
        std::mem::take(&mut self.explorer.into_inner().warnings)
    }
}

/// A task with a list of what it has, which is gone over once.
pub(super) struct Listing<'a, I: Iterator> {
    pid: u32,
    exe: Option<&'a str>,
    name: &'static str,
    list: RefCell<std::iter::Peekable<I>>,
}

impl<'a, I: Iterator> Listing<'a, I> {
    /// Takes a list by its member's name.
    pub(super) fn new(pid: u32, exe: Option<&'a str>, name: &'static str, list: I) -> Self {
        let list = RefCell::new(list.peekable());
        Self {
            pid,
            exe,
            name,
            list,
        }
    }
}

impl<I: Iterator<Item: Serialize>> Serialize for Listing<'_, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let is_empty = self.list.borrow_mut().peek().is_none();
        let len = 1 + usize::from(self.exe.is_some()) + usize::from(!is_empty);
        let mut task = serializer.serialize_struct("Task", len)?;
        task.serialize_field("pid", &self.pid)?;
        if let Some(exe) = self.exe {
            task.serialize_field("exe", exe)?;
        }
        if !is_empty {
            task.serialize_field(self.name, &Once(&self.list))?;
        }
        task.end()
    }
}

/// What an iterator gives, once.
struct Once<'a, I: Iterator>(&'a RefCell<std::iter::Peekable<I>>);

impl<I: Iterator<Item: Serialize>> Serialize for Once<'_, I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut items = self.0.borrow_mut();
        for item in items.by_ref() {
            list.serialize_element(&item)?;
        }
        list.end()
    }
}
