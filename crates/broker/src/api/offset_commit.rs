//! OffsetCommit (key 8): answered when the offsets are written to `__consumer_offsets`.

use std::collections::HashMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::Context;
use crate::groups::machine::api::{Identity, OffsetToCommit};
use crate::groups::machine::{GroupError, Reply};

type Codes = HashMap<(String, i32), i16>;

/// Answers OffsetCommit.
pub async fn handle(ctx: &Context, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let mut codes = Codes::new();
    let mut offsets = Vec::new();
    let image = ctx.state.image();
    for topic in &request.topics {
        let partitions = image
            .topic(&topic.name)
            .map_or(0, |topic| topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            if usize::try_from(index).is_ok_and(|index| index < partitions) {
                offsets.push(OffsetToCommit {
                    topic: topic.name.to_string(),
                    partition: index,
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: partition
                        .committed_metadata
                        .as_deref()
                        .unwrap_or_default()
                        .to_owned(),
                });
            } else {
                codes.insert(
                    (topic.name.to_string(), index),
                    ResponseError::UnknownTopicOrPartition.code(),
                );
            }
        }
    }
    let who = Identity {
        group_id: request.group_id.to_string(),
        generation: request.generation_id_or_member_epoch,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
    };
    if !offsets.is_empty() {
        commit(ctx, who, offsets, &mut codes).await;
    }
    let unavailable = GroupError::CoordinatorNotAvailable.code();
    let topics = request
        .topics
        .iter()
        .map(|topic| answer(topic, &codes, unavailable));
    OffsetCommitResponse::default().with_topics(topics.collect())
}

async fn commit(ctx: &Context, who: Identity, offsets: Vec<OffsetToCommit>, codes: &mut Codes) {
    let Ok(shard) = ctx.state.groups.shard(&ctx.state, &who.group_id).await else {
        return;
    };
    let now_ms = ctx.state.now_ms();
    let answer = shard
        .ask(&ctx.state, |groups, token| {
            groups.commit(&who, offsets, token, now_ms);
        })
        .await;
    if let Some(Reply::Commit(result)) = answer {
        for (topic, partition, error) in result {
            codes.insert((topic, partition), error.map_or(0, GroupError::code));
        }
    }
}

fn answer(
    topic: &OffsetCommitRequestTopic,
    codes: &Codes,
    missing: i16,
) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        let index = partition.partition_index;
        let code = codes
            .get(&(topic.name.to_string(), index))
            .copied()
            .unwrap_or(missing);
        OffsetCommitResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(code)
    });
    OffsetCommitResponseTopic::default()
        .with_name(topic.name.clone())
        .with_partitions(partitions.collect())
}
