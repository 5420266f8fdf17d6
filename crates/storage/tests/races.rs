//! Threads that append, read, trim, flush and close the same log.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};

use dlog_storage::{FlushPolicy, Log, LogConfig, NewRecord, StorageError};

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
                for i in 0..400_u32 {
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
        let before = read_all(&log);
        assert_eq!(log.log_end_offset() as usize, before.len());
        log.flush().unwrap();
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
