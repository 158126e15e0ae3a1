//! What a destination takes in of images.

use std::io;

use crate::error::ImageProblem;
use crate::images_dir::{ImageFile, ImageName, ImagesDir, NAME_BYTES_MAX};

/// What a destination has received of images.
#[derive(Debug)]
pub(crate) struct Intake<'a> {
    directory: &'a ImagesDir,
    limit_bytes: u64,
    left_bytes: u64,
    images: u64,
    open: Option<(ImageName, ImageFile, u64)>,
}

impl<'a> Intake<'a> {
    /// Takes in images of at most `limit_bytes` together.
    pub(crate) fn new(directory: &'a ImagesDir, limit_bytes: u64) -> Self {
        Self {
            directory,
            limit_bytes,
            left_bytes: limit_bytes,
            images: 0,
            open: None,
        }
    }

    /// Begins an image.
    pub(crate) fn begin(&mut self, name: &str, len_bytes: u64) -> Result<(), IntakeError> {
        if self.open.is_some() {
            return Err(ImageProblem::OutOfPlace.into());
        }
        let name = ImageName::parse(name).ok_or_else(|| ImageProblem::Name {
            name: name.chars().take(NAME_BYTES_MAX).collect(),
        })?;
        let left = self.left_bytes.checked_sub(len_bytes);
        self.left_bytes = left.ok_or(ImageProblem::TooLarge {
            limit_bytes: self.limit_bytes,
        })?;
        let file = match self.directory.create_image(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(ImageProblem::Twice {
                    name: name.as_str().to_owned(),
                }
                .into());
            }
            file => file?,
        };
        self.open = Some((name, file, len_bytes));
        Ok(())
    }

    /// Adds to the image begun last.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), IntakeError> {
        self.room_for(bytes.len() as u64)?.write(bytes)?;
        Ok(())
    }

    /// Adds zero bytes to it.
    pub(crate) fn add_zeros(&mut self, count: u64) -> Result<(), IntakeError> {
        self.room_for(count)?.skip_zeros(count)?;
        Ok(())
    }

    fn room_for(&mut self, count: u64) -> Result<&mut ImageFile, IntakeError> {
        let Some((name, file, announced_bytes)) = &mut self.open else {
            return Err(ImageProblem::OutOfPlace.into());
        };
        let found_bytes = file.len_bytes().saturating_add(count);
        if found_bytes > *announced_bytes {
            return Err(ImageProblem::Length {
                name: name.as_str().to_owned(),
                announced_bytes: *announced_bytes,
                found_bytes,
            }
            .into());
        }
        Ok(file)
    }

    /// Ends it.
    pub(crate) fn end(&mut self) -> Result<(), IntakeError> {
        let Some((name, file, announced_bytes)) = self.open.take() else {
            return Err(ImageProblem::OutOfPlace.into());
        };
        if file.len_bytes() != announced_bytes {
            return Err(ImageProblem::Length {
                name: name.as_str().to_owned(),
                announced_bytes,
                found_bytes: file.len_bytes(),
            }
            .into());
        }
        file.finish()?;
        self.images += 1;
        Ok(())
    }

    /// Checks that none is half here when a round ends; returns the bytes of all.
    pub(crate) fn round_done(&self) -> Result<u64, IntakeError> {
        match &self.open {
            Some(_) => Err(ImageProblem::OutOfPlace.into()),
            None => Ok(self.limit_bytes - self.left_bytes),
        }
    }

    /// Checks that all came.
    pub(crate) fn complete(&self, announced: u64) -> Result<(), IntakeError> {
        match &self.open {
            Some(_) => Err(ImageProblem::OutOfPlace.into()),
            None if self.images != announced => Err(ImageProblem::Count {
                announced,
                found: self.images,
            }
            .into()),
            None => Ok(()),
        }
    }
}

/// Why an image was not taken in: the peer's fault or this machine's.
#[derive(Debug)]
pub(crate) enum IntakeError {
    Problem(ImageProblem),
    Io(io::Error),
}

