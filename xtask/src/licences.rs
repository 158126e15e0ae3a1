//! Whether every dependency has a licence that `deny.toml` allows.
//!
//! A small check of our own over `cargo metadata`: what cargo-deny's `check licenses` would say of the expressions in
//! the manifests, without its scan of licence texts and without having to be installed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::failure::{Doing, Failure, Outcome};
use crate::tool;

/// Checks all packages of the workspace's lock file; gives their number.
pub(crate) fn check(workspace: &Path) -> Outcome<usize> {
    let file = workspace.join("deny.toml");
    let text =
        std::fs::read_to_string(&file).doing(format_args!("cannot read {}", file.display()))?;
    let allowed = allowed(&text).ok_or_else(|| {
        Failure::new(format!(
            "{} has no `allow = [...]` under [licenses]",
            file.display()
        ))
    })?;
    let metadata = metadata(workspace)?;
    let packages = metadata["packages"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut refused = Vec::new();
    for package in packages {
        let name = format!(
            "{} {}",
            text_of(&package["name"]),
            text_of(&package["version"])
        );
        match package["license"].as_str() {
            None => refused.push(format!("{name} states no licence")),
            Some(expression) if is_allowed(expression, &allowed) => {}
            Some(expression) => refused.push(format!("{name}: {expression}")),
        }
    }
    if refused.is_empty() {
        return Ok(packages.len());
    }
    Err(Failure::new(format!(
        "licences that deny.toml does not allow:\n    {}",
        refused.join("\n    ")
    ))
    .with_remedy("do without the dependency, or allow its licence in deny.toml with a reason"))
}

/// What `cargo metadata` says of the workspace.
pub(crate) fn metadata(workspace: &Path) -> Outcome<Value> {
    let text = tool::output(
        Command::new(tool::cargo())
            .args(["metadata", "--format-version", "1", "--locked"])
            .current_dir(workspace),
    )?;
    serde_json::from_str(&text).doing("cargo metadata is not JSON")
}

pub(crate) fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The strings of `allow = [...]` in the section `[licenses]`.
fn allowed(deny: &str) -> Option<BTreeSet<String>> {
    let lines = deny
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    let section: Vec<&str> = lines
        .skip_while(|line| *line != "[licenses]")
        .skip(1)
        .collect();
    let section = section
        .iter()
        .take_while(|line| !(line.starts_with('[') && line.ends_with(']')));
    let text = section.copied().collect::<String>();
    let (_, list) = text.split_once("allow = [")?;
    let (list, _) = list.split_once(']')?;
    Some(
        list.split(',')
            .map(|item| item.trim().trim_matches('"').to_owned())
            .filter(|item| !item.is_empty())
            .collect(),
    )
}

/// Evaluates an SPDX expression: OR needs one side, AND both, WITH is part of the name. `/` is an old way to say OR.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let verdict = either(&mut rest, allowed);
    verdict && rest.is_empty()
}

fn either(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut verdict = both(words, allowed);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        verdict |= both(words, allowed);
    }
    verdict
}

fn both(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut verdict = one(words, allowed);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        verdict &= one(words, allowed);
    }
    verdict
}

fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let verdict = either(words, allowed);
            if let [")", rest @ ..] = *words {
                *words = rest;
                return verdict;
            }
            false
        }
        [licence, "WITH", exception, rest @ ..] => {
            *words = rest;
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, rest @ ..] => {
            *words = rest;
            allowed.contains(*licence)
        }
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(expression: &str) -> bool {
        let deny = "[bans]\nallow = [\"GPL-2.0\"]\n[licenses]\n# comment\nallow = [\n  \"MIT\", # why\n  \"Apache-2.0\",\n\
                    \"Apache-2.0 WITH LLVM-exception\"]\n[sources]\n";
        is_allowed(expression, &allowed(deny).expect("a list"))
    }

    #[test]
    fn expressions_are_judged_as_spdx_says() {
        for good in [
            "MIT",
            "GPL-2.0 OR MIT",
            "MIT/GPL-2.0",
            "MIT AND (GPL-2.0 OR Apache-2.0)",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(verdict(good), "{good}");
        }
        for bad in [
            "GPL-2.0",
            "MIT AND GPL-2.0",
            "",
            "(MIT",
            "MIT)",
            "MIT WITH LLVM-exception",
            "GPL-2.0 OR ISC",
        ] {
            assert!(!verdict(bad), "{bad}");
        }
    }
}
