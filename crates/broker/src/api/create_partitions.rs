//! CreatePartitions (key 37): more partitions for existing topics (KIP-195).

use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::{Context, named_once, text};
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
            named_once(&topics, |topic| topic.name.clone())
                .map(|(topic, repeated)| grow(state, topic, repeated, validate_only))
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
    let replicas = |assignment: &CreatePartitionsAssignment| -> Vec<i32> {
        assignment.broker_ids.iter().map(|id| id.0).collect()
    };
    let assignments: Option<Vec<Vec<i32>>> = topic
        .assignments
        .as_ref()
        .map(|assignments| assignments.iter().map(replicas).collect());
    let grown = if repeated {
        Err(TopicError::duplicate_topic())
    } else {
        state.add_partitions(
            &topic.name,
            topic.count,
            assignments.as_deref(),
            validate_only,
        )
    };
    let answer = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
    match grown {
        Ok(()) => answer.with_error_message(None),
        Err(error) => answer
            .with_error_code(error.code.code())
            .with_error_message(Some(text(&error.message))),
    }
}
