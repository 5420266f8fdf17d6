//! One fixed history of a log, crashed at *every* change that it makes to the disk, and again at
//! every change of the recovery that follows: the random walk of `power_loss` may miss a window of
//! one change, this does not.
//!
//! A failure prints where: `DLOG_CRASH=n:seed cargo test -p dlog-storage --test crash_points`.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use dlog_storage::disk::{Disk, SimDisk, SimFault};
use dlog_storage::offline::convert_on;
use dlog_storage::record::Compression;
use dlog_storage::{FlushPolicy, Format, Log, LogConfig, StorageError};

use common::env;

const DIR: &str = "/data/t-0";

fn config(format: Format) -> LogConfig {
    LogConfig {
        segment_bytes: 500,
        index_interval_bytes: 64,
        checkpoint_bytes: 1 << 20,
        zero_ahead_bytes: 512,
        flush: FlushPolicy::Always,
        retention_ms: None,
        format,
        ..LogConfig::default()
    }
}

/// What may be found after a crash.
#[derive(Clone, Default)]
struct Model {
    /// The values that an offset may have.
    values: BTreeMap<i64, Vec<Vec<u8>>>,
    /// Records before this offset were acknowledged and not truncated.
    acknowledged: i64,
    /// The log start lies in this range.
    start: (i64, i64),
}

impl Model {
    fn append(&mut self, log: &Log, value: &[u8]) -> Result<(), StorageError> {
        let at = log.log_end_offset();
        self.values.entry(at).or_default().push(value.to_vec());
        let offset = log.append(None, Some(value))?;
        assert_eq!(offset, at);
        self.values.insert(at, vec![value.to_vec()]);
        self.acknowledged = self.acknowledged.max(at + 1);
        Ok(())
    }

    fn delete_before(&mut self, log: &Log, offset: i64) -> Result<(), StorageError> {
        self.start.1 = self.start.1.max(offset);
        self.start.0 = log.delete_records_before(offset)?;
        Ok(())
    }

    fn retain(&mut self, log: &Log) -> Result<(), StorageError> {
        self.start.1 = self.start.1.max(log.log_end_offset());
        log.apply_retention(1_000)?;
        self.start = (log.log_start_offset(), log.log_start_offset());
        Ok(())
    }

    fn truncate(&mut self, log: &Log, offset: i64) -> Result<(), StorageError> {
        self.acknowledged = self.acknowledged.min(offset);
        self.start.0 = self.start.0.min(offset);
        let end = log.truncate_to(offset)?;
        assert_eq!(end, offset);
        self.values.retain(|at, _| *at < end);
        Ok(())
    }

    fn check(&self, log: &Log, what: &str) {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        assert!(
            (self.start.0..=self.start.1).contains(&start),
            "{what}: start {start} is not in {:?}",
            self.start
        );
        assert!(
            end >= self.acknowledged,
            "{what}: acknowledged to {}, found {end}",
            self.acknowledged
        );
        let mut next = start;
        for record in log.read(start).unwrap() {
            let record = record.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(record.offset, next, "{what}: a hole");
            let possible = self.values.get(&next).map_or(&[][..], |values| values);
            let value = record.value.unwrap_or_default();
            assert!(
                possible.iter().any(|known| known[..] == value[..]),
                "{what}: an invented record at {next}"
            );
            next += 1;
        }
        assert_eq!(next, end, "{what}: not all can be read");
        // Whatever the crash left of the indexes, every offset is found by itself too.
        for offset in start..end {
            let first = log.read(offset).unwrap().next().unwrap().unwrap();
            assert_eq!(first.offset, offset, "{what}: found by its offset");
        }
    }

    /// After a restart the log is what it is.
    fn settle(&mut self, log: &Log) {
        let (start, end) = (log.log_start_offset(), log.log_end_offset());
        self.start = (start, start);
        self.acknowledged = end;
        self.values.retain(|at, _| *at < end);
        for record in log.read(start).unwrap() {
            let record = record.unwrap();
            self.values
                .insert(record.offset, vec![record.value.unwrap().to_vec()]);
        }
    }
}

fn value(life: usize, i: usize) -> Vec<u8> {
    vec![(life * 40 + i) as u8; 40 + (i % 5) * 30]
}

/// Everything that changes files: rolls, checkpoints, both trims, settings, the close.
fn history(log: &Log, model: &mut Model, format: Format, life: usize) -> Result<(), StorageError> {
    let mut count = 0;
    let mut append = |model: &mut Model, n: usize| {
        (0..n).try_for_each(|_| {
            count += 1;
            model.append(log, &value(life, count))
        })
    };
    append(model, 7)?;
    log.checkpoint()?;
    // The recovery point is the end when the log rolls over.
    append(model, 5)?;
    let end = log.log_end_offset();
    model.delete_before(log, end - 7)?;
    log.checkpoint()?;
    append(model, 3)?;
    let end = log.log_end_offset();
    model.truncate(log, end - 5)?;
    append(model, 2)?;
    log.checkpoint()?;
    let end = log.log_end_offset();
    model.truncate(log, end - 1)?;
    append(model, 6)?;
    log.set_config(LogConfig {
        retention_bytes: Some(900),
        ..config(format)
    })?;
    model.retain(log)?;
    log.set_config(LogConfig {
        format: Format::V2,
        ..config(format)
    })?;
    append(model, 3)?;
    // All that is there goes: the active segment too.
    log.set_config(LogConfig {
        retention_ms: Some(0),
        ..config(format)
    })?;
    model.start.1 = model.start.1.max(log.log_end_offset());
    log.apply_retention(i64::MAX)?;
    model.start = (log.log_start_offset(), log.log_start_offset());
    append(model, 2)?;
    log.close()
}

