//! The statistics CRIU leaves in its working directory.

use std::os::fd::OwnedFd;
use std::path::Path;

use criu_image::ImageReader;
use criu_image::stats::{DumpStats, RestoreStats};

use crate::failure::open_in;

pub(crate) fn of_dump(work_dir: Option<&OwnedFd>) -> Option<DumpStats> {
    let file = open_in(work_dir?, Path::new(DumpStats::FILE_NAME)).ok()?;
    DumpStats::read(ImageReader::new(file).ok()?).ok()
}

pub(crate) fn of_restore(work_dir: Option<&OwnedFd>) -> Option<RestoreStats> {
    let file = open_in(work_dir?, Path::new(RestoreStats::FILE_NAME)).ok()?;
    RestoreStats::read(ImageReader::new(file).ok()?).ok()
}

/// The statistics of the pre-dumps and the dump that one worker makes.
///
/// CRIU counts on from one to the next, so what one of them took is the difference.
#[derive(Debug, Default)]
pub(crate) struct Series {
    sum: Option<DumpStats>,
}

impl Series {
    /// Takes in what CRIU's file says after a request; returns what that request took.
    pub(crate) fn of_last(&mut self, sum: Option<DumpStats>) -> Option<DumpStats> {
        let sum = sum?;
        let last = match &self.sum {
            // A CRIU that begins anew each time would count less than before.
            Some(before) if before.pages_scanned <= sum.pages_scanned => sum.since(before),
            _ => sum.clone(),
        };
        self.sum = Some(sum);
        Some(last)
    }
}
