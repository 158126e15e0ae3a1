//! Zero bytes are counted, not sent.
//!
//! Works on the bytes of any stream, wherever pages begin in it: page streams have headers between their
//! pages, image files have holes.

use crate::frame::{Channel, encode_data, encode_zeros};

/// Runs of zero bytes shorter than this are sent as they are: a frame of their own costs 16 bytes, and
/// splits the data around it.
const RUN_BYTES_MIN: usize = 512;

/// Appends the frames for `bytes` of a channel; returns how many of them are data.
pub(crate) fn encode(channel: Channel, bytes: &[u8], output: &mut Vec<u8>) -> usize {
    let (mut sent, mut data_start, mut at) = (0, 0, 0);
    while let Some(run) = next_zero_run(bytes, at) {
        let data = &bytes[data_start..run.start];
        encode_data(channel, data, output);
        sent += data.len();
        encode_zeros(channel, run.len() as u64, output);
        data_start = run.end;
        at = run.end;
    }
    encode_data(channel, &bytes[data_start..], output);
    sent + bytes.len() - data_start
}

/// Finds the first run of at least [`RUN_BYTES_MIN`] zero bytes at or after `from`.
fn next_zero_run(bytes: &[u8], from: usize) -> Option<std::ops::Range<usize>> {
    // Every run that is long enough covers a whole block of half its least length.
    const BLOCK: usize = RUN_BYTES_MIN / 2;
    let mut block = from;
    while let Some(piece) = bytes.get(block..block + BLOCK) {
        if !is_zero(piece) {
            block += BLOCK;
            continue;
        }
        let before = bytes[from..block]
            .iter()
            .rev()
            .take_while(|byte| **byte == 0)
            .count();
        let mut end = block + BLOCK;
        while bytes.get(end..end + BLOCK).is_some_and(is_zero) {
            end += BLOCK;
        }
        end += bytes[end..].iter().take_while(|byte| **byte == 0).count();
        if end - (block - before) >= RUN_BYTES_MIN {
            return Some(block - before..end);
        }
        block = end;
    }
    None
}

fn is_zero(bytes: &[u8]) -> bool {
    // Without a branch per byte, so that it is done many bytes at a time.
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, HEADER_BYTES, Header};

    fn decode(mut bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some((header, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() {
            let header = Header::decode(header).unwrap();
            let (body, rest) = rest.split_at(header.body_bytes);
            frames.push(header.with_body(body.to_vec()).unwrap());
            bytes = rest;
        }
        frames
    }

    fn expand(frames: &[Frame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            match frame {
                Frame::Data(Channel::Pages, data) => bytes.extend_from_slice(data),
                Frame::Zeros(Channel::Pages, count) => {
                    bytes.resize(bytes.len() + usize::try_from(*count).unwrap(), 0);
                }
                other => panic!("{other:?}"),
            }
        }
        bytes
    }

    #[test]
    fn a_zero_page_between_headers_at_odd_offsets_is_not_sent() {
        let mut stream = vec![1; 32];
        stream.extend([0; 4096]);
        stream.extend([2; 33]);
        stream.extend([0; 4096]);
        stream.extend([3; 4096]);
        let mut output = Vec::new();
        let sent = encode(Channel::Pages, &stream, &mut output);
        assert_eq!(sent, 32 + 33 + 4096);
        let frames = decode(&output);
        assert_eq!(expand(&frames), stream);
        let zeros = frames
            .iter()
            .filter(|frame| matches!(frame, Frame::Zeros(_, 4096)));
        assert_eq!(zeros.count(), 2);
    }

    #[test]
    fn any_mixture_comes_back_as_it_was() {
        let mut state = 1_u64;
        let mut random = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            usize::try_from(state >> 33).unwrap()
        };
        for _ in 0..200 {
            let mut stream = Vec::new();
            for _ in 0..random() % 12 {
                let byte = u8::try_from(random() % 3).unwrap();
                stream.resize(stream.len() + random() % 1500, byte);
            }
            let mut output = Vec::new();
            let sent = encode(Channel::Pages, &stream, &mut output);
            let frames = decode(&output);
            assert_eq!(expand(&frames), stream);
            let data: usize = frames
                .iter()
                .map(|frame| {
                    if let Frame::Data(_, data) = frame {
                        data.len()
                    } else {
                        0
                    }
                })
                .sum();
            assert_eq!(data, sent);
            let longest = frames.iter().filter_map(|frame| match frame {
                Frame::Data(_, data) => data.split(|byte| *byte != 0).map(<[u8]>::len).max(),
                _ => None,
            });
            assert!(longest.max().unwrap_or(0) < RUN_BYTES_MIN + RUN_BYTES_MIN / 2);
        }
    }
}
