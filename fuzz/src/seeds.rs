//! The inputs that fuzzing begins with.
//!
//! They are the real images under `fixtures/`, cut to what can be mutated quickly, what earlier runs
//! found (`fixtures/fuzz/TARGET`), and a few inputs that are hostile from the start.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use criu::rpc::{CriuFeatures, CriuNotify, CriuReqType, CriuResp};
use criu_image::wire::Message;
use criu_image::{ImageKind, ImageReader, fuzz};
use criu_inspect::json::{self, DecodeOptions, Style};

/// Names the directory into which a target writes its seeds before it begins.
pub const DIRECTORY_VARIABLE: &str = "CRIU_FUZZ_SEEDS";

/// Writes the seeds of a target into the directory of [`DIRECTORY_VARIABLE`], if that is set.
///
/// # Panics
///
/// Panics when they cannot be made or written.
pub fn plant(target: &str) {
    if let Some(directory) = std::env::var_os(DIRECTORY_VARIABLE)
        && let Err(error) = write(target, Path::new(&directory))
    {
        panic!("cannot make the seeds of {target}: {error}");
    }
}

fn write(target: &str, directory: &Path) -> Result<(), Box<dyn Error>> {
    let fixtures = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let mut seeds = match target {
        "image_round_trip" => images(fixtures)?,
        "message_round_trip" => messages(fixtures)?,
        "checkpoint" | "explore" => sets(fixtures, |kind| kind != ImageKind::Pages)?,
        "address_space" => sets(fixtures, is_memory)?,
        "json_round_trip" => images(fixtures)?,
        "json_text" => texts(fixtures)?,
        "rpc_reply" => replies(),
        "log_diagnose" => logs(fixtures)?,
        "migrate_message" => criu_migrate::fuzz::seeds(),
        _ => return Err("none are known".into()),
    };
    if let Ok(found) = fs::read_dir(fixtures.join("fuzz").join(target)) {
        for entry in found {
            seeds.push(fs::read(entry?.path())?);
        }
    }
    seeds.sort();
    seeds.dedup();
    fs::create_dir_all(directory)?;
    for (index, seed) in seeds.iter().enumerate() {
        fs::write(directory.join(format!("seed-{index:04}")), seed)?;
    }
    Ok(())
}

/// Directories with image sets.
fn set_directories(fixtures: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut directories = Vec::new();
    let mut open = vec![fixtures.to_owned()];
    while let Some(directory) = open.pop() {
        if directory.join("inventory.img").exists() {
            directories.push(directory.clone());
        }
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    directories.sort();
    Ok(directories)
}

/// Every image that is not too large; of the large ones the beginning.
fn images(fixtures: &Path) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut seeds = Vec::new();
    for directory in set_directories(fixtures)? {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let mut bytes = fs::read(entry.path())?;
                bytes.truncate(SEED_LIMIT);
                seeds.push(bytes);
            }
        }
    }
    // An entry of nothing but empty messages, and one whose size is a lie.
    seeds.push([PSTREE, &[0xff, 0xff, 0xff, 0x7f], &[0x0a, 0]].concat());
    Ok(seeds)
}

/// The first entry of every image, and messages that decode to much more than they are.
fn messages(fixtures: &Path) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut seeds = Vec::new();
    for image in images(fixtures)? {
        let Ok(mut reader) = ImageReader::new(&image[..]) else {
            continue;
        };
        if let Ok(Some(entry)) = reader.next_entry() {
            let pick = fuzz::pick_of(entry.descriptor.name).unwrap_or(0);
            seeds.push([&[pick], entry.bytes].concat());
        }
    }
    for (name, tag) in [("mm_entry", 0x6a), ("cgroup_entry", 0x0a)] {
        let pick = fuzz::pick_of(name).unwrap_or(0);
        seeds.push([&[pick][..], &[tag, 0].repeat(HOSTILE_LEN / 2)].concat());
    }
    Ok(seeds)
}

fn sets(fixtures: &Path, wanted: fn(ImageKind) -> bool) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut seeds = Vec::new();
    for directory in set_directories(fixtures)? {
        seeds.push(fuzz::join_directory(&directory, wanted, SET_FILE_LIMIT)?);
    }
    Ok(seeds)
}

/// Whether an image says where memory is.
fn is_memory(kind: ImageKind) -> bool {
    use ImageKind::{Inventory, MemfdInode, Mm, Pagemap, Pages, ShmemPagemap};
    matches!(
        kind,
        Inventory | MemfdInode | Mm | Pagemap | Pages | ShmemPagemap
    )
}

/// The images as JSON, in both styles.
fn texts(fixtures: &Path) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut seeds = Vec::new();
    for image in images(fixtures)? {
        for style in [Style::Compact, Style::Pretty] {
            let mut text = Vec::new();
            if let Ok(mut reader) = ImageReader::new(&image[..])
                && json::decode(&mut reader, &mut text, DecodeOptions::new(style)).is_ok()
            {
                seeds.push(text);
            }
        }
    }
    Ok(seeds)
}

/// What CRIU answers to the common requests.
fn replies() -> Vec<Vec<u8>> {
    let reply = |kind| CriuResp {
        r#type: kind,
        success: true,
        ..CriuResp::default()
    };
    let notify = |name: &str| CriuResp {
        notify: Some(Box::new(CriuNotify {
            script: Some(name.into()),
            pid: Some(7),
            ..CriuNotify::default()
        })),
        ..reply(CriuReqType::Notify)
    };
    let join = |kind: u8, replies: &[CriuResp]| {
        let mut seed = vec![kind];
        for reply in replies {
            let bytes = reply.encode();
            seed.extend(u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes());
            seed.extend(bytes);
        }
        seed
    };
    let refusal = CriuResp {
        success: false,
        cr_errno: Some(17),
        cr_errmsg: Some("no".into()),
        ..reply(CriuReqType::Dump)
    };
    let features = CriuResp {
        features: Some(Box::new(CriuFeatures::default())),
        ..reply(CriuReqType::FeatureCheck)
    };
    let hooks: Vec<_> = criu::Hook::ALL
        .iter()
        .map(|hook| notify(hook.name()))
        .collect();
    vec![
        join(
            1,
            &[
                notify("pre-dump"),
                notify("post-dump"),
                reply(CriuReqType::Dump),
            ],
        ),
        join(2, &hooks),
        join(1, &[refusal]),
        join(5, &[reply(CriuReqType::PageServer)]),
        join(9, &[features]),
        join(10, &[reply(CriuReqType::Version)]),
    ]
}

/// The logs that the rules are tested on, and the rules' own examples.
fn logs(fixtures: &Path) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut seeds = vec![
        b"\n".repeat(HOSTILE_LEN),
        b"Error (".repeat(HOSTILE_LEN / 8),
    ];
    let data = fixtures.join("../crates/criu/tests/data/diagnose");
    for entry in fs::read_dir(data)? {
        let text = fs::read_to_string(entry?.path())?;
        for case in text.split("\n== ") {
            let log: Vec<_> = case
                .lines()
                .filter_map(|line| line.strip_prefix("| "))
                .collect();
            seeds.push(log.join("\n").into_bytes());
        }
    }
    Ok(seeds)
}

/// Longer inputs are mutated too slowly, in bytes.
const SEED_LIMIT: usize = 16 << 10;

/// Most bytes of one file among many.
const SET_FILE_LIMIT: u16 = 4 << 10;

/// How long hostile inputs are, in bytes.
const HOSTILE_LEN: usize = 64 << 10;

/// The words of a pstree image.
const PSTREE: &[u8] = b"\x19\x43\x56\x54\x30\x30\x27\x50";
