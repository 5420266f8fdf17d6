//! Appending: one short critical section that assigns offsets, writes once, and publishes.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use parking_lot::MutexGuard;

use super::outgoing::{Outgoing, followed, split_batches};
use super::read::containing;
use super::transactions::mark_of;
use super::zeros::{ZEROS, zeros_ahead};
use super::{LogCore, LogEvent, Mark, Writer};
use crate::config::{FlushPolicy, Format, LogConfig};
use crate::error::{Result, StorageError};
use crate::flush::Work;
use crate::index::{AbortedTransaction, OFFSET_ENTRY_BYTES};
use crate::producer_state::{Completed, Place, Verdict};
use crate::segment::{IndexPace, Segment};

/// Who says which offsets the batches get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendMode {
    /// This log: it assigns the next offsets and checks producers' sequences.
    Leader {
        /// Epoch of the leadership under which the append happens.
        leader_epoch: i32,
        /// When set (Unix ms), records get this timestamp (`LogAppendTime`).
        log_append_time: Option<i64>,
    },
    /// The leader that the batches come from: offsets and epochs are kept. Offsets must follow each
    /// other, or ascend when the log is compacted.
    Follower,
}

/// The result of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// Largest timestamp, Unix ms.
    pub max_timestamp_ms: i64,
    /// The timestamp that the log gave, under `LogAppendTime`; of a duplicate, its largest timestamp.
    pub log_append_time_ms: Option<i64>,
    /// The batch was in the log already: a retry of an idempotent producer.
    pub duplicate: bool,
    /// First offset that can be read.
    pub log_start_offset: i64,
}

/// Where an append began that takes more than one write.
struct Begun {
    segments: Arc<Vec<Arc<Segment>>>,
    size: u64,
    pace: IndexPace,
}

impl LogCore {
    /// Appends whole v2 batches, whose checksums the caller verified, without waiting for a flush:
    /// see [`crate::LogCore::acknowledged`]. Record bytes are not copied. All batches are appended, or none.
    ///
    /// # Errors
    /// [`StorageError::Record`] for bytes that are no whole batches, [`StorageError::TooLarge`],
    /// [`StorageError::OutOfOrderSequence`], [`StorageError::ProducerFenced`],
    /// [`StorageError::InvalidTxnState`], an I/O error (after which nothing was appended),
    /// [`StorageError::Offline`] or [`StorageError::Closed`].
    pub fn append_batches(&self, bytes: Bytes, mode: AppendMode) -> Result<Appended> {
        let appended = self.append_frames(split_batches(bytes)?, mode, |_| Ok(()))?;
        self.flush_if_waited_for();
        Ok(appended)
    }

    /// Under `always` whoever appended waits for a flush.
    pub(super) fn flush_if_waited_for(&self) {
        if self.config.load().flush == FlushPolicy::Always {
            self.request_flush();
        }
    }

    /// Appends frames; `allowed` is asked under the writer's lock.
    pub(super) fn append_frames(
        &self,
        mut frames: Vec<Outgoing>,
        mode: AppendMode,
        allowed: impl FnOnce(&Writer) -> Result<()>,
    ) -> Result<Appended> {
        self.check_open()?;
        let config = self.config.load();
        for frame in &frames {
            if frame.len() > config.segment_bytes {
                return Err(StorageError::TooLarge {
                    bytes: frame.len(),
                    limit: config.segment_bytes,
                });
            }
        }
        let mut writer = self.writer.lock();
        // The log may have been closed or failed while we waited for the lock.
        self.check_open()?;
        if matches!(mode, AppendMode::Leader { .. })
            && let Some(duplicate) = self.judge_producers(&writer, &frames)?
        {
            return Ok(duplicate);
        }
        allowed(&writer)?;
        let mut next = writer.next_offset;
        for frame in &mut frames {
            let base = match mode {
                AppendMode::Leader { .. } => next,
                AppendMode::Follower => followed(frame, next, config.cleanup.compact)?,
            };
            frame.assign(base, mode);
            next = frame.last_offset + 1;
        }
        self.write_frames(&mut writer, &config, &frames)?;
        let appended = self.summary(&frames, mode);
        self.after_append(writer, &config, appended.last_offset);
        Ok(appended)
    }

