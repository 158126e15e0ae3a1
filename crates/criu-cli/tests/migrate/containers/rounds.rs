//! Containers whose memory is copied while they run: where the kernel tracks memory, as in the guest of `cargo xtask`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use criu_testkit::skip;
use serde_json::Value;

use super::{Hosts, Podman, Runc, count, wait_for_count};
use crate::sides::{criu_with, is_tracked, patience, tracking_criu_with};

/// What runs in the container: it holds memory it knows every byte of, part of which it writes to all the time, and
/// counts. So it can tell whether it is what it would be without the move.
const PROGRAM: [&str; 4] = ["/target", "/state", "memory=8192", "churn=32"];

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience();
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Checks that it goes on, from where it was, and that all of its memory is as it has to be by then.
#[track_caller]
fn is_whole(pid: i64, before: u64) {
    wait_for_count(pid, before);
    let state = PathBuf::from(format!("/proc/{pid}/root/state"));
    let answer = state.join("verified");
    let _ = fs::remove_file(&answer);
    fs::write(state.join("verify"), "").unwrap();
    wait_until("it does not answer", || answer.exists());
    assert_eq!(fs::read_to_string(answer).unwrap(), "");
}

/// What the sender reports of a migration that succeeded.
#[track_caller]
fn report(said: &str) -> Value {
    let lines = said.lines().filter_map(|line| {
        let line = line.strip_prefix("sender: ").unwrap_or(line);
        serde_json::from_str::<Value>(line).ok()
    });
    let mut results = lines.filter(|value| value["event"] == "result");
    let result = results.next_back();
    result.unwrap_or_else(|| panic!("no report: {said}"))["result"].clone()
}

/// The pages of each round.
fn pages(report: &Value) -> Vec<u64> {
    let rounds = report["rounds"].as_array().unwrap();
    let pages = rounds.iter().map(|round| round["pages_written"].as_u64());
    pages.map(Option::unwrap).collect()
}

/// Never good enough, so that the rounds go on as long as they help.
const ROUNDS: [&str; 3] = ["--json", "--max-downtime", "0ms"];

