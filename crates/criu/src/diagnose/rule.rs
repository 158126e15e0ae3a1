//! What a rule is.

use super::pattern::{self, Captures};
use crate::log::{Entry, Level, Location};
use crate::operation::Operation;

/// What a matching line means for the failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A reason to fail by itself; the first in the log is the root.
    Cause,
    /// The root if there is no [`Role::Cause`]: a line that often is the reason, and often follows
    /// from one.
    Clue,
    /// The root if there is neither: a line that rarely is the reason, seen in good logs as well.
    Hint,
    /// Follows from something reported before; the root only when nothing else is in the log.
    Consequence,
    /// Appears in the logs of successful runs too.
    Noise,
}

/// The part of CRIU's work a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the rule files")]
#[non_exhaustive]
pub enum Group {
    Cgroup,
    Files,
    Gpu,
    Images,
    Inet,
    Kernel,
    Locks,
    Memory,
    Mount,
    Namespaces,
    Net,
    Options,
    Process,
    Security,
    Special,
    Tools,
    Tty,
    Unix,
}

/// One piece of knowledge: which lines, what they mean, what to do.
///
/// `cause` and `remedy` may name what the pattern's holes took: `{pid}`, `{path}`.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub(super) id: &'static str,
    pub(super) group: Group,
    pub(super) role: Role,
    pub(super) operation: Option<Operation>,
    pub(super) patterns: &'static [&'static str],
    pub(super) except: &'static [&'static str],
    pub(super) near: &'static [&'static str],
    pub(super) then: &'static [&'static str],
    pub(super) files: &'static [&'static str],
    pub(super) reach: Reach,
    pub(super) cause: &'static str,
    pub(super) remedy: &'static str,
    pub(super) examples: &'static [&'static str],
}

/// How many lines "next" is for [`Rule::then`].
const THEN: usize = 3;

/// The lines around the one in question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'l> {
    pub(super) before: &'l [Entry],
    pub(super) after: &'l [Entry],
}

/// Which lines a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Lines CRIU marked as error or warning.
    Tagged,
    /// Lines CRIU marked as errors.
    Errors,
    /// Lines CRIU marked as warnings.
    Warnings,
    /// Lines that are not CRIU's own: what programs print that it runs.
    Foreign,
    /// All lines, the output of tools and debug lines included.
    AnyLine,
    /// All lines, and the run failed even if CRIU reports success.
    DespiteSuccess,
}

