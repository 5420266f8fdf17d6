//! Batches that Apache Kafka wrote, and batches that Apache Kafka reads.
//!
//! `testdata/batches` has the batches and what Kafka reads in them; `testdata/gen` made both.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions use it, too

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use dlog_storage::record::control::{ControlType, EndTxnMarker};
use dlog_storage::record::{
    Batch, BatchBuilder, BatchHeader, Compression, Header, NO_SEQUENCE, Record, RecordError,
    TimestampType, crc32c, recompress,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/batches")
}

fn vector(name: &str) -> Bytes {
    std::fs::read(folder().join(format!("{name}.batch")))
        .unwrap()
        .into()
}

fn batch(name: &str) -> Batch {
    Batch::from_bytes(vector(name)).unwrap()
}

/// Names of all vectors, without their ending.
fn names() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".batch").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert!(names.len() > 30, "the vectors are there");
    names
}

/// The description of a file, in the words of the Java program.
fn describe(name: &str, bytes: Bytes) -> String {
    let mut out = format!("file {name} {}\n", bytes.len());
    let mut rest = bytes;
    loop {
        match Batch::split_first(&mut rest) {
            Ok(Some(batch)) => describe_batch(&batch, &mut out),
            Ok(None) => break,
            Err(RecordError::UnsupportedMagic(magic)) => {
                writeln!(out, "legacy magic={magic}").unwrap();
                return out;
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(rest.is_empty(), "{name}: {} bytes are left", rest.len());
    out
}

fn describe_batch(batch: &Batch, out: &mut String) {
    batch.verify_crc().unwrap();
    let h = batch.header();
    let timestamp_type = match h.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    writeln!(
        out,
        "batch base_offset={} last_offset={} next_offset={} total_bytes={} leader_epoch={} \
         magic={} crc={} compression={} timestamp_type={timestamp_type} transactional={} \
         control={} delete_horizon={} base_timestamp={} max_timestamp={} producer_id={} \
         producer_epoch={} base_sequence={} last_sequence={} count={}",
        h.base_offset,
        h.last_offset(),
        h.next_offset(),
        h.total_bytes(),
        h.partition_leader_epoch,
        h.magic,
        h.crc,
        h.compression().unwrap(),
        h.is_transactional(),
        h.is_control(),
        h.delete_horizon_ms().unwrap_or(-1),
        h.base_timestamp,
        h.max_timestamp,
        h.producer_id,
        h.producer_epoch,
        h.base_sequence,
        h.last_sequence(),
        h.record_count,
    )
    .unwrap();
    for record in batch.records().unwrap() {
        describe_record(h, &record.unwrap(), out);
    }
}

fn describe_record(header: &BatchHeader, record: &Record, out: &mut String) {
    let sequence = if header.base_sequence == NO_SEQUENCE {
        NO_SEQUENCE
    } else {
        let delta = (record.offset - header.base_offset) as i32;
        dlog_storage::record::add_to_sequence(header.base_sequence, delta)
    };
    let headers: Vec<String> = record
        .headers
        .iter()
        .map(|h| format!("{}:{}", field(Some(&h.key)), field(h.value.as_ref())))
        .collect();
    writeln!(
        out,
        "record offset={} timestamp={} sequence={sequence} key={} value={} headers={}",
        record.offset,
        record.timestamp_ms,
        field(record.key.as_ref()),
        field(record.value.as_ref()),
        headers.join(",")
    )
    .unwrap();
}

fn field(bytes: Option<&Bytes>) -> String {
    match bytes {
        None => "null".into(),
        Some(bytes) if bytes.len() > 48 => format!("#{}#{}", bytes.len(), crc32c(bytes)),
        Some(bytes) => bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        }),
    }
}

/// Splits a description into its files, by name.
fn by_file(description: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for line in description.lines() {
        if let Some(rest) = line.strip_prefix("file ") {
            let name = rest.split(' ').next().unwrap();
            files.push((name.trim_end_matches(".batch").to_owned(), String::new()));
        }
        let (_, text) = files.last_mut().unwrap();
        text.push_str(line);
        text.push('\n');
    }
    files.sort();
    files
}

/// Writes the records of `batch` again, with everything that its header says.
fn rebuild(batch: &Batch) -> Result<Bytes, RecordError> {
    let h = batch.header();
    let mut builder = BatchBuilder::new()
        .compression(h.compression()?, None)
        .timestamp_type(h.timestamp_type())
        .producer(h.producer_id, h.producer_epoch, h.base_sequence)
        .transactional(h.is_transactional())
        .control(h.is_control())
        .base_offset(h.base_offset)
        .leader_epoch(h.partition_leader_epoch)
        .delete_horizon(h.delete_horizon_ms())
        .last_offset_delta(h.last_offset_delta);
    if h.record_count == 0 {
        builder = builder.max_timestamp(h.max_timestamp);
    }
    // With log append time the records' own timestamps are not readable any more: read them
    // through a header that says create time.
    let mut create_time = batch.bytes().to_vec();
    if h.timestamp_type() == TimestampType::LogAppendTime {
        builder = builder.log_append_time(h.max_timestamp);
        create_time[22] &= !0x08;
    }
    for record in Batch::from_bytes(create_time.into())?.records()? {
        let record = record?;
        builder.push_at(
            (record.offset - h.base_offset) as i32,
            record.timestamp_ms,
            record.key.as_deref(),
            record.value.as_deref(),
            &record.headers,
        )?;
    }
    builder.build()
}

#[test]
fn every_field_is_what_kafka_reads() {
    let expected = std::fs::read_to_string(folder().join("vectors.txt")).unwrap();
    let expected = by_file(&expected);
    let described: Vec<&String> = expected.iter().map(|(name, _)| name).collect();
    assert_eq!(described, names().iter().collect::<Vec<_>>());
    for (name, expected) in &expected {
        let actual = describe(&format!("{name}.batch"), vector(name));
        assert_eq!(&actual, expected, "{name}");
    }
}

#[test]
fn uncompressed_batches_are_written_byte_for_byte() {
    let mut compared = 0;
    for name in names() {
        if name.starts_with("legacy") {
            continue;
        }
        let batch = batch(&name);
        let rebuilt = rebuild(&batch).unwrap();
        if batch.header().compression().unwrap() == Compression::None {
            assert_eq!(&rebuilt, batch.bytes(), "{name}");
            compared += 1;
        } else {
            let ours = Batch::from_bytes(rebuilt).unwrap();
            assert_eq!(records(&ours), records(&batch), "{name}");
        }
    }
    assert!(compared > 15, "{compared} batches were compared");
}

fn records(batch: &Batch) -> Vec<Record> {
    batch.records().unwrap().map(Result::unwrap).collect()
}

#[test]
fn recompressing_gives_the_bytes_of_the_uncompressed_batch() {
    let plain = vector("mixed-none");
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let packed = batch(&format!("mixed-{codec}"));
        assert_eq!(recompress(&packed, Compression::None, None).unwrap(), plain);
    }
    for codec in Compression::ALL {
        let packed = recompress(&batch("mixed-none"), codec, None).unwrap();
        let packed = Batch::from_bytes(packed).unwrap();
        assert_eq!(packed.header().compression().unwrap(), codec);
        packed.verify_crc().unwrap();
        assert_eq!(records(&packed), records(&batch("mixed-none")));
        let back = recompress(&packed, Compression::None, None).unwrap();
        assert_eq!(back, plain);
    }
}

