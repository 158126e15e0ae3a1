//! Numbers as CRIT prints them when asked for pretty text, and as they are read back.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criu_image::schema::{DeviceEncoding, FieldDescriptor};

use super::text::Text;
use super::words::{self, TaskStateWords};

/// An integer of any of the integer types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Integer {
    pub(super) negative: bool,
    pub(super) magnitude: u64,
}

impl From<u64> for Integer {
    #[inline]
    fn from(magnitude: u64) -> Self {
        Self {
            negative: false,
            magnitude,
        }
    }
}

impl From<i64> for Integer {
    #[inline]
    fn from(value: i64) -> Self {
        Self {
            negative: value < 0,
            magnitude: value.unsigned_abs(),
        }
    }
}

/// Writes an integer field the way pretty text has it; `hex` is what encloses it asking for
/// hexadecimal.
///
/// The first of these that applies: hexadecimal, device, names of bits, name of a value, plain.
pub(super) fn write_pretty<W: Write>(
    text: &mut Text<W>,
    field: &FieldDescriptor,
    value: Integer,
    hex: bool,
) -> io::Result<()> {
    let crit = &field.crit;
    if hex || crit.hex {
        write_hexadecimal(text, value);
    } else if let Some(encoding) = crit.dev {
        let (major, minor) = split_device(value.magnitude, encoding);
        text.raw(b"\"");
        text.integer(major);
        text.raw(b":");
        text.integer(minor);
        text.raw(b"\"");
    } else if let Some(table) = crit.flags {
        match words::bits(table) {
            Some(bits) => write_bits(text, bits, value.magnitude),
            None => write_hexadecimal(text, value),
        }
    } else if let Some(group) = crit.dict {
        match words::word_for(words::words(group, field.name), value.magnitude) {
            Some(word) if !value.negative => text.word(word),
            _ => write_plain(text, value),
        }
    } else {
        write_plain(text, value);
    }
    Ok(())
}

/// Writes an integer in decimal.
#[inline]
pub(super) fn write_plain<W: Write>(text: &mut Text<W>, value: Integer) {
    if value.negative {
        text.raw(b"-");
    }
    text.number(value.magnitude);
}

/// Why a string is not the integer that it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotANumber {
    /// It is no number and no word that is known.
    Unknown,
    /// It is a device number that cannot be.
    Device,
}

/// Reads a string that stands for an integer field: a device, names of bits, a name of a value,
/// or a number with or without a prefix that tells its base.
pub(super) fn parse(
    field: &FieldDescriptor,
    string: &str,
    task_state: TaskStateWords,
) -> Result<Integer, NotANumber> {
    let crit = &field.crit;
    if let Some(encoding) = crit.dev
        && let Some((major, minor)) = string.split_once(':')
    {
        let part = |part: &str| part.trim().parse().map_err(|_| NotANumber::Device);
        let device = join_device(part(major)?, part(minor)?, encoding);
        return device.map(Integer::from).ok_or(NotANumber::Device);
    }
    if let Some(bits) = crit.flags.and_then(words::bits) {
        if string.is_empty() {
            return Ok(Integer::from(0u64));
        }
        let mut value = 0;
        for name in string.split('|').map(str::trim) {
            let known = bits
                .iter()
                .find(|bit| bit.name == name)
                .map(|bit| bit.value);
            value |= match known {
                Some(bits) => bits,
                None => match parse_number(name) {
                    Some(Integer {
                        negative: false,
                        magnitude,
                    }) => magnitude,
                    _ => return Err(NotANumber::Unknown),
                },
            };
        }
        return Ok(value.into());
    }
    if let Some(group) = crit.dict {
        let words = words::words(group, field.name);
        if let Some(value) = words::number_for(words, string, task_state) {
            return Ok(value.into());
        }
    }
    parse_number(string).ok_or(NotANumber::Unknown)
}

/// Reads a number as Python's `int(text, 0)` does: signed, of base 2, 8, 10 or 16 by its prefix.
///
/// Unlike Python, the hexadecimal that it prints for negative numbers (`0x-5`) is understood, and
/// leading zeros are, as decimal.
pub(super) fn parse_number(string: &str) -> Option<Integer> {
    let string = string.trim();
    let (negative, digits) = match string.as_bytes().first()? {
        b'-' => (true, &string[1..]),
        b'+' => (false, &string[1..]),
        _ => (false, string),
    };
    let prefix = digits.get(..2).map(str::to_ascii_lowercase);
    let (radix, digits) = match prefix.as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        _ => (10, digits),
    };
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(digits) if radix == 16 && !negative => (true, digits),
        _ => (negative, digits),
    };
    // `from_str_radix` would take a second sign.
    if !digits.starts_with(|character: char| character.is_ascii_hexdigit()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    Some(Integer {
        negative: negative && magnitude != 0,
        magnitude,
    })
}

