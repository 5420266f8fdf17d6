//! OffsetFetch (key 9): committed offsets of one group, or from version 8 of several (KIP-709).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use dlog_groups::{FetchedOffset, GroupCoordinator, GroupError};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{GroupId, OffsetFetchRequest, OffsetFetchResponse, TopicName};
use uuid::Uuid;

use super::{Context, text};
use crate::net::reply::Outcome;
use crate::protocol::{ProtocolError, RawRequest, newer};

/// Several groups in one request from this version on.
const SEVERAL: i16 = 8;
/// Answers carry a leader epoch from this version on (KIP-320).
const LEADER_EPOCH: i16 = 5;
/// Before this version an error of the group stands at every partition.
const GROUP_ERROR: i16 = 2;

/// Topics with their partitions; `None` asks for all.
type Asked = Option<Vec<(String, Vec<i32>)>>;

/// Topics are named by id from this version on (KIP-848).
const TOPIC_IDS: i16 = 10;

/// Answers OffsetFetch.
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn handle(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let reply = if raw.version >= TOPIC_IDS {
        let (request, ids) = newer::offset_fetch_request(raw)?;
        let mut groups = Vec::with_capacity(request.groups.len());
        let mut seen = HashSet::new();
        for (group, ids) in request.groups.into_iter().zip(ids) {
            groups.push(if asks_again(&mut seen, &group) {
                (refused(&group), Vec::new())
            } else {
                answer_by_id(ctx, group, ids, request.require_stable).await
            });
        }
        newer::offset_fetch_reply(raw, &groups)?
    } else {
        raw.reply(&answer(ctx, raw.decode()?).await)?
    };
    Ok(Outcome::Ready(reply))
}

/// Whether all offsets of a group are asked for a second time: the answer must not grow with that.
fn asks_again(seen: &mut HashSet<GroupId>, group: &OffsetFetchRequestGroup) -> bool {
    group.topics.is_none() && !seen.insert(group.group_id.clone())
}

fn refused(group: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    OffsetFetchResponseGroup::default()
        .with_group_id(group.group_id.clone())
        .with_error_code(ResponseError::InvalidRequest.code())
}

/// Gives the topics of a group their names, and those of the answer their ids.
async fn answer_by_id(
    ctx: &Context,
    mut group: OffsetFetchRequestGroup,
    ids: Vec<Uuid>,
    stable: bool,
) -> (OffsetFetchResponseGroup, Vec<Uuid>) {
    let image = ctx.state.image();
    let Some(asked) = group.topics.take() else {
        let mut answer = answer_group(ctx, &group, stable).await;
        // An offset of a topic that is gone has no id to be told by.
        let id_of = |topic: &OffsetFetchResponseTopics| image.topic(&topic.name).map(|t| t.id);
        answer.topics.retain(|topic| id_of(topic).is_some());
        let ids = answer.topics.iter().filter_map(id_of).collect();
        return (answer, ids);
    };
    let mut topics = Vec::with_capacity(asked.len());
    for (mut topic, id) in asked.into_iter().zip(&ids) {
        let found = image.topic_by_id(*id);
        topic.name = TopicName(text(found.map_or("", |found| &*found.name)));
        topics.push(topic);
    }
    let known = |topic: &&OffsetFetchRequestTopics| !topic.name.is_empty();
    group.topics = Some(topics.iter().filter(known).cloned().collect());
    let mut answer = answer_group(ctx, &group, stable).await;
    if answer.error_code != 0 {
        return (answer, Vec::new());
    }
    let mut found: HashMap<(TopicName, i32), OffsetFetchResponsePartitions> = HashMap::new();
    for topic in std::mem::take(&mut answer.topics) {
        let name = topic.name;
        let offsets = topic.partitions.into_iter();
        found.extend(offsets.map(|offset| ((name.clone(), offset.partition_index), offset)));
    }
    answer.topics = topics
        .iter()
        .map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|&index| {
                let offset = found.get(&(topic.name.clone(), index)).cloned();
                offset.unwrap_or_else(|| {
                    OffsetFetchResponsePartitions::default()
                        .with_partition_index(index)
                        .with_committed_offset(-1)
                        .with_committed_leader_epoch(-1)
                        .with_error_code(ResponseError::UnknownTopicId.code())
                })
            });
            OffsetFetchResponseTopics::default().with_partitions(partitions.collect())
        })
        .collect();
    (answer, ids)
}

