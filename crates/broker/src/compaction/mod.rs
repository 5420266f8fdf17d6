//! The threads that compact: they take the filthiest log that is due, one after the other.
//!
//! Which log is next is decided by [`dlog_storage::choose_to_compact`] under one lock, which no request
//! takes; what is done to the log by [`dlog_storage::LogCore::compact`] without it.
//!
//! Invariants: a log is compacted by one thread at a time. One that cannot be compacted is named, counted,
//! and left alone for `RETRY_AFTER_MS`; the others go on. All threads together stay below
//! `log.cleaner.io.max.bytes.per.second` and within `log.cleaner.dedupe.buffer.size`, and give way to clients.

mod courtesy;
mod metrics;
mod pace;
mod throttle;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dlog_metadata::configs::{self, broker};
use dlog_storage::{
    Candidate, Cleanable, CompactionEnd, CompactionOptions, CompactionReport, HashKey, Log,
    StorageError, choose_to_compact,
};
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use courtesy::Backlog;
pub use metrics::CompactionMetrics;
pub(crate) use metrics::encode as encode_metrics;
use pace::{Meter, Pace};

use crate::guard::Level;
use crate::partitions::Partition;
use crate::state::BrokerState;

/// A log that could not be compacted is tried again after this long, in ms.
const RETRY_AFTER_MS: i64 = 3_600_000;

/// While the disk is nearly full a log is due from this dirty ratio on, if its own is not lower. It is not
/// 0: a run over a log with hardly anything new would write all of it again, to win hardly anything.
const PRESSED_DIRTY_RATIO: f64 = 0.05;

/// The dirty ratio from which on a log is due. A run needs room for a segment, so the pressure begins while
/// there is some; a disk may be somewhat full for years, so it is light at first.
fn due_ratio(own: f64, level: Level) -> f64 {
    match level {
        Level::Normal => own,
        Level::Alert => own / 2.0,
        Level::Throttle | Level::Refuse => own.min(PRESSED_DIRTY_RATIO),
    }
}

/// A partition, by its topic's id: a topic created again under the same name is another one.
type Key = (Uuid, i32);

/// What the threads share.
#[derive(Debug)]
pub struct Compaction {
    inner: Mutex<Inner>,
    /// Wakes threads that wait for work.
    changed: Condvar,
    pace: Pace,
    hash_key: HashKey,
}

#[derive(Debug, Default)]
struct Inner {
    in_progress: HashSet<Key>,
    /// Logs whose last run covered only a part, because its map was full.
    covered_in_part: HashSet<Key>,
    /// Why, and when to try again, Unix ms.
    uncleanable: HashMap<Key, (String, i64)>,
    stopping: bool,
}

impl Default for Compaction {
    fn default() -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        Self {
            inner: Mutex::default(),
            changed: Condvar::new(),
            pace: Pace::default(),
            hash_key: [high, low],
        }
    }
}

/// What a run goes by, read anew for each.
#[derive(Clone, Copy, Debug)]
struct Settings {
    threads: usize,
    dedupe_bytes: usize,
    load_factor: f64,
    backoff: Duration,
}

fn text(state: &BrokerState, name: &str) -> Option<String> {
    let def = broker::find(name)?;
    let image = state.image();
    configs::resolve_broker(def, &image, Some(state.node_id()), &state.statics)
        .value()
        .map(str::to_owned)
}

/// A setting of the server. Values were judged when they were set.
fn number(state: &BrokerState, name: &str, default: f64) -> f64 {
    text(state, name)
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(default)
}

impl Settings {
    fn of(state: &BrokerState) -> Self {
        let number = |name, default| number(state, name, default);
        let enabled = text(state, "log.cleaner.enable").is_none_or(|value| value.trim() != "false");
        let threads = number("log.cleaner.threads", 1.0).clamp(0.0, 1024.0) as usize;
        Self {
            threads: if enabled { threads } else { 0 },
            dedupe_bytes: number("log.cleaner.dedupe.buffer.size", 134_217_728.0) as usize,
            load_factor: number("log.cleaner.io.buffer.load.factor", 0.9),
            backoff: Duration::from_millis(number("log.cleaner.backoff.ms", 15_000.0) as u64),
        }
    }
}

/// A log that a thread took.
struct Taken {
    key: Key,
    partition: Arc<Partition>,
    log: Arc<Log>,
}

