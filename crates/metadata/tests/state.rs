//! The state machine, its log, and the settings.
#![allow(missing_docs)] // A test program has no readers of its documentation.

use std::collections::BTreeMap;

use dlog_metadata::configs::{self, ConfigError, ConfigSource, StaticConfigs};
use dlog_metadata::record::{PartitionState, decode_change, encode_change};
use dlog_metadata::{
    ChangeError, ConfigResource, Endpoint, LocalMetadataLog, MetadataImage, MetadataRecord,
};
use dlog_storage::LogEnv;
use uuid::Uuid;

fn env() -> LogEnv {
    LogEnv {
        take_lock: false,
        ..LogEnv::with_flusher_threads(1)
    }
}

fn partition() -> PartitionState {
    PartitionState {
        replicas: vec![1],
        isr: vec![1],
        leader: 1,
        leader_epoch: 0,
    }
}

fn topic(id: u128, name: &str, partitions: usize) -> Vec<MetadataRecord> {
    let topic_id = Uuid::from_u128(id);
    vec![
        MetadataRecord::TopicCreated {
            topic_id,
            name: name.to_owned(),
        },
        MetadataRecord::PartitionsAdded {
            topic_id,
            first: 0,
            partitions: vec![partition(); partitions],
        },
    ]
}

fn set(resource: ConfigResource, name: &str, value: Option<&str>) -> MetadataRecord {
    MetadataRecord::ConfigChanged {
        resource,
        name: name.to_owned(),
        value: value.map(str::to_owned),
    }
}

fn apply(image: &mut MetadataImage, records: &[MetadataRecord]) {
    for record in records {
        image.apply(record).expect("the record fits");
    }
}

#[test]
fn records_make_the_state() {
    let mut image = MetadataImage::default();
    apply(&mut image, &topic(1, "a", 2));
    apply(&mut image, &topic(2, "b", 1));
    let before = image.clone();
    apply(
        &mut image,
        &[
            set(ConfigResource::Topic("a".into()), "retention.ms", Some("5")),
            set(ConfigResource::Broker(None), "log.retention.ms", Some("7")),
            MetadataRecord::PartitionsAdded {
                topic_id: Uuid::from_u128(1),
                first: 2,
                partitions: vec![partition()],
            },
            MetadataRecord::TopicDeleted {
                topic_id: Uuid::from_u128(2),
            },
            MetadataRecord::ProducerIdsAllocated { next: 1000 },
            MetadataRecord::ClusterId {
                cluster_id: "c".into(),
            },
        ],
    );
    assert_eq!(image.topic("a").unwrap().partitions.len(), 3);
    assert_eq!(
        image.topic_by_id(Uuid::from_u128(1)).unwrap().configs["retention.ms"],
        "5"
    );
    assert!(image.topic("b").is_none());
    assert_eq!(
        (
            image.topic_count(),
            image.partition_count(),
            image.next_producer_id()
        ),
        (1, 3, 1000)
    );
    assert_eq!(
        before.topic("a").unwrap().partitions.len(),
        2,
        "an older image does not change"
    );
    assert!(before.topic("b").is_some());
}

#[test]
fn records_that_contradict_the_state_change_nothing() {
    let mut image = MetadataImage::default();
    apply(&mut image, &topic(1, "a", 2));
    apply(
        &mut image,
        &[MetadataRecord::ProducerIdsAllocated { next: 10 }],
    );
    apply(
        &mut image,
        &[MetadataRecord::ClusterId {
            cluster_id: "c".into(),
        }],
    );
    let before = image.clone();
    let unknown = Uuid::from_u128(9);
    for wrong in [
        MetadataRecord::TopicCreated {
            topic_id: unknown,
            name: "a".into(),
        },
        MetadataRecord::TopicCreated {
            topic_id: Uuid::from_u128(1),
            name: "b".into(),
        },
        MetadataRecord::TopicDeleted { topic_id: unknown },
        MetadataRecord::PartitionsAdded {
            topic_id: unknown,
            first: 0,
            partitions: vec![],
        },
        MetadataRecord::PartitionsAdded {
            topic_id: Uuid::from_u128(1),
            first: 1,
            partitions: vec![],
        },
        set(ConfigResource::Topic("b".into()), "retention.ms", Some("1")),
        MetadataRecord::ProducerIdsAllocated { next: 9 },
        MetadataRecord::ClusterId {
            cluster_id: "d".into(),
        },
    ] {
        assert!(image.apply(&wrong).is_err(), "{wrong:?}");
        assert_eq!(image, before);
    }
}

