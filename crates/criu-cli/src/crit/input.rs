//! Where a verb reads: a file or standard input.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use criu_image::{ImageKind, ImageReader, ReadOptions};
use criu_inspect::json::EncodeError;

use super::problem::Problem;

/// An open file, or standard input.
#[derive(Debug)]
pub(super) struct Input {
    file: File,
    path: Option<PathBuf>,
}

impl Input {
    /// Opens the file; standard input if there is none.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Problem> {
        let opened = match path {
            Some(path) => File::open(path),
            // The descriptor itself: it may be a file, and has no use for a second buffer.
            None => std::io::stdin()
                .as_fd()
                .try_clone_to_owned()
                .map(File::from),
        };
        let path = path.map(Path::to_owned);
        match opened {
            Ok(file) => Ok(Self { file, path }),
            Err(source) => Err(Problem::Open { path, source }),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Reads it as an image.
    pub(super) fn image(self) -> Result<ImageReader<File>, Problem> {
        let name = self
            .path
            .as_deref()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str());
        let mut options = ReadOptions::default();
        // Kinds that share their magic are told by the name; raw ones have no JSON to be told for.
        options.kind = name
            .and_then(ImageKind::from_file_name)
            .map(|(kind, _)| kind)
            .filter(|kind| kind.entry(0).is_some());
        options.path = self.path;
        let is_regular = self
            .file
            .metadata()
            .is_ok_and(|metadata| metadata.is_file());
        let image = match is_regular {
            true => options.read_seekable(self.file),
            false => options.read(self.file),
        };
        Ok(image.map_err(json_error)?)
    }

    /// The error for a text that cannot be encoded.
    pub(super) fn problem(&self, source: EncodeError) -> Problem {
        Problem::Encode {
            path: self.path.clone(),
            source,
        }
    }
}

fn json_error(error: criu_image::Error) -> criu_inspect::json::DecodeError {
    error.into()
}
