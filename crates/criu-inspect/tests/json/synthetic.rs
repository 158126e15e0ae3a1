//! Images of every kind with values of every sort, encoded by hand from the schema.

use criu_image::ImageKind;
use criu_image::kind::Entries;
use criu_image::payload::PayloadKind;
use criu_image::schema::{FieldDescriptor, FieldKind, Label, MessageDescriptor};

/// Numbers that look random and are always the same.
#[derive(Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 33) % limit
    }

    fn bytes(&mut self) -> Vec<u8> {
        let len = match self.below(8) {
            0 => 0,
            1 => 57,
            2 => 58,
            3 => 200 + self.below(200),
            _ => self.below(40),
        };
        (0..len).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}

/// An image of this kind with a few entries and their payloads.
pub(crate) fn image(kind: ImageKind, numbers: &mut Numbers) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [kind.first_word().value(), kind.magic()]
        .into_iter()
        .flatten()
    {
        out.extend(word.to_le_bytes());
    }
    let count = match kind.entries() {
        Entries::One(_) => 1,
        _ => 1 + numbers.below(5),
    };
    let is_in_chunks = numbers.below(2) == 0;
    for index in 0..count {
        let Some(descriptor) = kind.entry(index) else {
            return out;
        };
        let payload = numbers.bytes();
        let sizes = Sizes {
            payload: &payload,
            is_in_chunks,
            depth: 0,
        };
        let mut entry = Vec::new();
        let queue = message(descriptor, numbers, &sizes, &mut entry);
        framed(&entry, &mut out);
        match kind.payload() {
            PayloadKind::None => {}
            PayloadKind::IpcMessages => {
                for _ in 0..queue.messages {
                    let data = numbers.bytes();
                    let mut header = Vec::new();
                    varint_field(1, numbers.below(1000), &mut header);
                    varint_field(2, data.len() as u64, &mut header);
                    framed(&header, &mut out);
                    out.extend(&data);
                    pad(data.len(), 8, &mut out);
                }
            }
            PayloadKind::IpcSemaphores => {
                let len = payload.len() / 2 * 2;
                out.extend(&payload[..len]);
                pad(len, 8, &mut out);
            }
            PayloadKind::IpcSharedMemory => {
                out.extend(&payload);
                pad(payload.len(), 4, &mut out);
            }
            PayloadKind::GhostFile if index == 0 && is_in_chunks => {}
            PayloadKind::GhostFile if index == 0 => {
                out.extend(&payload);
                return out;
            }
            _ => out.extend(&payload),
        }
    }
    out
}

/// What the numbers in an entry that say how long its payload is are to say.
struct Sizes<'a> {
    payload: &'a [u8],
    is_in_chunks: bool,
    depth: u32,
}

struct Queue {
    messages: u64,
}

