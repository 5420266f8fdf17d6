//! The disk guard on a small file system: producers are slowed down, then refused, before the disk is full;
//! everything else goes on; service resumes by itself. A test that cannot run says SKIPPED with its name.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dlog_storage::record::BatchBuilder;
use dlog_system_tests::mount::Mount;
use dlog_system_tests::produce::{
    create_topic, offsets_of, plain_batch, produce_request, produced_at, read_all, read_keyed,
    topic_name,
};
use dlog_system_tests::server::{Server, ServerOptions};
use dlog_system_tests::wire::Connection;
use dlog_system_tests::{skip, wait_for};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{DeleteRecordsRequest, GroupId, OffsetCommitRequest};
use kafka_protocol::protocol::StrBytes;

const TOPIC: &str = "guarded";
/// The records' timestamps are as old as time: retention must not take them.
const SETTINGS: [(&str, &str); 2] = [("segment.bytes", "1048576"), ("retention.ms", "-1")];
const KAFKA_STORAGE_ERROR: i16 = 56;
/// The part of a small disk that producers do not get.
const RESERVE_PART: u64 = 50;

fn value(n: usize) -> Vec<u8> {
    format!("{n:06} {}", "x".repeat(8_000)).into_bytes()
}

/// Producers that are slowed down may drain the rest quickly: nobody waits for a test.
fn options(mount: &Mount, logs: &tempfile::TempDir) -> ServerOptions {
    ServerOptions::new(mount.path.join("data"))
        .log_dir(logs.path())
        .args(["--dlog-disk-drain-ms", "500"])
}

/// The value of a metric without labels.
fn metric(server: &Server, name: &str) -> f64 {
    let mut stream = TcpStream::connect(server.http.unwrap()).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: dlog\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text
        .lines()
        .find(|line| line.split(' ').next() == Some(name));
    let value = line.and_then(|line| line.split(' ').nth(1));
    value
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("{name} in\n{text}"))
}

/// One record: its offset, or the error and its message, and for how long the client has to wait.
fn produce(connection: &mut Connection, n: usize) -> (Result<i64, (i16, String)>, Duration) {
    let batch = plain_batch(&[value(n)]).unwrap();
    let request = produce_request(TOPIC, 0, batch, -1);
    let response = connection.call(9, &request).unwrap();
    let wait = Duration::from_millis(u64::try_from(response.throttle_time_ms).unwrap());
    let result = produced_at(&response).map_err(|error| {
        let slot = &response.responses[0].partition_responses[0];
        (
            error.0,
            slot.error_message.as_deref().unwrap_or_default().to_owned(),
        )
    });
    (result, wait)
}

struct Filled {
    acknowledged: usize,
    message: String,
    waited: Duration,
    throttled: usize,
}

/// Writes from record `n` on until the server refuses.
fn fill(connection: &mut Connection, mut n: usize) -> Filled {
    let (mut waited, mut throttled) = (Duration::ZERO, 0);
    loop {
        let (result, wait) = produce(connection, n);
        waited += wait;
        throttled += usize::from(!wait.is_zero());
        match result {
            Ok(offset) => assert_eq!(offset, n as i64),
            Err((code, message)) => {
                assert_eq!(code, KAFKA_STORAGE_ERROR, "clients try it again: {message}");
                let acknowledged = n;
                return Filled {
                    acknowledged,
                    message,
                    waited,
                    throttled,
                };
            }
        }
        n += 1;
        assert!(n < 20_000, "160 MB went into a smaller file system");
    }
}

fn check_records(connection: &mut Connection, from: usize, end: usize) {
    let found = read_all(connection, TOPIC, 0).unwrap();
    assert_eq!(found.first().map(|(offset, _)| *offset), Some(from as i64));
    assert!(from + found.len() >= end, "{} of {end}", from + found.len());
    for (n, (offset, found)) in (from..).zip(&found) {
        assert_eq!(*offset, n as i64);
        assert!(*found == value(n), "record {n}");
    }
}

fn commit(connection: &mut Connection, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(TOPIC))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    connection.call(8, &request).unwrap().topics[0].partitions[0].error_code
}

fn delete_records(connection: &mut Connection, before: usize) {
    let partition = DeleteRecordsPartition::default().with_offset(before as i64);
    let topic = DeleteRecordsTopic::default()
        .with_name(topic_name(TOPIC))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000);
    let response = connection.call(2, &request).unwrap();
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

/// Produces record `n` as soon as the server takes it.
fn produce_when_there_is_room(connection: &mut Connection, n: usize) {
    let offset = wait_for("room on the disk", || produce(connection, n).0.ok()).unwrap();
    assert_eq!(offset, n as i64, "no hole where the disk was full");
}

