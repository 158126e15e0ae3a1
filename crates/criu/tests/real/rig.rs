//! What the scenarios share: a CRIU, a place for images, and a dump followed by a restore.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use criu::{Criu, Dump, DumpOutcome, Restore, RestoreOutcome};
use criu_testkit::{CriuUnderTest, TempDir, TestProcess};

/// Longer than any request of these tests takes, so that a hang is a failure and not a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// One CRIU and an empty images directory.
pub(crate) struct Rig {
    pub(crate) criu: Criu,
    pub(crate) under_test: CriuUnderTest,
    pub(crate) images: TempDir,
}

impl Rig {
    pub(crate) fn new(under_test: CriuUnderTest) -> Self {
        let criu = Criu::with_binary(under_test.path())
            .unwrap()
            .with_timeout(PATIENCE);
        Self {
            criu,
            under_test,
            images: TempDir::new(),
        }
    }

    /// A dump of the process into the images directory.
    pub(crate) fn dump_of(&self, process: &TestProcess) -> Dump {
        Dump::new(pid_of(process), self.images.path())
    }

    /// A restore from the images directory.
    pub(crate) fn restore(&self) -> Restore {
        Restore::new(self.images.path())
    }

    /// Dumps the process and reaps it.
    #[track_caller]
    pub(crate) fn dump(&self, dump: &Dump, process: &mut TestProcess) -> DumpOutcome {
        let outcome = self
            .criu
            .dump(dump)
            .unwrap_or_else(|error| panic!("{error}\n{error:#?}"));
        process.reap();
        outcome
    }

    /// Restores the process from what [`Rig::dump`] left.
    #[track_caller]
    pub(crate) fn bring_back(
        &self,
        process: &mut TestProcess,
        restore: &Restore,
    ) -> RestoreOutcome {
        let outcome = self
            .criu
            .restore(restore)
            .unwrap_or_else(|error| panic!("{error}\n{error:#?}"));
        process.restored_as(u32::try_from(outcome.pid).unwrap());
        outcome
    }

    /// Dumps and restores the process, and sees that it goes on where it stopped with all it holds.
    #[track_caller]
    pub(crate) fn survives(&self, mut process: TestProcess, dump: &Dump, restore: &Restore) {
        process.wait_for_count_above(2);
        self.dump(dump, &mut process);
        let count = process.count();
        self.bring_back(&mut process, restore);
        process.wait_for_count_above(count);
        assert_eq!(
            process.verify(),
            Ok(()),
            "with CRIU {:?}",
            self.under_test.series()
        );
    }
}

/// Runs a scenario with every CRIU there is.
#[track_caller]
pub(crate) fn each(scenario: impl Fn(&Rig)) {
    for under_test in CriuUnderTest::all() {
        scenario(&Rig::new(under_test));
    }
}

/// Keeps other tests from taking the number of a terminal between its dump and its restore.
pub(crate) fn terminals() -> MutexGuard<'static, ()> {
    static TERMINALS: Mutex<()> = Mutex::new(());
    TERMINALS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The id of a process as CRIU takes it.
pub(crate) fn pid_of(process: &TestProcess) -> i32 {
    i32::try_from(process.pid()).unwrap()
}
