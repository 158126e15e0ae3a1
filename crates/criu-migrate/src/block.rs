//! Blocks: bytes of a stream, told by what they are made of.
//!
//! ```text
//! body of a block's frame:
//!   0..4  literal bytes, once expanded       (all numbers little endian)
//!   4..6  number of operations
//!   6     codec of the literals   0 as they are   1 one zstd frame
//!   7     zero
//!   8..   operations, 8 bytes each:
//!           0..4  what (the upper 2 bits) and how many bytes of the stream (the lower 30)
//!                   0 the next literals   1 zeros   2 literals sent before
//!                   3 a page of 4096 bytes, here as it was in a round before but for some of its 16 pieces:
//!                     the lower 16 bits tell which, the first in the lowest, and the next literals are those
//!           4..8  for 2: where they are, counted from the first literal of this block, negative for
//!                 earlier blocks; for 3: the lower half of the page's XXH3 hash of 64 bits; otherwise zero
//!   ..    literals
//! ```
//!
//! Without operations the literals are the stream. Literals sent before are those within the window, which both
//! sides keep alike: see [`crate::window`]. Pages of a round before are those at the same place in the images the
//! destination has: see [`crate::delta`]. Why operations by the block and not frames of their own: pages of
//! all sorts alternate, and a frame costs both sides system calls and a wake-up.

use crate::delta::Pieces;
use crate::page_stream::PAGE_BYTES;

/// Most bytes of a stream that one block stands for.
pub const BLOCK_BYTES_MAX: usize = 256 << 10;
/// Most operations of a block.
pub const OPERATIONS_MAX: usize = 500;
/// Longest body of a block's frame.
pub(crate) const BODY_BYTES_MAX: usize =
    PREFIX_BYTES + OPERATIONS_MAX * OPERATION_BYTES + BLOCK_BYTES_MAX;
/// What stands before the literals at most, the frame's header not counted.
pub(crate) const LEAD_BYTES_MAX: usize = PREFIX_BYTES + OPERATIONS_MAX * OPERATION_BYTES;

const PREFIX_BYTES: usize = 8;
const OPERATION_BYTES: usize = 8;
const LENGTH_BITS: u32 = 30;
/// A page that is told by what changed in it.
const PATCHED_BYTES: u32 = 4096;

const _: () = assert!(PATCHED_BYTES as usize == PAGE_BYTES);

/// How literals are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Codec {
    /// Not at all.
    Stored,
    /// As one zstd frame.
    Zstd,
}

/// What comes next in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// So many of the block's literals.
    Literal(u32),
    /// So many zero bytes.
    Zeros(u32),
    /// Literals sent before.
    Copy {
        /// How many bytes.
        len_bytes: u32,
        /// Where, counted from the first literal of this block.
        from: i32,
    },
    /// The page that was here in a round before, but for some of it.
    Patch {
        /// What changed: the block's next literals.
        changed: Pieces,
        /// What the page has to be: the lower half of its XXH3 hash of 64 bits.
        check: u32,
    },
}

impl Operation {
    /// Bytes of the stream it stands for.
    pub const fn len_bytes(self) -> u32 {
        match self {
            Self::Literal(len_bytes) | Self::Zeros(len_bytes) | Self::Copy { len_bytes, .. } => {
                len_bytes
            }
            Self::Patch { .. } => PATCHED_BYTES,
        }
    }

    /// Literals it uses up.
    pub(crate) const fn literal_bytes(self) -> usize {
        match self {
            Self::Literal(len_bytes) => len_bytes as usize,
            Self::Zeros(_) | Self::Copy { .. } => 0,
            Self::Patch { changed, .. } => changed.len_bytes(),
        }
    }

    fn encode(self) -> [u8; OPERATION_BYTES] {
        let (what, word, from) = match self {
            Self::Literal(len_bytes) => (0, len_bytes, 0),
            Self::Zeros(len_bytes) => (1, len_bytes, 0),
            Self::Copy { len_bytes, from } => (2, len_bytes, from.cast_unsigned()),
            Self::Patch { changed, check } => (3, changed.0.into(), check),
        };
        let [a, b, c, d] = (what << LENGTH_BITS | word).to_le_bytes();
        let [e, f, g, h] = from.to_le_bytes();
        [a, b, c, d, e, f, g, h]
    }

