//! Shortening a log at either end: truncation, delete-records, retention.
//!
//! Order of steps, so that a crash between any two of them leaves a log that opens: the checkpoint
//! is written first (recovery point lowered, or log start raised), then the change is published to
//! readers, then files are cut or removed. Files are removed outside the writer's lock: appends
//! never wait for the file system to free a segment.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::read::containing;
use super::transactions::mark_of;
use super::{LogCore, LogEvent, Mark};
use crate::checkpoint::Checkpoint;
use crate::config::LogConfig;
use crate::error::{IoContext, Result, StorageError};
use crate::replay;
use crate::retention::{SegmentFacts, expired};
use crate::segment::{NO_TIMESTAMP, Segment};

/// What a retention run removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// Segments removed.
    pub segments: usize,
    /// Bytes freed.
    pub bytes: u64,
}

impl LogCore {
    /// Removes records from `offset` on, for good when this returns. A batch that holds `offset`
    /// goes whole, as in Kafka; the new end is returned.
    ///
    /// # Errors
    /// [`StorageError::OffsetOutOfRange`] below the log start, or an I/O error.
    pub fn truncate_to(&self, offset: i64) -> Result<i64> {
        let mut checkpoint = self.checkpoint.lock();
        // Only now: the folder may have been given up while this waited for the lock.
        self.check_open()?;
        let flushing = self.flushing.lock();
        let start = self.log_start_offset();
        let end = self.log_end_offset();
        if offset >= end {
            return Ok(end);
        }
        if offset < start {
            return Err(StorageError::OffsetOutOfRange {
                requested: offset,
                start,
                end,
            });
        }
        let new_end = self.judge(self.cut_at(offset, &mut checkpoint))?;
        drop(flushing);
        self.waiters.wake_all();
        self.tell(LogEvent::AcknowledgedEnd(self.acknowledged_end()));
        Ok(new_end.offset)
    }

    /// Both locks are held: no flush or checkpoint can cover what is being cut.
    fn cut_at(&self, offset: i64, checkpoint: &mut MutexGuard<'_, Checkpoint>) -> Result<Mark> {
        let mut writer = self.writer.lock();
        let segments = self.segments.load_full();
        let at = containing(&segments, offset);
        let segment = segments[at].clone();
        let new_end = match segment.find(offset)? {
            Some(frame) => {
                let offset = if frame.base_offset <= offset {
                    frame.base_offset
                } else {
                    offset
                };
                Mark {
                    offset,
                    segment: segment.base_offset(),
                    position: frame.position,
                }
            }
            None => Mark {
                offset,
                segment: segment.base_offset(),
                position: segment.size(),
            },
        };
        let lowered = Checkpoint {
            recovery_point: checkpoint.recovery_point.min(new_end.offset),
            segment: checkpoint.segment.min(new_end.segment),
            position: if checkpoint.segment < new_end.segment {
                checkpoint.position
            } else if checkpoint.segment == new_end.segment {
                checkpoint.position.min(new_end.position)
            } else {
                new_end.position
            },
            // The batch that goes may hold the log start.
            log_start: checkpoint.log_start.min(new_end.offset),
            holes_before: checkpoint.holes_before.min(new_end.offset),
            compacted_before: checkpoint.compacted_before.min(new_end.offset),
            snapshot: checkpoint
                .snapshot
                .filter(|snapshot| *snapshot <= new_end.offset),
            clean: false,
        };
        // What may fail comes before the first change.
        let rebuilt = replay::rebuild(&segments, at, new_end.position)?;
        let (index, pace) = segment.growing_index_up_to(new_end.position)?.into_parts();
        let lowered = match lowered.snapshot {
            // Without its snapshot the state below the recovery point would have to be read again:
            // move the recovery point to the log start's segment, from where it is rebuilt.
            None if !rebuilt.is_empty() => Checkpoint {
                recovery_point: segments[0].base_offset(),
                segment: segments[0].base_offset(),
                position: 0,
                ..lowered
            },
            _ => lowered,
        };
        self.write_checkpoint(checkpoint, lowered)?;
        self.log_start.fetch_min(new_end.offset, Ordering::AcqRel);
        self.holes_before
            .fetch_min(new_end.offset, Ordering::AcqRel);
        self.compacted_before
            .fetch_min(new_end.offset, Ordering::AcqRel);
        {
            let mut marks = self.marks.lock();
            marks.end = new_end;
            marks.cuts += 1;
            marks.last_cut = new_end.offset;
            if marks.durable.offset > new_end.offset {
                marks.durable = new_end;
            }
            marks.first_open = rebuilt.producers.first_open().map(mark_of);
            marks.cut_markers(new_end.offset);
        }
        self.segments.store(Arc::new(segments[..=at].to_vec()));
        segment.reopen_for_append(index);
        segment.set_aborted(rebuilt.aborted_in(&segment));
        writer.active = segment.clone();
        writer.next_offset = new_end.offset;
        writer.producers = rebuilt.producers;
        writer.epochs.truncate_from_end(new_end.offset);
        writer.epochs_changed = true;
        writer.pace = pace;
        writer.written_ahead = new_end.position;
        let stays = |segment: &Arc<Segment>| segment.base_offset() < new_end.segment;
        writer.unsynced.retain(stays);
        writer.unstored.retain(stays);
        // Still under the writer's lock: an append would land behind the bytes that go, and a new
        // segment could have the name of one that is removed.
        let cut = self.cut_files(&segment, &segments[at + 1..], new_end);
        if let Err(error) = cut {
            // What readers were told and what the files hold are apart now.
            self.go_offline(&error);
            return Err(error);
        }
        drop(writer);
        Ok(new_end)
    }

