//! Producers that commit and abort, beside readers of committed records: each reader sees every committed
//! record once, in its producer's order, and no other, whatever is flushed, rolled and checkpointed
//! meanwhile.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dlog_storage::record::control::EndTxnMarker;
use dlog_storage::record::{Batch, BatchBuilder};
use dlog_storage::{
    AppendMode, CleanupPolicy, CompactionOptions, EndMarker, FlushPolicy, Log, LogConfig, Unhurried,
};

const PRODUCERS: i64 = 3;
const ROUNDS: i32 = 120;
const LEADER: AppendMode = AppendMode::Leader {
    leader_epoch: 0,
    log_append_time: None,
};

/// Known beforehand, so that a reader can tell what it must not see.
fn is_committed(producer: i64, round: i32) -> bool {
    (producer * 7 + i64::from(round)) % 3 != 0
}

fn batch(producer: i64, sequence: i32, value: &str) -> Bytes {
    let mut builder = BatchBuilder::new()
        .producer(producer, 0, sequence)
        .transactional(true);
    // A key of its own, so that compaction drops what was aborted and nothing else.
    let key = format!("{producer} {sequence}");
    builder
        .push(1, Some(key.as_bytes()), Some(value.as_bytes()), &[])
        .unwrap();
    builder.build().unwrap()
}

fn produce(log: &Log, producer: i64) {
    for round in 0..ROUNDS {
        let fate = if is_committed(producer, round) {
            "c"
        } else {
            "a"
        };
        for half in 0..2 {
            let sequence = round * 2 + half;
            let value = format!("{fate} {producer} {sequence}");
            log.append_batches(batch(producer, sequence, &value), LEADER)
                .unwrap();
        }
        let marker = EndMarker {
            producer_id: producer,
            producer_epoch: 0,
            committed: is_committed(producer, round),
            coordinator_epoch: 0,
            timestamp_ms: 1,
            strict_epoch: false,
        };
        let appended = log.append_end_marker(marker, 0).unwrap();
        log.acknowledged(appended.last_offset).wait().unwrap();
        // All before the next transaction of this producer is decided.
        assert!(log.open_transaction(producer).is_none());
    }
}

/// One read from `from`; gives where to go on and the values that are shown.
fn read(log: &Log, from: i64) -> (i64, Vec<String>) {
    let committed = log.read_committed(from, 1_500).unwrap();
    let mut bytes = committed.records.to_bytes().unwrap();
    let mut coming = committed.aborted;
    coming.sort_by_key(|aborted| aborted.first_offset);
    let mut coming = coming.into_iter().peekable();
    let mut dropped = BTreeSet::new();
    let (mut next, mut shown) = (from, Vec::new());
    while let Some(batch) = Batch::split_first(&mut bytes).unwrap() {
        let header = *batch.header();
        next = header.last_offset() + 1;
        while let Some(one) = coming.next_if(|one| one.first_offset <= header.last_offset()) {
            dropped.insert(one.producer_id);
        }
        match EndTxnMarker::from_batch(&batch).unwrap() {
            Some(marker) => {
                if !marker.committed {
                    dropped.remove(&header.producer_id);
                }
            }
            None if dropped.contains(&header.producer_id) => {}
            None => {
                // A batch that compaction emptied has none.
                for record in batch.records().unwrap() {
                    let value = record.unwrap().value.unwrap();
                    shown.push(String::from_utf8(value.to_vec()).unwrap());
                }
            }
        }
    }
    (next, shown)
}

fn consume(log: &Log, producing: &AtomicUsize) {
    let (mut from, mut shown) = (0, Vec::new());
    loop {
        let over = producing.load(Ordering::Acquire) == 0;
        let stable = log.last_stable_offset();
        let (next, values) = read(log, from);
        shown.extend(values);
        from = next;
        if over && from >= stable {
            break;
        }
    }
    for producer in 0..PRODUCERS {
        let expected: Vec<String> = (0..ROUNDS * 2)
            .filter(|sequence| is_committed(producer, sequence / 2))
            .map(|sequence| format!("c {producer} {sequence}"))
            .collect();
        let of_producer = shown
            .iter()
            .filter(|value| value.split(' ').nth(1) == Some(&producer.to_string()));
        assert_eq!(of_producer.cloned().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn every_reader_sees_what_was_committed_and_nothing_else() {
    for (flush, compact) in [
        (FlushPolicy::Always, false),
        (FlushPolicy::Os, false),
        (FlushPolicy::Always, true),
        (FlushPolicy::Os, true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = LogConfig {
            segment_bytes: 4_000,
            index_interval_bytes: 100,
            checkpoint_bytes: 8_192,
            flush,
            cleanup: CleanupPolicy {
                delete: false,
                compact,
            },
            ..LogConfig::default()
        };
        let log = Log::open(dir.path(), config).unwrap();
        let producing = AtomicUsize::new(PRODUCERS as usize);
        std::thread::scope(|scope| {
            for producer in 0..PRODUCERS {
                let (log, producing) = (&log, &producing);
                scope.spawn(move || {
                    produce(log, producer);
                    producing.fetch_sub(1, Ordering::Release);
                });
            }
            for _ in 0..2 {
                scope.spawn(|| consume(&log, &producing));
            }
            while compact && producing.load(Ordering::Acquire) > 0 {
                let options = CompactionOptions {
                    map_bytes: 1 << 20,
                    ..CompactionOptions::default()
                };
                log.compact(5_000, &options, &Unhurried).unwrap();
            }
        });
        assert_eq!(compact, log.compacted_before() > 0);
        assert!(compact || log.segment_count() > 10);
        assert_eq!(log.last_stable_offset(), log.log_end_offset());
    }
}