async fn answer(ctx: &Context, request: OffsetFetchRequest) -> OffsetFetchResponse {
    if ctx.version >= SEVERAL {
        let mut groups = Vec::with_capacity(request.groups.len());
        let mut seen = HashSet::new();
        for group in &request.groups {
            groups.push(if asks_again(&mut seen, group) {
                refused(group)
            } else {
                answer_group(ctx, group, request.require_stable).await
            });
        }
        return OffsetFetchResponse::default().with_groups(groups);
    }
    let asked: Asked = request.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| (topic.name.to_string(), topic.partition_indexes))
            .collect()
    });
    match find(
        ctx,
        &request.group_id,
        asked.as_deref(),
        request.require_stable,
    )
    .await
    {
        Ok(found) => {
            let topics = by_topic(found).into_iter().map(|(name, offsets)| {
                let partitions = offsets.into_iter().map(|offset| {
                    let code = code_of(&offset);
                    partition(ctx.version, offset, code)
                });
                topic(&name, partitions.collect())
            });
            OffsetFetchResponse::default().with_topics(topics.collect())
        }
        Err(error) if ctx.version < GROUP_ERROR => {
            let topics = asked
                .unwrap_or_default()
                .into_iter()
                .map(|(name, indexes)| {
                    let missing = |index| FetchedOffset {
                        topic: name.as_str().into(),
                        partition: index,
                        offset: -1,
                        leader_epoch: -1,
                        metadata: String::new(),
                        unstable: false,
                    };
                    let partitions = indexes
                        .into_iter()
                        .map(|index| partition(ctx.version, missing(index), error.code()));
                    topic(&name, partitions.collect())
                });
            OffsetFetchResponse::default().with_topics(topics.collect())
        }
        Err(error) => OffsetFetchResponse::default().with_error_code(error.code()),
    }
}

fn topic(name: &str, partitions: Vec<OffsetFetchResponsePartition>) -> OffsetFetchResponseTopic {
    OffsetFetchResponseTopic::default()
        .with_name(TopicName(text(name)))
        .with_partitions(partitions)
}

fn partition(version: i16, offset: FetchedOffset, error_code: i16) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition::default()
        .with_partition_index(offset.partition)
        .with_committed_offset(offset.offset)
        .with_committed_leader_epoch(if version >= LEADER_EPOCH {
            offset.leader_epoch
        } else {
            -1
        })
        .with_metadata(Some(text(offset.metadata)))
        .with_error_code(error_code)
}

async fn answer_group(
    ctx: &Context,
    group: &OffsetFetchRequestGroup,
    stable: bool,
) -> OffsetFetchResponseGroup {
    let asked: Asked = group.topics.as_ref().map(|topics| {
        topics
            .iter()
            .map(|topic| (topic.name.to_string(), topic.partition_indexes.clone()))
            .collect()
    });
    let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
    match find_for_member(ctx, group, asked.as_deref(), stable).await {
        Ok(found) => {
            let topics = by_topic(found).into_iter().map(|(name, offsets)| {
                let partitions = offsets.into_iter().map(|offset| {
                    let code = code_of(&offset);
                    OffsetFetchResponsePartitions::default()
                        .with_error_code(code)
                        .with_partition_index(offset.partition)
                        .with_committed_offset(offset.offset)
                        .with_committed_leader_epoch(offset.leader_epoch)
                        .with_metadata(Some(text(offset.metadata)))
                });
                OffsetFetchResponseTopics::default()
                    .with_name(TopicName(text(&*name)))
                    .with_partitions(partitions.collect())
            });
            answer.with_topics(topics.collect())
        }
        Err(error) => answer.with_error_code(error.code()),
    }
}

/// From version 9 on a member of a consumer group says who it is, and in which epoch (KIP-848).
async fn find_for_member(
    ctx: &Context,
    group: &OffsetFetchRequestGroup,
    asked: Option<&[(String, Vec<i32>)]>,
    stable: bool,
) -> Result<Vec<FetchedOffset>, GroupError> {
    let shard = crate::groups::shard_of(&ctx.state, &group.group_id).await?;
    shard.read(|groups| {
        groups.check_offset_fetch(
            &group.group_id,
            group.member_id.as_deref(),
            group.member_epoch,
        )?;
        fetch(groups, &group.group_id, asked, stable)
    })
}

async fn find(
    ctx: &Context,
    group_id: &str,
    asked: Option<&[(String, Vec<i32>)]>,
    stable: bool,
) -> Result<Vec<FetchedOffset>, GroupError> {
    let shard = crate::groups::shard_of(&ctx.state, group_id).await?;
    shard.read(|groups| fetch(groups, group_id, asked, stable))
}

fn fetch(
    groups: &GroupCoordinator,
    group_id: &str,
    asked: Option<&[(String, Vec<i32>)]>,
    stable: bool,
) -> Result<Vec<FetchedOffset>, GroupError> {
    if stable {
        groups.fetch_stable_offsets(group_id, asked)
    } else {
        groups.fetch_offsets(group_id, asked)
    }
}

/// The error of one partition.
fn code_of(offset: &FetchedOffset) -> i16 {
    if offset.unstable {
        ResponseError::UnstableOffsetCommit.code()
    } else {
        0
    }
}

/// Offsets of consecutive partitions of a topic, together.
fn by_topic(found: Vec<FetchedOffset>) -> Vec<(Arc<str>, Vec<FetchedOffset>)> {
    let mut topics: Vec<(Arc<str>, Vec<FetchedOffset>)> = Vec::new();
    for offset in found {
        match topics.last_mut() {
            Some((name, offsets)) if *name == offset.topic => offsets.push(offset),
            _ => topics.push((offset.topic.clone(), vec![offset])),
        }
    }
    topics
}
