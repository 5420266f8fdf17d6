//! Compaction against a model that is a map: whatever is written, whenever it runs, and however often,
//! the view by key is the same, and what is left is what was written at that offset.
//!
//! A failure prints its seed: `DLOG_SEED=n cargo test -p dlog-storage --test compaction` repeats it.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dlog_storage::disk::{Disk, SimDisk};
use dlog_storage::record::{BatchBuilder, BatchHeader, Compression};
use dlog_storage::{
    AppendMode, CleanupPolicy, CompactionEnd, CompactionOptions, CompactionReport, FlushPolicy,
    Format, Log, LogConfig, NewRecord, ReadLimit, StorageError, Unhurried,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use common::env;

const DIR: &str = "/data/t-0";
const LEADER: AppendMode = AppendMode::Leader {
    leader_epoch: 3,
    log_append_time: None,
};

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 900,
        index_interval_bytes: 100,
        checkpoint_bytes: 1 << 20,
        zero_ahead_bytes: 0,
        flush: FlushPolicy::Os,
        retention_ms: None,
        cleanup: CleanupPolicy {
            delete: false,
            compact: true,
        },
        delete_retention_ms: 500,
        ..LogConfig::default()
    }
}

fn compact(log: &Log, now_ms: i64) -> CompactionReport {
    let options = CompactionOptions {
        hash_key: [5, 6],
        ..CompactionOptions::default()
    };
    log.compact(now_ms, &options, &Unhurried).unwrap()
}

/// Key and value of each offset; no key and no value are possible.
type Written = BTreeMap<i64, (Option<Vec<u8>>, Option<Vec<u8>>)>;

/// The newest value of each key; a tombstone is no value.
fn view(records: &Written) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut view = BTreeMap::new();
    for (key, value) in records.values() {
        let Some(key) = key else { continue };
        match value {
            Some(value) => view.insert(key.clone(), value.clone()),
            None => view.remove(key),
        };
    }
    view
}

fn found(log: &Log) -> Written {
    log.read(log.log_start_offset())
        .unwrap()
        .map(|record| {
            let record = record.unwrap();
            let key = record.key.map(|key| key.to_vec());
            let value = record.value.map(|value| value.to_vec());
            (record.offset, (key, value))
        })
        .collect()
}

/// All that must be true at any time.
fn check(log: &Log, written: &Written, what: &str) -> Written {
    let found = found(log);
    for (offset, record) in &found {
        assert_eq!(Some(record), written.get(offset), "{what}: offset {offset}");
    }
    assert_eq!(view(&found), view(written), "{what}: the view by key");
    assert_eq!(log.log_end_offset(), written.len() as i64, "{what}");
    // Every offset leads to itself or to what follows it, on both ways of reading.
    let offsets: Vec<_> = found.keys().copied().collect();
    for from in (0..written.len() as i64).step_by(29) {
        let next = log.read(from).unwrap().next().map(|r| r.unwrap().offset);
        let at = offsets.partition_point(|offset| *offset < from);
        assert_eq!(next, offsets.get(at).copied(), "{what}: read from {from}");
        let raw = log.read_range(from, 1, ReadLimit::End).unwrap();
        let bytes = raw.to_bytes().unwrap();
        if bytes.is_empty() {
            assert_eq!(next, None, "{what}: raw read from {from}");
        } else {
            let header = BatchHeader::parse(&bytes).unwrap();
            assert!(
                header.last_offset() >= from && next.is_none_or(|n| header.base_offset <= n),
                "{what}: raw read from {from}"
            );
        }
    }
    found
}

struct Workload {
    random: StdRng,
    written: Written,
    keys: u8,
    codecs: Vec<Compression>,
    format: Format,
}

impl Workload {
    fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let all = [
            Compression::None,
            Compression::Lz4,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Zstd,
        ];
        let codecs = match seed % 3 {
            0 => vec![Compression::None],
            1 => vec![Compression::Lz4],
            _ => all.to_vec(),
        };
        Self {
            keys: random.random_range(1..40),
            written: Written::new(),
            codecs,
            format: if seed % 7 == 3 {
                Format::V1
            } else {
                Format::V2
            },
            random,
        }
    }

    fn record(&mut self) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let random = &mut self.random;
        let key = (!random.random_bool(0.02)).then(|| vec![random.random_range(0..self.keys)]);
        let len = [0, 3, 30, 150][random.random_range(0..4)];
        let value = (!random.random_bool(0.15))
            .then(|| (0..len).map(|_| random.random_range(0..4)).collect());
        (key, value)
    }

    fn append(&mut self, log: &Log, now_ms: i64) {
        let count = self.random.random_range(1..6);
        let records: Vec<_> = (0..count).map(|_| self.record()).collect();
        let base = self.written.len() as i64;
        if self.format == Format::V1 {
            let new: Vec<_> = records
                .iter()
                .map(|(key, value)| NewRecord::new(key.as_deref(), value.as_deref()))
                .collect();
            assert_eq!(log.append_records(&new).unwrap().base_offset, base);
        } else {
            let codec = self.codecs[self.random.random_range(0..self.codecs.len())];
            let mut builder = BatchBuilder::new().compression(codec, None);
            for (i, (key, value)) in records.iter().enumerate() {
                let time_ms = now_ms - i as i64 * 7;
                builder
                    .push(time_ms, key.as_deref(), value.as_deref(), &[])
                    .unwrap();
            }
            let appended = log.append_batches(builder.build().unwrap(), LEADER);
            assert_eq!(appended.unwrap().base_offset, base);
        }
        for (offset, record) in (base..).zip(records) {
            self.written.insert(offset, record);
        }
    }
}

