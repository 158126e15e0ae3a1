//! Real failures, from public threads and provoked: the diagnosis names the root line and a remedy that works.
//!
//! `tests/data/diagnose/*.txt` holds one case after another (see its README): lines of the log, the
//! text of the root line, and words of which a right answer has at least one.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at what it cannot read, and shows how many cases are right"
)]

use std::fs;
use std::path::Path;

use criu::diagnose::{Verdict, diagnose};
use criu::log::Log;

struct Case {
    id: String,
    root: Option<String>,
    words: Vec<String>,
    log: String,
}

fn cases(name: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/diagnose")
        .join(name);
    let text = fs::read_to_string(path).unwrap();
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(id) = line.strip_prefix("== ") {
            cases.push(Case {
                id: id.to_owned(),
                root: None,
                words: Vec::new(),
                log: String::new(),
            });
            continue;
        }
        let Some(case) = cases.last_mut() else {
            continue;
        };
        if let Some(root) = line.strip_prefix("root: ") {
            case.root = Some(root.to_owned());
        } else if let Some(words) = line.strip_prefix("words: ") {
            // A word may start or end with a space: only the separator's own are cut.
            case.words = words.split(" ; ").map(str::to_lowercase).collect();
        } else if let Some(entry) = line.strip_prefix("| ") {
            case.log.push_str(entry);
            case.log.push('\n');
        } else {
            assert!(
                line.is_empty() || line == "|" || line == "success" || line.starts_with("source: "),
                "{name}: {line:?}"
            );
        }
    }
    assert!(!cases.is_empty());
    cases
}

/// What is wrong with the diagnosis of a case, if anything.
fn fault(case: &Case) -> Option<String> {
    let verdict = diagnose(&Log::parse(case.log.as_bytes()));
    let (root, text) = match (&case.root, &verdict) {
        (None, Verdict::NoFailure(_)) => return None,
        (Some(root), Verdict::Failure(diagnosis)) => (
            root,
            format!("{} {}", diagnosis.cause, diagnosis.remedy).to_lowercase(),
        ),
        _ => return Some(format!("{}: {verdict}", case.id)),
    };
    let Verdict::Failure(diagnosis) = &verdict else {
        return None;
    };
    let rule = diagnosis.rule.map_or("no rule", |rule| rule.id());
    if !diagnosis.root.text().contains(root.as_str()) {
        return Some(format!(
            "{} [{rule}]: root is {:?}, not {root:?}",
            case.id,
            diagnosis.root.text()
        ));
    }
    if !case.words.iter().any(|word| text.contains(word.as_str())) {
        return Some(format!(
            "{} [{rule}]: none of {:?} in {text:?}",
            case.id, case.words
        ));
    }
    None
}

/// Every case of the file is right, but for `known` ones that are not (counted, so that progress shows).
fn check(name: &str, known: usize) {
    let cases = cases(name);
    let faults: Vec<_> = cases.iter().filter_map(fault).collect();
    println!(
        "{name}: {} of {} right",
        cases.len() - faults.len(),
        cases.len()
    );
    assert!(
        faults.len() <= known,
        "{} of {} wrong:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
}

#[test]
fn published_failures_are_explained() {
    check("facts.txt", 0);
}

#[test]
fn failures_the_rules_were_written_with_are_explained() {
    check("seen.txt", 0);
}

#[test]
fn failures_collected_later_are_explained() {
    check("held-out.txt", 0);
}

#[test]
fn failures_of_a_third_search_are_explained() {
    check("later.txt", 0);
}

#[test]
fn failures_held_out_until_the_last_rule_are_explained() {
    check("held-out-2.txt", 0);
}

#[test]
fn provoked_failures_are_explained() {
    check("provoked.txt", 0);
}

/// Damaged logs: cut anywhere, bytes changed, lines swapped. Nothing to expect but an answer.
#[test]
fn any_bytes_get_an_answer() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for case in cases("facts.txt").iter().chain(&cases("seen.txt")) {
        for _ in 0..4 {
            let mut bytes = case.log.clone().into_bytes();
            for _ in 0..8 {
                let at = random(bytes.len());
                bytes[at] = [0, b'\n', b'(', 0xff, b':', 0x1b, b'{', b'9'][random(8)];
            }
            bytes.truncate(random(bytes.len()) + 1);
            let _ = diagnose(&Log::parse(&bytes)).to_string();
        }
    }
}
