//! CreatePartitions (key 37): more partitions for existing topics (KIP-195).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::{Context, text};
use crate::state::BrokerState;
use crate::topics::TopicError;

/// Answers CreatePartitions.
pub async fn handle(ctx: &Context, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let CreatePartitionsRequest {
        topics,
        validate_only,
        ..
    } = request;
    let results = ctx
        .blocking(move |state| {
            let repeated = |topic: &CreatePartitionsTopic| {
                topics.iter().filter(|t| t.name == topic.name).count() > 1
            };
            topics
                .iter()
                .map(|topic| grow(state, topic, repeated(topic), validate_only))
                .collect()
        })
        .await;
    CreatePartitionsResponse::default().with_results(results)
}

fn grow(
    state: &BrokerState,
    topic: &CreatePartitionsTopic,
    repeated: bool,
    validate_only: bool,
) -> CreatePartitionsTopicResult {
    let assignments: Vec<Vec<i32>> = topic
        .assignments
        .iter()
        .flatten()
        .map(|assignment| assignment.broker_ids.iter().map(|id| id.0).collect())
        .collect();
    let grown = if repeated {
        Err(TopicError::new(
            ResponseError::InvalidRequest,
            "Duplicate topic name.",
        ))
    } else {
        state.add_partitions(&topic.name, topic.count, &assignments, validate_only)
    };
    let answer = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
    match grown {
        Ok(()) => answer,
        Err(error) => answer
            .with_error_code(error.code.code())
            .with_error_message(Some(text(&error.message))),
    }
}
