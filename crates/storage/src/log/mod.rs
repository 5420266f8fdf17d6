//! A partition's log: its segments as one sequence of offsets.
//!
//! [`Log`] is the type that a program embeds and that the broker drives. What it does lives in the
//! files beside this one: `open` (recovery), `append`, `read`, `sync` (flush, acknowledge,
//! checkpoint, close), `trim` (truncation, retention, delete-records).
//!
//! Invariants:
//! - one writer at a time holds [`Writer`]; readers never take its lock;
//! - `log_start ≤ durable end ≤ log end`; all bytes before the durable end were synced;
//! - the segment list is replaced, never changed, so that readers keep a consistent view;
//! - after the first I/O error that leaves the disk in doubt, the log is offline for good.

mod acknowledge;
mod append;
mod compact;
mod embedded;
mod open;
mod outgoing;
mod read;
mod report;
mod restore;
mod spans;
mod sync;
mod transactions;
mod trim;
mod zeros;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use acknowledge::Acknowledged;
pub use append::{AppendMode, Appended};
pub use embedded::NewRecord;
pub use read::{LogSlice, ReadLimit, Records, SliceBytes, TimestampOffset};
pub use report::{Cut, RecoveryReport};
pub use spans::BatchSpan;
pub use transactions::Committed;
pub use trim::RetentionReport;

use crate::checkpoint::Checkpoint;
use crate::config::{FlushPolicy, LogConfig};
use crate::disk::{DirLock, Disk, RealDisk};
use crate::error::{IoContext, Result, StorageError};
use crate::flush::Flusher;
use crate::leader_epoch::LeaderEpochs;
use crate::producer_state::{ProducerStates, ProducerSummary};
use crate::segment::{IndexPace, Segment};
use acknowledge::{FlushGroup, Waiters};
use sync::FlushQueue;
use transactions::Undecided;

/// Tells the time, in Unix ms.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What logs run on; shared by all logs of a process.
#[derive(Clone)]
pub struct LogEnv {
    /// The file system.
    pub disk: Arc<dyn Disk>,
    /// The flushing threads.
    pub flusher: Arc<Flusher>,
    /// The clock.
    pub clock: Clock,
    /// Whether each log locks its own folder; a broker locks the data directory instead.
    pub take_lock: bool,
}

impl LogEnv {
    /// The real file system and clock, and a pool of at most 16 flushing threads.
    pub fn real() -> Self {
        Self::with_flusher_threads(16)
    }

    /// As [`Self::real`], with another bound on the flushing threads.
    pub fn with_flusher_threads(max_threads: usize) -> Self {
        Self {
            disk: Arc::new(RealDisk),
            flusher: Arc::new(Flusher::new(max_threads)),
            clock: Arc::new(system_time_ms),
            take_lock: true,
        }
    }
}

impl fmt::Debug for LogEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogEnv")
            .field("disk", &self.disk)
            .finish_non_exhaustive()
    }
}

/// The system clock, Unix ms.
fn system_time_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

/// Takes the exclusive right to a folder, by a lock on `.lock` in it.
///
/// # Errors
/// [`StorageError::Locked`] when another process or `Log` has it.
pub fn lock_dir(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DirLock>> {
    let path = dir.join(".lock");
    match disk.try_lock(&path).context("lock", &path)? {
        Some(lock) => Ok(lock),
        None => Err(StorageError::Locked {
            dir: dir.to_path_buf(),
        }),
    }
}

/// What a log tells its listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// Records before this offset are acknowledged and can be read. The last stable offset moves only
    /// when this is told, which it is once more when the log start rises.
    AcknowledgedEnd(i64),
    /// The log went offline; reads of what is acknowledged still work where the disk lets them.
    Offline,
}

/// Hears about a log; must be quick and must not call the log's writing methods.
pub type Listener = Arc<dyn Fn(LogEvent) + Send + Sync>;

/// An offset with its place on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) offset: i64,
    pub(crate) segment: i64,
    pub(crate) position: u64,
}

/// The ends of the log, and what holds the last stable offset back. Guarded by one small lock that no
/// I/O happens under.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(crate) end: Mark,
    pub(crate) durable: Mark,
    /// Number of truncations so far, and where the last one ended the log.
    pub(crate) cuts: u64,
    pub(crate) last_cut: i64,
    /// Where the earliest open transaction begins.
    first_open: Option<Mark>,
    /// Transactions whose end marker is not durable, by first offset.
    undecided: BTreeMap<i64, Undecided>,
}