    /// A crash in between leaves segments behind a hole, which recovery removes.
    fn cut_files(&self, last: &Segment, later: &[Arc<Segment>], new_end: Mark) -> Result<()> {
        for segment in later.iter().rev() {
            segment.remove()?;
        }
        last.truncate(new_end.offset, new_end.position)?;
        last.remove_stale_index()?;
        self.env.disk.sync_dir(&self.dir).context("sync", &self.dir)
    }

    /// Makes `offset` the first that can be read (Kafka's DeleteRecords) and removes the segments
    /// that lie wholly before it. Returns the log start that results.
    ///
    /// # Errors
    /// [`StorageError::OffsetOutOfRange`] behind the acknowledged end, or an I/O error.
    pub fn delete_records_before(&self, offset: i64) -> Result<i64> {
        let mut checkpoint = self.checkpoint.lock();
        // Only now: the folder may have been given up while this waited for the lock.
        self.check_open()?;
        let (start, end) = (self.log_start_offset(), self.acknowledged_end());
        if offset > end || offset < 0 {
            return Err(StorageError::OffsetOutOfRange {
                requested: offset,
                start,
                end,
            });
        }
        if offset > start {
            self.judge(self.raise_log_start(offset, &mut checkpoint))?;
        }
        Ok(self.log_start_offset())
    }

    /// Deletes segments that retention by time or size no longer keeps. Call it from a background
    /// thread, every few minutes.
    ///
    /// # Errors
    /// An I/O error; what was not removed is tried again by the next run.
    pub fn apply_retention(&self, now_ms: i64) -> Result<RetentionReport> {
        let mut checkpoint = self.checkpoint.lock();
        // Only now: the folder may have been given up while this waited for the lock.
        self.check_open()?;
        let config = self.config.load_full();
        // Taken first: what is appended from here on is not judged, so it must stay.
        let judged_end = self.log_end_offset();
        let segments = self.segments.load_full();
        let facts = segments
            .iter()
            .map(|segment| facts_of(segment))
            .collect::<Result<Vec<_>>>()?;
        let mut count = expired(&facts, &config, now_ms);
        // Nothing that is not acknowledged goes.
        let acknowledged = self.acknowledged_end();
        while count > 0 && self.end_of(&segments, count - 1) > acknowledged {
            count -= 1;
        }
        if count == 0 {
            return Ok(RetentionReport::default());
        }
        let sealed_end = segments.get(count).map(|kept| kept.base_offset());
        let mut new_start = sealed_end.unwrap_or(i64::MAX);
        if checkpoint.segment < new_start {
            drop(checkpoint);
            if sealed_end.is_none() {
                new_start = self.roll_if_end(&config, &segments, judged_end)?;
            }
            // The recovery point must leave the old segments before they go.
            self.checkpoint()?;
            checkpoint = self.checkpoint.lock();
            self.check_open()?;
            // What was judged may have been truncated while the lock was free.
            new_start = new_start.min(self.acknowledged_end());
        }
        self.judge(self.raise_log_start(new_start, &mut checkpoint))
    }

