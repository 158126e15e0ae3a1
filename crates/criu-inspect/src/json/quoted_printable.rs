//! Quoted-printable text, which CRIT uses for the names of Unix sockets.
//!
//! Printable bytes stand for themselves, others are `=XX`. A `=` at the end of a line joins it
//! with the next. The shape is that of Python's `quopri.encodestring`, byte for byte, except where
//! that loses bytes: when a name holds line breaks of both kinds, LF and CR LF.

/// Appends the quoted-printable form of `bytes` to `out`.
pub(crate) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let breaks = LineBreaks::of(bytes);
    let soft_break: &[u8] = if breaks == LineBreaks::CrLf {
        b"=\r\n"
    } else {
        b"=\n"
    };
    let mut column = 0;
    let mut position = 0;
    while position < bytes.len() {
        let byte = bytes[position];
        let next = bytes.get(position + 1).copied();
        let break_len = match (breaks, byte, next) {
            (LineBreaks::Mixed, ..) => 0,
            (_, b'\r', Some(b'\n')) => 2,
            (_, b'\n', _) => 1,
            _ => 0,
        };
        if break_len > 0 {
            // White space before a break would be lost to whoever trims lines.
            if let Some(&space @ (b' ' | b'\t')) = out.last() {
                out.pop();
                quote(space, out);
            }
            out.extend_from_slice(&bytes[position..position + break_len]);
            position += break_len;
            column = 0;
            continue;
        }
        let quoted = match byte {
            b'=' | 127.. => true,
            b'.' => column == 0 && matches!(next, None | Some(b'\n' | b'\r' | 0)),
            b' ' | b'\t' => next.is_none(),
            b'\r' | b'\n' => breaks == LineBreaks::Mixed,
            _ => byte < b' ',
        };
        if quoted {
            if column + 3 >= LINE {
                out.extend_from_slice(soft_break);
                column = 0;
            }
            quote(byte, out);
            column += 3;
        } else {
            if column + 1 >= LINE && !matches!(next, None | Some(b'\n')) {
                out.extend_from_slice(soft_break);
                column = 0;
            }
            out.push(byte);
            column += 1;
        }
        position += 1;
    }
}

/// Takes quoted-printable text apart; a `=` that quotes nothing stands for itself.
pub(super) fn decode(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'=', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = match &rest[at + 1..] {
            [] => &[],
            [b'\n', rest @ ..] => rest,
            // A joined line; what stands between the two characters of its end is dropped.
            after @ [b'\r', ..] => match memchr::memchr(b'\n', after) {
                Some(end) => &after[end + 1..],
                None => &[],
            },
            [high, low, after @ ..]
                if let (Some(high), Some(low)) = (digit(*high), digit(*low)) =>
            {
                out.push(high << 4 | low);
                after
            }
            [b'=', after @ ..] | after => {
                out.push(b'=');
                after
            }
        };
    }
    out.extend_from_slice(rest);
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LineBreaks {
    Lf,
    CrLf,
    /// Python would make them all alike, so they have to be quoted.
    Mixed,
}

impl LineBreaks {
    fn of(bytes: &[u8]) -> Self {
        let mut kinds = memchr::memchr_iter(b'\n', bytes).map(|at| {
            if at > 0 && bytes[at - 1] == b'\r' {
                Self::CrLf
            } else {
                Self::Lf
            }
        });
        let first = kinds.next().unwrap_or(Self::Lf);
        if kinds.all(|kind| kind == first) {
            first
        } else {
            Self::Mixed
        }
    }
}

fn quote(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[
        b'=',
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 0xf)],
    ]);
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}

/// Longest line, in characters.
const LINE: usize = 76;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: &str) {
        let mut text = Vec::new();
        encode(bytes, &mut text);
        assert_eq!(String::from_utf8_lossy(&text), expected);
        assert_eq!(decode(&text), bytes);
    }

    #[test]
    fn names_of_sockets() {
        check(b"", "");
        check(b"/run/a.sock\0", "/run/a.sock=00");
        check(b"\0abstract=1", "=00abstract=3D1");
        check(b"\x7f\xff\x1f", "=7F=FF=1F");
        check(b"a b\tc", "a b\tc");
    }

    #[test]
    fn ends_of_lines() {
        check(b"a\t", "a=09");
        check(b"a ", "a=20");
        check(b"a \nb\t\r", "a=20\nb\t\r");
        check(b"a\r\nb \r\n", "a\r\nb=20\r\n");
        check(b".\n.", "=2E\n=2E");
        check(b"..", "..");
        // Python would make the first break like the second: a byte too many.
        check(b"a\nb\r\n", "a=0Ab=0D=0A");
    }

    #[test]
    fn long_lines_are_joined() {
        check(&[b'x'; 76], &"x".repeat(76));
        check(&[b'x'; 77], &format!("{}=\nxx", "x".repeat(75)));
        check(&[0; 26], &format!("{}=\n=00", "=00".repeat(25)));
    }

    #[test]
    fn an_equals_sign_that_quotes_nothing_stands_for_itself() {
        assert_eq!(decode(b"a=zz"), b"a=zz");
        assert_eq!(decode(b"a=="), b"a=");
        assert_eq!(decode(b"a="), b"a");
        assert_eq!(decode(b"a=\r\nb"), b"ab");
        assert_eq!(decode(b"a=3d=3D"), b"a==");
    }
}
