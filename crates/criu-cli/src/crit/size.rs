//! Sizes as people read them.

use std::fmt;

/// A number of bytes, shown with three digits and a binary unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByteSize(pub(super) u64);

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = "B";
        // Tenths, so that no floating point is needed.
        let mut tenths = u128::from(self.0) * 10;
        for larger in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
            if tenths < 10_240 {
                break;
            }
            tenths /= 1024;
            unit = larger;
        }
        let text = match (tenths / 10, tenths % 10) {
            (whole, tenth) if whole < 100 && tenth > 0 => format!("{whole}.{tenth} {unit}"),
            (whole, _) => format!("{whole} {unit}"),
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_unit_that_keeps_them_short() {
        let sizes = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (130 << 10, "130 KiB"),
            (5 << 30, "5 GiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (bytes, text) in sizes {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }
}
