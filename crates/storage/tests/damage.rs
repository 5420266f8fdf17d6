//! Cut a small log at every byte, flip every bit of it: recovery never panics, never invents a
//! record, never loses one that precedes the damage, and says what it did.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dlog_storage::disk::{Disk, SimDisk};
use dlog_storage::{
    Flusher, Format, Log, LogConfig, LogEnv, NewRecord, RecoveryReport, StorageError,
};

const DIR: &str = "/data/t-0";

fn env(disk: &SimDisk) -> LogEnv {
    LogEnv {
        disk: Arc::new(disk.clone()),
        flusher: Arc::new(Flusher::manual()),
        clock: Arc::new(|| 5_000),
        take_lock: false,
    }
}

fn config(format: Format) -> LogConfig {
    LogConfig {
        format,
        zero_ahead_bytes: 0,
        index_interval_bytes: 64,
        ..LogConfig::default()
    }
}

/// A log of six records in four batches, killed without a close.
fn small_log(format: Format) -> (SimDisk, Vec<Vec<u8>>) {
    let disk = SimDisk::new();
    let (log, _) = Log::open_with(&env(&disk), DIR, config(format)).unwrap();
    let values: Vec<Vec<u8>> = (0..6_u8)
        .map(|i| vec![b'a' + i; 5 + usize::from(i)])
        .collect();
    for group in [&values[0..1], &values[1..3], &values[3..4], &values[4..6]] {
        let records: Vec<_> = group
            .iter()
            .map(|value| NewRecord::new(Some(b"key"), Some(value)))
            .collect();
        log.append_records(&records).unwrap();
    }
    drop(log);
    (disk.process_kill(), values)
}

fn log_path() -> PathBuf {
    Path::new(DIR).join("00000000000000000000.log")
}

/// Byte position behind each record's frame.
fn frame_ends(format: Format, bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut ends = Vec::new();
    let (mut position, mut records) = (0, 0);
    while position < bytes.len() {
        let field = |at: usize| {
            u32::from_be_bytes(bytes[position + at..position + at + 4].try_into().unwrap())
        };
        let (len, count) = match format {
            Format::V1 => (8 + field(0) as usize, 1),
            Format::V2 => (12 + field(8) as usize, field(57) as usize),
        };
        position += len;
        records += count;
        ends.push((position, records));
    }
    ends
}

fn reopen(disk: &SimDisk, format: Format) -> Result<(Arc<Log>, RecoveryReport), StorageError> {
    Log::open_with(&env(disk), DIR, config(format))
}

/// Opens a damaged log and checks that what is before the damage is there and nothing else.
fn check(
    disk: &SimDisk,
    format: Format,
    values: &[Vec<u8>],
    sound_records: usize,
    what: &str,
) -> RecoveryReport {
    let (log, report) = reopen(disk, format).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found: Vec<_> = log
        .read(0)
        .unwrap()
        .map(|record| record.unwrap().value.unwrap().to_vec())
        .collect();
    assert!(
        found.len() >= sound_records,
        "{what}: {} of {sound_records} sound records",
        found.len()
    );
    assert_eq!(
        found[..],
        values[..found.len()],
        "{what}: an invented record"
    );
    // The log goes on where it was cut.
    assert_eq!(
        log.append(None, Some(b"next")).unwrap(),
        found.len() as i64,
        "{what}"
    );
    report
}

#[test]
fn cut_at_every_byte() {
    for format in [Format::V1, Format::V2] {
        let (disk, values) = small_log(format);
        let whole = disk.content(&log_path()).unwrap();
        let ends = frame_ends(format, &whole);
        for cut in 0..=whole.len() {
            let disk = disk.process_kill();
            disk.set_content(&log_path(), whole[..cut].to_vec());
            let sound = ends
                .iter()
                .take_while(|(end, _)| *end <= cut)
                .last()
                .map_or(0, |(_, records)| *records);
            let report = check(
                &disk,
                format,
                &values,
                sound,
                &format!("{format:?} cut at {cut}"),
            );
            let torn = cut
                - ends
                    .iter()
                    .map(|(end, _)| *end)
                    .take_while(|end| *end <= cut)
                    .last()
                    .unwrap_or(0);
            // A head of zeros cannot be told from space written ahead.
            if torn > 0 && whole[cut - torn..cut].iter().any(|byte| *byte != 0) {
                assert_eq!(
                    report.cut.map(|cut| cut.bytes),
                    Some(torn as u64),
                    "{format:?} cut at {cut}"
                );
            }
        }
    }
}

