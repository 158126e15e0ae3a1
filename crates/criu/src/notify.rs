//! Notifications: what CRIU tells its client while it works, and the client's say in it.
//!
//! CRIU stops at each of these points and waits for the answer. Implement [`Hooks`], or pass a
//! closure over [`Event`]s:
//!
//! ```no_run
//! use criu::{Criu, Dump, Event};
//!
//! let dump = Dump::new(1234, "/tmp/images");
//! let outcome = Criu::find()?.dump_with(&dump, &mut |event: Event<'_>| {
//!     if let Event::PostDump = event {
//!         // The images are complete and the tasks still frozen: copy their files now.
//!     }
//!     Ok(())
//! })?;
//! # Ok::<(), criu::Error>(())
//! ```

use std::fmt;
use std::os::fd::OwnedFd;

use crate::request::External;

/// The error of a hook: any error of the caller's.
pub type HookError = Box<dyn std::error::Error + Send + Sync>;

/// What a hook answers: an error refuses, and CRIU gives up the operation and cleans up.
///
/// CRIU only logs a refusal of [`Event::PreResume`] and [`Event::PostResume`], and of
/// [`Event::NetworkUnlock`]: the operation succeeds all the same. Our client still reports it.
pub type HookResult = Result<(), HookError>;

/// A point of the operation that CRIU has reached.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// CRIU is about to connect to an image streamer.
    PreStream,
    /// A dump begins; no task was touched yet.
    PreDump,
    /// The images are complete; the tasks are still frozen.
    PostDump,
    /// A restore begins.
    PreRestore,
    /// Everything is restored; the tasks do not run yet. Refusing kills them.
    PostRestore {
        /// The root task, as seen by CRIU.
        pid: i32,
    },
    /// The network of the tree (in its own network namespace) is to be locked.
    NetworkLock,
    /// The network of the tree is to be unlocked.
    NetworkUnlock,
    /// The root task exists in its new namespaces, which are still empty.
    SetupNamespaces {
        /// The root task, as seen by CRIU.
        pid: i32,
    },
    /// The namespaces of the tree are set up.
    PostSetupNamespaces,
    /// The tasks are about to run.
    PreResume,
    /// The tasks run.
    PostResume,
    /// A terminal whose master was not dumped was restored; here is its new master.
    #[doc(alias = "orphan-pts-master")]
    OrphanPtsMaster(OwnedFd),
    /// A page server, lazy-pages server or service is listening.
    StatusReady,
    /// CRIU asks for files to treat as external beside those of the request: push them here.
    QueryExtFiles(&'a mut Vec<External>),
    /// A notification newer than this crate.
    Unknown {
        /// The name CRIU gives it.
        name: String,
    },
}

/// The name of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Hook {
    /// `pre-stream`
    PreStream,
    /// `pre-dump`
    PreDump,
    /// `post-dump`
    PostDump,
    /// `pre-restore`
    PreRestore,
    /// `post-restore`
    PostRestore,
    /// `network-lock`
    NetworkLock,
    /// `network-unlock`
    NetworkUnlock,
    /// `setup-namespaces`
    SetupNamespaces,
    /// `post-setup-namespaces`
    PostSetupNamespaces,
    /// `pre-resume`
    PreResume,
    /// `post-resume`
    PostResume,
    /// `orphan-pts-master`
    OrphanPtsMaster,
    /// `status-ready`
    StatusReady,
    /// `query-ext-files`
    QueryExtFiles,
}

impl Hook {
    /// Every notification CRIU 4.3 knows.
    pub const ALL: [Self; 14] = [
        Self::PreStream,
        Self::PreDump,
        Self::PostDump,
        Self::PreRestore,
        Self::PostRestore,
        Self::NetworkLock,
        Self::NetworkUnlock,
        Self::SetupNamespaces,
        Self::PostSetupNamespaces,
        Self::PreResume,
        Self::PostResume,
        Self::OrphanPtsMaster,
        Self::StatusReady,
        Self::QueryExtFiles,
    ];

    /// Returns CRIU's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreStream => "pre-stream",
            Self::PreDump => "pre-dump",
            Self::PostDump => "post-dump",
            Self::PreRestore => "pre-restore",
            Self::PostRestore => "post-restore",
            Self::NetworkLock => "network-lock",
            Self::NetworkUnlock => "network-unlock",
            Self::SetupNamespaces => "setup-namespaces",
            Self::PostSetupNamespaces => "post-setup-namespaces",
            Self::PreResume => "pre-resume",
            Self::PostResume => "post-resume",
            Self::OrphanPtsMaster => "orphan-pts-master",
            Self::StatusReady => "status-ready",
            Self::QueryExtFiles => "query-ext-files",
        }
    }

    /// Finds the notification of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A client's reactions to notifications. Each does nothing unless overridden.
