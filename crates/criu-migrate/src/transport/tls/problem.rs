//! Why there is no TLS.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rustls::{AlertDescription, CertificateError};

use super::Name;

/// Why TLS cannot be set up, or why the peer and this side do not trust each other.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// A file is longer than files of certificates or keys are.
    #[error("{} has more than {limit_bytes} bytes; give a file of certificates or a key", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most it may have.
        limit_bytes: u64,
    },

    /// A file is damaged.
    #[error("{} is damaged: {problem}; copy it again, or make it anew", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// How.
        problem: &'static str,
    },

    /// There is no certificate in the file.
    #[error(
        "{} has no certificate; one in PEM begins with `-----BEGIN CERTIFICATE-----` \
         (from DER: `openssl x509 -inform der`)", .0.display()
    )]
    NoCertificate(PathBuf),

    /// There is no private key in the file.
    #[error(
        "{} has no private key; one in PEM begins with `-----BEGIN PRIVATE KEY-----` \
         (from DER: `openssl pkey -inform der`)", .0.display()
    )]
    NoKey(PathBuf),

    /// The private key is encrypted, and nobody is there to ask for its passphrase.
    #[error(
        "the key in {} is encrypted; give one decrypted with `umask 077; openssl pkey -in ENCRYPTED -out FILE`",
        .0.display()
    )]
    EncryptedKey(PathBuf),

    /// Others have access to the private key.
    #[error(
        "others than its owner have access to the private key {} (mode {mode:04o}), and who has the key can take \
         this host's place; `chmod 600` it, and make the key anew if it may have been read", .path.display()
    )]
    OpenKey {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },

    /// The private key is of no use.
    #[error("the key in {} cannot be used; ECDSA over P-256 or P-384, Ed25519, and RSA can", .path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// A certificate is of no use.
    #[error("a certificate in {} cannot be used", .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// There is no revocation list in the file.
    #[error(
        "{} has no revocation list; one in PEM begins with `-----BEGIN X509 CRL-----` \
         (from DER: `openssl crl -inform der`)", .0.display()
    )]
    NoRevocations(PathBuf),

    /// A revocation list is of no use.
    #[error("a revocation list in {} cannot be used", .path.display())]
    Revocations {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// Key and certificate do not belong together.
    #[error(
        "the key in {} is not that of the first certificate in {}; give the key the certificate was made for, and \
         put the host's own certificate before those of authorities", .key.display(), .certificate.display()
    )]
    KeyMismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },

    /// Our own certificate is not in its time.
    #[error("the certificate in {} {distrust}", .path.display())]
    OutOfTime {
        /// The file.
        path: PathBuf,
        /// [`Distrust::Expired`] or [`Distrust::NotYetValid`].
        distrust: Distrust,
    },

    /// What should be a name is none.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),

    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Setup {
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },

    /// The connection failed in the handshake.
    #[error("the connection failed in the TLS handshake")]
    Connection {
        /// Why.
        source: io::Error,
    },

    /// The peer did not do its part of the handshake in time.
    #[error("the peer did not get done with the TLS handshake in time")]
    TooSlow,

    /// The peer closed the connection in the handshake.
    #[error("the peer closed the connection in the TLS handshake; look at what it reported")]
    Closed,

    /// The peer does not speak TLS.
    #[error("the peer does not speak TLS; give certificates on both sides, or on neither")]
    NotTls,

    /// The peer's certificate does not show that it is who it should be.
    #[error("the peer's certificate {0}")]
    PeerCertificate(Distrust),

    /// The client has shown no certificate.
    #[error("the peer has shown no certificate; both sides need one")]
    Anonymous,

    /// The peer does not accept our certificate, or what we speak.
    #[error("the peer breaks off the TLS connection: {0}")]
    Refused(Refusal),

    /// The peer's TLS is not ours, or broken.
    #[error("no TLS with the peer")]
    Protocol {
        /// What is wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a certificate is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Distrust {
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// None of the authority's certificates has signed it.
    UnknownAuthority,
    /// It is somebody else's.
    Name {
        /// Names it could have had; one would have done.
        expected: Vec<String>,
        /// The names it has.
        presented: Vec<String>,
    },
    /// It is for something else than its end of a connection.
    Purpose,
    /// The authority has revoked it.
    Revoked,
    /// Revocation lists are given, and none of the authority that signed it.
    NoRevocationList,
    /// The authority's revocation list is out of its time.
    OldRevocationList,
    /// Something else.
    Other(String),
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("has expired; renew it, or set this host's clock"),
            Self::NotYetValid => f.write_str("is not valid yet; set this host's clock"),
            Self::UnknownAuthority => f.write_str(
                "is not signed by the authority given here; both sides need certificates of it, with those between \
                 in the same file",
            ),
            Self::Name {
                expected,
                presented,
            } => {
                let presented = match presented.as_slice() {
                    [] => "no subject alternative name".to_owned(),
                    names => names.join(", "),
                };
                write!(f, "is for {presented}, not for {}", expected.join(" or "))?;
                f.write_str("; give the name it has with --tls-name, or make one for this name")
            }
            Self::Purpose => f.write_str(
                "is not meant for this end of a connection; its extended key usage has to have both serverAuth and \
                 clientAuth",
            ),
            Self::Revoked => f.write_str("was revoked by the authority; that host needs a new one"),
            Self::NoRevocationList => f.write_str(
                "is in none of the revocation lists' reach; give one of every authority that signed it or those between",
            ),
            Self::OldRevocationList => f.write_str(
                "cannot be looked up: the authority's revocation list is out of its time; get a new one",
            ),
            Self::Other(problem) => write!(f, "cannot be trusted: {problem}"),
        }
    }
}

