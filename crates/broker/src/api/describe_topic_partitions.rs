//! DescribeTopicPartitions (key 75): topics in pages (KIP-966).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};

use dlog_metadata::TopicImage;

use super::authorized::ALL_TOPIC_OPERATIONS;
use super::{Context, text};
use crate::topics;

/// Most partitions in one answer, whatever the client asks for
/// (`max.request.partition.size.limit` in Kafka).
const MOST_PARTITIONS: i32 = 2000;

/// Answers DescribeTopicPartitions.
pub async fn handle(
    ctx: &Context,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = ctx.state.image();
    let mut names: Vec<String> = if request.topics.is_empty() {
        image.topics().map(|topic| topic.name.to_string()).collect()
    } else {
        request
            .topics
            .iter()
            .map(|topic| topic.name.to_string())
            .collect()
    };
    names.sort();
    names.dedup();
    let (first_topic, first_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.to_string(), cursor.partition_index.max(0)),
        None => (String::new(), 0),
    };
    names.retain(|name| *name >= first_topic);
    let mut room = request.response_partition_limit.clamp(1, MOST_PARTITIONS) as usize;
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        let Some(topic) = image.topic(&name) else {
            response.topics.push(refusal(&name));
            continue;
        };
        let from = if name == first_topic {
            first_partition as usize
        } else {
            0
        };
        if room == 0 && from < topic.partitions.len() {
            response.next_cursor = Some(cursor(&name, from));
            break;
        }
        let until = topic.partitions.len().min(from.saturating_add(room));
        response.topics.push(describe(ctx, topic, from..until));
        room -= until.saturating_sub(from);
        if until < topic.partitions.len() {
            response.next_cursor = Some(cursor(&name, until));
            break;
        }
    }
    response
}

fn cursor(topic: &str, partition: usize) -> Cursor {
    Cursor::default()
        .with_topic_name(TopicName(text(topic)))
        .with_partition_index(i32::try_from(partition).unwrap_or(i32::MAX))
}

fn refusal(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match topics::check_name(name) {
        Ok(()) => ResponseError::UnknownTopicOrPartition,
        Err(error) => error.code,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(text(name))))
        .with_error_code(error.code())
}

fn describe(
    ctx: &Context,
    topic: &TopicImage,
    range: std::ops::Range<usize>,
) -> DescribeTopicPartitionsResponseTopic {
    let hosted = ctx.state.partitions.topic_by_id(topic.id);
    let partitions = topic
        .partitions
        .iter()
        .enumerate()
        .take(range.end)
        .skip(range.start)
        .map(|(index, partition)| {
            let index = i32::try_from(index).unwrap_or(i32::MAX);
            let offline = hosted
                .as_ref()
                .is_some_and(|hosted| hosted.is_offline(index));
            let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
            DescribeTopicPartitionsResponsePartition::default()
                .with_error_code(if offline {
                    ResponseError::LeaderNotAvailable.code()
                } else {
                    0
                })
                .with_partition_index(index)
                .with_leader_id(BrokerId(if offline { -1 } else { partition.leader }))
                .with_leader_epoch(partition.leader_epoch)
                .with_replica_nodes(ids(&partition.replicas))
                .with_isr_nodes(ids(&partition.isr))
                .with_eligible_leader_replicas(Some(Vec::new()))
                .with_last_known_elr(Some(Vec::new()))
                .with_offline_replicas(if offline {
                    ids(&partition.replicas)
                } else {
                    Vec::new()
                })
        });
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(text(&*topic.name))))
        .with_topic_id(topic.id)
        .with_is_internal(topics::is_internal(&topic.name))
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(ALL_TOPIC_OPERATIONS)
}