/// What only the writer touches.
pub(crate) struct Writer {
    active: Arc<Segment>,
    next_offset: i64,
    producers: ProducerStates,
    epochs: LeaderEpochs,
    pace: IndexPace,
    /// End of the zeros written ahead in the active segment's file.
    written_ahead: u64,
    /// Sealed segments and the folder that the next flush must sync.
    unsynced: Vec<Arc<Segment>>,
    /// Sealed segments whose indexes the next checkpoint writes.
    unstored: Vec<Arc<Segment>>,
    dir_changed: bool,
    bytes_since_checkpoint: u64,
    checkpoint_queued: bool,
    epochs_changed: bool,
}

/// An append-only sequence of records with consecutive offsets, in a folder.
///
/// See the [crate's front page](crate) for an example. What it can do is on [`LogCore`], which this
/// handle dereferences to. Dropping the handle without [`LogCore::close`] leaves the folder as a
/// crash would, and frees it.
pub struct Log {
    core: Arc<LogCore>,
}

impl Deref for Log {
    type Target = LogCore;

    fn deref(&self) -> &LogCore {
        &self.core
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}

impl Drop for Log {
    /// Background work may hold the core a little longer; the folder is free when this returns.
    fn drop(&mut self) {
        self.core.abandon();
    }
}

/// What a [`Log`] is and does; shared with the flushing threads and with who waits for them.
pub struct LogCore {
    dir: PathBuf,
    env: LogEnv,
    config: ArcSwap<LogConfig>,
    segments: ArcSwap<Vec<Arc<Segment>>>,
    writer: Mutex<Writer>,
    marks: Mutex<Marks>,
    log_start: AtomicI64,
    /// Offsets before this may be missing although the policy is not (or no longer) to compact.
    holes_before: AtomicI64,
    /// Records before this were compacted.
    compacted_before: AtomicI64,
    /// Bytes appended since the log was opened.
    appended_bytes: AtomicU64,
    /// One compaction at a time; closing waits for it.
    compacting: Mutex<()>,
    waiters: Waiters,
    /// One flush at a time.
    flushing: Mutex<()>,
    /// Threads that wait for a flush, one of which does it.
    group: FlushGroup,
    flush_queue: FlushQueue,
    timer_queued: AtomicBool,
    /// The checkpoint as it is on disk.
    checkpoint: Mutex<Checkpoint>,
    offline: OnceLock<String>,
    closed: AtomicBool,
    saves_space: AtomicBool,
    listener: OnceLock<Listener>,
    lock: Mutex<Option<Box<dyn DirLock>>>,
    this: Weak<LogCore>,
}

impl fmt::Debug for LogCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.dir)
            .field("start", &self.log_start_offset())
            .field("end", &self.log_end_offset())
            .finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log in a folder, creating both when missing, and recovers it from a crash.
    /// Blocking appends wait for the flush policy; see [`LogConfig::flush`].
    ///
    /// # Errors
    /// [`StorageError::Locked`] when another process has the folder, [`StorageError::Damaged`]
    /// when bytes below the recovery point are not what was written, or an I/O error.
    pub fn open(dir: impl AsRef<Path>, config: LogConfig) -> Result<Arc<Self>> {
        Ok(Self::open_with(&LogEnv::real(), dir, config)?.0)
    }
}

impl LogCore {
    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// First offset that can be read.
    pub fn log_start_offset(&self) -> i64 {
        self.log_start.load(Ordering::Acquire)
    }

    /// Offset that the next record gets.
    pub fn log_end_offset(&self) -> i64 {
        self.marks.lock().end.offset
    }

