//! The side files come to.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, statat, unlinkat,
};

use super::rsync::{self, Abilities, Ends, Failure, Role, Rsync, converse, path_of};
use super::{PATHS_MAX, Pass, SyncKind, SyncPath, SyncProblem, components, is_within};
use crate::connection::Connection;
use crate::error::Result;
use crate::message::Message;
use crate::watch::{Happening, Watch};

/// Files on their way here. What came is removed with the value, or told of, unless it is kept.
#[derive(Debug)]
pub(crate) struct Landing {
    root: PathBuf,
    allowed: Vec<String>,
    offered: Vec<SyncPath>,
    places: BTreeMap<String, Place>,
    /// What was made, in this order.
    made: Vec<Made>,
    kept: bool,
    watch: Watch,
}

/// Where a path is written.
#[derive(Debug)]
struct Place {
    /// The directory itself, or the one a file is in.
    directory: OwnedFd,
    existed: bool,
}

/// Something that did not exist before.
#[derive(Debug)]
struct Made {
    parent: OwnedFd,
    name: String,
    /// The path it was made for, whole; unset for a directory on the way there.
    whole: Option<String>,
}

impl Landing {
    /// Takes files offered into `allowed` places below `root`; what stands against it, if anything, is
    /// said for a refusal.
    pub(crate) fn prepare(
        root: &Path,
        allowed: &[PathBuf],
        offered: &[SyncPath],
        watch: &Watch,
    ) -> Result<Self, String> {
        let allowed: Vec<String> = allowed
            .iter()
            .filter_map(|place| Some(place.to_str()?.to_owned()))
            .collect();
        if offered.len() > PATHS_MAX {
            return Err(format!(
                "{} paths are to come along, at most {PATHS_MAX} may",
                offered.len()
            ));
        }
        for SyncPath { path, kind } in offered {
            let Some(parts) = components(path) else {
                return Err(format!(
                    "{path:?} cannot be written here: {}",
                    SyncProblem::Path
                ));
            };
            if !allowed.iter().any(|place| is_within(path, place)) {
                return Err(format!(
                    "files in {path} are to be replaced here, and nobody here allowed that; allow it with \
                     --allow-sync {path}, or copy them by other means"
                ));
            }
            if parts.is_empty() && (root == Path::new("/") || *kind != SyncKind::Directory) {
                return Err("all of / is to be replaced here; name another --root".to_owned());
            }
        }
        if !offered.is_empty() {
            Abilities::ask().map_err(|problem| problem.to_string())?;
        }
        Ok(Self {
            root: root.to_path_buf(),
            allowed,
            offered: offered.to_vec(),
            places: BTreeMap::new(),
            made: Vec::new(),
            kept: false,
            watch: watch.clone(),
        })
    }

