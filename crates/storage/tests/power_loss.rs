//! What the flush policies promise, checked against a disk that forgets what was not synced.
//!
//! Each seed drives a random workload on a simulated disk, cuts the power after a random number of
//! changes, draws what survived, reopens, and checks every promise; then goes on with the same log.
//! A failure prints its seed: `DLOG_SEED=n cargo test -p dlog-storage --test power_loss` repeats it.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dlog_storage::disk::{Disk, SimDisk, SimFault};
use dlog_storage::record::BatchBuilder;
use dlog_storage::{
    AppendMode, FlushPolicy, Flusher, Format, Log, LogConfig, NewRecord, StorageError,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use common::env;

const SEEDS: u64 = 3_000;
const LIVES: usize = 4;

fn config(random: &mut StdRng, flush: FlushPolicy) -> LogConfig {
    LogConfig {
        segment_bytes: random.random_range(400..4_000),
        index_interval_bytes: random.random_range(50..400),
        checkpoint_bytes: 4_096,
        zero_ahead_bytes: [0, 512, 4_096][random.random_range(0..3)],
        flush,
        retention_bytes: None,
        retention_ms: None,
        format: if random.random_bool(0.15) {
            Format::V1
        } else {
            Format::V2
        },
        ..LogConfig::default()
    }
}

/// What the test knows of the log: the value at each offset, and which offsets were acknowledged.
#[derive(Default)]
struct Model {
    values: Vec<Vec<u8>>,
    acknowledged: i64,
    start: i64,
    /// A start that was asked for but whose call did not return.
    start_may_be: i64,
    /// A truncation whose call did not return may have happened.
    may_be_cut_to: Option<i64>,
}

struct Life<'a> {
    random: &'a mut StdRng,
    model: &'a mut Model,
    flush: FlushPolicy,
}

impl Life<'_> {
    /// Random work until the power goes; every error must be the power's.
    fn run(&mut self, log: &Arc<Log>, flusher: &Flusher) -> Result<(), StorageError> {
        for _ in 0..60 {
            match self.random.random_range(0..100) {
                0..70 => self.append(log)?,
                70..78 => flusher.run_pending(),
                78..82 => log.flush()?,
                82..85 => log.checkpoint()?,
                85..90 => self.delete_records(log)?,
                90..93 => self.truncate(log)?,
                93..96 => log.set_config(config(self.random, self.flush))?,
                _ => check(log, self.model, self.model.values.len() as i64)?,
            }
        }
        log.close()
    }

    fn append(&mut self, log: &Log) -> Result<(), StorageError> {
        let count = self.random.random_range(1..4);
        let values: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let len = [3, 30, 200][self.random.random_range(0..3)];
                (0..len).map(|_| self.random.random()).collect()
            })
            .collect();
        let records: Vec<_> = values
            .iter()
            .map(|value| NewRecord::new(Some(b"k"), Some(value)))
            .collect();
        let at = self.model.values.len() as i64;
        // Until the call returns the records may or may not be there.
        self.model.values.extend(values.iter().cloned());
        let appended = log.append_records(&records)?;
        assert_eq!(appended.base_offset, at, "offsets are consecutive");
        self.model.acknowledged = appended.last_offset + 1;
        Ok(())
    }

    fn delete_records(&mut self, log: &Log) -> Result<(), StorageError> {
        let end = log.acknowledged_end();
        let to = self
            .random
            .random_range(self.model.start..=end.max(self.model.start));
        self.model.start_may_be = to.max(self.model.start_may_be);
        self.model.start = log.delete_records_before(to)?;
        Ok(())
    }

    fn truncate(&mut self, log: &Log) -> Result<(), StorageError> {
        let end = log.log_end_offset();
        let to = self
            .random
            .random_range((end - 5).max(log.log_start_offset())..=end);
        self.model.may_be_cut_to = Some((to - 3).max(0));
        let new_end = log.truncate_to(to)?;
        assert!(
            new_end <= to && to - new_end < 3,
            "only the batch that holds the offset goes"
        );
        self.model.may_be_cut_to = None;
        self.model.start = self.model.start.min(new_end);
        self.model.values.truncate(new_end as usize);
        self.model.acknowledged = self.model.acknowledged.min(new_end);
        Ok(())
    }
}

/// Every record that can be read is the one that was appended there, without holes.
fn check(log: &Log, model: &Model, upto: i64) -> Result<(), StorageError> {
    let start = log.log_start_offset();
    let mut next = start;
    for record in log.read(start)? {
        let record = record?;
        assert_eq!(record.offset, next, "no hole");
        assert!(
            record.offset < upto,
            "an invented record at {}",
            record.offset
        );
        assert_eq!(
            record.value.as_deref(),
            Some(&model.values[record.offset as usize][..]),
            "offset {}",
            record.offset
        );
        next += 1;
    }
    assert_eq!(next, log.acknowledged_end());
    Ok(())
}

