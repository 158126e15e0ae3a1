//! How a tree moves, and which of the ways is possible between two machines.

use std::fmt;

/// How the memory of a tree moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Mode {
    /// All of it while the tree is frozen.
    StopAndCopy,
    /// Most of it in rounds while the tree runs, the rest while it is frozen. Needs memory tracking on the source.
    PreCopy,
    /// What the tree touches, when it touches it on the destination, and the rest behind that. Needs userfaultfd on
    /// both sides. Until all has followed, a failure of either side or of the connection ends the tree.
    PostCopy,
    /// Most of it in rounds, the rest when the tree runs on the destination. Needs what both need.
    Hybrid,
}

impl Mode {
    /// Whether there are rounds while the tree runs.
    pub const fn has_rounds(self) -> bool {
        matches!(self, Self::PreCopy | Self::Hybrid)
    }

    /// Whether memory follows when the tree runs on the destination.
    pub const fn is_lazy(self) -> bool {
        matches!(self, Self::PostCopy | Self::Hybrid)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StopAndCopy => "stop-and-copy",
            Self::PreCopy => "pre-copy",
            Self::PostCopy => "post-copy",
            Self::Hybrid => "hybrid",
        })
    }
}

/// What the two sides can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Abilities {
    /// The source can tell which memory was written to.
    pub memory_tracking: bool,
    /// The source can dump without copying memory.
    pub lazy_source: bool,
    /// Pipes on the source can be as large as such a dump needs.
    pub large_pipes: bool,
    /// The destination can fill memory when it is first touched.
    pub lazy_destination: bool,
}

impl Abilities {
    /// Those of runtimes of containers: whatever else the hosts can do, their dumps are whole.
    pub(crate) const fn of_tracking(memory_tracking: bool) -> Self {
        Self {
            memory_tracking,
            lazy_source: false,
            large_pipes: false,
            lazy_destination: false,
        }
    }
}

/// A mode that was chosen, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chosen {
    /// The mode.
    pub mode: Mode,
    /// Why it is this one.
    pub reason: &'static str,
    /// The rest of memory may follow if rounds do not converge.
    pub may_end_lazily: bool,
}

/// A mode that cannot work, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{mode} cannot work: {reason}; {remedy}")]
#[non_exhaustive]
pub struct Unavailable {
    /// The mode asked for.
    pub mode: Mode,
    /// What is missing.
    pub reason: &'static str,
    /// What helps.
    pub remedy: &'static str,
}

/// Chooses a mode: the one wanted, if it can work, or by itself the best that puts nothing at risk.
///
/// Post-copy is never chosen by itself: it makes the tree depend on both machines and on the network for a
/// while.
///
/// # Errors
///
/// When the mode wanted cannot work.
pub fn choose(wanted: Option<Mode>, able: &Abilities) -> Result<Chosen, Unavailable> {
    let chosen = |mode, reason| Chosen {
        mode,
        reason,
        may_end_lazily: able.lazy_source && able.lazy_destination && able.large_pipes,
    };
    let Some(mode) = wanted else {
        return Ok(if able.memory_tracking {
            chosen(Mode::PreCopy, "the source can track memory")
        } else {
            chosen(
                Mode::StopAndCopy,
                "the source cannot track memory, and post-copy is never chosen by itself",
            )
        });
    };
    let missing = |reason, remedy| {
        Err(Unavailable {
            mode,
            reason,
            remedy,
        })
    };
    if mode.has_rounds() && !able.memory_tracking {
        return missing(
            "the source cannot track memory",
            "boot its kernel with CONFIG_MEM_SOFT_DIRTY, or choose stop-and-copy or post-copy",
        );
    }
    if mode.is_lazy() {
        let remedy = "use a kernel with userfaultfd there (CONFIG_USERFAULTFD), or choose pre-copy or stop-and-copy";
        if !able.lazy_source {
            return missing("the source cannot dump lazily", remedy);
        }
        if !able.lazy_destination {
            return missing("the destination cannot fill memory lazily", remedy);
        }
        if !able.large_pipes {
            return missing(
                "pipes on the source cannot be as large as CRIU needs for it",
                "run `sysctl -w fs.pipe-max-size=4194304` there",
            );
        }
    }
    Ok(chosen(mode, "it was asked for"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Abilities = Abilities {
        memory_tracking: true,
        lazy_source: true,
        large_pipes: true,
        lazy_destination: true,
    };

    #[test]
    fn what_is_possible_is_chosen_and_what_is_not_is_refused_with_a_remedy() {
        type Change = fn(&mut Abilities);
        let none: Change = |_| {};
        let untracked: Change = |able| able.memory_tracking = false;
        let eager_source: Change = |able| able.lazy_source = false;
        let eager_destination: Change = |able| able.lazy_destination = false;
        let small_pipes: Change = |able| able.large_pipes = false;
        for (wanted, change, expected) in [
            (None, none, Some(Mode::PreCopy)),
            (None, untracked, Some(Mode::StopAndCopy)),
            (Some(Mode::PreCopy), untracked, None),
            (Some(Mode::Hybrid), untracked, None),
            (Some(Mode::PostCopy), untracked, Some(Mode::PostCopy)),
            (Some(Mode::PostCopy), eager_source, None),
            (Some(Mode::Hybrid), eager_destination, None),
            (Some(Mode::PostCopy), small_pipes, None),
            (Some(Mode::PreCopy), small_pipes, Some(Mode::PreCopy)),
            (Some(Mode::StopAndCopy), none, Some(Mode::StopAndCopy)),
            (Some(Mode::Hybrid), none, Some(Mode::Hybrid)),
        ] {
            let mut able = ALL;
            change(&mut able);
            let chosen = choose(wanted, &able);
            assert_eq!(
                chosen.map(|chosen| chosen.mode).ok(),
                expected,
                "{wanted:?} {able:?}"
            );
        }
    }
}
