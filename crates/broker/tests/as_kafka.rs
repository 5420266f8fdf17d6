//! Answers to unusual requests, as the real Apache Kafka 4.4.0 gives them: each was asked of both.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use kafka_protocol::messages::alter_configs_request as plain;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::*;
use uuid::Uuid;

use common::{Client, batch, fetch_request, start, text, topic_name};

fn new_topic(name: &str) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(1)
        .with_replication_factor(1)
}

/// Name, error code and message of each result.
async fn created(
    client: &mut Client,
    topics: Vec<CreatableTopic>,
) -> Vec<(String, i16, Option<String>)> {
    let request = CreateTopicsRequest::default()
        .with_topics(topics)
        .with_timeout_ms(1000);
    let answer = client.call(7, &request).await;
    let results = answer.topics.iter().map(|topic| {
        (
            topic.name.to_string(),
            topic.error_code,
            topic.error_message.as_ref().map(ToString::to_string),
        )
    });
    results.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_and_refused() {
    let server = start().await;
    let mut client = server.client().await;
    let twice = vec![new_topic("a"), new_topic("b"), new_topic("a")];
    assert_eq!(
        created(&mut client, twice).await,
        [
            ("a".to_owned(), 42, Some("Duplicate topic name.".to_owned())),
            ("b".to_owned(), 0, None)
        ]
    );
    let with = |name: &str, value: &str| {
        let config = CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)));
        new_topic("c").with_configs(vec![config])
    };
    let twice_assigned = new_topic("c")
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![
            CreatableReplicaAssignment::default()
                .with_broker_ids(vec![BrokerId(1)]);
            2
        ]);
    let reserved = new_topic("__cluster_metadata");
    for (topic, code) in [
        (reserved, 42),
        (twice_assigned, 39),
        (new_topic("c").with_num_partitions(20_000), 44),
        (with("remote.storage.enable", "true"), 40),
        (with("remote.copy.disable", "true"), 40),
        (with("remote.log.copy.disable", "true"), 0),
    ] {
        let name = topic.name.to_string();
        let found = created(&mut client, vec![topic]).await;
        assert_eq!((&*found[0].0, found[0].1), (&*name, code), "{found:?}");
    }
    let request = CreateTopicsRequest::default()
        .with_topics(vec![new_topic("only-checked")])
        .with_validate_only(true);
    let checked = client.call(7, &request).await;
    assert_ne!(checked.topics[0].topic_id, Uuid::nil());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_may_have_no_cleanup_policy() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    let alter = |operation: i8, value: &str| altered("t", &[("cleanup.policy", operation, value)]);
    assert_eq!(
        client.call(1, &alter(3, "delete")).await.responses[0].error_code,
        0
    );
    let set = |server: &common::Server| {
        let hosted = server.broker.state().partitions.topic("t").unwrap();
        let cleanup = hosted.settings.load().log.cleanup;
        (cleanup.delete, cleanup.compact)
    };
    assert_eq!(set(&server), (false, false));
    assert_eq!(
        client.call(1, &alter(2, "compact")).await.responses[0].error_code,
        0
    );
    assert_eq!(set(&server), (false, true));
}

