//! Disks and folders that refuse: full, read-only, forbidden, in use. Real file systems where root may
//! mount them; a test that cannot run says SKIPPED with its name.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use dlog_storage::{Log, LogConfig};
use dlog_system_tests::mount::{Mount, is_root};
use dlog_system_tests::produce::{
    create_topic, offsets_of, plain_batch, produce_request, produced_at, read_all, topic_name,
};
use dlog_system_tests::server::{Server, ServerOptions};
use dlog_system_tests::wire::Connection;
use dlog_system_tests::{skip, wait_for};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::DeleteTopicsRequest;

const TOPIC: &str = "disk";

/// The records' timestamps are as old as time: retention must not take them.
const SETTINGS: [(&str, &str); 2] = [("segment.bytes", "4194304"), ("retention.ms", "-1")];

/// The guard is off: what is tested is what happens when the file system itself refuses.
const UNGUARDED: [&str; 2] = [
    "--dlog-disk-reserve-bytes=0",
    "--dlog-disk-throttle-percent=100",
];

fn value(n: usize) -> Vec<u8> {
    format!("{n:06} {}", "x".repeat(8_000)).into_bytes()
}

/// Writes until the server refuses; returns how many were acknowledged, and the refusal.
fn fill(connection: &mut Connection) -> (usize, Option<ResponseError>) {
    for n in 0..10_000 {
        let batch = plain_batch(&[value(n)]).unwrap();
        let response = connection
            .call(9, &produce_request(TOPIC, 0, batch, -1))
            .unwrap();
        if let Err(error) = produced_at(&response) {
            return (n, ResponseError::try_from_code(error.0));
        }
    }
    panic!("80 MB went into a smaller file system");
}

fn check_prefix(connection: &mut Connection, acknowledged: usize) {
    let found = read_all(connection, TOPIC, 0).unwrap();
    assert!(
        found.len() >= acknowledged,
        "{} of {acknowledged}",
        found.len()
    );
    for (n, (offset, found)) in found.iter().enumerate().take(acknowledged) {
        assert_eq!(*offset, n as i64);
        assert!(*found == value(n), "record {n}");
    }
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_resumes_when_there_is_room() {
    let Some(mount) = Mount::new("a_full_disk", "24m").unwrap() else {
        return;
    };
    let logs = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(mount.path.join("data"))
        .log_dir(logs.path())
        .args(UNGUARDED);
    let mut server = options.start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    create_topic(&mut connection, TOPIC, 1, &SETTINGS).unwrap();
    let (acknowledged, refusal) = fill(&mut connection);
    assert!(acknowledged > 500, "{acknowledged}");
    println!("refused after {acknowledged} records with {refusal:?}");
    assert!(server.is_alive());
    // Reads go on while it is full.
    check_prefix(&mut connection, acknowledged);
    // Room: the server resumes by itself, on the same connection.
    mount.remount("size=48m").unwrap();
    let batch = plain_batch(&[value(acknowledged)]).unwrap();
    let response = connection
        .call(9, &produce_request(TOPIC, 0, batch, -1))
        .unwrap();
    let offset = produced_at(&response).expect("there is room again");
    assert_eq!(
        offset, acknowledged as i64,
        "no hole where the disk was full"
    );
    check_prefix(&mut connection, acknowledged + 1);
    assert!(
        refusal.is_some_and(|refusal| refusal.is_retriable()),
        "clients must try again: {refusal:?}"
    );
    server.kill().unwrap();
    let server = options.start().unwrap();
    check_prefix(
        &mut Connection::open(server.kafka).unwrap(),
        acknowledged + 1,
    );
}

#[test]
fn a_full_disk_survives_a_kill_and_a_restart_and_can_be_emptied() {
    let Some(mount) = Mount::new("a_full_disk_survives_a_kill", "16m").unwrap() else {
        return;
    };
    let logs = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(mount.path.join("data"))
        .log_dir(logs.path())
        .args(UNGUARDED);
    let server = options.start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    create_topic(&mut connection, TOPIC, 1, &SETTINGS).unwrap();
    let (acknowledged, _) = fill(&mut connection);
    server.kill().unwrap();
    // Recovery needs no space that is not there.
    let server = options.start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    check_prefix(&mut connection, acknowledged);
    // Deleting is how an operator makes room.
    let request = DeleteTopicsRequest::default()
        .with_topic_names(vec![topic_name(TOPIC)])
        .with_timeout_ms(30_000);
    let response = connection.call(5, &request).unwrap();
    assert_eq!(
        response.responses[0].error_code, 0,
        "a topic can be deleted on a full disk"
    );
    // The files go a moment later; until then a client is told to try again.
    create_topic(&mut connection, "after", 1, &[]).unwrap();
    let batch = plain_batch(&[b"room".to_vec()]).unwrap();
    let request = produce_request("after", 0, batch, -1);
    wait_for("room on the disk", || {
        produced_at(&connection.call(9, &request).unwrap()).ok()
    })
    .unwrap();
    assert_eq!(offsets_of(&mut connection, "after", 0).unwrap(), (0, 1));
}

#[test]
fn a_read_only_file_system_is_named() {
    let Some(mount) = Mount::new("a_read_only_file_system", "16m").unwrap() else {
        return;
    };
    let logs = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(mount.path.join("data")).log_dir(logs.path());
    options.start().unwrap().kill().unwrap();
    mount.remount("ro").unwrap();
    let (status, log) = options.refused().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains("mounted read-only") && log.contains(&*mount.path.to_string_lossy()),
        "{log}"
    );
    assert!(!log.contains("panicked"), "{log}");
    mount.remount("rw").unwrap();
    options.start().expect("writable again");
}

