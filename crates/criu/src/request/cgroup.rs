//! Control groups.

use std::path::PathBuf;

use super::settings::{set, text};
use crate::rpc::{CgroupRoot as RpcCgroupRoot, CriuCgMode, CriuOpts};

/// What CRIU does with the control groups tasks are in (`--manage-cgroups`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CgroupMode {
    /// Nothing at all, not even a look at them.
    Ignore,
    /// Tasks are put back into groups that must exist.
    None,
    /// Properties are restored into groups that must exist.
    Props,
    /// Groups are made unless they exist, properties restored only in those made. CRIU's default.
    Soft,
    /// Groups are made unless they exist, properties restored in all.
    Full,
    /// Groups are made, and it is an error if one exists.
    Strict,
}

impl CgroupMode {
    const fn message(self) -> CriuCgMode {
        match self {
            Self::Ignore => CriuCgMode::Ignore,
            Self::None => CriuCgMode::CgNone,
            Self::Props => CriuCgMode::Props,
            Self::Soft => CriuCgMode::Soft,
            Self::Full => CriuCgMode::Full,
            Self::Strict => CriuCgMode::Strict,
        }
    }
}

/// Control groups of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DumpCgroups {
    /// What is done with the groups.
    pub mode: Option<CgroupMode>,
    /// Which properties to save, in CRIU's own small language (`--cgroup-props`).
    pub props: Option<String>,
    /// A file with the same (`--cgroup-props-file`).
    pub props_file: Option<PathBuf>,
    /// Only these controllers are dumped (`--cgroup-dump-controller`).
    pub controllers: Vec<String>,
    /// A group all tasks are in, to freeze them by instead of stopping one by one (`--freeze-cgroup`).
    pub freeze: Option<PathBuf>,
    /// A directory where the hierarchies are mounted already (`--cgroup-yard`).
    pub yard: Option<PathBuf>,
}

impl DumpCgroups {
    pub(super) fn apply(&self, opts: &mut CriuOpts) {
        apply_mode(self.mode, opts);
        set(&mut opts.cgroup_props, self.props.as_ref().map(text));
        set(
            &mut opts.cgroup_props_file,
            self.props_file.as_ref().map(text),
        );
        opts.cgroup_dump_controller
            .extend(self.controllers.iter().map(text));
        set(&mut opts.freeze_cgroup, self.freeze.as_ref().map(text));
        set(&mut opts.cgroup_yard, self.yard.as_ref().map(text));
    }
}

/// Where restored groups go in place of where they were (`--cgroup-root`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CgroupRoot {
    /// The controller; every one if unset.
    pub controller: Option<String>,
    /// The new root of its groups.
    pub path: PathBuf,
}

impl CgroupRoot {
    /// Moves the groups of every controller below `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            controller: None,
            path: path.into(),
        }
    }

    /// Moves the groups of one controller below `path`.
    pub fn of_controller(controller: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            controller: Some(controller.into()),
            path: path.into(),
        }
    }
}

/// Control groups of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RestoreCgroups {
    /// What is done with the groups.
    pub mode: Option<CgroupMode>,
    /// New roots for the groups.
    pub roots: Vec<CgroupRoot>,
    /// A directory where the hierarchies are mounted already (`--cgroup-yard`).
    pub yard: Option<PathBuf>,
}

impl RestoreCgroups {
    pub(super) fn apply(&self, opts: &mut CriuOpts) {
        apply_mode(self.mode, opts);
        opts.cg_root
            .extend(self.roots.iter().map(|root| RpcCgroupRoot {
                ctrl: root.controller.as_ref().map(text),
                path: text(&root.path),
                ..RpcCgroupRoot::default()
            }));
        set(&mut opts.cgroup_yard, self.yard.as_ref().map(text));
    }
}

fn apply_mode(mode: Option<CgroupMode>, opts: &mut CriuOpts) {
    let Some(mode) = mode else { return };
    // The older flag beside the mode: without it some releases leave the groups alone.
    opts.manage_cgroups = Some(mode != CgroupMode::Ignore);
    opts.manage_cgroups_mode = Some(mode.message());
}