fn run_seed(seed: u64) {
    let mut work = Workload::new(seed);
    let disk = SimDisk::new();
    let mut config = LogConfig {
        format: work.format,
        segment_bytes: work.random.random_range(700..3_000),
        ..config()
    };
    // Messages of format v1 are packed into batches with more keys than a tiny map takes.
    let map_bytes = if work.format == Format::V2 && work.random.random_bool(0.3) {
        24 * 12
    } else {
        1 << 20
    };
    let options = CompactionOptions {
        map_bytes,
        map_load_factor: 0.9,
        hash_key: [seed, 1],
    };
    let (mut log, _) = Log::open_with(&env(&disk), DIR, config.clone()).unwrap();
    let mut now_ms = 10_000;
    for step in 0..120 {
        now_ms += 10;
        let what = format!("seed {seed}, step {step}");
        match work.random.random_range(0..20) {
            0..15 => work.append(&log, now_ms),
            15..18 => {
                let before = found(&log);
                let bound = log.compacted_before();
                let report = log.compact(now_ms, &options, &Unhurried).unwrap();
                let after = check(&log, &work.written, &what);
                assert!(
                    after.keys().all(|offset| before.contains_key(offset)),
                    "{what}: what was gone stays gone"
                );
                if report.end != CompactionEnd::Nothing {
                    assert!(log.compacted_before() > bound, "{what}: it gets on");
                    assert_compacted(&log, &after, now_ms, &what);
                }
            }
            18 => {
                drop(log);
                if work.random.random_bool(0.5) {
                    config.format = Format::V2;
                    work.format = Format::V2;
                }
                log = Log::open_with(&env(&disk.process_kill()), DIR, config.clone())
                    .unwrap()
                    .0;
                // The rest of the seed goes on with what a kill left.
                check(&log, &work.written, &what);
                drop(log);
                log = Log::open_with(&env(&disk), DIR, config.clone()).unwrap().0;
            }
            _ => {
                check(&log, &work.written, &what);
            }
        }
    }
}

/// In the compacted part each key has one record, and only of the newest ones a tombstone.
fn assert_compacted(log: &Log, found: &Written, _now_ms: i64, what: &str) {
    let before = log.compacted_before();
    let mut newest = BTreeMap::new();
    for (offset, (key, _)) in found.range(..before) {
        let key = key
            .as_ref()
            .unwrap_or_else(|| panic!("{what}: offset {offset} has no key"));
        let other = newest.insert(key.clone(), *offset);
        assert_eq!(other, None, "{what}: {key:?} twice, the second at {offset}");
    }
}

