//! Matching of messages: literal text with `{name}` holes.
//!
//! `Can't fork for {pid}: File exists` matches anywhere in a line; `^` at the start ties it to the
//! start of the message. A hole takes the shortest text up to the literal that follows it, one at the
//! end takes the rest of the line, one at the start takes the word before the first literal. A hole
//! `{pid#}` takes digits only.

/// What the holes of a pattern took.
pub(super) type Captures<'t> = Vec<(&'static str, &'t str)>;

/// Matches `pattern` against `body`, a line's module and message.
pub(super) fn matches<'t>(
    pattern: &'static str,
    body: &'t str,
    message: &'t str,
) -> Option<Captures<'t>> {
    if let Some(pattern) = pattern.strip_prefix('^') {
        let anchored = |text: &'t str| {
            let (literal, rest) = cut(pattern);
            holes(rest, text.strip_prefix(literal)?)
        };
        return anchored(message).or_else(|| anchored(body));
    }
    if pattern.starts_with('{') {
        let (name, rest) = hole(pattern)?;
        let (literal, rest) = cut(rest);
        return body.match_indices(literal).find_map(|(at, _)| {
            let word = body
                .get(..at)?
                .rsplit(char::is_whitespace)
                .next()
                .filter(|word| !word.is_empty())?;
            let mut captures = holes(rest, body.get(at + literal.len()..)?)?;
            captures.push((name, word));
            Some(captures)
        });
    }
    let (literal, rest) = cut(pattern);
    body.match_indices(literal)
        .find_map(|(at, _)| holes(rest, body.get(at + literal.len()..)?))
}

/// Matches what follows the first literal.
fn holes<'t>(mut pattern: &'static str, mut text: &'t str) -> Option<Captures<'t>> {
    let mut captures = Vec::new();
    while !pattern.is_empty() {
        let (name, rest) = hole(pattern)?;
        let (literal, rest) = cut(rest);
        let end = if literal.is_empty() {
            text.len()
        } else {
            text.find(literal)?
        };
        let taken = text.get(..end)?.trim();
        let name = match name.strip_suffix('#') {
            Some(_) if taken.is_empty() || !taken.bytes().all(|b| b.is_ascii_digit()) => {
                return None;
            }
            Some(name) => name,
            None => name,
        };
        captures.push((name, taken));
        text = text.get(end + literal.len()..)?;
        pattern = rest;
    }
    Some(captures)
}

/// Splits before the next hole.
fn cut(pattern: &'static str) -> (&'static str, &'static str) {
    pattern
        .find('{')
        .map_or((pattern, ""), |at| pattern.split_at(at))
}

/// Splits a leading `{name}` off.
fn hole(pattern: &'static str) -> Option<(&'static str, &'static str)> {
    pattern.strip_prefix('{')?.split_once('}')
}

/// The names of the holes of a pattern.
#[cfg(test)]
pub(super) fn names(mut pattern: &'static str) -> Vec<&'static str> {
    let mut names = Vec::new();
    while let Some((_, rest)) = pattern.split_once('{') {
        let Some((name, rest)) = rest.split_once('}') else {
            break;
        };
        names.push(name.trim_end_matches('#'));
        pattern = rest;
    }
    names
}

/// How many characters of a pattern are literal: the longer, the more specific.
pub(super) fn weight(pattern: &str) -> usize {
    let mut inside = false;
    pattern
        .chars()
        .filter(|&c| {
            inside = c == '{' || inside && c != '}';
            !inside && c != '}' && c != '^'
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &'static str, text: &'static str, expected: Option<&[(&str, &str)]>) {
        let found = matches(pattern, text, text).map(|mut captures| {
            captures.sort_unstable();
            captures
        });
        let expected = expected.map(|pairs| {
            let mut pairs = pairs.to_vec();
            pairs.sort_unstable();
            pairs
        });
        assert_eq!(found, expected, "{pattern:?} on {text:?}");
    }

    #[test]
    fn literals_match_anywhere_unless_anchored() {
        check("fork", "Can't fork for 12", Some(&[]));
        check("^fork", "Can't fork for 12", None);
        check("^Can't", "Can't fork for 12", Some(&[]));
    }

    #[test]
    fn holes_take_the_shortest_text() {
        check(
            "fork for {pid}: {why}",
            "Can't fork for 12: File exists",
            Some(&[("pid", "12"), ("why", "File exists")]),
        );
        check(
            "{pid} killed by",
            "(1) 73 killed by signal 9",
            Some(&[("pid", "73")]),
        );
        check("file {a} of {b} size", "file x of y", None);
        check("open {pid#}: No", "open 12: No", Some(&[("pid", "12")]));
        check("open {pid#}: No", "open dir: No", None);
        check("a{x}b", "a a1c a2b", Some(&[("x", "a1c a2")]));
    }

    #[test]
    fn weight_counts_literals_only() {
        assert_eq!(weight("^ab{name}cd"), 4);
        assert_eq!(names("{a} b {c}"), ["a", "c"]);
    }
}