    fn decode([a, b, c, d, e, f, g, h]: [u8; OPERATION_BYTES]) -> Option<Self> {
        let word = u32::from_le_bytes([a, b, c, d]);
        let len_bytes = word & ((1 << LENGTH_BITS) - 1);
        let from = u32::from_le_bytes([e, f, g, h]);
        match (word >> LENGTH_BITS, from) {
            (3, check) => {
                let changed = Pieces(u16::try_from(len_bytes).ok()?);
                Some(Self::Patch { changed, check })
            }
            _ if len_bytes == 0 => None,
            (0, 0) => Some(Self::Literal(len_bytes)),
            (1, 0) => Some(Self::Zeros(len_bytes)),
            (2, from) => Some(Self::Copy {
                len_bytes,
                from: from.cast_signed(),
            }),
            _ => None,
        }
    }
}

/// What is wrong with a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockProblem {
    /// It ends within its own head.
    #[error("a block of {body_bytes} bytes is shorter than it says")]
    Short {
        /// Its length.
        body_bytes: usize,
    },
    /// Its head is none.
    #[error("a block has no meaning: {0:?}")]
    Head([u8; 8]),
    /// More operations or bytes than a block may have.
    #[error(
        "a block with {operations} operations stands for {stream_bytes} bytes, at most {OPERATIONS_MAX} and \
         {BLOCK_BYTES_MAX} are allowed"
    )]
    TooLarge {
        /// The number of operations.
        operations: usize,
        /// The bytes it stands for.
        stream_bytes: u64,
    },
    /// An operation that does not exist.
    #[error("a block has an unknown operation: {0:?}")]
    Operation([u8; 8]),
    /// The operations use more or fewer literals than there are.
    #[error("a block has {literal_bytes} literals and uses {used_bytes}")]
    Literals {
        /// The literals there are.
        literal_bytes: usize,
        /// Those used.
        used_bytes: u64,
    },
    /// A reference to bytes that were not sent, or too long ago.
    #[error("a block refers to {len_bytes} bytes at {from}, which are not in the window")]
    Reference {
        /// How many bytes.
        len_bytes: u32,
        /// Where.
        from: i32,
    },
    /// A page of a round before, where there is no page or was none.
    #[error("a block refers to a page of a round before, and {0}")]
    Base(&'static str),
    /// The images of a round before cannot be read.
    #[error("a block refers to a page of a round before, which cannot be read: {0}")]
    Unreadable(String),
    /// A page put together from one of a round before is not what it was on the source.
    #[error(
        "the page at {address:#x} of memory {owner} does not become what it was: both sides know it differently"
    )]
    Check {
        /// The task or shared memory.
        owner: u64,
        /// Its address.
        address: u64,
    },
    /// The packed literals are not what the block says.
    #[error("the literals of a block do not expand to {literal_bytes} bytes")]
    Packed {
        /// What they should expand to.
        literal_bytes: usize,
    },
    /// The literals are packed though this side did not say that it can expand them.
    #[error("a block is packed with zstd, which this side cannot expand")]
    CannotExpand,
}

/// Bytes of a stream, told by what they are made of; within the limits, but not expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    literal_bytes: usize,
    codec: Codec,
    operations: Vec<Operation>,
    payload_at: usize,
    body: Vec<u8>,
}

