//! The side files leave.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::rsync::{self, Abilities, Ends, Failure, Outcome, Role, Rsync, converse, path_of};
use super::{PATHS_MAX, Pass, SyncKind, SyncPath, SyncProblem, components, is_within};
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::message::Message;
use crate::watch::{Happening, Watch};

/// What rsync runs in place of `ssh`: it tells who it is, so that its ends of the connection can be had
/// from it, and goes. Its descriptors 0 and 1 are not asked for, since the shell moves them around.
const REMOTE_SHELL: &str = "sh -c 'exec 6<&0 7>&1; echo $$ >&9; read -r gone <&9; exit 0'";
/// Where the remote shell keeps what it reads, what it writes, and our socket.
const SHELL_READS: i32 = 6;
const SHELL_WRITES: i32 = 7;
const SHELL_SOCKET: i32 = 9;
/// How long rsync may take to start it.
const SHELL_PATIENCE: Duration = Duration::from_secs(20);
/// For a pass that may take as long as it takes; a peer that is gone is noticed otherwise.
const UNLIMITED: Duration = Duration::from_secs(1 << 32);

/// Files that leave together with a tree.
#[derive(Debug)]
pub(crate) struct Departure {
    abilities: Abilities,
    /// The root the tree sees.
    root: OwnedFd,
    paths: Vec<SyncPath>,
}

impl Departure {
    /// Looks at the paths, below the root of a process; `None` if there are none.
    pub(crate) fn of_process(pid: i32, paths: &[PathBuf]) -> Result<Option<Self>> {
        Self::below(&PathBuf::from(format!("/proc/{pid}/root")), paths)
    }

