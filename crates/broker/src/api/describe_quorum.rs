//! DescribeQuorum (key 55, KIP-595): the quorum of the metadata is this node alone.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_quorum_response::{
    Node, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{BrokerId, DescribeQuorumRequest, DescribeQuorumResponse};

use super::Context;

/// The topic that the metadata is, to clients.
const TOPIC: &str = "__cluster_metadata";

/// The epoch of a node that never had to win an election.
const EPOCH: i32 = 1;

/// Answers DescribeQuorum.
pub async fn handle(ctx: &Context, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let state = &ctx.state;
    let (node, now_ms) = (BrokerId(state.node_id()), state.now_ms());
    let end = state.metadata.end_offset();
    let voter = ReplicaState::default()
        .with_replica_id(node)
        .with_replica_directory_id(state.identity.directory_id)
        .with_log_end_offset(end)
        .with_last_fetch_timestamp(now_ms)
        .with_last_caught_up_timestamp(now_ms);
    let topics = request.topics.into_iter().map(|topic| {
        let is_metadata = *topic.topic_name.0 == *TOPIC;
        let partitions = topic.partitions.iter().map(|asked| {
            let answer = PartitionData::default()
                .with_partition_index(asked.partition_index)
                .with_error_message(None);
            if !is_metadata || asked.partition_index != 0 {
                return answer.with_error_code(ResponseError::UnknownTopicOrPartition.code());
            }
            answer
                .with_leader_id(node)
                .with_leader_epoch(EPOCH)
                .with_high_watermark(end)
                .with_current_voters(vec![voter.clone()])
        });
        TopicData::default()
            .with_partitions(partitions.collect())
            .with_topic_name(topic.topic_name)
    });
    // No listener is for controllers alone.
    let nodes = vec![Node::default().with_node_id(node)];
    DescribeQuorumResponse::default()
        .with_error_message(None)
        .with_topics(topics.collect())
        .with_nodes(if ctx.version >= 2 { nodes } else { Vec::new() })
}
