//! Picks the root line.
//!
//! Every line gets a role from the most specific rule that knows it; an error no rule knows counts as
//! [`Role::Clue`]. What comes after CRIU began to clean up is a consequence of what made it give up.

use std::ops::Range;
use std::time::Duration;

use super::pattern::Captures;
use super::rule::{Reach, Role, Rule, Surroundings};
use super::{Diagnosis, NoFailure, Verdict, fallback, names, rules};
use crate::log::{Entry, Level, Log, Outcome, outcome_of};
use crate::operation::Operation;

/// Lines before and after a line in which [`Rule`]s look for their surroundings.
const NEIGHBOURHOOD: usize = 40;
/// Errors this close to each other, with nothing between, report the same thing.
const CHAIN: Duration = Duration::from_millis(1);
/// Lines shown around the root.
const CONTEXT: usize = 3;
/// Rules for lines that say only that something failed.
const GENERIC: &[&str] = &[
    "operation-failed",
    "dump-step-failed",
    "epoll-dump-failed",
    "parasite-command",
];
/// Harmless lines listed for a log without failure.
const HARMLESS: usize = 20;

/// Finds what made the run fail that wrote this log, if it failed.
#[must_use]
pub fn diagnose(log: &Log) -> Verdict {
    if log.is_empty() {
        return Verdict::Empty;
    }
    let runs: Vec<Run<'_>> = runs(log.entries())
        .into_iter()
        .map(|range| Run::new(log.entries(), range))
        .collect();
    // A file can hold several runs (a dump and its restore); one that says it failed goes first.
    let failed = runs
        .iter()
        .filter(|run| matches!(run.outcome, Some((_, _, Outcome::Failed))));
    let failure = failed
        .chain(&runs)
        .find_map(|run| run.diagnosis(run.root()?));
    if let Some(diagnosis) = failure {
        return Verdict::Failure(Box::new(diagnosis));
    }
    let mut good = NoFailure::default();
    for run in &runs {
        good.finished = run
            .outcome
            .map(|(_, operation, _)| operation)
            .or(good.finished);
        let lines = run
            .lines
            .iter()
            .filter(|line| line.entry.is_tagged() || line.known.is_some());
        good.harmless.extend(lines.map(|line| {
            (
                line.entry.clone(),
                line.known.as_ref().map(|known| known.rule),
            )
        }));
    }
    good.harmless.truncate(HARMLESS);
    Verdict::NoFailure(good)
}

/// Splits the entries into runs of CRIU: a new one starts with CRIU's version line, or after a success
/// if the end of another operation follows.
fn runs(entries: &[Entry]) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let mut start = 0;
    let mut versioned = false;
    let mut finished = None;
    for (at, entry) in entries.iter().enumerate() {
        let mut cut = None;
        if entry.message().starts_with("Version: ") && entry.message().contains("(gitid") {
            // Lines buffered before the log was opened stand before the version, none of them matters.
            if versioned {
                cut = Some(at);
            }
            versioned = true;
        }
        if let Some((operation, outcome)) = outcome_of(entry) {
            if let Some((end, other)) = finished
                && other != operation
            {
                cut = Some(end);
            }
            finished = (outcome == Outcome::Finished).then_some((at + 1, operation));
        }
        if let Some(cut) = cut.filter(|&cut| cut > start) {
            runs.push(start..cut);
            start = cut;
        }
    }
    runs.push(start..entries.len());
    runs
}

struct Line<'l> {
    entry: &'l Entry,
    known: Option<Known<'l>>,
    role: Option<Role>,
}

struct Known<'l> {
    rule: &'static Rule,
    captures: Captures<'l>,
}

struct Run<'l> {
    lines: Vec<Line<'l>>,
    operation: Option<Operation>,
    /// The last closing line: where, of what, how.
    outcome: Option<(usize, Operation, Outcome)>,
}

impl<'l> Run<'l> {
    fn new(all: &'l [Entry], range: Range<usize>) -> Self {
        let entries = all.get(range).unwrap_or_default();
        let mut outcomes = entries
            .iter()
            .enumerate()
            .filter_map(|(at, entry)| Some((at, outcome_of(entry)?)));
        let outcome = outcomes
            .next_back()
            .map(|(at, (operation, outcome))| (at, operation, outcome));
        let operation = outcome
            .map(|(_, operation, _)| operation)
            .or_else(|| guess(entries));
        let mut lines: Vec<Line<'l>> = entries
            .iter()
            .enumerate()
            .map(|(at, entry)| {
                let from = at.saturating_sub(NEIGHBOURHOOD);
                let to = (at + NEIGHBOURHOOD + 1).min(entries.len());
                let around = Surroundings {
                    before: entries.get(from..at).unwrap_or_default(),
                    after: entries.get(at + 1..to).unwrap_or_default(),
                };
                let known = best(entry, around, operation);
                let role = match &known {
                    Some(known) if known.rule.role == Role::Clue && is_faint(entry) => {
                        Some(Role::Hint)
                    }
                    Some(known) => Some(known.rule.role),
                    None if entry.level == Level::Error => Some(Role::Clue),
                    None => None,
                };
                Line { entry, known, role }
            })
            .collect();
        promote_tool_output(&mut lines);
        Self {
            lines,
            operation,
            outcome,
        }
    }

