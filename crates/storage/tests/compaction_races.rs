//! Compaction beside appends, raw and record reads, delete-records, checkpoints, index releases and a
//! close, on the real file system: whoever reads gets whole, sound batches in order, and the newest value
//! of each key is always there.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use dlog_storage::disk::{Disk, RealDisk, SimDisk};
use dlog_storage::record::{Batch, BatchBuilder, Compression};
use dlog_storage::{
    AppendMode, CleanupPolicy, CompactionEnd, CompactionMeter, CompactionOptions, FlushPolicy,
    Flusher, Log, LogConfig, LogEnv, ReadLimit, StorageError, Unhurried,
};

use common::Speed;

const LEADER: AppendMode = AppendMode::Leader {
    leader_epoch: 0,
    log_append_time: None,
};
const KEYS: i64 = 60;

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 20_000,
        index_interval_bytes: 500,
        flush: FlushPolicy::Os,
        retention_ms: None,
        zero_ahead_bytes: 4_096,
        cleanup: CleanupPolicy {
            delete: false,
            compact: true,
        },
        delete_retention_ms: 0,
        ..LogConfig::default()
    }
}

fn append(log: &Log, first: i64, count: i64) -> Result<i64, StorageError> {
    let codec = match first % 3 {
        0 => Compression::Lz4,
        _ => Compression::None,
    };
    let mut builder = BatchBuilder::new().compression(codec, None);
    for number in first..first + count {
        let value = format!("{number} {}", "x".repeat((number % 300) as usize));
        let key = (number * 7 % KEYS).to_be_bytes();
        builder
            .push(1_000, Some(&key), Some(value.as_bytes()), &[])
            .unwrap();
    }
    log.append_batches(builder.build().unwrap(), LEADER)
        .map(|appended| appended.last_offset)
}

/// Reads everything that is there as a fetch does; the newest value of each key must be among it.
fn read_all(log: &Log, written: i64) {
    let mut newest: HashMap<Vec<u8>, i64> = HashMap::new();
    let start = log.log_start_offset();
    let mut from = start;
    while from < written {
        let slice = match log.read_range(from, 7_000, ReadLimit::End) {
            Ok(slice) => slice,
            Err(StorageError::OffsetOutOfRange { start, .. }) => {
                from = start;
                continue;
            }
            Err(error) => panic!("{from}: {error}"),
        };
        // Held for a while, as a slow connection does.
        std::thread::yield_now();
        let mut bytes = slice.to_bytes().unwrap();
        assert!(!bytes.is_empty(), "nothing at {from} of {written}");
        let before = from;
        while let Some(batch) = Batch::split_first(&mut bytes).unwrap() {
            batch.verify_crc().unwrap();
            assert!(batch.header().last_offset() >= from || from == before);
            from = batch.header().next_offset();
            for record in batch.records().unwrap() {
                let record = record.unwrap();
                let value = record.value.unwrap();
                let number: i64 = str::from_utf8(&value)
                    .unwrap()
                    .split(' ')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                assert_eq!(number, record.offset, "each value names its offset");
                newest.insert(record.key.unwrap().to_vec(), number);
            }
        }
        assert!(from > before);
    }
    // The last KEYS records have every key once. One of them may be missing only if something newer has
    // come to take its place meanwhile, KEYS later, or if it was deleted.
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    for number in (written - KEYS).max(start)..written {
        let key = (number * 7 % KEYS).to_be_bytes().to_vec();
        let found = newest.get(&key).is_some_and(|found| *found >= number);
        assert!(
            found || end > number + KEYS,
            "{number} of {written} is lost"
        );
    }
}

