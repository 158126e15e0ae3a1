//! An image of every kind.

use super::kinds::{First, KINDS, Kind};
use super::{Fill, Image, Order, Proto, filled};

/// An image with made-up content.
#[derive(Clone, Debug)]
pub struct Sample {
    /// CRIU's name of the kind.
    pub kind: &'static str,
    /// A name that a file of the kind can have.
    pub file_name: String,
    /// What is special about it.
    pub about: &'static str,
    /// The image.
    pub bytes: Vec<u8>,
    /// How many entries it has.
    pub entries: u64,
}

/// Makes images of every kind: plain ones, with all fields, with unknown fields, with encodings
/// that no encoder of CRIU's makes, and with and without the first word of version 1.1.
#[must_use]
pub fn samples(order: Order) -> Vec<Sample> {
    let mut samples = Vec::new();
    for kind in KINDS {
        if kind.entry.is_empty() {
            let image = words(kind, order, kind.first).raw("raw bytes, \0\u{1}\u{2}");
            samples.push(sample(kind, "raw", image, 0));
            samples.push(sample(kind, "empty", words(kind, order, kind.first), 0));
            continue;
        }
        for (about, first, fill) in [
            ("required fields", kind.first, Fill::Required),
            ("all fields", kind.first, Fill::All),
            ("version 1.0", First::None, Fill::All),
        ] {
            let (image, entries) = body(kind, words(kind, order, first), fill, Proto::clone);
            samples.push(sample(kind, about, image, entries));
        }
        let (image, entries) = body(kind, words(kind, order, kind.first), Fill::All, odd);
        samples.push(sample(
            kind,
            "unknown fields and odd encodings",
            image,
            entries,
        ));
        samples.push(sample(
            kind,
            "no entries",
            words(kind, order, kind.first),
            0,
        ));
    }
    samples
}

fn sample(kind: &Kind, about: &'static str, image: Image, entries: u64) -> Sample {
    let bytes = image.into_bytes();
    Sample {
        kind: kind.name,
        file_name: kind.file.replace('#', "11"),
        about,
        bytes,
        entries,
    }
}

fn words(kind: &Kind, order: Order, first: First) -> Image {
    let mut image = Image::new(order);
    if let Some(word) = first.word() {
        image = image.word(word);
    }
    match kind.magic {
        0 => image,
        magic => image.word(magic),
    }
}

/// The message with fields from a later version, of every wire type, and longer than needed.
fn odd(message: &Proto) -> Proto {
    let tail = Proto::new()
        .varint(1000, u64::MAX)
        .long_varint(1001, 5)
        .fixed64(1002, 7)
        .fixed32(1003, 8)
        .bytes(1004, b"\xff\0later")
        .group(1005, &Proto::new().varint(1, 1));
    message.clone().then(&tail)
}

/// Adds entries, each with the payload that its kind has.
fn body(kind: &Kind, image: Image, fill: Fill, change: fn(&Proto) -> Proto) -> (Image, u64) {
    let plain = change(&filled(kind.entry, fill));
    // The fields that say what follows are given again behind the others: the last value counts.
    let with = |fields: Proto| change(&filled(kind.entry, fill).then(&fields));
    match kind.name {
        "PIPES_DATA" | "FIFO_DATA" => {
            let image = image.entry(&with(Proto::new().varint(2, 5))).raw("hello");
            (image.entry(&with(Proto::new().varint(2, 0))), 2)
        }
        "SK_QUEUES" => {
            let image = image.entry(&with(Proto::new().varint(2, 3))).raw([0, 1, 2]);
            (image.entry(&with(Proto::new().varint(2, 1))).raw([9]), 2)
        }
        "TCP_STREAM" => {
            let image = image.entry(&with(Proto::new().varint(1, 3).varint(3, 4)));
            (image.raw("inbytes"), 1)
        }
        "BPFMAP_DATA" => {
            let image = image.entry(&with(Proto::new().varint(2, 8).varint(3, 4)));
            let image = image.raw([1; 8]).raw([2; 4]);
            (
                image.entry(&with(Proto::new().varint(2, 0).varint(3, 0))),
                2,
            )
        }
        "IPCNS_SEM" => {
            let image = image.entry(&with(Proto::new().varint(2, 3)));
            let image = image.half(1).half(2).half(0xffff).raw([0, 0xee]);
            let image = image.entry(&with(Proto::new().varint(2, 4)));
            let image = image.half(4).half(5).half(6).half(7);
            (image.entry(&with(Proto::new().varint(2, 0))), 3)
        }
        "IPCNS_MSG" => {
            let header = |len| Proto::new().varint(1, 1).varint(2, len);
            let image = image.entry(&with(Proto::new().varint(3, 3)));
            let image = image.entry(&header(3)).raw("abc").raw([0; 5]);
            let image = image.entry(&change(&header(8))).raw("abcdefgh");
            let image = image.entry(&header(0));
            (image.entry(&with(Proto::new().varint(3, 0))), 2)
        }
        "IPCNS_SHM" => {
            let image = image.entry(&with(Proto::new().varint(2, 5).varint(3, 0)));
            let image = image.raw("hello").raw([0; 3]);
            let image = image.entry(&with(Proto::new().varint(2, 1 << 40).varint(3, 1)));
            let image = image.entry(&with(Proto::new().varint(2, 4).varint(3, 0)));
            (image.raw("four"), 3)
        }
        "GHOST_FILE" if fill == Fill::All => {
            let chunk = |len, at| change(&Proto::new().varint(1, len).varint(2, at));
            let image = image.entry(&with(Proto::new().varint(9, 1)));
            let image = image.entry(&chunk(6, 0)).raw("chunk1");
            let image = image.entry(&chunk(0, 4096));
            (image.entry(&chunk(2, 8192)).raw("c2"), 4)
        }
        "GHOST_FILE" => (image.entry(&plain).raw("the whole file"), 1),
        "PAGEMAP" | "SHMEM_PAGEMAP" => {
            let head = change(&Proto::new().varint(1, 1));
            (image.entry(&head).entry(&plain).entry(&plain), 3)
        }
        _ if kind.only_one => (image.entry(&plain), 1),
        _ => (image.entry(&plain).entry(&plain), 2),
    }
}
