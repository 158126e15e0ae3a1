//! Files that take the place of others together, or not at all.

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fsetxattr};
use tempfile::NamedTempFile;

use super::{Error, Result};
use crate::Monitor;

/// Whether the replaced files are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backups {
    /// Each as `NAME.bak`, which must not exist yet.
    #[default]
    Keep,
    /// They are gone once the new ones are in place.
    Discard,
}

/// Changes to the files of a directory, made ready first and then put in place together.
///
/// Dropped without [`commit`](Self::commit), nothing has changed and no file is left behind.
#[derive(Debug)]
pub struct Transaction {
    directory: PathBuf,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    path: PathBuf,
    /// What takes the name; `None` if the file is removed.
    staged: Option<NamedTempFile>,
}

/// A file in the making. Dropped, it is gone.
#[derive(Debug)]
pub struct StagedFile {
    path: PathBuf,
    file: NamedTempFile,
    original: File,
}

/// How a committed change can be undone.
struct Undo<'a> {
    path: &'a Path,
    /// Another name of the file that the change is about.
    original: PathBuf,
    is_applied: bool,
}

impl Transaction {
    /// Begins with no changes.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            changes: Vec::new(),
        }
    }

    /// Begins a new content of an existing file.
    ///
    /// # Errors
    ///
    /// Fails when there is no such regular file or none can be made beside it.
    pub fn stage(&self, name: &str) -> Result<StagedFile> {
        let path = self.directory.join(name);
        StagedFile::create(&self.directory, path.clone(), path)
    }

    /// Takes a finished file into the transaction.
    ///
    /// # Errors
    ///
    /// Fails when the content cannot be brought to disk or the original's owner, mode and
    /// attributes cannot be given to the file.
    pub fn replace(&mut self, staged: StagedFile) -> Result<()> {
        let (path, file) = staged.seal()?;
        self.changes.push(Change {
            path,
            staged: Some(file),
        });
        Ok(())
    }

    /// The file, or link, of that name will be gone.
    pub fn remove(&mut self, name: &str) {
        self.changes.push(Change {
            path: self.directory.join(name),
            staged: None,
        });
    }

    /// Puts all changes in place.
    ///
    /// # Errors
    ///
    /// Fails when a change cannot be made or the monitor stops it; then everything is as it was,
    /// unless the error is [`Error::Rollback`].
    pub fn commit(self, backups: Backups, monitor: &dyn Monitor) -> Result<()> {
        if monitor.is_stopped() {
            return Err(Error::Interrupted);
        }
        let paths: Vec<PathBuf> = self
            .changes
            .iter()
            .map(|change| change.path.clone())
            .collect();
        let mut undo = Vec::with_capacity(paths.len());
        let applied = self.apply(&paths, &mut undo, backups, monitor);
        match applied {
            Ok(directory) => {
                if backups == Backups::Discard {
                    for step in &undo {
                        // The new files are in place; a left-over link does no harm.
                        let _ = fs::remove_file(&step.original);
                    }
                    let _ = sync_directory(&directory);
                }
                Ok(())
            }
            Err(cause) => Err(roll_back(undo, cause)),
        }
    }

    fn apply<'a>(
        self,
        paths: &'a [PathBuf],
        undo: &mut Vec<Undo<'a>>,
        backups: Backups,
        monitor: &dyn Monitor,
    ) -> Result<PathBuf> {
        for path in paths {
            let original = match backups {
                Backups::Keep => {
                    let backup = with_suffix(path, ".bak");
                    link(path, &backup).map_err(|error| match error.kind() {
                        io::ErrorKind::AlreadyExists => Error::BackupExists {
                            path: backup.clone(),
                        },
                        _ => Error::io("keep a backup", path)(error),
                    })?;
                    backup
                }
                Backups::Discard => rollback_link(path)?,
            };
            undo.push(Undo {
                path,
                original,
                is_applied: false,
            });
        }
        sync_directory(&self.directory)?;
        for (change, step) in self.changes.into_iter().zip(undo.iter_mut()) {
            step.is_applied = true;
            match change.staged {
                Some(file) => {
                    file.persist(step.path)
                        .map_err(|error| Error::io("replace", step.path)(error.error))?;
                }
                None => {
                    fs::remove_file(step.path).map_err(Error::io("remove", step.path))?;
                }
            }
        }
        sync_directory(&self.directory)?;
        if monitor.is_stopped() {
            return Err(Error::Interrupted);
        }
        Ok(self.directory)
    }
}

