//! `crit set`.

use std::io::stdout;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use criu_inspect::rewrite::{self, Backups, Edit, EditMode, EditOptions, Edited};
use serde_json::json;

use super::problem::Problem;
use super::progress::Progress;
use crate::output::{Color, Table, Tone, visible, write_stdout};

/// Change addresses, paths and names in a checkpoint, so that it can be restored elsewhere
///
/// Every change must find something to change. All images change together or not at all.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("short_forms").multiple(true))]
#[command(after_help = "Changes (KEY=VALUE):
  hostname=NAME, domainname=NAME   of the UTS namespaces that were dumped
  comm[:PID]=NAME                  name of a command; PID only if there are several tasks
  cwd[:PID]=PATH, root[:PID]=PATH  working directory and root of a task
  path:OLD=NEW                     first components of the paths of files and directories
  tcp-listen:FROM=TO               addresses and ports; also tcp-local, tcp-remote,
                                   udp-local, udp-remote
FROM and TO are PORT, ADDRESS or ADDRESS:PORT ([ADDRESS]:PORT for IPv6). A part left out of FROM
fits anything, one left out of TO stays.

Examples:
  crit set /tmp/images --tcp-listen 8080=9090
  crit set /tmp/images tcp-listen:8080=9090 hostname=web-2 --dry-run
  crit set /tmp/images --path /var/www=/srv/www comm:4711=server --backup

Exit status: 0 success; 1 nothing was changed; 2 wrong usage.")]
pub(super) struct Arguments {
    /// The checkpoint
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// What to change
    #[arg(value_name = "KEY=VALUE", value_parser = keyed(""), required_unless_present = "short_forms")]
    changes: Vec<Edit>,
    /// Addresses and ports of TCP sockets that listen (can be repeated)
    #[arg(long, value_name = "FROM=TO", value_parser = keyed("tcp-listen:"), group = "short_forms")]
    tcp_listen: Vec<Edit>,
    /// Own addresses and ports of other TCP sockets (can be repeated)
    #[arg(long, value_name = "FROM=TO", value_parser = keyed("tcp-local:"), group = "short_forms")]
    tcp_local: Vec<Edit>,
    /// Whom TCP sockets are connected to (can be repeated)
    #[arg(long, value_name = "FROM=TO", value_parser = keyed("tcp-remote:"), group = "short_forms")]
    tcp_remote: Vec<Edit>,
    /// Own addresses and ports of UDP sockets (can be repeated)
    #[arg(long, value_name = "FROM=TO", value_parser = keyed("udp-local:"), group = "short_forms")]
    udp_local: Vec<Edit>,
    /// Whom UDP sockets are connected to (can be repeated)
    #[arg(long, value_name = "FROM=TO", value_parser = keyed("udp-remote:"), group = "short_forms")]
    udp_remote: Vec<Edit>,
    /// First components of paths (can be repeated)
    #[arg(long, value_name = "OLD=NEW", value_parser = keyed("path:"), group = "short_forms")]
    path: Vec<Edit>,
    /// Only show what would change
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Keep the images as they were as NAME.bak
    #[arg(long)]
    backup: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Reads a change whose beginning is given.
fn keyed(beginning: &'static str) -> impl TypedValueParser<Value = Edit> {
    // Paths need not be UTF-8.
    OsStringValueParser::new()
        .try_map(move |rest| Edit::from_bytes(&[beginning.as_bytes(), rest.as_bytes()].concat()))
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Problem> {
    let edits: Vec<Edit> = [
        &arguments.changes,
        &arguments.tcp_listen,
        &arguments.tcp_local,
        &arguments.tcp_remote,
        &arguments.udp_local,
        &arguments.udp_remote,
        &arguments.path,
    ]
    .into_iter()
    .flatten()
    .cloned()
    .collect();
    let mut options = EditOptions::default();
    options.backups = match arguments.backup {
        true => Backups::Keep,
        false => Backups::Discard,
    };
    options.mode = match arguments.dry_run {
        true => EditMode::Preview,
        false => EditMode::Apply,
    };
    let progress = Progress::watch()?;
    let edited = rewrite::edit(&arguments.directory, &edits, options, &progress)
        .map_err(Problem::rewrite("change", &arguments.directory))?;
    drop(progress);
    let text = match arguments.json {
        true => as_json(&edited, options.mode),
        false => as_table(&edited),
    };
    write_stdout(&text).map_err(Problem::stdout)
}

fn as_table(edited: &[Edited]) -> String {
    let mut table = Table::default();
    let titles = ["IMAGE", "ENTRY", "WHAT", "BEFORE", "AFTER"];
    table.row(titles.map(|title| (title.to_owned(), Tone::Strong)));
    for change in edited {
        let cells = [
            change.image.clone(),
            change.entry.to_string(),
            change.what.to_owned(),
            change.before.to_string(),
            change.after.to_string(),
        ];
        table.row(cells.map(|cell| (visible(&cell), Tone::Plain)));
    }
    table.render(Color::default().applies_to(&stdout()))
}

fn as_json(edited: &[Edited], mode: EditMode) -> String {
    let changes: Vec<_> = edited
        .iter()
        .map(|change| {
            json!({
                "image": change.image,
                "entry": change.entry,
                "what": change.what,
                "before": change.before.to_string(),
                "after": change.after.to_string(),
            })
        })
        .collect();
    let applied = mode == EditMode::Apply;
    format!("{}\n", json!({ "applied": applied, "changes": changes }))
}
