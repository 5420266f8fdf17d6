//! TxnOffsetCommit (key 28): a group's offsets as part of a transaction (KIP-98, KIP-447).
//!
//! They are written when the transaction contains the group's partition of `__consumer_offsets`: versions
//! before 5 have it added with AddOffsetsToTxn and it is verified, version 5 leaves it to the server
//! (KIP-890).

use std::sync::Arc;

use dlog_groups::{
    CommitPartition, CommitTopic, Effect, GroupError, OffsetCommit, Producer, Reply, TopicResult,
};
use dlog_storage::VerificationGuard;
use dlog_transactions::TopicPartition;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::txn_offset_commit_request::TxnOffsetCommitRequestTopic;
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TopicName, TxnOffsetCommitRequest, TxnOffsetCommitResponse};
use uuid::Uuid;

use super::offsets_of_groups::{Codes, Named};
use super::{Context, text};
use crate::groups::{self, OFFSETS_TOPIC, Shard};
use crate::net::reply::Outcome;
use crate::protocol::{ProtocolError, RawRequest, newer};
use crate::transactions::{self, Membership};

/// Clients know TRANSACTION_ABORTABLE from this version on (KIP-890).
const ABORTABLE: i16 = 4;
/// The server adds the group's partition from this version on (KIP-890).
const ADDS: i16 = 5;
/// Topics are named by id, and clients know the errors of member epochs, from this version on (KIP-848).
const TOPIC_IDS: i16 = 6;

/// Answers TxnOffsetCommit.
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn handle(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let reply = if raw.version >= TOPIC_IDS {
        let (request, ids) = newer::txn_offset_commit_request(raw)?;
        let response = answer_by_id(ctx, request, &ids).await;
        newer::txn_offset_commit_reply(raw, &response, &ids)?
    } else {
        raw.reply(&answer(ctx, &raw.decode()?).await)?
    };
    Ok(Outcome::Ready(reply))
}

/// Gives the topics their names; those that do not exist are answered here, in their places.
async fn answer_by_id(
    ctx: &Context,
    mut request: TxnOffsetCommitRequest,
    ids: &[Uuid],
) -> TxnOffsetCommitResponse {
    let rename =
        |topic: &mut TxnOffsetCommitRequestTopic, name: &str| topic.name = TopicName(text(name));
    let unknown = |topic: &TxnOffsetCommitRequestTopic| {
        result(topic, |_| ResponseError::UnknownTopicId.code())
    };
    let topics = std::mem::take(&mut request.topics);
    let mut named = Named::new(&ctx.state.image(), topics, ids, rename, unknown);
    request.topics = std::mem::take(&mut named.known);
    let answered = answer(ctx, &request).await.topics;
    TxnOffsetCommitResponse::default().with_topics(named.answers(answered))
}

async fn answer(ctx: &Context, request: &TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
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
    let nothing_left = topics.iter().all(|topic| topic.partitions.is_empty());
    let committed = if nothing_left {
        Ok(Vec::new())
    } else {
        commit(ctx, request, topics).await
    };
    codes.take_in(committed);
    let answers = request
        .topics
        .iter()
        .map(|topic| result(topic, |index| codes.of(&topic.name, index)));
    TxnOffsetCommitResponse::default().with_topics(answers.collect())
}

/// The error is that of all partitions.
async fn commit(
    ctx: &Context,
    request: &TxnOffsetCommitRequest,
    topics: Vec<CommitTopic>,
) -> Result<Vec<TopicResult>, i16> {
    if request.group_id.is_empty() {
        return Err(GroupError::InvalidGroupId.code());
    }
    let code = GroupError::code;
    let shard = groups::shard_of(&ctx.state, &request.group_id).await;
    let shard = shard.map_err(code)?;
    let producer = Producer {
        id: request.producer_id.0,
        epoch: request.producer_epoch,
    };
    let guard = join(ctx, request, producer, &shard).await?;
    let commit = OffsetCommit {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.as_ref().map(ToString::to_string),
        generation_id: request.generation_id,
        retention_ms: None,
        knows_member_epochs: ctx.version >= TOPIC_IDS,
        topics,
    };
    let partition = shard.partition().clone();
    let asked = shard.ask(&ctx.state, |groups, now_ms, token, effects| {
        // Every marker of this partition goes through this shard, which is locked now: none comes between.
        let log = partition.log().ok();
        let ended = log.is_some_and(|log| !log.is_verified(producer.id, producer.epoch, guard));
        if ended && verifies(ctx) {
            let reply = Reply::OffsetCommit(refused(&commit, GroupError::InvalidTxnState));
            effects.push(Effect::Reply { token, reply });
            return;
        }
        groups.commit_transactional_offsets(now_ms, &commit, producer, token, effects);
    });
    match asked.await.map_err(code)? {
        Reply::OffsetCommit(results) => Ok(results),
        _ => Err(GroupError::UnknownServerError.code()),
    }
}

fn membership(ctx: &Context) -> Membership {
    Membership::of(ctx.version, ABORTABLE, ADDS)
}

fn verifies(ctx: &Context) -> bool {
    membership(ctx) == Membership::Add || transactions::verification_is_on(&ctx.state)
}

/// Has the group's partition in the transaction. Gives what proves it to the log; `None` when the
/// transaction has written there before.
async fn join(
    ctx: &Context,
    request: &TxnOffsetCommitRequest,
    producer: Producer,
    shard: &Arc<Shard>,
) -> Result<Option<VerificationGuard>, i16> {
    if !verifies(ctx) {
        return Ok(None);
    }
    let membership = membership(ctx);
    let log = shard
        .partition()
        .log()
        .map_err(|_| GroupError::NotCoordinator.code())?;
    let adds = membership == Membership::Add;
    let guard = log.begin_verification(producer.id, producer.epoch, NO_SEQUENCE, adds);
    if guard.is_none() {
        return Ok(None);
    }
    let partition = TopicPartition::new(OFFSETS_TOPIC, shard.partition().index);
    let id = &request.transactional_id;
    let joined = transactions::join(&ctx.state, id, producer, vec![partition], membership).await;
    match joined.into_iter().next() {
        Some(Ok(())) => Ok(guard),
        Some(Err(error)) => Err(error.code()),
        None => Err(GroupError::UnknownServerError.code()),
    }
}

/// Offsets are written without sequence numbers.
const NO_SEQUENCE: i32 = -1;

fn refused(commit: &OffsetCommit, error: GroupError) -> Vec<TopicResult> {
    let topics = commit.topics.iter().map(|topic| TopicResult {
        topic: topic.topic.clone(),
        topic_id: topic.topic_id,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| (partition.partition, Some(error)))
            .collect(),
    });
    topics.collect()
}

fn result(
    topic: &TxnOffsetCommitRequestTopic,
    code: impl Fn(i32) -> i16,
) -> TxnOffsetCommitResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| {
        TxnOffsetCommitResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_error_code(code(partition.partition_index))
    });
    TxnOffsetCommitResponseTopic::default()
        .with_name(topic.name.clone())
        .with_partitions(partitions.collect())
}
