//! `dlog log` on real folders, with the real binary.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dlog_storage::record::{BatchBuilder, Compression, Header};
use dlog_storage::{AppendMode, EndMarker, Format, Log, LogConfig, NewRecord};
use dlog_system_tests::server::binary;
use serde_json::Value;

const RECORDS: i64 = 40;

/// A closed log with several segments: `key-i` → `value-i`, two records a batch in v2.
fn make_log(dir: &Path, format: Format, compression: Compression) {
    let config = LogConfig {
        format,
        compression,
        segment_bytes: 900,
        index_interval_bytes: 100,
        ..LogConfig::default()
    };
    let log = Log::open(dir, config).unwrap();
    let headers = [Header {
        key: "trace".into(),
        value: Some("abc".into()),
    }];
    for pair in 0..RECORDS / 2 {
        let texts: Vec<_> = (pair * 2..pair * 2 + 2)
            .map(|i| {
                (
                    format!("key-{i}"),
                    format!("value-{i}"),
                    1_700_000_000_000 + i,
                )
            })
            .collect();
        let records: Vec<_> = texts
            .iter()
            .map(|(key, value, time)| NewRecord {
                key: Some(key.as_bytes()),
                value: Some(value.as_bytes()),
                headers: if format == Format::V2 { &headers } else { &[] },
                timestamp_ms: Some(*time),
            })
            .collect();
        log.append_records(&records).unwrap();
    }
    log.close().unwrap();
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    segments.sort();
    assert!(segments.len() >= 3, "{segments:?}");
    segments
}

fn dlog_log(args: &[&str], path: &Path) -> Output {
    Command::new(binary().unwrap())
        .arg("log")
        .args(args)
        .arg(path)
        .output()
        .unwrap()
}

/// Standard output of a run with an expected exit code.
fn run(code: i32, args: &[&str], path: &Path) -> String {
    let output = dlog_log(args, path);
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}\n{stdout}\n{stderr}"
    );
    stdout
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Offset, key and value of the records in a JSON dump.
fn records(lines: &[Value]) -> Vec<(i64, String, String)> {
    let records = lines.iter().filter(|line| line.get("offset").is_some());
    let field = |record: &Value, name: &str| record[name].as_str().unwrap().to_owned();
    records
        .map(|record| {
            (
                record["offset"].as_i64().unwrap(),
                field(record, "key"),
                field(record, "value"),
            )
        })
        .collect()
}

fn expected() -> Vec<(i64, String, String)> {
    (0..RECORDS)
        .map(|i| (i, format!("key-{i}"), format!("value-{i}")))
        .collect()
}

fn flip_byte(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn dump_shows_every_record_of_every_codec() {
    for compression in Compression::ALL {
        let dir = tempfile::tempdir().unwrap();
        make_log(dir.path(), Format::V2, compression);
        let lines = json_lines(&run(0, &["dump", "--json", "--records"], dir.path()));
        assert_eq!(records(&lines), expected());
        let batches: Vec<_> = lines
            .iter()
            .filter(|line| line.get("base_offset").is_some())
            .collect();
        assert_eq!(batches.len() as i64, RECORDS / 2);
        for batch in &batches {
            assert_eq!(batch["codec"], compression.to_string());
            assert_eq!(batch["records"], 2);
            assert_eq!(batch["sound"], true);
        }
        let record = lines.iter().find(|line| line["offset"] == 3).unwrap();
        assert_eq!(record["timestamp_ms"], 1_700_000_000_003_i64);
        assert_eq!(record["headers"][0]["key"], "trace");
        assert_eq!(record["headers"][0]["value"], "abc");
    }
}

#[test]
fn dump_as_a_table_from_an_offset() {
    let dir = tempfile::tempdir().unwrap();
    make_log(dir.path(), Format::V2, Compression::None);
    let table = run(
        0,
        &["dump", "--records", "--from", "7", "--count", "3"],
        dir.path(),
    );
    let records: Vec<_> = table.lines().filter(|line| line.contains("=>")).collect();
    assert_eq!(records.len(), 3, "{table}");
    assert!(
        records[0].contains("7   2023-11-14T22:13:20.007Z  \"key-7\" => \"value-7\""),
        "{table}"
    );
    assert!(records[2].contains("\"value-9\""), "{table}");
    let batches = run(0, &["dump", "--count", "4"], dir.path());
    assert_eq!(
        batches.lines().count(),
        1 + 4,
        "a heading and four batches:\n{batches}"
    );
    // One segment file alone.
    let last = segments(dir.path()).pop().unwrap();
    let lines = json_lines(&run(0, &["dump", "--json"], &last));
    assert_eq!(lines.last().unwrap()["last_offset"], RECORDS - 1);
    assert!(lines[0]["base_offset"].as_i64().unwrap() > 0);
}

/// Base offsets lie outside the checksum.
#[test]
fn verify_finds_an_offset_that_was_changed() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("orders-0");
    make_log(&folder, Format::V2, Compression::None);
    let changed = segments(&folder).remove(1);
    let whole = std::fs::read(&changed).unwrap();
    let first_batch = 12 + u32::from_be_bytes(whole[8..12].try_into().unwrap()) as usize;
    flip_byte(&changed, first_batch + 5);
    let table = run(1, &["verify"], data.path());
    assert!(
        table.contains("stands where") && table.contains("1 segment is damaged"),
        "{table}"
    );
    // A batch that is gone from the end of a segment is missed by the next one.
    std::fs::write(&changed, &whole[..first_batch]).unwrap();
    let table = run(1, &["verify"], data.path());
    assert!(table.contains("1 segment is damaged"), "{table}");
}

