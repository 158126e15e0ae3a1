//! `cargo xtask test`: all that CI asks, in one go, from an empty target directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::criu::{self, target_directory, workspace_directory};
use crate::failure::{Doing, Failure, Outcome};
use crate::harness::{self, Tally};
use crate::licences;
use crate::packages::{self, Needed};
use crate::{examples, oracle, tool};

/// Programs the tests call that cargo does not bring.
pub(crate) const NEEDED: &[Needed] = &[
    Needed {
        program: "ip",
        package: "iproute2",
        purpose: "sets up the tests' network namespaces",
    },
    Needed {
        program: "iptables-restore",
        package: "iptables",
        purpose: "CRIU locks connections with it",
    },
    Needed {
        program: "nft",
        package: "nftables",
        purpose: "CRIU locks connections with it",
    },
    Needed {
        program: "unshare",
        package: "util-linux",
        purpose: "puts test processes into namespaces",
    },
    Needed {
        program: "kill",
        package: "procps",
        purpose: "tests send signals with it",
    },
    Needed {
        program: "python3",
        package: "python3",
        purpose: "runs Python CRIT, the oracle",
    },
];

/// By what the tests know the CRIUs of [`criu::SERIES`].
pub(crate) const CRIU_VARIABLES: [&str; 2] = ["CRIU_TEST_4_2", "CRIU_TEST_4_3"];

/// `cargo xtask test`.
pub(crate) fn task(arguments: &[String]) -> Outcome<()> {
    if !arguments.is_empty() {
        return Err(Failure::new("usage: cargo xtask test"));
    }
    let mut run = Run::new()?;
    run.step("packages", |_| packages::ensure(NEEDED));
    for (series, variable) in criu::SERIES
        .into_iter()
        .zip(["CRIU_TEST_4_2", "CRIU_TEST_4_3"])
    {
        run.step(&format!("CRIU {series}"), |run| {
            let criu = criu::of_series(series)?;
            println!("{} (version {})", criu.path.display(), criu.version);
            run.environment.insert(variable, criu.path);
            Ok(())
        });
    }
    run.step("Python CRIT", |run| {
        let crit = oracle::obtain()?;
        println!("{}", crit.display());
        run.environment.insert("CRIU_TEST_ORACLE", crit);
        Ok(())
    });
    run.step("format", |run| run.cargo(&["fmt", "--all", "--check"]));
    run.step("generated code", |_| {
        crate::codegen::task(&["--check".to_owned()])
    });
    run.step("licences", |run| {
        let number = licences::check(&run.workspace)?;
        println!("{number} packages have licences that deny.toml allows");
        Ok(())
    });
    run.step("clippy", |run| {
        run.cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--locked",
            "--",
            "-D",
            "warnings",
        ])
    });
    run.step("documentation", |run| {
        run.cargo(&[
            "doc",
            "--workspace",
            "--no-deps",
            "--all-features",
            "--locked",
        ])
    });
    run.step("build", |run| {
        run.cargo(&[
            "build",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--locked",
        ])
    });
    run.step("tests", Run::tests);
    run.step("examples", Run::examples);
    run.step("fuzzing", |run| {
        crate::fuzz::lint(|arguments| run.cargo(arguments))?;
        crate::fuzz::task(&[])
    });
    run.close()
}

/// One run of all steps: what they need from each other, and what came of them.
struct Run {
    workspace: PathBuf,
    /// Handed to the tests.
    environment: BTreeMap<&'static str, PathBuf>,
    skip_log: PathBuf,
    steps: Vec<(String, Duration, Result<(), String>)>,
    tally: Tally,
}

