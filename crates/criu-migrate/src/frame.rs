//! Frames: how control messages and data share one connection.
//!
//! ```text
//! preamble, once in each direction, before anything else:
//!   0..8   "criumigr"
//!   8..10  oldest protocol version spoken   (all numbers little endian)
//!   10..12 newest protocol version spoken
//!   12..14 abilities of the reader: bit 0, it expands what is packed with zstd; bit 1, it knows pages of rounds
//!          before; other bits are ignored
//!   14..16 zero
//!
//! frame:
//!   0      kind       1 control   2 data   3 zeros   4 end   5 beat   6 block
//!   1      channel    0 none      1 pages  2 image
//!   2..4   zero
//!   4..8   length of what follows
//!   8..    control: a message as JSON; data: bytes; zeros: a u64, how many zero bytes stand here;
//!          end and beat: nothing; block: see [`Block`]
//! ```
//!
//! A length beyond the limit of its kind is refused before anything is allocated for it. What is packed is
//! only sent to who says that it expands it.

use std::fmt;

use crate::block::BODY_BYTES_MAX;
pub use crate::block::{BLOCK_BYTES_MAX, Block, BlockProblem, Codec, OPERATIONS_MAX, Operation};
pub use crate::delta::Pieces;

/// Bytes of a preamble.
pub const PREAMBLE_BYTES: usize = 16;
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 8;
/// Longest control message, in bytes.
pub const CONTROL_BYTES_MAX: usize = 1 << 20;
/// Longest data frame, in bytes.
pub const DATA_BYTES_MAX: usize = 256 << 10;
/// Most zero bytes one frame may stand for: bounds what a few bytes from the peer make us write.
pub const ZEROS_MAX: u64 = 64 << 20;
/// The protocol versions this crate speaks.
pub const VERSIONS: std::ops::RangeInclusive<u16> = 1..=1;

const MAGIC: [u8; 8] = *b"criumigr";

/// A stream of bytes beside the control messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Channel {
    /// The connection between the dumping CRIU and the page server, in both directions.
    Pages,
    /// The image file announced last, from the source to the destination.
    Image,
    /// The conversation of the two rsyncs, in both directions.
    Files,
}

impl Channel {
    const fn number(self) -> u8 {
        match self {
            Self::Pages => 1,
            Self::Image => 2,
            Self::Files => 3,
        }
    }

    const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Pages),
            2 => Some(Self::Image),
            3 => Some(Self::Files),
            _ => None,
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pages => "pages",
            Self::Image => "image",
            Self::Files => "files",
        })
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame {
    /// A control message, still encoded.
    Control(Vec<u8>),
    /// Bytes of a channel.
    Data(Channel, Vec<u8>),
    /// So many zero bytes of a channel.
    Zeros(Channel, u64),
    /// The end of a channel's present stream.
    End(Channel),
    /// A sign of life.
    Beat,
    /// Bytes of a channel, told by what they are made of.
    Block(Channel, Block),
}

/// What is wrong with bytes that should be a preamble or a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The peer speaks something else.
    #[error("the peer does not speak this protocol: it began with {}", .found.escape_ascii())]
    Magic {
        /// The bytes found where the magic should be.
        found: [u8; 8],
    },
    /// No protocol version is spoken by both sides.
    #[error("the peer speaks protocol versions {oldest} to {newest}, this side {} to {}", VERSIONS.start(), VERSIONS.end())]
    Version {
        /// The oldest version the peer speaks.
        oldest: u16,
        /// The newest.
        newest: u16,
    },
    /// A frame of a kind that does not exist.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// A frame on a channel that does not exist, or that its kind has none of.
    #[error("frame kind {kind} on channel {channel}")]
    Channel {
        /// The frame's kind.
        kind: u8,
        /// The channel's number.
        channel: u8,
    },
    /// Bytes that must be zero are not.
    #[error("reserved bytes are {0:#x} where zero is expected")]
    Reserved(u32),
    /// A frame longer than its kind may be, or of another length than its kind is.
    #[error("frame kind {kind} has length {length_bytes}, allowed are {allowed:?}")]
    Length {
        /// The frame's kind.
        kind: u8,
        /// Its length.
        length_bytes: u32,
        /// The lengths its kind may have.
        allowed: std::ops::RangeInclusive<usize>,
    },
    /// More zero bytes than one frame may stand for.
    #[error("a frame stands for {0} zero bytes, at most {ZEROS_MAX} are allowed")]
    Zeros(u64),
    /// A block that cannot be expanded.
    #[error(transparent)]
    Block(#[from] BlockProblem),
}

