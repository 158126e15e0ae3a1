//! Takes a physical line apart: one line can hold several entries, and wrappings around them.

use std::ops::Range;
use std::time::Duration;

use bstr::{BString, ByteSlice};

use super::{Entry, Level, Location};

/// Parses one physical line and hands every entry in it to `sink`.
pub(super) fn parse(raw: &[u8], line_number: u64, sink: &mut dyn FnMut(Entry)) {
    let text = clean(raw);
    let pieces = split(&text);
    if let [whole] = pieces.as_slice()
        && *whole == (0..text.len())
    {
        sink(entry(BString::from(raw), text, line_number));
        return;
    }
    for piece in pieces {
        let part = text.get(piece).unwrap_or_default().to_owned();
        sink(entry(BString::from(part.as_str()), part, line_number));
    }
}

/// The line as text: invalid UTF-8 replaced, NUL bytes, carriage returns and terminal colours removed.
fn clean(raw: &[u8]) -> String {
    let raw = raw.strip_suffix(b"\r").unwrap_or(raw);
    let lossy = raw.to_str_lossy();
    if !lossy.contains(['\0', '\x1b']) {
        return lossy.into_owned();
    }
    let mut text = String::with_capacity(lossy.len());
    let mut characters = lossy.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\0' => {}
            // ESC [ parameters letter
            '\x1b' => {
                if characters.next_if_eq(&'[').is_some() {
                    while characters
                        .next_if(|c| c.is_ascii_digit() || matches!(c, ';' | '?' | ':'))
                        .is_some()
                    {}
                    characters.next_if(char::is_ascii_alphabetic);
                }
            }
            other => text.push(other),
        }
    }
    text
}

/// Where entries start inside a line. A line of its own is one piece.
///
/// Other programs write into CRIU's log without a line end, wrappers print line ends as `\n`, and
/// quoting in bug reports loses them altogether; so a second time stamp or level mark starts an entry.
fn split(text: &str) -> Vec<Range<usize>> {
    let mut cuts = Vec::new();
    // Where the mark that belongs to the current entry may still stand.
    let mut header_end = 0;
    let mut seen = false;
    let mut at = 0;
    while let Some(found) = text
        .get(at..)
        .and_then(|rest| rest.find(['(', 'E', 'W', '\\']))
    {
        let start = at + found;
        let rest = text.get(start..).unwrap_or_default();
        at = start + 1;
        if let Some(tail) = rest.strip_prefix("\\n") {
            // A printed line end counts only where CRIU's own marks follow.
            if stamp(tail).is_some() || tag(tail).is_some() {
                cuts.push((start, start + 2));
                header_end = start + 2;
                seen = false;
            }
            continue;
        }
        let Some(length) = stamp(rest)
            .map(|(length, _)| length)
            .or_else(|| tag(rest).map(|tag| tag.length))
        else {
            continue;
        };
        let before = text.get(header_end..start).unwrap_or_default();
        let glued = before.ends_with(|c: char| c.is_alphanumeric() || c == '.');
        let own = if seen { is_header_gap(before) } else { !glued };
        if !own {
            cuts.push((start, start));
        }
        seen = true;
        header_end = start + length;
        at = header_end;
    }
    if cuts.is_empty() {
        return std::iter::once(0..text.len()).collect();
    }
    let mut pieces = Vec::new();
    let mut from = 0;
    for (end, next) in cuts {
        if text
            .get(from..end)
            .is_some_and(|piece| !piece.trim().is_empty())
        {
            pieces.push(from..end);
        }
        from = next;
    }
    pieces.push(from..text.len());
    pieces
}

/// Whether only white space, pids and `pie:` stand between a time stamp and a level mark.
fn is_header_gap(gap: &str) -> bool {
    gap.split(':').all(|word| {
        let word = word.trim();
        word.is_empty() || word == "pie" || word.bytes().all(|b| b.is_ascii_digit())
    })
}