#[test]
fn changes_survive_their_encoding_and_newer_ones_are_refused() {
    let mut records = topic(1, "a", 1);
    records.push(MetadataRecord::BrokerRegistered {
        node_id: 1,
        endpoints: vec![Endpoint {
            listener: "PLAINTEXT".into(),
            host: "h".into(),
            port: 9092,
        }],
        rack: None,
    });
    records.push(set(ConfigResource::Broker(Some(1)), "log.flush", None));
    let bytes = encode_change(&records).unwrap();
    assert_eq!(decode_change(&bytes).unwrap(), records);
    assert!(
        decode_change(br#"{"v":2,"records":[]}"#)
            .unwrap_err()
            .to_string()
            .contains("newer")
    );
    for len in 0..bytes.len() {
        assert!(decode_change(&bytes[..len]).is_err());
    }
}

#[test]
fn what_was_changed_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let expected = {
        let log = LocalMetadataLog::open(&env(), dir.path()).unwrap();
        log.change(|_| Ok::<_, ()>((topic(1, "a", 2), ()))).unwrap();
        let refused = log.change(|image| match image.topic("a") {
            Some(_) => Err("exists"),
            None => Ok((topic(2, "a", 1), ())),
        });
        assert!(matches!(refused, Err(ChangeError::Refused("exists"))));
        // The first record fits, the second does not: neither is taken.
        let broken = log.change(|_| {
            let mut records = topic(3, "c", 1);
            records.push(MetadataRecord::TopicDeleted {
                topic_id: Uuid::from_u128(77),
            });
            Ok::<_, ()>((records, ()))
        });
        assert!(matches!(broken, Err(ChangeError::Failed(_))));
        log.image()
        // No close: a crash.
    };
    let log = LocalMetadataLog::open(&env(), dir.path()).unwrap();
    assert_eq!(log.image(), expected);
    assert!(log.image().topic("c").is_none());
    log.close().unwrap();
}

#[test]
fn a_long_log_becomes_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let log = LocalMetadataLog::open(&env(), dir.path()).unwrap();
    log.change(|_| Ok::<_, ()>((topic(1, "a", 1), ()))).unwrap();
    let value = "1:1,".repeat(100_000);
    let resource = || ConfigResource::Topic("a".into());
    for round in 0..30 {
        let name = format!("setting-{}", round % 3);
        log.change(|_| Ok::<_, ()>((vec![set(resource(), &name, Some(&value))], ())))
            .unwrap();
    }
    let folder = dir.path().join(dlog_metadata::local::FOLDER);
    let snapshots = || {
        let names = std::fs::read_dir(&folder)
            .unwrap()
            .map(|f| f.unwrap().file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with("snapshot-"))
            .count()
    };
    assert_eq!(snapshots(), 1);
    let expected = log.image();
    drop(log);
    let log = LocalMetadataLog::open(&env(), dir.path()).unwrap();
    assert_eq!(log.image(), expected);
    assert_eq!(log.image().topic("a").unwrap().configs.len(), 3);
}

