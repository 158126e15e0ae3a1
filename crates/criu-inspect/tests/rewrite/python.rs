//! Beside Python's CRIT 4.3, in both directions.

use std::path::Path;
use std::process::Command;

use criu_inspect::rewrite::{Backups, CompressOptions, DecompressOptions, compress, decompress};
use criu_testkit::{CriuUnderTest, Scene, TempDir, python_crit};

use crate::set::{copy, files, write_varied};

fn python(crit: &Path, verb: &str, dir: &Path) {
    let output = Command::new(crit)
        .args([verb, "--in-place"])
        .arg(dir)
        .output()
        .expect("Python runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{verb}: {said}");
}

fn ours(verb: &str, dir: &Path) {
    let mut to = CompressOptions::default();
    to.backups = Backups::Discard;
    let mut from = DecompressOptions::default();
    from.backups = Backups::Discard;
    match verb {
        "compress" => compress(dir, to, &()),
        _ => decompress(dir, from, &()),
    }
    .expect(verb);
}

/// Each undoes what the other did, and both write the same inventory.
fn check_both_directions(crit: &Path, original: &Path) {
    let dir = TempDir::new();
    let (one, two) = (dir.join("one"), dir.join("two"));
    copy(original, &one);
    copy(original, &two);
    ours("compress", &one);
    python(crit, "compress", &two);
    let (mut by_us, mut by_python) = (files(&one), files(&two));
    assert!(by_us["inventory.img"] == by_python["inventory.img"]);
    // What is stored of a page is up to the compressor; how much that is must be alike.
    let pages = |name: &str| name.starts_with("pages-");
    let size = |files: &std::collections::BTreeMap<String, Vec<u8>>| {
        files
            .iter()
            .filter(|(name, _)| pages(name))
            .map(|(_, bytes)| bytes.len())
            .sum::<usize>()
    };
    let (our_size, their_size) = (size(&by_us), size(&by_python));
    assert!(
        our_size <= their_size + their_size / 20,
        "{our_size} bytes against {their_size} by Python"
    );
    let compressed = |name: &String| name.starts_with("pagemap-") || pages(name);
    by_us.retain(|name, _| !compressed(name));
    by_python.retain(|name, _| !compressed(name));
    assert!(by_us == by_python);

    python(crit, "decompress", &one);
    ours("decompress", &two);
    let original = files(original);
    let inventories = [&one, &two].map(|dir| files(dir).remove("inventory.img"));
    assert!(inventories[0].is_some() && inventories[0] == inventories[1]);
    for dir in [one, two] {
        let back = files(&dir);
        assert_eq!(
            back.keys().collect::<Vec<_>>(),
            original.keys().collect::<Vec<_>>()
        );
        for (name, bytes) in &original {
            // CRIU 4.3 writes that there is no compression, which is left out afterwards.
            let is_same = back[name] == *bytes || name == "inventory.img";
            assert!(is_same, "{}: {name}", dir.display());
        }
    }
}

#[test]
fn python_and_we_undo_each_others_compression_of_images_made_by_hand() {
    let Some(crit) = python_crit() else { return };
    let dir = TempDir::new();
    write_varied(dir.path());
    check_both_directions(&crit, dir.path());
}

#[test]
fn python_and_we_undo_each_others_compression_of_real_dumps() {
    let Some(crit) = python_crit() else { return };
    for criu in CriuUnderTest::all() {
        let images = TempDir::new();
        let mut process = Scene::new()
            .memory_kib(512)
            .children(1)
            .event_files()
            .start();
        process.wait_for_count_above(2);
        criu.dump(process.pid(), images.path(), &[]);
        process.reap();
        check_both_directions(&crit, images.path());

        // And CRIU takes what comes out.
        let count = process.count();
        ours("compress", images.path());
        python(&crit, "decompress", images.path());
        python(&crit, "compress", images.path());
        ours("decompress", images.path());
        process.restored_as(criu.restore(images.path(), &[]));
        process.wait_for_count_above(count);
        assert_eq!(process.verify(), Ok(()), "CRIU {:?}", criu.series());
    }
}
