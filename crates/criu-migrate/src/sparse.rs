//! Zero bytes are counted, not sent.
//!
//! Works on any bytes: page streams have heads between their pages, image files have holes.

/// Runs of zero bytes shorter than this are sent as they are: telling of one takes 16 bytes.
pub(crate) const RUN_BYTES_MIN: usize = 512;

/// Finds the first run of at least [`RUN_BYTES_MIN`] zero bytes at or after `from`.
pub(crate) fn next_zero_run(bytes: &[u8], from: usize) -> Option<std::ops::Range<usize>> {
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

/// Returns whether all of them are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Most bytes are decided by the first; the others without a branch each, many at a time.
    bytes.first().is_none_or(|byte| *byte == 0)
        && bytes
            .chunks(256)
            .all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_whole_and_short_ones_are_not() {
        for (before, zeros, after) in [(0, 512, 0), (33, 512, 1), (255, 700, 9), (1, 4096, 300)] {
            let mut bytes = vec![1; before];
            bytes.resize(before + zeros, 0);
            bytes.resize(before + zeros + after, 2);
            assert_eq!(next_zero_run(&bytes, 0), Some(before..before + zeros));
            assert_eq!(next_zero_run(&bytes, before + zeros), None);
        }
        let mut short = vec![3; 100];
        short.resize(100 + RUN_BYTES_MIN - 1, 0);
        short.push(3);
        assert_eq!(next_zero_run(&short, 0), None);
    }

    #[test]
    fn one_byte_anywhere_is_not_zero() {
        let mut bytes = vec![0; 1000];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in [0, 1, 255, 256, 999] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
            bytes[at] = 0;
        }
    }
}
