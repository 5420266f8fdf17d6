//! The log on the real file system: what a program that embeds it sees.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use dlog_storage::record::{BatchBuilder, Compression, TimestampType};
use dlog_storage::{
    AppendMode, CleanupPolicy, FlushPolicy, Flusher, Format, Log, LogConfig, LogEnv, LogEvent,
    NewRecord, ReadLimit, StorageError, offline,
};

const LEADER: AppendMode = AppendMode::Leader {
    leader_epoch: 0,
    log_append_time: None,
};

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 1_000,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

fn fill(log: &Log, count: usize) {
    for i in 0..count {
        let timestamp_ms = Some(1_000 + i as i64);
        let value = format!("value-{i:05}-{}", "x".repeat(50));
        let record = NewRecord {
            value: Some(value.as_bytes()),
            timestamp_ms,
            ..NewRecord::default()
        };
        log.append_records(&[record]).unwrap();
    }
}

fn values(log: &Log, from: i64) -> Vec<String> {
    let text = |value: Option<Bytes>| String::from_utf8(value.unwrap().to_vec()).unwrap();
    log.read(from)
        .unwrap()
        .map(|record| text(record.unwrap().value))
        .collect()
}

fn segment_names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".log"))
        .collect();
    names.sort();
    names
}

#[test]
fn segments_are_named_by_base_offset_and_sealed_ones_never_change() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small_segments()).unwrap();
    fill(&log, 30);
    let names = segment_names(dir.path());
    assert!(names.len() > 3, "{names:?}");
    assert_eq!(names[0], "00000000000000000000.log");
    let sealed = fs::read(dir.path().join(&names[0])).unwrap();
    assert!(sealed.len() <= 1_000);
    fill(&log, 30);
    log.close().unwrap();
    assert_eq!(fs::read(dir.path().join(&names[0])).unwrap(), sealed);
    assert!(matches!(
        log.append(None, None),
        Err(StorageError::Closed { .. })
    ));
}

#[test]
fn a_clean_close_needs_no_reading_and_leaves_no_slack() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogConfig::default()).unwrap();
    fill(&log, 10);
    let size = log.size_bytes();
    log.close().unwrap();
    let file = dir.path().join("00000000000000000000.log");
    assert_eq!(
        fs::metadata(&file).unwrap().len(),
        size,
        "zeros written ahead are cut"
    );
    let (log, report) = Log::open_with(&LogEnv::real(), dir.path(), LogConfig::default()).unwrap();
    assert!(report.clean && report.scanned_bytes == 0, "{report:?}");
    assert_eq!(log.log_end_offset(), 10);
}

#[test]
fn one_process_owns_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogConfig::default()).unwrap();
    let error = Log::open(dir.path(), LogConfig::default()).unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("in use"), "{error}");
    drop(log);
    Log::open(dir.path(), LogConfig::default()).unwrap();
}

#[test]
fn raw_ranges_begin_with_the_batch_that_holds_the_offset() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small_segments()).unwrap();
    fill(&log, 20);
    let batch = {
        let mut builder = BatchBuilder::new();
        for i in 0..5 {
            builder
                .push(2_000 + i, None, Some(b"in a batch"), &[])
                .unwrap();
        }
        builder.build().unwrap()
    };
    log.append_batches(batch.clone(), LEADER).unwrap();
    log.flush().unwrap();
    let slice = log.read_range(22, 10, ReadLimit::Acknowledged).unwrap();
    assert_eq!(
        (slice.base_offset, slice.len()),
        (20, batch.len()),
        "the first batch is whole"
    );
    let bytes = slice.to_bytes().unwrap();
    assert_eq!(bytes[..8], 20_i64.to_be_bytes());
    assert_eq!(
        bytes[17..],
        batch[17..],
        "all that the checksum covers is as the producer sent it"
    );
    assert!(log.read_range(25, 10, ReadLimit::End).unwrap().is_empty());
    assert!(matches!(
        log.read_range(26, 10, ReadLimit::End),
        Err(StorageError::OffsetOutOfRange {
            start: 0,
            end: 25,
            ..
        })
    ));
}

#[test]
fn lookups_by_time_answer_the_first_record_that_young() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small_segments()).unwrap();
    fill(&log, 40);
    for wanted in [0, 1_000, 1_017, 1_039] {
        let found = log.offset_for_timestamp(wanted).unwrap().unwrap();
        assert_eq!(found.offset, (wanted - 1_000).max(0), "{wanted}");
        assert_eq!(found.timestamp_ms, wanted.max(1_000));
    }
    assert_eq!(log.offset_for_timestamp(1_040).unwrap(), None);
    assert_eq!(
        log.max_timestamp().unwrap().map(|found| found.offset),
        Some(39)
    );
}

