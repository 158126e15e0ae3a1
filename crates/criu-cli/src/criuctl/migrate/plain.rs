//! In place of `protection` where TLS is left out of the build.

use std::convert::Infallible;

use criu_migrate::transport::{Stream, Transport};

use crate::criuctl::report::Problem;

/// What to do instead of plain TCP, besides what there always is.
pub(super) const REMEDY: &str = "";

/// No TLS.
#[derive(Debug, clap::Args)]
#[group(id = "protection")]
pub(in crate::criuctl) struct ProtectionArguments {}

#[expect(
    clippy::unused_self,
    clippy::unnecessary_wraps,
    reason = "the signatures are those of `protection`"
)]
impl ProtectionArguments {
    pub(super) fn is_tls(&self) -> bool {
        false
    }

    pub(super) fn client(&self, _destination: &str) -> Result<Option<Infallible>, Problem> {
        Ok(None)
    }

    pub(super) fn server(&self) -> Result<Option<Infallible>, Problem> {
        Ok(None)
    }
}

pub(super) fn connected(
    stream: Stream,
    _client: Option<&Infallible>,
    _destination: &str,
) -> Result<Box<dyn Transport>, Problem> {
    Ok(Box::new(stream))
}

pub(super) fn accepted(
    stream: Stream,
    _server: Option<&Infallible>,
) -> Result<Result<Box<dyn Transport>, Infallible>, Problem> {
    Ok(Ok(Box::new(stream)))
}
