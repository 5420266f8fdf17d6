//! The records of `__share_group_state` against bytes that Apache Kafka wrote
//! (`testdata/gen/README.md`), and against damage.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use dlog_share::codec::{
    RecordKey, SnapshotValue, UpdateValue, decode_key, encode_snapshot_key, encode_update_key,
};
use dlog_share::{Delivered, DeliveryState, ShareKey, StateBatch, combine, state_partition};
use serde_json::Value;
use uuid::Uuid;

fn of_kind(kind: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(include_str!("../testdata/records.json")).unwrap();
    let found: Vec<Value> = all.into_iter().filter(|v| v["kind"] == kind).collect();
    assert!(!found.is_empty(), "no vectors of kind {kind}");
    found
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn batches(value: &Value) -> Vec<StateBatch> {
    let batch = |batch: &Value| {
        let number = |at: usize| batch[at].as_i64().unwrap();
        StateBatch {
            first: number(0),
            last: number(1),
            delivered: Delivered {
                state: DeliveryState::from_id(number(2) as i8).unwrap(),
                count: number(3) as u16,
            },
        }
    };
    value.as_array().unwrap().iter().map(batch).collect()
}

#[test]
fn keys_and_their_places_are_kafkas() {
    for vector in of_kind("key") {
        let topic = u128::from_str_radix(vector["topic"].as_str().unwrap(), 16).unwrap();
        let key = ShareKey {
            group: vector["group"].as_str().unwrap().into(),
            topic_id: Uuid::from_u128(topic),
            partition: vector["partition"].as_i64().unwrap() as i32,
        };
        let (snapshot, update) = (hex(&vector["snapshot"]), hex(&vector["update"]));
        assert_eq!(encode_snapshot_key(&key).unwrap(), snapshot);
        assert_eq!(encode_update_key(&key).unwrap(), update);
        assert_eq!(
            decode_key(&snapshot).unwrap(),
            RecordKey::Snapshot(key.clone())
        );
        assert_eq!(decode_key(&update).unwrap(), RecordKey::Update(key.clone()));
        assert_eq!(key.to_string(), vector["name"].as_str().unwrap());
        assert_eq!(
            i64::from(state_partition(&key, 50)),
            vector["of_50"].as_i64().unwrap()
        );
        for len in 0..snapshot.len() {
            assert!(decode_key(&snapshot[..len]).is_err(), "cut at {len}");
        }
    }
    assert_eq!(decode_key(&[0, 9]).unwrap(), RecordKey::Other(9));
}

#[test]
fn values_are_kafkas() {
    for vector in of_kind("value") {
        let (snapshot, update) = (hex(&vector["snapshot"]), hex(&vector["update"]));
        let expected = SnapshotValue {
            snapshot_epoch: 3,
            state_epoch: 4,
            leader_epoch: 5,
            start_offset: vector["start"].as_i64().unwrap(),
            create_timestamp_ms: 1_700_000_000_123,
            write_timestamp_ms: 1_700_000_000_456,
            batches: batches(&vector["batches"]),
            delivery_complete_count: vector["count"].as_i64().unwrap() as i32,
        };
        assert_eq!(SnapshotValue::decode(&snapshot).unwrap(), expected);
        assert_eq!(expected.encode().unwrap(), snapshot);
        let expected = UpdateValue {
            snapshot_epoch: 3,
            leader_epoch: 5,
            start_offset: expected.start_offset,
            batches: expected.batches,
            delivery_complete_count: expected.delivery_complete_count,
        };
        assert_eq!(UpdateValue::decode(&update).unwrap(), expected);
        assert_eq!(expected.encode().unwrap(), update);
    }
}

#[test]
fn damaged_values_are_refused_and_never_panic() {
    for vector in of_kind("value") {
        for bytes in [hex(&vector["snapshot"]), hex(&vector["update"])] {
            for len in 0..bytes.len() {
                assert!(
                    SnapshotValue::decode(&bytes[..len.min(bytes.len() - 1)]).is_err() || len > 30
                );
                let _ = UpdateValue::decode(&bytes[..len]);
            }
            for at in 0..bytes.len() {
                for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                    let mut mutated = bytes.clone();
                    mutated[at] = value;
                    let _ = (
                        SnapshotValue::decode(&mutated),
                        UpdateValue::decode(&mutated),
                    );
                }
            }
        }
    }
}

#[test]
fn batches_are_combined_as_kafka_does() {
    for vector in of_kind("combination") {
        let (before, after) = (batches(&vector["before"]), batches(&vector["after"]));
        let start = vector["start"].as_i64().unwrap();
        let combined = combine(&before, &after, start);
        let each = |batches: &[StateBatch]| -> Vec<(i64, DeliveryState, u16)> {
            let offsets = batches.iter().flat_map(|batch| {
                let delivered = batch.delivered;
                (batch.first..=batch.last).map(move |at| (at, delivered.state, delivered.count))
            });
            offsets.collect()
        };
        // Kafka leaves neighbours apart when only one batch is left over.
        let expected = batches(&vector["combined"]);
        assert_eq!(each(&combined), each(&expected), "{vector}");
        assert!(combined.len() <= expected.len(), "{vector}");
    }
}