/// The threads. They end with [`Cleaners::stop`], or when the server is gone.
#[derive(Debug)]
pub struct Cleaners {
    state: Weak<BrokerState>,
    threads: Vec<JoinHandle<()>>,
}

impl Cleaners {
    /// Starts `log.cleaner.threads` threads; none when `log.cleaner.enable` is false.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn start(state: &Arc<BrokerState>) -> std::io::Result<Self> {
        let count = Settings::of(state).threads;
        let threads = (0..count).map(|number| {
            let state = Arc::downgrade(state);
            std::thread::Builder::new()
                .name(format!("dlog-cleaner-{number}"))
                .spawn(move || work(&state))
        });
        Ok(Self {
            state: Arc::downgrade(state),
            threads: threads.collect::<std::io::Result<_>>()?,
        })
    }

    /// Ends the threads: a run that is under way stops where it is, and loses only its last group of
    /// segments.
    pub fn stop(self) {
        if let Some(state) = self.state.upgrade() {
            state.compaction.inner.lock().stopping = true;
            state.compaction.changed.notify_all();
        }
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a compaction thread had panicked");
            }
        }
    }
}

/// Requests come first where they compete for a processor.
const NICENESS: i32 = 10;

fn work(state: &Weak<BrokerState>) {
    // On Linux this is about the calling thread. Without it compaction works all the same.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "compaction runs at the priority of requests");
    }
    loop {
        let Some(state) = state.upgrade() else { return };
        let settings = Settings::of(&state);
        match take(&state) {
            Some((taken, found)) => {
                let _under_way = UnderWay::begin(&state, taken.key);
                run(&state, &taken, &found, &settings);
            }
            None => wait(&state, settings.backoff),
        }
        if state.compaction.inner.lock().stopping || state.stopping.is_cancelled() {
            return;
        }
    }
}

/// A log that a thread works on, until this goes away, however that comes.
struct UnderWay<'a> {
    state: &'a BrokerState,
    key: Key,
}

impl<'a> UnderWay<'a> {
    fn begin(state: &'a BrokerState, key: Key) -> Self {
        state.metrics.compaction.began();
        Self { state, key }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let shared = &self.state.compaction;
        shared.inner.lock().in_progress.remove(&self.key);
        self.state.metrics.compaction.is_over();
    }
}

fn wait(state: &BrokerState, backoff: Duration) {
    // Short enough to notice a server that was dropped without an orderly end.
    let patience = backoff.clamp(Duration::from_millis(1), Duration::from_secs(60));
    let mut inner = state.compaction.inner.lock();
    if !inner.stopping {
        state.compaction.changed.wait_for(&mut inner, patience);
    }
}

/// Every log whose policy is to compact.
fn compacted(state: &BrokerState) -> Vec<Taken> {
    let topics = state.partitions.topics();
    let partitions = topics.iter().flat_map(|topic| &topic.partitions);
    partitions
        .filter_map(|partition| {
            let log = partition.log().ok()?;
            let is_served = log.config().cleanup.compact && log.offline_reason().is_none();
            is_served.then(|| Taken {
                key: (partition.topic_id, partition.index),
                partition: partition.clone(),
                log: log.clone(),
            })
        })
        .collect()
}

/// The next log to compact, noted as being worked on, and what there is to do.
fn take(state: &BrokerState) -> Option<(Taken, Cleanable)> {
    let now_ms = state.now_ms();
    let level = state.guard.level();
    let mut logs = compacted(state);
    {
        let inner = state.compaction.inner.lock();
        logs.retain(|log| {
            let resting = inner.uncleanable.get(&log.key);
            !inner.in_progress.contains(&log.key)
                && resting.is_none_or(|(_, until_ms)| *until_ms <= now_ms)
        });
    }
    // Indexes may have to be read for it: not under the lock.
    let judged = logs
        .into_iter()
        .filter_map(|taken| match candidate(&taken, now_ms, level) {
            Ok(candidate) => Some((taken, candidate)),
            Err(error) => {
                let (topic, partition) = (&taken.partition.topic, taken.partition.index);
                tracing::warn!(%topic, partition, %error, "what a log has to compact cannot be told");
                None
            }
        });
    let (mut logs, candidates): (Vec<_>, Vec<_>) = judged.unzip();
    let chosen = choose_to_compact(&candidates)?;
    let taken = logs.swap_remove(chosen);
    let mut inner = state.compaction.inner.lock();
    // Another thread may have been quicker.
    let is_ours = !inner.stopping && inner.in_progress.insert(taken.key);
    is_ours.then(|| (taken, candidates[chosen].cleanable))
}

