//! What is in the way of a restore or a migration, as it is asked for and shown.

use std::io::stdout;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use criu_migrate::preflight::{Check, Report, Severity};
use criu_migrate::{Error, Watch};
use serde_json::json;

use super::Global;
use super::interrupt::stop_on_signals;
use super::report::{Problem, result};
use crate::output::{Table, Tone, visible};

/// Reads the name of a check.
pub(super) fn check_names() -> impl TypedValueParser<Value = Check> {
    let names = Check::ALL.map(Check::name);
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Check>())
}

/// Asks, until the user interrupts, and presents the answer.
pub(super) fn asked(
    global: &Global,
    ask: impl FnOnce(&Watch) -> Result<Report, Problem>,
) -> Result<ExitCode, Problem> {
    let watch = Watch::default();
    let signals = stop_on_signals(&watch)?;
    let report = ask(&watch);
    signals.close();
    present(global, &report?)
}

/// Makes a problem of a question without an answer.
pub(super) fn no_answer(error: Error) -> Problem {
    match error {
        Error::Cancelled => Problem::Interrupted,
        error => Problem::NoAnswer {
            asked: "the comparison".to_owned(),
            source: Box::new(error),
        },
    }
}

pub(super) fn present(global: &Global, report: &Report) -> Result<ExitCode, Problem> {
    let blocking = report.blocking().count();
    let value = json!({
        "clear": blocking == 0,
        "findings": report.findings,
        "not_compared": report.not_compared,
        "left_out": report.left_out,
    });
    result(global, &value, || {
        as_text(report, global.color.applies_to(&stdout()))
    })?;
    Ok(match blocking {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(1),
    })
}

fn as_text(report: &Report, colored: bool) -> String {
    let mut table = Table::default();
    if !report.findings.is_empty() {
        let heads = ["", "check", "object", "needed", "found", "what to do"];
        table.row(heads.map(|head| (head.to_owned(), Tone::Strong)));
    }
    for finding in &report.findings {
        let (mark, tone) = match finding.severity {
            Severity::Blocks => ("BLOCKS", Tone::Bad),
            _ => ("warns", Tone::Warning),
        };
        table.row([
            (mark.to_owned(), tone),
            (finding.check.name().to_owned(), Tone::Plain),
            (visible(&finding.object), Tone::Plain),
            (visible(&finding.wanted), Tone::Plain),
            (visible(&finding.found), Tone::Plain),
            (visible(&finding.remedy), Tone::Plain),
        ]);
    }
    let mut text = table.render(colored);
    for left in &report.not_compared {
        text.push_str(&format!(
            "not compared: {}: {}\n",
            left.check,
            visible(&left.why)
        ));
    }
    if report.left_out > 0 {
        text.push_str(&format!("and {} more findings\n", report.left_out));
    }
    let conclusion = match report.blocking().count() {
        0 => Tone::Good.paint("nothing that was compared is in the way", colored),
        1 => Tone::Bad.paint("1 finding is in the way", colored),
        count => Tone::Bad.paint(&format!("{count} findings are in the way"), colored),
    };
    text.push_str(&conclusion);
    text.push('\n');
    text
}
