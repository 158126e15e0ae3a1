//! Results and failures, for people and for machines.

use std::io::{self, stderr};
use std::process::ExitCode;
use std::time::Duration;

use criu::diagnose::Diagnosis;
use criu::{DumpStats, Error, Failure, RestoreStats};
use serde_json::{Value, json};

use super::Global;
use crate::output::{Tone, json_path, visible, write_stdout};

/// Why a verb did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// CRIU, or the crate that drives it, says so.
    #[error("{error}")]
    Criu {
        /// What was tried, for the report.
        tried: Option<String>,
        /// Why it failed.
        error: Box<Error>,
    },
    /// The arguments cannot be meant so.
    #[error("{0}")]
    Usage(String),
    /// Something of our own could not be done.
    #[error("cannot {doing}")]
    Io {
        /// What.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// Images cannot be read.
    #[error("cannot read the checkpoint")]
    Images {
        /// Why not; says where.
        source: Box<criu_image::Error>,
    },
    /// No answer to a question could be had.
    #[error("{asked} failed")]
    NoAnswer {
        /// What was asked.
        asked: String,
        /// Why there is none.
        source: Box<criu_migrate::Error>,
    },
    /// A migration failed, by no fault of CRIU's.
    #[error("{tried} failed")]
    Migration {
        /// What was tried.
        tried: String,
        /// Why it failed.
        source: Box<criu_migrate::Error>,
    },
    /// Already reported; only the exit code is left.
    #[error("interrupted")]
    Interrupted,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Criu {
            tried: None,
            error: Box::new(error),
        }
    }
}

