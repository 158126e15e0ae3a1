//! Where CRIU's logs go: where the user says, or a directory that is kept when something failed.
//!
//! While a migration goes on its directory holds a file that it has a lock on. A directory with such a file and no lock
//! was left by a process that was killed, and is removed by the next migration; one that was kept has no such file.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use criu_migrate::Error;
use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

use crate::criuctl::report::Problem;

const PREFIX: &str = "criuctl-migrate-log-";
/// The file that says that nobody was told of the logs yet.
const IN_USE: &str = "in-use";
/// A directory younger than this may not be locked by its owner yet.
const SETTLED: Duration = Duration::from_secs(60);

/// The logs of a migration.
#[derive(Debug)]
pub(super) struct Logs {
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    path: PathBuf,
    /// Open, and so locked, as long as the migration goes on.
    _lock: File,
}

impl Logs {
    /// Makes a directory unless the user names one, and removes what killed migrations left beside it.
    pub(super) fn prepare(settings: &mut criu::request::Settings) -> Result<Self, Problem> {
        if settings.work_dir.is_some() {
            return Ok(Self { own: None });
        }
        let own = Own::make(&std::env::temp_dir());
        let own = own.map_err(Problem::io("make a directory for logs"))?;
        settings.work_dir = Some((&own.path).into());
        Ok(Self { own: Some(own) })
    }

    /// Removes logs nobody needs.
    pub(super) fn discard(&self) {
        if let Some(own) = &self.own {
            // Left behind, they do no harm.
            let _ = fs::remove_dir_all(&own.path);
        }
    }

    /// Removes logs unless CRIU had its part in the failure.
    pub(super) fn discard_unless_criu_failed(&self, error: &Error) {
        match &self.own {
            Some(own) if matches!(error, Error::Criu(_)) || own.is_named_by(error) => own.keep(),
            _ => self.discard(),
        }
    }
}

impl Own {
    fn make(parent: &Path) -> std::io::Result<Self> {
        sweep(parent);
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let lock = File::create(directory.path().join(IN_USE))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self {
            path: directory.keep(),
            _lock: lock,
        })
    }

    /// Memory can be lost by the failure of a CRIU, whose log is named then.
    fn is_named_by(&self, error: &Error) -> bool {
        error.to_string().contains(&*self.path.to_string_lossy())
    }

    fn keep(&self) {
        let _ = fs::remove_file(self.path.join(IN_USE));
    }
}

/// Removes the logs of migrations that were killed.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.metadata().is_ok_and(|found| {
                let age = found.modified().ok();
                let age = age.and_then(|modified| SystemTime::now().duration_since(modified).ok());
                // Whoever else may write to the directory around them has no part in them.
                found.is_dir()
                    && found.uid() == geteuid().as_raw()
                    && age.is_some_and(|age| age > SETTLED)
            });
        if is_ours
            && let Ok(lock) = File::open(entry.path().join(IN_USE))
            && flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_logs_of_killed_migrations_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let make = || Own::make(parent.path()).unwrap();
        let (killed, in_use, kept) = (make(), make(), make());
        kept.keep();
        let young = make();
        let foreign = parent.path().join("precious");
        fs::create_dir(&foreign).unwrap();
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        for path in [&killed.path, &in_use.path, &kept.path, &foreign] {
            File::open(path).unwrap().set_modified(hour_ago).unwrap();
        }
        let paths = [killed.path.clone(), young.path.clone()];
        // Their locks go with the processes that had them.
        drop((killed, young));
        let next = make();
        assert!(!paths[0].exists() && paths[1].exists());
        for path in [&in_use.path, &kept.path, &foreign, &next.path] {
            assert!(path.exists(), "{}", path.display());
        }
        Logs { own: Some(next) }.discard();
    }

    #[test]
    fn logs_that_an_error_names_are_kept() {
        let parent = tempfile::tempdir().unwrap();
        let lost = |reason: String| Error::MemoryLost { reason };
        for is_named in [true, false] {
            let own = Own::make(parent.path()).unwrap();
            let path = own.path.clone();
            let error = match is_named {
                true => lost(format!(
                    "full log: {}",
                    path.join("lazy-pages.log").display()
                )),
                false => lost("the connection was lost".to_owned()),
            };
            Logs { own: Some(own) }.discard_unless_criu_failed(&error);
            assert_eq!(path.exists(), is_named);
        }
    }
}