/// How many acknowledged records a power loss may take.
fn may_lose(flush: FlushPolicy) -> i64 {
    match flush {
        FlushPolicy::Always => 0,
        FlushPolicy::Messages(n) => n as i64 - 1,
        FlushPolicy::Interval(_) | FlushPolicy::Os => i64::MAX,
    }
}

fn run_seed(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let flush = match seed % 4 {
        0 | 1 => FlushPolicy::Always,
        2 => FlushPolicy::Messages(random.random_range(1..8)),
        _ => FlushPolicy::Os,
    };
    let mut disk = SimDisk::new();
    let mut model = Model::default();
    for life in 0..LIVES {
        let env = env(&disk);
        let config = config(&mut random, flush);
        let power = random.random_range(0..150);
        let kill_only = random.random_bool(0.2);
        disk.set_fault(SimFault {
            power_fails_after: Some(power),
            ..SimFault::default()
        });
        if let Ok((log, _)) = Log::open_with(&env, Path::new("/data/t-0"), config.clone()) {
            let mut work = Life {
                random: &mut random,
                model: &mut model,
                flush,
            };
            let _ = work.run(&log, &env.flusher);
        }
        disk = if kill_only {
            disk.process_kill()
        } else {
            disk.power_loss(random.random())
        };
        let env = self::env(&disk);
        let (log, report) =
            Log::open_with(&env, Path::new("/data/t-0"), config).unwrap_or_else(|error| {
                panic!("life {life}: a crash must never need an operator: {error}")
            });
        settle(
            &log,
            &mut model,
            if kill_only { 0 } else { may_lose(flush) },
            &format!("life {life}, {report:?}"),
        );
        if random.random_bool(0.5) {
            log.close().unwrap();
        }
    }
}

/// Checks a reopened log against the model, and makes the model what the log is.
fn settle(log: &Log, model: &mut Model, may_lose: i64, context: &str) {
    let end = log.log_end_offset();
    let floor = model
        .may_be_cut_to
        .map_or(model.acknowledged, |cut| cut.min(model.acknowledged));
    let least = floor.saturating_sub(may_lose);
    assert!(
        end >= least,
        "{context}: acknowledged up to {floor}, found {end}"
    );
    let start = log.log_start_offset();
    assert!(
        start <= model.start_may_be.max(model.start),
        "{context}: log start {start}"
    );
    if may_lose == 0 {
        let least = model
            .may_be_cut_to
            .map_or(model.start, |cut| cut.min(model.start));
        assert!(
            start >= least,
            "{context}: log start fell from {} to {start}",
            model.start
        );
    }
    check(log, model, model.values.len() as i64)
        .unwrap_or_else(|error| panic!("{context}: {error}"));
    model.values.truncate(end as usize);
    *model = Model {
        values: std::mem::take(&mut model.values),
        acknowledged: end,
        start,
        start_may_be: start,
        may_be_cut_to: None,
    };
}

