//! OffsetCommit (key 8): answered when the offsets are written to `__consumer_offsets`.

use std::collections::HashMap;

use dlog_groups::{CommitPartition, CommitTopic, GroupError, OffsetCommit, Reply, TopicResult};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};
use uuid::Uuid;

use super::{Context, text};
use crate::net::reply::Outcome;
use crate::protocol::{ProtocolError, RawRequest, newer};

/// Clients know that a group may not exist from this version on (KIP-848).
const GROUP_ID_NOT_FOUND: i16 = 9;

/// Topics are named by id from this version on (KIP-848).
const TOPIC_IDS: i16 = 10;

/// Error codes by topic and partition.
type Codes = HashMap<(String, i32), i16>;

/// Answers OffsetCommit.
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn handle(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let reply = if raw.version >= TOPIC_IDS {
        let (request, ids) = newer::offset_commit_request(raw)?;
        let response = answer_by_id(ctx, request, &ids).await;
        newer::offset_commit_reply(raw, &response, &ids)?
    } else {
        raw.reply(&answer(ctx, &raw.decode()?).await)?
    };
    Ok(Outcome::Ready(reply))
}

/// Gives the topics their names; those that do not exist are answered here, in their places.
async fn answer_by_id(
    ctx: &Context,
    mut request: OffsetCommitRequest,
    ids: &[Uuid],
) -> OffsetCommitResponse {
    let image = ctx.state.image();
    let mut known = Vec::with_capacity(ids.len());
    let mut slots = Vec::with_capacity(ids.len());
    for (mut topic, id) in request.topics.into_iter().zip(ids) {
        match image.topic_by_id(*id) {
            Some(found) => {
                topic.name = TopicName(text(&*found.name));
                known.push(topic);
                slots.push(None);
            }
            None => slots.push(Some(result(&topic, |_| {
                ResponseError::UnknownTopicId.code()
            }))),
        }
    }
    request.topics = known;
    let mut answered = answer(ctx, &request).await.topics.into_iter();
    let topics = slots
        .into_iter()
        .filter_map(|slot| slot.or_else(|| answered.next()));
    OffsetCommitResponse::default().with_topics(topics.collect())
}

async fn answer(ctx: &Context, request: &OffsetCommitRequest) -> OffsetCommitResponse {
    let mut codes = Codes::new();
    let topics: Vec<CommitTopic> = request
        .topics
        .iter()
        .map(|topic| known_partitions(ctx, topic, &mut codes))
        .collect();
    let otherwise = match commit(ctx, request, topics).await {
        Ok(results) => {
            for topic in results {
                for (partition, error) in topic.partitions {
                    codes.insert(
                        (topic.topic.clone(), partition),
                        error.map_or(0, GroupError::code),
                    );
                }
            }
            GroupError::UnknownServerError.code()
        }
        Err(error) => error.code(),
    };
    let answers = request.topics.iter().map(|topic| {
        result(topic, |index| {
            let code = codes.get(&(topic.name.to_string(), index)).copied();
            code.unwrap_or(otherwise)
        })
    });
    OffsetCommitResponse::default().with_topics(answers.collect())
}

/// The partitions that exist; the others get their error.
fn known_partitions(
    ctx: &Context,
    topic: &OffsetCommitRequestTopic,
    codes: &mut Codes,
) -> CommitTopic {
    let image = ctx.state.image();
    let found = image.topic(&topic.name);
    let count = found.map_or(0, |topic| topic.partitions.len());
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in &topic.partitions {
        let index = partition.partition_index;
        if !usize::try_from(index).is_ok_and(|index| index < count) {
            codes.insert(
                (topic.name.to_string(), index),
                ResponseError::UnknownTopicOrPartition.code(),
            );
            continue;
        }
        partitions.push(CommitPartition {
            partition: index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition
                .committed_metadata
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
        });
    }
    CommitTopic {
        topic: topic.name.to_string(),
        topic_id: Uuid::nil(),
        partitions,
    }
}

async fn commit(
    ctx: &Context,
    request: &OffsetCommitRequest,
    topics: Vec<CommitTopic>,
) -> Result<Vec<TopicResult>, GroupError> {
    let shard = crate::groups::shard_of(&ctx.state, &request.group_id).await?;
    let commit = OffsetCommit {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        generation_id: request.generation_id_or_member_epoch,
        // Only versions 2 to 4 have it; -1 leaves it to the server.
        retention_ms: (ctx.version <= 4 && request.retention_time_ms >= 0)
            .then_some(request.retention_time_ms),
        knows_member_epochs: ctx.version >= GROUP_ID_NOT_FOUND,
        topics,
    };
    let asked = shard.ask(&ctx.state, |groups, now_ms, token, effects| {
        groups.commit_offsets(now_ms, &commit, token, effects);
    });
    match asked.await? {
        Reply::OffsetCommit(results) => Ok(results),
        _ => Err(GroupError::UnknownServerError),
    }
}

fn result(
    topic: &OffsetCommitRequestTopic,
    code: impl Fn(i32) -> i16,
) -> OffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        OffsetCommitResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(code(partition.partition_index))
    });
    OffsetCommitResponseTopic::default()
        .with_name(topic.name.clone())
        .with_partitions(partitions.collect())
}
