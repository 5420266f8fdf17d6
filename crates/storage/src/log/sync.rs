//! Making appends durable: flushes, checkpoints, and the orderly end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use super::{LogCore, LogEvent, Mark};
use crate::checkpoint::{self, Checkpoint};
use crate::config::FlushPolicy;
use crate::disk::replace_file_named;
use crate::error::{IoContext, Result};
use crate::flush::{Flushable, Work};
use crate::leader_epoch::LeaderEpochs;
use crate::producer_state::{AbortedFacts, ProducerStates, Snapshot};
use crate::segment::Segment;

/// What one flush covers.
struct FlushTarget {
    end: Mark,
    segments: Vec<Arc<Segment>>,
    sync_dir: bool,
}

/// What one checkpoint writes.
struct CheckpointWork {
    end: Mark,
    active: Arc<Segment>,
    sealed: Vec<Arc<Segment>>,
    /// The producers and what tells sound indexes of aborted transactions; a copy, since the writer goes
    /// on changing them, and encoding takes longer than an append should wait.
    snapshot: Option<Snapshot>,
    epochs: Option<LeaderEpochs>,
}

impl LogCore {
    /// Makes all that was appended durable.
    ///
    /// # Errors
    /// [`crate::StorageError::Io`] when the flush fails, after which the log is offline for good.
    pub fn flush(&self) -> Result<()> {
        let guard = self.flushing.lock();
        self.flush_locked(&guard)
    }

    pub(super) fn flush_locked(&self, _flushing: &MutexGuard<'_, ()>) -> Result<()> {
        self.check_online()?;
        let target = self.flush_target();
        if target.end.offset == self.durable_end() && target.segments.len() == 1 && !target.sync_dir
        {
            return Ok(());
        }
        let started = Instant::now();
        let result = self.sync_target(&target);
        self.env.flusher.report(started.elapsed(), result.is_ok());
        if let Err(error) = result {
            self.go_offline(&error);
            return Err(error);
        }
        {
            let mut marks = self.marks.lock();
            marks.durable = target.end;
            marks.settle_markers();
        }
        self.waiters.wake(target.end.offset);
        if self.config.load().flush == FlushPolicy::Always {
            self.tell(LogEvent::AcknowledgedEnd(target.end.offset));
        }
        Ok(())
    }

    fn flush_target(&self) -> FlushTarget {
        let mut writer = self.writer.lock();
        let mut segments = std::mem::take(&mut writer.unsynced);
        segments.push(writer.active.clone());
        let sync_dir = std::mem::take(&mut writer.dir_changed);
        FlushTarget {
            end: self.marks.lock().end,
            segments,
            sync_dir,
        }
    }

    fn sync_target(&self, target: &FlushTarget) -> Result<()> {
        for segment in &target.segments {
            segment
                .file()?
                .sync_data()
                .context("sync", segment.path())?;
        }
        if target.sync_dir {
            self.env
                .disk
                .sync_dir(&self.dir)
                .context("sync", &self.dir)?;
        }
        Ok(())
    }

    /// Has a flusher thread flush soon; requests made before it starts share it.
    pub(super) fn request_flush(&self) {
        if self.flush_queue.request() {
            self.env.flusher.submit(self.this.clone(), Work::Flush);
        }
    }

    pub(super) fn request_flush_after(&self, delay: Duration) {
        if !self.timer_queued.swap(true, Ordering::AcqRel) {
            self.env.flusher.submit_later(self.this.clone(), delay);
        }
    }

    /// Flushes, then moves the recovery point to the end: what a restart after a crash reads again
    /// begins there.
    ///
    /// # Errors
    /// An I/O error; the log goes on with its old recovery point (a failed sync takes it offline).
    pub fn checkpoint(&self) -> Result<()> {
        self.judge(self.checkpoint_as(false))
    }

    fn checkpoint_as(&self, clean: bool) -> Result<()> {
        let mut current = self.checkpoint.lock();
        if !clean {
            // The folder may have been given up while this waited for the lock.
            self.check_open()?;
        }
        let work = self.checkpoint_work();
        let written = self.write_checkpoint_files(&work, &mut current, clean);
        if written.is_err() {
            // The next checkpoint must not pass over what this one did not write.
            let mut writer = self.writer.lock();
            writer.epochs_changed |= work.epochs.is_some();
            writer.unstored.splice(..0, work.sealed);
        }
        written
    }

    fn checkpoint_work(&self) -> CheckpointWork {
        let mut writer = self.writer.lock();
        writer.checkpoint_queued = false;
        writer.bytes_since_checkpoint = 0;
        // Behind it there may be more entries by the time they are written.
        let snapshot = snapshot_of(&writer.producers, &self.segments.load());
        let epochs = std::mem::take(&mut writer.epochs_changed).then(|| writer.epochs.clone());
        CheckpointWork {
            end: self.marks.lock().end,
            active: writer.active.clone(),
            sealed: std::mem::take(&mut writer.unstored),
            snapshot,
            epochs,
        }
    }

    fn write_checkpoint_files(
        &self,
        work: &CheckpointWork,
        current: &mut Checkpoint,
        clean: bool,
    ) -> Result<()> {
        self.flush()?;
        if let Some(epochs) = &work.epochs {
            epochs.store(&*self.env.disk, &self.dir)?;
        }
        for segment in &work.sealed {
            segment.store_index()?;
            segment.store_aborted()?;
            segment.release_index();
        }
        work.active.store_index()?;
        work.active.store_aborted()?;
        let end = work.end;
        let snapshot = work.snapshot.as_ref().map(|_| end.offset);
        if let Some(snapshot) = &work.snapshot {
            // Syncs the folder too: no snapshot vouches for an index that a power loss can take.
            let path = self.snapshot_path(end.offset);
            replace_file_named(&*self.env.disk, &path, &snapshot.encode())?;
        }
        let old_snapshot = current.snapshot;
        let next = Checkpoint {
            recovery_point: end.offset,
            segment: end.segment,
            position: end.position,
            log_start: self.log_start_offset(),
            snapshot,
            clean,
            ..*current
        };
        self.write_checkpoint(current, next)?;
        if let Some(old) = old_snapshot.filter(|old| Some(*old) != snapshot) {
            // A leftover is removed at the next open.
            let _ = self.env.disk.remove_file(&self.snapshot_path(old));
        }
        Ok(())
    }

