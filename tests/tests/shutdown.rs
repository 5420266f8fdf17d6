//! SIGTERM: what was acknowledged stays, clients are told in order, the next start has nothing to
//! recover.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dlog_system_tests::produce::{
    create_topic, fetch_request, plain_batch, produce_request, produced_at, read_all,
};
use dlog_system_tests::server::{Server, ServerOptions};
use dlog_system_tests::wait_for;
use dlog_system_tests::wire::Connection;
use kafka_protocol::messages::{FetchRequest, ProduceRequest};

const TOPIC: &str = "stopping";
const PARTITIONS: i32 = 4;

fn started(folder: &Path) -> (ServerOptions, Server) {
    let options = ServerOptions::new(folder.join("data"));
    let server = options.start().unwrap();
    create_topic(
        &mut Connection::open(server.kafka).unwrap(),
        TOPIC,
        PARTITIONS,
        &[],
    )
    .unwrap();
    (options, server)
}

/// Writes until the server goes away; returns the values that were acknowledged.
fn write_until_closed(
    address: SocketAddr,
    partition: i32,
    acknowledged: &AtomicUsize,
) -> Vec<(i64, Vec<u8>)> {
    let mut connection = Connection::open(address).unwrap();
    let mut written = Vec::new();
    for n in 0.. {
        let value = format!("{partition}/{n}").into_bytes();
        let batch = plain_batch(std::slice::from_ref(&value)).unwrap();
        let Ok(response) = connection.call(9, &produce_request(TOPIC, partition, batch, -1)) else {
            break;
        };
        match produced_at(&response) {
            Ok(offset) => written.push((offset, value)),
            // An orderly refusal acknowledges nothing.
            Err(_) => break,
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    written
}

#[test]
fn a_busy_server_stops_without_losing_a_write() {
    let folder = tempfile::tempdir().unwrap();
    let (options, server) = started(folder.path());
    let acknowledged = AtomicUsize::new(0);
    let written = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                let (address, acknowledged) = (server.kafka, &acknowledged);
                scope.spawn(move || write_until_closed(address, partition, acknowledged))
            })
            .collect();
        wait_for("writes under way", || {
            (acknowledged.load(Ordering::Relaxed) > 200).then_some(())
        })
        .unwrap();
        server.terminate().unwrap();
        let (status, log) = server.wait().unwrap();
        assert!(status.success(), "{status}\n{log}");
        assert!(!log.contains("panicked"), "{log}");
        writers
            .into_iter()
            .map(|writer| writer.join().unwrap())
            .collect::<Vec<_>>()
    });
    let server = options.start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    for (partition, written) in (0..).zip(written) {
        let found = read_all(&mut connection, TOPIC, partition).unwrap();
        assert!(found.len() >= written.len(), "partition {partition}");
        assert_eq!(found[..written.len()], written, "partition {partition}");
    }
}

#[test]
fn every_log_gets_its_clean_marker_and_the_next_start_reads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (options, server) = started(folder.path());
    let mut connection = Connection::open(server.kafka).unwrap();
    for partition in 0..PARTITIONS {
        let batch = plain_batch(&vec![vec![b'x'; 1000]; 500]).unwrap();
        let response = connection
            .call(9, &produce_request(TOPIC, partition, batch, -1))
            .unwrap();
        produced_at(&response).unwrap();
    }
    server.terminate().unwrap();
    let (status, log) = server.wait().unwrap();
    assert!(status.success(), "{status}\n{log}");
    for partition in 0..PARTITIONS {
        let path = folder
            .path()
            .join(format!("data/{TOPIC}-{partition}/checkpoint"));
        let checkpoint = std::fs::read_to_string(&path).unwrap();
        assert!(
            checkpoint.contains("\nclean 1\n"),
            "{}:\n{checkpoint}",
            path.display()
        );
    }
    let server = options.start().unwrap();
    let log = server.log().unwrap();
    assert!(
        !log.contains("recovered"),
        "a clean folder was read again:\n{log}"
    );
    println!("second start: {:?}", server.start_up);

    // The counterpart, so that the check above can fail: a killed server has something to recover.
    let mut connection = Connection::open(server.kafka).unwrap();
    let batch = plain_batch(&[b"not closed".to_vec()]).unwrap();
    produced_at(
        &connection
            .call(9, &produce_request(TOPIC, 0, batch, -1))
            .unwrap(),
    )
    .unwrap();
    server.kill().unwrap();
    let log = options.start().unwrap().log().unwrap();
    assert!(
        log.contains("recovered"),
        "a killed folder was not read again:\n{log}"
    );
}