/// Changes to one topic: name, operation, value (none when it is empty).
fn altered(topic: &str, changes: &[(&str, i8, &str)]) -> IncrementalAlterConfigsRequest {
    let change = |(name, operation, value): &(&str, i8, &str)| {
        incremental::AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(*operation)
            .with_value((!value.is_empty()).then(|| text(value)))
    };
    let resource = incremental::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(changes.iter().map(change).collect());
    IncrementalAlterConfigsRequest::default().with_resources(vec![resource])
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_are_altered_step_by_step() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    for (topic, changes, code) in [
        ("t", vec![("retention.ms", 0, "5")], 0),
        // What an older or newer server had may be removed.
        ("t", vec![("no.such.setting", 1, "")], 0),
        ("t", vec![("no.such.setting", 0, "1")], 40),
        (
            "t",
            vec![("retention.ms", 0, "5"), ("retention.ms", 1, "")],
            42,
        ),
        ("t", vec![("retention.ms", 0, "")], 42),
        ("t", vec![("retention.ms", 2, "5")], 40),
        ("", vec![("retention.ms", 0, "5")], 42),
        ("nope", vec![("retention.ms", 0, "5")], 3),
    ] {
        let answer = client.call(1, &altered(topic, &changes)).await;
        let found = &answer.responses[0];
        assert_eq!(found.error_code, code, "{topic:?} {changes:?}");
        assert_eq!(found.error_message.is_none(), code == 0, "{found:?}");
    }
    let mut twice = altered("t", &[("retention.ms", 0, "6")]);
    twice.resources.push(twice.resources[0].clone());
    let answer = client.call(1, &twice).await;
    let codes: Vec<_> = answer.responses.iter().map(|r| r.error_code).collect();
    assert_eq!(codes, [42, 42]);
    let mut broker = altered("1", &[("log.retention.ms", 0, "soon")]);
    broker.resources[0].resource_type = 4;
    assert_eq!(client.call(1, &broker).await.responses[0].error_code, 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn configs_are_replaced() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    for (configs, code) in [
        (vec![("segment.bytes", Some("2000000"))], 0),
        (vec![("segment.bytes", None)], 42),
        (vec![("segment.bytes", Some("2000000")); 2], 42),
        (vec![], 0),
    ] {
        let config = |(name, value): &(&str, Option<&str>)| {
            plain::AlterableConfig::default()
                .with_name(text(name))
                .with_value(value.map(text))
        };
        let resource = plain::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configs(configs.iter().map(config).collect());
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = client.call(2, &request).await;
        let found = &answer.responses[0];
        assert_eq!(found.error_code, code, "{configs:?}");
        assert_eq!(found.error_message.is_none(), code == 0, "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_named_twice_missing_or_grown_by_nothing() {
    let server = start().await;
    let mut client = server.client().await;
    let id = client.topic("t").await;
    let grown = |count| {
        CreatePartitionsTopic::default()
            .with_name(topic_name("t"))
            .with_count(count)
            .with_assignments(None)
    };
    for (topics, wanted) in [
        (vec![grown(2), grown(3)], vec![42]),
        (vec![grown(2).with_assignments(Some(vec![]))], vec![39]),
        (vec![grown(20_000)], vec![44]),
        (vec![grown(1)], vec![37]),
        (vec![grown(2)], vec![0]),
    ] {
        let request = CreatePartitionsRequest::default().with_topics(topics);
        let answer = client.call(3, &request).await;
        let codes: Vec<_> = answer.results.iter().map(|r| r.error_code).collect();
        assert_eq!(codes, wanted, "{request:?}");
    }
    let named = || DeleteTopicState::default().with_name(Some(topic_name("t")));
    let by_id = |id| {
        DeleteTopicState::default()
            .with_name(None)
            .with_topic_id(id)
    };
    for (topics, wanted) in [
        (vec![named(), named()], vec![42]),
        (vec![named(), by_id(id)], vec![42]),
        (vec![by_id(Uuid::nil())], vec![42]),
        (vec![by_id(Uuid::from_u128(1))], vec![100]),
        (vec![named()], vec![0]),
        (vec![named()], vec![3]),
    ] {
        let request = DeleteTopicsRequest::default().with_topics(topics);
        let answer = client.call(6, &request).await;
        let codes: Vec<_> = answer.responses.iter().map(|r| r.error_code).collect();
        assert_eq!(codes, wanted, "{request:?}");
    }
    let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let request = MetadataRequest::default().with_topics(Some(vec![asked.clone(), asked]));
    assert_eq!(client.call(12, &request).await.topics.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn special_timestamps_came_with_their_versions() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    client.produce("t", 0, batch(&["a"])).await;
    let request = |timestamps: &[i64]| {
        let partition = |timestamp: &i64| {
            ListOffsetsPartition::default()
                .with_current_leader_epoch(-1)
                .with_timestamp(*timestamp)
        };
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(timestamps.iter().map(partition).collect());
        ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic])
    };
    for (timestamp, since) in [(-3, 7), (-4, 8), (-5, 9)] {
        for (version, code) in [(since - 1, 35), (since, 0)] {
            let answer = client.call(version, &request(&[timestamp])).await;
            let found = answer.topics[0].partitions[0].error_code;
            assert_eq!(found, code, "timestamp {timestamp} version {version}");
        }
    }
    let answer = client.call(10, &request(&[-1, -2])).await;
    let found = &answer.topics[0].partitions;
    assert_eq!((found.len(), found[0].error_code), (1, 42));
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_that_nobody_wrote_have_no_end() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    client.topic("empty").await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    for (topic, epoch, wanted) in [
        ("t", 0, (0, 2)),
        ("t", 1, (-1, -1)),
        ("t", -1, (-1, -1)),
        ("empty", 0, (0, 0)),
        ("empty", 7, (-1, -1)),
    ] {
        let partition = OffsetForLeaderPartition::default()
            .with_current_leader_epoch(-1)
            .with_leader_epoch(epoch);
        let asked = OffsetForLeaderTopic::default()
            .with_topic(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![asked]);
        let answer = client.call(4, &request).await;
        let found = &answer.topics[0].partitions[0];
        assert_eq!(
            (found.leader_epoch, found.end_offset),
            wanted,
            "{topic} {epoch}"
        );
    }
    // A fetch that continues an epoch: error code, diverging end, number of record bytes.
    for (topic, epoch, offset, wanted) in [
        ("t", 0, 0, (0, -1, true)),
        ("t", 0, 9, (0, 2, false)),
        ("t", 1, 0, (1, -1, false)),
        ("empty", 0, 0, (0, -1, false)),
    ] {
        let mut request = fetch_request(topic, Uuid::nil(), 0, offset);
        request.topics[0].partitions[0].last_fetched_epoch = epoch;
        let answer = client.call(12, &request).await;
        let found = &answer.responses[0].partitions[0];
        let has_records = found
            .records
            .as_ref()
            .is_some_and(|bytes| !bytes.is_empty());
        let code = (
            found.error_code,
            found.diverging_epoch.end_offset,
            has_records,
        );
        assert_eq!(code, wanted, "{topic} epoch {epoch} offset {offset}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_producer_and_strange_endpoints_are_refused() {
    let server = start().await;
    let mut client = server.client().await;
    for (id, epoch, code) in [(5, -1, 42), (-1, 1, 42), (5, 1, 0), (-1, -1, 0)] {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch);
        assert_eq!(
            client.call(4, &request).await.error_code,
            code,
            "{id} {epoch}"
        );
    }
    for (kind, code) in [(1, 0), (2, 114), (9, 115)] {
        let request = DescribeClusterRequest::default().with_endpoint_type(kind);
        assert_eq!(
            client.call(1, &request).await.error_code,
            code,
            "endpoint {kind}"
        );
    }
    let all = client
        .call(
            3,
            &ApiVersionsRequest::default()
                .with_client_software_name(text("test"))
                .with_client_software_version(text("1")),
        )
        .await;
    let produce = all.api_keys.iter().find(|api| api.api_key == 0).unwrap();
    assert_eq!((produce.min_version, produce.max_version), (0, 13));
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_partitions_that_do_not_exist_are_not_deleted() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(3);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions(vec![partition]);
    let group = |name: &str| GroupId(text(name));
    let commit = OffsetCommitRequest::default()
        .with_group_id(group("g"))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let stored = client.call(9, &commit).await;
    assert_eq!(stored.topics[0].partitions[0].error_code, 0);
    let delete = |name: &str, topic: &str| {
        let partitions =
            [7, 0].map(|index| OffsetDeleteRequestPartition::default().with_partition_index(index));
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(partitions.to_vec());
        OffsetDeleteRequest::default()
            .with_group_id(group(name))
            .with_topics(vec![topic])
    };
    let codes = |answer: &OffsetDeleteResponse| -> Vec<(i32, i16)> {
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        partitions
            .map(|p| (p.partition_index, p.error_code))
            .collect()
    };
    assert_eq!(
        codes(&client.call(0, &delete("g", "nope")).await),
        [(7, 3), (0, 3)]
    );
    assert_eq!(
        codes(&client.call(0, &delete("g", "t")).await),
        [(0, 0), (7, 3)]
    );
    assert_eq!(client.call(0, &delete("", "t")).await.error_code, 24);
    // The group had nothing but that offset.
    assert_eq!(client.call(0, &delete("g", "t")).await.error_code, 69);
    let sync = SyncGroupRequest::default()
        .with_group_id(group("g"))
        .with_protocol_type(None)
        .with_protocol_name(None);
    assert_eq!(client.call(5, &sync).await.error_code, 23);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_do_not_grow_with_repeated_questions() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(4)
        .with_resource_name(text("1"))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource; 1000])
        .with_include_documentation(true);
    assert_eq!(client.call(4, &request).await.results.len(), 1);
    let groups = vec![GroupId(text("g")); 1000];
    let request = DescribeGroupsRequest::default().with_groups(groups);
    assert_eq!(client.call(5, &request).await.groups.len(), 1);
    let topic = describe_producers_request::TopicRequest::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0; 100]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic; 2]);
    let answer = client.call(0, &request).await;
    let partitions: usize = answer.topics.iter().map(|t| t.partitions.len()).sum();
    assert_eq!(partitions, 1);
    let all = offset_fetch_request::OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("g")))
        .with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![all; 3]);
    let answer = client.call(8, &request).await;
    let codes: Vec<_> = answer.groups.iter().map(|group| group.error_code).collect();
    assert_eq!(codes, [0, 42, 42]);
}

/// Some clients fail a whole listing for one topic with an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_has_no_errors_while_topics_come_and_go() {
    let server = start().await;
    let mut client = server.client().await;
    let mut other = server.client().await;
    let (done, mut is_done) = tokio::sync::oneshot::channel();
    let coming_and_going = tokio::spawn(async move {
        for round in 0..100 {
            let name = format!("t{round}");
            let topics = vec![new_topic(&name).with_num_partitions(8)];
            assert_eq!(created(&mut other, topics).await[0].1, 0);
            let gone = DeleteTopicState::default().with_name(Some(topic_name(&name)));
            let request = DeleteTopicsRequest::default()
                .with_topics(vec![gone])
                .with_timeout_ms(1000);
            assert_eq!(other.call(6, &request).await.responses[0].error_code, 0);
        }
        let _ = done.send(());
    });
    let all = MetadataRequest::default().with_topics(None);
    while is_done.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
        for topic in client.call(12, &all).await.topics {
            let partitions = topic.partitions.iter().map(|p| p.error_code);
            assert!(partitions.chain([topic.error_code]).all(|code| code == 0));
        }
    }
    coming_and_going.await.unwrap();
}
