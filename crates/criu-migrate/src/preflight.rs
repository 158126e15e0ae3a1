//! What is compared before anything is touched: processors, and the files the tree uses.
//!
//! A finding names the object, both sides' values and what to do. What cannot be compared for sure is
//! left to the restore, which is undone when it fails.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use criu::request::Settings;
use criu::{CpuInfo, Criu};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::staging::{ImageName, Staging};

/// Whether a finding of some kind prevents a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Enforcement {
    /// It does.
    #[default]
    Refuse,
    /// It is not looked for.
    Ignore,
}

/// What a destination compares before it accepts a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Checks {
    /// The files the tree has open or mapped.
    pub files: Enforcement,
    /// The processors' features, as CRIU compares them.
    pub processor: Enforcement,
}

/// A file the tree uses, as the source has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FileSeen {
    /// Its path in the tree's own root.
    pub path: String,
    /// Its length in bytes; unset for what may change until the tree is frozen, and for directories.
    #[serde(default)]
    pub len_bytes: Option<u64>,
}

/// Something that differs between the two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// A file is not on the destination.
    FileMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file is another on the destination.
    FileDiffers {
        /// Where it is.
        path: PathBuf,
        /// Its length on the source, in bytes.
        source_bytes: u64,
        /// Its length on the destination.
        destination_bytes: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileMissing { path } => {
                write!(
                    f,
                    "{} is not there: copy it from the source",
                    path.display()
                )
            }
            Self::FileDiffers {
                path,
                source_bytes,
                destination_bytes,
            } => write!(
                f,
                "{} has {destination_bytes} bytes there and {source_bytes} on the source: install the same version",
                path.display()
            ),
        }
    }
}

/// Most bytes of paths an offer holds: far below what a message may.
const PATH_BYTES_MAX: usize = 256 << 10;

/// Finds the files that tasks have open or mapped and that must be on the other side, too.
///
/// Left out is what the tree takes along or what is a different file for everybody: nameless files, file
/// systems of its own mount namespace other than its root, `/proc` and `/sys`.
pub(crate) fn files_of(pids: impl IntoIterator<Item = i32>) -> Vec<FileSeen> {
    let mut files = BTreeMap::new();
    for pid in pids {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let root = process.join("root");
        let Ok(root_device) = fs::metadata(root.join(".")).map(|metadata| metadata.dev()) else {
            continue;
        };
        let namespace = |of: &Path| fs::read_link(of.join("ns/mnt")).ok();
        let own_mounts = namespace(&process) != namespace(Path::new("/proc/self"));
        let mut see = |path: &str, inode: u64, fixed: bool| {
            let named = path.starts_with('/') && !path.ends_with(" (deleted)");
            if !named || path.starts_with("/proc/") || path.starts_with("/sys/") {
                return;
            }
            let Ok(metadata) = fs::metadata(root.join(path.trim_start_matches('/'))) else {
                return;
            };
            // What another file is mounted over, or a changed root makes of the name, is not it.
            let same = metadata.ino() == inode && (!own_mounts || metadata.dev() == root_device);
            if same && (metadata.is_file() || metadata.is_dir()) {
                let len_bytes = (fixed && metadata.is_file()).then_some(metadata.len());
                let seen = files.entry(path.to_owned()).or_insert(len_bytes);
                if len_bytes.is_none() {
                    *seen = None;
                }
            }
        };
        let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
        for line in maps.lines() {
            // `start-end perms offset dev inode path`, see proc_pid_maps(5).
            let mut words = line.split_ascii_whitespace();
            let (Some(inode), Some(_)) = (
                words.nth(4).and_then(|word| word.parse().ok()),
                words.next(),
            ) else {
                continue;
            };
            if let Some(at) = line.find('/') {
                see(&line[at..], inode, true);
            }
        }
        for entry in fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let (Ok(path), Ok(metadata)) =
                (fs::read_link(entry.path()), fs::metadata(entry.path()))
            else {
                continue;
            };
            let number = entry.file_name();
            let info = fs::read_to_string(process.join("fdinfo").join(number)).unwrap_or_default();
            if let Some(path) = path.to_str() {
                see(path, metadata.ino(), is_read_only(&info));
            }
        }
        let cwd = process.join("cwd");
        if let (Ok(path), Ok(metadata)) = (fs::read_link(&cwd), fs::metadata(&cwd))
            && let Some(path) = path.to_str()
        {
            see(path, metadata.ino(), false);
        }
    }
    let mut room = PATH_BYTES_MAX;
    let fits = files.into_iter().take_while(|(path, _)| {
        room = room.saturating_sub(path.len());
        room > 0
    });
    fits.map(|(path, len_bytes)| FileSeen { path, len_bytes })
        .collect()
}

