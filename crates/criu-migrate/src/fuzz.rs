//! What the fuzzers do with bytes from a peer.
//!
//! Takes any bytes and must come back: no panic, no hang, no memory beyond what the bytes account for.

use crate::conversation::{Party, Stage};
use crate::frame::{
    Channel, Frame, HEADER_BYTES, Header, PREAMBLE_BYTES, decode_preamble, encode_preamble,
};
use crate::message::Message;
use crate::sparse;
use crate::staging::ImageName;

/// Takes bytes for what a peer sends: a preamble, then frames, then messages in them.
///
/// # Panics
///
/// When a frame or message does not come back as it was, an image name is no plain name, or a stream
/// with zeros taken out is another than before.
pub fn migrate_message(bytes: &[u8]) {
    sparse_round_trip(bytes);
    let bytes = match bytes.split_first_chunk::<PREAMBLE_BYTES>() {
        Some((preamble, rest)) if decode_preamble(preamble).is_ok() => rest,
        _ => bytes,
    };
    let mut stage = Stage::Opening;
    for frame in frames(bytes) {
        let Frame::Control(body) = frame else {
            continue;
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

fn sparse_round_trip(bytes: &[u8]) {
    let mut encoded = Vec::new();
    let sent = sparse::encode(Channel::Image, bytes, &mut encoded);
    let mut decoded = Vec::new();
    let mut data = 0;
    for frame in frames(&encoded) {
        match frame {
            Frame::Data(Channel::Image, bytes) => {
                data += bytes.len();
                decoded.extend_from_slice(&bytes);
            }
            Frame::Zeros(Channel::Image, count) => {
                let count = usize::try_from(count).expect("no more than there were");
                decoded.resize(decoded.len() + count, 0);
            }
            other => panic!("{other:?} in an image"),
        }
    }
    assert_eq!((decoded.as_slice(), data), (bytes, sent));
}

/// Streams worth starting from: the conversation of a migration, whole.
pub fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        r#"{"say":"offer","host":{"name":"a","architecture":"x86_64","kernel":"6","page_size_bytes":4096,"criu":"4.3"},"needs":{"file_locks":true},"pids":[5],"resident_bytes":1}"#,
        r#"{"say":"accept","name":"a","architecture":"x86_64","kernel":"6","page_size_bytes":4096,"criu":"4.3"}"#,
        r#"{"say":"open-sync","path":"/srv/../etc","pass":"first"}"#,
        r#"{"say":"synced"}"#,
        r#"{"say":"open-pages"}"#,
        r#"{"say":"pages-ready"}"#,
        r#"{"say":"image","name":"../core-1.img","len_bytes":7}"#,
        r#"{"say":"complete","images":1}"#,
        r#"{"say":"restored","pid":1}"#,
        r#"{"say":"commit"}"#,
        r#"{"say":"committed","pid":1}"#,
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
        ] {
            frame.encode(&mut conversation);
        }
    }
    seeds.push(conversation);
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
        let conversation = seeds.last().unwrap();
        let frames = frames(&conversation[PREAMBLE_BYTES..]);
        assert_eq!(frames.len(), 15 * 5);
        let mut stage = Stage::Opening;
        let turns =
            [0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1].map(|n| [Party::Source, Party::Destination][n]);
        for (frame, speaker) in frames.iter().step_by(5).zip(turns) {
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
