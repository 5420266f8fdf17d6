//! Opening a folder: create, or recover and report.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::acknowledge::{FlushGroup, Waiters};
use super::report::{Cut, RecoveryReport, log_report};
use super::restore::place;
use super::sync::{FlushQueue, snapshot_of};
use super::transactions::mark_of;
use super::{Log, LogCore, LogEnv, Mark, Marks, Writer, lock_dir};
use crate::checkpoint::{self, Checkpoint, Found};
use crate::compaction::swap;
use crate::config::{Format, LogConfig};
use crate::disk::{Disk, OpenMode, replace_file_named};
use crate::error::{IoContext, Result, StorageError};
use crate::leader_epoch::LeaderEpochs;
use crate::recovery::{self, FoundSegment, Plan, Scanned};
use crate::replay::Replay;
use crate::segment::{
    IndexBuilder, Segment, detect_segment_format, log_file_name, remove_segment_files,
};

/// The pieces of a log after recovery.
struct Recovered {
    segments: Vec<Arc<Segment>>,
    first_open: Option<Mark>,
    writer: Writer,
    end: Mark,
    checkpoint: Checkpoint,
    report: RecoveryReport,
}

impl Log {
    /// As [`Log::open`], on a given file system, flusher and clock, with a report.
    ///
    /// # Errors
    /// As [`crate::Log::open`].
    pub fn open_with(
        env: &LogEnv,
        dir: impl AsRef<Path>,
        config: LogConfig,
    ) -> Result<(Arc<Self>, RecoveryReport)> {
        config.validate()?;
        let dir = dir.as_ref();
        let disk = &env.disk;
        disk.create_dir_all(dir).context("create", dir)?;
        let lock = if env.take_lock {
            Some(lock_dir(&**disk, dir)?)
        } else {
            None
        };
        let recovered = Recovery {
            disk,
            dir,
            config: &config,
        }
        .run()?;
        let report = recovered.report.clone();
        let core = Arc::new_cyclic(|this| LogCore {
            dir: dir.to_path_buf(),
            env: env.clone(),
            config: ArcSwap::from_pointee(config),
            segments: ArcSwap::from_pointee(recovered.segments),
            writer: Mutex::new(recovered.writer),
            marks: Mutex::new(Marks {
                end: recovered.end,
                durable: recovered.end,
                cuts: 0,
                last_cut: 0,
                first_open: recovered.first_open,
                undecided: BTreeMap::new(),
            }),
            log_start: AtomicI64::new(recovered.checkpoint.log_start),
            holes_before: AtomicI64::new(recovered.checkpoint.holes_before),
            compacted_before: AtomicI64::new(recovered.checkpoint.compacted_before),
            appended_bytes: AtomicU64::new(0),
            compacting: Mutex::new(()),
            waiters: Waiters::default(),
            flushing: Mutex::new(()),
            group: FlushGroup::default(),
            flush_queue: FlushQueue::default(),
            timer_queued: AtomicBool::new(false),
            checkpoint: Mutex::new(recovered.checkpoint),
            offline: OnceLock::new(),
            closed: AtomicBool::new(false),
            saves_space: AtomicBool::new(false),
            listener: OnceLock::new(),
            lock: Mutex::new(lock),
            this: this.clone(),
        });
        Ok((Arc::new(Self { core }), report))
    }
}

const NO_SUCCESSOR: &str = "the next segment does not begin where this one ends";

/// One recovery of one folder.
pub(super) struct Recovery<'a> {
    pub(super) disk: &'a Arc<dyn Disk>,
    pub(super) dir: &'a Path,
    pub(super) config: &'a LogConfig,
}

