//! What the fuzzers do with bytes from a peer.
//!
//! Takes any bytes and must come back: no panic, no hang, no memory beyond what the bytes account for.

use crate::block::{BLOCK_BYTES_MAX, Codec, LEAD_BYTES_MAX, encode_lead};
use crate::compression::Compression;
use crate::conversation::{Party, Stage};
use crate::delta::bases::Bases;
use crate::encoder::{Encoder, Traffic};
use crate::frame::{
    Abilities, Block, CONTROL_BYTES_MAX, Channel, Frame, HEADER_BYTES, Header, Operation,
    PREAMBLE_BYTES, Pieces, decode_preamble, encode_preamble,
};
use crate::images_dir::ImageName;
use crate::message::Message;
use crate::page_stream::{COMMAND_BYTES, StreamKind};
use crate::preflight::{Here, compare};
use crate::window::Expander;

/// Takes bytes for what a peer sends: a preamble, then frames, then messages in them.
///
/// # Panics
///
/// When a frame or message does not come back as it was, an image name is no plain name, a block expands to
/// more than it may, or a stream that was sent is another than before.
pub fn migrate_message(bytes: &[u8]) {
    for (channel, compression) in [
        (Channel::Pages, Compression::Always),
        (Channel::Image, Compression::Off),
    ] {
        let way = Way {
            channel,
            compression,
            reads: 1 + bytes.len() / 2,
            ..Way::default()
        };
        pass_through(bytes, &way);
    }
    let bytes = match bytes.split_first_chunk::<PREAMBLE_BYTES>() {
        Some((preamble, rest)) if decode_preamble(preamble).is_ok() => rest,
        _ => bytes,
    };
    let mut stage = Stage::Opening;
    let mut expander = Expander::default();
    expander.build_upon(Some(Bases::new(StreamKind::Dump, std::iter::empty())));
    for frame in frames(bytes) {
        let body = match frame {
            Frame::Control(body) => body,
            Frame::Data(channel, bytes) => {
                expander.data(channel, bytes);
                continue;
            }
            Frame::Block(channel, block) => match expander.block(channel, block) {
                Ok((bytes, _)) => {
                    assert!(bytes.len() <= BLOCK_BYTES_MAX, "{} bytes", bytes.len());
                    continue;
                }
                Err(_) => return,
            },
            _ => continue,
        };
        let Ok(message) = Message::decode(&body) else {
            return;
        };
        let again = Message::decode(&message.encode()).expect("what we write we can read");
        if !matches!(message, Message::Abort { .. } | Message::Refuse { .. }) {
            assert_eq!(message, again);
        }
        if let Message::Image { name, .. } = &message
            && let Some(name) = ImageName::parse(name)
        {
            let name = name.as_str();
            assert!(
                !name.contains(['/', '\0']) && name != ".." && name != ".",
                "{name}"
            );
        }
        if let Message::Offer(offer) | Message::Inspect(offer) = &message
            && offer.facts.check_bounds().is_ok()
        {
            let report = compare(&offer.facts, &Here::default()).fit();
            let findings = Message::Findings(Box::new(report)).encode();
            assert!(findings.len() < CONTROL_BYTES_MAX, "{}", findings.len());
        }
        let next = [Party::Source, Party::Destination]
            .into_iter()
            .find_map(|speaker| stage.after(speaker, &message).ok());
        match next {
            Some(next) => stage = next,
            None => return,
        }
    }
}

/// The frames of some bytes, up to what is none.
fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
        let Ok(header) = Header::decode(header) else {
            break;
        };
        let Some(body) = rest.get(..header.body_bytes) else {
            break;
        };
        let Ok(frame) = header.with_body(body.to_vec()) else {
            break;
        };
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(
            bytes.get(..again.len()),
            Some(again.as_slice()),
            "a frame has one form"
        );
        bytes = rest.get(header.body_bytes..).unwrap_or_default();
        frames.push(frame);
    }
    frames
}

