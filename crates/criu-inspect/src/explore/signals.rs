//! Signals: blocked, pending, handled.

use criu_image::message::{SaEntry, SiginfoEntry, SignalQueueEntry};
use criu_image::{ByteOrder, ImageKind};
use serde::Serialize;

use super::signal::{signal_name, signal_names};
use super::{Explorer, Partial};

/// How a task and its threads stand to signals.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct TaskSignals {
    /// The task.
    pub pid: u32,
    /// Signals pending for the task as a whole, in their order.
    pub pending: Vec<PendingSignal>,
    /// Signals that are ignored.
    pub ignored: Vec<String>,
    /// Signals that have a handler.
    pub handled: Vec<SignalHandler>,
    /// The threads, the leader included.
    pub threads: Vec<ThreadSignals>,
}

/// How a thread stands to signals.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct ThreadSignals {
    /// Thread id.
    pub tid: u32,
    /// Signals that are blocked.
    pub blocked: Vec<String>,
    /// Signals pending for this thread, in their order.
    pub pending: Vec<PendingSignal>,
    /// Signal that it gets when its parent dies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent_death_signal: Option<String>,
}

/// A signal on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PendingSignal {
    /// Name of the signal.
    pub signal: String,
    /// Where it comes from: the kernel's `SI_*` or other code.
    pub code: i32,
    /// Process that sent it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<u32>,
}

/// What is done about a signal.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct SignalHandler {
    /// Name of the signal.
    pub signal: String,
    /// Address of the handler.
    pub handler: String,
    /// `SA_*` flags, by name.
    pub flags: Vec<String>,
    /// Signals blocked meanwhile.
    pub blocked: Vec<String>,
}

impl Explorer {
    /// Signals of each task that was not dead.
    pub fn signals(&mut self) -> Partial<Vec<TaskSignals>> {
        let order = self.byte_order();
        let tree = self.task_list();
        let mut tasks = Vec::new();
        for pid in self.living() {
            let core = self.core(pid).unwrap_or_default();
            let task = core.tc.as_deref();
            let mut signals = TaskSignals {
                pid,
                ..TaskSignals::default()
            };
            signals.pending = match task.and_then(|task| task.signals_s.as_deref()) {
                Some(queue) => pending(queue, order),
                None => self.legacy_pending(ImageKind::Psignal, pid, order),
            };
            let mut actions = task.map(|task| task.sigactions.clone()).unwrap_or_default();
            if actions.is_empty() {
                actions = self.entries(ImageKind::Sigact, pid.into());
            }
            signals.take_actions(&actions);
            let tids = tree.find(pid).map(|task| task.threads.clone());
            for tid in tids.filter(|tids| !tids.is_empty()).unwrap_or(vec![pid]) {
                let of_task = task.filter(|_| tid == pid).map(|task| task.blk_sigset);
                let core = if tid == pid {
                    core.clone()
                } else {
                    self.core(tid).unwrap_or_default()
                };
                let thread = core.thread_core.as_deref();
                let blocked = thread.and_then(|thread| thread.blk_sigset).or(of_task);
                let queue = thread.and_then(|thread| thread.signals_p.as_deref());
                let death = thread.and_then(|thread| thread.pdeath_sig);
                signals.threads.push(ThreadSignals {
                    tid,
                    blocked: signal_names(blocked.unwrap_or(0)),
                    pending: match queue {
                        Some(queue) => pending(queue, order),
                        None => self.legacy_pending(ImageKind::Signal, tid, order),
                    },
                    parent_death_signal: death.filter(|&signal| signal != 0).map(signal_name),
                });
            }
            tasks.push(signals);
        }
        self.answer(tasks)
    }

    fn legacy_pending(&mut self, kind: ImageKind, id: u32, order: ByteOrder) -> Vec<PendingSignal> {
        let signals = self.entries::<SiginfoEntry>(kind, id.into());
        let queue = SignalQueueEntry {
            signals,
            ..SignalQueueEntry::default()
        };
        pending(&queue, order)
    }
}

