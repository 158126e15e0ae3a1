//! Timers.

use std::time::Duration;

use criu_image::ImageKind;
use criu_image::message::{FdTypes, ItimerEntry, PosixTimerEntry};
use serde::{Serialize, Serializer};

use super::signal::signal_name;
use super::{Explorer, Partial};

/// The timers of a task.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct TaskTimers {
    /// The task.
    pub pid: u32,
    /// Its timers: interval timers that run, POSIX timers, timer files.
    pub timers: Vec<Timer>,
}

/// A timer.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Timer {
    /// `real`, `virtual` and `profiling` for those of `setitimer`, else `posix` or `timerfd`.
    pub kind: &'static str,
    /// Id of a POSIX timer, descriptor of a timer file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// The clock that it goes by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<String>,
    /// Time until it expires; 0 if it does not run.
    #[serde(rename = "value_s", serialize_with = "seconds")]
    pub value: Duration,
    /// Time between expirations; 0 if it expires once.
    #[serde(rename = "interval_s", serialize_with = "seconds")]
    pub interval: Duration,
    /// The signal that it sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Expirations that nobody has seen yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrun: Option<u64>,
}

impl Explorer {
    /// Timers of each task that was not dead.
    pub fn timers(&mut self) -> Partial<Vec<TaskTimers>> {
        let mut tasks = Vec::new();
        for pid in self.living() {
            let timers = self.core(pid).and_then(|core| core.tc);
            let timers = timers.and_then(|task| task.timers);
            let (interval, posix) = match timers {
                Some(timers) => (vec![timers.real, timers.virt, timers.prof], timers.posix),
                None => (
                    self.entries(ImageKind::Itimers, pid.into()),
                    self.entries(ImageKind::PosixTimers, pid.into()),
                ),
            };
            let mut timers: Vec<Timer> = INTERVAL_TIMERS
                .iter()
                .zip(&interval)
                .filter_map(|(&(kind, signal), entry)| interval_timer(kind, signal, entry))
                .collect();
            timers.extend(posix.iter().map(posix_timer));
            for fd in self.fdinfo(pid) {
                if fd.r#type != FdTypes::Timerfd {
                    continue;
                }
                let file = self.file_table().find(fd.r#type, fd.id);
                let Some(timer) = file.and_then(|file| file.tfd) else {
                    continue;
                };
                timers.push(Timer {
                    kind: "timerfd",
                    id: Some(fd.fd),
                    clock: Some(clock_name(timer.clockid)),
                    value: nanoseconds(timer.vsec, timer.vnsec),
                    interval: nanoseconds(timer.isec, timer.insec),
                    signal: None,
                    overrun: Some(timer.ticks),
                });
            }
            if !timers.is_empty() {
                tasks.push(TaskTimers { pid, timers });
            }
        }
        self.answer(tasks)
    }
}

/// An interval timer, unless it does not run.
fn interval_timer(kind: &'static str, signal: u32, entry: &ItimerEntry) -> Option<Timer> {
    let value = nanoseconds(entry.vsec, entry.vusec.saturating_mul(1000));
    (!value.is_zero()).then(|| Timer {
        kind,
        id: None,
        clock: None,
        value,
        interval: nanoseconds(entry.isec, entry.iusec.saturating_mul(1000)),
        signal: Some(signal_name(signal)),
        overrun: None,
    })
}

fn posix_timer(entry: &PosixTimerEntry) -> Timer {
    let silent = entry.it_sigev_notify & 3 == SIGEV_NONE;
    Timer {
        kind: "posix",
        id: Some(entry.it_id),
        clock: Some(clock_name(entry.clock_id)),
        value: nanoseconds(entry.vsec, entry.vnsec),
        interval: nanoseconds(entry.isec, entry.insec),
        signal: (!silent).then(|| signal_name(entry.si_signo)),
        overrun: Some(entry.overrun.into()),
    }
}

/// A time; too large ones are cut.
fn nanoseconds(seconds: u64, nanoseconds: u64) -> Duration {
    Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanoseconds))
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

/// Clocks, from the kernel's `linux/time.h`.
fn clock_name(number: u32) -> String {
    let names = [
        "CLOCK_REALTIME",
        "CLOCK_MONOTONIC",
        "CLOCK_PROCESS_CPUTIME_ID",
        "CLOCK_THREAD_CPUTIME_ID",
        "CLOCK_MONOTONIC_RAW",
        "CLOCK_REALTIME_COARSE",
        "CLOCK_MONOTONIC_COARSE",
        "CLOCK_BOOTTIME",
        "CLOCK_REALTIME_ALARM",
        "CLOCK_BOOTTIME_ALARM",
        "CLOCK_SGI_CYCLE",
        "CLOCK_TAI",
    ];
    match names.get(number as usize) {
        Some(name) => (*name).to_owned(),
        None => number.to_string(),
    }
}

/// The timers of `setitimer` in the order of the images, and the signals that they send.
const INTERVAL_TIMERS: [(&str, u32); 3] = [("real", 14), ("virtual", 26), ("profiling", 27)];

/// A timer that tells nobody, from the kernel's `siginfo.h`.
const SIGEV_NONE: u32 = 1;
