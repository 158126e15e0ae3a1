//! The idea of CRIU's own test suite, zdtm: what was dumped is restored from images that went through JSON.

use std::path::Path;
use std::process::{Command, Stdio};

use criu_testkit::{CriuUnderTest, Scene, Subreaper, TempDir, fixtures_binary, recode, skip};

#[test]
fn every_process_of_the_fixtures_is_restored_from_images_that_went_through_json() {
    let series: Vec<_> = CriuUnderTest::all()
        .iter()
        .map(CriuUnderTest::series)
        .collect();
    if series.is_empty() {
        return;
    }
    let place = TempDir::new();
    let output = Command::new(fixtures_binary())
        .args([Path::new("--recode"), Path::new(env!("CARGO_BIN_EXE_crit"))])
        .arg(place.path())
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    for (major, minor) in series {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        let series = format!("{major}.{minor}");
        for set in std::fs::read_dir(fixtures.join(&series)).expect("fixtures") {
            let name = set.expect("reads").file_name();
            let name = name.to_string_lossy();
            // These take the guest's kernel, and Python compressed the others.
            let is_other = ["incremental", "deduplicated", "apparmor"]
                .iter()
                .any(|of_guest| name.starts_with(of_guest))
                || name.ends_with("-compressed");
            let is_made = place.join(format!("{series}/{name}")).is_dir();
            assert!(is_other || is_made, "{series}/{name} was left out: {told}");
        }
    }
}

#[test]
fn a_chain_is_restored_from_images_that_went_through_json_and_flat_without_its_parents() {
    let Some(criu) = CriuUnderTest::newest() else {
        return;
    };
    let features = criu::Criu::with_binary(criu.path()).and_then(|criu| criu.features());
    if !features
        .expect("it tells its features")
        .contains(criu::Feature::MemoryTracking)
    {
        skip!(Unavoidable, "the kernel does not track memory changes");
    }
    let crit = Path::new(env!("CARGO_BIN_EXE_crit"));
    let chain = TempDir::new();
    let [first, second, last] = ["1", "2", "3"].map(|round| chain.make_dir(round));
    let mut process = Scene::new().memory_kib(64).part("churn=16").start();
    let pid = process.pid();
    process.wait_for_count_above(1);
    criu.pre_dump(pid, &first, None, &[]);
    process.wait_for_count_above(process.count() + 2);
    criu.pre_dump(pid, &second, Some("../1"), &[]);
    process.wait_for_count_above(process.count() + 2);
    criu.dump(pid, &last, &["--track-mem", "--prev-images-dir", "../2"]);
    process.reap();
    let mut count = process.count();

    for round in [&first, &second, &last] {
        recode(crit, round);
    }
    let flat = chain.join("flat");
    let flattened = Command::new(crit)
        .args([Path::new("flatten"), &last, Path::new("-o"), &flat])
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&flattened.stderr);
    assert!(flattened.status.success(), "{told}");

    for images in [&last, &flat] {
        process.restored_as(criu.restore(images, &[]));
        process.wait_for_count_above(count);
        assert_eq!(process.verify(), Ok(()), "{}", images.display());
        Subreaper::kill_tree(process.pid());
        process.gone();
        count = process.count();
        // The flat one has to do without them.
        for parent in [&first, &second] {
            let _ = std::fs::remove_dir_all(parent);
        }
    }
}