#[test]
fn idle_and_waiting_clients_see_an_orderly_close() {
    let folder = tempfile::tempdir().unwrap();
    let (_, server) = started(folder.path());
    let idle = Connection::open(server.kafka).unwrap();
    // A long poll at the end of an empty partition: it would wait for ten minutes.
    let mut waiting = Connection::open(server.kafka).unwrap();
    let poll: FetchRequest = fetch_request(TOPIC, 0, 0, 1 << 20).with_max_wait_ms(600_000);
    let id = waiting.send(11, &poll).unwrap();
    // And one that has said half a request.
    let mut half = Connection::open(server.kafka).unwrap();
    half.write_raw(&[0, 0, 1, 0, 0, 3]).unwrap();
    server.terminate().unwrap();
    let (status, log) = server.wait().unwrap();
    assert!(status.success(), "{status}\n{log}");
    for (name, connection) in [("idle", &idle), ("half a request", &half)] {
        let mut rest = Vec::new();
        let read = connection.stream().read_to_end(&mut rest);
        // Bytes that the server never read make the kernel answer with a reset.
        let reset = name != "idle" && read.is_err();
        assert!(
            (read.is_ok() && rest.is_empty()) || reset,
            "{name}: {read:?}"
        );
    }
    // The long poll is answered early, or its connection is closed in order: never a reset.
    let answer = waiting.receive::<FetchRequest>(11, id);
    if let Err(error) = answer {
        assert!(
            error.to_string().contains("closed the connection"),
            "{error:#}"
        );
    }
}

#[test]
fn what_was_sent_before_the_signal_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (options, server) = started(folder.path());
    let mut connection = Connection::open(server.kafka).unwrap();
    connection
        .stream()
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut ids = Vec::new();
    for n in 0..50 {
        let batch = plain_batch(&[format!("pipelined {n}").into_bytes()]).unwrap();
        ids.push(
            connection
                .send(9, &produce_request(TOPIC, 1, batch, -1))
                .unwrap(),
        );
    }
    // The first answer shows that the server is at it.
    let mut answered = Vec::new();
    let first = connection.receive::<ProduceRequest>(9, ids[0]).unwrap();
    answered.push(produced_at(&first).unwrap());
    server.terminate().unwrap();
    for id in &ids[1..] {
        match connection.receive::<ProduceRequest>(9, *id) {
            Ok(response) => answered.push(produced_at(&response).unwrap()),
            Err(error) => {
                assert!(
                    error.to_string().contains("closed the connection"),
                    "cut inside an answer: {error:#}"
                );
                break;
            }
        }
    }
    let (status, log) = server.wait().unwrap();
    assert!(status.success(), "{status}\n{log}");
    let server = options.start().unwrap();
    let found = read_all(&mut Connection::open(server.kafka).unwrap(), TOPIC, 1).unwrap();
    assert!(
        found.len() >= answered.len(),
        "{} of {} answered writes",
        found.len(),
        answered.len()
    );
    for (n, offset) in answered.iter().enumerate() {
        assert_eq!(found[n], (*offset, format!("pipelined {n}").into_bytes()));
    }
}

#[test]
fn a_second_signal_hurries_without_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let (options, server) = started(folder.path());
    let mut connection = Connection::open(server.kafka).unwrap();
    let batch = plain_batch(&[b"kept".to_vec()]).unwrap();
    produced_at(
        &connection
            .call(9, &produce_request(TOPIC, 0, batch, -1))
            .unwrap(),
    )
    .unwrap();
    server.terminate().unwrap();
    // The process may be gone already.
    let _ = server.terminate();
    let (status, log) = server.wait().unwrap();
    // 143: the second signal came before the logs were closed.
    assert!(matches!(status.code(), Some(0 | 143)), "{status}\n{log}");
    assert!(!log.contains("panicked"), "{log}");
    let server = options.start().unwrap();
    let found = read_all(&mut Connection::open(server.kafka).unwrap(), TOPIC, 0).unwrap();
    assert_eq!(found, [(0, b"kept".to_vec())]);
}
