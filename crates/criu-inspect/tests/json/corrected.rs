//! What Python CRIT 4.3 gets wrong, and what is right. `docs/crit.md` lists the same cases.

use criu_image::{ByteOrder, Header, ImageKind, ImageWriter};
use criu_inspect::json::{self, DecodeOptions, Payloads, Style};

use crate::lossless::{TASK, image, pstree};
use crate::synthetic::{counted_field, varint_field};
use crate::{check_lossless, compact, decode, encode, open, pretty};

fn without_payloads(image: &[u8]) -> String {
    let options = DecodeOptions::new(Style::Pretty).payloads(Payloads::Size);
    let text = decode(image, options).expect("the image can be decoded");
    String::from_utf8(text).expect("text is ASCII")
}

fn fields(numbers: &[(u32, u64)]) -> Vec<u8> {
    let mut entry = Vec::new();
    for &(number, value) in numbers {
        varint_field(number, value, &mut entry);
    }
    entry
}

/// Python cannot encode the contents of BPF maps, nor leave them out.
#[test]
fn contents_of_bpf_maps_go_both_ways() {
    let entry = fields(&[(1, 5), (2, 4), (3, 8), (4, 1)]);
    let mut image = image(ImageKind::BpfmapData, &[&entry]);
    image.extend(b"key1value..1");
    assert!(compact(&image).contains(r#""extra": "a2V5MXZhbHVlLi4x\n""#));
    assert!(without_payloads(&image).contains(r#""extra": "... <12B>""#));
    check_lossless(&image);
}

fn segment(id: u64, in_pagemaps: Option<u64>) -> Vec<u8> {
    let description = fields(&[(1, 1), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0o600), (7, id)]);
    let mut entry = Vec::new();
    counted_field(1, &description, &mut entry);
    varint_field(2, 5, &mut entry);
    if let Some(value) = in_pagemaps {
        varint_field(3, value, &mut entry);
    }
    entry
}

/// Python takes the entry of the next segment for the content of the one before.
#[test]
fn content_of_segments_in_page_maps_is_not_looked_for_behind_them() {
    let image = image(
        ImageKind::IpcnsShm,
        &[&segment(7, Some(1)), &segment(8, Some(1))],
    );
    let text = compact(&image);
    assert_eq!(
        text.matches(r#""in_pagemaps": true, "extra": """#).count(),
        2,
        "{text}"
    );
    assert_eq!(
        without_payloads(&image)
            .matches(r#""extra": "... <5B>""#)
            .count(),
        2
    );
    check_lossless(&image);
}

/// Python cannot encode the content of segments that have it.
#[test]
fn content_of_segments_goes_both_ways() {
    let mut image = image(ImageKind::IpcnsShm, &[&segment(7, None)]);
    image.extend(b"hello\0\0\0");
    assert!(compact(&image).contains(r#""extra": "aGVsbG8=\n"}"#));
    check_lossless(&image);
}

/// Padding is zeros; if it is not, Python loses it.
#[test]
fn padding_is_kept() {
    let mut image = image(ImageKind::IpcnsShm, &[&segment(7, None)]);
    image.extend(b"hello\0\x01\0");
    assert!(compact(&image).contains(r#""extra": "aGVsbG8=\n", "__padding__": "AAEA\n"}"#));
    check_lossless(&image);
}

#[test]
fn padding_of_messages_is_kept() {
    let description = fields(&[(1, 1), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0o600), (7, 3)]);
    let mut entry = Vec::new();
    counted_field(1, &description, &mut entry);
    varint_field(2, 100, &mut entry);
    varint_field(3, 3, &mut entry);
    let mut image = image(ImageKind::IpcnsMsg, &[&entry]);
    for (data, padding) in [
        (&b"one"[..], &b"\0\0\0\0\0"[..]),
        (b"three", b"\0\x09\0"),
        (b"12345678", b""),
    ] {
        let header = fields(&[(1, 1), (2, data.len() as u64)]);
        image.extend((header.len() as u32).to_le_bytes());
        image.extend(header);
        image.extend(data);
        image.extend(padding);
    }
    let text = compact(&image);
    assert!(
        text.contains(r#"{"mtype": 1, "msize": 5}, "dGhyZWU=\n", {"__padding__": "AAkA\n"}, {"#),
        "{text}"
    );
    check_lossless(&image);
}

/// Python knows these magics, but not what the entries are.
#[test]
fn signals_binary_formats_and_pidfds_have_entries() {
    let mut signal = Vec::new();
    counted_field(1, b"\x01\x02\x03", &mut signal);
    let signal = image(ImageKind::Signal, &[&signal]);
    assert_eq!(
        compact(&signal),
        r#"{"magic": "SIGNAL", "entries": [{"siginfo": "AQID\n"}]}"#
    );
    check_lossless(&signal);
    for kind in [ImageKind::BinfmtMisc, ImageKind::Pidfd] {
        check_lossless(&crate::synthetic::image(
            kind,
            &mut crate::synthetic::Numbers::new(3),
        ));
    }
}

/// Python takes what follows an entry for the size of the next.
#[test]
fn entries_are_counted_without_what_follows_them() {
    let entry = fields(&[(1, 5), (2, 9)]);
    let mut pipes = image(ImageKind::PipesData, &[&entry]);
    pipes.extend(b"\x01\0\0\0\0\0\0\0\0");
    pipes.extend(&image(ImageKind::PipesData, &[&fields(&[(1, 6), (2, 0)])])[8..]);
    let info = json::info(&mut open(&pipes)).expect("it is an image");
    assert_eq!((info.kind, info.count), (ImageKind::PipesData, 2));
    assert_eq!(
        info.to_string(),
        "{\n    \"magic\": \"PIPES_DATA\",\n    \"count\": 2\n}"
    );
    let ghost = fields(&[(1, 0), (2, 0), (3, 0o100_644), (9, 1), (10, 100)]);
    let chunk = fields(&[(1, 3), (2, 50)]);
    let mut file = image(ImageKind::GhostFile, &[&ghost, &chunk]);
    file.extend(b"abc");
    assert_eq!(
        json::info(&mut open(&file)).expect("it is an image").count,
        2
    );
}

/// Python drops them, and then cannot encode the entry if the field is required.
#[test]
fn unknown_values_of_enums_are_numbers() {
    let files = image(ImageKind::Files, &[&fields(&[(1, 999), (2, 5)])]);
    assert_eq!(
        compact(&files),
        r#"{"magic": "FILES", "entries": [{"type": 999, "id": 5}]}"#
    );
    check_lossless(&files);
}

/// Python fails at addresses of two or three words, and drops the words past the fourth.
#[test]
fn odd_addresses_are_words() {
    let address = |count: u64| {
        let mut tunnel = fields(&[]);
        (0..count).for_each(|word| varint_field(2, word + 0x0100_007f, &mut tunnel));
        let device = tunnel_device(&tunnel);
        check_lossless(&device);
        pretty(&device)
    };
    assert!(address(1).contains("\"127.0.0.1\""));
    assert!(
        address(4).contains("\"7f00:1:8000:1:8100:1:8200:1\""),
        "{}",
        address(4)
    );
    for count in [2, 3, 5] {
        let text = address(count);
        assert!(text.contains(&format!("{},\n", 0x0100_007f)), "{text}");
        assert!(
            text.contains(&format!("{}\n", 0x0100_007f + count - 1)),
            "{text}"
        );
    }
}

/// A network device that is a tunnel with these fields.
fn tunnel_device(tunnel: &[u8]) -> Vec<u8> {
    let mut device = fields(&[(1, 6), (2, 1), (3, 1), (4, 1)]);
    counted_field(5, b"sit1", &mut device);
    counted_field(15, tunnel, &mut device);
    image(ImageKind::Netdev, &[&device])
}

/// Python drops the lack of a first word, and makes an image of version 1.1.
#[test]
fn images_of_version_1_0_stay_so() {
    let whole = pstree(TASK);
    let image = &whole[4..];
    assert!(compact(image).starts_with(r#"{"magic": "PSTREE", "__header__": {"first_word": 0}, "#));
    check_lossless(image);
}

/// Python reads and writes the byte order of the machine it runs on.
#[test]
fn images_of_other_machines_stay_in_their_byte_order() {
    let header = Header::new(ImageKind::IpcnsSem);
    let mut writer = ImageWriter::new(Vec::new(), header, ByteOrder::Big).expect("memory takes it");
    let mut entry = Vec::new();
    let description = fields(&[(1, 1), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0o600), (7, 3)]);
    counted_field(1, &description, &mut entry);
    varint_field(2, 3, &mut entry);
    writer.entry(&entry).expect("memory takes it");
    writer
        .data(b"\0\x01\0\x02\x01\0\0\0")
        .expect("memory takes it");
    let image = writer.finish().expect("memory takes it");
    let text = compact(&image);
    assert!(
        text.contains(r#""__header__": {"byte_order": "big"}"#),
        "{text}"
    );
    assert!(text.contains(r#""extra": [1, 2, 256]"#), "{text}");
    check_lossless(&image);
}

/// Python makes all line breaks of a name like the first.
#[test]
fn line_breaks_of_two_kinds_in_a_name_are_kept() {
    use criu_image::message::UnixSkEntry;
    use criu_image::wire::Message;
    let entry = UnixSkEntry {
        name: b"/a\nb\r\n".to_vec(),
        ..UnixSkEntry::default()
    };
    let image = image(ImageKind::Unixsk, &[&entry.encode()]);
    assert!(
        compact(&image).contains(r#""name": "/a=0Ab=0D=0A""#),
        "{}",
        compact(&image)
    );
    check_lossless(&image);
}

/// Python takes every string for true, and counts a flag that is named twice twice.
#[test]
fn words_mean_what_they_say() {
    let shm = |value: &str| {
        format!(
            r#"{{"magic": "IPCNS_SHM", "entries": [{{"desc": {{"key": 1, "uid": 0, "gid": 0, "cuid": 0, "cgid": 0, "mode": 0, "id": 1}}, "size": 0, "in_pagemaps": {value}, "extra": ""}}]}}"#
        )
    };
    let encoded = |value: &str| encode(shm(value)).expect("it can be encoded");
    assert_eq!(encoded("\"false\""), encoded("false"));
    assert_eq!(encoded("\"true\""), encoded("1"));
    assert_ne!(encoded("true"), encoded("false"));
}

/// Python silently takes what is there.
#[test]
fn a_payload_that_is_cut_off_is_an_error() {
    let mut image = image(ImageKind::PipesData, &[&fields(&[(1, 5), (2, 9)])]);
    image.extend(b"short");
    let error = decode(&image, DecodeOptions::default()).expect_err("four bytes are missing");
    assert!(
        error.to_string().contains("PIPES_DATA image: entry 0"),
        "{error}"
    );
}

/// Python writes nothing, and the image is out of step from there.
#[test]
fn a_payload_that_does_not_fit_its_entry_is_an_error() {
    for extra in ["", r#", "extra": """#, r#", "extra": "aGVsbG8=""#] {
        let text = format!(
            r#"{{"magic": "PIPES_DATA", "entries": [{{"pipe_id": 1, "bytes": 4{extra}}}]}}"#
        );
        let error = encode(text).expect_err("the payload has not four bytes");
        assert!(
            error.to_string().contains("where the entry says 4"),
            "{error}"
        );
    }
}

/// Python jumps to the end of the file behind the first connection.
#[test]
fn connections_without_their_queues_are_all_shown() {
    let entry = fields(&[(1, 3), (2, 1), (3, 2), (4, 1), (5, 0), (6, 0), (7, 0)]);
    let mut image = image(ImageKind::TcpStream, &[&entry]);
    image.extend(b"oneto");
    let one = image[8..].to_vec();
    image.extend(one);
    assert_eq!(
        without_payloads(&image)
            .matches(r#""extra": "... <5B>""#)
            .count(),
        2
    );
    check_lossless(&image);
}

/// Python looks at the first element of every list.
#[test]
fn a_list_may_be_empty() {
    let text = r#"{"magic": "PSTREE", "entries": [{"pid": 1, "ppid": 0, "pgid": 1, "sid": 1, "threads": []}]}"#;
    let image = encode(text).expect("it can be encoded");
    assert_eq!(image, pstree(&TASK[..8]));
}

/// Python adds the bits up.
#[test]
fn a_flag_that_is_named_twice_counts_once() {
    let text = |flags: &str| {
        format!(
            r#"{{"magic": "PAGEMAP", "entries": [{{"pages_id": 1}}, {{"vaddr": 4096, "compat_nr_pages": 1, "flags": "{flags}"}}]}}"#
        )
    };
    let encoded = |flags: &str| encode(text(flags)).expect("it can be encoded");
    assert_eq!(encoded("PE_PRESENT|PE_PRESENT"), encoded("PE_PRESENT"));
    assert_eq!(encoded("PE_PRESENT | 0x4"), encoded("4"));
}