    /// Leaves everything where it is.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
    }

    /// Answers `open-sync`: takes the files of a path. The configuration is put into `work_dir`.
    pub(crate) fn receive(
        &mut self,
        connection: &mut Connection,
        path: &str,
        pass: Pass,
        work_dir: &Path,
        within: Duration,
    ) -> Result<()> {
        self.take(connection, path, pass, work_dir, within)
            .map_err(|failure| failure.of(path))?;
        connection.say(&Message::Synced)
    }

    fn take(
        &mut self,
        connection: &mut Connection,
        path: &str,
        pass: Pass,
        work_dir: &Path,
        within: Duration,
    ) -> Result<(), Failure> {
        let offered = self.offered.iter().find(|offered| offered.path == path);
        let offered = offered.ok_or(SyncProblem::NotOffered)?.clone();
        if !self.places.contains_key(path) {
            let place = self.open(&offered)?;
            self.places.insert(path.to_owned(), place);
        }
        let place = self.places.get(path).ok_or(SyncProblem::NotOffered)?;
        let talk = |source| SyncProblem::Talk { source };
        let only = match offered.kind {
            SyncKind::Directory => None,
            SyncKind::File => path.rsplit_once('/').map(|(_, name)| name),
        };
        let filter = work_dir.join("rsyncd.filter");
        let configuration = work_dir.join("rsyncd.conf");
        // A daemon does not write to standard error.
        let log = work_dir.join("rsyncd.log");
        let _ = fs::remove_file(&log);
        fs::write(
            &configuration,
            configure(&path_of(&place.directory), only.map(|_| &*filter)),
        )
        .map_err(talk)?;
        if let Some(name) = only {
            fs::write(&filter, format!("/{}\n", escape(name))).map_err(talk)?;
        }
        let (ours, theirs) = UnixStream::pair().map_err(talk)?;
        let mut command = rsync::command();
        command.args(["--daemon", "--no-detach"]);
        command.arg(format!("--config={}", configuration.display()));
        command.arg(format!("--log-file={}", log.display()));
        let theirs = OwnedFd::from(theirs);
        command
            .stdout(theirs.try_clone().map_err(talk)?)
            .stdin(theirs);
        // The command holds the daemon's end until it is gone.
        let rsync = Rsync::spawn(command)?;
        let ends = Ends {
            from: ours.try_clone().map_err(talk)?.into(),
            to: ours.into(),
        };
        let outcome = converse(connection, rsync, &ends, Role::Daemon, within, &self.watch)?;
        if !matches!(outcome.status.code(), Some(0 | 23 | 24)) {
            let said = match fs::File::open(&log) {
                Ok(log) => rsync::last_lines(log),
                Err(_) => outcome.said,
            };
            return Err(Failure::Rsync(SyncProblem::Failed {
                status: outcome.status,
                pass,
                said,
            }));
        }
        Ok(())
    }

    /// Opens the place of a path, without leaving what is allowed, and makes what is missing on the way.
    fn open(&mut self, offered: &SyncPath) -> Result<Place, SyncProblem> {
        let path = offered.path.as_str();
        let allowed = self.allowed.iter().filter(|place| is_within(path, place));
        // The narrowest of them.
        let allowed = allowed.max_by_key(|place| place.len()).cloned();
        let allowed = allowed.ok_or(SyncProblem::NotOffered)?;
        let failed = |errno: rustix::io::Errno| SyncProblem::Open {
            source: errno.into(),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, &self.root, flags, Mode::empty()).map_err(failed)?;
        let parts = components(path).ok_or(SyncProblem::Path)?;
        let allowed_parts = components(&allowed).ok_or(SyncProblem::Path)?;
        let (directories, file) = match (offered.kind, parts.split_last()) {
            (SyncKind::File, Some((name, directories))) => (directories, Some(*name)),
            _ => (parts.as_slice(), None),
        };
        // A file may be allowed by itself: then the way to it is what the user named.
        let named = allowed_parts.len().min(directories.len());
        let (trusted, below) = directories.split_at(named);
        let whole = file.is_none().then_some(path);
        let ends_there = below.is_empty();
        let (place, made) = self
            .descend(
                root,
                trusted,
                ResolveFlags::IN_ROOT,
                whole.filter(|_| ends_there),
            )
            .map_err(failed)?;
        let (directory, made) = if ends_there {
            (place, made)
        } else {
            self.descend(place, below, ResolveFlags::BENEATH, whole)
                .map_err(|errno| match errno {
                    rustix::io::Errno::XDEV | rustix::io::Errno::LOOP => {
                        SyncProblem::Escape { allowed }
                    }
                    errno => failed(errno),
                })?
        };
        let existed = match file {
            None => !made,
            Some(name) => match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => true,
                Err(rustix::io::Errno::NOENT) => {
                    self.made.push(Made {
                        parent: copy(&directory).map_err(failed)?,
                        name: name.to_owned(),
                        whole: Some(path.to_owned()),
                    });
                    false
                }
                Err(errno) => return Err(failed(errno)),
            },
        };
        Ok(Place { directory, existed })
    }

    /// Opens a directory below another, making what is missing; tells whether the last of it was.
    fn descend(
        &mut self,
        from: OwnedFd,
        parts: &[&str],
        resolve: ResolveFlags,
        whole: Option<&str>,
    ) -> rustix::io::Result<(OwnedFd, bool)> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        let mut at = copy(&from)?;
        let mut missing = false;
        for (number, name) in parts.iter().enumerate() {
            if !missing {
                let so_far = parts.get(..=number).unwrap_or_default().join("/");
                match openat2(&from, so_far, flags, Mode::empty(), resolve) {
                    Ok(next) => {
                        at = next;
                        continue;
                    }
                    Err(rustix::io::Errno::NOENT) => missing = true,
                    Err(errno) => return Err(errno),
                }
            }
            mkdirat(&at, *name, Mode::from_raw_mode(0o755))?;
            let is_last = number + 1 == parts.len();
            self.made.push(Made {
                parent: copy(&at)?,
                name: (*name).to_owned(),
                whole: whole.filter(|_| is_last).map(str::to_owned),
            });
            let exactly = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            at = openat2(&at, *name, flags, Mode::empty(), exactly)?;
        }
        Ok((at, missing))
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        for made in self.made.iter().rev() {
            let path = PathBuf::from(path_of(&made.parent)).join(&made.name);
            let Some(whole) = &made.whole else {
                // Somebody else may have put something there meanwhile.
                let _ = unlinkat(&made.parent, &made.name, AtFlags::REMOVEDIR);
                continue;
            };
            let removed = match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
            };
            let path = whole.clone();
            self.watch.tell(match removed {
                Ok(()) => Happening::SyncRemoved { path },
                Err(_) => Happening::SyncRemains { path },
            });
        }
        for (path, _) in self.places.iter().filter(|(_, place)| place.existed) {
            self.watch
                .tell(Happening::SyncRemains { path: path.clone() });
        }
    }
}

