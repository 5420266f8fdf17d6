//! AlterShareGroupOffsets (key 91): a share group that nobody is in begins elsewhere.

use std::collections::HashMap;
use std::sync::Arc;

use dlog_groups::{GroupError, Part, ShareStateChange, ToInitialize};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_share_group_offsets_request::AlterShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::{AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse};

use crate::api::share_group_state::code_of;
use crate::api::{Context, text};
use crate::groups::shard_of;
use crate::share::setup;

/// Answers AlterShareGroupOffsets.
pub async fn handle(
    ctx: &Context,
    request: AlterShareGroupOffsetsRequest,
) -> AlterShareGroupOffsetsResponse {
    let response = AlterShareGroupOffsetsResponse::default();
    match alter(ctx, &request).await {
        Ok(topics) => response.with_responses(topics),
        Err(error) => response
            .with_error_code(error.code())
            .with_error_message(Some(text(super::words(error)))),
    }
}

async fn alter(
    ctx: &Context,
    request: &AlterShareGroupOffsetsRequest,
) -> Result<Vec<AlterShareGroupOffsetsResponseTopic>, GroupError> {
    let group: Arc<str> = request.group_id.as_str().into();
    let shard = shard_of(&ctx.state, &group).await?;
    let mut starts: Vec<(Part, i64)> = Vec::new();
    for topic in &request.topics {
        let hosted = ctx.state.partitions.topic(&topic.topic_name);
        let Some(hosted) = hosted else { continue };
        for partition in &topic.partitions {
            if hosted.partition(partition.partition_index).is_some() {
                let part = (hosted.id, partition.partition_index);
                starts.push((part, partition.start_offset));
            }
        }
    }
    let parts = starts.iter().map(|(part, _)| *part).collect();
    let change = ShareStateChange::Initializing(parts);
    let state_epoch = setup::note(&ctx.state, &shard, &group, &change).await?;
    // Whoever has just left may have left something in memory.
    ctx.state.share.retire_group(&group);
    let what = ToInitialize {
        state_epoch,
        parts: starts,
    };
    let failed = setup::initialize(&ctx.state, &shard, &group, &what).await;
    let failed = failed
        .into_iter()
        .map(|(part, error)| (part, (code_of(error), error.to_string())));
    let failed: HashMap<Part, (i16, String)> = failed.collect();
    Ok(request
        .topics
        .iter()
        .map(|topic| told(ctx, topic, &failed))
        .collect())
}

fn told(
    ctx: &Context,
    topic: &AlterShareGroupOffsetsRequestTopic,
    failed: &HashMap<Part, (i16, String)>,
) -> AlterShareGroupOffsetsResponseTopic {
    let hosted = ctx.state.partitions.topic(&topic.topic_name);
    let partitions = topic.partitions.iter().map(|partition| {
        let index = partition.partition_index;
        let answer = AlterShareGroupOffsetsResponsePartition::default().with_partition_index(index);
        let is_there = hosted
            .as_ref()
            .filter(|topic| topic.partition(index).is_some());
        let error = match is_there {
            Some(topic) => failed.get(&(topic.id, index)).cloned(),
            None => Some((
                ResponseError::UnknownTopicOrPartition.code(),
                "This server does not host this topic-partition.".to_owned(),
            )),
        };
        match error {
            Some((code, message)) => answer
                .with_error_code(code)
                .with_error_message(Some(text(message))),
            None => answer,
        }
    });
    AlterShareGroupOffsetsResponseTopic::default()
        .with_topic_name(topic.topic_name.clone())
        .with_topic_id(hosted.as_ref().map(|topic| topic.id).unwrap_or_default())
        .with_partitions(partitions.collect())
}
