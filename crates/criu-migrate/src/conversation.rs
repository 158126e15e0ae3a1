//! The conversation of a migration as a state machine: who may say what when.
//!
//! Both sides run the same machine over all messages, their own and the peer's, so that they agree on
//! where they are. A message out of turn is an [`OutOfTurn`], whoever says it.
//!
//! ```text
//!    ┌─S inspect─▶ Inspected ──D findings──▶ Over
//!    │                           ┌──D round-stored── RoundEnding ◀──S round-done──┐
//!    │                           ▼                                                │
//! Opening ─S offer▶ Offered ─D accept─▶ Accepted ─S open-pages─▶ PageServerAsked    │
//!                    │   │       ▲        │ S image                │ D pages-ready    │
//!         D findings ▼   │       │        └────────────────────▶   ▼                  │
//!                  Compared ─────┘                              Copying ⟲ S image ────┘
//!                        └ D refuse ─▶ Over                        │ S complete
//!                                                                  ▼
//!              Committing ◀─S commit── Held ◀─D restored───── Restoring
//!                  └─D committed─▶ Over, or, when pages follow, Filling ─D filled─▶ Over
//!
//! Accepted ──S open-sync──▶ Syncing ──D synced──▶ Accepted
//! Copying ──S open-sync──▶ SyncingLast ──D synced──▶ Copying
//!
//! of a container: Accepted ──S checkpointed──▶ Copying, Restoring ──D ready──▶ Held
//!
//! abort (S or D) ─▶ Over, from every state but: Opening; and Committing, where only D may say it
//! ```

use std::fmt;

use crate::message::Message;
use crate::sync::Pass;

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Party {
    /// Where the tree runs before.
    Source,
    /// Where it runs afterwards.
    Destination,
}

impl Party {
    /// The other side.
    pub const fn peer(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Destination => "destination",
        })
    }
}

/// Where a migration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Stage {
    /// Connected; nothing was said yet.
    Opening,
    /// The source only asks whether a tree would be taken.
    Inspected,
    /// The source made its offer.
    Offered,
    /// The destination said what it found, and not yet whether it accepts.
    Compared,
    /// The destination accepts; or a round of pre-copy is over.
    Accepted,
    /// The destination accepts, and files are copied while the tree runs.
    Syncing,
    /// The source wants a page server.
    PageServerAsked,
    /// Pages and images are copied: the tree runs until the dump has frozen it.
    Copying,
    /// All pages of a round were sent, and are stored.
    RoundEnding,
    /// Files are copied while the tree is frozen.
    SyncingLast,
    /// Everything is on the destination, which restores; the tree is frozen on the source.
    Restoring,
    /// The tree is frozen on both sides.
    Held,
    /// The source has given the tree away: it never resumes it by itself from here.
    Committing,
    /// The tree runs on the destination, and its memory follows.
    Filling,
    /// Nothing more is to be said.
    Over,
}

impl Stage {
    /// Every stage, in order.
    pub const ALL: [Self; 15] = [
        Self::Opening,
        Self::Inspected,
        Self::Offered,
        Self::Compared,
        Self::Accepted,
        Self::Syncing,
        Self::PageServerAsked,
        Self::Copying,
        Self::RoundEnding,
        Self::SyncingLast,
        Self::Restoring,
        Self::Held,
        Self::Committing,
        Self::Filling,
        Self::Over,
    ];

    /// Whether the tree is the destination's, or may be.
    pub(crate) const fn is_given_away(self) -> bool {
        matches!(self, Self::Committing | Self::Filling)
    }

