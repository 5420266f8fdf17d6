//! Compaction beside everything else that happens to a log.
//!
//! One run at a time. It reads and writes without any lock; the list of segments is replaced under the
//! writer's, for as long as that takes in memory. The steps on the disk happen under the checkpoint's lock,
//! which truncation, retention and delete-records hold too: a group is replaced only if all of its
//! segments are still there and nothing was cut since the run began. Only segments before the recovery
//! point's are touched, so recovery never reads what is being replaced.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::LogCore;
use super::read::containing;
use crate::checkpoint::Checkpoint;
use crate::compaction::swap::{self, Swap};
use crate::compaction::{
    Bounds, Cleanable, CompactionEnd, CompactionMeter, CompactionOptions, CompactionReport,
    Discard, GroupLimits, Input, LastOfProducer, OffsetMap, Pass, Rules, SegmentView, Transactions,
    Written, cleanable, overdue,
};
use crate::config::LogConfig;
use crate::error::{Result, StorageError};
use crate::index::AbortedTransaction;
use crate::segment::{NO_TIMESTAMP, Segment};

/// A waiting run looks this often whether it shall end.
const PAUSE: Duration = Duration::from_millis(20);

/// What a run was decided to be.
struct Run<'a> {
    config: Arc<LogConfig>,
    options: &'a CompactionOptions,
    range: Cleanable,
    now_ms: i64,
    /// Number of truncations when it began.
    cuts: u64,
}

/// Why a run ended early.
enum Stop {
    /// It was asked to, or lost a race.
    Interrupted,
    Failed(StorageError),
}

impl From<StorageError> for Stop {
    fn from(error: StorageError) -> Self {
        Self::Failed(error)
    }
}

impl LogCore {
    /// What a run of [`Self::compact`] would find to do.
    ///
    /// # Errors
    /// An I/O error while timestamps are looked up.
    pub fn cleanable(&self, now_ms: i64) -> Result<Cleanable> {
        let config = self.config.load();
        let segments = self.segments.load();
        let views: Vec<_> = segments
            .iter()
            .map(|segment| SegmentView {
                base_offset: segment.base_offset(),
                size_bytes: segment.size(),
            })
            .collect();
        let bounds = Bounds {
            log_start: self.log_start_offset(),
            compacted_before: self.compacted_before.load(Ordering::Acquire),
            last_stable: self.last_stable_offset(),
            now_ms,
            min_lag_ms: config.min_compaction_lag_ms,
        };
        let mut found = cleanable(&views, bounds, |at| {
            let youngest = segments[at].max_timestamp()?.timestamp_ms;
            Ok::<_, StorageError>((youngest > NO_TIMESTAMP).then_some(youngest))
        })?;
        if config.max_compaction_lag_ms < i64::MAX {
            let dirty = segments.iter().zip(segments.iter().skip(1));
            let first_ms = dirty
                .filter(|(segment, next)| {
                    next.base_offset() > found.first_dirty && segment.base_offset() < found.end
                })
                .map(|(segment, _)| segment.first_timestamp())
                .filter_map(Result::transpose)
                .collect::<Result<Vec<_>>>()?;
            found.overdue_ms = overdue(first_ms, now_ms, config.max_compaction_lag_ms);
        }
        Ok(found)
    }

    /// Records before this offset were compacted by an earlier run.
    pub fn compacted_before(&self) -> i64 {
        self.compacted_before.load(Ordering::Acquire)
    }

