//! SIGKILL at any moment while idempotent producers write: every acknowledged record is there, in
//! order, exactly once.
//!
//! A killed process loses nothing that it wrote (the operating system keeps it), so this holds under
//! every flush policy; what a power loss may take is the storage engine's own test.

#![allow(clippy::unwrap_used)] // A step that fails is a test that fails.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use dlog_system_tests::produce::{
    IdempotentProducer, create_topic, partitions_of, read_all, value,
};
use dlog_system_tests::server::{Server, ServerOptions};
use dlog_system_tests::wire::Connection;
use dlog_system_tests::{seed, wait_for};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const PARTITIONS: i32 = 6;
const TOPIC: &str = "crash";

/// What producers and the test share: where the server is, and how far they are.
#[derive(Default)]
struct Shared {
    address: Mutex<Option<SocketAddr>>,
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

impl Shared {
    /// The server's address once there is one; `None` when the test gives up.
    fn address(&self) -> Option<SocketAddr> {
        wait_for("an address or the end", || {
            if self.stop.load(Ordering::Relaxed) {
                return Some(None);
            }
            self.address.lock().unwrap().map(Some)
        })
        .unwrap_or(None)
    }
}

/// Tells producers to stop even when the test fails, so that the failure is seen.
struct StopOnDrop<'a>(&'a Shared);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

fn produce_until_stopped(
    mut producer: IdempotentProducer,
    shared: &Shared,
    seed: u64,
) -> IdempotentProducer {
    let mut random = StdRng::seed_from_u64(seed);
    while !shared.stop.load(Ordering::Relaxed) {
        let before = producer.acknowledged.len();
        // Up to five batches in flight, as clients have them.
        let counts: Vec<usize> = (0..random.random_range(1..=5))
            .map(|_| random.random_range(1..12))
            .collect();
        producer
            .write_in_flight(&counts, || shared.address())
            .unwrap();
        shared.acknowledged.fetch_add(
            (producer.acknowledged.len() - before) as u64,
            Ordering::Relaxed,
        );
    }
    producer
}

/// Kills and restarts the server each time a random number of records more was acknowledged.
fn kill_again_and_again(
    server: Server,
    options: &ServerOptions,
    shared: &Shared,
    kills: u32,
    random: &mut StdRng,
) -> Server {
    let mut server = server;
    for kill in 0..kills {
        let enough = shared.acknowledged.load(Ordering::Relaxed) + random.random_range(1..4_000);
        let reached = wait_for("more acknowledged records", || {
            (shared.acknowledged.load(Ordering::Relaxed) >= enough || !server.is_alive())
                .then_some(())
        });
        assert!(
            server.is_alive(),
            "the server ended by itself:\n{}",
            server.log().unwrap()
        );
        reached.unwrap();
        *shared.address.lock().unwrap() = None;
        server.kill().unwrap();
        server = options
            .start()
            .unwrap_or_else(|error| panic!("after kill {kill}: {error:#}"));
        *shared.address.lock().unwrap() = Some(server.kafka);
    }
    let enough = shared.acknowledged.load(Ordering::Relaxed) + 100;
    wait_for("records after the last kill", || {
        (shared.acknowledged.load(Ordering::Relaxed) >= enough).then_some(())
    })
    .unwrap();
    server
}

fn check(address: SocketAddr, producer: &IdempotentProducer, partition: i32) {
    let mut connection = Connection::open(address).unwrap();
    let found = read_all(&mut connection, TOPIC, partition).unwrap();
    let values: Vec<_> = found.iter().map(|(_, value)| value.clone()).collect();
    // The last batch may have been written without its acknowledgement having arrived.
    let acknowledged = producer.acknowledged.len();
    assert!(
        values.len() >= acknowledged,
        "partition {partition}: {} of {acknowledged} are there",
        values.len()
    );
    for (i, (found, sent)) in values.iter().zip(&producer.acknowledged).enumerate() {
        assert_eq!(
            String::from_utf8_lossy(found),
            String::from_utf8_lossy(sent),
            "partition {partition}, record {i}: lost, doubled or out of order"
        );
    }
    for (i, extra) in values[acknowledged..].iter().enumerate() {
        let expected = value(partition, (acknowledged + i) as u64);
        assert_eq!(
            String::from_utf8_lossy(extra),
            String::from_utf8_lossy(&expected),
            "partition {partition}: a record that nobody sent"
        );
    }
    for (i, offset) in producer.offsets.iter().enumerate() {
        assert!(
            *offset == -1 || *offset == i as i64,
            "partition {partition}: record {i} was said to be at {offset}"
        );
    }
}

fn survive(flush: &str, configs: &[(&str, &str)], kills: u32) {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(folder.path().join("data"));
    let server = options.start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    create_topic(&mut connection, TOPIC, PARTITIONS, configs).unwrap();
    assert_eq!(
        partitions_of(&mut connection, TOPIC).unwrap(),
        PARTITIONS as usize
    );
    let shared = Arc::new(Shared::default());
    *shared.address.lock().unwrap() = Some(server.kafka);
    std::thread::scope(|scope| {
        let stop = StopOnDrop(&shared);
        let threads: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                let producer = IdempotentProducer::new(server.kafka, TOPIC, partition).unwrap();
                let (shared, seed) = (&shared, seed ^ partition as u64);
                scope.spawn(move || produce_until_stopped(producer, shared, seed))
            })
            .collect();
        let server = kill_again_and_again(server, &options, &shared, kills, &mut random);
        drop(stop);
        let mut total = 0;
        for (partition, thread) in (0..).zip(threads) {
            let producer = thread.join().unwrap();
            total += producer.acknowledged.len();
            check(server.kafka, &producer, partition);
        }
        println!("{flush}: {total} acknowledged records over {kills} kills");
    });
}

#[test]
fn fsync_always() {
    // Small segments: kills also hit rolls.
    survive(
        "always",
        &[("dlog.flush", "always"), ("segment.bytes", "1048576")],
        20,
    );
}

#[test]
fn fsync_by_messages() {
    survive(
        "messages:100",
        &[("dlog.flush", "messages:100"), ("segment.bytes", "1048576")],
        8,
    );
}

#[test]
fn fsync_by_time() {
    survive("interval:50ms", &[("dlog.flush", "interval:50ms")], 8);
}

#[test]
fn fsync_left_to_the_operating_system() {
    survive(
        "os",
        &[("dlog.flush", "os"), ("segment.bytes", "1048576")],
        8,
    );
}
