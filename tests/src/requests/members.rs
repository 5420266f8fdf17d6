//! Requests of members of consumer groups (KIP-848) and share groups (KIP-932), and of share groups' admins.
//! The topic ids are nobody's.

use kafka_protocol::messages::*;
use uuid::Uuid;

use super::text;
use crate::produce::topic_name;

const TOPIC: Uuid = Uuid::from_u128(7);
const NAME: &str = "hostile-share";

fn group() -> GroupId {
    GroupId(text(NAME))
}

/// Samples of their APIs.
pub(super) fn samples(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    let mut samples = heartbeats(topic);
    samples.extend(fetches());
    samples.extend(state());
    samples.extend(offsets(topic));
    samples
}

fn heartbeats(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    let owned = consumer_group_heartbeat_request::TopicPartitions::default()
        .with_topic_id(TOPIC)
        .with_partitions(vec![0, 1]);
    let consumer = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text("hostile-consumers")))
        .with_member_id(text("member"))
        .with_instance_id(Some(text("instance")))
        .with_rack_id(Some(text("rack")))
        .with_subscribed_topic_names(Some(vec![topic_name(topic)]))
        .with_server_assignor(Some(text("uniform")))
        .with_topic_partitions(Some(vec![owned]));
    let matching = consumer
        .clone()
        .with_subscribed_topic_regex(Some(text("host.*")));
    let share = ShareGroupHeartbeatRequest::default()
        .with_group_id(group())
        .with_member_id(text("member"))
        .with_rack_id(Some(text("rack")))
        .with_subscribed_topic_names(Some(vec![topic_name(topic)]));
    let described = ShareGroupDescribeRequest::default().with_group_ids(vec![group(), group()]);
    vec![
        (
            ApiKey::ConsumerGroupHeartbeat,
            // Version 0 has no regular expressions.
            RequestKind::ConsumerGroupHeartbeat(consumer),
        ),
        (
            ApiKey::ConsumerGroupHeartbeat,
            RequestKind::ConsumerGroupHeartbeat(matching),
        ),
        (
            ApiKey::ShareGroupHeartbeat,
            RequestKind::ShareGroupHeartbeat(share),
        ),
        (
            ApiKey::ShareGroupDescribe,
            RequestKind::ShareGroupDescribe(described),
        ),
    ]
}

fn fetches() -> Vec<(ApiKey, RequestKind)> {
    let batch = share_fetch_request::AcknowledgementBatch::default()
        .with_last_offset(3)
        .with_acknowledge_types(vec![1, 2, 3, 1]);
    let partition =
        share_fetch_request::FetchPartition::default().with_acknowledgement_batches(vec![batch]);
    let topic = share_fetch_request::FetchTopic::default()
        .with_topic_id(TOPIC)
        .with_partitions(vec![partition]);
    let forgotten = share_fetch_request::ForgottenTopic::default()
        .with_topic_id(TOPIC)
        .with_partitions(vec![1]);
    let fetch = ShareFetchRequest::default()
        .with_group_id(Some(group()))
        .with_member_id(Some(text("member")))
        .with_max_bytes(1000)
        .with_max_records(10)
        .with_batch_size(10)
        .with_topics(vec![topic])
        .with_forgotten_topics_data(vec![forgotten]);
    let batch =
        share_acknowledge_request::AcknowledgementBatch::default().with_acknowledge_types(vec![1]);
    let partition = share_acknowledge_request::AcknowledgePartition::default()
        .with_acknowledgement_batches(vec![batch]);
    let topic = share_acknowledge_request::AcknowledgeTopic::default()
        .with_topic_id(TOPIC)
        .with_partitions(vec![partition]);
    let acknowledge = ShareAcknowledgeRequest::default()
        .with_group_id(Some(group()))
        .with_member_id(Some(text("member")))
        .with_share_session_epoch(1)
        .with_topics(vec![topic]);
    vec![
        (ApiKey::ShareFetch, RequestKind::ShareFetch(fetch)),
        (
            ApiKey::ShareAcknowledge,
            RequestKind::ShareAcknowledge(acknowledge),
        ),
    ]
}