impl StagedFile {
    /// Begins a file in `directory` that shall be `path` in the end, with the owner, mode, times and
    /// attributes of `original`.
    pub(super) fn create(directory: &Path, path: PathBuf, original: PathBuf) -> Result<Self> {
        let metadata = fs::symlink_metadata(&original).map_err(Error::io("open", &original))?;
        if !metadata.is_file() {
            return Err(Error::unsuitable(original, "not a regular file"));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let original = File::open(&original).map_err(Error::io("open", &original))?;
        let file = tempfile::Builder::new()
            .prefix(&format!(".{name}.crit-"))
            .tempfile_in(directory)
            .map_err(Error::io("create a file beside", &path))?;
        Ok(Self {
            path,
            file,
            original,
        })
    }

    /// Where the file will be.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file itself, for writing.
    #[must_use]
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// Gives the file what the original has besides its content, and brings it to disk.
    pub(super) fn seal(self) -> Result<(PathBuf, NamedTempFile)> {
        let failed = |action| Error::io(action, &self.path);
        let file = self.file.as_file();
        let metadata = self.original.metadata().map_err(failed("read"))?;
        fchown(file, Some(metadata.uid()), Some(metadata.gid())).map_err(failed("set owner"))?;
        file.set_permissions(metadata.permissions())
            .map_err(failed("set mode"))?;
        copy_attributes(&self.original, file).map_err(failed("set attributes"))?;
        let times = FileTimes::new()
            .set_accessed(metadata.accessed().map_err(failed("read"))?)
            .set_modified(metadata.modified().map_err(failed("read"))?);
        file.set_times(times).map_err(failed("set times"))?;
        file.sync_all().map_err(failed("write"))?;
        Ok((self.path, self.file))
    }
}

/// Puts back what was changed, last change first.
fn roll_back(undo: Vec<Undo<'_>>, cause: Error) -> Error {
    let mut files = Vec::new();
    for step in undo.into_iter().rev() {
        let undone = match step.is_applied {
            // Renaming a link onto another of the same file would do nothing and leave both.
            true if !is_same_file(&step.original, step.path) => {
                fs::rename(&step.original, step.path)
            }
            _ => fs::remove_file(&step.original),
        };
        if let Err(error) = undone {
            let (path, original) = (step.path.display(), step.original.display());
            files.push(format!("{path} (original retained at {original}): {error}"));
        }
    }
    if files.is_empty() {
        return cause;
    }
    Error::Rollback {
        cause: Box::new(cause),
        files,
    }
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    let id = |path| fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

/// Gives a file, or a link itself, a second name.
fn link(path: &Path, second: &Path) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(CWD, path, CWD, second, AtFlags::empty())?)
}

fn rollback_link(path: &Path) -> Result<PathBuf> {
    let mut number = 0u32;
    loop {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let id = std::process::id();
        let second = path.with_file_name(format!(".{name}.crit-rollback-{id}-{number}"));
        match link(path, &second) {
            Ok(()) => return Ok(second),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => {
                number += 1;
            }
            Err(error) => return Err(Error::io("link", path)(error)),
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

pub(super) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io("write", directory))
}

fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let mut names = vec![0; ATTRIBUTE_LIMIT];
    let len = match flistxattr(from, &mut names[..]) {
        Ok(len) => len,
        Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    names.truncate(len);
    let mut value = Vec::new();
    for name in names
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let name = std::ffi::OsStr::from_bytes(name);
        value.resize(ATTRIBUTE_LIMIT, 0);
        let len = fgetxattr(from, name, &mut value[..])?;
        fsetxattr(to, name, &value[..len], XattrFlags::empty())?;
    }
    Ok(())
}

