//! Which frames get an index entry: one per interval of bytes, in appending order.

use crate::index::{OffsetEntry, SegmentIndex, TimeEntry};
use crate::walk::Frame;

/// A time entry is due with every so many offset entries: searches by time are rare and may walk a
/// little further, so that both indexes together stay below a quarter of a percent of the log.
pub(crate) const OFFSETS_PER_TIME: u32 = 8;

/// The bytes since the last entry, and the youngest timestamp so far.
#[derive(Clone, Debug)]
pub(crate) struct IndexPace {
    interval_bytes: u64,
    since_entry: u64,
    /// Offset entries since the last time entry.
    since_time: u32,
    youngest: Option<TimeEntry>,
}

impl IndexPace {
    pub(crate) fn new(interval_bytes: u32) -> Self {
        Self {
            interval_bytes: u64::from(interval_bytes),
            since_entry: 0,
            since_time: 0,
            youngest: None,
        }
    }

    /// Goes on where an index ended: `tail_bytes` behind its last entry.
    pub(crate) fn resume(
        interval_bytes: u32,
        tail_bytes: u64,
        youngest: Option<TimeEntry>,
    ) -> Self {
        Self {
            interval_bytes: u64::from(interval_bytes),
            since_entry: tail_bytes,
            // The next offset entry brings a time entry, or a log that is reopened often would
            // never get one.
            since_time: OFFSETS_PER_TIME,
            youngest,
        }
    }

    /// Takes a frame into account that needs no entry.
    fn pass(&mut self, frame: &Frame) {
        let youngest = TimeEntry {
            timestamp_ms: frame.max_timestamp_ms,
            offset: frame.last_offset,
        };
        if self
            .youngest
            .is_none_or(|known| youngest.timestamp_ms > known.timestamp_ms)
        {
            self.youngest = Some(youngest);
        }
        self.since_entry = frame.len;
    }

    pub(crate) fn youngest(&self) -> Option<TimeEntry> {
        self.youngest
    }

    /// Index entries that are due before a frame is appended.
    pub(crate) fn note(
        &mut self,
        position: u64,
        len: u64,
        last_offset: i64,
        max_timestamp_ms: i64,
    ) -> (Option<OffsetEntry>, Option<TimeEntry>) {
        if self
            .youngest
            .is_none_or(|youngest| max_timestamp_ms > youngest.timestamp_ms)
        {
            self.youngest = Some(TimeEntry {
                timestamp_ms: max_timestamp_ms,
                offset: last_offset,
            });
        }
        if self.since_entry <= self.interval_bytes {
            self.since_entry += len;
            return (None, None);
        }
        self.since_entry = len;
        self.since_time += 1;
        let time = self
            .youngest
            .filter(|_| self.since_time >= OFFSETS_PER_TIME);
        if time.is_some() {
            self.since_time = 0;
        }
        (
            Some(OffsetEntry {
                offset: last_offset,
                position,
            }),
            time,
        )
    }
}

/// Decides which frames get an index entry: one per interval of bytes, in appending order.
#[derive(Debug)]
pub(crate) struct IndexBuilder {
    index: SegmentIndex,
    pace: IndexPace,
}

impl IndexBuilder {
    pub(crate) fn new(base_offset: i64, interval_bytes: u32) -> Self {
        Self {
            index: SegmentIndex::empty(base_offset),
            pace: IndexPace::new(interval_bytes),
        }
    }

    /// Continues an index that was loaded. The frames from [`SegmentIndex::uncovered_from`] on are to
    /// be added again: the youngest timestamp among the last of them is in no time entry yet.
    pub(crate) fn resume(index: SegmentIndex, interval_bytes: u32) -> Self {
        let pace = IndexPace::resume(interval_bytes, 0, index.last_time());
        Self { index, pace }
    }

    /// Number of entries so far.
    pub(crate) fn entries(&self) -> usize {
        self.index.entries()
    }

    /// Adds a frame, which may be indexed already.
    pub(crate) fn add_again(&mut self, frame: &Frame) {
        match self.index.last_offset() {
            Some(last) if frame.position <= last.position => self.pace.pass(frame),
            _ => self.add(frame),
        }
    }

    pub(crate) fn add(&mut self, frame: &Frame) {
        let (offset, time) = self.pace.note(
            frame.position,
            frame.len,
            frame.last_offset,
            frame.max_timestamp_ms,
        );
        if let Some(entry) = offset {
            self.index.push_offset(entry);
        }
        if let Some(entry) = time {
            self.index.push_time(entry);
        }
    }

    /// The index of a segment that is complete: its youngest timestamp becomes the last entry.
    pub(crate) fn finish(mut self) -> SegmentIndex {
        if let Some(entry) = self.pace.youngest() {
            self.index.push_time(entry);
        }
        self.index
    }

    pub(crate) fn into_parts(self) -> (SegmentIndex, IndexPace) {
        (self.index, self.pace)
    }
}