impl Problem {
    /// Notes what was tried.
    pub(super) fn during(error: Error, tried: String) -> Self {
        Self::Criu {
            tried: Some(tried),
            error: Box::new(error),
        }
    }

    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// Prints a result.
pub(super) fn print(text: &str) -> Result<(), Problem> {
    write_stdout(text).map_err(Problem::io("write to standard output"))
}

/// Prints a result in the form asked for.
pub(super) fn result(
    global: &Global,
    value: &Value,
    text: impl FnOnce() -> String,
) -> Result<(), Problem> {
    if global.json {
        print(&format!("{value}\n"))
    } else {
        print(&text())
    }
}

/// Reports a failure and picks the exit code.
pub(super) fn fail(global: &Global, problem: &Problem) -> ExitCode {
    if global.json {
        // Standard output may be gone; the exit code still tells.
        let _ = write_stdout(&format!("{}\n", json!({ "error": as_json(problem) })));
    } else {
        eprint!("{}", as_text(problem, global.color.applies_to(&stderr())));
    }
    match problem {
        Problem::Usage(_)
        | Problem::Io { .. }
        | Problem::Images { .. }
        | Problem::NoAnswer { .. } => ExitCode::from(2),
        Problem::Criu { error, .. } if matches!(**error, Error::Misuse { .. }) => ExitCode::from(2),
        Problem::Interrupted => ExitCode::from(130),
        _ => ExitCode::from(1),
    }
}

fn as_text(problem: &Problem, colored: bool) -> String {
    let mut text = format!("{} ", Tone::Bad.paint("criuctl:", colored));
    let Problem::Criu { tried, error } = problem else {
        text.push_str(&visible(&chain(problem)));
        text.push('\n');
        return text;
    };
    let Some(failure) = error.failure() else {
        text.push_str(&visible(&chain(error.as_ref())));
        text.push('\n');
        return text;
    };
    text.push_str(&headline(error, failure));
    text.push('\n');
    let mut line = |name: &str, value: &str| {
        let name = Tone::Strong.paint(&format!("{name:>8}:"), colored);
        text.push_str(&format!("{name} {}\n", visible(value.trim_end())));
    };
    if let Some(tried) = tried {
        line("tried", tried);
    }
    if let Some(Diagnosis {
        root,
        cause,
        remedy,
        ..
    }) = &failure.diagnosis
    {
        line("error", root.text());
        line("cause", cause);
        line("remedy", remedy);
    } else {
        if let Some(message) = &failure.message {
            line("error", message);
        }
        if let Some(errno) = failure.errno {
            line("errno", &errno.to_string());
        }
    }
    if !failure.stderr.is_empty() {
        line("stderr", failure.stderr.lines().next().unwrap_or_default());
    }
    if let Some(exit) = failure.worker_exit {
        line("criu", &exit.to_string());
    }
    if let Some(hook) = failure.last_hook {
        line("reached", &format!("the hook {hook}"));
    }
    if let Some((pid, state)) = failure.target {
        line("state", &format!("process {pid} {state}"));
    }
    if let Some(path) = failure.log.as_ref().and_then(|report| report.path.as_ref()) {
        line("log", &path.display().to_string());
    }
    text
}

fn headline(error: &Error, failure: &Failure) -> String {
    match error {
        Error::Lost(_) => format!("{} failed: CRIU ended without an answer", failure.operation),
        Error::TimedOut { after, .. } => {
            format!(
                "{} failed: no answer from CRIU within {after:?}",
                failure.operation
            )
        }
        Error::Protocol { problem, .. } => {
            format!(
                "{} failed: CRIU's answer makes no sense ({problem})",
                failure.operation
            )
        }
        Error::Hook { hook, source, .. } => {
            format!(
                "{} failed: {} (at {hook})",
                failure.operation,
                visible(&source.to_string())
            )
        }
        _ => format!("{} failed", failure.operation),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        // Some libraries repeat their source in their own text.
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}

fn as_json(problem: &Problem) -> Value {
    let Problem::Criu { tried, error } = problem else {
        return json!({ "message": chain(problem) });
    };
    let mut value = json!({ "message": chain(error.as_ref()), "tried": tried });
    let Some(failure) = error.failure() else {
        return value;
    };
    value["operation"] = failure.operation.to_string().into();
    value["errno"] = json!(failure.errno.map(|errno| json!({
        "number": errno.0, "name": errno.name(), "meaning": errno.meaning()
    })));
    value["criu_message"] = json!(failure.message);
    value["last_hook"] = json!(failure.last_hook.map(criu::Hook::name));
    value["worker_exit"] = json!(failure.worker_exit.map(|exit| exit.to_string()));
    value["process"] = json!(
        failure
            .target
            .map(|(pid, state)| json!({ "pid": pid, "state": state.to_string() }))
    );
    value["log"] = json!(
        failure
            .log
            .as_ref()
            .and_then(|report| report.path.as_deref().map(json_path))
    );
    value["diagnosis"] = json!(failure.diagnosis.as_ref().map(diagnosis_json));
    value
}

/// A diagnosis for machines.
pub(super) fn diagnosis_json(diagnosis: &Diagnosis) -> Value {
    json!({
        "rule": diagnosis.rule.map(criu::diagnose::Rule::id),
        "root": diagnosis.root.raw().to_string(),
        "line": diagnosis.root.line_number,
        "cause": diagnosis.cause,
        "remedy": diagnosis.remedy,
    })
}

/// Statistics of a dump for machines; times in microseconds.
pub(super) fn dump_statistics_json(statistics: &DumpStats) -> Value {
    json!({
        "freezing_time_us": microseconds(statistics.freezing),
        "frozen_time_us": microseconds(statistics.frozen),
        "memdump_time_us": microseconds(statistics.memory_dump),
        "memwrite_time_us": microseconds(statistics.memory_write),
        "irmap_resolve_us": statistics.irmap_resolve.map(microseconds),
        "pages_scanned": statistics.pages_scanned,
        "pages_skipped_parent": statistics.pages_skipped_parent,
        "pages_written": statistics.pages_written,
        "pages_lazy": statistics.pages_lazy,
        "page_pipes": statistics.page_pipes,
        "page_pipe_bufs": statistics.page_pipe_buffers,
        "shpages_scanned": statistics.shared_pages_scanned,
        "shpages_skipped_parent": statistics.shared_pages_skipped_parent,
        "shpages_written": statistics.shared_pages_written,
    })
}

/// Statistics of a dump for people.
pub(super) fn dump_statistics_text(statistics: &DumpStats) -> String {
    let mut text = format!(
        "frozen for {}, {} pages scanned, {} written",
        milliseconds(statistics.frozen),
        statistics.pages_scanned,
        statistics.pages_written,
    );
    if statistics.pages_skipped_parent > 0 {
        text.push_str(&format!(
            ", {} unchanged since the parent",
            statistics.pages_skipped_parent
        ));
    }
    if statistics.pages_lazy > 0 {
        text.push_str(&format!(", {} left for later", statistics.pages_lazy));
    }
    text
}

/// Statistics of a restore for machines; times in microseconds.
pub(super) fn restore_statistics_json(statistics: &RestoreStats) -> Value {
    json!({
        "forking_time_us": microseconds(statistics.forking),
        "restore_time_us": microseconds(statistics.restore),
        "pages_compared": statistics.pages_compared,
        "pages_skipped_cow": statistics.pages_skipped_cow,
        "pages_restored": statistics.pages_restored,
    })
}

/// A time for people.
pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// A time for machines.
fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
