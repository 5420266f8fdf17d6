//! SyncGroup (key 14): brings the leader's assignment and hands out everybody's.

use dlog_groups::{GroupError, Reply, SyncGroup, Synced};
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};

use super::{Context, text};

/// The protocol is named in request and answer from this version on (KIP-559).
const PROTOCOL: i16 = 5;

/// Answers SyncGroup.
pub async fn handle(ctx: &Context, request: SyncGroupRequest) -> SyncGroupResponse {
    if ctx.version >= PROTOCOL
        && (request.protocol_type.is_none() || request.protocol_name.is_none())
    {
        let error = GroupError::InconsistentGroupProtocol;
        return SyncGroupResponse::default().with_error_code(error.code());
    }
    match sync(ctx, request).await {
        Ok(synced) => {
            let named = |value: Option<String>| value.filter(|_| ctx.version >= PROTOCOL).map(text);
            SyncGroupResponse::default()
                .with_protocol_type(named(synced.protocol_type))
                .with_protocol_name(named(synced.protocol_name))
                .with_assignment(synced.assignment)
        }
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}

async fn sync(ctx: &Context, request: SyncGroupRequest) -> Result<Synced, GroupError> {
    let shard = crate::groups::shard_of(&ctx.state, &request.group_id).await?;
    let sync = SyncGroup {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        generation_id: request.generation_id,
        protocol_type: request.protocol_type.map(|kind| kind.to_string()),
        protocol_name: request.protocol_name.map(|name| name.to_string()),
        assignments: request
            .assignments
            .into_iter()
            .map(|a| (a.member_id.to_string(), a.assignment))
            .collect(),
    };
    let asked = shard.ask(&ctx.state, |groups, now_ms, token, effects| {
        groups.sync_group(now_ms, sync, token, effects);
    });
    match asked.await? {
        Reply::Sync(synced) => synced,
        _ => Err(GroupError::UnknownServerError),
    }
}
