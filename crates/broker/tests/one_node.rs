//! Admin requests about what a single node without security has none of, as the real Apache Kafka 4.4.0
//! answers them in that case: each was asked of both.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod common;

use std::sync::{Arc, Mutex};

use dlog_broker::loggers::Loggers;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use common::{start, text, topic_name};

fn message(message: &Option<StrBytes>) -> &str {
    message.as_deref().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_are_where_they_should_be() {
    let server = start().await;
    let mut client = server.client().await;
    client.topic("t").await;
    let asked = |topic: &str, partitions: Vec<i32>| {
        elect_leaders_request::TopicPartitions::default()
            .with_topic(topic_name(topic))
            .with_partitions(partitions)
    };
    let topics = vec![asked("t", vec![0, 9]), asked("nope", vec![0])];
    let request = ElectLeadersRequest::default().with_topic_partitions(Some(topics));
    let answer = client.call(2, &request).await;
    let results: Vec<_> = answer
        .replica_election_results
        .iter()
        .flat_map(|topic| &topic.partition_result)
        .map(|p| (p.error_code, message(&p.error_message)))
        .collect();
    assert_eq!(
        results,
        [
            (84, "Leader election not needed for topic partition."),
            (3, "No such partition as t-9"),
            (3, "No such topic as nope")
        ]
    );
    let all = ElectLeadersRequest::default().with_topic_partitions(None);
    assert!(
        client
            .call(2, &all)
            .await
            .replica_election_results
            .is_empty()
    );
    let strange = all.with_election_type(7);
    assert_eq!(client.call(2, &strange).await.error_code, 42);

    let asked = |topic: &str, replicas: Option<Vec<i32>>| {
        let partition = alter_partition_reassignments_request::ReassignablePartition::default()
            .with_replicas(replicas.map(|ids| ids.into_iter().map(BrokerId).collect()));
        alter_partition_reassignments_request::ReassignableTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition])
    };
    for (topic, replicas, code) in [
        ("t", Some(vec![1]), 0),
        ("t", None, 85),
        ("t", Some(vec![1, 2]), 39),
        ("t", Some(vec![1, 1]), 39),
        ("t", Some(vec![]), 39),
        ("nope", Some(vec![1]), 3),
    ] {
        let request = AlterPartitionReassignmentsRequest::default()
            .with_topics(vec![asked(topic, replicas.clone())]);
        let answer = client.call(1, &request).await;
        let found = answer.responses[0].partitions[0].error_code;
        assert_eq!(found, code, "{topic} {replicas:?}");
    }

    let own = server.broker.state().config.data_dir.display().to_string();
    for (path, topic, code) in [
        (&own[..], "t", 0),
        (&own[..], "nope", 9),
        ("/nowhere", "t", 57),
    ] {
        let topic = alter_replica_log_dirs_request::AlterReplicaLogDirTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![0]);
        let dir = alter_replica_log_dirs_request::AlterReplicaLogDir::default()
            .with_path(text(path))
            .with_topics(vec![topic]);
        let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]);
        let answer = client.call(2, &request).await;
        assert_eq!(answer.results[0].partitions[0].error_code, code, "{path}");
    }
    let request = UnregisterBrokerRequest::default().with_broker_id(BrokerId(77));
    let answer = client.call(0, &request).await;
    assert_eq!(
        (answer.error_code, message(&answer.error_message)),
        (102, "Broker ID 77 is not currently registered")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_secured_or_limited_and_that_is_said() {
    let server = start().await;
    let mut client = server.client().await;
    let answer = client.call(3, &DescribeAclsRequest::default()).await;
    assert_eq!(
        (answer.error_code, message(&answer.error_message)),
        (54, "No Authorizer is configured on the broker")
    );
    let creation = create_acls_request::AclCreation::default();
    let request = CreateAclsRequest::default().with_creations(vec![creation]);
    assert_eq!(client.call(3, &request).await.results[0].error_code, 54);
    let filter = delete_acls_request::DeleteAclsFilter::default();
    let request = DeleteAclsRequest::default().with_filters(vec![filter]);
    assert_eq!(
        client.call(3, &request).await.filter_results[0].error_code,
        54
    );

    let answer = client
        .call(1, &DescribeClientQuotasRequest::default())
        .await;
    assert_eq!((answer.error_code, answer.entries), (0, Some(Vec::new())));
    for (remove, code) in [(true, 0), (false, 42)] {
        let entity = alter_client_quotas_request::EntityData::default()
            .with_entity_type(text("user"))
            .with_entity_name(Some(text("u")));
        let op = alter_client_quotas_request::OpData::default()
            .with_key(text("producer_byte_rate"))
            .with_value(1024.0)
            .with_remove(remove);
        let entry = alter_client_quotas_request::EntryData::default()
            .with_entity(vec![entity])
            .with_ops(vec![op]);
        let request = AlterClientQuotasRequest::default().with_entries(vec![entry]);
        assert_eq!(client.call(1, &request).await.entries[0].error_code, code);
    }

    let user = describe_user_scram_credentials_request::UserName::default().with_name(text("u"));
    let request = DescribeUserScramCredentialsRequest::default()
        .with_users(Some(vec![user.clone(), user.clone()]));
    let answer = client.call(0, &request).await;
    assert_eq!(answer.results.len(), 1, "asked twice, answered once");
    let request = DescribeUserScramCredentialsRequest::default().with_users(Some(vec![user]));
    assert_eq!(client.call(0, &request).await.results[0].error_code, 91);
    let upsertion = alter_user_scram_credentials_request::ScramCredentialUpsertion::default()
        .with_name(text("u"));
    let request = AlterUserScramCredentialsRequest::default().with_upsertions(vec![upsertion]);
    assert_eq!(client.call(0, &request).await.results[0].error_code, 33);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quorum_is_this_node_and_levels_stay() {
    let server = start().await;
    let mut client = server.client().await;
    let asked = |topic: &str| {
        let partition = describe_quorum_request::PartitionData::default();
        let topic = describe_quorum_request::TopicData::default()
            .with_topic_name(topic_name(topic))
            .with_partitions(vec![partition]);
        DescribeQuorumRequest::default().with_topics(vec![topic])
    };
    let before = client.call(2, &asked("__cluster_metadata")).await;
    client.topic("t").await;
    let after = client.call(2, &asked("__cluster_metadata")).await;
    let partition = |answer: &DescribeQuorumResponse| answer.topics[0].partitions[0].clone();
    let (before, after) = (partition(&before), partition(&after));
    assert_eq!((after.error_code, after.leader_id), (0, BrokerId(1)));
    assert!(
        after.high_watermark > before.high_watermark,
        "a topic is a change"
    );
    assert_eq!(after.current_voters[0].log_end_offset, after.high_watermark);
    assert_eq!(partition(&client.call(2, &asked("t")).await).error_code, 3);

    for (feature, level, code) in [
        ("metadata.version", 25, 0),
        ("metadata.version", 99, 95),
        ("no.such", 1, 95),
    ] {
        let update = update_features_request::FeatureUpdateKey::default()
            .with_feature(text(feature))
            .with_max_version_level(level);
        let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update]);
        let answer = client.call(2, &request).await;
        assert_eq!(answer.error_code, code, "{feature} {level}");
        let answer = client.call(1, &request).await;
        assert_eq!((answer.error_code, answer.results[0].error_code), (0, code));
    }
}

