//! Certificates and keys in files.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore};

use super::provider;
use crate::transport::tls::problem::{Distrust, Error};

/// Longest file of certificates or keys that is read, in bytes: a bundle of every public authority has a
/// quarter of that.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Who this host is: a certificate, those between it and the authority, and its private key.
#[derive(Clone)]
pub struct Identity {
    certificate: PathBuf,
    key: Arc<CertifiedKey>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads PEM files: the host's own certificate first, then those of intermediate authorities; and its
    /// key, which nobody but the owner of the file may have access to.
    ///
    /// # Errors
    ///
    /// Those that name a file.
    pub fn read(certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, Error> {
        let (certificate, key) = (certificate.as_ref(), key.as_ref());
        let chain = certificates(certificate)?;
        let private = private_key(key)?;
        let certified = CertifiedKey::from_der(chain, private, &provider());
        let certified = certified.map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Error::KeyMismatch {
                certificate: certificate.to_owned(),
                key: key.to_owned(),
            },
            rustls::Error::InvalidCertificate(_) => Error::Certificate {
                path: certificate.to_owned(),
                source: error.into(),
            },
            error => Error::Key {
                path: key.to_owned(),
                source: error.into(),
            },
        })?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: Arc::new(certified),
        })
    }

    pub(super) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::new(Arc::clone(&self.key).into())
    }

    /// Finds out whether the certificate is in its time: better now, with the name of the file, than from
    /// the peer's refusal. Who signed it is the peer's to judge, whose authorities may be others than ours.
    pub(super) fn check_time(&self, authority: &Authority) -> Result<(), Error> {
        let [own, intermediates @ ..] = self.key.cert.as_slice() else {
            return Ok(());
        };
        let verifier = authority.client_verifier()?;
        match verifier.verify_client_cert(own, intermediates, UnixTime::now()) {
            Err(rustls::Error::InvalidCertificate(error)) => match Distrust::from(error) {
                distrust @ (Distrust::Expired | Distrust::NotYetValid) => Err(Error::OutOfTime {
                    path: self.certificate.clone(),
                    distrust,
                }),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

/// Whose signature under a certificate counts, and which certificates count no more.
#[derive(Debug, Clone)]
pub struct Authority {
    roots: Arc<RootCertStore>,
    revocations: Vec<CertificateRevocationListDer<'static>>,
}

impl Authority {
    /// Reads a PEM file with one or more certificates.
    ///
    /// # Errors
    ///
    /// Those that name a file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut roots = RootCertStore::empty();
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| Error::Certificate {
                path: path.to_owned(),
                source: error.into(),
            })?;
        }
        Ok(Self {
            roots: Arc::new(roots),
            revocations: Vec::new(),
        })
    }

    /// Adds the revocation lists of a PEM file. With any, there has to be one of every authority between a peer's
    /// certificate and those trusted, and in its time: what none of them speaks of is not trusted.
    ///
    /// # Errors
    ///
    /// Those that name a file.
    pub fn revoked_by(mut self, path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = File::open(path).map_err(reading(path))?;
        let bytes = contents(path, file)?;
        let found: Result<Vec<_>, _> =
            CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
        let found = found.map_err(|error| malformed(path, &error))?;
        if found.is_empty() {
            return Err(Error::NoRevocations(path.to_owned()));
        }
        self.revocations.extend(found);
        match self.client_verifier() {
            Ok(_) => Ok(self),
            Err(error) => Err(Error::Revocations {
                path: path.to_owned(),
                source: Box::new(error),
            }),
        }
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots)
    }

    pub(super) fn revocations(&self) -> Vec<CertificateRevocationListDer<'static>> {
        self.revocations.clone()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let file = File::open(path).map_err(reading(path))?;
    let bytes = contents(path, file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| malformed(path, &error))?;
    if found.is_empty() {
        return Err(Error::NoCertificate(path.to_owned()));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let file = File::open(path).map_err(reading(path))?;
    // Of the file that is open, not of what has its name by now.
    let mode = file.metadata().map_err(reading(path))?.mode() & 0o7777;
    // No mere warning: who has the key can run anything as root wherever this host may send trees to.
    if mode & 0o077 != 0 {
        return Err(Error::OpenKey {
            path: path.to_owned(),
            mode,
        });
    }
    let bytes = contents(path, file)?;
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Ok(key),
        Err(rustls::pki_types::pem::Error::NoItemsFound) => {
            let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
            let path = path.to_owned();
            Err(
                match bytes
                    .windows(encrypted.len())
                    .any(|window| window == encrypted)
                {
                    true => Error::EncryptedKey(path),
                    false => Error::NoKey(path),
                },
            )
        }
        Err(error) => Err(malformed(path, &error)),
    }
}

fn contents(path: &Path, file: File) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(reading(path))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::TooLong {
            path: path.to_owned(),
            limit_bytes: FILE_BYTES_MAX,
        });
    }
    Ok(bytes)
}

fn reading(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Read {
        path: path.to_owned(),
        source,
    }
}

/// Says where PEM is broken without a byte of what may be a key.
fn malformed(path: &Path, error: &rustls::pki_types::pem::Error) -> Error {
    use rustls::pki_types::pem::Error as Pem;
    let problem = match error {
        Pem::MissingSectionEnd { .. } => "a section has no END line",
        Pem::IllegalSectionStart { .. } => "a BEGIN line is malformed",
        Pem::Base64Decode(_) => "a section is not base64",
        _ => "it is not PEM",
    };
    Error::Malformed {
        path: path.to_owned(),
        problem,
    }
}
