//! The records of `__transaction_state` against bytes that Apache Kafka wrote
//! (`testdata/gen/README.md`), and against damage.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use dlog_transactions::codec::{TopicPartitions, TransactionValue, decode_key, encode_key};
use dlog_transactions::{CodecError, TransactionState, partition_for_transactional_id};
use serde_json::Value;

fn of_kind(kind: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../testdata/records.json")).unwrap();
    let found: Vec<Value> = all.into_iter().filter(|v| v["kind"] == kind).collect();
    assert!(!found.is_empty(), "no vectors of kind {kind}");
    found
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn expected(vector: &Value) -> TransactionValue {
    let number = |field: &str| vector[field].as_i64().unwrap();
    let topics = vector["partitions"].as_array().map(|topics| {
        let topic = |topic: &Value| TopicPartitions {
            topic: topic[0].as_str().unwrap().to_owned(),
            partitions: serde_json::from_value(topic[1].clone()).unwrap(),
        };
        topics.iter().map(topic).collect()
    });
    TransactionValue {
        producer_id: number("producer_id"),
        previous_producer_id: number("previous"),
        next_producer_id: number("next"),
        epoch: number("epoch") as i16,
        next_epoch: number("next_epoch") as i16,
        timeout_ms: number("timeout") as i32,
        status: number("status") as i8,
        partitions: topics,
        last_update_ms: number("updated"),
        start_ms: number("started"),
        client_version: number("client_version") as i16,
    }
}

#[test]
fn keys_are_kafkas() {
    for vector in of_kind("key") {
        let (id, key) = (vector["id"].as_str().unwrap(), hex(&vector["key"]));
        assert_eq!(encode_key(id).unwrap(), key);
        assert_eq!(decode_key(&key).unwrap(), Some(id));
    }
    assert_eq!(decode_key(&[0, 9, 1]).unwrap(), None);
    assert!(decode_key(&[0xff, 0xff]).is_err());
    let long = "x".repeat(40_000);
    let refused = CodecError::BadLength {
        field: "transactional id",
        length: 40_000,
    };
    assert_eq!(encode_key(&long).unwrap_err(), refused);
}

#[test]
fn values_of_every_version_are_kafkas() {
    for vector in of_kind("schema").into_iter().chain(of_kind("coordinator")) {
        let (bytes, expected) = (hex(&vector["value"]), expected(&vector));
        let version = vector["version"].as_i64().unwrap() as i16;
        assert_eq!(
            TransactionValue::decode(&bytes).unwrap(),
            expected,
            "{vector}"
        );
        assert_eq!(expected.encode(version).unwrap(), bytes, "{vector}");
    }
}

#[test]
fn states_have_kafkas_numbers() {
    let names: Vec<_> = TransactionState::ALL
        .iter()
        .map(|state| state.as_str())
        .collect();
    let kafkas = [
        "Empty",
        "Ongoing",
        "PrepareCommit",
        "PrepareAbort",
        "CompleteCommit",
        "CompleteAbort",
        "Dead",
        "PrepareEpochFence",
    ];
    assert_eq!(names, kafkas);
    for (id, state) in TransactionState::ALL.into_iter().enumerate() {
        assert_eq!(usize::try_from(state.id()).unwrap(), id);
        assert_eq!(TransactionState::from_id(state.id()), Some(state));
    }
    assert_eq!(TransactionState::from_id(8), None);
    assert_eq!(TransactionState::from_id(-1), None);
}

#[test]
fn ids_belong_to_kafkas_partitions() {
    for vector in of_kind("placement") {
        let partition = partition_for_transactional_id(vector["id"].as_str().unwrap(), 50);
        assert_eq!(
            i64::from(partition),
            vector["of_50"].as_i64().unwrap(),
            "{vector}"
        );
    }
}

#[test]
fn damage_is_an_error_never_a_panic() {
    for vector in of_kind("schema").into_iter().chain(of_kind("coordinator")) {
        let mut bytes = hex(&vector["value"]);
        for cut in 0..bytes.len() {
            assert!(
                TransactionValue::decode(&bytes[..cut]).is_err(),
                "cut to {cut} bytes"
            );
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = TransactionValue::decode(&bytes);
            let _ = decode_key(&bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
