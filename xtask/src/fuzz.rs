//! `cargo xtask fuzz`: builds and runs the targets in `fuzz/`, two at once.
//!
//! libFuzzer guides them by coverage where there is a C++ compiler to build it with. What instruments
//! our code is a pass of LLVM that any rustc runs when told to, so that no nightly toolchain is needed.
//! Where that does not work, the targets mutate their seeds blindly, and we say so.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::criu::{target_directory, workspace_directory};
use crate::failure::{Doing, Failure, Outcome};
use crate::tool;

const USAGE: &str = "usage: cargo xtask fuzz [TARGET...] [--seconds N] [--seed N] [--input FILE]";

/// How long each target runs unless told otherwise, in seconds.
const SECONDS: u64 = 30;

/// How long one input may take, in seconds: many times what the slowest takes on a busy machine.
const INPUT_PATIENCE: u64 = 20;

/// Longest input tried, in bytes.
const INPUT_LIMIT: u64 = 1 << 20;

/// How long a target may outlive its time before it counts as hanging.
const GRACE: Duration = Duration::from_secs(120);

/// Targets run at once.
const AT_ONCE: usize = 2;

/// Makes rustc count every edge and report comparisons, as libFuzzer expects.
const INSTRUMENT: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// `cargo xtask fuzz`.
pub(crate) fn task(arguments: &[String]) -> Outcome<()> {
    let request = Request::parse(arguments)?;
    let fuzz = workspace_directory().join("fuzz");
    let known = targets(&fuzz)?;
    for target in &request.targets {
        if !known.contains(target) {
            return Err(Failure::new(format!("there is no target `{target}`"))
                .with_remedy(format!("the targets are {}", known.join(", "))));
        }
    }
    let targets = if request.targets.is_empty() {
        known
    } else {
        request.targets.clone()
    };
    let (engine, programs) = build(&fuzz)?;
    println!(
        "{} for {} s each, seed {} (--seed repeats it)",
        engine.describe(),
        request.seconds,
        request.seed
    );
    let mut waiting: VecDeque<Run> = VecDeque::new();
    for target in targets {
        waiting.push_back(Run::prepare(target, &fuzz, &programs)?);
    }
    let mut running = Vec::new();
    let mut failed = Vec::new();
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < AT_ONCE
            && let Some(mut run) = waiting.pop_front()
        {
            run.start(&request)?;
            running.push(run);
        }
        std::thread::sleep(Duration::from_millis(50));
        let mut still = Vec::new();
        for mut run in running {
            match run.poll(&request)? {
                None => still.push(run),
                Some(Ok(())) => {}
                Some(Err(())) => failed.push(run.target),
            }
        }
        running = still;
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(
        Failure::new(format!("fuzzing broke {}", failed.join(", "))).with_remedy(
            "keep the input under fixtures/fuzz/TARGET, where tests and fuzzing begin with it",
        ),
    )
}

/// Checks format and lints of the fuzz crate, which those of the workspace pass over.
pub(crate) fn lint(mut cargo: impl FnMut(&[&str]) -> Outcome<()>) -> Outcome<()> {
    let fuzz = workspace_directory().join("fuzz");
    copy_lock(&fuzz)?;
    let manifest = fuzz.join("Cargo.toml");
    let manifest = manifest.to_string_lossy();
    let target = target_directory();
    let target = target.to_string_lossy();
    cargo(&["fmt", "--manifest-path", &manifest, "--check"])?;
    cargo(&[
        "clippy",
        "--manifest-path",
        &manifest,
        "--target-dir",
        &target,
        "--no-default-features",
        "--",
        "-D",
        "warnings",
    ])
}

