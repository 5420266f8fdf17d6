//! ShareAcknowledge (key 79), and the acknowledgements that come with a ShareFetch (KIP-932).

use std::collections::HashMap;
use std::sync::Arc;

use dlog_share::{AcknowledgementBatch, SessionKey, check_acknowledgements};
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::Context;
use crate::net::reply::Outcome;
use crate::protocol::{ProtocolError, RawRequest, share};
use crate::share::{Refusal, TopicPartition, limits};

/// Renewals are known from this version on.
const RENEWALS: i16 = 2;

/// Longest id of a member.
const MAX_MEMBER_CHARS: usize = 36;

/// What the request is about.
///
/// # Errors
/// When the ids are none.
pub(super) fn session_key(
    group_id: Option<&StrBytes>,
    member_id: Option<&StrBytes>,
) -> Result<SessionKey, Refusal> {
    let group = group_id.ok_or(ResponseError::InvalidRequest)?;
    let is_valid = |id: &&StrBytes| !id.is_empty() && id.chars().count() <= MAX_MEMBER_CHARS;
    let member = member_id
        .filter(is_valid)
        .ok_or(ResponseError::InvalidRequest)?;
    Ok(SessionKey {
        group: Arc::from(group.as_str()),
        member: Arc::from(member.as_str()),
    })
}

/// Answers ShareAcknowledge.
///
/// # Errors
/// [`ProtocolError`] for a malformed request.
pub async fn handle(ctx: &Context, raw: &RawRequest) -> Result<Outcome, ProtocolError> {
    let request = share::share_acknowledge_request(raw)?;
    let refuse = |refusal: Refusal| {
        let reply = share::share_acknowledge_reply(raw, (refusal.error.code(), 0), &[]);
        reply.map(Outcome::Ready)
    };
    let key = match session_key(request.group_id.as_ref(), request.member_id.as_ref()) {
        Ok(key) => key,
        Err(refusal) => return refuse(refusal),
    };
    let is_final = match ctx
        .state
        .share
        .session_acknowledge(&key, request.session_epoch)
    {
        Ok(is_final) => is_final,
        Err(error) => return refuse(error.into()),
    };
    let may_renew = raw.version >= RENEWALS && request.is_renewal;
    let mut results = acknowledge(ctx, &key, request.topics, may_renew).await;
    if is_final {
        ctx.state.share.end_session(&ctx.state, &key);
    }
    let mut topics: Vec<(Uuid, Vec<share::AcknowledgeResult>)> = Vec::new();
    results.sort_by_key(|(of, _)| *of);
    for ((topic, index), refusal) in results {
        let code = refusal.map_or(0, |refusal| refusal.error.code());
        let result = (index, code, refusal.and_then(|refusal| refusal.message));
        match topics.last_mut() {
            Some((id, partitions)) if *id == topic => partitions.push(result),
            _ => topics.push((topic, vec![result])),
        }
    }
    let lock_ms = i32::try_from(limits(&ctx.state, &key.group).lock_ms).unwrap_or(i32::MAX);
    let reply = share::share_acknowledge_reply(raw, (0, lock_ms), &topics)?;
    Ok(Outcome::Ready(reply))
}

/// Carries out the acknowledgements of a request and waits until they are stored. A partition without
/// any is not answered for.
pub(super) async fn acknowledge(
    ctx: &Context,
    key: &SessionKey,
    topics: Vec<share::Acknowledged>,
    may_renew: bool,
) -> Vec<(TopicPartition, Option<Refusal>)> {
    let mut results = Vec::new();
    let mut waiting = Vec::new();
    for (of, batches) in by_partition(topics) {
        match begin(ctx, key, of, &batches, may_renew) {
            Err(refusal) => results.push((of, Some(refusal))),
            Ok(None) => results.push((of, None)),
            Ok(Some(hears)) => waiting.push((of, hears)),
        }
    }
    for (of, hears) in waiting {
        let stopped = Err(Refusal::from(ResponseError::CoordinatorNotAvailable));
        let result = hears.await.unwrap_or(stopped);
        results.push((of, result.err()));
    }
    results
}

/// The batches of each partition; a partition that is named twice has those of both.
fn by_partition(
    topics: Vec<share::Acknowledged>,
) -> HashMap<TopicPartition, Vec<AcknowledgementBatch>> {
    let mut found: HashMap<TopicPartition, Vec<_>> = HashMap::new();
    for (topic, partitions) in topics {
        for (index, batches) in partitions {
            if !batches.is_empty() {
                found.entry((topic, index)).or_default().extend(batches);
            }
        }
    }
    found
}

fn begin(
    ctx: &Context,
    key: &SessionKey,
    of: TopicPartition,
    batches: &[AcknowledgementBatch],
    may_renew: bool,
) -> Result<Option<crate::share::Acknowledging>, Refusal> {
    let topic = ctx.state.partitions.topic_by_id(of.0);
    let topic = topic.ok_or(ResponseError::UnknownTopicId)?;
    topic
        .partition(of.1)
        .ok_or(ResponseError::UnknownTopicOrPartition)?;
    // Kafka does not say what is wrong.
    check_acknowledgements(batches, may_renew).map_err(|_| ResponseError::InvalidRequest)?;
    let part = ctx.state.share.find(&key.group, of);
    let part = part.ok_or(ResponseError::UnknownTopicOrPartition)?;
    part.acknowledge(&ctx.state, &key.member, batches)
}
