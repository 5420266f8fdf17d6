//! Compaction interrupted at *every* change that it makes to the disk, with transactions, and again at
//! the changes of the recovery that follows: the view by key of a reader of committed records is always
//! that of what was written, and what is left is what was written at that offset.
//!
//! A failure prints where: `DLOG_CRASH=n:seed cargo test -p dlog-storage --test compaction_crash`.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;

use dlog_storage::disk::{Disk, SimDisk, SimFault};
use dlog_storage::record::{Batch, BatchBuilder, Compression};
use dlog_storage::{
    AppendMode, CleanupPolicy, CompactionOptions, EndMarker, FlushPolicy, Format, Log, LogConfig,
    NewRecord, ReadLimit, StorageError,
};

use common::{Speed, env};

const DIR: &str = "/data/t-0";
const LEADER: AppendMode = AppendMode::Leader {
    leader_epoch: 0,
    log_append_time: None,
};

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        index_interval_bytes: 64,
        checkpoint_bytes: 1 << 20,
        zero_ahead_bytes: 0,
        flush: FlushPolicy::Always,
        retention_ms: None,
        cleanup: CleanupPolicy {
            delete: false,
            compact: true,
        },
        delete_retention_ms: 100,
        ..LogConfig::default()
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Entry {
    Record {
        key: u8,
        value: Option<Vec<u8>>,
        /// The producer, when it is part of a transaction.
        transaction: Option<i64>,
    },
    Marker {
        producer: i64,
        committed: bool,
    },
}

/// What was written, and what may be found after a crash.
#[derive(Default)]
struct Model {
    entries: Vec<Entry>,
    acknowledged: i64,
    start: (i64, i64),
    /// Next sequence of each producer.
    sequences: BTreeMap<i64, i32>,
    value: u32,
    /// Where changes are counted, and those that compaction made.
    watched: Option<SimDisk>,
    windows: Vec<Range<u64>>,
}

impl Model {
    fn value(&mut self) -> Option<Vec<u8>> {
        self.value += 1;
        let len = 20 + (self.value % 5) as usize * 12;
        (!self.value.is_multiple_of(6)).then(|| {
            let mut value = self.value.to_be_bytes().to_vec();
            value.resize(len, self.value as u8);
            value
        })
    }

    /// `count` records of keys from `first` on, in one batch.
    fn put(
        &mut self,
        log: &Log,
        first: u8,
        count: u8,
        producer: Option<i64>,
        transactional: bool,
    ) -> Result<(), StorageError> {
        let codec = match self.value % 3 {
            0 => Compression::Lz4,
            _ => Compression::None,
        };
        let mut builder = BatchBuilder::new()
            .transactional(transactional)
            .compression(codec, None);
        if let Some(id) = producer {
            let sequence = self.sequences.entry(id).or_default();
            builder = builder.producer(id, 0, *sequence);
            *sequence += i32::from(count);
        }
        for key in first..first + count {
            let value = self.value();
            builder.push(1_000, Some(&[key]), value.as_deref(), &[])?;
            self.entries.push(Entry::Record {
                key,
                value,
                transaction: producer.filter(|_| transactional),
            });
        }
        log.append_batches(builder.build()?, LEADER)?;
        self.flush(log)
    }

    fn put_v1(&mut self, log: &Log, key: u8) -> Result<(), StorageError> {
        let value = self.value();
        self.entries.push(Entry::Record {
            key,
            value: value.clone(),
            transaction: None,
        });
        log.append_records(&[NewRecord::new(Some(&[key]), value.as_deref())])?;
        self.acknowledged = self.entries.len() as i64;
        Ok(())
    }

    fn end(&mut self, log: &Log, producer: i64, committed: bool) -> Result<(), StorageError> {
        self.entries.push(Entry::Marker {
            producer,
            committed,
        });
        log.append_end_marker(
            EndMarker {
                producer_id: producer,
                producer_epoch: 0,
                committed,
                coordinator_epoch: 1,
                timestamp_ms: 1_000,
                strict_epoch: false,
            },
            0,
        )?;
        self.flush(log)
    }

    fn flush(&mut self, log: &Log) -> Result<(), StorageError> {
        log.flush()?;
        self.acknowledged = self.entries.len() as i64;
        Ok(())
    }

