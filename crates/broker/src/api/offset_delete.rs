//! OffsetDelete (key 47): committed offsets of topics that the group does not read (KIP-496).

use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::Context;
use crate::groups::machine::api::CommitResult;
use crate::groups::machine::{GroupError, Reply};

/// Answers OffsetDelete.
pub async fn handle(ctx: &Context, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let refused = |error: GroupError| OffsetDeleteResponse::default().with_error_code(error.code());
    let Ok(shard) = ctx.state.groups.shard(&ctx.state, &request.group_id).await else {
        return refused(GroupError::CoordinatorNotAvailable);
    };
    let partitions: Vec<(String, i32)> = request
        .topics
        .iter()
        .flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|partition| (topic.name.to_string(), partition.partition_index))
        })
        .collect();
    let group_id = request.group_id.to_string();
    let answer = shard
        .ask(&ctx.state, |groups, token| {
            groups.delete_offsets(&group_id, &partitions, token);
        })
        .await;
    match answer {
        Some(Reply::Commit(result)) => {
            let topics = request
                .topics
                .iter()
                .map(|topic| topic_answer(topic, &result));
            OffsetDeleteResponse::default().with_topics(topics.collect())
        }
        Some(Reply::Deleted(Some(error))) => refused(error),
        _ => refused(GroupError::CoordinatorNotAvailable),
    }
}

fn topic_answer(
    topic: &OffsetDeleteRequestTopic,
    result: &CommitResult,
) -> OffsetDeleteResponseTopic {
    let partitions = topic.partitions.iter().map(|asked| {
        let index = asked.partition_index;
        let found = result
            .iter()
            .find(|(name, partition, _)| **name == **topic.name && *partition == index);
        let code = found
            .and_then(|(_, _, error)| *error)
            .map_or(0, GroupError::code);
        OffsetDeleteResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(code)
    });
    OffsetDeleteResponseTopic::default()
        .with_name(topic.name.clone())
        .with_partitions(partitions.collect())
}
