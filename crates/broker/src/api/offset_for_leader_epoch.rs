//! OffsetForLeaderEpoch (key 23): where the records of an epoch end (KIP-320).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName,
};

use super::Context;

/// Answers OffsetForLeaderEpoch.
pub async fn handle(
    ctx: &Context,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let slot = EpochEndOffset::default().with_partition(asked.partition);
            match find(ctx, &topic.topic, asked) {
                Ok((epoch, end_offset)) => {
                    slot.with_leader_epoch(epoch).with_end_offset(end_offset)
                }
                Err(error) => slot.with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic)
            .with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn find(
    ctx: &Context,
    topic: &TopicName,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ResponseError> {
    let partition = ctx
        .state
        .partitions
        .partition(topic, asked.partition)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    partition.check_leader_epoch(asked.current_leader_epoch)?;
    let log = partition.log()?;
    Ok(partition
        .end_of_epoch(log, asked.leader_epoch)
        .unwrap_or((-1, -1)))
}
