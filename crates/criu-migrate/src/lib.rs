//! Moves a live process tree to another host with CRIU.
//!
//! ```no_run
//! use std::time::Duration;
//! use criu::{Criu, Dump, NoHooks, Restore};
//! use criu_migrate::{Destination, Source, Watch, transport::Stream};
//!
//! # fn destination() -> Result<(), Box<dyn std::error::Error>> {
//! // On the destination:
//! let (stream, _) = std::net::TcpListener::bind("127.0.0.1:7077")?.accept()?;
//! let destination = Destination::new(Criu::find()?, Restore::new("."));
//! let stream = Box::new(Stream::tcp(stream)?);
//! println!("runs as {}", destination.receive(stream, &mut NoHooks, &Watch::default())?.pid);
//! # Ok(()) }
//! # fn source() -> Result<(), Box<dyn std::error::Error>> {
//! // On the source:
//! let source = Source::new(Criu::find()?, Dump::new(1234, "."));
//! let stream = Box::new(Stream::connect("127.0.0.1:7077", Duration::from_secs(10))?);
//! let sent = source.send(stream, &mut NoHooks, &Watch::default())?;
//! println!("was away for {:?}", sent.downtime);
//! # Ok(()) }
//! ```
//!
//! # What is promised
//!
//! The tree never runs on both sides, and is never lost: until the destination says that it runs there,
//! a copy that can go on is kept here. Any failure before the hand-over (a lost connection, a peer that
//! stopped, Ctrl-C, CRIU's own) lets the tree go on where it was and leaves nothing on the destination.
//! A connection lost in the hand-over itself leaves the source's copy stopped and says where to look.
//! How: the documentation of [`Source`] and [`Destination`], and `docs/migration.md`.
//!
//! # Map
//!
//! - [`Source`] and [`Destination`] are the two sides; [`Watch`] sees their [`Event`]s and calls them off.
//! - [`transport`] has the ways to the other host; [`Timing`] how long each side waits.
//! - [`Message`] and [`Stage`] are the conversation, [`frame`] its wire form.
//! - [`mode`] chooses how memory moves; [`policy`] decides after each round of pre-copy.
//! - [`preflight`] compares what a tree needs, running or in images, with what a host has.
//! - [`container`] moves containers by their own runtime.
//! - [`sync`] brings files along, by rsync over the same connection.
//!
//! This crate prints nothing, and encrypts nothing by itself: use a transport that does, such as `transport::tls`
//! (feature `tls`) or a command like `ssh`.

mod arrival;
mod block;
#[doc(hidden)] // for the benchmark
pub mod carrier;
mod compression;
mod connection;
pub mod container;
mod conversation;
mod delta;
mod destination;
mod encoder;
mod error;
pub mod frame;
#[doc(hidden)] // for the fuzz targets and our own tests
pub mod fuzz;
mod host;
mod images_dir;
mod intake;
mod listener;
mod message;
pub mod mode;
mod page_stream;
pub mod policy;
pub mod preflight;
mod report;
mod source;
mod sparse;
mod staging;
pub mod sync;
mod timing;
pub mod transport;
mod tree;
mod tunnel;
mod units;
mod watch;
mod window;

pub use compression::Compression;
pub use conversation::{OutOfTurn, Party, Stage};
pub use destination::{Destination, Received};
pub use encoder::Traffic;
pub use error::{Error, ImageProblem, Result};
pub use message::{Host, Message, Needs, Offer};
pub use mode::Mode;
pub use report::{Fate, NotSent, RoundReport, Sent};
pub use source::Source;
pub use timing::Timing;
pub use watch::{Event, Happening, Watch};
