//! `criuctl page-server`.

use std::path::PathBuf;
use std::process::ExitCode;

use criu::PageServer;
use serde_json::json;

use super::Global;
use super::arguments::{ImageIoWord, SettingsArguments, TlsArguments};
use super::dump::make_directory;
use super::report::{Problem, result};
use crate::output::json_path;

/// Receive the pages of a dump elsewhere
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  there: criuctl page-server -D /tmp/images --port 9876
  here:  criuctl dump 4711 -D /tmp/images --page-server --address there --port 9876

It serves one dump and ends. With --port 0 the kernel chooses the port, which is printed first.")]
pub(super) struct Arguments {
    /// Directory for the pages
    #[arg(short = 'D', long, value_name = "DIR", default_value = ".")]
    images_dir: PathBuf,
    /// Address to listen on [default: all]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// TCP port to listen on
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Return once the server listens
    #[arg(short = 'd', long, visible_alias = "daemon")]
    detach: bool,
    /// Remove from the earlier images the pages that these images get
    #[arg(long)]
    auto_dedup: bool,
    /// How image files are written (since CRIU 4.3)
    #[arg(long, value_name = "MODE", value_enum)]
    image_io_mode: Option<ImageIoWord>,
    #[command(flatten)]
    tls: TlsArguments,
    #[command(flatten)]
    settings: SettingsArguments,
}

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<ExitCode, Problem> {
    let images = &arguments.images_dir;
    let mut server = PageServer::new(images);
    arguments.settings.apply(&mut server.settings);
    server.address.clone_from(&arguments.address);
    server.port = arguments.port;
    server.auto_dedup = arguments.auto_dedup;
    server.image_io = arguments.image_io_mode.map(Into::into);
    server.tls = arguments.tls.tls();

    let criu = global.criu()?;
    make_directory(images)?;
    let tried = || format!("serving pages into {}", images.display());
    let announce = |pid: Option<i32>, port: u16| {
        let value = json!({ "pid": pid, "port": port, "images": json_path(images) });
        result(global, &value, || {
            let name = pid.map(|pid| format!(" {pid}")).unwrap_or_default();
            format!("page server{name} listens on port {port}\n")
        })
    };
    if arguments.detach {
        let started = criu
            .page_server(&server)
            .map_err(|error| Problem::during(error, tried()))?;
        announce(started.pid, started.port)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut session = criu.session()?;
    let started = session
        .page_server_child(&server)
        .map_err(|error| Problem::during(error, tried()))?;
    announce(Some(started.pid), started.port)?;
    let status = session
        .wait_pid(started.pid)
        .map_err(|error| Problem::during(error, tried()))?;
    if status.success() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "criuctl: the page server failed ({status}); `criuctl explain {}` may tell why",
        images.display()
    );
    Ok(ExitCode::from(1))
}
