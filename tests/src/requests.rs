//! One request of every API that the server answers, with every array filled, so that every length
//! field of the protocol occurs in some version of some request.

mod admin;
mod members;
mod transactions;

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use crate::produce::{fetch_request, plain_batch, produce_request, topic_name};

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn group() -> GroupId {
    GroupId(text("hostile-group"))
}

/// The requests, about the topic `topic`.
///
/// They change as little as possible: a test that sends them mutated a thousand times must find the
/// topic still there.
pub fn samples(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    let mut samples = data(topic);
    samples.extend(topics(topic));
    samples.extend(configs(topic));
    samples.extend(groups(topic));
    samples.extend(transactions::samples(topic));
    samples.extend(cluster(topic));
    samples.extend(admin::admin(topic));
    samples.extend(members::samples(topic));
    samples
}

fn data(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    let batch = plain_batch(&[b"hostile".to_vec(), Vec::new()])
        .expect("two small records fit into a batch");
    let epochs = OffsetForLeaderTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![OffsetForLeaderPartition::default()]);
    let list = list_offsets_request::ListOffsetsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![
            list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1),
        ]);
    let forgotten = fetch_request::ForgottenTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![1]);
    let producers = describe_producers_request::TopicRequest::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![0]);
    vec![
        (
            ApiKey::Produce,
            RequestKind::Produce(produce_request(topic, 0, batch.clone(), -1)),
        ),
        (
            ApiKey::Produce,
            RequestKind::Produce(
                produce_request(topic, 0, batch, 1)
                    .with_transactional_id(Some(TransactionalId(text("t")))),
            ),
        ),
        (
            ApiKey::Fetch,
            RequestKind::Fetch(fetch_request(topic, 0, 0, 1000).with_max_wait_ms(0)),
        ),
        (
            ApiKey::Fetch,
            RequestKind::Fetch(
                fetch_request(topic, 0, 0, 1000)
                    .with_max_wait_ms(0)
                    .with_session_epoch(0)
                    .with_rack_id(text("rack"))
                    .with_forgotten_topics_data(vec![forgotten]),
            ),
        ),
        (
            ApiKey::ListOffsets,
            RequestKind::ListOffsets(
                ListOffsetsRequest::default()
                    .with_replica_id(BrokerId(-1))
                    .with_topics(vec![list]),
            ),
        ),
        (
            ApiKey::OffsetForLeaderEpoch,
            RequestKind::OffsetForLeaderEpoch(
                OffsetForLeaderEpochRequest::default()
                    .with_replica_id(BrokerId(-1))
                    .with_topics(vec![epochs]),
            ),
        ),
        (
            ApiKey::InitProducerId,
            RequestKind::InitProducerId(
                InitProducerIdRequest::default().with_producer_id(ProducerId(-1)),
            ),
        ),
        (
            ApiKey::InitProducerId,
            RequestKind::InitProducerId(
                InitProducerIdRequest::default()
                    .with_transactional_id(None)
                    .with_producer_id(ProducerId(-1)),
            ),
        ),
        (
            ApiKey::DescribeProducers,
            RequestKind::DescribeProducers(
                DescribeProducersRequest::default().with_topics(vec![producers]),
            ),
        ),
    ]
}

