//! The records of `__consumer_offsets` against bytes that Apache Kafka wrote
//! (`testdata/gen/README.md`), and against damage.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use dlog_groups::codec::{
    GroupMetadataValue, OffsetCommitValue, RecordKey, StoredMember, subscribed_topics,
};
use dlog_groups::{CodecError, partition_for_group};
use serde_json::Value;
use uuid::Uuid;

fn vectors() -> Vec<Value> {
    serde_json::from_str(include_str!("../testdata/records.json")).unwrap()
}

fn of_kind(kind: &str) -> Vec<Value> {
    let found: Vec<Value> = vectors()
        .into_iter()
        .filter(|v| v["kind"] == kind)
        .collect();
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

fn expected_offset(vector: &Value) -> OffsetCommitValue<'_> {
    let high = vector["topic_id_high"].as_i64().unwrap() as u64;
    let low = vector["topic_id_low"].as_i64().unwrap() as u64;
    OffsetCommitValue {
        offset: vector["offset"].as_i64().unwrap(),
        leader_epoch: vector["leader_epoch"].as_i64().unwrap() as i32,
        metadata: vector["metadata"].as_str().unwrap(),
        commit_timestamp_ms: vector["commit"].as_i64().unwrap(),
        expire_timestamp_ms: vector["expire"].as_i64().unwrap(),
        topic_id: Uuid::from_u64_pair(high, low),
    }
}

const OFFSET_KEY: RecordKey<'_> = RecordKey::Offset {
    group: "my-group",
    topic: "my-topic",
    partition: 7,
};
const GROUP_KEY: RecordKey<'_> = RecordKey::Group { group: "my-group" };

#[test]
fn offset_commits_of_every_version_are_kafkas() {
    for vector in of_kind("offset") {
        let (key, value) = (hex(&vector["key"]), hex(&vector["value"]));
        let version = vector["version"].as_i64().unwrap() as i16;
        assert_eq!(RecordKey::decode(&key).unwrap(), OFFSET_KEY);
        assert_eq!(OFFSET_KEY.encode().unwrap(), key);
        let expected = expected_offset(&vector);
        assert_eq!(
            OffsetCommitValue::decode(&value).unwrap(),
            expected,
            "{vector}"
        );
        assert_eq!(expected.encode(version).unwrap(), value, "{vector}");
    }
    for vector in of_kind("legacy-offset") {
        assert_eq!(RecordKey::decode(&hex(&vector["key"])).unwrap(), OFFSET_KEY);
        let value = hex(&vector["value"]);
        assert_eq!(
            OffsetCommitValue::decode(&value).unwrap(),
            expected_offset(&vector)
        );
    }
}

fn expected_group(version: i16) -> GroupMetadataValue {
    let member = |i: u8| StoredMember {
        member_id: format!("member-{i}"),
        group_instance_id: (version >= 3 && i == 1).then(|| "instance-1".to_owned()),
        client_id: format!("client-{i}"),
        client_host: format!("/10.0.0.{i}"),
        rebalance_timeout_ms: if version >= 1 {
            300_000 + i32::from(i)
        } else {
            -1
        },
        session_timeout_ms: 45_000 + i32::from(i),
        subscription: vec![1, 2, i].into(),
        assignment: if i == 2 {
            Vec::new().into()
        } else {
            vec![9, i].into()
        },
    };
    GroupMetadataValue {
        protocol_type: "consumer".to_owned(),
        generation: 17,
        protocol: Some("range".to_owned()),
        leader: Some("member-0".to_owned()),
        state_timestamp_ms: if version >= 2 { 1_700_000_000_123 } else { -1 },
        members: (0..3).map(member).collect(),
    }
}

#[test]
fn groups_of_every_version_are_kafkas() {
    for vector in of_kind("group").into_iter().chain(of_kind("empty-group")) {
        let (key, value) = (hex(&vector["key"]), hex(&vector["value"]));
        let version = vector["version"].as_i64().unwrap() as i16;
        assert_eq!(RecordKey::decode(&key).unwrap(), GROUP_KEY);
        assert_eq!(GROUP_KEY.encode().unwrap(), key);
        let mut expected = expected_group(version);
        if vector["members"] == 0 {
            expected = GroupMetadataValue {
                protocol_type: String::new(),
                generation: 0,
                protocol: None,
                leader: None,
                members: Vec::new(),
                ..expected
            };
        }
        assert_eq!(
            GroupMetadataValue::decode(&value).unwrap(),
            expected,
            "{vector}"
        );
        assert_eq!(expected.encode(version).unwrap(), value, "{vector}");
    }
}

#[test]
fn tombstones_have_kafkas_keys() {
    assert_eq!(
        OFFSET_KEY.encode().unwrap(),
        hex(&of_kind("offset-tombstone")[0]["key"])
    );
    assert_eq!(
        GROUP_KEY.encode().unwrap(),
        hex(&of_kind("group-tombstone")[0]["key"])
    );
}

#[test]
fn subscriptions_of_every_version_are_read() {
    for vector in of_kind("subscription") {
        let bytes = hex(&vector["value"]);
        assert_eq!(
            subscribed_topics(&bytes).unwrap(),
            ["a", "topic-b", "ä"],
            "{vector}"
        );
    }
}

#[test]
fn groups_live_in_the_partition_where_kafka_looks_for_them() {
    for vector in of_kind("placement") {
        let group = vector["group"].as_str().unwrap();
        let partition = partition_for_group(group, 50);
        assert_eq!(
            u64::from(partition),
            vector["of_50"].as_u64().unwrap(),
            "{group}"
        );
    }
}

#[test]
fn other_kinds_of_records_are_named_not_read() {
    assert_eq!(
        RecordKey::decode(&[0, 17, 9, 9]).unwrap(),
        RecordKey::Other { kind: 17 }
    );
    let error = RecordKey::decode(&[0xff, 0xff]).unwrap_err();
    assert_eq!(
        error,
        CodecError::UnknownVersion {
            what: "key",
            version: -1
        }
    );
    assert!(OffsetCommitValue::decode(&[0, 5]).is_err());
    assert!(GroupMetadataValue::decode(&[0, 5]).is_err());
}

/// Every cut and every flipped bit: an error or another value, never a panic, and a cut is never
/// taken for the whole.
#[test]
fn damage_is_an_error_or_another_value() {
    for vector in vectors() {
        let kind = vector["kind"].as_str().unwrap();
        let read = |bytes: &[u8]| match kind {
            "offset" | "legacy-offset" => OffsetCommitValue::decode(bytes).is_ok(),
            "group" | "empty-group" => GroupMetadataValue::decode(bytes).is_ok(),
            "subscription" => subscribed_topics(bytes).is_ok(),
            _ => RecordKey::decode(bytes).is_ok(),
        };
        for field in ["key", "value"] {
            let Some(mut bytes) = vector[field].as_str().map(|_| hex(&vector[field])) else {
                continue;
            };
            for cut in 0..bytes.len() {
                let whole = read(&bytes[..cut]) && field == "value" && kind != "subscription";
                assert!(!whole, "{kind} cut to {cut} bytes");
                assert!(RecordKey::decode(&bytes[..cut]).is_err() || field == "value");
            }
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                read(&bytes);
                let _ = RecordKey::decode(&bytes);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}

#[test]
fn a_name_that_does_not_fit_is_refused() {
    let long = "x".repeat(40_000);
    let key = RecordKey::Group { group: &long };
    assert_eq!(
        key.encode().unwrap_err(),
        CodecError::BadLength {
            field: "group",
            length: 40_000
        }
    );
}