    /// Looks at the paths, below a directory.
    pub(crate) fn below(root: &Path, paths: &[PathBuf]) -> Result<Option<Self>> {
        if paths.is_empty() {
            return Ok(None);
        }
        if paths.len() > PATHS_MAX {
            return Err(Error::Misuse {
                problem: "too many paths to bring along",
            });
        }
        let failed = |path: &Path, problem| Error::Sync {
            path: path.display().to_string(),
            problem,
        };
        let first = paths.first().map_or(root, PathBuf::as_path);
        let abilities = Abilities::ask().map_err(|problem| failed(first, problem))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, root, flags, Mode::empty())
            .map_err(io::Error::from)
            .map_err(Error::io(format!("open {}", root.display())))?;
        let mut offered = Vec::new();
        for path in paths {
            let text = path.to_str().filter(|text| components(text).is_some());
            let Some(text) = text else {
                return Err(failed(path, SyncProblem::Path));
            };
            let kind = kind_of(&root, text).map_err(|problem| failed(path, problem))?;
            offered.push(SyncPath {
                path: text.to_owned(),
                kind,
            });
        }
        Ok(Some(Self {
            abilities,
            root,
            paths: offered,
        }))
    }

    pub(crate) fn offered(&self) -> &[SyncPath] {
        &self.paths
    }

    /// Whether a file comes along.
    pub(crate) fn covers(&self, file: &str) -> bool {
        self.paths.iter().any(|path| is_within(file, &path.path))
    }

    /// Copies while the tree runs.
    pub(crate) fn first_pass(&self, connection: &mut Connection, watch: &Watch) -> Result<()> {
        for path in &self.paths {
            self.copy(connection, path, Pass::First, UNLIMITED, watch)?;
        }
        Ok(())
    }

    /// Copies what has changed since, while the tasks are frozen that may have written these files.
    pub(crate) fn last_pass(
        &self,
        connection: &mut Connection,
        written: &BTreeSet<String>,
        within: Duration,
        watch: &Watch,
    ) -> Result<()> {
        for path in &self.paths {
            self.copy_by_content(connection, path, written, within, watch)?;
            self.copy(connection, path, Pass::Last, within, watch)?;
        }
        Ok(())
    }

    fn copy(
        &self,
        connection: &mut Connection,
        path: &SyncPath,
        pass: Pass,
        within: Duration,
        watch: &Watch,
    ) -> Result<()> {
        let failed = |problem| Failure::Rsync(problem).of(&path.path);
        let (place, source) = self.source(path).map_err(failed)?;
        let mut command = self.client();
        if pass == Pass::Last {
            command.args(["--delete", "--delete-missing-args"]);
            if path.kind == SyncKind::File {
                // Compared by content: it may be written through a mapping.
                command.arg("--ignore-times");
            }
        } else {
            command.arg("--ignore-missing-args");
        }
        command.args([source.as_str(), "there::files/"]);
        let outcome = talk(connection, command, path, pass, within, watch)?;
        drop(place);
        watch.tell(Happening::Synced {
            path: path.path.clone(),
            pass,
            sent_bytes: outcome.sent_bytes,
        });
        Ok(())
    }

    /// Copies those of the written files that are below the path, whatever their times say.
    fn copy_by_content(
        &self,
        connection: &mut Connection,
        path: &SyncPath,
        written: &BTreeSet<String>,
        within: Duration,
        watch: &Watch,
    ) -> Result<()> {
        let names = names_below(&path.path, written);
        if path.kind == SyncKind::File || names.is_empty() {
            return Ok(());
        }
        let failed = |problem| Failure::Rsync(problem).of(&path.path);
        let (place, source) = self.source(path).map_err(failed)?;
        let list = rsync::nameless(&names).map_err(Error::io("list the files that are written"))?;
        let mut command = self.client();
        command.args([
            "--ignore-times",
            "--ignore-missing-args",
            "--no-implied-dirs",
        ]);
        command.args([
            "--from0",
            "--files-from=-",
            source.as_str(),
            "there::files/",
        ]);
        command.stdin(list);
        talk(connection, command, path, Pass::Last, within, watch)?;
        drop(place);
        Ok(())
    }

    /// The client with what both passes ask of it.
    fn client(&self) -> Command {
        let mut command = rsync::command();
        command.args(["--archive", "--hard-links", "--sparse", "--numeric-ids"]);
        // Of the tree's mount namespace only this file system: the others come with the tree.
        command.arg("--one-file-system");
        // Whole seconds would do for the times otherwise.
        command.arg("--modify-window=-1");
        if self.abilities.acls {
            command.arg("--acls");
        }
        if self.abilities.xattrs {
            command.arg("--xattrs");
        }
        command.args(["--rsh", REMOTE_SHELL]).stdin(Stdio::null());
        command.stdout(Stdio::null());
        command
    }

    /// The path as rsync is told it, and the directory it goes through, to be kept open.
    fn source(&self, path: &SyncPath) -> Result<(OwnedFd, String), SyncProblem> {
        match path.kind {
            SyncKind::Directory => {
                let place = open(&self.root, &path.path, OFlags::DIRECTORY)?;
                let name = format!("{}/", path_of(&place));
                Ok((place, name))
            }
            SyncKind::File => {
                let (parent, name) = path.path.rsplit_once('/').ok_or(SyncProblem::Path)?;
                let place = open(&self.root, &format!("{parent}/"), OFlags::DIRECTORY)?;
                let name = format!("{}/{name}", path_of(&place));
                Ok((place, name))
            }
        }
    }
}

/// Opens a path as a process sees it whose root this is, symbolic links included.
fn open(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, SyncProblem> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), resolve).map_err(|errno| SyncProblem::Open {
        source: errno.into(),
    })
}

fn kind_of(root: &OwnedFd, path: &str) -> Result<SyncKind, SyncProblem> {
    if path.ends_with('/') || components(path).is_some_and(|parts| parts.is_empty()) {
        return open(root, path, OFlags::DIRECTORY).map(|_| SyncKind::Directory);
    }
    let found = open(root, path, OFlags::NOFOLLOW)?;
    let status = rustix::fs::fstat(&found).map_err(|errno| SyncProblem::Open {
        source: errno.into(),
    })?;
    Ok(match rustix::fs::FileType::from_raw_mode(status.st_mode) {
        rustix::fs::FileType::Directory => SyncKind::Directory,
        _ => SyncKind::File,
    })
}

