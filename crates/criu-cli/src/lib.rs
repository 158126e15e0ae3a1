//! The commands `crit` (checkpoint images) and `criuctl` (processes).
//!
//! The only place that parses arguments, prints, or picks exit codes. Each command is a module with its
//! verbs below it; the binaries call their `main`.

#![expect(clippy::print_stderr, reason = "commands print")]

pub mod crit;
pub mod criuctl;
mod output;
