//! Asking: this host, or another over a connection.

use std::path::Path;

use criu::{Criu, Restore};

use super::check::Check;
use super::compare::compare;
use super::facts::Facts;
use super::finding::Report;
use super::here::Here;
use crate::connection::Connection;
use crate::conversation::Party;
use crate::error::{Error, Result};
use crate::host;
use crate::message::{Host, Message, Offer};
use crate::timing::Timing;
use crate::transport::Transport;
use crate::watch::{Happening, Watch};

/// Compares what trees need with what this host has.
///
/// ```no_run
/// use criu::{Criu, Restore};
/// use criu_image::Checkpoint;
/// use criu_migrate::preflight::{Facts, Preflight};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let facts = Facts::of_images(&Checkpoint::open("/var/lib/checkpoint")?)?;
/// let (criu, restore) = (Criu::find()?, Restore::new("/var/lib/checkpoint"));
/// let report = Preflight::new(&criu, &restore, "/tmp".as_ref()).compare(&facts)?;
/// for finding in &report.findings {
///     eprintln!("{finding}");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Preflight<'a> {
    /// How CRIU is reached.
    pub criu: &'a Criu,
    /// How the tree would be restored: root, external mounts, profile and the like.
    pub restore: &'a Restore,
    /// Where CRIU may compare processors, in a directory that is removed again.
    pub work_dir: &'a Path,
    /// The room for memory and images; not compared if unset.
    pub room_bytes: Option<u64>,
    /// What is not compared.
    pub ignore: &'a [Check],
}

impl<'a> Preflight<'a> {
    /// Compares everything but room for images.
    pub fn new(criu: &'a Criu, restore: &'a Restore, work_dir: &'a Path) -> Self {
        Self {
            criu,
            restore,
            work_dir,
            room_bytes: None,
            ignore: &[],
        }
    }

    /// Compares what a tree needs with what there is here.
    ///
    /// # Errors
    ///
    /// When the facts are such as no honest source sends, or CRIU cannot be reached.
    pub fn compare(&self, facts: &Facts) -> Result<Report> {
        facts.check_bounds()?;
        self.compare_as(&host::here(self.criu)?, facts)
    }

    fn compare_as(&self, ours: &Host, facts: &Facts) -> Result<Report> {
        let facts = facts.without(self.ignore);
        let here = Here::look_as(
            ours,
            &facts,
            self.criu,
            self.restore,
            self.work_dir,
            self.room_bytes,
        )?;
        let mut report = compare(&facts, &here);
        report
            .findings
            .retain(|finding| !self.ignore.contains(&finding.check));
        report
            .not_compared
            .retain(|left| !self.ignore.contains(&left.check));
        for check in self.ignore {
            report.skip(*check, "ignored, as the user says");
        }
        Ok(report)
    }

    /// Compares what a peer offers or asks about, and answers as far as the answer is not `accept`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] when something blocks, [`Error::OnlyAsked`] when there is nothing more to do.
    pub(crate) fn answer(
        &self,
        ours: &Host,
        offer: &Offer,
        asks: Asks,
        connection: &mut Connection,
        watch: &Watch,
    ) -> Result<()> {
        let mut facts = offer.facts.clone();
        if asks == Asks::ToMove {
            // The tree runs on that machine.
            let host = &offer.host;
            let text = |fact: &mut Option<String>, text: &String| {
                fact.get_or_insert_with(|| text.clone());
            };
            text(&mut facts.architecture, &host.architecture);
            text(&mut facts.kernel, &host.kernel);
            text(&mut facts.criu, &host.criu);
            facts.page_size_bytes.get_or_insert(host.page_size_bytes);
        }
        let mut ignore: Vec<Check> = self.ignore.iter().chain(&offer.ignore).copied().collect();
        ignore.retain(|check| *check != Check::Other);
        ignore.sort_unstable();
        ignore.dedup();
        let preflight = Preflight {
            ignore: &ignore,
            ..*self
        };
        // Whoever sends such facts is no source of ours; the next one may be.
        facts.check_bounds().map_err(|problem| Error::Stranger {
            source: Box::new(problem.into()),
        })?;
        let report = preflight.compare_as(ours, &facts)?.fit();
        if !report.is_empty() {
            let report = report.clone();
            watch.tell(Happening::Findings { report });
        }
        let refusal = report.refusal();
        if asks == Asks::OnlyAsks {
            let said = connection.say(&Message::Findings(Box::new(report)));
            said.map_err(|error| Error::Stranger {
                source: Box::new(error),
            })?;
            return Err(Error::OnlyAsked);
        }
        if !report.is_empty() {
            connection.say(&Message::Findings(Box::new(report)))?;
        }
        let Some(reason) = refusal else {
            return Ok(());
        };
        let said = reason.clone();
        connection.say(&Message::Refuse { reason })?;
        Err(Error::Refused { reason: said })
    }
}

/// What a source is up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// To send the tree it describes.
    ToMove,
    /// To know what differs, no more.
    OnlyAsks,
}

/// Hears the answer to an offer; findings before it are told to `watch`.
pub(crate) fn hear_answer(
    connection: &mut Connection,
    timing: &Timing,
    watch: &Watch,
) -> Result<Message> {
    match connection.hear("its answer", timing.answer, watch)? {
        Message::Findings(report) => {
            watch.tell(Happening::Findings { report: *report });
            connection.hear("its answer", timing.answer, watch)
        }
        answer => Ok(answer),
    }
}

/// Asks a receiver at the other end of `transport` whether a tree that needs `facts` could be restored
/// there. The receiver changes nothing and waits on for a tree.
///
/// # Errors
///
/// When there is no receiver, or it gives no answer.
pub fn ask(
    transport: Box<dyn Transport>,
    criu: &Criu,
    facts: Facts,
    ignore: &[Check],
    timing: &Timing,
    watch: &Watch,
) -> Result<Report> {
    let mut offer = Offer::new(host::here(criu)?, facts.fit());
    offer.ignore = ignore.to_vec();
    let mut connection = Connection::open(transport, Party::Source, timing)?;
    watch.tell(Happening::Connected {
        peer: connection.peer_name().to_owned(),
    });
    connection.say(&Message::Inspect(Box::new(offer)))?;
    match connection.hear("its findings", timing.answer, watch) {
        Ok(Message::Findings(report)) => Ok(*report),
        Ok(message) => Err(crate::conversation::OutOfTurn {
            stage: connection.reached(),
            speaker: Party::Destination,
            message: message.name(),
        }
        .into()),
        Err(error) => {
            connection.abort(&error.to_string());
            Err(error)
        }
    }
}
