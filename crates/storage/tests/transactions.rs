//! Transactions in a log: what readers of committed records may see, and that a reopened log says the
//! same.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dlog_storage::disk::SimDisk;
use dlog_storage::record::BatchBuilder;
use dlog_storage::{
    AbortedTransaction, AppendMode, EndMarker, FlushPolicy, Log, LogConfig, OpenTransaction,
    ReadLimit, StorageError,
};

use common::env;

const LEADER: AppendMode = AppendMode::Leader {
    leader_epoch: 0,
    log_append_time: None,
};

fn open(disk: &SimDisk, config: LogConfig) -> Arc<Log> {
    Log::open_with(&env(disk), Path::new("/data/t-0"), config)
        .unwrap()
        .0
}

fn batch(producer: (i64, i16), sequence: i32, count: usize, transactional: bool) -> Bytes {
    let mut builder = BatchBuilder::new()
        .producer(producer.0, producer.1, sequence)
        .transactional(transactional);
    for i in 0..count {
        let value = format!("{} {}", producer.0, sequence + i as i32);
        builder
            .push(500, Some(b"k"), Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder.build().unwrap()
}

fn send(log: &Log, producer: (i64, i16), sequence: i32, count: usize) -> i64 {
    let batch = batch(producer, sequence, count, true);
    log.append_batches(batch, LEADER).unwrap().base_offset
}

fn marker(producer: (i64, i16), committed: bool) -> EndMarker {
    EndMarker {
        producer_id: producer.0,
        producer_epoch: producer.1,
        committed,
        coordinator_epoch: 1,
        timestamp_ms: 600,
        strict_epoch: false,
    }
}

fn end(log: &Log, producer: (i64, i16), committed: bool) -> i64 {
    let appended = log.append_end_marker(marker(producer, committed), 0);
    appended.unwrap().base_offset
}

fn aborted(producer_id: i64, first_offset: i64, last_offset: i64, lso: i64) -> AbortedTransaction {
    AbortedTransaction {
        producer_id,
        first_offset,
        last_offset,
        last_stable_offset: lso,
    }
}

const A: (i64, i16) = (7, 0);
const B: (i64, i16) = (8, 3);

#[test]
fn readers_of_committed_records_wait_for_the_end_and_its_flush() {
    let disk = SimDisk::new();
    let log = open(&disk, LogConfig::default());
    let plain = batch((5, 0), 0, 3, false);
    log.append_batches(plain, LEADER).unwrap();
    assert_eq!(send(&log, A, 0, 2), 3);
    assert_eq!(send(&log, B, 0, 1), 5);
    log.flush().unwrap();
    assert_eq!((log.last_stable_offset(), log.acknowledged_end()), (3, 6));
    let open = OpenTransaction {
        producer_epoch: 0,
        first_offset: 3,
    };
    assert_eq!(log.open_transaction(7), Some(open));
    let seen = |log: &Log, from| log.read_range(from, 1 << 20, ReadLimit::Stable).unwrap();
    let whole = log.read_range(0, 1 << 20, ReadLimit::Acknowledged).unwrap();
    assert!(!seen(&log, 0).is_empty() && seen(&log, 0).len() < whole.len());
    assert!(seen(&log, 3).is_empty() && seen(&log, 5).is_empty());

    assert_eq!(end(&log, A, true), 6);
    assert_eq!(log.open_transaction(7), None);
    assert_eq!(log.last_stable_offset(), 3, "the marker is not durable");
    log.flush().unwrap();
    assert_eq!(log.last_stable_offset(), 5, "the other one is open");
    assert_eq!(end(&log, B, false), 7);
    log.flush().unwrap();
    assert_eq!((log.last_stable_offset(), log.acknowledged_end()), (8, 8));
    assert_eq!(seen(&log, 0).len(), {
        let whole = log.read_range(0, 1 << 20, ReadLimit::End).unwrap();
        whole.len()
    });
    let expected = [aborted(8, 5, 7, 8)];
    assert_eq!(log.aborted_transactions(0, 8).unwrap(), expected);
    assert_eq!(log.aborted_transactions(5, 6).unwrap(), expected);
    assert_eq!(log.aborted_transactions(0, 5).unwrap(), []);
    assert_eq!(log.aborted_transactions(8, 9).unwrap(), []);
}

#[test]
fn without_waiting_for_flushes_a_written_marker_counts() {
    let disk = SimDisk::new();
    let config = LogConfig {
        flush: FlushPolicy::Os,
        ..LogConfig::default()
    };
    let log = open(&disk, config);
    send(&log, A, 0, 1);
    assert_eq!(log.last_stable_offset(), 0);
    end(&log, A, true);
    assert_eq!(log.last_stable_offset(), 2);
    // From here on what is acknowledged is durable.
    log.set_config(LogConfig::default()).unwrap();
    assert_eq!(log.last_stable_offset(), 2);
}

#[test]
fn markers_are_judged_where_they_are_appended() {
    let disk = SimDisk::new();
    let log = open(&disk, LogConfig::default());
    send(&log, B, 0, 1);
    let strict = EndMarker {
        strict_epoch: true,
        ..marker(B, true)
    };
    assert!(matches!(
        log.append_end_marker(strict, 0),
        Err(StorageError::ProducerFenced { current: 3, .. })
    ));
    assert!(matches!(
        log.append_batches(batch(B, 1, 1, false), LEADER),
        Err(StorageError::InvalidTxnState { .. })
    ));
    let next = EndMarker {
        producer_epoch: 4,
        ..strict
    };
    assert_eq!(log.append_end_marker(next, 0).unwrap().base_offset, 1);
    // A repeated one is taken: the coordinator did not hear of the first.
    assert_eq!(log.append_end_marker(next, 0).unwrap().base_offset, 2);
    let zombie = EndMarker {
        coordinator_epoch: 0,
        ..next
    };
    assert!(matches!(
        log.append_end_marker(zombie, 0),
        Err(StorageError::CoordinatorFenced { current: 1, .. })
    ));
    assert_eq!(log.log_end_offset(), 3, "what was refused was not appended");
    // Of a producer that is unknown here, for its fence.
    end(&log, (99, 5), false);
    assert!(matches!(
        log.append_batches(batch((99, 4), 0, 1, true), LEADER),
        Err(StorageError::ProducerFenced { current: 5, .. })
    ));
    assert_eq!(log.aborted_transactions(0, 10).unwrap(), []);
}

/// Transactions over several segments, some of them open.
fn fill(log: &Log) {
    for i in 0..40 {
        let producer = (i64::from(i), 0);
        send(log, producer, 0, 2);
        if i % 3 == 0 {
            send(log, producer, 2, 1);
        }
        if i % 10 != 9 {
            end(log, producer, i % 2 == 0);
        }
        if i == 25 {
            log.checkpoint().unwrap();
        }
    }
}

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 700,
        ..LogConfig::default()
    }
}