#[test]
fn everything_at_the_same_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path().join("log"), config()).unwrap();
    let (written, done) = (AtomicI64::new(0), AtomicBool::new(false));
    let running = || !done.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for first in (0..30_000).step_by(5) {
                let last = append(&log, first, 5).unwrap();
                assert_eq!(last, first + 4);
                written.store(last + 1, Ordering::Release);
            }
            done.store(true, Ordering::Relaxed);
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while running() {
                    read_all(&log, written.load(Ordering::Acquire));
                }
            });
        }
        scope.spawn(|| {
            while running() {
                let end = written.load(Ordering::Acquire);
                let to = (end - 2_000).max(0);
                let start = log.delete_records_before(to.max(log.log_start_offset()));
                assert!(start.unwrap() >= to);
                log.checkpoint().unwrap();
                log.offset_for_timestamp(900).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        });
        scope.spawn(|| {
            let mut complete = 0;
            // In turns, since old files are freed in another way.
            for is_fast in [true, false].into_iter().cycle() {
                if !running() && complete > 0 {
                    break;
                }
                let report = log
                    .compact(10_000, &CompactionOptions::default(), &Speed { is_fast })
                    .unwrap();
                complete += u32::from(report.end == CompactionEnd::Complete);
            }
        });
    });
    read_all(&log, written.load(Ordering::Acquire));
    let folder = log.dir().to_path_buf();
    log.close().unwrap();
    let names: Vec<_> = RealDisk.list(&folder).unwrap();
    let leftover = |name: &str| {
        [".cleaned", ".swap", ".tmp"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    assert!(!names.iter().any(|file| leftover(&file.name)), "{names:?}");
    let log = Log::open(folder, config()).unwrap();
    read_all(&log, 30_000);
}

fn sim_env(disk: &SimDisk) -> LogEnv {
    LogEnv {
        disk: Arc::new(disk.clone()),
        flusher: Arc::new(Flusher::manual()),
        clock: Arc::new(|| 1_000),
        take_lock: true,
    }
}

/// Does something to the log in the middle of a run, once.
struct InTheMiddle<F> {
    act: F,
    acted: AtomicBool,
    stop: bool,
}

impl<F: Fn() + Send + Sync> CompactionMeter for InTheMiddle<F> {
    fn spent(&self, _bytes: u64) -> Duration {
        if !self.acted.swap(true, Ordering::Relaxed) {
            (self.act)();
        }
        Duration::ZERO
    }

    fn is_stopped(&self) -> bool {
        self.stop && self.acted.load(Ordering::Relaxed)
    }
}

fn run_with(log: &Log, act: impl Fn() + Send + Sync, stop: bool) -> CompactionEnd {
    let meter = InTheMiddle {
        act,
        acted: AtomicBool::new(false),
        stop,
    };
    log.compact(10_000, &CompactionOptions::default(), &meter)
        .unwrap()
        .end
}

fn filled(disk: &SimDisk) -> Arc<Log> {
    let (log, _) = Log::open_with(&sim_env(disk), "/d/t-0", config()).unwrap();
    for first in (0..1_000).step_by(5) {
        append(&log, first, 5).unwrap();
    }
    log
}

#[test]
fn a_reader_keeps_what_is_replaced_under_it() {
    for is_fast in [true, false] {
        let log = filled(&SimDisk::new());
        let slices: Vec<_> = (0..900)
            .step_by(100)
            .map(|from| log.read_range(from, 7_000, ReadLimit::End).unwrap())
            .collect();
        let before: Vec<_> = slices.iter().map(|slice| slice.to_bytes()).collect();
        let report = log
            .compact(10_000, &CompactionOptions::default(), &Speed { is_fast })
            .unwrap();
        assert!(report.bytes_after < report.bytes_before / 2, "{report:?}");
        for (slice, before) in slices.iter().zip(before) {
            assert_eq!(slice.to_bytes().unwrap(), before.unwrap());
        }
    }
}

#[test]
fn a_run_that_gives_way_cuts_old_files_down() {
    let changes = [true, false].map(|is_fast| {
        let disk = SimDisk::new();
        let log = filled(&disk);
        let before = disk.changes();
        let report = log.compact(10_000, &CompactionOptions::default(), &Speed { is_fast });
        (disk.changes() - before, report.unwrap().segments_before)
    });
    let [(fast, _), (slow, segments)] = changes;
    // Segments of 20 kB, cut in steps of 512 bytes.
    assert!(slow > fast + 30 * segments as u64, "{fast}, {slow}");
}

#[test]
fn a_truncation_ends_the_run_and_what_is_left_is_right() {
    let disk = SimDisk::new();
    let log = filled(&disk);
    let end = run_with(
        &log,
        || {
            assert_eq!(log.truncate_to(400).unwrap(), 400);
        },
        false,
    );
    assert_eq!(end, CompactionEnd::Interrupted);
    assert_eq!(log.log_end_offset(), 400);
    assert!(log.compacted_before() <= 400);
    let values = log.read(0).unwrap().map(|record| record.unwrap().offset);
    assert_eq!(values.last(), Some(399));
    for first in (400..1_000).step_by(5) {
        append(&log, first, 5).unwrap();
    }
    assert_eq!(run_with(&log, || {}, false), CompactionEnd::Complete);
    read_all(&log, 1_000);
}

#[test]
fn retention_under_a_run_costs_nothing() {
    let disk = SimDisk::new();
    let log = filled(&disk);
    let end = run_with(
        &log,
        || {
            log.checkpoint().unwrap();
            log.delete_records_before(500).unwrap();
        },
        false,
    );
    assert!(
        matches!(end, CompactionEnd::Complete | CompactionEnd::Interrupted),
        "{end:?}"
    );
    read_all(&log, 1_000);
    run_with(&log, || {}, false);
    read_all(&log, 1_000);
    drop(log);
    let (log, _) = Log::open_with(&sim_env(&disk.power_loss(3)), "/d/t-0", config()).unwrap();
    assert_eq!(log.log_start_offset(), 500);
}

#[test]
fn a_run_ends_when_it_is_told_to_or_the_log_is_closed() {
    let disk = SimDisk::new();
    let log = filled(&disk);
    assert_eq!(run_with(&log, || {}, true), CompactionEnd::Interrupted);
    assert!(log.compacted_before() == 0);
    let files = disk.list("/d/t-0".as_ref()).unwrap();
    assert!(!files.iter().any(|file| file.name.ends_with(".cleaned")));
    let closer = log.clone();
    let (go, closing) = std::sync::mpsc::sync_channel::<()>(1);
    let thread = std::thread::spawn(move || {
        closing.recv().unwrap();
        closer.close()
    });
    struct UntilClosed(std::sync::mpsc::SyncSender<()>);
    impl CompactionMeter for UntilClosed {
        fn spent(&self, _bytes: u64) -> Duration {
            let _ = self.0.try_send(());
            // The close must not have to wait for this.
            Duration::from_secs(600)
        }
        fn is_stopped(&self) -> bool {
            false
        }
    }
    let error = log
        .compact(10_000, &CompactionOptions::default(), &UntilClosed(go))
        .unwrap_err();
    assert!(matches!(error, StorageError::Closed { .. }), "{error}");
    thread.join().unwrap().unwrap();
    assert!(matches!(
        log.compact(10_000, &CompactionOptions::default(), &Unhurried),
        Err(StorageError::Closed { .. })
    ));
}

/// Looks at every step for files in a folder that have no name any more and still take space.
#[cfg(target_os = "linux")]
struct Watch {
    dir: std::path::PathBuf,
    most: std::sync::atomic::AtomicUsize,
    is_fast: bool,
}

#[cfg(target_os = "linux")]
impl CompactionMeter for Watch {
    fn spent(&self, _bytes: u64) -> Duration {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let nameless = open
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|path| path.starts_with(&self.dir))
            .filter(|path| path.to_string_lossy().ends_with(".log (deleted)"))
            .count();
        self.most.fetch_max(nameless, Ordering::Relaxed);
        Duration::ZERO
    }

    fn reads_ahead(&self) -> bool {
        self.is_fast
    }

    fn is_stopped(&self) -> bool {
        false
    }
}

