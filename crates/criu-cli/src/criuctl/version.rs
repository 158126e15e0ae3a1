//! `criuctl version`.

use std::process::ExitCode;

use serde_json::json;

use super::Global;
use super::report::{Problem, result};
use crate::output::json_path;

pub(super) fn run(global: &Global) -> Result<ExitCode, Problem> {
    let criu = global.criu()?;
    let version = criu.version()?;
    let value = json!({
        "criuctl": env!("CARGO_PKG_VERSION"),
        "criu": {
            "version": version.to_string(),
            "integer": version.as_integer(),
            "git_id": version.git_id,
            "path": criu.binary().map(json_path),
        },
    });
    result(global, &value, || {
        let place = match (criu.binary(), &global.service) {
            (Some(path), _) => format!(" ({})", path.display()),
            (None, Some(socket)) => format!(" (service at {})", socket.display()),
            (None, None) => String::new(),
        };
        format!(
            "criuctl {}\nCRIU {version}{place}\n",
            env!("CARGO_PKG_VERSION")
        )
    })?;
    Ok(ExitCode::SUCCESS)
}