#[test]
fn verify_tells_sound_from_damaged() {
    let data = tempfile::tempdir().unwrap();
    for name in ["orders-0", "orders-1"] {
        make_log(&data.path().join(name), Format::V2, Compression::None);
    }
    let report: Value = serde_json::from_str(&run(0, &["verify", "--json"], data.path())).unwrap();
    assert_eq!(report["sound"], true);
    assert_eq!(report["records"], 2 * RECORDS);
    assert!(run(0, &["verify"], data.path()).contains("all sound"));

    let damaged = segments(&data.path().join("orders-1")).remove(1);
    let whole = std::fs::read(&damaged).unwrap();
    let len = whole.len();
    // A bit anywhere under a checksum: the last byte of the first batch and of the file, and a CRC.
    let first_batch = 12 + u32::from_be_bytes(whole[8..12].try_into().unwrap()) as usize;
    for (at, position) in [
        (first_batch - 1, 0),
        (17, 0),
        (first_batch + 25, first_batch),
    ] {
        assert!(at < len);
        std::fs::write(&damaged, &whole).unwrap();
        flip_byte(&damaged, at);
        let report: Value =
            serde_json::from_str(&run(1, &["verify", "--json"], data.path())).unwrap();
        assert_eq!(report["sound"], false, "byte {at}");
        let found: Vec<_> = report["segments"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|s| !s["damage"].is_null())
            .collect();
        assert_eq!(found.len(), 1, "byte {at}: only one segment is damaged");
        assert_eq!(found[0]["segment"], damaged.display().to_string());
        assert_eq!(found[0]["damage"]["position"], position, "byte {at}");
        let table = run(1, &["verify"], data.path());
        assert!(
            table.contains("DAMAGED at byte") && table.contains("1 segment is damaged"),
            "{table}"
        );
        let dump = run(1, &["dump", "--records"], &damaged);
        assert!(dump.contains("BAD"), "{dump}");
    }
}

#[test]
fn a_cut_segment_is_damage_and_dump_shows_what_is_before_it() {
    let dir = tempfile::tempdir().unwrap();
    make_log(dir.path(), Format::V2, Compression::None);
    let last = segments(dir.path()).pop().unwrap();
    let whole = std::fs::read(&last).unwrap();
    std::fs::write(&last, &whole[..whole.len() - 3]).unwrap();
    run(1, &["verify"], dir.path());
    let output = dlog_log(&["dump", "--json"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        json_lines(&String::from_utf8(output.stdout).unwrap()).len() as i64,
        RECORDS / 2 - 1
    );
    assert!(String::from_utf8_lossy(&output.stderr).contains("is damaged at byte"));
}

#[test]
fn repaired_indexes_are_those_that_the_log_had() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().join("orders-0");
    make_log(&dir, Format::V2, Compression::None);
    let first = segments(&dir).remove(0);
    let paths = [
        first.with_extension("index"),
        first.with_extension("timeindex"),
    ];
    let before = paths.each_ref().map(|path| std::fs::read(path).unwrap());
    assert!(before.iter().all(|bytes| !bytes.is_empty()));
    std::fs::remove_file(&paths[0]).unwrap();
    std::fs::write(&paths[1], b"no index at all").unwrap();
    run(0, &["repair-index", "--interval", "100"], data.path());
    assert_eq!(
        paths.each_ref().map(|path| std::fs::read(path).unwrap()),
        before
    );
}

