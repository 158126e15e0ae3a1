//! Drives CRIU (Checkpoint/Restore In Userspace): freezes a process tree into image files and brings
//! it back, here or on another host.
//!
//! ```no_run
//! use criu::{Criu, Dump, Restore};
//!
//! let criu = Criu::find()?; // $CRIU, or `criu` on PATH
//! let mut dump = Dump::new(1234, "/var/lib/checkpoints/1");
//! dump.sockets.tcp_established = true;
//! let dumped = criu.dump(&dump)?; // process 1234 is gone now
//! if let Some(statistics) = dumped.statistics {
//!     println!("frozen for {:?}", statistics.frozen);
//! }
//! let mut restore = Restore::new("/var/lib/checkpoints/1");
//! restore.sockets.tcp_established = true;
//! println!("running again as {}", criu.restore(&restore)?.pid);
//! # Ok::<(), criu::Error>(())
//! ```
//!
//! # Map
//!
//! - [`Criu`] reaches CRIU (a worker process per request, or a service) and makes single requests;
//!   [`Session`] makes several on one connection, or on a socket handed in.
//! - One options struct per operation: [`Dump`], [`PreDump`], [`Restore`], [`PageServer`], [`Check`],
//!   [`CpuInfo`]; module [`request`] has the types of their fields. An option that the CRIU at hand is
//!   too old for is an error, not ignored.
//! - [`Hooks`] (a trait, or a closure over [`Event`]s) reacts to notifications.
//! - [`Error`] says who is at fault; [`Failure`] holds what is known of a failed operation, CRIU's own
//!   log included: [`mod@log`] reads it and [`mod@diagnose`] finds the root cause and what to do.
//! - [`rpc`] holds the raw messages, for what is newer than this crate ([`request::Settings::raw`]).
#![cfg_attr(
    feature = "tokio",
    doc = "- Module [`asynchronous`] offers the same operations as futures (feature `tokio`)."
)]
#![cfg_attr(
    not(feature = "tokio"),
    doc = "- Feature `tokio` offers the same operations as futures (module `asynchronous`)."
)]
//!
//! This crate neither reads images (that is `criu-image`) nor replaces CRIU, which has to be installed;
//! it prints nothing, keeps no global state, and leaves no process or descriptor behind.

#[cfg(feature = "tokio")]
pub mod asynchronous;
mod binary;
mod client;
mod conclusion;
mod descendants;
pub mod diagnose;
mod error;
mod exchange;
mod failure;
mod features;
#[doc(hidden)] // for the fuzz targets and our own tests
pub mod fuzz;
mod lazy_pages;
mod link;
pub mod log;
mod notify;
mod operation;
mod outcome;
pub mod request;
pub mod rpc;
mod session;
mod statistics;
mod submission;
mod transport;
mod version;
mod worker;

pub use binary::CRIU_VARIABLE;
pub use client::Criu;
pub use criu_image::stats::{DumpStats, RestoreStats};
pub use error::{Error, Result};
pub use failure::{CriuErrno, Failure, LogReport, TargetState};
pub use features::{Feature, Features};
pub use lazy_pages::{LazyPages, LazyPagesServer};
pub use notify::{Event, Hook, HookError, HookResult, Hooks, NoHooks};
pub use operation::Operation;
pub use outcome::{
    DumpOutcome, PageServerChild, PreDumpOutcome, RestoreOutcome, RestoredChild, StartedPageServer,
};
pub use request::check::Check;
pub use request::cpuinfo::CpuInfo;
pub use request::dump::{Dump, FinalState, PreDump, Target};
pub use request::external::External;
pub use request::inherit::InheritFd;
pub use request::page_server::PageServer;
pub use request::restore::Restore;
pub use session::Session;
pub use submission::OLDEST_SUPPORTED;
pub use version::{ParseVersionError, Version};
pub use worker::WorkerExit;

// The examples of the front page compile; one of them is asynchronous.
#[cfg(all(doctest, feature = "tokio"))]
#[doc = include_str!("../../../README.md")]
struct FrontPage;