#[test]
fn producers_are_slowed_down_then_refused_and_taken_again() {
    let Some(mount) = Mount::new("producers_are_slowed_down", "24m").unwrap() else {
        return;
    };
    let logs = tempfile::tempdir().unwrap();
    let server = options(&mount, &logs).start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    create_topic(&mut connection, TOPIC, 1, &SETTINGS).unwrap();
    // So that its topic exists.
    wait_for("the coordinator", || {
        (commit(&mut connection, 0) == 0).then_some(())
    })
    .unwrap();
    assert_eq!(metric(&server, "dlog_disk_level"), 0.0);
    assert_eq!(metric(&server, "dlog_disk_alert"), 0.0);

    let begin = Instant::now();
    let filled = fill(&mut connection, 0);
    println!(
        "refused after {} records, {} of them slowed down, by {:?}: {}",
        filled.acknowledged, filled.throttled, filled.waited, filled.message
    );
    assert!(filled.acknowledged > 2_500);
    assert!(filled.throttled > 10, "slowed down before it is refused");
    // This client takes no notice of the time it is told to wait; the server does not read from it.
    let last = Duration::from_secs(1);
    assert!(
        begin.elapsed() + last >= filled.waited,
        "{:?}",
        begin.elapsed()
    );
    assert!(
        filled.message.contains("the disk is full"),
        "{}",
        filled.message
    );
    let reserve = (24 << 20) / RESERVE_PART;
    assert!(
        mount.free_bytes().unwrap() >= reserve,
        "{}",
        mount.free_bytes().unwrap()
    );
    for (name, value) in [("dlog_disk_level", 3.0), ("dlog_disk_alert", 1.0)] {
        assert_eq!(metric(&server, name), value, "{name}");
    }
    assert!(metric(&server, "dlog_disk_refused_batches_total") >= 1.0);
    assert!(metric(&server, "dlog_disk_throttled_ms_total") >= filled.waited.as_millis() as f64);
    assert!(
        server
            .log()
            .unwrap()
            .contains("producers are refused until there is room")
    );

    // Reads, commits and new topics go on.
    check_records(&mut connection, 0, filled.acknowledged);
    assert_eq!(commit(&mut connection, filled.acknowledged as i64), 0);
    create_topic(&mut connection, "another", 1, &[]).unwrap();
    // So does making room, after which the same connection may write.
    let start = filled.acknowledged / 2;
    delete_records(&mut connection, start);
    produce_when_there_is_room(&mut connection, filled.acknowledged);
    check_records(&mut connection, start, filled.acknowledged + 1);
    wait_for("the level to fall", || {
        (metric(&server, "dlog_disk_level") == 0.0).then_some(())
    })
    .unwrap();

    // Killed while it is full again: nothing acknowledged is lost.
    let filled = fill(&mut connection, filled.acknowledged + 1);
    server.kill().unwrap();
    let server = options(&mount, &logs).start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    check_records(&mut connection, start, filled.acknowledged);
    // The zeros that the killed server had written ahead are room again.
    let next = offsets_of(&mut connection, TOPIC, 0).unwrap().1;
    let filled = fill(&mut connection, usize::try_from(next).unwrap());
    assert_eq!(metric(&server, "dlog_disk_level"), 3.0);
    mount.remount("size=48m").unwrap();
    produce_when_there_is_room(&mut connection, filled.acknowledged);
    check_records(&mut connection, start, filled.acknowledged + 1);
}

#[test]
fn a_disk_that_others_fill_to_the_last_byte_is_opened_again() {
    let Some(mount) = Mount::new("a_disk_that_others_fill", "24m").unwrap() else {
        return;
    };
    let logs = tempfile::tempdir().unwrap();
    let reserve = mount.path.join("data/.reserve");
    let server = options(&mount, &logs).start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    create_topic(&mut connection, TOPIC, 1, &SETTINGS).unwrap();
    for n in 0..500 {
        assert_eq!(produce(&mut connection, n).0, Ok(n as i64));
    }
    wait_for("the reserve", || reserve.exists().then_some(())).unwrap();
    // What the reserve gives back is taken, too, until nothing is left of it.
    let filler = wait_for("the last byte", || {
        let filler = mount.fill_to(0).unwrap();
        let full = mount.free_bytes().unwrap() == 0 && !reserve.exists();
        if !full {
            std::mem::forget(filler);
            return None;
        }
        Some(filler)
    })
    .unwrap();
    let (refused, _) = produce(&mut connection, 500);
    assert_eq!(refused.unwrap_err().0, KAFKA_STORAGE_ERROR);
    check_records(&mut connection, 0, 500);
    server.kill().unwrap();
    for _ in 0..2 {
        let server = options(&mount, &logs).start().unwrap();
        check_records(&mut Connection::open(server.kafka).unwrap(), 0, 500);
        server.kill().unwrap();
    }
    drop(filler);
    let server = options(&mount, &logs).start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    produce_when_there_is_room(&mut connection, 500);
    check_records(&mut connection, 0, 501);
    wait_for("the reserve is held again", || {
        reserve.exists().then_some(())
    })
    .unwrap();
}

