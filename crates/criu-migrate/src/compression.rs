//! Whether to compress what is sent, and with what.
//!
//! zstd, at its fastest regular level: of an ordinary process's memory (277 MB of a Python heap without zero
//! pages) it leaves 12 %, LZ4 24 %, at the same 0.8 GB/s. It is compiled from C, so it can be left out
//! (feature `zstd`); who leaves it out says so in its preamble and is sent nothing packed.
//!
//! The decision is [`choose`], over what was measured: compressing is worth it when the connection is what is
//! waited for, and what it is spared is more than the compressor takes. [`Controller`] does the measuring. It
//! begins with compressing; a connection that is never waited for turns it off, and nothing is spent on it then.
//! While it is off and the connection is waited for, a sample now and then tells whether the data has become
//! compressible; while it is on, a short stretch without it now and then tells whether the connection has become
//! faster. Unpacking is taken to be faster than packing, which it is two- to threefold; where it is not, that
//! same stretch shows it.
//!
//! What is asked for piece by piece never waits for the connection: see [`trials`].

mod trials;

use std::fmt;
use std::time::Duration;

use self::trials::Trials;

use crate::block::BlockProblem;

/// Whether to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// While it makes the migration faster.
    #[default]
    Adaptive,
    /// Not at all.
    Off,
    /// Whatever becomes smaller, however long it takes: for a connection that is paid for by the byte.
    Always,
}

/// What to do with literals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    Store,
    Pack,
}

/// What a decision is made of; times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Measured {
    /// What the connection takes per byte; none if it is not what is waited for.
    pub(crate) link: Option<f64>,
    /// What our own side takes per byte of the stream, but for packing.
    pub(crate) handling: f64,
    /// What packing takes per byte.
    pub(crate) packing: f64,
    /// What packing leaves of a byte.
    pub(crate) ratio: f64,
    /// What all of it took per byte to be packed, when it was tried last.
    pub(crate) tried: Option<f64>,
}

/// Decides from what was measured.
pub(crate) fn choose(measured: &Measured) -> Choice {
    let Some(link) = measured.link else {
        return Choice::Store;
    };
    // While the connection takes what it was given, the next block is packed: the slower of both counts.
    let stored = link.max(measured.handling);
    let expected = (measured.handling + measured.packing).max(link * measured.ratio);
    let worth_it = expected <= stored * WORTH_IT;
    // Expectations know nothing of a destination that has no time to unpack, or of one processor for both.
    match worth_it && measured.tried.is_none_or(|tried| tried <= stored) {
        true => Choice::Pack,
        false => Choice::Store,
    }
}

/// Measures, and has decided what to do with the next block.
#[derive(Debug)]
pub(crate) struct Controller {
    compression: Compression,
    /// While what is sent was asked for.
    trials: Option<Trials>,
    choice: Choice,
    measured: Measured,
    period: Period,
    /// Bytes of the stream since the other choice was last looked at.
    since_look: u64,
    /// The present period is there to look at how fast the connection is without packing.
    looking: bool,
    /// Whether the connection was waited for in the period before, too: buffers on the way are full then.
    was_link_bound: bool,
    /// Bytes of the stream before it is forgotten that packing was slower than expected.
    forget_in: u64,
    /// How long that is the next time.
    next_forget_in: u64,
}

#[derive(Debug, Default)]
struct Period {
    stream_bytes: u64,
    literal_bytes: u64,
    wire_bytes: u64,
    elapsed: Duration,
    handling: Duration,
    sending: Duration,
}

/// A block that was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockSent {
    pub(crate) stream_bytes: usize,
    pub(crate) literal_bytes: usize,
    pub(crate) wire_bytes: usize,
    /// From the end of the block before to the end of this one.
    pub(crate) elapsed: Duration,
    /// Reading and encoding it, but for packing.
    pub(crate) handling: Duration,
    pub(crate) sending: Duration,
}