impl From<CertificateError> for Distrust {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            // The latter: by an authority of the same name, but another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::UnknownAuthority
            }
            CertificateError::NotValidForNameContext {
                expected,
                presented,
            } => Self::Name {
                expected: vec![expected.to_str().into_owned()],
                presented: presented.iter().map(|name| plain(name)).collect(),
            },
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::Purpose
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownRevocationStatus => Self::NoRevocationList,
            CertificateError::ExpiredRevocationList
            | CertificateError::ExpiredRevocationListContext { .. } => Self::OldRevocationList,
            error => Self::Other(error.to_string()),
        }
    }
}

/// A subject alternative name as it is written, from how the verifier shows it: `DnsName("there")`.
fn plain(shown: &str) -> String {
    let inner = shown
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(shown).trim_matches('"').to_owned()
}

/// The last word of a peer that breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(AlertDescription);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            AlertDescription::UnknownCA | AlertDescription::DecryptError => {
                "our certificate is not of an authority it knows; both sides need certificates of one authority"
            }
            AlertDescription::CertificateExpired => {
                "to it our certificate is out of its time; renew it, or set the clocks"
            }
            AlertDescription::CertificateRevoked => {
                "our certificate was revoked; this host needs a new one"
            }
            AlertDescription::CertificateRequired => "it wants a certificate of ours",
            AlertDescription::BadCertificate => {
                "our certificate has none of the names it lets in; look at what it reported"
            }
            AlertDescription::UnsupportedCertificate => {
                "our certificate is not meant for this end of a connection; its extended key usage has to have both \
                 serverAuth and clientAuth"
            }
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::NoApplicationProtocol => {
                "it is no migration's end, or its TLS has nothing in common with ours (TLS 1.3)"
            }
            other => return write!(f, "{other:?}; look at what it reported"),
        })
    }
}

impl Error {
    pub(super) fn setup(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Setup {
            source: Box::new(source),
        }
    }

    /// Names all names that would have done.
    pub(super) fn expecting(mut self, names: &[Name]) -> Self {
        if let Self::PeerCertificate(Distrust::Name { expected, .. }) = &mut self {
            *expected = names.iter().map(ToString::to_string).collect();
        }
        self
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => Self::PeerCertificate(error.into()),
            rustls::Error::NoCertificatesPresented => Self::Anonymous,
            rustls::Error::AlertReceived(alert) => Self::Refused(Refusal(alert)),
            error => Self::Protocol {
                source: Box::new(error),
            },
        }
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::TimedOut => Self::TooSlow,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Connection { source },
        }
    }
}