#[test]
fn a_forbidden_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let options = ServerOptions::new(&data);
    // Root passes every mode bit, but not the immutable attribute.
    let root = is_root();
    if root {
        if !Command::new("chattr")
            .arg("+i")
            .arg(&data)
            .status()
            .is_ok_and(|status| status.success())
        {
            skip(
                "a_forbidden_folder_is_named",
                "root is not stopped by modes, and `chattr +i` does not work here",
            );
            return;
        }
    } else {
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    let refused = options.refused();
    if root {
        assert!(
            Command::new("chattr")
                .arg("-i")
                .arg(&data)
                .status()
                .unwrap()
                .success()
        );
    } else {
        std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (status, log) = refused.unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&*data.to_string_lossy()), "{log}");
    assert!(
        log.contains("check the owner and mode") || log.contains("not permitted"),
        "{log}"
    );
    options.start().expect("allowed again");
}

#[test]
fn a_data_folder_that_is_a_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::write(&data, "not a folder").unwrap();
    let (status, log) = ServerOptions::new(&data).refused().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(
        log.contains(&*data.to_string_lossy()) && !log.contains("panicked"),
        "{log}"
    );
    assert_eq!(std::fs::read(&data).unwrap(), b"not a folder");
}

#[test]
fn a_second_server_on_the_folder_is_told_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(folder.path().join("data"));
    let server = options.start().unwrap();
    let (status, log) = options.refused().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("in use by another process"), "{log}");
    assert_eq!(log.matches("in use").count(), 1, "said once:\n{log}");
    assert_works(&server);
    // A killed owner leaves no lock behind.
    server.kill().unwrap();
    assert_works(&options.start().unwrap());
}

#[test]
fn a_partition_of_a_running_server_is_not_opened_by_a_program() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data).unwrap();
    assert_works(&server);
    let error = dlog_storage::lock_dir(&dlog_storage::disk::RealDisk, &data)
        .map(|_| ())
        .unwrap_err();
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
}

#[test]
fn a_taken_port_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--kafka", "--http"] {
        let options = ServerOptions::new(folder.path().join("data")).args([flag, &address]);
        let (status, log) = options.refused().unwrap();
        assert_eq!(status.code(), Some(1), "{flag}: {log}");
        assert!(log.contains(&address), "{flag}: {log}");
        assert!(log.contains("in use"), "{flag}: {log}");
    }
    drop(taken);
    assert_works(&Server::start(&folder.path().join("data")).unwrap());
}

#[test]
fn an_embedded_log_on_a_full_disk() {
    let Some(mount) = Mount::new("an_embedded_log_on_a_full_disk", "4m").unwrap() else {
        return;
    };
    let dir = mount.path.join("log");
    let log = Log::open(&dir, LogConfig::default()).unwrap();
    let mut acknowledged = 0;
    let error = loop {
        match log.append(None, Some(&value(acknowledged))) {
            Ok(offset) => assert_eq!(offset, acknowledged as i64),
            Err(error) => break error,
        }
        acknowledged += 1;
    };
    assert!(error.is_disk_full(), "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    let check = |log: &Log, count: usize| {
        let values: Vec<_> = log
            .read(0)
            .unwrap()
            .map(|record| record.unwrap().value.unwrap())
            .collect();
        assert_eq!(values.len(), count);
        assert!(
            values
                .iter()
                .enumerate()
                .all(|(n, found)| *found == value(n))
        );
    };
    check(&log, acknowledged);
    // Reopening a full log works too.
    drop(log);
    check(
        &Log::open(&dir, LogConfig::default()).unwrap(),
        acknowledged,
    );
    mount.remount("size=8m").unwrap();
    let log = Log::open(&dir, LogConfig::default()).unwrap();
    assert_eq!(
        log.append(None, Some(&value(acknowledged))).unwrap(),
        acknowledged as i64
    );
    check(&log, acknowledged + 1);
}

/// A topic can be made, written and read.
fn assert_works(server: &Server) {
    let mut connection = Connection::open(server.kafka).unwrap();
    create_topic(&mut connection, "works", 1, &[]).unwrap();
    let batch = plain_batch(&[b"x".to_vec()]).unwrap();
    produced_at(
        &connection
            .call(9, &produce_request("works", 0, batch, -1))
            .unwrap(),
    )
    .unwrap();
    assert!(!read_all(&mut connection, "works", 0).unwrap().is_empty());
}
