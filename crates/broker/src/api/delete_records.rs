//! DeleteRecords (key 21): raises the log start offset (KIP-107). Offset -1 is the high watermark.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::Context;
use crate::error::storage_error_code;
use crate::state::BrokerState;

const HIGH_WATERMARK: i64 = -1;
const UNKNOWN_LOW_WATERMARK: i64 = -1;

/// Answers DeleteRecords.
pub async fn handle(ctx: &Context, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = ctx
        .blocking(move |state| {
            let answer = |topic: &DeleteRecordsTopic| {
                let partitions = topic
                    .partitions
                    .iter()
                    .map(|partition| delete(state, &topic.name, partition));
                DeleteRecordsTopicResult::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions.collect())
            };
            request.topics.iter().map(answer).collect()
        })
        .await;
    DeleteRecordsResponse::default().with_topics(topics)
}

fn delete(
    state: &BrokerState,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> DeleteRecordsPartitionResult {
    let answer =
        DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
    match delete_before(state, topic, asked) {
        Ok(low_watermark) => answer.with_low_watermark(low_watermark),
        Err(error) => answer
            .with_low_watermark(UNKNOWN_LOW_WATERMARK)
            .with_error_code(error.code()),
    }
}

fn delete_before(
    state: &BrokerState,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> Result<i64, ResponseError> {
    let partition = state
        .partitions
        .partition(topic, asked.partition_index)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    let hosted = state
        .partitions
        .topic(topic)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    if !hosted.settings.load().log.cleanup.delete {
        return Err(ResponseError::PolicyViolation);
    }
    let log = partition.log()?;
    let offset = match asked.offset {
        HIGH_WATERMARK => log.acknowledged_end(),
        offset => offset,
    };
    log.delete_records_before(offset)
        .map_err(|error| storage_error_code(&error))
}
