//! Mutual TLS over another transport.
//!
//! [`Client`] and [`Server`] turn a [`Transport`] into a [`Secured`] one. Both ends show a certificate, both
//! check the other's: signed by a certificate of the [`Authority`], in its time, and with an acceptable name
//! among its subject alternative names. TLS 1.3 only.
//!
//! ```no_run
//! use std::time::{Duration, Instant};
//! use criu_migrate::transport::{Bell, Stream, Wait, tls};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let identity = tls::Identity::read("here.pem", "here.key")?;
//! let authority = tls::Authority::read("ca.pem")?;
//! let client = tls::Client::new(&identity, &authority, "there.example".parse()?)?;
//! let stream = Stream::connect("there.example:7077", Duration::from_secs(10))?;
//! let bell = Bell::new()?;
//! let deadline = Instant::now() + Duration::from_secs(10);
//! let secured = client.secure(Box::new(stream), &Wait::new(Some(deadline), &bell))?;
//! # Ok(()) }
//! ```
//!
//! With TLS 1.3 the client is done before the server has looked at its certificate: that the server refuses
//! it shows when the client first receives, as an [`std::io::Error`] with an [`Error::Refused`] inside.

mod handshake;
mod identity;
mod problem;
mod records;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, DistinguishedName,
    ServerConfig, ServerConnection, SignatureScheme,
};

pub use self::identity::{Authority, Identity};
pub use self::problem::{Distrust, Error};
pub use self::records::Secured;
use super::{Transport, Wait};

/// What both ends call the protocol inside, so that a certificate meant for this is of no use to reach
/// another service of the same host, or the other way round.
const PROTOCOL: &[u8] = b"criu-migrate";

/// The arithmetic, chosen here once and not by whoever set a default for the process first.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The name of a host in its certificate: a DNS name or an IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(ServerName<'static>);

impl FromStr for Name {
    type Err = Error;

    /// Reads a DNS name or an IP address.
    ///
    /// # Errors
    ///
    /// [`Error::Name`].
    fn from_str(text: &str) -> Result<Self, Error> {
        match ServerName::try_from(text) {
            Ok(name) => Ok(Self(name.to_owned())),
            Err(_) => Err(Error::Name(text.to_owned())),
        }
    }
}

impl From<IpAddr> for Name {
    fn from(address: IpAddr) -> Self {
        Self(ServerName::IpAddress(address.into()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_str())
    }
}

/// The end that connects.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: Name,
}

impl Client {
    /// A client that is `identity` and talks to nobody but `name`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfTime`], [`Error::Setup`].
    pub fn new(identity: &Identity, authority: &Authority, name: Name) -> Result<Self, Error> {
        identity.check_time(authority)?;
        let verifier: Arc<dyn ServerCertVerifier> =
            WebPkiServerVerifier::builder_with_provider(authority.roots(), provider())
                .with_crls(authority.revocations())
                .enforce_revocation_expiration()
                .build()
                .map_err(Error::setup)?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Error::setup)?
            .dangerous() // only in that it takes a verifier; this is the usual one
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(identity.resolver());
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self {
            config: Arc::new(config),
            name,
        })
    }

    /// Makes `transport` secure. `wait` is for the whole handshake, however slowly the peer does its part.
    ///
    /// # Errors
    ///
    /// [`Error::PeerCertificate`] when the server is not who it should be, and those of the handshake.
    pub fn secure(&self, transport: Box<dyn Transport>, wait: &Wait<'_>) -> Result<Secured, Error> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.0.clone())
            .map_err(Error::setup)?;
        let (ends, _) = handshake::shake_hands(connection.into(), transport, wait)?;
        Ok(ends.known_as(Some(&self.name)))
    }
}

/// The end that is connected to.
#[derive(Debug, Clone)]
pub struct Server {
    config: Arc<ServerConfig>,
    names: Vec<Name>,
}

impl Server {
    /// A server that is `identity` and lets in whom `authority` vouches for: anyone if `names` is empty,
    /// else who has one of them in its certificate.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfTime`], [`Error::Setup`].
    pub fn new(identity: &Identity, authority: &Authority, names: &[Name]) -> Result<Self, Error> {
        identity.check_time(authority)?;
        let verifier = NamedClients {
            authority: authority.client_verifier()?,
            names: names.to_vec(),
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(Error::setup)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_cert_resolver(identity.resolver());
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // Nobody comes back for a second migration within one session.
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            names: names.to_vec(),
        })
    }

    /// Makes `transport` secure. `wait` is for the whole handshake, however slowly the peer does its part.
    ///
    /// # Errors
    ///
    /// [`Error::PeerCertificate`] and [`Error::Anonymous`] when the client may not come in, and those of the
    /// handshake.
    pub fn secure(&self, transport: Box<dyn Transport>, wait: &Wait<'_>) -> Result<Secured, Error> {
        let connection = ServerConnection::new(Arc::clone(&self.config)).map_err(Error::setup)?;
        let (ends, certificate) = handshake::shake_hands(connection.into(), transport, wait)
            .map_err(|error| error.expecting(&self.names))?;
        let name = certificate.and_then(|certificate| {
            let found = self.names.iter().find(|name| has_name(&certificate, name));
            found.cloned()
        });
        Ok(ends.known_as(name.as_ref()))
    }
}

fn has_name(certificate: &CertificateDer<'_>, name: &Name) -> bool {
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|certificate| verify_server_name(&certificate, &name.0).is_ok())
}

/// Lets in clients that the authority vouches for, under one of some names.
#[derive(Debug)]
struct NamedClients {
    authority: Arc<dyn ClientCertVerifier>,
    names: Vec<Name>,
}

impl ClientCertVerifier for NamedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authority.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // Nothing in a certificate counts before it is known who signed it.
        let verified = self
            .authority
            .verify_client_cert(end_entity, intermediates, now)?;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let mut failure = None;
        for name in &self.names {
            match verify_server_name(&certificate, &name.0) {
                Ok(()) => return Ok(verified),
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            None => Ok(verified),
            Some(error) => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        // Not spoken.
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.authority
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authority.supported_verify_schemes()
    }
}

impl Authority {
    fn client_verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        WebPkiClientVerifier::builder_with_provider(self.roots(), provider())
            .with_crls(self.revocations())
            .enforce_revocation_expiration()
            .build()
            .map_err(Error::setup)
    }
}
