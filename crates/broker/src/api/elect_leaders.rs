//! ElectLeaders (key 43): one node leads all its partitions, so there is nothing to elect (KIP-183, KIP-460).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};

use super::{Context, text};

/// Kafka's `ElectionType`: the preferred replica, or any.
const ELECTION_TYPES: [i8; 2] = [0, 1];

/// Answers ElectLeaders.
pub async fn handle(ctx: &Context, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let response = ElectLeadersResponse::default();
    if ctx.version >= 1 && !ELECTION_TYPES.contains(&request.election_type) {
        return response.with_error_code(ResponseError::InvalidRequest.code());
    }
    let image = ctx.state.image();
    // Asked for all, Kafka names those that got another leader.
    let asked = request.topic_partitions.unwrap_or_default();
    let results = asked.into_iter().map(|asked| {
        let topic = image.topic(&asked.topic.0);
        let results = asked.partitions.iter().map(|&index| {
            let at = usize::try_from(index).ok();
            let partition = topic.and_then(|topic| topic.partitions.get(at?));
            let (code, message) = match (topic, partition) {
                (None, _) => (
                    ResponseError::UnknownTopicOrPartition,
                    format!("No such topic as {}", asked.topic.0),
                ),
                (Some(_), None) => (
                    ResponseError::UnknownTopicOrPartition,
                    format!("No such partition as {}-{index}", asked.topic.0),
                ),
                (Some(_), Some(_)) => (
                    ResponseError::ElectionNotNeeded,
                    "Leader election not needed for topic partition.".to_owned(),
                ),
            };
            PartitionResult::default()
                .with_partition_id(index)
                .with_error_code(code.code())
                .with_error_message(Some(text(message)))
        });
        ReplicaElectionResult::default()
            .with_partition_result(results.collect())
            .with_topic(asked.topic)
    });
    response.with_replica_election_results(results.collect())
}
