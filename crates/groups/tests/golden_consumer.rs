//! The records of consumer groups of the new protocol against bytes that Apache Kafka wrote
//! (`testdata/gen/README.md`), and against damage.
#![allow(clippy::unwrap_used, reason = "a test may fail that way")]

use bytes::Bytes;
use dlog_groups::codec::{
    ClassicMemberValue, CurrentValue, GroupEpochValue, HeldPartitions, MemberValue, RecordKey,
    RegexValue, Subscription, TargetEpochValue, TargetMemberValue, assigned_partitions,
    assignment_of, kind,
};
use serde_json::Value;
use uuid::Uuid;

const ONE: Uuid = Uuid::from_u128(0x0102_0304_0506_0708_1112_1314_1516_1718);
const TWO: Uuid = Uuid::from_u128(0x2122_2324_2526_2728_ffff_ffff_ffff_fffe);

fn vectors() -> Vec<Value> {
    serde_json::from_str(include_str!("../testdata/consumer_records.json")).unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn value_of(kind: &str) -> Vec<u8> {
    let found = vectors().into_iter().find(|v| v["kind"] == kind);
    hex(&found.unwrap_or_else(|| panic!("no vector {kind}"))["value"])
}

fn of_group(kind: i16) -> RecordKey<'static> {
    RecordKey::OfGroup { kind, group: "g" }
}