    /// The index of the root line; none if the run did not fail.
    fn root(&self) -> Option<usize> {
        match self.outcome {
            Some((at, _, Outcome::Finished)) => self.root_despite_success(at),
            Some((_, _, Outcome::Failed)) => self
                .root_of_failure()
                .or_else(|| self.last_error_of(Role::Noise))
                .or_else(|| self.last_words()),
            None => self
                .root_of_failure()
                .filter(|&root| self.is_evidence(root)),
        }
    }

    fn root_of_failure(&self) -> Option<usize> {
        let cleanup = self.cleanup();
        let work = 0..cleanup;
        let all = 0..self.lines.len();
        self.first(work.clone(), &[Role::Cause])
            .map(|cause| self.start_of_chain(cause))
            .or_else(|| self.first(work.clone(), &[Role::Clue]))
            .or_else(|| self.first(work.clone(), &[Role::Hint]))
            .or_else(|| {
                // A restore's tasks work at the same time: the last line is not of the one that failed.
                let told = self.first(work, &[Role::Consequence])?;
                match self.operation {
                    Some(Operation::Restore) => Some(told),
                    _ => self.last_act(),
                }
            })
            .or_else(|| self.first(all.clone(), &[Role::Cause]))
            .or_else(|| self.first(all.clone(), &[Role::Clue]))
            .or_else(|| self.first(all.clone(), &[Role::Hint]))
            .or_else(|| self.last_act())
            .or_else(|| self.first(all, &[Role::Consequence]))
    }

    /// The first of the errors that `cause` ends: functions report from the innermost outwards, in the
    /// same moment. Only errors no rule knows count; what is known has its place in the order.
    fn start_of_chain(&self, cause: usize) -> usize {
        let mut start = cause;
        while let Some(before) = start.checked_sub(1)
            && let (Some(inner), Some(outer)) = (self.lines.get(before), self.lines.get(start))
            && inner.entry.level == Level::Error
            && inner.known.is_none()
            && is_same_report(inner.entry, outer.entry)
        {
            start = before;
        }
        start
    }

