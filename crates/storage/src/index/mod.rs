//! Sparse indexes of a segment: where in the file an offset, or a timestamp, is to be looked for.
//!
//! An index is a hint, never the truth: a missing, short or lying one costs a scan, not a record.
//! While a segment is active its entries are kept on the heap (at most `segment.index.bytes`) and
//! written to their file at checkpoints and at the roll; a sealed segment's files are memory-mapped
//! when first used. (A writable mapping of a growing file would raise `SIGBUS` on a full disk.)
//!
//! Layouts, big-endian, as Apache Kafka's:
//! - `.index`, 8 bytes an entry: `u32` offset relative to the base offset (the *last* offset of the
//!   batch), `u32` position of that batch;
//! - `.timeindex`, 12 bytes an entry: `i64` largest timestamp up to here (Unix ms), `u32` relative
//!   offset of the batch that holds it;
//! - `.txnindex`, 34 bytes an entry, one for each aborted transaction: see [`AbortedTransaction`].

mod aborted;
mod table;

pub(crate) use aborted::facts_with;
pub use aborted::{ABORTED_ENTRY_BYTES, AbortedTransaction};
pub(crate) use table::EntryTable;

use std::path::Path;

use crate::disk::Disk;
use crate::error::{IoContext, Result};
use crate::segment::OFFSETS_PER_TIME;

/// Bytes of an offset-index entry.
pub const OFFSET_ENTRY_BYTES: usize = 8;
/// Bytes of a time-index entry.
pub const TIME_ENTRY_BYTES: usize = 12;

/// One entry of the offset index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Last offset of the batch at `position`.
    pub offset: i64,
    /// Byte position of the batch in the segment.
    pub position: u64,
}

/// One entry of the time index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// Largest timestamp of all records up to `offset`, Unix ms.
    pub timestamp_ms: i64,
    /// Last offset of the first batch that holds that timestamp.
    pub offset: i64,
}

/// Both indexes of one segment.
#[derive(Debug)]
pub(crate) struct SegmentIndex {
    base_offset: i64,
    offsets: EntryTable<OFFSET_ENTRY_BYTES>,
    times: EntryTable<TIME_ENTRY_BYTES>,
}

impl SegmentIndex {
    /// An empty index that grows.
    pub(crate) fn empty(base_offset: i64) -> Self {
        Self {
            base_offset,
            offsets: EntryTable::heap(),
            times: EntryTable::heap(),
        }
    }

    /// Loads a sealed segment's index files as mappings, or (`growing`) an active one's to the heap.
    pub(crate) fn load(
        disk: &dyn Disk,
        paths: &IndexPaths,
        base_offset: i64,
        growing: bool,
    ) -> Result<Self> {
        let offsets =
            EntryTable::load(disk, &paths.offsets, growing).context("read", &paths.offsets)?;
        let times = EntryTable::load(disk, &paths.times, growing).context("read", &paths.times)?;
        Ok(Self {
            base_offset,
            offsets,
            times,
        })
    }

    /// Writes both files. They are on the disk when this returns; a power loss may still bring the
    /// files before them back, but nothing in between: a time index that ends early is a plausible
    /// one, so it must not come from a torn write.
    pub(crate) fn store(&self, disk: &dyn Disk, paths: &IndexPaths) -> Result<()> {
        self.offsets.store(disk, &paths.offsets)?;
        self.times.store(disk, &paths.times)
    }

    /// Base offset of the segment.
    pub(crate) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Number of entries of both tables.
    pub(crate) fn entries(&self) -> usize {
        self.offsets.len() + self.times.len()
    }

    /// Number of offset entries.
    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Bytes of both files.
    pub(crate) fn size_bytes(&self) -> u64 {
        (self.offsets.len() * OFFSET_ENTRY_BYTES + self.times.len() * TIME_ENTRY_BYTES) as u64
    }