#[test]
fn promises_hold_after_power_loss() {
    let seeds = match std::env::var("DLOG_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    for seed in seeds {
        let result = std::panic::catch_unwind(|| run_seed(seed));
        if let Err(panic) = result {
            eprintln!("failed with DLOG_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_failed_sync_takes_the_log_offline_and_is_not_retried() {
    let disk = SimDisk::new();
    let env = env(&disk);
    let (log, _) = Log::open_with(&env, Path::new("/d/t-0"), LogConfig::default()).unwrap();
    log.append(None, Some(b"kept")).unwrap();
    disk.set_fault(SimFault {
        sync_fails_after: Some(0),
        ..SimFault::default()
    });
    assert!(matches!(
        log.append(None, Some(b"lost")),
        Err(StorageError::Io {
            operation: "sync",
            ..
        })
    ));
    disk.set_fault(SimFault::default());
    assert!(matches!(
        log.append(None, Some(b"refused")),
        Err(StorageError::Offline { .. })
    ));
    assert!(matches!(log.flush(), Err(StorageError::Offline { .. })));
    let readable: Vec<_> = log
        .read(0)
        .unwrap()
        .map(|record| record.unwrap().value.unwrap())
        .collect();
    assert_eq!(readable, ["kept"], "what was acknowledged is still served");
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let disk = SimDisk::new();
    let env = env(&disk);
    let config = LogConfig {
        zero_ahead_bytes: 0,
        ..LogConfig::default()
    };
    let (log, _) = Log::open_with(&env, Path::new("/d/t-0"), config.clone()).unwrap();
    log.append(None, Some(&[1; 500])).unwrap();
    disk.set_fault(SimFault {
        capacity_bytes: Some(900),
        ..SimFault::default()
    });
    let error = log.append(None, Some(&[2; 500])).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert_eq!(log.log_end_offset(), 1, "nothing was half appended");
    disk.set_fault(SimFault::default());
    assert_eq!(log.append(None, Some(&[3; 500])).unwrap(), 1);
    drop(log);
    let (log, _) =
        Log::open_with(&self::env(&disk.power_loss(1)), Path::new("/d/t-0"), config).unwrap();
    assert_eq!(log.log_end_offset(), 2);
}

/// Bytes that the log's files take.
fn used(disk: &SimDisk) -> u64 {
    let files = disk.list(Path::new("/d/t-0")).unwrap();
    files.iter().map(|file| file.len).sum()
}

fn limit(disk: &SimDisk, capacity_bytes: u64) {
    disk.set_fault(SimFault {
        capacity_bytes: Some(capacity_bytes),
        ..SimFault::default()
    });
}

fn batch(value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(1, None, Some(value), &[]).unwrap();
    builder.build().unwrap()
}

/// The whole batches that a failed append left in the file would follow the next append in order.
#[test]
fn nothing_of_an_append_that_failed_follows_a_later_one() {
    let disk = SimDisk::new();
    let config = LogConfig {
        zero_ahead_bytes: 0,
        ..LogConfig::default()
    };
    let path = Path::new("/d/t-0");
    let (log, _) = Log::open_with(&env(&disk), path, config.clone()).unwrap();
    let mode = AppendMode::Leader {
        leader_epoch: 0,
        log_append_time: None,
    };
    let refused = [batch(b"a"), batch(b"b"), batch(b"c")];
    let two_and_a_bit = refused[0].len() as u64 * 2 + 10;
    limit(&disk, used(&disk) + two_and_a_bit);
    let error = log
        .append_batches(refused.concat().into(), mode)
        .unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    disk.set_fault(SimFault::default());
    log.append_batches(batch(b"d"), mode).unwrap();
    let killed = disk.process_kill();
    let (log, report) = Log::open_with(&env(&killed), path, config).unwrap();
    assert_eq!(log.log_end_offset(), 1, "{report:?}");
    assert_eq!(
        log.read(0).unwrap().next().unwrap().unwrap().value.unwrap(),
        "d"
    );
}

#[test]
fn zeros_ahead_take_no_room_that_an_append_needs() {
    for flush in [FlushPolicy::Always, FlushPolicy::Os] {
        let disk = SimDisk::new();
        let config = LogConfig {
            zero_ahead_bytes: 64 << 10,
            flush,
            ..LogConfig::default()
        };
        let path = Path::new("/d/t-0");
        let (log, _) = Log::open_with(&env(&disk), path, config.clone()).unwrap();
        limit(&disk, used(&disk) + 1_000);
        log.append(None, Some(&[1; 300])).unwrap();
        log.append(None, Some(&[2; 300])).unwrap();
        let error = log.append(None, Some(&[3; 600])).unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        assert_eq!(log.log_end_offset(), 2);
        let killed = disk.process_kill();
        let (log, _) = Log::open_with(&env(&killed), path, config).unwrap();
        assert_eq!(log.log_end_offset(), 2);
    }
}

/// Not one byte is left: there is no room for a new checkpoint, nor for the index of a segment that was
/// sealed since the last one.
#[test]
fn a_disk_without_a_byte_of_room_is_reopened() {
    let disk = SimDisk::new();
    let config = LogConfig {
        zero_ahead_bytes: 0,
        segment_bytes: 1_000,
        ..LogConfig::default()
    };
    let path = Path::new("/d/t-0");
    let (log, _) = Log::open_with(&env(&disk), path, config.clone()).unwrap();
    limit(&disk, used(&disk) + 3_000);
    let mut value = vec![7; 300];
    let mut count = 0;
    while !value.is_empty() {
        match log.append(None, Some(&value)) {
            Ok(_) => count += 1,
            // The last bytes are filled with smaller ones.
            Err(error) => {
                assert!(error.is_disk_full(), "{error}");
                value.pop();
            }
        }
    }
    for _ in 0..3 {
        let killed = disk.process_kill();
        limit(&killed, used(&killed));
        let (log, report) = Log::open_with(&env(&killed), path, config.clone()).unwrap();
        assert_eq!((log.log_end_offset(), report.cut), (count, None));
        let values = log
            .read(0)
            .unwrap()
            .map(|record| record.unwrap().value.unwrap());
        assert!(values.filter(|value| value[..] == [7; 300]).count() > 5);
        let error = log.append(None, Some(&[1; 300])).unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        // Room: everything goes on.
        limit(&killed, used(&killed) + 4_000);
        assert_eq!(log.append(None, Some(&[1; 300])).unwrap(), count);
        log.close().unwrap();
    }
}
