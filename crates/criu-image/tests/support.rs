//! SUPPORT.md says of every kind what the table says.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use criu_image::ImageKind;
use criu_image::kind::{Entries, FileName, FirstWord};
use criu_image::payload::PayloadKind;

const BEGIN: &str = "<!-- image kinds: kept by crates/criu-image/tests/support.rs -->\n";
const END: &str = "<!-- end of image kinds -->\n";

#[test]
fn the_table_of_image_kinds_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../SUPPORT.md");
    let text = fs::read_to_string(&path).expect("SUPPORT.md is there");
    let (before, rest) = text.split_once(BEGIN).expect("the table begins");
    let (found, after) = rest.split_once(END).expect("the table ends");
    let wanted = table();
    if found == wanted {
        return;
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).expect("writes");
        return;
    }
    panic!(
        "SUPPORT.md is out of date: run `UPDATE_EXPECT=1 cargo test -p criu-image --test support`"
    );
}

fn table() -> String {
    let mut out = String::from(
        "\n| kind | file | magic | entries | behind each entry | in CRIT's JSON | real fixture of CRIU |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let fixtures = fixtures();
    for &kind in ImageKind::ALL {
        let file = match kind.file_name() {
            FileName::Fixed(name) => name.to_owned(),
            FileName::OneOf(names) => names.join("`, `"),
            FileName::Decimal(prefix, suffix) => format!("{prefix}%u{suffix}"),
            FileName::Hexadecimal(prefix, suffix) => format!("{prefix}%x{suffix}"),
        };
        let first = match kind.first_word() {
            FirstWord::Absent => "",
            FirstWord::Common => "common, ",
            FirstWord::Service => "service, ",
        };
        let magic = kind
            .magic()
            .map_or("none".to_owned(), |magic| format!("{first}`{magic:#x}`"));
        let entries = match kind.entries() {
            Entries::Raw => "raw".to_owned(),
            Entries::One(entry) => format!("one `{}`", entry.name),
            Entries::Many(entry) => format!("`{}`", entry.name),
            Entries::Headed { head, entry } => format!("`{}`, then `{}`", head.name, entry.name),
        };
        let payload = match kind.payload() {
            PayloadKind::None => "",
            PayloadKind::Pipe | PayloadKind::SocketPacket => "queued bytes",
            PayloadKind::TcpStream => "both queues",
            PayloadKind::BpfMap => "keys and values",
            PayloadKind::IpcSemaphores => "values, padded to 8",
            PayloadKind::IpcMessages => "messages, padded to 8",
            PayloadKind::IpcSharedMemory => "content, padded to 4, in old images",
            PayloadKind::GhostFile => "content, whole or in chunks",
            other => panic!("say what {other:?} is"),
        };
        let crit = kind
            .crit_name()
            .map_or(String::new(), |name| format!("`{name}`"));
        let series: Vec<&str> = ["4.2", "4.3"]
            .into_iter()
            .filter(|&series| fixtures.contains(&(series, kind)))
            .collect();
        let real = match series.is_empty() {
            true => "none".to_owned(),
            false => series.join(", "),
        };
        writeln!(
            out,
            "| {kind} | `{file}` | {magic} | {entries} | {payload} | {crit} | {real} |"
        )
        .expect("writes to a string");
    }
    out.push('\n');
    out
}

/// The kinds that real CRIUs wrote, by their series.
fn fixtures() -> BTreeSet<(&'static str, ImageKind)> {
    let mut found = BTreeSet::new();
    for series in ["4.2", "4.3"] {
        let sets = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../fixtures")
            .join(series);
        for set in fs::read_dir(sets).expect("fixtures") {
            for file in fs::read_dir(set.expect("reads").path()).expect("a set") {
                let name = file.expect("reads").file_name();
                let kind = name.to_str().and_then(ImageKind::from_file_name);
                found.extend(kind.map(|(kind, _)| (series, kind)));
            }
        }
    }
    found
}
