//! Why a verb failed, and how that is said.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use criu_inspect::json::{DecodeError, EncodeError, EncodeErrorKind};
use criu_inspect::rewrite;

use crate::output::visible;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("cannot open {}", name(.path, "standard input"))]
    Open {
        path: Option<PathBuf>,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {}", name(.path, "standard output"))]
    Write {
        path: Option<PathBuf>,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Image(#[from] criu_image::Error),
    /// What was asked for is not there, or cannot be done.
    #[error("{0}")]
    Refused(String),
    #[error("{}: {source}", name(.path, "standard input"))]
    Encode {
        path: Option<PathBuf>,
        source: EncodeError,
    },
    #[error("cannot {action} {}", .directory.display())]
    Rewrite {
        action: &'static str,
        directory: PathBuf,
        #[source]
        source: Box<rewrite::Error>,
    },
    #[error("cannot {doing}")]
    Io {
        doing: String,
        #[source]
        source: io::Error,
    },
}

impl Problem {
    /// What could not be written to standard output.
    pub(super) fn stdout(source: io::Error) -> Self {
        Self::Write { path: None, source }
    }

    /// Why a checkpoint could not be written anew.
    pub(super) fn rewrite(
        action: &'static str,
        directory: &Path,
    ) -> impl FnOnce(rewrite::Error) -> Self {
        let directory = directory.to_owned();
        move |source| Self::Rewrite {
            action,
            directory,
            source: Box::new(source),
        }
    }

    /// Says what is wrong on standard error. A reader that has gone away is no problem.
    pub(super) fn report(&self) -> ExitCode {
        if self.is_broken_pipe() {
            return ExitCode::SUCCESS;
        }
        if let Some(lines) = self.as_python_says() {
            eprintln!("{lines}");
            return ExitCode::FAILURE;
        }
        let mut message = self.to_string();
        let mut last = message.clone();
        let mut source = self.source();
        while let Some(error) = source {
            let text = error.to_string();
            // What is transparent says the same again.
            if !last.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            last = text;
            source = error.source();
        }
        eprintln!("crit: {}", visible(&message));
        if let Some(hint) = self.hint() {
            eprintln!("hint: {hint}");
        }
        ExitCode::FAILURE
    }

    fn is_broken_pipe(&self) -> bool {
        let mut source = Some(self as &dyn Error);
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return error.kind() == io::ErrorKind::BrokenPipe;
            }
            source = error.source();
        }
        false
    }

    /// The words of Python's tool for what scripts may look for.
    fn as_python_says(&self) -> Option<String> {
        match self {
            Self::Decode(DecodeError::Image(error)) => match error.reason() {
                criu_image::ErrorKind::UnknownMagic { magic } => Some(format!(
                    "Unknown magic {magic:#x}.\n\
                     Maybe you are feeding me an image with raw data(i.e. pages.img)?"
                )),
                _ => None,
            },
            Self::Encode { source, .. } => match source.kind() {
                EncodeErrorKind::NotJson { found } if found.starts_with("byte") => Some(
                    "Cannot read JSON.\n\
                     Maybe you are feeding me an image with protobuf data? Encode expects JSON input."
                        .to_owned(),
                ),
                _ => None,
            },
            _ => None,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Encode { source, .. } => match source.kind() {
                EncodeErrorKind::LeftOut => {
                    Some("print the image with `crit decode --pretty`, not with `crit show --nopl`")
                }
                EncodeErrorKind::UnknownField { .. } => {
                    Some("check the spelling, or pass --ignore-unknown to leave it out")
                }
                EncodeErrorKind::PayloadLen { .. } => {
                    Some("change the length in the entry together with `extra`")
                }
                _ => None,
            },
            Self::Rewrite { action, source, .. } => match (&**source, *action) {
                (rewrite::Error::BackupExists { .. }, "change") => {
                    Some("move the backups away, or leave out --backup to make none")
                }
                (rewrite::Error::BackupExists { .. }, _) => {
                    Some("move the backups away, or pass --in-place to make none")
                }
                _ => None,
            },
            _ => None,
        }
    }
}

fn name(path: &Option<PathBuf>, otherwise: &str) -> String {
    path.as_deref()
        .map(Path::display)
        .map_or_else(|| otherwise.to_owned(), |path| path.to_string())
}