/// Loggers that only remember.
#[derive(Debug, Default)]
struct Remembered(Mutex<Vec<(String, String)>>);

impl Loggers for Remembered {
    fn levels(&self) -> Vec<(String, String)> {
        self.0.lock().unwrap().clone()
    }

    fn set(&self, logger: &str, level: Option<&str>) -> Result<(), String> {
        let mut levels = self.0.lock().unwrap();
        levels.retain(|(name, _)| name != logger);
        levels.push((logger.to_owned(), level.unwrap_or("INFO").to_owned()));
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_of_loggers_are_shown_and_changed() {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let server = start().await;
    let mut client = server.client().await;
    let loggers = Arc::new(Remembered::default());
    for name in ["dlog_broker", "root"] {
        loggers.set(name, Some("INFO")).unwrap();
    }
    server.broker.state().loggers.set(loggers).unwrap();
    let mut alter = async |node: &str, name: &str, operation: i8, level: &str| {
        let config = AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value((operation == 0).then(|| text(level)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(8)
            .with_resource_name(text(node))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        client.call(1, &request).await.responses[0].error_code
    };
    assert_eq!(alter("1", "dlog_broker", 0, "DEBUG").await, 0);
    assert_eq!(alter("1", "dlog_broker", 0, "LOUD").await, 40);
    assert_eq!(alter("1", "no.such.Logger", 0, "DEBUG").await, 40);
    assert_eq!(alter("1", "root", 1, "").await, 42);
    assert_eq!(alter("7", "root", 0, "WARN").await, 42);
    assert_eq!(alter("1", "dlog_broker", 2, "DEBUG").await, 42);
    let mut client = server.client().await;
    let resource = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(8)
        .with_resource_name(text("1"))
        .with_configuration_keys(None);
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer = client.call(4, &request).await;
    let mut levels: Vec<_> = answer.results[0]
        .configs
        .iter()
        .map(|c| (&*c.name, c.value.as_deref(), c.config_source))
        .collect();
    levels.sort_unstable();
    assert_eq!(
        levels,
        [("dlog_broker", Some("DEBUG"), 6), ("root", Some("INFO"), 6)]
    );
}
