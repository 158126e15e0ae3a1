use super::*;
use crate::fuzz::{Way, pass_through};
use crate::page_stream::tests::add;

/// Numbers that look random, the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.0 >> 33
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next()).unwrap() % limit
    }

    /// Bytes that cannot be compressed.
    fn noise(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend(
                self.next()
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_be_bytes(),
            );
        }
        bytes.truncate(count);
        bytes
    }
}

/// A page stream of these pages, a head before each run of so many.
fn page_stream(pages: &[Vec<u8>], run: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for pages in pages.chunks(run) {
        stream.extend(add(pages.len()));
        stream.extend(pages.concat());
    }
    stream
}

fn through(stream: &[u8], way: Way) -> Traffic {
    let mut way = way;
    way.channel = Channel::Pages;
    pass_through(stream, &way)
}

fn way(compression: Compression) -> Way {
    Way {
        compression,
        ..Way::default()
    }
}

#[test]
fn pages_sent_before_are_referred_to_wherever_they_are() {
    // Page sizes above 4 KiB: a run has to be whole pages.
    let run = 3 * rustix::param::page_size() / PAGE_BYTES;
    let mut random = Random(1);
    let unique: Vec<Vec<u8>> = (0..run * 100).map(|_| random.noise(PAGE_BYTES)).collect();
    // Once more in another order, then one of them again and again.
    let again = unique.iter().rev().cloned();
    let one = std::iter::repeat_n(unique[7].clone(), run * 50);
    let pages: Vec<Vec<u8>> = unique.iter().cloned().chain(again).chain(one).collect();
    let stream = page_stream(&pages, run);
    for reads in [usize::MAX, 70_000, 5000] {
        let traffic = through(
            &stream,
            Way {
                reads,
                ..way(Compression::Off)
            },
        );
        let duplicates = (run * 150 * PAGE_BYTES) as u64;
        assert_eq!(traffic.duplicate_bytes, duplicates, "reads of {reads}");
        let rest = traffic.stream_bytes - duplicates;
        // Small reads are small blocks, and their literals may be too few to be referred to.
        assert!(
            traffic.wire_bytes < rest + rest / 20 + 30_000,
            "{traffic:?}"
        );
    }
}

#[test]
fn zero_pages_are_counted_and_what_differs_in_one_byte_is_sent() {
    let run = rustix::param::page_size() / PAGE_BYTES * 4;
    let mut random = Random(2);
    let base = random.noise(PAGE_BYTES);
    let mut pages = vec![base.clone(); 1];
    for at in [0, 8, 9, 2048, 4095] {
        let mut other = base.clone();
        other[at] ^= 1;
        pages.push(other);
        let mut sparse = vec![0; PAGE_BYTES];
        sparse[at] = 1;
        pages.push(sparse);
        pages.push(vec![0; PAGE_BYTES]);
    }
    let traffic = through(&page_stream(&pages, run), way(Compression::Off));
    assert_eq!(traffic.duplicate_bytes, 0);
    assert_eq!(traffic.zero_bytes, 5 * 4096);
}

#[test]
fn nothing_is_referred_to_beyond_the_window() {
    let run = 16 * rustix::param::page_size() / PAGE_BYTES;
    let mut random = Random(3);
    // Several turns of the ring; each page comes again at some distance.
    let mut pages: Vec<Vec<u8>> = Vec::new();
    for number in 0..WINDOW_BYTES * 5 / 2 / PAGE_BYTES {
        let far = number.checked_sub(1 + random.below(6000));
        pages.push(match (number % 5, far) {
            (0, Some(far)) => pages[far].clone(),
            _ => random.noise(PAGE_BYTES),
        });
    }
    let traffic = through(&page_stream(&pages, run), way(Compression::Off));
    let duplicates = traffic.duplicate_bytes / 4096;
    let repeated = pages.len() as u64 / 5;
    assert!(
        duplicates > repeated / 2 && duplicates < repeated,
        "{duplicates} of {repeated}"
    );
}

