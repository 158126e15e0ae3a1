//! Where memory pages go and come from, and in which form.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::prepared::Prepared;
use super::settings::{set, set_flag, text};
use crate::error::{Error, Result};
use crate::rpc::{CriuImageIoMode, CriuOpts, CriuPageServerInfo};

/// Where the pages of a dump go.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Pages {
    /// Into the images directory.
    #[default]
    Images,
    /// To a page server.
    Server {
        /// Host name or address.
        address: String,
        /// TCP port.
        port: u16,
    },
    /// To a page server over a connection that exists already. Worker mode only.
    Socket(OwnedFd),
    /// They stay in the frozen tasks, and CRIU serves them to one `criu lazy-pages` that connects
    /// (`--lazy-pages`). [`crate::Event::StatusReady`] tells that it may.
    Lazy {
        /// TCP port to listen on; 0 lets the kernel choose.
        port: u16,
    },
    /// As [`Pages::Lazy`], but they are served over a connection that exists already, and nobody else can have
    /// them. Worker mode only.
    ///
    /// CRIU ends the connection's service without complaint when the peer closes it, fetched or not.
    LazySocket(OwnedFd),
}

impl Pages {
    pub(super) fn apply<'a>(&'a self, prepared: &mut Prepared<'a>) -> Result<()> {
        let server = match self {
            Self::Images => return Ok(()),
            Self::Server { address, port } => CriuPageServerInfo {
                address: Some(text(address)),
                port: Some((*port).into()),
                ..CriuPageServerInfo::default()
            },
            Self::Socket(fd) => CriuPageServerInfo {
                port: Some(0),
                fd: Some(prepared.hand_over(fd, "a page server connection")?),
                ..CriuPageServerInfo::default()
            },
            Self::Lazy { port } => {
                prepared.opts.lazy_pages = Some(true);
                CriuPageServerInfo {
                    port: Some((*port).into()),
                    ..CriuPageServerInfo::default()
                }
            }
            Self::LazySocket(fd) => {
                let number = prepared.hand_over(fd, "a connection for lazy pages")?;
                prepared.opts.lazy_pages = Some(true);
                // In a request CRIU takes the descriptor only of a dump that is not lazy.
                return prepared.configure(&format!("ps-socket {number}\n"));
            }
        };
        prepared.opts.ps = Some(Box::new(server));
        Ok(())
    }
}

/// TLS for the connection to or of a page server (`--tls`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tls {
    /// Certificates of the authorities trusted; CRIU's default place if unset.
    pub ca_cert: Option<PathBuf>,
    /// Revocation list.
    pub ca_crl: Option<PathBuf>,
    /// Our own certificate; a server demands one of its client as well.
    pub cert: Option<PathBuf>,
    /// Key of our certificate.
    pub key: Option<PathBuf>,
    /// The name in the peer's certificate need not be the address connected to
    /// (`--tls-no-cn-verify`).
    pub accept_any_name: bool,
}

impl Tls {
    pub(super) fn apply(&self, opts: &mut CriuOpts) {
        opts.tls = Some(true);
        set(&mut opts.tls_cacert, self.ca_cert.as_ref().map(text));
        set(&mut opts.tls_cacrl, self.ca_crl.as_ref().map(text));
        set(&mut opts.tls_cert, self.cert.as_ref().map(text));
        set(&mut opts.tls_key, self.key.as_ref().map(text));
        set_flag(&mut opts.tls_no_cn_verify, self.accept_any_name);
    }
}

/// Compression of memory pages (`--compress`, since CRIU 4.3, and only in builds with LZ4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Compression {
    /// LZ4 acceleration, 1 to 65537: higher is faster and larger.
    pub acceleration: Option<u32>,
    /// Bytes compressed at a time: a multiple of the page size, at most 4 MiB.
    pub block_size_bytes: Option<u32>,
}

impl Compression {
    /// Highest acceleration LZ4 takes.
    pub const ACCELERATION_MAX: u32 = 65_537;
    /// Largest block CRIU takes.
    pub const BLOCK_SIZE_BYTES_MAX: u32 = 4 << 20;

    pub(super) fn apply(&self, opts: &mut CriuOpts) -> Result<()> {
        if self
            .acceleration
            .is_some_and(|value| !(1..=Self::ACCELERATION_MAX).contains(&value))
        {
            return Err(Error::Misuse {
                problem: "compression acceleration is not in 1..=65537",
            });
        }
        let too_large = |bytes: u32| bytes == 0 || bytes > Self::BLOCK_SIZE_BYTES_MAX;
        if self.block_size_bytes.is_some_and(too_large) {
            return Err(Error::Misuse {
                problem: "compression block size is not in 1..=4 MiB",
            });
        }
        opts.compress = Some(1);
        set(&mut opts.compress_acceleration, self.acceleration);
        set(&mut opts.compress_block_size, self.block_size_bytes);
        Ok(())
    }
}

/// How image files are written and read (`--image-io-mode`, since CRIU 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ImageIo {
    /// Through the page cache.
    Writeback,
    /// Past the page cache (`O_DIRECT`).
    Direct,
}

impl ImageIo {
    pub(super) const fn message(self) -> CriuImageIoMode {
        match self {
            Self::Writeback => CriuImageIoMode::ImageIoWriteback,
            Self::Direct => CriuImageIoMode::ImageIoDirect,
        }
    }
}
