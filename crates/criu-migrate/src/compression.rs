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

use std::fmt;
use std::time::Duration;

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

    /// What to do with the next block.
    pub(crate) fn choice(&self) -> Choice {
        self.choice
    }

    /// Whether part of the next block should be packed only to see what it gives.
    pub(crate) fn wants_sample(&self) -> bool {
        let idle = self.compression == Compression::Adaptive
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
mod tests {
    use super::*;

    #[test]
    fn packing_is_chosen_where_it_saves_more_than_it_takes() {
        use Choice::{Pack, Store};
        let one_gigabit = Some(8.0);
        for (link, packing, ratio, expected) in [
            // Nobody waits for the connection.
            (None, 1.2, 0.1, Store),
            (one_gigabit, 1.2, 0.5, Pack),
            (one_gigabit, 1.2, 0.89, Pack),
            // Hardly compressible.
            (one_gigabit, 1.2, 0.95, Store),
            // A compressor slower than the connection.
            (one_gigabit, 8.0, 0.1, Store),
            // Ten gigabits: just about as fast as the compressor.
            (Some(0.8), 1.2, 0.1, Store),
            (Some(2.0), 1.2, 0.1, Pack),
            (Some(100.0), 1.2, 0.5, Pack),
        ] {
            let measured = Measured {
                link,
                handling: 0.3,
                packing,
                ratio,
                tried: None,
            };
            assert_eq!(choose(&measured), expected, "{measured:?}");
            // What was found out counts more than what was expected.
            let tried = |tried| Measured {
                tried: Some(tried),
                ..measured
            };
            assert_eq!(choose(&tried(0.1)), expected);
            assert_eq!(choose(&tried(link.unwrap_or(0.0) + 0.5)), Store);
        }
    }

    /// A connection that takes `link` nanoseconds for a byte and has room for `room` of them.
    struct Road {
        link: f64,
        room: f64,
        now: f64,
        free_at: f64,
    }

    impl Road {
        /// How long the sender waits; who receives it is busy with it for that long.
        fn take(&mut self, bytes: f64, busy: f64) -> f64 {
            self.free_at = self.free_at.max(self.now) + busy.max(bytes * self.link);
            let wait = (self.free_at - self.room * self.link - self.now).max(0.0);
            self.now += wait;
            wait
        }
    }

    const BLOCK: f64 = 262_144.0;
    const HANDLING: f64 = 0.3;
    const ROOM: f64 = 6e6;

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "no more than a block, and no less than nothing"
    )]
    fn whole(bytes: f64) -> usize {
        bytes as usize
    }

    /// Time for that many blocks, each with its ratio.
    fn journey(
        compression: Compression,
        blocks: usize,
        link: impl Fn(usize) -> f64,
        (packing, unpacking): (f64, f64),
        ratio: impl Fn(usize) -> f64,
    ) -> (f64, usize) {
        let mut controller = Controller::new(compression);
        let mut road = Road {
            link: link(0),
            room: ROOM,
            now: 0.0,
            free_at: 0.0,
        };
        let time = |nanoseconds: f64| Duration::from_secs_f64(nanoseconds / 1e9);
        let mut packed = 0;
        for block in 0..blocks {
            road.link = link(block);
            let began = road.now;
            road.now += HANDLING * BLOCK;
            let (mut wire, mut busy) = (BLOCK, 0.0);
            if controller.choice() == Choice::Pack {
                packed += 1;
                road.now += packing * BLOCK;
                wire *= ratio(block);
                busy = unpacking * BLOCK;
                controller.packed(262_144, whole(wire), time(packing * BLOCK));
            } else if controller.wants_sample() {
                let sample = SAMPLE_BYTES as f64;
                road.now += packing * sample;
                controller.packed(
                    SAMPLE_BYTES,
                    whole(sample * ratio(block)),
                    time(packing * sample),
                );
            }
            let sending = 0.1 * BLOCK + road.take(wire, busy);
            road.now += 0.1 * BLOCK;
            controller.sent(BlockSent {
                stream_bytes: 262_144,
                literal_bytes: 262_144,
                wire_bytes: whole(wire),
                elapsed: time(road.now - began),
                handling: time(HANDLING * BLOCK),
                sending: time(sending),
            });
        }
        (road.now.max(road.free_at), packed)
    }

    #[test]
    fn it_is_never_slower_than_without_and_mostly_as_fast_as_either() {
        for link in [0.05, 0.3, 0.8, 1.5, 3.0, 8.0, 80.0, 800.0] {
            for ratio in [0.05, 0.3, 0.6, 0.9, 1.0] {
                for packing in [0.7, 1.2, 5.0, 40.0] {
                    let run = |compression| {
                        journey(compression, 4000, |_| link, (packing, 0.4), |_| ratio).0
                    };
                    let (off, always) = (run(Compression::Off), run(Compression::Always));
                    let adaptive = run(Compression::Adaptive);
                    let what =
                        format!("link {link} ratio {ratio} packing {packing}: {adaptive} of {off}");
                    // What is packed before the first decision, and samples.
                    assert!(adaptive <= off * 1.02 + 17.0 * packing * BLOCK, "{what}");
                    // Buffers on the way hide how slow it is until they are full; so does a look at it.
                    let hidden = 3.0 * ROOM * link;
                    let best = off.min(always) + hidden;
                    assert!(
                        adaptive <= best * 1.15 + 17.0 * packing * BLOCK,
                        "{what}, best {best}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_destination_with_no_time_to_unpack_is_noticed() {
        for (link, unpacking) in [(2.0, 3.0), (8.0, 9.0), (8.0, 40.0)] {
            let run = |compression| {
                let way = (1.2, unpacking);
                journey(compression, 4000, |_| link, way, |_| 0.2)
            };
            let (off, always) = (run(Compression::Off).0, run(Compression::Always).0);
            let (adaptive, packed) = run(Compression::Adaptive);
            assert!(always > off);
            let beginning = 17.0 * unpacking * BLOCK;
            assert!(
                adaptive <= off * 1.03 + beginning,
                "{adaptive} of {off}, {packed} packed"
            );
        }
    }

    #[test]
    fn a_connection_faster_than_the_compressor_costs_nothing_but_the_beginning() {
        let (_, packed) = journey(Compression::Adaptive, 4000, |_| 0.05, (1.2, 0.4), |_| 0.2);
        assert!(packed <= 17, "{packed}");
    }

    #[test]
    fn a_connection_that_changes_is_noticed() {
        // From 100 Mbit/s to 40 Gbit/s, and back.
        let link = |block| {
            if (4000..8000).contains(&block) {
                0.2
            } else {
                80.0
            }
        };
        let run = |blocks| journey(Compression::Adaptive, blocks, link, (1.2, 0.4), |_| 0.2).1;
        let (slow, then_fast, slow_again) = (run(4000), run(8000), run(12_000));
        assert!(slow > 3900, "{slow}");
        assert!(then_fast - slow < 1100, "{then_fast}");
        assert!(slow_again - then_fast > 3900, "{slow_again}");
    }

    #[test]
    fn incompressible_data_is_left_alone_and_what_follows_it_is_not() {
        let ratio = |block| if block < 2000 { 1.0 } else { 0.2 };
        let run = |blocks| journey(Compression::Adaptive, blocks, |_| 8.0, (1.2, 0.4), ratio).1;
        let (before, all) = (run(2000), run(4000));
        assert!(before < 50, "{before}");
        assert!(all - before > 1850, "{all}");
    }

    #[test]
    fn a_pause_changes_nothing() {
        let mut controller = Controller::new(Compression::Adaptive);
        let seconds = Duration::from_secs;
        for choice in [Choice::Pack, Choice::Store] {
            for _ in 0..100 {
                assert_eq!(controller.choice(), choice);
                controller.paused();
            }
            // More than is packed before the first decision, at once.
            controller.sent(BlockSent {
                stream_bytes: 5 << 20,
                literal_bytes: 5 << 20,
                wire_bytes: 5 << 20,
                elapsed: seconds(1),
                handling: seconds(1),
                sending: seconds(0),
            });
        }
    }

    #[test]
    fn off_and_always_are_what_they_say() {
        let run = |compression| journey(compression, 100, |_| 0.05, (1.2, 0.4), |_| 0.5).1;
        assert_eq!((run(Compression::Off), run(Compression::Always)), (0, 100));
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn what_expands_to_another_length_than_announced_is_refused() {
        let literals = vec![7; 200_000];
        let mut packed = vec![0; 4096];
        let count = Packer::default().pack(&literals, &mut packed).unwrap();
        let mut unpacker = Unpacker::default();
        let mut output = vec![0; literals.len()];
        assert_eq!(unpacker.unpack(&packed[..count], &mut output), Ok(()));
        assert_eq!(output, literals);
        for (packed, literal_bytes) in [
            (&packed[..count], 199_999),
            (&packed[..count], 200_001),
            (&packed[..count - 1], 200_000),
            (&packed[1..count], 200_000),
            (&[], 200_000),
        ] {
            let problem = unpacker.unpack(packed, &mut vec![0; literal_bytes]);
            assert_eq!(problem, Err(BlockProblem::Packed { literal_bytes }));
        }
        // What does not become small enough does not fit, and nothing is written beyond.
        assert_eq!(Packer::default().pack(b"abc", &mut [0; 4]), None);
    }
}
