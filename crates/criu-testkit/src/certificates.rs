//! Certificates for TLS, in files.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

/// An authority that makes certificates for a test.
#[derive(Debug)]
pub struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Now.
    Now,
    /// Long ago.
    Past,
    /// Long after the test.
    Future,
}

/// Where a certificate and its key are, in PEM.
#[derive(Debug, Clone)]
pub struct CertificateFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key, for the owner only.
    pub key: PathBuf,
}

impl CertificateAuthority {
    /// An authority with a key unlike any other's. Its name need not be: one made anew often has the old one's.
    ///
    /// # Panics
    ///
    /// When no key can be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("the authority can sign");
        Self { issuer }
    }

    /// Writes the authority's own certificate to `directory/name`.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[track_caller]
    pub fn write(&self, directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, self.issuer.pem()).expect("the certificate can be written");
        path
    }

    /// Writes a list that revokes the certificates of these names to `directory/name`; `validity` is the list's own.
    ///
    /// # Panics
    ///
    /// When it cannot be made or written.
    #[track_caller]
    pub fn revoke(
        &self,
        directory: &Path,
        name: &str,
        certificates: &[&str],
        validity: Validity,
    ) -> PathBuf {
        let (this_update, next_update) = match validity {
            Validity::Now => (date_time_ymd(2001, 1, 1), date_time_ymd(3001, 1, 1)),
            Validity::Past => (date_time_ymd(2000, 1, 1), date_time_ymd(2001, 1, 1)),
            Validity::Future => (date_time_ymd(3001, 1, 1), date_time_ymd(3002, 1, 1)),
        };
        let revoked = |name: &&str| RevokedCertParams {
            serial_number: serial_of(name),
            revocation_time: this_update,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update,
            next_update,
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: certificates.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params
            .signed_by(&self.issuer)
            .expect("the authority can sign");
        let path = directory.join(name);
        fs::write(&path, list.pem().expect("a list has a form")).expect("the list can be written");
        path
    }

    /// Makes a certificate for hosts of these names, and writes `name.pem` and `name.key` into `directory`.
    ///
    /// # Panics
    ///
    /// When they cannot be made or written.
    #[track_caller]
    pub fn issue(
        &self,
        directory: &Path,
        name: &str,
        hosts: &[&str],
        validity: Validity,
    ) -> CertificateFiles {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(hosts).expect("the names are names");
        params.serial_number = Some(serial_of(name));
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        match validity {
            Validity::Now => {}
            Validity::Past => params.not_after = date_time_ymd(2001, 1, 1),
            Validity::Future => params.not_before = date_time_ymd(3001, 1, 1),
        }
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("the authority can sign");
        let files = CertificateFiles {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
        };
        fs::write(&files.certificate, certificate.pem()).expect("the certificate can be written");
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&files.key)
            .expect("the key can be created");
        file.write_all(key.serialize_pem().as_bytes())
            .expect("the key can be written");
        files
    }
}

/// The serial number of the certificate of that name.
fn serial_of(name: &str) -> SerialNumber {
    SerialNumber::from_slice(name.as_bytes())
}
