//! DescribeLogDirs (key 35): sizes of partitions and of the disk (KIP-113, KIP-827).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};

use super::{Context, text};
use crate::net::reply::Outcome;
use crate::partitions::HostedTopic;
use crate::protocol::{ProtocolError, RawRequest, newer};
use crate::state::BrokerState;

/// Folders are said to be cordoned or not from this version on (KIP-1066).
const CORDONED: i16 = 5;

/// Answers DescribeLogDirs.
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn handle(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let request: DescribeLogDirsRequest = raw.decode()?;
    let result = ctx.blocking(move |state| describe(state, &request)).await;
    let response = DescribeLogDirsResponse::default().with_results(vec![result]);
    let reply = if raw.version >= CORDONED {
        newer::describe_log_dirs_reply(raw, &response)
    } else {
        raw.reply(&response)
    };
    Ok(Outcome::Ready(reply?))
}

fn describe(state: &BrokerState, request: &DescribeLogDirsRequest) -> DescribeLogDirsResult {
    let dir = &state.config.data_dir;
    let mut hosted = state.partitions.topics();
    hosted.sort_by(|a, b| a.name.cmp(&b.name));
    // By name first: many topics times many questions would take long.
    let asked = request.topics.as_ref().map(|topics| {
        let mut by_name: HashMap<&str, HashSet<i32>> = HashMap::new();
        for topic in topics {
            let indexes = by_name.entry(&topic.topic).or_default();
            indexes.extend(&topic.partitions);
        }
        by_name
    });
    let topics = hosted.iter().filter_map(|topic| match &asked {
        None => described(None, topic),
        Some(asked) => described(Some(asked.get(&*topic.name)?), topic),
    });
    let (total_bytes, usable_bytes) = disk_space(state);
    DescribeLogDirsResult::default()
        .with_log_dir(text(dir.display().to_string()))
        .with_topics(topics.collect())
        .with_total_bytes(total_bytes)
        .with_usable_bytes(usable_bytes)
}

/// The partitions of a topic that were asked for; `None` when none was.
fn described(
    asked: Option<&HashSet<i32>>,
    topic: &Arc<HostedTopic>,
) -> Option<DescribeLogDirsTopic> {
    let partitions: Vec<_> = topic
        .partitions
        .iter()
        .filter(|partition| asked.is_none_or(|indexes| indexes.contains(&partition.index)))
        .filter_map(|partition| {
            let size = partition.log().ok()?.size_bytes();
            Some(
                DescribeLogDirsPartition::default()
                    .with_partition_index(partition.index)
                    .with_partition_size(i64::try_from(size).unwrap_or(i64::MAX)),
            )
        })
        .collect();
    let answer = DescribeLogDirsTopic::default().with_name(TopicName(text(&*topic.name)));
    (!partitions.is_empty()).then(|| answer.with_partitions(partitions))
}

/// Total and usable bytes of the file system, -1 when it cannot be asked.
fn disk_space(state: &BrokerState) -> (i64, i64) {
    let dir = &state.config.data_dir;
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    match state.env.disk.space(dir) {
        Ok(space) => (bytes(space.total_bytes), bytes(space.free_bytes)),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, code = ResponseError::KafkaStorageError.code(), "the file system does not tell its size");
            (-1, -1)
        }
    }
}
