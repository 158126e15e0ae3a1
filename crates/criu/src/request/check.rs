//! Asking whether CRIU can work here.

use super::prepared::Prepared;
use super::{Directory, Settings};
use crate::error::Result;
use crate::operation::Operation;
use crate::rpc::{CriuOpts, CriuReqType};

/// Checks that the kernel has what CRIU needs (`criu check`).
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Check {
    /// Where the log goes; without it nothing is logged and CRIU reads no other setting.
    pub log_dir: Option<Directory>,
    /// Settings of every operation.
    pub settings: Settings,
}

impl Check {
    /// Builds the message of this request, as it would be sent.
    ///
    /// For inspection: the descriptors it names were opened for it and are closed again.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Directory`] and [`crate::Error::Misuse`], as the request itself.
    pub fn message(&self) -> Result<CriuOpts> {
        Ok(self.prepare()?.opts)
    }

    pub(crate) fn prepare(&self) -> Result<Prepared<'_>> {
        let mut prepared = Prepared::new(Operation::Check, CriuReqType::Check);
        self.settings.apply(&mut prepared, self.log_dir.as_ref())?;
        if self.log_dir.is_none() && self.settings.work_dir.is_none() {
            // CRIU sets up a log only for a file it is told of, and needs a directory for it.
            prepared.opts.log_file = None;
            prepared.log = super::LogPlace::Nowhere;
        }
        Ok(prepared)
    }
}
