//! OffsetDelete (key 47): committed offsets of topics that the group does not read (KIP-496).

use dlog_groups::{GroupError, OffsetDelete, Reply, TopicResult};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse, TopicName};

use super::{Context, text};

/// Answers OffsetDelete.
pub async fn handle(ctx: &Context, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    match delete(ctx, request).await {
        Ok(results) => {
            let topics = results
                .into_iter()
                .map(|(result, unknown)| answer(result, unknown));
            OffsetDeleteResponse::default().with_topics(topics.collect())
        }
        Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
    }
}

async fn delete(
    ctx: &Context,
    request: OffsetDeleteRequest,
) -> Result<Vec<(TopicResult, Vec<i32>)>, GroupError> {
    let shard = crate::groups::shard_of(&ctx.state, &request.group_id).await?;
    let (delete, unknown) = known_partitions(ctx, &request);
    let asked = shard.ask(&ctx.state, |groups, now_ms, token, effects| {
        groups.delete_offsets(now_ms, &delete, token, effects);
    });
    match asked.await? {
        Reply::OffsetDelete(results) => Ok(results?.into_iter().zip(unknown).collect()),
        _ => Err(GroupError::UnknownServerError),
    }
}

/// What is asked for, and for each topic the partitions that do not exist.
fn known_partitions(ctx: &Context, request: &OffsetDeleteRequest) -> (OffsetDelete, Vec<Vec<i32>>) {
    let image = ctx.state.image();
    let (mut topics, mut unknown) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        let count = image
            .topic(&topic.name)
            .map_or(0, |topic| topic.partitions.len());
        let indexes = topic.partitions.iter().map(|p| p.partition_index);
        let (known, other): (Vec<i32>, Vec<i32>) =
            indexes.partition(|index| usize::try_from(*index).is_ok_and(|index| index < count));
        topics.push((topic.name.to_string(), known));
        unknown.push(other);
    }
    let group_id = request.group_id.to_string();
    (OffsetDelete { group_id, topics }, unknown)
}

fn answer(topic: TopicResult, unknown: Vec<i32>) -> OffsetDeleteResponseTopic {
    let partitions = topic.partitions.into_iter().map(|(index, error)| {
        OffsetDeleteResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(error.map_or(0, GroupError::code))
    });
    let unknown = unknown.into_iter().map(|index| {
        OffsetDeleteResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(ResponseError::UnknownTopicOrPartition.code())
    });
    OffsetDeleteResponseTopic::default()
        .with_name(TopicName(text(topic.topic)))
        .with_partitions(partitions.chain(unknown).collect())
}
