//! Appends that fail midway leave nothing behind, in the log and in the file.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use dlog_storage::disk::{SimDisk, SimFault};
use dlog_storage::record::{BatchBuilder, TimestampType};
use dlog_storage::{
    AppendMode, FlushPolicy, Flusher, Format, Log, LogConfig, LogEnv, NewRecord, StorageError,
};

const DIR: &str = "/data/t-0";

fn open(disk: &SimDisk, config: LogConfig) -> Arc<Log> {
    let env = LogEnv {
        disk: Arc::new(disk.clone()),
        flusher: Arc::new(Flusher::manual()),
        clock: Arc::new(|| 5_000),
        take_lock: true,
    };
    Log::open_with(&env, DIR, config).unwrap().0
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 400,
        index_interval_bytes: 1,
        zero_ahead_bytes: 0,
        flush: FlushPolicy::Os,
        retention_ms: None,
        ..LogConfig::default()
    }
}

fn batch(value: &[u8], timestamp_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(timestamp_ms, None, Some(value), &[]).unwrap();
    builder.build().unwrap()
}

fn values(log: &Log) -> Vec<Vec<u8>> {
    log.read(log.log_start_offset())
        .unwrap()
        .map(|record| record.unwrap().value.unwrap().to_vec())
        .collect()
}

const LEADER: AppendMode = AppendMode::Leader {
    leader_epoch: 3,
    log_append_time: None,
};

/// Ten batches over several segments on a disk that fills up at every possible byte.
#[test]
fn all_batches_are_appended_or_none() {
    let ten: Vec<u8> = (0..10_u8)
        .flat_map(|i| batch(&[i; 60], i64::from(i)))
        .collect();
    let mut refused = 0;
    for capacity in (100..4_000).step_by(7) {
        let disk = SimDisk::new();
        let log = open(&disk, config());
        log.append(None, Some(b"before")).unwrap();
        log.append(None, Some(b"before")).unwrap();
        disk.set_fault(SimFault {
            capacity_bytes: Some(capacity),
            ..SimFault::default()
        });
        let result = log.append_batches(ten.clone().into(), LEADER);
        disk.set_fault(SimFault::default());
        let mut expected = vec![b"before".to_vec(); 2];
        match result {
            Ok(_) => expected.extend((0..10_u8).map(|i| vec![i; 60])),
            Err(error) => {
                refused += 1;
                assert!(error.is_disk_full(), "{error}");
                assert_eq!(log.log_end_offset(), 2, "capacity {capacity}");
                assert_eq!(log.latest_epoch(), Some(0), "nothing of it is remembered");
            }
        }
        assert_eq!(values(&log), expected, "capacity {capacity}");
        // It goes on as if nothing had been tried, and recovery agrees.
        for _ in 0..4 {
            log.append(None, Some(&[77; 90])).unwrap();
            expected.push(vec![77; 90]);
        }
        assert_eq!(log.offset_for_timestamp(4_000).unwrap().unwrap().offset, 0);
        drop(log);
        let log = open(&disk.process_kill(), config());
        assert_eq!(values(&log), expected, "capacity {capacity}, reopened");
    }
    assert!((50..500).contains(&refused), "{refused} were refused");
}

/// The new segment cannot be created; what fits into the old one still goes there, and is found.
#[test]
fn a_roll_that_fails_leaves_the_segment_in_use() {
    let disk = SimDisk::new();
    let log = open(&disk, config());
    log.append(None, Some(&[1; 200])).unwrap();
    disk.set_fault(SimFault {
        power_fails_after: Some(0),
        ..SimFault::default()
    });
    log.append(None, Some(&[2; 200])).unwrap_err();
    disk.set_fault(SimFault::default());
    let young = NewRecord {
        timestamp_ms: Some(9_000),
        ..NewRecord::new(None, Some(b"fits"))
    };
    log.append_records(&[young]).unwrap();
    assert_eq!(log.segment_count(), 1);
    assert_eq!(log.offset_for_timestamp(8_000).unwrap().unwrap().offset, 1);
    assert_eq!(log.max_timestamp().unwrap().unwrap().offset, 1);
    log.append(None, Some(&[3; 200])).unwrap();
    log.close().unwrap();
    drop(log);
    let log = open(&disk, config());
    assert_eq!(log.offset_for_timestamp(8_000).unwrap().unwrap().offset, 1);
}

#[test]
fn v1_refuses_an_empty_append_and_takes_the_logs_time() {
    let disk = SimDisk::new();
    let log = open(
        &disk,
        LogConfig {
            format: Format::V1,
            timestamp_type: TimestampType::LogAppendTime,
            ..config()
        },
    );
    assert!(matches!(
        log.append_records(&[]),
        Err(StorageError::Record(_))
    ));
    let claims = NewRecord {
        timestamp_ms: Some(1),
        ..NewRecord::new(None, Some(b"value"))
    };
    let appended = log.append_records(&[claims]).unwrap();
    assert_eq!(appended.log_append_time_ms, Some(5_000));
    let record = log.read(0).unwrap().next().unwrap().unwrap();
    assert_eq!(record.timestamp_ms, 5_000);
}

/// Only compaction leaves holes; recovery would take any other for damage.
#[test]
fn a_follower_takes_no_holes() {
    let disk = SimDisk::new();
    let log = open(&disk, config());
    let mut builder = BatchBuilder::new().base_offset(5);
    builder.push(1, None, Some(b"far"), &[]).unwrap();
    let far = builder.build().unwrap();
    assert!(matches!(
        log.append_batches(far.clone(), AppendMode::Follower),
        Err(StorageError::OffsetOutOfRange { requested: 5, .. })
    ));
    let mut compacted = config();
    compacted.cleanup.compact = true;
    log.set_config(compacted.clone()).unwrap();
    log.append_batches(far, AppendMode::Follower).unwrap();
    log.flush().unwrap();
    drop(log);
    let log = open(&disk.process_kill(), compacted);
    assert_eq!(log.log_end_offset(), 6, "and recovery keeps it");
}
