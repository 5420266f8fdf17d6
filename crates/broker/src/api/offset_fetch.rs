//! OffsetFetch (key 9): committed offsets of one group, or from version 8 of several (KIP-709).

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use super::{Context, text};
use crate::groups::machine::api::CommittedOffset;
use crate::groups::machine::{Coordinator, GroupError};

/// Several groups in one request from this version on.
const SEVERAL: i16 = 8;
/// Answers carry a leader epoch from this version on (KIP-320).
const LEADER_EPOCH: i16 = 5;

/// Topics with their partitions; `None` asks for all.
type Asked = Option<Vec<(TopicName, Vec<i32>)>>;
type Found = Vec<(TopicName, Vec<(i32, Option<CommittedOffset>)>)>;

/// Answers OffsetFetch.
pub async fn handle(ctx: &Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if ctx.version >= SEVERAL {
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in &request.groups {
            groups.push(answer_group(ctx, group).await);
        }
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let asked = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| (topic.name, topic.partition_indexes))
            .collect()
    });
    match find(ctx, &request.group_id, asked).await {
        Ok(found) => {
            let topics = found.into_iter().map(|(name, partitions)| {
                let partitions = partitions.into_iter().map(|(index, offset)| {
                    let (offset, epoch, metadata) = fields(offset);
                    OffsetFetchResponsePartition::default()
                        .with_partition_index(index)
                        .with_committed_offset(offset)
                        .with_committed_leader_epoch(if ctx.version >= LEADER_EPOCH {
                            epoch
                        } else {
                            -1
                        })
                        .with_metadata(Some(metadata))
                });
                OffsetFetchResponseTopic::default()
                    .with_name(name)
                    .with_partitions(partitions.collect())
            });
            OffsetFetchResponse::default().with_topics(topics.collect())
        }
        Err(error) => OffsetFetchResponse::default().with_error_code(error.code()),
    }
}

async fn answer_group(ctx: &Context, group: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let asked = group.topics.as_ref().map(|topics| {
        topics
            .iter()
            .map(|topic| (topic.name.clone(), topic.partition_indexes.clone()))
            .collect()
    });
    let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
    match find(ctx, &group.group_id, asked).await {
        Ok(found) => {
            let topics = found.into_iter().map(|(name, partitions)| {
                let partitions = partitions.into_iter().map(|(index, offset)| {
                    let (offset, epoch, metadata) = fields(offset);
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_committed_offset(offset)
                        .with_committed_leader_epoch(epoch)
                        .with_metadata(Some(metadata))
                });
                OffsetFetchResponseTopics::default()
                    .with_name(name)
                    .with_partitions(partitions.collect())
            });
            answer.with_topics(topics.collect())
        }
        Err(error) => answer.with_error_code(error.code()),
    }
}

async fn find(ctx: &Context, group_id: &GroupId, asked: Asked) -> Result<Found, GroupError> {
    let shard = ctx
        .state
        .groups
        .shard(&ctx.state, group_id)
        .await
        .map_err(|_| GroupError::CoordinatorNotAvailable)?;
    Ok(shard.read(|groups| match asked {
        Some(topics) => topics
            .into_iter()
            .map(|(name, indexes)| {
                let of = |index| (index, groups.offset(group_id, &name, index).cloned());
                let partitions = indexes.into_iter().map(of).collect();
                (name, partitions)
            })
            .collect(),
        None => all(groups, group_id),
    }))
}

fn all(groups: &Coordinator, group_id: &GroupId) -> Found {
    let mut found = Found::new();
    for (topic, partition, offset) in groups.offsets(group_id) {
        match found.last_mut() {
            Some((name, partitions)) if &***name == topic => {
                partitions.push((partition, Some(offset.clone())));
            }
            _ => found.push((
                TopicName(text(topic)),
                vec![(partition, Some(offset.clone()))],
            )),
        }
    }
    found
}

/// Offset, leader epoch and metadata; nothing committed is -1 without an error.
fn fields(offset: Option<CommittedOffset>) -> (i64, i32, StrBytes) {
    offset.map_or((-1, -1, StrBytes::new()), |offset| {
        (offset.offset, offset.leader_epoch, text(offset.metadata))
    })
}
