//! DescribeShareGroupOffsets (key 90): where share groups are, and how much they have still to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use dlog_groups::GroupError;
use dlog_share::{ShareKey, Summary};
use kafka_protocol::messages::DescribeShareGroupOffsetsRequest;
use kafka_protocol::messages::describe_share_group_offsets_request::{
    DescribeShareGroupOffsetsRequestGroup, DescribeShareGroupOffsetsRequestTopic,
};
use uuid::Uuid;

use crate::api::Context;
use crate::groups::shard_of;
use crate::net::reply::Outcome;
use crate::partitions::HostedTopic;
use crate::protocol::share::{
    DescribedOffsets, DescribedPartition, DescribedTopic, describe_offsets_reply,
};
use crate::protocol::{ProtocolError, RawRequest};
use crate::share::store;

/// Nothing is known.
const UNKNOWN: i64 = -1;

/// Answers DescribeShareGroupOffsets.
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn handle(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let request: DescribeShareGroupOffsetsRequest = raw.decode()?;
    let mut groups = Vec::with_capacity(request.groups.len());
    for group in &request.groups {
        let topics = describe(ctx, group).await;
        groups.push(DescribedOffsets {
            group_id: group.group_id.to_string(),
            topics: topics.map_err(|error| (error.code(), error.to_string())),
        });
    }
    Ok(Outcome::Ready(describe_offsets_reply(raw, &groups)?))
}

async fn describe(
    ctx: &Context,
    group: &DescribeShareGroupOffsetsRequestGroup,
) -> Result<Vec<DescribedTopic>, GroupError> {
    let group_id: Arc<str> = group.group_id.as_str().into();
    let mut described = Vec::new();
    if let Some(topics) = &group.topics {
        for topic in topics {
            described.push(match ctx.state.partitions.topic(&topic.topic_name) {
                Some(hosted) => topic_of(ctx, &group_id, &hosted, &topic.partitions).await,
                None => unknown(topic),
            });
        }
        return Ok(described);
    }
    let shard = shard_of(&ctx.state, &group_id).await?;
    // A group that is not there has nothing to show.
    let parts = shard.read(|groups| groups.share_initialized(&group_id));
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (id, partition) in parts.unwrap_or_default() {
        topics.entry(id).or_default().push(partition);
    }
    for (id, partitions) in topics {
        if let Some(hosted) = ctx.state.partitions.topic_by_id(id) {
            described.push(topic_of(ctx, &group_id, &hosted, &partitions).await);
        }
    }
    Ok(described)
}

fn unknown(topic: &DescribeShareGroupOffsetsRequestTopic) -> DescribedTopic {
    let partitions = topic.partitions.iter().map(|index| DescribedPartition {
        index: *index,
        start_offset: UNKNOWN,
        leader_epoch: 0,
        lag: UNKNOWN,
        error: None,
    });
    DescribedTopic {
        name: topic.topic_name.to_string(),
        id: Uuid::nil(),
        partitions: partitions.collect(),
    }
}

async fn topic_of(
    ctx: &Context,
    group: &Arc<str>,
    hosted: &HostedTopic,
    partitions: &[i32],
) -> DescribedTopic {
    let mut described = Vec::with_capacity(partitions.len());
    for &index in partitions {
        let key = ShareKey {
            group: group.clone(),
            topic_id: hosted.id,
            partition: index,
        };
        // What cannot be said is not an error for whoever looks.
        let summary = store::summary(&ctx.state, &key).await.ok();
        described.push(partition_of(hosted, index, summary));
    }
    DescribedTopic {
        name: hosted.name.to_string(),
        id: hosted.id,
        partitions: described,
    }
}

fn partition_of(hosted: &HostedTopic, index: i32, summary: Option<Summary>) -> DescribedPartition {
    let mut described = DescribedPartition {
        index,
        start_offset: summary.map_or(UNKNOWN, |summary| summary.start_offset),
        leader_epoch: summary.map_or(0, |summary| summary.leader_epoch),
        lag: UNKNOWN,
        error: None,
    };
    let known = summary.filter(|s| s.start_offset >= 0 && s.delivery_complete_count >= 0);
    let log = hosted
        .partition(index)
        .and_then(|partition| partition.log().ok());
    if let (Some(known), Some(log)) = (known, log) {
        let complete = i64::from(known.delivery_complete_count);
        described.lag = (log.acknowledged_end() - known.start_offset - complete).max(0);
    }
    described
}
