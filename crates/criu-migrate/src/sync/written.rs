//! The files a tree may have changed without anybody noticing.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Finds the files that tasks have open for writing, or mapped so that writes get into them, by the names
/// the tree sees.
pub(crate) fn files_of(pids: impl IntoIterator<Item = i32>) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for pid in pids {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let maps = fs::read_to_string(process.join("maps")).unwrap_or_default();
        for line in maps.lines() {
            // `start-end perms offset dev inode path`, see proc_pid_maps(5).
            let shared = line
                .split_ascii_whitespace()
                .nth(1)
                .is_some_and(|perms| perms.ends_with('s'));
            // Also what may not be written to now: it may have been before.
            if shared && let Some(at) = line.find('/') {
                files.insert(line[at..].to_owned());
            }
        }
        let fds = fs::read_dir(process.join("fd"));
        for entry in fds.into_iter().flatten().flatten() {
            let info = process.join("fdinfo").join(entry.file_name());
            let info = fs::read_to_string(info).unwrap_or_default();
            if let Ok(path) = fs::read_link(entry.path())
                && let Some(path) = path.to_str()
                && path.starts_with('/')
                && !crate::preflight::is_read_only(&info)
            {
                files.insert(path.to_owned());
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;
    use criu_testkit::Scene;

    #[test]
    fn what_is_written_is_found_and_what_is_read_is_not() {
        let process = Scene::new().open_file().start();
        let files = files_of([i32::try_from(process.pid()).unwrap()]);
        assert!(files.iter().any(|file| file.ends_with("/count")));
        assert!(!files.iter().any(|file| file.contains("libc.so")));
    }
}
