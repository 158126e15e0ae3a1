//! Pre-copy: memory is copied while the tree runs, again and again, until the rest is small.

use std::time::{Duration, Instant};

use criu::request::{LogTo, Pages};
use criu::{Criu, Dump};
use criu_image::stats::DumpStats;

use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::message::Message;
use crate::page_stream::Pagemaps;
use crate::policy::{Decision, Limits, Reason, Round, Verdict, decide};
use crate::report::RoundReport;
use crate::source::{asked, open_pages};
use crate::staging::Staging;
use crate::timing::Timing;
use crate::tunnel::{Inbound, Plan};
use crate::watch::{Happening, Watch};

/// What stopping costs beside the memory, before a migration has shown it: the other images and the restore.
const OTHER_DOWNTIME: Duration = Duration::from_millis(100);

/// All rounds of a migration.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    pub(crate) reports: Vec<RoundReport>,
    /// The pages of the last round.
    pub(crate) pagemaps: Option<Pagemaps>,
    pub(crate) stream_bytes: u64,
}

impl Rounds {
    /// How many there were.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.reports.len()).unwrap_or(u32::MAX)
    }

    /// Adds one that is over.
    pub(crate) fn add(&mut self, counted: Counted<'_>, watch: &Watch) {
        let Counted {
            statistics,
            stream_bytes,
            wire_bytes,
            took,
        } = counted;
        let figures = Round {
            pages_scanned: statistics.pages_scanned,
            pages_written: statistics.pages_written
                + statistics.shared_pages_written.unwrap_or_default(),
            page_size_bytes: rustix::param::page_size() as u64,
            wire_bytes,
            took,
            fixed_downtime: statistics.freezing + statistics.frozen + OTHER_DOWNTIME,
        };
        let report = RoundReport {
            round: self.count().saturating_add(1),
            pages_scanned: figures.pages_scanned,
            pages_written: figures.pages_written,
            stream_bytes,
            wire_bytes,
            took,
            frozen: statistics.frozen,
            verdict: None,
            figures,
        };
        watch.tell(Happening::RoundDone(report.clone()));
        self.reports.push(report);
        self.stream_bytes += stream_bytes;
    }
}

/// What the rounds need.
pub(crate) struct Rounding<'a> {
    pub(crate) criu: &'a Criu,
    pub(crate) dump: &'a Dump,
    pub(crate) staging: &'a Staging,
    pub(crate) timing: &'a Timing,
    pub(crate) limits: &'a Limits,
    pub(crate) watch: &'a Watch,
}

impl Rounding<'_> {
    /// Makes the rounds.
    pub(crate) fn run(&self, connection: &mut Connection) -> Result<(Rounds, Verdict)> {
        connection.outgoing().remember_pages(self.staging.path());
        until_decided(self.limits, self.watch, |rounds| {
            self.round(connection, rounds)
        })
    }

    fn round(&self, connection: &mut Connection, rounds: &mut Rounds) -> Result<()> {
        connection.check(self.watch)?;
        let began = Instant::now();
        let sent_before = connection.outgoing().sent_bytes();
        let round = rounds.count() + 1;
        self.watch.tell(Happening::RoundBegun { round });
        let images = self.staging.images_to_dump(round)?;
        let plan = Plan {
            // What a page server answers are single bytes.
            inbound: Inbound::Bytes(1 << 20),
            note_pages: true,
            patience: None,
        };
        let (tunnel, theirs) = open_pages(connection, plan, self.timing, self.watch)?;

        let mut pre_dump = self.dump.pre_dump(images.open()?)?;
        pre_dump.pages = Pages::Socket(theirs);
        pre_dump.parent = (round > 1).then(|| self.staging.parent_of(round));
        if let LogTo::File(_) = pre_dump.settings.log_to {
            pre_dump.settings.log_to = LogTo::File(format!("pre-dump-{round}.log").into());
        }
        let outcome = self.criu.pre_dump(&pre_dump);
        // Its end of the connection is the only one left, if any.
        drop(pre_dump);
        let statistics = match outcome {
            Ok(outcome) => outcome.statistics.unwrap_or_default(),
            // A peer that is gone or gave up is the cause, if it is.
            Err(error) => {
                connection.check(self.watch)?;
                return Err(error.into());
            }
        };
        let (stream_bytes, _) = tunnel.counts();
        let finished = tunnel
            .finish(self.timing.answer)
            .map_err(Error::io("end a round: the page server does not end"))?;
        connection.return_pages(finished.pages);
        connection.say(&Message::RoundDone)?;
        asked(
            connection,
            "storing a round",
            self.timing.answer,
            self.watch,
            |message| matches!(message, Message::RoundStored),
        )?;

        let wire_bytes = connection.outgoing().sent_bytes() - sent_before;
        rounds.add(
            Counted {
                statistics: &statistics,
                stream_bytes,
                wire_bytes,
                took: began.elapsed(),
            },
            self.watch,
        );
        rounds.pagemaps = finished.pagemaps;
        Ok(())
    }
}

/// Makes rounds until the policy says what to do instead.
pub(crate) fn until_decided(
    limits: &Limits,
    watch: &Watch,
    mut round: impl FnMut(&mut Rounds) -> Result<()>,
) -> Result<(Rounds, Verdict)> {
    let mut rounds = Rounds::default();
    loop {
        let figures: Vec<Round> = rounds.reports.iter().map(|round| round.figures).collect();
        let verdict = decide(limits, &figures);
        if let Some(last) = rounds.reports.last_mut() {
            last.verdict = Some(verdict);
            watch.tell(Happening::Decided(verdict));
        }
        match verdict.decision {
            Decision::NextRound => round(&mut rounds)?,
            Decision::GiveUp => {
                return Err(Error::GaveUp {
                    reason: verdict.reason,
                    predicted: verdict.predicted_downtime,
                });
            }
            Decision::StopNow | Decision::PostCopy => return Ok((rounds, verdict)),
        }
    }
}

/// What was counted of a round.
#[derive(Debug)]
pub(crate) struct Counted<'a> {
    pub(crate) statistics: &'a DumpStats,
    pub(crate) stream_bytes: u64,
    pub(crate) wire_bytes: u64,
    pub(crate) took: Duration,
}

/// The verdict where no policy was asked.
pub(crate) const NO_ROUNDS: Verdict = Verdict {
    decision: Decision::StopNow,
    reason: Reason::RoundsUsed,
    predicted_downtime: None,
    bandwidth_bytes_per_second: None,
    dirty_bytes_per_second: None,
};
