//! Numbers in columns: `write!` costs several times as much, which shows over 200,000 lines.

/// Appends a number in hexadecimal, with zeros in front up to `width` digits.
pub(super) fn hexadecimal(line: &mut Vec<u8>, number: u64, width: u32) {
    let digits = (u64::BITS - number.leading_zeros())
        .div_ceil(4)
        .max(width)
        .max(1);
    for place in (0..digits).rev() {
        let digit = number.checked_shr(4 * place).unwrap_or(0) & 0xf;
        line.push(DIGITS[usize::try_from(digit).unwrap_or_default()]);
    }
}

/// Appends a number in decimal.
pub(super) fn decimal(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends blanks until there are `width` bytes behind `start`.
pub(super) fn fill(line: &mut Vec<u8>, start: usize, width: usize) {
    line.resize(line.len().max(start + width), b' ');
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_those_of_write() {
        for number in [0, 1, 0xf, 0x10, 0x1234_5678, 0x1_0000_0000, u64::MAX] {
            for width in [0u32, 1, 8, 20] {
                let mut line = Vec::new();
                hexadecimal(&mut line, number, width);
                let expected = format!("{number:0width$x}", width = width as usize);
                assert_eq!(String::from_utf8_lossy(&line), expected);
            }
            let mut line = b"x".to_vec();
            decimal(&mut line, number);
            fill(&mut line, 1, 8);
            assert_eq!(String::from_utf8_lossy(&line), format!("x{number:<8}"));
        }
    }
}