/// Has the fuzz crate use the versions that everything else is tested with; cargo adds those of the
/// engine.
fn copy_lock(fuzz: &Path) -> Outcome<()> {
    let lock = workspace_directory().join("Cargo.lock");
    fs::copy(&lock, fuzz.join("Cargo.lock")).doing("cannot copy Cargo.lock")?;
    Ok(())
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Request {
    targets: Vec<String>,
    seconds: u64,
    seed: u32,
    input: Option<PathBuf>,
}

impl Request {
    fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut request = Self {
            targets: Vec::new(),
            seconds: SECONDS,
            // Any will do, as long as it is another one each time.
            seed: std::process::id(),
            input: None,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| Failure::new(USAGE));
            match argument.as_str() {
                "--seconds" => request.seconds = value()?.parse().doing("--seconds")?,
                "--seed" => request.seed = value()?.parse().doing("--seed")?,
                "--input" => {
                    let path = std::path::absolute(value()?).doing("--input")?;
                    request.input = Some(path);
                }
                flag if flag.starts_with('-') => return Err(Failure::new(USAGE)),
                target => request.targets.push(target.to_owned()),
            }
        }
        if request.input.is_some() && request.targets.len() != 1 {
            return Err(Failure::new("--input wants the one target that takes it"));
        }
        Ok(request)
    }
}

/// What chooses the inputs.
#[derive(Clone, Copy, Debug)]
enum Engine {
    LibFuzzer,
    Blind,
}

impl Engine {
    fn describe(self) -> &'static str {
        match self {
            Self::LibFuzzer => "libFuzzer, guided by coverage,",
            Self::Blind => "BLIND mutation, not guided by coverage,",
        }
    }
}

