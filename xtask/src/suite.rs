//! `cargo xtask test`: all that CI asks, in one go, from an empty target directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::criu::{self, target_directory, workspace_directory};
use crate::failure::{Doing, Failure, Outcome};
use crate::guest::{Guest, quoted, slowness};
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
        program: "openssl",
        package: "openssl",
        purpose: "makes certificates as docs/migration.md says",
    },
    Needed {
        program: "rsync",
        package: "rsync",
        purpose: "migrations bring files along with it",
    },
    Needed {
        program: "runc",
        package: "runc",
        purpose: "migrations move its containers",
    },
    Needed {
        program: "podman",
        package: "podman",
        purpose: "migrations move its containers",
    },
    Needed {
        program: "python3",
        package: "python3",
        purpose: "runs Python CRIT, the oracle",
    },
];

/// By what the tests know the CRIUs of [`criu::SERIES`].
pub(crate) const CRIU_VARIABLES: [&str; 2] = ["CRIU_TEST_4_2", "CRIU_TEST_4_3"];

/// An integration test to run in the guest too.
struct GuestTest {
    package: &'static str,
    name: &'static str,
    /// Which of its tests: those whose name has one of these words in it.
    filter: &'static str,
}

/// Tests of what this machine's kernel may lack and the guest's has.
const GUEST_TESTS: &[GuestTest] = &[
    GuestTest {
        package: "criu",
        name: "real",
        filter: "pre_dump",
    },
    GuestTest {
        package: "criu-cli",
        name: "crit_restore",
        filter: "a_chain",
    },
    GuestTest {
        package: "criu-migrate",
        name: "real",
        filter: "pre_copy",
    },
    GuestTest {
        package: "criu-cli",
        name: "migrate",
        filter: "faults::pre_copy faults::hybrid containers::rounds",
    },
];

/// How long they may take there, on a machine that is busy with other things.
const GUEST_PATIENCE: Duration = Duration::from_secs(30 * 60);

/// `cargo xtask test`.
pub(crate) fn task(arguments: &[String]) -> Outcome<()> {
    if !arguments.is_empty() {
        return Err(Failure::new("usage: cargo xtask test"));
    }
    let mut run = Run::new()?;
    run.step("packages", |_| packages::ensure(NEEDED));
    run.step("pipes", |_| allow_large_pipes());
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
    run.step("tests in guest", Run::guest_tests);
    run.step("examples", Run::examples);
    run.step("fuzzing", |run| {
        crate::fuzz::lint(|arguments| run.cargo(arguments))?;
        crate::fuzz::task(&[])
    });
    run.close()
}

/// Lets pipes be as large as a lazy dump of CRIU needs them, where root may not exceed the limit anyway.
fn allow_large_pipes() -> Outcome<()> {
    const LIMIT: &str = "/proc/sys/fs/pipe-max-size";
    const NEEDED_BYTES: u64 = 4 << 20;
    let limit = fs::read_to_string(LIMIT).doing(format_args!("cannot read {LIMIT}"))?;
    if limit
        .trim()
        .parse::<u64>()
        .is_ok_and(|bytes| bytes < NEEDED_BYTES)
    {
        println!("raising {LIMIT} from {} to {NEEDED_BYTES}", limit.trim());
        fs::write(LIMIT, NEEDED_BYTES.to_string()).doing(format_args!("cannot write {LIMIT}"))?;
    }
    Ok(())
}

