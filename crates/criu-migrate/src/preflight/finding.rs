//! What a comparison found.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::check::Check;

/// Whether a finding stops a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Severity {
    /// It does: the restore would fail, or do harm.
    Blocks,
    /// It may matter.
    Warns,
}

/// Something that is not as the tree needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Finding {
    /// Which comparison found it.
    pub check: Check,
    /// What it is about: a file, a port, a process id.
    pub object: String,
    /// What the tree needs, or had.
    pub wanted: String,
    /// What the destination has.
    pub found: String,
    /// Whether it stops a migration.
    pub severity: Severity,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    pub(super) fn new(severity: Severity, check: Check, object: impl Into<String>) -> Self {
        Self {
            check,
            object: object.into(),
            wanted: String::new(),
            found: String::new(),
            severity,
            remedy: String::new(),
        }
    }

    pub(super) fn blocks(check: Check, object: impl Into<String>) -> Self {
        Self::new(Severity::Blocks, check, object)
    }

    pub(super) fn warns(check: Check, object: impl Into<String>) -> Self {
        Self::new(Severity::Warns, check, object)
    }

    pub(super) fn values(mut self, wanted: impl Into<String>, found: impl Into<String>) -> Self {
        (self.wanted, self.found) = (wanted.into(), found.into());
        self
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            check,
            object,
            wanted,
            found,
            remedy,
            ..
        } = self;
        write!(
            f,
            "{check}: {object}: needed is {wanted}, there is {found}; {remedy}"
        )
    }
}

/// Something that could not be compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NotCompared {
    /// Which comparison.
    pub check: Check,
    /// Why not.
    pub why: String,
}

/// All that a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Report {
    /// What is not as the tree needs it, the worst first.
    pub findings: Vec<Finding>,
    /// What could not be compared.
    pub not_compared: Vec<NotCompared>,
    /// Findings beyond those that fit into a message.
    pub left_out: u64,
}

/// Most bytes of the findings in a message, as JSON; and of the reasons something was not compared.
const FINDINGS_BYTES_MAX: usize = 256 << 10;
const NOT_COMPARED_BYTES_MAX: usize = 16 << 10;
/// Most characters of one text of a finding: a path can have 4096, and two can stand in a finding.
const TEXT_CHARS_MAX: usize = 4200;
/// How many findings a refusal names; the report has all.
const NAMED: usize = 8;

impl Report {
    /// Whether nothing is to be said.
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty() && self.not_compared.is_empty()
    }

    /// The findings that stop a migration.
    pub fn blocking(&self) -> impl Iterator<Item = &Finding> {
        let blocks = |finding: &&Finding| finding.severity == Severity::Blocks;
        self.findings.iter().filter(blocks)
    }

    /// Says why a tree is refused; `None` if nothing blocks.
    pub fn refusal(&self) -> Option<String> {
        let count = self.blocking().count();
        if count == 0 {
            return None;
        }
        let named: Vec<String> = self
            .blocking()
            .take(NAMED)
            .map(ToString::to_string)
            .collect();
        let more = match count - named.len() {
            0 => String::new(),
            rest => format!("; and {rest} more"),
        };
        Some(format!("{}{more}", named.join("; ")))
    }

    pub(super) fn skip(&mut self, check: Check, why: impl Into<String>) {
        let why = why.into();
        self.not_compared.push(NotCompared { check, why });
    }

    /// Puts what blocks first, else in the order of the checks.
    pub(super) fn sort(&mut self) {
        self.findings
            .sort_by_key(|finding| (finding.severity, finding.check));
    }

    /// Cuts it down to what fits into a message, and counts what does not.
    pub(crate) fn fit(mut self) -> Self {
        for finding in &mut self.findings {
            for text in [
                &mut finding.object,
                &mut finding.wanted,
                &mut finding.found,
                &mut finding.remedy,
            ] {
                shorten(text);
            }
        }
        for left in &mut self.not_compared {
            shorten(&mut left.why);
        }
        let (findings, left) = fitting(std::mem::take(&mut self.findings), FINDINGS_BYTES_MAX);
        self.findings = findings;
        self.left_out = self.left_out.saturating_add(left);
        let (not_compared, _) = fitting(
            std::mem::take(&mut self.not_compared),
            NOT_COMPARED_BYTES_MAX,
        );
        self.not_compared = not_compared;
        self
    }
}

fn shorten(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        text.truncate(at);
        text.push('…');
    }
}

/// The first of some items whose JSON together has at most so many bytes, and how many are left.
pub(super) fn fitting<T: Serialize>(mut items: Vec<T>, bytes_max: usize) -> (Vec<T>, u64) {
    let mut bytes = 0;
    let fits = items.iter().take_while(|item| {
        // What cannot become JSON cannot be sent.
        bytes += serde_json::to_vec(item).map_or(bytes_max, |json| json.len() + 1);
        bytes <= bytes_max
    });
    let count = fits.count();
    let left = items.len() - count;
    items.truncate(count);
    (items, left as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_first_with_both_values_and_what_to_do() {
        let mut report = Report::default();
        assert_eq!(report.refusal(), None);
        report.findings.push(
            Finding::warns(Check::Files, "/c")
                .values("old", "new")
                .remedy("look"),
        );
        assert_eq!(report.refusal(), None);
        for port in 0..NAMED + 3 {
            let object = format!("tcp port {port}");
            let finding = Finding::blocks(Check::Sockets, object);
            report
                .findings
                .push(finding.values("free", "taken").remedy("free it"));
        }
        let said = report.refusal().unwrap();
        let first = "sockets: tcp port 0: needed is free, there is taken; free it; sockets: ";
        assert!(
            said.starts_with(first) && said.ends_with("; and 3 more"),
            "{said}"
        );
        assert!(!said.contains("/c"), "{said}");
        report.sort();
        assert_eq!(report.findings.last().unwrap().object, "/c");
    }

    #[test]
    fn a_report_fits_into_a_message_and_counts_what_does_not() {
        let mut report = Report::default();
        for _ in 0..2000 {
            let finding = Finding::blocks(Check::Files, "\u{1}".repeat(9000));
            report.findings.push(finding);
        }
        report.skip(Check::Other, "x".repeat(1 << 20));
        let fit = report.fit();
        let bytes = serde_json::to_vec(&fit).unwrap().len();
        assert!(bytes < crate::frame::CONTROL_BYTES_MAX / 2, "{bytes}");
        assert_eq!(fit.findings.len() as u64 + fit.left_out, 2000);
        assert!(!fit.findings.is_empty() && fit.not_compared.len() == 1);
    }
}
