//! Images of hand-written bytes, read and written.

use criu_image::message::{IpcMsgEntry, PstreeEntry};
use criu_image::payload::Role;
use criu_image::wire::Message;
use criu_image::{ByteOrder, ErrorKind, ImageKind, ImageReader, ImageWriter, ReadOptions, Result};

/// A pipe with five bytes, and one with none.
const PIPES: &[u8] = b"\x19\x43\x56\x54\x09\x37\x45\x56\
    \x04\0\0\0\x08\x07\x10\x05hello\
    \x08\0\0\0\x08\x08\x10\0\x18\x80\x80\x04";

fn copy(bytes: &[u8], kind: Option<ImageKind>) -> Result<Vec<u8>> {
    let mut options = ReadOptions::default();
    options.kind = kind;
    options.len = Some(bytes.len() as u64);
    let mut reader = options.read(bytes)?;
    let mut writer = ImageWriter::new(Vec::new(), reader.header(), reader.byte_order())?;
    reader.copy_to(&mut writer)?;
    writer.finish()
}

#[test]
fn payloads_come_with_their_entries() {
    let mut reader = ImageReader::new(PIPES).expect("an image");
    assert_eq!(reader.kind(), ImageKind::PipesData);
    let mut entry = reader.next_entry().expect("reads").expect("an entry");
    assert_eq!(
        (entry.index, entry.offset, entry.descriptor.name),
        (0, 8, "pipe_data_entry")
    );
    let mut part = entry.payload.next_part().expect("reads").expect("a part");
    assert_eq!((part.role(), part.len()), (Role::Data, Some(5)));
    assert_eq!(part.to_vec().expect("reads"), b"hello");
    assert!(entry.payload.next_part().expect("reads").is_none());
    let mut entry = reader.next_entry().expect("reads").expect("an entry");
    assert_eq!(
        entry
            .payload
            .next_part()
            .expect("reads")
            .expect("a part")
            .len(),
        Some(0)
    );
    assert!(reader.next_entry().expect("reads").is_none());
    assert_eq!(copy(PIPES, None).expect("copies"), PIPES);
}

#[test]
fn what_is_not_read_of_a_payload_is_passed_over() {
    let mut reader = ImageReader::new(PIPES).expect("an image");
    let mut ids = Vec::new();
    while let Some(entry) = reader.next_entry().expect("reads") {
        ids.push(
            entry
                .decode::<criu_image::message::PipeDataEntry>()
                .expect("decodes")
                .pipe_id,
        );
    }
    assert_eq!(ids, [7, 8]);
}

#[test]
fn message_queues_are_walked_message_by_message_with_their_padding() {
    let queue = IpcMsgEntry {
        qnum: 2,
        ..Default::default()
    }
    .encode();
    let mut bytes = b"\x19\x43\x56\x54\x37\x37\x45\x55".to_vec();
    bytes.extend(u32::try_from(queue.len()).expect("small").to_le_bytes());
    bytes.extend(&queue);
    bytes.extend(b"\x04\0\0\0\x08\x01\x10\x03abc\xff\xff\xff\xff\xff");
    bytes.extend(b"\x04\0\0\0\x08\x02\x10\x08abcdefgh");
    let mut reader = ImageReader::new(&bytes[..]).expect("an image");
    let mut entry = reader.next_entry().expect("reads").expect("an entry");
    let mut parts = Vec::new();
    while let Some(mut part) = entry.payload.next_part().expect("reads") {
        parts.push((part.role(), part.to_vec().expect("reads")));
    }
    let expected: Vec<(Role, Vec<u8>)> = vec![
        (Role::MessageHeader, b"\x08\x01\x10\x03".to_vec()),
        (Role::MessageData, b"abc".to_vec()),
        (Role::Padding, vec![0xff; 5]),
        (Role::MessageHeader, b"\x08\x02\x10\x08".to_vec()),
        (Role::MessageData, b"abcdefgh".to_vec()),
    ];
    assert_eq!(parts, expected);
    assert_eq!(copy(&bytes, None).expect("copies"), bytes);
}

#[test]
fn images_of_version_1_0_have_no_first_word() {
    let bytes = b"\x30\x30\x27\x50\x0a\0\0\0\x08\x01\x10\0\x18\x01\x20\x01\x28\x01";
    let mut reader = ImageReader::new(&bytes[..]).expect("an image");
    assert_eq!(reader.header().first_word, None);
    let task = reader.only_entry::<PstreeEntry>().expect("decodes");
    assert_eq!(task.threads, [1]);
    assert_eq!(copy(bytes, None).expect("copies"), bytes);
}

