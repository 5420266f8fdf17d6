//! DeleteShareGroupOffsets (key 92): a share group that nobody is in forgets topics.

use std::sync::Arc;

use dlog_groups::{GroupError, Part, ShareStateChange};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_share_group_offsets_response::DeleteShareGroupOffsetsResponseTopic;
use kafka_protocol::messages::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse, TopicName,
};
use uuid::Uuid;

use crate::api::share_group_state::code_of;
use crate::api::{Context, named_once, text};
use crate::groups::shard_of;
use crate::share::setup;

/// Answers DeleteShareGroupOffsets.
pub async fn handle(
    ctx: &Context,
    request: DeleteShareGroupOffsetsRequest,
) -> DeleteShareGroupOffsetsResponse {
    let response = DeleteShareGroupOffsetsResponse::default();
    match delete(ctx, &request).await {
        Ok(topics) => response.with_responses(topics),
        Err(error) => response
            .with_error_code(error.code())
            .with_error_message(Some(text(super::words(error)))),
    }
}

/// A topic whose state is to be deleted.
struct Doomed {
    name: TopicName,
    id: Uuid,
    parts: Vec<Part>,
}

async fn delete(
    ctx: &Context,
    request: &DeleteShareGroupOffsetsRequest,
) -> Result<Vec<DeleteShareGroupOffsetsResponseTopic>, GroupError> {
    let group: Arc<str> = request.group_id.as_str().into();
    let shard = shard_of(&ctx.state, &group).await?;
    shard.read(|groups| groups.describe_share_group(&group))?;
    let mut answers = Vec::new();
    let mut doomed = Vec::new();
    for (topic, _) in named_once(&request.topics, |topic| topic.topic_name.clone()) {
        let refused = |message: &str| {
            DeleteShareGroupOffsetsResponseTopic::default()
                .with_topic_name(topic.topic_name.clone())
                .with_error_code(ResponseError::UnknownTopicOrPartition.code())
                .with_error_message(Some(text(message)))
        };
        let Some(hosted) = ctx.state.partitions.topic(&topic.topic_name) else {
            answers.push(refused("This server does not host this topic-partition."));
            continue;
        };
        let parts = setup::parts_of(&ctx.state, &shard, &group, hosted.id);
        if parts.is_empty() {
            answers.push(refused("There is no offset information to delete."));
            continue;
        }
        doomed.push(Doomed {
            name: topic.topic_name.clone(),
            id: hosted.id,
            parts,
        });
    }
    let ids = doomed.iter().map(|topic| topic.id).collect();
    setup::note(&ctx.state, &shard, &group, &ShareStateChange::Deleting(ids)).await?;
    ctx.state.share.retire_group(&group);
    let topics: Vec<_> = doomed
        .iter()
        .map(|topic| (topic.id, topic.parts.clone()))
        .collect();
    let failed = setup::delete(&ctx.state, &shard, &group, &topics).await;
    answers.extend(doomed.into_iter().map(|topic| {
        let answer = DeleteShareGroupOffsetsResponseTopic::default()
            .with_topic_name(topic.name)
            .with_topic_id(topic.id);
        match failed.iter().find(|(id, _)| *id == topic.id) {
            Some((_, error)) => answer
                .with_error_code(code_of(*error))
                .with_error_message(Some(text(error.to_string()))),
            None => answer,
        }
    }));
    Ok(answers)
}
