//! What is compared before anything is touched: what a tree needs with what a host has.
//!
//! [`Facts`] are what a tree needs: a running one ([`Facts::of_running`]) or one in images
//! ([`Facts::of_images`]). [`Here`] is what this host has of it. [`compare`] is a pure function of the
//! two and gives a [`Report`]: [`Finding`]s, each with its object, both values and what to do, and what
//! could not be compared. The same comparison serves the offer of a migration, an existing checkpoint on
//! this host ([`Preflight`]), and a question to another host ([`ask`]).
//!
//! A finding that [blocks](Severity::Blocks) stops a migration: the restore would fail. One that
//! [warns](Severity::Warns) may matter. What cannot be known before is left to the restore, which is
//! undone when it fails.

mod build_id;
mod check;
mod compare;
mod facts;
mod finding;
mod here;
mod images;
mod inquiry;
mod mount_table;
mod processor;
mod running;
mod socket_table;

pub use check::{Check, UnknownCheck};
pub use compare::compare;
pub use facts::{
    CgroupSeen, Facts, FactsProblem, FileKind, FileSeen, LeftOut, LsmSeen, MountRole, MountSeen,
    Protocol, SessionSeen, SocketSeen,
};
pub use finding::{Finding, NotCompared, Report, Severity};
pub use here::{CgroupHere, FileHere, Here};
pub(crate) use inquiry::{Asks, hear_answer};
pub use inquiry::{Preflight, ask};
pub(crate) use running::is_read_only;