/// Last stable offset, aborted transactions, producers with their open transactions.
type Told = (i64, Vec<AbortedTransaction>, Vec<(i64, Option<i64>)>);

fn told(log: &Log) -> Told {
    let producers = log.producers();
    let open = producers
        .iter()
        .map(|p| (p.producer_id, p.current_txn_start));
    let end = log.log_end_offset();
    let aborted = log.aborted_transactions(0, end).unwrap();
    (log.last_stable_offset(), aborted, open.collect())
}

#[test]
fn a_reopened_log_says_the_same() {
    for crash in [false, true] {
        let mut disk = SimDisk::new();
        let log = open(&disk, small_segments());
        fill(&log);
        log.flush().unwrap();
        let before = told(&log);
        assert!(log.segment_count() > 5 && before.1.len() == 16);
        if crash {
            drop(log);
            disk = disk.process_kill();
        } else {
            log.close().unwrap();
        }
        for _ in 0..2 {
            let log = open(&disk, small_segments());
            assert_eq!(told(&log), before, "crash: {crash}");
            let stable = log.read_range(0, 1 << 20, ReadLimit::Stable).unwrap();
            assert!(!stable.is_empty());
            assert!(
                log.read_range(before.0, 1 << 20, ReadLimit::Stable)
                    .unwrap()
                    .is_empty()
            );
            log.close().unwrap();
        }
    }
}

#[test]
fn a_batch_that_the_marker_overtook_is_refused() {
    let disk = SimDisk::new();
    let log = open(&disk, LogConfig::default());
    let first = || batch(A, 0, 1, true);
    let guard = log.begin_verification(A.0, A.1, 0, false);
    end(&log, A, false);
    assert!(matches!(
        log.append_verified(first(), LEADER, guard),
        Err(StorageError::InvalidTxnState { .. })
    ));
    let guard = log.begin_verification(A.0, A.1, 0, false);
    assert_eq!(
        log.append_verified(first(), LEADER, guard)
            .unwrap()
            .base_offset,
        1
    );
    let again = log.append_verified(first(), LEADER, guard).unwrap();
    assert!(
        again.duplicate,
        "a retry finds its batch, whatever its guard"
    );
    let next = batch(A, 1, 1, true);
    assert_eq!(
        log.append_verified(next, LEADER, None).unwrap().base_offset,
        2
    );
    let plain = batch((5, 0), 0, 1, false);
    assert!(log.append_verified(plain, LEADER, None).is_ok());
}