/// How a stream is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) channel: Channel,
    pub(crate) compression: Compression,
    /// Most bytes that are read at once.
    pub(crate) reads: usize,
    pub(crate) peer: Abilities,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            channel: Channel::Pages,
            compression: Compression::Off,
            reads: usize::MAX,
            peer: Abilities::ours(),
        }
    }
}

/// Sends a stream and receives it, both sides here; panics unless it arrives as it was.
pub(crate) fn pass_through(stream: &[u8], way: &Way) -> Traffic {
    let mut encoder = Encoder::new(way.peer);
    pass_between(&mut encoder, &mut Expander::default(), stream, way);
    encoder.traffic()
}

/// As [`pass_through`], between two sides that may know of streams before.
pub(crate) fn pass_between(
    encoder: &mut Encoder,
    expander: &mut Expander,
    stream: &[u8],
    way: &Way,
) {
    encoder.set_compression(way.compression);
    let mut source = stream;
    let mut arrived = 0;
    let mut expect = |bytes: &[u8]| {
        let sent = stream.get(arrived..arrived + bytes.len());
        assert!(
            sent == Some(bytes),
            "other bytes than were sent, from {arrived} on"
        );
        arrived += bytes.len();
    };
    let read = |source: &mut &[u8], buffer: &mut [u8]| -> Result<usize, std::convert::Infallible> {
        let count = buffer.len().min(source.len()).min(way.reads);
        let (now, later) = source.split_at(count);
        buffer[..count].copy_from_slice(now);
        *source = later;
        Ok(count)
    };
    while let Ok(Some(encoded)) = encoder.encode(way.channel, |buffer| read(&mut source, buffer)) {
        let mut rest = encoded.frames;
        while let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
            let header = Header::decode(header).expect("our own header");
            let (body, after) = after.split_at(header.body_bytes);
            let mut buffer = expander.buffer(body.len());
            buffer.copy_from_slice(body);
            match header.with_body(buffer).expect("our own frame") {
                Frame::Data(channel, bytes) => expect(&expander.data(channel, bytes)),
                Frame::Block(channel, block) => {
                    expect(&expander.block(channel, block).expect("our own block").0);
                }
                Frame::Zeros(channel, count) => {
                    expander.zeros(channel, count);
                    expect(&vec![0; usize::try_from(count).expect("a block's")]);
                }
                other => panic!("{other:?} in a stream"),
            }
            rest = after;
        }
        assert!(rest.is_empty(), "whole frames");
    }
    assert_eq!(arrived, stream.len());
}

/// A block of this and literals.
fn block(operations: &[Operation], codec: Codec, literal_bytes: usize, payload: &[u8]) -> Frame {
    let mut lead = vec![0; LEAD_BYTES_MAX];
    let at = encode_lead(operations, literal_bytes, codec, &mut lead);
    let body = [&lead[at..], payload].concat();
    Frame::Block(
        Channel::Pages,
        Block::decode(body).expect("a block within its limits"),
    )
}