/// The names of those files that are below a path, seen from there, each ended by NUL.
fn names_below(path: &str, files: &BTreeSet<String>) -> Vec<u8> {
    let mut names = Vec::new();
    for file in files.iter().filter(|file| is_within(file, path)) {
        let name = file.get(path.trim_end_matches('/').len()..);
        let name = name.unwrap_or_default().trim_start_matches('/');
        if !name.is_empty() {
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
    }
    names
}

/// Has the destination start its rsync, and runs the client to its end.
fn talk(
    connection: &mut Connection,
    command: Command,
    path: &SyncPath,
    pass: Pass,
    within: Duration,
    watch: &Watch,
) -> Result<Outcome> {
    connection.say(&Message::OpenSync {
        path: path.path.clone(),
        pass,
    })?;
    let conversation = || -> Result<Outcome, Failure> {
        let (rsync, ends) = start(command, pass)?;
        let outcome = converse(connection, rsync, &ends, Role::Client, within, watch)?;
        // What is missed while files change is for the last pass.
        let tolerable = pass == Pass::First && matches!(outcome.status.code(), Some(23 | 24));
        if !outcome.status.success() && !tolerable {
            return Err(Failure::Rsync(SyncProblem::Failed {
                status: outcome.status,
                pass,
                said: outcome.said,
            }));
        }
        Ok(outcome)
    };
    conversation().map_err(|failure| failure.of(&path.path))
}

/// Starts a client and takes over its connection with what it believes to be `ssh`.
fn start(mut command: Command, pass: Pass) -> Result<(Rsync, Ends), SyncProblem> {
    let talk = |source| SyncProblem::Talk { source };
    let (ours, theirs) = UnixStream::pair().map_err(talk)?;
    ours.set_read_timeout(Some(SHELL_PATIENCE)).map_err(talk)?;
    let mapping = FdMapping {
        parent_fd: theirs.into(),
        child_fd: SHELL_SOCKET,
    };
    command
        .fd_mappings(vec![mapping])
        .map_err(|_| talk(io::ErrorKind::AlreadyExists.into()))?;
    let rsync = Rsync::spawn(command)?;
    let mut line = String::new();
    let read = BufReader::new(&ours).read_line(&mut line);
    let pid = line.trim().parse().ok().and_then(Pid::from_raw);
    let Some(pid) = pid else {
        let said = rsync.end();
        return Err(match read {
            Err(source) => talk(source),
            Ok(_) => SyncProblem::Talk {
                source: io::Error::other(format!("it ended in the {pass} pass: {said}")),
            },
        });
    };
    let take = || -> rustix::io::Result<Ends> {
        let shell = pidfd_open(pid, PidfdFlags::empty())?;
        let flags = PidfdGetfdFlags::empty();
        Ok(Ends {
            from: pidfd_getfd(&shell, SHELL_READS, flags)?,
            to: pidfd_getfd(&shell, SHELL_WRITES, flags)?,
        })
    };
    // With our end closed, the shell goes.
    take()
        .map(|ends| (rsync, ends))
        .map_err(|errno| talk(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_files_are_named_from_the_path_that_is_copied() {
        let files: BTreeSet<String> = ["/srv/a/b", "/srv/c", "/srv2/d", "/etc/e"]
            .map(String::from)
            .into();
        assert_eq!(names_below("/srv", &files), b"a/b\0c\0");
        assert_eq!(names_below("/", &files), b"etc/e\0srv/a/b\0srv/c\0srv2/d\0");
        assert_eq!(names_below("/var", &files), b"");
    }

    #[test]
    fn what_is_no_path_to_take_along_is_refused() {
        let root = criu_testkit::TempDir::new();
        let departure = |path: &str| Departure::below(root.path(), &[PathBuf::from(path)]);
        std::fs::write(root.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/", root.join("link")).unwrap();
        let kind = |path| departure(path).unwrap().unwrap().paths[0].kind;
        assert_eq!(kind("/"), SyncKind::Directory);
        assert_eq!(kind("/file"), SyncKind::File);
        // Below this root the link leads to this root.
        assert_eq!(kind("/link/file"), SyncKind::File);
        for (path, said) in [
            ("/a/../b", "absolute path"),
            ("file", "absolute"),
            ("/gone", "open"),
        ] {
            let error = departure(path).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
