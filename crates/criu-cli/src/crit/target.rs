//! Where a verb writes: standard output, or a file that appears when it is whole.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use criu_inspect::SparseWriter;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use tempfile::{Builder, NamedTempFile};

use super::problem::Problem;

/// Standard output, a file being written under another name, or a device.
#[derive(Debug)]
pub(super) struct Target {
    path: Option<PathBuf>,
    sink: Sink,
}

#[derive(Debug)]
enum Sink {
    Stdout(File),
    /// The file, and the name that it is to have.
    Draft(NamedTempFile, PathBuf),
    /// A pipe or a device, which nothing can replace, or a file that we may write but not replace.
    Special(File),
}

impl Target {
    /// Prepares the file to write; standard output if there is none.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Problem> {
        let sink = match path {
            None => stdout(),
            Some(path) => draft(path),
        };
        let path = path.map(Path::to_owned);
        match sink {
            Ok(sink) => Ok(Self { path, sink }),
            Err(source) => Err(Problem::Write { path, source }),
        }
    }

    pub(super) fn is_stdout(&self) -> bool {
        matches!(self.sink, Sink::Stdout(_))
    }

    pub(super) fn writer(&mut self) -> &mut File {
        match &mut self.sink {
            Sink::Stdout(file) | Sink::Special(file) => file,
            Sink::Draft(draft, _) => draft.as_file_mut(),
        }
    }

    /// Writes the file with holes for zeros, where it can have holes.
    pub(super) fn sparse(&self) -> SparseWriter<'_> {
        match &self.sink {
            Sink::Stdout(file) | Sink::Special(file) => SparseWriter::dense(file),
            Sink::Draft(draft, _) => SparseWriter::new(draft.as_file()),
        }
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> Result<(), Problem> {
        let Self { path, sink } = self;
        let finished = match sink {
            Sink::Stdout(mut file) | Sink::Special(mut file) => file.flush(),
            Sink::Draft(draft, place) => match draft.persist(place) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.error),
            },
        };
        finished.map_err(|source| Problem::Write { path, source })
    }

    /// The error for what could not be written.
    pub(super) fn problem(&self, source: io::Error) -> Problem {
        Problem::Write {
            path: self.path.clone(),
            source,
        }
    }
}

fn stdout() -> io::Result<Sink> {
    // The descriptor itself, since the text comes in large pieces and not line by line.
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    Ok(Sink::Stdout(stdout.into()))
}

fn draft(path: &Path) -> io::Result<Sink> {
    let (place, there) = match fs::metadata(path) {
        Ok(there) if there.is_file() => {
            // What a link points to is replaced, not the link.
            (fs::canonicalize(path)?, Some(there))
        }
        Ok(_) => return Ok(Sink::Special(File::options().write(true).open(path)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let place = match fs::read_link(path) {
                // The link stays here too, and what it points to is made.
                Ok(to) => path.with_file_name(to),
                Err(_) => path.to_owned(),
            };
            (place, None)
        }
        Err(error) => return Err(error),
    };
    let directory = match place.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::metadata(directory)?;
    let draft = Builder::new()
        .prefix(".crit.")
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(directory)
        // The draft's name means nothing to anyone.
        .map_err(|error| io::Error::from(error.kind()))
        .and_then(|draft| {
            if let Some(there) = &there {
                keep_owner(&draft, there)?;
                draft.as_file().set_permissions(there.permissions())?;
            }
            Ok(draft)
        });
    match (draft, there) {
        (Ok(draft), _) => {
            remove_on_signal(draft.path().to_owned())?;
            Ok(Sink::Draft(draft, place))
        }
        // A file may be writable where its directory is not, or belong to somebody else.
        (Err(error), Some(_)) if error.kind() == io::ErrorKind::PermissionDenied => {
            let file = File::options().write(true).truncate(true).open(path)?;
            Ok(Sink::Special(file))
        }
        (Err(error), _) => Err(error),
    }
}

fn keep_owner(draft: &NamedTempFile, there: &fs::Metadata) -> io::Result<()> {
    let here = draft.as_file().metadata()?;
    if (here.uid(), here.gid()) == (there.uid(), there.gid()) {
        return Ok(());
    }
    fchown(draft.as_file(), Some(there.uid()), Some(there.gid()))
}

/// Has the draft removed when the user ends the program.
fn remove_on_signal(draft: PathBuf) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().spawn(move || {
        for signal in signals.forever() {
            let _ = fs::remove_file(&draft);
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}