    /// Bytes that were appended since the log was opened, whatever became of them.
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes.load(Ordering::Relaxed)
    }

    /// First offset that a power loss could take.
    pub fn durable_end(&self) -> i64 {
        self.marks.lock().durable.offset
    }

    /// First offset that is not acknowledged: the high watermark of a log without replicas. The
    /// durable end under [`FlushPolicy::Always`], the log end otherwise.
    pub fn acknowledged_end(&self) -> i64 {
        self.acknowledged_mark().offset
    }

    fn acknowledged_mark(&self) -> Mark {
        let always = self.config.load().flush == FlushPolicy::Always;
        let marks = self.marks.lock();
        if always { marks.durable } else { marks.end }
    }

    /// Bytes of all segments, indexes not counted.
    pub fn size_bytes(&self) -> u64 {
        self.segments
            .load()
            .iter()
            .map(|segment| segment.size())
            .sum()
    }

    /// Bytes of the offset and time indexes.
    ///
    /// # Errors
    /// An I/O error while loading an index.
    pub fn index_bytes(&self) -> Result<u64> {
        self.segments
            .load()
            .iter()
            .map(|segment| segment.index_bytes())
            .sum()
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        self.segments.load().len()
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<LogConfig> {
        self.config.load_full()
    }

    /// Changes the settings; they take effect with the next append, flush or retention run.
    ///
    /// # Errors
    /// [`StorageError::InvalidConfig`].
    pub fn set_config(&self, config: LogConfig) -> Result<()> {
        config.validate()?;
        if config.flush == FlushPolicy::Always {
            // The acknowledged end must not fall back to an old durable end.
            self.flush()?;
        }
        if self.config.load().cleanup.compact && !config.cleanup.compact {
            self.note_holes()?;
        }
        self.config.store(Arc::new(config));
        {
            // A roll meanwhile would add a segment that is not told.
            let _writer = self.writer.lock();
            let segments = self.segments.load();
            for segment in segments.iter() {
                segment.allow_holes(self.may_have_holes(segment.base_offset()));
            }
        }
        // Whoever waits under the old policy is flushed for, or let go, under the new one.
        self.waiters.wake_all();
        self.request_flush();
        Ok(())
    }

    /// Whether offsets from `offset` on may be missing in its segment.
    fn may_have_holes(&self, offset: i64) -> bool {
        self.config.load().cleanup.compact || offset < self.holes_before.load(Ordering::Acquire)
    }

    /// The log will not be compacted any more: notes how far it may have been.
    fn note_holes(&self) -> Result<()> {
        let mut checkpoint = self.checkpoint.lock();
        self.check_open()?;
        let next = Checkpoint {
            holes_before: self.log_end_offset(),
            clean: false,
            ..*checkpoint
        };
        self.write_checkpoint(&mut checkpoint, next)?;
        self.holes_before
            .store(next.holes_before, Ordering::Release);
        Ok(())
    }

    /// Sets who hears about this log; the first call counts.
    pub fn subscribe(&self, listener: Listener) {
        let _ = self.listener.set(listener);
    }

    /// Why the log is offline, if it is.
    pub fn offline_reason(&self) -> Option<&str> {
        self.offline.get().map(String::as_str)
    }

    /// The newest leader epoch in the log.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.writer.lock().epochs.latest().map(|start| start.epoch)
    }

    /// The largest epoch at or below `epoch`, and the first offset that is not part of it; `None` when
    /// the log knows no epoch as new as that.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        let writer = self.writer.lock();
        writer.epochs.end_offset(epoch, writer.next_offset)
    }

    /// The leader epoch of the record at `offset`.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        self.writer.lock().epochs.epoch_at(offset)
    }

    /// The producers with idempotence state, by id.
    pub fn producers(&self) -> Vec<ProducerSummary> {
        self.writer.lock().producers.summaries()
    }

    /// Number of producers with idempotence state.
    pub fn producer_count(&self) -> usize {
        self.writer.lock().producers.len()
    }

    /// Forgets producers that have not written since `before_ms` (Unix ms); returns how many.
    pub fn expire_producers(&self, before_ms: i64) -> usize {
        self.writer.lock().producers.expire(before_ms)
    }

    fn now_ms(&self) -> i64 {
        (self.env.clock)()
    }

    /// Refuses work on a log that is closed or offline.
    fn check_open(&self) -> Result<()> {
        self.check_online()?;
        if self.closed.load(Ordering::Acquire) {
            return Err(StorageError::Closed {
                dir: self.dir.clone(),
            });
        }
        Ok(())
    }

    fn check_online(&self) -> Result<()> {
        match self.offline.get() {
            Some(cause) => Err(StorageError::Offline {
                dir: self.dir.clone(),
                cause: cause.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Takes the log offline: whoever waits is told, nothing more is written.
    fn go_offline(&self, error: &StorageError) {
        if self.offline.set(error.to_string()).is_ok() {
            tracing::error!(dir = %self.dir.display(), %error, "the log is offline");
            self.waiters.wake_all();
            self.tell(LogEvent::Offline);
        }
    }

    /// Takes the log offline when the error is a failed sync, wherever it failed.
    fn judge<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && error.is_failed_sync()
        {
            self.go_offline(error);
        }
        result
    }

    /// Ends the log without order: nothing more is written, and the folder is free.
    fn abandon(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        let _compacting = self.compacting.lock();
        // Whoever is at work on the folder ends first; who comes later sees that it is closed.
        let _checkpoint = self.checkpoint.lock();
        let _flushing = self.flushing.lock();
        let _writer = self.writer.lock();
        self.waiters.wake_all();
        *self.lock.lock() = None;
    }

    fn tell(&self, event: LogEvent) {
        if let Some(listener) = self.listener.get() {
            listener(event);
        }
    }
}
