//! `crit` against Python's on the same files in the same run, and its search against `cat`.
//!
//! ```text
//! cargo xtask oracle
//! cargo bench -p criu-cli --bench crit [ROUNDS]    3 unless said
//! ```
//!
//! Makes the large sets by the examples `large_images` and `large_memory`, about 3 GiB in the directory for temporary
//! files. A round runs Python's `crit` once and ours five times; what counts of a round is the ratio of the one to the
//! median of the five, and what is printed is the median of the rounds. Peak memory needs GNU time(1).
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and has no better answer than to stop"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use criu_testkit::TempDir;

const OURS: &str = env!("CARGO_BIN_EXE_crit");
/// Runs of ours for one of the peer's.
const OURS_PER_ROUND: usize = 5;

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let bench = Bench {
        place: TempDir::new(),
        rounds: rounds.unwrap_or(3),
    };
    bench.against_python();
    bench.payload();
    bench.search();
}

struct Bench {
    place: TempDir,
    rounds: usize,
}

/// What a command took.
#[derive(Clone, Copy)]
struct Took {
    user: f64,
    system: f64,
    elapsed: f64,
}

impl Took {
    fn processor(&self) -> f64 {
        self.user + self.system
    }
}

impl Bench {
    fn path(&self, name: &str) -> String {
        self.place.join(name).display().to_string()
    }

    /// What a command of ours took, and how many times as much the peer's did.
    fn pairs(&self, peer: &[&str], ours: &[&str]) -> Vec<(Took, Took)> {
        let pair = |_| {
            let mut many: Vec<Took> = (0..OURS_PER_ROUND).map(|_| run(ours)).collect();
            many.sort_by(|one, other| one.processor().total_cmp(&other.processor()));
            (run(peer), many[OURS_PER_ROUND / 2])
        };
        (0..self.rounds).map(pair).collect()
    }

    fn against_python(&self) {
        let Some(python) = oracle() else {
            println!(
                "SKIPPED against Python: there is none; `cargo xtask oracle` puts it in place"
            );
            return;
        };
        let set = self.path("images");
        example("large_images", &[&set, "1"]);
        println!(
            "Python / ours, medians of {} rounds{:>22}{:>8}{:>9}{:>14}{:>10}",
            self.rounds, "processor", "user", "elapsed", "Python MiB", "ours MiB"
        );
        let compare = |name: &str, verb: &[&str]| {
            let python: Vec<&str> = [&[python.as_str()], verb].concat();
            let ours: Vec<&str> = [&[OURS], verb].concat();
            let pairs = self.pairs(&python, &ours);
            let ratio = |figure: fn(&Took) -> f64| {
                median(pairs.iter().map(|(peer, ours)| figure(peer) / figure(ours)))
            };
            let peak = |words: &[&str]| peak_mib(words).unwrap_or(f64::NAN);
            println!(
                "{name:<42}{:>13.0}{:>8.0}{:>9.0}{:>14.0}{:>10.1}",
                ratio(Took::processor),
                ratio(|took| took.user),
                ratio(|took| took.elapsed),
                peak(&python),
                peak(&ours),
            );
        };
        let (json, out) = (self.path("json"), self.path("out"));
        for (name, file) in [
            ("page map", "pagemap-1.img"),
            ("memory map", "mm-1.img"),
            ("files", "files.img"),
        ] {
            let image = format!("{set}/{file}");
            let decode = ["decode", "-i", &image, "-o", &out];
            compare(&format!("{name}, decode"), &decode);
            compare(
                &format!("{name}, decode --pretty"),
                &[&decode[..], &["--pretty"]].concat(),
            );
            run(&[&python, "decode", "-i", &image, "-o", &json]);
            compare(
                &format!("{name}, encode"),
                &["encode", "-i", &json, "-o", &out],
            );
        }
        for question in ["mems", "rss", "fds"] {
            compare(&format!("x {question}"), &["x", &set, question]);
        }
        compare("--help", &["--help"]);
    }

    /// A payload of 1 GiB, which Python holds several times over.
    fn payload(&self) {
        let set = self.path("payload");
        example("large_images", &[&set, "1024"]);
        let (image, json) = (format!("{set}/ghost-file-1.img"), self.path("json"));
        run(&[OURS, "decode", "-i", &image, "-o", &json]);
        println!(
            "\n{:<42}{:>13}{:>17}",
            "payload of 1 GiB", "processor", "elapsed"
        );
        for (verb, input) in [("decode", &image), ("encode", &json)] {
            let runs: Vec<Took> = (0..OURS_PER_ROUND)
                .map(|_| run(&[OURS, verb, "-i", input]))
                .collect();
            let rate = |figure: fn(&Took) -> f64| 1.073_741_824 / median(runs.iter().map(figure));
            println!(
                "{verb:<42}{:>8.1} GB/s{:>12.1} GB/s",
                rate(Took::processor),
                rate(|took| took.elapsed)
            );
        }
    }

    fn search(&self) {
        println!(
            "\n{:<42}{:>13}{:>17}{:>24}",
            "search, ours / cat", "processor", "elapsed", "ours MiB"
        );
        for (mib, areas) in [("2048", "1"), ("256", "32768")] {
            let set = self.path("memory");
            example("large_memory", &[&set, mib, areas]);
            let pages = format!("{set}/pages-1.img");
            let cat = ["cat", &pages];
            for words in [
                &["needle-in-a-haystack"][..],
                &["--regex", "needle-[a-z]+-a-hay"],
            ] {
                let ours = [&[OURS, "search", &set], words].concat();
                let pairs = self.pairs(&cat, &ours);
                let ratio = |figure: fn(&Took) -> f64| {
                    median(pairs.iter().map(|(cat, ours)| figure(ours) / figure(cat)))
                };
                println!(
                    "{:<42}{:>13.1}{:>17.1}{:>24.1}",
                    format!("{mib} MiB, {areas} areas, {}", words[0]),
                    ratio(Took::processor),
                    ratio(|took| took.elapsed),
                    peak_mib(&ours).unwrap_or(f64::NAN),
                );
            }
        }
    }
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = figures.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn oracle() -> Option<String> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/oracle/crit");
    let set = std::env::var_os("CRIU_TEST_ORACLE").map(PathBuf::from);
    let path = set.unwrap_or(beside);
    path.exists().then(|| path.display().to_string())
}

fn example(name: &str, words: &[&str]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--release", "--quiet", "-p", "criu-inspect"]);
    command.args(["--example", name, "--"]).args(words);
    assert!(command.status().unwrap().success());
}

/// Runs a command, its output to `/dev/null`. bash(1) counts what it took, to the millisecond and with next to nothing of
/// its own in it.
fn run(words: &[&str]) -> Took {
    let script = "TIMEFORMAT='%3U %3S %3R'; time \"$@\" > /dev/null";
    let output = Command::new("bash")
        .args(["-c", script, "bash"])
        .args(words)
        .output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {text}");
    let last = text.lines().last().unwrap_or_default();
    let figures: Vec<f64> = last.split(' ').map(|word| word.parse().unwrap()).collect();
    let [user, system, elapsed] = figures[..] else {
        panic!("bash said {text:?}");
    };
    Took {
        user,
        system,
        elapsed,
    }
}

/// The most memory a command has at a time, by GNU time if it is installed.
fn peak_mib(words: &[&str]) -> Option<f64> {
    let mut command = Command::new("/usr/bin/time");
    command.args(["-f", "%M"]).args(words).stdout(Stdio::null());
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let kib: f64 = text.lines().last()?.parse().ok()?;
    Some(kib / 1024.0)
}