impl Block {
    /// Reads a block and checks all that can be checked without expanding it.
    ///
    /// # Errors
    ///
    /// [`BlockProblem`], any but `Reference`, `Packed` and `CannotExpand`.
    pub fn decode(body: Vec<u8>) -> Result<Self, BlockProblem> {
        let short = BlockProblem::Short {
            body_bytes: body.len(),
        };
        let Some((prefix, rest)) = body.split_first_chunk::<PREFIX_BYTES>() else {
            return Err(short);
        };
        let [l0, l1, l2, l3, n0, n1, codec, zero] = *prefix;
        let codec = match (codec, zero) {
            (0, 0) => Codec::Stored,
            (1, 0) => Codec::Zstd,
            _ => return Err(BlockProblem::Head(*prefix)),
        };
        let count = usize::from(u16::from_le_bytes([n0, n1]));
        let literals = u32::from_le_bytes([l0, l1, l2, l3]);
        let too_large = |stream_bytes| BlockProblem::TooLarge {
            operations: count,
            stream_bytes,
        };
        let literal_bytes = match usize::try_from(literals) {
            Ok(bytes) if bytes <= BLOCK_BYTES_MAX && count <= OPERATIONS_MAX => bytes,
            _ => return Err(too_large(literals.into())),
        };
        let payload_at = PREFIX_BYTES + count * OPERATION_BYTES;
        let Some(operations) = rest.get(..count * OPERATION_BYTES) else {
            return Err(short);
        };
        let (operations, _) = operations.as_chunks::<OPERATION_BYTES>();
        let operations = operations
            .iter()
            .map(|bytes| Operation::decode(*bytes).ok_or(BlockProblem::Operation(*bytes)));
        let operations = operations.collect::<Result<Vec<_>, _>>()?;
        let (mut stream_bytes, mut used_bytes) = (0_u64, 0_u64);
        for operation in &operations {
            stream_bytes += u64::from(operation.len_bytes());
            used_bytes += operation.literal_bytes() as u64;
        }
        if stream_bytes > BLOCK_BYTES_MAX as u64 {
            return Err(too_large(stream_bytes));
        }
        if operations.is_empty() {
            used_bytes = literal_bytes as u64;
        }
        let stored = codec == Codec::Stored;
        if used_bytes != literal_bytes as u64 || stored && body.len() - payload_at != literal_bytes
        {
            return Err(BlockProblem::Literals {
                literal_bytes,
                used_bytes,
            });
        }
        Ok(Self {
            literal_bytes,
            codec,
            operations,
            payload_at,
            body,
        })
    }

    /// The bytes it was read from.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Bytes of the literals, once expanded.
    pub(crate) fn literal_bytes(&self) -> usize {
        self.literal_bytes
    }

    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// Takes what the stream is made of; nothing if it is the literals.
    pub(crate) fn take_operations(&mut self) -> Vec<Operation> {
        std::mem::take(&mut self.operations)
    }

    /// The literals as they came.
    pub(crate) fn payload(&self) -> &[u8] {
        self.body.get(self.payload_at..).unwrap_or_default()
    }

    /// Gives the bytes it was read from, and where in them the literals begin.
    pub(crate) fn into_body(self) -> (Vec<u8>, usize) {
        (self.body, self.payload_at)
    }
}