/// Whether the flags in a descriptor's `fdinfo`, octal, have access mode `O_RDONLY`.
pub(crate) fn is_read_only(info: &str) -> bool {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| flags & 0o3 == 0)
}

/// Compares files of the source with those below `root` here.
pub(crate) fn compare_files(files: &[FileSeen], root: &Path) -> Vec<Finding> {
    let differs = |file: &FileSeen| {
        let path = root.join(file.path.trim_start_matches('/'));
        let Ok(metadata) = fs::metadata(&path) else {
            return Some(Finding::FileMissing { path });
        };
        match file.len_bytes {
            Some(source_bytes) if source_bytes != metadata.len() => Some(Finding::FileDiffers {
                path,
                source_bytes,
                destination_bytes: metadata.len(),
            }),
            _ => None,
        }
    };
    files.iter().filter_map(differs).collect()
}

/// The name CRIU gives the image with a processor's features.
const CPUINFO: &str = "cpuinfo.img";
/// Longest such image that is sent and taken.
const CPUINFO_BYTES_MAX: usize = 16 << 10;

/// Records this processor's features; empty where CRIU cannot.
pub(crate) fn processor_here(criu: &Criu, work_dir: &Path) -> Result<Vec<u8>> {
    let staging = Staging::create(work_dir)?;
    let recorded = criu.cpuinfo_dump(&CpuInfo::new(staging.open()?));
    if recorded.is_err() {
        return Ok(Vec::new());
    }
    let bytes = fs::read(staging.path().join(CPUINFO)).map_err(Error::io("read cpuinfo.img"))?;
    Ok(if bytes.len() <= CPUINFO_BYTES_MAX {
        bytes
    } else {
        Vec::new()
    })
}