    /// What CRIU did last before a failure that it gave no reason for, if the log is verbose.
    fn last_act(&self) -> Option<usize> {
        let step = |line: &Line<'_>| {
            line.known
                .as_ref()
                .is_some_and(|known| GENERIC.contains(&known.rule.id))
        };
        let complaint = self.lines.iter().position(step)?.min(self.cleanup());
        let at = self.lines.get(..complaint)?.iter().rposition(|line| {
            let message = line.entry.message();
            matches!(line.role, None | Some(Role::Consequence))
                && message.chars().any(char::is_alphabetic)
                && !is_chatter(message)
        })?;
        // Lines without time stamp are somebody else's.
        let verbose = |line: &Line<'_>| line.entry.time.is_some() || line.role.is_some();
        self.lines.get(at).is_some_and(verbose).then_some(at)
    }

    /// A success can be none: a task that failed in its last steps, or died right after.
    fn root_despite_success(&self, closing: usize) -> Option<usize> {
        let despite = |line: &Line<'_>| {
            line.known
                .as_ref()
                .is_some_and(|known| known.rule.reach == Reach::DespiteSuccess)
                && line.role != Some(Role::Noise)
        };
        let after = (closing..self.lines.len()).find(|&at| {
            self.lines.get(at).is_some_and(|line| {
                line.entry.level == Level::Error
                    && matches!(line.role, Some(Role::Cause | Role::Clue))
            })
        });
        let marked = self.lines.iter().position(despite);
        let told = after.and_then(|after| self.first(0..after + 1, &[Role::Cause]));
        marked.or(told).or(after)
    }

    /// Without a closing line somebody must at least have complained.
    fn is_evidence(&self, root: usize) -> bool {
        let Some(line) = self.lines.get(root) else {
            return false;
        };
        line.role == Some(Role::Cause)
            || matches!(line.role, Some(Role::Clue | Role::Hint)) && line.entry.is_tagged()
            || self.lines.iter().any(|line| {
                line.entry.level == Level::Error
                    && line.role.is_some_and(|role| role != Role::Noise)
            })
    }

    fn first(&self, range: Range<usize>, roles: &[Role]) -> Option<usize> {
        let lines = self.lines.get(range.clone())?;
        let found = lines
            .iter()
            .position(|line| line.role.is_some_and(|role| roles.contains(&role)))?;
        Some(range.start + found)
    }

    fn last_error_of(&self, role: Role) -> Option<usize> {
        let cleanup = self.cleanup();
        let lines = self.lines.get(..cleanup)?;
        lines
            .iter()
            .rposition(|line| line.entry.level == Level::Error && line.role == Some(role))
    }

    /// The last line before CRIU gave up without a word of error.
    fn last_words(&self) -> Option<usize> {
        let lines = self.lines.get(..self.cleanup())?;
        lines
            .iter()
            .rposition(|line| line.entry.message().chars().any(char::is_alphanumeric))
            .or_else(|| self.outcome.map(|(at, ..)| at))
    }

    /// Where CRIU began to clean up after a failure.
    fn cleanup(&self) -> usize {
        const DUMP: &[&str] = &["Unlock network", "Unfreezing tasks into"];
        const RESTORE: &[&str] = &[
            "Switching to new ns to clean ghosts",
            "Killing processes because of failure",
        ];
        let starts: &[&str] = match self.operation {
            Some(Operation::Dump | Operation::PreDump) => DUMP,
            Some(Operation::Restore) => RESTORE,
            _ => &[],
        };
        self.lines
            .iter()
            .position(|line| {
                let message = line.entry.message();
                starts.iter().any(|start| message.starts_with(start))
                    || matches!(outcome_of(line.entry), Some((_, Outcome::Failed)))
            })
            .unwrap_or(self.lines.len())
    }

    fn diagnosis(&self, root: usize) -> Option<Diagnosis> {
        let line = self.lines.get(root)?;
        let from = root.saturating_sub(CONTEXT);
        let to = (root + CONTEXT + 1).min(self.lines.len());
        let context = self.lines.get(from..to).unwrap_or_default();
        let context: Vec<Entry> = context.iter().map(|line| line.entry.clone()).collect();
        let (cause, remedy) = match &line.known {
            Some(known) => (
                names::fill(known.rule.cause, &known.captures),
                format!(
                    "{}; {}",
                    names::fill(known.rule.remedy, &known.captures),
                    fallback::otherwise(line.entry)
                ),
            ),
            None => fallback::explain(line.entry, self.operation),
        };
        let rule = line.known.as_ref().map(|known| known.rule);
        Some(Diagnosis {
            rule,
            operation: self.operation.or(rule.and_then(|rule| rule.operation)),
            root: line.entry.clone(),
            cause,
            remedy,
            context,
        })
    }
}

/// Whether a line is only a warning, or one of those CRIU writes in passing.
fn is_faint(entry: &Entry) -> bool {
    match entry.level {
        Level::Error => false,
        Level::Warn => true,
        Level::Untagged => entry.time.is_some(),
    }
}

/// Whether two errors next to each other tell of the same failure: written at once, or, in a log without
/// times, by the same source file.
fn is_same_report(inner: &Entry, outer: &Entry) -> bool {
    match (inner.time, outer.time) {
        (Some(earlier), Some(later)) => later.saturating_sub(earlier) <= CHAIN,
        (None, None) => {
            let file = |entry: &Entry| entry.location.as_ref().map(|place| place.file.clone());
            file(inner).is_some() && file(inner) == file(outer)
        }
        _ => false,
    }
}