/// Packing has to take so much less to be worth it: measurements are not that exact.
const WORTH_IT: f64 = 0.9;
/// When there is enough of a period to decide: so many bytes, or so much time.
const PERIOD_BYTES: u64 = 1 << 20;
const PERIOD_TIME: Duration = Duration::from_millis(20);
/// How much is packed before the first decision.
const FIRST_BYTES: u64 = 4 << 20;
/// How much of a block is packed for a sample.
pub(crate) const SAMPLE_BYTES: usize = 32 << 10;
/// How much is sent unpacked between two samples, at least, and which share of the time they may take.
const SAMPLE_EVERY_BYTES: u64 = 4 << 20;
const SAMPLE_SHARE: f64 = 0.01;
/// How much is sent packed before a look at the connection, by whether it is waited for meanwhile.
const LOOK_EVERY_BYTES: u64 = 64 << 20;
const LOOK_EVERY_BYTES_LINK_BOUND: u64 = 256 << 20;
/// A connection faster than this (in nanoseconds per byte) is faster than any packing.
const LINK_TOO_FAST: f64 = 0.4;
/// How much the last measurement counts against those before.
const WEIGHT: f64 = 0.3;
/// After how much it is forgotten that packing was slower than expected, the first time.
const FORGET_IN_BYTES: u64 = 8 << 20;

impl Controller {
    pub(crate) fn new(compression: Compression) -> Self {
        Self {
            compression,
            trials: None,
            choice: match compression {
                Compression::Off => Choice::Store,
                Compression::Adaptive | Compression::Always => Choice::Pack,
            },
            measured: Measured {
                link: None,
                handling: 0.0,
                packing: 1.5,
                ratio: 0.5,
                tried: None,
            },
            period: Period::default(),
            since_look: 0,
            looking: false,
            was_link_bound: false,
            forget_in: 0,
            next_forget_in: FORGET_IN_BYTES,
        }
    }

    /// What is sent from now on was asked for by the peer, or was not.
    pub(crate) fn answers(&mut self, is_asked: bool) {
        let is_tried = is_asked && self.compression == Compression::Adaptive;
        self.trials = is_tried.then(Trials::new);
    }

    /// Whether the time counts in which there was nothing to send: the peer asks once it has what it asked for.
    pub(crate) fn counts_pauses(&self) -> bool {
        self.trials.is_some()
    }

    /// What to do with the next block.
    pub(crate) fn choice(&self) -> Choice {
        match &self.trials {
            Some(trials) => trials.choice(),
            None => self.choice,
        }
    }

    /// Whether part of the next block should be packed only to see what it gives.
    pub(crate) fn wants_sample(&self) -> bool {
        let idle = self.compression == Compression::Adaptive
            && self.trials.is_none()
            && self.choice == Choice::Store
            && !self.looking
            && self.since_look >= SAMPLE_EVERY_BYTES;
        idle && self.measured.link.is_some_and(|link| {
            let sampling = SAMPLE_BYTES as f64 * self.measured.packing;
            link > LINK_TOO_FAST && sampling <= self.since_look as f64 * link * SAMPLE_SHARE
        })
    }

    /// Takes what packing so many bytes gave.
    pub(crate) fn packed(&mut self, bytes: usize, packed_bytes: usize, time: Duration) {
        if bytes == 0 {
            return;
        }
        if self.choice == Choice::Store {
            self.since_look = 0;
        }
        mix(&mut self.measured.ratio, packed_bytes as f64 / bytes as f64);
        mix(&mut self.measured.packing, nanoseconds(time) / bytes as f64);
    }

    /// There was nothing to send for a while: buffers on the way are empty again, and nothing is known of it.
    pub(crate) fn paused(&mut self) {
        self.period = Period::default();
        self.was_link_bound = false;
    }

