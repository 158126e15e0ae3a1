//! What `x` prints is what Python CRIT prints, byte for byte.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use criu_image::Checkpoint;
use criu_inspect::explore::Explorer;
use criu_testkit::{CriuUnderTest, Namespace, Scene, TempDir, python_crit};

const QUESTIONS: [&str; 4] = ["ps", "fds", "mems", "rss"];

fn ours(images: &Path, what: &str) -> Vec<u8> {
    let checkpoint = Checkpoint::open(images).expect("a directory");
    let mut explorer = Explorer::new(checkpoint);
    let mut out = Vec::new();
    let written = match what {
        "ps" => explorer.processes().value.write_text(&mut out),
        "fds" => explorer.open_files().value.write_text(&mut out),
        "mems" => explorer.stream_mappings().write_text(&mut out),
        _ => explorer.stream_resident().write_text(&mut out),
    };
    written.expect("memory takes it");
    out
}

/// Compares all answers; gives how many Python gave in full.
fn compare(crit: &Path, images: &Path) -> usize {
    let mut whole = 0;
    for what in QUESTIONS {
        let output = Command::new(crit)
            .args([Path::new("x"), images, Path::new(what)])
            .stdin(Stdio::null())
            .output()
            .expect("the oracle runs");
        let ours = ours(images, what);
        let context = || {
            let ours = String::from_utf8_lossy(&ours);
            let theirs = String::from_utf8_lossy(&output.stdout);
            let line = ours
                .lines()
                .zip(theirs.lines())
                .position(|(ours, theirs)| ours != theirs);
            format!(
                "x {} {what}: line {line:?}\nours:\n{ours}\nPython's:\n{theirs}",
                images.display()
            )
        };
        if output.status.success() {
            assert!(ours == output.stdout, "{}", context());
            whole += 1;
        } else {
            // Python gives up at the first task without images, such as a zombie.
            assert!(ours.starts_with(&output.stdout), "{}", context());
        }
    }
    whole
}

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let mut sets = Vec::new();
    for series in ["4.2", "4.3"] {
        let directory = std::fs::read_dir(root.join(series)).expect("the fixtures are there");
        sets.extend(directory.map(|entry| entry.expect("readable").path()));
    }
    // A pre-dump holds memory only; there are no processes to ask about.
    sets.retain(|set| set.join("pstree.img").exists());
    sets.sort();
    sets
}

#[test]
fn all_fixtures_give_what_python_prints() {
    let Some(crit) = python_crit() else { return };
    let sets = fixtures();
    let whole: usize = sets.iter().map(|set| compare(&crit, set)).sum();
    // All but those with zombies.
    assert!(
        whole + 12 >= 4 * sets.len(),
        "{whole} of {}",
        4 * sets.len()
    );
}

#[test]
fn live_dumps_give_what_python_prints() {
    let Some(crit) = python_crit() else { return };
    type Case = (fn() -> Scene, &'static [&'static str]);
    let cases: [Case; 3] = [
        (|| Scene::new().threads(3).children(4).memory_kib(512), &[]),
        (
            || {
                Scene::new()
                    .pipe()
                    .fifo()
                    .unix_sockets()
                    .udp()
                    .pty()
                    .event_files()
            },
            &[],
        ),
        (
            || Scene::new().namespaces(&Namespace::ALL).children(1).tcp(),
            &["--tcp-established"],
        ),
    ];
    for criu in CriuUnderTest::all() {
        for (scene, options) in cases {
            let images = TempDir::new();
            let mut process = scene().start();
            process.wait_for_count_above(0);
            criu.dump(process.pid(), images.path(), options);
            process.reap();
            assert_eq!(compare(&crit, images.path()), QUESTIONS.len());
        }
    }
}
