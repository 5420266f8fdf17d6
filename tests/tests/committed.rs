//! `dlog consume --committed` against the real server, on transactions that stand in a partition's log.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::path::Path;

use dlog_storage::record::{BatchBuilder, Compression};
use dlog_storage::{AppendMode, EndMarker, Log, LogConfig};
use dlog_system_tests::command::Cli;
use dlog_system_tests::server::Server;

/// Transactions of several producers, one beside the other, over several segments: committed, aborted,
/// and one that is open from offset `open_from` on. Gives what a reader of committed records sees, and
/// `open_from`.
fn write(dir: &Path) -> (Vec<String>, i64) {
    let config = LogConfig {
        segment_bytes: 2_000,
        ..LogConfig::default()
    };
    let log = Log::open(dir, config).unwrap();
    let leader = AppendMode::Leader {
        leader_epoch: log.latest_epoch().unwrap_or(0),
        log_append_time: None,
    };
    let mut seen = Vec::new();
    for round in 0..60 {
        // Each of three producers sends twice, then all end, some of them with an abort.
        for half in 0..2 {
            for producer in 1..=3 {
                let value = format!("{producer} {round} {half}");
                let mut batch = BatchBuilder::new()
                    .producer(producer, 0, round * 2 + half)
                    .transactional(true)
                    .compression(Compression::Lz4, None);
                batch.push(1, None, Some(value.as_bytes()), &[]).unwrap();
                log.append_batches(batch.build().unwrap(), leader).unwrap();
                if (round + producer as i32) % 3 != 0 {
                    seen.push(value);
                }
            }
        }
        for producer in [2, 3, 1] {
            let end = EndMarker {
                producer_id: producer,
                producer_epoch: 0,
                committed: (round + producer as i32) % 3 != 0,
                coordinator_epoch: 0,
                timestamp_ms: 1,
                strict_epoch: false,
            };
            log.append_end_marker(end, 0).unwrap();
        }
    }
    let open_from = log.log_end_offset();
    for transactional in [true, false] {
        let mut batch = BatchBuilder::new()
            .producer(if transactional { 4 } else { 5 }, 0, 0)
            .transactional(transactional);
        batch.push(1, None, Some(b"behind"), &[]).unwrap();
        log.append_batches(batch.build().unwrap(), leader).unwrap();
    }
    log.close().unwrap();
    (seen, open_from)
}

#[test]
fn only_committed_records_are_consumed() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data).unwrap();
    let cli = Cli::new(server.kafka);
    cli.run(&["topic", "create", "orders"]).unwrap();
    server.terminate().unwrap();
    server.wait().unwrap();
    let (expected, open_from) = write(&data.join("orders-0"));

    let mut server = Server::start(&data).unwrap();
    // The second time as the first server left it by a kill.
    for _ in 0..2 {
        let cli = Cli::new(server.kafka);
        let all = ["consume", "orders", "--from", "beginning"];
        let seen = cli.run(&[&all[..], &["--committed"]].concat()).unwrap();
        assert_eq!(seen.lines().collect::<Vec<_>>(), expected);
        let seen = cli.run(&all).unwrap();
        assert_eq!(seen.lines().count(), 60 * 6 + 2);
        // From the middle of transactions, which began before.
        let from = ["consume", "orders", "--committed", "--from", "302"];
        let seen = cli.run(&from).unwrap();
        let end: Vec<_> = seen.lines().collect();
        assert!(
            end.len() > 20
                && expected.ends_with(&end.iter().map(ToString::to_string).collect::<Vec<_>>()),
            "{end:?}"
        );
        let described = cli
            .json(&["topic", "describe", "orders", "--json"])
            .unwrap();
        assert_eq!(described[0]["partitions"][0]["next_offset"], open_from + 2);
        server.kill().unwrap();
        server = Server::start(&data).unwrap();
    }
}