/// The interval at which retention looks is 5 minutes: without the guard's pressure the disk would be full.
#[test]
fn what_retention_may_delete_goes_before_producers_are_refused_for_long() {
    let Some(mount) = Mount::new("what_retention_may_delete", "24m").unwrap() else {
        return;
    };
    let logs = tempfile::tempdir().unwrap();
    let server = options(&mount, &logs).start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    let by_size = [("retention.bytes", "4194304")];
    create_topic(
        &mut connection,
        TOPIC,
        1,
        &[&SETTINGS[..], &by_size[..]].concat(),
    )
    .unwrap();
    // Three times the disk.
    for n in 0..9_000 {
        produce_when_there_is_room(&mut connection, n);
    }
    let (start, end) = offsets_of(&mut connection, TOPIC, 0).unwrap();
    assert!(start > 5_000 && end == 9_000, "{start} to {end}");
    check_records(&mut connection, usize::try_from(start).unwrap(), 9_000);
}

/// The topic's own dirty ratio is out of reach on this disk once there is something clean, and the threads wait an
/// hour for work: without the guard's pressure nothing would be compacted.
#[test]
fn what_compaction_may_drop_goes_before_producers_are_refused() {
    const KEYS: usize = 500;
    let Some(mount) = Mount::new("what_compaction_may_drop", "24m").unwrap() else {
        return;
    };
    let logs = tempfile::tempdir().unwrap();
    let server = options(&mount, &logs).args(["--log-cleaner-backoff-ms", "3600000"]);
    let server = server.start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    let compact = [
        ("segment.bytes", "1048576"),
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.95"),
    ];
    create_topic(&mut connection, TOPIC, 1, &compact).unwrap();
    // Three times the disk.
    let (count, mut alerts) = (9_000, 0);
    for n in 0..count {
        let mut builder = BatchBuilder::new();
        let key = (n % KEYS).to_string();
        builder
            .push(
                1_700_000_000_000,
                Some(key.as_bytes()),
                Some(&value(n)),
                &[],
            )
            .unwrap();
        let request = produce_request(TOPIC, 0, builder.build().unwrap(), -1);
        let offset = produced_at(&connection.call(9, &request).unwrap());
        assert_eq!(offset, Ok(n as i64));
        if n % 50 == 0 && metric(&server, "dlog_disk_alert") > 0.0 {
            alerts += 1;
            wait_for("compaction to make room", || {
                (metric(&server, "dlog_disk_alert") == 0.0).then_some(())
            })
            .unwrap();
        }
    }
    assert!(alerts > 2, "{alerts}");
    let latest: HashMap<Bytes, (i64, Bytes)> = read_keyed(&mut connection, TOPIC, 0)
        .unwrap()
        .into_iter()
        .map(|(offset, key, value)| (key, (offset, value.unwrap())))
        .collect();
    assert_eq!(latest.len(), KEYS);
    for n in count - KEYS..count {
        let (offset, found) = &latest[(n % KEYS).to_string().as_bytes()];
        assert_eq!(*offset, n as i64);
        assert!(*found == value(n), "record {n}");
    }
}

/// librdkafka's idempotent producer, as confluent-kafka has it: it waits, and loses and repeats nothing.
#[test]
fn librdkafka_waits_for_room_and_loses_nothing() {
    let name = "librdkafka_waits_for_room";
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = root.join("target/compat/venv/bin/python");
    if !python.is_file() {
        skip(
            name,
            "confluent-kafka is not installed: `cargo xtask compat` does that",
        );
        return;
    }
    let Some(mount) = Mount::new(name, "24m").unwrap() else {
        return;
    };
    let logs = tempfile::tempdir().unwrap();
    let server = options(&mount, &logs).start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    create_topic(&mut connection, TOPIC, 1, &SETTINGS).unwrap();
    let count = 5_000;
    let mut child = Command::new(python)
        .arg(root.join("tests/compat/python/disk_guard.py"))
        .args([&server.kafka.to_string(), TOPIC, &count.to_string()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_for("refused batches", || {
        (metric(&server, "dlog_disk_refused_batches_total") > 5.0).then_some(())
    })
    .unwrap();
    assert!(child.try_wait().unwrap().is_none(), "the client waits");
    mount.remount("size=96m").unwrap();
    let output = child.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(report.trim(), format!("delivered {count} failed 0"));
    let found = read_all(&mut connection, TOPIC, 0).unwrap();
    assert_eq!(found.len(), count);
    for (n, (_, found)) in found.iter().enumerate() {
        assert!(*found == value(n), "record {n}");
    }
}