#[test]
fn compacted_batches_can_be_recompressed() {
    for name in ["offset-gaps", "compacted-tail", "compacted-empty"] {
        let plain = batch(name);
        for codec in Compression::ALL {
            let packed = Batch::from_bytes(recompress(&plain, codec, None).unwrap()).unwrap();
            assert_eq!(records(&packed), records(&plain), "{name}");
            let back = recompress(&packed, Compression::None, None).unwrap();
            assert_eq!(&back, plain.bytes(), "{name}");
        }
    }
}

#[test]
fn a_mebibyte_record_is_whole() {
    let expected: Vec<u8> = (0..=1u32 << 20).map(|i| (i >> 12) as u8).collect();
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let batch = batch(&format!("mebibyte-{codec}"));
        let records = records(&batch);
        assert_eq!(records[0].value.as_deref(), Some(expected.as_slice()));
        assert!(matches!(
            batch.section(1 << 20),
            Err(RecordError::DecompressedTooLarge { limit_bytes, .. }) if limit_bytes == 1 << 20
        ));
    }
}

#[test]
fn control_records() {
    let marker = |name| EndTxnMarker::from_batch(&batch(name)).unwrap();
    let commit = EndTxnMarker {
        committed: true,
        coordinator_epoch: 31,
    };
    let abort = EndTxnMarker {
        committed: false,
        coordinator_epoch: 0,
    };
    assert_eq!(marker("marker-commit"), Some(commit));
    assert_eq!(marker("marker-abort"), Some(abort));
    for (marker, name) in [(commit, "marker-commit"), (abort, "marker-abort")] {
        let mut ours = marker
            .to_batch(9_000_000_001, 12, 1_700_000_000_123)
            .unwrap()
            .to_vec();
        let head = ours.first_chunk_mut().unwrap();
        dlog_storage::record::patch_base_offset_and_epoch(head, 55, 6);
        assert_eq!(ours, vector(name), "{name}");
    }
    let others = [
        ("leader-change", ControlType::LeaderChange),
        ("snapshot-header", ControlType::SnapshotHeader),
        ("snapshot-footer", ControlType::SnapshotFooter),
        ("kraft-version", ControlType::KRaftVersion),
        ("kraft-voters", ControlType::KRaftVoters),
    ];
    for (name, expected) in others {
        assert_eq!(marker(name), None, "{name}");
        let key = records(&batch(name))[0].key.clone().unwrap();
        assert_eq!(ControlType::from_key(&key), Ok(expected), "{name}");
        assert_eq!(key, expected.to_key().as_slice());
    }
    assert_eq!(marker("mixed-none"), None);
}