    fn delete_before(&mut self, log: &Log, offset: i64) -> Result<(), StorageError> {
        self.start.1 = self.start.1.max(offset);
        self.start.0 = log.delete_records_before(offset)?;
        Ok(())
    }

    /// The offsets that a reader of committed records takes, and where it has to stop.
    fn committed(&self, end: i64) -> (HashSet<i64>, i64) {
        let mut open: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let mut committed = HashSet::new();
        for (offset, entry) in (0..end).zip(&self.entries) {
            match entry {
                Entry::Record {
                    transaction: Some(producer),
                    ..
                } => open.entry(*producer).or_default().push(offset),
                Entry::Record { .. } => {
                    committed.insert(offset);
                }
                Entry::Marker {
                    producer,
                    committed: is_committed,
                } => {
                    let ended = open.remove(producer).unwrap_or_default();
                    if *is_committed {
                        committed.extend(ended);
                    }
                }
            }
        }
        let stable = open.values().filter_map(|offsets| offsets.first());
        (committed, stable.min().copied().unwrap_or(end))
    }

    fn check(&self, log: &Log, what: &str) {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        assert!(
            end >= self.acknowledged && end <= self.entries.len() as i64,
            "{what}: acknowledged to {}, found {end}",
            self.acknowledged
        );
        assert!(
            (self.start.0..=self.start.1).contains(&start),
            "{what}: start {start}"
        );
        let (committed, stable) = self.committed(end);
        assert_eq!(log.last_stable_offset(), stable.max(start), "{what}");
        let wanted = committed.iter().copied();
        let mut wanted: Vec<_> = wanted.filter(|o| (start..stable).contains(o)).collect();
        wanted.sort_unstable();
        let mut view = BTreeMap::new();
        for offset in wanted {
            apply(&mut view, &self.entries[offset as usize]);
        }
        let mut found = BTreeMap::new();
        for (offset, key, value, producer) in read_committed(log, what) {
            let entry = Entry::Record {
                key,
                value,
                transaction: producer,
            };
            assert_eq!(entry, self.entries[offset as usize], "{what}: {offset}");
            assert!(committed.contains(&offset), "{what}: {offset} was aborted");
            apply(&mut found, &entry);
        }
        assert_eq!(found, view, "{what}: the view by key");
    }
}

fn apply(view: &mut BTreeMap<u8, Vec<u8>>, entry: &Entry) {
    if let Entry::Record { key, value, .. } = entry {
        match value {
            Some(value) => view.insert(*key, value.clone()),
            None => view.remove(key),
        };
    }
}

type Read = (i64, u8, Option<Vec<u8>>, Option<i64>);

/// What a reader of committed records makes of the log, by the rules of Kafka's clients.
fn read_committed(log: &Log, what: &str) -> Vec<Read> {
    let mut from = log.log_start_offset();
    let start = from;
    let mut records = Vec::new();
    loop {
        let slice = log.read_range(from, 900, ReadLimit::Stable);
        let slice = slice.unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut bytes = slice.to_bytes().unwrap();
        if bytes.is_empty() {
            return records;
        }
        let base = slice.base_offset;
        let aborted = log.aborted_transactions(base, i64::MAX).unwrap();
        while let Some(batch) = Batch::split_first(&mut bytes).unwrap() {
            batch.verify_crc().unwrap();
            let header = *batch.header();
            let (first, producer) = (header.base_offset, header.producer_id);
            let is_aborted = header.is_transactional()
                && aborted.iter().any(|txn| {
                    txn.producer_id == producer
                        && (txn.first_offset..=txn.last_offset).contains(&first)
                });
            from = header.next_offset();
            if header.is_control() || is_aborted {
                continue;
            }
            for record in batch.records().unwrap() {
                let record = record.unwrap();
                if record.offset >= start {
                    let value = record.value.map(|value| value.to_vec());
                    let transaction = header.is_transactional().then_some(producer);
                    records.push((record.offset, record.key.unwrap()[0], value, transaction));
                }
            }
        }
    }
}