#[test]
fn a_runc_container_is_copied_in_rounds_while_it_runs() {
    let Some(criu) = tracking_criu_with(&["runc", "rsync"]) else {
        return;
    };
    let runc = Runc::running(criu, &PROGRAM);
    let before = count(runc.pid("source").unwrap());
    let (code, said) = runc.send(&ROUNDS, &["--allow-sync", &runc.bundles()]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(runc.pid("source"), None);
    is_whole(runc.pid("destination").unwrap(), before);
    let report = report(&said);
    assert_eq!(report["mode"], "pre-copy");
    let pages = pages(&report);
    // 8 MiB at first, then what is written to.
    assert!(pages.len() >= 2 && pages[0] > 2048, "{pages:?}");
    assert!(pages[1] < pages[0] / 4, "{pages:?}");
    let left_bytes = report["image_bytes"].as_u64().unwrap();
    assert!(left_bytes < 4 << 20, "{report}");
    for side in ["source", "destination"] {
        assert_eq!(runc.0.left_behind(side), 0, "{side}");
    }
}

#[test]
fn a_runc_container_whose_rounds_come_to_nothing_goes_on_at_the_source() {
    let Some(criu) = tracking_criu_with(&["runc", "rsync"]) else {
        return;
    };
    let runc = Runc::running(criu, &PROGRAM);
    let failing = |host: &str, words: &str| {
        runc.first(host, &format!("case \"$*\" in {words}) exit 5;; esac"));
    };
    // In the second round.
    failing("source", "*--parent-path*--pre-dump*");
    let pid = runc.pid("source").unwrap();
    let before = count(pid);
    let (code, said) = runc.send(&ROUNDS, &["--allow-sync", &runc.bundles()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("was not touched"), "{said}");
    assert!(said.contains("--mode stop-and-copy"), "{said}");
    assert_eq!(runc.pid("source"), Some(pid));
    is_whole(pid, before);
    // When it is checkpointed upon the rounds, and the destination cannot restore it.
    failing("source", "never");
    failing("destination", "*restore*");
    let before = count(pid);
    let (code, said) = runc.send(&ROUNDS, &["--allow-sync", &runc.bundles()]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("while committing"), "{said}");
    assert!(said.contains("goes on here"), "{said}");
    is_whole(runc.pid("source").unwrap(), before);
    for side in ["source", "destination"] {
        assert_eq!(runc.0.left_behind(side), 0, "{side}");
    }
}

#[test]
fn a_container_takes_no_mode_that_its_runtime_has_not() {
    let Some(criu) = criu_with(&["runc", "rsync"]) else {
        return;
    };
    let is_tracked = is_tracked(&criu);
    let runc = Runc::start(criu);
    let pid = runc.pid("source");
    let mut refused = vec![("post-copy", "cannot follow it")];
    if !is_tracked {
        refused.push(("pre-copy", "cannot track memory"));
    }
    for (mode, why) in refused {
        let (code, said) = runc.send(&["--mode", mode], &["--allow-sync", &runc.bundles()]);
        assert!(code != Some(0) && said.contains(why), "{code:?} {said}");
        assert_eq!(runc.pid("source"), pid);
    }
}

/// `podman container checkpoint --pre-checkpoint`, then `--with-previous`.
#[test]
fn a_podman_container_is_copied_once_while_it_runs() {
    let Some(criu) = tracking_criu_with(&["podman"]) else {
        return;
    };
    let podman = match Podman::running(criu, &PROGRAM) {
        Ok(podman) => podman,
        Err(reason) => skip!(
            Unavoidable,
            "podman does not run containers here: {}",
            reason
        ),
    };
    podman.load_image_there();
    // What it keeps is looked at before it is removed.
    let chain = podman.0.directory.make_dir("chain");
    let keep = format!(
        "case \"$*\" in \"container rm \"*) cp -a {}/vfs-containers/*/userdata/*checkpoint {};; esac\nexec @podman \"$@\"",
        podman.0.directory.join("source-graph").display(),
        chain.display()
    );
    podman.0.wrap("source", "podman", &keep);
    let before = count(podman.pid("source").unwrap());
    let (code, said) = podman.0.send(&["--podman", &podman.0.id, "--json"], &[]);
    assert_eq!(code, Some(0), "{said}");
    is_whole(podman.pid("destination").unwrap(), before);
    let report = report(&said);
    assert_eq!(report["mode"], "pre-copy");
    let pages = pages(&report);
    assert!(pages.len() == 1 && pages[0] > 2048, "{pages:?}");
    for side in ["source", "destination"] {
        assert_eq!(podman.0.left_behind(side), 0, "{side}");
    }
    is_a_chain(&podman.0, &chain);
}

/// Our tools read what podman made: most of the memory lies in the parent, and can be taken out of it.
#[track_caller]
fn is_a_chain(hosts: &Hosts, chain: &std::path::Path) {
    let crit = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_crit"))
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "crit {words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let last = chain.join("checkpoint").display().to_string();
    let flat = hosts.directory.join("flat").display().to_string();
    crit(&["verify", &last]);
    let bytes_in = |directory: &str| {
        let memory = serde_json::from_str(&crit(&["mem", "--json", directory])).unwrap();
        let mut bytes = [0; 2];
        add_bytes(&memory, &mut bytes);
        bytes
    };
    let [here, parent] = bytes_in(&last);
    assert!(parent > 8 << 20 && here < parent / 4, "{here} {parent}");
    crit(&["flatten", &last, "--output", &flat]);
    crit(&["verify", &flat]);
    assert_eq!(bytes_in(&flat), [here + parent, 0]);
}

/// Adds up how many bytes lie in the pages of a checkpoint and of its parent.
fn add_bytes(value: &Value, bytes: &mut [u64; 2]) {
    match value {
        Value::Object(fields) => {
            let counts = fields.get("in_pages").and_then(Value::as_array);
            for (sum, count) in bytes.iter_mut().zip(counts.into_iter().flatten()) {
                *sum += count.as_u64().unwrap();
            }
            fields.values().for_each(|value| add_bytes(value, bytes));
        }
        Value::Array(values) => values.iter().for_each(|value| add_bytes(value, bytes)),
        _ => {}
    }
}
