//! An idempotent producer through SIGKILLs of the server, recorded and judged by the checker of histories.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dlog_system_tests::history::{Event, Isolation, Op, Phase, Recorder, check};
use dlog_system_tests::produce::{IdempotentProducer, create_topic, read_all};
use dlog_system_tests::server::ServerOptions;
use dlog_system_tests::wire::Connection;
use dlog_system_tests::{seed, wait_for};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const TOPIC: &str = "judged";
const LOG: &str = "judged-0";
const KILLS: usize = 4;

fn send(value: i64, offset: Option<i64>) -> Op {
    Op::Send {
        log: LOG.to_owned(),
        value,
        offset,
        source: None,
    }
}

/// The number in a value of the producer.
fn number(value: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(value);
    let number = text.split(['/', ' ']).nth(1).unwrap();
    number.parse().unwrap()
}

#[test]
fn a_producer_through_kills_is_judged_without_a_finding() {
    let mut random = StdRng::seed_from_u64(seed());
    let folder = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(folder.path().join("data"));
    let server = options.start().unwrap();
    let mut connection = Connection::open(server.kafka).unwrap();
    create_topic(&mut connection, TOPIC, 1, &[("dlog.flush", "always")]).unwrap();
    let mut producer = IdempotentProducer::new(server.kafka, TOPIC, 0).unwrap();
    let (recorder, address) = (Recorder::default(), Mutex::new(Some(server.kafka)));
    let (stop, acknowledged) = (AtomicBool::new(false), AtomicUsize::new(0));
    let server = std::thread::scope(|scope| {
        let mut server = server;
        scope.spawn(|| {
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let counts = [3, 1, 7];
                let values = sent..sent + 11;
                sent += 11;
                let begun = values.map(|v| Event::new(1, Phase::Invoke, send(v, None)));
                recorder.record_all(begun);
                let before = producer.acknowledged.len();
                let wait = || loop {
                    let now = *address.lock().unwrap();
                    if now.is_some() || stop.load(Ordering::Relaxed) {
                        return now;
                    }
                    std::thread::yield_now();
                };
                producer.write_in_flight(&counts, wait).unwrap();
                let done = producer.acknowledged[before..].iter();
                let done = done.zip(&producer.offsets[before..]);
                recorder.record_all(done.map(|(value, offset)| {
                    let told = (*offset >= 0).then_some(*offset);
                    Event::new(1, Phase::Ok, send(number(value), told))
                }));
                acknowledged.store(producer.acknowledged.len(), Ordering::Relaxed);
            }
        });
        for _ in 0..KILLS {
            let enough = acknowledged.load(Ordering::Relaxed) + random.random_range(1..500);
            wait_for("more acknowledged records", || {
                (acknowledged.load(Ordering::Relaxed) >= enough).then_some(())
            })
            .unwrap();
            *address.lock().unwrap() = None;
            server.kill().unwrap();
            server = options.start().unwrap();
            *address.lock().unwrap() = Some(server.kafka);
        }
        stop.store(true, Ordering::Relaxed);
        server
    });
    let poll = |records: BTreeMap<String, Vec<(i64, i64)>>, ends| Op::Poll {
        isolation: Isolation::ReadUncommitted,
        records,
        ends,
    };
    recorder.record(2, Phase::Invoke, poll(BTreeMap::new(), Vec::new()));
    let mut connection = Connection::open(server.kafka).unwrap();
    let found = read_all(&mut connection, TOPIC, 0).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|(at, value)| (*at, number(value)))
        .collect();
    let records = BTreeMap::from([(LOG.to_owned(), found)]);
    recorder.record(2, Phase::Ok, poll(records, vec![LOG.to_owned()]));
    let mut events = recorder.take();
    let report = check(&events).unwrap();
    assert!(report.findings.is_empty(), "{report}");
    println!("{} events over {KILLS} kills", events.len());
    // The test can fail: without one record that was read the checker speaks.
    if let Some(Op::Poll { records, .. }) = events.last_mut().map(|event| &mut event.op) {
        for records in records.values_mut() {
            records.remove(0);
        }
    }
    assert_eq!(check(&events).unwrap().findings.len(), 1);
}
