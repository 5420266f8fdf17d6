//! AlterReplicaLogDirs (key 34, KIP-113): there is one folder, and every partition is in it.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};

use super::Context;

/// Answers AlterReplicaLogDirs.
pub async fn handle(
    ctx: &Context,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let own = ctx.state.config.data_dir.display().to_string();
    let mut results = Vec::new();
    for dir in request.dirs {
        let is_own = *dir.path == *own;
        for topic in dir.topics {
            let hosted = ctx.state.partitions.topic(&topic.name.0);
            let partitions = topic.partitions.iter().map(|&index| {
                let here = hosted.as_ref().and_then(|hosted| hosted.partition(index));
                let code = match (is_own, here) {
                    (false, _) => ResponseError::LogDirNotFound.code(),
                    (true, None) => ResponseError::ReplicaNotAvailable.code(),
                    (true, Some(_)) => 0,
                };
                AlterReplicaLogDirPartitionResult::default()
                    .with_partition_index(index)
                    .with_error_code(code)
            });
            results.push(
                AlterReplicaLogDirTopicResult::default()
                    .with_partitions(partitions.collect())
                    .with_topic_name(topic.name),
            );
        }
    }
    AlterReplicaLogDirsResponse::default().with_results(results)
}
