//! What to say about an error that no rule knows: what the part of CRIU that wrote it does, what its
//! errno means there, and where to go on.

mod areas;
mod errnos;

use areas::{AREAS, Area};
use errnos::ERRNOS;

use crate::log::{Entry, Level, Location};
use crate::operation::Operation;

/// Explains `entry` in general terms: cause and remedy.
pub(super) fn explain(entry: &Entry, operation: Option<Operation>) -> (String, String) {
    let area = area(entry);
    let message = entry.message();
    let errno = ERRNOS.iter().find(|errno| {
        message
            .trim_end()
            .trim_end_matches(['.', '!', ')'])
            .ends_with(errno.text)
    });

    let mut cause = match operation {
        Some(operation) => format!("the {operation} stopped here: "),
        None => String::from("CRIU stopped here: "),
    };
    if entry.level == Level::Untagged && entry.time.is_none() {
        let cause = format!(
            "a program that CRIU ran failed and said: {}",
            message.trim()
        );
        return (cause, format!("{TOOL}; {GENERAL}"));
    }
    if entry.level == Level::Untagged {
        cause = match operation {
            Some(operation) => format!(
                "the {operation} failed without an error message; the last thing it did was: "
            ),
            None => {
                String::from("CRIU failed without an error message; the last thing it did was: ")
            }
        };
    }
    cause.push_str(message.trim());
    if let Some(area) = area {
        cause.push_str("; this comes from the part of CRIU that ");
        cause.push_str(area.does);
    }
    if let Some(errno) = errno {
        cause.push_str("; ");
        cause.push_str(errno.meaning);
    }

    let mut remedy = String::new();
    if let Some(errno) = errno {
        remedy.push_str(errno.remedy);
        remedy.push_str("; ");
    }
    if let Some(area) = area {
        remedy.push_str(area.remedy);
        remedy.push_str("; ");
    }
    remedy.push_str(GENERAL);
    (cause, remedy)
}

/// What to try when the remedy of the rule that knows `entry` does not help.
pub(super) fn otherwise(entry: &Entry) -> String {
    match area(entry) {
        Some(area) => format!("if that does not help: {}; {UPGRADE}", area.remedy),
        None => format!("if that does not help: {UPGRADE}"),
    }
}

const UPGRADE: &str = "try a newer version of CRIU (upgrade), many failures are fixed there";

const GENERAL: &str = "if that does not help, run again with -v4 and read the lines just before this one, run \
     `criu check --all` to see what kernel and configuration lack, and try a newer version of CRIU (upgrade): \
     many failures are fixed there";

const TOOL: &str = "run that program by hand and fix what it complains about: iptables-restore and ip6tables-restore need their \
     kernel modules (ip_tables, xt_mark) and a recent version (or use --network-lock nftables, or skip), ip needs \
     iproute2, tmpfs content needs GNU tar";

fn area(entry: &Entry) -> Option<&'static Area> {
    let by_module = entry
        .module()
        .and_then(|module| AREAS.iter().find(|area| area.modules.contains(&module)));
    by_module.or_else(|| {
        let file = entry.location.as_ref().map(Location::file_name)?;
        AREAS.iter().find(|area| area.files.contains(&file))
    })
}
