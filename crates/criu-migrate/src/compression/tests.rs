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
                let run =
                    |compression| journey(compression, 4000, |_| link, (packing, 0.4), |_| ratio).0;
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