fn topics(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    use create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
    let creatable = CreatableTopic::default()
        .with_name(topic_name("hostile-new"))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![
            CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]),
        ])
        .with_configs(vec![
            CreatableTopicConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("1000"))),
        ]);
    let deletable = delete_topics_request::DeleteTopicState::default()
        .with_name(Some(topic_name("no-such-topic")));
    let records = delete_records_request::DeleteRecordsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![
            delete_records_request::DeleteRecordsPartition::default(),
        ]);
    let grown = create_partitions_request::CreatePartitionsTopic::default()
        .with_name(topic_name(topic))
        .with_count(1)
        .with_assignments(Some(vec![
            create_partitions_request::CreatePartitionsAssignment::default()
                .with_broker_ids(vec![BrokerId(1)]),
        ]));
    vec![
        (
            ApiKey::CreateTopics,
            RequestKind::CreateTopics(
                CreateTopicsRequest::default()
                    .with_topics(vec![creatable])
                    .with_validate_only(true),
            ),
        ),
        (
            ApiKey::DeleteTopics,
            RequestKind::DeleteTopics(DeleteTopicsRequest::default().with_topics(vec![deletable])),
        ),
        (
            ApiKey::DeleteTopics,
            RequestKind::DeleteTopics(
                DeleteTopicsRequest::default().with_topic_names(vec![topic_name("no-such-topic")]),
            ),
        ),
        (
            ApiKey::DeleteRecords,
            RequestKind::DeleteRecords(DeleteRecordsRequest::default().with_topics(vec![records])),
        ),
        (
            ApiKey::CreatePartitions,
            RequestKind::CreatePartitions(
                CreatePartitionsRequest::default()
                    .with_topics(vec![grown])
                    .with_validate_only(true),
            ),
        ),
    ]
}

fn configs(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    let name = StrBytes::from_string(topic.to_owned());
    let described = describe_configs_request::DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(name.clone())
        .with_configuration_keys(Some(vec![text("retention.ms")]));
    let altered = alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(name.clone())
        .with_configs(vec![
            alter_configs_request::AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("3600000"))),
        ]);
    let incremental = incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(name)
        .with_configs(vec![
            incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text("retention.ms"))
                .with_value(Some(text("3600000"))),
        ]);
    vec![
        (
            ApiKey::DescribeConfigs,
            RequestKind::DescribeConfigs(
                DescribeConfigsRequest::default().with_resources(vec![described]),
            ),
        ),
        (
            ApiKey::AlterConfigs,
            RequestKind::AlterConfigs(
                AlterConfigsRequest::default()
                    .with_resources(vec![altered])
                    .with_validate_only(true),
            ),
        ),
        (
            ApiKey::IncrementalAlterConfigs,
            RequestKind::IncrementalAlterConfigs(
                IncrementalAlterConfigsRequest::default()
                    .with_resources(vec![incremental])
                    .with_validate_only(true),
            ),
        ),
        (
            ApiKey::ListConfigResources,
            RequestKind::ListConfigResources(
                ListConfigResourcesRequest::default().with_resource_types(vec![2]),
            ),
        ),
    ]
}

fn groups(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    let mut samples = membership();
    samples.extend(offsets(topic));
    samples.extend([
        (
            ApiKey::FindCoordinator,
            RequestKind::FindCoordinator(
                FindCoordinatorRequest::default()
                    .with_coordinator_keys(vec![text("hostile-group")]),
            ),
        ),
        (
            ApiKey::FindCoordinator,
            RequestKind::FindCoordinator(
                FindCoordinatorRequest::default().with_key(text("hostile-group")),
            ),
        ),
        (
            ApiKey::ListGroups,
            RequestKind::ListGroups(
                ListGroupsRequest::default()
                    .with_states_filter(vec![text("Stable")])
                    .with_types_filter(vec![text("classic")]),
            ),
        ),
        (
            ApiKey::ListGroups,
            RequestKind::ListGroups(ListGroupsRequest::default()),
        ),
        (
            ApiKey::DescribeGroups,
            RequestKind::DescribeGroups(
                DescribeGroupsRequest::default().with_groups(vec![group()]),
            ),
        ),
        (
            ApiKey::DeleteGroups,
            RequestKind::DeleteGroups(
                DeleteGroupsRequest::default().with_groups_names(vec![group()]),
            ),
        ),
        (
            ApiKey::ConsumerGroupDescribe,
            RequestKind::ConsumerGroupDescribe(
                ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]),
            ),
        ),
    ]);
    samples
}

