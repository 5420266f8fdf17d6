//! The engine alone, each figure beside a baseline of the same run: plain `write` and `fdatasync`
//! of the same bytes to one file.
//!
//! `cargo bench -p dlog-storage --bench engine [-- --quick] [--compaction]` prints one JSON object.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dlog_storage::record::{BatchBuilder, Compression};
use dlog_storage::{
    AppendMode, CleanupPolicy, CompactionOptions, FlushPolicy, Log, LogConfig, NewRecord, Unhurried,
};

const LEADER: AppendMode = AppendMode::Leader {
    leader_epoch: 0,
    log_append_time: None,
};

struct Sizes {
    batch_records: u64,
    writers_for: Duration,
    lookup_records: u64,
    recovery_bytes: u64,
    compaction_bytes: u64,
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let sizes = if quick {
        Sizes {
            batch_records: 1_000_000,
            writers_for: Duration::from_secs(1),
            lookup_records: 1_000_000,
            recovery_bytes: 1 << 28,
            compaction_bytes: 1 << 28,
        }
    } else {
        Sizes {
            batch_records: 20_000_000,
            writers_for: Duration::from_secs(5),
            lookup_records: 10_000_000,
            recovery_bytes: 10 << 30,
            compaction_bytes: 2 << 30,
        }
    };
    let dir = std::env::var_os("DLOG_BENCH_DIR").map_or_else(
        || std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        Into::into,
    );
    let dir = tempfile::tempdir_in(dir).expect("a folder to write to");
    let only_compaction = std::env::args().any(|arg| arg == "--compaction");
    println!("{{");
    if !only_compaction {
        batches(dir.path(), &sizes);
        for records in [1, 10, 100] {
            durable_writers(dir.path(), &sizes, records);
        }
        zeros_ahead(dir.path(), &sizes);
        lookups(dir.path(), &sizes);
        recovery(dir.path(), &sizes);
    }
    compaction(dir.path(), &sizes, Compression::None);
    compaction(dir.path(), &sizes, Compression::Lz4);
    println!("  \"quick\": {quick}\n}}");
}

fn batch(records: usize, value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for i in 0..records {
        builder
            .push(1_700_000_000_000 + i as i64, None, Some(value), &[])
            .expect("a small record");
    }
    builder.build().expect("a small batch")
}

fn open(dir: &Path, name: &str, flush: FlushPolicy) -> Arc<Log> {
    let config = LogConfig {
        flush,
        ..LogConfig::default()
    };
    Log::open(dir.join(name), config).expect("a log in a fresh folder")
}

/// 100-byte records appended from ready batches of 16 KiB, no flush.
fn batches(dir: &Path, sizes: &Sizes) {
    let batch = batch(160, &[b'x'; 100]);
    let count = sizes.batch_records / 160;
    let log = open(dir, "batches", FlushPolicy::Os);
    let started = Instant::now();
    for _ in 0..count {
        log.append_batches(batch.clone(), LEADER).expect("append");
    }
    let ours = count as f64 * 160.0 / started.elapsed().as_secs_f64();
    let mut file = File::create(dir.join("plain")).expect("a file");
    let started = Instant::now();
    for _ in 0..count {
        file.write_all(&batch).expect("write");
    }
    let plain = count as f64 * 160.0 / started.elapsed().as_secs_f64();
    println!(
        "  \"append_batches_records_per_s\": {ours:.0}, \"plain_write_records_per_s\": {plain:.0}, \"append_to_plain\": {:.3},",
        ours / plain
    );
    drop(log);
    std::fs::remove_dir_all(dir.join("batches")).expect("clean up");
    std::fs::remove_file(dir.join("plain")).expect("clean up");
}

