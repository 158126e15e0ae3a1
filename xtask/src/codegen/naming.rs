//! How CRIU's names become Rust's.

/// The line that lets a search for CRIU's name find ours.
pub(super) fn alias(name: &str) -> String {
    if type_name(name) == name {
        return String::new();
    }
    format!("#[doc(alias = {name:?})]\n")
}

/// `sk-unix.proto` as `sk_unix`.
pub(super) fn module(file: &str) -> String {
    file.trim_end_matches(".proto").replace('-', "_")
}

/// `pagemap_entry` as `PagemapEntry`.
pub(super) fn type_name(name: &str) -> String {
    name.split(['_', '.']).map(capitalised).collect()
}

/// `pagemap_entry` as `PAGEMAP_ENTRY`, `SysctlType` as `SYSCTL_TYPE`.
pub(super) fn static_name(name: &str) -> String {
    let mut out = String::new();
    let mut previous_lower = false;
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && previous_lower {
            out.push('_');
        }
        previous_lower = letter.is_ascii_lowercase();
        out.push(if letter == '.' {
            '_'
        } else {
            letter.to_ascii_uppercase()
        });
    }
    out
}

/// `NO_LSM` as `NoLsm`; an underscore between two digits stays.
pub(super) fn variant(name: &str) -> String {
    let mut out = String::new();
    for word in name.split('_') {
        let digits = word.starts_with(|first: char| first.is_ascii_digit())
            && out.ends_with(|last: char| last.is_ascii_digit());
        if digits {
            out.push('_');
        }
        out.push_str(&capitalised(&word.to_ascii_lowercase()));
    }
    out
}

pub(super) fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_ascii_uppercase().to_string() + letters.as_str()
    })
}

pub(super) fn identifier(name: &str) -> String {
    if name == "type" {
        "r#type".to_owned()
    } else {
        name.to_owned()
    }
}
