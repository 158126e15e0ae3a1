//! The private directory a migration keeps its images in, on either side.
//!
//! It is removed with the value. One left behind by a killed process is removed by the next migration
//! in the same place: the owner of a directory holds a lock on it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstatvfs, openat};

use crate::error::{Error, ImageProblem, Result};

const PREFIX: &str = "criu-migrate-";
/// Not swept by anybody.
const LASTING_PREFIX: &str = "criu-container-";
/// A directory younger than this may not be locked by its owner yet.
const SETTLED: Duration = Duration::from_secs(60);

/// A directory of our own for images.
#[derive(Debug)]
pub(crate) struct Staging {
    path: PathBuf,
    directory: File,
    /// Stays when the value goes.
    lasting: bool,
}

impl Staging {
    /// Makes one in `parent`, and removes what killed migrations left there.
    pub(crate) fn create(parent: &Path) -> Result<Self> {
        sweep(parent);
        Self::make(parent, PREFIX, false)
    }

    /// Makes one that stays, also when this process is killed, until it is let go.
    pub(crate) fn create_lasting(parent: &Path, label: &str) -> Result<Self> {
        Self::make(parent, &format!("{LASTING_PREFIX}{label}-"), true)
    }

    /// Lets it stay.
    pub(crate) fn keep(&mut self) {
        self.lasting = true;
    }

    /// Has a lasting one removed with the value, too.
    pub(crate) fn let_go(&mut self) {
        self.lasting = false;
    }

    fn make(parent: &Path, prefix: &str, lasting: bool) -> Result<Self> {
        let making = |source| Error::Io {
            doing: format!("make a directory for images in {}", parent.display()),
            source,
        };
        let unique = fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(making)?;
        let path = parent.join(format!("{prefix}{}", unique.trim()));
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(making)?;
        let opened = File::open(&path).and_then(|directory| {
            flock(&directory, FlockOperation::NonBlockingLockExclusive)?;
            Ok(directory)
        });
        match opened {
            Ok(directory) => Ok(Self {
                path,
                directory,
                lasting,
            }),
            Err(source) => {
                let _ = fs::remove_dir(&path);
                Err(making(source))
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor of the directory.
    pub(crate) fn open(&self) -> Result<OwnedFd> {
        let copy = self.directory.try_clone();
        Ok(copy.map_err(Error::io("use the images directory"))?.into())
    }

    /// Bytes that still fit.
    pub(crate) fn free_bytes(&self) -> Result<u64> {
        let space = fstatvfs(&self.directory).map_err(io::Error::from);
        let space = space.map_err(Error::io("look for free space"))?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// The images in it, with their lengths, in order of their names.
    pub(crate) fn images(&self) -> Result<Vec<(ImageName, u64)>> {
        let listing = || -> io::Result<Vec<(ImageName, u64)>> {
            let mut images = Vec::new();
            for entry in fs::read_dir(&self.path)? {
                let entry = entry?;
                let name = entry.file_name().into_string().ok();
                if let Some(name) = name.and_then(|name| ImageName::parse(&name))
                    && entry.file_type()?.is_file()
                {
                    images.push((name, entry.metadata()?.len()));
                }
            }
            images.sort();
            Ok(images)
        };
        listing().map_err(Error::io(format!("list {}", self.path.display())))
    }

    /// Opens an image for reading.
    pub(crate) fn open_image(&self, name: &ImageName) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.directory, &name.0, flags, Mode::empty())?.into())
    }

    /// Makes an image that must not be there yet.
    pub(crate) fn create_image(&self, name: &ImageName) -> io::Result<ImageFile> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.directory, &name.0, flags, Mode::RUSR | Mode::WUSR)?;
        Ok(ImageFile {
            file: file.into(),
            len_bytes: 0,
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.lasting {
            return;
        }
        // What cannot be removed now the next migration tries again.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes the directories of migrations that were killed.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        let settled = entry.metadata().and_then(|metadata| metadata.modified());
        let settled = settled.is_ok_and(|modified| {
            SystemTime::now()
                .duration_since(modified)
                .is_ok_and(|age| age > SETTLED)
        });
        if ours && settled {
            remove_if_abandoned(&entry.path());
        }
    }
}

fn remove_if_abandoned(path: &Path) {
    if let Ok(directory) = File::open(path)
        && flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok()
    {
        let _ = fs::remove_dir_all(path);
    }
}

/// The name of an image file: one plain component ending in `.img`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ImageName(String);

/// Longest name: CRIU's own stay far below.
const NAME_BYTES_MAX: usize = 200;

impl ImageName {
    /// Reads a name; `None` for what is no name of an image file, however it came about.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let good = name.ends_with(".img")
            && !name.starts_with('.')
            && name.len() <= NAME_BYTES_MAX
            && name.bytes().all(plain);
        good.then(|| Self(name.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// An image being written, with holes for its zeros.
#[derive(Debug)]
pub(crate) struct ImageFile {
    file: File,
    len_bytes: u64,
}

impl ImageFile {
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len_bytes += bytes.len() as u64;
        Ok(())
    }

    pub(crate) fn skip_zeros(&mut self, count: u64) -> io::Result<()> {
        let end = self.len_bytes.checked_add(count);
        self.len_bytes = end.ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.seek(SeekFrom::Start(self.len_bytes))?;
        Ok(())
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        self.file.set_len(self.len_bytes)
    }
}

/// Reads data of a file and jumps over its holes.
#[derive(Debug)]
pub(crate) struct SparseReader {
    file: File,
    at: u64,
    data_end: u64,
    len_bytes: u64,
}

/// A piece of a sparse file.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    Data(&'a [u8]),
    Hole(u64),
}

impl SparseReader {
    pub(crate) fn new(file: File, len_bytes: u64) -> Self {
        Self {
            file,
            at: 0,
            data_end: 0,
            len_bytes,
        }
    }