    /// Returns the stage after `speaker` says `message`.
    ///
    /// # Errors
    ///
    /// When it is not the speaker's turn to say that.
    pub fn after(self, speaker: Party, message: &Message) -> Result<Self, OutOfTurn> {
        use Party::{Destination, Source};
        Ok(match (self, speaker, message) {
            (Self::Opening, Source, Message::Offer(_)) => Self::Offered,
            (Self::Opening, Source, Message::Inspect(_)) => Self::Inspected,
            (Self::Inspected, Destination, Message::Findings(_)) => Self::Over,
            (Self::Offered, Destination, Message::Findings(_)) => Self::Compared,
            (Self::Offered | Self::Compared, Destination, Message::Accept(_)) => Self::Accepted,
            (Self::Offered | Self::Compared, Destination, Message::Refuse { .. }) => Self::Over,
            (Self::Accepted, Source, Message::OpenSync { pass, .. }) if *pass == Pass::First => {
                Self::Syncing
            }
            (Self::Syncing, Destination, Message::Synced) => Self::Accepted,
            // Without pages before it where those follow later.
            (Self::Accepted | Self::Copying, Source, Message::OpenSync { pass, .. })
                if *pass == Pass::Last =>
            {
                Self::SyncingLast
            }
            (Self::SyncingLast, Destination, Message::Synced) => Self::Copying,
            (Self::Accepted, Source, Message::Checkpointed { .. }) => Self::Copying,
            (Self::Accepted, Source, Message::OpenPages) => Self::PageServerAsked,
            (Self::PageServerAsked, Destination, Message::PagesReady) => Self::Copying,
            (Self::Copying, Source, Message::RoundDone) => Self::RoundEnding,
            (Self::RoundEnding, Destination, Message::RoundStored) => Self::Accepted,
            // Without a page server before it where pages follow later.
            (Self::Accepted | Self::Copying, Source, Message::Image { .. }) => Self::Copying,
            (Self::Copying, Source, Message::Complete { .. }) => Self::Restoring,
            (Self::Restoring, Destination, Message::Restored { .. }) => Self::Held,
            (Self::Restoring, Destination, Message::Ready) => Self::Held,
            (Self::Held, Source, Message::Commit) => Self::Committing,
            (Self::Committing, Destination, Message::Committed { pages_follow, .. }) => {
                if *pages_follow {
                    Self::Filling
                } else {
                    Self::Over
                }
            }
            (Self::Filling, Destination, Message::Filled) => Self::Over,
            // Having said `commit`, the source cannot take it back.
            (Self::Opening | Self::Over, _, Message::Abort { .. })
            | (Self::Committing, Source, Message::Abort { .. }) => {
                return Err(OutOfTurn::new(self, speaker, message));
            }
            (_, _, Message::Abort { .. }) => Self::Over,
            _ => return Err(OutOfTurn::new(self, speaker, message)),
        })
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Opening => "opening the conversation",
            Self::Inspected => "asking what differs",
            Self::Offered | Self::Compared => "offering the tree",
            Self::Accepted => "preparing the copy",
            Self::Syncing => "copying files",
            Self::PageServerAsked => "starting the page server",
            Self::Copying => "copying",
            Self::RoundEnding => "ending a round",
            Self::SyncingLast => "copying the last changes of files",
            Self::Restoring => "restoring",
            Self::Held => "handing over",
            Self::Committing => "committing",
            Self::Filling => "filling the memory of the tree that runs there",
            Self::Over => "ending the conversation",
        })
    }
}

/// A message said when it was not the speaker's to say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {speaker} said `{message}` out of turn, while {stage}")]
#[non_exhaustive]
pub struct OutOfTurn {
    /// Where the migration was.
    pub stage: Stage,
    /// Who said it.
    pub speaker: Party,
    /// The message's name.
    pub message: &'static str,
}

impl OutOfTurn {
    fn new(stage: Stage, speaker: Party, message: &Message) -> Self {
        Self {
            stage,
            speaker,
            message: message.name(),
        }
    }
}

