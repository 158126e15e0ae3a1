//! What the fuzzers do with bytes from CRIU: replies and logs.
//!
//! Each function takes any bytes and must come back: no panic, no hang, no memory beyond what the
//! bytes account for. The fuzz targets only call these; so do the tests, with damaged input.

use criu_image::wire::slot::OpenEnum;

use crate::diagnose::{Verdict, diagnose};
use crate::exchange::{Exchange, Step};
use crate::log::{Limits, Log};
use crate::request::External;
use crate::rpc::CriuReqType;
use crate::transport::Packet;

/// Takes bytes for what CRIU sends after a request, and answers every notification.
///
/// The first byte is the request's type; then come packets, each with its length in two bytes,
/// little endian.
///
/// # Panics
///
/// Panics when a refusal is not kept.
pub fn rpc_reply(bytes: &[u8]) {
    let Some((&kind, mut bytes)) = bytes.split_first() else {
        return;
    };
    let mut exchange = Exchange::new(CriuReqType::from_number(kind.into()));
    let mut refused = false;
    while let Some((len, rest)) = bytes.split_first_chunk() {
        let (packet, rest) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
        bytes = rest;
        match exchange.step(Packet {
            bytes: packet.to_vec(),
            descriptors: Vec::new(),
        }) {
            Step::Answer(response) => {
                drop(format!("{response:?}"));
                break;
            }
            Step::Nonsense(_) => break,
            Step::Notify(mut notification) => {
                let mut external = vec![External::UnixSocket { inode: 1 }];
                drop(format!("{:?}", notification.event(&mut external)));
                let result = if packet.len() % 2 == 0 {
                    Ok(())
                } else {
                    refused = true;
                    Err("refused".into())
                };
                drop(exchange.reply(notification, result, &external));
            }
        }
    }
    assert_eq!(exchange.take_refusal().is_some(), refused);
}

/// Takes bytes for a log, whole and in pieces, and explains it.
///
/// # Panics
///
/// Panics when a log read in pieces is another than the whole, or the root of a failure is no line
/// of it.
pub fn log_diagnose(bytes: &[u8]) {
    let log = Log::parse(bytes);
    let mut pieces = Pieces(bytes);
    let read = Log::read(&mut pieces, Limits::default()).expect("memory can be read");
    assert_eq!(log.entries(), read.entries(), "read in pieces");
    assert_eq!(log.line_count(), read.line_count(), "read in pieces");
    let verdict = diagnose(&log);
    drop(verdict.to_string());
    if let Verdict::Failure(diagnosis) = verdict {
        assert!(
            log.entries().contains(&diagnosis.root),
            "the root stands in the log"
        );
    }
}

/// Gives a slice out a few bytes at a time.
struct Pieces<'a>(&'a [u8]);

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let wanted = out.len().min(1 + self.0.len() % 61);
        std::io::Read::read(&mut self.0, out.get_mut(..wanted).unwrap_or_default())
    }
}
