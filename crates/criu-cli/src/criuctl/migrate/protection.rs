//! How a migration over TCP is protected.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use criu_migrate::transport::tls::{Authority, Client, Error, Identity, Name, Server};
use criu_migrate::transport::{Bell, Stream, Transport, Wait};

use crate::criuctl::report::Problem;

/// What to do instead of plain TCP, besides what there always is.
pub(super) const REMEDY: &str = "TLS (--tls-cert, --tls-key and --tls-ca), ";
/// How long the other side may take for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// TLS, which both sides need then.
#[derive(Debug, clap::Args)]
#[group(id = "protection", multiple = true)]
#[command(next_help_heading = "TLS")]
pub(in crate::criuctl) struct ProtectionArguments {
    /// Certificate of this host in PEM, followed by those between it and the authority
    #[arg(long, value_name = "FILE", requires_all = ["tls_key", "tls_ca"], conflicts_with = "insecure")]
    tls_cert: Option<PathBuf>,
    /// Private key of this host in PEM, readable by its owner only
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Certificates in PEM of the authorities whose word for the other host counts
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_ca: Option<PathBuf>,
    /// Revocation lists in PEM: one of every authority between the other host's certificate and those of --tls-ca, in
    /// its time (can be repeated) [default: no certificate is taken for revoked]
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_crl: Vec<PathBuf>,
    /// Name in the certificate of the other host. Sending: the one name it has to have [default: the host connected
    /// to]. Receiving: names that may send (can be repeated) [default: all the authority vouches for]
    #[arg(long, value_name = "NAME", requires = "tls_cert")]
    tls_name: Vec<Name>,
}

impl ProtectionArguments {
    /// Whether TLS is wanted: TCP may leave the machine then.
    pub(super) fn is_tls(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// What a connection to `destination` (`HOST:PORT`) is secured with, if it is.
    pub(super) fn client(&self, destination: &str) -> Result<Option<Client>, Problem> {
        let Some((identity, authority)) = self.files()? else {
            return Ok(None);
        };
        let name = match self.tls_name.as_slice() {
            [] => host_of(destination)?,
            [name] => name.clone(),
            _ => {
                let text = "the destination has one name; give --tls-name once";
                return Err(Problem::Usage(text.to_owned()));
            }
        };
        let client = Client::new(&identity, &authority, name).map_err(refused)?;
        Ok(Some(client))
    }

    /// What connections from a source are secured with, if they are.
    pub(super) fn server(&self) -> Result<Option<Server>, Problem> {
        let Some((identity, authority)) = self.files()? else {
            return Ok(None);
        };
        let server = Server::new(&identity, &authority, &self.tls_name).map_err(refused)?;
        Ok(Some(server))
    }

    fn files(&self) -> Result<Option<(Identity, Authority)>, Problem> {
        let (Some(certificate), Some(key), Some(ca)) =
            (&self.tls_cert, &self.tls_key, &self.tls_ca)
        else {
            return Ok(None);
        };
        let identity = Identity::read(certificate, key).map_err(refused)?;
        let mut authority = Authority::read(ca).map_err(refused)?;
        for list in &self.tls_crl {
            authority = authority.revoked_by(list).map_err(refused)?;
        }
        Ok(Some((identity, authority)))
    }
}

/// Does the client's part of the handshake, if TLS is wanted.
pub(super) fn connected(
    stream: Stream,
    client: Option<&Client>,
    destination: &str,
) -> Result<Box<dyn Transport>, Problem> {
    let Some(client) = client else {
        return Ok(Box::new(stream));
    };
    let failed = Problem::io(format!("connect to {destination}"));
    let bell = Bell::new().map_err(Problem::io("watch a connection"))?;
    let wait = Wait::new(Instant::now().checked_add(HANDSHAKE), &bell);
    match client.secure(Box::new(stream), &wait) {
        Ok(secured) => Ok(Box::new(secured)),
        Err(error) => Err(failed(std::io::Error::other(error))),
    }
}

/// Does the server's part of the handshake, if TLS is wanted.
pub(super) fn accepted(
    stream: Stream,
    server: Option<&Server>,
) -> Result<Result<Box<dyn Transport>, Error>, Problem> {
    let Some(server) = server else {
        return Ok(Ok(Box::new(stream)));
    };
    let bell = Bell::new().map_err(Problem::io("watch a connection"))?;
    let wait = Wait::new(Instant::now().checked_add(HANDSHAKE), &bell);
    Ok(server
        .secure(Box::new(stream), &wait)
        .map(|secured| Box::new(secured) as Box<dyn Transport>))
}

/// The host of `HOST:PORT`, where that of an IPv6 address stands in brackets.
fn host_of(destination: &str) -> Result<Name, Problem> {
    let host = destination
        .rsplit_once(':')
        .map_or(destination, |(host, _)| host);
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    match inner.and_then(|host| host.parse::<IpAddr>().ok()) {
        Some(address) => Ok(address.into()),
        None => host.parse().map_err(refused),
    }
}

fn refused(error: Error) -> Problem {
    match error {
        error @ Error::Name(_) => Problem::Usage(format!("{error}; give one with --tls-name")),
        error => Problem::io("use TLS")(std::io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_destination_is_its_host() {
        let name = |text| host_of(text).map(|name| name.to_string());
        assert_eq!(name("there.example:7077").unwrap(), "there.example");
        assert_eq!(name("192.0.2.1:7077").unwrap(), "192.0.2.1");
        assert_eq!(name("[2001:db8::1]:7077").unwrap(), "2001:db8::1");
        assert!(matches!(name("not a name:7077"), Err(Problem::Usage(_))));
    }
}