fn entry(raw: BString, text: String, line_number: u64) -> Entry {
    let mut cursor = 0;
    let mut time = None;
    let mut level = wrapper_level(&text);
    let mut end = text.trim_end().len();

    if let Some((start, length, value)) = find_stamp(&text) {
        end = closing_quote(&text, start, end);
        time = Some(value);
        cursor = start + length;
    } else if let Some(message) = wrapper_message(&text) {
        end = closing_quote(&text, message, end);
        cursor = message;
    }
    let header = cursor;
    let mut pid = None;
    loop {
        let rest = text.get(cursor..end).unwrap_or_default();
        if let Some((length, value)) = pid_mark(rest) {
            pid = Some(value);
            cursor += length;
        } else if let Some(tail) = rest.trim_start().strip_prefix("pie: ") {
            cursor = end - tail.len();
        } else {
            break;
        }
    }

    let mut location = None;
    let rest = text.get(cursor..end).unwrap_or_default();
    let start = rest.trim_start();
    let marked = tag(start)
        .or_else(|| time.and_then(|_| bare_tag(start)))
        .map(|tag| (rest.len() - start.len(), tag));
    // Without a time stamp the mark may stand behind a wrapper's words.
    let marked = marked.or_else(|| if time.is_none() { find_tag(rest) } else { None });
    if let Some((skip, tag)) = marked {
        if skip > 0
            && let Some(value) = rest.get(..skip).and_then(trailing_pid)
        {
            pid = Some(value);
        }
        if time.is_none() {
            end = closing_quote(&text, cursor + skip, end);
        }
        cursor += skip + tag.length;
        level = tag.level;
        location = tag.location;
    } else if cursor > header || time.is_some() {
        // The text of an untagged line keeps its indentation; it says what belongs to what.
        cursor += usize::from(
            text.get(cursor..end)
                .is_some_and(|rest| rest.starts_with(' ')),
        );
    }

    let body = cursor.min(end);
    let rest = text.get(body..end).unwrap_or_default();
    let module = module_mark(rest).map(|length| body..body + length);
    let message = module
        .as_ref()
        .map_or(body, |module| module.end + 2)
        .min(end);
    Entry {
        line_number,
        time,
        pid,
        level,
        location,
        raw,
        text,
        module,
        body,
        message,
        end,
    }
}

/// `(00.068123) ` at the start: its length and value.
fn stamp(text: &str) -> Option<(usize, Duration)> {
    let inner = text.strip_prefix('(')?;
    // Some versions lose the bracket from 100 s on: `(666.230281 `.
    let close = inner.find([')', ' ']).filter(|&close| close <= 14)?;
    let (seconds, fraction) = inner.get(..close)?.split_once('.')?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(seconds) || !digits(fraction) || fraction.len() < 3 {
        return None;
    }
    // From 100 s on the last digit of the fraction is lost (`log.c`, `print_ts`).
    let scale = 10_u64.pow(9_u32.saturating_sub(u32::try_from(fraction.len()).ok()?));
    let nanoseconds = fraction.parse::<u64>().ok()?.checked_mul(scale)?;
    let value = Duration::from_secs(seconds.parse().ok()?)
        .checked_add(Duration::from_nanos(nanoseconds))?;
    let behind = inner.get(close..)?;
    let space = usize::from(behind.starts_with(") ") || behind.len() == 1);
    Some(((close + 2 + space).min(text.len()), value))
}

fn find_stamp(text: &str) -> Option<(usize, usize, Duration)> {
    text.match_indices('(').take(8).find_map(|(start, _)| {
        let (length, value) = stamp(text.get(start..)?)?;
        Some((start, length, value))
    })
}

struct Tag {
    level: Level,
    location: Option<Location>,
    length: usize,
}

/// `Error (criu/files.c:12): ` at the start, also without its first word, which pasting loses.
fn tag(text: &str) -> Option<Tag> {
    let (level, rest) = [
        ("Error", Level::Error),
        ("Warn", Level::Warn),
        ("Warning", Level::Warn),
    ]
    .into_iter()
    .find_map(|(word, level)| {
        let rest = text.strip_prefix(word)?.trim_start_matches([' ', ':']);
        rest.starts_with('(').then_some((level, rest))
    })
    .or_else(|| text.starts_with('(').then_some((Level::Error, text)))?;
    let inner = rest.strip_prefix('(')?;
    let close = inner.find(')').filter(|&close| close <= 256)?;
    let (file, line) = inner.get(..close)?.rsplit_once(':')?;
    let is_path = |file: &str| {
        file.ends_with(".c")
            || file.ends_with(".h")
            || file.ends_with(".S")
            || file.ends_with(".cpp")
    };
    if !is_path(file) || file.contains(char::is_whitespace) {
        return None;
    }
    let location = Location {
        file: file.to_owned(),
        line: line.trim().parse().ok()?,
    };
    let behind = inner.get(close + 1..)?;
    let behind = behind.strip_prefix(':').unwrap_or(behind);
    let behind = behind.strip_prefix(' ').unwrap_or(behind);
    Some(Tag {
        level,
        location: Some(location),
        length: text.len() - behind.len(),
    })
}

