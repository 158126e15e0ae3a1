//! Packages of the machine itself that tasks cannot do without and that cannot live in a private prefix.

use std::process::Command;

use crate::failure::{Failure, Outcome};
use crate::tool;

/// A program and the Debian package that has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needed {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    /// What cannot be done without it.
    pub(crate) purpose: &'static str,
}

/// Installs the packages whose programs are missing and says which; fails with the list when it may not.
pub(crate) fn ensure(needed: &[Needed]) -> Outcome<()> {
    let missing: Vec<Needed> = needed
        .iter()
        .copied()
        .filter(|each| tool::find(each.program).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|each| each.package).collect();
    let names = names.join(" ");
    if tool::find("apt-get").is_none() {
        return Err(
            Failure::new(format!("these packages are missing: {names}")).with_remedy(
                "this machine has no apt-get; install them with its own package manager",
            ),
        );
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::new(format!("these packages are missing: {names}"))
            .with_remedy(format!("apt-get install {names}, or run this as root")));
    }
    for each in &missing {
        println!("installing package {} ({})", each.package, each.purpose);
    }
    let install = |refresh: Refresh| -> Outcome<()> {
        if let Refresh::First = refresh {
            tool::output(Command::new("apt-get").args(["update", "-qq"]))?;
        }
        tool::output(
            Command::new("apt-get")
                .args(["install", "-y", "-qq", "--no-install-recommends"])
                .args(missing.iter().map(|each| each.package))
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
        .map(drop)
    };
    // A fresh container image carries no package lists, a used one stale ones: only then are they fetched.
    install(Refresh::No).or_else(|_| install(Refresh::First))
}

enum Refresh {
    No,
    First,
}