#[test]
fn the_view_by_key_is_that_of_a_map() {
    let seeds = match std::env::var("DLOG_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..60,
    };
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run_seed(seed));
        if let Err(panic) = result {
            eprintln!("failed with DLOG_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn open(disk: &SimDisk, config: LogConfig) -> Arc<Log> {
    Log::open_with(&env(disk), DIR, config).unwrap().0
}

/// `count` records of 100 bytes, the i-th of key `i % keys`.
fn fill(log: &Log, count: i64, keys: i64, now_ms: i64) {
    for i in 0..count {
        let mut builder = BatchBuilder::new();
        let value = format!("{:0100}", log.log_end_offset());
        builder
            .push(
                now_ms,
                Some(&(i % keys).to_be_bytes()),
                Some(value.as_bytes()),
                &[],
            )
            .unwrap();
        log.append_batches(builder.build().unwrap(), LEADER)
            .unwrap();
    }
}

fn put(log: &Log, key: &str, value: Option<&str>, now_ms: i64) -> i64 {
    let mut builder = BatchBuilder::new();
    let value = value.map(str::as_bytes);
    builder
        .push(now_ms, Some(key.as_bytes()), value, &[])
        .unwrap();
    log.append_batches(builder.build().unwrap(), LEADER)
        .unwrap()
        .base_offset
}

fn offsets(log: &Log) -> Vec<i64> {
    found(log).into_keys().collect()
}

#[test]
fn tombstones_stay_until_their_horizon() {
    let disk = SimDisk::new();
    let log = open(&disk, config());
    put(&log, "a", Some("1"), 1_000);
    let tombstone = put(&log, "a", None, 1_000);
    fill(&log, 20, 5, 1_000);
    compact(&log, 2_000);
    assert!(
        offsets(&log).contains(&tombstone),
        "not before a reader saw it"
    );
    assert!(!offsets(&log).contains(&0));
    fill(&log, 20, 5, 2_100);
    compact(&log, 2_499);
    assert!(
        offsets(&log).contains(&tombstone),
        "delete.retention.ms is 500"
    );
    fill(&log, 20, 5, 2_500);
    compact(&log, 2_500);
    assert!(!offsets(&log).contains(&tombstone));
    // What is asked for below is answered with what follows.
    let next = log.read(0).unwrap().next().unwrap().unwrap().offset;
    assert_eq!(next, offsets(&log)[0]);
}

#[test]
fn a_log_that_is_no_longer_compacted_can_be_read_and_recovered() {
    let disk = SimDisk::new();
    let log = open(&disk, config());
    fill(&log, 60, 5, 1_000);
    compact(&log, 2_000);
    let before = offsets(&log);
    let delete_only = LogConfig {
        cleanup: CleanupPolicy::default(),
        ..config()
    };
    log.set_config(delete_only.clone()).unwrap();
    assert_eq!(offsets(&log), before);
    fill(&log, 3, 5, 1_000);
    let before = offsets(&log);
    log.close().unwrap();
    let log = open(&disk, delete_only.clone());
    assert_eq!(offsets(&log), before);
    // A cut far below moves the recovery point into what was compacted.
    let cut = before[before.len() / 3];
    log.truncate_to(cut).unwrap();
    drop(log);
    let log = open(&disk.power_loss(1), delete_only);
    assert_eq!(offsets(&log), before[..before.len() / 3]);
    assert_eq!(log.log_end_offset(), cut);
}

#[test]
fn damage_stops_the_run_and_nothing_is_dropped() {
    let disk = SimDisk::new();
    let log = open(&disk, config());
    fill(&log, 60, 5, 1_000);
    log.checkpoint().unwrap();
    let names: Vec<_> = disk
        .list(Path::new(DIR))
        .unwrap()
        .into_iter()
        .filter(|file| file.name.ends_with(".log"))
        .map(|file| Path::new(DIR).join(file.name))
        .collect();
    assert!(names.len() > 4);
    let mut bytes = disk.content(&names[2]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    disk.set_content(&names[2], bytes);
    let files = |disk: &SimDisk| -> Vec<_> {
        names
            .iter()
            .map(|name| disk.content(name).unwrap())
            .collect()
    };
    let before = files(&disk);
    for _ in 0..2 {
        let error = log
            .compact(5_000, &CompactionOptions::default(), &Unhurried)
            .unwrap_err();
        assert!(
            matches!(error, StorageError::Damaged { ref path, .. } if *path == names[2]),
            "{error}"
        );
        assert_eq!(files(&disk), before);
    }
    let listed = disk.list(Path::new(DIR)).unwrap();
    assert!(!listed.iter().any(|file| file.name.contains("cleaned")));
    assert!(log.offline_reason().is_none(), "appends go on");
    fill(&log, 1, 1, 1_000);
}

#[test]
fn readers_keep_what_they_hold_and_unchanged_segments_are_left_alone() {
    let disk = SimDisk::new();
    let log = open(&disk, config());
    fill(&log, 40, 40, 1_000);
    let report = compact(&log, 2_000);
    assert_eq!(
        (report.bytes_after, report.bytes_written),
        (report.bytes_before, 0),
        "every key is there once: {report:?}"
    );
    let held = log.read_range(0, 100_000, ReadLimit::End).unwrap();
    let bytes = held.to_bytes().unwrap();
    assert!(bytes.len() > 500);
    fill(&log, 40, 40, 1_000);
    let report = compact(&log, 2_000);
    assert!(report.bytes_after < report.bytes_before, "{report:?}");
    assert_eq!(held.to_bytes().unwrap(), bytes);
}

#[test]
fn small_segments_become_one() {
    let disk = SimDisk::new();
    let log = open(&disk, config());
    fill(&log, 100, 3, 1_000);
    assert!(log.segment_count() > 10);
    let report = compact(&log, 2_000);
    assert_eq!(report.end, CompactionEnd::Complete);
    assert_eq!(log.segment_count(), 2, "{report:?}");
    fill(&log, 100, 3, 1_000);
    compact(&log, 2_000);
    assert_eq!(log.segment_count(), 2);
    assert_eq!(compact(&log, 2_000).end, CompactionEnd::Nothing);
    // The files on the disk are those of the log.
    let files = disk.list(Path::new(DIR)).unwrap();
    let logs = files.iter().filter(|file| file.name.ends_with(".log"));
    assert_eq!(logs.count(), log.segment_count());
    assert!(!files.iter().any(|file| file.name.ends_with(".swap")));
}

#[test]
fn a_map_too_small_for_one_batch_is_an_error_and_one_that_fills_goes_on() {
    let disk = SimDisk::new();
    let log = open(&disk, config());
    fill(&log, 100, 50, 1_000);
    let small = |slots: usize| CompactionOptions {
        map_bytes: 24 * slots,
        ..CompactionOptions::default()
    };
    let mut ends = Vec::new();
    for _ in 0..20 {
        let report = log.compact(2_000, &small(12), &Unhurried).unwrap();
        ends.push(report.end);
        if report.end != CompactionEnd::MapFull {
            break;
        }
    }
    assert!(
        ends.len() > 3 && ends.last() == Some(&CompactionEnd::Complete),
        "{ends:?}"
    );
    let mut builder = BatchBuilder::new();
    for i in 0..20_u8 {
        builder.push(1, Some(&[i]), Some(b"v"), &[]).unwrap();
    }
    log.append_batches(builder.build().unwrap(), LEADER)
        .unwrap();
    fill(&log, 20, 50, 1_000);
    // What the map still takes of the records before the batch is compacted first.
    let error = (0..9)
        .find_map(|_| log.compact(2_000, &small(12), &Unhurried).err())
        .unwrap();
    assert!(error.to_string().contains("dedupe.buffer"), "{error}");
}

#[test]
fn a_producer_goes_on_after_its_records_are_gone() {
    let disk = SimDisk::new();
    let log = open(&disk, config());
    let send = |log: &Log, sequence: i32| {
        let mut builder = BatchBuilder::new().producer(9, 0, sequence);
        builder.push(1_000, Some(b"k"), Some(b"v"), &[]).unwrap();
        log.append_batches(builder.build().unwrap(), LEADER)
    };
    for sequence in 0..3 {
        send(&log, sequence).unwrap();
    }
    put(&log, "k", Some("newer"), 1_000);
    fill(&log, 40, 3, 1_000);
    compact(&log, 2_000);
    assert!(!offsets(&log).contains(&2));
    let copy = disk.process_kill();
    // Without snapshot and checkpoint the state comes from the log alone.
    for file in copy.list(Path::new(DIR)).unwrap() {
        if file.name.ends_with(".snapshot") || file.name == "checkpoint" {
            copy.remove_file(&Path::new(DIR).join(file.name)).unwrap();
        }
    }
    let log = open(&copy, config());
    assert!(send(&log, 5).is_err(), "a gap is noticed");
    assert!(send(&log, 2).unwrap().duplicate);
    assert!(!send(&log, 3).unwrap().duplicate);
}

#[test]
fn lag_and_age_bound_what_is_compacted() {
    let disk = SimDisk::new();
    let log = open(
        &disk,
        LogConfig {
            min_compaction_lag_ms: 1_000,
            max_compaction_lag_ms: 5_000,
            ..config()
        },
    );
    fill(&log, 40, 3, 10_000);
    assert_eq!(log.cleanable(10_999).unwrap().dirty_bytes, 0);
    assert_eq!(compact(&log, 10_999).end, CompactionEnd::Nothing);
    let found = log.cleanable(11_000).unwrap();
    assert!(found.dirty_bytes > 0 && found.overdue_ms == 0, "{found:?}");
    assert_eq!(log.cleanable(15_001).unwrap().overdue_ms, 1);
    assert_eq!(compact(&log, 15_001).end, CompactionEnd::Complete);
    assert_eq!(log.cleanable(15_001).unwrap().dirty_bytes, 0);
}

/// A payload of raw batches for callers that need bytes.
#[test]
fn a_follower_takes_a_compacted_leaders_batches() {
    let disk = SimDisk::new();
    let leader = open(&disk, config());
    fill(&leader, 60, 3, 1_000);
    compact(&leader, 2_000);
    let follower = Log::open_with(&env(&SimDisk::new()), DIR, config())
        .unwrap()
        .0;
    let mut from = 0;
    while from < leader.log_end_offset() {
        let slice = leader.read_range(from, 300, ReadLimit::End).unwrap();
        let mut bytes = slice.to_bytes().unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        let batch: Bytes = bytes.split_to(header.total_bytes());
        follower
            .append_batches(batch, AppendMode::Follower)
            .unwrap();
        from = header.next_offset();
    }
    assert_eq!(found(&follower), found(&leader));
    assert_eq!(follower.log_end_offset(), leader.log_end_offset());
}
