//! The protobuf layer against bytes written by hand.

use criu_image::message::{
    CgroupDirEntry, CoreEntry, CoreEntryMarch, FdTypes, FileEntry, PagemapBlocks, PagemapEntry,
    RegFileEntry, VmaEntry,
};
use criu_image::schema::{self, FieldKind, Label};
use criu_image::wire::slot::OpenEnum;
use criu_image::wire::{
    DecodeErrorKind, Fields, Message, RECURSION_LIMIT, Value, WireType, write_tag, write_varint,
};

/// vaddr 0x10000, compat_nr_pages 0, flags 4, nr_pages 2, in CRIU's own order.
const PAGEMAP: &[u8] = &[0x08, 0x80, 0x80, 0x04, 0x10, 0x00, 0x20, 0x04, 0x28, 0x02];

#[test]
fn a_message_decodes_and_encodes_to_the_same_bytes() {
    let entry = PagemapEntry::decode(PAGEMAP).expect("valid");
    assert_eq!(entry.vaddr, 0x10000);
    assert_eq!(entry.compat_nr_pages, 0);
    assert_eq!(entry.in_parent, None);
    assert_eq!(entry.flags, Some(4));
    assert_eq!(entry.nr_pages, Some(2));
    assert_eq!(entry.encode(), PAGEMAP);
}

#[test]
fn fields_may_come_in_any_order_and_the_last_value_counts() {
    let entry = PagemapEntry::decode(&[0x28, 1, 0x10, 0, 0x08, 5, 0x28, 7]).expect("valid");
    assert_eq!((entry.vaddr, entry.nr_pages), (5, Some(7)));
}

#[test]
fn unknown_fields_of_every_wire_type_are_kept_and_written_back() {
    let mut bytes = PAGEMAP.to_vec();
    bytes.extend([0xa0, 0x06, 0x96, 0x01]); // 100: varint
    bytes.extend([0xa9, 0x06, 1, 2, 3, 4, 5, 6, 7, 8]); // 101: 64 bits
    bytes.extend([0xb2, 0x06, 3, b'a', b'b', b'c']); // 102: bytes
    bytes.extend([0xbb, 0x06, 0x08, 0x01, 0xbc, 0x06]); // 103: group
    bytes.extend([0xc5, 0x06, 1, 2, 3, 4]); // 104: 32 bits
    let entry = PagemapEntry::decode(&bytes).expect("valid");
    assert_eq!(entry.unknown.as_bytes(), &bytes[PAGEMAP.len()..]);
    let numbers: Vec<_> = entry
        .unknown
        .fields()
        .map(|field| field.expect("kept whole").number())
        .collect();
    assert_eq!(numbers, [100, 101, 102, 103, 104]);
    assert_eq!(entry.encode(), bytes);
}

#[test]
fn lists_are_taken_packed_and_not_whatever_the_schema_says() {
    // block_sizes is packed in the schema: two loose elements, then a packed piece.
    let bytes = [0x08, 1, 0x08, 2, 0x0a, 3, 3, 0x80, 0x01, 0x10, 9, 0x18, 1];
    let blocks = PagemapBlocks::decode(&bytes).expect("valid");
    assert_eq!(blocks.block_sizes, [1, 2, 3, 128]);
    assert_eq!(
        blocks.encode(),
        [0x0a, 5, 1, 2, 3, 0x80, 0x01, 0x10, 9, 0x18, 1]
    );
}

#[test]
fn varints_may_be_longer_than_needed_and_have_all_64_bits() {
    let entry = PagemapEntry::decode(&[0x88, 0x00, 0x81, 0x80, 0x00, 0x10, 0x80, 0x00]);
    assert_eq!(entry.expect("valid").vaddr, 1);
    let mut bytes = vec![0x08];
    write_varint(u64::MAX, &mut bytes);
    bytes.extend([0x10, 0]);
    let entry = PagemapEntry::decode(&bytes).expect("valid");
    assert_eq!(entry.vaddr, u64::MAX);
    assert_eq!(entry.encode(), bytes);
}