/// 64 threads that each append `records` 100-byte records and wait until they are on the disk.
fn durable_writers(dir: &Path, sizes: &Sizes, records: usize) {
    let name = format!("durable-{records}");
    let log = open(dir, &name, FlushPolicy::Always);
    let total = AtomicU64::new(0);
    let value = [b'x'; 100];
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let batch = vec![NewRecord::new(None, Some(&value)); records];
                while started.elapsed() < sizes.writers_for {
                    log.append_records(&batch).expect("append");
                    total.fetch_add(records as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let ours = total.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    let syncs = plain_syncs(dir, sizes.writers_for);
    println!(
        "  \"durable_64_writers_batch_{records}_records_per_s\": {ours:.0}, \"plain_fdatasync_per_s\": {syncs:.0}, \"records_per_plain_fdatasync\": {:.1},",
        ours / syncs
    );
    drop(log);
    std::fs::remove_dir_all(dir.join(name)).expect("clean up");
}

/// One writer, one 4 KiB record a flush: what writing zeros ahead saves.
fn zeros_ahead(dir: &Path, sizes: &Sizes) {
    let rate = |zero_ahead_bytes: u32| {
        let config = LogConfig {
            zero_ahead_bytes,
            ..LogConfig::default()
        };
        let log = Log::open(dir.join("zeros"), config).expect("a log in a fresh folder");
        let value = [b'x'; 4000];
        let started = Instant::now();
        let mut count = 0_u64;
        while started.elapsed() < sizes.writers_for {
            log.append(None, Some(&value)).expect("append");
            count += 1;
        }
        let rate = count as f64 / started.elapsed().as_secs_f64();
        drop(log);
        std::fs::remove_dir_all(dir.join("zeros")).expect("clean up");
        rate
    };
    // In turn, so that a disk that changes its speed changes both.
    let (with, without): (Vec<f64>, Vec<f64>) = (0..3)
        .map(|_| (rate(LogConfig::default().zero_ahead_bytes), rate(0)))
        .unzip();
    let (with, without) = (median(with), median(without));
    println!(
        "  \"durable_1_writer_4k_per_s\": {with:.0}, \"without_zeros_ahead_per_s\": {without:.0}, \"zeros_ahead_gain\": {:.2},",
        with / without
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One thread that appends 4 KiB and calls fdatasync, over and over.
fn plain_syncs(dir: &Path, duration: Duration) -> f64 {
    let path = dir.join("syncs");
    let file = File::create(&path).expect("a file");
    let started = Instant::now();
    let mut count = 0_u64;
    while started.elapsed() < duration {
        file.write_all_at(&[1; 4096], count * 4096).expect("write");
        file.sync_data().expect("sync");
        count += 1;
    }
    std::fs::remove_file(path).expect("clean up");
    count as f64 / started.elapsed().as_secs_f64()
}

/// Random reads by offset, hot, and the size of the index.
fn lookups(dir: &Path, sizes: &Sizes) {
    let log = open(dir, "lookups", FlushPolicy::Os);
    let batch = batch(10, &[b'x'; 100]);
    for i in 0..sizes.lookup_records / 10 {
        // Growing timestamps, so that the time index has its entries.
        let mode = AppendMode::Leader {
            leader_epoch: 0,
            log_append_time: Some(i as i64),
        };
        log.append_batches(batch.clone(), mode).expect("append");
    }
    let index = log.index_bytes().expect("an index") as f64 / log.size_bytes() as f64;
    let mut latencies: Vec<Duration> = Vec::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..200_000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let offset = ((random >> 20) % sizes.lookup_records) as i64;
        let started = Instant::now();
        let record = log
            .read(offset)
            .expect("in range")
            .next()
            .expect("a record")
            .expect("sound");
        latencies.push(started.elapsed());
        assert_eq!(record.offset, offset);
    }
    latencies.sort();
    let at = |q: f64| latencies[(latencies.len() as f64 * q) as usize].as_secs_f64() * 1e6;
    let plain = plain_reads(&dir.join("lookups"));
    println!(
        "  \"lookup_us_p50\": {:.1}, \"lookup_us_p99\": {:.1}, \"plain_pread_us_p50\": {plain:.2}, \"lookup_to_plain\": {:.1}, \"index_percent_of_log\": {:.3},",
        at(0.5),
        at(0.99),
        at(0.5) / plain,
        index * 100.0
    );
    drop(log);
    std::fs::remove_dir_all(dir.join("lookups")).expect("clean up");
}

fn plain_reads(dir: &Path) -> f64 {
    let file = File::open(dir.join("00000000000000000000.log")).expect("the first segment");
    let len = file.metadata().expect("metadata").len();
    let mut latencies: Vec<Duration> = (0..20_000_u64)
        .map(|i| {
            let started = Instant::now();
            file.read_at(&mut [0; 1200], i * 7_919_000 % (len - 2000))
                .expect("read");
            started.elapsed()
        })
        .collect();
    latencies.sort();
    latencies[latencies.len() / 2].as_secs_f64() * 1e6
}

/// 1 KiB values that compress to about a half, 16 to a batch; every key is written twice, far apart. Beside
/// it: the same bytes read once with their checksums and written once to another file, synced at the end.
fn compaction(dir: &Path, sizes: &Sizes, codec: Compression) {
    let config = LogConfig {
        flush: FlushPolicy::Os,
        // The active segment, which is not compacted, is a small part.
        segment_bytes: sizes.compaction_bytes / 64,
        cleanup: CleanupPolicy {
            delete: false,
            compact: true,
        },
        ..LogConfig::default()
    };
    let log = Log::open(dir.join("compaction"), config).expect("a log in a fresh folder");
    let keys = sizes.compaction_bytes / 1_100 / 2;
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for first in (0..keys * 2).step_by(16) {
        let mut builder = BatchBuilder::new().compression(codec, None);
        for number in first..first + 16 {
            // Neither in the order of the first time, nor in batches that lose all.
            let key = if number < keys {
                number
            } else {
                number.wrapping_mul(7_919) % keys
            };
            let mut value = [b'x'; 1024];
            for chunk in value[..512].chunks_exact_mut(8) {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                chunk.copy_from_slice(&(random >> 8).to_be_bytes());
            }
            let key = format!("key-{key:012}");
            builder
                .push(1_700_000_000_000, Some(key.as_bytes()), Some(&value), &[])
                .expect("a small record");
        }
        log.append_batches(builder.build().expect("a small batch"), LEADER)
            .expect("append");
    }
    log.checkpoint().expect("flush");
    let plain = plain_copy(&dir.join("compaction"));
    let started = Instant::now();
    let report = log
        .compact(1_700_000_000_000, &CompactionOptions::default(), &Unhurried)
        .expect("compact");
    let seconds = started.elapsed().as_secs_f64();
    let mib = report.bytes_before as f64 / f64::from(1 << 20);
    println!(
        "  \"compaction_{codec}_mib_per_s\": {:.0}, \"compaction_{codec}_left\": {:.3}, \"compaction_{codec}_records_per_s\": {:.0}, \"plain_copy_mib_per_s\": {plain:.0}, \"compaction_{codec}_to_plain_copy\": {:.2},",
        mib / seconds,
        report.bytes_after as f64 / report.bytes_before as f64,
        report.records_read as f64 / seconds,
        mib / seconds / plain
    );
    drop(log);
    std::fs::remove_dir_all(dir.join("compaction")).expect("clean up");
}

/// MiB/s of reading the segments of a folder and writing them to one file.
fn plain_copy(dir: &Path) -> f64 {
    let target = dir.join("plain.copy");
    let mut file = File::create(&target).expect("a file");
    let mut bytes = 0;
    let started = Instant::now();
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let content = std::fs::read(&path).expect("read");
            bytes += content.len();
            std::hint::black_box(crc32c::crc32c(&content));
            file.write_all(&content).expect("write");
        }
    }
    file.sync_data().expect("sync");
    let rate = bytes as f64 / f64::from(1 << 20) / started.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(target).expect("clean up");
    rate
}

/// Reopening after a kill: with the checkpoints of normal running.
fn recovery(dir: &Path, sizes: &Sizes) {
    let log = open(dir, "recovery", FlushPolicy::Os);
    let batch = batch(1_000, &[b'x'; 1_000]);
    while log.size_bytes() < sizes.recovery_bytes {
        log.append_batches(batch.clone(), LEADER).expect("append");
    }
    let end = log.log_end_offset();
    drop(log);
    let started = Instant::now();
    let log = open(dir, "recovery", FlushPolicy::Os);
    let elapsed = started.elapsed();
    assert_eq!(log.log_end_offset(), end);
    println!(
        "  \"recovery_log_bytes\": {}, \"recovery_ms\": {:.1},",
        log.size_bytes(),
        elapsed.as_secs_f64() * 1e3
    );
    drop(log);
    std::fs::remove_dir_all(dir.join("recovery")).expect("clean up");
}
