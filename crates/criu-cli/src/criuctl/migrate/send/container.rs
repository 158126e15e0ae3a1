//! `criuctl migrate send --runc` and `--podman`.

use std::process::ExitCode;

use criu_migrate::container::{Container, ContainerFate, ContainerNotSent, ContainerSource};
use criu_migrate::{Error, Needs};
use serde_json::json;

use super::super::progress::Form;
use super::super::{IN_DOUBT, failed, reach, timing};
use super::{Arguments, request, table};
use crate::criuctl::Global;
use crate::criuctl::interrupt::stop_on_signals;
use crate::criuctl::report::{self, Problem, result};
use crate::output::{json_path, visible};

pub(super) fn run(
    global: &Global,
    arguments: &Arguments,
    container: Container,
    destination: Option<&str>,
) -> Result<ExitCode, Problem> {
    let way = (arguments.over.as_deref(), destination);
    let transport = reach(way, arguments.insecure, &arguments.protection)?;
    let mut source = ContainerSource::new(global.criu()?, container);
    source.needs = Needs::of_dump(&request(arguments, 0, &source.work_dir)?);
    source.mode = arguments.course.mode();
    source.limits = arguments.course.limits();
    source.sync.clone_from(&arguments.sync);
    if let Some(work_dir) = &arguments.images_dir {
        source.work_dir.clone_from(work_dir);
    }
    // Its path is handed to programs that run elsewhere.
    source.work_dir = std::path::absolute(&source.work_dir)
        .map_err(Problem::io("find the directory for the checkpoint"))?;
    if let Some(silence) = arguments.silence {
        source.timing = timing(silence);
    }
    if let Some(restore) = arguments.restore_timeout {
        source.timing.restore = restore;
    }
    let what = source.container.to_string();
    let watch = Form::of(global).watch();
    let signals = stop_on_signals(&watch)?;
    let outcome = source.send(transport, &watch);
    signals.close();
    match outcome {
        Ok(sent) => {
            let value = json!({ "event": "result", "result": sent });
            result(global, &value, || table(&what, &sent))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(not_sent) => Ok(explain(global, *not_sent)),
    }
}

fn explain(global: &Global, not_sent: ContainerNotSent) -> ExitCode {
    let said = visible(&not_sent.to_string());
    let fate = not_sent.fate.clone();
    if global.json {
        let value = json!({
            "event": "not-sent",
            "container": not_sent.container,
            "fate": fate,
            "stage": not_sent.stage,
            "restore_command": not_sent.restore_command,
            "checkpoint": not_sent.checkpoint.as_deref().map(json_path),
            "message": said,
        });
        // Standard output may be gone; the exit code still tells.
        let _ = report::print(&format!("{value}\n"));
    }
    let tried = format!("sending {}", not_sent.container);
    let code = match not_sent.error {
        Error::Cancelled if !global.json => ExitCode::from(130),
        error => report::fail(global, &failed(error, tried)),
    };
    if !global.json {
        eprintln!("criuctl: {said}");
    }
    match fate {
        ContainerFate::InDoubt => ExitCode::from(IN_DOUBT),
        _ => code,
    }
}
