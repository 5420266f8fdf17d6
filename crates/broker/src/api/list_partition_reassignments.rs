//! ListPartitionReassignments (key 46): one node has no other to move replicas to, so none is under
//! way. `kafka-topics --describe` asks for it.

use kafka_protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use super::Context;

/// Answers ListPartitionReassignments.
pub async fn handle(
    _ctx: &Context,
    _request: ListPartitionReassignmentsRequest,
) -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse::default().with_error_message(None)
}