fn compact(
    log: &Log,
    model: &mut Model,
    now_ms: i64,
    map_slots: usize,
) -> Result<(), StorageError> {
    let options = CompactionOptions {
        map_bytes: map_slots * 24,
        ..CompactionOptions::default()
    };
    let changes = |model: &Model| model.watched.as_ref().map_or(0, SimDisk::changes);
    let begin = changes(model);
    // Giving way, so that files that were replaced are cut down, which are changes to the disk, too.
    let result = log.compact(now_ms, &options, &Speed { is_fast: false });
    let end = changes(model) + 2;
    model.windows.push(begin..end);
    result.map(|_| ())
}

/// Two producers with transactions, one idempotent, one plain; compactions in between.
fn history(log: &Log, model: &mut Model) -> Result<(), StorageError> {
    for i in 0..9 {
        model.put_v1(log, i % 3)?;
    }
    log.set_config(config())?;
    for i in 0..4 {
        model.put(log, i, 4, None, false)?;
        model.put(log, 10 + i, 2, Some(1), true)?;
        model.put(log, 10, 3, Some(2), true)?;
        model.put(log, i % 2, 1, Some(3), false)?;
        model.end(log, 1, i % 2 == 0)?;
        model.end(log, 2, i % 2 == 1)?;
    }
    compact(log, model, 2_000, 1_000)?;
    model.put(log, 20, 5, Some(1), true)?;
    model.put(log, 0, 5, None, false)?;
    // An open transaction holds compaction back.
    compact(log, model, 2_050, 1_000)?;
    model.put(log, 3, 3, None, false)?;
    model.end(log, 1, false)?;
    for i in 0..5 {
        model.put(log, i, 3, None, false)?;
    }
    compact(log, model, 2_060, 10)?;
    compact(log, model, 2_060, 10)?;
    model.delete_before(log, log.log_end_offset() / 4)?;
    for i in 0..4 {
        model.put(log, 10 + i, 2, Some(2), true)?;
        model.end(log, 2, i == 2)?;
    }
    // The horizons of the first run have passed.
    compact(log, model, 3_000, 1_000)?;
    for i in 0..5 {
        model.put(log, i, 4, None, false)?;
    }
    compact(log, model, 5_000, 1_000)?;
    model.put(log, 0, 2, Some(3), false)?;
    log.close()
}

fn first_config() -> LogConfig {
    LogConfig {
        format: Format::V1,
        ..config()
    }
}

fn fail_after(changes: u64) -> SimFault {
    SimFault {
        power_fails_after: Some(changes),
        ..SimFault::default()
    }
}

/// What a crash found.
#[derive(Clone, Copy, Default)]
struct Found {
    /// The history came to its end before the crash.
    finished: bool,
    /// A replacement of segments was under way.
    replacing: bool,
}

/// One crash at change `n`, one at change `m` of the recovery; then the log goes on, is compacted, and
/// loses power again.
fn crash(n: u64, m: Option<u64>, seed: u64) -> Found {
    let what = format!("DLOG_CRASH={n}:{seed}, recovery {m:?}");
    let kill = |disk: &SimDisk, bit: u64| {
        if seed >> bit & 1 == 0 {
            disk.process_kill()
        } else {
            disk.power_loss(seed.wrapping_mul(7919) + n)
        }
    };
    let disk = SimDisk::new();
    disk.set_fault(fail_after(n));
    let mut model = Model::default();
    let mut found = Found::default();
    if let Ok((log, _)) = Log::open_with(&env(&disk), DIR, first_config()) {
        found.finished = history(&log, &mut model).is_ok();
    }
    let mut disk = kill(&disk, 0);
    let files = disk.list(Path::new(DIR)).unwrap();
    found.replacing = files.iter().any(|file| file.name.ends_with(".swap"));
    if let Some(m) = m {
        disk.set_fault(fail_after(m));
        let _ = Log::open_with(&env(&disk), DIR, config());
        disk = kill(&disk, 1);
    }
    let (log, _) = Log::open_with(&env(&disk), DIR, config())
        .unwrap_or_else(|error| panic!("{what}: a crash never needs an operator: {error}"));
    model.check(&log, &what);
    let end = log.log_end_offset();
    model.entries.truncate(end as usize);
    model.acknowledged = end;
    model.start = (log.log_start_offset(), log.log_start_offset());
    for i in 0..6 {
        model.put(&log, i * 3, 4, None, false).unwrap();
    }
    compact(&log, &mut model, 9_000, 1_000).unwrap();
    model.check(&log, &format!("{what}, compacted again"));
    let disk = disk.power_loss(seed.wrapping_mul(31));
    drop(log);
    let names = disk.list(Path::new(DIR)).unwrap();
    let (log, _) = Log::open_with(&env(&disk), DIR, config())
        .unwrap_or_else(|error| panic!("{what}, power lost later: {error}: {names:?}"));
    model.check(&log, &format!("{what}, power lost later"));
    found
}