/// Largest list of names, and largest value, that Linux has (`XATTR_SIZE_MAX`), in bytes.
const ATTRIBUTE_LIMIT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use criu_testkit::TempDir;

    use super::*;

    fn names(dir: &TempDir) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .expect("a directory")
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("a name")
            })
            .collect();
        names.sort();
        names
    }

    fn prepared() -> (TempDir, Transaction) {
        let dir = TempDir::new();
        for name in ["a", "b"] {
            fs::write(dir.join(name), "old").expect("written");
        }
        fs::set_permissions(dir.join("a"), fs::Permissions::from_mode(0o640)).expect("set");
        symlink("elsewhere", dir.join("link")).expect("linked");
        let mut transaction = Transaction::new(dir.path());
        let staged = transaction.stage("a").expect("staged");
        staged.file().write_all(b"new").expect("written");
        transaction.replace(staged).expect("taken");
        transaction.remove("link");
        (dir, transaction)
    }

    #[test]
    fn changes_take_place_together_and_the_old_files_are_kept() {
        let (dir, transaction) = prepared();
        let before = fs::metadata(dir.join("a")).expect("there");
        transaction.commit(Backups::Keep, &()).expect("committed");
        assert_eq!(names(&dir), ["a", "a.bak", "b", "link.bak"]);
        assert_eq!(fs::read(dir.join("a")).expect("there"), b"new");
        assert_eq!(fs::read(dir.join("a.bak")).expect("there"), b"old");
        assert_eq!(
            fs::read_link(dir.join("link.bak")).expect("a link"),
            Path::new("elsewhere")
        );
        let after = fs::metadata(dir.join("a")).expect("there");
        assert_eq!(after.permissions().mode() & 0o777, 0o640);
        assert_eq!(
            after.modified().expect("known"),
            before.modified().expect("known")
        );
    }

    #[test]
    fn without_backups_nothing_but_the_new_files_is_left() {
        let (dir, transaction) = prepared();
        transaction
            .commit(Backups::Discard, &())
            .expect("committed");
        assert_eq!(names(&dir), ["a", "b"]);
    }

    #[test]
    fn a_transaction_that_is_dropped_leaves_no_trace() {
        let (dir, transaction) = prepared();
        drop(transaction);
        assert_eq!(names(&dir), ["a", "b", "link"]);
    }

    #[test]
    fn a_backup_in_the_way_undoes_everything() {
        let (dir, transaction) = prepared();
        fs::write(dir.join("link.bak"), "precious").expect("written");
        let error = transaction
            .commit(Backups::Keep, &())
            .expect_err("in the way");
        assert!(matches!(error, Error::BackupExists { .. }), "{error}");
        assert_eq!(names(&dir), ["a", "b", "link", "link.bak"]);
        assert_eq!(fs::read(dir.join("a")).expect("there"), b"old");
    }

    #[test]
    fn a_stop_after_the_last_change_puts_everything_back() {
        use std::sync::atomic::{AtomicU32, Ordering};

        /// Lets the first question pass.
        struct Late(AtomicU32);
        impl Monitor for Late {
            fn is_stopped(&self) -> bool {
                self.0.fetch_add(1, Ordering::Relaxed) > 0
            }
        }
        for backups in [Backups::Keep, Backups::Discard] {
            let (dir, transaction) = prepared();
            let error = transaction
                .commit(backups, &Late(AtomicU32::new(0)))
                .expect_err("stopped");
            assert!(matches!(error, Error::Interrupted), "{error}");
            assert_eq!(names(&dir), ["a", "b", "link"]);
            assert_eq!(fs::read(dir.join("a")).expect("there"), b"old");
            assert!(fs::read_link(dir.join("link")).is_ok());
        }
    }

    #[test]
    fn a_change_that_fails_undoes_those_before_it() {
        let (dir, mut transaction) = prepared();
        let staged = transaction.stage("b").expect("staged");
        transaction.replace(staged).expect("taken");
        // The staged file vanishes, as no program should make it.
        let lost = transaction.changes[2].staged.as_ref().expect("staged");
        fs::remove_file(lost.path()).expect("removed");
        transaction.commit(Backups::Keep, &()).expect_err("lost");
        assert_eq!(names(&dir), ["a", "b", "link"]);
        assert_eq!(fs::read(dir.join("a")).expect("there"), b"old");
    }
}