    /// Takes what sending a block took, and decides about the next.
    pub(crate) fn sent(&mut self, block: BlockSent) {
        if self.compression != Compression::Adaptive || block.wire_bytes == 0 {
            return;
        }
        if let Some(trials) = &mut self.trials {
            return trials.sent(block.stream_bytes, block.elapsed);
        }
        let period = &mut self.period;
        period.stream_bytes += block.stream_bytes as u64;
        period.literal_bytes += block.literal_bytes as u64;
        period.wire_bytes += block.wire_bytes as u64;
        period.elapsed += block.elapsed;
        period.handling += block.handling;
        period.sending += block.sending;
        self.since_look += block.stream_bytes as u64;
        if self.choice == Choice::Store {
            self.forget_in = self.forget_in.saturating_sub(block.stream_bytes as u64);
            if self.forget_in == 0 {
                self.measured.tried = None;
            }
        }
        if period.stream_bytes < PERIOD_BYTES && period.elapsed < PERIOD_TIME {
            return;
        }
        let period = std::mem::take(&mut self.period);
        if period.literal_bytes < period.stream_bytes / 16 {
            // Next to nothing was sent: that tells nothing.
            return;
        }
        let link_bound = period.sending * 2 >= period.elapsed;
        self.measure(&period, link_bound);
        let was = self.choice;
        if was == Choice::Pack && self.measured.link.is_none() && self.since_look < FIRST_BYTES {
            return;
        }
        self.choice = choose(&self.measured);
        self.looking = false;
        match (was, self.choice) {
            (Choice::Pack, Choice::Pack) => {
                self.next_forget_in = FORGET_IN_BYTES;
                let look_every = match link_bound {
                    true => LOOK_EVERY_BYTES_LINK_BOUND,
                    false => LOOK_EVERY_BYTES,
                };
                if self.since_look >= look_every {
                    self.looking = true;
                    self.choice = Choice::Store;
                    self.measured.tried = None;
                }
            }
            (Choice::Pack, Choice::Store) => {
                self.forget_in = self.next_forget_in;
                self.next_forget_in = self.next_forget_in.saturating_mul(2);
            }
            (Choice::Store, Choice::Pack) => self.measured.tried = None,
            (Choice::Store, Choice::Store) => {}
        }
        if was != self.choice {
            self.since_look = 0;
            self.was_link_bound = false;
        }
    }

    fn measure(&mut self, period: &Period, link_bound: bool) {
        let elapsed = nanoseconds(period.elapsed);
        let measured = &mut self.measured;
        measured.handling = nanoseconds(period.handling) / period.stream_bytes.max(1) as f64;
        let link = elapsed / period.wire_bytes as f64;
        let filling = link_bound && !std::mem::replace(&mut self.was_link_bound, link_bound);
        match (self.choice, measured.link.as_mut()) {
            // While buffers fill up it seems to be faster than it is.
            (Choice::Store, _) if filling => {}
            (Choice::Store, Some(before)) if link_bound => mix(before, link),
            (Choice::Store, None) if link_bound => measured.link = Some(link),
            (Choice::Store, _) => measured.link = None,
            (Choice::Pack, before) => {
                measured.tried = Some(elapsed / period.literal_bytes as f64);
                // Only without packing is it known how slow it is: here the other side may be what is waited for.
                if let Some(before) = before {
                    *before = before.min(link);
                }
            }
        }
    }
}

fn mix(before: &mut f64, now: f64) {
    *before += (now - *before) * WEIGHT;
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

/// Packs literals.
#[derive(Default)]
pub(crate) struct Packer {
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Compressor<'static>>,
}

/// Unpacks literals.
#[derive(Default)]
pub(crate) struct Unpacker {
    #[cfg(feature = "zstd")]
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

#[cfg(feature = "zstd")]
const LEVEL: i32 = 1;

#[cfg(feature = "zstd")]
impl Packer {
    /// Packs into `output`; returns how much of it, or nothing if it does not fit in there.
    pub(crate) fn pack(&mut self, literals: &[u8], output: &mut [u8]) -> Option<usize> {
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        self.zstd
            .as_mut()?
            .compress_to_buffer(literals, output)
            .ok()
    }
}

#[cfg(not(feature = "zstd"))]
impl Packer {
    /// Packs nothing: this build cannot.
    pub(crate) fn pack(&mut self, _: &[u8], _: &mut [u8]) -> Option<usize> {
        None
    }
}

#[cfg(feature = "zstd")]
impl Unpacker {
    /// Fills `literals` with what `packed` expands to, which has to be just as much.
    pub(crate) fn unpack(
        &mut self,
        packed: &[u8],
        literals: &mut [u8],
    ) -> Result<(), BlockProblem> {
        let literal_bytes = literals.len();
        let problem = BlockProblem::Packed { literal_bytes };
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Decompressor::new().ok();
        }
        let zstd = self.zstd.as_mut().ok_or(BlockProblem::CannotExpand)?;
        // Writes no further than there is room, whatever the frame says about itself.
        match zstd.decompress_to_buffer(packed, literals) {
            Ok(count) if count == literal_bytes => Ok(()),
            _ => Err(problem),
        }
    }
}

#[cfg(not(feature = "zstd"))]
impl Unpacker {
    /// Refuses: this build cannot.
    pub(crate) fn unpack(&mut self, _: &[u8], _: &mut [u8]) -> Result<(), BlockProblem> {
        Err(BlockProblem::CannotExpand)
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl fmt::Debug for Unpacker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unpacker").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