/// Streams worth starting from: the conversation of a migration, whole.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"say":"offer","host":{"name":"a","architecture":"x86_64","kernel":"6","page_size_bytes":4096,"criu":"4.3"},"needs":{"file_locks":true},"pids":[5],"memory_bytes":1,"namespaces":["time"],"files":[{"path":"/lib/../x","mode":33261,"len_bytes":9,"build_id":"ab"}],"mounts":[{"mountpoint":"/d","fstype":"ext4","role":{"external":"k"}}],"sockets":[{"family":"inet","protocol":"tcp","local":"[::1]:80","remote":"[::2]:1"},{"family":"unix","name":"@x"}],"cgroups":[{"hierarchy":"cpu","path":"/"}],"lsm":{"module":"selinux","profiles":["x"]},"left_out":[{"check":"files","count":1}],"ignore":["pids"]}"#,
        r#"{"say":"findings","findings":[{"check":"files","object":"/x","wanted":"there","found":"missing","severity":"blocks","remedy":"copy it"}],"not_compared":[{"check":"lsm","why":"because"}],"left_out":1}"#,
        r#"{"say":"accept","name":"a","architecture":"x86_64","kernel":"6","page_size_bytes":4096,"criu":"4.3"}"#,
        r#"{"say":"open-sync","path":"/srv/../etc","pass":"first"}"#,
        r#"{"say":"synced"}"#,
        r#"{"say":"open-pages"}"#,
        r#"{"say":"pages-ready"}"#,
        r#"{"say":"round-done"}"#,
        r#"{"say":"round-stored"}"#,
        r#"{"say":"open-pages"}"#,
        r#"{"say":"pages-ready"}"#,
        r#"{"say":"image","name":"../core-1.img","len_bytes":7}"#,
        r#"{"say":"complete","images":1,"pages_follow":true}"#,
        r#"{"say":"restored","pid":1}"#,
        r#"{"say":"commit"}"#,
        r#"{"say":"committed","pid":1,"resumed_after_us":9,"pages_follow":true}"#,
        r#"{"say":"filled"}"#,
        r#"{"say":"abort","reason":"because"}"#,
        r#"{"say":"refuse","reason":"because"}"#,
        r#"{"say":"checkpointed","descriptors":["/dev/null","pipe:[1]"]}"#,
        r#"{"say":"ready"}"#,
    ];
    let mut conversation = encode_preamble().to_vec();
    let mut seeds = Vec::new();
    for text in texts {
        Frame::Control(text.into()).encode(&mut conversation);
        seeds.push(conversation.clone());
        for frame in [
            Frame::Data(Channel::Image, b"payload".to_vec()),
            Frame::Zeros(Channel::Pages, 4096),
            Frame::End(Channel::Image),
            Frame::Beat,
            block(
                &[
                    Operation::Literal(3),
                    Operation::Zeros(9),
                    Operation::Copy {
                        len_bytes: 2,
                        from: 1,
                    },
                ],
                Codec::Stored,
                3,
                b"abc",
            ),
        ] {
            frame.encode(&mut conversation);
        }
    }
    seeds.push(conversation);
    let mut pages = encode_preamble().to_vec();
    let mut head = [0; COMMAND_BYTES];
    head[0] = 6;
    head[2] = 4;
    head[8] = 2;
    Frame::Data(Channel::Pages, head.to_vec()).encode(&mut pages);
    let patch = Operation::Patch {
        changed: Pieces(2),
        check: 1,
    };
    block(&[patch], Codec::Stored, 256, &[7; 256]).encode(&mut pages);
    seeds.push(pages);
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_conversations_are_survived() {
        let mut state = 3_u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap()
        };
        for seed in seeds() {
            migrate_message(&seed);
            for _ in 0..300 {
                let mut bytes = seed.clone();
                for _ in 0..=random() % 4 {
                    let at = random() % bytes.len();
                    match random() % 4 {
                        0 => bytes[at] ^= 1 << (random() % 8),
                        1 => bytes.truncate(at.max(1)),
                        2 => bytes.insert(at, u8::try_from(random() % 256).unwrap()),
                        _ => {
                            bytes.splice(at..at, vec![0; random() % 1500]);
                        }
                    }
                }
                migrate_message(&bytes);
            }
        }
    }

    #[test]
    fn the_seeds_are_the_whole_conversation_in_order() {
        let seeds = seeds();
        let conversation = &seeds[seeds.len() - 2];
        let frames = frames(&conversation[PREAMBLE_BYTES..]);
        assert_eq!(frames.len(), 21 * 6);
        let mut stage = Stage::Opening;
        let turns = [0, 1, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1, 1]
            .map(|n| [Party::Source, Party::Destination][n]);
        for (frame, speaker) in frames.iter().step_by(6).zip(turns) {
            let Frame::Control(body) = frame else {
                panic!("{frame:?}");
            };
            stage = stage
                .after(speaker, &Message::decode(body).unwrap())
                .unwrap();
        }
        assert_eq!(stage, Stage::Over);
    }
}