fn state() -> Vec<(ApiKey, RequestKind)> {
    let partition = initialize_share_group_state_request::PartitionData::default();
    let data = initialize_share_group_state_request::InitializeStateData::default()
        .with_topic_id(TOPIC)
        .with_partitions(vec![partition]);
    let initialize = InitializeShareGroupStateRequest::default()
        .with_group_id(text(NAME))
        .with_topics(vec![data]);
    let partition = read_share_group_state_request::PartitionData::default();
    let data = read_share_group_state_request::ReadStateData::default()
        .with_topic_id(TOPIC)
        .with_partitions(vec![partition]);
    let read = ReadShareGroupStateRequest::default()
        .with_group_id(text(NAME))
        .with_topics(vec![data]);
    let batch = write_share_group_state_request::StateBatch::default().with_last_offset(3);
    let partition =
        write_share_group_state_request::PartitionData::default().with_state_batches(vec![batch]);
    let data = write_share_group_state_request::WriteStateData::default()
        .with_topic_id(TOPIC)
        .with_partitions(vec![partition]);
    let write = WriteShareGroupStateRequest::default()
        .with_group_id(text(NAME))
        .with_topics(vec![data]);
    let partition = delete_share_group_state_request::PartitionData::default();
    let data = delete_share_group_state_request::DeleteStateData::default()
        .with_topic_id(TOPIC)
        .with_partitions(vec![partition]);
    let delete = DeleteShareGroupStateRequest::default()
        .with_group_id(text(NAME))
        .with_topics(vec![data]);
    let partition = read_share_group_state_summary_request::PartitionData::default();
    let data = read_share_group_state_summary_request::ReadStateSummaryData::default()
        .with_topic_id(TOPIC)
        .with_partitions(vec![partition]);
    let summary = ReadShareGroupStateSummaryRequest::default()
        .with_group_id(text(NAME))
        .with_topics(vec![data]);
    vec![
        (
            ApiKey::InitializeShareGroupState,
            RequestKind::InitializeShareGroupState(initialize),
        ),
        (
            ApiKey::ReadShareGroupState,
            RequestKind::ReadShareGroupState(read),
        ),
        (
            ApiKey::WriteShareGroupState,
            RequestKind::WriteShareGroupState(write),
        ),
        (
            ApiKey::DeleteShareGroupState,
            RequestKind::DeleteShareGroupState(delete),
        ),
        (
            ApiKey::ReadShareGroupStateSummary,
            RequestKind::ReadShareGroupStateSummary(summary),
        ),
    ]
}

fn offsets(topic: &str) -> Vec<(ApiKey, RequestKind)> {
    use alter_share_group_offsets_request as alter;
    use delete_share_group_offsets_request as delete;
    use describe_share_group_offsets_request as describe;
    let of_topic = describe::DescribeShareGroupOffsetsRequestTopic::default()
        .with_topic_name(topic_name(topic))
        .with_partitions(vec![0]);
    let of_group = describe::DescribeShareGroupOffsetsRequestGroup::default()
        .with_group_id(group())
        .with_topics(Some(vec![of_topic]));
    let described = DescribeShareGroupOffsetsRequest::default().with_groups(vec![of_group]);
    let partition = alter::AlterShareGroupOffsetsRequestPartition::default();
    let of_topic = alter::AlterShareGroupOffsetsRequestTopic::default()
        .with_topic_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let altered = AlterShareGroupOffsetsRequest::default()
        .with_group_id(group())
        .with_topics(vec![of_topic]);
    let of_topic =
        delete::DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(topic_name(topic));
    let deleted = DeleteShareGroupOffsetsRequest::default()
        .with_group_id(group())
        .with_topics(vec![of_topic]);
    vec![
        (
            ApiKey::DescribeShareGroupOffsets,
            RequestKind::DescribeShareGroupOffsets(described),
        ),
        (
            ApiKey::AlterShareGroupOffsets,
            RequestKind::AlterShareGroupOffsets(altered),
        ),
        (
            ApiKey::DeleteShareGroupOffsets,
            RequestKind::DeleteShareGroupOffsets(deleted),
        ),
    ]
}

/// Bodies of versions that the encoder does not know yet.
pub(super) fn newer(topic: &str) -> Vec<(ApiKey, i16, Vec<u8>)> {
    let compact = |text: &str| [&[text.len() as u8 + 1][..], text.as_bytes()].concat();
    let id = TOPIC.as_bytes();
    let who = [compact(NAME), compact("member")].concat();
    // One batch of one acknowledgement: offsets 0 to 3, type 1.
    let batches = [&[2][..], &[0; 8], &3_i64.to_be_bytes(), &[2, 1, 0]].concat();
    let topics = [&[2][..], id, &[2], &[0; 4], &batches, &[0, 0]].concat();
    let limits = [0, 0, 1, 1000, 10, 10].map(i32::to_be_bytes).concat();
    let forgotten = [&[2][..], id, &[2], &[0; 4], &[0]].concat();
    // Acquire mode, renewal.
    let fetch = [&who[..], &limits, &[0, 0], &topics, &forgotten, &[0]].concat();
    let acknowledge = [&who[..], &1_i32.to_be_bytes(), &[0], &topics, &[0]].concat();
    // Partition, state epoch, leader epoch, start offset, delivery-complete count; one batch.
    let partition = [&[0; 12][..], &[0; 8], &[0; 4]].concat();
    let batch = [&[2][..], &[0; 8], &3_i64.to_be_bytes(), &[0, 0, 1, 0]].concat();
    let written = [&[2][..], id, &[2], &partition, &batch, &[0, 0]].concat();
    let write = [&compact(NAME)[..], &written, &[0]].concat();
    let summary = [&[2][..], id, &[2], &[0; 8], &[0, 0]].concat();
    let summary = [&compact(NAME)[..], &summary, &[0]].concat();
    let of_topic = [&[2][..], &compact(topic), &[2], &[0; 4], &[0]].concat();
    let describe = [&[2][..], &compact(NAME), &of_topic, &[0, 0]].concat();
    vec![
        (ApiKey::ShareFetch, 2, fetch),
        (ApiKey::ShareAcknowledge, 2, acknowledge),
        (ApiKey::WriteShareGroupState, 1, write),
        (ApiKey::ReadShareGroupStateSummary, 1, summary),
        (ApiKey::DescribeShareGroupOffsets, 1, describe),
    ]
}