#[test]
fn a_crash_at_every_change_keeps_the_view_by_key() {
    if let Ok(at) = std::env::var("DLOG_CRASH") {
        let (n, seed) = at.split_once(':').unwrap();
        let (n, seed) = (n.parse().unwrap(), seed.parse().unwrap());
        for m in std::iter::once(None).chain((0..16).map(Some)) {
            crash(n, m, seed);
        }
        return;
    }
    let windows = compaction_windows();
    let mut crashes = 0;
    for n in 0.. {
        // What happens outside of compaction has its own test, `crash_points`.
        if !windows.iter().any(|window| window.contains(&n)) && n % 16 != 0 {
            continue;
        }
        crashes += 1;
        let mut finished = crash(n, None, 0).finished;
        finished |= crash(n, Some(n % 12), 1 + 2 * (n % 5)).finished;
        // A kill, then a power loss in the recovery, which may take names that only the cache had.
        let seed = 2 + 4 * (n % 7);
        if crash(n, None, seed).replacing {
            for k in 0..4 {
                crash(n, Some((n * 5 + k * 2) % 9), seed);
            }
        }
        if finished {
            break;
        }
    }
    assert!(crashes > 150, "{crashes} changes of {windows:?}");
    println!("crashed at each of {crashes} changes");
}

/// The changes to the disk that runs of compaction make, in the history without a crash.
fn compaction_windows() -> Vec<Range<u64>> {
    let disk = SimDisk::new();
    disk.set_fault(SimFault::default());
    let mut model = Model {
        watched: Some(disk.clone()),
        ..Model::default()
    };
    let (log, _) = Log::open_with(&env(&disk), DIR, first_config()).unwrap();
    history(&log, &mut model).unwrap();
    model.windows
}

/// The history without a crash: compaction happens, and transactions leave what they should.
#[test]
fn what_the_history_leaves() {
    let disk = SimDisk::new();
    let (log, _) = Log::open_with(&env(&disk), DIR, first_config()).unwrap();
    let mut model = Model::default();
    history(&log, &mut model).unwrap();
    drop(log);
    let (log, _) = Log::open_with(&env(&disk), DIR, config()).unwrap();
    model.check(&log, "at the end");
    let left = read_committed(&log, "at the end").len();
    assert!(
        left * 3 < model.entries.len(),
        "{left} of {}",
        model.entries.len()
    );
    let aborted = log.aborted_transactions(0, i64::MAX).unwrap();
    assert!(
        aborted.len() <= 2,
        "of the aborted transactions nothing is left but last batches: {aborted:?}"
    );
}

/// A sync fails once and drops what it should have written; all later syncs succeed.
#[test]
fn a_failed_sync_ends_the_log_not_its_records() {
    let mut n = 0;
    loop {
        let mut finished = 0;
        for seed in 0..3 {
            let what = format!("sync {n} failed, seed {seed}");
            let disk = SimDisk::new();
            disk.set_fault(SimFault {
                sync_loses_at: Some(n),
                ..SimFault::default()
            });
            let mut model = Model::default();
            if let Ok((log, _)) = Log::open_with(&env(&disk), DIR, first_config()) {
                finished += usize::from(history(&log, &mut model).is_ok());
            }
            let disk = disk.power_loss(seed);
            let (log, _) = Log::open_with(&env(&disk), DIR, config())
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            model.check(&log, &what);
        }
        if finished > 0 {
            break;
        }
        n += 1;
    }
    assert!(n > 60, "the history has {n} syncs");
}