fn message(
    descriptor: &MessageDescriptor,
    numbers: &mut Numbers,
    sizes: &Sizes<'_>,
    out: &mut Vec<u8>,
) -> Queue {
    let mut queue = Queue { messages: 0 };
    for field in descriptor.fields {
        let fixed = match (descriptor.name, field.name) {
            ("pipe_data_entry", "bytes")
            | ("sk_packet_entry", "length")
            | ("ghost_chunk_entry", "len")
            | ("ipc_shm_entry", "size") => Some(sizes.payload.len() as u64),
            ("tcp_stream_entry", "inq_len") | ("bpfmap_data_entry", "keys_bytes") => {
                Some(sizes.payload.len() as u64 / 3)
            }
            ("tcp_stream_entry", "outq_len") | ("bpfmap_data_entry", "values_bytes") => {
                Some(sizes.payload.len() as u64 - sizes.payload.len() as u64 / 3)
            }
            ("ipc_sem_entry", "nsems") => Some(sizes.payload.len() as u64 / 2),
            ("ipc_shm_entry", "in_pagemaps") => Some(0),
            ("ghost_file_entry", "chunks") => Some(sizes.is_in_chunks.into()),
            ("ipc_msg_entry", "qnum") => {
                queue.messages = numbers.below(4);
                Some(queue.messages)
            }
            _ => None,
        };
        if let Some(number) = fixed {
            varint_field(field.number, number, out);
            continue;
        }
        let count = match field.label {
            Label::Required => 1,
            Label::Optional => numbers.below(3).min(1),
            Label::Repeated if field.crit.ipadd => [0, 1, 4][numbers.below(3) as usize],
            Label::Repeated => numbers.below(4),
        };
        // Trees of control groups have no end.
        let is_deep = sizes.depth > 6 && field.label == Label::Repeated;
        if field.packed {
            let mut list = Vec::new();
            (0..count).for_each(|_| varint(number(field, numbers), &mut list));
            if count > 0 {
                counted_field(field.number, &list, out);
            }
            continue;
        }
        for _ in 0..if is_deep { 0 } else { count } {
            match field.kind {
                FieldKind::Message(inner) => {
                    let mut bytes = Vec::new();
                    let inner_sizes = Sizes {
                        depth: sizes.depth + 1,
                        ..*sizes
                    };
                    message(inner, numbers, &inner_sizes, &mut bytes);
                    counted_field(field.number, &bytes, out);
                }
                FieldKind::String => {
                    let text = TEXTS[numbers.below(TEXTS.len() as u64) as usize];
                    counted_field(field.number, text.as_bytes(), out);
                }
                FieldKind::Bytes if field.crit.conv.is_some() => {
                    counted_field(field.number, &socket_name(numbers), out);
                }
                FieldKind::Bytes => counted_field(field.number, &numbers.bytes(), out),
                FieldKind::Fixed64 => {
                    varint(u64::from(field.number) << 3 | 1, out);
                    out.extend(numbers.next().to_le_bytes());
                }
                _ => varint_field(field.number, number(field, numbers), out),
            }
        }
    }
    queue
}

fn number(field: &FieldDescriptor, numbers: &mut Numbers) -> u64 {
    let any = match numbers.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << numbers.below(64),
        3 => numbers.next(),
        _ => numbers.below(12),
    };
    match field.kind {
        FieldKind::Uint32 | FieldKind::Sint32 => any & 0xffff_ffff,
        FieldKind::Int32 if field.crit.hex => any & 0x7fff_ffff,
        FieldKind::Int32 => i64::from(any as i32) as u64,
        FieldKind::Bool => any & 1,
        FieldKind::Enum(values) => {
            let value = &values.values[numbers.below(values.values.len() as u64) as usize];
            i64::from(value.number) as u64
        }
        _ => any,
    }
}

/// A name that tries what quoted-printable treats specially.
fn socket_name(numbers: &mut Numbers) -> Vec<u8> {
    const CHARACTERS: &[u8] = b"aaaaaaaaa./= \t\0\n\x7f\xff\rb";
    let len = numbers.below(200);
    let mut name: Vec<u8> = (0..len)
        .map(|_| CHARACTERS[numbers.below(CHARACTERS.len() as u64) as usize])
        .collect();
    // Python loses line breaks of two kinds in one name; see the test of that.
    while let Some(at) = name.windows(2).position(|pair| pair == b"\r\n") {
        name.remove(at);
    }
    name
}

const TEXTS: &[&str] = &[
    "",
    "/usr/bin/cat",
    "/tmp/a b\"c\\d",
    "tab\tline\nreturn\r\u{8}\u{c}\u{1}\u{7f}",
    "grün \u{20ac} \u{1f600} \u{2028}",
    "</script>&amp;",
];

fn framed(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(bytes);
}

fn pad(len: usize, alignment: usize, out: &mut Vec<u8>) {
    out.resize(out.len() + len.next_multiple_of(alignment) - len, 0);
}

pub(crate) fn varint_field(number: u32, value: u64, out: &mut Vec<u8>) {
    varint(u64::from(number) << 3, out);
    varint(value, out);
}

pub(crate) fn counted_field(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend(bytes);
}

pub(crate) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
