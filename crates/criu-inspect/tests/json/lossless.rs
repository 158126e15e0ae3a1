//! Whatever can be decoded encodes to what it was, however odd; and nothing makes the code panic.

use criu_image::{ErrorKind, ImageKind};
use criu_inspect::json::{DecodeError, DecodeOptions, Style};

use crate::synthetic::{self, Numbers, counted_field, varint_field};
use crate::{check_lossless, compact, decode, encode, pretty};

/// An image of tasks with this entry.
pub(crate) fn pstree(entry: &[u8]) -> Vec<u8> {
    image(ImageKind::Pstree, &[entry])
}

/// An image with these entries.
pub(crate) fn image(kind: ImageKind, entries: &[&[u8]]) -> Vec<u8> {
    let mut image = Vec::new();
    for word in [kind.first_word().value(), kind.magic()]
        .into_iter()
        .flatten()
    {
        image.extend(word.to_le_bytes());
    }
    for entry in entries {
        image.extend((entry.len() as u32).to_le_bytes());
        image.extend(*entry);
    }
    image
}

/// pid, ppid, pgid, sid and a thread.
pub(crate) const TASK: &[u8] = b"\x08\x01\x10\x00\x18\x01\x20\x01\x28\x01";

#[test]
fn canonical_entries_have_no_reserved_members() {
    let image = pstree(TASK);
    let text = compact(&image);
    assert_eq!(
        text,
        r#"{"magic": "PSTREE", "entries": [{"pid": 1, "ppid": 0, "pgid": 1, "sid": 1, "threads": [1]}]}"#
    );
    check_lossless(&image);
}

#[test]
fn odd_encodings_are_kept() {
    for (what, entry) in [
        (
            "out of order",
            &b"\x20\x01\x18\x01\x10\x00\x08\x01\x28\x01"[..],
        ),
        (
            "a number longer than needed",
            b"\x08\x81\x00\x10\x00\x18\x01\x20\x01\x28\x01",
        ),
        (
            "a tag longer than needed",
            b"\x88\x00\x01\x10\x00\x18\x01\x20\x01\x28\x01",
        ),
        (
            "upper bits of a narrow number",
            b"\x08\x81\x80\x80\x80\x10\x10\x00\x18\x01\x20\x01",
        ),
        (
            "given twice, the last one counts",
            b"\x08\x07\x08\x01\x10\x00\x18\x01\x20\x01",
        ),
        (
            "a packed list",
            b"\x08\x01\x10\x00\x18\x01\x20\x01\x2a\x02\x01\x02",
        ),
        (
            "a list in two pieces",
            b"\x08\x01\x10\x00\x18\x01\x20\x01\x2a\x02\x01\x02\x28\x03",
        ),
        (
            "an empty packed list",
            b"\x08\x01\x10\x00\x18\x01\x20\x01\x2a\x00",
        ),
        (
            "a list torn apart",
            b"\x08\x01\x28\x01\x10\x00\x18\x01\x20\x01\x28\x02",
        ),
        (
            "unknown fields in between",
            b"\x08\x01\x10\x00\x98\x06\x05\x18\x01\x20\x01",
        ),
        ("a required field missing", b"\x10\x00\x18\x01\x20\x01"),
        ("nothing at all", b""),
    ] {
        let image = pstree(entry);
        assert!(
            compact(&image).contains("\"__raw__\": "),
            "{what}: {}",
            compact(&image)
        );
        check_lossless(&image);
    }
}

