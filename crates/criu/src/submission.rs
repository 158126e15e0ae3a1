//! From a prepared request to the message that is sent, and whether it may be.

use std::os::fd::OwnedFd;

use crate::error::{Error, Result};
use crate::failure::Witness;
use crate::link::{After, Link, Readiness};
use crate::operation::Operation;
use crate::request::{Prepared, newest_option};
use crate::rpc::{CriuReq, CriuReqType, CriuResp};
use crate::version::Version;

/// The oldest CRIU spoken to: the first whose worker can tell its version.
pub const OLDEST_SUPPORTED: Version = Version::new(3, 0, 0);

/// A request ready to be sent, apart from the connection it goes over.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) request: CriuReq,
    pub(crate) witness: Witness,
    /// Descriptors to keep open until the answer.
    pub(crate) held: Vec<OwnedFd>,
}

impl Submission {
    pub(crate) fn new(prepared: Prepared<'_>, after: After, notified: bool) -> Self {
        let Prepared {
            operation,
            kind,
            mut opts,
            log,
            target,
            held,
            ..
        } = prepared;
        if notified {
            opts.notify_scripts = Some(true);
        }
        // A pre-dump keeps the connection by itself, and CRIU refuses the flag there.
        let keep_open = after == After::Continues && kind != CriuReqType::PreDump;
        let request = CriuReq {
            r#type: kind,
            opts: Some(Box::new(opts)),
            keep_open: keep_open.then_some(true),
            ..CriuReq::default()
        };
        Self {
            request,
            witness: Witness::new(operation, log, target),
            held,
        }
    }
}

pub(crate) fn question(kind: CriuReqType) -> CriuReq {
    CriuReq {
        r#type: kind,
        keep_open: Some(true),
        ..CriuReq::default()
    }
}

/// Refuses a request that this caller or connection cannot make.
pub(crate) fn admit(prepared: &Prepared<'_>, link: &Link) -> Result<()> {
    let Some(readiness) = &link.readiness else {
        return match prepared.worker_only {
            Some(option) => Err(Error::NeedsWorker { option }),
            None => Ok(()),
        };
    };
    let needs_root = !matches!(
        prepared.operation,
        Operation::CpuInfoDump | Operation::CpuInfoCheck
    );
    let unprivileged = prepared.opts.unprivileged == Some(true);
    if needs_root && !unprivileged && !rustix::process::geteuid().is_root() {
        return Err(Error::NotPrivileged {
            operation: prepared.operation,
        });
    }
    if *readiness != Readiness::of(prepared) {
        let problem = "this request needs a worker started for it: use the method of `Criu`, \
                       not that of a session";
        return Err(Error::Misuse { problem });
    }
    Ok(())
}

/// Returns what of a request needs a CRIU newer than the oldest one spoken to.
pub(crate) fn newest_need(prepared: &Prepared<'_>) -> Option<(String, Version)> {
    let kind = match prepared.kind {
        CriuReqType::SinglePreDump => {
            Some(("a single pre-dump".to_owned(), Version::new(3, 17, 0)))
        }
        CriuReqType::PageServerChld => {
            Some(("a page server as a child".to_owned(), Version::new(3, 7, 0)))
        }
        _ => None,
    };
    let option = newest_option(&prepared.opts).map(|newest| {
        (
            format!("the option {}", newest.option),
            newest.since.clone(),
        )
    });
    [kind, option]
        .into_iter()
        .flatten()
        .max_by_key(|(_, since)| since.as_integer())
        .filter(|(_, since)| *since > OLDEST_SUPPORTED)
}

pub(crate) fn too_old(found: &Version, feature: String, needed: Version) -> Result<()> {
    if found.satisfies(&needed) {
        Ok(())
    } else {
        Err(Error::TooOld {
            feature,
            needed: Box::new(needed),
            found: Some(Box::new(found.clone())),
        })
    }
}

/// Reads the answer to the question for the version, which CRIU knows since 3.0.
pub(crate) fn told_version(answer: Result<Box<CriuResp>>) -> Result<Version> {
    match answer {
        Ok(answer) => Ok(Version::from_rpc(&answer.version.unwrap_or_default())),
        // Nothing can go wrong in answering it: who refuses does not know the question.
        Err(Error::Refused(_)) => Err(Error::TooOld {
            feature: "telling its version".to_owned(),
            needed: Box::new(OLDEST_SUPPORTED),
            found: None,
        }),
        Err(error) => Err(error),
    }
}