    /// Refuses wrong sequences; answers a retry with where its batch is.
    fn judge_producers(&self, writer: &Writer, frames: &[Outgoing]) -> Result<Option<Appended>> {
        for header in frames.iter().filter_map(|frame| frame.header.as_ref()) {
            if let Verdict::Duplicate {
                base_offset,
                last_offset,
                timestamp_ms,
            } = writer.producers.check(header)?
            {
                return Ok(Some(Appended {
                    base_offset,
                    last_offset,
                    max_timestamp_ms: timestamp_ms,
                    // As Kafka: also of batches with the producer's timestamps.
                    log_append_time_ms: Some(timestamp_ms),
                    duplicate: true,
                    log_start_offset: self.log_start_offset(),
                }));
            }
        }
        Ok(None)
    }

    /// Writes frames in as few calls as the segments' sizes allow.
    fn write_frames(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        frames: &[Outgoing],
    ) -> Result<()> {
        let mut rest = frames;
        let mut begun = None;
        while let Some(first) = rest.first() {
            let rolled = if self.must_roll(writer, config, first) {
                self.roll(writer, config, first.format(), first.base_offset)
            } else {
                Ok(())
            };
            let mut room = config.segment_bytes.saturating_sub(writer.active.size());
            let fit = rest
                .iter()
                .take_while(|frame| {
                    let fits = frame.len() <= room && frame.format() == first.format();
                    room = room.saturating_sub(frame.len());
                    fits
                })
                .count()
                .max(1);
            let (group, later) = rest.split_at(fit);
            if begun.is_none() && !later.is_empty() && rolled.is_ok() {
                begun = Some(Begun {
                    segments: self.segments.load_full(),
                    size: writer.active.size(),
                    pace: writer.pace.clone(),
                });
            }
            let written = rolled.and_then(|()| self.write_group(writer, config, group));
            if let Err(error) = written {
                if let Some(begun) = begun {
                    self.undo_groups(writer, begun);
                }
                return Err(error);
            }
            rest = later;
        }
        self.publish(writer, config, frames);
        Ok(())
    }

    /// All frames are in the files: from here on they are part of the log.
    fn publish(&self, writer: &mut Writer, config: &LogConfig, frames: &[Outgoing]) {
        let mut completed = None;
        let now_ms = self.now_ms();
        for frame in frames {
            if let Some(header) = &frame.header {
                writer.epochs_changed |= writer
                    .epochs
                    .note(header.partition_leader_epoch, frame.base_offset);
                if let Some(marker) = frame.marker {
                    if let Some(ended) = writer.producers.record_marker(header, marker) {
                        self.note_aborted(frame, ended.aborted());
                        completed.get_or_insert_with(Vec::new).push(ended);
                    }
                } else {
                    writer.producers.record(header, frame.place.get(), now_ms);
                }
            }
            writer.next_offset = frame.last_offset + 1;
        }
        let bytes = frames.iter().map(Outgoing::len).sum();
        self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
        let most = config.max_producers as usize;
        if most > 0 && writer.producers.evict(most) > 0 {
            tracing::debug!(dir = %self.dir.display(), most, "forgot the longest idle producers");
        }
        self.move_end_past(writer, &completed.unwrap_or_default());
    }

    /// Adds an aborted transaction to the index of the segment that its marker was written to.
    fn note_aborted(&self, frame: &Outgoing, aborted: Option<AbortedTransaction>) {
        if let Some(transaction) = aborted {
            let segments = self.segments.load();
            segments[containing(&segments, frame.place.get().segment)].note_aborted(&transaction);
        }
    }

    /// Makes the writer's place the end of the log.
    pub(super) fn move_end(&self, writer: &Writer) {
        self.move_end_past(writer, &[]);
    }