fn candidate(taken: &Taken, now_ms: i64, level: Level) -> Result<Candidate, StorageError> {
    Ok(Candidate {
        cleanable: taken.log.cleanable(now_ms)?,
        min_dirty_ratio: due_ratio(taken.log.config().min_cleanable_dirty_ratio, level),
    })
}

/// Whether a run over the log must not wait for clients.
fn is_behind(state: &BrokerState, taken: &Taken, found: &Cleanable) -> bool {
    let backlog = Backlog {
        dirty_ratio: found.dirty_ratio(),
        due_ratio: taken.log.config().min_cleanable_dirty_ratio,
        was_compacted: found.clean_bytes > 0,
        was_full: {
            let inner = state.compaction.inner.lock();
            inner.covered_in_part.contains(&taken.key)
        },
        is_overdue: found.overdue_ms > 0,
    };
    backlog.is_behind()
}

fn run(state: &BrokerState, taken: &Taken, found: &Cleanable, settings: &Settings) {
    let (topic, partition) = (&taken.partition.topic, taken.partition.index);
    let options = CompactionOptions {
        map_bytes: settings.dedupe_bytes / settings.threads.max(1),
        map_load_factor: settings.load_factor,
        hash_key: state.compaction.hash_key,
    };
    let meter = Meter {
        state,
        log: &taken.log,
        is_behind: is_behind(state, taken, found),
        reads_ahead: AtomicBool::new(false),
    };
    let begin = Instant::now();
    let result = taken.log.compact(state.now_ms(), &options, &meter);
    let took = begin.elapsed();
    state.metrics.compaction.ended(&result, took);
    match result {
        Ok(report) => {
            let mut inner = state.compaction.inner.lock();
            inner.uncleanable.remove(&taken.key);
            match report.end {
                CompactionEnd::MapFull => inner.covered_in_part.insert(taken.key),
                CompactionEnd::Complete => inner.covered_in_part.remove(&taken.key),
                CompactionEnd::Nothing | CompactionEnd::Interrupted => false,
            };
            drop(inner);
            log_report(topic, partition, &report, took);
        }
        // The topic was deleted, or the server ends.
        Err(StorageError::Closed { .. }) => {}
        Err(error) => {
            tracing::error!(%topic, partition, %error, "the log cannot be compacted; nothing of it was dropped");
            // A disk that was full may have room at any time.
            let rest_ms = if error.is_disk_full() {
                i64::try_from(settings.backoff.as_millis()).unwrap_or(i64::MAX)
            } else {
                RETRY_AFTER_MS
            };
            let until_ms = state.now_ms().saturating_add(rest_ms);
            let mut inner = state.compaction.inner.lock();
            inner
                .uncleanable
                .insert(taken.key, (error.to_string(), until_ms));
        }
    }
}

fn log_report(topic: &str, partition: i32, report: &CompactionReport, took: Duration) {
    if report.end == CompactionEnd::Nothing {
        return;
    }
    let (before, after) = (report.bytes_before, report.bytes_after);
    let mib_per_s = before as f64 / f64::from(1 << 20) / took.as_secs_f64().max(1e-6);
    tracing::info!(
        topic,
        partition,
        end = ?report.end,
        records = report.records_read,
        kept = report.records_kept,
        bytes_before = before,
        bytes_after = after,
        segments_before = report.segments_before,
        segments_after = report.segments_after,
        took_ms = took.as_millis() as u64,
        mib_per_s = mib_per_s as u64,
        "log compacted"
    );
}

impl Compaction {
    /// A client produces or gets records now: a run under way gives way to it.
    pub(crate) fn client_served(&self) {
        self.pace.served();
    }

    /// The disk fills up: threads that wait for work look at once what is due now.
    pub fn hurry(&self) {
        self.changed.notify_all();
    }

    /// The partitions of this node that could not be compacted, of those that still exist.
    fn uncleanable(&self, hosted: &[Taken]) -> usize {
        let hosted: HashSet<_> = hosted.iter().map(|log| log.key).collect();
        let mut inner = self.inner.lock();
        inner.uncleanable.retain(|key, _| hosted.contains(key));
        inner.covered_in_part.retain(|key| hosted.contains(key));
        inner.uncleanable.len()
    }
}
