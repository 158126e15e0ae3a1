//! `cargo xtask soak`: every case of the fault matrix of migrations, again and again.
//!
//! What memory tracking is needed for runs in the guest. Without limits it is one round. Every case that ran is added
//! to `target/soak.tsv`; `--tables` prints the file as the tables of docs/faults.md.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::criu::{self, target_directory, workspace_directory};
use crate::failure::{Doing, Failure, Outcome};
use crate::guest::{Guest, quoted, slowness};
use crate::suite::{CRIU_VARIABLES, NEEDED, test_program};
use crate::{harness, packages, tool};

const USAGE: &str = "usage: cargo xtask soak [--minutes N | --rounds N] [FILTER]\n       cargo xtask soak --tables [FILE...]";

/// Tests whose cases need a kernel that tracks memory.
const TRACKING: [&str; 2] = ["faults::pre_copy", "faults::hybrid"];
/// Those that do not.
const OTHERS: [&str; 2] = ["faults::", "hosts::"];

/// How long the guest may take for a round.
const GUEST_PATIENCE: Duration = Duration::from_secs(4 * 60 * 60);

/// `cargo xtask soak`.
pub(crate) fn task(arguments: &[String]) -> Outcome<()> {
    if let [first, files @ ..] = arguments
        && first == "--tables"
    {
        return tables(files);
    }
    let request = Request::parse(arguments)?;
    let soak = Soak::prepare(request.filter.clone())?;
    let began = Instant::now();
    let mut table: Vec<Row> = Vec::new();
    let mut broken: Vec<String> = Vec::new();
    let mut rounds = 0;
    while rounds == 0 || request.goes_on(rounds, began) {
        rounds += 1;
        println!("\n── round {rounds}, on this machine");
        broken.extend(soak.here(&mut table)?);
        println!("\n── round {rounds}, in the guest");
        broken.extend(soak.in_guest(&mut table)?);
    }
    print_table(&table);
    record(&table)?;
    for failure in &broken {
        println!("{failure}");
    }
    let failed = table.iter().filter(|row| !row.is_ok).count();
    println!(
        "\n{} cases in {rounds} rounds and {:.0} min: {} as expected, {failed} not",
        table.len(),
        began.elapsed().as_secs_f64() / 60.0,
        table.len() - failed
    );
    match (failed, broken.is_empty(), table.is_empty()) {
        (_, _, true) => Err(Failure::new("not one case ran")),
        (0, true, _) => Ok(()),
        _ => Err(Failure::new("some of it failed")),
    }
}

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    minutes: Option<u64>,
    rounds: Option<u32>,
    filter: Option<String>,
}

impl Request {
    fn parse(arguments: &[String]) -> Outcome<Self> {
        let wrong = || Failure::new(USAGE);
        let mut request = Self::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut number = || words.next().ok_or_else(wrong)?.parse().map_err(|_| wrong());
            match word.as_str() {
                "--minutes" => request.minutes = Some(number()?),
                "--rounds" => {
                    request.rounds = Some(u32::try_from(number()?).map_err(|_| wrong())?);
                }
                option if option.starts_with('-') => return Err(wrong()),
                _ if request.filter.is_some() => return Err(wrong()),
                filter => request.filter = Some(filter.to_owned()),
            }
        }
        if request.minutes.is_some() && request.rounds.is_some() {
            return Err(wrong());
        }
        Ok(request)
    }

    fn goes_on(&self, rounds: u32, began: Instant) -> bool {
        match (self.minutes, self.rounds) {
            (Some(minutes), _) => began.elapsed() < Duration::from_secs(minutes * 60),
            (None, wanted) => rounds < wanted.unwrap_or(1),
        }
    }
}

