//! `cargo xtask dist`: the release archive, with completions and manual pages made from the commands' own description.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::criu::{target_directory, workspace_directory};
use crate::failure::{Doing, Failure, Outcome};
use crate::licences::{metadata, text_of};
use crate::tool;

/// What the archive is for.
const PROGRAMS: [&str; 2] = ["criuctl", "crit"];

/// Files of the repository that go along.
const DOCUMENTS: [&str; 4] = ["README.md", "LICENSE", "CHANGELOG.md", "SUPPORT.md"];

/// `cargo xtask dist`.
pub(crate) fn task(arguments: &[String]) -> Outcome<()> {
    if !arguments.is_empty() {
        return Err(Failure::new("usage: cargo xtask dist"));
    }
    let workspace = workspace_directory();
    println!("building release programs");
    let mut build = Command::new(tool::cargo());
    build
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "criu-cli",
            "--bins",
        ])
        .current_dir(&workspace)
        .stdin(Stdio::null());
    let status = build
        .status()
        .doing(format_args!("cannot run {}", tool::words(&build)))?;
    if !status.success() {
        return Err(Failure::new(format!(
            "{} ended with {status}",
            tool::words(&build)
        )));
    }
    let packages = metadata(&workspace)?;
    let version = packages["packages"]
        .as_array()
        .and_then(|packages| {
            packages
                .iter()
                .find(|package| package["name"] == "criu-cli")
        })
        .map(|package| text_of(&package["version"]).to_owned())
        .ok_or_else(|| Failure::new("cargo metadata does not know criu-cli"))?;
    let name = format!("criu-rust-{version}-{}-linux", std::env::consts::ARCH);
    let place = target_directory().join("dist");
    let root = place.join(&name);
    let _ = fs::remove_dir_all(&root);
    make_directory(&root.join("bin"))?;
    for program in PROGRAMS {
        let built = target_directory().join("release").join(program);
        copy(&built, &root.join("bin").join(program))?;
    }
    println!("writing manual pages and completions");
    tool::output(
        Command::new(tool::cargo())
            .args(["run", "--quiet", "--locked", "--package", "manual", "--"])
            .arg(&root)
            .current_dir(&workspace),
    )?;
    for document in DOCUMENTS {
        let from = workspace.join(document);
        if from.exists() {
            copy(&from, &root.join(document))?;
        }
    }
    let archive = format!("{name}.tar.gz");
    // The same content gives the same archive: names in order, owner, times and gzip's own header fixed.
    tool::output(
        Command::new("tar")
            .args([
                "--sort=name",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--mtime=@0",
                "--use-compress-program",
            ])
            .args(["gzip -9 -n", "-cf", &archive, &name])
            .current_dir(&place),
    )?;
    let sums = tool::output(Command::new("sha256sum").arg(&archive).current_dir(&place))?;
    let sums_file = place.join(format!("{archive}.sha256"));
    fs::write(&sums_file, &sums).doing(format_args!("cannot write {}", sums_file.display()))?;
    for line in tool::output(
        Command::new("tar")
            .args(["-tzf", &archive])
            .current_dir(&place),
    )?
    .lines()
    {
        println!("  {line}");
    }
    println!("{}\n{}", place.join(&archive).display(), sums.trim_end());
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Outcome<()> {
    fs::copy(from, to)
        .doing(format_args!("cannot copy {}", from.display()))
        .map(drop)
}

fn make_directory(path: &Path) -> Outcome<()> {
    fs::create_dir_all(path).doing(format_args!("cannot create {}", path.display()))
}
