//! The caller's eye on a migration, and its hand on the brake.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::conversation::Stage;
use crate::message::Host;
use crate::mode::Mode;
use crate::policy::Verdict;
use crate::preflight::Report;
use crate::report::RoundReport;
use crate::sync::Pass;
use crate::units::microseconds;

/// Something that happened in a migration.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// When, since the migration began.
    #[serde(rename = "at_us", serialize_with = "microseconds")]
    pub at: Duration,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened. Serializes as an object with its name under `event`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Happening {
    /// Both sides speak the protocol.
    Connected {
        /// The other end of the connection.
        peer: String,
    },
    /// The other side said who it is; the migration may go on.
    Agreed {
        /// The other side.
        host: Host,
    },
    /// How memory will move.
    ModeChosen {
        /// The mode.
        mode: Mode,
        /// Why it is this one.
        reason: String,
    },
    /// A round of pre-copy begins.
    RoundBegun {
        /// Its number, from 1.
        round: u32,
    },
    /// Memory is moving: so many bytes of the page stream so far, in this round or while the tree is frozen.
    PagesMoving {
        /// Bytes of the page stream, zero pages included.
        stream_bytes: u64,
        /// Bytes of them that went over the connection.
        sent_bytes: u64,
    },
    /// A round of pre-copy is over.
    RoundDone(RoundReport),
    /// The destination has stored a round.
    RoundStored {
        /// Its number, from 1.
        round: u32,
        /// Bytes of all rounds so far.
        bytes: u64,
    },
    /// What the policy made of the rounds so far.
    Decided(Verdict),
    /// The destination compared what the tree needs with what it has, and found something to say.
    Findings {
        /// What.
        #[serde(flatten)]
        report: Report,
    },
    /// Files are on the destination as they are on the source now.
    Synced {
        /// Which.
        path: String,
        /// Whether the tree still ran.
        pass: Pass,
        /// Bytes of rsync's conversation that this side sent, runs of zeros not counted.
        sent_bytes: u64,
    },
    /// Files brought along were removed again, since the tree did not come.
    SyncRemoved {
        /// Which.
        path: String,
    },
    /// Files brought along remain although the tree did not come: there were files in that place before,
    /// which are as on the source now.
    SyncRemains {
        /// Which.
        path: String,
    },
    /// The container is checkpointed: it is restored here if anything fails, but by nobody if this process
    /// dies.
    Checkpointed {
        /// What restores it then.
        restore_command: String,
    },
    /// CRIU begins to freeze the tree.
    Freezing,
    /// All memory is on the destination; so many bytes of it.
    PagesCopied {
        /// Bytes of the page stream, zero pages included.
        stream_bytes: u64,
        /// Bytes of them that went over the connection.
        sent_bytes: u64,
    },
    /// All images are on the destination.
    ImagesCopied {
        /// How many.
        images: u64,
        /// Their bytes.
        stream_bytes: u64,
        /// Bytes of them that went over the connection.
        sent_bytes: u64,
    },
    /// The destination restores the tree.
    Restoring,
    /// The tree is restored and held on the destination.
    Restored {
        /// Its root task, as the destination sees it.
        pid: i32,
    },
    /// The tree is given to the destination.
    Committing,
    /// The tree runs on the destination.
    Running {
        /// Its root task, as the destination sees it.
        pid: i32,
    },
    /// The tree runs on the destination, and this much of its memory has followed so far.
    Filling {
        /// Bytes of the page stream.
        stream_bytes: u64,
    },
    /// All memory is on the destination: nothing depends on the source any more.
    Filled,
    /// The migration failed.
    Failed {
        /// Where it was.
        stage: Stage,
        /// Why.
        reason: String,
    },
}

/// Sees what happens, and can call it off. Clones share both.
#[derive(Clone)]
pub struct Watch {
    began: Instant,
    observer: Arc<dyn Fn(&Event) + Send + Sync>,
    cancelled: Arc<AtomicBool>,
}

impl Watch {
    /// Passes every event to `observer`, from whichever thread it happens on.
    pub fn new(observer: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self {
            began: Instant::now(),
            observer: Arc::new(observer),
            cancelled: Arc::default(),
        }
    }

    /// Calls the migration off: at the next point where everything can still go back to how it was, it
    /// does. Once the tree was committed this changes nothing.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Returns whether the migration was called off.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, what: Happening) {
        (self.observer)(&Event {
            at: self.began.elapsed(),
            what,
        });
    }
}

impl Default for Watch {
    /// Looks away.
    fn default() -> Self {
        Self::new(|_| {})
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn events_are_json_objects_with_a_name_and_a_time() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        let watch = Watch::new(move |event| sink.lock().unwrap().push(event.clone()));
        watch.tell(Happening::Running { pid: 5 });
        let events = seen.lock().unwrap();
        let value = serde_json::to_value(&events[0]).unwrap();
        assert_eq!(
            (&value["event"], &value["pid"]),
            (&"running".into(), &5.into())
        );
        assert!(value["at_us"].is_u64());
    }
}
