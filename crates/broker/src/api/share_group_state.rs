//! The requests for the stored state of share-partitions (keys 83 to 87), which brokers send to the
//! share coordinator (KIP-932). Any client may, as on Kafka without an authorizer.

use std::sync::Arc;

use dlog_share::{ShareKey, StateError};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_share_group_state_response as deleted;
use kafka_protocol::messages::initialize_share_group_state_response as initialized;
use kafka_protocol::messages::read_share_group_state_response as found;
use kafka_protocol::messages::write_share_group_state_response as written;
use kafka_protocol::messages::{
    DeleteShareGroupStateRequest, DeleteShareGroupStateResponse, InitializeShareGroupStateRequest,
    InitializeShareGroupStateResponse, ReadShareGroupStateRequest, ReadShareGroupStateResponse,
    ReadShareGroupStateSummaryRequest, WriteShareGroupStateResponse,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::{Context, text};
use crate::net::reply::Outcome;
use crate::protocol::{ProtocolError, RawRequest, share};
use crate::share::store;

/// The code of an error of the coordinator.
pub(super) fn code_of(error: StateError) -> i16 {
    let error = match error {
        StateError::CoordinatorLoadInProgress => ResponseError::CoordinatorLoadInProgress,
        StateError::NotCoordinator => ResponseError::NotCoordinator,
        StateError::CoordinatorNotAvailable => ResponseError::CoordinatorNotAvailable,
        StateError::InvalidRequest(_) => ResponseError::InvalidRequest,
        StateError::UnknownTopicOrPartition => ResponseError::UnknownTopicOrPartition,
        StateError::FencedLeaderEpoch => ResponseError::FencedLeaderEpoch,
        StateError::FencedStateEpoch => ResponseError::FencedStateEpoch,
        StateError::Unknown => ResponseError::UnknownServerError,
    };
    error.code()
}

fn key(group: &Arc<str>, topic_id: Uuid, partition: i32) -> ShareKey {
    ShareKey {
        group: group.clone(),
        topic_id,
        partition,
    }
}

/// Kafka answers for no partition when no group is named.
fn topics_of<'a, T>(group: &str, topics: &'a [T]) -> &'a [T] {
    if group.is_empty() { &[] } else { topics }
}

fn words(error: StateError) -> Option<StrBytes> {
    Some(text(error.to_string()))
}

/// Answers InitializeShareGroupState (key 83).
pub async fn initialize(
    ctx: &Context,
    request: InitializeShareGroupStateRequest,
) -> InitializeShareGroupStateResponse {
    let group = Arc::<str>::from(request.group_id.as_str());
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in topics_of(&group, &request.topics) {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let key = key(&group, topic.topic_id, partition.partition);
            let (epoch, start) = (partition.state_epoch, partition.start_offset);
            let mut result = initialized::PartitionResult::default().with_partition(key.partition);
            if let Err(error) = store::initialize(&ctx.state, &key, epoch, start).await {
                result.error_code = code_of(error);
                result.error_message = words(error);
            }
            partitions.push(result);
        }
        let result = initialized::InitializeStateResult::default();
        results.push(
            result
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions),
        );
    }
    InitializeShareGroupStateResponse::default().with_results(results)
}

/// Answers ReadShareGroupState (key 84).
pub async fn read(
    ctx: &Context,
    request: ReadShareGroupStateRequest,
) -> ReadShareGroupStateResponse {
    let group = Arc::<str>::from(request.group_id.as_str());
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in topics_of(&group, &request.topics) {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let key = key(&group, topic.topic_id, partition.partition);
            let result = found::PartitionResult::default().with_partition(key.partition);
            let read = store::read(&ctx.state, &key, partition.leader_epoch).await;
            partitions.push(match read {
                Ok(state) => result
                    .with_state_epoch(state.state_epoch)
                    .with_start_offset(state.start_offset)
                    .with_state_batches(state.batches.iter().map(batch).collect()),
                Err(error) => result
                    .with_error_code(code_of(error))
                    .with_error_message(words(error)),
            });
        }
        let result = found::ReadStateResult::default();
        results.push(
            result
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions),
        );
    }
    ReadShareGroupStateResponse::default().with_results(results)
}

fn batch(batch: &dlog_share::StateBatch) -> found::StateBatch {
    found::StateBatch::default()
        .with_first_offset(batch.first)
        .with_last_offset(batch.last)
        .with_delivery_state(batch.delivered.state.id())
        .with_delivery_count(i16::try_from(batch.delivered.count).unwrap_or(i16::MAX))
}

/// Answers WriteShareGroupState (key 85).
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn write(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let request = share::write_state_request(raw)?;
    let group = Arc::<str>::from(request.group_id.as_str());
    let mut results = Vec::with_capacity(request.topics.len());
    for (topic_id, writes) in topics_of(&group, &request.topics) {
        let mut partitions = Vec::with_capacity(writes.len());
        for partition in writes {
            let key = key(&group, *topic_id, partition.partition);
            let epochs = (partition.state_epoch, partition.leader_epoch);
            let mut result = written::PartitionResult::default().with_partition(key.partition);
            if let Err(error) = store::write(&ctx.state, &key, epochs, &partition.write).await {
                result.error_code = code_of(error);
                result.error_message = words(error);
            }
            partitions.push(result);
        }
        let result = written::WriteStateResult::default();
        results.push(result.with_topic_id(*topic_id).with_partitions(partitions));
    }
    let response = WriteShareGroupStateResponse::default().with_results(results);
    Ok(Outcome::Ready(raw.reply(&response)?))
}

/// Answers DeleteShareGroupState (key 86).
pub async fn delete(
    ctx: &Context,
    request: DeleteShareGroupStateRequest,
) -> DeleteShareGroupStateResponse {
    let group = Arc::<str>::from(request.group_id.as_str());
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in topics_of(&group, &request.topics) {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let key = key(&group, topic.topic_id, partition.partition);
            let mut result = deleted::PartitionResult::default().with_partition(key.partition);
            if let Err(error) = store::delete(&ctx.state, &key).await {
                result.error_code = code_of(error);
                result.error_message = words(error);
            }
            partitions.push(result);
        }
        let result = deleted::DeleteStateResult::default();
        results.push(
            result
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions),
        );
    }
    DeleteShareGroupStateResponse::default().with_results(results)
}

/// Answers ReadShareGroupStateSummary (key 87).
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn summary(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let request: ReadShareGroupStateSummaryRequest = raw.decode()?;
    let group = Arc::<str>::from(request.group_id.as_str());
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in topics_of(&group, &request.topics) {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let key = key(&group, topic.topic_id, partition.partition);
            let result = store::summary(&ctx.state, &key).await;
            let result = result.map_err(|error| (code_of(error), error.to_string()));
            partitions.push((key.partition, result));
        }
        topics.push((topic.topic_id, partitions));
    }
    Ok(Outcome::Ready(share::read_summary_reply(raw, &topics)?))
}