/// What a side understands beyond what every side must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Abilities {
    /// It expands what is packed with zstd.
    pub zstd: bool,
    /// It makes pages of what changed in them since a round before.
    pub deltas: bool,
}

const ZSTD: u8 = 1;
const DELTAS: u8 = 2;

impl Abilities {
    /// Those of this build.
    pub const fn ours() -> Self {
        Self {
            zstd: cfg!(feature = "zstd"),
            deltas: true,
        }
    }
}

/// What a preamble says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Greeting {
    /// The newest protocol version both speak.
    pub version: u16,
    /// What the peer understands.
    pub abilities: Abilities,
}

/// Writes this side's preamble.
pub fn encode_preamble() -> [u8; PREAMBLE_BYTES] {
    let mut bytes = [0; PREAMBLE_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSIONS.start().to_le_bytes());
    bytes[10..12].copy_from_slice(&VERSIONS.end().to_le_bytes());
    let Abilities { zstd, deltas } = Abilities::ours();
    bytes[12] = (u8::from(zstd) * ZSTD) | (u8::from(deltas) * DELTAS);
    bytes
}

/// Reads the peer's preamble.
///
/// # Errors
///
/// [`FrameError::Magic`], [`FrameError::Version`], [`FrameError::Reserved`].
pub fn decode_preamble(bytes: &[u8; PREAMBLE_BYTES]) -> Result<Greeting, FrameError> {
    let [
        m0,
        m1,
        m2,
        m3,
        m4,
        m5,
        m6,
        m7,
        o0,
        o1,
        n0,
        n1,
        a0,
        _,
        rest @ ..,
    ] = *bytes;
    let found = [m0, m1, m2, m3, m4, m5, m6, m7];
    if found != MAGIC {
        return Err(FrameError::Magic { found });
    }
    let (oldest, newest) = (u16::from_le_bytes([o0, o1]), u16::from_le_bytes([n0, n1]));
    if rest != [0; 2] {
        return Err(FrameError::Reserved(u16::from_le_bytes(rest).into()));
    }
    let common = newest.min(*VERSIONS.end());
    if oldest > newest || common < oldest.max(*VERSIONS.start()) {
        return Err(FrameError::Version { oldest, newest });
    }
    Ok(Greeting {
        version: common,
        abilities: Abilities {
            zstd: a0 & ZSTD != 0,
            deltas: a0 & DELTAS != 0,
        },
    })
}

impl Frame {
    /// Appends the frame to `output`. What is longer than a frame may be is the caller's to split.
    pub fn encode(&self, output: &mut Vec<u8>) {
        match self {
            Self::Control(bytes) => encode_parts(1, 0, bytes, output),
            Self::Data(channel, bytes) => encode_parts(2, channel.number(), bytes, output),
            Self::Zeros(channel, len_bytes) => {
                encode_parts(3, channel.number(), &len_bytes.to_le_bytes(), output);
            }
            Self::End(channel) => encode_parts(4, channel.number(), &[], output),
            Self::Beat => encode_parts(5, 0, &[], output),
            Self::Block(channel, block) => {
                encode_parts(6, channel.number(), block.body(), output);
            }
        }
    }
}

/// The header of a data frame.
pub(crate) fn data_header(channel: Channel, body_bytes: usize) -> [u8; HEADER_BYTES] {
    header(2, channel.number(), body_bytes)
}

/// The header of a block's frame.
pub(crate) fn block_header(channel: Channel, body_bytes: usize) -> [u8; HEADER_BYTES] {
    header(6, channel.number(), body_bytes)
}

/// Appends a run of zero bytes of a channel, cut into frames.
pub(crate) fn encode_zeros(channel: Channel, mut len_bytes: u64, output: &mut Vec<u8>) {
    while len_bytes > 0 {
        let piece = len_bytes.min(ZEROS_MAX);
        encode_parts(3, channel.number(), &piece.to_le_bytes(), output);
        len_bytes -= piece;
    }
}

