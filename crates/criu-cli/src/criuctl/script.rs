//! Action scripts: programs run at each stage, as CRIU's own command runs them.

use std::path::PathBuf;
use std::process::Command;

use criu::{Event, Hook, HookResult};

/// The programs of `--action-script`.
#[derive(Debug, Clone, Default)]
pub(super) struct Scripts {
    pub(super) programs: Vec<PathBuf>,
    /// For `CRTOOLS_IMAGE_DIR`.
    pub(super) images: PathBuf,
}

/// Why a script refused.
#[derive(Debug, thiserror::Error)]
enum ScriptError {
    #[error("the action script {} cannot be started: {source}", .program.display())]
    Start {
        program: PathBuf,
        source: std::io::Error,
    },
    #[error("the action script {} failed at {action}: {status}", .program.display())]
    Failed {
        program: PathBuf,
        action: &'static str,
        status: std::process::ExitStatus,
    },
}

impl Scripts {
    /// Runs every program for the stage; the first that fails refuses it.
    pub(super) fn run(&self, event: &Event<'_>) -> HookResult {
        let (hook, pid) = match event {
            Event::PreStream => (Hook::PreStream, None),
            Event::PreDump => (Hook::PreDump, None),
            Event::PostDump => (Hook::PostDump, None),
            Event::PreRestore => (Hook::PreRestore, None),
            Event::PostRestore { pid } => (Hook::PostRestore, Some(*pid)),
            Event::NetworkLock => (Hook::NetworkLock, None),
            Event::NetworkUnlock => (Hook::NetworkUnlock, None),
            Event::SetupNamespaces { pid } => (Hook::SetupNamespaces, Some(*pid)),
            Event::PostSetupNamespaces => (Hook::PostSetupNamespaces, None),
            Event::PreResume => (Hook::PreResume, None),
            Event::PostResume => (Hook::PostResume, None),
            Event::StatusReady => (Hook::StatusReady, None),
            // These are questions to the caller, not stages.
            _ => return Ok(()),
        };
        for program in &self.programs {
            let mut command = Command::new(program);
            command.env("CRTOOLS_SCRIPT_ACTION", hook.name());
            command.env("CRTOOLS_IMAGE_DIR", &self.images);
            if let Some(pid) = pid {
                command.env("CRTOOLS_INIT_PID", pid.to_string());
            }
            let status = command.status().map_err(|source| ScriptError::Start {
                program: program.clone(),
                source,
            })?;
            if !status.success() {
                let program = program.clone();
                return Err(Box::new(ScriptError::Failed {
                    program,
                    action: hook.name(),
                    status,
                }));
            }
        }
        Ok(())
    }
}