#[test]
fn retention_keeps_what_is_young_or_fits() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(
        dir.path(),
        LogConfig {
            retention_ms: Some(10),
            ..small_segments()
        },
    )
    .unwrap();
    fill(&log, 40);
    let segments = log.segment_count();
    let report = log.apply_retention(1_030).unwrap();
    assert!(report.segments > 0 && log.segment_count() == segments - report.segments);
    let start = log.log_start_offset();
    assert!(
        (1..=20).contains(&start),
        "whole segments older than 1020 are gone: {start}"
    );
    assert_eq!(values(&log, start).len() as i64, 40 - start);
    assert!(matches!(
        log.read(0),
        Err(StorageError::OffsetOutOfRange { .. })
    ));
    // Everything is too old: the active segment goes too, and offsets go on.
    log.apply_retention(10_000_000).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (40, 40));
    assert_eq!(log.append(None, Some(b"next")).unwrap(), 40);
    drop(log);
    let log = Log::open(dir.path(), small_segments()).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (40, 41));
    // By size.
    let config = LogConfig {
        retention_bytes: Some(1_500),
        retention_ms: None,
        ..small_segments()
    };
    log.set_config(config).unwrap();
    fill(&log, 40);
    log.apply_retention(0).unwrap();
    assert!(
        (1_500..2_600).contains(&log.size_bytes()),
        "{}",
        log.size_bytes()
    );
    // A compacted log does not lose records by age.
    let cleanup = CleanupPolicy {
        delete: false,
        compact: true,
    };
    log.set_config(LogConfig {
        cleanup,
        retention_ms: Some(1),
        ..small_segments()
    })
    .unwrap();
    assert_eq!(log.apply_retention(i64::MAX).unwrap().segments, 0);
}

#[test]
fn deleted_records_stay_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small_segments()).unwrap();
    fill(&log, 40);
    assert_eq!(log.delete_records_before(25).unwrap(), 25);
    assert_eq!(
        log.delete_records_before(5).unwrap(),
        25,
        "the start never falls"
    );
    assert!(log.delete_records_before(41).is_err());
    assert_eq!(values(&log, 25).len(), 15);
    drop(log);
    let log = Log::open(dir.path(), small_segments()).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (25, 40));
    assert!(log.read(24).is_err());
}

#[test]
fn truncation_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small_segments()).unwrap();
    fill(&log, 40);
    assert_eq!(log.truncate_to(17).unwrap(), 17);
    assert_eq!(log.append(None, Some(b"again")).unwrap(), 17);
    drop(log);
    let log = Log::open(dir.path(), small_segments()).unwrap();
    assert_eq!(log.log_end_offset(), 18);
    assert_eq!(values(&log, 17), ["again"]);
    assert_eq!(
        log.offset_for_timestamp(1_016)
            .unwrap()
            .map(|found| found.offset),
        Some(16)
    );
}

#[test]
fn a_v1_folder_opens_serves_takes_v2_and_converts() {
    let dir = tempfile::tempdir().unwrap();
    let v1 = LogConfig {
        format: Format::V1,
        ..small_segments()
    };
    let log = Log::open(dir.path(), v1).unwrap();
    fill(&log, 30);
    let before = values(&log, 0);
    log.close().unwrap();
    // The original left nothing but segment files.
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "log") {
            fs::remove_file(path).unwrap();
        }
    }
    let log = Log::open(dir.path(), small_segments()).unwrap();
    assert_eq!(values(&log, 0), before);
    assert_eq!(
        log.offset_for_timestamp(1_012)
            .unwrap()
            .map(|found| found.offset),
        Some(12)
    );
    let slice = log.read_range(7, 1 << 20, ReadLimit::End).unwrap();
    assert_eq!(slice.base_offset, 7, "v1 messages are served as a v2 batch");
    assert_eq!(slice.to_bytes().unwrap()[16], 2);
    assert_eq!(log.append(None, Some(b"v2")).unwrap(), 30);
    assert_eq!(values(&log, 29).len(), 2);
    log.close().unwrap();
    drop(log);
    let report = offline::convert(dir.path(), Compression::Lz4, |_| {}).unwrap();
    assert!(report.segments > 1 && report.records == 30, "{report:?}");
    let checked = offline::verify(dir.path(), |_| {}).unwrap();
    assert!(checked.iter().all(|segment| segment.damage.is_none()));
    let log = Log::open(dir.path(), small_segments()).unwrap();
    assert_eq!(values(&log, 0)[..30], before);
    assert_eq!(log.log_end_offset(), 31);
}

#[test]
fn log_append_time_and_epochs_are_patched_under_a_valid_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), LogConfig::default()).unwrap();
    let mut builder = BatchBuilder::new();
    builder.push(5, Some(b"k"), Some(b"v"), &[]).unwrap();
    let mode = AppendMode::Leader {
        leader_epoch: 7,
        log_append_time: Some(99_000),
    };
    let appended = log.append_batches(builder.build().unwrap(), mode).unwrap();
    assert_eq!(appended.log_append_time_ms, Some(99_000));
    log.flush().unwrap();
    let record = log.read(0).unwrap().next().unwrap().unwrap();
    assert_eq!(record.timestamp_ms, 99_000);
    assert_eq!(
        (log.latest_epoch(), log.end_offset_for_epoch(7)),
        (Some(7), Some((7, 1)))
    );
    let bytes = log
        .read_range(0, 1_000, ReadLimit::End)
        .unwrap()
        .to_bytes()
        .unwrap();
    let batch = dlog_storage::record::Batch::from_bytes(bytes).unwrap();
    assert_eq!(
        batch.header().timestamp_type(),
        TimestampType::LogAppendTime
    );
}