#[cfg(test)]
pub(crate) fn one_of_each() -> Vec<Message> {
    use crate::message::{Host, Needs, Offer};
    let host = Host {
        name: "a".into(),
        architecture: "x86_64".into(),
        kernel: "6.1".into(),
        page_size_bytes: 4096,
        criu: "4.3".into(),
        memory_tracking: false,
        lazy_pages: false,
    };
    let offer = Offer {
        host: host.clone(),
        needs: Needs::default(),
        facts: crate::preflight::Facts::default(),
        ignore: Vec::new(),
        sync: Vec::new(),
        container: None,
    };
    let reason = || "because".to_owned();
    vec![
        Message::Offer(Box::new(offer.clone())),
        Message::Inspect(Box::new(offer)),
        Message::Findings(Box::default()),
        Message::Accept(Box::new(host)),
        Message::Refuse { reason: reason() },
        Message::OpenPages,
        Message::PagesReady,
        Message::RoundDone,
        Message::RoundStored,
        Message::OpenSync {
            path: "/srv".into(),
            pass: Pass::First,
        },
        Message::OpenSync {
            path: "/srv".into(),
            pass: Pass::Last,
        },
        Message::Synced,
        Message::Checkpointed {
            descriptors: Vec::new(),
        },
        Message::Ready,
        Message::Image {
            name: "core-1.img".into(),
            len_bytes: 1,
        },
        Message::Complete {
            images: 1,
            pages_follow: false,
        },
        Message::Restored { pid: 1 },
        Message::Commit,
        Message::Committed {
            pid: 1,
            resumed_after_us: 0,
            pages_follow: false,
        },
        Message::Filled,
        Message::Abort {
            reason: reason(),
            may_have_run: false,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use Party::{Destination as D, Source as S};

    /// All that is legal, written out again; everything else must be refused. (A second `committed`, with pages
    /// that follow, is looked at below.)
    const LEGAL: &[(Stage, Party, &str, Stage)] = &[
        (Stage::Opening, S, "offer", Stage::Offered),
        (Stage::Opening, S, "inspect", Stage::Inspected),
        (Stage::Inspected, D, "findings", Stage::Over),
        (Stage::Inspected, S, "abort", Stage::Over),
        (Stage::Inspected, D, "abort", Stage::Over),
        (Stage::Offered, D, "findings", Stage::Compared),
        (Stage::Compared, D, "accept", Stage::Accepted),
        (Stage::Compared, D, "refuse", Stage::Over),
        (Stage::Compared, S, "abort", Stage::Over),
        (Stage::Compared, D, "abort", Stage::Over),
        (Stage::Offered, D, "accept", Stage::Accepted),
        (Stage::Offered, D, "refuse", Stage::Over),
        (Stage::Offered, S, "abort", Stage::Over),
        (Stage::Offered, D, "abort", Stage::Over),
        (Stage::Accepted, S, "open-pages", Stage::PageServerAsked),
        (Stage::Accepted, S, "image", Stage::Copying),
        (Stage::Accepted, S, "abort", Stage::Over),
        (Stage::Accepted, D, "abort", Stage::Over),
        (Stage::Accepted, S, "open-sync first", Stage::Syncing),
        (Stage::Syncing, D, "synced", Stage::Accepted),
        (Stage::Syncing, S, "abort", Stage::Over),
        (Stage::Syncing, D, "abort", Stage::Over),
        (Stage::Copying, S, "open-sync last", Stage::SyncingLast),
        (Stage::Accepted, S, "open-sync last", Stage::SyncingLast),
        (Stage::SyncingLast, D, "synced", Stage::Copying),
        (Stage::SyncingLast, S, "abort", Stage::Over),
        (Stage::SyncingLast, D, "abort", Stage::Over),
        (Stage::PageServerAsked, D, "pages-ready", Stage::Copying),
        (Stage::PageServerAsked, S, "abort", Stage::Over),
        (Stage::PageServerAsked, D, "abort", Stage::Over),
        (Stage::Copying, S, "image", Stage::Copying),
        (Stage::Copying, S, "complete", Stage::Restoring),
        (Stage::Copying, S, "round-done", Stage::RoundEnding),
        (Stage::RoundEnding, D, "round-stored", Stage::Accepted),
        (Stage::RoundEnding, S, "abort", Stage::Over),
        (Stage::RoundEnding, D, "abort", Stage::Over),
        (Stage::Copying, S, "abort", Stage::Over),
        (Stage::Copying, D, "abort", Stage::Over),
        (Stage::Accepted, S, "checkpointed", Stage::Copying),
        (Stage::Restoring, D, "ready", Stage::Held),
        (Stage::Restoring, D, "restored", Stage::Held),
        (Stage::Restoring, S, "abort", Stage::Over),
        (Stage::Restoring, D, "abort", Stage::Over),
        (Stage::Held, S, "commit", Stage::Committing),
        (Stage::Held, S, "abort", Stage::Over),
        (Stage::Held, D, "abort", Stage::Over),
        (Stage::Committing, D, "committed", Stage::Over),
        (Stage::Committing, D, "abort", Stage::Over),
        (Stage::Filling, D, "filled", Stage::Over),
        (Stage::Filling, S, "abort", Stage::Over),
        (Stage::Filling, D, "abort", Stage::Over),
    ];

    #[test]
    fn a_tree_whose_memory_follows_is_filled() {
        let committed = Message::Committed {
            pid: 1,
            resumed_after_us: 5,
            pages_follow: true,
        };
        assert_eq!(Stage::Committing.after(D, &committed), Ok(Stage::Filling));
        assert!(Stage::Committing.after(S, &committed).is_err());
    }

    #[test]
    fn exactly_the_legal_messages_are_taken_in_every_stage() {
        for stage in Stage::ALL {
            for speaker in [S, D] {
                for message in one_of_each() {
                    let said = match &message {
                        Message::OpenSync { pass, .. } => {
                            format!("open-sync {}", format!("{pass:?}").to_lowercase())
                        }
                        message => message.name().to_owned(),
                    };
                    let legal = LEGAL.iter().find(|(from, who, name, _)| {
                        (*from, *who, *name) == (stage, speaker, said.as_str())
                    });
                    let expected = match legal {
                        Some((.., to)) => Ok(*to),
                        None => Err(OutOfTurn::new(stage, speaker, &message)),
                    };
                    assert_eq!(stage.after(speaker, &message), expected);
                }
            }
        }
    }
}