/// One run of all steps: what they need from each other, and what came of them.
struct Run {
    workspace: PathBuf,
    /// Handed to the tests.
    environment: BTreeMap<&'static str, PathBuf>,
    skip_log: PathBuf,
    /// Tests skipped here that a guest with another kernel ran.
    ran_in_guest: BTreeSet<String>,
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
            ran_in_guest: BTreeSet::new(),
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
    /// Runs the tests that need memory tracking once more, in a guest whose kernel has it.
    fn guest_tests(&mut self) -> Outcome<()> {
        let guest = Guest::obtain()?;
        let skips = guest.shared().join("skips");
        let mut script = format!("cd {}\n", quoted(&self.workspace.display().to_string()));
        for (name, value) in &self.environment {
            let value = if *name == "CRIU_TEST_SKIP_LOG" {
                &skips
            } else {
                value
            };
            script.push_str(&format!(
                "export {name}={}\n",
                quoted(&value.display().to_string())
            ));
        }
        script.push_str(&format!(
            "export CRIU_TEST_SLOWNESS={}\ncode=0\n",
            slowness()
        ));
        for test in GUEST_TESTS {
            let cargo = self.command(tool::cargo().as_ref());
            let program = test_program(cargo, test.package, test.name)?;
            script.push_str(&format!(
                "{} {} --test-threads=1 --color=never || code=$?\n",
                quoted(&program.display().to_string()),
                test.filter
            ));
        }
        script.push_str("exit $code");

        let mut tally = Tally::default();
        let mut ran = BTreeSet::new();
        let mut lines = 0_usize;
        let ended = guest.run_within(&script, GUEST_PATIENCE, |line| {
            println!("{line}");
            lines += 1;
            tally.count(line);
            let passed = line
                .strip_prefix("test ")
                .and_then(|rest| rest.strip_suffix(" ... ok"));
            ran.extend(passed.map(str::to_owned));
        });
        let code = match ended {
            Err(failure) if lines == 0 => {
                // Loud, and counted: without these tests nothing has shown that pre-dumps work.
                println!("THE GUEST DID NOT START: {failure}");
                let line = format!("unavoidable\ttests in guest\t{failure}\n").replace('\n', " ");
                return append(&self.skip_log, &format!("{}\n", line.trim_end()));
            }
            ended => ended?,
        };
        let skipped = fs::read_to_string(&skips).unwrap_or_default();
        for skip in skipped.lines().filter_map(Skip::parse) {
            ran.remove(skip.test);
        }
        append(&self.skip_log, &skipped)?;
        self.tally.failed += tally.failed;
        // Those that passed were counted where they were skipped.
        self.ran_in_guest = ran;
        if code == 0 && tally.passed > 0 {
            return Ok(());
        }
        Err(Failure::new(format!(
            "the tests ended with code {code} in the guest"
        )))
    }

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
        let skips: Vec<Skip> = text
            .lines()
            .filter_map(Skip::parse)
            .filter(|skip| !self.ran_in_guest.contains(skip.test))
            .collect();
        // A test is one, however many CRIUs it could not try; the harness counts it as passed.
        let skipped_tests: BTreeSet<&str> = skips.iter().map(|skip| skip.test).collect();
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
            .filter(|step| {
                self.tally.failed == 0 || !matches!(**step, "tests" | "tests in guest" | "examples")
            })
            .count();
        println!(
            "\n{} passed, {} failed, {} skipped",
            self.tally.passed.saturating_sub(skipped_tests.len()),
            self.tally.failed + other_failures,
            skipped_tests.len() + self.tally.ignored
        );
        if failed_steps.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("failed: {}", failed_steps.join(", "))))
    }
}

/// Has `cargo` build the integration tests, and finds the program of one.
pub(crate) fn test_program(mut cargo: Command, package: &str, name: &str) -> Outcome<PathBuf> {
    cargo.args([
        "test",
        "--workspace",
        "--all-features",
        "--locked",
        "--no-run",
    ]);
    cargo.args(["--message-format=json", "--quiet"]);
    let messages = tool::output(&mut cargo)?;
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .filter(|message| {
            let id = message["package_id"].as_str().unwrap_or_default();
            id.contains(&format!("crates/{package}#"))
        })
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| Failure::new(format!("cargo built no test {name} of {package}")))
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

fn append(path: &Path, text: &str) -> Outcome<()> {
    OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .doing(format_args!("cannot write {}", path.display()))
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