///
/// See [`Event`] for what each point means, and [`HookResult`] for what refusing does.
pub trait Hooks {
    /// Reacts to [`Event::PreStream`].
    fn pre_stream(&mut self) -> HookResult {
        Ok(())
    }
    /// Reacts to [`Event::PreDump`].
    fn pre_dump(&mut self) -> HookResult {
        Ok(())
    }
    /// Reacts to [`Event::PostDump`].
    fn post_dump(&mut self) -> HookResult {
        Ok(())
    }
    /// Reacts to [`Event::PreRestore`].
    fn pre_restore(&mut self) -> HookResult {
        Ok(())
    }
    /// Reacts to [`Event::PostRestore`].
    fn post_restore(&mut self, _pid: i32) -> HookResult {
        Ok(())
    }
    /// Reacts to [`Event::NetworkLock`].
    fn network_lock(&mut self) -> HookResult {
        Ok(())
    }
    /// Reacts to [`Event::NetworkUnlock`].
    fn network_unlock(&mut self) -> HookResult {
        Ok(())
    }
    /// Reacts to [`Event::SetupNamespaces`].
    fn setup_namespaces(&mut self, _pid: i32) -> HookResult {
        Ok(())
    }
    /// Reacts to [`Event::PostSetupNamespaces`].
    fn post_setup_namespaces(&mut self) -> HookResult {
        Ok(())
    }
    /// Reacts to [`Event::PreResume`].
    fn pre_resume(&mut self) -> HookResult {
        Ok(())
    }
    /// Reacts to [`Event::PostResume`].
    fn post_resume(&mut self) -> HookResult {
        Ok(())
    }
    /// Takes the master of a restored terminal; see [`Event::OrphanPtsMaster`].
    ///
    /// The default closes it; the terminal is then gone and the restore fails. CRIU asks only where
    /// [`crate::Restore::orphan_pts_master`] is set.
    fn orphan_pts_master(&mut self, _master: OwnedFd) -> HookResult {
        Ok(())
    }
    /// Reacts to [`Event::StatusReady`].
    fn status_ready(&mut self) -> HookResult {
        Ok(())
    }
    /// Names further external files; see [`Event::QueryExtFiles`].
    fn query_ext_files(&mut self, _external: &mut Vec<External>) -> HookResult {
        Ok(())
    }
    /// Reacts to a notification newer than this crate.
    fn unknown(&mut self, _name: &str) -> HookResult {
        Ok(())
    }

    /// Receives every notification and calls the method for it.
    ///
    /// # Errors
    ///
    /// Those of the method called.
    fn on(&mut self, event: Event<'_>) -> HookResult {
        match event {
            Event::PreStream => self.pre_stream(),
            Event::PreDump => self.pre_dump(),
            Event::PostDump => self.post_dump(),
            Event::PreRestore => self.pre_restore(),
            Event::PostRestore { pid } => self.post_restore(pid),
            Event::NetworkLock => self.network_lock(),
            Event::NetworkUnlock => self.network_unlock(),
            Event::SetupNamespaces { pid } => self.setup_namespaces(pid),
            Event::PostSetupNamespaces => self.post_setup_namespaces(),
            Event::PreResume => self.pre_resume(),
            Event::PostResume => self.post_resume(),
            Event::OrphanPtsMaster(master) => self.orphan_pts_master(master),
            Event::StatusReady => self.status_ready(),
            Event::QueryExtFiles(external) => self.query_ext_files(external),
            Event::Unknown { name } => self.unknown(&name),
        }
    }
}

impl<F: FnMut(Event<'_>) -> HookResult> Hooks for F {
    fn on(&mut self, event: Event<'_>) -> HookResult {
        self(event)
    }
}

/// Hooks that do nothing, for [`Hooks`] values that are optional.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHooks;

impl Hooks for NoHooks {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_hooks() {
        for hook in Hook::ALL {
            assert_eq!(Hook::from_name(hook.name()), Some(hook));
        }
        assert_eq!(Hook::from_name("no-such-hook"), None);
    }
}
