//! Our JSON against Python CRIT 4.3's, byte for byte, in both directions.
//!
//! Over the images of real CRIUs in `fixtures/`, and over synthetic ones of every kind that try
//! every field of the schema. Where Python is wrong, `corrected` says what is right instead.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use criu_image::ImageKind;
use criu_inspect::json::{self, DecodeOptions, EncodeOptions, Payloads, Style};
use criu_testkit::{TempDir, python_crit};

use crate::synthetic::{self, Numbers};
use crate::{decode, open};

/// What Python says of one image; what it fails at is an error.
type Answers = BTreeMap<&'static str, Result<Vec<u8>, String>>;

#[test]
fn images_of_real_processes_look_as_python_shows_them() {
    let Some(crit) = python_crit() else { return };
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let mut images = BTreeMap::new();
    gather(&fixtures, &fixtures, &mut images);
    assert!(
        images.len() > 300,
        "only {} images in {}",
        images.len(),
        fixtures.display()
    );
    let compared = compare(&crit, &images, |name, what| {
        // Segments whose content is in page maps are several here, and Python takes each entry
        // for the content of the one before.
        name.contains("ipcns-shm") && what != "info"
            // Python counts what follows entries as entries, and cannot count unlinked files.
            || what == "info" && has_payload(name)
    });
    assert!(compared > 4 * images.len());
}

#[test]
fn images_of_every_kind_look_as_python_shows_them() {
    let Some(crit) = python_crit() else { return };
    let mut images = BTreeMap::new();
    for &kind in ImageKind::ALL {
        // Python has no handlers for some, and ones of the same magic look alike.
        let is_known = !matches!(
            kind,
            ImageKind::Signal
                | ImageKind::Psignal
                | ImageKind::BinfmtMisc
                | ImageKind::BinfmtMiscOld
                | ImageKind::Pidfd
        );
        if kind.entry(0).is_none() || !is_known {
            continue;
        }
        for round in 0..25 {
            let mut numbers = Numbers::new(kind as u64 * 1000 + round);
            images.insert(
                format!("{}-{round}", kind.name()),
                synthetic::image(kind, &mut numbers),
            );
        }
    }
    let compared = compare(&crit, &images, |name, what| {
        let kind = name.split('-').next().unwrap_or_default();
        match what {
            // Python fails at encoding bytes that follow these.
            "encoded" | "nopl" => {
                matches!(kind, "BPFMAP_DATA" | "IPCNS_SHM" if what == "encoded" || kind == "BPFMAP_DATA")
            }
            // Python counts what follows entries as entries, and cannot count unlinked files.
            "info" => ImageKind::from_crit_name(kind)
                .is_some_and(|kind| kind.payload() != criu_image::payload::PayloadKind::None),
            _ => false,
        }
    });
    assert!(compared > 4 * images.len());
}

/// Compares all images in all ways, but for what is `excused`; returns how many texts were equal.
fn compare(
    crit: &Path,
    images: &BTreeMap<String, Vec<u8>>,
    excused: impl Fn(&str, &str) -> bool,
) -> usize {
    let ours: Vec<Vec<u8>> = images
        .values()
        .map(|image| printed(image, DecodeOptions::new(Style::Compact)))
        .collect();
    let answers = ask(crit, images.values().zip(&ours));
    let mut equal = 0;
    let mut wrong = Vec::new();
    for ((name, image), answers) in images.iter().zip(&answers) {
        let pretty = DecodeOptions::new(Style::Pretty);
        let compact = printed(image, DecodeOptions::new(Style::Compact));
        let indented = printed(image, pretty);
        for text in [&compact, &indented] {
            let mut back = Vec::new();
            match json::encode(&text[..], &mut back, EncodeOptions::default()) {
                Ok(_) if back == *image => equal += 1,
                Ok(_) => wrong.push(format!(
                    "{name}: encoded to other bytes: {}",
                    String::from_utf8_lossy(text)
                )),
                Err(error) => wrong.push(format!("{name}: {error}")),
            }
        }
        let info = json::info(&mut open(image)).expect("the image has entries");
        let expected = [
            ("compact", compact),
            ("pretty", indented),
            ("nopl", printed(image, pretty.payloads(Payloads::Size))),
            ("info", format!("{info}\n").into_bytes()),
            ("encoded", image.clone()),
        ];
        for (what, ours) in expected {
            if excused(name, what) {
                continue;
            }
            match &answers[what] {
                Ok(theirs) if *theirs == ours => equal += 1,
                Ok(theirs) => wrong.push(format!(
                    "{name}: {what}: {}",
                    first_difference(&ours, theirs)
                )),
                Err(failure) => wrong.push(format!("{name}: {what}: Python fails: {failure}")),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} differences\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    equal
}

/// Has Python print all images, and encode our texts of them.
fn ask<'a>(crit: &Path, images: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> Vec<Answers> {
    let directory = TempDir::new();
    // The same interpreter and modules as the command has, with another program.
    let command = fs::read_to_string(crit).expect("the command is a script");
    assert!(command.contains("-m crit "), "{command}");
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/json/driver.py");
    let script = directory.join("driver");
    fs::write(
        &script,
        command.replace("-m crit ", &format!("'{}' ", driver.display())),
    )
    .expect("temporary files can be written");
    let mut paths = Vec::new();
    for (index, (image, text)) in images.enumerate() {
        let path = directory.join(format!("{index}"));
        fs::write(&path, image).expect("temporary files can be written");
        fs::write(directory.join(format!("{index}.json")), text)
            .expect("temporary files can be written");
        paths.push(path);
    }
    let mut python = Command::new("sh")
        .arg(&script)
        .stdin(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut input = python.stdin.take().expect("it is a pipe");
    for path in &paths {
        writeln!(input, "{}", path.display()).expect("Python reads");
    }
    drop(input);
    assert!(python.wait().expect("Python runs").success());
    paths.iter().map(|path| answers(path)).collect()
}

fn answers(path: &Path) -> Answers {
    ["compact", "pretty", "nopl", "info", "encoded"]
        .into_iter()
        .map(|what| {
            let answer = path.with_extension(what);
            let failed = path.with_extension(format!("{what}.failed"));
            let answer = fs::read(answer)
                .map_err(|_| fs::read_to_string(failed).expect("one of both is there"));
            (what, answer)
        })
        .collect()
}

/// An image as the command prints it.
fn printed(image: &[u8], options: DecodeOptions) -> Vec<u8> {
    let mut text = decode(image, options).expect("the image can be decoded");
    text.push(b'\n');
    text
}

fn gather(root: &Path, directory: &Path, images: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() {
            gather(root, &path, images);
            continue;
        }
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let has_entries =
            ImageKind::from_file_name(name).is_some_and(|(kind, _)| kind.entry(0).is_some());
        if has_entries {
            let relative = path.strip_prefix(root).expect("it is below the root");
            let image = fs::read(&path).expect("the image can be read");
            images.insert(relative.display().to_string(), image);
        }
    }
}

fn has_payload(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or_default();
    ImageKind::from_file_name(file)
        .is_some_and(|(kind, _)| kind.payload() != criu_image::payload::PayloadKind::None)
}

fn first_difference(ours: &[u8], theirs: &[u8]) -> String {
    let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let around = |text: &[u8]| {
        let part = &text[at.saturating_sub(60)..text.len().min(at + 60)];
        String::from_utf8_lossy(part).into_owned()
    };
    format!(
        "at byte {at}\n   ours: {:?}\n theirs: {:?}",
        around(ours),
        around(theirs)
    )
}