    /// Replaces the checkpoint on disk, then in memory.
    pub(super) fn write_checkpoint(
        &self,
        current: &mut Checkpoint,
        next: Checkpoint,
    ) -> Result<()> {
        if *current != next {
            checkpoint::write(&*self.env.disk, &self.dir, &next)?;
            *current = next;
        }
        Ok(())
    }

    pub(super) fn snapshot_path(&self, offset: i64) -> std::path::PathBuf {
        self.dir.join(format!("{offset:020}.snapshot"))
    }

    /// Ends the log in order: flushes, trims the active segment, writes indexes and the clean
    /// marker, and releases the folder. Later calls are harmless; other operations then answer
    /// [`crate::StorageError::Closed`].
    ///
    /// # Errors
    /// An I/O error; the folder is released all the same, and recovery does the rest.
    pub fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // A compaction run sees that the log is closed, and ends.
        let _compacting = self.compacting.lock();
        let result = match self.offline.get() {
            Some(_) => Ok(()),
            None => self.close_in_order(),
        };
        self.waiters.wake_all();
        *self.lock.lock() = None;
        result
    }

    fn close_in_order(&self) -> Result<()> {
        {
            // An append that is under way ends before this lock is ours; later ones see `closed`.
            let mut writer = self.writer.lock();
            let active = writer.active.clone();
            if writer.written_ahead > active.size() {
                let file = active.file()?;
                file.set_len(active.size()).context("trim", active.path())?;
                writer.written_ahead = 0;
                // The new length is part of what the clean marker vouches for.
                writer.unsynced.push(active);
            }
        }
        self.checkpoint_as(true)
    }
}

/// What the next open needs to know; `None` when there is nothing to tell.
pub(super) fn snapshot_of(
    producers: &ProducerStates,
    segments: &[Arc<Segment>],
) -> Option<Snapshot> {
    let aborted: BTreeMap<i64, AbortedFacts> = segments
        .iter()
        .map(|segment| (segment.base_offset(), segment.aborted_facts()))
        .filter(|(_, facts)| facts.entries > 0)
        .collect();
    (!producers.is_empty() || !aborted.is_empty()).then(|| Snapshot {
        states: producers.clone(),
        aborted,
    })
}

impl Flushable for LogCore {
    fn work(&self, work: Work) -> Option<Work> {
        if self.check_open().is_err() {
            return None;
        }
        let (result, next) = match work {
            Work::Flush => {
                // By a swap, which sees the append of whoever found the flag still set.
                self.timer_queued.swap(false, Ordering::AcqRel);
                if !self.flush_queue.begin() {
                    return None;
                }
                let result = self.flush();
                (result, self.flush_queue.end().then_some(Work::Flush))
            }
            Work::Checkpoint => (self.checkpoint(), None),
        };
        if let Err(error) = result {
            tracing::warn!(dir = %self.dir.display(), %error, ?work, "background work on a log failed");
        }
        next
    }
}

/// Whether a background flush of the log is queued or under way, so that it is queued at most once and
/// no second thread ever waits for the first.
#[derive(Debug, Default)]
pub(super) struct FlushQueue(Mutex<Flushing>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Flushing {
    #[default]
    Idle,
    /// In the queue: it covers everything appended before it begins.
    Queued,
    /// A thread is at it: what is appended now it may not cover.
    Running,
    /// A thread is at it, and asked to queue the log again when it is done.
    RunningAndWanted,
}

impl FlushQueue {
    /// Asks for a flush of everything appended so far; true when the caller has to queue it.
    fn request(&self) -> bool {
        let mut state = self.0.lock();
        let was = *state;
        *state = match was {
            Flushing::Idle | Flushing::Queued => Flushing::Queued,
            Flushing::Running | Flushing::RunningAndWanted => Flushing::RunningAndWanted,
        };
        was == Flushing::Idle
    }

    /// A thread is about to flush; false when another is at it, which will then see to it.
    fn begin(&self) -> bool {
        let mut state = self.0.lock();
        let running = matches!(*state, Flushing::Running | Flushing::RunningAndWanted);
        *state = if running {
            Flushing::RunningAndWanted
        } else {
            Flushing::Running
        };
        !running
    }

    /// The thread is done; true when the log has to be queued again.
    fn end(&self) -> bool {
        let mut state = self.0.lock();
        let wanted = *state == Flushing::RunningAndWanted;
        *state = if wanted {
            Flushing::Queued
        } else {
            Flushing::Idle
        };
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::FlushQueue;

    #[test]
    fn a_flush_is_queued_once_and_again_for_what_came_while_it_ran() {
        let queue = FlushQueue::default();
        assert!(queue.request());
        assert!(!queue.request(), "the queued flush covers it");
        assert!(queue.begin());
        assert!(!queue.request(), "no second thread");
        assert!(!queue.begin(), "a due timer finds the flush under way");
        assert!(queue.end(), "what came meanwhile needs another flush");
        assert!(!queue.request(), "which is queued");
        assert!(queue.begin());
        assert!(!queue.end());
        assert!(queue.request());
    }
}