#[test]
fn odd_encodings_read_as_what_they_say() {
    let text = compact(&pstree(
        b"\x20\x02\x08\x07\x08\x01\x10\x00\x18\x01\x2a\x01\x05\x28\x06",
    ));
    let said = r#"{"pid": 1, "ppid": 0, "pgid": 1, "sid": 2, "threads": [5, 6], "__raw__": "#;
    assert!(text.contains(said), "{text}");
    // Two pieces of a message are one message.
    let mut entry = Vec::new();
    varint_field(1, 14, &mut entry);
    varint_field(2, 5, &mut entry);
    counted_field(3, b"\x08\x05\x10\x00", &mut entry);
    counted_field(3, b"\x18\x07\x10\x02", &mut entry);
    let files = image(ImageKind::Files, &[&entry]);
    let text = compact(&files);
    assert!(
        text.contains(r#""reg": {"id": 5, "flags": 2, "pos": 7}, "__raw__""#),
        "{text}"
    );
    check_lossless(&files);
}

#[test]
fn an_edited_entry_is_not_written_as_it_was() {
    let image = pstree(b"\x20\x01\x18\x01\x10\x00\x08\x01\x28\x01");
    let text = compact(&image).replace("\"pid\": 1", "\"pid\": 2");
    let edited = encode(text).expect("it can be encoded");
    assert_eq!(edited, pstree(b"\x08\x02\x10\x00\x18\x01\x20\x01\x28\x01"));
}

#[test]
fn unknown_fields_stand_under_one_key() {
    let mut entry = TASK.to_vec();
    varint_field(100, 5, &mut entry);
    counted_field(101, b"\xff\xfe", &mut entry);
    // A group, and four bytes: no field of CRIU has these.
    entry.extend(b"\xb3\x06\x08\x01\xb4\x06\xbd\x06\x01\x02\x03\x04");
    let image = pstree(&entry);
    let text = compact(&image);
    assert!(
        text.contains("\"__unknown__\": \"oAYFqgYC//6zBggBtAa9BgECAwQ=\\n\"}"),
        "{text}"
    );
    assert!(!text.contains("__raw__"), "{text}");
    check_lossless(&image);
}

#[test]
fn a_field_of_another_wire_type_is_unknown() {
    let image = pstree(b"\x08\x01\x10\x00\x18\x01\x20\x01\x2d\x01\x02\x03\x04");
    let text = compact(&image);
    assert!(text.contains("\"__unknown__\": \"LQECAwQ=\\n\"}"), "{text}");
    check_lossless(&image);
}

#[test]
fn texts_that_are_no_utf8_are_kept() {
    let mut entry = Vec::new();
    counted_field(1, b"caf\xe9\xed\xb2\x80/\xf0\x9f\x98\x80", &mut entry);
    varint_field(2, 1, &mut entry);
    let image = image(ImageKind::ExtFiles, &[&entry]);
    check_lossless(&image);
    let mut entry = TASK.to_vec();
    entry.truncate(8);
    check_lossless(&pstree(&entry));
}

#[test]
fn every_truncation_is_an_error_or_ends_between_entries() {
    for &kind in ImageKind::ALL {
        if kind.entry(0).is_none() {
            continue;
        }
        let whole = synthetic::image(kind, &mut Numbers::new(kind as u64 + 7));
        for len in 0..whole.len() {
            match decode(&whole[..len], DecodeOptions::new(Style::Pretty)) {
                Ok(text) => {
                    let back = encode(&text).expect("what was decoded can be encoded");
                    assert_eq!(back, &whole[..len], "{kind}");
                }
                Err(DecodeError::Image(error)) => {
                    assert!(!matches!(error.reason(), ErrorKind::Io { .. }), "{error}");
                }
                Err(DecodeError::Message { .. }) => {}
                Err(error) => panic!("{kind} cut to {len} bytes: {error}"),
            }
        }
    }
}

#[test]
fn mutated_images_are_kept_or_refused() {
    let mut kept = 0;
    for &kind in ImageKind::ALL {
        if kind.entry(0).is_none() {
            continue;
        }
        let mut numbers = Numbers::new(kind as u64 + 99);
        for _ in 0..60 {
            let mut image = synthetic::image(kind, &mut numbers);
            for _ in 0..=numbers.below(3) {
                let at = numbers.below(image.len() as u64) as usize;
                match numbers.below(4) {
                    0 => image[at] ^= 1 << numbers.below(8),
                    1 => image[at] = numbers.next() as u8,
                    2 => drop(image.remove(at)),
                    _ => image.insert(at, numbers.next() as u8),
                }
            }
            for style in [Style::Compact, Style::Pretty] {
                let Ok(text) = decode(&image, DecodeOptions::new(style)) else {
                    continue;
                };
                kept += 1;
                match encode(&text) {
                    Ok(back) => assert_eq!(back, image, "{}", String::from_utf8_lossy(&text)),
                    Err(error) => panic!("{error}\n{}", String::from_utf8_lossy(&text)),
                }
            }
        }
    }
    assert!(kept > 1000, "only {kept} were decoded");
}

#[test]
fn mutated_texts_do_no_harm() {
    for &kind in ImageKind::ALL {
        if kind.entry(0).is_none() {
            continue;
        }
        let mut numbers = Numbers::new(kind as u64 + 5);
        let text = pretty(&synthetic::image(kind, &mut numbers)).into_bytes();
        for _ in 0..60 {
            let mut text = text.clone();
            for _ in 0..=numbers.below(4) {
                let at = numbers.below(text.len() as u64) as usize;
                let token = TOKENS[numbers.below(TOKENS.len() as u64) as usize];
                match numbers.below(3) {
                    0 => text[at] = numbers.next() as u8,
                    1 => drop(text.remove(at)),
                    _ => drop(text.splice(at..at, token.bytes())),
                }
            }
            if let Err(error) = encode(&text) {
                assert!(error.line() > 0 && error.column() > 0);
                assert!(!error.to_string().is_empty());
            }
        }
        for len in (0..text.len().min(4000)).step_by(83) {
            assert!(encode(&text[..len]).is_err());
        }
    }
}

const TOKENS: &[&str] = &[
    "\"",
    "\\",
    "\\u",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "-",
    "1e9",
    "0.5",
    "99999999999999999999",
    "\"__raw__\": \"AAAA\",",
    "\"__unknown__\": \"CAE=\",",
    "\"extra\": \"\",",
];