/// The names of all targets.
fn targets(fuzz: &Path) -> Outcome<Vec<String>> {
    let directory = fuzz.join("fuzz_targets");
    let failed = format!("cannot read {}", directory.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&directory).doing(&failed)? {
        let path = entry.doing(&failed)?.path();
        names.extend(
            path.file_stem()
                .map(|stem| stem.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    Ok(names)
}

/// Builds all targets; gives the directory they are in.
fn build(fuzz: &Path) -> Outcome<(Engine, PathBuf)> {
    copy_lock(fuzz)?;
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
    let reason = if tool::find(&compiler).is_none() && !Path::new(&compiler).is_file() {
        format!("there is no C++ compiler ({compiler}) to build libFuzzer with")
    } else {
        match build_with(fuzz, Engine::LibFuzzer) {
            Ok(programs) => return Ok((Engine::LibFuzzer, programs)),
            Err(failure) => failure.to_string(),
        }
    };
    println!("\nNOT GUIDED BY COVERAGE: {reason}\n");
    Ok((Engine::Blind, build_with(fuzz, Engine::Blind)?))
}

fn build_with(fuzz: &Path, engine: Engine) -> Outcome<PathBuf> {
    let version = tool::output(Command::new(rustc()).arg("-vV"))?;
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .ok_or_else(|| Failure::new("rustc -vV names no host"))?;
    let directory = target_directory().join(match engine {
        Engine::LibFuzzer => "fuzz-guided",
        Engine::Blind => "fuzz-blind",
    });
    let mut command = Command::new(tool::cargo());
    // Naming the host keeps the flags away from build scripts.
    command
        .current_dir(fuzz)
        .args(["build", "--release", "--bins", "--target", host])
        .env("CARGO_TARGET_DIR", &directory);
    match engine {
        Engine::LibFuzzer => command.env("RUSTFLAGS", INSTRUMENT),
        Engine::Blind => command.arg("--no-default-features"),
    };
    let words = tool::words(&command);
    let status = command.status().doing(format_args!("cannot run {words}"))?;
    if !status.success() {
        return Err(Failure::new(format!("{words} ended with {status}")));
    }
    Ok(directory.join(host).join("release"))
}

fn rustc() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

/// One target, from its seeds to its end.
#[derive(Debug)]
struct Run {
    target: String,
    program: PathBuf,
    corpus: PathBuf,
    artifacts: PathBuf,
    log: PathBuf,
    child: Option<(Child, Instant)>,
}

impl Run {
    /// Makes the directories.
    fn prepare(target: String, fuzz: &Path, programs: &Path) -> Outcome<Self> {
        let corpus = fuzz.join("corpus").join(&target);
        let artifacts = fuzz.join("artifacts").join(&target);
        fs::create_dir_all(&artifacts)
            .doing(format_args!("cannot create {}", artifacts.display()))?;
        fs::create_dir_all(&corpus).doing(format_args!("cannot create {}", corpus.display()))?;
        Ok(Self {
            program: programs.join(&target),
            log: artifacts.join("log"),
            target,
            corpus,
            artifacts,
            child: None,
        })
    }

    fn start(&mut self, request: &Request) -> Outcome<()> {
        let log = File::create(&self.log).doing("cannot create the log")?;
        let errors = log.try_clone().doing("cannot share the log")?;
        let mut command = Command::new(&self.program);
        command
            .arg(format!("-max_total_time={}", request.seconds))
            .arg(format!("-seed={}", request.seed))
            .arg(format!("-timeout={INPUT_PATIENCE}"))
            .arg(format!("-max_len={INPUT_LIMIT}"))
            .arg(format!("-artifact_prefix={}/", self.artifacts.display()))
            .arg(request.input.as_ref().unwrap_or(&self.corpus))
            .env("CRIU_FUZZ_SEEDS", &self.corpus)
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        let child = command
            .spawn()
            .doing(format_args!("cannot run {}", tool::words(&command)))?;
        self.child = Some((child, Instant::now()));
        Ok(())
    }

    /// Looks whether it has ended, and how; prints that.
    fn poll(&mut self, request: &Request) -> Outcome<Option<Result<(), ()>>> {
        let Some((child, start)) = &mut self.child else {
            return Ok(None);
        };
        let status = child.try_wait().doing("cannot wait for the target")?;
        let hangs = start.elapsed() > Duration::from_secs(request.seconds) + GRACE;
        if status.is_none() && hangs {
            child.kill().doing("cannot end the target")?;
            child.wait().doing("cannot wait for the target")?;
        } else if status.is_none() {
            return Ok(None);
        }
        let said = fs::read(&self.log).doing("cannot read the log")?;
        let said = String::from_utf8_lossy(&said);
        if status.is_some_and(|status| status.success()) {
            println!("{:<20} {}", self.target, summary(&said));
            return Ok(Some(Ok(())));
        }
        let how = status.map_or_else(|| "hung".to_owned(), |status| status.to_string());
        println!(
            "{:<20} FAILED ({how}); inputs and log are in {}\n{}",
            self.target,
            self.artifacts.display(),
            tool::tail(&said, 40)
        );
        Ok(Some(Err(())))
    }
}

/// What an engine's log says about a run that ended well: how many inputs, how many edges.
fn summary(said: &str) -> String {
    let done = said.lines().rev().find(|line| line.starts_with("Done "));
    let coverage = said
        .lines()
        .rev()
        .find_map(|line| line.split_once(" cov: "))
        .and_then(|(_, rest)| rest.split(' ').next());
    match (done, coverage) {
        (Some(done), Some(edges)) => format!("{done}, {edges} edges"),
        (Some(done), None) => done.to_owned(),
        (None, _) => "done".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Outcome<Request> {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        Request::parse(&words)
    }

    #[test]
    fn requests_are_understood_and_nonsense_is_not() {
        let request = parse("checkpoint --seconds 5 --seed 7").expect("fine");
        assert_eq!(request.targets, ["checkpoint"]);
        assert_eq!((request.seconds, request.seed), (5, 7));
        parse("--seconds").expect_err("no number");
        parse("--seconds x").expect_err("no number");
        parse("--colour").expect_err("no such flag");
        parse("--input file").expect_err("whose input?");
    }

    #[test]
    fn every_target_is_a_program_of_the_fuzz_crate() {
        let fuzz = workspace_directory().join("fuzz");
        let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("a manifest");
        for target in targets(&fuzz).expect("targets") {
            assert!(
                manifest.contains(&format!("name = \"{target}\"")),
                "{target} is missing in fuzz/Cargo.toml"
            );
        }
    }

    #[test]
    fn a_run_is_summed_up_from_its_log() {
        let said = "#2\tINITED cov: 7 ft: 7\n#8\tDONE   cov: 812 ft: 9 corp: 2\nDone 8 runs in 3 second(s)\n";
        assert_eq!(summary(said), "Done 8 runs in 3 second(s), 812 edges");
        assert_eq!(
            summary("Done 8 runs in 3 second(s)\n"),
            "Done 8 runs in 3 second(s)"
        );
    }
}