/// Requests of a member that the group does not know: none of them waits for another member.
fn membership() -> Vec<(ApiKey, RequestKind)> {
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"metadata"));
    let assignment = sync_group_request::SyncGroupRequestAssignment::default()
        .with_member_id(text("stranger"))
        .with_assignment(Bytes::from_static(b"assignment"));
    let member = leave_group_request::MemberIdentity::default().with_member_id(text("stranger"));
    vec![
        (
            ApiKey::JoinGroup,
            RequestKind::JoinGroup(
                JoinGroupRequest::default()
                    .with_group_id(group())
                    .with_session_timeout_ms(10_000)
                    .with_rebalance_timeout_ms(10_000)
                    .with_member_id(text("stranger"))
                    .with_protocol_type(text("consumer"))
                    .with_protocols(vec![protocol]),
            ),
        ),
        (
            ApiKey::SyncGroup,
            RequestKind::SyncGroup(
                SyncGroupRequest::default()
                    .with_group_id(group())
                    .with_member_id(text("stranger"))
                    .with_assignments(vec![assignment]),
            ),
        ),
        (
            ApiKey::Heartbeat,
            RequestKind::Heartbeat(
                HeartbeatRequest::default()
                    .with_group_id(group())
                    .with_member_id(text("stranger")),
            ),
        ),
        (
            ApiKey::LeaveGroup,
            RequestKind::LeaveGroup(
                LeaveGroupRequest::default()
                    .with_group_id(group())
                    .with_members(vec![member]),
            ),
        ),
        (
            ApiKey::LeaveGroup,
            RequestKind::LeaveGroup(
                LeaveGroupRequest::default()
                    .with_group_id(group())
                    .with_member_id(text("stranger")),
            ),
        ),
    ]
}

fn offsets(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    let committed = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![
            offset_commit_request::OffsetCommitRequestPartition::default()
                .with_committed_metadata(Some(text("meta"))),
        ]);
    let one_group = offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![0]);
    let of_group = offset_fetch_request::OffsetFetchRequestTopics::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![0]);
    let many_groups = offset_fetch_request::OffsetFetchRequestGroup::default()
        .with_group_id(group())
        .with_topics(Some(vec![of_group]));
    let deleted = offset_delete_request::OffsetDeleteRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![
            offset_delete_request::OffsetDeleteRequestPartition::default(),
        ]);
    vec![
        (
            ApiKey::OffsetCommit,
            RequestKind::OffsetCommit(
                OffsetCommitRequest::default()
                    .with_group_id(group())
                    .with_generation_id_or_member_epoch(-1)
                    .with_topics(vec![committed]),
            ),
        ),
        (
            ApiKey::OffsetFetch,
            RequestKind::OffsetFetch(
                OffsetFetchRequest::default()
                    .with_group_id(group())
                    .with_topics(Some(vec![one_group])),
            ),
        ),
        (
            ApiKey::OffsetFetch,
            RequestKind::OffsetFetch(OffsetFetchRequest::default().with_groups(vec![many_groups])),
        ),
        (
            ApiKey::OffsetDelete,
            RequestKind::OffsetDelete(
                OffsetDeleteRequest::default()
                    .with_group_id(group())
                    .with_topics(vec![deleted]),
            ),
        ),
    ]
}

fn cluster(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    let wanted =
        metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    let partitions =
        describe_topic_partitions_request::TopicRequest::default().with_name(topic_name(topic));
    let cursor =
        describe_topic_partitions_request::Cursor::default().with_topic_name(topic_name(topic));
    let dirs = describe_log_dirs_request::DescribableLogDirTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(vec![0]);
    let moving = list_partition_reassignments_request::ListPartitionReassignmentsTopics::default()
        .with_name(topic_name(topic))
        .with_partition_indexes(vec![0]);
    vec![
        (
            ApiKey::ApiVersions,
            RequestKind::ApiVersions(
                ApiVersionsRequest::default()
                    .with_client_software_name(text("system-test"))
                    .with_client_software_version(text("1.0")),
            ),
        ),
        (
            ApiKey::Metadata,
            RequestKind::Metadata(
                MetadataRequest::default()
                    .with_topics(Some(vec![wanted]))
                    .with_allow_auto_topic_creation(false),
            ),
        ),
        // Before version 4 a client could not ask that no topic be created.
        (ApiKey::Metadata, RequestKind::Metadata(metadata_of(topic))),
        (
            ApiKey::DescribeCluster,
            RequestKind::DescribeCluster(DescribeClusterRequest::default()),
        ),
        (
            ApiKey::DescribeTopicPartitions,
            RequestKind::DescribeTopicPartitions(
                DescribeTopicPartitionsRequest::default()
                    .with_topics(vec![partitions])
                    .with_response_partition_limit(10)
                    .with_cursor(Some(cursor)),
            ),
        ),
        (
            ApiKey::DescribeLogDirs,
            RequestKind::DescribeLogDirs(
                DescribeLogDirsRequest::default().with_topics(Some(vec![dirs])),
            ),
        ),
        (
            ApiKey::ListPartitionReassignments,
            RequestKind::ListPartitionReassignments(
                ListPartitionReassignmentsRequest::default().with_topics(Some(vec![moving])),
            ),
        ),
    ]
}