/// The last words of a program that CRIU ran and that failed are a reason: they stand, without CRIU's
/// marks, right before CRIU's report of its exit.
fn promote_tool_output(lines: &mut [Line<'_>]) {
    const REPORT: &str = "exited, status=";
    for at in 1..lines.len() {
        let [.., output, report] = lines.get(..=at).unwrap_or_default() else {
            continue;
        };
        let foreign = output.known.is_none()
            && output.entry.level == Level::Untagged
            && output.entry.time.is_none()
            && output.entry.message().chars().any(char::is_alphabetic);
        let reported =
            report.entry.level == Level::Error && report.entry.message().starts_with(REPORT);
        if foreign
            && reported
            && let Some(output) = lines.get_mut(at - 1)
        {
            output.role = Some(Role::Clue);
        }
    }
}

/// Lines that accompany everything and tell nothing about it.
fn is_chatter(message: &str) -> bool {
    const STARTS: &[&str] = &[
        "Sent msg to daemon",
        "Wait for ack",
        "Fetched ack",
        "Daemon ",
        "__fetched",
        "__sent",
        "Waiting for",
    ];
    STARTS
        .iter()
        .any(|start| message.trim_start().starts_with(start))
}

fn guess(entries: &[Entry]) -> Option<Operation> {
    entries.iter().find_map(crate::log::operation_of)
}

/// The most specific rule that knows the line.
fn best<'l>(
    entry: &'l Entry,
    around: Surroundings<'_>,
    operation: Option<Operation>,
) -> Option<Known<'l>> {
    rules::ALL
        .iter()
        .flat_map(|table| table.iter())
        .filter_map(|rule| {
            let (weight, captures) = rule.matches(entry, around, operation)?;
            Some((weight, Known { rule, captures }))
        })
        .max_by_key(|(weight, _)| *weight)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(log: &str) -> String {
        match diagnose(&Log::parse(log.as_bytes())) {
            Verdict::Failure(diagnosis) => diagnosis.root.message().to_owned(),
            verdict => verdict.to_string(),
        }
    }

    #[test]
    fn an_empty_log_is_neither_good_nor_bad() {
        assert!(matches!(diagnose(&Log::parse(b"\n \n")), Verdict::Empty));
    }

    #[test]
    fn a_success_with_harmless_lines_is_no_failure() {
        let log = "Warn  (criu/image.c:134): Failed to open parent directory\n\
                   RTNETLINK answers: File exists\n\
                   (00.100000) Error (criu/x.c:1): something tried and done otherwise\n\
                   (00.200000) Dumping finished successfully\n";
        assert!(root(log).starts_with("no failure found"), "{}", root(log));
    }

    #[test]
    fn the_run_that_failed_is_explained_not_the_good_one_before() {
        let log = "(00.000100) Version: 4.2 (gitid 0)\n\
                   (00.100000) Error (criu/files-ext.c:98): Can't dump file 3 of that type [20666] (chr 1:11)\n\
                   (00.200000) Dumping finished successfully\n\
                   (00.000100) Version: 4.2 (gitid 0)\n\
                   (00.100000) Error (criu/cr-restore.c:1490): Can't fork for 12: File exists\n\
                   (00.200000) Error (criu/cr-restore.c:2572): Restoring FAILED.\n";
        assert_eq!(root(log), "Can't fork for 12: File exists");
        let log = log.replace("(00.000100) Version: 4.2 (gitid 0)\n", "");
        assert_eq!(root(&log), "Can't fork for 12: File exists");
    }

    #[test]
    fn a_task_that_dies_after_the_success_is_a_failure() {
        let log = "(00.100000) Restore finished successfully. Tasks resumed.\n\
                   (00.200000) Error (criu/cr-restore.c:1480): 12 killed by signal 11: Segmentation fault\n";
        assert_eq!(root(log), "12 killed by signal 11: Segmentation fault");
    }

    #[test]
    fn a_failure_without_a_word_is_what_was_done_last() {
        let log = "(00.100000) Dumping opened files (pid: 1)\n\
                   (00.100001) sockets: Searching for socket 0x346d1 family 1\n\
                   (00.100002) ----------------------------------------\n\
                   (00.100003) Error (criu/cr-dump.c:1850): Dump files (pid: 1) failed with -1\n\
                   (00.200000) Unlock network\n\
                   iptables-restore: line 6 failed\n\
                   (00.200001) Error (criu/util.c:643): exited, status=1\n\
                   (00.300000) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        assert_eq!(root(log), "Searching for socket 0x346d1 family 1");
        assert_eq!(
            root("Error (criu/cr-dump.c:2111): Dumping FAILED.\n"),
            "Dumping FAILED."
        );
    }

    #[test]
    fn errors_of_one_moment_start_with_the_innermost() {
        let log = "(00.100000) Error (criu/new.c:1): nobody knows this yet\n\
                   (00.100020) Error (criu/files-reg.c:1010): Can't create link remap for /x. Use link-remap option.\n\
                   (00.300000) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        assert_eq!(root(log), "nobody knows this yet");
        let later = log.replace("00.100020", "00.200000");
        assert!(root(&later).starts_with("Can't create link remap"));
    }

    #[test]
    fn the_last_words_of_a_tool_are_the_root() {
        let log = "(00.100000) net: Running iptables\n\
                   thing: cannot do this\n\
                   (00.100020) Error (criu/util.c:643): exited, status=1\n\
                   (00.300000) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        assert_eq!(root(log), "thing: cannot do this");
    }

    #[test]
    fn an_error_no_rule_knows_is_explained_by_its_origin() {
        let log = "Error (criu/sk-unix.c:99): unix: entirely new: Permission denied\n";
        let Verdict::Failure(diagnosis) = diagnose(&Log::parse(log.as_bytes())) else {
            panic!("no failure");
        };
        assert!(diagnosis.rule.is_none());
        assert!(
            diagnosis.cause.contains("UNIX sockets") && diagnosis.cause.contains("EACCES"),
            "{diagnosis}"
        );
    }
}
