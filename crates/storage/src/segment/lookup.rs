//! Finding frames in a segment, by offset and by time.
//!
//! Invariants: a lookup walks from a place that the index vouches for, and reports damage instead of
//! passing over it.

use std::sync::atomic::Ordering;

use super::{NO_TIMESTAMP, Segment};
use crate::config::Format;
use crate::error::{IoContext, Result};
use crate::index::{SegmentIndex, TimeEntry};
use crate::walk::{Depth, Frame, Step, Walker};

impl Segment {
    /// The frame that holds `offset`, or the first one behind it; `None` at the end.
    pub(crate) fn find(&self, offset: i64) -> Result<Option<Frame>> {
        let entry = self.with_index(|index| index.entry_for_offset(offset))?;
        let start = self.trusted_start(entry)?;
        self.find_from(start, |frame| frame.last_offset >= offset)
    }

    /// An offset that no frame reaches which begins before `position`, as near as the index tells; `None`
    /// when all of the segment may.
    pub(crate) fn offset_behind(&self, position: u64) -> Result<Option<i64>> {
        let entry = self.with_index(|index| index.entry_from_position(position))?;
        let Some(entry) = entry else { return Ok(None) };
        let is_true = self.trusted_start(Some(entry))? == entry.position;
        Ok(is_true.then_some(entry.offset))
    }

    /// The first frame with a record as young as `timestamp_ms`.
    pub(crate) fn find_timestamp(&self, timestamp_ms: i64) -> Result<Option<Frame>> {
        let entry = self.with_index(|index| index.entry_before_timestamp(timestamp_ms))?;
        let start = match entry {
            Some(entry) => self.trusted_time(entry)?.map_or(0, |frame| frame.position),
            None => 0,
        };
        self.find_from(start, |frame| frame.max_timestamp_ms >= timestamp_ms)
    }

    /// First frame from a frame boundary on for which `wanted` holds.
    fn find_from(&self, start: u64, wanted: impl Fn(&Frame) -> bool) -> Result<Option<Frame>> {
        let mut walker = self.walker(start)?;
        // Base offsets are not under the checksum, but each follows from the frame before it.
        let mut expected = (start == 0).then_some(self.base_offset);
        let holes = self.holes.load(Ordering::Relaxed);
        loop {
            match walker.step().context("read", &self.path)? {
                Step::Frame(frame)
                    if !holes && expected.is_some_and(|offset| offset != frame.base_offset) =>
                {
                    let reason = format!(
                        "base offset {} where {} was expected",
                        frame.base_offset,
                        expected.unwrap_or_default()
                    );
                    return Err(self.damaged(frame.position, reason));
                }
                Step::Frame(frame) if wanted(&frame) => return Ok(Some(frame)),
                Step::Frame(frame) => expected = Some(frame.last_offset + 1),
                Step::End => return Ok(None),
                Step::Bad { reason } => return Err(self.damaged(walker.position(), reason)),
            }
        }
    }

    /// Walks the frames from a frame boundary to the end of what is published.
    pub(crate) fn walker(&self, start: u64) -> Result<Walker<'_>> {
        let size = self.size();
        // v1 offsets are implicit: walking must begin where the offset is known.
        let next_offset = match self.format {
            Format::V2 => self.base_offset,
            Format::V1 => self.v1_offset_at(start)?,
        };
        let start = start.min(size);
        Ok(Walker::new(
            &**self.file()?,
            self.format,
            Depth::Header,
            start,
            size,
            next_offset,
        ))
    }

    /// Walks on from a frame that was found.
    pub(crate) fn walker_at(&self, frame: &Frame) -> Result<Walker<'_>> {
        let file = &**self.file()?;
        Ok(Walker::new(
            file,
            self.format,
            Depth::Header,
            frame.position,
            self.size(),
            frame.base_offset,
        ))
    }

    fn v1_offset_at(&self, position: u64) -> Result<i64> {
        if position == 0 {
            return Ok(self.base_offset);
        }
        // Callers start at positions that an index entry gave them.
        self.with_index(|index| index.offset_at(position).unwrap_or(self.base_offset))
    }

    /// Largest timestamp in the segment, [`NO_TIMESTAMP`] when empty.
    pub(crate) fn max_timestamp(&self) -> Result<TimeEntry> {
        let none = TimeEntry {
            timestamp_ms: NO_TIMESTAMP,
            offset: self.base_offset,
        };
        let Some(last) = self.with_index(SegmentIndex::last_time)? else {
            return self.scan_max_timestamp(0, none);
        };
        let Some(frame) = self.trusted_time(last)? else {
            return self.scan_max_timestamp(0, none);
        };
        if self.sealed.load(Ordering::Acquire) {
            return Ok(last);
        }
        // The active segment's youngest records may not be indexed yet.
        self.scan_max_timestamp(frame.position, last)
    }

    /// Largest timestamp of the frames that begin at `start` or behind it and before `end`.
    pub(crate) fn youngest_within(&self, start: i64, end: i64) -> Result<i64> {
        let known = self.with_index(|index| index.time_within(start, end))?;
        let known = match known {
            Some(entry) => self.trusted_time(entry)?,
            None => None,
        };
        let Some(first) = known.map_or_else(|| self.find(start), |frame| Ok(Some(frame)))? else {
            return Ok(NO_TIMESTAMP);
        };
        let mut youngest = NO_TIMESTAMP;
        let mut walker = self.walker_at(&first)?;
        while let Step::Frame(frame) = walker.step().context("read", &self.path)? {
            if frame.base_offset >= end {
                break;
            }
            if frame.base_offset >= start {
                youngest = youngest.max(frame.max_timestamp_ms);
            }
        }
        Ok(youngest)
    }

    fn scan_max_timestamp(&self, from: u64, mut best: TimeEntry) -> Result<TimeEntry> {
        let mut walker = self.walker(from)?;
        while let Step::Frame(frame) = walker.step().context("read", &self.path)? {
            if frame.max_timestamp_ms > best.timestamp_ms {
                best = TimeEntry {
                    timestamp_ms: frame.max_timestamp_ms,
                    offset: frame.last_offset,
                };
            }
        }
        Ok(best)
    }

    /// Timestamp of the first frame, for the age of a segment found at start.
    pub(crate) fn first_timestamp(&self) -> Result<Option<i64>> {
        Ok(match self.walker(0)?.step().context("read", &self.path)? {
            Step::Frame(frame) => Some(frame.max_timestamp_ms),
            _ => None,
        })
    }
}