impl From<ImageProblem> for IntakeError {
    fn from(problem: ImageProblem) -> Self {
        Self::Problem(problem)
    }
}

impl From<io::Error> for IntakeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images_dir::{Piece, SparseReader};

    fn images_dir() -> (criu_testkit::TempDir, ImagesDir) {
        let parent = criu_testkit::TempDir::new();
        let images = ImagesDir::create(parent.join("images")).unwrap();
        (parent, images)
    }

    fn problem<T: std::fmt::Debug>(result: Result<T, IntakeError>) -> ImageProblem {
        match result {
            Err(IntakeError::Problem(problem)) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn images_arrive_with_their_holes() {
        let (_parent, images) = images_dir();
        let mut intake = Intake::new(&images, 10 << 20);
        intake.begin("pages-1.img", (2 << 20) + 3).unwrap();
        intake.add(b"abc").unwrap();
        intake.add_zeros(2 << 20).unwrap();
        intake.end().unwrap();
        intake.complete(1).unwrap();
        let [(name, len_bytes)] = &images.images().unwrap()[..] else {
            panic!("not one image");
        };
        assert_eq!((name.as_str(), *len_bytes), ("pages-1.img", (2 << 20) + 3));
        let mut reader = SparseReader::new(images.open_image(name).unwrap(), *len_bytes);
        let mut buffer = vec![0; 64 << 10];
        let (mut data, mut holes) = (Vec::new(), 0);
        while let Some(piece) = reader.next(&mut buffer).unwrap() {
            match piece {
                Piece::Data(bytes) => data.extend_from_slice(bytes),
                Piece::Hole(count) => holes += count,
            }
        }
        assert_eq!(&data[..3], b"abc");
        assert!(data[3..].iter().all(|byte| *byte == 0));
        assert_eq!(data.len() as u64 + holes, *len_bytes);
        // A file system without holes would give all as data.
        assert!(holes > 1 << 20, "{holes}");
    }

    #[test]
    fn what_a_hostile_source_sends_is_refused_for_what_it_is() {
        let (parent, images) = images_dir();
        let mut intake = Intake::new(&images, 1000);
        let name = |name: &str| ImageProblem::Name { name: name.into() };
        for path in ["../evil.img", "/tmp/evil.img", "a/../../evil.img", "parent"] {
            assert_eq!(problem(intake.begin(path, 1)), name(path));
        }
        assert_eq!(problem(intake.add(b"x")), ImageProblem::OutOfPlace);
        assert_eq!(problem(intake.end()), ImageProblem::OutOfPlace);
        let limit_bytes = 1000;
        assert_eq!(
            problem(intake.begin("a.img", u64::MAX)),
            ImageProblem::TooLarge { limit_bytes }
        );

        intake.begin("a.img", 2).unwrap();
        assert_eq!(problem(intake.begin("b.img", 2)), ImageProblem::OutOfPlace);
        assert_eq!(problem(intake.complete(1)), ImageProblem::OutOfPlace);
        let length = |found_bytes| ImageProblem::Length {
            name: "a.img".into(),
            announced_bytes: 2,
            found_bytes,
        };
        assert_eq!(problem(intake.add(b"abc")), length(3));
        assert_eq!(problem(intake.add_zeros(u64::MAX)), length(u64::MAX));
        assert_eq!(problem(intake.end()), length(0));

        intake.begin("b.img", 0).unwrap();
        intake.end().unwrap();
        let twice = ImageProblem::Twice {
            name: "b.img".into(),
        };
        assert_eq!(problem(intake.begin("b.img", 0)), twice);
        assert_eq!(
            problem(intake.complete(2)),
            ImageProblem::Count {
                announced: 2,
                found: 1
            }
        );

        // A name that leads elsewhere is not followed.
        let outside = parent.join("outside");
        std::os::unix::fs::symlink(&outside, images.path().join("link.img")).unwrap();
        let twice = ImageProblem::Twice {
            name: "link.img".into(),
        };
        assert_eq!(problem(intake.begin("link.img", 0)), twice);
        assert!(!outside.exists());
    }
}
