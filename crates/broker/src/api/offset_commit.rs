//! OffsetCommit (key 8): answered when the offsets are written to `__consumer_offsets`.

use dlog_groups::{CommitPartition, CommitTopic, GroupError, OffsetCommit, Reply, TopicResult};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};
use uuid::Uuid;

use super::offsets_of_groups::{Codes, Named};
use super::{Context, text};
use crate::net::reply::Outcome;
use crate::protocol::{ProtocolError, RawRequest, newer};

/// Clients know that a group may not exist from this version on (KIP-848).
const GROUP_ID_NOT_FOUND: i16 = 9;

/// Topics are named by id from this version on (KIP-848).
const TOPIC_IDS: i16 = 10;

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
    let rename =
        |topic: &mut OffsetCommitRequestTopic, name: &str| topic.name = TopicName(text(name));
    let unknown =
        |topic: &OffsetCommitRequestTopic| result(topic, |_| ResponseError::UnknownTopicId.code());
    let topics = std::mem::take(&mut request.topics);
    let mut named = Named::new(&ctx.state.image(), topics, ids, rename, unknown);
    request.topics = std::mem::take(&mut named.known);
    let answered = answer(ctx, &request).await.topics;
    OffsetCommitResponse::default().with_topics(named.answers(answered))
}

async fn answer(ctx: &Context, request: &OffsetCommitRequest) -> OffsetCommitResponse {
    let mut codes = Codes::default();
    let image = ctx.state.image();
    let topics = request.topics.iter().map(|topic| {
        let asked = topic.partitions.iter().map(|partition| CommitPartition {
            partition: partition.partition_index,
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            metadata: partition
                .committed_metadata
                .as_deref()
                .unwrap_or_default()
                .to_owned(),
        });
        codes.known_partitions(&image, &topic.name, asked)
    });
    let topics: Vec<CommitTopic> = topics.collect();
    let committed = commit(ctx, request, topics).await;
    codes.take_in(committed.map_err(GroupError::code));
    let answers = request
        .topics
        .iter()
        .map(|topic| result(topic, |index| codes.of(&topic.name, index)));
    OffsetCommitResponse::default().with_topics(answers.collect())
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
