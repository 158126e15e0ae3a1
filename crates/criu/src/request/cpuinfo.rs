//! Processor features of an images directory.

use super::prepared::Prepared;
use super::{Directory, Settings};
use crate::error::Result;
use crate::operation::Operation;
use crate::rpc::{CriuOpts, CriuReqType};

/// Records this machine's processor features in an images directory, or compares recorded ones with it
/// (`criu cpuinfo dump`, `criu cpuinfo check`).
#[derive(Debug)]
#[non_exhaustive]
pub struct CpuInfo {
    /// Where `cpuinfo.img` is.
    pub images: Directory,
    /// Settings of every operation.
    pub settings: Settings,
}

impl CpuInfo {
    /// Works on `images`.
    pub fn new(images: impl Into<Directory>) -> Self {
        Self {
            images: images.into(),
            settings: Settings::default(),
        }
    }

    /// Builds the message of this request, as it would be sent.
    ///
    /// For inspection: the descriptors it names were opened for it and are closed again.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Directory`] and [`crate::Error::Misuse`], as the request itself.
    pub fn message(&self) -> Result<CriuOpts> {
        Ok(self.prepare(Operation::CpuInfoDump)?.opts)
    }

    pub(crate) fn prepare(&self, operation: Operation) -> Result<Prepared<'_>> {
        let kind = match operation {
            Operation::CpuInfoCheck => CriuReqType::CpuinfoCheck,
            _ => CriuReqType::CpuinfoDump,
        };
        let mut prepared = Prepared::new(operation, kind);
        self.settings.apply(&mut prepared, Some(&self.images))?;
        Ok(prepared)
    }
}