fn fail_after(changes: u64) -> SimFault {
    SimFault {
        power_fails_after: Some(changes),
        ..SimFault::default()
    }
}

/// One crash at change `n`, then one at change `m` of the recovery, then a third one.
fn crash(format: Format, n: u64, m: Option<u64>, seed: u64) -> bool {
    let what = format!("{format:?}, DLOG_CRASH={n}:{seed}, recovery {m:?}");
    let kill = |disk: &SimDisk, bit: u64| {
        if seed >> bit & 1 == 0 {
            disk.process_kill()
        } else {
            disk.power_loss(seed)
        }
    };
    let disk = SimDisk::new();
    disk.set_fault(fail_after(n));
    let mut model = Model::default();
    let mut finished = false;
    if let Ok((log, _)) = Log::open_with(&env(&disk), DIR, config(format)) {
        finished = history(&log, &mut model, format, 0).is_ok();
    }
    let mut disk = kill(&disk, 0);
    if let Some(m) = m {
        disk.set_fault(fail_after(m));
        let _ = Log::open_with(&env(&disk), DIR, config(format));
        disk = kill(&disk, 1);
    }
    let (log, _) = Log::open_with(&env(&disk), DIR, config(format))
        .unwrap_or_else(|error| panic!("{what}: a crash never needs an operator: {error}"));
    model.check(&log, &what);
    model.settle(&log);
    for i in 0..2 {
        model.append(&log, &value(2, i)).unwrap();
    }
    let disk = disk.power_loss(seed.wrapping_mul(31));
    drop(log);
    let (log, _) = Log::open_with(&env(&disk), DIR, config(format)).unwrap();
    model.check(&log, &format!("{what}, power lost later"));
    finished
}

#[test]
fn a_crash_at_every_change_loses_nothing_acknowledged() {
    if let Ok(at) = std::env::var("DLOG_CRASH") {
        let (n, seed) = at.split_once(':').unwrap();
        let (n, seed) = (n.parse().unwrap(), seed.parse().unwrap());
        for format in [Format::V2, Format::V1] {
            for m in std::iter::once(None).chain((0..16).map(Some)) {
                crash(format, n, m, seed);
            }
        }
        return;
    }
    for format in [Format::V2, Format::V1] {
        let mut n = 0;
        loop {
            let mut finished = false;
            for seed in 0..12 {
                let m = (seed >= 4).then_some((seed * 7 + n) % 16);
                finished |= crash(format, n, m, seed);
            }
            if finished {
                break;
            }
            n += 1;
        }
        assert!(n > 100, "the history has {n} changes");
    }
}

/// A sync fails once and drops what it should have written; all later syncs succeed. Whatever the
/// log still acknowledges afterwards must be true.
fn failed_sync(format: Format, n: u64, seed: u64) -> bool {
    let what = format!("{format:?}, sync {n} failed, seed {seed}");
    let disk = SimDisk::new();
    disk.set_fault(SimFault {
        sync_loses_at: Some(n),
        ..SimFault::default()
    });
    let mut model = Model::default();
    let mut finished = false;
    if let Ok((log, _)) = Log::open_with(&env(&disk), DIR, config(format)) {
        finished = history(&log, &mut model, format, 0).is_ok();
        let after = model.append(&log, &value(1, 0));
        assert!(
            finished
                || matches!(
                    after,
                    Err(StorageError::Offline { .. } | StorageError::Closed { .. })
                ),
            "{what}: {after:?}"
        );
    }
    let disk = disk.power_loss(seed);
    let (log, _) = Log::open_with(&env(&disk), DIR, config(format))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    model.check(&log, &what);
    finished
}

#[test]
fn nothing_is_acknowledged_on_the_strength_of_a_failed_sync() {
    for format in [Format::V2, Format::V1] {
        let mut n = 0;
        loop {
            let finished = (0..6).filter(|seed| failed_sync(format, n, *seed)).count();
            if finished > 0 {
                break;
            }
            n += 1;
        }
        assert!(n > 30, "the history has {n} syncs");
    }
}

/// `dlog log convert` interrupted at every change: the folder opens, with every record, and the next
/// run converts the rest.
#[test]
fn a_conversion_can_stop_anywhere() {
    let whole = SimDisk::new();
    let (log, _) = Log::open_with(&env(&whole), DIR, config(Format::V1)).unwrap();
    let mut model = Model::default();
    for i in 0..20 {
        model.append(&log, &value(0, i)).unwrap();
        if i == 17 {
            // The recovery point lies inside the last segment, records behind it.
            log.checkpoint().unwrap();
        }
    }
    assert!(log.segment_count() > 3);
    drop(log);
    let mut n = 0;
    loop {
        let mut finished = false;
        for seed in 0..8 {
            let what = format!("conversion stopped at {n}, seed {seed}");
            let disk = whole.process_kill();
            disk.set_fault(fail_after(n));
            let convert = |disk: &SimDisk| {
                let shared: Arc<dyn Disk> = Arc::new(disk.clone());
                convert_on(&shared, Path::new(DIR), Compression::Lz4, |_| {})
            };
            finished |= convert(&disk).is_ok();
            let disk = match seed {
                0 => disk.process_kill(),
                _ => disk.power_loss(seed),
            };
            let again = disk.process_kill();
            let (log, _) = Log::open_with(&env(&disk), DIR, config(Format::V2))
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            model.check(&log, &what);
            convert(&again).unwrap_or_else(|error| panic!("{what}, again: {error}"));
            let (log, _) = Log::open_with(&env(&again), DIR, config(Format::V2))
                .unwrap_or_else(|error| panic!("{what}, again: {error}"));
            model.check(&log, &format!("{what}, again"));
        }
        if finished {
            break;
        }
        n += 1;
    }
    assert!(n > 20, "the conversion has {n} changes");
}