fn metadata_of(topic: &str) -> MetadataRequest {
    let wanted =
        metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    MetadataRequest::default()
        .with_topics(Some(vec![wanted]))
        .with_allow_auto_topic_creation(true)
}

/// Whole frames of the versions that `kafka-protocol` cannot say.
pub fn newer(topic: &str) -> Vec<(ApiKey, i16, Vec<u8>)> {
    let text = |text: &str| [&[text.len() as u8 + 1][..], text.as_bytes()].concat();
    // Two elements' worth of each array; ids of topics that do not exist.
    let id = [7_u8; 16];
    let list_offsets = [
        &[0xff, 0xff, 0xff, 0xff, 0, 2][..],
        &text(topic),
        &[2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        &(-6_i64).to_be_bytes(),
        &[0, 0, 0, 0, 3, 0xe8, 0],
    ]
    .concat();
    let offset_commit = [
        &text("hostile-group")[..],
        &[0xff, 0xff, 0xff, 0xff],
        &text(""),
        &text("instance"),
        &[2],
        &id,
        &[2, 0, 0, 0, 0],
        &5_i64.to_be_bytes(),
        &[0xff, 0xff, 0xff, 0xff],
        &text("metadata"),
        &[0, 0, 0],
    ]
    .concat();
    let offset_fetch = [
        &[2][..],
        &text("hostile-group"),
        &text("member"),
        &[0xff, 0xff, 0xff, 0xff, 2],
        &id,
        &[2, 0, 0, 0, 0, 0, 0, 1, 0],
    ]
    .concat();
    let api_versions = [
        &text("system-test")[..],
        &text("1.0"),
        &text("another-cluster"),
        &[0, 0, 0, 1, 0],
    ]
    .concat();
    let log_dirs = [&[2][..], &text(topic), &[2, 0, 0, 0, 0, 0, 0]].concat();
    let delete_groups = [&[2][..], &text("no-such-group"), &[0]].concat();
    let bodies = [
        (
            ApiKey::WriteTxnMarkers,
            2,
            transactions::write_txn_markers_2(topic),
        ),
        (
            ApiKey::TxnOffsetCommit,
            6,
            transactions::txn_offset_commit_6(),
        ),
        (ApiKey::ListOffsets, 11, list_offsets),
        (ApiKey::OffsetCommit, 10, offset_commit),
        (ApiKey::OffsetFetch, 10, offset_fetch),
        (ApiKey::ApiVersions, 5, api_versions),
        (ApiKey::DescribeLogDirs, 5, log_dirs),
        (ApiKey::DeleteGroups, 3, delete_groups),
    ];
    let framed = bodies
        .into_iter()
        .chain(members::newer(topic))
        .map(|(api, version, body)| (api, version, frame_of(api, version, &body)));
    framed.collect()
}

/// A flexible request around a body.
fn frame_of(api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let header = [
        &(api as i16).to_be_bytes()[..],
        &version.to_be_bytes(),
        &7_i32.to_be_bytes(),
        b"\0\x0bsystem-test\0",
    ]
    .concat();
    let size = (header.len() + body.len()) as u32;
    [&size.to_be_bytes()[..], &header, body].concat()
}