    /// Reads the next piece, as much as the buffer holds; `None` at the end.
    pub(crate) fn next<'a>(&mut self, buffer: &'a mut [u8]) -> io::Result<Option<Piece<'a>>> {
        if self.at >= self.len_bytes {
            return Ok(None);
        }
        if self.at >= self.data_end {
            let data = match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(self.at)) {
                Ok(data) => data.min(self.len_bytes),
                // No data up to the end.
                Err(rustix::io::Errno::NXIO) => self.len_bytes,
                Err(errno) => return Err(errno.into()),
            };
            if data > self.at {
                let hole = data - self.at;
                self.at = data;
                return Ok(Some(Piece::Hole(hole)));
            }
            let hole = rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Hole(self.at))?;
            self.data_end = hole.min(self.len_bytes);
            self.file.seek(SeekFrom::Start(self.at))?;
        }
        let left = self.data_end - self.at;
        let wanted = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.file.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        Ok(Some(Piece::Data(&buffer[..count])))
    }
}

/// What a destination has received of images.
#[derive(Debug)]
pub(crate) struct Intake<'a> {
    staging: &'a Staging,
    limit_bytes: u64,
    left_bytes: u64,
    images: u64,
    open: Option<(ImageName, ImageFile, u64)>,
}

impl<'a> Intake<'a> {
    /// Takes in images of at most `limit_bytes` together.
    pub(crate) fn new(staging: &'a Staging, limit_bytes: u64) -> Self {
        Self {
            staging,
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
        let file = match self.staging.create_image(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(ImageProblem::Twice { name: name.0 }.into());
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
                name: name.0.clone(),
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
                name: name.0,
                announced_bytes,
                found_bytes: file.len_bytes(),
            }
            .into());
        }
        file.finish()?;
        self.images += 1;
        Ok(())
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

    fn staging() -> (criu_testkit::TempDir, Staging) {
        let parent = criu_testkit::TempDir::new();
        let staging = Staging::create(parent.path()).unwrap();
        (parent, staging)
    }

    fn problem<T: std::fmt::Debug>(result: Result<T, IntakeError>) -> ImageProblem {
        match result {
            Err(IntakeError::Problem(problem)) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_plain_image_names_are_names() {
        for good in [
            "core-1.img",
            "ghost-file-2a.img",
            "tmpfs-dev-30.tar.gz.img",
            "ids-4_2.img",
        ] {
            assert!(ImageName::parse(good).is_some(), "{good}");
        }
        let long = format!("{}.img", "a".repeat(200));
        for bad in [
            "",
            ".img",
            "..",
            "../core-1.img",
            "/etc/core-1.img",
            "a/b.img",
            "core-1.img/",
            ".hidden.img",
            "parent",
            "core-1",
            "stats-dump",
            "core 1.img",
            "core\n.img",
            "core\0.img",
            "cöre.img",
            &long,
        ] {
            assert!(ImageName::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn images_arrive_with_their_holes() {
        let (_parent, staging) = staging();
        let mut intake = Intake::new(&staging, 10 << 20);
        intake.begin("pages-1.img", (2 << 20) + 3).unwrap();
        intake.add(b"abc").unwrap();
        intake.add_zeros(2 << 20).unwrap();
        intake.end().unwrap();
        intake.complete(1).unwrap();
        let [(name, len_bytes)] = &staging.images().unwrap()[..] else {
            panic!("not one image");
        };
        assert_eq!((name.as_str(), *len_bytes), ("pages-1.img", (2 << 20) + 3));
        let mut reader = SparseReader::new(staging.open_image(name).unwrap(), *len_bytes);
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
        let (parent, staging) = staging();
        let mut intake = Intake::new(&staging, 1000);
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
        std::os::unix::fs::symlink(&outside, staging.path.join("link.img")).unwrap();
        let twice = ImageProblem::Twice {
            name: "link.img".into(),
        };
        assert_eq!(problem(intake.begin("link.img", 0)), twice);
        assert!(!outside.exists());
    }

    #[test]
    fn an_abandoned_directory_is_removed_and_one_in_use_is_not() {
        let (parent, in_use) = staging();
        let abandoned = parent.make_dir(format!("{PREFIX}old"));
        let foreign = parent.make_dir("precious");
        let young = parent.make_dir(format!("{PREFIX}young"));
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        for path in [
            abandoned.as_path(),
            in_use.path.as_path(),
            foreign.as_path(),
        ] {
            File::open(path).unwrap().set_modified(hour_ago).unwrap();
        }
        let next = Staging::create(parent.path()).unwrap();
        assert!(!abandoned.exists());
        assert!(in_use.path.exists() && foreign.exists() && young.exists());
        let path = next.path.clone();
        drop(next);
        assert!(!path.exists());
    }
}
