//! LeaveGroup (key 13): one member, or from version 3 several (KIP-345).

use dlog_groups::{GroupError, LeaveGroup, LeavingMember, LeftMember};
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};

use super::{Context, text};

/// Several members leave in one request from this version on.
const SEVERAL: i16 = 3;

/// Answers LeaveGroup.
pub async fn handle(ctx: &Context, request: LeaveGroupRequest) -> LeaveGroupResponse {
    let code = |error: Option<GroupError>| error.map_or(0, GroupError::code);
    match leave(ctx, request).await {
        Err(error) => LeaveGroupResponse::default().with_error_code(error.code()),
        Ok(left) if ctx.version < SEVERAL => LeaveGroupResponse::default()
            .with_error_code(code(left.first().and_then(|member| member.error))),
        Ok(left) => {
            let members = left.into_iter().map(|member| {
                MemberResponse::default()
                    .with_member_id(text(member.member_id))
                    .with_group_instance_id(member.group_instance_id.map(text))
                    .with_error_code(code(member.error))
            });
            LeaveGroupResponse::default().with_members(members.collect())
        }
    }
}

async fn leave(ctx: &Context, request: LeaveGroupRequest) -> Result<Vec<LeftMember>, GroupError> {
    let shard = crate::groups::shard_of(&ctx.state, &request.group_id).await?;
    let members = if ctx.version >= SEVERAL {
        request
            .members
            .into_iter()
            .map(|member| LeavingMember {
                member_id: member.member_id.to_string(),
                group_instance_id: member.group_instance_id.map(|id| id.to_string()),
                reason: member.reason.map(|reason| reason.to_string()),
            })
            .collect()
    } else {
        vec![LeavingMember {
            member_id: request.member_id.to_string(),
            group_instance_id: None,
            reason: None,
        }]
    };
    let leave = LeaveGroup {
        group_id: request.group_id.to_string(),
        members,
    };
    shard.step(&ctx.state, |groups, now_ms, effects| {
        groups.leave_group(now_ms, leave, effects)
    })
}
