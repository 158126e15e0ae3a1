use std::collections::HashSet;

use super::super::{names, pattern, rules};
use crate::diagnose::rule::Surroundings;
use crate::diagnose::{Role, Verdict, diagnose};
use crate::log::Log;

/// The line of an example that the rule must match: the one marked with `» `, else the only one.
fn example(text: &str) -> (Log, usize) {
    let marked = text
        .lines()
        .position(|line| line.starts_with("» "))
        .unwrap_or(0);
    (Log::parse(text.replace("» ", "").as_bytes()), marked)
}

#[test]
fn every_rule_has_a_unique_id_a_cause_a_remedy_and_examples() {
    let mut ids = HashSet::new();
    for rule in rules() {
        assert!(ids.insert(rule.id), "two rules are called {}", rule.id);
        assert!(!rule.examples.is_empty(), "{} has no example", rule.id);
        assert!(
            !rule.cause.is_empty() && !rule.remedy.is_empty(),
            "{} explains nothing",
            rule.id
        );
        assert!(
            !rule.cause.ends_with('.') && !rule.remedy.ends_with('.'),
            "{} ends in a full stop",
            rule.id
        );
    }
    assert!(ids.len() >= 150, "{} rules", ids.len());
}

#[test]
fn texts_name_only_what_every_pattern_of_the_rule_captures() {
    let mut wrong = Vec::new();
    for rule in rules() {
        for text in [rule.cause, rule.remedy] {
            for name in pattern::names(text) {
                let hole = names::DERIVED
                    .iter()
                    .find(|(derived, _)| *derived == name)
                    .map_or(name, |(_, hole)| hole);
                for pattern in rule.patterns {
                    if !pattern::names(pattern).contains(&hole) {
                        wrong.push(format!("{}: {pattern:?} lacks {hole}", rule.id));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_example_is_recognised_by_its_own_rule() {
    let mut wrong = Vec::new();
    for rule in rules() {
        for text in rule.examples {
            let (log, marked) = example(text);
            let entry = &log.entries()[marked];
            let around = Surroundings {
                before: &log.entries()[..marked],
                after: &log.entries()[marked + 1..],
            };
            let matching: Vec<_> = rules()
                .filter_map(|other| {
                    Some((other.matches(entry, around, rule.operation)?.0, other.id))
                })
                .collect();
            let best = matching
                .iter()
                .max_by_key(|(weight, _)| weight)
                .map(|(_, id)| *id);
            if best != Some(rule.id) {
                wrong.push(format!("{}: {text:?} is taken by {matching:?}", rule.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_cause_is_the_root_before_a_failed_ending() {
    for rule in rules().filter(|rule| rule.role == Role::Cause) {
        for text in rule.examples {
            let (log, marked) = example(text);
            let line = log.entries()[marked].raw().to_string();
            let ending = match rule.operation {
                Some(crate::operation::Operation::Restore) => {
                    "Error (criu/cr-restore.c:2300): Restoring FAILED."
                }
                _ => "Error (criu/cr-dump.c:2111): Dumping FAILED.",
            };
            let whole = format!(
                "(00.000001) Version: 4.2 (gitid 0)\n{}\n{ending}\n",
                text.replace("» ", "")
            );
            let Verdict::Failure(diagnosis) = diagnose(&Log::parse(whole.as_bytes())) else {
                panic!("{}: no failure in {whole}", rule.id);
            };
            assert_eq!(diagnosis.root.raw().to_string(), line, "{}", rule.id);
            assert!(
                !diagnosis.cause.contains('{') && !diagnosis.remedy.contains('{'),
                "{diagnosis}"
            );
        }
    }
}

#[test]
fn noise_alone_is_no_failure_and_lines_rules_look_for_survive_a_bounded_read() {
    let mut wrong = Vec::new();
    for rule in rules() {
        for text in rule.examples {
            let (log, marked) = example(text);
            let entry = &log.entries()[marked];
            if rule.role == Role::Noise {
                let verdict = diagnose(&log);
                assert!(
                    matches!(verdict, Verdict::NoFailure(_)),
                    "{}: {verdict}",
                    rule.id
                );
            }
            let kept = rule.role == Role::Noise || crate::log::is_suspicious(entry);
            if !kept {
                wrong.push(format!(
                    "{}: {text:?} would be dropped from a huge log",
                    rule.id
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