impl Rule {
    /// The rule's stable name.
    #[must_use]
    pub fn id(&self) -> &'static str {
        self.id
    }

    /// What the rule is about.
    #[must_use]
    pub fn group(&self) -> Group {
        self.group
    }

    /// What a matching line means.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The operation the rule is limited to.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        self.operation
    }

    pub(super) const fn new(
        role: Role,
        group: Group,
        id: &'static str,
        patterns: &'static [&'static str],
    ) -> Self {
        Self {
            id,
            group,
            role,
            operation: None,
            patterns,
            except: &[],
            near: &[],
            then: &[],
            files: &[],
            reach: Reach::Tagged,
            cause: "",
            remedy: "",
            examples: &[],
        }
    }

    pub(super) const fn during(mut self, operation: Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// None of these texts may be in the line.
    pub(super) const fn except(mut self, texts: &'static [&'static str]) -> Self {
        self.except = texts;
        self
    }

    /// One of these texts must be in the neighbourhood of the line.
    pub(super) const fn near(mut self, texts: &'static [&'static str]) -> Self {
        self.near = texts;
        self
    }

    /// One of these texts must be in the next few lines.
    pub(super) const fn then(mut self, texts: &'static [&'static str]) -> Self {
        self.then = texts;
        self
    }

    /// The line must come from one of these source files, if it names one.
    pub(super) const fn files(mut self, files: &'static [&'static str]) -> Self {
        self.files = files;
        self
    }

    pub(super) const fn errors(mut self) -> Self {
        self.reach = Reach::Errors;
        self
    }

    pub(super) const fn warnings(mut self) -> Self {
        self.reach = Reach::Warnings;
        self
    }

    pub(super) const fn foreign(mut self) -> Self {
        self.reach = Reach::Foreign;
        self
    }

    pub(super) const fn any_line(mut self) -> Self {
        self.reach = Reach::AnyLine;
        self
    }

    pub(super) const fn despite_success(mut self) -> Self {
        self.reach = Reach::DespiteSuccess;
        self
    }

    pub(super) const fn cause(mut self, text: &'static str) -> Self {
        self.cause = text;
        self
    }

    pub(super) const fn remedy(mut self, text: &'static str) -> Self {
        self.remedy = text;
        self
    }

    pub(super) const fn examples(mut self, lines: &'static [&'static str]) -> Self {
        self.examples = lines;
        self
    }

    /// Matches the line: how specifically, and what the holes took.
    pub(super) fn matches<'t>(
        &self,
        entry: &'t Entry,
        around: Surroundings<'_>,
        operation: Option<Operation>,
    ) -> Option<(usize, Captures<'t>)> {
        let reached = match self.reach {
            Reach::Tagged => entry.is_tagged(),
            Reach::Errors => entry.level == Level::Error,
            Reach::Warnings => entry.level == Level::Warn,
            Reach::Foreign => entry.level == Level::Untagged && entry.time.is_none(),
            Reach::AnyLine | Reach::DespiteSuccess => true,
        };
        if !reached {
            return None;
        }
        if let (Some(wanted), Some(operation)) = (self.operation, operation)
            && wanted != operation
            && !(wanted == Operation::Dump && operation == Operation::PreDump)
        {
            return None;
        }
        let body = entry.body();
        let (weight, captures) = self
            .patterns
            .iter()
            .filter_map(|text| {
                let captures = pattern::matches(text, body, entry.message())?;
                Some((pattern::weight(text), captures))
            })
            .max_by_key(|(weight, _)| *weight)?;
        if self.except.iter().any(|text| body.contains(text)) {
            return None;
        }
        let file = entry.location.as_ref().map(Location::file_name);
        if !self.files.is_empty() && file.is_some_and(|file| !self.files.contains(&file)) {
            return None;
        }
        let among = |texts: &[&str], entries: &[Entry]| {
            let has = |text: &&str| entries.iter().any(|entry| entry.text().contains(*text));
            texts.is_empty() || texts.iter().any(has)
        };
        let soon = around.after.get(..THEN.min(around.after.len()));
        if !among(self.then, soon.unwrap_or_default()) {
            return None;
        }
        let here = std::slice::from_ref(entry);
        if ![around.before, here, around.after]
            .into_iter()
            .any(|entries| among(self.near, entries))
        {
            return None;
        }
        // What demands more of its surroundings is more specific than any length of text.
        let demanding = !self.near.is_empty() || !self.then.is_empty();
        let bonus = if demanding { 1000 } else { 0 } + if self.files.is_empty() { 0 } else { 5 };
        Some((weight + bonus, captures))
    }
}

pub(super) const fn cause(
    group: Group,
    id: &'static str,
    patterns: &'static [&'static str],
) -> Rule {
    Rule::new(Role::Cause, group, id, patterns)
}

pub(super) const fn clue(
    group: Group,
    id: &'static str,
    patterns: &'static [&'static str],
) -> Rule {
    Rule::new(Role::Clue, group, id, patterns)
}

pub(super) const fn hint(
    group: Group,
    id: &'static str,
    patterns: &'static [&'static str],
) -> Rule {
    Rule::new(Role::Hint, group, id, patterns)
}

pub(super) const fn consequence(
    group: Group,
    id: &'static str,
    patterns: &'static [&'static str],
) -> Rule {
    Rule::new(Role::Consequence, group, id, patterns)
}

pub(super) const fn noise(
    group: Group,
    id: &'static str,
    patterns: &'static [&'static str],
) -> Rule {
    Rule::new(Role::Noise, group, id, patterns)
}