#[test]
fn the_byte_order_is_told_from_the_magic_or_insisted_on() {
    let bytes = b"\x54\x56\x43\x19\x50\x27\x30\x30\0\0\0\x0a\x08\x01\x10\0\x18\x01\x20\x01\x28\x01";
    let mut reader = ImageReader::new(&bytes[..]).expect("an image");
    assert_eq!(reader.byte_order(), ByteOrder::Big);
    assert_eq!(reader.only_entry::<PstreeEntry>().expect("decodes").pid, 1);
    assert_eq!(copy(bytes, None).expect("copies"), bytes);
    let mut options = ReadOptions::default();
    options.byte_order = Some(ByteOrder::Little);
    let error = options.read(&bytes[..]).expect_err("the other order");
    assert!(
        matches!(error.reason(), ErrorKind::OtherByteOrder { .. }),
        "{error}"
    );
}

#[test]
fn no_magic_reads_as_another_one_in_the_other_byte_order() {
    for kind in ImageKind::ALL {
        if let Some(magic) = kind.magic() {
            assert!(
                ImageKind::from_magic(magic.swap_bytes()).is_none(),
                "{kind}"
            );
        }
    }
}

#[test]
fn names_tell_kinds_that_the_magic_does_not() {
    let cases = [
        ("pagemap-12.img", ImageKind::Pagemap, Some(12)),
        ("pagemap-shmem-7.img", ImageKind::ShmemPagemap, Some(7)),
        ("pages-1.img", ImageKind::Pages, Some(1)),
        ("pages-shmem-3.img", ImageKind::ShmPagesOld, Some(3)),
        ("ghost-file-1f.img", ImageKind::GhostFile, Some(0x1f)),
        ("tmpfs-dev-40.tar.gz.img", ImageKind::TmpfsDev, Some(40)),
        ("tmpfs-40.tar.gz.img", ImageKind::TmpfsImg, Some(40)),
        ("stats-dump", ImageKind::Stats, None),
        ("netns-ct-10.img", ImageKind::NetnfCt, Some(10)),
        ("netns-10.img", ImageKind::Netns, Some(10)),
    ];
    for (name, kind, id) in cases {
        assert_eq!(ImageKind::from_file_name(name), Some((kind, id)), "{name}");
    }
    for name in [
        "",
        "core-.img",
        "core-01.img",
        "core-1.img.bak",
        "ghost-file-1F.img",
        "x.img",
    ] {
        assert_eq!(ImageKind::from_file_name(name), None, "{name}");
    }
}

#[test]
fn hostile_sizes_are_refused_before_memory_is_taken() {
    let mut bytes = PIPES[..8].to_vec();
    bytes.extend(0x7fff_ffffu32.to_le_bytes());
    bytes.extend([0; 16]);
    let error = copy(&bytes, None).expect_err("longer than the file");
    assert!(
        matches!(
            error.reason(),
            ErrorKind::ExceedsFile {
                size: 0x7fff_ffff,
                remaining: 16,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(
        error.to_string(),
        "PIPES_DATA image: entry 0 at byte 12: entry of 2147483647 bytes exceeds the 16 bytes \
         left in the file"
    );
    // From a pipe the length is not known.
    let error = ImageReader::new(&bytes[..])
        .expect("an image")
        .next_entry()
        .expect_err("too long");
    assert!(
        matches!(error.reason(), ErrorKind::Truncated { found: 16, .. }),
        "{error}"
    );
}

#[test]
fn truncation_anywhere_is_an_error_or_an_entry_boundary() {
    for end in 0..PIPES.len() {
        match copy(&PIPES[..end], None) {
            Ok(copied) => assert!(end == 8 || end == 21, "{end}: {copied:x?}"),
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

#[test]
fn unknown_magics_are_named() {
    let error = ImageReader::new(&b"\x19\x43\x56\x54\x01\x02\x03\x04"[..]).expect_err("no image");
    assert!(
        matches!(
            error.reason(),
            ErrorKind::UnknownMagic { magic: 0x0403_0201 }
        ),
        "{error}"
    );
}
