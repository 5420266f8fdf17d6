//! OffsetCommit (key 8): answered when the offsets are written to `__consumer_offsets`.

use std::collections::HashMap;

use dlog_groups::{CommitPartition, CommitTopic, GroupError, OffsetCommit, Reply, TopicResult};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::Context;

/// Clients know that a group may not exist from this version on (KIP-848).
const GROUP_ID_NOT_FOUND: i16 = 9;

/// Error codes by topic and partition.
type Codes = HashMap<(String, i32), i16>;

/// Answers OffsetCommit.
pub async fn handle(ctx: &Context, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut codes = Codes::new();
    let topics: Vec<CommitTopic> = request
        .topics
        .iter()
        .map(|topic| known_partitions(ctx, topic, &mut codes))
        .collect();
    let otherwise = match commit(ctx, &request, topics).await {
        Ok(results) => {
            for topic in results {
                for (partition, error) in topic.partitions {
                    codes.insert(
                        (topic.topic.clone(), partition),
                        error.map_or(0, GroupError::code),
                    );
                }
            }
            GroupError::UnknownServerError.code()
        }
        Err(error) => error.code(),
    };
    let answers = request
        .topics
        .iter()
        .map(|topic| answer(topic, &codes, otherwise));
    OffsetCommitResponse::default().with_topics(answers.collect())
}

/// The partitions that exist; the others get their error.
fn known_partitions(
    ctx: &Context,
    topic: &OffsetCommitRequestTopic,
    codes: &mut Codes,
) -> CommitTopic {
    let image = ctx.state.image();
    let count = image
        .topic(&topic.name)
        .map_or(0, |topic| topic.partitions.len());
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in &topic.partitions {
        let index = partition.partition_index;
        if !usize::try_from(index).is_ok_and(|index| index < count) {
            codes.insert(
                (topic.name.to_string(), index),
                ResponseError::UnknownTopicOrPartition.code(),
            );
            continue;
        }
        partitions.push(CommitPartition {
            partition: index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition
                .committed_metadata
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
        });
    }
    CommitTopic {
        topic: topic.name.to_string(),
        topic_id: uuid::Uuid::nil(),
        partitions,
    }
}

async fn commit(
    ctx: &Context,
    request: &OffsetCommitRequest,
    topics: Vec<CommitTopic>,
) -> Result<Vec<TopicResult>, GroupError> {
    let shard = ctx
        .state
        .groups
        .shard(&ctx.state, &request.group_id)
        .await?;
    let commit = OffsetCommit {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        generation_id: request.generation_id_or_member_epoch,
        // Only versions 2 to 4 have it; -1 leaves it to the server.
        retention_ms: (ctx.version <= 4 && request.retention_time_ms >= 0)
            .then_some(request.retention_time_ms),
        knows_group_id_not_found: ctx.version >= GROUP_ID_NOT_FOUND,
        topics,
    };
    let asked = shard.ask(&ctx.state, |groups, now_ms, token, effects| {
        groups.commit_offsets(now_ms, &commit, token, effects);
    });
    match asked.await? {
        Reply::OffsetCommit(results) => Ok(results),
        _ => Err(GroupError::UnknownServerError),
    }
}

fn answer(
    topic: &OffsetCommitRequestTopic,
    codes: &Codes,
    otherwise: i16,
) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        let index = partition.partition_index;
        let code = codes
            .get(&(topic.name.to_string(), index))
            .copied()
            .unwrap_or(otherwise);
        OffsetCommitResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(code)
    });
    OffsetCommitResponseTopic::default()
        .with_name(topic.name.clone())
        .with_partitions(partitions.collect())
}