impl Recovery<'_> {
    fn run(&self) -> Result<Recovered> {
        let found = checkpoint::read(&**self.disk, self.dir)?;
        let mut files = self.disk.list(self.dir).context("list", self.dir)?;
        if swap::finish_pending(&**self.disk, self.dir, &files)? {
            files = self.disk.list(self.dir).context("list", self.dir)?;
        }
        let plan = recovery::plan(&files, found).map_err(|refusal| StorageError::Damaged {
            path: self.dir.join(refusal.file),
            position: refusal.position,
            reason: refusal.reason,
        })?;
        self.clean_up(&plan)?;
        if plan.segments.is_empty() {
            return self.create(plan);
        }
        let recovered = self.recover(&plan, found)?;
        log_report(self.dir, &recovered.report);
        Ok(recovered)
    }

    fn clean_up(&self, plan: &Plan) -> Result<()> {
        for name in &plan.leftovers {
            let path = self.dir.join(name);
            self.disk.remove_file(&path).context("remove", &path)?;
        }
        for segment in &plan.expired {
            remove_segment_files(&**self.disk, &self.path_of(segment))?;
        }
        Ok(())
    }

    fn path_of(&self, segment: &FoundSegment) -> PathBuf {
        self.dir.join(log_file_name(segment.base_offset))
    }

    /// A new log: its first segment and checkpoint are durable before it takes appends.
    fn create(&self, plan: Plan) -> Result<Recovered> {
        let interval = self.config.index_interval_bytes;
        let active = Arc::new(Segment::create(
            self.disk,
            self.dir,
            0,
            self.config.format,
            interval,
        )?);
        active.allow_holes(self.config.cleanup.compact);
        // The segment's name first: a checkpoint without its segment would be taken for damage.
        self.disk.sync_dir(self.dir).context("sync", self.dir)?;
        let checkpoint = Checkpoint::default();
        checkpoint::write(&**self.disk, self.dir, &checkpoint)?;
        let report = RecoveryReport {
            clean: true,
            leftovers: plan.leftovers,
            ..RecoveryReport::default()
        };
        let index = IndexBuilder::new(0, interval);
        let writer = self.writer(active.clone(), index, 0, 0, Replay::default());
        let end = Mark {
            offset: 0,
            segment: 0,
            position: 0,
        };
        Ok(Recovered {
            segments: vec![active],
            first_open: None,
            writer,
            end,
            checkpoint,
            report,
        })
    }

    fn recover(&self, plan: &Plan, found: Found) -> Result<Recovered> {
        let stored = match found {
            Found::Whole(checkpoint) => Some(checkpoint),
            Found::Missing | Found::Unreadable => None,
        };
        let holes_before = stored.map_or(0, |checkpoint| checkpoint.holes_before);
        let mut segments = self.open_segments(plan, holes_before)?;
        let mut replay = Replay {
            epochs: LeaderEpochs::load(&**self.disk, self.dir)?,
            ..Replay::default()
        };
        let log_start = stored.map_or(segments[0].base_offset(), |checkpoint| checkpoint.log_start);
        let log_start = log_start.max(segments[0].base_offset());
        let first = segments[plan.scan_from].clone();
        // At a segment's start the offset is its base, whatever else was written down.
        let start_offset = match stored {
            Some(checkpoint) if plan.scan_position > 0 => checkpoint.recovery_point,
            _ => first.base_offset(),
        };
        replay.epochs.truncate_from_end(start_offset);
        replay.producers =
            self.producers_at(&segments, plan.scan_from, plan.scan_position, stored)?;
        let mut report = RecoveryReport {
            recovery_point: start_offset,
            leftovers: plan.leftovers.clone(),
            checkpoint_lost: stored.is_none(),
            ..RecoveryReport::default()
        };
        let index = self.index_up_to(&first, plan.scan_position, start_offset)?;
        let mut position = plan.scan_position;
        let mut next_offset = start_offset;
        let mut index = Some(index);
        let mut active = plan.scan_from;
        let scanned = loop {
            let segment = segments[active].clone();
            let builder = match index.take() {
                Some(index) => index,
                None => IndexBuilder::new(segment.base_offset(), self.config.index_interval_bytes),
            };
            let contiguous = !self.may_have_holes(segment.base_offset(), holes_before);
            let scanned = recovery::scan(
                &segment,
                contiguous,
                position,
                next_offset,
                builder,
                &mut replay,
            )?;
            report.scanned_bytes += scanned.position - position;
            let last = active + 1 == segments.len();
            let hole = segments.get(active + 1).is_some_and(|next| {
                let (base, expected) = (next.base_offset(), scanned.next_offset);
                base < expected || (contiguous && base != expected)
            });
            if last || hole || scanned.damage.is_some() {
                if stored.is_none() && !last {
                    let reason = scanned.damage.unwrap_or_else(|| NO_SUCCESSOR.to_owned());
                    return Err(segment.damaged(scanned.position, reason));
                }
                break scanned;
            }
            self.finish_sealed(&segment, scanned)?;
            active += 1;
            position = 0;
            next_offset = segments[active].base_offset();
        };
        let dropped = segments.split_off(active + 1);
        self.cut(&segments[active], &scanned, &dropped, &mut report)?;
        let end = Mark {
            offset: scanned.next_offset,
            segment: segments[active].base_offset(),
            position: scanned.position,
        };
        let unchanged =
            report.scanned_bytes == 0 && report.cut.is_none() && report.leftovers.is_empty();
        report.clean = unchanged && stored.is_some_and(|checkpoint| checkpoint.clean);
        segments[active].remove_stale_index()?;
        let checkpoint = self.settle(&segments, end, log_start, stored, unchanged, &replay)?;
        let mut writer = self.writer(
            segments[active].clone(),
            scanned.index,
            end.offset,
            end.position,
            replay,
        );
        // With the index that the active segment has by now.
        place(&segments, &mut writer.producers);
        let first_open = writer.producers.first_open().map(mark_of);
        Ok(Recovered {
            segments,
            first_open,
            writer,
            end,
            checkpoint,
            report,
        })
    }

    fn may_have_holes(&self, base_offset: i64, holes_before: i64) -> bool {
        self.config.cleanup.compact || base_offset < holes_before
    }

    fn open_segments(&self, plan: &Plan, holes_before: i64) -> Result<Vec<Arc<Segment>>> {
        plan.segments
            .iter()
            .map(|found| {
                let path = self.path_of(found);
                let format = self.format_of(&path, found.base_offset)?;
                let interval = self.config.index_interval_bytes;
                let segment = Segment::existing(
                    self.disk,
                    path,
                    found.base_offset,
                    format,
                    found.len,
                    interval,
                );
                segment.allow_holes(self.may_have_holes(found.base_offset, holes_before));
                if found.has_aborted {
                    segment.suspect_aborted_file();
                }
                Ok(Arc::new(segment))
            })
            .collect()
    }

    fn format_of(&self, path: &Path, base_offset: i64) -> Result<Format> {
        let file = self.disk.open(path, OpenMode::Read).context("open", path)?;
        detect_segment_format(&*file, base_offset, self.config.format).context("read", path)
    }

    fn finish_sealed(&self, segment: &Segment, scanned: Scanned) -> Result<()> {
        let file = segment.file()?;
        file.set_len(scanned.position)
            .context("trim", segment.path())?;
        file.sync_data().context("sync", segment.path())?;
        segment.publish(scanned.position);
        segment.reopen_for_append(scanned.index.finish());
        segment.seal()?;
        match segment.store_index() {
            // An index saves reads a scan, no more.
            Err(error) if error.is_disk_full() => Ok(()),
            stored => stored,
        }
    }

    /// Cuts the segment where whole frames end, and removes later segments.
    fn cut(
        &self,
        segment: &Segment,
        scanned: &Scanned,
        dropped: &[Arc<Segment>],
        report: &mut RecoveryReport,
    ) -> Result<()> {
        let file = segment.file()?;
        let len = file.len().context("measure", segment.path())?;
        let torn = if scanned.damage.is_some() {
            len - scanned.position
        } else {
            0
        };
        let later: u64 = dropped.iter().map(|segment| segment.size()).sum();
        for segment in dropped.iter().rev() {
            segment.remove()?;
        }
        if len != scanned.position {
            file.set_len(scanned.position)
                .context("cut", segment.path())?;
        }
        segment.publish(scanned.position);
        if torn + later > 0 || !dropped.is_empty() {
            report.cut = Some(Cut {
                path: segment.path().to_path_buf(),
                position: scanned.position,
                next_offset: scanned.next_offset,
                bytes: torn + later,
                reason: scanned
                    .damage
                    .clone()
                    .unwrap_or_else(|| NO_SUCCESSOR.to_owned()),
            });
        }
        Ok(())
    }

    /// Makes what was found durable, so that it can be acknowledged and served.
    fn settle(
        &self,
        segments: &[Arc<Segment>],
        end: Mark,
        log_start: i64,
        stored: Option<Checkpoint>,
        unchanged: bool,
        replay: &Replay,
    ) -> Result<Checkpoint> {
        match (
            self.write_down(segments, end, log_start, stored, unchanged, replay),
            stored,
        ) {
            // A disk without room for a new checkpoint and what belongs to it: the old one says less, but
            // what it says holds.
            (Err(error), Some(stored)) if error.is_disk_full() => {
                tracing::warn!(dir = %self.dir.display(), %error, "opened with the old checkpoint: the disk is full");
                self.sync(segments)?;
                Ok(Checkpoint {
                    log_start,
                    clean: false,
                    ..stored
                })
            }
            (written, _) => written,
        }
    }

    /// Sealed segments were synced when they were scanned.
    fn sync(&self, segments: &[Arc<Segment>]) -> Result<()> {
        if let Some(active) = segments.last() {
            active.file()?.sync_data().context("sync", active.path())?;
        }
        self.disk.sync_dir(self.dir).context("sync", self.dir)
    }

    fn write_down(
        &self,
        segments: &[Arc<Segment>],
        end: Mark,
        log_start: i64,
        stored: Option<Checkpoint>,
        unchanged: bool,
        replay: &Replay,
    ) -> Result<Checkpoint> {
        for segment in segments {
            segment.store_aborted()?;
        }
        if let Some(stored) = stored
            && unchanged
            && (stored.segment, stored.position) == (end.segment, end.position)
        {
            if !stored.clean {
                // A killed process may have left names, the active segment's among them, that no
                // sync covers yet: later flushes of the file alone would not.
                self.disk.sync_dir(self.dir).context("sync", self.dir)?;
            }
            return Ok(Checkpoint {
                log_start,
                ..stored
            });
        }
        self.sync(segments)?;
        replay.epochs.store(&**self.disk, self.dir)?;
        let found = snapshot_of(&replay.producers, segments);
        let snapshot = found.as_ref().map(|_| end.offset);
        if let Some(found) = found {
            let path = self.dir.join(format!("{:020}.snapshot", end.offset));
            replace_file_named(&**self.disk, &path, &found.encode())?;
        }
        let checkpoint = Checkpoint {
            recovery_point: end.offset,
            segment: end.segment,
            position: end.position,
            log_start: log_start.min(end.offset),
            snapshot,
            clean: false,
            holes_before: stored
                .map_or(0, |stored| stored.holes_before)
                .min(end.offset),
            compacted_before: stored
                .map_or(0, |stored| stored.compacted_before)
                .min(end.offset),
        };
        checkpoint::write(&**self.disk, self.dir, &checkpoint)?;
        Ok(checkpoint)
    }

    fn writer(
        &self,
        active: Arc<Segment>,
        index: IndexBuilder,
        next_offset: i64,
        size: u64,
        replay: Replay,
    ) -> Writer {
        let (index, pace) = index.into_parts();
        active.reopen_for_append(index);
        if let Ok(Some(first_ms)) = active.first_timestamp() {
            active.note_first_append(first_ms);
        }
        Writer {
            active,
            next_offset,
            producers: replay.producers,
            epochs: replay.epochs,
            pace,
            written_ahead: size,
            unsynced: Vec::new(),
            unstored: Vec::new(),
            dir_changed: false,
            bytes_since_checkpoint: 0,
            checkpoint_queued: false,
            epochs_changed: false,
        }
    }
}