/// The tests, built, and what they are told.
struct Soak {
    program: PathBuf,
    filter: Option<String>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Soak {
    fn prepare(filter: Option<String>) -> Outcome<Self> {
        packages::ensure(NEEDED)?;
        let mut environment = vec![("CRIU_TEST_BINARIES", target_directory().join("debug"))];
        for (series, variable) in criu::SERIES.into_iter().zip(CRIU_VARIABLES) {
            environment.push((variable, criu::of_series(series)?.path));
        }
        let mut build = Command::new(tool::cargo());
        build.current_dir(workspace_directory());
        build.args(["build", "--workspace", "--all-features", "--locked"]);
        tool::output(&mut build)?;
        let mut cargo = Command::new(tool::cargo());
        cargo.current_dir(workspace_directory());
        Ok(Self {
            program: test_program(cargo, "criu-cli", "migrate")?,
            filter,
            environment,
        })
    }

    /// Runs a round here; gives what failed beside cases.
    fn here(&self, table: &mut Vec<Row>) -> Outcome<Option<String>> {
        let lines = target_directory().join("soak-table");
        let _ = fs::remove_file(&lines);
        let mut command = Command::new(&self.program);
        command
            .current_dir(workspace_directory())
            .args(self.tests(&OTHERS))
            .args(["--test-threads=1", "--color=never"])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("CRIU_SOAK", &lines);
        for test in TRACKING {
            command.args(["--skip", test]);
        }
        if let Some(filter) = &self.filter {
            command.env("CRIU_SOAK_FILTER", filter);
        }
        let (_, outcome) = harness::run_within(command, None);
        table.extend(read_rows(&lines)?);
        Ok(outcome.err().map(|failure| failure.to_string()))
    }

    /// The same in the guest.
    fn in_guest(&self, table: &mut Vec<Row>) -> Outcome<Option<String>> {
        let guest = Guest::obtain()?;
        let lines = guest.shared().join("soak-table");
        let mut script = format!("cd {}\n", word(&workspace_directory()));
        for (name, value) in &self.environment {
            script.push_str(&format!("export {name}={}\n", word(value)));
        }
        script.push_str(&format!(
            "export CRIU_SOAK={} CRIU_TEST_SLOWNESS={}\n",
            word(&lines),
            slowness()
        ));
        if let Some(filter) = &self.filter {
            script.push_str(&format!("export CRIU_SOAK_FILTER={}\n", quoted(filter)));
        }
        script.push_str(&format!(
            "{} {} --test-threads=1 --color=never",
            word(&self.program),
            self.tests(&TRACKING).join(" ")
        ));
        let code = guest.run_within(&script, GUEST_PATIENCE, |line| println!("{line}"));
        table.extend(read_rows(&lines)?);
        Ok(match code {
            Ok(0) => None,
            Ok(code) => Some(format!("the tests ended with code {code} in the guest")),
            Err(failure) => Some(failure.to_string()),
        })
    }

    /// Which tests; those without cases are no part of a choice of cases.
    fn tests<'a>(&self, all: &[&'a str]) -> Vec<&'a str> {
        let is_wanted = |test: &&&str| self.filter.is_none() || test.starts_with("faults");
        all.iter().filter(is_wanted).copied().collect()
    }
}

fn word(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A case that ran.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    criu: String,
    mode: String,
    moment: String,
    fault: String,
    expected: String,
    seconds: String,
    is_ok: bool,
}

impl Row {
    /// Reads `CRIU TAB MODE TAB MOMENT TAB FAULT TAB EXPECTED TAB SECONDS TAB ok`.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split('\t').collect();
        let [criu, mode, moment, fault, expected, seconds, verdict] = words[..] else {
            return None;
        };
        Some(Self {
            criu: criu.to_owned(),
            mode: mode.to_owned(),
            moment: moment.to_owned(),
            fault: fault.to_owned(),
            expected: expected.to_owned(),
            seconds: seconds.to_owned(),
            is_ok: verdict == "ok",
        })
    }

    fn line(&self) -> String {
        let verdict = if self.is_ok { "ok" } else { "FAILED" };
        let words = [
            &self.criu,
            &self.mode,
            &self.moment,
            &self.fault,
            &self.expected,
            &self.seconds,
        ];
        words.map(|word| format!("{word}\t")).concat() + verdict
    }

    fn case(&self) -> String {
        let Self {
            criu,
            mode,
            moment,
            fault,
            ..
        } = self;
        format!("{criu}  {mode:<13}  {moment:<25}  {fault}")
    }
}

fn record_path() -> PathBuf {
    target_directory().join("soak.tsv")
}

fn record(rows: &[Row]) -> Outcome<()> {
    let path = record_path();
    let text: String = rows.iter().map(|row| row.line() + "\n").collect();
    let file = fs::OpenOptions::new().create(true).append(true).open(&path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .doing(format_args!("cannot add to {}", path.display()))
}

/// Prints the tables of what came of each case, a table for each mode.
fn tables(files: &[String]) -> Outcome<()> {
    let mut rows = Vec::new();
    match files {
        [] => rows.extend(read_rows(&record_path())?),
        files => {
            for file in files {
                rows.extend(read_rows(Path::new(file))?);
            }
        }
    }
    for mode in each(&rows, |row| &row.mode) {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.mode == mode).collect();
        print!("{}", table(mode, &rows));
    }
    Ok(())
}

/// In the order in which they come.
const MOMENTS: [&str; 8] = [
    "between rounds",
    "source pre-dump",
    "pages",
    "source post-dump",
    "destination pre-restore",
    "destination post-restore",
    "destination pre-resume",
    "filling",
];

/// Deeds by moments, each with what came of it and how often it did.
fn table(mode: &str, rows: &[&Row]) -> String {
    let mut moments = each(rows.iter().copied(), |row| &row.moment);
    moments.sort_by_key(|moment| MOMENTS.iter().position(|known| known == moment));
    let mut text = format!("\n### {mode}\n\n| Deed |");
    for moment in &moments {
        text.push_str(&format!(" {moment} |"));
    }
    text.push_str(&format!("\n|---|{}\n", "---|".repeat(moments.len())));
    for fault in each(rows.iter().copied(), |row| &row.fault) {
        text.push_str(&format!("| {} |", deed(fault)));
        for moment in &moments {
            let of_case = |row: &&&Row| row.fault == fault && row.moment == *moment;
            let ran: Vec<&&Row> = rows.iter().filter(of_case).collect();
            let good = ran.iter().filter(|row| row.is_ok).count();
            text.push_str(&match ran.first() {
                None => " – |".to_owned(),
                Some(row) => format!(" {} {good}/{} |", told(&row.expected), ran.len()),
            });
        }
        text.push('\n');
    }
    text
}