fn encode_parts(kind: u8, channel: u8, body: &[u8], output: &mut Vec<u8>) {
    output.extend_from_slice(&header(kind, channel, body.len()));
    output.extend_from_slice(body);
}

fn header(kind: u8, channel: u8, body_bytes: usize) -> [u8; HEADER_BYTES] {
    // Bodies are cut to their limits, which fit, before they come here.
    let [l0, l1, l2, l3] = u32::try_from(body_bytes).unwrap_or(u32::MAX).to_le_bytes();
    [kind, channel, 0, 0, l0, l1, l2, l3]
}

/// The header of a frame, found well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    kind: Kind,
    /// Bytes that follow the header; within the limit of the kind.
    pub body_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Control,
    Data(Channel),
    Zeros(Channel),
    End(Channel),
    Beat,
    Block(Channel),
}

impl Header {
    /// Reads a header and checks it against the limits.
    ///
    /// # Errors
    ///
    /// [`FrameError::Kind`], [`FrameError::Channel`], [`FrameError::Reserved`], [`FrameError::Length`].
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [kind, channel, r0, r1, l0, l1, l2, l3] = *bytes;
        if [r0, r1] != [0, 0] {
            return Err(FrameError::Reserved(u16::from_le_bytes([r0, r1]).into()));
        }
        let on_channel = || Channel::from_number(channel);
        let (meaning, allowed) = match kind {
            1 => (
                (channel == 0).then_some(Kind::Control),
                1..=CONTROL_BYTES_MAX,
            ),
            2 => (on_channel().map(Kind::Data), 1..=DATA_BYTES_MAX),
            3 => (on_channel().map(Kind::Zeros), 8..=8),
            4 => (on_channel().map(Kind::End), 0..=0),
            5 => ((channel == 0).then_some(Kind::Beat), 0..=0),
            6 => (on_channel().map(Kind::Block), 1..=BODY_BYTES_MAX),
            _ => return Err(FrameError::Kind(kind)),
        };
        let meaning = meaning.ok_or(FrameError::Channel { kind, channel })?;
        let length_bytes = u32::from_le_bytes([l0, l1, l2, l3]);
        match usize::try_from(length_bytes) {
            Ok(body_bytes) if allowed.contains(&body_bytes) => Ok(Self {
                kind: meaning,
                body_bytes,
            }),
            _ => Err(FrameError::Length {
                kind,
                length_bytes,
                allowed,
            }),
        }
    }

    /// Makes the frame of this header and its body.
    ///
    /// # Errors
    ///
    /// [`FrameError::Zeros`], [`FrameError::Block`]; [`FrameError::Length`] when the body is not as long as the header says.
    pub fn with_body(self, body: Vec<u8>) -> Result<Frame, FrameError> {
        let wrong_length = |kind| FrameError::Length {
            kind,
            length_bytes: u32::try_from(body.len()).unwrap_or(u32::MAX),
            allowed: self.body_bytes..=self.body_bytes,
        };
        if body.len() != self.body_bytes {
            return Err(wrong_length(0));
        }
        Ok(match self.kind {
            Kind::Control => Frame::Control(body),
            Kind::Data(channel) => Frame::Data(channel, body),
            Kind::Zeros(channel) => {
                let count: [u8; 8] = body.as_slice().try_into().map_err(|_| wrong_length(3))?;
                let count = u64::from_le_bytes(count);
                if count > ZEROS_MAX {
                    return Err(FrameError::Zeros(count));
                }
                Frame::Zeros(channel, count)
            }
            Kind::End(channel) => Frame::End(channel),
            Kind::Beat => Frame::Beat,
            Kind::Block(channel) => Frame::Block(channel, Block::decode(body)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> Result<Frame, FrameError> {
        let (header, body) = bytes.split_first_chunk().unwrap();
        Header::decode(header)?.with_body(body.to_vec())
    }

    #[test]
    fn frames_come_back_as_they_were() {
        for frame in [
            Frame::Control(b"{}".to_vec()),
            Frame::Data(Channel::Pages, vec![7; DATA_BYTES_MAX]),
            Frame::Zeros(Channel::Image, ZEROS_MAX),
            Frame::End(Channel::Image),
            Frame::Beat,
        ] {
            let mut bytes = Vec::new();
            frame.encode(&mut bytes);
            assert_eq!(decode(&bytes), Ok(frame));
        }
    }

    #[test]
    fn a_run_longer_than_a_frame_may_stand_for_is_cut() {
        let mut bytes = Vec::new();
        encode_zeros(Channel::Pages, ZEROS_MAX * 2 + 1, &mut bytes);
        let counts: Vec<Frame> = bytes
            .chunks(16)
            .map(|frame| decode(frame).unwrap())
            .collect();
        let zeros = |count| Frame::Zeros(Channel::Pages, count);
        assert_eq!(counts, [zeros(ZEROS_MAX), zeros(ZEROS_MAX), zeros(1)]);
    }

    #[test]
    fn malformed_headers_are_refused_for_what_is_wrong_with_them() {
        let header = |kind, channel, reserved, length: u32| {
            let mut bytes = [kind, channel, reserved, 0, 0, 0, 0, 0];
            bytes[4..].copy_from_slice(&length.to_le_bytes());
            Header::decode(&bytes)
        };
        assert_eq!(header(0, 0, 0, 0), Err(FrameError::Kind(0)));
        assert_eq!(header(7, 0, 0, 0), Err(FrameError::Kind(7)));
        let channel = |kind, channel| Err(FrameError::Channel { kind, channel });
        assert_eq!(header(1, 1, 0, 2), channel(1, 1));
        assert_eq!(header(2, 9, 0, 2), channel(2, 9));
        assert_eq!(header(5, 2, 0, 0), channel(5, 2));
        assert_eq!(header(5, 0, 9, 0), Err(FrameError::Reserved(9)));
        for (kind, channel, length) in [
            (1, 0, 0),
            (1, 0, u32::try_from(CONTROL_BYTES_MAX + 1).unwrap()),
            (2, 1, u32::MAX),
            (3, 1, 9),
            (4, 2, 1),
            (5, 0, 1),
            (6, 1, 0),
            (6, 2, u32::try_from(BODY_BYTES_MAX + 1).unwrap()),
        ] {
            let refused = header(kind, channel, 0, length);
            assert!(
                matches!(refused, Err(FrameError::Length { .. })),
                "{kind} {length}"
            );
        }
        let mut many = vec![3, 1, 0, 0, 8, 0, 0, 0];
        many.extend_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(decode(&many), Err(FrameError::Zeros(u64::MAX)));
    }

    #[test]
    fn the_newest_common_version_is_spoken_or_none() {
        let ours = encode_preamble();
        let greeting = |version, zstd, deltas| Greeting {
            version,
            abilities: Abilities { zstd, deltas },
        };
        let expected = greeting(*VERSIONS.end(), cfg!(feature = "zstd"), true);
        assert_eq!(decode_preamble(&ours), Ok(expected));
        let with = |oldest: u16, newest: u16| {
            let mut bytes = ours;
            bytes[8..10].copy_from_slice(&oldest.to_le_bytes());
            bytes[10..12].copy_from_slice(&newest.to_le_bytes());
            decode_preamble(&bytes)
        };
        assert_eq!(with(1, 9), Ok(expected));
        // Abilities nobody knows yet are ignored; who says none has none.
        for (abilities, zstd, deltas) in [
            (0xfffc, false, false),
            (0xfffe, false, true),
            (0xfffd, true, false),
            (0, false, false),
        ] {
            let mut bytes = ours;
            bytes[12..14].copy_from_slice(&u16::to_le_bytes(abilities));
            assert_eq!(decode_preamble(&bytes), Ok(greeting(1, zstd, deltas)));
        }
        for (oldest, newest) in [(2, 9), (0, 0), (3, 1)] {
            let refused = with(oldest, newest);
            assert_eq!(refused, Err(FrameError::Version { oldest, newest }));
        }
        let found = *b"GET / HT";
        let mut http = ours;
        http[..8].copy_from_slice(&found);
        assert_eq!(decode_preamble(&http), Err(FrameError::Magic { found }));
        let mut reserved = ours;
        reserved[14] = 1;
        assert_eq!(decode_preamble(&reserved), Err(FrameError::Reserved(1)));
    }
}
