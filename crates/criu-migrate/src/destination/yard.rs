//! The directory that a CRIU leaves behind when it is killed while it restores.
//!
//! CRIU mounts the tree's file systems below a directory that it makes for them in `/tmp`, in a mount namespace of its
//! own, and removes it in the end, also after a failure. Who killed it finds the name in its log only, and must go by
//! that: the directory of another CRIU which restores right now looks just as empty from here, and its mounts would go
//! with it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use criu::log::Log;
use rustix::process::geteuid;

const PLACE: &str = "/tmp/.criu.mntns.";
/// What `mkdtemp` appends.
const UNIQUE: usize = 6;

/// Removes what a failed restore that began at that time has left.
pub(super) fn clear(error: &criu::Error, began: SystemTime) {
    let log = error.failure().and_then(|failure| failure.log.as_ref());
    if let Some(place) = log.and_then(|report| named_in(&report.log)) {
        remove(&place, began);
    }
}

/// The first that is named: what comes behind may be the name of a file of the tree's.
fn named_in(log: &Log) -> Option<PathBuf> {
    log.entries().iter().find_map(|entry| {
        let (_, rest) = entry.text().split_once(PLACE)?;
        let unique = rest.get(..UNIQUE)?;
        let is_name = unique.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_name.then(|| format!("{PLACE}{unique}").into())
    })
}

fn remove(place: &Path, began: SystemTime) {
    let is_of_it = fs::symlink_metadata(place).is_ok_and(|found| {
        found.is_dir()
            && found.uid() == geteuid().as_raw()
            && found.modified().is_ok_and(|modified| modified >= began)
    });
    if is_of_it {
        // It does no harm where it is; one that is not empty stays.
        let _ = fs::remove_dir(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use criu_testkit::TempDir;

    #[test]
    fn the_name_is_the_first_in_the_log_that_can_be_one() {
        let named = |text: &str| named_in(&Log::parse(text.as_bytes()));
        let log = "(00.043587) mnt: Something of /tmp/.criu.mntns.a/b\n\
                   (00.043589) mnt: \t\tWill mount 68 @ /tmp/.criu.mntns.SxqUwo/mnt-0000000068 /dev\n\
                   (00.043592) mnt: \t\tWill mount 67 @ /tmp/.criu.mntns.SxqUwo/mnt-0000000067 /tmp/.criu.mntns.aaaaaa\n";
        assert_eq!(named(log), Some("/tmp/.criu.mntns.SxqUwo".into()));
        for text in ["", "/tmp/.criu.mntns.", "/tmp/.criu.mntns.../../x"] {
            assert_eq!(named(text), None, "{text}");
        }
    }

    #[test]
    fn only_an_empty_directory_made_meanwhile_is_removed() {
        let parent = TempDir::new();
        let make = |name: &str| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (empty, full, link) = (make("empty"), make("full"), parent.path().join("link"));
        fs::write(full.join("file"), "").unwrap();
        std::os::unix::fs::symlink(&empty, &link).unwrap();
        let now = SystemTime::now();
        let (before, after) = (now - Duration::from_secs(9), now + Duration::from_secs(9));
        remove(&empty, after);
        remove(&link, before);
        remove(&full, before);
        assert!(empty.exists() && link.is_symlink() && full.exists());
        remove(&empty, before);
        assert!(!empty.exists());
    }
}
