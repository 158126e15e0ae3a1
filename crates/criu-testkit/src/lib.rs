//! What the tests of this workspace share: real CRIUs, processes worth checkpointing, and a CRIU that misbehaves.
//!
//! * [`CriuUnderTest`]: the CRIUs that `cargo xtask criu` obtained, and [`skip!`] when there is none.
//! * [`python_crit`]: the oracle of the JSON; [`recode`] sends all images of a dump through JSON and back.
//! * [`Scene`] and [`TestProcess`]: a process with chosen resources that can say whether it survived.
//! * [`FakeCriu`]: an executable that speaks CRIU's worker protocol by a script, right or wrong.
//! * [`CertificateAuthority`]: certificates for both ends of a TLS connection.
//! * [`ResourceSnapshot`]: file descriptors, children and zombies before and after.
//! * [`synthetic`]: images made byte by byte.
//! * [`slowness`]: how long to wait where everything takes longer.
//! * [`Subreaper`], [`NetworkNamespace`], [`BindMount`], [`TempDir`]: what those stand on.
//!
//! Everything here panics where a library would return an error: a test has no better answer. Nothing here depends on
//! the crates it tests.

mod binaries;
mod bind_mount;
mod certificates;
mod criu_under_test;
mod fake_criu;
mod network;
mod pace;
mod process;
mod python_crit;
mod recode;
mod reply;
mod scene;
mod skip;
mod snapshot;
mod subreaper;
pub mod synthetic;
mod temp_dir;

pub use binaries::{fake_criu_binary, fixtures_binary, target_binary};
pub use bind_mount::BindMount;
pub use certificates::{CertificateAuthority, CertificateFiles, Validity};
pub use criu_under_test::CriuUnderTest;
pub use fake_criu::{FakeCriu, Step};
pub use network::NetworkNamespace;
pub use pace::slowness;
pub use process::TestProcess;
pub use python_crit::python_crit;
pub use recode::recode;
pub use reply::{Field, Message, fields};
pub use scene::{Namespace, Scene};
pub use skip::{Skip, record_skip};
pub use snapshot::ResourceSnapshot;
pub use subreaper::Subreaper;
pub use temp_dir::TempDir;