    /// First offset behind segment `i`.
    fn end_of(&self, segments: &[Arc<Segment>], i: usize) -> i64 {
        segments
            .get(i + 1)
            .map_or_else(|| self.log_end_offset(), |next| next.base_offset())
    }

    /// Rolls the active segment over if it is the last of `segments` and still ends at `judged_end`;
    /// returns the offset before which all records are in sealed segments of those.
    fn roll_if_end(
        &self,
        config: &LogConfig,
        segments: &[Arc<Segment>],
        judged_end: i64,
    ) -> Result<i64> {
        let mut writer = self.writer.lock();
        self.check_open()?;
        let next_offset = writer.next_offset;
        let same = next_offset == judged_end
            && segments
                .last()
                .is_some_and(|last| Arc::ptr_eq(last, &writer.active));
        if same && writer.active.size() > 0 {
            self.roll(&mut writer, config, config.format, next_offset)?;
            self.move_end(&writer);
        }
        Ok(match segments.last() {
            Some(last) if !same => last.base_offset(),
            _ => writer.active.base_offset(),
        })
    }

    fn raise_log_start(
        &self,
        offset: i64,
        checkpoint: &mut MutexGuard<'_, Checkpoint>,
    ) -> Result<RetentionReport> {
        let offset = offset.max(self.log_start_offset());
        if offset > self.durable_end() {
            // Or a power loss could leave an end that lies before the start.
            self.flush()?;
        }
        let recovery_segment = checkpoint.segment;
        let next = Checkpoint {
            log_start: offset,
            clean: false,
            ..**checkpoint
        };
        self.write_checkpoint(checkpoint, next)?;
        self.log_start.fetch_max(offset, Ordering::AcqRel);
        // A transaction that began below it holds readers back no longer than here.
        self.tell(LogEvent::AcknowledgedEnd(self.acknowledged_end()));
        let gone: Vec<Arc<Segment>> = {
            // The writer's lock keeps the list from being replaced by a roll meanwhile.
            let mut writer = self.writer.lock();
            writer.epochs.truncate_from_start(offset);
            writer.epochs_changed = true;
            let segments = self.segments.load();
            let keep = segments
                .iter()
                .zip(segments.iter().skip(1))
                // The recovery point's segment stays until the next checkpoint leaves it.
                .take_while(|(segment, next)| {
                    next.base_offset() <= offset && segment.base_offset() < recovery_segment
                })
                .count();
            let (gone, kept) = segments.split_at(keep);
            let gone = gone.to_vec();
            self.segments.store(Arc::new(kept.to_vec()));
            gone
        };
        let report = RetentionReport {
            segments: gone.len(),
            bytes: gone.iter().map(|segment| segment.size()).sum(),
        };
        for segment in &gone {
            segment.remove()?;
        }
        Ok(report)
    }
}

fn facts_of(segment: &Segment) -> Result<SegmentFacts> {
    let youngest = segment.max_timestamp()?.timestamp_ms;
    Ok(SegmentFacts {
        size_bytes: segment.size(),
        max_timestamp_ms: (youngest > NO_TIMESTAMP).then_some(youngest),
    })
}
