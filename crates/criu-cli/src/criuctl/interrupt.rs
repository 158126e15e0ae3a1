//! Ctrl-C while CRIU works: the operation is called off at the next point where CRIU asks, so that CRIU
//! itself puts everything back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use criu::{Event, HookResult, Hooks};
use criu_migrate::Watch;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::report::Problem;
use super::script::Scripts;

/// Whether the user asked to stop.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupt(Arc<AtomicBool>);

/// The error a hook gives once the user asked to stop.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; CRIU was asked to put everything back")]
pub(super) struct CalledOff;

impl Interrupt {
    /// From now on the signals that ask to stop only set a mark.
    pub(super) fn watch() -> Result<Self, Problem> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.0))
                .map_err(Problem::io("watch for signals"))?;
        }
        Ok(interrupt)
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Calls a migration, or a question to another host, off when the user asks to stop.
pub(super) fn stop_on_signals(watch: &Watch) -> Result<signal_hook::iterator::Handle, Problem> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(Problem::io("watch for signals"))?;
    let handle = signals.handle();
    let watch = watch.clone();
    std::thread::spawn(move || {
        for _ in signals.forever() {
            watch.cancel();
        }
    });
    Ok(handle)
}

/// The hooks of a request from the command line: action scripts, and the user's wish to stop.
#[derive(Debug)]
pub(super) struct CommandHooks {
    pub(super) interrupt: Interrupt,
    pub(super) scripts: Scripts,
}

impl Hooks for CommandHooks {
    fn on(&mut self, event: Event<'_>) -> HookResult {
        // Refusing what comes after the point of no return would change nothing.
        let can_be_called_off = matches!(
            event,
            Event::PreDump
                | Event::NetworkLock
                | Event::PostDump
                | Event::PreRestore
                | Event::SetupNamespaces { .. }
                | Event::PostSetupNamespaces
                | Event::PostRestore { .. }
        );
        if can_be_called_off && self.interrupt.is_set() {
            return Err(Box::new(CalledOff));
        }
        self.scripts.run(&event)
    }
}
