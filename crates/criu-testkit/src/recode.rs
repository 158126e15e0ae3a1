//! Images that went through JSON.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Puts in the place of every image in a directory what the command `crit` makes of its JSON text, compact and indented
/// in turns.
///
/// # Panics
///
/// When an image cannot be decoded, or its text not be encoded.
#[track_caller]
pub fn recode(crit: &Path, images: &Path) {
    let names = fs::read_dir(images).and_then(|entries| {
        let names = entries.map(|entry| Ok(entry?.path()));
        names.collect::<io::Result<Vec<PathBuf>>>()
    });
    let mut names = names.unwrap_or_else(|error| panic!("cannot list the images: {error}"));
    names.retain(|name| name.is_file() && !is_no_image(name));
    let mut count = 0;
    for image in names {
        let (text, again) = (images.join("text.json"), images.join("again.img"));
        let style: &[&str] = if count % 2 == 1 { &["--pretty"] } else { &[] };
        let decoded = run(crit, "decode", &image, &text, style);
        if !decoded.status.success() {
            // The output of other programs.
            let told = String::from_utf8_lossy(&decoded.stderr);
            let is_raw = told.contains("Unknown magic");
            let is_short = fs::metadata(&image).is_ok_and(|image| image.len() < 4);
            assert!(is_raw || is_short, "{}: {told}", image.display());
            continue;
        }
        let encoded = run(crit, "encode", &text, &again, &[]);
        let told = String::from_utf8_lossy(&encoded.stderr);
        assert!(encoded.status.success(), "{}: {told}", image.display());
        fs::remove_file(&text)
            .and_then(|()| fs::rename(&again, &image))
            .unwrap_or_else(|error| panic!("cannot replace {}: {error}", image.display()));
        count += 1;
    }
    assert!(count > 1, "{count} images in {}", images.display());
}

/// Pages, and what CRIU tells of its run.
fn is_no_image(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("pages-") || name.ends_with(".log") || name.ends_with(".pid")
}

#[track_caller]
fn run(crit: &Path, verb: &str, from: &Path, to: &Path, style: &[&str]) -> Output {
    Command::new(crit)
        .arg(verb)
        .args([Path::new("-i"), from, Path::new("-o"), to])
        .args(style)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {}: {error}", crit.display()))
}
