//! AlterPartitionReassignments (key 45, KIP-455): on one node a partition can be told to be where it is.

use std::collections::HashSet;

use dlog_metadata::MetadataImage;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};

use super::{Context, text};
use crate::topics::TopicError;

/// Answers AlterPartitionReassignments.
pub async fn handle(
    ctx: &Context,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let image = ctx.state.image();
    let responses = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let answer = ReassignablePartitionResponse::default()
                .with_partition_index(asked.partition_index);
            match judge(&image, &topic.name.0, asked) {
                Ok(()) => answer.with_error_message(None),
                Err(error) => answer
                    .with_error_code(error.code.code())
                    .with_error_message(Some(text(error.message))),
            }
        });
        ReassignableTopicResponse::default()
            .with_partitions(partitions.collect())
            .with_name(topic.name)
    });
    AlterPartitionReassignmentsResponse::default()
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_error_message(None)
        .with_responses(responses.collect())
}

fn judge(
    image: &MetadataImage,
    topic: &str,
    asked: &ReassignablePartition,
) -> Result<(), TopicError> {
    let refuse = |code, message: String| Err(TopicError::new(code, message));
    let known = image.topic(topic);
    let at = usize::try_from(asked.partition_index).ok();
    let Some(partition) = known.and_then(|known| known.partitions.get(at?)) else {
        return refuse(
            ResponseError::UnknownTopicOrPartition,
            match known {
                None => format!("Unable to find a topic named {topic}."),
                Some(_) => format!(
                    "Unable to find partition {topic}:{}.",
                    asked.partition_index
                ),
            },
        );
    };
    let Some(replicas) = &asked.replicas else {
        return refuse(
            ResponseError::NoReassignmentInProgress,
            "No partition reassignment is in progress.".to_owned(),
        );
    };
    let invalid = |reason: String| {
        let message = format!("The manual partition assignment includes {reason}");
        refuse(ResponseError::InvalidReplicaAssignment, message)
    };
    if replicas.is_empty() {
        return invalid("an empty replica list.".to_owned());
    }
    let mut seen = HashSet::new();
    for replica in replicas {
        if !seen.insert(replica.0) {
            return invalid(format!("the broker {} more than once.", replica.0));
        }
        if image.broker(replica.0).is_none() {
            return invalid(format!(
                "broker {}, but no such broker is registered.",
                replica.0
            ));
        }
    }
    // All registered brokers are this one.
    debug_assert!(partition.replicas.iter().all(|id| seen.contains(id)));
    Ok(())
}