#[cfg(feature = "zstd")]
#[test]
fn what_is_compressible_is_compressed_if_the_peer_expands_it() {
    let text =
        "an ordinary process keeps text and numbers that look alike, 0123456789 ".repeat(20_000);
    let packed = through(text.as_bytes(), way(Compression::Always));
    assert_eq!(packed.packed_bytes, packed.stream_bytes);
    assert!(packed.wire_bytes * 20 < packed.stream_bytes, "{packed:?}");
    let stored = through(
        text.as_bytes(),
        Way {
            peer: Abilities::default(),
            ..way(Compression::Always)
        },
    );
    assert_eq!(stored.packed_bytes, 0);
    assert!(stored.wire_bytes > stored.stream_bytes);
    let noise = Random(4).noise(1 << 20);
    let traffic = through(&noise, way(Compression::Always));
    assert_eq!(traffic.packed_bytes, 0);
    assert!(
        traffic.wire_bytes < traffic.stream_bytes + 100,
        "{traffic:?}"
    );
}

#[test]
fn any_mixture_comes_back_as_it_was() {
    let mut random = Random(5);
    for round in 0..150 {
        let kinds: Vec<Vec<u8>> = (0..3).map(|_| random.noise(PAGE_BYTES)).collect();
        let mut stream = Vec::new();
        for _ in 0..random.below(40) {
            let pages = 1 + random.below(20);
            if random.below(8) > 0 {
                stream.extend(add(pages));
            }
            for _ in 0..pages {
                match random.below(6) {
                    0 => stream.resize(stream.len() + PAGE_BYTES, 0),
                    1 => stream.extend(&kinds[random.below(3)]),
                    2 => stream.extend(random.noise(PAGE_BYTES)),
                    3 => stream.resize(stream.len() + random.below(9000), 0),
                    4 => stream.extend("text ".repeat(random.below(2000)).into_bytes()),
                    _ => {
                        let count = random.below(600);
                        stream.extend(random.noise(count));
                    }
                }
            }
        }
        let compression = match round % 3 {
            0 => Compression::Off,
            1 => Compression::Always,
            _ => Compression::Adaptive,
        };
        for channel in [Channel::Pages, Channel::Image] {
            let reads = 1 + random.below(400_000);
            pass_through(
                &stream,
                &Way {
                    channel,
                    reads,
                    ..way(compression)
                },
            );
        }
    }
}

#[test]
fn a_block_never_has_more_operations_than_it_may() {
    // Zeros and literals in turns as short as they can be.
    let mut stream = Vec::new();
    while stream.len() < BLOCK_BYTES_MAX {
        stream.resize(stream.len() + 512, 0);
        stream.push(1);
    }
    let traffic = through(&stream, way(Compression::Off));
    assert!(
        traffic.wire_bytes * 5 < traffic.stream_bytes * 3,
        "{traffic:?}"
    );
}

#[test]
fn nothing_waits_for_more_bytes() {
    let mut encoder = Encoder::new(Abilities::ours());
    encoder.set_compression(Compression::Always);
    // A head, and part of its page: the rest is asked for, and is not there.
    let bytes = [&add(16)[..], &[7; 100]].concat();
    let mut source = bytes.as_slice();
    let encoded = encoder.encode(Channel::Pages, |buffer| match source.is_empty() {
        true => Err(std::io::ErrorKind::WouldBlock),
        false => Ok(std::io::Read::read(&mut source, buffer).unwrap_or(0)),
    });
    let encoded = encoded.unwrap().unwrap();
    assert_eq!(encoded.times().stream_bytes, bytes.len());
    assert_eq!(&encoded.frames[HEADER_BYTES..], bytes);
    let nothing = encoder.encode(Channel::Pages, |_| Err(std::io::ErrorKind::WouldBlock));
    assert!(nothing.is_err());
}