    /// Adds an offset entry; the caller keeps offsets and positions ascending.
    pub(crate) fn push_offset(&mut self, entry: OffsetEntry) {
        let relative = (entry.offset - self.base_offset) as u32;
        let mut bytes = [0; OFFSET_ENTRY_BYTES];
        bytes[..4].copy_from_slice(&relative.to_be_bytes());
        bytes[4..].copy_from_slice(&(entry.position as u32).to_be_bytes());
        self.offsets.push(bytes);
    }

    /// Adds a time entry unless it says nothing new.
    pub(crate) fn push_time(&mut self, entry: TimeEntry) {
        if let Some(last) = self.last_time()
            && (entry.timestamp_ms <= last.timestamp_ms || entry.offset <= last.offset)
        {
            return;
        }
        let mut bytes = [0; TIME_ENTRY_BYTES];
        bytes[..8].copy_from_slice(&entry.timestamp_ms.to_be_bytes());
        bytes[8..].copy_from_slice(&((entry.offset - self.base_offset) as u32).to_be_bytes());
        self.times.push(bytes);
    }

    /// Entry `i` of the offset index; `None` past the end or when the file was cut.
    pub(crate) fn offset_entry(&self, i: usize) -> Option<OffsetEntry> {
        let bytes = self.offsets.get(i)?;
        let (relative, position) = bytes.split_at(4);
        Some(OffsetEntry {
            offset: self.base_offset + i64::from(be_u32(relative)),
            position: u64::from(be_u32(position)),
        })
    }

    /// Entry `i` of the time index.
    pub(crate) fn time_entry(&self, i: usize) -> Option<TimeEntry> {
        let bytes = self.times.get(i)?;
        let (timestamp, relative) = bytes.split_at(8);
        let mut wide = [0; 8];
        wide.copy_from_slice(timestamp);
        Some(TimeEntry {
            timestamp_ms: i64::from_be_bytes(wide),
            offset: self.base_offset + i64::from(be_u32(relative)),
        })
    }

    /// Last time entry.
    pub(crate) fn last_time(&self) -> Option<TimeEntry> {
        self.time_entry(self.times.len().checked_sub(1)?)
    }

    /// Last offset entry.
    pub(crate) fn last_offset(&self) -> Option<OffsetEntry> {
        self.offset_entry(self.offsets.len().checked_sub(1)?)
    }

    /// The last entry whose batch ends at or before `offset`: where a search for it begins.
    pub(crate) fn entry_for_offset(&self, offset: i64) -> Option<OffsetEntry> {
        let after = self
            .offsets
            .partition_point(|i| Some(self.offset_entry(i)?.offset <= offset))?;
        self.offset_entry(after.checked_sub(1)?)
    }

    /// The first entry at `position` or behind it.
    pub(crate) fn entry_from_position(&self, position: u64) -> Option<OffsetEntry> {
        let first = self
            .offsets
            .partition_point(|i| Some(self.offset_entry(i)?.position < position))?;
        self.offset_entry(first)
    }

    /// Offset of the entry that points exactly at `position`.
    pub(crate) fn offset_at(&self, position: u64) -> Option<i64> {
        self.entry_from_position(position)
            .filter(|entry| entry.position == position)
            .map(|entry| entry.offset)
    }

    /// The last entry up to which no record is as young as `timestamp_ms`.
    pub(crate) fn entry_before_timestamp(&self, timestamp_ms: i64) -> Option<TimeEntry> {
        let after = self
            .times
            .partition_point(|i| Some(self.time_entry(i)?.timestamp_ms < timestamp_ms))?;
        self.time_entry(after.checked_sub(1)?)
    }

    /// Position of a batch from which on time entries may be missing: one comes with every eighth
    /// offset entry.
    pub(crate) fn uncovered_from(&self) -> u64 {
        let sure = self.len().checked_sub(OFFSETS_PER_TIME as usize + 1);
        sure.and_then(|i| self.offset_entry(i))
            .map_or(0, |entry| entry.position)
    }

