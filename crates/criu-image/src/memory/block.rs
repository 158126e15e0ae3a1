//! Compressed blocks of pages, as CRIU 4.3 stores them.
//!
//! ```text
//! stored size 0            : all bytes of the block are zero, nothing is stored
//! stored size = block size : the bytes themselves
//! between                  : LZ4 block format, without frame or length
//! ```

use crate::error::{Error, ErrorKind, Result};

/// What is stored of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// Nothing: every byte is zero.
    Zero,
    /// The bytes themselves.
    Raw,
    /// These bytes instead.
    Lz4(Vec<u8>),
}

/// Restores a block from its stored bytes; `out` has the size of the block.
///
/// # Errors
///
/// Fails when the stored bytes do not give exactly the block, or this crate was built without LZ4.
pub fn decode(stored: &[u8], out: &mut [u8]) -> Result<()> {
    match stored.len() {
        0 => out.fill(0),
        len if len == out.len() => out.copy_from_slice(stored),
        len if len > out.len() => {
            return Err(damaged(format!(
                "{len} bytes stored for a block of {}",
                out.len()
            )));
        }
        _ => expand(stored, out)?,
    }
    Ok(())
}

/// Finds the shortest form in which CRIU would store a block.
///
/// # Errors
///
/// Fails when this crate was built without LZ4.
pub fn encode(block: &[u8]) -> Result<Block> {
    if block.iter().all(|&byte| byte == 0) {
        return Ok(Block::Zero);
    }
    let stored = compress(block)?;
    // CRIU's own threshold: less than an eighth saved is not worth decompressing.
    if stored.len() >= block.len() / 8 * 7 {
        return Ok(Block::Raw);
    }
    Ok(Block::Lz4(stored))
}

#[cfg(feature = "lz4")]
fn expand(stored: &[u8], out: &mut [u8]) -> Result<()> {
    let wanted = out.len();
    match lz4_flex::block::decompress_into(stored, out) {
        Ok(len) if len == wanted => Ok(()),
        Ok(len) => Err(damaged(format!(
            "block gives {len} bytes instead of {wanted}"
        ))),
        Err(error) => Err(damaged(format!("block is no LZ4: {error}"))),
    }
}

#[cfg(feature = "lz4")]
#[expect(
    clippy::unnecessary_wraps,
    reason = "fails when built without the feature"
)]
fn compress(block: &[u8]) -> Result<Vec<u8>> {
    Ok(lz4_flex::block::compress(block))
}

#[cfg(not(feature = "lz4"))]
fn expand(_stored: &[u8], _out: &mut [u8]) -> Result<()> {
    Err(without_lz4())
}

#[cfg(not(feature = "lz4"))]
fn compress(_block: &[u8]) -> Result<Vec<u8>> {
    Err(without_lz4())
}

#[cfg(not(feature = "lz4"))]
fn without_lz4() -> Error {
    let detail = "compressed pages; build with the feature `lz4`".to_owned();
    ErrorKind::Unsupported { detail }.into()
}

fn damaged(detail: String) -> Error {
    Error::from(ErrorKind::Inconsistent { detail })
}

/// Largest block, in bytes; CRIU refuses to write or read larger ones.
pub const BLOCK_LIMIT: u64 = 4 << 20;

#[cfg(all(test, feature = "lz4"))]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_from_every_form() {
        let text = b"the same words again and ".repeat(400);
        let noise: Vec<u8> = (0..4096u32)
            .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1])
            .collect();
        for block in [vec![0; 4096], text, noise] {
            let mut out = vec![0xaa; block.len()];
            match encode(&block).expect("compresses") {
                Block::Zero => decode(&[], &mut out),
                Block::Raw => decode(&block, &mut out),
                Block::Lz4(stored) => decode(&stored, &mut out),
            }
            .expect("decodes");
            assert_eq!(out, block);
        }
    }

    #[test]
    fn damaged_blocks_are_refused() {
        let Block::Lz4(stored) = encode(&[7; 4096]).expect("compresses") else {
            panic!("compresses well");
        };
        let mut out = vec![0; 4096];
        for end in 1..stored.len() {
            decode(&stored[..end], &mut out).expect_err("truncated");
        }
        decode(&stored, &mut out[..4000]).expect_err("longer than the block");
        decode(&stored, &mut vec![0; 8192]).expect_err("shorter than the block");
        decode(&vec![1; 5000], &mut out).expect_err("larger than the block");
    }
}
