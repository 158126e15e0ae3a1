//! What a dump or a restore took.

use std::io::Read;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::message::{DumpStatsEntry, RestoreStatsEntry, StatsEntry};
use crate::reader::ImageReader;

/// Statistics of a dump or pre-dump, from `stats-dump`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DumpStats {
    /// Time until all tasks stood still.
    pub freezing: Duration,
    /// Time for which the tasks stood still.
    pub frozen: Duration,
    /// Time to take the memory, within `frozen`.
    pub memory_dump: Duration,
    /// Time to write the memory.
    pub memory_write: Duration,
    /// Time to find the paths of watched inodes.
    pub irmap_resolve: Option<Duration>,
    /// Pages of tasks that were looked at.
    pub pages_scanned: u64,
    /// Pages of tasks that the parent checkpoint has.
    pub pages_skipped_parent: u64,
    /// Pages of tasks that were written.
    pub pages_written: u64,
    /// Pages of tasks left for later.
    pub pages_lazy: u64,
    /// Pipes that pages were passed through.
    pub page_pipes: Option<u64>,
    /// Buffers of those pipes.
    pub page_pipe_buffers: Option<u64>,
    /// Pages of shared memory that were looked at.
    pub shared_pages_scanned: Option<u64>,
    /// Pages of shared memory that the parent checkpoint has.
    pub shared_pages_skipped_parent: Option<u64>,
    /// Pages of shared memory that were written.
    pub shared_pages_written: Option<u64>,
}

/// Statistics of a restore, from `stats-restore`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreStats {
    /// Pages compared with those of a parent process.
    pub pages_compared: u64,
    /// Pages left shared with a parent process.
    pub pages_skipped_cow: u64,
    /// Pages written into tasks.
    pub pages_restored: Option<u64>,
    /// Time to create the tasks.
    pub forking: Duration,
    /// Time of the whole restore.
    pub restore: Duration,
}

impl DumpStats {
    /// The file's name in the work directory.
    pub const FILE_NAME: &'static str = "stats-dump";

    /// Reads the statistics.
    ///
    /// # Errors
    ///
    /// Fails when the image is damaged or holds no statistics of a dump.
    pub fn read<R: Read>(mut image: ImageReader<R>) -> Result<Self> {
        let entry = image.only_entry::<StatsEntry>()?.into_value();
        entry
            .dump
            .map(|dump| (*dump).into())
            .ok_or_else(|| not_of("dump"))
    }

    /// Returns what a run added to `before`.
    ///
    /// Where one CRIU worker makes several pre-dumps and a dump, it counts on from one to the next,
    /// and its file holds the sum of all so far (seen with 4.2.1 and 4.3).
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let time = |now: Duration, before: Duration| now.saturating_sub(before);
        let count = |now: u64, before: u64| now.saturating_sub(before);
        let optional = |now: Option<u64>, before: Option<u64>| {
            now.map(|now| now.saturating_sub(before.unwrap_or(0)))
        };
        Self {
            freezing: time(self.freezing, before.freezing),
            frozen: time(self.frozen, before.frozen),
            memory_dump: time(self.memory_dump, before.memory_dump),
            memory_write: time(self.memory_write, before.memory_write),
            irmap_resolve: self
                .irmap_resolve
                .map(|now| time(now, before.irmap_resolve.unwrap_or_default())),
            pages_scanned: count(self.pages_scanned, before.pages_scanned),
            pages_skipped_parent: count(self.pages_skipped_parent, before.pages_skipped_parent),
            pages_written: count(self.pages_written, before.pages_written),
            pages_lazy: count(self.pages_lazy, before.pages_lazy),
            page_pipes: optional(self.page_pipes, before.page_pipes),
            page_pipe_buffers: optional(self.page_pipe_buffers, before.page_pipe_buffers),
            shared_pages_scanned: optional(self.shared_pages_scanned, before.shared_pages_scanned),
            shared_pages_skipped_parent: optional(
                self.shared_pages_skipped_parent,
                before.shared_pages_skipped_parent,
            ),
            shared_pages_written: optional(self.shared_pages_written, before.shared_pages_written),
        }
    }
}

impl RestoreStats {
    /// The file's name in the work directory.
    pub const FILE_NAME: &'static str = "stats-restore";

    /// Reads the statistics.
    ///
    /// # Errors
    ///
    /// Fails when the image is damaged or holds no statistics of a restore.
    pub fn read<R: Read>(mut image: ImageReader<R>) -> Result<Self> {
        let entry = image.only_entry::<StatsEntry>()?.into_value();
        entry
            .restore
            .map(|restore| (*restore).into())
            .ok_or_else(|| not_of("restore"))
    }
}

impl From<DumpStatsEntry> for DumpStats {
    fn from(entry: DumpStatsEntry) -> Self {
        Self {
            freezing: microseconds(entry.freezing_time),
            frozen: microseconds(entry.frozen_time),
            memory_dump: microseconds(entry.memdump_time),
            memory_write: microseconds(entry.memwrite_time),
            irmap_resolve: entry.irmap_resolve.map(microseconds),
            pages_scanned: entry.pages_scanned,
            pages_skipped_parent: entry.pages_skipped_parent,
            pages_written: entry.pages_written,
            pages_lazy: entry.pages_lazy,
            page_pipes: entry.page_pipes,
            page_pipe_buffers: entry.page_pipe_bufs,
            shared_pages_scanned: entry.shpages_scanned,
            shared_pages_skipped_parent: entry.shpages_skipped_parent,
            shared_pages_written: entry.shpages_written,
        }
    }
}

impl From<RestoreStatsEntry> for RestoreStats {
    fn from(entry: RestoreStatsEntry) -> Self {
        Self {
            pages_compared: entry.pages_compared,
            pages_skipped_cow: entry.pages_skipped_cow,
            pages_restored: entry.pages_restored,
            forking: microseconds(entry.forking_time),
            restore: microseconds(entry.restore_time),
        }
    }
}

/// CRIU counts time in microseconds.
fn microseconds(count: u32) -> Duration {
    Duration::from_micros(count.into())
}

fn not_of(operation: &str) -> Error {
    ErrorKind::Inconsistent {
        detail: format!("the statistics are not those of a {operation}"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &[u8] = b"\x40\x59\x10\x55\x06\x33\x09\x57\x13\0\0\0\
        \x0a\x11\x08\x01\x10\x02\x18\x03\x20\x84\x07\x28\x05\x30\x06\x38\x07\x48\0";

    #[test]
    fn times_are_microseconds() {
        let stats = DumpStats::read(ImageReader::new(DUMP).expect("an image")).expect("reads");
        assert_eq!(stats.frozen, Duration::from_micros(2));
        assert_eq!(stats.memory_write, Duration::from_micros(900));
        assert_eq!((stats.pages_scanned, stats.pages_written), (5, 7));
    }

    #[test]
    fn what_a_run_added_is_the_difference() {
        let mut sum = DumpStats::read(ImageReader::new(DUMP).expect("an image")).expect("reads");
        let before = sum.clone();
        sum.frozen += Duration::from_micros(40);
        sum.pages_written += 9;
        let last = sum.since(&before);
        assert_eq!(last.frozen, Duration::from_micros(40));
        assert_eq!((last.pages_scanned, last.pages_written), (0, 9));
    }

    #[test]
    fn statistics_of_the_other_operation_are_refused() {
        let error = RestoreStats::read(ImageReader::new(DUMP).expect("an image"));
        assert!(matches!(
            error.expect_err("of a dump").reason(),
            ErrorKind::Inconsistent { .. }
        ));
    }
}
