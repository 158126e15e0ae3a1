//! Generates Rust from `schema/criu.json`: the image messages of `criu-image`, with their
//! descriptor tables, and the request messages of `criu`.
//!
//! The output is committed, so that nobody needs `protoc` or this task to build.

mod model;
mod naming;
mod rust;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use self::model::Schema;
use crate::failure::{Failure, Outcome};

/// Runs `codegen`, or `codegen --check`, which only compares.
pub(crate) fn task(arguments: &[String]) -> Outcome<()> {
    match arguments {
        [] => write().map_err(Failure::new),
        [flag] if flag == "--check" => check(),
        _ => Err(Failure::new("usage: cargo xtask codegen [--check]")),
    }
}

fn write() -> Result<(), String> {
    let generated = Generated::make()?;
    for path in &generated.stale {
        fs::remove_file(generated.root.join(path))
            .map_err(|error| failed("remove", path, &error))?;
    }
    for (path, text) in &generated.changed {
        fs::write(generated.root.join(path), text)
            .map_err(|error| failed("write", path, &error))?;
    }
    println!(
        "{} files written, {} removed",
        generated.changed.len(),
        generated.stale.len()
    );
    Ok(())
}

fn check() -> Outcome<()> {
    let generated = Generated::make().map_err(Failure::new)?;
    let changed = generated.changed.iter().map(|(path, _)| path);
    let names: Vec<_> = changed
        .chain(&generated.stale)
        .map(|path| path.display().to_string())
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "not as generated from {SCHEMA}: {}",
        names.join(", ")
    ))
    .with_remedy("run `cargo xtask codegen` and commit what it writes"))
}

/// What generating would change.
struct Generated {
    root: PathBuf,
    /// Files to write, with their text.
    changed: Vec<(PathBuf, String)>,
    /// Files to remove.
    stale: Vec<PathBuf>,
}

impl Generated {
    fn make() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let text = fs::read_to_string(root.join(SCHEMA))
            .map_err(|error| failed("read", Path::new(SCHEMA), &error))?;
        let mut files = rust::generate(&Schema::parse(&text)?)?;
        for (_, text) in &mut files {
            *text = formatted(text)?;
        }
        let stale = stale_files(&root, &files)?;
        files
            .retain(|(path, text)| fs::read_to_string(root.join(path)).ok().as_ref() != Some(text));
        Ok(Self {
            root,
            changed: files,
            stale,
        })
    }
}

/// Lists the files in the directory of generated messages that are no longer generated.
fn stale_files(root: &Path, files: &[(PathBuf, String)]) -> Result<Vec<PathBuf>, String> {
    let directory = Path::new(rust::MESSAGES);
    let entries =
        fs::read_dir(root.join(directory)).map_err(|error| failed("read", directory, &error))?;
    let mut stale = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed("read", directory, &error))?;
        let path = directory.join(entry.file_name());
        if files.iter().all(|(kept, _)| *kept != path) {
            stale.push(path);
        }
    }
    stale.sort();
    Ok(stale)
}

/// Formats a file as `cargo fmt` would, so that both agree on the committed text.
fn formatted(text: &str) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot run rustfmt: {error}");
    let mut child = Command::new("rustfmt")
        .args(["--edition", "2024"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    let mut input = child.stdin.take().ok_or("rustfmt has no input")?;
    // rustfmt reads all of its input before it writes.
    input.write_all(text.as_bytes()).map_err(cannot)?;
    drop(input);
    let output = child.wait_with_output().map_err(cannot)?;
    if !output.status.success() {
        return Err(format!("rustfmt failed: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

fn failed(action: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {action} {}: {error}", path.display())
}

const SCHEMA: &str = "schema/criu.json";
