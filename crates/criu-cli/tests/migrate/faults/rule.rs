//! The written rule: what is done to whom and when, and what has to come of it.

use std::fmt;

use crate::sides::{Mode, Moment, Role};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    KillSender,
    KillReceiver,
    Kill(Role),
    /// Until given up by its peer, if it has one; then it goes on.
    StopSender,
    StopReceiver,
    Stop(Role),
    /// The connection is closed.
    Cut,
    /// Packets are lost.
    Swallow,
    /// Ctrl-C.
    InterruptSender,
    InterruptReceiver,
}

pub(super) const FAULTS: [Fault; 17] = [
    Fault::KillSender,
    Fault::KillReceiver,
    Fault::Kill(Role::SourceCriu),
    Fault::Kill(Role::DestinationCriu),
    Fault::Kill(Role::PageServer),
    Fault::Kill(Role::LazyPages),
    Fault::Kill(Role::Guard),
    Fault::StopSender,
    Fault::StopReceiver,
    Fault::Stop(Role::SourceCriu),
    Fault::Stop(Role::DestinationCriu),
    Fault::Stop(Role::PageServer),
    Fault::Stop(Role::LazyPages),
    Fault::Cut,
    Fault::Swallow,
    Fault::InterruptSender,
    Fault::InterruptReceiver,
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::KillSender => "sender killed",
            Self::KillReceiver => "receiver killed",
            Self::Kill(role) => return write!(f, "{role:?} killed"),
            Self::StopSender => "sender stopped",
            Self::StopReceiver => "receiver stopped",
            Self::Stop(role) => return write!(f, "{role:?} stopped"),
            Self::Cut => "connection cut",
            Self::Swallow => "packets lost",
            Self::InterruptSender => "sender Ctrl-C",
            Self::InterruptReceiver => "receiver Ctrl-C",
        };
        f.write_str(text)
    }
}

/// What the copies must be afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// It runs where it ran before.
    Here,
    /// It runs on the destination only.
    There,
    /// It runs on the destination, and a stopped copy is left here: in doubt.
    ThereAndStoppedHere,
    /// A stopped copy is left here: in doubt, or outlived there.
    StoppedHere,
    /// `There`, or `StoppedHere` where CRIU takes it for an error that it was stopped while it waited.
    ThereOrStoppedHere,
}

impl Expected {
    pub(super) fn is_met_by(self, found: Option<Self>) -> bool {
        match self {
            Self::ThereOrStoppedHere => {
                matches!(found, Some(Self::There | Self::StoppedHere))
            }
            expected => found == Some(expected),
        }
    }
}

/// The written rule: what a fault leads to. `None` where there is nothing to do it to.
pub(super) fn answer(mode: Mode, moment: Moment, fault: Fault) -> Option<Expected> {
    let is_held_there = matches!(moment, Moment::Destination(_));
    let is_committed = matches!(moment, Moment::Destination("pre-resume") | Moment::Filling);
    if let Fault::Kill(role) | Fault::Stop(role) = fault {
        let is_there = match role {
            Role::SourceCriu => moment != Moment::Rounds && (!is_committed || mode.is_lazy()),
            Role::DestinationCriu => is_held_there,
            Role::PageServer => moment == Moment::Pages,
            Role::LazyPages => mode.is_lazy() && (is_held_there || is_committed),
            Role::Guard => mode.is_lazy() && is_committed,
        };
        if !is_there {
            return None;
        }
    }
    Some(match (is_committed, fault) {
        (_, Fault::Stop(Role::LazyPages)) if moment != Moment::Destination("pre-restore") => {
            Expected::ThereOrStoppedHere
        }
        // What has no peer that would miss it goes on when it may.
        (_, Fault::Stop(_) | Fault::Kill(Role::Guard)) => Expected::There,
        (false, _) => Expected::Here,
        // Too late to call anything off.
        (true, Fault::InterruptSender | Fault::InterruptReceiver) => Expected::There,
        // It lets go of the tree as it dies, and the tree runs until it is ended.
        (true, Fault::Kill(Role::DestinationCriu)) => Expected::StoppedHere,
        // Memory that was to follow cannot any more: the tree is ended there.
        (true, _) if mode.is_lazy() => Expected::StoppedHere,
        (true, Fault::StopSender) => Expected::There,
        (true, _) => Expected::ThereAndStoppedHere,
    })
}