fn of_part(kind: i16, part: &'static str) -> RecordKey<'static> {
    RecordKey::OfPart {
        kind,
        group: "g",
        part,
    }
}

#[test]
fn keys_are_kafkas() {
    let mut seen = 0;
    for vector in vectors() {
        let Some(name) = vector["key"]
            .as_str()
            .map(|_| vector["kind"].as_str().unwrap())
        else {
            continue;
        };
        let expected = match name.trim_end_matches("-gone") {
            "group" | "group-hash" => of_group(kind::CONSUMER_GROUP),
            "partitions" => of_group(kind::CONSUMER_PARTITIONS),
            "target" | "target-time" => of_group(kind::CONSUMER_TARGET),
            "regex" => of_part(kind::CONSUMER_REGEX, "a|b.*"),
            "member" | "member-full" | "member-classic" => of_part(kind::CONSUMER_MEMBER, "m"),
            "target-member" | "target-member-empty" => of_part(kind::CONSUMER_TARGET_MEMBER, "m"),
            "current" => of_part(kind::CONSUMER_CURRENT, "m"),
            other => panic!("what is {other}?"),
        };
        let bytes = hex(&vector["key"]);
        assert_eq!(RecordKey::decode(&bytes).unwrap(), expected, "{name}");
        assert_eq!(expected.encode().unwrap(), bytes, "{name}");
        seen += 1;
    }
    assert!(seen > 15, "{seen} keys");
}

#[test]
fn epochs_are_kafkas() {
    for (name, epoch, metadata_hash) in [("group", 17, 0), ("group-hash", 18, -3)] {
        let value = GroupEpochValue {
            epoch,
            metadata_hash,
        };
        let bytes = value_of(name);
        assert_eq!(GroupEpochValue::decode(&bytes).unwrap(), value);
        assert_eq!(value.encode(), bytes);
    }
    for (name, epoch, timestamp_ms) in [("target", 17, 0), ("target-time", 18, 1_700_000_000_123)] {
        let value = TargetEpochValue {
            assignment_epoch: epoch,
            timestamp_ms,
        };
        let bytes = value_of(name);
        assert_eq!(TargetEpochValue::decode(&bytes).unwrap(), value);
        assert_eq!(value.encode(), bytes);
    }
}

#[test]
fn members_are_kafkas() {
    let member = MemberValue {
        instance_id: None,
        rack_id: None,
        client_id: "client".to_owned(),
        client_host: "/10.0.0.1".to_owned(),
        topic_names: vec!["a".to_owned()],
        topic_regex: Some(String::new()),
        rebalance_timeout_ms: 300_000,
        server_assignor: None,
        classic: None,
    };
    let full = MemberValue {
        instance_id: Some("i".to_owned()),
        rack_id: Some("r".to_owned()),
        topic_names: Vec::new(),
        topic_regex: Some("b.*".to_owned()),
        server_assignor: Some("range".to_owned()),
        ..member.clone()
    };
    let classic = MemberValue {
        classic: Some(ClassicMemberValue {
            session_timeout_ms: 45_000,
            protocols: vec![
                ("range".to_owned(), Bytes::from_static(&[1, 2, 3])),
                ("sticky".to_owned(), Bytes::new()),
            ],
        }),
        ..member.clone()
    };
    for (name, value) in [
        ("member", member),
        ("member-full", full),
        ("member-classic", classic),
    ] {
        let bytes = value_of(name);
        assert_eq!(MemberValue::decode(&bytes).unwrap(), value, "{name}");
        assert_eq!(value.encode().unwrap(), bytes, "{name}");
    }
}

#[test]
fn assignments_are_kafkas() {
    let target = TargetMemberValue {
        topics: vec![(ONE, vec![0, 1]), (TWO, vec![7])],
    };
    let nothing = TargetMemberValue { topics: Vec::new() };
    for (name, value) in [("target-member", target), ("target-member-empty", nothing)] {
        let bytes = value_of(name);
        assert_eq!(TargetMemberValue::decode(&bytes).unwrap(), value);
        assert_eq!(value.encode().unwrap(), bytes);
    }
    let held = |topic_id, partitions: &[i32], epochs: &[i32]| HeldPartitions {
        topic_id,
        partitions: partitions.to_vec(),
        epochs: Some(epochs.to_vec()),
    };
    let current = CurrentValue {
        epoch: 5,
        previous_epoch: 4,
        state: 1,
        assigned: vec![held(ONE, &[0, 1], &[3, 5])],
        revoking: vec![held(TWO, &[7], &[2])],
    };
    let bytes = value_of("current");
    assert_eq!(CurrentValue::decode(&bytes).unwrap(), current);
    assert_eq!(current.encode().unwrap(), bytes);
    let regex = RegexValue {
        topics: vec!["a".to_owned(), "b-\u{e4}".to_owned()],
        version: 12,
        timestamp_ms: 1_700_000_000_123,
    };
    let bytes = value_of("regex");
    assert_eq!(RegexValue::decode(&bytes).unwrap(), regex);
    assert_eq!(regex.encode().unwrap(), bytes);
}

#[test]
fn what_classic_members_send_along_is_read_and_written() {
    for vector in vectors() {
        let version = vector["version"].as_i64().unwrap_or_default() as i16;
        let bytes = match vector["kind"].as_str().unwrap() {
            "subscription" => {
                let bytes = hex(&vector["value"]);
                let read = Subscription::decode(&bytes).unwrap();
                assert_eq!((read.version, &*read.topics), (version, &["a", "b"][..]));
                let owned: &[(&str, Vec<i32>)] = &[("a", vec![0, 1])];
                assert_eq!(read.owned, if version >= 1 { owned } else { &[] });
                assert_eq!(read.rack_id, (version >= 3).then_some("rack"));
                bytes
            }
            "assignment" => {
                let bytes = hex(&vector["value"]);
                let parts = vec![("a", vec![0, 1])];
                assert_eq!(assigned_partitions(&bytes).unwrap(), parts);
                assert_eq!(assignment_of(version, &parts).unwrap(), bytes);
                bytes
            }
            _ => continue,
        };
        for cut in 0..bytes.len() {
            let _ = Subscription::decode(&bytes[..cut]);
            let _ = assigned_partitions(&bytes[..cut]);
        }
    }
    assert_eq!(assigned_partitions(&[]).unwrap(), Vec::new());
}

/// Every cut and every flipped bit: an error or another value, never a panic, and a cut is never
/// taken for the whole.
#[test]
fn damage_is_an_error_or_another_value() {
    for vector in vectors() {
        let name = vector["kind"].as_str().unwrap();
        let read = |bytes: &[u8]| match name.split('-').next().unwrap() {
            "group" => GroupEpochValue::decode(bytes).is_ok(),
            "target" if name.starts_with("target-member") => {
                TargetMemberValue::decode(bytes).is_ok()
            }
            "target" => TargetEpochValue::decode(bytes).is_ok(),
            "member" => MemberValue::decode(bytes).is_ok(),
            "current" => CurrentValue::decode(bytes).is_ok(),
            "regex" => RegexValue::decode(bytes).is_ok(),
            "subscription" => Subscription::decode(bytes).is_ok(),
            _ => assigned_partitions(bytes).is_ok(),
        };
        let Some(mut bytes) = vector["value"].as_str().map(|_| hex(&vector["value"])) else {
            continue;
        };
        assert!(read(&bytes), "{name}");
        let embedded = ["subscription", "assignment"].contains(&name);
        for cut in 0..bytes.len() {
            assert!(
                !read(&bytes[..cut]) || embedded,
                "{name} cut to {cut} bytes"
            );
        }
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            read(&bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