/// A deed, as the documentation calls it.
fn deed(fault: &str) -> String {
    let Some((whom, what)) = fault.split_once(' ') else {
        return fault.to_owned();
    };
    let whom = match whom {
        "SourceCriu" => "source's CRIU",
        "DestinationCriu" => "destination's CRIU",
        "PageServer" => "page server",
        "LazyPages" => "`criu lazy-pages`",
        "Guard" => "guard",
        whom => whom,
    };
    format!("{whom} {what}")
}

/// What is expected, as the documentation calls it.
fn told(expected: &str) -> &str {
    match expected {
        "Here" => "source",
        "There" => "destination",
        "ThereAndStoppedHere" => "destination, stopped on source",
        "StoppedHere" => "stopped on source",
        "ThereOrStoppedHere" => "destination or stopped on source",
        other => other,
    }
}

/// The values there are, in the order of their first appearance.
fn each<'a>(
    rows: impl IntoIterator<Item = &'a Row>,
    value: impl Fn(&'a Row) -> &'a String,
) -> Vec<&'a str> {
    let mut values: Vec<&str> = Vec::new();
    for row in rows {
        let value = value(row).as_str();
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

fn read_rows(path: &Path) -> Outcome<Vec<Row>> {
    let text = match fs::read_to_string(path) {
        // A choice of cases may leave none for this machine, or for the guest.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.doing(format_args!("cannot read {}", path.display()))?,
    };
    let row =
        |line| Row::parse(line).ok_or_else(|| Failure::new(format!("the tests wrote `{line}`")));
    text.lines().map(row).collect()
}

/// Each case once, with how often it went as expected.
fn print_table(rows: &[Row]) {
    println!("\n── cases");
    let mut seen: Vec<String> = Vec::new();
    for row in rows {
        let case = row.case();
        if seen.contains(&case) {
            continue;
        }
        let all = rows.iter().filter(|other| other.case() == case);
        let (times, good) = all.fold((0, 0), |(times, good), other| {
            (times + 1, good + usize::from(other.is_ok))
        });
        let verdict = if times == good { "ok" } else { "FAILED" };
        println!(
            "{case:<72} {:<20} {good}/{times} {verdict} ({} s)",
            row.expected, row.seconds
        );
        seen.push(case);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Outcome<Request> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Request::parse(&words)
    }

    #[test]
    fn a_soak_is_limited_by_time_or_by_rounds() {
        let request = parse(&["--rounds", "3", "filling"]).expect("good");
        assert_eq!(request.filter.as_deref(), Some("filling"));
        let now = Instant::now();
        assert!(request.goes_on(2, now) && !request.goes_on(3, now));
        assert!(!Request::default().goes_on(1, now));
        let request = parse(&["--minutes", "1"]).expect("good");
        assert!(request.goes_on(1000, now));
        for wrong in [
            &["--minutes"][..],
            &["--rounds", "x"],
            &["--what"],
            &["a", "b"],
            &["--rounds", "1", "--minutes", "1"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_row_is_only_good_when_it_says_so() {
        let row = Row::parse("CRIU 4.3\tpost-copy\tfilling\tsender killed\tStoppedHere\t4.2\tok");
        assert!(row.expect("a row").is_ok);
        let row = Row::parse("CRIU 4.3\tpost-copy\tfilling\tsender killed\tHere\t4.2\tFAILED");
        assert!(!row.expect("a row").is_ok);
        assert_eq!(Row::parse("half a\trow"), None);
    }

    #[test]
    fn a_table_says_of_each_deed_what_came_of_it_and_how_often() {
        let rows = [
            "CRIU 4.2\thybrid\tpages\tsender killed\tHere\t4.2\tok",
            "CRIU 4.3\thybrid\tpages\tsender killed\tHere\t4.2\tFAILED",
            "CRIU 4.3\thybrid\tfilling\tGuard killed\tThere\t4.2\tok",
        ];
        let rows = rows.map(|line| Row::parse(line).expect("a row"));
        assert_eq!(rows[1].line().split('\t').count(), 7);
        assert_eq!(Row::parse(&rows[1].line()).as_ref(), Some(&rows[1]));
        let text = table("hybrid", &rows.each_ref());
        let expected = "\n### hybrid\n\n| Deed | pages | filling |\n|---|---|---|\n\
                        | sender killed | source 1/2 | – |\n| guard killed | – | destination 1/1 |\n";
        assert_eq!(text, expected);
    }
}