    fn move_end_past(&self, writer: &Writer, completed: &[Completed]) {
        let mut marks = self.marks.lock();
        // Before the transactions leave the open ones: in between they would hold nothing back.
        for ended in completed {
            marks.note_marker(ended);
        }
        marks.first_open = writer.producers.first_open().map(mark_of);
        marks.end = Mark {
            offset: writer.next_offset,
            segment: writer.active.base_offset(),
            position: writer.active.size(),
        };
    }

    /// Takes back what was written of frames of which a later one failed. Nothing of it was
    /// published. When that fails too, the log goes offline.
    fn undo_groups(&self, writer: &mut Writer, begun: Begun) {
        let Some(active) = begun.segments.last().cloned() else {
            return;
        };
        let now = self.segments.load_full();
        let undone = now[begun.segments.len()..]
            .iter()
            .rev()
            .try_for_each(|later| later.remove())
            .and_then(|()| active.truncate(writer.next_offset, begun.size));
        if let Err(error) = undone {
            self.go_offline(&error);
        }
        let stays = |segment: &Arc<Segment>| segment.base_offset() < active.base_offset();
        writer.unsynced.retain(stays);
        writer.unstored.retain(stays);
        writer.written_ahead = begun.size;
        writer.pace = begun.pace;
        writer.active = active;
        self.segments.store(begun.segments);
    }

    fn must_roll(&self, writer: &Writer, config: &LogConfig, next: &Outgoing) -> bool {
        let active = &writer.active;
        if active.format() != next.format() {
            return true;
        }
        let size = active.size();
        let relative = next.last_offset.saturating_sub(active.base_offset());
        let age = self.now_ms().saturating_sub(active.first_append_ms());
        size > 0
            && (size + next.len() > config.segment_bytes
                || relative > i64::from(i32::MAX)
                || active.index_len() >= config.max_index_bytes as usize / OFFSET_ENTRY_BYTES
                || age >= config.max_segment_age_ms())
    }

    /// Seals the active segment and begins a new one at `base_offset`.
    pub(super) fn roll(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        format: Format,
        base_offset: i64,
    ) -> Result<()> {
        let old = writer.active.clone();
        let mut segments = self.segments.load().as_ref().clone();
        let interval = config.index_interval_bytes;
        // Created before the old one is sealed: when it cannot be, appends that fit go on.
        let new = Arc::new(Segment::create(
            &self.env.disk,
            &self.dir,
            base_offset,
            format,
            interval,
        )?);
        new.allow_holes(config.cleanup.compact);
        if old.size() > 0 {
            old.index_frame(None, writer.pace.youngest());
            if let Err(error) = old.seal() {
                // A leftover is emptied by the next roll.
                let _ = new.remove();
                return Err(error);
            }
            writer.unsynced.push(old.clone());
            writer.unstored.push(old);
        } else {
            segments.pop();
        }
        segments.push(new.clone());
        self.segments.store(Arc::new(segments));
        writer.active = new;
        writer.pace = IndexPace::new(interval);
        writer.written_ahead = 0;
        writer.dir_changed = true;
        self.queue_checkpoint(writer);
        Ok(())
    }

