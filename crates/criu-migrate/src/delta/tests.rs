use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bases::Bases;
use super::*;
use crate::arrival::Chunk;
use crate::block::BlockProblem;
use crate::compression::Compression;
use crate::connection::Connection;
use crate::conversation::Party;
use crate::encoder::Encoder;
use crate::frame::{Abilities, Block, Channel, Codec, Frame, Operation};
use crate::fuzz::{Way, pass_between};
use crate::images_dir::ImagesDir;
use crate::page_stream::{PageStream, Part, Reader, StreamKind, command};
use crate::timing::Timing;
use crate::transport::Stream;
use crate::window::Expander;

const TASK: u64 = 7 << 8 | 1;
const SHARED: u64 = 9 << 8 | 2;
const PRESENT: u32 = 4;
const IN_PARENT: u32 = 1;

fn page(seed: u8) -> Vec<u8> {
    let mut bytes = vec![seed; PAGE_BYTES];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte ^= u8::try_from(at % 251).unwrap();
    }
    bytes
}

/// Pages of a memory, by the number of the first.
fn pages(owner: u64, first: u64, pages: &[Vec<u8>]) -> Vec<u8> {
    let address = 0x10_0000 + first * PAGE_BYTES as u64;
    let mut stream = command(6, PRESENT, pages.len() as u64, address, owner);
    stream.extend(pages.concat());
    stream
}

/// What CRIU leaves of a stream on the destination.
fn store(directory: &Path, stream: &[u8]) {
    let images = ImagesDir::create(directory.to_owned()).unwrap();
    let mut reader = Reader::new(PAGE_BYTES as u64);
    reader.read(stream);
    reader.finish().write_to(&images).unwrap();
    let mut parser = PageStream::new(StreamKind::Dump);
    let mut owners: Vec<u64> = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let place = parser.page_begins();
        let (Part::Other(count) | Part::Pages(count)) = parser.next(rest);
        if let Some(place) = place {
            owners.push(place.owner);
            owners.sort_unstable();
            owners.dedup();
            assert!(
                owners.len() == 1 || place.owner == *owners.last().unwrap(),
                "in order"
            );
            let path = directory.join(format!("pages-{}.img", owners.len()));
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(&rest[..count]).unwrap();
        }
        rest = &rest[count..];
    }
}

/// A source and a destination in rounds.
struct Sides {
    directory: criu_testkit::TempDir,
    rounds: Vec<PathBuf>,
    encoder: Encoder,
    expander: Expander,
}

impl Sides {
    fn new() -> Self {
        let directory = criu_testkit::TempDir::new();
        let mut encoder = Encoder::new(Abilities::ours());
        encoder.remember_pages(directory.path());
        Self {
            directory,
            rounds: Vec::new(),
            encoder,
            expander: Expander::default(),
        }
    }

    fn bases(&self, kind: StreamKind) -> Bases {
        Bases::new(kind, self.rounds.iter().rev().cloned())
    }

    /// Sends a stream in reads of this size; gives how many bytes did not have to be sent.
    fn send(&mut self, kind: StreamKind, stream: &[u8], reads: usize) -> u64 {
        let before = self.encoder.traffic().unchanged_bytes;
        self.encoder.begin_pages(kind);
        self.expander.build_upon(Some(self.bases(kind)));
        let way = Way {
            channel: Channel::Pages,
            compression: Compression::Always,
            reads,
            ..Way::default()
        };
        pass_between(&mut self.encoder, &mut self.expander, stream, &way);
        self.encoder.traffic().unchanged_bytes - before
    }

    fn round(&mut self, stream: &[u8], reads: usize) -> u64 {
        let unchanged = self.send(StreamKind::Dump, stream, reads);
        let path = self.directory.path().join(format!("{}", self.rounds.len()));
        store(&path, stream);
        if let Some(last) = self.rounds.last() {
            std::os::unix::fs::symlink(last, path.join("parent")).unwrap();
        }
        self.rounds.push(path);
        unchanged
    }
}

#[test]
fn of_a_page_sent_again_only_what_changed_is_sent() {
    for reads in [usize::MAX, 100_000, 5000, 4096 + 32] {
        let mut sides = Sides::new();
        let mut task: Vec<Vec<u8>> = (0..40).map(page).collect();
        let mut shared = vec![page(200); 3];
        let first = [pages(TASK, 0, &task), pages(SHARED, 0, &shared)].concat();
        assert_eq!(sides.round(&first, reads), 0);

        task[3][0] ^= 1;
        task[4][PAGE_BYTES - 1] ^= 1;
        task[5].fill(0);
        shared[1][1000] ^= 1;
        // Too much of it.
        task[6].iter_mut().for_each(|byte| *byte ^= 5);
        let second = [
            command(6, IN_PARENT, 3, 0x10_0000, TASK),
            pages(TASK, 3, &task[3..7]),
            // All others are not there any more.
            pages(SHARED, 1, &shared[1..2]),
        ]
        .concat();
        assert_eq!(sides.round(&second, reads), 3 * 15 * 256, "{reads}");

        task[2][256] ^= 1;
        task[4][0] ^= 1;
        task[5][0] ^= 1;
        task[6][4000] ^= 1;
        // Not in the round before: in the one before that.
        task[20][7] ^= 1;
        let third = [pages(TASK, 2, &task[2..7]), pages(TASK, 20, &task[20..22])].concat();
        // One did not change since the second round, one not since the first.
        assert_eq!(sides.round(&third, reads), (5 * 15 + 16 + 16) * 256);

        // What is asked for afterwards, as often as anybody likes.
        for change in [3, 5] {
            task[4][0] ^= change;
            let mut answers = pages(7, 4, &task[4..5]);
            answers.extend(pages(7, 21, &task[21..22]));
            assert_eq!(sides.send(StreamKind::Answers, &answers, reads), 31 * 256);
        }
    }
}

