//! Payloads of every length, in base64 of every layout, however the text arrives.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use criu_image::ImageKind;
use criu_inspect::fuzz;
use criu_inspect::json::{self, EncodeOptions};

use crate::lossless::image;
use crate::synthetic::varint_field;
use crate::{check_lossless, compact, encode};

/// Bytes of a line of base64.
const LINE: usize = 57;

/// Bytes whose base64 is as long as what the encoder decodes at a time.
const DECODED_AT_A_TIME: usize = (64 << 10) / 4 * 3;

/// Bytes of text that are read at a time.
const READ_AT_A_TIME: usize = 128 << 10;

/// Bytes that are printed as base64 at a time.
const PRINTED_AT_A_TIME: usize = 128 * LINE;

/// Longest payload here, in bytes.
const LONGEST: usize = 200 << 10;

/// How base64 may be laid out within a string.
const LAYOUTS: [fn(&str) -> String; 5] = [
    // Python's and ours.
    str::to_owned,
    // Go's: one line.
    |lines| lines.replace("\\n", ""),
    |lines| lines.replace("\\n", "").replace('=', ""),
    |lines| lines.replace("\\n", "\\r\\u000a"),
    |lines| lines.replace("\\n", " ").replace('/', "\\/"),
];

/// Hands out as many bytes at a time as it is told.
struct InPieces<'a> {
    text: &'a [u8],
    len: usize,
}

impl Read for InPieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.len.min(buffer.len());
        self.text.read(&mut buffer[..len])
    }
}

