//! SyncGroup (key 14): brings the leader's assignment and hands out everybody's.

use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::{Context, text};
use crate::groups::machine::api::Sync;
use crate::groups::machine::{GroupError, Reply};

/// The protocol is named in request and answer from this version on (KIP-559).
const PROTOCOL: i16 = 5;

/// Answers SyncGroup.
pub async fn handle(ctx: &Context, request: SyncGroupRequest) -> SyncGroupResponse {
    let unavailable =
        || SyncGroupResponse::default().with_error_code(GroupError::CoordinatorNotAvailable.code());
    let Ok(shard) = ctx.state.groups.shard(&ctx.state, &request.group_id).await else {
        return unavailable();
    };
    let sync = Sync {
        group_id: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.map(|id| id.to_string()),
        protocol_type: request.protocol_type.map(|kind| kind.to_string()),
        protocol: request.protocol_name.map(|name| name.to_string()),
        assignments: request
            .assignments
            .into_iter()
            .map(|a| (a.member_id.to_string(), a.assignment))
            .collect(),
    };
    let now_ms = ctx.state.now_ms();
    let answer = shard
        .ask(&ctx.state, |groups, token| groups.sync(sync, token, now_ms))
        .await;
    let Some(Reply::Sync(synced)) = answer else {
        return unavailable();
    };
    let named = |value: Option<String>| value.filter(|_| ctx.version >= PROTOCOL).map(text);
    SyncGroupResponse::default()
        .with_error_code(synced.error.map_or(0, GroupError::code))
        .with_protocol_type(named(synced.protocol_type))
        .with_protocol_name(named(synced.protocol))
        .with_assignment(synced.assignment)
}