#[test]
fn retries_of_an_idempotent_producer_are_answered_not_appended() {
    let dir = tempfile::tempdir().unwrap();
    let batch = |sequence: i32| {
        let mut builder = BatchBuilder::new().producer(9, 0, sequence);
        builder.push(1, None, Some(b"v"), &[]).unwrap();
        builder.push(1, None, Some(b"w"), &[]).unwrap();
        builder.build().unwrap()
    };
    let log = Log::open(dir.path(), small_segments()).unwrap();
    for i in 0..20 {
        log.append_batches(batch(i * 2), LEADER).unwrap();
    }
    drop(log);
    // After a crash the window of five is known again.
    let log = Log::open(dir.path(), small_segments()).unwrap();
    for back in 1..=5 {
        let again = log.append_batches(batch(40 - back * 2), LEADER).unwrap();
        assert!(
            again.duplicate && again.base_offset == i64::from(40 - back * 2),
            "{again:?}"
        );
    }
    assert!(matches!(
        log.append_batches(batch(44), LEADER),
        Err(StorageError::OutOfOrderSequence {
            expected: 40,
            got: 44,
            ..
        })
    ));
    log.append_batches(batch(40), LEADER).unwrap();
    assert_eq!(log.producers()[0].last_sequence, 41);
    log.close().unwrap();
}

#[test]
fn the_listener_hears_what_becomes_readable() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = Log::open_with(&LogEnv::real(), dir.path(), LogConfig::default()).unwrap();
    let heard = Arc::new(AtomicI64::new(-1));
    let listener = heard.clone();
    log.subscribe(Arc::new(move |event| {
        if let LogEvent::AcknowledgedEnd(end) = event {
            listener.fetch_max(end, Ordering::AcqRel);
        }
    }));
    let mut builder = BatchBuilder::new();
    builder.push(5, None, Some(b"v"), &[]).unwrap();
    let appended = log
        .append_batches(builder.build().unwrap(), LEADER)
        .unwrap();
    log.acknowledged(appended.last_offset).wait().unwrap();
    while heard.load(Ordering::Acquire) < 1 {
        std::thread::yield_now();
    }
    assert_eq!(log.acknowledged_end(), 1);
}

#[test]
fn policies_acknowledge_as_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let env = LogEnv {
        flusher: Arc::new(Flusher::manual()),
        ..LogEnv::real()
    };
    let config = LogConfig {
        flush: FlushPolicy::Messages(3),
        ..LogConfig::default()
    };
    let (log, _) = Log::open_with(&env, dir.path(), config).unwrap();
    let one = || {
        let mut builder = BatchBuilder::new();
        builder.push(5, None, Some(b"v"), &[]).unwrap();
        log.append_batches(builder.build().unwrap(), LEADER)
            .unwrap()
            .last_offset
    };
    let (first, second, third) = (one(), one(), one());
    assert!(log.acknowledged(first).is_ready() && log.acknowledged(second).is_ready());
    assert!(
        !log.acknowledged(third).is_ready(),
        "three unflushed records are one too many"
    );
    env.flusher.run_pending();
    assert!(log.acknowledged(third).is_ready());
    assert_eq!(log.durable_end(), 3);
    log.set_config(LogConfig {
        flush: FlushPolicy::Os,
        ..LogConfig::default()
    })
    .unwrap();
    let fourth = one();
    assert!(log.acknowledged(fourth).is_ready());
    assert!(log.durable_end() <= fourth, "nothing asked for a flush");
    log.set_config(LogConfig::default()).unwrap();
    let fifth = one();
    assert!(!log.acknowledged(fifth).is_ready());
    log.acknowledged(fifth).wait().unwrap();
}

#[test]
fn a_batch_larger_than_a_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path(), small_segments()).unwrap();
    let error = log.append(None, Some(&[7; 2_000])).unwrap_err();
    assert!(
        matches!(error, StorageError::TooLarge { limit: 1_000, .. }),
        "{error}"
    );
    assert_eq!(log.append(None, Some(b"fits")).unwrap(), 0);
}

#[test]
fn concurrent_writers_share_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(
        dir.path(),
        LogConfig {
            segment_bytes: 20_000,
            ..LogConfig::default()
        },
    )
    .unwrap();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let log = &log;
            scope.spawn(move || {
                let offsets: Vec<i64> = (0..100)
                    .map(|i| {
                        log.append(None, Some(format!("{writer}-{i}").as_bytes()))
                            .unwrap()
                    })
                    .collect();
                assert!(offsets.is_sorted(), "a writer's records keep their order");
            });
        }
        scope.spawn(|| {
            while log.log_end_offset() < 800 {
                let end = log.acknowledged_end();
                assert!(log.read(0).unwrap().count() as i64 >= end);
            }
        });
    });
    let mut all = values(&log, 0);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 800);
}