impl Run {
    fn new() -> Outcome<Self> {
        let target = target_directory();
        fs::create_dir_all(&target).doing(format_args!("cannot create {}", target.display()))?;
        let skip_log = target.join("skipped-tests");
        fs::write(&skip_log, "").doing(format_args!("cannot write {}", skip_log.display()))?;
        let environment = BTreeMap::from([
            ("CRIU_TEST_SKIP_LOG", skip_log.clone()),
            ("CRIU_TEST_BINARIES", target.join("debug")),
        ]);
        Ok(Run {
            workspace: workspace_directory(),
            environment,
            skip_log,
            steps: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Does a step and keeps what came of it; one that fails does not keep the others from being done.
    fn step(&mut self, name: &str, work: impl FnOnce(&mut Self) -> Outcome<()>) {
        println!("\n── {name}");
        let start = Instant::now();
        let result = work(self).map_err(|failure| failure.to_string());
        if let Err(failure) = &result {
            println!("{name} FAILED: {failure}");
        }
        self.steps.push((name.to_owned(), start.elapsed(), result));
    }

    /// Runs cargo, its output in view.
    fn cargo(&mut self, arguments: &[&str]) -> Outcome<()> {
        let mut command = self.command(tool::cargo().as_ref());
        command.args(arguments);
        if arguments.first() == Some(&"doc") {
            command.env("RUSTDOCFLAGS", "-D warnings");
        }
        let status = command
            .status()
            .doing(format_args!("cannot run {}", tool::words(&command)))?;
        if status.success() {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{} ended with {status}",
            tool::words(&command)
        )))
    }

    /// Runs all tests, passing on what they print and counting their closing lines.
    fn tests(&mut self) -> Outcome<()> {
        let mut command = self.command(tool::cargo().as_ref());
        command.args([
            "test",
            "--workspace",
            "--all-features",
            "--locked",
            "--no-fail-fast",
        ]);
        let (tally, outcome) = harness::run(command);
        self.tally = tally;
        outcome
    }

    /// Runs every example and counts it like a test.
    fn examples(&mut self) -> Outcome<()> {
        let examples = examples::all(&licences::metadata(&self.workspace)?);
        let criu = self
            .environment
            .get("CRIU_TEST_4_3")
            .ok_or_else(|| Failure::new("there is no CRIU to run them with"))?;
        let log = examples::good_log(criu)?;
        let mut failed = Vec::new();
        for example in examples {
            let program = target_directory()
                .join("debug/examples")
                .join(&example.name);
            let mut command = self.command(&program);
            command.env("CRIU", criu);
            match example.run(command, &log) {
                Ok(()) => self.tally.passed += 1,
                Err(failure) => {
                    self.tally.failed += 1;
                    println!("example {} FAILED: {failure}", example.name);
                    failed.push(example.name);
                }
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::new(format!("failed: {}", failed.join(", "))))
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.workspace)
            .stdin(Stdio::null())
            .envs(&self.environment);
        // These describe xtask, and would have cargo believe that they describe what it builds.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Prints what came of everything; fails if anything failed.
    fn close(mut self) -> Outcome<()> {
        let text = fs::read_to_string(&self.skip_log).unwrap_or_default();
        let skips: Vec<Skip> = text.lines().filter_map(Skip::parse).collect();
        let avoidable = skips.iter().filter(|skip| skip.avoidable).count();
        if !skips.is_empty() {
            println!("\n── skipped tests");
            for skip in &skips {
                println!(
                    "{} {}: {}",
                    if skip.avoidable {
                        "AVOIDABLE"
                    } else {
                        "unavoidable"
                    },
                    skip.test,
                    skip.reason
                );
            }
        }
        if avoidable > 0 {
            let failure =
                format!("{avoidable} skipped tests could have run: what they miss can be provided");
            self.steps
                .push(("skips".into(), Duration::ZERO, Err(failure)));
        }
        println!("\n── summary");
        for (name, time, result) in &self.steps {
            println!(
                "{:<16} {:>7.1} s  {}",
                name,
                time.as_secs_f64(),
                if result.is_ok() { "ok" } else { "FAILED" }
            );
        }
        let total: Duration = self.steps.iter().map(|(_, time, _)| *time).sum();
        println!("{:<16} {:>7.1} s", "total", total.as_secs_f64());
        if self.tally.ignored > 0 {
            println!(
                "{} tests are marked as ignored and count as skipped",
                self.tally.ignored
            );
        }
        let failed_steps: Vec<&str> = self
            .steps
            .iter()
            .filter(|(.., result)| result.is_err())
            .map(|(name, ..)| name.as_str())
            .collect();
        // A test that failed is counted by itself, not once more by its step.
        let other_failures = failed_steps
            .iter()
            .filter(|step| self.tally.failed == 0 || !matches!(**step, "tests" | "examples"))
            .count();
        println!(
            "\n{} passed, {} failed, {} skipped",
            self.tally.passed,
            self.tally.failed + other_failures,
            skips.len() + self.tally.ignored
        );
        if failed_steps.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("failed: {}", failed_steps.join(", "))))
    }
}

/// A line of the tests' skip log.
#[derive(Debug, PartialEq, Eq)]
struct Skip<'a> {
    avoidable: bool,
    test: &'a str,
    reason: &'a str,
}

impl<'a> Skip<'a> {
    /// Whatever is not plainly `unavoidable` counts as avoidable, a damaged line too.
    fn parse(line: &'a str) -> Option<Self> {
        if line.is_empty() {
            return None;
        }
        let mut parts = line.splitn(3, '\t');
        let avoidable = parts.next() != Some("unavoidable");
        Some(Skip {
            avoidable,
            test: parts.next().unwrap_or("?"),
            reason: parts.next().unwrap_or("?"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_skip_counts_as_avoidable() {
        assert_eq!(Skip::parse(""), None);
        let skip = Skip::parse("unavoidable\ta::b\tno\tsuch thing").expect("a skip");
        assert_eq!(
            skip,
            Skip {
                avoidable: false,
                test: "a::b",
                reason: "no\tsuch thing"
            }
        );
        assert!(Skip::parse("unavail").expect("a skip").avoidable);
    }
}