#[test]
fn flip_every_bit() {
    for format in [Format::V1, Format::V2] {
        let (disk, values) = small_log(format);
        let whole = disk.content(&log_path()).unwrap();
        let ends = frame_ends(format, &whole);
        for bit in 0..whole.len() * 8 {
            let disk = disk.process_kill();
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            disk.set_content(&log_path(), bytes);
            let sound = ends
                .iter()
                .take_while(|(end, _)| *end <= bit / 8)
                .last()
                .map_or(0, |(_, records)| *records);
            check(
                &disk,
                format,
                &values,
                sound,
                &format!("{format:?} bit {bit}"),
            );
        }
    }
}

#[test]
fn damage_below_the_recovery_point_is_refused_and_named() {
    let (disk, _) = small_log(Format::V2);
    let (log, _) = reopen(&disk, Format::V2).unwrap();
    log.close().unwrap();
    drop(log);
    let whole = disk.content(&log_path()).unwrap();
    disk.set_content(&log_path(), whole[..whole.len() - 1].to_vec());
    let error = reopen(&disk, Format::V2).unwrap_err();
    assert!(
        matches!(&error, StorageError::Damaged { path, .. } if path == &log_path()),
        "{error}"
    );
    assert_eq!(
        disk.content(&log_path()).unwrap().len(),
        whole.len() - 1,
        "nothing was cut"
    );
    // A missing segment is damage too.
    disk.remove_file(&log_path()).unwrap();
    assert!(matches!(
        reopen(&disk, Format::V2),
        Err(StorageError::Damaged { .. })
    ));
}

#[test]
fn damaged_small_files_never_lose_records() {
    let (disk, values) = small_log(Format::V2);
    let (log, _) = reopen(&disk, Format::V2).unwrap();
    log.checkpoint().unwrap();
    drop(log);
    for name in [
        "checkpoint",
        "leader-epoch-checkpoint",
        "00000000000000000000.index",
        "00000000000000000000.timeindex",
    ] {
        let path = Path::new(DIR).join(name);
        let whole = disk.content(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let disk = disk.process_kill();
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            disk.set_content(&path, bytes);
            check(
                &disk,
                Format::V2,
                &values,
                values.len(),
                &format!("{name} bit {bit}"),
            );
        }
        let disk = disk.process_kill();
        disk.remove_file(&path).unwrap();
        check(
            &disk,
            Format::V2,
            &values,
            values.len(),
            &format!("{name} removed"),
        );
    }
}

/// A closed log is not read when it is opened: damage shows when it is read, and never as a record
/// that was not written, or not there.
#[test]
fn bits_flipped_below_the_recovery_point_are_errors_when_read() {
    for format in [Format::V1, Format::V2] {
        let (disk, values) = small_log(format);
        let (log, _) = reopen(&disk, format).unwrap();
        log.close().unwrap();
        drop(log);
        let whole = disk.content(&log_path()).unwrap();
        let mut noticed = 0;
        for bit in 0..whole.len() * 8 {
            let disk = disk.process_kill();
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            disk.set_content(&log_path(), bytes);
            let Ok((log, _)) = reopen(&disk, format) else {
                noticed += 1;
                continue;
            };
            let what = format!("{format:?} bit {bit}");
            for from in 0..values.len() {
                let mut next = from;
                for record in log.read(from as i64).unwrap() {
                    let Ok(record) = record else { break };
                    assert_eq!(record.offset, next as i64, "{what}");
                    assert_eq!(record.value.as_deref(), Some(&values[next][..]), "{what}");
                    next += 1;
                }
                noticed += usize::from(from == 0 && next < values.len());
            }
        }
        // All but the bits of the leader epoch, which is not under a batch's checksum.
        let epochs = if format == Format::V2 { 4 * 32 } else { 0 };
        assert!(noticed + epochs >= whole.len() * 8, "{format:?}: {noticed}");
    }
}