fn payload(len: usize) -> Vec<u8> {
    let numbers = (0..len as u64).map(|index| index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    numbers.map(|number| number.to_be_bytes()[0]).collect()
}

/// An unlinked file with this content.
fn ghost(content: &[u8]) -> Vec<u8> {
    let mut image = image(ImageKind::GhostFile, &[b"\x08\x01\x10\x00\x18\xa4\x83\x02"]);
    image.extend(content);
    image
}

/// The text of an image with one payload: before the payload, its base64, and behind.
fn parts(text: &str) -> (&str, &str, &str) {
    let (head, rest) = text.split_once("\"extra\": \"").expect("has a payload");
    let (base64, tail) = rest.split_once('"').expect("it ends");
    (head, base64, tail)
}

#[track_caller]
fn check_pieces(text: &str, len: usize, image: &[u8], about: &str) {
    let mut back = Vec::new();
    let reader = InPieces {
        text: text.as_bytes(),
        len,
    };
    match json::encode(reader, &mut back, EncodeOptions::default()) {
        Ok(_) => assert!(
            back == image,
            "{about}, {len} bytes at a time: not the same"
        ),
        Err(error) => panic!("{about}, {len} bytes at a time: {error}"),
    }
}

/// Every layout of the image encodes to the image.
#[track_caller]
fn check_layouts(image: &[u8], about: &str) {
    let text = compact(image);
    let (head, base64, tail) = parts(&text);
    for (number, layout) in LAYOUTS.iter().enumerate() {
        let text = format!("{head}\"extra\": \"{}\"{tail}", layout(base64));
        check_pieces(
            &text,
            usize::MAX,
            image,
            &format!("{about}, layout {number}"),
        );
    }
}

/// Lengths around the multiples of these.
fn around(units: &[usize]) -> BTreeSet<usize> {
    let boundaries = units.iter().flat_map(|&unit| (unit..LONGEST).step_by(unit));
    boundaries
        .flat_map(|boundary| boundary - 3..=boundary + 3)
        .collect()
}

#[test]
fn payloads_of_every_length_come_back() {
    let whole_lines = DECODED_AT_A_TIME.next_multiple_of(LINE);
    let mut lengths = around(&[
        DECODED_AT_A_TIME,
        READ_AT_A_TIME / 4 * 3,
        READ_AT_A_TIME / 78 * LINE,
        whole_lines,
        PRINTED_AT_A_TIME,
    ]);
    lengths.extend(0..=2 * LINE + 3);
    lengths.extend((0..LONGEST).step_by(8191));
    // As much as is decoded at a time is there within the last line, whose end may be padded.
    for boundary in (whole_lines..LONGEST).step_by(whole_lines) {
        lengths.extend(boundary - LINE..boundary);
    }
    let content = payload(LONGEST + 3);
    for len in lengths {
        let image = ghost(&content[..len]);
        check_pieces(
            &compact(&image),
            usize::MAX,
            &image,
            &format!("{len} bytes"),
        );
    }
}

#[test]
fn base64_may_be_laid_out_as_others_do() {
    let mut lengths = around(&[DECODED_AT_A_TIME, READ_AT_A_TIME / 4 * 3]);
    lengths.extend(0..=LINE + 1);
    let content = payload(LONGEST + 3);
    for len in lengths {
        check_layouts(&ghost(&content[..len]), &format!("{len} bytes"));
    }
}

#[test]
fn text_may_begin_anywhere_in_the_buffer() {
    // By each offset another character is the last one in the buffer: one of an escape, and in one
    // line one of the padding, or the quote.
    let image = ghost(&payload(READ_AT_A_TIME / 4 * 3 - 95));
    let text = compact(&image);
    let (head, base64, tail) = parts(&text);
    for layout in LAYOUTS {
        let text = format!("{head}\"extra\": \"{}\"{tail}", layout(base64));
        for offset in 0..84 {
            let text = format!("{:offset$}{text}", "");
            check_pieces(&text, usize::MAX, &image, &format!("{offset} spaces"));
        }
    }
}

#[test]
fn text_may_come_in_pieces() {
    let content = payload(LONGEST);
    for len in [0, 1, 2, 100, DECODED_AT_A_TIME + 1] {
        let image = ghost(&content[..len]);
        let text = compact(&image);
        let (head, base64, tail) = parts(&text);
        for layout in LAYOUTS {
            let text = format!("{head}\"extra\": \"{}\"{tail}", layout(base64));
            let up_to_the_end = head.len() + 10 + layout(base64).len();
            for pieces in (1..=13).chain([77, 78, 79, 4096]).chain(
                // All but the closing quote, all but the padding.
                up_to_the_end.saturating_sub(3)..=up_to_the_end + 1,
            ) {
                check_pieces(&text, pieces, &image, &format!("{len} bytes"));
            }
        }
    }
}

#[test]
fn entries_before_the_magic_have_long_payloads_too() {
    for len in [DECODED_AT_A_TIME - 2, DECODED_AT_A_TIME + 1] {
        let image = ghost(&payload(len));
        let text = compact(&image);
        let entries = text
            .strip_prefix(r#"{"magic": "GHOST_FILE", "#)
            .and_then(|text| text.strip_suffix('}'))
            .expect("is a ghost file");
        let text = format!(r#"{{{entries}, "magic": "GHOST_FILE"}}"#);
        assert!(encode(text).expect("it can be encoded") == image);
    }
}

#[test]
fn long_payloads_of_every_kind_come_back() {
    let field = |number, value: usize, out: &mut Vec<u8>| varint_field(number, value as u64, out);
    let entry = |fields: &[(u32, usize)]| {
        let mut entry = Vec::new();
        for &(number, value) in fields {
            field(number, value, &mut entry);
        }
        entry
    };
    let content = payload(LONGEST);
    let descriptor = b"\x0a\x0e\x08\x01\x10\x00\x18\x00\x20\x00\x28\x00\x30\x00\x38\x01";
    for len in [
        DECODED_AT_A_TIME - 2,
        DECODED_AT_A_TIME - 1,
        DECODED_AT_A_TIME,
        DECODED_AT_A_TIME + 1,
        2 * DECODED_AT_A_TIME + 1,
    ] {
        let data = &content[..len];
        let padded = |to: usize| [data, &vec![0; len.next_multiple_of(to) - len]].concat();
        for kind in [ImageKind::PipesData, ImageKind::FifoData] {
            let mut pipe = image(kind, &[&entry(&[(1, 7), (2, len)])]);
            pipe.extend(data);
            check_lossless(&pipe);
            check_layouts(&pipe, &format!("{kind}, {len} bytes"));
        }
        let mut packet = image(ImageKind::SkQueues, &[&entry(&[(1, 7), (2, len)])]);
        packet.extend(data);
        check_lossless(&packet);
        let stream = entry(&[(1, len), (2, 1), (3, len), (4, 1), (5, 0), (6, 0), (7, 0)]);
        let mut stream = image(ImageKind::TcpStream, &[&stream]);
        stream.extend([data, data].concat());
        check_lossless(&stream);
        // As Go has it: JSON within a string, the queue to be written later first.
        let text = compact(&stream);
        let (head, queues) = text.split_once("\"extra\": {").expect("has queues");
        let (inbound, outbound) = queues.split_once(", \"outq\": ").expect("has two");
        let (outbound, tail) = outbound.split_once('}').expect("they end");
        let inbound = inbound.strip_prefix("\"inq\": ").expect("it is first");
        let quoted = format!("{{\"out_q\": {outbound}, \"in_q\": {inbound}}}")
            .replace("\\n", "")
            .replace('"', "\\\"");
        let text = format!("{head}\"extra\": \"{quoted}\"{tail}");
        check_pieces(&text, usize::MAX, &stream, "queues in a string");
        let map = entry(&[(1, 7), (2, len / 2), (3, len - len / 2), (4, 1)]);
        let mut map = image(ImageKind::BpfmapData, &[&map]);
        map.extend(data);
        check_lossless(&map);
        let mut segment = descriptor.to_vec();
        field(2, len, &mut segment);
        let mut segment = image(ImageKind::IpcnsShm, &[&segment]);
        segment.extend(padded(4));
        check_lossless(&segment);
        let mut queue = descriptor.to_vec();
        field(2, len, &mut queue);
        field(3, 1, &mut queue);
        let mut queue = image(ImageKind::IpcnsMsg, &[&queue]);
        let header = entry(&[(1, 1), (2, len)]);
        queue.extend((header.len() as u32).to_le_bytes());
        queue.extend(header);
        queue.extend(padded(8));
        check_lossless(&queue);
        let whole = entry(&[(1, 1), (2, 0), (3, 33188), (9, 1), (10, 3 * len)]);
        let chunk = entry(&[(1, len), (2, 2 * len)]);
        let mut chunks = image(ImageKind::GhostFile, &[&whole, &chunk]);
        chunks.extend(data);
        check_lossless(&chunks);
    }
}

#[test]
fn padding_ends_long_base64() {
    let base64 = "AAAA".repeat((64 << 10) / 4 - 1);
    for tail in ["AA==AAAA", "AAA=A", "A===", "AA=", "A", "AAA==", "AA==="] {
        for lead in [0, 1, 2, 3, 4, 5] {
            let lead = "AAAA".repeat(lead);
            let text = format!(
                r#"{{"magic": "GHOST_FILE", "entries": [{{"uid": 1, "gid": 0, "mode": 33188, "extra": "{lead}{base64}{tail}"}}]}}"#
            );
            let error = encode(text).expect_err("it is no base64").to_string();
            assert!(error.ends_with("extra: invalid base64"), "{tail}: {error}");
        }
    }
}

#[test]
fn what_fuzzing_found_stays_mended() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fuzz");
    let json_round_trip: fn(&[u8]) = fuzz::json_round_trip;
    let targets = [
        ("json_round_trip", json_round_trip),
        ("json_text", fuzz::json_text),
        ("explore", fuzz::explore),
    ];
    let mut count = 0;
    for (target, body) in targets {
        for input in fs::read_dir(found.join(target)).into_iter().flatten() {
            body(&fs::read(input.expect("reads").path()).expect("reads"));
            count += 1;
        }
    }
    assert!(count > 0, "the inputs are there");
}