/// The address that words are: one word is IPv4, four are IPv6; each is in network byte order in
/// the memory of a little-endian machine.
pub(super) fn address(words: &[u32]) -> Option<IpAddr> {
    match *words {
        [word] => Some(Ipv4Addr::from(word.to_le_bytes()).into()),
        [a, b, c, d] => {
            let mut bytes = [0; 16];
            for (place, word) in bytes.chunks_exact_mut(4).zip([a, b, c, d]) {
                place.copy_from_slice(&word.to_le_bytes());
            }
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// The words that an address is.
pub(super) fn address_words(address: IpAddr) -> Vec<u32> {
    let word = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |word, &byte| word << 8 | u32::from(byte))
    };
    match address {
        IpAddr::V4(address) => vec![word(&address.octets())],
        IpAddr::V6(address) => address.octets().chunks(4).map(word).collect(),
    }
}

/// Prints an address as Python before 3.13 does: an IPv4 address within IPv6 is not dotted.
pub(super) fn print_address(address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            let [.., high, low] = v6.segments();
            format!("::ffff:{high:x}:{low:x}")
        }
        other => other.to_string(),
    }
}

fn write_hexadecimal<W: Write>(text: &mut Text<W>, value: Integer) {
    let mut digits = [0; 16];
    let mut start = digits.len();
    let mut rest = value.magnitude;
    loop {
        start -= 1;
        digits[start] = b"0123456789abcdef"[(rest & 0xf) as usize];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    text.raw(if value.negative { b"\"-0x" } else { b"\"0x" });
    text.raw(&digits[start..]);
    text.raw(b"\"");
}

fn write_bits<W: Write>(text: &mut Text<W>, bits: &[words::Bit], value: u64) {
    text.raw(b"\"");
    let mut rest = value;
    let mut first = true;
    for bit in bits.iter().filter(|bit| value & bit.value != 0) {
        if !first {
            text.raw(b" | ");
        }
        first = false;
        text.raw(bit.name.as_bytes());
        rest &= !bit.value;
    }
    if rest != 0 {
        if !first {
            text.raw(b" | ");
        }
        text.raw(format!("{rest:#x}").as_bytes());
    }
    text.raw(b"\"");
}

fn split_device(value: u64, encoding: DeviceEncoding) -> (u64, u64) {
    match encoding {
        DeviceEncoding::Kernel => (value >> 20, value & 0xf_ffff),
        DeviceEncoding::LibC => (
            value >> 8 & 0xfff | value >> 32 & !0xfff,
            value & 0xff | value >> 12 & !0xff & 0xffff_ffff,
        ),
    }
}

/// The inverse of [`split_device`], where there is one.
fn join_device(major: u64, minor: u64, encoding: DeviceEncoding) -> Option<u64> {
    let value = match encoding {
        DeviceEncoding::Kernel => major.checked_mul(1 << 20)? | minor,
        DeviceEncoding::LibC => {
            if major > u64::from(u32::MAX) || minor > u64::from(u32::MAX) {
                return None;
            }
            minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12 | (major & !0xfff) << 32
        }
    };
    (split_device(value, encoding) == (major, minor)).then_some(value)
}

#[cfg(test)]
mod tests {
    use criu_image::schema::{CritOptions, FieldKind};

    use super::*;
    use crate::json::Style;

    fn field(name: &'static str, crit: CritOptions) -> FieldDescriptor {
        let mut field = FieldDescriptor::optional(name, 1, FieldKind::Uint64);
        field.crit = crit;
        field
    }

    fn pretty(field: &FieldDescriptor, value: Integer) -> String {
        let mut text = Text::new(Vec::new(), Style::Pretty);
        write_pretty(&mut text, field, value, false).expect("memory takes it");
        String::from_utf8(text.finish().expect("memory takes it")).expect("text is ASCII")
    }

    #[track_caller]
    fn both_ways(field: &FieldDescriptor, value: impl Into<Integer>, expected: &str) {
        let value = value.into();
        let printed = pretty(field, value);
        assert_eq!(printed, expected);
        let inner = printed.trim_matches('"');
        assert_eq!(
            parse(field, inner, TaskStateWords::V4_3),
            Ok(value),
            "{printed}"
        );
    }

    #[test]
    fn numbers_in_hexadecimal() {
        let field = field(
            "start",
            CritOptions {
                hex: true,
                ..CritOptions::NONE
            },
        );
        both_ways(&field, 0u64, r#""0x0""#);
        both_ways(&field, 0xffff_ffff_ff60_0000u64, r#""0xffffffffff600000""#);
        both_ways(&field, -5i64, r#""-0x5""#);
        both_ways(&field, i64::MIN, r#""-0x8000000000000000""#);
        // As Python prints it.
        assert_eq!(
            parse(&field, "0x-5", TaskStateWords::V4_3),
            Ok(Integer::from(-5i64))
        );
    }

    #[test]
    fn device_numbers() {
        let crit = CritOptions {
            dev: Some(DeviceEncoding::Kernel),
            ..CritOptions::NONE
        };
        let kernel = field("s_dev", crit);
        both_ways(&kernel, 0x0080_0001u64, r#""8:1""#);
        both_ways(&kernel, 0xffff_ffffu64, r#""4095:1048575""#);
        let crit = CritOptions {
            dev: Some(DeviceEncoding::LibC),
            ..CritOptions::NONE
        };
        let libc = field("rdev", crit);
        both_ways(&libc, 0x0801u64, r#""8:1""#);
        both_ways(&libc, 0xffff_ffffu64, r#""4095:1048575""#);
        both_ways(&libc, 0xf000_0001_2345u64, r#""61731:69""#);
        assert_eq!(
            parse(&kernel, "1:1048576", TaskStateWords::V4_3),
            Err(NotANumber::Device)
        );
        assert_eq!(
            parse(&kernel, "1:x", TaskStateWords::V4_3),
            Err(NotANumber::Device)
        );
        assert_eq!(
            parse(&kernel, "0x10", TaskStateWords::V4_3),
            Ok(Integer::from(16u64))
        );
    }

    #[test]
    fn names_of_bits() {
        let prot = field(
            "prot",
            CritOptions {
                flags: Some("mmap.prot"),
                ..CritOptions::NONE
            },
        );
        both_ways(&prot, 0u64, r#""""#);
        both_ways(&prot, 5u64, r#""PROT_READ | PROT_EXEC""#);
        both_ways(&prot, 0x13u64, r#""PROT_READ | PROT_WRITE | 0x10""#);
        both_ways(&prot, 0x40u64, r#""0x40""#);
        let parse = |text| parse(&prot, text, TaskStateWords::V4_3);
        assert_eq!(parse("PROT_READ|PROT_READ"), Ok(Integer::from(1u64)));
        assert_eq!(parse("PROT_READ | 0x11 | 0o40"), Ok(Integer::from(0x31u64)));
        assert_eq!(parse("PROT_READ | PROT_SLEEP"), Err(NotANumber::Unknown));
        let unknown = field(
            "prot",
            CritOptions {
                flags: Some("new"),
                ..CritOptions::NONE
            },
        );
        both_ways(&unknown, 5u64, r#""0x5""#);
    }

    #[test]
    fn names_of_values() {
        let state = field(
            "task_state",
            CritOptions {
                dict: Some("gen"),
                ..CritOptions::NONE
            },
        );
        both_ways(&state, 1u64, r#""Alive""#);
        both_ways(&state, 6u64, r#""Zombie""#);
        both_ways(&state, 5u64, "5");
        assert_eq!(
            parse(&state, "Zombie", TaskStateWords::V4_2),
            Ok(Integer::from(3u64))
        );
        assert_eq!(
            parse(&state, "0x3", TaskStateWords::V4_3),
            Ok(Integer::from(3u64))
        );
        assert_eq!(
            parse(&state, "Undead", TaskStateWords::V4_3),
            Err(NotANumber::Unknown)
        );
    }

    #[test]
    fn numbers_with_a_prefix_that_tells_their_base() {
        for (text, expected) in [
            ("17", Some(17i64)),
            (" 0x1F ", Some(31)),
            ("0b101", Some(5)),
            ("-0O17", Some(-15)),
            ("+3", Some(3)),
            ("007", Some(7)),
            ("-0", Some(0)),
            ("", None),
            ("-", None),
            ("0x", None),
            ("+-3", None),
            ("0x+3", None),
            ("3.5", None),
            ("é1", None),
            ("18446744073709551616", None),
        ] {
            assert_eq!(parse_number(text), expected.map(Integer::from), "{text:?}");
        }
    }

    #[test]
    fn addresses_as_words() {
        for (words, expected) in [
            (&[0x0100_007f][..], "127.0.0.1"),
            (&[0, 0, 0, 0], "::"),
            (&[0, 0, 0, 0x0100_0000], "::1"),
            (&[0xb80d_0120, 0, 0, 0x0100_0000], "2001:db8::1"),
            (&[0, 0, 0xffff_0000, 0x0403_0201], "::ffff:102:304"),
            (&[0, 0, 0xffff_0000, 0x0403_0000], "::ffff:0:304"),
        ] {
            let address = address(words).expect("it is an address");
            assert_eq!(print_address(address), expected);
            assert_eq!(
                address_words(expected.parse().expect("it is an address")),
                words
            );
        }
        assert_eq!(address(&[1, 2, 3]), None);
        assert_eq!(address(&[1, 2, 3, 4, 5]), None);
    }
}
