//! Threads that append, read, trim, flush and close the same log.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dlog_storage::disk::SimDisk;
use dlog_storage::{FlushPolicy, Flusher, Log, LogConfig, LogEnv, NewRecord, StorageError};

fn config(flush: FlushPolicy) -> LogConfig {
    LogConfig {
        segment_bytes: 2_000,
        index_interval_bytes: 100,
        checkpoint_bytes: 8_192,
        zero_ahead_bytes: 1_024,
        retention_ms: None,
        flush,
        ..LogConfig::default()
    }
}

/// Every record from the start to the end, without a hole.
fn read_all(log: &Log) -> Vec<Vec<u8>> {
    let start = log.log_start_offset();
    let mut values = Vec::new();
    for record in log.read(start).unwrap() {
        let record = record.unwrap();
        assert_eq!(record.offset, start + values.len() as i64, "no hole");
        values.push(record.value.unwrap().to_vec());
    }
    values
}

#[test]
fn appends_during_truncations_are_whole() {
    for flush in [FlushPolicy::Os, FlushPolicy::Always] {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), config(flush)).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for i in 0..6_000_u32 {
                    let value = [i as u8; 100];
                    let record = NewRecord::new(None, Some(&value));
                    log.append_records_unacknowledged(&[record]).unwrap();
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                let end = log.log_end_offset();
                match log.truncate_to((end - 30).max(0)) {
                    Ok(_) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        // Under `Always` only what is flushed can be read.
        log.flush().unwrap();
        let before = read_all(&log);
        assert_eq!(log.log_end_offset() as usize, before.len());
        drop(log);
        let log = Log::open(dir.path(), config(flush)).unwrap();
        assert_eq!(read_all(&log), before, "{flush}");
    }
}

/// A wait for a record that was cut ends, and with an error, even if its offset is in use again.
#[test]
fn a_truncated_record_is_never_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), config(FlushPolicy::Always)).unwrap();
    log.append(None, Some(b"kept")).unwrap();
    let record = NewRecord::new(None, Some(b"cut"));
    let cut = log.append_records_unacknowledged(&[record]).unwrap();
    let waits = [
        log.acknowledged(cut.last_offset),
        log.acknowledged(cut.last_offset),
    ];
    assert_eq!(log.truncate_to(1).unwrap(), 1);
    for (i, wait) in waits.into_iter().enumerate() {
        assert!(matches!(
            wait.wait(),
            Err(StorageError::OffsetOutOfRange { requested: 1, .. })
        ));
        if i == 0 {
            assert_eq!(log.append(None, Some(b"another")).unwrap(), 1);
        }
    }
}

/// Retention frees segments at once, however far the background work has come.
#[test]
fn retention_does_not_depend_on_background_work() {
    let env = LogEnv {
        flusher: Arc::new(Flusher::manual()),
        ..LogEnv::real()
    };
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open_with(&env, dir.path(), config(FlushPolicy::Os)).unwrap();
    for i in 0..100 {
        let record = NewRecord {
            timestamp_ms: Some(i),
            ..NewRecord::new(None, Some(&[1; 100]))
        };
        log.append_records(&[record]).unwrap();
    }
    log.set_config(LogConfig {
        retention_ms: Some(10),
        ..config(FlushPolicy::Os)
    })
    .unwrap();
    let before = log.segment_count();
    let report = log.apply_retention(60).unwrap();
    assert!(report.segments > 2, "{report:?}");
    assert_eq!(log.segment_count(), before - report.segments);
    assert_eq!(read_all(&log).len() as i64, 100 - log.log_start_offset());
}

/// A young record is appended after retention by time took the log's end, while it reads how old the
/// active segment is: what it then rolls over and removes must not hold that record.
#[test]
fn retention_takes_no_record_that_it_did_not_judge() {
    let disk = SimDisk::new();
    let env = LogEnv {
        disk: Arc::new(disk.clone()),
        flusher: Arc::new(Flusher::manual()),
        ..LogEnv::real()
    };
    let config = LogConfig {
        retention_ms: Some(1_000),
        segment_bytes: 1 << 20,
        ..config(FlushPolicy::Os)
    };
    let (log, _) = Log::open_with(&env, "/data/t-0", config).unwrap();
    let append = |log: &Log, timestamp: i64| {
        let record = NewRecord {
            timestamp_ms: Some(timestamp),
            ..NewRecord::new(None, Some(b"value"))
        };
        log.append_records(&[record]).unwrap().last_offset
    };
    append(&log, 10);
    let during = Arc::new(AtomicBool::new(false));
    let (same_log, done) = (log.clone(), during.clone());
    disk.before_next_read(move || {
        assert_eq!(append(&same_log, 10_000), 1);
        done.store(true, Ordering::Release);
    });
    log.apply_retention(10_500).unwrap();
    assert!(during.load(Ordering::Acquire), "the race happened");
    assert!(
        log.log_start_offset() <= 1,
        "the record at 1 was 500 ms old"
    );
    let young = log.read(1).unwrap().next().unwrap().unwrap();
    assert_eq!(young.offset, 1);
}
