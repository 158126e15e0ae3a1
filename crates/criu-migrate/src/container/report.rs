//! What became of a container that did not move.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::Container;
use crate::conversation::Stage;
use crate::error::Error;

/// What has become of the container on the source when a migration failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ContainerFate {
    /// It was not touched.
    Untouched,
    /// It was restored from its checkpoint and goes on.
    Resumed,
    /// It is checkpointed and may run on the destination.
    InDoubt,
    /// It is checkpointed, and could not be restored.
    Kept,
    /// It runs on the destination, but its checkpoint could not be removed here.
    Leftover,
}

/// A migration of a container that failed, seen from the source.
#[derive(Debug)]
#[non_exhaustive]
pub struct ContainerNotSent {
    /// Where it failed.
    pub stage: Stage,
    /// Why.
    pub error: Error,
    /// The container.
    pub container: Container,
    /// What has become of it here.
    pub fate: ContainerFate,
    /// The command that restores it here from its checkpoint, once there is one.
    pub restore_command: Option<String>,
    /// The directory of its checkpoint, if it is one of ours.
    pub checkpoint: Option<PathBuf>,
    /// The destination.
    pub destination: String,
}

impl fmt::Display for ContainerNotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (container, there) = (&self.container, &self.destination);
        let restore = self.restore_command.as_deref().unwrap_or("its runtime");
        write!(f, "migration failed while {}; ", self.stage)?;
        match self.fate {
            ContainerFate::Untouched => write!(f, "{container} was not touched"),
            ContainerFate::Resumed => write!(f, "{container} goes on here"),
            ContainerFate::InDoubt => {
                write!(
                    f,
                    "{container} is checkpointed here and may run on the destination: look at {there}; if it does not \
                     run there, restore it here with `{restore}`; if it does, remove "
                )?;
                match &self.checkpoint {
                    Some(directory) => write!(f, "{}", directory.display()),
                    None => write!(f, "the container here"),
                }
            }
            ContainerFate::Kept => write!(
                f,
                "{container} does not run, its checkpoint is kept: restore it with `{restore}`"
            ),
            ContainerFate::Leftover => write!(
                f,
                "{container} runs on {there}, but what is left of it here could not be removed: remove it"
            ),
        }
    }
}

impl std::error::Error for ContainerNotSent {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
