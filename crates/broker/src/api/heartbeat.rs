//! Heartbeat (key 12): a member's sign of life.

use dlog_groups::{GroupError, Heartbeat};
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use super::Context;

/// Answers Heartbeat.
pub async fn handle(ctx: &Context, request: HeartbeatRequest) -> HeartbeatResponse {
    let beat = Heartbeat {
        group_id: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        group_instance_id: request.group_instance_id.map(|id| id.to_string()),
        generation_id: request.generation_id,
    };
    let result = match crate::groups::shard_of(&ctx.state, &beat.group_id).await {
        Ok(shard) => shard.step(&ctx.state, |groups, now_ms, _| {
            groups.heartbeat(now_ms, &beat)
        }),
        Err(error) => Err(error),
    };
    HeartbeatResponse::default().with_error_code(result.err().map_or(0, GroupError::code))
}