#[test]
fn a_connection_builds_pages_upon_the_rounds_said_last() {
    let directory = criu_testkit::TempDir::new();
    let (near, far) = Stream::pair().unwrap();
    let open =
        |stream, party| Connection::open(Box::new(stream), party, &Timing::default()).unwrap();
    let (source, mut destination) = std::thread::scope(|scope| {
        let far = scope.spawn(|| open(far, Party::Destination));
        (open(near, Party::Source), far.join().unwrap())
    });
    let arriving = destination.take_pages().unwrap();
    let arrived = |expected: &[u8]| {
        let mut bytes = Vec::new();
        loop {
            match arriving.recv_timeout(Duration::from_secs(10)).unwrap() {
                Chunk::Data(data) => bytes.extend_from_slice(&data),
                Chunk::Zeros(count) => {
                    bytes.resize(bytes.len() + usize::try_from(count).unwrap(), 0)
                }
                Chunk::End => break,
            }
        }
        assert!(bytes == expected);
    };
    let outgoing = source.outgoing();
    outgoing.remember_pages(directory.path());
    let mut task = vec![page(1), page(2)];
    let mut rounds: Vec<PathBuf> = Vec::new();
    // The first has not one byte.
    for round in 0..3_u8 {
        let stream = match round {
            0 => Vec::new(),
            _ => pages(TASK, 0, &task),
        };
        let before = rounds.iter().rev().cloned();
        destination.build_pages_upon(Bases::new(StreamKind::Dump, before));
        outgoing.begin_pages(StreamKind::Dump);
        outgoing.send_stream(Channel::Pages, &stream).unwrap();
        outgoing.send_frame(&Frame::End(Channel::Pages)).unwrap();
        arrived(&stream);
        if round == 1 {
            let path = directory.path().join("first");
            store(&path, &stream);
            rounds.push(path);
        }
        task[1][9] ^= 1;
    }
    assert_eq!(outgoing.traffic().unchanged_bytes, 4096 + 15 * 256);
}

#[test]
fn a_page_that_would_become_another_is_refused() {
    let mut sides = Sides::new();
    let task = vec![page(1), page(2)];
    sides.round(&pages(TASK, 0, &task), usize::MAX);
    let patch = |expander: &mut Expander, changed, check| {
        expander.data(Channel::Pages, command(6, PRESENT, 1, 0x10_1000, TASK));
        let operations = [Operation::Patch {
            changed: Pieces(changed),
            check,
        }];
        let literals = vec![8; Pieces(changed).len_bytes()];
        let mut lead = vec![0; crate::block::LEAD_BYTES_MAX];
        let at = crate::block::encode_lead(&operations, literals.len(), Codec::Stored, &mut lead);
        let block = Block::decode([&lead[at..], &literals].concat()).unwrap();
        expander
            .block(Channel::Pages, block)
            .map(|(bytes, _)| bytes.to_vec())
    };
    let mut expected = task[1].clone();
    expected[256..512].fill(8);
    let good = check(&expected);

    let begin = |bases| {
        let mut expander = Expander::default();
        expander.build_upon(bases);
        expander
    };
    let bases = || Some(sides.bases(StreamKind::Dump));
    assert_eq!(patch(&mut begin(bases()), 2, good), Ok(expected.clone()));
    let wrong = patch(&mut begin(bases()), 4, good);
    let problem = BlockProblem::Check {
        owner: 7,
        address: 0x10_1000,
    };
    assert_eq!(wrong, Err(problem.clone()));
    let nothing = patch(&mut begin(None), 2, good);
    assert!(matches!(nothing, Err(BlockProblem::Base(_))), "{nothing:?}");
    let mut elsewhere = begin(bases());
    elsewhere.data(Channel::Pages, command(6, PRESENT, 1, 0x90_0000, TASK));
    elsewhere.data(Channel::Pages, vec![1; PAGE_BYTES - 1]);
    let within = patch(&mut elsewhere, 2, good);
    assert!(matches!(within, Err(BlockProblem::Base(_))), "{within:?}");

    // The image is not what was sent.
    let image = sides.rounds[0].join("pages-1.img");
    let mut bytes = std::fs::read(&image).unwrap();
    bytes[PAGE_BYTES] ^= 1;
    std::fs::write(&image, &bytes).unwrap();
    assert_eq!(patch(&mut begin(bases()), 2, good), Err(problem));
    std::fs::write(&image, &bytes[..PAGE_BYTES + 9]).unwrap();
    let unreadable = patch(&mut begin(bases()), 2, good).unwrap_err();
    assert!(
        matches!(unreadable, BlockProblem::Unreadable(_)),
        "{unreadable:?}"
    );
}
