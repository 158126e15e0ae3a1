//! The tables of rules, one per area of CRIU.

mod cgroup;
mod consequences;
mod creation;
mod descriptors;
mod files;
mod gpu;
mod images;
mod inet;
mod kernel;
mod memory;
mod mount;
mod namespaces;
mod net;
mod noise;
mod options;
mod pages;
mod process;
mod security;
mod special;
mod tools;
mod tty;
mod unix;

use super::rule::Rule;

/// All tables.
pub(super) const ALL: &[&[Rule]] = &[
    cgroup::RULES,
    consequences::RULES,
    descriptors::RULES,
    files::RULES,
    gpu::RULES,
    images::RULES,
    inet::RULES,
    kernel::RULES,
    memory::RULES,
    mount::RULES,
    namespaces::RULES,
    net::RULES,
    noise::RULES,
    options::RULES,
    pages::RULES,
    process::RULES,
    creation::RULES,
    security::RULES,
    special::RULES,
    tools::RULES,
    tty::RULES,
    unix::RULES,
];

#[cfg(test)]
mod tests;