    fn write_group(
        &self,
        writer: &mut Writer,
        config: &LogConfig,
        group: &[Outgoing],
    ) -> Result<()> {
        let active = writer.active.clone();
        let start = active.size();
        let len: u64 = group.iter().map(Outgoing::len).sum();
        let mut zeros = if self.saves_space.load(Ordering::Relaxed) {
            0
        } else {
            let unflushed = self.unflushed_bytes(start);
            zeros_ahead(config, writer.written_ahead, start, len, unflushed)
        };
        let mut slices = Vec::with_capacity(group.len() * 2 + 1);
        group
            .iter()
            .for_each(|frame| frame.push_slices(&mut slices));
        let mut written = write_with_zeros(&active, &slices, zeros);
        if zeros > 0 && written.as_ref().is_err_and(StorageError::is_disk_full) {
            // The zeros are a convenience: they must not take the room that the frames need.
            self.undo_write(writer);
            self.check_online()?;
            zeros = 0;
            written = write_with_zeros(&active, &slices, 0);
        }
        if let Err(error) = written {
            self.undo_write(writer);
            return Err(error);
        }
        if zeros > 0 {
            writer.written_ahead = start + len + zeros as u64;
        }
        active.note_first_append(self.now_ms());
        let mut position = start;
        for frame in group {
            frame.place.set(Place {
                segment: active.base_offset(),
                position,
            });
            let (offset, time) = writer.pace.note(
                position,
                frame.len(),
                frame.last_offset,
                frame.max_timestamp_ms,
            );
            if offset.is_some() {
                active.index_frame(offset, time);
            }
            position += frame.len();
        }
        active.publish(position);
        writer.bytes_since_checkpoint += len;
        if writer.bytes_since_checkpoint >= config.checkpoint_bytes {
            self.queue_checkpoint(writer);
        }
        Ok(())
    }

    /// Bytes of the active segment, which ends at `end`, that the next flush has to write.
    fn unflushed_bytes(&self, end: u64) -> u64 {
        let marks = self.marks.lock();
        if marks.durable.segment == marks.end.segment {
            end.saturating_sub(marks.durable.position)
        } else {
            end
        }
    }

    /// After a failed write: what reached the file is cut, so that it can never be taken for a
    /// batch that follows a later append. When that fails too, the log goes offline.
    fn undo_write(&self, writer: &mut Writer) {
        let active = &writer.active;
        let cut = active.file().and_then(|file| {
            file.set_len(active.size())
                .map_err(|source| StorageError::io("cut", active.path(), source))
        });
        writer.written_ahead = 0;
        if let Err(cut_error) = cut {
            self.go_offline(&cut_error);
        }
    }

    /// Whether appends do without zeros ahead of them: for a disk that is nearly full.
    pub fn save_space(&self, on: bool) {
        self.saves_space.store(on, Ordering::Relaxed);
    }

    fn queue_checkpoint(&self, writer: &mut Writer) {
        if !writer.checkpoint_queued {
            writer.checkpoint_queued = true;
            self.env.flusher.submit(self.this.clone(), Work::Checkpoint);
        }
    }

    fn summary(&self, frames: &[Outgoing], mode: AppendMode) -> Appended {
        let log_append_time_ms = match mode {
            AppendMode::Leader {
                log_append_time, ..
            } => log_append_time,
            AppendMode::Follower => None,
        };
        Appended {
            base_offset: frames.first().map_or(-1, |frame| frame.base_offset),
            last_offset: frames.last().map_or(-1, |frame| frame.last_offset),
            max_timestamp_ms: frames
                .iter()
                .map(|frame| frame.max_timestamp_ms)
                .max()
                .unwrap_or(-1),
            log_append_time_ms,
            duplicate: false,
            log_start_offset: self.log_start_offset(),
        }
    }

    /// Starts what the flush policy asks for, and tells the listener.
    fn after_append(&self, writer: MutexGuard<'_, Writer>, config: &LogConfig, last_offset: i64) {
        drop(writer);
        match config.flush {
            FlushPolicy::Always => return,
            FlushPolicy::Messages(n) => {
                let unflushed = (last_offset + 1).saturating_sub(self.durable_end());
                if unflushed >= i64::try_from(n).unwrap_or(i64::MAX) {
                    self.request_flush();
                }
            }
            FlushPolicy::Interval(after) => self.request_flush_after(after),
            FlushPolicy::Os => {}
        }
        self.tell(LogEvent::AcknowledgedEnd(last_offset + 1));
    }
}

/// Writes frames, which `slices` are, at the end of a segment, and zeros behind them.
fn write_with_zeros(active: &Segment, slices: &[IoSlice<'_>], zeros: usize) -> Result<()> {
    // A write consumes its slices.
    let mut parts = slices.to_vec();
    if zeros > 0 {
        parts.push(IoSlice::new(&ZEROS[..zeros]));
    }
    active.write_at_end(&mut parts)
}