fn copy(fd: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

/// The configuration of an rsync that writes below one directory.
fn configure(directory: &str, filter: Option<&Path>) -> String {
    let filter = filter.map_or_else(String::new, |filter| {
        format!("include from = {}\nexclude = *\n", filter.display())
    });
    format!(
        "use chroot = yes\n\
         numeric ids = yes\n\
         uid = 0\n\
         gid = 0\n\
         read only = no\n\
         write only = yes\n\
         list = no\n\
         munge symlinks = no\n\
         reverse lookup = no\n\
         [files]\n\
         path = {directory}\n\
         {filter}"
    )
}

/// A file name as an rsync pattern that matches only it.
fn escape(name: &str) -> String {
    if !name.contains(['*', '?', '[']) {
        return name.to_owned();
    }
    let mut escaped = String::new();
    for letter in name.chars() {
        if matches!(letter, '*' | '?' | '[' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use criu_testkit::TempDir;
    use std::sync::{Arc, Mutex};

    fn offered(path: &str, kind: SyncKind) -> SyncPath {
        SyncPath {
            path: path.into(),
            kind,
        }
    }

    fn landing(root: &TempDir, allowed: &[&str], path: &str) -> Result<Landing, String> {
        let allowed: Vec<PathBuf> = allowed.iter().map(PathBuf::from).collect();
        let offer = [offered(path, SyncKind::Directory)];
        Landing::prepare(root.path(), &allowed, &offer, &Watch::default())
    }

    #[test]
    fn only_what_the_user_allows_is_taken() {
        let root = TempDir::new();
        assert!(landing(&root, &["/srv"], "/srv/a").is_ok());
        for (allowed, path, said) in [
            (&[][..], "/srv", "--allow-sync /srv"),
            (&["/srv"], "/srv2", "--allow-sync /srv2"),
            (&["/srv"], "/", "--allow-sync /"),
            (&["/srv"], "/srv/../etc", "absolute"),
            (&["/"], "srv", "absolute"),
        ] {
            let refused = landing(&root, allowed, path).unwrap_err();
            assert!(refused.contains(said), "{refused}");
        }
        let all = [offered("/", SyncKind::Directory)];
        let everything = Landing::prepare(Path::new("/"), &["/".into()], &all, &Watch::default());
        assert!(everything.unwrap_err().contains("--root"));
    }

    #[test]
    fn symbolic_links_do_not_lead_out_of_what_is_allowed() {
        let (root, outside) = (TempDir::new(), TempDir::new());
        root.make_dir("srv");
        std::os::unix::fs::symlink(outside.path(), root.join("srv/absolute")).unwrap();
        std::os::unix::fs::symlink("../etc", root.join("srv/relative")).unwrap();
        root.make_dir("etc");
        for path in [
            "/srv/absolute",
            "/srv/absolute/new",
            "/srv/relative",
            "/srv/relative/new",
        ] {
            let mut landing = landing(&root, &["/srv"], path).unwrap();
            let opened = landing.open(&offered(path, SyncKind::Directory));
            assert!(
                matches!(opened, Err(SyncProblem::Escape { .. })),
                "{path} {opened:?}"
            );
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(root.join("etc")).unwrap().count(), 0);
        // What the user named may be a link, within the root.
        std::os::unix::fs::symlink("/etc", root.join("link")).unwrap();
        let mut allowed = landing(&root, &["/link"], "/link/a").unwrap();
        allowed
            .open(&offered("/link/a", SyncKind::Directory))
            .unwrap();
        assert!(root.join("etc/a").is_dir());
    }

    #[test]
    fn what_was_made_is_removed_and_what_was_there_is_told_of() {
        let root = TempDir::new();
        root.make_dir("srv/old");
        let told = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&told);
        let watch = Watch::new(move |event| sink.lock().unwrap().push(event.what.clone()));
        let paths = [
            offered("/srv/old", SyncKind::Directory),
            offered("/srv/new/deep", SyncKind::Directory),
            offered("/srv/other/file", SyncKind::File),
        ];
        let take = || {
            let mut landing =
                Landing::prepare(root.path(), &["/srv".into()], &paths, &watch).unwrap();
            for path in &paths {
                let place = landing.open(path).unwrap();
                landing.places.insert(path.path.clone(), place);
            }
            fs::write(root.join("srv/old/a"), "").unwrap();
            fs::write(root.join("srv/new/deep/a"), "").unwrap();
            fs::write(root.join("srv/other/file"), "").unwrap();
            landing
        };
        drop(take());
        assert!(root.join("srv/old/a").exists());
        assert!(!root.join("srv/new").exists() && !root.join("srv/other").exists());
        let removed = |path: &str| Happening::SyncRemoved { path: path.into() };
        assert_eq!(
            *told.lock().unwrap(),
            [
                removed("/srv/other/file"),
                removed("/srv/new/deep"),
                Happening::SyncRemains {
                    path: "/srv/old".into()
                },
            ]
        );
        take().keep();
        assert!(root.join("srv/new/deep/a").exists() && root.join("srv/other/file").exists());
    }

    #[test]
    fn a_name_is_its_own_pattern() {
        assert_eq!(escape(r"a\b c"), r"a\b c");
        assert_eq!(escape(r"a*[\"), r"a\*\[\\");
    }
}
