//! `criuctl cpuinfo`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use criu::CpuInfo;
use serde_json::json;

use super::Global;
use super::arguments::SettingsArguments;
use super::report::{Problem, result};
use crate::output::json_path;

/// Record or compare processor features
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Record this machine's processor features
    Dump(Arguments),
    /// Compare recorded processor features with this machine's
    Check(Arguments),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  criuctl cpuinfo dump -D /tmp/images     here, before the images go elsewhere
  criuctl cpuinfo check -D /tmp/images    there: exit status 1 if the processor lacks something")]
pub(super) struct Arguments {
    /// Directory with cpuinfo.img
    #[arg(short = 'D', long, value_name = "DIR", default_value = ".")]
    images_dir: PathBuf,
    #[command(flatten)]
    settings: SettingsArguments,
}

pub(super) fn run(global: &Global, verb: &Verb) -> Result<ExitCode, Problem> {
    let (Verb::Dump(arguments) | Verb::Check(arguments)) = verb;
    let mut cpuinfo = CpuInfo::new(&arguments.images_dir);
    arguments.settings.apply(&mut cpuinfo.settings);
    let criu = global.criu()?;
    let directory = arguments.images_dir.display();
    match verb {
        Verb::Dump(_) => {
            criu.cpuinfo_dump(&cpuinfo).map_err(|error| {
                Problem::during(
                    error,
                    format!("recording processor features in {directory}"),
                )
            })?;
            let value = json!({ "recorded": json_path(&arguments.images_dir.join("cpuinfo.img")) });
            result(global, &value, || {
                format!("recorded in {directory}/cpuinfo.img\n")
            })?;
        }
        Verb::Check(_) => {
            criu.cpuinfo_check(&cpuinfo).map_err(|error| {
                Problem::during(
                    error,
                    format!("comparing the processor with {directory}/cpuinfo.img"),
                )
            })?;
            result(global, &json!({ "compatible": true }), || {
                "this processor has every feature that was recorded\n".to_owned()
            })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