#[test]
fn convert_keeps_every_record() {
    let dir = tempfile::tempdir().unwrap();
    make_log(dir.path(), Format::V1, Compression::None);
    let before = json_lines(&run(0, &["dump", "--json", "--records"], dir.path()));
    assert_eq!(records(&before), expected());
    assert!(
        before
            .iter()
            .all(|line| line.get("kind").is_none_or(|kind| kind == "v1"))
    );
    let report: Value = serde_json::from_str(&run(
        0,
        &["convert", "--json", "--compression", "zstd"],
        dir.path(),
    ))
    .unwrap();
    assert_eq!(report["records"], RECORDS);
    let after = json_lines(&run(0, &["dump", "--json", "--records"], dir.path()));
    assert_eq!(records(&after), expected());
    assert!(
        after
            .iter()
            .all(|line| line.get("kind").is_none_or(|kind| kind == "data"))
    );
    let time = |lines: &[Value]| {
        lines.iter().find(|line| line["offset"] == 5).unwrap()["timestamp_ms"].clone()
    };
    assert_eq!(time(&before), time(&after));
    assert!(run(0, &["convert"], dir.path()).contains("nothing to convert"));
    // The engine takes the converted folder.
    let log = Log::open(dir.path(), LogConfig::default()).unwrap();
    assert_eq!(log.append(None, Some(b"next")).unwrap(), RECORDS);
}

#[test]
fn an_open_log_is_read_but_never_changed() {
    let dir = tempfile::tempdir().unwrap();
    make_log(dir.path(), Format::V1, Compression::None);
    let log = Log::open(dir.path(), LogConfig::default()).unwrap();
    run(0, &["verify"], dir.path());
    for command in ["convert", "repair-index"] {
        let output = dlog_log(&[command], dir.path());
        assert!(!output.status.success(), "{command}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains("in use by another process"),
            "{command}: {stderr}"
        );
    }
    assert_eq!(log.read(0).unwrap().count() as i64, RECORDS);
}

#[test]
fn a_folder_without_segments_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    for command in ["dump", "verify", "convert", "repair-index"] {
        let output = dlog_log(&[command], dir.path());
        assert!(!output.status.success(), "{command}");
        assert!(output.stdout.is_empty() || command == "dump");
        assert!(!output.stderr.is_empty(), "{command} says why");
    }
}

/// A closed log with an aborted and a committed transaction over several segments.
fn make_transactions(dir: &Path) {
    let config = LogConfig {
        segment_bytes: 400,
        ..LogConfig::default()
    };
    let log = Log::open(dir, config).unwrap();
    let leader = AppendMode::Leader {
        leader_epoch: 0,
        log_append_time: None,
    };
    for sequence in 0..6 {
        for producer in [7, 8] {
            let mut batch = BatchBuilder::new()
                .producer(producer, 0, sequence)
                .transactional(true);
            batch.push(1, None, Some(b"value"), &[]).unwrap();
            log.append_batches(batch.build().unwrap(), leader).unwrap();
        }
    }
    for (producer_id, committed) in [(7, true), (8, false)] {
        let marker = EndMarker {
            producer_id,
            producer_epoch: 0,
            committed,
            coordinator_epoch: 0,
            timestamp_ms: 1,
            strict_epoch: false,
        };
        log.append_end_marker(marker, 0).unwrap();
    }
    log.close().unwrap();
}

#[test]
fn transactions_are_shown_checked_and_indexed_again() {
    let dir = tempfile::tempdir().unwrap();
    make_transactions(dir.path());
    let last = segments(dir.path()).pop().unwrap();
    let index = last.with_extension("txnindex");
    let table = run(0, &["dump"], dir.path());
    for kind in ["txn", "commit", "abort"] {
        assert!(table.contains(kind), "{table}");
    }
    let found = json_lines(&run(0, &["dump", "--json"], &index));
    let expected = serde_json::json!({
        "producer_id": 8, "first_offset": 1, "last_offset": 13, "last_stable_offset": 14,
    });
    assert_eq!(found, [expected]);
    let verify = |code| -> Value {
        serde_json::from_str(&run(code, &["verify", "--json"], dir.path())).unwrap()
    };
    let fault = |report: &Value| {
        let of_last = report["segments"].as_array().unwrap().last().unwrap();
        assert_eq!(of_last["aborted_transactions"], 1);
        of_last["index_fault"].as_str().map(str::to_owned)
    };
    assert_eq!(fault(&verify(0)), None);
    let whole = std::fs::read(&index).unwrap();
    std::fs::remove_file(&index).unwrap();
    assert!(fault(&verify(0)).unwrap().contains("lacks 1 of 1"));
    std::fs::write(&index, &whole[..20]).unwrap();
    assert!(fault(&verify(0)).unwrap().contains("cut short"));
    assert!(run(0, &["verify"], dir.path()).contains("nothing is lost"));
    assert!(run(1, &["dump"], &index).is_empty());
    run(0, &["repair-index"], dir.path());
    assert_eq!(std::fs::read(&index).unwrap(), whole);
    assert_eq!(fault(&verify(0)), None);
}
