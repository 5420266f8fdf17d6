//! DescribeProducers (key 61): the producers with state in a partition (KIP-664).

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use dlog_storage::ProducerSummary;

use super::{Context, text};

/// Answers DescribeProducers.
pub async fn handle(ctx: &Context, request: DescribeProducersRequest) -> DescribeProducersResponse {
    // Each partition is answered once, so that the answer is not larger than all producers.
    let mut seen = HashSet::new();
    let answer = |topic: &TopicRequest| {
        let partitions = topic
            .partition_indexes
            .iter()
            .filter(|index| seen.insert((topic.name.clone(), **index)))
            .map(|index| describe(ctx, &topic.name, *index));
        TopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    };
    DescribeProducersResponse::default().with_topics(request.topics.iter().map(answer).collect())
}

fn describe(ctx: &Context, topic: &str, index: i32) -> PartitionResponse {
    let answer = PartitionResponse::default().with_partition_index(index);
    let refused = |error: ResponseError, message: &str| {
        PartitionResponse::default()
            .with_partition_index(index)
            .with_error_code(error.code())
            .with_error_message(Some(text(message)))
    };
    let Some(partition) = ctx.state.partitions.partition(topic, index) else {
        return refused(
            ResponseError::UnknownTopicOrPartition,
            "This server does not host this topic-partition.",
        );
    };
    match partition.log() {
        Ok(log) => answer.with_active_producers(log.producers().iter().map(shown).collect()),
        Err(error) => refused(error, "The partition is offline."),
    }
}

fn shown(producer: &ProducerSummary) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.producer_id))
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp_ms)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.current_txn_start.unwrap_or(-1))
}
