//! Receiving pages over the network.

use std::os::fd::OwnedFd;

use super::memory::Tls;
use super::prepared::Prepared;
use super::settings::{set_flag, text};
use super::{Directory, ImageIo, Settings};
use crate::error::Result;
use crate::operation::Operation;
use crate::rpc::{CriuOpts, CriuPageServerInfo, CriuReqType};

/// Starts a page server: it writes the pages a dump elsewhere sends into an images directory
/// (`criu page-server`).
#[derive(Debug)]
#[non_exhaustive]
pub struct PageServer {
    /// Where the pages are written.
    pub images: Directory,
    /// Address to listen on; every one if unset.
    pub address: Option<String>,
    /// TCP port to listen on; 0 lets the kernel choose, and the answer tells.
    pub port: u16,
    /// A connected socket to serve instead of listening. Worker mode only.
    pub socket: Option<OwnedFd>,
    /// Pages that a newer image has are removed from the older ones (`--auto-dedup`).
    pub auto_dedup: bool,
    /// TLS for the connection.
    pub tls: Option<Tls>,
    /// How the images are written (since CRIU 4.3).
    pub image_io: Option<ImageIo>,
    /// Settings of every operation.
    pub settings: Settings,
}

impl PageServer {
    /// Listens on every address, on a port of the kernel's choice, and writes into `images`.
    pub fn new(images: impl Into<Directory>) -> Self {
        Self {
            images: images.into(),
            address: None,
            port: 0,
            socket: None,
            auto_dedup: false,
            tls: None,
            image_io: None,
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
        Ok(self.prepare(CriuReqType::PageServer)?.opts)
    }

    pub(crate) fn prepare(&self, kind: CriuReqType) -> Result<Prepared<'_>> {
        let mut prepared = Prepared::new(Operation::PageServer, kind);
        self.settings.apply(&mut prepared, Some(&self.images))?;
        let mut server = CriuPageServerInfo {
            address: self.address.as_ref().map(text),
            port: Some(self.port.into()),
            ..CriuPageServerInfo::default()
        };
        if let Some(socket) = &self.socket {
            server.fd = Some(prepared.hand_over(socket, "a page server connection")?);
        }
        let opts = &mut prepared.opts;
        opts.ps = Some(Box::new(server));
        set_flag(&mut opts.auto_dedup, self.auto_dedup);
        if let Some(tls) = &self.tls {
            tls.apply(opts);
        }
        if let Some(mode) = self.image_io {
            opts.image_io_mode = Some(mode.message());
        }
        Ok(prepared)
    }
}