/// `Error: ` at the start, from a CRIU built without file names in its messages.
fn bare_tag(text: &str) -> Option<Tag> {
    [("Error: ", Level::Error), ("Warn: ", Level::Warn)]
        .into_iter()
        .find(|(mark, _)| text.starts_with(mark))
        .map(|(mark, level)| Tag {
            level,
            location: None,
            length: mark.len(),
        })
}

fn find_tag(text: &str) -> Option<(usize, Tag)> {
    let starts = text.match_indices(['(', 'E', 'W']).map(|(start, _)| start);
    starts
        .take(256)
        .find_map(|start| Some((start, tag(text.get(start..)?)?)))
}

/// `     1: ` at the start: its length and the number.
fn pid_mark(text: &str) -> Option<(usize, i32)> {
    let trimmed = text.trim_start();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let rest = trimmed.get(digits..)?.strip_prefix(": ")?;
    let pid = trimmed.get(..digits)?.parse().ok()?;
    Some((text.len() - rest.len(), pid))
}

/// The pid in what stands before a level mark: `pie: 14: `, `b'  455439: `.
fn trailing_pid(before: &str) -> Option<i32> {
    let before = before.trim_end().strip_suffix(':')?;
    let digits = before.bytes().rev().take_while(u8::is_ascii_digit).count();
    before.get(before.len() - digits..)?.parse().ok()
}

/// The level a container runtime's logger puts before the text.
fn wrapper_level(text: &str) -> Level {
    let head = text.get(..floor(text, 160)).unwrap_or_default();
    if ["level=error", "level=fatal", "\"level\":\"error\""]
        .iter()
        .any(|mark| head.contains(mark))
    {
        Level::Error
    } else if ["level=warn", "\"level\":\"warn"]
        .iter()
        .any(|mark| head.contains(mark))
    {
        Level::Warn
    } else {
        Level::Untagged
    }
}

/// Where the text of `… msg="text"` starts.
fn wrapper_message(text: &str) -> Option<usize> {
    ["msg=\"", "\"msg\":\""]
        .iter()
        .find_map(|mark| Some(text.find(mark)? + mark.len()))
}

/// Where the text ends if what stands before `start` opened a quote.
fn closing_quote(text: &str, start: usize, end: usize) -> usize {
    let before = text
        .get(..start)
        .and_then(|before| before.chars().next_back());
    let quoted = text.get(start..end).unwrap_or_default();
    let inner = match before {
        // JSON and logfmt: other fields follow, and quotes inside are escaped.
        Some('"') => {
            let close = quoted
                .match_indices('"')
                .map(|(at, _)| at)
                .find(|&at| !quoted.get(..at).is_some_and(|inner| inner.ends_with('\\')));
            quoted
                .get(..close.unwrap_or(quoted.len()))
                .unwrap_or_default()
        }
        Some(quote @ ('\'' | '`')) => {
            let trimmed = quoted.trim_end_matches(',');
            trimmed.strip_suffix(quote).unwrap_or(trimmed)
        }
        _ => return end,
    };
    start + inner.strip_suffix("\\n").unwrap_or(inner).len()
}

/// CRIU's modules (`LOG_PREFIX` in its source, and what older versions wrote).
const MODULES: &[&str] = &[
    "amdgpu_plugin",
    "apparmor",
    "autofs",
    "bfd",
    "bpfmap",
    "cg",
    "cg-prop",
    "cgroupd",
    "cpu",
    "cuda_plugin",
    "epoll",
    "eventfd",
    "ext",
    "fdstore",
    "file",
    "fsnotify",
    "hugetlb",
    "img-streamer",
    "inet",
    "irmap",
    "kcmp",
    "lazy-pages",
    "lsm",
    "memfd",
    "mnt",
    "mnt-v2",
    "net",
    "netlink",
    "nf",
    "packet",
    "page-pipe",
    "page-read",
    "page-xfer",
    "pagemap",
    "pagemap-cache",
    "pidfd",
    "pidfd_store",
    "plugin",
    "pr",
    "rlimir",
    "rlimit",
    "rseq",
    "seccomp",
    "sfd",
    "shmem",
    "sk inet",
    "sk netlink",
    "sk packet",
    "sk unix",
    "skqueue",
    "sockets",
    "stats",
    "sysctl",
    "tcp",
    "tls",
    "timens",
    "timerfd",
    "tty",
    "tun",
    "uffd",
    "unix",
    "uns",
    "vdso",
    "x86",
    "xsave",
    "fpu",
    "shstk",
    "binfmt_misc",
];

fn module_mark(text: &str) -> Option<usize> {
    let (word, _) = text.split_once(": ")?;
    MODULES.contains(&word).then_some(word.len())
}

/// The nearest character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}
