//! What a migration reports while it goes on.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use criu_migrate::policy::{Decision, Verdict};
use criu_migrate::preflight::{Report, Severity};
use criu_migrate::{Event, Happening, Watch};

use crate::criuctl::Global;
use crate::output::visible;

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Text for people, on standard error.
    Text,
    /// One JSON object a line, on standard output.
    JsonToStdout,
    /// The same on standard error, where standard output carries the migration.
    JsonToStderr,
}

impl Form {
    pub(super) fn of(global: &Global) -> Self {
        if global.json {
            Self::JsonToStdout
        } else {
            Self::Text
        }
    }

    /// A watch that reports every event in this form.
    pub(super) fn watch(self) -> Watch {
        let line = Line::default();
        Watch::new(move |event| self.report(event, &line))
    }

    fn report(self, event: &Event, line: &Line) {
        // Nobody may be reading; the migration goes on all the same.
        let _ = match self {
            Self::Text => {
                let at = event.at.as_secs_f64();
                match (sentences(&event.what), passing(&event.what)) {
                    (texts, None) if texts.is_empty() => line.clear(),
                    (texts, None) => texts
                        .iter()
                        .try_for_each(|text| line.write(&format!("{at:8.3} s  {}", visible(text)))),
                    (_, Some(text)) => line.overwrite(&text),
                }
            }
            Self::JsonToStdout => writeln!(std::io::stdout(), "{}", json(event)),
            Self::JsonToStderr => writeln!(std::io::stderr(), "{}", json(event)),
        };
    }
}

/// Standard error, whose last line may be one that passes, on a terminal.
#[derive(Debug, Default)]
struct Line(Mutex<bool>);

impl Line {
    /// Writes a line that stays.
    fn write(&self, text: &str) -> io::Result<()> {
        self.clear()?;
        writeln!(io::stderr(), "{text}")
    }

    /// Writes one that the next takes the place of.
    fn overwrite(&self, text: &str) -> io::Result<()> {
        let mut stderr = io::stderr();
        if !stderr.is_terminal() {
            return Ok(());
        }
        let mut is_there = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *is_there = true;
        write!(stderr, "\r\x1b[K            {text}")?;
        stderr.flush()
    }

    fn clear(&self) -> io::Result<()> {
        let mut is_there = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *is_there) {
            write!(io::stderr(), "\r\x1b[K")?;
        }
        Ok(())
    }
}

fn json(event: &Event) -> serde_json::Value {
    serde_json::to_value(event).unwrap_or_default()
}

/// What is shown only until the next.
fn passing(what: &Happening) -> Option<String> {
    Some(match what {
        Happening::PagesMoving {
            stream_bytes,
            sent_bytes,
        } => format!(
            "{} of memory, {} of it sent",
            size(*stream_bytes),
            size(*sent_bytes)
        ),
        Happening::Filling { stream_bytes } => {
            format!("{} of memory have followed", size(*stream_bytes))
        }
        _ => return None,
    })
}

/// What is said of an event, a line each.
fn sentences(what: &Happening) -> Vec<String> {
    match what {
        Happening::Findings { report } => findings(report),
        what => sentence(what).into_iter().collect(),
    }
}

fn findings(report: &Report) -> Vec<String> {
    let mark = |severity| match severity {
        Severity::Blocks => "in the way",
        _ => "warning",
    };
    let found = report
        .findings
        .iter()
        .map(|finding| format!("{}: {finding}", mark(finding.severity)));
    let not_compared = report.not_compared.iter();
    let not_compared =
        not_compared.map(|left| format!("not compared: {}: {}", left.check, left.why));
    let more = (report.left_out > 0).then(|| format!("and {} more findings", report.left_out));
    found.chain(not_compared).chain(more).collect()
}

fn sentence(what: &Happening) -> Option<String> {
    Some(match what {
        Happening::Connected { peer } => format!("connected with {peer}"),
        Happening::Agreed { host } => format!(
            "the other side is {} ({}, kernel {}, CRIU {})",
            host.name, host.architecture, host.kernel, host.criu
        ),
        Happening::ModeChosen { mode, reason } => format!("{mode}: {reason}"),
        Happening::RoundDone(round) => format!(
            "round {}: {} pages of {}, {} sent in {}",
            round.round,
            round.pages_written,
            round.pages_scanned,
            size(round.wire_bytes),
            milliseconds(round.took)
        ),
        Happening::RoundStored { round, bytes } => {
            format!("round {round} is stored, {} in all", size(*bytes))
        }
        Happening::Decided(verdict) => decision(verdict),
        Happening::Synced {
            path,
            pass,
            sent_bytes,
        } => format!("{path} copied, {pass} pass: {} sent", size(*sent_bytes)),
        Happening::SyncRemoved { path } => format!("{path} removed again"),
        Happening::SyncRemains { path } => {
            format!("{path} was here before and remains, with files as the source has them")
        }
        Happening::Checkpointed { restore_command } => format!(
            "checkpointed; should this program be killed now, `{restore_command}` brings it back"
        ),
        Happening::Freezing => "freezing the tree".to_owned(),
        Happening::PagesCopied {
            stream_bytes,
            sent_bytes,
        } => format!(
            "memory copied: {}, {} of it sent",
            size(*stream_bytes),
            size(*sent_bytes)
        ),
        Happening::ImagesCopied {
            images,
            stream_bytes,
            ..
        } => format!("{images} images copied, {}", size(*stream_bytes)),
        Happening::Restoring => "restoring".to_owned(),
        Happening::Restored { pid } => format!("restored as process {pid}, and held"),
        Happening::Committing => "handing over".to_owned(),
        Happening::Running { pid } => format!("runs there as process {pid}"),
        Happening::Filled => "all memory has followed".to_owned(),
        // The final report says it at length.
        Happening::Failed { .. } => return None,
        _ => return None,
    })
}

/// What the policy made of the rounds so far, and its figures.
fn decision(verdict: &Verdict) -> String {
    let next = match verdict.decision {
        Decision::NextRound => "another round",
        Decision::StopNow => "stopping the tree now",
        Decision::PostCopy => "the rest follows when the tree runs there",
        Decision::GiveUp => "giving up",
        _ => "going on",
    };
    let mut text = format!("{next}: {}", verdict.reason);
    if let Some(predicted) = verdict.predicted_downtime {
        text.push_str(&format!("; predicted downtime {}", milliseconds(predicted)));
    }
    let mut rate = |name: &str, bytes: Option<f64>| {
        if let Some(bytes) = bytes.filter(|bytes| *bytes >= 0.0) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "not negative; a rate beyond u64 is shown as its greatest value"
            )]
            text.push_str(&format!(", {name} {}/s", size(bytes as u64)));
        }
    };
    rate("link", verdict.bandwidth_bytes_per_second);
    rate("changing", verdict.dirty_bytes_per_second);
    text
}

/// A time for people.
pub(super) fn milliseconds(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 10.0 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(
        clippy::cast_precision_loss,
        reason = "shown with one digit after the point"
    )]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(3 << 30), "3.0 GiB");
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
    }
}