#[test]
fn a_single_message_in_several_pieces_is_merged_before_it_is_checked() {
    // type REG, id 1, reg in two pieces, neither of which has all required fields.
    let whole = RegFileEntry {
        id: 1,
        name: "/a".into(),
        ..Default::default()
    }
    .encode();
    let mut fields = Fields::new(&whole);
    let first = fields.next().expect("a field").expect("valid").as_bytes();
    let rest = &whole[first.len()..];
    let mut bytes = vec![0x08, 1, 0x10, 1];
    for piece in [first, rest] {
        write_tag(3, WireType::Bytes, &mut bytes);
        write_varint(piece.len() as u64, &mut bytes);
        bytes.extend_from_slice(piece);
    }
    let entry = FileEntry::decode(&bytes).expect("valid");
    assert_eq!(entry.reg.expect("set").name, "/a");
}

#[test]
fn negative_numbers_and_unknown_enum_numbers_survive() {
    let file = RegFileEntry {
        mnt_id: Some(-7),
        ..Default::default()
    };
    assert_eq!(RegFileEntry::decode(&file.encode()).expect("valid"), file);
    for number in [77, -3] {
        let entry = FileEntry {
            r#type: FdTypes::from_number(number),
            id: 1,
            ..Default::default()
        };
        assert_eq!(entry.r#type, FdTypes::Unrecognized(number));
        assert_eq!(FileEntry::decode(&entry.encode()).expect("valid"), entry);
    }
    assert_eq!(CoreEntryMarch::from_number(1), CoreEntryMarch::X86_64);
}

#[test]
fn declared_defaults_are_known() {
    assert_eq!(RegFileEntry::default().mnt_id_or_default(), -1);
    assert!(criu_image::message::UserDescT::default().read_exec_only);
}

#[test]
fn text_need_not_be_utf_8() {
    let file = RegFileEntry {
        name: b"/tmp/\xff\xfe".into(),
        ..Default::default()
    };
    assert_eq!(
        RegFileEntry::decode(&file.encode()).expect("valid").name,
        file.name
    );
}

#[test]
fn long_messages_get_long_length_prefixes() {
    let mut entry = CoreEntry::default();
    let filler = vec![0x5a; 70_000];
    entry.tc = Some(Box::new(criu_image::message::TaskCoreEntry {
        comm: filler.clone().into(),
        ..Default::default()
    }));
    let decoded = CoreEntry::decode(&entry.encode()).expect("valid");
    assert_eq!(decoded, entry);
}

#[test]
fn a_missing_required_field_is_named() {
    let error = PagemapEntry::decode(&[0x08, 1]).expect_err("field 2 is missing");
    assert_eq!(
        *error.kind(),
        DecodeErrorKind::MissingRequired {
            field: "compat_nr_pages"
        }
    );
    assert_eq!(
        error.to_string(),
        "pagemap_entry: required field `compat_nr_pages` is missing (at byte 0 of the message)"
    );
}

#[test]
fn errors_give_the_path_and_the_offset_in_the_whole_message() {
    // mm_entry.vmas (14) holds a vma whose `end` (2) is a string.
    let bytes = [0x08, 1, 0x72, 5, 0x08, 1, 0x12, 1, b'x'];
    let error = criu_image::message::MmEntry::decode(&bytes).expect_err("wrong wire type");
    assert_eq!(error.path(), "mm_entry.vmas.end");
    assert_eq!(error.offset(), 6);
    assert_eq!(
        *error.kind(),
        DecodeErrorKind::WrongWireType {
            expected: WireType::Varint,
            found: WireType::Bytes
        }
    );
}

#[test]
fn malformed_bytes_are_refused_with_the_reason() {
    let cases: &[(&[u8], DecodeErrorKind)] = &[
        (&[0x80], DecodeErrorKind::Truncated { what: "field tag" }),
        (&[0x08, 0xff], DecodeErrorKind::Truncated { what: "varint" }),
        (
            &[0x09, 1, 2],
            DecodeErrorKind::Truncated {
                what: "64-bit value",
            },
        ),
        (
            &[0x0d, 1],
            DecodeErrorKind::Truncated {
                what: "32-bit value",
            },
        ),
        (
            &[0x32, 5, 1],
            DecodeErrorKind::LengthTooLarge {
                length: 5,
                remaining: 1,
            },
        ),
        (&[0x00, 1], DecodeErrorKind::InvalidTag { tag: 0 }),
        (&[0x0e], DecodeErrorKind::InvalidWireType { wire_type: 6 }),
        (&[0x0f], DecodeErrorKind::InvalidWireType { wire_type: 7 }),
        (&[0x0c], DecodeErrorKind::StrayEndGroup { number: 1 }),
        (
            &[0x0b, 0x08, 1],
            DecodeErrorKind::UnclosedGroup { number: 1 },
        ),
        (&[0x0b, 0x14], DecodeErrorKind::UnclosedGroup { number: 1 }),
    ];
    for (bytes, kind) in cases {
        let error = PagemapEntry::decode(bytes).expect_err("malformed");
        assert_eq!(error.kind(), kind, "{bytes:x?}");
    }
    let mut bytes = vec![0x08];
    bytes.extend([0xff; 10]);
    bytes.push(1);
    let error = PagemapEntry::decode(&bytes).expect_err("eleven bytes");
    assert_eq!(*error.kind(), DecodeErrorKind::VarintTooLong);
    let mut length = vec![0x32];
    write_varint(u64::MAX, &mut length);
    let error = PagemapEntry::decode(&length).expect_err("hostile length");
    assert_eq!(
        *error.kind(),
        DecodeErrorKind::LengthTooLarge {
            length: u64::MAX,
            remaining: 0
        }
    );
}

#[test]
fn nesting_is_limited() {
    let nest = |levels: u32| {
        let mut bytes = Vec::new();
        for _ in 0..levels {
            // dir_name, then the children so far.
            let mut outer = vec![0x0a, 1, b'd'];
            write_tag(2, WireType::Bytes, &mut outer);
            write_varint(bytes.len() as u64, &mut outer);
            outer.extend_from_slice(&bytes);
            bytes = if bytes.is_empty() {
                vec![0x0a, 1, b'd']
            } else {
                outer
            };
        }
        bytes
    };
    CgroupDirEntry::decode(&nest(RECURSION_LIMIT)).expect("just deep enough");
    let error = CgroupDirEntry::decode(&nest(RECURSION_LIMIT + 2)).expect_err("too deep");
    assert_eq!(
        *error.kind(),
        DecodeErrorKind::TooDeep {
            limit: RECURSION_LIMIT
        }
    );
    let mut groups = vec![0x0b; 1 << 20];
    groups.extend(vec![0x0c; 1 << 20]);
    let error = PagemapEntry::decode(&groups).expect_err("too deep");
    assert_eq!(
        *error.kind(),
        DecodeErrorKind::TooDeep {
            limit: RECURSION_LIMIT
        }
    );
}

#[test]
fn truncation_at_every_byte_never_panics() {
    let vma = VmaEntry {
        start: 0x1000,
        end: 0x2000,
        fdflags: Some(3),
        ..Default::default()
    };
    let bytes = vma.encode();
    for end in 0..bytes.len() {
        if let Ok(decoded) = VmaEntry::decode(&bytes[..end]) {
            assert_ne!(decoded, vma);
        }
    }
}

#[test]
fn every_message_has_a_consistent_table() {
    for message in schema::MESSAGES {
        assert!(
            message.fields.is_sorted_by_key(|field| field.number),
            "{}",
            message.name
        );
        assert_eq!(message.by_name.len(), message.fields.len());
        for (index, field) in message.fields.iter().enumerate() {
            assert_eq!(message.field_index(field.number), Some(index));
            assert_eq!(
                message.field_named(field.name).expect("named").number,
                field.number
            );
            assert!(!field.packed || field.label == Label::Repeated);
            if let FieldKind::Message(inner) = field.kind {
                assert!(
                    schema::message(inner.name).is_some(),
                    "{} is listed",
                    inner.name
                );
            }
        }
        assert!(message.field(0).is_none());
        assert!(message.field_named("no such field").is_none());
    }
    let pagemap = schema::message("pagemap_entry").expect("known");
    assert_eq!(
        pagemap.field(4).expect("flags").crit.flags,
        Some("pmap.flags")
    );
}

#[test]
fn a_walk_over_the_fields_sees_values_as_they_stand() {
    let values: Vec<_> = Fields::new(PAGEMAP)
        .map(|field| field.map(|field| (field.number(), field.value(), field.offset())))
        .collect::<Result<_, _>>()
        .expect("valid");
    assert_eq!(
        values,
        [
            (1, Value::Varint(0x10000), 0),
            (2, Value::Varint(0), 4),
            (4, Value::Varint(4), 6),
            (5, Value::Varint(2), 8)
        ]
    );
}

#[test]
fn a_known_field_with_a_foreign_wire_type_counts_as_unknown() {
    // `flags` (4) as a string, `blocks` (6) as a number, beside the two that are required.
    let bytes = [0x08, 1, 0x22, 1, b'x', 0x10, 2, 0x30, 7];
    let entry = PagemapEntry::decode(&bytes).expect("decodes");
    assert_eq!((entry.vaddr, entry.compat_nr_pages), (1, 2));
    assert_eq!((entry.flags, &entry.blocks), (None, &None));
    assert_eq!(entry.unknown.as_bytes(), [0x22, 1, b'x', 0x30, 7]);
    assert_eq!(PagemapEntry::decode(&entry.encode()), Ok(entry));
}

#[test]
fn a_message_field_is_whole_whatever_stands_between_its_pieces() {
    // `blocks` (6) in two pieces, with a number under the same tag between them.
    let bytes = [
        0x08, 1, 0x10, 2, 0x32, 2, 0x10, 5, 0x30, 7, 0x32, 2, 0x18, 6,
    ];
    let entry = PagemapEntry::decode(&bytes).expect("decodes");
    let blocks = entry.blocks.as_deref().expect("blocks");
    assert_eq!((blocks.total_payload_size, blocks.pages_per_block), (5, 6));
    assert_eq!(entry.unknown.as_bytes(), [0x30, 7]);
}

#[test]
fn a_few_bytes_do_not_become_very_many() {
    use criu_image::message::{CgControllerEntry, CgroupEntry};
    use criu_image::wire::memory_limit;
    // `controllers` (2) without anything in them: two bytes each, and a struct of 80.
    let controllers = |count| [0x12, 0].repeat(count);
    let entry = CgroupEntry::decode(&controllers(100_000)).expect("decodes");
    assert_eq!(entry.controllers.len(), 100_000);
    assert_eq!(entry.controllers.capacity(), 100_000, "no room to spare");
    let bytes = controllers(memory_limit(0) / size_of::<CgControllerEntry>() * 2);
    let error = CgroupEntry::decode(&bytes).expect_err("too large");
    let limit = memory_limit(bytes.len());
    assert_eq!(*error.kind(), DecodeErrorKind::TooLarge { limit });
    assert_eq!(error.path(), "cgroup_entry.controllers");
}

#[test]
fn a_list_in_very_many_pieces_is_taken_in_linear_time() {
    use criu_image::message::PagemapBlocks;
    // `block_sizes` (1), single and packed in turn, then the required rest.
    let mut bytes = [0x08, 1, 0x0a, 2, 1, 1].repeat(200_000);
    bytes.extend([0x10, 0, 0x18, 0]);
    let blocks = PagemapBlocks::decode(&bytes).expect("decodes");
    assert_eq!(blocks.block_sizes, [1].repeat(600_000));
}