/// Records of 100 bytes in segments of three.
fn long_log() -> (SimDisk, Vec<PathBuf>) {
    let disk = SimDisk::new();
    let (log, _) = Log::open_with(&env(&disk), DIR, long_config()).unwrap();
    for i in 0..10 {
        log.append(None, Some(&[i; 100])).unwrap();
    }
    log.close().unwrap();
    let names = disk.list(Path::new(DIR)).unwrap().into_iter();
    let paths: Vec<_> = names
        .filter(|file| file.name.ends_with(".log"))
        .map(|file| Path::new(DIR).join(file.name))
        .collect();
    assert_eq!(paths.len(), 4);
    (disk, paths)
}

fn long_config() -> LogConfig {
    LogConfig {
        segment_bytes: 550,
        ..config(Format::V2)
    }
}

fn read_until_damage(log: &Log) -> (Vec<i64>, StorageError) {
    let mut offsets = Vec::new();
    for record in log.read(log.log_start_offset()).unwrap() {
        match record {
            Ok(record) => offsets.push(record.offset),
            Err(error) => return (offsets, error),
        }
    }
    panic!("no damage after {offsets:?}");
}

#[test]
fn a_missing_or_emptied_segment_is_never_passed_over() {
    for emptied in [false, true] {
        let (disk, paths) = long_log();
        if emptied {
            disk.set_content(&paths[1], Vec::new());
        } else {
            disk.remove_file(&paths[1]).unwrap();
        }
        let (log, _) = Log::open_with(&env(&disk), DIR, long_config()).unwrap();
        let (offsets, error) = read_until_damage(&log);
        assert_eq!(offsets, [0, 1, 2]);
        assert!(
            matches!(&error, StorageError::Damaged { reason, .. } if reason.contains("offset 3 is missing")),
            "{error}"
        );
        assert_eq!(log.read(6).unwrap().count(), 4, "what is whole is served");
        assert!(
            log.read_range(4, 1000, dlog_storage::ReadLimit::End)
                .is_err()
        );
        // Without the checkpoint all is read at once, and refused rather than cut.
        drop(log);
        disk.remove_file(&Path::new(DIR).join("checkpoint"))
            .unwrap();
        let error = Log::open_with(&env(&disk), DIR, long_config()).unwrap_err();
        assert!(matches!(error, StorageError::Damaged { .. }), "{error}");
        assert!(disk.content(&paths[3]).is_ok(), "nothing was removed");
    }
}

#[test]
fn without_a_checkpoint_all_is_read_and_only_the_tail_is_cut() {
    let (disk, paths) = long_log();
    disk.remove_file(&Path::new(DIR).join("checkpoint"))
        .unwrap();
    let mut flipped = disk.content(&paths[1]).unwrap();
    flipped[120] ^= 1;
    let broken = disk.process_kill();
    broken.set_content(&paths[1], flipped);
    let error = Log::open_with(&env(&broken), DIR, long_config()).unwrap_err();
    assert!(
        matches!(&error, StorageError::Damaged { path, position: 0, .. } if path == &paths[1]),
        "{error}"
    );
    let mut torn = disk.content(&paths[3]).unwrap();
    torn.truncate(torn.len() - 1);
    disk.set_content(&paths[3], torn);
    let (log, report) = Log::open_with(&env(&disk), DIR, long_config()).unwrap();
    assert!(report.checkpoint_lost && report.scanned_bytes > 1_400);
    assert_eq!(report.cut.unwrap().next_offset, 9);
    assert_eq!(log.read(0).unwrap().count(), 9);
}