    /// The last time entry whose batch ends in `start..end`.
    pub(crate) fn time_within(&self, start: i64, end: i64) -> Option<TimeEntry> {
        let after = self
            .times
            .partition_point(|i| Some(self.time_entry(i)?.offset < end))?;
        self.time_entry(after.checked_sub(1)?)
            .filter(|entry| entry.offset >= start)
    }

    /// Drops entries of batches that begin at or after `position` or hold offsets from `offset` on.
    pub(crate) fn truncate(&mut self, offset: i64, position: u64) {
        while let Some(last) = self.last_offset()
            && (last.offset >= offset || last.position >= position)
        {
            self.offsets.pop();
        }
        while self.last_time().is_some_and(|last| last.offset >= offset) {
            self.times.pop();
        }
    }

    /// Whether entry order and bounds can be true of a segment of `log_bytes` bytes.
    pub(crate) fn is_sane(&self, log_bytes: u64) -> bool {
        let ascending = |pair: (Option<OffsetEntry>, Option<OffsetEntry>)| match pair {
            (Some(a), Some(b)) => a.offset < b.offset && a.position < b.position,
            _ => false,
        };
        let last_fits = self
            .last_offset()
            .is_none_or(|last| last.position < log_bytes);
        let offsets = self
            .sampled_pairs()
            .all(|(i, j)| ascending((self.offset_entry(i), self.offset_entry(j))));
        let times = (1..self.times.len())
            .step_by(1 + self.times.len() / 64)
            .all(|j| match (self.time_entry(j - 1), self.time_entry(j)) {
                (Some(a), Some(b)) => a.timestamp_ms < b.timestamp_ms && a.offset < b.offset,
                _ => false,
            });
        last_fits && offsets && times
    }

    fn sampled_pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let step = 1 + self.offsets.len() / 64;
        (1..self.offsets.len()).step_by(step).map(|j| (j - 1, j))
    }
}

/// Paths of a segment's index files.
#[derive(Clone, Debug)]
pub(crate) struct IndexPaths {
    pub(crate) offsets: std::path::PathBuf,
    pub(crate) times: std::path::PathBuf,
    pub(crate) aborted: std::path::PathBuf,
}

impl IndexPaths {
    pub(crate) fn of(log: &Path) -> Self {
        Self {
            offsets: log.with_extension("index"),
            times: log.with_extension("timeindex"),
            aborted: log.with_extension("txnindex"),
        }
    }
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> SegmentIndex {
        let mut index = SegmentIndex::empty(100);
        for i in 0..10 {
            index.push_offset(OffsetEntry {
                offset: 100 + i * 10 + 9,
                position: i as u64 * 4096,
            });
            index.push_time(TimeEntry {
                timestamp_ms: 1_000 + i,
                offset: 100 + i * 10 + 9,
            });
        }
        index
    }

    #[test]
    fn finds_the_entry_at_or_before() {
        let index = index();
        let position = |offset| index.entry_for_offset(offset).map(|entry| entry.position);
        assert_eq!(position(100), None);
        assert_eq!(position(109), Some(0));
        assert_eq!(position(118), Some(0));
        assert_eq!(position(119), Some(4096));
        assert_eq!(position(5_000), Some(9 * 4096));
        assert_eq!(index.offset_at(4095), None);
        assert_eq!(index.offset_at(4096), Some(119));
        assert_eq!(index.entry_before_timestamp(1_000), None);
        assert_eq!(
            index
                .entry_before_timestamp(1_001)
                .map(|entry| entry.offset),
            Some(109)
        );
    }

    #[test]
    fn truncation_drops_what_lies_behind() {
        let mut index = index();
        index.truncate(150, 5 * 4096);
        assert_eq!(
            index.last_offset(),
            Some(OffsetEntry {
                offset: 149,
                position: 4 * 4096
            })
        );
        assert_eq!(index.last_time().map(|entry| entry.offset), Some(149));
        assert!(index.is_sane(5 * 4096));
        assert!(!index.is_sane(4096), "points behind the end");
    }
}