#[test]
fn every_default_is_a_value_that_its_setting_allows() {
    let tables = [
        configs::topic::TOPIC_CONFIGS,
        &configs::broker::BROKER_CONFIGS[..],
        configs::group::GROUP_CONFIGS,
        configs::client_metrics::CLIENT_METRICS_CONFIGS,
    ];
    for def in tables.into_iter().flatten() {
        if let Some(default) = def.default
            && !matches!(def.kind, configs::ConfigKind::List if default.is_empty())
        {
            assert_eq!(def.validate(default), Ok(()), "{}", def.name);
        }
        assert!(!def.doc.is_empty());
        if let Some(synonym) = def.synonym {
            assert!(
                configs::broker::find(synonym).is_some(),
                "{} has the unknown synonym {synonym}",
                def.name
            );
        }
    }
    for table in tables {
        assert!(
            table.windows(2).all(|pair| pair[0].name < pair[1].name),
            "sorted, no name twice"
        );
    }
}

#[test]
fn values_are_judged_as_kafka_judges_them() {
    let ok = |name: &str, value: &str| configs::check_topic_config(name, Some(value)).is_ok();
    for (name, value) in [
        ("retention.ms", "-1"),
        ("cleanup.policy", "compact, delete"),
        ("compression.type", "zstd"),
        ("min.cleanable.dirty.ratio", "0.25"),
        ("compression.gzip.level", "-1"),
        ("dlog.flush", "messages:100"),
        ("leader.replication.throttled.replicas", "0:1,1:2"),
        ("preallocate", "TRUE"),
        ("max.message.bytes", " 100 "),
    ] {
        assert!(ok(name, value), "{name}={value}");
    }
    for (name, value) in [
        ("retention.ms", "-2"),
        ("retention.ms", "1h"),
        ("max.message.bytes", "3000000000"),
        ("cleanup.policy", "shred"),
        ("cleanup.policy", "delete,delete"),
        ("compression.type", "lzma"),
        ("compression.gzip.level", "0"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("dlog.flush", "sometimes"),
        ("preallocate", "yes"),
        ("leader.replication.throttled.replicas", "all"),
        ("min.insync.replicas", "0"),
    ] {
        assert!(!ok(name, value), "{name}={value}");
    }
    let unknown = configs::check_topic_config("retention", None).unwrap_err();
    assert_eq!(unknown, ConfigError::UnknownTopicConfig("retention".into()));
    assert!(matches!(
        configs::check_broker_config("node.id", Some("3")),
        Err(ConfigError::ReadOnly(_))
    ));
    assert!(configs::check_broker_config("log.retention.ms", Some("3")).is_ok());
}

#[test]
fn the_nearest_value_holds() {
    let mut image = MetadataImage::default();
    let def = configs::topic::find("retention.ms").unwrap();
    let mut statics = StaticConfigs::new();
    let mut topic = BTreeMap::new();
    let resolve =
        |topic: &BTreeMap<String, String>, image: &MetadataImage, statics: &StaticConfigs| {
            let resolved = configs::resolve_topic(def, Some(topic), image, 1, statics);
            (
                resolved.value().map(str::to_owned),
                resolved.source(),
                resolved.synonyms.len(),
            )
        };
    let check = |value: &str, source, places, topic: &_, image: &_, statics: &_| {
        assert_eq!(
            resolve(topic, image, statics),
            (Some(value.to_owned()), source, places)
        );
    };
    check(
        "604800000",
        ConfigSource::Default,
        1,
        &topic,
        &image,
        &statics,
    );
    statics.insert("log.retention.ms".into(), "4".into());
    check("4", ConfigSource::StaticBroker, 2, &topic, &image, &statics);
    image
        .apply(&set(
            ConfigResource::Broker(None),
            "log.retention.ms",
            Some("3"),
        ))
        .unwrap();
    check(
        "3",
        ConfigSource::DynamicDefaultBroker,
        3,
        &topic,
        &image,
        &statics,
    );
    image
        .apply(&set(
            ConfigResource::Broker(Some(1)),
            "log.retention.ms",
            Some("2"),
        ))
        .unwrap();
    check(
        "2",
        ConfigSource::DynamicBroker,
        4,
        &topic,
        &image,
        &statics,
    );
    topic.insert("retention.ms".into(), "1".into());
    check("1", ConfigSource::Topic, 5, &topic, &image, &statics);
}
