//! Heartbeat (key 12): a member's sign of life.

use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::Context;
use crate::groups::machine::GroupError;
use crate::groups::machine::api::Identity;

/// Answers Heartbeat.
pub async fn handle(ctx: &Context, request: HeartbeatRequest) -> HeartbeatResponse {
    let who = Identity {
        group_id: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.map(|id| id.to_string()),
    };
    let result = match ctx.state.groups.shard(&ctx.state, &who.group_id).await {
        Ok(shard) => {
            let now_ms = ctx.state.now_ms();
            shard.step(&ctx.state, |groups| groups.heartbeat(&who, now_ms))
        }
        Err(_) => Err(GroupError::CoordinatorNotAvailable),
    };
    HeartbeatResponse::default().with_error_code(result.err().map_or(0, GroupError::code))
}