/// Writes what stands before the literals to the end of `lead`; returns where it begins there.
///
/// There have to be [`LEAD_BYTES_MAX`] bytes, and no more operations than [`OPERATIONS_MAX`].
pub(crate) fn encode_lead(
    operations: &[Operation],
    literal_bytes: usize,
    codec: Codec,
    lead: &mut [u8],
) -> usize {
    let at = lead.len() - PREFIX_BYTES - operations.len() * OPERATION_BYTES;
    // Both are within their limits, which fit.
    let literals = u32::try_from(literal_bytes).unwrap_or(u32::MAX);
    let count = u16::try_from(operations.len()).unwrap_or(u16::MAX);
    lead[at..at + 4].copy_from_slice(&literals.to_le_bytes());
    lead[at + 4..at + 6].copy_from_slice(&count.to_le_bytes());
    lead[at + 6] = match codec {
        Codec::Stored => 0,
        Codec::Zstd => 1,
    };
    lead[at + 7] = 0;
    let (places, _) = lead[at + PREFIX_BYTES..].as_chunks_mut::<OPERATION_BYTES>();
    for (place, operation) in places.iter_mut().zip(operations) {
        *place = operation.encode();
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(
        operations: &[Operation],
        codec: Codec,
        literal_bytes: usize,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut lead = vec![0; LEAD_BYTES_MAX];
        let at = encode_lead(operations, literal_bytes, codec, &mut lead);
        [&lead[at..], payload].concat()
    }

    #[test]
    fn operations_come_back_as_they_were() {
        let operations = [
            Operation::Literal(3),
            Operation::Zeros(4096),
            Operation::Copy {
                len_bytes: 8192,
                from: -70_000,
            },
            Operation::Patch {
                changed: Pieces(0x8001),
                check: 0xfedc_ba98,
            },
            Operation::Literal(1),
        ];
        let literals = [b'a'; 4 + 512];
        let body = block(&operations, Codec::Stored, literals.len(), &literals);
        let decoded = Block::decode(body.clone()).unwrap();
        assert_eq!(decoded.operations, operations);
        assert_eq!(decoded.payload(), literals);
        assert_eq!(decoded.literal_bytes(), literals.len());
        assert_eq!(decoded.body(), body);
        let packed = Block::decode(block(&[], Codec::Zstd, 9, b"ab")).unwrap();
        assert_eq!((packed.codec(), packed.literal_bytes()), (Codec::Zstd, 9));
    }

    #[test]
    fn blocks_beyond_their_limits_are_refused_for_what_is_wrong_with_them() {
        let decode = |operations: &[Operation], literal_bytes, payload: &[u8]| {
            Block::decode(block(operations, Codec::Stored, literal_bytes, payload)).unwrap_err()
        };
        let most = u32::try_from(BLOCK_BYTES_MAX).unwrap();
        for (operations, literal_bytes) in [
            (&[][..], BLOCK_BYTES_MAX + 1),
            (&[Operation::Zeros(most), Operation::Literal(1)], 1),
            (&[Operation::Zeros((1 << 30) - 1); 4], 0),
            (
                &[Operation::Copy {
                    len_bytes: most + 1,
                    from: 0,
                }],
                0,
            ),
        ] {
            let problem = decode(operations, literal_bytes, b"a");
            assert!(
                matches!(problem, BlockProblem::TooLarge { .. }),
                "{problem}"
            );
        }
        for (operations, literal_bytes, payload) in [
            (&[][..], 2, &b"a"[..]),
            (&[Operation::Literal(1)], 2, b"ab"),
            (&[Operation::Literal(2)], 1, b"a"),
        ] {
            let problem = decode(operations, literal_bytes, payload);
            assert!(
                matches!(problem, BlockProblem::Literals { .. }),
                "{problem}"
            );
        }
        for (body, expected) in [
            (vec![1, 0, 0], BlockProblem::Short { body_bytes: 3 }),
            (
                vec![0, 0, 0, 0, 2, 0, 0, 0, 1],
                BlockProblem::Short { body_bytes: 9 },
            ),
            (
                vec![1, 0, 0, 0, 0, 0, 2, 0, 9],
                BlockProblem::Head([1, 0, 0, 0, 0, 0, 2, 0]),
            ),
            (
                vec![1, 0, 0, 0, 0, 0, 0, 1, 9],
                BlockProblem::Head([1, 0, 0, 0, 0, 0, 0, 1]),
            ),
        ] {
            assert_eq!(Block::decode(body), Err(expected));
        }
        let many = Block::decode(vec![0, 0, 0, 0, 0xff, 0xff, 0, 0]).unwrap_err();
        assert!(matches!(
            many,
            BlockProblem::TooLarge {
                operations: 0xffff,
                ..
            }
        ));
        for operation in [
            [1, 0, 1, 0xc0, 0, 0, 0, 0],
            [0, 0, 0, 0x40, 0, 0, 0, 0],
            [1, 0, 0, 0x40, 1, 0, 0, 0],
            [1, 0, 0, 0, 1, 0, 0, 0],
        ] {
            let mut body = vec![0, 0, 0, 0, 1, 0, 0, 0];
            body.extend(operation);
            assert_eq!(Block::decode(body), Err(BlockProblem::Operation(operation)));
        }
    }
}
