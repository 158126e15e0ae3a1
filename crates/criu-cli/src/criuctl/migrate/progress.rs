//! What a migration reports while it goes on.

use std::io::Write;

use criu_migrate::{Event, Happening, Watch};

use crate::criuctl::Global;
use crate::output::visible;

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Text for people, on standard error.
    Text,
    /// One JSON object a line, on standard output.
    JsonToStdout,
    /// The same on standard error, where standard output carries the migration.
    JsonToStderr,
}

impl Form {
    pub(super) fn of(global: &Global) -> Self {
        if global.json {
            Self::JsonToStdout
        } else {
            Self::Text
        }
    }

    /// A watch that reports every event in this form.
    pub(super) fn watch(self) -> Watch {
        Watch::new(move |event| self.report(event))
    }

    fn report(self, event: &Event) {
        // Nobody may be reading; the migration goes on all the same.
        let _ = match self {
            Self::Text => match sentence(&event.what) {
                Some(text) => {
                    let at = event.at.as_secs_f64();
                    writeln!(std::io::stderr(), "{at:8.3} s  {}", visible(&text))
                }
                None => Ok(()),
            },
            Self::JsonToStdout => writeln!(std::io::stdout(), "{}", json(event)),
            Self::JsonToStderr => writeln!(std::io::stderr(), "{}", json(event)),
        };
    }
}

fn json(event: &Event) -> serde_json::Value {
    serde_json::to_value(event).unwrap_or_default()
}

fn sentence(what: &Happening) -> Option<String> {
    Some(match what {
        Happening::Connected { peer } => format!("connected with {peer}"),
        Happening::Agreed { host } => format!(
            "the other side is {} ({}, kernel {}, CRIU {})",
            host.name, host.architecture, host.kernel, host.criu
        ),
        Happening::Synced {
            path,
            pass,
            sent_bytes,
        } => format!("{path} copied, {pass} pass: {} sent", size(*sent_bytes)),
        Happening::SyncRemoved { path } => format!("{path} removed again"),
        Happening::SyncRemains { path } => {
            format!("{path} was here before and remains, with files as the source has them")
        }
        Happening::Checkpointed { restore_command } => format!(
            "checkpointed; should this program be killed now, `{restore_command}` brings it back"
        ),
        Happening::Freezing => "freezing the tree".to_owned(),
        Happening::PagesCopied {
            stream_bytes,
            sent_bytes,
        } => format!(
            "memory copied: {}, {} of it sent",
            size(*stream_bytes),
            size(*sent_bytes)
        ),
        Happening::ImagesCopied {
            images,
            stream_bytes,
            ..
        } => format!("{images} images copied, {}", size(*stream_bytes)),
        Happening::Restoring => "restoring".to_owned(),
        Happening::Restored { pid } => format!("restored as process {pid}, and held"),
        Happening::Committing => "handing over".to_owned(),
        Happening::Running { pid } => format!("runs there as process {pid}"),
        // The final report says it at length.
        Happening::Failed { .. } => return None,
        _ => return None,
    })
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(
        clippy::cast_precision_loss,
        reason = "shown with one digit after the point"
    )]
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(3 << 30), "3.0 GiB");
        assert_eq!(size(u64::MAX), "16777216.0 TiB");
    }
}