#[test]
fn old_message_sets_are_named() {
    for magic in [0, 1] {
        let mut bytes = vector(&format!("legacy-magic-{magic}"));
        let error = RecordError::UnsupportedMagic(magic);
        assert_eq!(Batch::from_bytes(bytes.clone()), Err(error.clone()));
        assert_eq!(BatchHeader::parse(&bytes), Err(error.clone()));
        assert_eq!(Batch::split_first(&mut bytes), Err(error));
    }
}

/// Batches of this crate's own, for Kafka to read.
fn ours() -> Vec<(String, Bytes)> {
    let mut all = Vec::new();
    for name in names() {
        if name.starts_with("legacy") {
            continue;
        }
        let batch = batch(&name);
        all.push((format!("rebuilt-{name}"), rebuild(&batch).unwrap()));
        for codec in Compression::ALL {
            let bytes = recompress(&batch, codec, None).unwrap();
            all.push((format!("{name}-as-{codec}"), bytes));
        }
    }
    // What compresses badly, in blocks of every size around the codecs' own.
    for codec in Compression::ALL {
        for size in [1, 32 << 10, (32 << 10) + 1, 64 << 10, 200_000] {
            let noise: Vec<u8> = (0..size as u32)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
                .collect();
            let header = Header {
                key: Bytes::from_static(b"h"),
                value: None,
            };
            let mut builder = BatchBuilder::new().compression(codec, None);
            builder
                .push(1_000, Some(b"k"), Some(&noise), &[header])
                .unwrap();
            all.push((format!("noise-{size}-{codec}"), builder.build().unwrap()));
        }
    }
    all
}

/// Needs a JVM and Kafka's classes; `testdata/gen/README.md` says how to run it.
#[test]
#[ignore = "needs DLOG_GOLDEN_CLASSPATH, see testdata/gen/README.md"]
fn kafka_reads_what_we_write() {
    let classpath = std::env::var("DLOG_GOLDEN_CLASSPATH").expect("DLOG_GOLDEN_CLASSPATH is set");
    let dir = tempfile::tempdir().unwrap();
    let mut expected = String::new();
    let mut java = Command::new("java");
    java.args(["-cp", &classpath, "dlog.Golden", "describe"]);
    for (name, bytes) in ours() {
        let file = dir.path().join(format!("{name}.batch"));
        std::fs::write(&file, &bytes).unwrap();
        java.arg(&file);
        expected.push_str(&describe(&format!("{name}.batch"), bytes));
    }
    let output = java.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let actual = String::from_utf8(output.stdout).unwrap();
    for (expected, actual) in by_file(&expected).iter().zip(&by_file(&actual)) {
        assert_eq!(actual, expected);
    }
    assert_eq!(actual.lines().count(), expected.lines().count());
}
