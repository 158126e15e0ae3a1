//! Every kind of image, read and written: what comes out is what went in.

use std::io::{self, Read};

use criu_image::kind::Entries;
use criu_image::{ByteOrder, ErrorKind, ImageKind, ImageReader, ImageWriter, ReadOptions, Result};
use criu_testkit::synthetic::{First, KINDS, Order, Sample, samples};

/// A source that gives one byte at a time, as a slow pipe might.
struct Dribble<'a>(&'a [u8]);

impl Read for Dribble<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min(1);
        self.0.read(&mut out[..count])
    }
}

fn options(sample: &Sample) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.kind = ImageKind::from_file_name(&sample.file_name).map(|(kind, _)| kind);
    options
}

fn copy<R: Read>(mut reader: ImageReader<R>) -> Result<Vec<u8>> {
    let mut writer = ImageWriter::new(Vec::new(), reader.header(), reader.byte_order())?;
    reader.copy_to(&mut writer)?;
    writer.finish()
}

fn all_samples() -> impl Iterator<Item = (ByteOrder, Sample)> {
    let little = samples(Order::Little)
        .into_iter()
        .map(|sample| (ByteOrder::Little, sample));
    little.chain(
        samples(Order::Big)
            .into_iter()
            .map(|sample| (ByteOrder::Big, sample)),
    )
}

#[test]
fn the_table_has_the_kinds_of_criu() {
    assert_eq!(ImageKind::ALL.len(), 85);
    assert_eq!(KINDS.len(), 85);
    for (ours, theirs) in ImageKind::ALL.iter().zip(KINDS) {
        assert_eq!(ours.name(), theirs.name);
        assert_eq!(ours.magic().unwrap_or(0), theirs.magic, "{ours}");
        assert_eq!(ours.first_word().value(), theirs.first.word(), "{ours}");
        let id = if theirs.file.contains("shm") { 7 } else { 11 };
        let name = match theirs.name {
            "GHOST_FILE" | "TCP_STREAM" => theirs.file.replace('#', &format!("{id:x}")),
            _ => theirs.file.replace('#', &id.to_string()),
        };
        assert_eq!(ours.file(id), name);
        match ours.entries() {
            Entries::Raw => assert_eq!(theirs.entry, "", "{ours}"),
            Entries::One(entry) => {
                assert_eq!(
                    (entry.name, theirs.only_one),
                    (theirs.entry, true),
                    "{ours}"
                );
            }
            Entries::Many(entry) => {
                assert_eq!(
                    (entry.name, theirs.only_one),
                    (theirs.entry, false),
                    "{ours}"
                );
            }
            Entries::Headed { .. } => assert!(!theirs.only_one, "{ours}"),
        }
    }
    assert_eq!(First::Common.word(), Some(criu_image::kind::IMG_COMMON));
}

#[test]
fn every_kind_comes_back_byte_for_byte() {
    for (order, sample) in all_samples() {
        let about = format!("{} ({}, {order:?})", sample.kind, sample.about);
        let reader = options(&sample).read(&sample.bytes[..]).expect(&about);
        // Two legacy kinds go by names that newer ones have.
        if !sample.kind.contains("PAGES_OLD") {
            assert_eq!(reader.kind().name(), sample.kind, "{about}");
        }
        assert_eq!(copy(reader).expect(&about), sample.bytes, "{about}");
    }
}

#[test]
fn sources_may_give_a_byte_at_a_time_seek_or_know_their_length() {
    for (_, sample) in all_samples() {
        let about = format!("{} ({})", sample.kind, sample.about);
        let reader = options(&sample).read(Dribble(&sample.bytes)).expect(&about);
        assert_eq!(copy(reader).expect(&about), sample.bytes, "{about}");
        let reader = options(&sample).read_seekable(io::Cursor::new(&sample.bytes));
        assert_eq!(
            copy(reader.expect(&about)).expect(&about),
            sample.bytes,
            "{about}"
        );
    }
}

#[test]
fn payloads_can_be_passed_over() {
    for (_, sample) in all_samples() {
        let about = format!("{} ({})", sample.kind, sample.about);
        let mut streamed = options(&sample).read(&sample.bytes[..]).expect(&about);
        let mut seeking = options(&sample)
            .read_seekable(io::Cursor::new(&sample.bytes))
            .expect(&about);
        let mut entries = 0;
        while let Some(entry) = streamed.next_entry().expect(&about) {
            let (offset, bytes) = (entry.offset, entry.bytes.to_vec());
            let other = seeking.next_entry().expect(&about).expect(&about);
            assert_eq!((other.offset, other.bytes), (offset, &bytes[..]), "{about}");
            entries += 1;
        }
        assert!(seeking.next_entry().expect(&about).is_none(), "{about}");
        assert_eq!(entries, sample.entries, "{about}");
    }
}

#[test]
fn the_byte_order_can_be_insisted_on() {
    for (order, sample) in all_samples() {
        let other = match order {
            ByteOrder::Little => ByteOrder::Big,
            ByteOrder::Big => ByteOrder::Little,
        };
        let mut right = options(&sample);
        right.byte_order = Some(order);
        right.read(&sample.bytes[..]).expect(sample.kind);
        let mut wrong = options(&sample);
        wrong.byte_order = Some(other);
        match wrong.read(&sample.bytes[..]) {
            Ok(reader) => assert!(reader.kind().is_raw(), "{}", sample.kind),
            Err(error) => assert!(
                matches!(error.reason(), ErrorKind::OtherByteOrder { .. }),
                "{error}"
            ),
        }
    }
}

#[test]
fn truncation_at_every_byte_is_an_error_or_a_shorter_image() {
    for sample in samples(Order::Little) {
        for end in 0..sample.bytes.len().min(2000) {
            let cut = &sample.bytes[..end];
            let mut known = options(&sample);
            known.len = Some(end as u64);
            for copied in [
                known.read(cut).and_then(copy),
                options(&sample).read(cut).and_then(copy),
            ] {
                match copied {
                    Ok(copied) => assert_eq!(copied, cut, "{} cut at {end}", sample.kind),
                    Err(error) => assert!(
                        matches!(
                            error.reason(),
                            ErrorKind::Truncated { .. } | ErrorKind::ExceedsFile { .. }
                        ),
                        "{error}"
                    ),
                }
            }
        }
    }
}

#[test]
fn damage_anywhere_is_an_error_or_another_image_but_no_panic() {
    for sample in samples(Order::Little) {
        for at in 0..sample.bytes.len().min(500) {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = sample.bytes.clone();
                damaged[at] ^= flip;
                let mut known = options(&sample);
                known.len = Some(damaged.len() as u64);
                if let Ok(copied) = known.read(&damaged[..]).and_then(copy) {
                    assert_eq!(copied, damaged, "{} damaged at {at}", sample.kind);
                }
            }
        }
    }
}