    /// Compacts what can be compacted now, whatever the share of dirty bytes is. Call it from a
    /// background thread: it reads the whole log before the active segment. Appends, fetches and trims go
    /// on meanwhile.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when something cannot be read: nothing of that group of segments is
    /// changed, and another run will meet it again. [`StorageError::InvalidConfig`] when the map is too
    /// small for the keys of one batch. An I/O error.
    pub fn compact(
        &self,
        now_ms: i64,
        options: &CompactionOptions,
        meter: &dyn CompactionMeter,
    ) -> Result<CompactionReport> {
        let Some(_only_one) = self.compacting.try_lock() else {
            return Ok(CompactionReport::default());
        };
        self.check_open()?;
        let mut report = CompactionReport {
            compacted_before: self.compacted_before(),
            ..CompactionReport::default()
        };
        let Some((run, inputs)) = self.prepare(now_ms, options)? else {
            return Ok(report);
        };
        match self.run(&run, inputs, meter, &mut report) {
            Ok(()) => Ok(report),
            Err(Stop::Interrupted) => {
                report.end = CompactionEnd::Interrupted;
                Ok(report)
            }
            Err(Stop::Failed(error)) => self.judge(Err(error)),
        }
    }

    /// Decides on a run, over these segments; `None` when there is nothing to do.
    fn prepare<'a>(
        &self,
        now_ms: i64,
        options: &'a CompactionOptions,
    ) -> Result<Option<(Run<'a>, Vec<Input>)>> {
        let cuts = self.marks.lock().cuts;
        let config = self.config.load_full();
        let range = self.cleanable(now_ms)?;
        if range.dirty_bytes == 0 {
            return Ok(None);
        }
        if self.checkpoint.lock().segment < range.end {
            // The recovery point must leave the segments before they are replaced.
            self.checkpoint()?;
        }
        let segments = self.segments.load();
        let inputs = segments
            .iter()
            .zip(segments.iter().skip(1))
            .filter(|(segment, _)| segment.base_offset() < range.end)
            .map(|(segment, next)| Input {
                segment: segment.clone(),
                end: next.base_offset(),
            })
            .collect();
        let run = Run {
            config,
            options,
            range,
            now_ms,
            cuts,
        };
        Ok(Some((run, inputs)))
    }

    fn run(
        &self,
        run: &Run<'_>,
        inputs: Vec<Input>,
        meter: &dyn CompactionMeter,
        report: &mut CompactionReport,
    ) -> Result<(), Stop> {
        let stopped = Cell::new(false);
        let go_on = |bytes| self.go_on(meter, bytes, &stopped);
        let pass = Pass {
            disk: &self.env.disk,
            dir: &self.dir,
            index_interval_bytes: run.config.index_interval_bytes,
            go_on: &go_on,
            reads_ahead: Cell::new(false),
        };
        let done = self.run_pass(run, inputs, &pass, report);
        match done {
            Err(Stop::Failed(_)) if stopped.get() => Err(Stop::Interrupted),
            done => done,
        }
    }

    fn run_pass(
        &self,
        run: &Run<'_>,
        mut inputs: Vec<Input>,
        pass: &Pass<'_>,
        report: &mut CompactionReport,
    ) -> Result<(), Stop> {
        let filled = self.fill_map(run, &inputs, pass, report);
        let (map, mapped_end) = filled.map_err(|error| self.blame(run, &inputs, error))?;
        let producers = self.last_of_producers();
        let rules = Rules {
            map: &map,
            mapped: run.range.first_dirty..mapped_end,
            end: run.range.end,
            now_ms: run.now_ms,
            delete_retention_ms: run.config.delete_retention_ms,
            producers: &producers,
        };
        let reached = inputs.partition_point(|input| input.segment.base_offset() < mapped_end);
        inputs.truncate(reached);
        let limits = GroupLimits {
            max_bytes: run.config.segment_bytes,
            max_index_bytes: u64::from(run.config.max_index_bytes),
        };
        let aborted = self.aborted_transactions(0, run.range.end)?;
        let mut transactions = Transactions::new(aborted);
        let mut discard = Discard::default();
        let mut old = Vec::new();
        while let Some(first) = inputs.first() {
            // Now, not all at once at the end: the space comes back, and nobody waits for a disk that is
            // busy with that.
            discard.free(std::mem::take(&mut old), pass.go_on)?;
            // Retention may have taken the oldest ones meanwhile.
            let count = if self.has(first) {
                self.replace_group(
                    run,
                    pass,
                    &rules,
                    &inputs,
                    limits,
                    &mut transactions,
                    report,
                )?
            } else {
                1
            };
            old.extend(inputs.drain(..count).map(|input| input.segment));
        }
        self.note_compacted(run, mapped_end)?;
        report.compacted_before = mapped_end;
        report.end = if mapped_end < run.range.end {
            CompactionEnd::MapFull
        } else {
            CompactionEnd::Complete
        };
        // Nothing is left to do that could be interrupted.
        let _ = discard.free(old, pass.go_on);
        Ok(())
    }

    fn fill_map(
        &self,
        run: &Run<'_>,
        inputs: &[Input],
        pass: &Pass<'_>,
        report: &mut CompactionReport,
    ) -> Result<(OffsetMap, i64)> {
        let (range, options) = (run.range, run.options);
        // A batch has at most one key for each offset.
        let most_keys = range.end.saturating_sub(range.first_dirty).max(0);
        let mut map = OffsetMap::new(
            options.map_bytes,
            options.map_load_factor,
            most_keys.cast_unsigned(),
            options.hash_key,
        );
        let aborted = self.aborted_transactions(range.first_dirty, range.end)?;
        let transactions = Transactions::new(aborted);
        let mapped_end = pass.fill(&mut map, inputs, range.first_dirty, transactions, report)?;
        if mapped_end <= range.first_dirty {
            return Err(StorageError::InvalidConfig {
                name: "log.cleaner.dedupe.buffer.size",
                reason: format!(
                    "{} bytes do not hold the keys of the batch at offset {}",
                    options.map_bytes, range.first_dirty
                ),
            });
        }
        Ok((map, mapped_end))
    }

    /// Rewrites the first of `inputs`, perhaps with neighbours, and puts what they became in their place;
    /// returns how many they were.
    #[allow(clippy::too_many_arguments)]
    fn replace_group(
        &self,
        run: &Run<'_>,
        pass: &Pass<'_>,
        rules: &Rules<'_>,
        inputs: &[Input],
        limits: GroupLimits,
        transactions: &mut Transactions,
        report: &mut CompactionReport,
    ) -> Result<usize, Stop> {
        let base = inputs[0].segment.base_offset();
        let remove_unfinished = || {
            // Space comes back at once; otherwise the next open would see to it.
            let _ = self.env.disk.remove_file(&pass.cleaned_path(base));
        };
        let rewritten = pass.rewrite(inputs, limits, rules, transactions, report);
        let rewritten = rewritten.map_err(|error| {
            remove_unfinished();
            self.blame(run, inputs, error)
        })?;
        let group = &inputs[..rewritten.count];
        let aborted = transactions.take_ended();
        let before: u64 = group.iter().map(|input| input.segment.size()).sum();
        let mut after = before;
        if let Some(written) = rewritten.written {
            after = written.size;
            if !self.swap_in(run, group, written, &aborted)? {
                remove_unfinished();
                return Err(Stop::Interrupted);
            }
        }
        report.segments_before += group.len();
        report.segments_after += 1;
        report.bytes_before += before;
        report.bytes_after += after;
        Ok(group.len())
    }

    /// The steps of [`swap`], with what readers see changed between the second and the third; false when
    /// the segments are no longer what was rewritten.
    fn swap_in(
        &self,
        run: &Run<'_>,
        old: &[Input],
        written: Written,
        aborted: &[AbortedTransaction],
    ) -> Result<bool> {
        let mut checkpoint = self.checkpoint.lock();
        self.check_open()?;
        let swap = Swap {
            base: old[0].segment.base_offset(),
            end: old[old.len() - 1].end,
        };
        if checkpoint.segment < swap.end || !self.is_undisturbed(run, old) {
            return Ok(false);
        }
        if checkpoint.holes_before < run.range.end {
            // Before there is one, or a log whose policy is changed later would take it for damage.
            let next = Checkpoint {
                holes_before: run.range.end,
                clean: false,
                ..*checkpoint
            };
            self.write_checkpoint(&mut checkpoint, next)?;
            self.holes_before.fetch_max(run.range.end, Ordering::AcqRel);
        }
        // Readers may hold the old segments for as long as they like, but not find them by name.
        for input in old {
            input.segment.hold()?;
        }
        swap::commit(&*self.env.disk, &self.dir, swap)?;
        let path = old[0].segment.path().to_path_buf();
        let new = Arc::new(Segment::replacing(
            &self.env.disk,
            path,
            written.index,
            written.file,
            written.size,
            run.config.index_interval_bytes,
        ));
        new.set_aborted(aborted);
        self.publish_in_place(old, new.clone());
        old.iter().for_each(|input| input.segment.give_up_names());
        let bases: Vec<_> = old.iter().map(|i| i.segment.base_offset()).collect();
        if let Err(error) = swap::finish(&*self.env.disk, &self.dir, swap, &bases) {
            // The next open finishes it. Until then names and segments do not agree.
            self.go_offline(&error);
            return Err(error);
        }
        match new.store_index().and_then(|()| new.store_aborted()) {
            Ok(()) => new.release_index(),
            Err(error) => tracing::warn!(%error, "a compacted segment's indexes stay in memory"),
        }
        Ok(true)
    }

    fn publish_in_place(&self, old: &[Input], new: Arc<Segment>) {
        // A roll meanwhile would be lost from the list.
        let _writer = self.writer.lock();
        let segments = self.segments.load();
        let at = containing(&segments, new.base_offset());
        let mut next = segments.as_ref().clone();
        next.splice(at..at + old.len(), [new]);
        self.segments.store(Arc::new(next));
    }

    /// Whether nothing was cut since the run began, and segments of it are in the log.
    fn is_undisturbed(&self, run: &Run<'_>, inputs: &[Input]) -> bool {
        self.marks.lock().cuts == run.cuts && inputs.iter().all(|input| self.has(input))
    }

    fn has(&self, input: &Input) -> bool {
        let segments = self.segments.load();
        let at = containing(&segments, input.segment.base_offset());
        segments
            .get(at)
            .is_some_and(|segment| Arc::ptr_eq(segment, &input.segment))
    }

    /// Segments that were cut or removed under the run cannot be read; that is no damage.
    fn blame(&self, run: &Run<'_>, inputs: &[Input], error: StorageError) -> Stop {
        if self.check_open().is_ok() && !self.is_undisturbed(run, inputs) {
            Stop::Interrupted
        } else {
            Stop::Failed(error)
        }
    }

    /// Notes how far the log is compacted, in memory and in the checkpoint.
    fn note_compacted(&self, run: &Run<'_>, before: i64) -> Result<(), Stop> {
        let mut checkpoint = self.checkpoint.lock();
        self.check_open()?;
        if self.marks.lock().cuts != run.cuts {
            return Err(Stop::Interrupted);
        }
        let next = Checkpoint {
            compacted_before: before,
            clean: false,
            ..*checkpoint
        };
        self.write_checkpoint(&mut checkpoint, next)?;
        self.compacted_before.store(before, Ordering::Release);
        Ok(())
    }

    fn go_on(&self, meter: &dyn CompactionMeter, bytes: u64, stopped: &Cell<bool>) -> Result<bool> {
        let mut wait = if bytes > 0 {
            meter.spent(bytes)
        } else {
            Duration::ZERO
        };
        loop {
            self.check_open()?;
            if meter.is_stopped() {
                stopped.set(true);
                return Err(StorageError::Closed {
                    dir: self.dir.clone(),
                });
            }
            if wait.is_zero() {
                return Ok(meter.reads_ahead());
            }
            std::thread::sleep(wait.min(PAUSE));
            // The pace may be another one by now.
            wait = meter.spent(0);
        }
    }

    /// What must stay of each producer so that it can go on after its state is rebuilt from the log.
    fn last_of_producers(&self) -> HashMap<i64, LastOfProducer> {
        self.writer.lock().producers.last_of_each()
    }
}