impl TaskSignals {
    /// Takes actions by ascending signal, without those for the two signals that nobody handles.
    fn take_actions(&mut self, actions: &[SaEntry]) {
        let numbers = (1..=64).filter(|&number| number != SIGKILL && number != SIGSTOP);
        for (number, action) in numbers.zip(actions) {
            match action.sigaction {
                SIG_DFL => {}
                SIG_IGN => self.ignored.push(signal_name(number)),
                address => self.handled.push(SignalHandler {
                    signal: signal_name(number),
                    handler: format!("{address:#x}"),
                    flags: flag_names(action.flags),
                    blocked: signal_names(action.mask),
                }),
            }
        }
    }
}

fn pending(queue: &SignalQueueEntry, order: ByteOrder) -> Vec<PendingSignal> {
    queue
        .signals
        .iter()
        .map(|signal| PendingSignal::new(&signal.siginfo, order))
        .collect()
}

impl PendingSignal {
    /// Takes a `siginfo_t` as the kernel lays it out on 64-bit machines.
    fn new(info: &[u8], order: ByteOrder) -> Self {
        let word = |at: usize| {
            let bytes = info.get(at..at + 4)?.try_into().ok()?;
            Some(order.u32(bytes))
        };
        let code = word(8).unwrap_or_default().cast_signed();
        let sent = matches!(code, SI_USER | SI_TKILL | SI_QUEUE);
        Self {
            signal: signal_name(word(0).unwrap_or_default()),
            code,
            sender: if sent { word(16) } else { None },
        }
    }
}

fn flag_names(bits: u64) -> Vec<String> {
    let mut rest = bits;
    let mut names = Vec::new();
    for (bit, name) in SA_FLAGS {
        if bits & bit != 0 {
            names.push(format!("SA_{name}"));
            rest &= !bit;
        }
    }
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names
}

// Numbers that are alike on all architectures of CRIU's but MIPS, from the kernel's headers.

const SIGKILL: u32 = 9;
const SIGSTOP: u32 = 19;

/// What the kernel does of itself.
const SIG_DFL: u64 = 0;
/// Nothing.
const SIG_IGN: u64 = 1;

/// Sent by `kill`.
const SI_USER: i32 = 0;
/// Sent by `sigqueue`.
const SI_QUEUE: i32 = -1;
/// Sent to a thread.
const SI_TKILL: i32 = -6;

const SA_FLAGS: [(u64, &str); 8] = [
    (0x1, "NOCLDSTOP"),
    (0x2, "NOCLDWAIT"),
    (0x4, "SIGINFO"),
    (0x0400_0000, "RESTORER"),
    (0x0800_0000, "ONSTACK"),
    (0x1000_0000, "RESTART"),
    (0x4000_0000, "NODEFER"),
    (0x8000_0000, "RESETHAND"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_named_where_there_is_one() {
        let mut info = [0; 128];
        info[0] = 10;
        info[16..20].copy_from_slice(&77u32.to_le_bytes());
        let signal = PendingSignal::new(&info, ByteOrder::Little);
        assert_eq!(
            (signal.signal.as_str(), signal.sender),
            ("SIGUSR1", Some(77))
        );
        info[8..12].copy_from_slice(&1i32.to_le_bytes());
        assert_eq!(PendingSignal::new(&info, ByteOrder::Little).sender, None);
        assert_eq!(
            PendingSignal::new(&info[..3], ByteOrder::Little).signal,
            "0"
        );
    }

    #[test]
    fn actions_pass_over_the_signals_without() {
        let mut actions = vec![SaEntry::default(); 62];
        actions[8].sigaction = 0x1234;
        actions[61].sigaction = SIG_IGN;
        let mut signals = TaskSignals::default();
        signals.take_actions(&actions);
        assert_eq!(signals.handled[0].signal, "SIGUSR1");
        assert_eq!(signals.ignored, ["SIGRTMIN+30"]);
    }
}