#[test]
#[cfg(target_os = "linux")]
fn old_files_are_gone_as_a_run_goes_on() {
    for is_fast in [true, false] {
        old_files_go(is_fast);
    }
}

#[cfg(target_os = "linux")]
fn old_files_go(is_fast: bool) {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path().join("log"), config()).unwrap();
    let put = |key: i64| {
        let mut builder = BatchBuilder::new();
        let value = vec![b'x'; 1_000];
        builder
            .push(1_000, Some(&key.to_be_bytes()), Some(&value), &[])
            .unwrap();
        log.append_batches(builder.build().unwrap(), LEADER)
            .unwrap();
    };
    (0..200).for_each(put);
    // A quarter of each segment goes: what is left of two is too much for one.
    (0..200).step_by(4).for_each(put);
    let before = log.segment_count();
    let watch = Watch {
        dir: dir.path().canonicalize().unwrap(),
        most: std::sync::atomic::AtomicUsize::new(0),
        is_fast,
    };
    let report = log
        .compact(2_000, &CompactionOptions::default(), &watch)
        .unwrap();
    assert!(
        report.segments_after > before / 2,
        "many groups: {report:?}"
    );
    assert!(report.bytes_after < report.bytes_before);
    let most = watch.most.load(Ordering::Relaxed);
    assert!(most <= 1, "{most} old files still took space");
}
