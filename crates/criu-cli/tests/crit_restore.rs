//! The idea of CRIU's own test suite, zdtm: what was dumped is restored from images that went through JSON.

use std::path::Path;
use std::process::{Command, Stdio};

use criu_testkit::{CriuUnderTest, TempDir, fixtures_binary};

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
            // Chains take a kernel that tracks memory, and Python compressed the others.
            let is_other = ["incremental", "deduplicated"]
                .iter()
                .any(|chain| name.starts_with(chain))
                || name.ends_with("-compressed");
            let is_made = place.join(format!("{series}/{name}")).is_dir();
            assert!(is_other || is_made, "{series}/{name} was left out: {told}");
        }
    }
}