/// Compares the source's processor with this one; says what is in the way, if anything.
pub(crate) fn compare_processors(
    criu: &Criu,
    recorded: &[u8],
    settings: &Settings,
    work_dir: &Path,
) -> Result<Option<String>> {
    let Some(name) = ImageName::parse(CPUINFO).filter(|_| !recorded.is_empty()) else {
        return Ok(None);
    };
    if recorded.len() > CPUINFO_BYTES_MAX {
        return Ok(Some(format!(
            "the description of the source's processor has {} bytes, at most {CPUINFO_BYTES_MAX} are taken",
            recorded.len()
        )));
    }
    let staging = Staging::create(work_dir)?;
    let written = staging
        .create_image(&name)
        .and_then(|mut image| image.write(recorded));
    written.map_err(Error::io("write cpuinfo.img"))?;
    let mut cpuinfo = CpuInfo::new(staging.open()?);
    cpuinfo.settings.cpu_capabilities = settings.cpu_capabilities;
    match criu.cpuinfo_check(&cpuinfo) {
        Ok(()) => Ok(None),
        Err(error) => {
            let failure = error.failure();
            let said = failure.and_then(|failure| {
                let lines = failure
                    .log
                    .as_ref()?
                    .log
                    .errors()
                    .map(|entry| entry.text().to_owned());
                // The line about our own limits stands in every log of a machine that lacks a capability.
                let lines: Vec<String> = lines
                    .filter(|line| !line.contains("RLIMIT_NOFILE"))
                    .collect();
                (!lines.is_empty()).then(|| lines.join("; "))
            });
            let said = said.unwrap_or_else(|| error.to_string());
            Ok(Some(format!(
                "this processor lacks what the source's has ({}); use a destination with the same processor, or \
                 compare less (--cpu-cap)",
                said.trim()
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use criu_testkit::{Namespace, Scene, TempDir};

    fn seen<'a>(files: &'a [FileSeen], end: &str) -> Option<&'a FileSeen> {
        files.iter().find(|file| file.path.ends_with(end))
    }

    #[test]
    fn programs_and_open_files_are_seen_and_what_comes_along_is_not() {
        let process = Scene::new().open_file().unlinked_file().start();
        let pid = i32::try_from(process.pid()).unwrap();
        let files = files_of([pid]);
        let program = seen(&files, "/criu-testkit-target").unwrap();
        assert_eq!(
            program.len_bytes,
            Some(fs::metadata(&program.path).unwrap().len())
        );
        assert!(seen(&files, "libc.so.6").is_some_and(|file| file.len_bytes.is_some()));
        // Open for writing: it may grow until the tree is frozen.
        assert_eq!(seen(&files, "/count").unwrap().len_bytes, None);
        assert!(seen(&files, "(deleted)").is_none() && seen(&files, "/dev/null").is_none());
        assert_eq!(compare_files(&files, Path::new("/")), []);

        let inside = Scene::new()
            .namespaces(&[Namespace::Pid, Namespace::Mount])
            .part("tmpfs-file")
            .start();
        let files = files_of([i32::try_from(inside.pid()).unwrap()]);
        assert!(files.iter().any(|file| file.path == "/target"), "{files:?}");
        // A tmpfs of its own mount namespace comes along.
        assert!(
            !files.iter().any(|file| file.path.starts_with("/tmp/")),
            "{files:?}"
        );
        assert_eq!(compare_files(&files, inside.root().unwrap()), []);
        assert!(!compare_files(&files, Path::new("/nowhere")).is_empty());
    }

    #[test]
    fn findings_name_the_file_both_values_and_what_to_do() {
        let root = TempDir::new();
        fs::write(root.join("same"), "same").unwrap();
        fs::write(root.join("other"), "longer").unwrap();
        let file = |path: &str, len_bytes| FileSeen {
            path: path.into(),
            len_bytes,
        };
        let files = [
            file("/same", Some(4)),
            file("/other", Some(5)),
            file("/gone", None),
            file("/other", None),
        ];
        let found: Vec<String> = compare_files(&files, root.path())
            .iter()
            .map(Finding::to_string)
            .collect();
        let place = root.path().display();
        assert_eq!(
            found,
            [
                format!(
                    "{place}/other has 6 bytes there and 5 on the source: install the same version"
                ),
                format!("{place}/gone is not there: copy it from the source"),
            ]
        );
    }

    #[test]
    fn a_processor_matches_itself_and_nonsense_matches_none() {
        for criu in criu_testkit::CriuUnderTest::all() {
            let work_dir = TempDir::new();
            let criu = Criu::with_binary(criu.path()).unwrap();
            let recorded = processor_here(&criu, work_dir.path()).unwrap();
            assert!(!recorded.is_empty());
            let compare = |recorded: &[u8]| {
                compare_processors(&criu, recorded, &Settings::default(), work_dir.path()).unwrap()
            };
            assert_eq!(compare(&recorded), None);
            assert_eq!(compare(&[]), None);
            let said = compare(&recorded[..recorded.len() / 2]).unwrap();
            assert!(said.contains("--cpu-cap"), "{said}");
            let said = compare(&vec![0; CPUINFO_BYTES_MAX + 1]).unwrap();
            assert!(said.contains("at most"), "{said}");
            assert_eq!(fs::read_dir(work_dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn access_modes_are_read_from_octal_flags() {
        assert!(is_read_only("pos:\t0\nflags:\t0100000\nmnt_id:\t1\n"));
        for flags in ["0100001", "0100002", "02", "", "9"] {
            assert!(!is_read_only(&format!("flags:\t{flags}\n")), "{flags}");
        }
    }
}
