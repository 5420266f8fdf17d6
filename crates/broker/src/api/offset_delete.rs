//! OffsetDelete (key 47): committed offsets of topics that the group does not read (KIP-496).

use dlog_groups::{GroupError, OffsetDelete, Reply, TopicResult};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse, TopicName};

use super::{Context, text};

/// Answers OffsetDelete.
pub async fn handle(ctx: &Context, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    match delete(ctx, request).await {
        Ok(results) => {
            OffsetDeleteResponse::default().with_topics(results.into_iter().map(answer).collect())
        }
        Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
    }
}

async fn delete(
    ctx: &Context,
    request: OffsetDeleteRequest,
) -> Result<Vec<TopicResult>, GroupError> {
    let shard = ctx
        .state
        .groups
        .shard(&ctx.state, &request.group_id)
        .await?;
    let delete = OffsetDelete {
        group_id: request.group_id.to_string(),
        topics: request
            .topics
            .into_iter()
            .map(|topic| {
                (
                    topic.name.to_string(),
                    topic.partitions.iter().map(|p| p.partition_index).collect(),
                )
            })
            .collect(),
    };
    let asked = shard.ask(&ctx.state, |groups, now_ms, token, effects| {
        groups.delete_offsets(now_ms, &delete, token, effects);
    });
    match asked.await? {
        Reply::OffsetDelete(results) => results,
        _ => Err(GroupError::UnknownServerError),
    }
}

fn answer(topic: TopicResult) -> OffsetDeleteResponseTopic {
    let partitions = topic.partitions.into_iter().map(|(index, error)| {
        OffsetDeleteResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(error.map_or(0, GroupError::code))
    });
    OffsetDeleteResponseTopic::default()
        .with_name(TopicName(text(topic.topic)))
        .with_partitions(partitions.collect())
}
